"""A paper's table as checked data: `experiments/<paper>/tables/{table,figure,ablation}-<what>.yaml`.

    title: Size of the region of interest            # own words
    source: Table 3                                  # where it stands in the paper
    experiment: drpnet/m                             # base of every row
    protocol: {data: coco-val2017, boxes: detections, flip: true, input: 256x192}
    counted: not stated                              # the paper's counting rule of GFLOPs and params
    metrics: [AP]
    mechanism: [coarse_AP, roi_inside]               # result.json metrics shown below the table
    rows:                                            # id -> row, in the paper's order
      roi-5: {label: 5x5, paper: {AP: 73.5, GFLOPs: 2.05}, set: {model: {roi: {size: 5}}}}
      roi-7: {label: 7x7, paper: {AP: 74.1, GFLOPs: 2.15}, set: {model: {roi: {size: 7}}}, set_mini: {...}}
      coarse: {label: its coarse points, kind: eval, reuse: roi-7, set: {decode: {read_out: coarse}}}
      other: {label: HRNet-W32, kind: quoted, paper: {AP: 74.4}, source: its own paper}
    claims:                                          # id -> a pair of rows
      seven-over-five: {text: 7x7 beats 5x5, better: roi-7, worse: roi-5}
      flip: {text: the flip test adds AP, better: flipped, worse: roi-7, across: [flip]}   # meant to differ in it
    headline: {row: roi-7, method: DRP-Net}          # one table per paper: what `repose reproduce` runs
    shows: {mini: the order of the sizes on drawn people}
    not_shown: {mini: any number of the paper}

`data_<scale>` of the table (or of a row) is the data overlay at that scale. With `columns` (one data set each), `paper`
holds an AP by column, and each row becomes one row per column: the first is trained, the others test its checkpoint
there (`id@column`). A `counted` row has costs alone, by the operations that `rule` names; a `statistic` row is computed
from annotations by the table's `statistic`.

Paper values are in the paper's units: AP in percent, GFLOPs in 1e9, params in millions (`counted` says how). Rows and
claims are mappings so that every key has a line number. Imports no torch.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from repose import papers
from repose.config import Layer, experiments_root, leaves, nearest, read_yaml
from repose.errors import UserError

Kind = Literal["train", "eval", "published", "quoted", "server-only", "counted", "statistic"]
OPERATIONS = ("conv", "deconv", "linear", "norm", "deform", "roi_align", "attention", "upsample", "other")
"""Kinds of operations that a `rule` may count: `metrics.cost.BY_OP` (which imports torch; a test holds them equal)."""
ACROSS = ("boxes", "flip", "test_scales")
"""What the two rows of a claim may differ in on purpose. Each changes the predictions alone, so that both rows can be
scored on the same people; other people, another area of OKS or another number of people to find cannot be tested."""
SCALES = ("smoke", "mini", "lite", "paper")
COSTS = ("GFLOPs", "params")
"""Columns of `paper` that are counted, not measured: lower is better, no confidence interval."""
LATENCIES = ("latency_ms", "throughput_fps", "energy_mJ", "pipeline_ms")
"""Columns that `repose bench latency` measures at the paper's size: a network on one CPU thread at batch 1, 1000 by it,
its energy, and the mean per frame with a detector."""
SPEEDS = ("fps", "sps", "memory_MB", *LATENCIES)
"""Columns that `repose bench` measures: images and training samples per second, peak memory of a training step."""


@dataclass(frozen=True)
class Protocol:
    """How the paper evaluated. A measured value is subtracted from the paper's only where all of it is the same."""

    data: str = ""
    """`data.name` of the evaluated set (coco-val2017)"""
    boxes: str = ""
    """gt, or detections"""
    flip: bool | None = None
    """mirrored view averaged; null = not stated"""
    oks_area: str = "annotation"
    """area of OKS"""
    input: str = ""
    """[pixels] height x width, for the protocol line"""
    note: str = ""
    """what else the paper says of its protocol"""


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    id: str
    label: str = ""
    """as in the paper"""
    kind: Kind = "train"
    """train; eval = `reuse`d checkpoint, other test settings; published = somebody's checkpoint, our evaluator;
    quoted = somebody's number, never run; server-only = an evaluation server's number; counted = cost alone, nothing is
    trained; statistic = computed from annotations"""
    paper: dict[str, float] = field(default_factory=dict[str, float])
    """the paper's values, in its units"""
    counted: str = ""
    """counting rule of the paper's GFLOPs and params in this row, where it differs from the table's"""
    rule: tuple[str, ...] = ()
    """operations counted in our GMACs of this row, to follow the paper's rule; empty = all that fvcore counts"""
    set: dict[str, Any] = field(default_factory=dict[str, Any])
    """settings, nested, over scale and data"""
    set_at: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    """`set_<scale>` blocks: over `set` at that scale"""
    experiment: str = ""
    """instead of the table's"""
    data: str = ""
    """data overlay of this row at scale paper"""
    data_at: dict[str, str] = field(default_factory=dict[str, str])
    """`data_<scale>`: data overlay of this row at that scale"""
    reuse: str = ""
    """id of the row whose checkpoint an eval row tests"""
    at: tuple[str, ...] = ()
    """scales at which the row has a form of its own; empty = all"""
    baseline: bool = False
    """another method, run here"""
    checkpoint: str = ""
    """[file] of a published row"""
    sha256: str = ""
    """of that file; both empty where no sum is known: then the user names the file, `checkpoint.<row id>=FILE`"""
    source: str = ""
    """where a quoted or published number comes from"""
    note: str = ""
    """an error in the paper, say; printed below the table"""
    hours: dict[str, float] = field(default_factory=dict[str, float])
    """[hours] estimate by scale, for --plan"""
    interval: int = 0
    """[frames] of a row of `statistic: video`: the detector looks at every n-th"""
    column: str = ""
    """id of the table's column that this row fills in (set by the reader, never in a file)"""
    method: str = ""
    """id of the row in the file, where `columns` made several of it (set by the reader)"""

    @property
    def runs(self) -> bool:
        """Whether repose trains or tests for this row."""
        return self.kind in ("train", "eval", "published")

    @property
    def has_network(self) -> bool:
        """Whether the row's network is built here, so that its cost can be counted."""
        return self.runs or self.kind == "counted"

    @property
    def role(self) -> str:
        """own, baseline or quoted."""
        if self.kind in ("quoted", "server-only"):
            return "quoted"
        return "baseline" if self.baseline or self.kind == "published" else "own"


