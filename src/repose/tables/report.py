"""A table filled in: the paper's values, what was measured here, and what may be said about it. Prints nothing."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, cast

from repose.config import ExperimentBase, leaves, parse_arguments, to_dict
from repose.config.schema import NOT_IDENTITY
from repose.errors import UserError
from repose.tables import claims, evaluation
from repose.tables.cells import Cell, Choice, as_argument, at_scale, cell, cells
from repose.tables.claims import FLOOR, Interval, Verdict
from repose.tables.costs import RowCost
from repose.tables.schema import COSTS, Claim, Row, Table, inner
from repose.tables.speed import asked, asked_latency, latencies, speeds
from repose.tables.state import Changed, State, state_of


class Numbers(Protocol):
    """What a report asks of the metrics; tests put constructed numbers here."""

    def interval(self, cell: Cell, result: dict[str, Any]) -> Interval:
        """AP (0-1) of a measured run with its interval over images."""
        ...

    def paired(self, better: Cell, worse: Cell, metric: str = "AP") -> Interval | None:
        """Difference of AP (0-1), same images; None where the two runs saw different images.

        `metric` may be the AP of a subset of the images (AP_H, say); None where there is no such subset.
        """
        ...

    def cost(self, table: Table, row: Row, choice: Choice) -> RowCost:
        """Params and GMACs at the paper's size."""
        ...

    def statistic(self, cell: Cell) -> dict[str, float]:
        """What a statistic row computes; UserError where its annotations are not here."""
        ...


@dataclass(frozen=True)
class Line:
    """One row, filled in.

    Attributes:
        status: measured, stale, running, stopped, failed, not run, not run at mini, quoted, server only, counted,
            computed, no data, needs its file.
        reason: behind it.
        values: measured metrics, mean over seeds, 0-1 as in result.json; unless measured, at most the speeds.
        interval: of AP (0-1).
        seeds: measured ones.
        difference: ours minus the paper's AP in percent, where protocol and scale are the same.
        hardware: what the speeds among the values were measured on (`repose bench`).
        published: rows of experiments/<paper>/results/ at this scale, newest last.
        results: result.json of the measured runs.
        main: the metric that rows are ranked by.
        apart: why its AP and the paper's are not numbers of the same thing.
    """

    row: Row
    status: str
    reason: str = ""
    values: Mapping[str, float] = field(default_factory=dict[str, float])
    interval: Interval | None = None
    seeds: int = 0
    difference: float | None = None
    cost: RowCost = field(default_factory=RowCost)
    hardware: str = ""
    published: Sequence[Mapping[str, str]] = ()
    results: Sequence[Mapping[str, Any]] = ()
    main: str = "AP"
    apart: Sequence[str] = ()

    @property
    def floor(self) -> bool:
        """Whether its AP (mask AP in a table of masks) is too low to rank it."""
        return self.main in self.values and self.values[self.main] < FLOOR


def further(published: Mapping[str, str]) -> dict[str, str]:
    """Metrics of a published row that have no column of their own (`others`)."""
    return {name: text for name, _, text in (pair.partition("=") for pair in published.get("others", "").split())}


OTHER_SETTINGS = "other settings"
"""Key of a published row whose settings were not those of the row today, and the words beside its figure."""


def set_otherwise(published: Mapping[str, str]) -> list[str]:
    """The words beside a published figure, if any."""
    return [OTHER_SETTINGS] if OTHER_SETTINGS in published else []


@dataclass(frozen=True)
class Report:
    """A table at a scale.

    Attributes:
        verdicts: claim and verdict.
        protocol: one line per way of evaluating that occurs.
        notes: everything that stands under the table.
    """

    table: Table
    choice: Choice
    lines: Sequence[Line]
    verdicts: Sequence[tuple[Claim, Verdict]]
    protocol: Sequence[str]
    notes: Sequence[str]


