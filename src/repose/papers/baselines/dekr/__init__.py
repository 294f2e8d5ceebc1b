"""DEKR: centre heatmap and per-joint offsets by adaptive convolutions (bottom-up)."""

from typing import Any

from repose.config import Paper
from repose.papers.baselines.dekr.config import Experiment


def _module() -> Any:
    from repose.papers.baselines.dekr.module import DEKRModule

    return DEKRModule


PAPER = Paper(
    name="dekr",
    title="Bottom-Up Human Pose Estimation Via Disentangled Keypoint Regression",
    schema=Experiment,
    module=_module,
)
