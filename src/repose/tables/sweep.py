"""W&B's sweep files, run here: same file, same order, same command lines; no server, no account.

A file's `description: "table: drpnet/3"` names the table whose rows the sweep is.
"""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from repose import papers
from repose.config import Loaded, identity, load, load_saved, nearest, parse_arguments, read_yaml
from repose.errors import UserError
from repose.tables.cells import existing_or_new
from repose.tables.runner import Task
from repose.tables.schema import inner
from repose.tables.state import Changed, judge_run

KEYS = (
    "program", "method", "metric", "parameters", "command", "name", "description", "project", "entity", "run_cap",
    "early_terminate",
)  # fmt: skip
DEFAULT_COMMAND = ("${env}", "${interpreter}", "${program}", "${args}")
ARGS = "${args_no_hyphens}"
MACROS = ("env", "interpreter", "program", "args_no_hyphens")
_OTHER_ARGS = ("args", "args_no_equals", "args_no_boolean_flags", "args_json", "args_json_file", "args_append_hydra")
_MACRO = re.compile(r"\$\{([^}:]*)\}")
_ENVVAR = re.compile(r"\$\{envvar:(\w+)\}")
DISTRIBUTIONS = ("uniform", "int_uniform", "log_uniform_values", "q_uniform")
"""Distributions of method random that are drawn here as W&B defines them."""


@dataclass(frozen=True)
class Sweep:
    """A sweep file.

    Attributes:
        cells: settings of each run, in W&B's order: as declared, the last parameter fastest.
        command: words, macros not yet replaced.
        table: the table it belongs to, or empty.
    """

    path: Path
    method: str
    metric: str
    cells: Sequence[dict[str, Any]]
    command: Sequence[str]
    program: str
    table: str

    def words(self, cell: dict[str, Any]) -> list[str]:
        """The command line of one run, as W&B's agent builds it."""
        known = {"env": "/usr/bin/env", "interpreter": "python", "program": self.program}
        found: list[str] = []
        for word in self.command:
            if word == ARGS:
                found += [f"{key}={value}" for key, value in cell.items()]
            else:
                word = _ENVVAR.sub(lambda m: os.environ[m[1]], word)
                found.append(_MACRO.sub(lambda m: known[m[1]], word))
        return found

    def repose_words(self, cell: dict[str, Any]) -> list[str]:
        """What follows `repose` in that line.

        Raises:
            UserError: the command does not call `repose train` or `repose test`.
        """
        words = self.words(cell)
        for i, word in enumerate(words):
            if word in ("train", "test") and i and (Path(words[i - 1]).name in ("repose", "__main__.py")):
                return words[i:]
        raise UserError(f"{self.path}: command must call `repose train` or `repose test`; it is: {' '.join(words)}")


def load_sweep(path: Path) -> Sweep:
    """Read, check and expand a sweep file.

    Raises:
        UserError: an unknown key or macro, a parameter without values, a method that needs the server; with line and
            nearest key.
    """
    values, lines = read_yaml(path)

    def where(key: str) -> str:
        return f"{path}:{lines[key]}" if key in lines else str(path)

    for key in values:
        if key not in KEYS:
            hint = nearest(str(key), KEYS)
            fix = f"did you mean {hint[0]!r}?" if hint else f"known: {', '.join(KEYS)}"
            raise UserError(f"{where(key)}: unknown key {key!r}; {fix}")
    method = values.get("method")
    if method == "bayes":
        raise UserError(f"{where('method')}: bayes needs W&B's server: `wandb sweep {path}`; grid and random run here")
    if method not in ("grid", "random"):
        raise UserError(f"{where('method')}: method must be grid or random, not {method!r}")
    parameters = inner(values, "parameters")
    if not parameters:
        raise UserError(f"{where('parameters')}: `parameters` must name at least one setting")
    cap = values.get("run_cap")
    if method == "random" and not isinstance(cap, int):
        raise UserError(f"{path}: method random needs `run_cap: <number of runs>` to run here")
    flat = dict(_flatten(parameters, (), where))
    found = list(_grid(flat, where)) if method == "grid" else [_draw(flat, i, where) for i in range(int(str(cap)))]
    found = [_nested(one) for one in (found[:cap] if isinstance(cap, int) else found)]
    metric = inner(values, "metric")
    match = re.search(r"table:\s*(\S+)", str(values.get("description") or ""))
    return Sweep(
        path=path,
        method=str(method),
        metric=str(metric.get("name", "")),
        cells=found,
        command=_command(values, where),
        program=str(values.get("program") or ""),
        table=match[1] if match else "",
    )


