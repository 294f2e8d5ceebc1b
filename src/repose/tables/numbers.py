"""The numbers of a report: intervals by bootstrap over images, and costs. Intervals take seconds, so they are kept."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repose.config import ExperimentBase, to_dict
from repose.engine import provenance, rundir
from repose.errors import UserError
from repose.tables.cells import Cell, Choice
from repose.tables.claims import Interval
from repose.tables.costs import CACHE, RowCost, cost_of
from repose.tables.schema import Row, Table, inner

if TYPE_CHECKING:
    from repose.metrics.bootstrap import Matches

_MASK = "mask_"
"""How the metrics of masks begin."""
_NO_METRIC_READS = ("batch", "save_pictures")
"""Settings of `test` that change no metric."""


class Counted:
    """Intervals and costs of real runs.

    Args:
        runs: folder of all runs; the cache is below it.
        count: count costs that nobody has counted yet, which takes seconds each.
    """

    def __init__(self, runs: Path, count: bool = True) -> None:
        self.runs = runs
        self.count = count
        self._truth: dict[str, dict[str, Any]] = {}

    def interval(self, cell: Cell, result: dict[str, Any]) -> Interval:
        """AP of a run with its 95 % interval over images; nan bounds where the data set or predictions are not here."""
        from repose.metrics import bootstrap

        cfg, ap = cell.loaded.cfg, float(result["metrics"]["AP"])

        def compute() -> Interval:
            truth, people = self._ground_truth(cell), cfg.test.max_people
            low, high = bootstrap.interval(_predictions(cell), truth, cfg.joint_set(), max_people=people)
            return Interval(ap, low, high)

        try:
            return self._kept("interval", [cell], compute)
        except (UserError, OSError):
            return Interval(ap, math.nan, math.nan)

    def paired(self, better: Cell, worse: Cell, metric: str = "AP") -> Interval | None:
        """Difference of two runs' AP over the same images; None where they saw different ones.

        `metric` may be the AP of a subset of images that the runs' `test.subsets` makes, or mask_AP, mask_AP50 or
        mask_AP75; None where there is no such metric.
        """
        from repose.metrics import bootstrap
        from repose.metrics.subsets import image_subsets, restrict

        cfg = better.loaded.cfg

        def compute() -> Interval:
            if metric.startswith(_MASK):
                found = bootstrap.paired_of(self._mask_matches(better, metric), self._mask_matches(worse, metric))
                return Interval(found.difference, found.low, found.high)
            a, b, people = _predictions(better), _predictions(worse), cfg.test.max_people
            truth = self._ground_truth(better)
            if metric != "AP":
                subsets = image_subsets(cfg.test, truth)
                if metric not in subsets:
                    raise UserError(f"no subset of images has the metric {metric}")
                images = subsets[metric]
                (a, part), (b, _) = restrict(a, truth, images), restrict(b, truth, images)
                truth = part
            found = bootstrap.paired(a, b, truth, cfg.joint_set(), max_people=people)
            return Interval(found.difference, found.low, found.high)

        try:
            if self._key(better) != self._key(worse):
                return None
            return self._kept("paired" if metric == "AP" else f"paired-{metric}", [better, worse], compute)
        except (UserError, OSError):
            return None

    def cost(self, table: Table, row: Row, choice: Choice) -> RowCost:
        """Params and GMACs at the paper's size."""
        return cost_of(table, row, choice, self.runs, self.count)

    def statistic(self, cell: Cell) -> dict[str, float]:
        """What a statistic row computes from annotations, kept until they, its settings or the code change."""
        from repose.tables import statistics

        return statistics.computed(cell, self.runs)

    def _mask_matches(self, cell: Cell, metric: str) -> Matches:
        from repose.metrics import bootstrap, mask_ap

        test, truth = cell.loaded.cfg.test, self._ground_truth(cell, masks=True)
        results = mask_ap.load_results(cell.folder / rundir.MASKS, truth)
        return bootstrap.match_masks(results, truth, test.max_masks, test.mask_people, metric)

    def _ground_truth(self, cell: Cell, masks: bool = False) -> dict[str, Any]:
        from repose.data.datamodule import PoseDataModule

        data = PoseDataModule(cell.loaded.cfg)
        key = self._key(cell) + (" masks" if masks else "")
        if key not in self._truth:
            self._truth[key] = data.ground_truth(masks=masks)
        return self._truth[key]

    def _key(self, cell: Cell) -> str:
        """Names the evaluated people: annotation file, images, OKS area, joints with their sigmas."""
        from repose.data.boxes import digest
        from repose.data.roots import data_file, find_root

        data, skeleton = cell.loaded.cfg.data, cell.loaded.cfg.joint_set()
        file = data_file(find_root(data, skeleton), data.val_json, "data.val_json", data)
        return f"{digest(file)} {data.limit_val} {data.oks_area} {skeleton.joints} {skeleton.sigmas}"

    def _kept(self, what: str, cells: list[Cell], compute: Callable[[], Interval]) -> Interval:
        code = provenance.code_fingerprint(cells[0].loaded.cfg.paper)
        metrics = {k: v for k, v in code.items() if k.startswith("metrics/")}
        # rows that differ in their masks alone have the same keypoint predictions
        masks = [_sum(c.folder / rundir.MASKS) for c in cells if _MASK in what]
        parts = [what, metrics, *(_digest(c) for c in cells), *masks]
        key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
        file = self.runs / CACHE / f"{what}-{key}.json"
        try:
            said = json.loads(file.read_text())
            return Interval(float(said["value"]), float(said["low"]), float(said["high"]))
        except (OSError, ValueError, KeyError, TypeError):
            found = compute()
            rundir.write_json(file, {"value": found.value, "low": found.low, "high": found.high})
            return found


def _predictions(cell: Cell) -> list[dict[str, Any]]:
    return json.loads((cell.folder / rundir.PREDICTIONS).read_text(encoding="utf-8"))


def _sum(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _digest(cell: Cell) -> list[Any]:
    """What an interval of a run is made of: predictions, data, and how they are evaluated."""
    result = rundir.read_result(cell.folder) or {}
    predictions = _sum(cell.folder / rundir.PREDICTIONS)
    return [predictions, str(inner(result, "data").get("fingerprint")), _evaluation(cell.loaded.cfg)]


def _evaluation(cfg: ExperimentBase) -> dict[str, Any]:
    """The settings that metrics read: the same predictions score otherwise under others."""
    data, skeleton = cfg.data, cfg.joint_set()
    return {
        "test": {k: v for k, v in to_dict(cfg.test).items() if k not in _NO_METRIC_READS},
        "data": [data.val_json, data.limit_val, data.oks_area],
        "joints": [skeleton.joints, skeleton.sigmas],
    }