@dataclass(frozen=True)
class Claim:
    """A statement of the paper about two rows."""

    id: str
    text: str = ""
    better: str = ""
    """row id"""
    worse: str = ""
    """row id"""
    metric: str = "AP"
    """AP..., or GFLOPs, params, where better means lower"""
    across: tuple[str, ...] = ()
    """parts of the protocol (boxes, flip, test_scales) that the claim is about: rows that differ in any other part are
    not compared"""


@dataclass(frozen=True)
class Headline:
    """Makes a table the paper's one in `repose reproduce`, and says which of its rows stands for the paper."""

    row: str = ""
    """row id"""
    method: str = ""
    """short name of the method (DRP-Net)"""


@dataclass(frozen=True)
class Column:
    """A data set on which every row of a table is evaluated."""

    id: str
    label: str = ""
    """as in the paper"""
    name: str = ""
    """`data.name` of the set the paper evaluated, instead of the protocol's `data`"""
    kind: Literal["measured", "server-only"] = "measured"
    """server-only: only an evaluation server knows the labels"""
    set: dict[str, Any] = field(default_factory=dict[str, Any])
    """settings of the evaluation, nested"""
    data: str = ""
    """data overlay at scale paper"""
    data_at: dict[str, str] = field(default_factory=dict[str, str])
    """`data_<scale>`: data overlay at that scale"""
    at: tuple[str, ...] = ()
    """scales at which the column has data of its own; empty = all"""


