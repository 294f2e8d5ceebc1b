"""What a table would run: rows, what they share, hours, missing data."""

from __future__ import annotations

import hashlib
import shlex
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from repose.engine import rundir
from repose.engine.start import left_of, start_of
from repose.errors import UserError
from repose.tables.cells import Cell
from repose.tables.runner import Task
from repose.tables.schema import Table
from repose.tables.state import Changed, State, judge


def unique(cells: Iterable[Cell]) -> list[Cell]:
    """Each run once, parents before the rows that test their checkpoint."""
    found: dict[str, Cell] = {}
    for cell in cells:
        for one in (cell.parent, cell):
            if one is not None:
                found.setdefault(one.key, one)
    return list(found.values())


def command_of(cell: Cell) -> list[str]:
    """Words after `repose` that compute a cell."""
    folder = f"log.dir={cell.folder}"
    if cell.parent:
        return ["test", *cell.arguments, f"checkpoint={cell.parent.folder}", folder]
    if cell.row.kind == "published":
        return ["test", *cell.arguments, f"checkpoint={cell.row.checkpoint}", folder]
    return ["train", *cell.arguments, "resume=auto", folder]


def label_of(cell: Cell) -> str:
    """Row, and seed where there are several."""
    seed = f" (seed {cell.loaded.cfg.seed})" if cell.choice.seeds > 1 else ""
    return f"{cell.table.name} {cell.row.label}{seed}"


def tasks(cells: Iterable[Cell], changed: Changed) -> list[Task]:
    """Cells as tasks for the runner, each run once, parents first."""
    return [
        Task(
            key=c.key,
            label=label_of(c),
            words=command_of(c),
            folder=c.folder,
            judge=partial(judge, c, changed),
            parent=c.parent.key if c.parent else None,
            start=left_of(c.loaded) if c.row.kind == "train" else None,
        )
        for c in unique(cells)
    ]


def check_published(cells: Iterable[Cell]) -> None:
    """Refuse a published checkpoint that is missing or is another file than the table's.

    Raises:
        UserError: names the file, and says where it comes from.
    """
    for cell in unique(cells):
        row = cell.row
        if row.kind != "published":
            continue
        path = Path(row.checkpoint)
        if not path.is_file():
            raise UserError(
                f"{cell.table.path}: row {row.label!r} needs {path}: {row.source or 'put the checkpoint there'}"
            )
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        # a converted file (`repose weights`) knows the sum of what it was made of
        if row.sha256 not in (found, _source_sum(path)):
            raise UserError(f"{path}: sha256 {found[:12]}..., the table {cell.table.name} wants {row.sha256[:12]}...")


def _source_sum(path: Path) -> str | None:
    from repose.engine.checkpoint import source_sha256

    return source_sha256(path)


def one_index(cells: Sequence[Cell], index: int) -> list[Cell]:
    """The i-th training of a table and the rows that test it: one task of a SLURM array.

    The order is the table's own and does not change as rows get measured: every task of the array gets another row.

    Raises:
        UserError: there is no such row; says how many there are.
    """
    roots = [c for c in unique(cells) if not c.parent]
    if not 0 <= index < len(roots):
        raise UserError(f"--index {index}: this table has {len(roots)} runs here, 0 to {len(roots) - 1}")
    chosen = roots[index].key
    return [c for c in unique(cells) if chosen in (c.key, c.parent.key if c.parent else "")]


@dataclass(frozen=True)
class PlanLine:
    """One row of a plan.

    Attributes:
        what: train, test, nothing (measured, quoted, not at this scale), or same run as another row.
        hours: estimate, None where nobody knows.
    """

    label: str
    what: str
    hours: float | None
    command: str


def plan(
    table: Table, runs: Mapping[str, Sequence[Cell]], states: Mapping[str, State], seen: dict[str, str] | None = None
) -> list[PlanLine]:
    """What --run would do, row by row.

    Args:
        table: the table.
        runs: row id -> cells.
        states: by cell key.
        seen: label of each run that stands above already, by cell key; parts of a table share one, which is added to.
    """
    seen = {} if seen is None else seen
    measured = [s.result for s in states.values() if s.status == "measured" and s.result]
    done = [float(r["hours"]) for r in measured if r.get("hours")]
    found: list[PlanLine] = []
    for row in table.rows.values():
        cells = runs[row.id]
        if not cells:
            why = row.kind.replace("-", " ") if not row.runs else "no form of its own at this scale"
            if row.kind == "published" and not row.checkpoint:
                why = f"name its file: checkpoint.{row.id}=FILE"
            found.append(PlanLine(row.label, f"nothing: {why}", None, ""))
        for cell in cells:
            label = label_of(cell).removeprefix(f"{table.name} ")
            if cell.key in seen:
                same = seen[cell.key].removeprefix(f"{table.name} ")
                found.append(PlanLine(label, f"nothing: the same run as {same}", None, ""))
                continue
            seen[cell.key] = label_of(cell)
            state = states[cell.key]
            if state.status in ("measured", "running"):
                found.append(PlanLine(label, f"nothing: {state}", None, ""))
                continue
            verb = "train" if row.kind == "train" else "test"
            test_of = f" the checkpoint of {cell.parent.row.label}" if cell.parent else ""
            hours = row.hours.get(cell.choice.scale)
            if hours is None and done and verb == "train":
                hours = statistics.median(done)
            found.append(PlanLine(label, f"{verb}{test_of} ({state})", hours, f"repose {shlex.join(command_of(cell))}"))
    return found


