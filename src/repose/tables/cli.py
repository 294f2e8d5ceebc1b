"""`repose table` and `repose sweep`."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from repose.config import experiments_root
from repose.engine import rundir
from repose.errors import UserError
from repose.tables import plan as plans
from repose.tables import publish as published
from repose.tables import sweep as sweeps
from repose.tables.cells import Cell, Choice, add_row, at_scale, cell, cells, choose, with_files
from repose.tables.numbers import Counted
from repose.tables.overview import elsewhere, overview, print_overview
from repose.tables.render import print_report, to_json, write_files
from repose.tables.report import Report, build, shown
from repose.tables.runner import Jobs, Task, parse_gpus, run_tasks
from repose.tables.schema import Table, find_tables, inner
from repose.tables.spread import positive, runs_at_a_time, shared_cores
from repose.tables.state import Changed, State, changed_since, state_of


def table(words: list[str], flags: argparse.Namespace) -> int:
    """Print a paper's table, after running what is missing if `--run` asks for it.

    Args:
        words: the table's name and `key=value` tokens; no name lists every table.
        flags: json, run, plan, gpus, index, add, publish.

    Returns:
        0; 1 where a row failed.
    """
    changed = changed_since()
    if not words or "=" in words[0]:
        return _list(choose(words), changed, flags)
    choice = choose(words[1:])
    tables = with_files(_found(words[0]), choice)
    if flags.add:
        tables = [add_row(t, flags.add) for t in tables]
    if flags.plan:
        return _plan(tables, choice, changed, flags)
    failed = 0
    if flags.run or flags.index is not None:
        failed = _run(words[0], tables, choice, changed, flags)
    reports = [report_of(t, choice, changed) for t in tables]
    for report in reports:
        show(report, as_json=flags.json)
        if flags.publish:
            publish_rows(report)
    if flags.json:
        print(json.dumps(rundir.without_nan(_one(reports))))
    elif not flags.add and any(row.runs for t in tables for row in t.rows.values()):
        _next(words[0], tables, choice)
    return 1 if failed else 0


def _found(name: str) -> list[Table]:
    try:
        return find_tables(name)
    except UserError:
        if said := elsewhere(name):
            raise UserError(f"{name} has no table: {said}") from None
        raise


def _list(choice: Choice, changed: Changed, flags: argparse.Namespace) -> int:
    for name in ("run", "plan", "gpus", "index", "add", "publish"):
        if getattr(flags, name):
            raise UserError(f"table: --{name} needs a table: repose table drpnet/3 --{name}")
    entries = overview(choice, changed)
    if flags.json:
        print(json.dumps({"rows": [e.__dict__ for e in entries]}))
    else:
        print_overview(entries)
    return 0


def report_of(table: Table, choice: Choice, changed: Changed, count: bool = True) -> Report:
    """A table filled in from the runs of this machine; without `count` only costs that were counted before."""
    numbers = Counted(runs_of(table, choice), count)
    return build(table, choice, changed, numbers, published.read_published(table, choice.scale))


def runs_of(table: Table, choice: Choice) -> Path:
    """Folder of all runs (`log.runs`), as the table's first run has it."""
    row = next((r for r in table.rows.values() if r.kind == "train" and at_scale(r, choice.scale)), None)
    return Path(cell(table, row, choice).loaded.cfg.log.runs if row else "runs")


def show(report: Report, as_json: bool = False) -> None:
    """Write a table's files, and print it where no JSON is wanted."""
    files = write_files(report, runs_of(report.table, report.choice))
    if not as_json:
        print_report(report)
        print(f"written: {', '.join(map(str, files))}")


def publish_rows(report: Report) -> None:
    """Append a table's rows to its results file, and bring the README's blocks up to date."""
    added = published.publish(report)
    what = f"added {', '.join(added)}" if added else "nothing new"
    print(f"{published.results_file(report.table)}: {what}", file=sys.stderr)
    readme = experiments_root().parent / "README.md"
    if readme.is_file() and published.update_blocks(readme):
        print(f"{readme}: results blocks updated", file=sys.stderr)


