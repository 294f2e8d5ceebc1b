"""`repose reproduce`: estimate first, all tables in one go, nothing twice, a failed row stops no other, kills."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from table_kit import FAKE, TABLE, Numbers, flags, same, smoke, work_in, write_table

from repose.errors import UserError
from repose.tables import cli, headline_picture, page, publish, reproduce, runner
from repose.tables.cells import cells
from repose.tables.schema import Table, headline_tables, load_table

NETWORKS = headline_picture.networks
HEADLINE = TABLE.replace("claims:", "headline: {row: seven, method: DRP-Net}\nclaims:").replace(
    "roi: {size: 5}}}}", "roi: {size: 5}}}, hours: {smoke: 0.5}}", 1
)
OTHER = """\
title: More sizes
source: Table 8
experiment: drpnet/m
rows:
  seven: {label: 7x7 again, set: {model: {roi: {size: 7}}}}
  eleven: {label: 11x11, set: {model: {roi: {size: 11}}}, hours: {smoke: 0.25}}
"""


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, root: Path) -> None:
    """An experiments folder with a headline table and another one; a fake program; constructed intervals."""
    import repose.tables.overview as overview
    import repose.tables.schema as schema

    work_in(tmp_path, root, monkeypatch)
    monkeypatch.setattr(runner, "PROGRAM", FAKE)
    monkeypatch.setenv("FAKE_COUNT", str(tmp_path / "count"))
    for module in (schema, publish, overview, cli, reproduce):
        monkeypatch.setattr(module, "experiments_root", lambda: tmp_path / "here")
    for module in (page, reproduce):
        monkeypatch.setattr(module, "changed_since", lambda: same)
    monkeypatch.setattr(cli, "Counted", lambda runs, count: Numbers())
    monkeypatch.setattr(reproduce, "POLL_S", 0.05)
    monkeypatch.setattr(headline_picture, "networks", lambda reports: [])  # the fake's checkpoints hold no network
    write_table(tmp_path, HEADLINE)
    write_table(tmp_path, OTHER, "table-8")


def wanted(**more: object) -> object:
    return flags(**{"all": False, "out": None, "jobs": "1", **more})


def steps(tmp_path: Path) -> list[str]:
    file = tmp_path / "count"
    return [" ".join(line.split()[:2]) for line in file.read_text().splitlines()] if file.exists() else []


def test_headline_tables_alone_then_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce.reproduce(["scale=smoke"], wanted()) == 0  # type: ignore[arg-type]
    shown = capsys.readouterr()
    first, *_ = shown.err.splitlines()
    assert first == "reproduce: 1 table at scale smoke; 0 of 3 runs are measured already"
    assert "2 trainings and 1 test to run, about 30 min and 1 of unknown length" in shown.err
    assert shown.err.index("to run, about 30 min") < shown.err.index("repose train"), "the estimate comes first"
    assert "5x5" in shown.out and "every table, as a page: runs/report.html" in shown.out
    assert "reproduce: 3 of 3 runs measured at scale smoke" in shown.out
    assert steps(tmp_path) == ["train 5", "train 7", "test 7"]
    text = Path("runs/report.html").read_text()
    assert "Table 9" in text and "Table 8" in text, "the page has every table"
    assert "nobody has run it here at scale smoke" in text

    assert reproduce.reproduce(["scale=smoke"], wanted(all=True)) == 0  # type: ignore[arg-type]
    shown = capsys.readouterr()
    assert "2 tables at scale smoke; 3 of 4 runs are measured already" in shown.err
    assert "1 training and 0 tests to run, about 15 min" in shown.err
    assert steps(tmp_path) == ["train 5", "train 7", "test 7", "train 11"]
    assert reproduce.reproduce(["scale=smoke"], wanted(all=True)) == 0  # type: ignore[arg-type]
    assert "nothing to run" in capsys.readouterr().err
    assert len(steps(tmp_path)) == 4


def test_a_picture_of_the_headline_networks_stands_on_the_page(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[list[tuple[str, Path]]] = []

    def draw(runs: list[tuple[str, Path]], image: str, data: str | None, out: Path) -> Path:
        seen.append(runs)
        cv2.imwrite(str(out), np.zeros((90, 120, 3), np.uint8))
        return out

    monkeypatch.setattr(headline_picture, "networks", NETWORKS)
    monkeypatch.setattr(headline_picture, "draw", draw)
    assert reproduce.reproduce(["scale=smoke"], wanted()) == 0  # type: ignore[arg-type]
    ((name, folder),) = seen[0]
    assert name == "DRP-Net" and (folder / "checkpoints" / "best.ckpt").is_file()
    assert 'width="120" height="90" alt="one image through' in Path("runs/report.html").read_text()
    assert Path("runs/headline.jpg").is_file()

    def broken(runs: list[tuple[str, Path]], image: str, data: str | None, out: Path) -> Path:
        raise UserError("no such image")

    monkeypatch.setattr(headline_picture, "draw", broken)
    assert reproduce.reproduce(["scale=smoke"], wanted()) == 1  # type: ignore[arg-type]
    assert "the picture of the headline networks: no such image" in capsys.readouterr().out


def test_plan_runs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce.reproduce(["scale=smoke"], wanted(all=True, plan=True)) == 0  # type: ignore[arg-type]
    said = capsys.readouterr().err
    assert "3 trainings and 1 test to run, about 45 min and 1 of unknown length" in said
    assert "drpnet/8: 2 trainings" in said
    assert "data: synthetic: drawn on first use" in said
    assert not steps(tmp_path) and not Path("runs").exists()


def test_trainings_that_rows_start_from_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce.reproduce(["scale=smoke", "init=drpnet/m"], wanted(plan=True)) == 0  # type: ignore[arg-type]
    said = capsys.readouterr().err
    assert "before them the trainings that rows start from, about 30 min by their epochs: drpnet/m" in said


def test_a_failed_row_stops_nothing_and_is_named_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_FAIL", "5")
    assert reproduce.reproduce(["scale=smoke"], wanted(all=True)) == 1  # type: ignore[arg-type]
    assert steps(tmp_path) == ["train 7", "train 11", "train 5", "test 7"]
    out = capsys.readouterr().out
    end = out[out.index("not reproduced:") :]
    assert "drpnet/9: 5x5: failed: exit code 3: the fake ran out of memory; log:" in end
    assert "drpnet/8" not in end
    assert "reproduce: 3 of 4 runs measured" in out
    assert "failed" in Path("runs/report.html").read_text()
    monkeypatch.delenv("FAKE_FAIL")
    assert reproduce.reproduce(["scale=smoke"], wanted(all=True)) == 0  # type: ignore[arg-type]
    assert "reproduce: 4 of 4 runs measured" in capsys.readouterr().out, "a failed row is tried again"


def test_a_table_that_cannot_be_resolved_stops_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_table(tmp_path, OTHER.replace("{roi: {size: 11}}", "{roy: {size: 11}}"), "table-8")
    assert reproduce.reproduce(["scale=smoke"], wanted(all=True)) == 1  # type: ignore[arg-type]
    shown = capsys.readouterr()
    assert "did you mean 'model.roi.size'" in shown.err.partition("repose train")[0], "said before anything runs"
    assert "unknown key 'model.roy" in shown.out[shown.out.index("not reproduced:") :]
    assert steps(tmp_path) == ["train 5", "train 7", "test 7"]


def test_publishing_fills_the_readmes_headline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("A\n<!-- results:headline:smoke -->\n<!-- /results -->\nB\n")
    assert reproduce.reproduce(["scale=smoke"], wanted()) == 0  # type: ignore[arg-type]
    text = readme.read_text()
    assert "| DRP-Net | 7x7, Table 9 | 74.1 | – | – / – | – / – | not published |" in text
    assert not (tmp_path / "here" / "drpnet" / "results").exists(), "nothing is published unasked"
    assert reproduce.reproduce(["scale=smoke"], wanted(publish=True)) == 0  # type: ignore[arg-type]
    text = readme.read_text()
    row = "| DRP-Net | 7x7, Table 9 | 74.1 | 50.0 [48.0, 52.0] | – / 14.900 | – / 2.160 | measured |"
    assert row in text and text.startswith("A\n") and text.endswith("<!-- /results -->\nB\n")
    assert "- DRP-Net: data synthetic" in text and "commit abc1234def" in text
    assert "comparable neither with the paper's nor between methods" in text
    assert publish.readme_blocks_current(readme)
    capsys.readouterr()
    assert reproduce.reproduce(["scale=smoke"], wanted(publish=True)) == 0  # type: ignore[arg-type]
    assert "results blocks updated" not in capsys.readouterr().out


def test_user_errors() -> None:
    with pytest.raises(UserError, match="takes no table, not 'drpnet/3'; one table: repose table drpnet/3 --run"):
        reproduce.reproduce(["drpnet/3"], wanted())  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no scale"):
        reproduce.reproduce(["scale=tiny"], wanted())  # type: ignore[arg-type]
    with pytest.raises(UserError, match="--gpus 'x'"):
        reproduce.reproduce(["scale=smoke"], wanted(gpus="x"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{row: eight, method: A}", "no row 'eight' in this table; there are: five, seven"),
        ("{row: seven}", "`headline` needs `method`"),
        ("{rwo: seven, method: A}", "unknown key 'headline.rwo'; did you mean 'row'"),
        ("seven", "must be a mapping"),
    ],
)
def test_a_wrong_headline_is_one_clear_line(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(UserError, match=why):
        write_table(tmp_path, TABLE.replace("claims:", f"headline: {text}\nclaims:"))


def test_one_headline_per_paper(tmp_path: Path) -> None:
    assert [t.name for t in headline_tables()] == ["drpnet/9"]
    write_table(tmp_path, HEADLINE, "table-7")
    with pytest.raises(UserError, match="drpnet/7 has one already; one per paper"):
        headline_tables()


def test_every_paper_has_a_headline(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import repose.tables.schema as schema
    from repose import papers

    monkeypatch.setattr(schema, "experiments_root", lambda: root / "experiments")
    found: list[Table] = headline_tables()
    folders = {p.parent.name for p in (root / "experiments").glob("*/captions.csv")}
    assert {t.paper for t in found} == folders
    assert [t.paper for t in found] == [name for name in papers.PAPERS if name in folders]
    for table in found:
        assert table.headline is not None
        row = table.rows[table.headline.row]
        assert row.kind == "train" and row.role == "own" and "AP" in row.paper
        for one in table.rows.values():
            mini = one.kind == "train" and (not one.at or "mini" in one.at)
            assert "mini" in one.hours or not mini, f"{table.name} {one.id}: an estimate needs its hours"


# --- kills ---------------------------------------------------------------------------------------------------------

PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from table_kit import FAKE, Numbers, flags, same
import repose.tables.overview as overview
import repose.tables.schema as schema
from repose.tables import cli, headline_picture, page, publish, reproduce, runner
headline_picture.networks = lambda reports: []
runner.PROGRAM = FAKE
for module in (schema, publish, overview, cli, reproduce):
    module.experiments_root = lambda: Path("here")
reproduce.changed_since = lambda: same
cli.Counted = lambda runs, count: Numbers()
reproduce.POLL_S = 0.1
sys.exit(reproduce.reproduce(["scale=smoke"], flags(all=True, out=None, jobs="1")))
"""


