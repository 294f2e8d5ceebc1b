"""What the tests of tables share: a small table, constructed numbers, and the fake program."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import pytest

from repose.tables.cells import Cell, Choice, choose
from repose.tables.claims import Interval
from repose.tables.costs import RowCost
from repose.tables.schema import Row, Table, load_table

FAKE = (sys.executable, str(Path(__file__).with_name("fake_repose.py")))

TABLE = """\
title: Size of the ROI
source: Table 9
experiment: drpnet/m
protocol: {data: coco-val2017, boxes: detections, flip: true}
counted: not stated
metrics: [AP, AP50]
mechanism: [roi_inside]
rows:
  five: {label: 5x5, paper: {AP: 73.5, GFLOPs: 2.05, params: 14.8}, set: {model: {roi: {size: 5}}}}
  seven: {label: 7x7, paper: {AP: 74.1}, set: {model: {roi: {size: 7}}}, set_paper: {data: {boxes: detections}}}
  again: {label: the default, paper: {AP: 74.1}}
  coarse: {label: coarse points, kind: eval, reuse: seven, set: {decode: {read_out: coarse}}}
  big: {label: 9x9, paper: {AP: 74.0}, set: {model: {roi: {size: 9}}}, at: [lite, paper]}
  other: {label: HRNet, kind: quoted, paper: {AP: 74.4, GFLOPs: 7.1, params: 28.5}, source: its own paper}
claims:
  order: {text: 7x7 beats 5x5, better: seven, worse: five}
shows: {smoke: nothing}
not_shown: {smoke: "the paper's AP"}
"""


def write_table(folder: Path, text: str = TABLE, name: str = "table-9") -> Table:
    path = folder / "here" / "drpnet" / "tables" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return load_table(path)


def smoke(*words: str) -> Choice:
    return choose(["scale=smoke", *words])


def work_in(folder: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs go to `folder`/runs; experiments are still the checkout's. (Equal words let configs be resolved once.)"""
    (folder / "experiments").symlink_to(root / "experiments")
    monkeypatch.chdir(folder)


def same(cfg: Any, result: dict[str, Any]) -> str:
    """Nothing changed since."""
    return ""


class Numbers:
    """Constructed intervals: AP +- 0.02, differences +- 0.03."""

    def interval(self, cell: Cell, result: dict[str, Any]) -> Interval:
        ap = result["metrics"]["AP"]
        return Interval(ap, ap - 0.02, ap + 0.02)

    def paired(self, better: Cell, worse: Cell, metric: str = "AP") -> Interval | None:
        from repose.engine.rundir import read_result

        values = [(read_result(c.folder) or {})["metrics"]["AP"] for c in (better, worse)]
        d = values[0] - values[1]
        return Interval(d, d - 0.03, d + 0.03)

    def cost(self, table: Table, row: Row, choice: Choice) -> RowCost:
        return RowCost(14.9, 2.16, "256x192") if row.runs else RowCost()

    def statistic(self, cell: Cell) -> dict[str, float]:
        return {}


def flags(**given: Any) -> argparse.Namespace:
    plain = {"json": False, "run": False, "plan": False, "gpus": None, "index": None, "add": None, "publish": False}
    return argparse.Namespace(**{**plain, "jobs": None, "dry_run": False, **given})
