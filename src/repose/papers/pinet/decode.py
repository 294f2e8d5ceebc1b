"""From maps to people: peaks, poses, their scores, and PF.

Shapes: B images, K joints, P parts, N candidate poses of the whole batch, H W cells. Poses are in input pixels of the
first test scale unless their name ends in `_cell`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from repose.ops.bottom_up import highest, level_scores, mirrored_back, move_poses, view_to_view
from repose.ops.grouping import group_poses
from repose.ops.peaks import Peaks, find_peaks, kernel_for
from repose.ops.points import sample_own_channel
from repose.papers.pinet.config import Decode
from repose.papers.pinet.model import PR, Maps
from repose.papers.pinet.targets import STRIDE
from repose.types import Batch, Poses


@dataclass(frozen=True)
class Swap:
    """Which joint and which part of a mirrored person is which.

    Attributes:
        joints: K joint indices.
        parts: P part indices.
    """

    joints: list[int]
    parts: list[int]


class Scale(NamedTuple):
    """The maps of one test scale.

    Attributes:
        plain: of the image.
        mirrored: of the image made by `geometry.mirror`; None without flip test.
        batch: whose pixels the maps' cells are of.
    """

    plain: Maps
    mirrored: Maps | None
    batch: Batch


class Candidates(NamedTuple):
    """Poses of all parts and scales of a batch (PPG and PR).

    Attributes:
        owner_N: int64, image.
        part_N: int64, part.
        joint_NK3: x, y and score r = r_p * r_k of each joint.
        initial_NK2: the same before refinement.
        centre_N2: part centres.
        refined: how often PR was called for a pose.
        images: number of images.
    """

    owner_N: Tensor
    part_N: Tensor
    joint_NK3: Tensor
    initial_NK2: Tensor
    centre_N2: Tensor
    refined: int
    images: int


def candidates(scales: Sequence[Scale], pr: PR | None, swap: Swap, cfg: Decode) -> Candidates:
    """Every pose that some part of some scale proposes, with its scores (PINet §3.2 to 3.4; spec 7.3 to 7.6).

    Args:
        scales: the first is scale 1.
        pr: the refinement network; None leaves the poses of PPG.
        swap: of the flip test.
        cfg: settings.
    """
    base = scales[0].batch
    first_B: Tensor | None = None
    found: list[tuple[Peaks, Tensor, Tensor, Tensor]] = []
    heat_maps: list[Tensor] = []
    refined = 0
    for scale in scales:
        heat_BKHW, part_BPHW = averaged(scale, swap)
        heat_maps.append(heat_BKHW)
        kernel = kernel_for(part_BPHW.shape[-2], part_BPHW.shape[-1])
        peaks = find_peaks(part_BPHW, kernel, cfg.candidates, cfg.threshold)
        initial, pose = poses(scale, peaks, pr, swap)
        refined += len(pose) * (2 if scale.mirrored is not None else 1) if pr is not None else 0
        if first_B is None:
            first_B = highest(peaks.score_N, peaks.owner_N, base.b)
        else:
            leveled = level_scores(peaks.score_N, peaks.owner_N, first_B, cfg.decrease)
            peaks = peaks._replace(score_N=leveled)
        to_base = view_to_view(scale.batch, base)
        centre = peaks.cell_N2[:, None].float()
        moved = [move_poses(p * STRIDE, peaks.owner_N, to_base) for p in (pose, initial, centre)]
        found.append((peaks, moved[0], moved[1], moved[2][:, 0]))
    owner_N = torch.cat([f[0].owner_N for f in found])
    pose_NK2 = torch.cat([f[1] for f in found])
    r_NK = joint_scores(pose_NK2, owner_N, heat_maps, scales) * torch.cat([f[0].score_N for f in found])[:, None]
    return Candidates(
        owner_N=owner_N,
        part_N=torch.cat([f[0].part_N for f in found]),
        joint_NK3=torch.cat([pose_NK2, r_NK[..., None]], dim=-1),
        initial_NK2=torch.cat([f[2] for f in found]),
        centre_N2=torch.cat([f[3] for f in found]),
        refined=refined,
        images=base.b,
    )


def averaged(scale: Scale, swap: Swap) -> tuple[Tensor, Tensor]:
    """Joint and part heatmaps of a scale, averaged with the mirrored view's (spec 7.2)."""
    heat_BKHW, part_BPHW = scale.plain.heat_BKHW, scale.plain.part_BPHW
    if scale.mirrored is None:
        return heat_BKHW, part_BPHW
    heat_BKHW = (heat_BKHW + mirrored_back(scale.mirrored.heat_BKHW, swap.joints)) / 2
    return heat_BKHW, (part_BPHW + mirrored_back(scale.mirrored.part_BPHW, swap.parts)) / 2