@dataclass(frozen=True)
class Table:
    """A table or figure of a paper.

    Attributes:
        name: `drpnet/3`, `drpnet/fig-3`, `drpnet/ablation-loss-weights`.
        paper: folder name.
        path: its YAML.
        lines: line of each dotted key in it.
    """

    name: str
    paper: str
    path: Path
    lines: Mapping[str, int] = field(repr=False)
    title: str = ""
    source: str = ""
    """place in the paper"""
    experiment: str = ""
    """base of the rows"""
    data: str = ""
    """data overlay of all rows at scale paper; empty = the experiment's"""
    data_at: dict[str, str] = field(default_factory=dict[str, str])
    """`data_<scale>`: data overlay of all rows at that scale, where a row names no other"""
    set_at: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    """`set_<scale>`: settings of all trained rows at that scale, below a row's own"""
    statistic: Literal["", "occlusion", "video"] = ""
    """what `statistic` rows hold; `occlusion`: how many people have no visible part (tables/statistics.py); `video`:
    what `repose bench video` measured at their `interval`"""
    columns: dict[str, Column] = field(default_factory=dict[str, Column])
    """data sets on which every row is evaluated; the first is the one it is trained with"""
    protocol: Protocol = Protocol()
    counted: str = ""
    """the paper's counting rule of GFLOPs and params"""
    params_unit: Literal["1e6", "2^20"] = "1e6"
    """what the paper's millions of parameters are; ours are 1e6, and with 2^20 given in that too, below the table"""
    metrics: tuple[str, ...] = ("AP",)
    """columns measured; speeds (`fps`, `sps`, `memory_MB`) are those of `repose bench`"""
    mechanism: tuple[str, ...] = ()
    """metrics of result.json shown below the table, where they are"""
    rows_from: str = ""
    """file name (table-1) whose rows these are: a figure drawn from a table"""
    rows: dict[str, Row] = field(default_factory=dict[str, Row])
    claims: dict[str, Claim] = field(default_factory=dict[str, Claim])
    headline: Headline | None = None
    """in one table per paper: the row that stands for the paper"""
    plot: Literal["", "ap-gflops", "ap-fps", "ap-latency", "curves", "dashboard"] = ""
    """also draw this figure"""
    shows: dict[str, str] = field(default_factory=dict[str, str])
    """by scale: what a table at that scale can show"""
    not_shown: dict[str, str] = field(default_factory=dict[str, str])
    """by scale: what it cannot"""
    note: str = ""
    """printed below the table"""

    @property
    def main(self) -> str:
        """The metric that its rows are ranked by: the first AP of `metrics`, mask AP in a table of masks."""
        return next((m for m in ("AP", *self.metrics) if m in self.metrics and m.split("_")[-1] == "AP"), "AP")

    def where(self, key: str) -> str:
        """file:line of a dotted key."""
        line = self.lines.get(key)
        return f"{self.path}:{line}" if line else str(self.path)

    def layers(self, row: Row, scale: str) -> list[Layer]:
        """The row's settings as config layers: the table's `set_<scale>`, `set`, `set_<scale>`.

        An eval row's come after its `reuse` row's.
        """
        found = self.layers(self.rows[row.reuse], scale) if row.reuse else []
        owner = f"columns.{row.column}" if row.column and row.reuse else f"rows.{row.method or row.id}"
        of_all = self.set_at.get(scale, {}) if row.kind == "train" else {}
        parts = (
            (f"set_{scale}", of_all),
            (f"{owner}.set", row.set),
            (f"{owner}.set_{scale}", row.set_at.get(scale, {})),
        )
        for key, values in parts:
            if values:
                lines = {k.removeprefix(f"{key}."): n for k, n in self.lines.items() if k.startswith(f"{key}.")}
                found.append(Layer(str(self.path), values, lines))
        return found

    def experiment_of(self, row: Row) -> str:
        """Base experiment of a row."""
        if row.experiment or not row.reuse:
            return row.experiment or self.experiment
        return self.experiment_of(self.rows[row.reuse])

    def data_of(self, row: Row, scale: str) -> str:
        """Data overlay that the row asks for at a scale, or empty."""
        own = row.data_at.get(scale, row.data if scale == "paper" else "")
        if not own and row.reuse:
            return self.data_of(self.rows[row.reuse], scale)
        return own or self.data_at.get(scale, self.data if scale == "paper" else "")

    def method_label(self, row: Row) -> str:
        """Label of a row as the file has it, without the column that the reader added."""
        column = self.columns.get(row.column)
        return row.label.removesuffix(f", {column.label}") if column else row.label

    def evaluated_on(self, row: Row) -> str:
        """`data.name` of the set on which the paper evaluated a row."""
        column = self.columns.get(row.column)
        return (column.name if column else "") or self.protocol.data


