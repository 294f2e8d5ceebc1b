"""The separated model: targets, loss and read-out of one person's heatmaps (TNet on Separated-Model Experiments).

Cell-to-pixel map: cell i is input pixel 4 i. Shapes: B crops, K joints, H W cells at stride 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from repose.ops.crops import crop_joints
from repose.ops.heatmap import find_peak, gaussian
from repose.papers.cganet.config import Decode, Loss
from repose.papers.cganet.losses import LOWEST, focal
from repose.papers.cganet.targets import STRIDE
from repose.types import Batch, Poses


class Targets(NamedTuple):
    """Ground truth of a batch of crops.

    Attributes:
        heatmap_BKHW: Gaussians of height 1, zero where a joint has no weight.
        weight_BK: 1 for labelled joints inside the crop, else 0.
    """

    heatmap_BKHW: Tensor
    weight_BK: Tensor


def encode(batch: Batch, k: int, cfg: Loss) -> Targets:
    """A Gaussian at the cell nearest to each labelled joint (HRNet's targets; the paper does not describe its own)."""
    point_BK2, weight_BK = crop_joints(batch, k)
    width, height = batch.input_wh
    hw = -(-height // STRIDE), -(-width // STRIDE)
    last = torch.tensor([hw[1] - 1, hw[0] - 1], device=point_BK2.device)
    cell_BK2 = torch.minimum((point_BK2 / STRIDE).round().clamp(min=0), last)
    return Targets(gaussian(cell_BK2, hw, cfg.separated_sigma) * weight_BK[..., None, None], weight_BK)


def losses(heatmap_BKHW: Tensor, targets: Targets, cfg: Loss) -> dict[str, Tensor]:
    """`heatmap`: half the mean squared error over crops, joints and cells, or Eq. 8 over the labelled joints."""
    weight = targets.weight_BK[..., None, None]
    if cfg.separated == "focal":
        p = torch.sigmoid(heatmap_BKHW.float()).clamp(LOWEST, 1 - LOWEST)
        return {"heatmap": focal(p, targets.heatmap_BKHW, weight) / targets.weight_BK.sum().clamp(min=1)}
    square = (heatmap_BKHW.float() - targets.heatmap_BKHW) ** 2 * weight
    return {"heatmap": square.mean() / 2}


def merge(heatmaps: Sequence[Tensor], mirrored: Sequence[bool], flip_index: Sequence[int], cfg: Loss) -> Tensor:
    """Heatmaps averaged over the views, mirrored ones mirrored back with left and right swapped, (B, K, H, W)."""
    swap = list(flip_index)
    maps = [h.float().sigmoid() if cfg.separated == "focal" else h.float() for h in heatmaps]
    return torch.stack([m.flip(-1)[:, swap] if f else m for m, f in zip(maps, mirrored, strict=True)]).mean(0)


def decode(heatmap_BKHW: Tensor, cfg: Decode) -> list[Poses]:
    """One person per crop, input pixels; a joint's score is its heatmap's maximum, cut to [0, 1]."""
    cell_BK2, value_BK = find_peak(heatmap_BKHW, cfg.peak, 1.0)
    joint_BK3 = torch.cat([cell_BK2 * STRIDE, value_BK.clamp(0, 1)[..., None]], dim=-1)
    return [Poses(joint_NK3=joint[None], score_N=joint[None, :, 2].mean(-1)) for joint in joint_BK3]
