"""`repose reproduce`: the headline table of every paper, or every table, in one go; then README block and HTML page.

Each row is a process of its own that goes on where it was killed, and a measured row is skipped, so this command may be
stopped at any point and started again.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from repose.config import experiments_root
from repose.errors import UserError
from repose.tables import headline_picture, page, publish
from repose.tables import plan as plans
from repose.tables.cells import Cell, Choice, cells, choose, with_files
from repose.tables.cli import prepare_statistics, publish_rows, report_of, say_done, show
from repose.tables.report import Report
from repose.tables.runner import Jobs, Task, parse_gpus, run_tasks
from repose.tables.schema import Table, headline_tables
from repose.tables.spread import cores, runs_at_a_time, shared_cores
from repose.tables.state import Changed, State, changed_since, state_of

PICTURE = "headline.jpg"
"""Beside the page."""
POLL_S = 5.0
"""[s] between looks at runs that another process has in hand."""


@dataclass
class Work:
    """What is to be done, and what became of it.

    Attributes:
        runs: by table name; a table that cannot be resolved is not in it.
        states: of each run, by its key.
        reports: finished tables by name.
        problems: what failed, by table name.
        jobs: runs at a time.
    """

    choice: Choice
    changed: Changed
    tables: Sequence[Table]
    runs: dict[str, list[Cell]] = field(default_factory=dict[str, list[Cell]])
    states: dict[str, State] = field(default_factory=dict[str, State])
    reports: dict[str, Report] = field(default_factory=dict[str, Report])
    problems: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    jobs: int = 1

    @property
    def cells(self) -> list[Cell]:
        """Every run of every table."""
        return [c for found in self.runs.values() for c in found]

    def note(self, table: str, problem: str) -> None:
        """Remember what failed; the others go on."""
        self.problems.setdefault(table, []).append(problem)


def reproduce(words: list[str], flags: argparse.Namespace) -> int:
    """Run what is missing of the papers' headline tables, print them, and write the README's block and the page.

    Args:
        words: `key=value` tokens as of `repose table`.
        flags: all, plan, gpus, jobs, publish, out.

    Returns:
        0; 1 where a row or a table failed.
    """
    if names := [w for w in words if "=" not in w]:
        raise UserError(f"reproduce: takes no table, not {names[0]!r}; one table: repose table {names[0]} --run")
    choice = choose(words)
    tables = page.tables_of([]) if flags.all else headline_tables()
    work = Work(choice, changed_since(), with_files(tables, choice))
    gpus = parse_gpus(flags.gpus)
    _resolve(work)
    left = sum(s.status != "measured" for s in work.states.values())
    # smoke's networks are so small that most of a run is its start: several go together, on a GPU too
    several = str(min(cores(), 4)) if choice.scale == "smoke" else None
    work.jobs = len(gpus) or runs_at_a_time(work.cells, left, flags.jobs or several)
    _say_plan(work)
    if flags.plan:
        return 1 if work.problems else 0
    _run(work, gpus)
    for table in work.tables:
        if table.name not in work.reports:
            _finish(work, table)
    if flags.publish:
        _publish(work)
    readme = experiments_root().parent / "README.md"
    if readme.is_file() and publish.update_blocks(readme):
        print(f"{readme}: results blocks updated from the published rows")
    _page(work, flags.out)
    return _summary(work)


# --- before --------------------------------------------------------------------------------------------------------


def _resolve(work: Work) -> None:
    for table in work.tables:
        try:
            found = [c for each in cells(table, work.choice).values() for c in each]
            plans.check_published(found)
        except UserError as error:
            work.note(table.name, str(error))
            continue
        work.runs[table.name] = found
    if not work.runs:  # a word of the command line is wrong, not a table
        raise UserError(next(iter(work.problems.values()))[0])
    work.states = {c.key: state_of(c, work.changed) for c in plans.unique(work.cells)}


def _say_plan(work: Work) -> None:
    """The estimate, for all tables and for each."""
    every = plans.unique(work.cells)
    done = sum(work.states[c.key].status == "measured" for c in every)
    many = f"{len(work.tables)} table{'' if len(work.tables) == 1 else 's'}"
    _say(f"reproduce: {many} at scale {work.choice.scale}; {done} of {len(every)} runs are measured already")
    if done < len(every):
        _say(f"reproduce: {plans.estimate(work.cells, work.states, work.jobs)}")
    else:
        _say("reproduce: nothing to run")
    if starts := plans.starts(work.cells, work.states):
        _say(f"reproduce: {starts}")
    for table in work.tables:
        found = work.runs.get(table.name)
        if found is None:
            _say(f"  {table.name}: {work.problems[table.name][0]}")
        elif any(work.states[c.key].status != "measured" for c in plans.unique(found)):
            said, _, _ = str(plans.estimate(found, work.states, work.jobs)).partition(" (the tables'")
            _say(f"  {table.name}: {said}")
        else:
            _say(f"  {table.name}: {'measured' if found else 'nothing to run'}")
    for text in plans.missing_data(work.cells):
        _say(f"  data: {text}")


# --- running -------------------------------------------------------------------------------------------------------


def _run(work: Work, gpus: Sequence[str]) -> None:
    """Run what is missing; a table is printed as its last row ends."""
    for table in work.tables:
        try:
            prepare_statistics([table], work.choice)
        except UserError as error:
            work.note(table.name, str(error))
    todo = plans.tasks(work.cells, work.changed)
    todo = todo if gpus else shared_cores(todo, work.cells, work.jobs)
    before = {key for key, state in work.states.items() if state.status == "measured"}
    left = {name: {c.key for c in plans.unique(found)} for name, found in work.runs.items()}

    def done(task: Task, state: State) -> None:
        if task.key not in before or state.status != "measured":
            work.states[task.key] = state
            say_done(task, state)
            if (rest := plans.estimate(work.cells, work.states, work.jobs)).hours:
                _say(f"reproduce: left: {rest}")
        if not _is_open(state):
            for table in work.tables:
                keys = left.get(table.name, set())
                if task.key in keys:
                    keys.discard(task.key)
                    if not keys:
                        _finish(work, table)

    ended = run_tasks(todo, Jobs(gpus=gpus, jobs=work.jobs, on_done=done))
    said: set[str] = set()
    while waiting := [t for t in todo if _is_open(ended[t.key])]:
        for task in waiting:
            if task.key not in said and ended[task.key].status == "running":
                _say(f"{task.label}: {ended[task.key]}; waiting for it")
                said.add(task.key)
        time.sleep(POLL_S)
        again = {t.key for t in waiting} | {t.parent for t in waiting if t.parent}
        quiet = Jobs(gpus=gpus, jobs=work.jobs, on_done=lambda t, s: None if _is_open(s) else done(t, s))
        ended |= run_tasks([t for t in todo if t.key in again], quiet)


def _is_open(state: State) -> bool:
    """Whether another process has the run, or the one that it tests, in hand: a killed command's training lives on."""
    return state.status == "running" or (state.status == "not run" and state.reason.endswith("is running"))