# --- reading -------------------------------------------------------------------------------------------------------


def load_table(path: Path) -> Table:
    """Read and check one table.

    Raises:
        UserError: unknown key, wrong type, a row id that does not exist; names file, line and nearest key.
    """
    values, lines = read_yaml(path)
    paper = path.parent.parent.name
    table = Table(name=f"{paper}/{short_name(path.stem)}", paper=paper, path=path, lines=lines)
    known = {f.name for f in dataclasses.fields(Table)} - {"name", "paper", "path", "lines", "data_at", "set_at"}
    plain, at = _by_scale(table, values, "", ("data", "set"))
    fields = _checked(table, Table, plain, "", known)
    fields["data_at"] = _typed(at["data"], dict[str, str], f"{path}: data_")
    fields["set_at"] = _typed(at["set"], dict[str, dict[str, Any]], f"{path}: set_")
    fields["columns"] = {i: _column(table, i, v) for i, v in _mapping(table, values, "columns").items()}
    rows = {i: _row(table, i, v) for i, v in _mapping(table, values, "rows").items()}
    if fields["columns"]:
        rows = _in_columns(table, rows, fields["columns"])
    claims = {i: _claim(table, i, v) for i, v in _mapping(table, values, "claims").items()}
    keys = {f.name for f in dataclasses.fields(Protocol)}
    protocol = Protocol(**_checked(table, Protocol, _mapping(table, values, "protocol"), "protocol.", keys))
    head: Headline | None = None
    if found := _mapping(table, values, "headline"):
        head = Headline(**_checked(table, Headline, found, "headline.", {f.name for f in dataclasses.fields(Headline)}))
    fields = {k: v for k, v in fields.items() if k not in ("rows", "claims", "protocol", "headline")}
    table = dataclasses.replace(table, **fields, rows=rows, claims=claims, protocol=protocol, headline=head)
    if table.rows_from:
        if rows:
            raise UserError(f"{table.where('rows')}: a table has `rows` or `rows_from`, not both")
        other = path.parent / f"{table.rows_from}.yaml"
        if not other.is_file():
            raise UserError(f"{table.where('rows_from')}: no table {other.name} beside this one")
        source = load_table(other)
        moved = {k: n for k, n in source.lines.items() if k.startswith(("rows.", "set_"))}
        table = dataclasses.replace(
            table,
            rows=source.rows,
            lines={**lines, **moved},
            experiment=table.experiment or source.experiment,
            data=table.data or source.data,
            data_at=table.data_at or source.data_at,
            set_at=table.set_at or source.set_at,
            columns=source.columns,
            protocol=protocol if "protocol" in values else source.protocol,
            counted=table.counted or source.counted,
        )
    _check(table)
    return table


