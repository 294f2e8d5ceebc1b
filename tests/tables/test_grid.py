"""A table's tests of one checkpoint are found, and measured in one pass by the first of them."""

import os
import time
from pathlib import Path

import pytest
from table_kit import work_in

from repose import papers
from repose.__main__ import main
from repose.config import identity, load
from repose.engine import provenance
from repose.engine.rundir import read_result
from repose.papers.cganet.grid import GridModule
from repose.tables import grid
from repose.tables.cells import cell, choose
from repose.tables.schema import find_tables


def test_tests_of_a_table_are_found(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (table,) = find_tables("cganet/ablation-ambiguity")
    own = cell(table, table.rows["a05-b1"], choose(["scale=smoke"]))
    words = ["scale=smoke", "model.roi.stages=1", "decode.alpha=0.5", "test.flip=true"]
    group = "log.group=cganet/ablation-ambiguity"

    def siblings(*more: str, beta: float = 1.0) -> list[grid.One]:
        return grid.siblings(load("cganet/coco", [*words, f"decode.beta={beta}", *more], find_paper=papers.get))

    there = siblings(f"checkpoint={run}", group)
    assert [one.label for one in there] == [
        own.row.label, *(r.label for r in table.rows.values() if r.kind == "eval" and r.id != "a05-b1"),
    ]  # fmt: skip
    assert all(one.loaded.cfg.test.flip for one in there)  # what the command line says holds for all
    assert len({one.folder for one in there}) == 6
    assert all(one.folder.parent == run / "tests" for one in there)
    assert siblings(f"checkpoint={run}") == []  # a test of one's own is that test alone
    assert siblings(f"checkpoint={run}", "log.group=mine") == []
    assert siblings(f"checkpoint={run}", group, beta=0.7) == []  # none of the table's
    assert siblings(group) == []


def test_one_test_of_table_2_measures_all(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real command line: a training of one epoch, then one `repose test` fills 42 folders, the next one reads."""
    work_in(tmp_path, root, monkeypatch)
    monkeypatch.setenv("REPOSE_DATA", str(tmp_path / "data"))
    run = str(tmp_path / "run")
    same = ["cganet/coco", "scale=smoke", "model.roi.stages=1", "log.wandb=off", "log.progress=false"]
    assert main(["train", *same, f"log.dir={run}"]) == 0
    capsys.readouterr()
    edits: list[str] = []  # made while the test runs: of code that did not run
    step = GridModule.test_step
    monkeypatch.setattr(GridModule, "test_step", lambda *given: (edits.append("losses.py"), step(*given))[1])
    monkeypatch.setattr(provenance, "commit", lambda: f"commit {len(edits)}")
    more = ["decode.ambiguity=false", f"checkpoint={run}", "log.group=cganet/2"]
    assert main(["test", *same, *more, "decode.ratio=0.05", "decode.thre=0.06"]) == 0
    said = capsys.readouterr().err
    assert "42 tests in one pass over 8 images" in said and "distinct of 840 boxes per image" in said
    (table,) = find_tables("cganet/2")
    folders = {p.name for p in (Path(run) / "tests").iterdir()}
    assert len(folders) == 42
    for row in ("r05-t05", "r09-t08", "r15-t15"):  # where `repose table` looks for them
        own = identity(cell(table, table.rows[row], choose(["scale=smoke"])).loaded.cfg)
        assert own in folders and (Path(run) / "tests" / own / "predictions.json").is_file()
        result = read_result(Path(run) / "tests" / own)
        assert result and result["commit"] == "commit 0" and edits
    passes: list[int] = []
    monkeypatch.setattr(grid, "run_all", lambda tests: passes.append(len(tests)))
    assert main(["test", *same, *more, "decode.ratio=0.15", "decode.thre=0.15", "--json"]) == 0
    assert '"distinct_boxes_per_image"' in capsys.readouterr().out
    assert passes == []
    best = Path(run) / "checkpoints" / "best.ckpt"
    os.utime(best, (time.time() + 60, time.time() + 60))  # trained again: every result is of another network
    assert main(["test", *same, *more, "decode.ratio=0.15", "decode.thre=0.15"]) == 0
    assert passes == [42]
