"""`repose report`: every table and figure of the papers as one HTML page that opens from disk and asks no network."""

from __future__ import annotations

import argparse
import datetime
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from repose import papers
from repose.config import nearest
from repose.engine import provenance, rundir
from repose.errors import UserError
from repose.tables import headline_picture
from repose.tables.cells import Choice, choose, with_files
from repose.tables.cli import report_of, runs_of
from repose.tables.overview import Caption, captions
from repose.tables.page_parts import Cell, Head, Part, Picture, embedded, hours_text, part, result_id, row_points
from repose.tables.page_plots import Plot, Point, scatter
from repose.tables.render import NONE
from repose.tables.report import Line, Report
from repose.tables.schema import Table, all_tables, find_tables, load_table
from repose.tables.state import changed_since

FILE = "report.html"
"""Below `log.runs`, where the command line names no other."""


HEADLINE_HEADS = (
    Head("paper AP"), Head("ours AP [95 %]"), Head("status", number=False), Head("published AP"),
    Head("paper params M"), Head("ours params M"), Head("paper GFLOPs"), Head("ours GMACs"), Head("hours"),
)  # fmt: skip
"""Columns of the headline table, after the method."""
GLANCE_HEADS = tuple(
    map(Head, ("tables, figures", "rows that run", "measured", "claims confirmed", "refuted", "undecided", "hours"))
)
"""Columns of the overview, after the paper."""


@dataclass(frozen=True)
class Row:
    """A row of the headline or of the overview: a link, what stands small below it, and cells."""

    label: str
    note: str
    anchor: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class PaperPart:
    """A paper of the page.

    Attributes:
        title: of the paper.
        method: its short name, where it has a headline table.
        missing: captions that have no table here, with the reason.
    """

    name: str
    title: str
    method: str
    parts: Sequence[Part]
    missing: Sequence[Caption]


@dataclass(frozen=True)
class Page:
    """The whole page."""

    scale: str
    words: str
    made: str
    commit: str
    version: str
    headline_heads: Sequence[Head]
    headlines: Sequence[Row]
    glance_heads: Sequence[Head]
    glance: Sequence[Row]
    plots: Sequence[Plot]
    picture: Picture | None
    papers: Sequence[PaperPart]


def report(words: list[str], flags: argparse.Namespace) -> int:
    """Write the page.

    Args:
        words: names of tables or papers (none = all), and `key=value` tokens as of `repose table`.
        flags: out, picture, image.

    Returns:
        0.
    """
    names = [w for w in words if "=" not in w]
    choice = choose(w for w in words if "=" in w)
    tables = with_files(tables_of(names), choice)
    path = place(flags.out, tables[0], choice)
    changed = changed_since()
    reports: list[Report] = []
    for i, table in enumerate(tables, 1):
        _say(f"report: {table.name} ({i} of {len(tables)})")
        reports.append(report_of(table, choice, changed))
    picture: Path | None = None
    if flags.picture:
        runs = headline_picture.networks(reports)
        picture = headline_picture.draw(runs, flags.image or "", choice.data, Path(flags.picture))
    write(path, build(reports, choice, picture))
    if picture:
        print(f"written: {picture}")
    print(f"written: {path} ({path.stat().st_size / 1e6:.1f} MB)")
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def place(out: str | None, table: Table, choice: Choice) -> Path:
    """Where the page goes: what the command line names (a folder or a file), else below the folder of all runs."""
    path = Path(out) if out else runs_of(table, choice) / FILE
    return path / FILE if path.is_dir() else path


def tables_of(names: Sequence[str]) -> list[Table]:
    """Tables by name or by paper; no name = all.

    Raises:
        UserError: neither a table nor a paper of that name.
    """
    every = [load_table(p) for p in all_tables()]
    if not names:
        return sorted(every, key=lambda t: _rank(t.paper))
    found: dict[str, Table] = {}
    known = dict.fromkeys(t.paper for t in every)
    for name in names:
        if "/" not in name and name not in known and not Path(name).is_file():
            hint = nearest(name, known)
            fix = f"did you mean {hint[0]!r}?" if hint else f"there are: {', '.join(known)}"
            raise UserError(f"report: no paper {name!r} with tables; {fix}")
        for table in [t for t in every if t.paper == name] or find_tables(name):
            found[table.name] = table
    return list(found.values())