def _checked(table: Table, cls: type, values: dict[str, Any], prefix: str, known: set[str]) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    found: dict[str, Any] = {}
    for key, value in values.items():
        where = table.where(f"{prefix}{key}")
        if key not in known:
            hint = nearest(str(key), known)
            fix = f"did you mean {hint[0]!r}?" if hint else f"there are: {', '.join(sorted(known))}"
            raise UserError(f"{where}: unknown key {prefix + str(key)!r}; {fix}")
        if key in ("rows", "claims", "protocol", "columns", "headline") and cls is Table:
            found[key] = value
            continue
        found[key] = _typed(value, hints[key], f"{where}: {prefix}{key}")
    return found


def _typed(value: Any, hint: Any, where: str) -> Any:
    """The value as the hint wants it (a whole number is a float too), or one clear line."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if value not in args:
            raise UserError(f"{where}={value!r} must be one of {', '.join(map(repr, args))}")
        return value
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _typed(value, args[0], where)
    if origin is tuple:
        items = typing.cast("list[Any]", value) if isinstance(value, list) else [value]
        return tuple(_typed(v, args[0], where) for v in items)
    if origin is dict:
        if not isinstance(value, dict):
            raise UserError(f"{where}={value!r} must hold `key: value` pairs")
        pairs = typing.cast("dict[Any, Any]", value)
        return {str(k): _typed(v, args[1], f"{where}.{k}") for k, v in pairs.items()}
    if hint is Any:
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is str and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise UserError(f"{where}={value!r} must be {'text' if hint is str else hint.__name__}")
    return value


def _mapping(table: Table, values: dict[str, Any], key: str) -> dict[str, Any]:
    value: Any = values.get(key) or {}
    if not isinstance(value, dict):
        raise UserError(f"{table.where(key)}: `{key}` must be a mapping (id: ...), not a list")
    return typing.cast("dict[str, Any]", value)


def _by_scale(
    table: Table, values: dict[str, Any], prefix: str, stems: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Keys as they are, and those with a scale behind them (`set_mini`) by stem and scale."""
    plain: dict[str, Any] = {}
    at: dict[str, dict[str, Any]] = {stem: {} for stem in stems}
    for k, value in values.items():
        stem, _, scale = str(k).partition("_")
        if stem in at and scale:
            if not (scale_exists(table.paper, scale)):
                raise UserError(f"{table.where(f'{prefix}{k}')}: there is no scale {scale!r}")
            at[stem][scale] = value
        else:
            plain[k] = value
    return plain, at


def _row(table: Table, row_id: str, values: Any) -> Row:
    key = f"rows.{row_id}"
    _id(table, row_id, values, key)
    known = {f.name for f in dataclasses.fields(Row)} - {"id", "set_at", "data_at", "column", "method"}
    plain, at = _by_scale(table, values, f"{key}.", ("set", "data"))
    fields = _checked(table, Row, plain, f"{key}.", known)
    set_at = _typed(at["set"], dict[str, dict[str, Any]], f"{table.where(key)}: {key}.set_")
    data_at = _typed(at["data"], dict[str, str], f"{table.where(key)}: {key}.data_")
    fields.setdefault("label", row_id)
    return Row(id=row_id, set_at=set_at, data_at=data_at, **fields)


def _column(table: Table, column_id: str, values: Any) -> Column:
    key = f"columns.{column_id}"
    _id(table, column_id, values, key)
    known = {f.name for f in dataclasses.fields(Column)} - {"id", "data_at"}
    plain, at = _by_scale(table, values, f"{key}.", ("data",))
    fields = _checked(table, Column, plain, f"{key}.", known)
    fields.setdefault("label", column_id)
    return Column(
        id=column_id, data_at=_typed(at["data"], dict[str, str], f"{table.where(key)}: {key}.data_"), **fields
    )


