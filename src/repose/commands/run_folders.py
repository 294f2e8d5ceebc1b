"""The run folders below `runs/`: found, read, named and judged, for `repose runs`, `diff` and `compare`."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from repose import papers
from repose.config import SCHEMA, ExperimentBase, leaves, load_saved, nearest, read_yaml
from repose.engine import locks, provenance, rundir
from repose.errors import UserError
from repose.tables.schema import inner
from repose.tables.state import data_fingerprint, files_changed, judge_run, younger_checkpoint

RUNS = "runs"
"""Where runs lie unless `log.runs` says otherwise."""
Word = Literal["done", "stale", "running", "stopped", "failed", "unreadable"]
_INSIDE = {"checkpoints", "pictures", "wandb"}
"""Folders of a run that hold no runs."""


@dataclass(frozen=True)
class Standing:
    """How far a run is.

    Attributes:
        word: done; stale (done, but its code or data changed since); running; stopped (not finished, goes on with
            `resume=auto`); failed; unreadable (a file of it is damaged).
        reason: what changed, who runs it, or what is wrong.
    """

    word: Word
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.word}: {self.reason}" if self.reason else self.word


@dataclass(frozen=True)
class RunFolder:
    """A run, or a test of one.

    Attributes:
        path: its folder.
        name: the folder below `runs/`, as commands take it.
        result: result.json; {} where there is none.
        settings: config.yaml as dotted leaves; {} where there is none.
        raw: config.yaml as it is nested.
        damage: what could not be read, one line; "" if all could.
    """

    path: Path
    name: str
    result: dict[str, Any] = field(default_factory=dict[str, Any])
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    raw: dict[str, Any] = field(default_factory=dict[str, Any])
    damage: str = ""

    @property
    def is_test(self) -> bool:
        """Whether it is an evaluation of a run's checkpoint or predictions."""
        return self.path.parent.name == "tests"

    @property
    def metrics(self) -> dict[str, float]:
        """Numbers of result.json's `metrics`."""
        found = inner(self.result, "metrics")
        return {k: float(v) for k, v in found.items() if isinstance(v, int | float) and not isinstance(v, bool)}

    @property
    def data(self) -> str:
        """Name of the evaluated data set."""
        return str(inner(self.result, "data").get("name") or self.settings.get("data.name") or "")

    @property
    def protocol(self) -> dict[str, str]:
        """How it was evaluated, by name: values of different protocols are never subtracted or ranked."""
        result = self.result
        return {
            "data": self.data,
            "boxes": str(result.get("box_source")),
            "flip": "yes" if result.get("flip") else "no",
            "test scales": ", ".join(f"{s:g}" for s in result.get("test_scales") or [1.0]),
            "OKS area": str(result.get("oks_area")),
            "scale": str(result.get("scale")),
        }

    @property
    def title(self) -> str:
        """For people: the title, else the name of the experiment."""
        return str(self.settings.get("title") or self.result.get("title") or self.settings.get("name") or self.name)

    def config(self) -> ExperimentBase:
        """The resolved config.

        Raises:
            UserError: no config.yaml, or one of another schema or of a paper that is not installed.
        """
        file = self.path / rundir.CONFIG
        if not self.raw:
            raise UserError(self.damage or f"{file}: no such file; the run ended before it began")
        return load_saved(self.raw, str(file), find_paper=papers.get).cfg


def read_run(path: Path, name: str = "") -> RunFolder:
    """A run folder, whatever state its files are in."""
    result: dict[str, Any] = {}
    raw: dict[str, Any] = {}
    damage: list[str] = []
    try:
        result = rundir.read_result(path) or {}
    except UserError as error:
        damage.append(str(error))
    try:
        raw = read_yaml(path / rundir.CONFIG)[0] if (path / rundir.CONFIG).is_file() else {}
    except UserError as error:
        damage.append(str(error))
    return RunFolder(path, name or str(path), result, dict(leaves(raw)), raw, "; ".join(damage))


