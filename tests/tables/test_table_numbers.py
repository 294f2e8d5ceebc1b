"""The kept intervals of a table: each evaluation has its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from table_kit import work_in, write_table

from repose.engine import rundir
from repose.tables.cells import Cell, cell, choose
from repose.tables.claims import Interval
from repose.tables.numbers import Counted


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, root: Path) -> None:
    work_in(tmp_path, root, monkeypatch)


def evaluated(folder: Path, *words: str) -> Cell:
    """A run whose predictions are everybody's."""
    table = write_table(folder)
    found = cell(table, table.rows["seven"], choose(["scale=smoke", f"log.runs={folder}", *words]))
    rundir.write_json(found.folder / rundir.PREDICTIONS, [])
    return found


SIGMAS = "[" + ", ".join(["0.05"] * 17) + "]"


@pytest.mark.parametrize(
    "word",
    [
        "data.oks_area=box*0.53",
        "data.limit_val=3",
        "test.max_people=5",
        "test.subsets=iou_bins",
        "test.iou_reduce=max",
        "test.iou_edges=[0.5, 1.0]",
        "test.mask_people=labelled",
        "test.max_masks=7",
        f"skeleton.sigmas={SIGMAS}",
    ],
)
def test_another_evaluation_of_the_same_predictions_has_its_own_interval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    from repose.metrics import bootstrap

    numbers = Counted(tmp_path)
    monkeypatch.setattr(numbers, "_key", lambda _: "same people")
    monkeypatch.setattr(numbers, "_ground_truth", lambda _, masks=False: {})
    asked: list[int] = []

    def interval(*_: Any, **__: Any) -> tuple[float, float]:
        asked.append(0)
        return 0.1 * len(asked), 0.9

    monkeypatch.setattr(bootstrap, "interval", interval)
    result = {"metrics": {"AP": 0.5}}
    plain, other, slower = (evaluated(tmp_path, *w) for w in ([], [word], ["test.batch=2"]))
    first = numbers.interval(plain, result)
    assert numbers.interval(plain, result) == first and len(asked) == 1, "kept"
    assert numbers.interval(slower, result) == first and len(asked) == 1, "the batch changes no metric"
    assert numbers.interval(other, result) == Interval(0.5, 0.2, 0.9)


def test_other_sigmas_are_other_people(tmp_path: Path, synthetic_smoke: Path) -> None:
    numbers = Counted(tmp_path)
    data = f"data.root={synthetic_smoke}"
    plain, other = (evaluated(tmp_path, data, "data.synthetic=null", *w) for w in ([], [f"skeleton.sigmas={SIGMAS}"]))
    assert numbers.paired(plain, other) is None
    assert numbers.paired(plain, plain) is not None
