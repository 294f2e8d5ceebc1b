"""The numbers of a report: intervals by bootstrap over images, and costs. Intervals take seconds, so they are kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from repose.engine import provenance, rundir
from repose.tables.cells import Cell, Choice
from repose.tables.claims import Interval
from repose.tables.costs import CACHE, RowCost, cost_of
from repose.tables.schema import Row, Table


class Counted:
    """Intervals and costs of real runs.

    Args:
        runs: folder of all runs; the cache is below it.
    """

    def __init__(self, runs: Path) -> None:
        self.runs = runs
        self._truth: dict[str, dict[str, Any]] = {}

    def interval(self, cell: Cell, result: dict[str, Any]) -> Interval:
        """AP of a run with its 95 % interval over images."""
        from repose.metrics import bootstrap

        def compute() -> Interval:
            low, high = bootstrap.interval(_predictions(cell), self._ground_truth(cell), cell.loaded.cfg.joint_set())
            return Interval(float(result["metrics"]["AP"]), low, high)

        return self._kept("interval", [cell], compute)

    def paired(self, better: Cell, worse: Cell) -> Interval | None:
        """Difference of two runs' AP over the same images; None where they saw different ones."""
        from repose.metrics import bootstrap

        results = [rundir.read_result(c.folder) or {} for c in (better, worse)]
        prints = {(r.get("data") or {}).get("name") for r in results}
        truth = self._ground_truth(better)
        if len(prints) > 1 or _images(truth) != _images(self._ground_truth(worse)):
            return None

        def compute() -> Interval:
            skeleton = better.loaded.cfg.joint_set()
            low, high = bootstrap.paired(_predictions(better), _predictions(worse), truth, skeleton)
            value = results[0]["metrics"]["AP"] - results[1]["metrics"]["AP"]
            return Interval(float(value), low, high)

        return self._kept("paired", [better, worse], compute)

    def cost(self, table: Table, row: Row, choice: Choice) -> RowCost:
        """Params and GMACs at the paper's size."""
        return cost_of(table, row, choice, self.runs)

    def _ground_truth(self, cell: Cell) -> dict[str, Any]:
        from repose.data.datamodule import PoseDataModule

        data = PoseDataModule(cell.loaded.cfg)
        key = f"{data.fingerprint()} {cell.loaded.cfg.data.limit_val}"
        if key not in self._truth:
            self._truth[key] = data.ground_truth()
        return self._truth[key]

    def _kept(self, what: str, cells: list[Cell], compute: Callable[[], Interval]) -> Interval:
        code = provenance.code_fingerprint(cells[0].loaded.cfg.paper)
        metrics = {k: v for k, v in code.items() if k.startswith("metrics/")}
        parts = [what, metrics, *(_digest(c) for c in cells)]
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


def _digest(cell: Cell) -> list[str]:
    result = rundir.read_result(cell.folder) or {}
    predictions = hashlib.sha256((cell.folder / rundir.PREDICTIONS).read_bytes()).hexdigest()
    return [predictions, str((result.get("data") or {}).get("fingerprint"))]


def _images(truth: dict[str, Any]) -> set[int]:
    return {int(image["id"]) for image in truth["images"]}
