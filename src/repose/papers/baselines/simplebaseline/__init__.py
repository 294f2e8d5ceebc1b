"""SimpleBaseline, HRNet and Hourglass: one heatmap per joint from a crop (top-down)."""

from typing import Any

from repose.config import Paper
from repose.papers.baselines.simplebaseline.config import Experiment


def _module() -> Any:
    from repose.papers.baselines.simplebaseline.module import SimpleBaselineModule

    return SimpleBaselineModule


PAPER = Paper(
    name="simplebaseline",
    title="Simple Baselines for Human Pose Estimation and Tracking; HRNet; Hourglass",
    schema=Experiment,
    module=_module,
)
