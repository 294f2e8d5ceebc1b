"""A cell is one run that a table asks for: a row at a scale with a seed. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from repose import papers
from repose.config import ExperimentBase, Layer, Loaded, experiments_root, identity, load, parse_arguments, parse_value
from repose.engine.rundir import run_dir
from repose.errors import UserError
from repose.tables.schema import Row, Table, settings

DEFAULT_SCALE = "mini"
"""Of a table where the command line names none: paper scale would start days of GPU work."""


@dataclass(frozen=True)
class Choice:
    """What the command line chose for all rows.

    Attributes:
        scale: name of the scale overlay.
        data: name of the data overlay, or None for the rows' own.
        seeds: runs per row.
        settings: the other `key=value` tokens.
        files: row id and file of published rows whose file the user names, `checkpoint.<row id>=FILE`.
    """

    scale: str = DEFAULT_SCALE
    data: str | None = None
    seeds: int = 1
    settings: tuple[str, ...] = ()
    files: tuple[tuple[str, str], ...] = ()

    @property
    def words(self) -> list[str]:
        """The tokens again, for the commands that are printed."""
        data = [f"data={self.data}"] if self.data else []
        seeds = [f"seeds={self.seeds}"] if self.seeds > 1 else []
        files = [f"checkpoint.{row}={file}" for row, file in self.files]
        return [f"scale={self.scale}", *data, *seeds, *self.settings, *files]


def choose(words: Iterable[str]) -> Choice:
    """Tokens of `repose table` into a choice.

    Raises:
        UserError: not `key=value`, or seeds is not a whole number above 0.
    """
    others: list[str] = []
    files: list[tuple[str, str]] = []
    seeds = 1
    for word in words:
        key, _, text = word.partition("=")
        if key.startswith("checkpoint."):
            files.append((key.partition(".")[2], text))
            continue
        if key == "seeds":
            if not text.isdigit() or int(text) < 1:
                raise UserError(f"command line: {word!r}: give the number of seeds, seeds=3")
            seeds = int(text)
        else:
            others.append(word)
    line, overlays = parse_arguments(others)
    if "dir" in (line.values.get("log") or {}):
        raise UserError("command line: log.dir is one run's folder; for a table give log.runs=FOLDER")
    rest = tuple(w for w in others if w.partition("=")[0] not in overlays)
    return Choice(overlays.get("scale", DEFAULT_SCALE), overlays.get("data"), seeds, rest, tuple(files))


def with_files(tables: Sequence[Table], choice: Choice) -> list[Table]:
    """The tables with the published rows' files that the command line names.

    A row whose sum the table knows keeps it, so that another file is refused before anything runs.

    Raises:
        UserError: no published row of that id, or no such file.
    """
    found = list(tables)
    for row_id, name in choice.files:
        places = [i for i, t in enumerate(found) if row_id in t.rows and t.rows[row_id].kind == "published"]
        if not places:
            known = ", ".join(r.id for t in found for r in t.rows.values() if r.kind == "published") or "none"
            raise UserError(f"command line: checkpoint.{row_id}: no published row of that id; there are: {known}")
        path = Path(name)
        if not path.is_file():
            raise UserError(f"command line: checkpoint.{row_id}={name}: no such file")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        for i in places:
            row = found[i].rows[row_id]
            named = {row_id: replace(row, checkpoint=name, sha256=row.sha256 or digest)}
            found[i] = replace(found[i], rows={**found[i].rows, **named})
    return found


def existing_or_new(cfg: ExperimentBase, own: str = "") -> Path:
    """Run folder of a config: an existing one of its identity, whatever its name, else the one a run would make."""
    own = own or identity(cfg)
    default = run_dir(cfg, own)
    if default.is_dir() or cfg.log.dir:
        return default
    found = sorted(p for p in default.parent.glob(f"*-{own}") if p.is_dir())
    return found[0] if found else default


@dataclass(frozen=True)
class Cell:
    """One run.

    Attributes:
        number: 0 for the first seed, 1 for the second ...
        loaded: the resolved experiment.
        parent: the run whose checkpoint is tested, for eval rows.
        settings: everything over experiment, scale and data, as dotted leaves.
    """

    table: Table
    row: Row
    choice: Choice
    number: int
    loaded: Loaded
    parent: Cell | None = None
    settings: dict[str, Any] = field(default_factory=dict[str, Any])

    @cached_property
    def identity(self) -> str:
        """Of the resolved config."""
        return identity(self.loaded.cfg)

    @property
    def key(self) -> str:
        """Names what is computed: rows with the same key are one run."""
        own = self.identity
        if self.parent:
            return f"{self.parent.key}/{own}"
        return f"{self.row.sha256[:12]}/{own}" if self.row.kind == "published" else own

    @property
    def folder(self) -> Path:
        """Run folder; a test's lies below the run that it tests."""
        cfg, own = self.loaded.cfg, self.identity
        if self.parent:
            return self.parent.folder / "tests" / own
        if self.row.kind == "published":
            return Path(cfg.log.runs) / cfg.paper / f"published-{self.row.sha256[:12]}" / "tests" / own
        return existing_or_new(cfg, own)

    @property
    def arguments(self) -> list[str]:
        """Words after `repose train` (or `test`): the same resolved config by the ordinary command line."""
        row, choice = self.row, self.choice
        data = choice.data or self.table.data_of(row, choice.scale)
        known = self.loaded.cfg.paper_value
        paper = {k: row.paper.get(k, math.nan) for k in [*row.paper, *(k for k in known if k not in row.paper)]}
        notes = {"title": row.label, "log.group": self.table.name, **{f"paper_value.{k}": v for k, v in paper.items()}}
        return [
            self.table.experiment_of(row),
            f"scale={choice.scale}",
            *([f"data={data}"] if data else []),
            *(as_argument(key, value) for key, value in {**notes, **self.settings}.items()),
        ]


