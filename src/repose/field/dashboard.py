# pyright: reportUnknownMemberType=false
"""DRP-Net's Fig. 7: what one model can do, at a glance; as JSON with provenance, PNG and an HTML page.

The JSON says of each number where it comes from: `measured` (a run or `repose bench latency` here), `counted` (fvcore),
`quoted` (the paper). The two others show the same numbers.
"""

from __future__ import annotations

import base64
import html
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repose.engine import provenance, rundir
from repose.tables import speed
from repose.tables.cells import cell, cells
from repose.tables.report import Line, Report
from repose.tables.schema import find_tables

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PHONE = "Snapdragon 865 (the paper's)"
_OURS, _PAPER, _OTHERS = "#2b7a4b", "#7a4b9a", "#9a9a9a"


def dashboard(report: Report, path: Path) -> None:
    """Write the dashboard of a table's first trained row: PNG, and JSON and HTML of the same name beside it.

    Args:
        report: Fig. 7, filled in.
        path: the PNG.
    """
    facts = collect(report)
    rundir.write_text(path.with_suffix(".json"), json.dumps(rundir.without_nan(facts), indent=1) + "\n")
    figure = _draw(facts)
    with rundir.atomic(path) as part:
        figure.savefig(part, format="png", dpi=150)
    rundir.write_text(path.with_suffix(".html"), page(facts, path))


def collect(report: Report) -> dict[str, Any]:
    """Every number of the dashboard with its source."""
    main, int8 = _rows(report)
    scale = report.choice.scale
    cfg = cell(report.table, main.row, report.choice, scale="paper").loaded.cfg
    return {
        "model": main.row.label,
        "paper": report.table.paper,
        "scale": scale,
        "data": _data(main),
        "status": main.status,
        "accuracy": _accuracy(main, int8, scale),
        "complexity": _complexity(main),
        "latency": _latency(report, cfg),
        "landscape": _landscape(report, main),
        "overlay": _overlay(report, main),
        "commit": provenance.commit(),
        "hardware": provenance.hardware(),
        "versions": provenance.versions(),
    }


def _rows(report: Report) -> tuple[Line, Line | None]:
    trained = next(line for line in report.lines if line.row.kind == "train")
    return trained, next((line for line in report.lines if line.row.reuse == trained.row.id), None)


def _data(line: Line) -> str:
    data = line.results[0].get("data") if line.results else None
    return str(data.get("name", "")) if isinstance(data, dict) else ""


