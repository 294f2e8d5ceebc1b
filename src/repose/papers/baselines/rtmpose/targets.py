"""Targets of RTMPose.

Bin-to-pixel map: with `split` s, bin i of the x axis is input pixel i / s (s bins per pixel, 0 to s * width - 1); y
likewise. Shapes: B crops, K joints, X Y bins.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from repose.ops.crops import crop_joints
from repose.papers.baselines.rtmpose.config import Loss
from repose.types import Batch


class Targets(NamedTuple):
    """Ground truth of a batch of crops.

    Attributes:
        x_BKX: labels of the x bins, Gaussians of height 1.
        y_BKY: labels of the y bins.
        weight_BK: 1 for labelled joints inside the crop, else 0.
    """

    x_BKX: Tensor
    y_BKY: Tensor
    weight_BK: Tensor


def encode(batch: Batch, k: int, cfg: Loss, split: int) -> Targets:
    """Labels around the bin nearest to each joint (SimCC; RTMPose §3.1).

    Args:
        batch: person view.
        k: number of joints.
        cfg: `variance`.
        split: bins per pixel.
    """
    point_BK2, weight_BK = crop_joints(batch, k)
    bin_BK2 = (point_BK2 * split).round()
    width, height = batch.input_wh

    def label(axis: int, side: int) -> Tensor:
        bins = torch.arange(split * side, device=bin_BK2.device)
        return torch.exp(-((bins - bin_BK2[..., axis, None]) ** 2) / (2 * cfg.variance * side))

    return Targets(label(0, width), label(1, height), weight_BK)
