"""Targets of the heatmap baselines.

Cell-to-pixel map: cell i of a heatmap of stride s is input pixel s * i, so x_cell = x_in / s. Shapes: B crops, K
joints, H W cells.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from repose.ops.crops import crop_joints
from repose.ops.heatmap import gaussian
from repose.papers.baselines.simplebaseline.config import Loss
from repose.types import Batch


class Targets(NamedTuple):
    """Ground truth of a batch of crops.

    Attributes:
        heatmap_BKHW: Gaussians of height 1.
        weight_BK: 1 for labelled joints inside the crop, else 0.
    """

    heatmap_BKHW: Tensor
    weight_BK: Tensor


def encode(batch: Batch, k: int, cfg: Loss, stride: int) -> Targets:
    """A Gaussian at each labelled joint (SimpleBaseline §2; HRNet §3).

    Args:
        batch: person view.
        k: number of joints.
        cfg: sigma and `centre`.
        stride: input pixels per cell.
    """
    point_BK2, weight_BK = crop_joints(batch, k)
    width, height = batch.input_wh
    cell_BK2 = point_BK2 / stride
    if cfg.centre == "rounded":
        cell_BK2 = cell_BK2.round()
    heatmap = gaussian(cell_BK2, (-(-height // stride), -(-width // stride)), cfg.sigma)
    return Targets(heatmap * weight_BK[..., None, None], weight_BK)
