"""CGANet: person detection with centre lines, boxes that are extended by them, keypoints or masks in each box."""

from typing import Any

from repose.config import Paper
from repose.papers.cganet.config import Experiment


def _module() -> Any:
    from repose.papers.cganet.module import cganet_module

    return cganet_module


PAPER = Paper(
    name="cganet",
    title="CGANet: Context-Guided Adaptive Network for Efficient Human Pose Estimation",
    schema=Experiment,
    module=_module,
)
