"""Identity-vector grouping: every keypoint cell predicts its whole person; equal vectors are one person (bottom-up)."""

from typing import Any

from repose.config import Paper
from repose.papers.idgroup.config import Experiment


def _module() -> Any:
    from repose.papers.idgroup.module import IDGroupModule

    return IDGroupModule


PAPER = Paper(
    name="idgroup",
    title="Rethinking the Grouping Strategy in Bottom-Up Multi-Person Pose Estimation",
    schema=Experiment,
    module=_module,
)
