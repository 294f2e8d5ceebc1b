import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from table_kit import FAKE, TABLE, Numbers, same, smoke, work_in, write_table

from repose.config import ExperimentBase, identity, load
from repose.engine import locks, rundir
from repose.engine.provenance import code_fingerprint
from repose.errors import UserError
from repose.tables import plan, runner, spread
from repose.tables.cells import Choice, add_row, as_argument, cell, cells
from repose.tables.report import build
from repose.tables.runner import Jobs, parse_gpus, run_tasks
from repose.tables.schema import Table, find_tables
from repose.tables.state import Changed, State, changed_since, judge, state_of


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, root: Path) -> None:
    work_in(tmp_path, root, monkeypatch)
    monkeypatch.setattr(runner, "PROGRAM", FAKE)
    monkeypatch.setenv("FAKE_COUNT", str(tmp_path / "count"))


def steps(tmp_path: Path) -> list[str]:
    file = tmp_path / "count"
    return file.read_text().splitlines() if file.exists() else []


def todo(table: Table, choice: Choice, changed: Changed = same) -> list[runner.Task]:
    return plan.tasks([c for found in cells(table, choice).values() for c in found], changed)


def quiet(**more: object) -> Jobs:
    return Jobs(say=lambda line: None, **more)  # type: ignore[arg-type]


def test_each_run_once_parents_first_and_nothing_twice(tmp_path: Path) -> None:
    table, choice = write_table(tmp_path), smoke()
    tasks = todo(table, choice)
    assert len(tasks) == 3  # 7x7 is the default, so `again` is the same run; 9x9 has no form at smoke
    assert [t.words[0] for t in tasks] == ["train", "train", "test"]
    states = run_tasks(tasks, quiet())
    assert {s.status for s in states.values()} == {"measured"}
    assert [line.split()[:2] for line in steps(tmp_path)] == [["train", "5"], ["train", "7"], ["test", "7"]]
    log = (cell(table, table.rows["five"], choice).folder / "output.log").read_text()
    assert "fake train of ROI 5" in log
    assert {s.status for s in run_tasks(todo(table, choice), quiet()).values()} == {"measured"}
    assert len(steps(tmp_path)) == 3


def test_the_subprocess_computes_the_same_identity(tmp_path: Path) -> None:
    from repose import papers

    table, choice = write_table(tmp_path), smoke("optim.base_lr=1e-3", "seeds=2")
    for found in cells(table, choice).values():
        for c in found:
            loaded = load(c.arguments[0], c.arguments[1:], find_paper=papers.get)
            assert identity(loaded.cfg) == identity(c.loaded.cfg)
            assert loaded.cfg.log.group == "drpnet/9"
            assert (
                loaded.cfg.paper_value["AP"] == c.row.paper.get("AP", loaded.cfg.paper_value["AP"]) or not c.row.paper
            )
    assert cells(table, choice)["five"][1].loaded.cfg.seed == 22


@pytest.mark.parametrize("value", [1e-05, 3, True, None, "1:2", "None", "a, b: c", [256, 192], [], 0.5, "x 'y'"])
def test_arguments_survive_the_command_line(value: object) -> None:
    from repose.config import parse_arguments

    layer, _ = parse_arguments([as_argument("k", value)])
    assert layer.values == {"k": value}


def test_a_failed_row_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_FAIL", "7")
    table, choice = write_table(tmp_path), smoke()
    done: list[str] = []
    run_tasks(todo(table, choice), quiet(on_done=lambda t, s: done.append(f"{t.label}: {s.status}")))
    assert done == ["drpnet/9 5x5: measured", "drpnet/9 7x7: failed", "drpnet/9 coarse points: not run"]
    report = build(table, choice, same, Numbers(), {})
    seven = next(x for x in report.lines if x.row.id == "seven")
    assert seven.status == "failed"
    assert "exit code 3: the fake ran out of memory; log: " in seven.reason
    assert any(n.startswith("7x7: failed: exit code 3") for n in report.notes)
    monkeypatch.delenv("FAKE_FAIL")
    assert {s.status for s in run_tasks(todo(table, choice), quiet()).values()} == {"measured"}


RUN_ALL = """\
import sys
from pathlib import Path
sys.path.insert(0, {kit!r})
from table_kit import FAKE, same, smoke
from repose.tables import plan, runner, spread
from repose.tables.cells import cells
from repose.tables.schema import load_table
runner.PROGRAM = FAKE
found = cells(load_table(Path({table!r})), smoke())
states = runner.run_tasks(plan.tasks([c for f in found.values() for c in f], same), runner.Jobs())
print([s.status for s in states.values()])
"""


