"""The person of each crop and its heatmaps, for top-down methods.

Cell-to-pixel map of heatmaps: cell i of stride s is input pixel s * i. Shapes: B crops, K joints, H W cells, N
annotated people of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from repose.geometry import EDGE
from repose.ops.heatmap import Peak, find_peak, gaussian
from repose.types import Batch, Poses


class CropHeatmaps(NamedTuple):
    """Ground truth of a batch of crops.

    Attributes:
        heatmap_BKHW: Gaussians of height 1, zero where a joint has no weight.
        weight_BK: 1 for labelled joints inside the crop, else 0.
    """

    heatmap_BKHW: Tensor
    weight_BK: Tensor


def crop_joints(batch: Batch, k: int) -> tuple[Tensor, Tensor]:
    """Joints of the person that each crop is of.

    Args:
        batch: person view.
        k: number of joints.

    Returns:
        (B, K, 2) input pixels, zero where a joint has no weight; (B, K) weights: 1 for labelled joints (v > 0) inside
        the crop, else 0. Crops without an annotated person have weight 0 everywhere.
    """
    people = batch.people
    joint_BK3 = torch.zeros(batch.b, k, 3, device=people.joint_NK3.device)
    joint_BK3[people.owner_N] = people.joint_NK3.float()
    x, y = joint_BK3[..., 0], joint_BK3[..., 1]
    width, height = batch.input_wh
    in_crop_BK = (x >= -EDGE) & (x <= width - EDGE) & (y >= -EDGE) & (y <= height - EDGE)
    weight_BK = ((joint_BK3[..., 2] > 0) & in_crop_BK).float()
    # Where a joint without label lies means nothing, not even when it is nan: no gradient may see it.
    point_BK2 = torch.where(weight_BK[..., None] > 0, joint_BK3[..., :2], torch.zeros_like(joint_BK3[..., :2]))
    return point_BK2, weight_BK


def crop_heatmaps(
    batch: Batch, k: int, stride: int, sigma: float, centre: Literal["rounded", "exact"] = "rounded"
) -> CropHeatmaps:
    """A Gaussian at each joint of `crop_joints` (SimpleBaseline §2; HRNet §3).

    Args:
        batch: person view.
        k: number of joints.
        stride: input pixels per cell.
        sigma: of the Gaussians, cells.
        centre: at the map's nearest cell, or at the joint itself.
    """
    point_BK2, weight_BK = crop_joints(batch, k)
    width, height = batch.input_wh
    hw = -(-height // stride), -(-width // stride)
    cell_BK2 = point_BK2 / stride
    if centre == "rounded":
        last_2 = torch.tensor([hw[1] - 1, hw[0] - 1], device=cell_BK2.device)
        cell_BK2 = torch.minimum(cell_BK2.round().clamp(min=0), last_2)
    return CropHeatmaps(gaussian(cell_BK2, hw, sigma) * weight_BK[..., None, None], weight_BK)


def merge_heatmaps(heatmaps: Sequence[Tensor], mirrored: Sequence[bool], flip_index: Sequence[int]) -> Tensor:
    """Heatmaps averaged over the views; mirrored ones are mirrored back, left and right joints swapped.

    Cell i of a mirrored view is exactly cell w - 1 - i (`geometry.mirror` shifts the picture), so nothing is shifted
    here. Differs from HRNet's code: it mirrors the picture alone and shifts the mirrored heatmap by a whole cell, a
    quarter cell too far at stride 4.

    Args:
        heatmaps: (B, K, H, W) of each view.
        mirrored: whether each view is mirrored.
        flip_index: K joint indices of the mirrored person.
    """
    swap = list(flip_index)
    maps = [h.float().flip(-1)[:, swap] if m else h.float() for h, m in zip(heatmaps, mirrored, strict=True)]
    return torch.stack(maps).mean(0)


def heatmap_people(heatmap_BKHW: Tensor, stride: int, peak: Peak) -> list[Poses]:
    """One person per crop, input pixels: each heatmap's maximum, whose height, cut to [0, 1], is the joint's score.

    Args:
        heatmap_BKHW: of all crops.
        stride: input pixels per cell.
        peak: see `find_peak`; not `gauss`, which must know the Gaussians' sigma.
    """
    cell_BK2, value_BK = find_peak(heatmap_BKHW, peak, 1.0)  # sigma is used by `gauss` alone
    joint_BK3 = torch.cat([cell_BK2 * stride, value_BK.clamp(0, 1)[..., None]], dim=-1)
    return [Poses(joint_NK3=joint[None], score_N=joint[None, :, 2].mean(-1)) for joint in joint_BK3]
