"""Whether a run's number is today's: its config, the code it ran and the data it saw are all still the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from repose.config import ExperimentBase, to_dict
from repose.engine import locks
from repose.engine.rundir import read_result
from repose.errors import UserError
from repose.tables.cells import Cell
from repose.tables.schema import inner

Status = Literal["measured", "stale", "running", "stopped", "failed", "not run"]


@dataclass(frozen=True)
class State:
    """A run's state.

    Attributes:
        status: measured; stale (its code or data changed since); running (by another process); stopped (killed, goes on
            with --run); failed; not run.
        reason: what changed, who runs it, or where the log is.
        result: result.json; of a stale run too, but its numbers are never shown as today's.
    """

    status: Status
    reason: str = ""
    result: dict[str, Any] | None = None

    def __str__(self) -> str:
        return f"{self.status}: {self.reason}" if self.reason else self.status


Changed = Callable[[ExperimentBase, dict[str, Any]], str]
"""What changed since a result was written ("losses.py changed"), or an empty string."""


def state_of(cell: Cell, changed: Changed) -> State:
    """State of a cell, as everybody sees it."""
    if held := locks.owner(cell.folder):
        return State("running", f"by {held}")
    return judge(cell, changed)


def judge(cell: Cell, changed: Changed) -> State:
    """State of a cell from its run folder alone, whoever holds the lock."""
    found = judge_run(cell.folder, cell.loaded.cfg, changed)
    if cell.parent and found.result is not None and found.status in ("measured", "stopped"):
        parent = judge(cell.parent, changed)
        if parent.status != "measured":
            return State("stale", f"the run it tests is {parent.status}", found.result)
        if younger_checkpoint(cell.folder, cell.parent.folder):
            return State("stale", "its checkpoint was trained again", found.result)
    return found


def judge_run(folder: Path, cfg: ExperimentBase, changed: Changed) -> State:
    """State of one run folder.

    Args:
        folder: may be missing.
        cfg: what the run is to compute.
        changed: compares its result with today's code and data.
    """
    result = read_result(folder) if folder.is_dir() else None
    status = result.get("status") if result else None
    if status != "done" and (why := _exit(folder) or ("see the log" if status == "failed" else "")):
        return State("failed", f"{why}; log: {log_of(folder)}", result)
    if result is None:
        return State("stopped", "killed; --run goes on") if log_of(folder).exists() else State("not run")
    if what := changed(cfg, result):
        return State("stale", what, result)
    if status != "done":
        return State("stopped", "killed; --run goes on where it stopped", result)
    return State("measured", "", result)


def changed_since() -> Changed:
    """The real judge: compares a result's code and data with today's, looking each up once."""
    from repose.engine import provenance

    data: dict[str, str | None] = {}

    def changed(cfg: ExperimentBase, result: dict[str, Any]) -> str:
        # not kept: the code may be edited while a table runs for hours
        if files := provenance.stale(result, provenance.code_of(cfg)):
            return files_changed(files)
        key = json.dumps(to_dict(cfg.data), sort_keys=True)
        if key not in data:
            data[key] = data_fingerprint(cfg)
        then = inner(result, "data").get("fingerprint")
        if data[key] is not None and then is not None and then != data[key]:
            return f"the annotations or boxes of {cfg.data.name} changed"
        return ""

    return changed


def files_changed(files: list[str]) -> str:
    """Which files changed, in a few words."""
    names = [Path(f).name if Path(f).name != "__init__.py" else f for f in files]
    return f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''} changed"


def data_fingerprint(cfg: ExperimentBase) -> str | None:
    """Fingerprint of the data set as it lies here, or None where it is not here."""
    from repose.data.boxes import fingerprint
    from repose.data.roots import find_root

    try:
        return fingerprint(cfg.data, find_root(cfg.data, cfg.joint_set()))
    except UserError:
        return None


def _exit(folder: Path) -> str:
    """How the last process in a run folder ended, if badly; the runner notes it: a crash may come before any result."""
    try:
        return str(json.loads((folder / "exit.json").read_text())["why"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def younger_checkpoint(tested: Path, trained: Path) -> bool:
    """Whether a run was trained again since a test of its checkpoint."""
    when = (tested / "result.json").stat().st_mtime
    return any(p.stat().st_mtime > when for p in (trained / "checkpoints").glob("*.ckpt"))


def log_of(folder: Path) -> Path:
    """What a run printed."""
    return folder / "output.log"
