"""Loss of the heatmap baselines. Shapes: B crops, K joints, H W cells."""

from __future__ import annotations

from torch import Tensor

from repose.papers.baselines.simplebaseline.model import Outputs
from repose.papers.baselines.simplebaseline.targets import Targets


def losses(outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
    """`heatmap`: squared error, 0 for joints without weight, mean over all crops, joints and cells (official code)."""
    square_BKHW = (outputs.heatmap_BKHW.float() - targets.heatmap_BKHW) ** 2
    return {"heatmap": (square_BKHW * targets.weight_BK[..., None, None]).mean()}
