"""KDC: keypoint disks, KeyCentroids and MaskCentroids; poses and instance masks from one bottom-up network."""

from typing import Any

from repose.config import Paper
from repose.papers.kdc.config import Experiment


def _module() -> Any:
    from repose.papers.kdc.module import KDCModule

    return KDCModule


PAPER = Paper(
    name="kdc",
    title="Keypoints as Dynamic Centroids for Unified Human Pose and Segmentation",
    schema=Experiment,
    module=_module,
)
