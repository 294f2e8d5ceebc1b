"""How many runs go at a time, and how many threads each has."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from repose.errors import UserError
from repose.tables.cells import Cell
from repose.tables.runner import Task


def runs_at_a_time(cells: Sequence[Cell], left: int, wanted: str | None) -> int:
    """How many of the runs that are left go side by side where no GPUs are named.

    Without a wish it is one per core if all are for CPUs: a small network uses a second core badly, and as soon as
    something else wants that core, its threads wait for each other.

    Args:
        cells: all runs.
        left: how many are not measured.
        wanted: `--jobs`, if given.

    Raises:
        UserError: `--jobs` is no number above 0.
    """
    if wanted is not None:
        most = positive(wanted, "--jobs")
    else:
        most = cores() if all(c.loaded.cfg.train.accelerator == "cpu" for c in cells) else 1
    return max(min(most, left), 1)


def shared_cores(tasks: Sequence[Task], cells: Sequence[Cell], jobs: int) -> list[Task]:
    """The tasks with as many threads as `jobs` of them have cores for, unless their words say how many.

    A training that they go on from has the cores of those that wait for it.
    """
    if jobs == 1:
        return list(tasks)
    most = max((c.loaded.cfg.train.threads or cores() for c in cells), default=1)
    at_once = len({t.start or t.key for t in tasks if t.parent is None})

    def threads(side_by_side: int) -> int:
        return max(min(cores() // side_by_side, most), 1)

    def spread(task: Task) -> Task:
        if any(word.startswith("train.threads=") for word in task.words):
            return task
        own = [f"train.threads={threads(jobs)}"]
        if task.start:
            own.append(f"train.start_threads={threads(min(jobs, at_once))}")
        return replace(task, words=[*task.words, *own])

    return [spread(t) for t in tasks]


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def positive(text: str, what: str) -> int:
    """A whole number above 0.

    Raises:
        UserError: it is none.
    """
    if not text.isdigit() or int(text) < 1:
        raise UserError(f"{what} {text}: give a whole number above 0")
    return int(text)