def _rank(paper: str) -> int:
    order = list(papers.PAPERS)
    return order.index(paper) if paper in order else len(order)


def build(reports: Sequence[Report], choice: Choice, picture: Path | None = None) -> Page:
    """Everything that the page shows.

    Args:
        reports: filled-in tables, those of a paper next to each other.
        choice: their scale, data and seeds.
        picture: of one image through the headline networks (headline_picture.py).
    """
    names = list(dict.fromkeys(r.table.paper for r in reports))
    shown_in: dict[str, tuple[str, str]] = {}
    parts = {r.table.name: part(r, shown_in) for r in reports}
    heads = [(r, _headline_line(r), names.index(r.table.paper)) for r in reports if r.table.headline]
    now = datetime.datetime.now(datetime.UTC)
    of = {n: [r for r in reports if r.table.paper == n] for n in names}
    return Page(
        scale=choice.scale,
        words=" ".join(choice.words),
        made=now.strftime("%Y-%m-%d %H:%M UTC"),
        commit=f"{str(provenance.commit() or 'none')[:12]}{' with changes' if provenance.diff() else ''}",
        version=version("repose"),
        headline_heads=HEADLINE_HEADS,
        headlines=[_headline(r, line, parts[r.table.name]) for r, line, _ in heads],
        glance_heads=GLANCE_HEADS,
        glance=[_glance(n, of[n]) for n in names],
        plots=_headline_plots(heads, choice.scale),
        picture=embedded(picture, "one image through the network of each headline row", 1400) if picture else None,
        papers=[_paper(n, of[n], parts) for n in names],
    )


def _headline_line(report: Report) -> Line:
    assert report.table.headline is not None
    return next(x for x in report.lines if x.row.id == report.table.headline.row)


def _headline(report: Report, line: Line, own: Part) -> Row:
    """The cells of the table's own row, in the headline's columns; with the paper's costs even where it gives none."""
    assert report.table.headline is not None
    place = next(i for i, x in enumerate(report.lines) if x is line)
    cells = dict(zip((h.text for h in own.heads[1:]), own.lines[place].cells, strict=True))
    note = f"{line.row.label}, {own.place}"
    return Row(report.table.headline.method, note, own.id, [cells.get(h.text, Cell(NONE)) for h in HEADLINE_HEADS])


def _glance(name: str, reports: Sequence[Report]) -> Row:
    lines = [x for r in reports for x in r.lines if x.row.runs]
    words = Counter(v.word for r in reports for _, v in r.verdicts)
    each = {result_id(x): x for line in lines for x in line.results}
    hours = sum(float(x.get("hours") or 0) for x in each.values())
    counts = [len(reports), len(lines), sum(x.status == "measured" for x in lines)]
    counts += [words[w] for w in ("confirmed", "refuted", "undecided")]
    spent = Cell(hours_text(hours), hours) if each else Cell(NONE)
    return Row(_method(name, reports), "", f"p-{name}", [*(Cell(str(n), n) for n in counts), spent])


def _method(name: str, reports: Sequence[Report]) -> str:
    return next((r.table.headline.method for r in reports if r.table.headline), name)


def _headline_plots(heads: Sequence[tuple[Report, Line, int]], scale: str) -> list[Plot]:
    found: list[Plot | None] = []
    for key, what in (("GFLOPs", "GFLOPs (multiply-adds)"), ("params", "parameters, millions")):
        points: list[Point] = []
        for report, line, colour in heads:
            assert report.table.headline is not None
            points += row_points(line, key, colour, report.table.headline.method, scale)
        found.append(scatter(points, f"AP against {what}, the papers' headline rows", what))
    return [p for p in found if p is not None]


def _paper(name: str, reports: Sequence[Report], parts: dict[str, Part]) -> PaperPart:
    try:
        title = papers.get(name).title
    except UserError:  # a folder of tables whose method is not installed here
        title = name
    return PaperPart(
        name=name,
        title=title,
        method=_method(name, reports),
        parts=[parts[r.table.name] for r in reports],
        missing=[c for c in captions(name) if not c.table],
    )


def html(page: Page) -> str:
    """The page as text; whatever a table or a run says is escaped."""
    environment = Environment(
        loader=PackageLoader("repose.tables"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(page=page)


def write(path: Path, page: Page) -> None:
    """Write the page, whole or not at all."""
    rundir.write_text(path, html(page))
