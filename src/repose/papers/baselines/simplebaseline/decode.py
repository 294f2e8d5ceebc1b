"""From heatmaps to joints. Shapes: B crops, K joints, H W cells."""

from __future__ import annotations

from repose.ops.crops import heatmap_people
from repose.ops.heatmap import Peak
from repose.papers.baselines.simplebaseline.config import Decode
from repose.papers.baselines.simplebaseline.model import Outputs
from repose.types import Poses

PEAKS: dict[str, Peak] = {"quarter": "quarter", "none": "argmax", "parabola": "subpixel"}
"""`decode.refine` as `ops.heatmap.find_peak` names it."""


def decode(outputs: Outputs, cfg: Decode, stride: int) -> list[Poses]:
    """One person per crop, input pixels: each heatmap's maximum, refined by `cfg.refine`, is the joint.

    Args:
        outputs: merged heatmaps.
        cfg: settings.
        stride: input pixels per cell.
    """
    return heatmap_people(outputs.heatmap_BKHW, stride, PEAKS[cfg.refine])
