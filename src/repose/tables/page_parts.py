"""One table of the HTML page: its cells with where each number comes from, plots, joints, training curves, pictures."""

from __future__ import annotations

import base64
import json
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from repose.engine import rundir
from repose.tables.cells import Cell as Run
from repose.tables.cells import Choice, cells
from repose.tables.claims import Verdict
from repose.tables.page_plots import Curve, Plot, Point, curves, scatter
from repose.tables.render import NONE, ap_text, columns, measured, number
from repose.tables.report import Line, Report, protocol_line, set_otherwise, shown
from repose.tables.schema import Claim, inner

PICTURES = 4
"""Pictures shown of a run."""
PICTURE_HIGH = 220
"""[pixels] their height: twice what a phone shows."""
_CAPTION = re.compile(r"(Table|Fig\.|Figure) \d[^;]{0,12}")
"""A source that is the caption's own number; an ablation's is a sentence."""
COLOURS = 8
"""Of the style sheet; more rows than that begin again."""


@dataclass(frozen=True)
class Head:
    """A column.

    Attributes:
        text: its heading.
        number: right-aligned, and sorted as numbers.
        tip: shown on hover.
    """

    text: str
    number: bool = True
    tip: str = ""


@dataclass(frozen=True)
class Cell:
    """A cell.

    Attributes:
        text: as in the terminal.
        sort: what it is sorted by; None sorts last.
        source: id of the facts behind it, which a click shows; empty = none.
        tip: the same in one line, shown on hover.
        note: second line, small.
        tone: style: ours, paper, status-measured ...
    """

    text: str
    sort: float | str | None = None
    source: str = ""
    tip: str = ""
    note: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Facts:
    """Where numbers come from: groups of (name, value), each with a heading."""

    id: str
    title: str
    groups: Sequence[tuple[str, Sequence[tuple[str, str]]]]


@dataclass(frozen=True)
class PageLine:
    """A row: its label with the paper's role for it, and its cells."""

    label: str
    role: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Joints:
    """Per-joint errors of the measured rows.

    Attributes:
        rows: labels.
        names: of the joints.
        similarity: mean keypoint similarity (0-1) by row and joint, None where no joint was labelled.
        kinds: shares of good, jitter, inversion, swap and miss by row.
        matched: people that a pose was matched to, of all, by row.
    """

    rows: Sequence[str]
    names: Sequence[str]
    similarity: Sequence[Sequence[float | None]]
    kinds: Sequence[Sequence[tuple[str, float]]]
    matched: Sequence[str]


@dataclass(frozen=True)
class Picture:
    """A saved prediction as a data URI."""

    uri: str
    width: int
    height: int
    alt: str


@dataclass(frozen=True)
class Strip:
    """The pictures of a run, or where they are shown already."""

    label: str
    pictures: Sequence[Picture]
    elsewhere: tuple[str, str] | None = None
    """anchor of the table that shows them, and its name with the row"""


@dataclass(frozen=True)
class Part:
    """A table of the page.

    Attributes:
        id: anchor.
        short: for the contents.
        state: `3 of 3 measured`, for the contents.
        done: share of its runs that are measured; None where it has none.
        command: what fills it in.
    """

    id: str
    name: str
    short: str
    title: str
    place: str
    state: str
    done: float | None
    command: str
    heads: Sequence[Head]
    lines: Sequence[PageLine]
    facts: Sequence[Facts]
    claims: Sequence[tuple[Claim, Verdict]]
    protocol: Sequence[str]
    notes: Sequence[str]
    plots: Sequence[Plot]
    joints: Joints | None
    training: Sequence[Plot]
    training_rows: Sequence[tuple[int, str]]
    strips: Sequence[Strip]