def cell(
    table: Table, row: Row, choice: Choice, number: int = 0, scale: str | None = None, parent: Cell | None = None
) -> Cell:
    """Resolve one row.

    Args:
        table: where it stands.
        row: a row that runs.
        choice: from the command line.
        number: which seed.
        scale: resolve at this scale instead of the choice's (the paper's, to count its cost).
        parent: of an eval row, where it is resolved already.

    Raises:
        UserError: a setting that the schema does not know; names file and line.
    """
    choice = replace(choice, scale=scale) if scale else choice
    if row.reuse and parent is None:
        parent = cell(table, table.rows[row.reuse], choice, number)
    row_layers = table.layers(row, choice.scale)
    data = choice.data or table.data_of(row, choice.scale)
    words = [f"scale={choice.scale}", *([f"data={data}"] if data else []), *choice.settings]

    def resolve(extra: Sequence[str]) -> Loaded:
        line = [w for w in words if w.partition("=")[0] not in {e.partition("=")[0] for e in extra}]
        layers = tuple((x.origin, json.dumps(x.values), json.dumps(dict(x.lines))) for x in row_layers)
        return _load(table.experiment_of(row), (*line, *extra), layers, _stamp())

    extra: list[str] = []
    loaded = resolve(extra)
    if number:
        extra = [f"seed={loaded.cfg.seed + number}"]
        loaded = resolve(extra)
    line, _ = parse_arguments([*choice.settings])
    more, _ = parse_arguments(extra)
    leaves = settings([*row_layers, Layer(line.origin, line.values), Layer(more.origin, more.values)])
    return Cell(table, row, choice, number, loaded, parent, leaves)


