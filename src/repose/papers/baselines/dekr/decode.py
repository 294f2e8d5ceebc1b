"""From views to maps, and from maps to people.

Shapes: B images, N poses of the batch (of one image in `distance_nms`), K joints, J = K + 1 channels, H W cells.
Base pixels are input pixels of the first view, test scale 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from repose.engine.module import View
from repose.ops.bottom_up import highest, level_scores, mirrored_back, move_poses, view_to_view
from repose.ops.grouping import group_poses
from repose.ops.peaks import find_peaks, kernel_for
from repose.ops.points import read_cells, sample_own_channel
from repose.papers.baselines.dekr.config import Decode
from repose.papers.baselines.dekr.model import Outputs
from repose.papers.baselines.dekr.targets import STRIDE
from repose.types import Poses


class Level(NamedTuple):
    """Maps of one test scale, of both its views.

    Attributes:
        maps: float32, averaged over the views.
        scale: test scale.
        to_base_B23: from this scale's input pixels to base pixels.
        from_base_B23: the inverse.
        input_wh: of this scale.
    """

    maps: Outputs
    scale: float
    to_base_B23: Tensor
    from_base_B23: Tensor
    input_wh: tuple[int, int]


class Candidates(NamedTuple):
    """Poses before duplicates are removed.

    Images in order; in an image larger test scales first, then falling centre score.

    Attributes:
        owner_N: int64, image.
        joint_NK3: base pixels, and the joint's score: centre times heat.
        heat_N: mean heat at the joints.
    """

    owner_N: Tensor
    joint_NK3: Tensor
    heat_N: Tensor


def infer(net: nn.Module, views: Sequence[View], flip_index: Sequence[int]) -> list[Level]:
    """Maps of every test scale, the first scale first; mirrored views are turned back and averaged with plain ones.

    Averaging the offsets is averaging the poses of every cell: a pose is its cell minus its offset, and the mirrored
    view's cell lies where the plain one's does. Mirrored, x offsets change their sign, left and right trade places.
    """
    first, k = views[0].batch, len(flip_index)
    channels = [*flip_index, k]
    entries = [2 * i + axis for i in flip_index for axis in (0, 1)]
    levels: list[Level] = []
    for scale in dict.fromkeys(v.scale for v in views):
        mine = [v for v in views if v.scale == scale]
        heat, offset = [], []
        for view in mine:
            out: Outputs = net(view.image_BCHW)
            if view.mirrored:
                sign = out.offset_BDHW.new_tensor([-1.0, 1.0]).repeat(k).view(-1, 1, 1)
                out = Outputs(mirrored_back(out.heat_BJHW, channels), mirrored_back(out.offset_BDHW, entries) * sign)
            heat.append(out.heat_BJHW.float())
            offset.append(out.offset_BDHW.float())
        batch = mine[0].batch
        maps = Outputs(torch.stack(heat).mean(0), torch.stack(offset).mean(0))
        levels.append(Level(maps, scale, view_to_view(batch, first), view_to_view(first, batch), batch.input_wh))
    return levels


def candidates(levels: Sequence[Level], cfg: Decode) -> Candidates:
    """One pose per centre peak of every test scale, with the scores of its joints."""
    b = levels[0].maps.heat_BJHW.shape[0]
    peaks = {
        level.scale: find_peaks(
            level.maps.heat_BJHW[:, -1:], kernel_for(*level.maps.heat_BJHW.shape[-2:]), cfg.candidates, cfg.threshold
        )
        for level in levels
    }
    one = peaks[1.0]
    reference_B = highest(one.score_N, one.owner_N, b)
    owners, points, centres = [], [], []
    for level in sorted(levels, key=lambda x: -x.scale):
        found = peaks[level.scale]
        offset_NK2 = read_cells(level.maps.offset_BDHW, found.owner_N, found.cell_N2).unflatten(1, (-1, 2))
        point_NK2 = (found.cell_N2[:, None] - offset_NK2) * STRIDE
        owners.append(found.owner_N)
        points.append(move_poses(point_NK2, found.owner_N, level.to_base_B23))
        same = level.scale == 1.0
        centres.append(found.score_N if same else level_scores(found.score_N, found.owner_N, reference_B, cfg.decrease))
    owner_N = torch.cat(owners)
    order = torch.argsort(owner_N, stable=True)
    owner_N, point_NK2, centre_N = owner_N[order], torch.cat(points)[order], torch.cat(centres)[order]
    heat_NK = heat_values(levels, owner_N, point_NK2)
    joint_NK3 = torch.cat([point_NK2, (centre_N[:, None] * heat_NK)[..., None]], dim=-1)
    return Candidates(owner_N, joint_NK3, heat_NK.mean(-1))


def heat_values(levels: Sequence[Level], owner_N: Tensor, point_NK2: Tensor) -> Tensor:
    """Heat of each joint where it lies, (N, K): the mean over test scales of the averaged heatmaps.

    The release brings all heatmaps to base resolution, takes their mean and reads the pixel that the joint lies in;
    here each map is sampled bilinearly at that pixel.
    """
    width, height = levels[0].input_wh
    limit = point_NK2.new_tensor([width - 1, height - 1])
    pixel_NK2 = torch.minimum(point_NK2.floor().clamp(min=0), limit)
    values = []
    for level in levels:
        cell_NK2 = move_poses(pixel_NK2, owner_N, level.from_base_B23) / STRIDE
        values.append(sample_own_channel(level.maps.heat_BJHW[:, :-1], owner_N, cell_NK2, outside="edge"))
    return torch.stack(values).mean(0)


def distance_nms(joint_NK3: Tensor, heat_N: Tensor, cfg: Decode, multi_scale: bool) -> Tensor:
    """DEKR's non-maximum suppression over the poses of one image.

    Pose j is a duplicate of i if more than `same_joints` of its joints are closer to i's than a share of i's diagonal.
    Poses are visited in their order; of a pose and its duplicates the one with the highest mean heat stays, unless it
    went before, and all of them go. Source: DEKR's code (a pose without extent has no duplicates but itself).

    Returns:
        int64 indices that stay, highest mean heat first, at most `max_people`.
    """
    point_NK2 = joint_NK3[..., :2]
    diagonal_N = (point_NK2.amax(1) - point_NK2.amin(1)).norm(dim=-1)
    share = cfg.distance_multi if multi_scale else cfg.distance
    distance_NNK = (point_NK2[:, None] - point_NK2[None]).norm(dim=-1)
    close_NN = ((distance_NNK < share * diagonal_N[:, None, None]).sum(-1) > cfg.same_joints).cpu().numpy()
    np.fill_diagonal(close_NN, True)
    heat = heat_N.cpu().numpy()
    gone = np.zeros(len(heat), bool)
    kept: list[int] = []
    for i, row in enumerate(close_NN):
        if gone[i]:
            continue
        best = int(np.where(row, heat, -np.inf).argmax())
        if gone[best]:
            continue
        kept.append(best)
        gone |= row
    stay = torch.tensor(kept, dtype=torch.int64, device=heat_N.device)
    return stay[torch.argsort(heat_N[stay], descending=True, stable=True)][: cfg.max_people]


def decode(levels: Sequence[Level], cfg: Decode, sigmas: tuple[float, ...]) -> list[Poses]:
    """People of each image, base pixels; a person's score is the mean of its joints' scores.

    Args:
        levels: of `infer`.
        cfg: settings.
        sigmas: K constants of OKS, for `nms=oks` and `fusion`.
    """
    found = candidates(levels, cfg)
    count_B = torch.bincount(found.owner_N, minlength=levels[0].maps.heat_BJHW.shape[0]).tolist()
    people: list[Poses] = []
    for joint_NK3, heat_N in zip(found.joint_NK3.split(count_B), found.heat_N.split(count_B), strict=True):
        if cfg.nms == "distance":
            kept = joint_NK3[distance_nms(joint_NK3, heat_N, cfg, len(levels) > 1)]
        else:
            kept = group_poses(joint_NK3, sigmas, cfg.oks, fuse=cfg.nms == "fusion").joint_GK3
        people.append(Poses(joint_NK3=kept, score_N=kept[..., 2].mean(-1)))
    return people
