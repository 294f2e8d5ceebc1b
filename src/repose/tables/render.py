"""A report as a terminal table, Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from repose.engine import rundir
from repose.tables.report import Line, Report, shown
from repose.tables.schema import COSTS

WIDE = 116
"""[columns] from here on every metric has columns of its own."""
NONE = "–"


def ap_text(line: Line) -> str:
    """Our AP in percent with its interval, marked where it is too low."""
    if "AP" not in line.values:
        return NONE
    value = f"{100 * line.values['AP']:.1f}"
    if line.interval and line.interval.low <= line.interval.high:
        value += f" [{100 * line.interval.low:.1f}, {100 * line.interval.high:.1f}]"
    return value + (" floor" if line.floor else "")


def number(value: float | None, digits: int = 2) -> str:
    """A number with fixed digits, or a dash."""
    return NONE if value is None else f"{value:.{digits}f}"


def _paper(line: Line, name: str) -> str:
    value = line.row.paper.get(name)
    if value is None:
        return NONE
    return f"{value:.1f}" if name not in COSTS else f"{value:.2f}" if name == "GFLOPs" else f"{value:.1f}"


def _ours(line: Line, name: str) -> str:
    if name == "AP":
        return ap_text(line)
    return shown(name, line.values[name]) if name in line.values else NONE


def _published(line: Line) -> str:
    if not line.published:
        return NONE
    last = line.published[-1]
    return f"{last['AP']} ({last['commit'][:7]}, {last['hardware']})"


def columns(report: Report, every: bool) -> list[tuple[str, list[str]]]:
    """Headings and cells, row by row.

    Args:
        report: the table.
        every: all metrics in columns of their own; else the first metric, and costs as `paper / ours`.
    """
    lines = report.lines
    metrics = [m for m in report.table.metrics if m not in COSTS]
    found = [("row", [line.row.label for line in lines])]
    for metric in metrics if every else metrics[:1]:
        found.append((f"paper {metric}", [_paper(x, metric) for x in lines]))
        found.append((f"ours {metric}" + (" [95 %]" if metric == "AP" else ""), [_ours(x, metric) for x in lines]))
        if metric == "AP":
            differences = [NONE if x.difference is None else f"{x.difference:+.1f}" for x in lines]
            if every or set(differences) != {NONE}:
                found.append(("diff", differences))
    gmacs = [number(x.cost.gmacs) for x in lines]
    params = [number(x.cost.params) for x in lines]
    if every:
        found += [
            ("paper GFLOPs", [_paper(x, "GFLOPs") for x in lines]),
            ("GMACs", gmacs),
            ("paper params M", [_paper(x, "params") for x in lines]),
            ("params M", params),
        ]
    else:
        found.append(("GMACs\npaper/ours", [f"{_paper(x, 'GFLOPs')}/{g}" for x, g in zip(lines, gmacs, strict=True)]))
        found.append(
            ("params M\npaper/ours", [f"{_paper(x, 'params')}/{p}" for x, p in zip(lines, params, strict=True)])
        )
    if any(x.published for x in lines):
        found.append(("published", [_published(x) for x in lines]))
    found.append(("status", [x.status for x in lines]))
    return found


def title(report: Report) -> str:
    """Name, title and place in the paper."""
    table, choice = report.table, report.choice
    seeds = f", {choice.seeds} seeds" if choice.seeds > 1 else ""
    return f"{table.name}: {table.title} ({table.source}), scale {choice.scale}{seeds}"


def print_report(report: Report, console: Console | None = None) -> None:
    """Print for people; fits any terminal of 80 columns or more."""
    console = console or Console()
    grid = RichTable(title=escape(title(report)), title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    every = columns(report, console.width >= WIDE)
    for name, values in every:
        text = name in ("row", "status", "published")
        widest = max(map(len, values), default=0)
        grid.add_column(
            name,
            justify="left" if text else "right",
            overflow="fold",
            no_wrap=not text,
            header_style="bold",
            min_width=min(widest, 9) if text else widest,
        )
    for i, line in enumerate(report.lines):
        style = "bold" if line.row.id == "yours" else "dim" if not line.row.runs else ""
        grid.add_row(*(escape(values[i]) for _, values in every), style=style)
    console.print()
    console.print(grid)
    for text in below(report):
        console.print(escape(text), soft_wrap=False, highlight=False)


def below(report: Report) -> list[str]:
    """Lines under the table: protocol, claims, notes."""
    found = [f"protocol: {p}" for p in report.protocol]
    found += [f"claim: {claim.text}: {verdict.word} ({verdict.reason})" for claim, verdict in report.verdicts]
    return [*found, *report.notes]


# --- files ---------------------------------------------------------------------------------------------------------


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A GitHub table; `|` inside a cell is escaped."""
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def markdown(report: Report) -> str:
    """The whole report as Markdown."""
    every = columns(report, True)
    rows = [[values[i] for _, values in every] for i in range(len(report.lines))]
    notes = "\n".join(f"- {text}" for text in below(report))
    return f"## {title(report)}\n\n{markdown_table([n for n, _ in every], rows)}\n\n{notes}\n"