@lru_cache(maxsize=256)
def _load(experiment: str, words: tuple[str, ...], layers: tuple[tuple[str, str, str], ...], stamp: int) -> Loaded:
    """`load`, once per process: a table asks for the same config several times, and each takes 0.2 s."""
    row = [Layer(origin, json.loads(values), json.loads(lines)) for origin, values, lines in layers]
    return load(experiment, words, find_paper=papers.get, row=row)


def _stamp() -> int:
    """Changes when a YAML of the experiments does."""
    files = experiments_root().glob("**/*.yaml")
    return hash(tuple(sorted((str(p), p.stat().st_mtime_ns) for p in files)))


def at_scale(row: Row, scale: str) -> bool:
    """Whether the row has a distinct form at a scale."""
    return not row.at or scale in row.at


def cells(table: Table, choice: Choice) -> dict[str, list[Cell]]:
    """Row id -> its runs (one per seed); empty for rows that are never run, or not at this scale."""
    found: dict[str, list[Cell]] = {}
    for row in sorted(table.rows.values(), key=lambda r: bool(r.reuse)):  # what is tested comes before its tests
        above = found[row.reuse] if row.reuse else [None] * choice.seeds
        runs = _runs(table, row, choice.scale)
        found[row.id] = [cell(table, row, choice, n, parent=above[n]) for n in range(choice.seeds)] if runs else []
    return {row_id: found[row_id] for row_id in table.rows}


def _runs(table: Table, row: Row, scale: str) -> bool:
    whole = not row.reuse or _runs(table, table.rows[row.reuse], scale)
    named = row.kind != "published" or bool(row.checkpoint)
    return row.runs and at_scale(row, scale) and whole and named


def add_row(table: Table, text: str) -> Table:
    """The table with a row of one's own, and only that one to be run.

    Args:
        table: a paper's table.
        text: `key=value`, several with commas between them; `ROW:key=value` starts from that row's settings.

    Raises:
        UserError: not a setting, or no such row.
    """
    base, colon, rest = text.partition(":")
    if not colon or "=" in base:
        base, rest = "", text
    if base and base not in table.rows:
        raise UserError(f"--add: no row {base!r} in {table.name}; there are: {', '.join(table.rows)}")
    tokens = re.split(r",(?=[\w.]+=)", rest)
    line, overlays = parse_arguments(tokens, "--add")
    if overlays or not line.values:
        raise UserError("--add: give settings of the row (--add model.roi.size=11); scale= and data= stand apart")
    start = table.rows[base] if base else None
    row = Row(id="yours", label=f"yours: {' '.join(tokens)}", set=_nested(settings([line])))
    return replace(table, rows={**table.rows, row.id: _upon(table, start, row, line) if start else row})


def _upon(table: Table, start: Row, row: Row, line: Layer) -> Row:
    """A row of one's own with the settings of another, and of the row that this one tests, below the user's.

    A row's `set_<scale>` lies over its `set`, so the user's values go into each of them.
    """
    whole = [start, *([table.rows[start.reuse]] if start.reuse else [])]

    def at(scale: str) -> dict[str, Any]:
        return _nested(settings([*table.layers(start, scale), line]))

    named = {"paper", *(scale for r in whole for scale in r.data_at)}
    return replace(
        row,
        set=at("-"),
        set_at={scale: at(scale) for r in whole for scale in r.set_at},
        experiment=table.experiment_of(start),
        data_at={scale: data for scale in sorted(named) if (data := table.data_of(start, scale))},
    )


def _nested(leaves: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in leaves.items():
        *parents, last = key.split(".")
        node = found
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return found


def as_argument(key: str, value: Any) -> str:
    """`key=value` that the command line reads back as the same value."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"{key}={'.nan' if math.isnan(value) else '.inf' if value > 0 else '-.inf'}"
    if isinstance(value, str):
        try:
            plain = parse_value(value) == value
        except Exception:  # yaml errors have many faces; all mean that it needs quotes
            plain = False
        if plain:
            return f"{key}={value}"
    return f"{key}={json.dumps(value, ensure_ascii=False)}"