def _in_columns(table: Table, rows: dict[str, Row], columns: dict[str, Column]) -> dict[str, Row]:
    """One row per row and column; see the head of this file."""
    found: dict[str, Row] = {}
    first = next(iter(columns))
    for row in rows.values():
        for name in row.paper:
            if name not in columns:
                raise UserError(
                    f"{table.where(f'rows.{row.id}.paper')}: no column {name!r}; there are: {', '.join(columns)}"
                )
        if row.kind not in ("train", "published", "quoted"):
            raise UserError(f"{table.where(f'rows.{row.id}')}: a row over `columns` is trained, published or quoted")
        for column in columns.values():
            paper = {"AP": row.paper[column.id]} if column.id in row.paper else {}
            name = f"{row.id}@{column.id}"
            place: dict[str, Any] = {
                "column": column.id,
                "method": row.id,
                "label": f"{row.label}, {column.label}",
                "paper": paper,
            }
            if not row.runs or column.kind == "server-only":
                if paper:  # what the paper does not give either is no row
                    kind: Kind = "quoted" if not row.runs else "server-only"
                    found[name] = Row(id=name, kind=kind, source=row.source, baseline=row.baseline, **place)
            elif column.id == first:
                found[row.id] = dataclasses.replace(row, **place)
            else:
                found[name] = Row(
                    id=name, kind="eval", reuse=row.id, set=column.set, data=column.data, data_at=column.data_at,
                    at=column.at, baseline=row.baseline, **place,
                )  # fmt: skip
    return found


def _claim(table: Table, claim_id: str, values: Any) -> Claim:
    key = f"claims.{claim_id}"
    _id(table, claim_id, values, key)
    known = {f.name for f in dataclasses.fields(Claim)} - {"id"}
    return Claim(id=claim_id, **_checked(table, Claim, values, f"{key}.", known))


def _id(table: Table, name: Any, values: Any, key: str) -> None:
    if not re.fullmatch(r"[\w+-]+", str(name)):
        raise UserError(f"{table.where(key)}: id {name!r}: use letters, digits, - and _ only")
    if not isinstance(values, dict):
        raise UserError(f"{table.where(key)}: `{name}` must hold `key: value` lines")


def _check(table: Table) -> None:
    """What types cannot say: rows that refer to rows, and what each kind needs."""
    if not table.rows:
        raise UserError(f"{table.path}: a table needs `rows` (or `rows_from`)")
    for row in table.rows.values():
        key = f"rows.{row.method or row.id}"
        if not (row.kind in ("quoted", "server-only") or table.experiment_of(row)):
            raise UserError(f"{table.where(key)}: row {row.id!r} needs an `experiment` (its own or the table's)")
        if (row.kind == "eval") != bool(row.reuse):
            raise UserError(f"{table.where(key)}: `kind: eval` and `reuse: <row>` belong together (row {row.id!r})")
        if row.reuse:
            other = table.rows.get(row.reuse)
            _known_row(table, f"{key}.reuse", row.reuse)
            if other is not None and other.kind not in ("train", "published"):
                raise UserError(
                    f"{table.where(f'{key}.reuse')}: row {row.reuse!r} is not trained, it has no checkpoint"
                )
        if row.kind == "published" and row.checkpoint and not row.sha256:
            raise UserError(f"{table.where(key)}: a published `checkpoint` needs its `sha256` (row {row.id!r})")
        if (row.kind == "statistic") and not table.statistic:
            raise UserError(f"{table.where(key)}: row {row.id!r} needs the table's `statistic`")
        if wrong := [name for name in row.rule if name not in OPERATIONS]:
            raise UserError(
                f"{table.where(f'{key}.rule')}: no operation {wrong[0]!r}; there are: {', '.join(OPERATIONS)}"
            )
        if row.kind in ("quoted", "server-only") and (row.set or row.set_at):
            raise UserError(f"{table.where(key)}: row {row.id!r} is {row.kind}, it is never run and takes no `set`")
        for scale in row.at:
            if not scale_exists(table.paper, scale):
                raise UserError(f"{table.where(f'{key}.at')}: there is no scale {scale!r}")
    for claim in table.claims.values():
        for side in ("better", "worse"):
            _known_row(table, f"claims.{claim.id}.{side}", getattr(claim, side))
        if wrong := [name for name in claim.across if name not in ACROSS]:
            raise UserError(
                f"{table.where(f'claims.{claim.id}.across')}: no claim may be across {wrong[0]!r}; "
                f"there are: {', '.join(ACROSS)}"
            )
    if table.headline:
        _known_row(table, "headline.row", table.headline.row)
        if not table.headline.method:
            raise UserError(f"{table.where('headline')}: `headline` needs `method`, the short name of the method")