def start(tmp_path: Path, table: Table) -> "subprocess.Popen[str]":
    code = RUN_ALL.format(kit=str(Path(__file__).parent), table=str(table.path))
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", code], stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def wait_for(tmp_path: Path, lines: int) -> None:
    for _ in range(2000):
        if len(steps(tmp_path)) >= lines:
            return
        time.sleep(0.01)
    raise AssertionError(f"only {steps(tmp_path)}")


@pytest.mark.parametrize("whole_group", [True, False])
def test_killed_at_any_point_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole_group: bool) -> None:
    monkeypatch.setenv("FAKE_STEPS", "6")
    monkeypatch.setenv("FAKE_STEP_S", "0.1")
    table, choice = write_table(tmp_path), smoke()
    seven = cell(table, table.rows["seven"], choice)
    first = start(tmp_path, table)
    wait_for(tmp_path, 8)  # in the middle of the second row
    if whole_group:
        os.killpg(first.pid, signal.SIGKILL)
    else:
        os.kill(first.pid, signal.SIGKILL)  # its training lives on and keeps the lock
        assert state_of(seven, same).status == "running"
        while locks.owner(seven.folder):
            time.sleep(0.02)
    first.communicate()
    states = run_tasks(todo(table, choice), quiet())
    assert {s.status for s in states.values()} == {"measured"}
    per_run: dict[str, list[int]] = {}
    for line in steps(tmp_path):
        verb, roi, _, step, *_ = line.split()
        per_run.setdefault(f"{verb} {roi}", []).append(int(step))
    assert per_run == {k: [1, 2, 3, 4, 5, 6] for k in ("train 5", "train 7", "test 7")}  # no step done twice


def test_sigterm_stops_the_training_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_STEPS", "1000")
    monkeypatch.setenv("FAKE_STEP_S", "0.02")
    table, choice = write_table(tmp_path), smoke()
    process = start(tmp_path, table)
    wait_for(tmp_path, 1)
    process.terminate()
    process.communicate(timeout=60)
    five = cell(table, table.rows["five"], choice)
    assert locks.owner(five.folder) is None
    assert judge(five, same).status == "stopped"


def test_two_processes_share_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_STEPS", "10")
    monkeypatch.setenv("FAKE_STEP_S", "0.05")
    table, choice = write_table(tmp_path), smoke()
    both = [start(tmp_path, table), start(tmp_path, table)]
    outputs = [p.communicate(timeout=60) for p in both]
    assert all(p.returncode == 0 for p in both), outputs
    monkeypatch.setenv("FAKE_STEPS", "10")
    run_tasks(todo(table, choice), quiet())
    assert len(steps(tmp_path)) == 30  # three runs of ten steps: nothing was run twice


def test_gpus_run_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_gpus("0-2,5") == ["0", "1", "2", "5"]
    with pytest.raises(UserError, match="write 0-3 or 0,2"):
        parse_gpus("all")
    table, choice = write_table(tmp_path), smoke()
    run_tasks(todo(table, choice), quiet(gpus=["4", "6"]))
    used = {tuple(line.split()[:2]): line.split()[4] for line in steps(tmp_path)}
    assert {used["train", "5"], used["train", "7"]} == {"4", "6"}


def test_runs_for_cpus_share_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread, "cores", lambda: 4)
    table = write_table(tmp_path)
    gpu, cpu = (
        [c for found in cells(table, smoke(word)).values() for c in found]
        for word in ("train.accelerator=auto", "train.accelerator=cpu")
    )
    assert spread.runs_at_a_time(gpu, 3, None) == 1
    assert [spread.runs_at_a_time(cpu, left, None) for left in (0, 1, 3, 9)] == [1, 1, 3, 4]
    assert spread.runs_at_a_time(gpu, 3, "2") == 2
    with pytest.raises(UserError, match="--jobs 0: give a whole number above 0"):
        spread.runs_at_a_time(cpu, 3, "0")
    tasks = plan.tasks(cpu, same)
    assert spread.shared_cores(tasks, cpu, 1) == tasks
    assert all(t.words[-1] == "train.threads=2" for t in spread.shared_cores(tasks, cpu, 2))
    given = plan.tasks([c for f in cells(table, smoke("train.threads=3")).values() for c in f], same)
    assert spread.shared_cores(given, cpu, 2) == given
    waiting = [replace(t, start=Path("start")) for t in tasks]
    alone = spread.shared_cores(waiting, cpu, 2)
    assert all(t.words[-2:] == ["train.threads=2", "train.start_threads=4"] for t in alone)
    beside = spread.shared_cores([tasks[0], *waiting[1:]], cpu, 2)
    assert "train.start_threads=2" in beside[1].words and beside[0].words[-1] == "train.threads=2"