def poses(scale: Scale, peaks: Peaks, pr: PR | None, swap: Swap) -> tuple[Tensor, Tensor]:
    """Initial and final poses of peaks, (N, K, 2) cells: each view's own construction, then their mean (spec 7.4)."""
    initial, pose = _view_poses(scale.plain, peaks.owner_N, peaks.part_N, peaks.cell_N2, pr)
    if scale.mirrored is None:
        return initial, pose
    last = scale.plain.part_BPHW.shape[-1] - 1
    mirror = torch.tensor([-1, 1], device=initial.device)
    shift = torch.tensor([last, 0], device=initial.device)
    part_N = torch.tensor(swap.parts, device=initial.device)[peaks.part_N]
    there = _view_poses(scale.mirrored, peaks.owner_N, part_N, peaks.cell_N2 * mirror + shift, pr)
    back = [(p * mirror + shift)[:, swap.joints] for p in there]
    return (initial + back[0]) / 2, (pose + back[1]) / 2


def _view_poses(maps: Maps, owner_N: Tensor, part_N: Tensor, cell_N2: Tensor, pr: PR | None) -> tuple[Tensor, Tensor]:
    initial_NK2 = maps.poses(owner_N, part_N, cell_N2)
    if pr is None:
        return initial_NK2, initial_NK2
    return initial_NK2, initial_NK2 - pr(maps.feature_BCHW, owner_N, cell_N2, initial_NK2)


def joint_scores(pose_NK2: Tensor, owner_N: Tensor, heat_maps: Sequence[Tensor], scales: Sequence[Scale]) -> Tensor:
    """r_k: the joint heatmaps of all scales at the poses' joints, averaged; 0 outside the canvas, (N, K) (spec 7.6)."""
    base = scales[0].batch
    total_NK = torch.zeros_like(pose_NK2[..., 0])
    for heat_BKHW, scale in zip(heat_maps, scales, strict=True):
        cell_NK2 = move_poses(pose_NK2, owner_N, view_to_view(base, scale.batch)) / STRIDE
        total_NK = total_NK + sample_own_channel(heat_BKHW, owner_N, cell_NK2, "edge")
    width, height = base.input_wh
    x, y = pose_NK2.unbind(-1)
    inside_NK = (x >= 0) & (y >= 0) & (x < width - 1) & (y < height - 1)
    return total_NK / len(scales) * inside_NK


def decode(found: Candidates, sigmas: tuple[float, ...], cfg: Decode) -> list[Poses]:
    """People of each image: candidates grouped by OKS and, with `fuse`, put together joint by joint (PINet §3.4; PF).

    OKS does not change with the scale of the picture, so the input's pixels do as well as the photograph's.
    `extra` holds, of the candidate that each person is built around, the pose before refinement (`initial_NK2`), the
    part centre (`centre_NK2`, (N, 1, 2)) and the part (`part_N`).
    """
    results: list[Poses] = []
    for image in range(found.images):
        mine = found.owner_N == image
        grouped = group_poses(found.joint_NK3[mine], sigmas, cfg.oks, cfg.fuse)
        kept = grouped.kept_G
        extra = {
            "initial_NK2": found.initial_NK2[mine][kept],
            "centre_NK2": found.centre_N2[mine][kept][:, None],
            "part_N": found.part_N[mine][kept],
        }
        results.append(Poses(joint_NK3=grouped.joint_GK3, score_N=grouped.score_G, extra=extra))
    return results
