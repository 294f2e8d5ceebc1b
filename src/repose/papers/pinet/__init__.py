"""PINet: whole poses from body parts, refined by a learned graph, fused joint by joint (bottom-up)."""

from typing import Any

from repose.config import Paper
from repose.papers.pinet.config import Experiment


def _module() -> Any:
    from repose.papers.pinet.module import PINetModule

    return PINetModule


PAPER = Paper(
    name="pinet",
    title="Robust Pose Estimation in Crowded Scenes with Direct Pose-Level Inference",
    schema=Experiment,
    module=_module,
)