def part(report: Report, shown_in: dict[str, tuple[str, str]]) -> Part:
    """A report as a part of the page.

    Args:
        report: filled-in table.
        shown_in: by run, the part whose pictures show it; this part's are added, so that no run is embedded twice.
    """
    table, choice = report.table, report.choice
    anchor = f"t-{table.name.replace('/', '-')}"
    runs = {i: [c for c in found if rundir.read_result(c.folder)] for i, found in cells(table, choice).items()}
    trained = [x for x in report.lines if x.results]
    state, done = _state(report)
    lines, facts = _lines(report, anchor, runs)
    return Part(
        id=anchor,
        name=table.name,
        short=table.source if _CAPTION.fullmatch(table.source) else table.name.partition("/")[2],
        title=table.title,
        place=table.source,
        state=state,
        done=done,
        command=f"repose table {table.name} --run {' '.join(choice.words)}",
        heads=_heads(report),
        lines=lines,
        facts=facts,
        claims=report.verdicts,
        protocol=report.protocol,
        notes=report.notes,
        plots=cost_plots(report),
        joints=_joints(trained),
        training=_training(trained, runs),
        training_rows=[(i % COLOURS, x.row.label) for i, x in enumerate(_own_runs(trained, runs))],
        strips=_strips(trained, runs, (anchor, table.name), shown_in),
    )


def _state(report: Report) -> tuple[str, float | None]:
    ran = [x for x in report.lines if x.row.runs]
    if not ran:
        kinds = list(dict.fromkeys(x.status for x in report.lines))
        return ", ".join(kinds), None
    done = sum(x.status == "measured" for x in ran)
    return f"{done} of {len(ran)} rows measured", done / len(ran)


# --- rows ----------------------------------------------------------------------------------------------------------


_COST_TIP = "counted with fvcore at the paper's input size"


def _shown(report: Report) -> list[tuple[str, list[str]]]:
    """The columns of the terminal's full form that the page takes as they are, without one that says nothing."""
    own = ("row", "published", "status")
    empty = ("paper", "diff")
    return [
        (name, values)
        for name, values in columns(report, "full")
        if name not in own and not (name.startswith(empty) and set(values) == {NONE})
    ]


def _heads(report: Report) -> list[Head]:
    """The terminal's columns with the status behind the first measured one, so that a phone shows what matters."""
    found: list[Head] = []
    for name, _ in _shown(report):
        if name in ("GMACs", "params M"):
            found.append(Head(f"ours {name}", tip=_COST_TIP))
        else:
            found.append(Head(name, tip="95 % interval: bootstrap over images" if "95 %" in name else ""))
    if any(x.published for x in report.lines):
        found.append(Head("published AP", tip="a committed result of some machine; never stands in for ours"))
    found.append(Head("hours", tip="training and test, all seeds; ≈ is the table's estimate"))
    found.insert(_place_of_status(report), Head("status", number=False))
    return [Head("row", number=False), *found]


def _place_of_status(report: Report) -> int:
    return next((i + 1 for i, (name, _) in enumerate(_shown(report)) if name.startswith("ours ")), 0)


def _lines(report: Report, anchor: str, runs: Mapping[str, Sequence[Run]]) -> tuple[list[PageLine], list[Facts]]:
    facts = [_paper_facts(report, f"{anchor}-paper")]
    every = _shown(report)
    any_published = any(x.published for x in report.lines)
    found: list[PageLine] = []
    for i, line in enumerate(report.lines):
        own = _run_facts(line, f"{anchor}-{i}", runs.get(line.row.id, ()), report.choice)
        published = _published_facts(line, f"{anchor}-{i}-published")
        facts += [f for f in (own, published) if f]
        made = [_value(line, name, values[i], own, facts[0], report.choice) for name, values in every]
        made += [_published_cell(line, published)] if any_published else []
        made.append(_hours(line, report.choice))
        made.insert(_place_of_status(report), _status(line, report))
        found.append(PageLine(line.row.label, line.row.role, made))
    return found, facts