@pytest.mark.parametrize("group", [True, False], ids=["with its training", "alone"])
def test_killed_again_and_again(tmp_path: Path, group: bool) -> None:
    """SIGKILL at moving moments: it ends with every row measured, and no step that was kept is done twice."""
    words = [sys.executable, "-c", PROGRAM.format(tests=str(Path(__file__).parent))]
    env = {**os.environ, "FAKE_STEPS": "6", "FAKE_STEP_S": "0.1"}

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, cwd=tmp_path
        )

    count = tmp_path / "count"
    for n in range(3):
        child = start()
        target = (count.read_text().count("\n") if count.exists() else 0) + 3 + n
        end = time.monotonic() + 60
        while (not count.exists() or count.read_text().count("\n") < target) and child.poll() is None:
            assert time.monotonic() < end, "no row made a step"
            time.sleep(0.01)
        if group:
            os.killpg(child.pid, signal.SIGKILL)
        else:
            child.kill()
        child.communicate()
    out, err = start().communicate(timeout=120)
    text = out.decode()
    assert "reproduce: 4 of 4 runs measured at scale smoke" in text, text + err.decode()
    assert "every table, as a page" in text
    done = [line.split()[:4] for line in count.read_text().splitlines()]
    assert all(done.count(step) <= 2 for step in done), "a kept step is not done again; the one at the kill may be"
    assert len(done) <= 4 * 6 + 3
    for table in (load_table(p) for p in (tmp_path / "here" / "drpnet" / "tables").glob("*.yaml")):
        for found in cells(table, smoke()).values():
            assert all(json.loads((c.folder / "result.json").read_text())["status"] == "done" for c in found)