def _accuracy(main: Line, int8: Line | None, scale: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name in ("AP", "AP50", "AP75"):
        if name in main.row.paper:
            found.append(_number(name, main.row.paper[name], "quoted", "the paper, COCO val2017"))
        if name in main.values:
            found.append(_number(name, 100 * main.values[name], "measured", f"{_precision(main)}, scale {scale}"))
        if int8 is not None and name in int8.values:
            found.append(_number(name, 100 * int8.values[name], "measured", f"int8, scale {scale}"))
    return found


def _precision(line: Line) -> str:
    layout = line.results[0].get("layout") if line.results else None
    taken = str(layout.get("precision")) if isinstance(layout, dict) else ""
    return {"bf16-mixed": "bfloat16", "16-mixed": "float16"}.get(taken, "float32")


def _number(name: str, value: float, source: str, what: str) -> dict[str, Any]:
    return {"name": name, "value": round(value, 4), "source": source, "what": what}


def _complexity(main: Line) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name, ours in (("params", main.cost.params), ("GFLOPs", main.cost.gmacs)):
        if name in main.row.paper:
            found.append(_number(name, main.row.paper[name], "quoted", "the paper"))
        if ours is not None:
            found.append(_number(name, ours, "counted", f"fvcore at {main.cost.size}"))
    return found


def _latency(report: Report, cfg: Any) -> list[dict[str, Any]]:
    """Milliseconds at batch 1: what was measured here, then the paper's phone."""
    found: list[dict[str, Any]] = []
    measured = speed.measured_latency(cfg) or {"rows": []}
    for row in measured["rows"]:
        where = "GPU" if row["device"] == "cuda" else f"CPU, {row['threads']} thread{'s' * (row['threads'] > 1)}"
        bits = {"32": "float32", "16": "float16", "int8": "int8"}[row["precision"]]
        tool = "torch" if row["runtime"] == "torch" else "ONNX"
        hardware = measured["hardware"] if row["device"] == "cuda" else measured["processor"]
        found.append(_number(f"{where}, {tool} {bits}", row["median_ms"], "measured", hardware))
    for line in report.lines:
        if "latency_ms" in line.row.paper:
            bits = "int8" if "INT8" in line.row.label else "float32"
            found.append(_number(f"phone, {bits}", line.row.paper["latency_ms"], "quoted", _PHONE))
    return found


def _landscape(report: Report, main: Line) -> list[dict[str, Any]]:
    """AP over GFLOPs: Table 1's printed rows, and ours where it was measured."""
    table = find_tables(f"{report.table.paper}/1")[0]
    found = [
        {
            "name": row.label,
            "GFLOPs": row.paper["GFLOPs"],
            "AP": row.paper["AP"],
            "source": "quoted",
            "own": row.role == "own",
        }
        for row in table.rows.values()
        if {"GFLOPs", "AP"} <= row.paper.keys()
    ]
    if report.choice.scale == "paper" and "AP" in main.values and main.cost.gmacs is not None:
        ours = {"name": f"{main.row.label}, ours", "GFLOPs": main.cost.gmacs, "AP": 100 * main.values["AP"]}
        found.append({**ours, "source": "measured", "own": True})
    return found


def _overlay(report: Report, main: Line) -> str | None:
    """A drawn prediction of the run's evaluation."""
    runs = cells(report.table, report.choice).get(main.row.id) or []
    pictures = sorted((runs[0].folder / rundir.PICTURES).glob("*")) if runs and main.seeds else []
    return str(pictures[0]) if pictures else None


# --- PNG -----------------------------------------------------------------------------------------------------------


def _draw(facts: dict[str, Any]) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.5, 7.2), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 6)
    _bars(figure.add_subplot(grid[0, :2]), facts["accuracy"], "accuracy, %")
    _cards(figure.add_subplot(grid[0, 2:4]), facts["complexity"])
    _picture(figure.add_subplot(grid[0, 4:]), facts)
    _times(figure.add_subplot(grid[1, :3]), facts["latency"])
    _scatter(figure.add_subplot(grid[1, 3:]), facts["landscape"])
    figure.suptitle(f"{facts['model']}: {_heading(facts)}", fontsize=12)
    return figure


def _heading(facts: dict[str, Any]) -> str:
    if facts["status"] != "measured":
        return f"no trained network of this code here ({facts['status']}); the paper's numbers, costs and times"
    note = "" if facts["scale"] == "paper" else ", which is not the paper's data"
    return f"trained at scale {facts['scale']}, evaluated on {facts['data']}{note}"


def _bars(axes: Axes, numbers: Sequence[dict[str, Any]], label: str) -> None:
    names = list(dict.fromkeys(n["name"] for n in numbers))
    kinds = list(dict.fromkeys(n["what"] for n in numbers))
    width = 0.8 / max(len(kinds), 1)
    for k, what in enumerate(kinds):
        mine = {n["name"]: n for n in numbers if n["what"] == what}
        quoted = next(iter(mine.values()))["source"] == "quoted"
        colour = _PAPER if quoted else _OURS if "int8" not in what else "#8fc4a3"
        places = [names.index(name) + (k - (len(kinds) - 1) / 2) * width for name in mine]
        values = [n["value"] for n in mine.values()]
        bars = axes.bar(places, values, width * 0.92, label=what, color=colour, alpha=0.55 if quoted else 1)
        axes.bar_label(bars, fmt="%.1f", fontsize=7)
    axes.set_xticks(range(len(names)), names)
    axes.set_ylim(0, 108)
    axes.set_title(f"(a) {label}", fontsize=9)
    axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.09), ncols=3, frameon=False)


def _cards(axes: Axes, numbers: Sequence[dict[str, Any]]) -> None:
    axes.axis("off")
    axes.set_title("(b) size and cost at 256x192", fontsize=9)
    units = {"params": "M parameters", "GFLOPs": "GFLOPs (multiply-adds)"}
    for row, name in enumerate(units):
        ours = next((n["value"] for n in numbers if n["name"] == name and n["source"] == "counted"), math.nan)
        paper = next((n["value"] for n in numbers if n["name"] == name and n["source"] == "quoted"), math.nan)
        y = 0.78 - 0.45 * row
        axes.text(0.5, y, f"{ours:.2f}", fontsize=26, ha="center", va="center", color=_OURS, transform=axes.transAxes)
        text = f"{units[name]}, counted (the paper: {paper:g})"
        axes.text(0.5, y - 0.17, text, fontsize=8, ha="center", va="center", transform=axes.transAxes)


