"""The ways to divide a body into parts (PINet §3.2, Fig. 3), as joint groups of the skeleton."""

from __future__ import annotations

from dataclasses import dataclass

from repose.errors import UserError
from repose.papers.pinet.config import Model
from repose.skeleton import Skeleton

_GROUPS = {
    "head": {"head": "head"},
    "part_large": {"upper": "head", "middle": "torso", "bottom": "legs"},
    "part_small": {
        name: name for name in ("head", "torso", "left_arm", "right_arm", "left_leg", "right_leg")
    },
}  # fmt: skip
"""Part -> joint group. part_large is the release's; of part_small the paper has only a picture."""


@dataclass(frozen=True)
class Partition:
    """P parts.

    Attributes:
        names: of the parts.
        joints: joint indices of each part; a joint may be in several parts, or in none.
        flip_index: part p of the mirrored person is part flip_index[p] of the original.
    """

    names: tuple[str, ...]
    joints: tuple[tuple[int, ...], ...]
    flip_index: tuple[int, ...]

    @property
    def p(self) -> int:
        """Number of parts."""
        return len(self.names)


def partition(cfg: Model, skeleton: Skeleton) -> Partition:
    """The parts of a skeleton's bodies.

    `center`: all joints. `head`, `part_large`, `part_small`: joint groups. `keypoint`: the head as one part and every
    other joint alone. `cfg.parts` wins over all.

    Raises:
        UserError: the skeleton lacks a group or joint, two parts are the same, or the mirror image of a part is none.
    """
    if cfg.parts:
        joints = {name: _named(name, members, skeleton) for name, members in cfg.parts.items()}
    elif cfg.partition == "center":
        joints = {"person": tuple(range(skeleton.k))}
    elif cfg.partition == "keypoint":
        head = skeleton.group("head", "model.partition=keypoint")
        alone = {skeleton.joints[k]: (k,) for k in range(skeleton.k) if k not in head}
        joints = {"head group": head, **alone}
    else:
        needed_by = f"model.partition={cfg.partition}"
        joints = {name: skeleton.group(group, needed_by) for name, group in _GROUPS[cfg.partition].items()}
    sets = [frozenset(part) for part in joints.values()]
    if len(set(sets)) != len(sets) or not all(sets):
        raise UserError(f"the parts {', '.join(joints)}: each needs joints of its own choice, no two the same ones")
    mirrored = [frozenset(skeleton.flip_index[k] for k in part) for part in sets]
    for name, part in zip(joints, mirrored, strict=True):
        if part not in sets:
            raise UserError(
                f"the part {name!r} mirrored ({', '.join(skeleton.joints[k] for k in sorted(part))}) is no part; "
                "the flip test needs it in model.parts"
            )
    return Partition(tuple(joints), tuple(joints.values()), tuple(sets.index(part) for part in mirrored))


def _named(part: str, members: list[str], skeleton: Skeleton) -> tuple[int, ...]:
    found: list[int] = []
    for name in members:
        if name in skeleton.groups:
            found.extend(skeleton.group(name, f"model.parts.{part}"))
        elif name in skeleton.joints:
            found.append(skeleton.index(name))
        else:
            raise UserError(
                f"model.parts.{part}: skeleton {skeleton.name!r} has no joint group or joint {name!r}; "
                f"groups: {', '.join(skeleton.groups)}; joints: {', '.join(skeleton.joints)}"
            )
    return tuple(dict.fromkeys(found))