CSV_HEADS = ("id", "label", "kind", "status")


def csv_text(report: Report) -> str:
    """Rows as CSV, full precision: paper values, ours, interval, costs."""
    metrics = list(report.table.metrics)
    heads = [
        *CSV_HEADS,
        *(f"paper_{m}" for m in dict.fromkeys([*metrics, *COSTS])),
        *(m for m in metrics if m not in COSTS),
        "AP_low", "AP_high", "difference", "GMACs", "params_M", "seeds",
    ]  # fmt: skip
    out = io.StringIO()
    writer = csv.DictWriter(out, heads, lineterminator="\n", restval="")
    writer.writeheader()
    for line in report.lines:
        row: dict[str, Any] = {"id": line.row.id, "label": line.row.label, "kind": line.row.kind, "status": line.status}
        row |= {f"paper_{k}": v for k, v in line.row.paper.items() if f"paper_{k}" in heads}
        row |= {k: v for k, v in measured(line).items() if k in heads and v is not None}
        row |= {"difference": "" if line.difference is None else f"{line.difference:.2f}", "seeds": line.seeds}
        writer.writerow(row)
    return out.getvalue()


def measured(line: Line) -> dict[str, float | None]:
    """What was measured and counted, in the paper's units: AP and AR in percent, params_M in millions, GMACs in 1e9."""
    found: dict[str, float | None] = {
        k: round(100 * v, 3) if k.startswith(("AP", "AR")) else v for k, v in line.values.items()
    }
    if line.interval:
        found |= {"AP_low": round(100 * line.interval.low, 3), "AP_high": round(100 * line.interval.high, 3)}
    return found | {"params_M": line.cost.params, "GMACs": line.cost.gmacs}


def to_json(report: Report) -> dict[str, Any]:
    """The report as one JSON object."""
    rows = [
        {
            "id": x.row.id,
            "label": x.row.label,
            "kind": x.row.kind,
            "paper": dict(x.row.paper),
            "measured": measured(x) if x.values else None,
            "status": x.status,
            "reason": x.reason,
            "difference": x.difference,
            "floor": x.floor,
            "cost": {"params_M": x.cost.params, "GMACs": x.cost.gmacs, "input": x.cost.size},
            "seeds": x.seeds,
            "published": [dict(p) for p in x.published],
        }
        for x in report.lines
    ]
    found = [
        {
            "id": c.id, "text": c.text, "better": c.better, "worse": c.worse, "metric": c.metric,
            "verdict": v.word, "reason": v.reason,
        }
        for c, v in report.verdicts
    ]  # fmt: skip
    return {
        "table": report.table.name,
        "title": report.table.title,
        "scale": report.choice.scale,
        "rows": rows,
        "claims": found,
        "protocol": list(report.protocol),
        "notes": list(report.notes),
    }


def write_files(report: Report, runs: Path) -> list[Path]:
    """Write `<runs>/tables/<paper>/<table>-<scale>.md` and `.csv`, and the figure where the table has one."""
    base = runs / "tables" / report.table.paper / f"{report.table.path.stem}-{report.choice.scale}"
    found = [base.with_suffix(".md"), base.with_suffix(".csv")]
    rundir.write_text(found[0], markdown(report))
    rundir.write_text(found[1], csv_text(report))
    if report.table.plot == "ap-gflops":
        from repose.tables.plot import ap_gflops

        found.append(base.with_suffix(".png"))
        ap_gflops(report, found[-1])
    return found


def values_of(line: Line) -> Mapping[str, float]:
    """Measured AP and counted GMACs of a line, for figures; empty where either is missing."""
    if "AP" not in line.values or line.cost.gmacs is None:
        return {}
    return {"AP": 100 * line.values["AP"], "GMACs": line.cost.gmacs}