def build(
    table: Table,
    choice: Choice,
    changed: Changed,
    numbers: Numbers,
    published: Mapping[str, Sequence[Mapping[str, str]]],
) -> Report:
    """Fill in a table from the run folders.

    Args:
        table: the paper's.
        choice: scale, data, seeds and settings of the command line.
        changed: judges whether a result still counts.
        numbers: intervals and costs.
        published: row id -> published rows at this scale.
    """
    runs = cells(table, choice)
    states = {i: [(c, state_of(c, changed)) for c in found] for i, found in runs.items()}
    lines = [_line(table, choice, row, states[row.id], numbers, published) for row in table.rows.values()]
    measured = {i: [c for c, s in found if s.status == "measured"] for i, found in states.items()}
    shared = _shared(table, runs)
    verdicts = [(c, judge(c, {x.row.id: x for x in lines}, measured, numbers)) for c in table.claims.values()]
    return Report(table, choice, lines, verdicts, protocols(lines), [*shared, *_notes(table, choice, lines)])


def _shared(table: Table, runs: Mapping[str, Sequence[Cell]]) -> list[str]:
    """Rows that are the same run here, so that nobody takes them for two measurements."""
    first: dict[str, str] = {}
    found: list[str] = []
    for row_id, own in runs.items():
        for c in own[:1]:
            if c.key in first:
                found.append(f"{table.rows[row_id].label}: the same run as {table.rows[first[c.key]].label}")
            first.setdefault(c.key, row_id)
    return found


def _line(
    table: Table,
    choice: Choice,
    row: Row,
    states: Sequence[tuple[Cell, State]],
    numbers: Numbers,
    published: Mapping[str, Sequence[Mapping[str, str]]],
) -> Line:
    cost = numbers.cost(table, row, choice)
    timed, hardware = speeds(table.metrics, states[0][0].loaded.cfg) if states and asked(table.metrics) else ({}, "")
    if row.runs and asked_latency(table.metrics):
        at_paper = cell(table, row, replace(choice, data=None), scale="paper").loaded.cfg
        late, host = latencies(table.metrics, at_paper)
        timed, hardware = {**timed, **late}, "; ".join(x for x in (hardware, host) if x)
    line = Line(
        row, "", cost=cost, published=published.get(row.id, ()), values=timed, hardware=hardware, main=table.main
    )
    if row.kind == "statistic":
        return _statistic(table, choice, line, numbers)
    if not row.runs:
        return replace(line, status=row.kind.replace("-", " "), reason=row.source)
    if not states and row.kind == "published" and at_scale(row, choice.scale) and not row.checkpoint:
        return replace(line, status="needs its file", reason=f"checkpoint.{row.id}=FILE; {row.source}")
    if not states:
        return replace(line, status=f"not run at {choice.scale}", reason="no distinct form at this scale")
    done = [(c, s.result) for c, s in states if s.status == "measured" and s.result]
    worst = next((s for _, s in states if s.status != "measured"), None)
    status, reason = (worst.status, worst.reason) if worst else ("measured", "")
    if done and worst:
        status = f"{len(done)} of {len(states)} seeds measured, then {worst.status}"
    if not done:
        return replace(line, status=status, reason=reason)
    results = [r for _, r in done]
    values = {**_means(results), **timed}
    interval = claims.over_seeds([numbers.interval(c, r) for c, r in done]) if "AP" in values else None
    apart = {why for c, r in done if (why := protocol_differs(table, choice, r, row, c.loaded.cfg))}
    paper = row.paper.get("AP")
    difference = 100 * values["AP"] - paper if "AP" in values and paper is not None and not apart else None
    return replace(
        line,
        status=status,
        reason=reason,
        values=values,
        interval=interval,
        seeds=len(done),
        difference=difference,
        results=results,
        apart=sorted(apart),
    )


def _statistic(table: Table, choice: Choice, line: Line, numbers: Numbers) -> Line:
    if not at_scale(line.row, choice.scale):
        return replace(line, status=f"not run at {choice.scale}", reason="no distinct form at this scale")
    try:
        return replace(line, status="computed", values=numbers.statistic(cell(table, line.row, choice)))
    except UserError as error:
        return replace(line, status="no data", reason=str(error))