def _value(line: Line, name: str, text: str, own: Facts | None, paper: Facts, choice: Choice) -> Cell:
    """A cell of a column of `render.columns`: the paper's, ours, the difference or a count."""
    if name.startswith("paper "):
        value = line.row.paper.get({"paper params M": "params"}.get(name, name.removeprefix("paper ")))
        if value is None:
            return Cell(NONE, tone="paper")
        tip = f"quoted by the paper from {line.row.source}" if line.row.source else paper.title
        return Cell(text, value, paper.id, tip, tone="paper")
    if name in ("GMACs", "params M"):
        value = line.cost.gmacs if name == "GMACs" else line.cost.params
        if value is None:
            return Cell(NONE, tip=line.cost.why)
        return Cell(text, value, tip=f"{_COST_TIP}{f', {line.cost.size}' if line.cost.size else ''}")
    if name == "diff":
        return Cell(text, line.difference)
    metric = name.removeprefix("ours ").removesuffix(" [95 %]")
    value = line.values.get(metric)
    if value is None:
        return Cell(NONE, tone="ours")
    tip = _own_tip(line, choice) if own else line.hardware
    return Cell(text, value, own.id if own else "", tip, tone="ours")


def _own_tip(line: Line, choice: Choice) -> str:
    """Where a measured row comes from, in one line."""
    first = line.results[0]
    seeds = f"{line.seeds} seed{'' if line.seeds == 1 else 's'}"
    return (
        f"scale {choice.scale}, data {inner(first, 'data').get('name')}, {seeds}, {hours_text(_spent(line))}, "
        f"commit {_commit(first)}, {first.get('hardware')}"
    )


def _commit(result: Mapping[str, Any]) -> str:
    return f"{str(result.get('commit') or 'none')[:12]}{' with changes' if result.get('dirty') else ''}"


def _spent(line: Line) -> float:
    return sum(float(r.get("hours") or 0) for r in line.results)


def hours_text(hours: float) -> str:
    """Hours for people: seconds and minutes where it is less."""
    if hours < 1 / 60:
        return f"{3600 * hours:.0f} s"
    return f"{60 * hours:.1f} min" if hours < 1 else f"{hours:.2f} h"


def _hours(line: Line, choice: Choice) -> Cell:
    if line.results:
        return Cell(hours_text(_spent(line)), _spent(line))
    guess = line.row.hours.get(choice.scale)
    if guess is not None and line.row.runs and not line.status.startswith("not run at"):
        return Cell(f"≈ {hours_text(guess)}", guess, tip="the table's estimate")
    return Cell(NONE)


def _status(line: Line, report: Report) -> Cell:
    note = line.reason
    if line.status == "not run" and not note:
        note = f"nobody has run it here at scale {report.choice.scale}"
    if line.status == "measured" and line.floor:
        note = "floor: an AP too low to rank"
    if line.cost.why:
        note = f"{note}; {line.cost.why}" if note else line.cost.why
    return Cell(line.status, line.status, note=note, tone=f"status {line.status.split(',')[0].replace(' ', '-')}")


def _published_cell(line: Line, facts: Facts | None) -> Cell:
    if facts is None:
        return Cell(NONE, tone="published")
    last = line.published[-1]
    if not last["AP"]:
        return Cell("counted", None, facts.id, last["protocol"], tone="published")
    tip = f"{last['date']}, commit {last['commit']}, {last['hardware']}, {last['hours']} h, seeds: {last['seeds']}"
    text = ", ".join([f"{last['AP']} [{last['AP_low']}, {last['AP_high']}]", *set_otherwise(last)])
    return Cell(text, float(last["AP"]), facts.id, tip, tone="published")


# --- provenance ----------------------------------------------------------------------------------------------------


