"""`repose runs`: what was trained and tested, filtered and sorted by whatever a run's result or config says."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repose.commands.run_folders import RUNS, Judge, RunFolder, Standing, find_runs
from repose.config import find_experiment, nearest, parse_value, read_yaml
from repose.engine.rundir import without_nan
from repose.errors import UserError
from repose.tables.cells import Choice, cells
from repose.tables.report import shown
from repose.tables.schema import find_tables

_WORD = re.compile(r"^(-?[\w.]+)(>=|<=|!=|>|<|=)(.*)$", re.DOTALL)
_FACTS = ("params", "hours", "seed", "steps", "epochs", "lr", "global_batch", "init", "commit", "hardware", "identity")
"""Of result.json, besides metrics."""
_OWN = ("paper", "experiment", "table", "state", "kind", "name", "title", "scale", "data", "boxes", "gmacs", "finished")
"""Keys with a meaning here, whatever a config holds."""
_NONE = "–"
_WIDE = 240
"""[columns] where the output is no terminal."""

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
    ">=": lambda a, b: a >= b,
    "<=": lambda a, b: a <= b,
}


@dataclass(frozen=True)
class Listed:
    """A run with its state."""

    run: RunFolder
    standing: Standing

    def value(self, key: str) -> Any:
        """What a run says under a key: an own word, a metric, a setting, a fact of result.json; None where nothing."""
        run = self.run
        own = {
            "state": self.standing.word,
            "kind": "test" if run.is_test else "run",
            "data": run.data or None,
            "title": run.title,
            "boxes": run.result.get("box_source"),
            "gmacs": run.result["macs"] / 1e9 if isinstance(run.result.get("macs"), int | float) else None,
            "finished": run.result.get("finished") or run.result.get("started"),
        }
        if key in own:
            return own[key]
        if key in run.metrics:
            return run.metrics[key]
        return run.settings[key] if key in run.settings else run.result.get(key)


@dataclass(frozen=True)
class Filter:
    """A condition of the command line, `key<op>text`."""

    key: str
    sign: str
    text: str

    def holds(self, item: Listed) -> bool:
        """Whether a run meets it; a run that says nothing under the key does not (but for `!=`)."""
        value = item.value(self.key)
        if self.sign in _COMPARE:
            number = isinstance(value, int | float) and not isinstance(value, bool)
            return number and _COMPARE[self.sign](float(value), float(self.text))
        same = value == self.text or value == parse_value(self.text)
        return same == (self.sign == "=")


def runs(words: list[str], as_json: bool) -> int:
    """List the runs.

    Args:
        words: a folder of runs (else `runs`), filters, and `sort=KEY` or `sort=-KEY`.
        as_json: print one JSON object.
    """
    root, filters, tables, experiments, sort = _parse(words)
    found = find_runs(root)
    judge = Judge()
    every = [Listed(run, judge.standing(run)) for run in found]
    for key in [f.key for f in filters] + ([sort.lstrip("-")] if sort else []):
        _check_key(key, every)
    for name in experiments:
        filters += _of_experiment(name)
    kept = [x for x in every if all(f.holds(x) for f in filters)]
    for name in tables:
        kept = _of_table(name, kept)
    kept = _sorted(kept, sort)
    if as_json:
        print(json.dumps(without_nan({"runs": [_row(x) for x in kept]})))
    else:
        asked = [f.key for f in filters] + ([sort.lstrip("-")] if sort else [])
        _print(root, kept, len(every), list(dict.fromkeys(asked)))
    return 0


def _parse(words: Sequence[str]) -> tuple[Path, list[Filter], list[str], list[str], str]:
    root, sort = Path(RUNS), ""
    filters: list[Filter] = []
    tables: list[str] = []
    experiments: list[str] = []
    for i, word in enumerate(words):
        match = _WORD.match(word)
        if match is None:
            if i == 0 and (Path(word).is_dir() or "/" in word):
                root = Path(word)
                continue
            raise UserError(
                f"runs: {word!r} is not a filter; write key=value, or in quotes 'AP>0.3' (the shell takes a bare > for "
                "itself); a folder of runs comes first"
            )
        key, sign, text = match.groups()
        if key == "sort" and sign == "=":
            sort = text
        elif key == "runs" and sign == "=":
            root = Path(text)
        elif key == "table" and sign == "=":
            tables.append(text)
        elif key == "experiment" and sign == "=":
            experiments.append(text)
        elif key in ("sort", "runs", "table", "experiment"):
            raise UserError(f"runs: {word!r}: {key} takes = alone")
        else:
            filters.append(_filter(word, key, sign, text))
    return root, filters, tables, experiments, sort


def _filter(word: str, key: str, sign: str, text: str) -> Filter:
    try:
        value = parse_value(text)
    except Exception:  # yaml.YAMLError has many faces; all mean the same to the user
        raise UserError(f"runs: the value of {word!r} is not valid; close its brackets and quotes") from None
    if sign in _COMPARE:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise UserError(f"runs: {word!r}: {sign} needs a number")
        if re.search(r"A[PR]", key) and not 0 <= value <= 1:
            raise UserError(f"runs: {word!r}: {key} is a share, from 0 to 1; write '{key}{sign}{value / 100:g}'")
    return Filter(key, sign, text)


def _check_key(key: str, every: Sequence[Listed]) -> None:
    """Refuse a key that no run knows.

    Raises:
        UserError: names the nearest.
    """
    if key in _OWN or any(x.value(key) is not None or key in x.run.settings for x in every):
        return
    known = dict.fromkeys([*_OWN, *_FACTS, *(k for x in every for k in (*x.run.metrics, *x.run.settings))])
    hint = nearest(key, known) + [k for k in known if k.rpartition(".")[2] == key]
    fix = f"did you mean {' or '.join(map(repr, dict.fromkeys(hint[:2])))}?" if hint else "see `repose runs --json`"
    raise UserError(f"runs: no run has {key!r}; {fix}")


def _of_experiment(name: str) -> list[Filter]:
    """Runs of an experiment file, by the paper and the name that it gives them."""
    values, _ = read_yaml(find_experiment(name))
    return [Filter("paper", "=", str(values["paper"])), Filter("name", "=", str(values.get("name", "run")))]


def _of_table(name: str, listed: Sequence[Listed]) -> list[Listed]:
    """Runs that fill rows of a table: those that it started, and those of other tables that are the same run."""
    kept: list[Listed] = []
    for table in find_tables(name):
        scales = dict.fromkeys(str(x.value("scale")) for x in listed if x.value("paper"))
        identities: set[str] = set()
        for scale in scales:
            try:
                each = cells(table, Choice(scale, seeds=5))
            except UserError:  # a scale of the runs' own, say
                continue
            identities |= {cell.identity for found in each.values() for cell in found}
        kept += [
            x
            for x in listed
            if x not in kept and (x.value("log.group") == table.name or x.run.result.get("identity") in identities)
        ]
    return [x for x in listed if x in kept]


def _sorted(listed: list[Listed], sort: str) -> list[Listed]:
    """By a key, or newest first; runs that say nothing come last."""
    key, falling = (sort.lstrip("-"), sort.startswith("-")) if sort else ("finished", True)
    having = [x for x in listed if x.value(key) is not None]
    numbers = all(isinstance(x.value(key), int | float) for x in having)
    having.sort(key=lambda x: x.value(key) if numbers else str(x.value(key)), reverse=falling)
    return having + [x for x in listed if x.value(key) is None]


def _row(item: Listed) -> dict[str, Any]:
    run = item.run
    keys = ("paper", "name", "title", "scale", "data", "boxes", "finished")
    facts = ("params", "macs", "hours", "seed", "identity", "commit", "dirty", "hardware", "init")
    return {
        "run": run.name,
        "folder": str(run.path),
        "kind": item.value("kind"),
        "state": item.standing.word,
        "reason": item.standing.reason,
        **{key: item.value(key) for key in keys},
        **{key: run.result.get(key) for key in facts},
        "protocol": run.protocol,
        "metrics": run.metrics,
        "config": run.settings,
    }


def _print(root: Path, listed: Sequence[Listed], total: int, asked: Sequence[str]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    grid = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    plain = ("AP", "params", "scale", "data", "seed", "hours")
    more = [key for key in asked if key not in (*plain, "state", "finished", "paper", "name")]
    for head in ("run", "state", *plain, *more, "finished"):
        right = head in ("AP", "params", "seed", "hours")
        grid.add_column(head, overflow="fold", header_style="bold", justify="right" if right else "left")
    for x in listed:
        cells_ = [x.run.name, x.standing.word, *(_cell(x, key) for key in (*plain, *more))]
        grid.add_row(*map(escape, (*cells_, str(x.value("finished") or _NONE)[:16].replace("T", " "))))
    if listed:
        Console(width=None if sys.stdout.isatty() else _WIDE).print(grid)  # a file has no edge
    for x in listed:
        if x.standing.word in ("stale", "failed", "unreadable", "running"):
            print(f"{x.run.name}: {x.standing}")
    print(f"{len(listed)} of {total} runs and tests below {root}" + ("" if listed else "; no run meets these filters"))
    _warn(listed)


def _warn(listed: Sequence[Listed]) -> None:
    """Numbers of different protocols stand in one column: say that they do not rank."""
    ways: dict[tuple[str, ...], int] = {}
    rated = [x.run for x in listed if "AP" in x.run.metrics]
    for run in rated:
        way = tuple(run.protocol.values())
        ways[way] = ways.get(way, 0) + 1
    if len(ways) < 2:
        return
    names = list(rated[0].protocol)
    differ = [name for i, name in enumerate(names) if len({way[i] for way in ways}) > 1]
    print(f"these APs are of {len(ways)} protocols and do not rank one another; they differ in: {', '.join(differ)}")


def _cell(item: Listed, key: str) -> str:
    value = item.value(key)
    if value is None:
        return _NONE
    if key in item.run.metrics:
        return shown(key, value)
    if key == "params":
        return f"{value / 1e6:.2f} M"
    if key == "hours":
        return _duration(value)
    if isinstance(value, float):
        return f"{value:.3g}"
    return str(value)


def _duration(hours: float) -> str:
    if hours >= 1:
        return f"{hours:.1f} h"
    return f"{60 * hours:.0f} min" if hours >= 1 / 60 else f"{3600 * hours:.0f} s"