def test_runs_that_wait_for_one_start_leave_their_places_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two places: the first of a start's runs trains it beside a run of its own; the second begins as it is done."""
    start = tmp_path / "start"
    began = {name: threading.Event() for name in ("first", "second", "other")}

    def run(task: runner.Task, *_: object) -> State:
        began[task.key].set()
        if task.key == "first":
            assert began["other"].wait(20)
            assert not began["second"].wait(0.5)
            start.mkdir()
            rundir.write_json(start / rundir.RESULT, {"status": "done"})
            assert began["second"].wait(20), "before the first run itself has ended"
        return State("measured")

    monkeypatch.setattr(runner, "_run", run)
    monkeypatch.setattr(runner, "POLL_S", 0.05)
    keys = {"first": start, "second": start, "other": None}
    tasks = [runner.Task(k, k, [], tmp_path / k, lambda: State("not run"), start=s) for k, s in keys.items()]
    assert {s.status for s in run_tasks(tasks, quiet(jobs=2)).values()} == {"measured"}


def test_runs_side_by_side_say_whose_line_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, choice = write_table(tmp_path), smoke()
    states = run_tasks(todo(table, choice), quiet(jobs=2))
    assert {s.status for s in states.values()} == {"measured"}
    lines = capsys.readouterr().err.splitlines()
    assert "drpnet/9 5x5: fake train of ROI 5" in lines
    assert "drpnet/9 7x7: fake train of ROI 7" in lines


def test_stale_names_the_file_and_is_trained_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import repose.tables.state as state

    monkeypatch.setattr(state, "data_fingerprint", lambda cfg: "today")
    monkeypatch.setenv("FAKE_CODE", json.dumps(code_fingerprint("drpnet")))
    table, choice = write_table(tmp_path), smoke()
    run_tasks(todo(table, choice, changed_since()), quiet())
    five = cell(table, table.rows["five"], choice)
    assert judge(five, changed_since()).status == "measured"

    file = five.folder / "result.json"
    result = json.loads(file.read_text())
    result["code_fingerprint"]["papers/drpnet/losses.py"] = "yesterday"
    result["metrics"]["AP"] = 0.123
    file.write_text(json.dumps(result))
    found = judge(five, changed_since())
    assert str(found) == "stale: losses.py changed"
    line = build(table, choice, changed_since(), Numbers(), {}).lines[0]
    assert (line.status, dict(line.values), line.interval) == ("stale", {}, None)

    run_tasks(todo(table, choice, changed_since()), quiet())
    assert judge(five, changed_since()).status == "measured"
    kept = list(five.folder.parent.glob("*.old-1"))
    assert len(kept) == 1  # the old run is set aside, not deleted
    assert json.loads((kept[0] / "result.json").read_text())["metrics"]["AP"] == 0.123

    monkeypatch.setattr(state, "data_fingerprint", lambda cfg: "tomorrow")
    assert str(judge(five, changed_since())) == "stale: the annotations or boxes of synthetic changed"
    monkeypatch.setattr(state, "data_fingerprint", lambda cfg: None)
    assert judge(five, changed_since()).status == "measured"  # data not here: nothing to compare with


def test_a_test_of_a_newer_checkpoint_is_stale(tmp_path: Path) -> None:
    table, choice = write_table(tmp_path), smoke()
    run_tasks(todo(table, choice), quiet())
    coarse = cell(table, table.rows["coarse"], choice)
    assert judge(coarse, same).status == "measured"
    assert coarse.parent is not None
    weights = coarse.parent.folder / "checkpoints" / "best.ckpt"
    os.utime(weights, (time.time() + 5, time.time() + 5))
    assert str(judge(coarse, same)) == "stale: its checkpoint was trained again"


def test_a_test_that_was_killed_before_it_began_goes_on(tmp_path: Path) -> None:
    table, choice = write_table(tmp_path), smoke()
    run_tasks(todo(table, choice), quiet())
    coarse = cell(table, table.rows["coarse"], choice)
    (coarse.folder / "result.json").unlink()  # its folder and log are there
    assert judge(coarse, same).status == "stopped"
    assert {s.status for s in run_tasks(todo(table, choice), quiet()).values()} == {"measured"}