def _paper_facts(report: Report, name: str) -> Facts:
    protocol = report.table.protocol
    flip = {None: "not stated", True: "yes", False: "no"}[protocol.flip]
    pairs = [
        ("where", report.table.source),
        ("data", protocol.data or "not stated"),
        ("boxes", protocol.boxes or "not stated"),
        ("flip test", flip),
        ("OKS area", protocol.oks_area),
        ("input", protocol.input or "not stated"),
        *([("protocol", protocol.note)] if protocol.note else []),
        *([("GFLOPs, params", f"{report.table.counted} (millions of {report.table.params_unit})")]
          if report.table.counted else []),
    ]  # fmt: skip
    return Facts(name, f"the paper's {report.table.source}", [("", pairs)])


def _run_facts(line: Line, name: str, runs: Sequence[Run], choice: Choice) -> Facts | None:
    """What made a measured row; nothing for the others."""
    if not line.results:
        return None
    folders = {result_id(r): c for c in runs if (r := rundir.read_result(c.folder))}
    groups = [
        (f"seed {result.get('seed')}" if line.seeds > 1 else "", _result_pairs(result, folders.get(result_id(result))))
        for result in line.results
    ]
    values = measured(line)
    numbers = [(k, shown(k, line.values[k])) for k in line.values if k not in ("AP",) and values.get(k) is not None]
    groups.append(("all that was measured", [("AP", ap_text(line)), *numbers]))
    return Facts(name, f"{line.row.label}, scale {choice.scale}", groups)


def result_id(result: Mapping[str, Any]) -> tuple[str, str, str]:
    """Tells a row's results apart: identity, seed, end."""
    return str(result.get("identity")), str(result.get("seed")), str(result.get("finished"))


def _result_pairs(result: Mapping[str, Any], run: Run | None) -> list[tuple[str, str]]:
    evaluated = inner(result, "evaluated")
    data = inner(result, "data")
    layout = inner(result, "layout")
    pairs: list[tuple[str, Any]] = [
        ("run", run.folder if run else None),
        ("tests the checkpoint of", run.parent.row.label if run and run.parent else None),
        ("commit", _commit(result)),
        ("data", f"{data.get('name')}, fingerprint {data.get('fingerprint')}"),
        ("protocol", protocol_line(result)),
        ("seed", result.get("seed")),
        ("hardware", result.get("hardware")),
        ("hours", hours_text(float(result.get("hours") or 0))),
        ("finished", result.get("finished")),
        ("evaluated", _evaluated(evaluated)),
        ("training", _recipe(result)),
        ("precision", layout.get("precision")),
        ("this scale's network", _network(result)),
        ("identity", result.get("identity")),
        ("versions", ", ".join(f"{k} {v}" for k, v in inner(result, "versions").items())),
    ]
    return [(k, str(v)) for k, v in pairs if v not in (None, "")]


def _evaluated(said: Mapping[str, Any]) -> str:
    if "epoch" not in said:
        return ""
    return f"{Path(str(said.get('checkpoint'))).name}, epoch {said.get('epoch')}, {said.get('weights')} weights"


def _recipe(result: Mapping[str, Any]) -> str:
    if not result.get("epochs") or not result.get("steps"):
        return ""
    rate = result.get("lr")
    return f"{result.get('epochs')} epochs, {result.get('steps')} steps, global batch {result.get('global_batch')}" + (
        f", learning rate {float(rate):.4g}" if rate else ""
    )


def _network(result: Mapping[str, Any]) -> str:
    size: Any = result.get("input_size")
    if not result.get("params") or not size:
        return ""
    return (
        f"{number(float(result['params']) / 1e6, 3)} M parameters, {number(float(result.get('macs') or 0) / 1e9, 3)} "
        f"GMACs at {'x'.join(map(str, size))}"
    )