def _known_row(table: Table, key: str, row_id: str) -> None:
    if row_id not in table.rows:
        hint = nearest(row_id, table.rows)
        fix = f"did you mean {hint[0]!r}?" if hint else f"there are: {', '.join(table.rows)}"
        raise UserError(f"{table.where(key)}: no row {row_id!r} in this table; {fix}")


def scale_exists(paper: str, scale: str) -> bool:
    """Whether a scale overlay of that name exists, common or the paper's."""
    root = experiments_root()
    return scale in SCALES or any((root / d / "scales" / f"{scale}.yaml").is_file() for d in ("", paper))


def inner(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The mapping under a key of parsed JSON or YAML; empty where there is none."""
    value = values.get(key)
    return typing.cast("dict[str, Any]", value) if isinstance(value, dict) else {}


# --- finding -------------------------------------------------------------------------------------------------------


def short_name(stem: str) -> str:
    """Name of a table on the command line: table-3 -> 3, figure-3 -> fig-3, others as they are."""
    if stem.startswith("table-"):
        return stem.removeprefix("table-")
    return re.sub(r"^figure-", "fig-", stem)


def all_tables() -> list[Path]:
    """Every table YAML, tables before figures before the rest, in the papers' order."""

    def order(path: Path) -> tuple[Any, ...]:
        kind = next((i for i, p in enumerate(("table-", "figure-")) if path.stem.startswith(p)), 2)
        number = re.search(r"\d+", path.stem)
        return path.parent.parent.name, kind, int(number[0]) if number else 0, path.stem

    return sorted(experiments_root().glob("*/tables/*.yaml"), key=order)


def headline_tables() -> list[Table]:
    """Each paper's headline table, in the order of `papers.PAPERS`.

    Raises:
        UserError: a paper has two.
    """
    found: dict[str, Table] = {}
    for path in all_tables():
        table = load_table(path)
        if table.headline:
            if table.paper in found:
                raise UserError(f"{table.where('headline')}: {found[table.paper].name} has one already; one per paper")
            found[table.paper] = table
    order = [*papers.PAPERS, *found]
    return sorted(found.values(), key=lambda t: order.index(t.paper))


def find_tables(name: str) -> list[Table]:
    """Tables of a name: `drpnet/3`, `drpnet/table-3`, `drpnet/fig-3`, a path; `drpnet/1` may be its parts 1a, 1b ...

    Raises:
        UserError: no such table; names the nearest one.
    """
    if Path(name).suffix == ".yaml" and Path(name).is_file():
        return [load_table(Path(name))]
    paths = {f"{p.parent.parent.name}/{short_name(p.stem)}": p for p in all_tables()}
    paper, _, what = name.removesuffix(".yaml").rpartition("/")
    wanted = f"{paper}/{short_name(what)}"
    if wanted in paths:
        return [load_table(paths[wanted])]
    if parts := [p for n, p in paths.items() if re.fullmatch(re.escape(wanted) + r"[a-z]", n)]:
        return [load_table(p) for p in parts]
    hint = nearest(wanted, paths)
    fix = f"did you mean {hint[0]!r}?" if hint else f"there are: {', '.join(paths) or 'none'}"
    raise UserError(f"no table {name!r} below {experiments_root()}; {fix}")


def settings(layers: list[Layer]) -> dict[str, Any]:
    """Leaves of a row's layers, later ones winning: what goes on the command line as key=value."""
    found: dict[str, Any] = {}
    for layer in layers:
        for key, value in leaves(layer.values):
            for inside in [k for k in found if k.startswith(key + ".") or key.startswith(k + ".")]:
                del found[inside]
            found[key] = value
    return found
