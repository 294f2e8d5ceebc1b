"""How two rows of a claim are evaluated: values of different protocols are never subtracted. Imports no torch."""

from __future__ import annotations

from repose.config import ExperimentBase
from repose.tables.cells import Cell
from repose.tables.schema import Claim

_NAMES = {
    "flip": "flip test",
    "test_scales": "test scales",
    "oks_area": "OKS area",
    "max_people": "people per image",
    "limit_val": "evaluated images",
    "mask_people": "people of mask AP",
    "max_masks": "masks per image",
}
"""For people, of what `evaluation` has."""


def differ(claim: Claim, better: Cell, worse: Cell) -> str:
    """What the evaluations of a claim's rows differ in, save what the claim is about; "" if in nothing else."""
    one, two = (evaluation(c.loaded.cfg, claim.metric) for c in (better, worse))
    found = [k for k in dict.fromkeys([*one, *two]) if one.get(k) != two.get(k) and k not in claim.across]
    return "; ".join(f"{_NAMES.get(k, k)}: {one.get(k, 'none')} against {two.get(k, 'none')}" for k in found)


def evaluation(cfg: ExperimentBase, metric: str = "AP") -> dict[str, str]:
    """The parts of a protocol that make a metric another number, by the names that a claim's `across` takes."""
    data, test, skeleton = cfg.data, cfg.test, cfg.joint_set()
    boxes = f"detections ({data.detections})" if data.boxes == "detections" else data.boxes
    found = {
        "data": data.name,
        "boxes": "none" if data.view == "image" else boxes,
        "flip": "yes" if test.flip else "no",
        "test_scales": _numbers(data.test_scales),
        "oks_area": data.oks_area,
        "max_people": str(test.max_people),
        "limit_val": str(data.limit_val or "all"),
        "subsets": test.subsets,
        "skeleton": skeleton.name,
        "sigmas": _numbers(skeleton.sigmas),
    }
    if test.subsets == "iou_bins":
        found["overlaps"] = f"{test.iou_reduce} in {_numbers(test.iou_edges)}"
    if metric.startswith("mask_"):
        found |= {"mask_people": test.mask_people, "max_masks": str(test.max_masks)}
    return found


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{v:g}" for v in values)