def _finish(work: Work, table: Table) -> None:
    """Fill a table in and print it."""
    for cell in plans.unique(work.runs.get(table.name, ())):
        state = work.states[cell.key]
        if state.status != "measured":
            line = f"{plans.label_of(cell).removeprefix(f'{table.name} ')}: {state}"
            work.note(table.name, line)
    if table.name not in work.runs:
        return
    try:
        report = report_of(table, work.choice, work.changed)
        show(report)
    except Exception as error:  # hours of training stand behind the other tables: they are printed all the same
        work.note(table.name, f"cannot be printed: {type(error).__name__}: {error}")
        return
    work.reports[table.name] = report


# --- after ---------------------------------------------------------------------------------------------------------


def _publish(work: Work) -> None:
    for report in work.reports.values():
        try:
            publish_rows(report)
        except UserError as error:  # nothing of that table is measured
            _say(str(error))


def _page(work: Work, out: str | None) -> None:
    """Every table goes into the page, those that this command did not run as they are."""
    found: list[Report] = []
    for table in page.tables_of([]):
        try:
            report = work.reports.get(table.name) or report_of(table, work.choice, work.changed, count=False)
        except UserError as error:
            work.note(table.name, str(error))
            continue
        found.append(report)
    path = page.place(out, work.tables[0], work.choice)
    page.write(path, page.build(found, work.choice, _picture(work, found, path.with_name(PICTURE))))
    print(f"every table, as a page: {path}")


def _picture(work: Work, reports: Sequence[Report], path: Path) -> Path | None:
    """One image through the headline networks, where there are any; a table is worth more than its picture."""
    networks = headline_picture.networks(reports)
    if not networks:
        return None
    try:
        return headline_picture.draw(networks, "", work.choice.data, path)
    except UserError as error:
        work.note("the picture of the headline networks", str(error))
        return None


def _summary(work: Work) -> int:
    """One line per paper and what failed; returns the exit code."""
    every = plans.unique(work.cells)
    done = sum(work.states[c.key].status == "measured" for c in every)
    print(f"reproduce: {done} of {len(every)} runs measured at scale {work.choice.scale}")
    if not work.problems:
        return 0
    print("not reproduced:")
    for name, problems in work.problems.items():
        for text in dict.fromkeys(problems):
            print(f"  {name}: {text}")
    print("the same command again goes on where this one stopped")
    return 1


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