def _picture(axes: Axes, facts: dict[str, Any]) -> None:
    axes.axis("off")
    axes.set_title("(d) a prediction", fontsize=9)
    if facts["overlay"] is None:
        axes.text(0.5, 0.5, f"none: {facts['status']}", fontsize=8, ha="center", transform=axes.transAxes)
        return
    import cv2

    image = cv2.imread(facts["overlay"], cv2.IMREAD_COLOR_RGB)
    if image is not None:
        axes.imshow(image)


def _times(axes: Axes, numbers: Sequence[dict[str, Any]]) -> None:
    axes.set_title("(c) latency at batch 1, ms", fontsize=9)
    if not any(n["source"] == "measured" for n in numbers):
        axes.set_title("(c) latency at batch 1, ms (`repose bench latency drpnet/m` measures this machine)", fontsize=9)
    colours = [_PAPER if n["source"] == "quoted" else _OURS for n in numbers]
    bars = axes.barh(range(len(numbers)), [n["value"] for n in numbers], color=colours)
    for bar, number in zip(bars, numbers, strict=True):
        bar.set_alpha(0.55 if number["source"] == "quoted" else 1)
    axes.bar_label(bars, fmt="%.1f", fontsize=7, padding=2)
    axes.set_yticks(range(len(numbers)), [n["name"] for n in numbers], fontsize=7)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    where = dict.fromkeys(n["what"] for n in numbers)
    axes.set_xlabel("; ".join(where), fontsize=7)


def _scatter(axes: Axes, points: Sequence[dict[str, Any]]) -> None:
    axes.set_title("(e) AP against GFLOPs: the paper's Table 1 (hollow)", fontsize=9)
    for point in points:
        colour = _PAPER if point["own"] else _OTHERS
        hollow = point["source"] == "quoted"
        axes.plot(point["GFLOPs"], point["AP"], "o", mec=colour, mfc="none" if hollow else _OURS)
        right = point["GFLOPs"] > 40  # names at the right edge go to the left
        axes.annotate(
            point["name"],
            (point["GFLOPs"], point["AP"]),
            (-5 if right else 5, 3 if point["own"] else -8),
            textcoords="offset points",
            fontsize=6.5,
            ha="right" if right else "left",
        )
    axes.set_xscale("log")
    axes.margins(x=0.1, y=0.12)
    axes.set_xlabel("GFLOPs (multiply-adds)", fontsize=8)
    axes.set_ylabel("AP", fontsize=8)
    axes.grid(alpha=0.3)


# --- HTML ----------------------------------------------------------------------------------------------------------

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: #1c1c1c }
img { max-width: 100%; height: auto }
table { border-collapse: collapse; margin: .5rem 0 1.5rem }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid #ddd }
td.n { text-align: right; font-variant-numeric: tabular-nums }
.quoted { color: #7a4b9a } .measured, .counted { color: #2b7a4b }
@media (prefers-color-scheme: dark) {
  body { background: #1b1b1d; color: #e8e8e8 } th, td { border-color: #444 } img { background: #fff }
  .quoted { color: #c79be6 } .measured, .counted { color: #7fd3a2 }
}
"""


def page(facts: dict[str, Any], picture: Path) -> str:
    """One HTML file that opens from disk, with the PNG inside."""
    title = html.escape(f"{facts['model']}: dashboard")
    image = base64.b64encode(picture.read_bytes()).decode("ascii")
    parts = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>',
        f"<h1>{title}</h1><p>{html.escape(_heading(facts))}.</p>",
        f'<img alt="{title}: accuracy, cost, latency, a prediction, AP against GFLOPs" '
        f'src="data:image/png;base64,{image}">',
    ]
    for name, numbers, unit in (
        ("Accuracy", facts["accuracy"], "%"),
        ("Size and cost", facts["complexity"], "M, 1e9 multiply-adds"),
        ("Latency at batch 1", facts["latency"], "ms"),
    ):
        rows = "".join(
            f'<tr><td>{html.escape(n["name"])}</td><td class="n">{n["value"]:g}</td>'
            f'<td class="{n["source"]}">{n["source"]}</td><td>{html.escape(n["what"])}</td></tr>'
            for n in numbers
        )
        head = f"<tr><th></th><th>{unit}</th><th>source</th><th></th></tr>"
        parts.append(f"<h2>{name}</h2><table>{head}{rows}</table>")
    commit = html.escape(str(facts["commit"] or "no commit"))
    parts.append(f"<p>{html.escape(facts['hardware'])}; commit {commit}.</p></html>\n")
    return "\n".join(parts)