def _means(results: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Mean over seeds of every number that all of them have."""
    found: dict[str, list[float]] = {}
    for result in results:
        for name, value in inner(result, "metrics").items():
            if isinstance(value, (int, float)):
                found.setdefault(name, []).append(float(value))
    return {k: statistics.fmean(v) for k, v in found.items() if len(v) == len(results)}


# --- protocol ------------------------------------------------------------------------------------------------------


def protocol_differs(
    table: Table,
    choice: Choice,
    result: Mapping[str, Any],
    row: Row | None = None,
    cfg: ExperimentBase | None = None,
) -> str:
    """Why a measured AP and the paper's are not numbers of the same thing, or an empty string.

    Args:
        table: the paper's.
        choice: of the command line.
        result: the run's result.json.
        row: where the run stands in the table.
        cfg: what the run computed.
    """
    if choice.scale != "paper":
        return f"scale {choice.scale} is not the paper's"
    if cfg and (why := _shortened(cfg)):
        return why
    paper = table.protocol
    data = inner(result, "data").get("name")
    wanted = table.evaluated_on(row) if row else paper.data
    if wanted and data != wanted:
        return f"evaluated on {data}, the paper on {wanted}"
    boxes = str(result.get("box_source") or "")
    if paper.boxes and boxes.partition(":")[0] != paper.boxes:
        return f"boxes: {boxes}, the paper's: {paper.boxes}"
    if paper.flip is not None and bool(result.get("flip")) != paper.flip:
        return f"flip test {_yes(result.get('flip'))}, the paper's {_yes(paper.flip)}"
    if paper.oks_area and result.get("oks_area") not in (None, paper.oks_area):
        return f"OKS area {result.get('oks_area')}, the paper's {paper.oks_area}"
    if given := _given(choice):
        return f"settings of the command line: {', '.join(given)}"
    return ""


def _shortened(cfg: ExperimentBase) -> str:
    """Why a run at the paper's scale is not the whole experiment; "" if it is."""
    if cfg.data.limit_val:
        return f"evaluated on the first {cfg.data.limit_val} images only"
    if cfg.data.limit_train:
        return f"trained on the first {cfg.data.limit_train} images only"
    return f"a debugging run (train.debug={cfg.train.debug})" if cfg.train.debug != "off" else ""


_NO_OTHER_EXPERIMENT = (
    *NOT_IDENTITY, "seed", "data.name", "data.train_json", "data.train_images", "data.val_json", "data.val_images",
    "data.detections", "data.boxes", "data.oks_area", "test.flip", "train.precision",
)  # fmt: skip
"""Settings that leave the paper's experiment what it is, or that are compared with the paper's protocol."""


def _given(choice: Choice) -> list[str]:
    """Settings of the command line that make another experiment of the paper's."""
    line, _ = parse_arguments(choice.settings)
    return [as_argument(key, value) for key, value in leaves(line.values) if not _among(key, _NO_OTHER_EXPERIMENT)]


def _among(key: str, names: Sequence[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in names)


def _yes(value: Any) -> str:
    return "yes" if value else "no"


def protocols(lines: Sequence[Line]) -> list[str]:
    """How the measured rows were evaluated: one line if all alike, else one per way with its rows."""
    ways: dict[str, list[str]] = {}
    for line in lines:
        for result in line.results:
            ways.setdefault(protocol_line(result), [])
            if line.row.label not in ways[protocol_line(result)]:
                ways[protocol_line(result)].append(line.row.label)
    if len(ways) <= 1:
        return list(ways)
    return [f"{way} ({', '.join(labels)})" for way, labels in ways.items()]


def protocol_line(result: Mapping[str, Any]) -> str:
    """Data, box source, flip, OKS area, initialisation, scale, precision (if not 32 bits), choice among evaluations."""
    size: Any = result.get("input_size")
    parts = [
        f"data {inner(result, 'data').get('name')}",
        f"boxes {result.get('box_source')}",
        f"flip {_yes(result.get('flip'))}",
        f"OKS area {result.get('oks_area')}",
        f"init {result.get('init')}",
        *([f"input {'x'.join(map(str, size))}"] if size else []),
        f"scale {result.get('scale')}",
    ]
    precision = str(inner(result, "layout").get("precision", "32-true"))
    if precision != "32-true":
        parts.append(f"precision {precision.removesuffix('-mixed')}")
    scales: Any = result.get("test_scales")
    if scales and list(scales) != [1.0]:
        parts.append(f"test scales {scales}")
    chosen_of = int(inner(result, "evaluated").get("chosen_of", 1))
    if chosen_of > 1:
        parts.append(f"best of {chosen_of} evaluations on these data")
    return ", ".join(parts)


# --- claims --------------------------------------------------------------------------------------------------------


def judge(claim: Claim, lines: Mapping[str, Line], measured: Mapping[str, Sequence[Cell]], numbers: Numbers) -> Verdict:
    """Verdict of a claim from two rows."""
    better, worse = lines[claim.better], lines[claim.worse]
    if claim.metric in COSTS:
        if claim.metric == "GFLOPs":
            return claims.judge_counted(better.cost.gmacs, worse.cost.gmacs, "GMACs")
        return claims.judge_counted(better.cost.params, worse.cost.params, "M parameters")
    for line in (better, worse):
        if not line.seeds:
            return Verdict("undecided", f"{line.row.label} is {line.status}")
    if apart := evaluation.differ(claim, measured[claim.better][0], measured[claim.worse][0]):
        return Verdict("undecided", f"not compared, other protocols: {apart}")
    other = {c.number: c for c in measured[claim.worse]}
    pairs = [(c, other[c.number]) for c in measured[claim.better] if c.number in other]
    each = [d for b, w in pairs if (d := numbers.paired(b, w, claim.metric)) is not None]
    if not each or len(each) < len(pairs):
        what = "" if claim.metric == "AP" else f" of {claim.metric}"
        return Verdict("undecided", f"no paired test{what}: other images, or predictions or data are not here")
    values = (better.values.get(claim.metric, 0.0), worse.values.get(claim.metric, 0.0))
    return claims.judge_measured(claims.over_seeds(each), values, len(each))


# --- below the table -----------------------------------------------------------------------------------------------


def _notes(table: Table, choice: Choice, lines: Sequence[Line]) -> list[str]:
    scale = choice.scale
    found: list[str] = []
    if reasons := {why for x in lines for why in x.apart}:
        found.append(f"no difference to the paper is given: {'; '.join(sorted(reasons))}")
    if table.counted:
        found.append(f"the paper's GFLOPs and params: {table.counted}; ours: fvcore, at the paper's size")
    found += _rules(lines)
    if table.params_unit == "2^20":
        found += _in_mi(lines)
    if measured := list(dict.fromkeys(x.hardware for x in lines if x.hardware)):
        found.append(f"speeds, measured by `repose bench`: {'; '.join(measured)}")
    for line in lines:
        if line.row.counted:
            found.append(f"{line.row.label}: the paper counts {line.row.counted}")
        if line.row.note:
            found.append(f"{line.row.label}: {line.row.note}")
        if line.cost.why:
            found.append(f"{line.row.label}: {line.cost.why}")
        if line.reason and line.status not in _SAID_ELSEWHERE and not line.status.startswith("not run at"):
            found.append(f"{line.row.label}: {line.status}: {line.reason}")
    if low := [x.row.label for x in lines if x.floor]:
        found.append(f"floor: an AP below {100 * FLOOR:.0f} cannot be ranked: {'; '.join(low)}")
    missing: dict[str, list[str]] = {}
    for line in lines:
        if line.status == "no data":
            missing.setdefault(line.reason, []).append(line.row.label)
    found += [f"{', '.join(labels)}: no data: {why}" for why, labels in missing.items()]
    sources: dict[str, list[str]] = {}
    for line in lines:
        if line.status in ("quoted", "server only") and line.reason:
            labels = sources.setdefault(line.reason, [])
            if (label := table.method_label(line.row)) not in labels:
                labels.append(label)
    found += [f"{', '.join(labels)}: quoted from {source}" for source, labels in sources.items()]
    found += mechanism(table, lines)
    if scale != "paper":
        if scaled := scaled_down(table, choice):
            found.append(f"scaled for {scale} (paper -> here): {'; '.join(scaled)}")
        if text := table.shows.get(scale):
            found.append(f"shows: {text}")
        if text := table.not_shown.get(scale):
            found.append(f"does not show: {text}")
    if table.note:
        found.append(table.note)
    return found


_SAID_ELSEWHERE = ("quoted", "server only", "counted", "no data")


def _rules(lines: Sequence[Line]) -> list[str]:
    """Which rows' GMACs leave operations out, to follow the paper's rule."""
    rules: dict[tuple[str, ...], list[str]] = {}
    for line in lines:
        if line.row.rule and line.cost.gmacs is not None:
            rules.setdefault(line.row.rule, []).append(line.row.label)
    return [f"our GMACs count {' + '.join(rule)} alone: {', '.join(labels)}" for rule, labels in rules.items()]


def _in_mi(lines: Sequence[Line]) -> list[str]:
    """Our parameters in the unit of a paper whose M is 2^20."""
    values = [f"{x.row.label} {x.cost.params * 1e6 / 2**20:.2f}" for x in lines if x.cost.params is not None]
    return [f"our parameters in the paper's unit, 2^20: {'; '.join(values)}"] if values else []


def mechanism(table: Table, lines: Sequence[Line]) -> list[str]:
    """The metrics behind the AP (share of joints inside the ROI, coarse AP ...), one line per metric."""
    found: list[str] = []
    for name in table.mechanism:
        values = [f"{x.row.label} {shown(name, x.values[name])}" for x in lines if name in x.values]
        if values:
            found.append(f"{name}: {', '.join(values)}")
    return found


def shown(name: str, value: float) -> str:
    """A metric for people: AP and AR in percent, others with three digits."""
    if in_percent(name):
        return f"{100 * value:.1f}"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"  # 4498 people, not 4.5e+03


def in_percent(name: str) -> bool:
    """Whether a metric is given in percent: every AP and AR (AP50, mask_AP, coarse_AP, AR_L, ...), and PCKh."""
    return "AP" in name or "AR" in name or "PCKh" in name


_SCALE_SAYS_IT = (
    "scale", "data.name", "data.train_json", "data.train_images", "data.val_json", "data.val_images", "data.detections",
)  # fmt: skip


def scaled_down(table: Table, choice: Choice) -> list[str]:
    """What differs between the paper's scale and this one, for the first row trained at it, as `key paper -> here`."""
    row = next((r for r in table.rows.values() if r.kind == "train" and at_scale(r, choice.scale)), None)
    if row is None:
        return []
    plain = Choice(choice.scale, choice.data)
    paper = dict(leaves(to_dict(cell(table, row, replace(plain, data=None), scale="paper").loaded.cfg)))
    here = dict(leaves(to_dict(cell(table, row, plain).loaded.cfg)))
    out = (*NOT_IDENTITY, *_SCALE_SAYS_IT)
    data = f"data {paper['data.name']} -> {here['data.name']}"
    found = [data] if paper["data.name"] != here["data.name"] else []
    for key in here:
        if key.startswith("data.synthetic") or _among(key, out):
            continue
        if paper.get(key) != here[key]:
            found.append(f"{key} {_plain(paper.get(key))} -> {_plain(here[key])}")
    return found


def _plain(value: Any) -> str:
    if isinstance(value, list):
        items = cast("list[Any]", value)
        return "x".join(map(str, items)) if len(items) == 2 else str(items)
    return f"{value:g}" if isinstance(value, float) else str(value)
