"""The separated model: targets, loss and read-out of one person's heatmaps (TNet on Separated-Model Experiments).

Targets, flip test and read-out are those of every top-down method (`ops.crops`). Cell-to-pixel map: cell i is input
pixel 4 i. Shapes: B crops, K joints, H W cells at stride 4.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from repose.ops.crops import CropHeatmaps, merge_heatmaps
from repose.papers.cganet.config import Loss
from repose.papers.cganet.losses import LOWEST, focal


def losses(heatmap_BKHW: Tensor, targets: CropHeatmaps, cfg: Loss) -> dict[str, Tensor]:
    """`heatmap`: half the mean squared error over crops, joints and cells, or Eq. 8 over the labelled joints."""
    weight = targets.weight_BK[..., None, None]
    if cfg.separated == "focal":
        p = torch.sigmoid(heatmap_BKHW.float()).clamp(LOWEST, 1 - LOWEST)
        return {"heatmap": focal(p, targets.heatmap_BKHW, weight) / targets.weight_BK.sum().clamp(min=1)}
    square = (heatmap_BKHW.float() - targets.heatmap_BKHW) ** 2 * weight
    return {"heatmap": square.mean() / 2}


def merge(heatmaps: Sequence[Tensor], mirrored: Sequence[bool], flip_index: Sequence[int], cfg: Loss) -> Tensor:
    """Heatmaps of all views, (B, K, H, W): probabilities where those are trained (Eq. 8)."""
    maps = [h.float().sigmoid() for h in heatmaps] if cfg.separated == "focal" else heatmaps
    return merge_heatmaps(maps, mirrored, flip_index)
