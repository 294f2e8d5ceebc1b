"""A report as a terminal table, Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from repose.engine import rundir
from repose.tables.report import Line, Report, further, in_percent, set_otherwise, shown
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
    commits = " and ".join(one[:7] for one in last["commit"].split(" and "))  # one per seed that has another
    where = ", ".join(filter(None, (commits, last["hardware"], *set_otherwise(last))))
    value = last["AP"] if line.main == "AP" else further(last).get(line.main, "")
    return f"{value} ({where})" if value else where  # costs alone have neither AP nor hardware


Form = Literal["full", "pairs", "first"]
"""full: every metric with columns of its own; pairs: metrics after the AP as `paper/ours`; first: one metric alone."""


def columns(report: Report, form: Form) -> list[tuple[str, list[str]]]:
    """Headings and cells, row by row.

    Args:
        report: the table.
        form: how much of it.
    """
    lines = report.lines
    metrics = [m for m in report.table.metrics if m not in COSTS]
    found = [("row", [line.row.label for line in lines])]
    for metric in metrics[:1] if form == "first" else metrics:
        paper, ours = [_paper(x, metric) for x in lines], [_ours(x, metric) for x in lines]
        alone = set(paper) == {NONE} and report.table.statistic != ""  # the paper's are in a picture
        if form == "pairs" and not alone and metric != metrics[0]:
            found.append((f"{metric}\npaper/ours", _pairs(paper, ours)))
            continue
        if not alone:
            found.append((f"paper {metric}", paper))
        found.append((f"ours {metric}" + (" [95 %]" if metric == "AP" else ""), ours))
        if metric == "AP":
            differences = [NONE if x.difference is None else f"{x.difference:+.1f}" for x in lines]
            if form == "full" or set(differences) != {NONE}:
                found.append(("diff", differences))
    found += _costs(lines, form)
    if any(x.published for x in lines):
        found.append(("published", [_published(x) for x in lines]))
    found.append(("status", [x.status for x in lines]))
    return found


def _pairs(paper: Sequence[str], ours: Sequence[str]) -> list[str]:
    return [f"{p}/{o}" for p, o in zip(paper, ours, strict=True)]


def _costs(lines: Sequence[Line], form: Form) -> list[tuple[str, list[str]]]:
    """GMACs and parameters, beside the paper's where it gives any; nothing where nothing has a network."""
    found: list[tuple[str, list[str]]] = []
    for key, paper_head, ours_head in (("GFLOPs", "paper GFLOPs", "GMACs"), ("params", "paper params M", "params M")):
        paper = [_paper(x, key) for x in lines]
        ours = [number(x.cost.gmacs if key == "GFLOPs" else x.cost.params) for x in lines]
        if set(paper) == {NONE} and set(ours) == {NONE}:
            continue
        if set(paper) == {NONE}:
            found.append((ours_head, ours))
        elif form == "full":
            found += [(paper_head, paper), (ours_head, ours)]
        else:
            found.append((f"{ours_head}\npaper/ours", _pairs(paper, ours)))
    return found


def pivot(report: Report, intervals: bool) -> list[tuple[str, list[str]]]:
    """Headings and cells of a table over data sets: a row per method, `paper / ours` per data set.

    Args:
        report: a table with `columns`.
        intervals: ours with its interval.
    """
    methods: dict[str, dict[str, Line]] = {}
    for line in report.lines:
        methods.setdefault(line.row.method or line.row.id, {})[line.row.column] = line
    firsts = [next(iter(each.values())) for each in methods.values()]
    table = report.table

    def value(line: Line | None) -> str:
        if line is None:
            return NONE
        ours = NONE if "AP" not in line.values else ap_text(line) if intervals else shown("AP", line.values["AP"])
        return _paper(line, "AP") if not line.row.runs else f"{_paper(line, 'AP')} / {ours}"

    found = [("row", [table.method_label(x.row) for x in firsts])]
    found += [
        (f"{column.label}\npaper / ours", [value(each.get(column.id)) for each in methods.values()])
        for column in table.columns.values()
    ]
    found += _costs(firsts, "first")
    statuses = [dict.fromkeys(x.status for x in each.values()) for each in methods.values()]
    found.append(("status", [", ".join(each) for each in statuses]))
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
    every = _that_fits(report, console.width)
    for name, values in every:
        text = name in _TEXT
        widest = max(map(len, values), default=0)
        grid.add_column(
            name,
            justify="left" if text else "right",
            overflow="fold",
            no_wrap=not text,
            header_style="bold",
            min_width=min(widest, 9) if text else widest,
        )
    styles = ["bold" if x.row.id == "yours" else "dim" if x.row.role == "quoted" else "" for x in report.lines]
    for i in range(len(every[0][1])):
        grid.add_row(*(escape(values[i]) for _, values in every), style="" if report.table.columns else styles[i])
    console.print()
    console.print(grid)
    for text in below(report):
        console.print(escape(text), soft_wrap=False, highlight=False)


_TEXT = ("row", "status", "published")


def _that_fits(report: Report, width: int) -> list[tuple[str, list[str]]]:
    """The fullest form whose numbers fit; labels and status are folded where they must."""
    if report.table.columns:
        forms = [pivot(report, True), pivot(report, False)]
    else:
        forms = [columns(report, f) for f in ("full", "pairs", "first") if f != "full" or width >= WIDE]
    for form in forms[:-1]:
        if sum(_width(name, values) for name, values in form) <= width:
            return form
    return forms[-1]


def _width(name: str, values: Sequence[str]) -> int:
    widest = max(map(len, values), default=0)
    return 1 + (min(widest, 18) if name in _TEXT else max(widest, *map(len, name.split("\n"))))


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
    tables = [columns(report, "full")]
    if report.table.columns:
        tables.insert(0, pivot(report, True))
    parts = [f"## {title(report)}"]
    for every in tables:
        rows = [[values[i] for _, values in every] for i in range(len(every[0][1]))]
        parts.append(markdown_table([name.replace("\n", " ") for name, _ in every], rows))
    notes = "\n".join(f"- {text}" for text in below(report))
    return "\n\n".join(parts) + f"\n\n{notes}\n"


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
    found: dict[str, float | None] = {k: round(100 * v, 3) if in_percent(k) else v for k, v in line.values.items()}
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
            **({"column": x.row.column, "method": x.row.method} if x.row.column else {}),
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
    if report.table.plot:
        from repose.tables import plot

        found.append(base.with_suffix(".png"))
        if report.table.plot == "dashboard":
            from repose.field.dashboard import dashboard

            dashboard(report, found[-1])
            return [*found, found[-1].with_suffix(".html"), found[-1].with_suffix(".json")]
        draw = {
            "ap-gflops": plot.ap_gflops, "ap-fps": plot.ap_fps, "ap-latency": plot.ap_latency, "curves": plot.curves,
        }  # fmt: skip
        draw[report.table.plot](report, found[-1])
    return found


def values_of(line: Line) -> Mapping[str, float]:
    """Measured AP and counted GMACs of a line, for figures; empty where either is missing."""
    if "AP" not in line.values or line.cost.gmacs is None:
        return {}
    return {"AP": 100 * line.values["AP"], "GMACs": line.cost.gmacs}
