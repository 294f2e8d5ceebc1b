"""Mask R-CNN: boxes, and in each box joints or a mask (torchvision's detectors)."""

from typing import Any

from repose.config import Paper
from repose.papers.baselines.maskrcnn.config import Experiment


def _module() -> Any:
    from repose.papers.baselines.maskrcnn.module import MaskRCNNModule

    return MaskRCNNModule


PAPER = Paper(
    name="maskrcnn",
    title="Mask R-CNN",
    schema=Experiment,
    module=_module,
)
