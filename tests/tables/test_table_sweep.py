import json
from pathlib import Path

import pytest
from table_kit import FAKE, flags, same, work_in

from repose.config import experiments_root, identity, parse_arguments
from repose.errors import UserError
from repose.tables import cli, runner
from repose.tables.cells import cells, choose
from repose.tables.schema import find_tables
from repose.tables.sweep import load_sweep, runs

SWEEP = """\
program: repose
method: grid
description: "table: drpnet/3"
metric: {name: AP, goal: maximize}
parameters:
  model.roi.size: {values: [5, 7]}
  test.flip: {values: [true, false]}
  init: {value: null}
  loss:
    parameters:
      sigma: {value: 2.0}
command: ["${env}", "${interpreter}", -m, repose, train, drpnet/m, scale=smoke, "${args_no_hyphens}"]
"""

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "sweeps").glob("*.yaml"))


def write(tmp_path: Path, text: str = SWEEP) -> Path:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    return path


def agent_words(path: Path) -> list[list[str]]:
    """Command lines as W&B's own agent builds them, for the cells of a sweep in order."""
    from wandb.sdk.launch.sweeps import utils

    sweep = load_sweep(path)
    found: list[list[str]] = []
    for one in sweep.cells:
        made = utils.create_sweep_command_args({"args": {k: {"value": v} for k, v in one.items()}})
        macros = {"env": ["/usr/bin/env"], "interpreter": ["python"], "program": [sweep.program], **made}
        words: list[str] = []
        for word in utils.create_sweep_command(list(sweep.command)):
            words += macros[word[2:-1]] if word.startswith("${") else [word]
        found.append([str(w) for w in words])
    return found


def test_order_and_words_are_wandbs(tmp_path: Path) -> None:
    path = write(tmp_path)
    sweep = load_sweep(path)
    assert [(c["model.roi.size"], c["test.flip"]) for c in sweep.cells] == [
        (5, True), (5, False), (7, True), (7, False),
    ]  # fmt: skip
    assert sweep.table == "drpnet/3"
    lines = [sweep.words(c) for c in sweep.cells]
    assert lines == agent_words(path)
    assert lines[0][-4:] == ["model.roi.size=5", "test.flip=True", "init=None", "loss={'sigma': 2.0}"]
    first = runs(sweep)[0]
    cfg = first.loaded.cfg
    assert (cfg.model.roi.size, cfg.test.flip, cfg.init, cfg.loss.sigma) == (5, True, None, 2.0)  # type: ignore[attr-defined]
    assert runs(sweep, ["test.flip=false"])[0].loaded.cfg.test.flip is False


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_sweep_is_its_table(path: Path) -> None:
    sweep = load_sweep(path)
    assert sweep.table, f'{path}: name its table in `description: "table: ..."`'
    lines = agent_words(path)
    assert lines == [sweep.words(c) for c in sweep.cells]
    for line in lines:
        start = max(i for i, w in enumerate(line) if w in ("train", "test"))
        parse_arguments(line[start + 2 :])  # after the verb and the experiment
    (table,) = find_tables(sweep.table)
    tests = sweep.repose_words(sweep.cells[0])[0] == "test"  # a grid over one checkpoint
    kind, more = ("eval", ["checkpoint=RUN"]) if tests else ("train", [])
    scale = next(w for w in sweep.command if w.startswith("scale="))  # the one that it runs at
    rows = {c.identity for found in cells(table, choose([scale])).values() for c in found if c.row.kind == kind}
    made = {identity(r.loaded.cfg) for r in runs(sweep, more)}
    assert made >= rows and len(made) == sum(r.kind == kind for r in table.rows.values())  # some rows wait for lite


def test_there_are_the_sweeps_of_the_paper() -> None:
    assert {"drpnet-roi-size", "drpnet-loss-weights", "drpnet-sigma"} <= {p.stem for p in FILES}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "${args_no_hyphens}",
            "${arg_no_hyphens}",
            "unknown macro ${arg_no_hyphens} (W&B would drop it silently)",
        ),
        ("${args_no_hyphens}", "${args}", "use ${args_no_hyphens}"),
        (', "${args_no_hyphens}"', "", "every run would be the same default"),
        ("method: grid", "method: bayes", "bayes needs W&B's server"),
        ("method: grid", "method: gird", "method must be grid or random"),
        ("method: grid", "method: random", "needs `run_cap"),
        (
            "parameters:\n  model",
            "paramters:\n  model",
            "a.yaml:5: unknown key 'paramters'; did you mean 'parameters'",
        ),
        ("{values: [5, 7]}", "{value: [5, 7], vales: 3}", "a.yaml:6: unknown key 'vales' of parameter"),
        ("{values: [5, 7]}", "{min: 5, max: 7}", "method grid needs `value` or `values` for 'model.roi.size'"),
        ("repose, train", "repos, train", "command must call `repose train` or `repose test`"),
        ("train, drpnet/m", "train, drpnet/n", "no experiment 'drpnet/n'"),
        ("model.roi.size", "model.roi.sise", "unknown key 'model.roi.sise'; did you mean 'model.roi.size'"),
    ],
)
def test_mistakes(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in SWEEP
    with pytest.raises(UserError) as error:
        runs(load_sweep(write(tmp_path, SWEEP.replace(old, new))))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_random_is_drawn_once_for_all(tmp_path: Path) -> None:
    text = SWEEP.replace("method: grid", "method: random\nrun_cap: 5").replace(
        "{values: [true, false]}", "{value: true}"
    )
    text = text.replace("  init:", "  optim.base_lr: {min: 1e-4, max: 1e-2, distribution: log_uniform_values}\n  init:")
    path = write(tmp_path, text)
    first, again = load_sweep(path).cells, load_sweep(path).cells
    assert first == again  # so a stopped sweep goes on with the same runs
    rates = [c["optim.base_lr"] for c in first]
    assert len(set(rates)) == 5
    assert all(1e-4 <= r <= 1e-2 for r in rates)


def test_it_runs_resumes_and_takes_an_index(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    work_in(tmp_path, root, monkeypatch)
    monkeypatch.setattr(runner, "PROGRAM", FAKE)
    monkeypatch.setattr(cli, "changed_since", lambda: same)
    monkeypatch.setenv("FAKE_COUNT", str(tmp_path / "count"))
    monkeypatch.setenv("FAKE_FAIL", "5")
    path = str(write(tmp_path))
    assert cli.sweep([path], flags(dry_run=True)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("repose train drpnet/m scale=smoke model.roi.size=5 test.flip=True init=None")
    assert cli.sweep([path], flags(index="2")) == 0
    assert len((tmp_path / "count").read_text().splitlines()) == 1
    assert cli.sweep([path], flags(jobs="2", json=True)) == 1  # the two with ROI 5 fail, the others run
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert [bool(r["measured"]) for r in rows] == [False, False, True, True]
    assert len((tmp_path / "count").read_text().splitlines()) == 4
    monkeypatch.delenv("FAKE_FAIL")
    assert cli.sweep([path], flags()) == 0
    assert "the table of these runs: repose table drpnet/3" in capsys.readouterr().out
    with pytest.raises(UserError, match="this sweep has 4 runs, 0 to 3"):
        cli.sweep([path], flags(index="4"))
    assert experiments_root().name == "experiments"
