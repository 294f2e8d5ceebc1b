"""RTMPose: joints as two classifications, over x and over y, from a crop (top-down)."""

from typing import Any

from repose.config import Paper
from repose.papers.baselines.rtmpose.config import Experiment


def _module() -> Any:
    from repose.papers.baselines.rtmpose.module import RTMPoseModule

    return RTMPoseModule


PAPER = Paper(
    name="rtmpose",
    title="RTMPose: Real-Time Multi-Person Pose Estimation based on MMPose",
    schema=Experiment,
    module=_module,
)