def find_runs(root: Path) -> list[RunFolder]:
    """Every run and test below a folder, by name.

    Raises:
        UserError: there is no such folder, or no run in it.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; runs are made by `repose train EXPERIMENT`, or give runs=FOLDER")
    found: list[RunFolder] = []
    for here, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if f not in _INSIDE and not f.startswith("."))
        if {rundir.RESULT, rundir.CONFIG, "exit.json"} & set(files):
            path = Path(here)
            found.append(read_run(path, str(path.relative_to(root))))
    if not found:
        raise UserError(f"{root}: no run in it; `repose train EXPERIMENT` makes one")
    return found


def open_run(name: str, root: Path) -> RunFolder:
    """The run that a folder, a name below `runs/`, a part of it (the identity, say) or `NAME/tests/...` means.

    Raises:
        UserError: no such run (names the nearest one), or several.
    """
    for path in (Path(name), root / name):
        if (path / rundir.RESULT).is_file() or (path / rundir.CONFIG).is_file():
            return read_run(path, name)
    if Path(name).is_dir():
        raise UserError(
            f"{name}: no {rundir.CONFIG} or {rundir.RESULT} in it, so it is no run folder; see `repose runs`"
        )
    if Path(name).is_file():
        raise UserError(f"{name}: is a file; name the run's folder")
    every = find_runs(root)
    fits = [r for r in every if name in r.name and not r.is_test]
    if len(fits) > 1:
        exact = [r for r in fits if r.settings.get("name") == name or r.path.name == name]
        fits = exact if len(exact) == 1 else fits
    if len(fits) > 1:
        shown = ", ".join(r.name for r in fits[:4]) + (f" and {len(fits) - 4} more" if len(fits) > 4 else "")
        raise UserError(f"{name}: means {len(fits)} runs: {shown}; write more of the name")
    if fits:
        return fits[0]
    raise UserError(f"no run {name!r} below {root}; {_nearest_run(name, every)}")


def _nearest_run(name: str, every: Sequence[RunFolder]) -> str:
    words: dict[str, str] = {}
    for run in every:
        for word in (run.name, run.path.name, run.path.name.rpartition("-")[2], str(run.settings.get("name") or "")):
            words.setdefault(word, run.name)
    hint = nearest(name, words)
    return f"did you mean {words[hint[0]]!r}?" if hint else "`repose runs` lists them"


class Judge:
    """How far runs are; code and data are looked at once for all runs that share them: a long list takes seconds."""

    def __init__(self) -> None:
        self._code: dict[tuple[str, str | None, str, str], dict[str, str]] = {}
        self._data: dict[str, str | None] = {}

    def standing(self, run: RunFolder) -> Standing:
        """How far a run is."""
        if held := locks.owner(run.path):
            return Standing("running", f"by {held}")
        if run.damage:
            return Standing("unreadable", run.damage)
        if not run.raw:
            return Standing("failed", str(run.result.get("error") or "it ended before it began"))
        try:
            papers.get(str(run.raw.get("paper")))
            if run.raw.get("schema") != SCHEMA:
                run.config()
            # what is compared is the run's own config, which need not be resolved for that
            found = judge_run(run.path, cast("Any", run), lambda _, result: self._changed(run, result))
        except UserError as error:
            return Standing("unreadable", str(error))
        if found.status == "measured":
            if run.is_test and younger_checkpoint(run.path, run.path.parents[1]):
                return Standing("stale", "its checkpoint was trained again")
            return Standing("done")
        if found.status == "failed":
            return Standing("failed", str(run.result.get("error") or found.reason))
        if found.status == "stale" and run.result.get("status") == "done":
            return Standing("stale", found.reason)
        return Standing("stopped", f"{found.reason} since" if found.status == "stale" else "go on with resume=auto")

    def _changed(self, run: RunFolder, result: dict[str, Any]) -> str:
        """What changed in code and data since a result was written; "" if nothing did."""
        runtime = str(inner(run.raw, "test").get("runtime", "torch"))  # older configs do not have it
        code = (str(run.raw.get("paper")), run.raw.get("init"), str(run.raw.get("scale")), runtime)
        if code not in self._code:
            self._code[code] = provenance.code_fingerprint(*code)
        if files := provenance.stale(result, self._code[code]):
            return files_changed(files)
        data = json.dumps([run.raw.get("data"), run.raw.get("skeleton")], sort_keys=True, default=str)
        if data not in self._data:
            self._data[data] = data_fingerprint(run.config())
        now, then = self._data[data], inner(result, "data").get("fingerprint")
        if now is not None and then is not None and now != then:
            return f"the annotations or boxes of {run.data} changed"
        return ""