def _one(reports: Sequence[Report]) -> dict[str, Any]:
    """One JSON object: a single table's own, or the parts' rows in one list, each naming its table."""
    found = [to_json(r) for r in reports]
    if len(found) == 1:
        return found[0]
    rows = [{"table": one["table"], **row} for one in found for row in one["rows"]]
    claims = [c for one in found for c in one["claims"]]
    return {"tables": [one["table"] for one in found], "rows": rows, "claims": claims}


def _next(name: str, tables: Sequence[Table], choice: Choice) -> None:
    changed_key = next((k for t in tables for r in t.rows.values() for k in _example(r.set)), "optim.base_lr=1e-3")
    words = shlex.join(choice.words)
    print(f"a row of your own: repose table {name} --run {words} --add {changed_key}")


def _example(values: dict[str, Any], prefix: str = "") -> list[str]:
    """A setting like those of the rows, with another number."""
    found: list[str] = []
    for key, value in values.items():
        if isinstance(value, dict):
            found += _example(inner(values, key), f"{prefix}{key}.")
        elif isinstance(value, int) and not isinstance(value, bool):
            found.append(f"{prefix}{key}={value + 6}")
        elif isinstance(value, float) and value:
            found.append(f"{prefix}{key}={value * 0.75:g}")
    return found


# --- running -------------------------------------------------------------------------------------------------------


def _wanted(tables: Sequence[Table], choice: Choice, flags: argparse.Namespace) -> list[Cell]:
    """The cells to run: all, with --add the new row alone, with --index one training and what tests it."""
    runs = [cells(t, choice) for t in tables]
    found = [c for one in runs for i in (["yours"] if flags.add else one) for c in one[i]]
    if flags.index is None:
        return found
    if not str(flags.index).isdigit():
        raise UserError(f"--index {flags.index}: give a whole number")
    return plans.one_index(found, int(flags.index))


def _run(name: str, tables: Sequence[Table], choice: Choice, changed: Changed, flags: argparse.Namespace) -> int:
    """Run the rows of a table, or of all parts of one (a run that they share once); returns how many failed."""
    wanted = _wanted(tables, choice, flags)
    plans.check_published(wanted)
    gpus = parse_gpus(flags.gpus)
    prepare_statistics(tables, choice)
    todo = plans.tasks(wanted, changed)
    states = {c.key: state_of(c, changed) for c in plans.unique(wanted)}
    before = {key for key, state in states.items() if state.status == "measured"}
    if before:
        _say(f"{name}: {len(before)} of {len(todo)} runs are measured already")
    jobs = len(gpus) or runs_at_a_time(wanted, len(todo) - len(before), flags.jobs)
    if len(before) < len(todo):
        parts = f" ({', '.join(t.name for t in tables)})" if len(tables) > 1 else ""
        _say(f"{name}{parts}: {plans.estimate(wanted, states, jobs)}")
        if starts := plans.starts(wanted, states):
            _say(f"{name}: {starts}")

    def done(task: Task, state: State) -> None:
        if task.key in before and state.status == "measured":
            return
        states[task.key] = state
        say_done(task, state)
        left = plans.estimate(wanted, states, jobs)
        if left.hours:
            _say(f"{name}: left: {left}")

    spread = todo if gpus else shared_cores(todo, wanted, jobs)
    ended = run_tasks(spread, Jobs(gpus=gpus, jobs=jobs, on_done=done))
    return sum(s.status not in ("measured", "running") for s in ended.values())


def prepare_statistics(tables: Sequence[Table], choice: Choice) -> None:
    """Draw the data sets that statistic rows need, where they are drawn ones: such a row has no run that would."""
    for one in tables:
        for row in one.rows.values():
            if row.kind == "statistic" and at_scale(row, choice.scale):
                from repose.tables import statistics

                statistics.prepare(cell(one, row, choice))


