# pyright: reportUnknownMemberType=false
"""A table's figure: AP against GFLOPs (the paper's points hollow, ours filled), or a curve per row over its metrics."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from repose.engine import rundir
from repose.tables.render import values_of
from repose.tables.report import Report
from repose.tables.schema import COSTS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def ap_gflops(report: Report, path: Path) -> None:
    """Draw the figure of a table.

    Args:
        report: filled-in table.
        path: PNG; a vector PDF of the same name is written beside it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    scale = report.choice.scale
    here = "ours" if scale == "paper" else f"ours at scale {scale} (cost at the paper's size; not the paper's AP)"
    named: set[str] = set()

    def once(label: str) -> str:
        first = label not in named
        named.add(label)
        return label if first else ""

    for line in report.lines:
        paper = line.row.paper
        colour = {"own": "tab:purple", "baseline": "tab:blue"}.get(line.row.role, "tab:gray")
        if "AP" in paper and "GFLOPs" in paper:
            label = once("the paper's" if line.row.role == "own" else "quoted by the paper")
            axes.plot(paper["GFLOPs"], paper["AP"], "o", mfc="none", mec=colour, label=label)
            axes.annotate(
                line.row.label, (paper["GFLOPs"], paper["AP"]), (4, 4), textcoords="offset points", fontsize=7
            )
        if ours := values_of(line):
            low, high = (line.interval.low, line.interval.high) if line.interval else (ours["AP"] / 100,) * 2
            error = [[max(0.0, ours["AP"] - 100 * low)], [max(0.0, 100 * high - ours["AP"])]]
            axes.errorbar(ours["GMACs"], ours["AP"], error, fmt="s", color=colour, capsize=2, label=once(here))
            axes.annotate(line.row.label, (ours["GMACs"], ours["AP"]), (4, -9), textcoords="offset points", fontsize=7)
    axes.set_xscale("log")
    axes.set_xlabel("GFLOPs (multiply-adds)")
    axes.set_ylabel("AP")
    axes.set_title(f"{report.table.name}, scale {scale}", fontsize=9)
    axes.grid(alpha=0.3)
    if named:
        axes.legend(fontsize=7)
    _save(figure, path)


def ap_fps(report: Report, path: Path) -> None:
    """Draw AP over images per second: the paper's rows, and ours where both were measured (`repose bench inference`).

    Args:
        report: filled-in table.
        path: PNG; a vector PDF of the same name is written beside it.
    """
    _ap_over(report, path, "fps", "images per second (the paper's: RTX 2080Ti)")


def ap_latency(report: Report, path: Path) -> None:
    """Draw AP over the time per frame with a detector (`repose bench latency`); arguments as in `ap_fps`."""
    _ap_over(report, path, "pipeline_ms", "ms per frame, detector and pose network (the paper's: a GPU)")


def _ap_over(report: Report, path: Path, metric: str, label_x: str) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    named: set[str] = set()

    def point(x: float, ap: float, row: str, mark: str, colour: str, label: str) -> None:
        axes.plot(x, ap, mark, mfc="none" if mark == "o" else colour, mec=colour, label="" if label in named else label)
        axes.annotate(row, (x, ap), (4, 4), textcoords="offset points", fontsize=7)
        named.add(label)

    for line in report.lines:
        paper, ours = line.row.paper, line.values
        own = line.row.role == "own"
        if "AP" in paper and metric in paper:
            colour, label = ("tab:purple", "the paper's") if own else ("tab:gray", "quoted by the paper")
            point(paper[metric], paper["AP"], line.row.label, "o", colour, label)
        if "AP" in ours and metric in ours:
            label = f"ours at scale {report.choice.scale}, on this hardware"
            point(ours[metric], 100 * ours["AP"], line.row.label, "s", "tab:green", label)
    axes.set_xlabel(label_x)
    axes.set_ylabel("AP")
    axes.set_title(f"{report.table.name}, scale {report.choice.scale}", fontsize=9)
    axes.margins(0.12)
    axes.grid(alpha=0.3)
    if named:
        axes.legend(fontsize=7)
    _save(figure, path)


def curves(report: Report, path: Path) -> None:
    """Draw each measured row as a line over the table's metrics, in their order (AP by bin of overlap, say).

    APs among the table's `mechanism` (AP from each overlap on, say) have a panel of their own beside it.

    Args:
        report: filled-in table.
        path: PNG; a vector PDF of the same name is written beside it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [[m for m in report.table.metrics if m != "AP" and m not in COSTS]]
    panels += [more] if (more := [m for m in report.table.mechanism if m.startswith("AP_")]) else []
    figure = Figure(figsize=(7 * len(panels), 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{report.table.name}, scale {report.choice.scale}: {report.table.title}", fontsize=9)
    for axes, names in zip(figure.subplots(1, len(panels), squeeze=False, sharey=True)[0], panels, strict=True):
        for n, line in enumerate(report.lines):
            values = [100 * line.values.get(name, math.nan) for name in names]
            if not all(map(math.isnan, values)):
                # a row keeps its colour in both panels, also where one of them has nothing of it
                axes.plot(range(len(names)), values, "o-", color=f"C{n}", label=line.row.label)
        axes.set_xticks(range(len(names)), names, rotation=20, fontsize=7)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize=7)
    figure.axes[0].set_ylabel("AP")
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    for file in (path, path.with_suffix(".pdf")):
        with rundir.atomic(file) as part:
            figure.savefig(part, format=file.suffix[1:], dpi=150)
