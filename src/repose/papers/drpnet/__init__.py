"""DRP-Net: coarse regression, then local heatmaps in ROIs around the coarse points (top-down)."""

from typing import Any

from repose.config import Paper
from repose.papers.drpnet.config import Experiment


def _module() -> Any:
    from repose.papers.drpnet.module import DRPNetModule

    return DRPNetModule


PAPER = Paper(
    name="drpnet",
    title="DRP-Net: A Coarse-to-Fine Dynamic Resolution Network for Efficient Real-Time Multi-Person Pose Estimation",
    schema=Experiment,
    module=_module,
)