def _published_facts(line: Line, name: str) -> Facts | None:
    if not line.published:
        return None
    keys = (
        ("AP50", "AP50"), ("AP75", "AP75"), ("GMACs", "GMACs"), ("params M", "params_M"), ("commit", "commit"),
        ("hardware", "hardware"), ("hours", "hours"), ("seeds", "seeds"), ("protocol", "protocol"),
        ("identity", "identity"),
    )  # fmt: skip
    groups: list[tuple[str, list[tuple[str, str]]]] = []
    for row in reversed(line.published):
        ap = [("AP", f"{row['AP']} [{row['AP_low']}, {row['AP_high']}]")] if row["AP"] else []
        since = [("settings", "other than the row's today")] if set_otherwise(row) else []
        groups.append((row["date"], [*ap, *since, *((head, row[key]) for head, key in keys if row[key])]))
    return Facts(name, f"published: {line.row.label}, scale {line.published[-1]['scale']}", groups)


# --- plots ---------------------------------------------------------------------------------------------------------


def cost_plots(report: Report) -> list[Plot]:
    """AP against GFLOPs and against parameters, where a table has two such points."""
    found = [
        scatter(_points(report, key), f"{report.table.name}: AP against {what}", what)
        for key, what in (("GFLOPs", "GFLOPs (multiply-adds)"), ("params", "parameters, millions"))
    ]
    return [p for p in found if p is not None]


def _points(report: Report, key: str) -> list[Point]:
    points: list[Point] = []
    colour = {"own": 0, "baseline": 1, "quoted": 2}
    for line in report.lines:
        points += row_points(line, key, colour[line.row.role], line.row.label, report.choice.scale)
    return points


def row_points(line: Line, key: str, colour: int, label: str, scale: str) -> list[Point]:
    """The paper's and our point of a row.

    Args:
        line: a row.
        key: GFLOPs or params.
        colour: of both.
        label: beside both.
        scale: of ours.
    """
    found: list[Point] = []
    paper, cost = line.row.paper, line.cost.gmacs if key == "GFLOPs" else line.cost.params
    at = paper.get(key, cost)
    unit = "GFLOPs" if key == "GFLOPs" else "M parameters"
    whose = "" if key in paper else " (counted here, the paper gives none)"
    if "AP" in paper and at is not None:
        found.append(
            Point(
                at,
                paper["AP"],
                "paper",
                colour,
                label,
                f"{label}: the paper's AP {paper['AP']:g}, {at:.3g} {unit}{whose}",
            )
        )
    if "AP" in line.values and cost is not None:
        low, high = (100 * line.interval.low, 100 * line.interval.high) if line.interval else (None, None)
        title = f"{label}: ours at scale {scale}, AP {ap_text(line)}, {cost:.3g} {unit} at the paper's size"
        found.append(Point(cost, 100 * line.values["AP"], "ours", colour, label, title, low, high))
    return found


def _own_runs(lines: Sequence[Line], runs: Mapping[str, Sequence[Run]]) -> list[Line]:
    """Lines with a training of their own, each run once."""
    found: dict[str, Line] = {}
    for line in lines:
        own = [c for c in runs.get(line.row.id, ()) if c.parent is None]
        if own and own[0].key not in found and (own[0].folder / rundir.METRICS).is_file():
            found[own[0].key] = line
    return list(found.values())


def _training(lines: Sequence[Line], runs: Mapping[str, Sequence[Run]]) -> list[Plot]:
    """Loss and AP over the steps of the first seed's training."""
    loss: list[Curve] = []
    ap: list[Curve] = []
    for i, line in enumerate(_own_runs(lines, runs)):
        rows = _metrics(runs[line.row.id][0].folder / rundir.METRICS)
        train = [(float(r["step"]), float(r["loss"])) for r in rows if r["kind"] == "train" and r.get("loss")]
        test = [
            (float(r["step"]), 100 * float(r["AP"])) for r in rows if r["kind"] == "test" and r.get("AP") is not None
        ]
        loss.append(Curve(train, i % COLOURS, line.row.label))
        ap.append(Curve(test, i % COLOURS, line.row.label, dots=True))
    ap = ap if any(len(c.points) > 1 for c in ap) else []  # evaluated at the end alone: the table says it
    found = [curves(loss, "training loss over steps", "loss", log=True), curves(ap, "AP over steps", "AP")]
    return [p for p in found if p is not None]


