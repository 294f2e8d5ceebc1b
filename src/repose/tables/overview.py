"""Every table and figure of the papers: what is rebuilt, from which data, and how far it is."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from repose import papers
from repose.config import experiments_root
from repose.errors import UserError
from repose.tables.cells import Choice, cells
from repose.tables.plan import unique
from repose.tables.schema import Table, all_tables, load_table
from repose.tables.state import Changed, state_of

CAPTION_HEADS = ("item", "title", "numbers", "table", "reason")


@dataclass(frozen=True)
class Caption:
    """A caption of a paper, in our own words.

    Attributes:
        item: `Table 3`, `Figure 5`, or a section with an ablation in its text.
        numbers: whether it holds numbers.
        table: name of our table (`drpnet/3`), or empty.
        reason: why there is none.
    """

    item: str
    title: str
    numbers: bool
    table: str
    reason: str


def captions(paper: str) -> list[Caption]:
    """The list of a paper's captions, `experiments/<paper>/captions.csv`.

    Raises:
        UserError: its columns are wrong, or a caption with numbers has neither table nor reason.
    """
    path = experiments_root() / paper / "captions.csv"
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != CAPTION_HEADS:
            raise UserError(f"{path}:1: columns must be {','.join(CAPTION_HEADS)}")
        found: list[Caption] = []
        for n, row in enumerate(reader, 2):
            caption = Caption(row["item"], row["title"], row["numbers"] == "yes", row["table"], row["reason"])
            if caption.numbers and not (caption.table or caption.reason):
                raise UserError(
                    f"{path}:{n}: {caption.item} has numbers: give its table, or the reason why it has none"
                )
            found.append(caption)
    return found


def elsewhere(name: str) -> str:
    """Why a figure of a paper (`pinet/fig-4`) has no table here, as its caption's line says; "" if none does."""
    paper, _, what = name.rpartition("/")
    found = re.fullmatch(r"(table-|figure-|fig-)?(\d+)", what)
    if not paper or found is None:
        return ""
    item = f"{'Figure' if (found[1] or '').startswith('fig') else 'Table'} {found[2]}"
    return next((c.reason for c in captions(paper) if c.item == item and not c.table), "")


@dataclass(frozen=True)
class Entry:
    """A line of the overview.

    Attributes:
        name: on the command line.
        item: in the paper.
        rows: how many are own, baseline, quoted.
        data: data sets that its rows need at the paper's scale.
        state: measured rows of those that run, or why there is no table.
    """

    name: str
    item: str
    title: str
    rows: str
    data: str
    state: str
    total: int = 0
    measured: int = 0


def overview(choice: Choice, changed: Changed) -> list[Entry]:
    """One entry per table, then one per caption that has none."""
    tables = [load_table(path) for path in all_tables()]
    found = [_entry(table, choice, changed) for table in tables]
    root = experiments_root()
    names = dict.fromkeys([*papers.PAPERS, *sorted(p.parent.name for p in root.glob("*/captions.csv"))])
    for paper in names:
        for caption in captions(paper):
            if caption.numbers and not caption.table:
                found.append(Entry("", f"{paper} {caption.item}", caption.title, "", "", caption.reason))
    return found


def _entry(table: Table, choice: Choice, changed: Changed) -> Entry:
    roles = Counter(row.role for row in table.rows.values())
    rows = ", ".join(f"{roles[r]} {r}" for r in ("own", "baseline", "quoted") if roles[r])
    runs = unique(c for found in cells(table, choice).values() for c in found)
    done = sum(state_of(c, changed).status == "measured" for c in runs)
    return Entry(
        table.name,
        table.source,
        table.title,
        rows,
        table.protocol.data or "–",
        f"{done} of {len(runs)} runs measured at {choice.scale}" if runs else _nothing_to_run(table, choice),
        len(runs),
        done,
    )


def _nothing_to_run(table: Table, choice: Choice) -> str:
    kinds = {row.kind for row in table.rows.values()}
    done = [
        what for kind, what in (("counted", "counted"), ("statistic", "computed from annotations")) if kind in kinds
    ]
    return f"{' and '.join(done)}: nothing to run" if done else f"nothing to run at {choice.scale}"


def print_overview(entries: Sequence[Entry]) -> None:
    """Print for people."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table as RichTable

    grid = RichTable(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for head in ("table", "in the paper", "title", "rows", "paper's data", "state"):
        grid.add_column(head, overflow="fold", header_style="bold")
    for e in entries:
        grid.add_row(*map(escape, (e.name or "–", e.item, e.title, e.rows, e.data, e.state)))
    Console().print(grid)
    print("repose table NAME shows one; --run trains what is missing, --plan says what that would be.")


def caption_files() -> list[Path]:
    """Every captions.csv."""
    return sorted(experiments_root().glob("*/captions.csv"))