def _command(values: dict[str, Any], where: Any) -> list[str]:
    command: Any = values.get("command", list(DEFAULT_COMMAND))
    if not isinstance(command, list):
        raise UserError(f"{where('command')}: command must be a list of words")
    words = [str(w) for w in cast("list[Any]", command)]
    for word in words:
        for name in _ENVVAR.findall(word):
            if name not in os.environ:
                raise UserError(f"{where('command')}: ${{envvar:{name}}} is not set in this shell")
        for name in _MACRO.findall(word):
            if name in _OTHER_ARGS:
                raise UserError(
                    f"{where('command')}: use {ARGS}, not ${{{name}}}: repose takes key=value without dashes"
                )
            if name not in MACROS:
                hint = nearest(name, MACROS)
                fix = f"did you mean ${{{hint[0]}}}?" if hint else f"known: {', '.join(MACROS)}"
                raise UserError(f"{where('command')}: unknown macro ${{{name}}} (W&B would drop it silently); {fix}")
    if ARGS not in words:
        raise UserError(f"{where('command')}: no {ARGS} as a word of its own: every run would be the same default")
    if "${program}" in words and not values.get("program"):
        raise UserError(f"{where('program')}: the command uses ${{program}}, but `program` is not set")
    return words


Place = tuple[str, ...]
"""A parameter's name; nested ones have several parts."""


def _flatten(parameters: dict[str, Any], above: Place, where: Any) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Parameter -> its block."""
    for key in parameters:
        block = inner(parameters, key)
        here = (*above, str(key))
        place = _line_key(here)
        if not block:
            raise UserError(f"{where(place)}: parameter {key!r} needs `value`, `values`, or `min` and `max`")
        if deeper := inner(block, "parameters"):
            yield from _flatten(deeper, here, where)
            continue
        known = ("value", "values", "min", "max", "distribution", "probabilities", "mu", "sigma", "q")
        for name in block:
            if name not in known:
                hint = nearest(str(name), known)
                fix = f"did you mean {hint[0]!r}?" if hint else f"known: {', '.join(known)}"
                raise UserError(f"{where(f'{place}.{name}')}: unknown key {name!r} of parameter {key!r}; {fix}")
        yield here, block


def _line_key(place: Place) -> str:
    return "parameters." + ".parameters.".join(place)


def _nested(values: dict[Place, Any]) -> dict[str, Any]:
    """Values by top-level name, nested ones as dicts: what the agent prints."""
    found: dict[str, Any] = {}
    for place, value in values.items():
        node = found
        for part in place[:-1]:
            node = node.setdefault(part, {})
        node[place[-1]] = value
    return found


def _grid(flat: dict[Place, dict[str, Any]], where: Any) -> Iterator[dict[Place, Any]]:
    choices: list[list[Any]] = []
    for key, block in flat.items():
        if "value" in block:
            choices.append([block["value"]])
        elif isinstance(block.get("values"), list) and block["values"]:
            choices.append(block["values"])
        else:
            raise UserError(f"{where(_line_key(key))}: method grid needs `value` or `values` for {'.'.join(key)!r}")
    for values in itertools.product(*choices):
        yield dict(zip(flat, values, strict=True))


def _draw(flat: dict[Place, dict[str, Any]], number: int, where: Any) -> dict[Place, Any]:
    """One draw of method random; the same for a run number every time, so that a stopped sweep goes on."""
    rng = np.random.default_rng([number, 21])
    return {key: _one(key, block, rng, where) for key, block in flat.items()}


def _one(key: Place, block: dict[str, Any], rng: np.random.Generator, where: Any) -> Any:
    if "value" in block:
        return block["value"]
    if "values" in block:
        return block["values"][int(rng.choice(len(block["values"]), p=block.get("probabilities")))]
    low: Any = block.get("min")
    high: Any = block.get("max")
    whole = isinstance(low, int) and isinstance(high, int)
    kind = str(block.get("distribution", "int_uniform" if whole else "uniform"))
    if kind == "normal":
        mean, deviation = float(block.get("mu", 0.0)), float(block.get("sigma", 1.0))
        return float(rng.normal(mean, deviation))
    if kind not in DISTRIBUTIONS or low is None or high is None:
        fix = f"give `values`, or `min` and `max` with {', '.join(DISTRIBUTIONS)}"
        raise UserError(f"{where(_line_key(key))}: {'.'.join(key)!r}: {fix}")
    if kind == "int_uniform":
        return int(rng.integers(int(low), int(high) + 1))
    if kind == "log_uniform_values":
        return float(math.exp(rng.uniform(math.log(low), math.log(high))))
    value = float(rng.uniform(low, high))
    return round(value / block.get("q", 1.0)) * block.get("q", 1.0) if kind == "q_uniform" else value


# --- as experiments ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep, resolved.

    Attributes:
        words: after `repose`: train or test, the experiment, settings.
        folder: run folder; a test's lies below the run it tests.
    """

    index: int
    words: tuple[str, ...]
    loaded: Loaded
    folder: Path