def _metrics(path: Path) -> list[dict[str, Any]]:
    """metrics.jsonl; a line that a killed run cut short is left out."""
    found: list[dict[str, Any]] = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(dict(json.loads(text)))
        except (ValueError, TypeError):
            continue
    return [r for r in found if "step" in r and "kind" in r]


# --- joints --------------------------------------------------------------------------------------------------------


def _joints(lines: Sequence[Line]) -> Joints | None:
    """Mean over seeds; rows of another skeleton than the first row's are left out."""
    errors = [(x, [inner(r, "errors") for r in x.results]) for x in lines]
    errors = [(x, each) for x, each in errors if all(inner(e, "joints") for e in each)]
    if not errors:
        return None
    names = list(inner(errors[0][1][0], "joints"))
    errors = [(x, each) for x, each in errors if all(list(inner(e, "joints")) == names for e in each)]
    similarity: list[list[float | None]] = []
    for _, each in errors:
        similarity.append([_similarity(each, name) for name in names])
    return Joints(
        rows=[x.row.label for x, _ in errors],
        names=names,
        similarity=similarity,
        kinds=[
            [(k, statistics.fmean(float(inner(e, "kinds").get(k) or 0) for e in each)) for k in inner(each[0], "kinds")]
            for _, each in errors
        ],
        matched=[f"{sum(e['matched'] for e in each)} of {sum(e['people'] for e in each)}" for _, each in errors],
    )


def _similarity(errors: Sequence[Mapping[str, Any]], joint: str) -> float | None:
    """Mean over seeds; None where the joint was not labelled on any matched person."""
    said = [inner(inner(e, "joints"), joint).get("similarity") for e in errors]
    known = [float(v) for v in said if v is not None]
    return statistics.fmean(known) if len(known) == len(said) else None


# --- pictures ------------------------------------------------------------------------------------------------------


def _strips(
    lines: Sequence[Line],
    runs: Mapping[str, Sequence[Run]],
    here: tuple[str, str],
    shown_in: dict[str, tuple[str, str]],
) -> list[Strip]:
    """Saved predictions of each row's first run; a run is embedded once in the page."""
    found: list[Strip] = []
    for line in lines:
        run = next(iter(runs.get(line.row.id, ())), None)
        if run is None:
            continue
        if place := shown_in.get(run.key):
            found.append(Strip(line.row.label, (), place))
            continue
        files = sorted((run.folder / rundir.PICTURES).glob("*.png"), key=_order)[:PICTURES]
        pictures = [p for f in files if (p := _picture(f, line.row.label))]
        if pictures:
            shown_in[run.key] = (here[0], f"{here[1]}, {line.row.label}")
            found.append(Strip(line.row.label, pictures))
    return found if any(s.pictures for s in found) else []


def _order(path: Path) -> tuple[int, str]:
    """By image id, so that all rows show the same images."""
    first = path.stem.partition("-")[0]
    return (int(first) if first.isdigit() else 0, path.stem)


def _picture(path: Path, label: str) -> Picture | None:
    return embedded(path, f"{label}: predictions on image {path.stem.partition('.')[0]}", PICTURE_HIGH)


def embedded(path: Path, alt: str, high: int) -> Picture | None:
    """A picture at most `high` pixels high; None where the file is no picture (half written, say)."""
    image = cv2.imread(str(path))
    if image is None:
        return None
    scale = min(1.0, high / image.shape[0])
    if scale < 1:
        size = (max(1, round(image.shape[1] * scale)), high)
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    good, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])
    if not good:
        return None
    text = base64.b64encode(np.asarray(data).tobytes()).decode()
    return Picture(f"data:image/jpeg;base64,{text}", image.shape[1], image.shape[0], alt)
