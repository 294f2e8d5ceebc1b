"""The loss. Shapes: B crops, K joints, H W cells."""

from __future__ import annotations

from torch import Tensor

from .targets import Targets


def losses(heatmap_BKHW: Tensor, targets: Targets) -> dict[str, Tensor]:
    """`heatmap`: squared difference, mean over the cells, sum over labelled joints, mean over crops."""
    squared_BK = (heatmap_BKHW.float() - targets.heatmap_BKHW).square().mean((-2, -1))
    return {"heatmap": (squared_BK * targets.labelled_BK).sum(1).mean()}