def runs(sweep: Sweep, extra: Sequence[str] = ()) -> list[SweepRun]:
    """Every run of a sweep with its config resolved: a wrong key is found before anything is trained.

    Args:
        sweep: expanded file.
        extra: `key=value` tokens of the command line; they win over the file's.

    Raises:
        UserError: a key the schema does not know; names the sweep file and the nearest key.
    """
    return [_resolved(sweep, i, cell, extra) for i, cell in enumerate(sweep.cells)]


def _resolved(sweep: Sweep, index: int, cell: dict[str, Any], extra: Sequence[str]) -> SweepRun:
    origin = f"{sweep.path}, run {index}"
    verb, *words = sweep.repose_words(cell)
    won = {w.partition("=")[0] for w in extra}
    words = [*(w for w in words if "=" not in w or w.partition("=")[0] not in won), *extra]
    if words and "=" not in words[0]:
        loaded = load(words[0], words[1:], find_paper=papers.get, origin=origin)
    elif verb == "test":
        given = parse_arguments(words, origin)[0].values.get("checkpoint")
        if not given:
            raise UserError(f"{sweep.path}: name the run to test: repose sweep {sweep.path} checkpoint=RUN")
        config = Path(str(given)) / "config.yaml"
        loaded = load_saved(read_yaml(config)[0], str(config), words, find_paper=papers.get, origin=origin)
    else:
        raise UserError(f"{sweep.path}: command must name an experiment after `repose train`")
    cfg = loaded.cfg
    if verb == "test":
        if not cfg.checkpoint:
            raise UserError(f"{sweep.path}: name the run to test: repose sweep {sweep.path} checkpoint=RUN")
        folder = Path(cfg.checkpoint) / "tests" / identity(cfg)
    else:
        folder = existing_or_new(cfg)
    return SweepRun(index, (verb, *words), loaded, folder)


def tasks(sweep: Sweep, found: Sequence[SweepRun], changed: Changed) -> list[Task]:
    """The runs as tasks; runs of the same settings once."""
    made: dict[str, Task] = {}
    for run in found:
        cfg, folder = run.loaded.cfg, run.folder
        key = str(folder)
        more = [f"log.dir={folder}", *(["resume=auto"] if run.words[0] == "train" else [])]
        named = {w.partition("=")[0] for w in run.words}
        group = [] if "log.group" in named else [f"log.group={sweep.table or sweep.path.stem}"]
        words = [*run.words, *(w for w in [*more, *group] if w.partition("=")[0] not in named)]
        label = f"{sweep.path.stem} {run.index}: {' '.join(f'{k}={v}' for k, v in sweep.cells[run.index].items())}"
        made.setdefault(key, Task(key, label, words, folder, partial(judge_run, folder, cfg, changed)))
    return list(made.values())