def test_an_index_is_one_training_and_its_tests(tmp_path: Path) -> None:
    table, choice = write_table(tmp_path), smoke()
    found = [c for f in cells(table, choice).values() for c in f]
    assert [c.row.id for c in plan.one_index(found, 0)] == ["five"]
    assert [c.row.id for c in plan.one_index(found, 1)] == ["seven", "coarse"]
    with pytest.raises(UserError, match="this table has 2 runs here, 0 to 1"):
        plan.one_index(found, 2)


def test_added_row(tmp_path: Path) -> None:
    table, choice = write_table(tmp_path), smoke()
    more = add_row(table, "model.roi.size=11,data.input_size=[128, 96]")
    yours = cell(more, more.rows["yours"], choice).loaded.cfg
    assert (yours.model.roi.size, yours.data.input_size) == (11, (128, 96))  # type: ignore[attr-defined]
    based = add_row(table, "five:optim.base_lr=1e-3")
    cfg = cell(based, based.rows["yours"], choice).loaded.cfg
    assert (cfg.model.roi.size, cfg.optim.base_lr) == (5, 1e-3)  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="no row 'nine'"):
        add_row(table, "nine:seed=3")
    with pytest.raises(UserError, match="is not a setting"):
        add_row(table, "roi")


def test_a_row_of_ones_own_wins_at_every_scale(tmp_path: Path) -> None:
    """Over its base's `set_<scale>`; the table's and the base's other settings stay."""
    rates = "set_smoke: {train: {epochs: 3}, optim: {base_lr: 0.5}}\nrows:"
    table = write_table(tmp_path, TABLE.replace("rows:", rates).replace("set_paper: {", "set_smoke: {seed: 4, "))

    def yours(text: str, scale: str = "smoke") -> ExperimentBase:
        more = add_row(table, text)
        return cell(more, more.rows["yours"], Choice(scale)).loaded.cfg

    mine = yours("seven:seed=5,train.epochs=2")
    assert (mine.seed, mine.train.epochs) == (5, 2)
    assert (mine.optim.base_lr, mine.data.boxes) == (0.5, "detections")
    assert yours("seven:seed=5", "mini").data.boxes == "gt", "set_smoke is of that scale"
    tested = yours("coarse:train.epochs=2")
    assert (tested.seed, tested.data.boxes) == (4, "detections"), "the trained row's set_smoke"
    assert (yours("coarse:seed=5").seed, tested.decode.read_out) == (5, "coarse")  # type: ignore[attr-defined]
    assert yours("seed=5,optim.base_lr=0.1").optim.base_lr == 0.1


def test_a_row_of_ones_own_has_the_data_of_the_row_that_its_base_tests(tmp_path: Path) -> None:
    table = write_table(tmp_path, TABLE.replace("label: 7x7,", "label: 7x7, data_smoke: synthetic-pairs,"))
    assert table.data_of(add_row(table, "coarse:seed=5").rows["yours"], "smoke") == "synthetic-pairs"


def test_a_row_of_ones_own_in_a_table_with_a_recipe_per_scale() -> None:
    table = find_tables("cganet/4")[0]
    rows = {}
    for text in ("hourglass:train.epochs=5", "hourglass:optim.base_lr=0.1", "ours:train.epochs=5"):
        more = add_row(table, text)
        rows[text] = cell(more, more.rows["yours"], Choice("lite")).loaded.cfg
    assert [cfg.train.epochs for cfg in rows.values()] == [5, 50, 5]
    assert [cfg.optim.base_lr for cfg in rows.values()] == [5e-4, 0.1, 1e-3]


def test_lock_of_a_dead_process_is_free_and_of_another_machine_waits(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with locks.claim(folder) as mine:
        assert mine is not None
        with locks.claim(folder) as second:
            assert second is None
        assert str(locks.owner(folder)) == f"process {os.getpid()}"
    assert locks.owner(folder) is None
    path = locks.path_of(folder)
    path.write_text(json.dumps({"pid": 1, "host": "elsewhere"}))
    with locks.claim(folder) as held:
        assert held is None
    os.utime(path, (time.time() - 2 * locks.LOST_S,) * 2)
    with locks.claim(folder) as held:
        assert held is not None
