"""Loss of the heatmap baselines. Shapes: B crops, K joints, H W cells."""

from __future__ import annotations

import torch
from torch import Tensor

from repose.ops.crops import CropHeatmaps
from repose.papers.baselines.simplebaseline.model import Outputs


def losses(outputs: Outputs, targets: CropHeatmaps) -> dict[str, Tensor]:
    """`heatmap`: squared error, 0 for joints without weight, mean over all crops, joints and cells (official code).

    Summed over the hourglasses, where there are several (Hourglass §3.2, intermediate supervision).
    """
    weight = targets.weight_BK[..., None, None]
    of_each = [
        ((heatmap_BKHW.float() - targets.heatmap_BKHW) ** 2 * weight).mean()
        for heatmap_BKHW in (outputs.heatmap_BKHW, *outputs.earlier)
    ]
    return {"heatmap": torch.stack(of_each).sum()}