def say_done(task: Task, state: State) -> None:
    """A line as each row ends."""
    result = state.result or {}
    ap = inner(result, "metrics").get("AP") if state.status == "measured" else None
    hours = float(result.get("hours") or 0)
    took = f", {60 * hours:.1f} min" if hours else ""
    _say(f"{task.label}: {state if ap is None else f'AP {100 * ap:.1f}{took}'}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


# --- plan ----------------------------------------------------------------------------------------------------------


def _plan(tables: Sequence[Table], choice: Choice, changed: Changed, flags: argparse.Namespace) -> int:
    found: list[dict[str, Any]] = []
    hours, unknown = 0.0, 0
    seen: dict[str, str] = {}
    every: list[Cell] = []
    states: dict[str, State] = {}
    for one in tables:
        runs = cells(one, choice)
        every += (c for r in runs.values() for c in r)
        states |= {c.key: state_of(c, changed) for c in plans.unique(every) if c.key not in states}
        for line in plans.plan(one, runs, states, seen):
            found.append({"table": one.name, **line.__dict__})
            hours += line.hours or 0.0
            unknown += line.hours is None and line.what.startswith("train")
    missing = plans.missing_data(every)
    if flags.json:
        print(json.dumps({"rows": found, "hours": hours, "unknown": unknown, "missing_data": missing}))
        return 0
    for row in found:
        took = f", about {row['hours']:.3g} h" if row["hours"] is not None else ""
        print(f"{row['table']} {row['label']}: {row['what']}{took}")
        if row["command"]:
            print(f"    {row['command']}")
    print(f"in all about {hours:.3g} h" + (f", and {unknown} trainings of unknown length" if unknown else ""))
    if starts := plans.starts(every, states):
        print(starts)
    for text in missing:
        print(f"data: {text}")
    return 0


# --- sweeps --------------------------------------------------------------------------------------------------------


def sweep(words: list[str], flags: argparse.Namespace) -> int:
    """Run a W&B sweep file here.

    Args:
        words: the file and `key=value` tokens, which win over the file's.
        flags: json, jobs, index, dry_run.

    Returns:
        0; 1 where a run failed.
    """
    if not words or "=" in words[0]:
        raise UserError("sweep: name a sweep file, for example: repose sweep sweeps/drpnet-roi-size.yaml")
    one = sweeps.load_sweep(Path(words[0]))
    runs = sweeps.runs(one, words[1:])
    if flags.index is not None:
        if not str(flags.index).isdigit() or int(flags.index) >= len(runs):
            raise UserError(f"--index {flags.index}: this sweep has {len(runs)} runs, 0 to {len(runs) - 1}")
        runs = [runs[int(flags.index)]]
    jobs = positive(flags.jobs or "1", "--jobs")
    changed = changed_since()
    todo = sweeps.tasks(one, runs, changed)
    if flags.dry_run:
        for task in todo:
            print(f"repose {shlex.join(task.words)}")
        return 0
    before = {t.key for t in todo if t.judge().status == "measured"}

    def done(task: Task, state: State) -> None:
        if task.key not in before or state.status != "measured":
            say_done(task, state)

    say = Jobs(jobs=jobs, on_done=done)
    states = run_tasks(todo, say)
    rows = [_sweep_row(t, states[t.key], one.metric) for t in todo]
    if flags.json:
        print(json.dumps({"sweep": str(one.path), "table": one.table, "rows": rows}))
    else:
        for row in rows:
            value = row["measured"]
            print(f"{row['label']}: {shown('AP', value['AP']) if value else row['status']}")
        if one.table:
            print(f"the table of these runs: repose table {one.table} {' '.join(_overlays(words[1:]))}".rstrip())
    return 1 if any(s.status == "failed" for s in states.values()) else 0


def _sweep_row(task: Task, state: State, metric: str) -> dict[str, Any]:
    values = inner(state.result or {}, "metrics") if state.status == "measured" else {}
    keep = {k: v for k, v in values.items() if k in ("AP", metric)}
    return {"label": task.label, "status": str(state), "measured": keep or None, "folder": str(task.folder)}


def _overlays(words: Sequence[str]) -> list[str]:
    return [w for w in words if w.startswith(("scale=", "data="))]