@dataclass(frozen=True)
class Estimate:
    """What is left to do.

    Attributes:
        trainings: of `cells` that are not measured.
        tests: likewise.
        hours: of the trainings whose length is known, side by side.
        unknown: trainings of unknown length.
        jobs: runs at a time.
    """

    trainings: int
    tests: int
    hours: float
    unknown: int
    jobs: int = 1

    def __str__(self) -> str:
        if not self.trainings:
            return f"{_many(self.tests, 'test')} to run"
        if self.unknown == self.trainings:
            return f"{_many(self.trainings, 'training')} of unknown length and {_many(self.tests, 'test')} to run"
        took = f"{60 * self.hours:.0f} min" if self.hours < 2 else f"{self.hours:.3g} h"
        more = f" and {self.unknown} of unknown length" if self.unknown else ""
        more += f", {self.jobs} at a time" if self.jobs > 1 else ""
        return (
            f"{_many(self.trainings, 'training')} and {_many(self.tests, 'test')} to run, about {took}{more} "
            "(the tables' estimates, or the median of what was measured here)"
        )


def _many(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def estimate(cells: Sequence[Cell], states: Mapping[str, State], jobs: int = 1) -> Estimate:
    """What --run would take.

    Args:
        cells: of one or more tables; a run that they share counts once.
        states: by cell key.
        jobs: runs at a time.
    """
    said: dict[str, float] = {}
    for cell in cells:
        if (hours := cell.row.hours.get(cell.choice.scale)) is not None:
            said.setdefault(cell.key, hours)
    found = [(c, states[c.key]) for c in unique(cells)]
    results = [s.result for _, s in found if s.status == "measured" and s.result]
    done = [float(r["hours"]) for r in results if r.get("hours")]
    todo = [c for c, s in found if s.status not in ("measured", "running")]
    train = [c for c in todo if not c.parent and c.row.kind == "train"]
    known = [said.get(c.key, statistics.median(done) if done else None) for c in train]
    side = max(min(jobs, len(train)), 1)
    hours = sum(h or 0.0 for h in known) / side
    return Estimate(len(train), len(todo) - len(train), hours, known.count(None), side)


def starts(cells: Sequence[Cell], states: Mapping[str, State]) -> str:
    """A line on the experiments that rows start from (`init=`) and that are not trained yet; "" without any.

    Their hours are those of a row that goes on from them, times the ratio of their epochs.

    Args:
        cells: of one or more tables.
        states: by cell key.
    """
    found: dict[str, float | None] = {}
    for cell in unique(cells):
        if cell.parent is None and cell.row.kind == "train" and states[cell.key].status != "measured":
            first = start_of(cell.loaded)
            if first is None or rundir.is_done(rundir.run_dir(first.cfg)):
                continue
            hours = cell.row.hours.get(cell.choice.scale)
            scaled = hours * first.cfg.train.epochs / cell.loaded.cfg.train.epochs if hours is not None else None
            name = str(cell.loaded.cfg.init)
            found[name] = scaled if found.get(name) is None else found[name]
    if not found:
        return ""
    known = [h for h in found.values() if h is not None]
    unknown = f" and {len(found) - len(known)} of unknown length" if len(known) < len(found) else ""
    return (
        f"and before them the trainings that rows start from, about {60 * sum(known):.0f} min{unknown} "
        f"by their epochs: {', '.join(found)}"
    )


def missing_data(cells: Iterable[Cell]) -> list[str]:
    """Data sets that the runs need and that are not here; each with what to do. Drawn ones are made on first use."""
    from repose.data.roots import data_file, find_root

    found: dict[str, None] = {}
    for cell in cells:
        data = cell.loaded.cfg.data
        try:
            root = find_root(data, cell.loaded.cfg.joint_set())
            for key in ("train_json", "val_json", *(("detections",) if data.boxes == "detections" else ())):
                data_file(root, str(getattr(data, key)), f"data.{key}", data)
        except UserError as error:
            drawn = f"{data.name}: drawn on first use"
            found[drawn if data.synthetic is not None else str(error)] = None
    return list(found)
