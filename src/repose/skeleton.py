"""Joint sets: names, left/right pairs, limbs, OKS sigmas and the groups that methods need, all written by joint name.

A method never holds joint numbers of its own: it asks the skeleton, so another skeleton is a `skeleton:` block in the
data YAML and nothing else. Sources: COCO keypoints (cocodataset.org), CrowdPose (Li et al., CVPR 2019),
MPII Human Pose (Andriluka et al., CVPR 2014).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from repose.errors import UserError


@dataclass(frozen=True)
class Skeleton:
    """A set of K joints.

    Attributes:
        name: how tables and checkpoints call it.
        joints: K joint names, in the order of the annotation file.
        flip_pairs: (left, right) joint names that trade places in a mirrored image.
        limbs: joint pairs that are drawn as lines.
        sigmas: K OKS constants (COCO's sigma; OKS uses k = 2 sigma), in units of sqrt(area).
        groups: named joint lists that methods use: `upper`, `lower` (half bodies), and the body parts `head`, `torso`,
            `legs`, `left_arm`, `right_arm`, `left_leg`, `right_leg`.
    """

    name: str
    joints: tuple[str, ...]
    flip_pairs: tuple[tuple[str, str], ...]
    limbs: tuple[tuple[str, str], ...]
    sigmas: tuple[float, ...]
    groups: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Lists come out of YAML; tuples make the object hashable where it matters and comparable everywhere.
        object.__setattr__(self, "joints", tuple(self.joints))
        object.__setattr__(self, "flip_pairs", _pairs(self.name, "flip_pairs", self.flip_pairs))
        object.__setattr__(self, "limbs", _pairs(self.name, "limbs", self.limbs))
        object.__setattr__(self, "sigmas", tuple(float(s) for s in self.sigmas))
        known = set(self.joints)
        if not self.joints:
            raise UserError(f"skeleton {self.name!r}: `joints` is empty; list the joint names in annotation order")
        if len(known) != len(self.joints):
            twice = next(j for j in self.joints if self.joints.count(j) > 1)
            raise UserError(f"skeleton {self.name!r}: joint {twice!r} is listed twice")
        if len(self.sigmas) != len(self.joints):
            raise UserError(
                f"skeleton {self.name!r}: {len(self.sigmas)} sigmas for {len(self.joints)} joints; "
                "give one OKS sigma per joint (a wrong length gives a wrong AP, so it is refused)"
            )
        if any(s <= 0 for s in self.sigmas):
            raise UserError(f"skeleton {self.name!r}: every OKS sigma must be above 0")
        for what, names in (
            ("flip_pairs", [j for pair in self.flip_pairs for j in pair]),
            ("limbs", [j for limb in self.limbs for j in limb]),
            *((f"groups.{g}", list(js)) for g, js in self.groups.items()),
        ):
            for joint in names:
                if joint not in known:
                    raise UserError(f"skeleton {self.name!r}: {what} names {joint!r}, which is not in `joints`")
        flat = [j for pair in self.flip_pairs for j in pair]
        if len(flat) != len(set(flat)):
            twice = next(j for j in flat if flat.count(j) > 1)
            raise UserError(
                f"skeleton {self.name!r}: {twice!r} is in two flip_pairs; mirroring twice must be no change"
            )

    @property
    def k(self) -> int:
        """Number of joints."""
        return len(self.joints)

    @cached_property
    def flip_index(self) -> tuple[int, ...]:
        """K indices: joint i of the mirrored person is joint flip_index[i] of the original (an involution)."""
        order = list(range(self.k))
        for left, right in self.flip_pairs:
            i, j = self.index(left), self.index(right)
            order[i], order[j] = j, i
        return tuple(order)

    @cached_property
    def limb_index(self) -> tuple[tuple[int, int], ...]:
        """Limbs as joint indices."""
        return tuple((self.index(a), self.index(b)) for a, b in self.limbs)

    def index(self, joint: str) -> int:
        """Index of a joint by name.

        Raises:
            UserError: the skeleton has no such joint.
        """
        try:
            return self.joints.index(joint)
        except ValueError:
            raise UserError(f"skeleton {self.name!r} has no joint {joint!r}; it has {', '.join(self.joints)}") from None

    def group(self, name: str, needed_by: str) -> tuple[int, ...]:
        """Joint indices of a group.

        Args:
            name: group name (`upper`, say).
            needed_by: what asks for it, for the error message.

        Raises:
            UserError: the skeleton has no such group.
        """
        if name not in self.groups:
            raise UserError(
                f"{needed_by} needs the joint group {name!r}, which skeleton {self.name!r} lacks; "
                f"add `groups: {{{name}: [...]}}` to the `skeleton:` block (it has: {', '.join(self.groups) or 'none'})"
            )
        return tuple(self.index(j) for j in self.groups[name])


def _pairs(name: str, what: str, pairs: object) -> tuple[tuple[str, str], ...]:
    rows = [tuple(p) for p in pairs]  # type: ignore[union-attr]
    for row in rows:
        if len(row) != 2:
            raise UserError(f"skeleton {name!r}: {what} must hold pairs of joint names, not {list(row)}")
    return tuple(rows)


def _sides(*parts: str) -> tuple[tuple[str, str], ...]:
    return tuple((f"left_{p}", f"right_{p}") for p in parts)


def _both(*limbs: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((f"{s}_{a}", f"{s}_{b}") for s in ("left", "right") for a, b in limbs)


def _body_parts(head: list[str]) -> dict[str, list[str]]:
    """Joint groups by body part; hips belong to the torso and the legs, shoulders to the torso and the arms."""
    parts = {"head": head, "torso": [f"{s}_{j}" for j in ("shoulder", "hip") for s in ("left", "right")]}
    parts["legs"] = [f"{s}_{j}" for j in ("hip", "knee", "ankle") for s in ("left", "right")]
    for side in ("left", "right"):
        parts[f"{side}_arm"] = [f"{side}_{j}" for j in ("shoulder", "elbow", "wrist")]
    for side in ("left", "right"):
        parts[f"{side}_leg"] = [f"{side}_{j}" for j in ("hip", "knee", "ankle")]
    return parts


_COCO_JOINTS = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear",
    "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
    "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip
# KDC's graphs: pairs of joints in a row. The tree is PersonLab's; the cross edges hold a person with a missing joint.
_KDC_TREE = [
    "nose", "left_eye", "nose", "right_eye", "left_eye", "left_ear", "right_eye", "right_ear",
    "nose", "left_shoulder", "nose", "right_shoulder", "left_shoulder", "left_elbow", "left_elbow", "left_wrist",
    "right_shoulder", "right_elbow", "right_elbow", "right_wrist", "left_shoulder", "left_hip",
    "right_shoulder", "right_hip", "left_hip", "left_knee", "left_knee", "left_ankle",
    "right_hip", "right_knee", "right_knee", "right_ankle",
]  # fmt: skip
_KDC_CROSS = [
    "left_shoulder", "right_shoulder", "left_hip", "right_hip", "left_ear", "left_shoulder",
    "right_ear", "right_shoulder",
]  # fmt: skip
_KDC_CROWD = [
    "head", "neck", "neck", "left_shoulder", "neck", "right_shoulder", "left_shoulder", "left_elbow",
    "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_elbow", "right_wrist",
    "left_shoulder", "left_hip", "right_shoulder", "right_hip", "left_hip", "left_knee", "left_knee", "left_ankle",
    "right_hip", "right_knee", "right_knee", "right_ankle", "left_shoulder", "right_shoulder", "left_hip", "right_hip",
]  # fmt: skip
_KDC_HIGH_VARIANCE = [f"{side}_{part}" for part in ("elbow", "wrist", "knee", "ankle") for side in ("left", "right")]
_ARM_LEG = (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"))

COCO17 = Skeleton(
    name="coco17",
    joints=_COCO_JOINTS,
    flip_pairs=_sides("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"),
    limbs=(
        *_both(*_ARM_LEG),
        ("left_shoulder", "right_shoulder"), ("left_hip", "right_hip"),
        ("left_shoulder", "left_hip"), ("right_shoulder", "right_hip"),
        ("nose", "left_eye"), ("nose", "right_eye"), ("left_eye", "left_ear"), ("right_eye", "right_ear"),
        ("left_ear", "left_shoulder"), ("right_ear", "right_shoulder"),
    ),
    sigmas=(
        0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072,
        0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089,
    ),
    groups={
        "upper": list(_COCO_JOINTS[:11]),
        "lower": list(_COCO_JOINTS[11:]),
        **_body_parts(list(_COCO_JOINTS[:5])),
        "kdc_full": [*_KDC_TREE, *_KDC_CROSS],
        "kdc_tree": _KDC_TREE,
        "kdc_high_variance": _KDC_HIGH_VARIANCE,
    },
)  # fmt: skip

_CROWD_JOINTS = (
    "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
    "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "head", "neck",
)  # fmt: skip

CROWDPOSE14 = Skeleton(
    name="crowdpose14",
    joints=_CROWD_JOINTS,
    flip_pairs=_sides("shoulder", "elbow", "wrist", "hip", "knee", "ankle"),
    limbs=(
        *_both(*_ARM_LEG), ("head", "neck"), ("neck", "left_shoulder"), ("neck", "right_shoulder"),
        ("left_shoulder", "left_hip"), ("right_shoulder", "right_hip"), ("left_hip", "right_hip"),
    ),
    sigmas=(0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089, 0.079, 0.079),
    groups={
        "upper": [*_CROWD_JOINTS[:6], "head", "neck"],
        "lower": list(_CROWD_JOINTS[6:12]),
        **_body_parts(["head", "neck"]),
        "kdc_full": _KDC_CROWD,
        "kdc_high_variance": _KDC_HIGH_VARIANCE,
    },
)  # fmt: skip

_MPII_JOINTS = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis", "thorax",
    "upper_neck", "head_top", "right_wrist", "right_elbow", "right_shoulder",
    "left_shoulder", "left_elbow", "left_wrist",
)  # fmt: skip

MPII16 = Skeleton(
    name="mpii16",
    joints=_MPII_JOINTS,
    flip_pairs=_sides("shoulder", "elbow", "wrist", "hip", "knee", "ankle"),
    limbs=(
        *_both(*_ARM_LEG), ("pelvis", "thorax"), ("thorax", "upper_neck"), ("upper_neck", "head_top"),
        ("thorax", "left_shoulder"), ("thorax", "right_shoulder"), ("pelvis", "left_hip"), ("pelvis", "right_hip"),
    ),
    # COCO's sigmas for the joints both have, 0.079 for the other four (our definition: MPII is scored by PCKh).
    sigmas=(
        0.089, 0.087, 0.107, 0.107, 0.087, 0.089, 0.079, 0.079, 0.079, 0.079, 0.062, 0.072, 0.079, 0.079, 0.072, 0.062,
    ),
    groups={
        "upper": ["thorax", "upper_neck", "head_top", *_MPII_JOINTS[10:]],
        "lower": [*_MPII_JOINTS[:7]],
        **_body_parts(["upper_neck", "head_top"]),
    },
)  # fmt: skip

SKELETONS: dict[str, Skeleton] = {s.name: s for s in (COCO17, CROWDPOSE14, MPII16)}
