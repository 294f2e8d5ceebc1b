"""What `repose diff` prints for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from repose.commands.diff import Comparison, Number
from repose.tables.claims import judge_measured
from repose.tables.report import shown

_NONE = "–"
_HEADS = ("A", "B", "B - A", "95 % interval", "p")
_RIGHT = (1, 2, 3, 5)
_FIRST = 5
"""Images that are named; the folder has all."""


def show(found: Comparison, folder: Path) -> None:
    """Print a comparison whose pictures are in `folder`."""
    console = Console(highlight=False)
    for letter, run in (("A", found.a), ("B", found.b)):
        seed = run.settings.get("seed", "?")
        say = (
            f"{letter}  {run.name}: {run.title}, {run.data or '?'}, scale {run.settings.get('scale', '?')}, seed {seed}"
        )
        console.print(say, markup=False, soft_wrap=True)
    _print_config(console, found)
    _print_code(console, found)
    _print_numbers(console, found)
    if found.changes:
        what = "image" if len(found.changes) == 1 else f"{len(found.changes)} images"
        console.print(f"\nthe {what} that changed most, truth, A and B beside each other: {folder}", markup=False)
        for change in found.changes[:_FIRST]:
            console.print(f"  {change.line()}", markup=False, soft_wrap=True)


def _print_config(console: Console, found: Comparison) -> None:
    n = len(found.settings)
    console.print(f"\n[bold]config[/]: {n or 'no'} setting{'s differ' if n != 1 else ' differs'}")
    if n:
        console.print(_grid(["setting", "A", "B"], [[s.key, _plain(s.a), _plain(s.b)] for s in found.settings], ()))
    if found.aside:
        console.print(f"  and {', '.join(found.aside)}, which change no number", markup=False, soft_wrap=True)


def _print_code(console: Console, found: Comparison) -> None:
    code = found.code
    one, two = code.commits
    commits = f"commit {one}" if one == two else f"commits {one} and {two}"
    n = len(code.changed) + len(code.only_a) + len(code.only_b)
    console.print(f"\n[bold]code[/]: {n or 'no'} source file{'s differ' if n != 1 else ' differs'}; {commits}")
    for what, files in (("changed", code.changed), ("only in A", code.only_a), ("only in B", code.only_b)):
        for file in files:
            console.print(f"  {file}: {what}", markup=False, soft_wrap=True)
    if code.changed and "?" not in one + two and one.rstrip("+") != two.rstrip("+"):
        paths = " ".join(f"src/repose/{f}" for f in code.changed if not f.startswith("experiments/"))
        console.print(f"  git diff {one.rstrip('+')} {two.rstrip('+')} -- {paths}", markup=False, soft_wrap=True)
    if "+" in one + two:
        console.print("  + the tree held more than the commit: diff.patch in the run folder", markup=False)
    if code.versions:
        console.print(f"  libraries: {', '.join(code.versions)}", markup=False, soft_wrap=True)


def _print_numbers(console: Console, found: Comparison) -> None:
    if found.apart:
        console.print("\n[bold]metrics[/]: not subtracted from each other")
        for why in found.apart:
            console.print(f"  {why}", markup=False, soft_wrap=True)
        rows = [[n.name, _value(n.name, n.a), _value(n.name, n.b)] for n in found.numbers]
        if rows:
            console.print(_grid(["metric", "A", "B"], rows, (1, 2)))
        return
    console.print(f"\n[bold]metrics[/]: {escape(_of_metrics(found))}", soft_wrap=True)
    console.print(_grid(["metric", *_HEADS], _rows(found.numbers), _RIGHT))
    if found.unpaired:
        return
    if verdict := _verdict(found.numbers):
        console.print(verdict, markup=False, soft_wrap=True)
    if found.joints:
        console.print(
            "\n[bold]joints[/]: mean keypoint similarity over all labelled joints, 0 where nobody found the person",
            soft_wrap=True,
        )
        console.print(_grid(["joint", *_HEADS], _rows(found.joints, named=False), _RIGHT))


def _of_metrics(found: Comparison) -> str:
    if found.unpaired:
        return f"no intervals and no pictures: {found.unpaired}"
    return (
        f"intervals by paired bootstrap over the same {found.images} images, one seed each (what another seed would "
        "change is not in them)"
    )


def _verdict(numbers: Sequence[Number]) -> str:
    """Which run has the better AP, or that it is not known."""
    for n in numbers:
        if n.name == "AP" and n.a is not None and n.b is not None and n.difference:
            found = judge_measured(n.difference, (n.b, n.a), 1)
            word = {"confirmed": "B is better", "refuted": "A is better", "undecided": "undecided"}[found.word]
            return f"AP: {word}: {found.reason}"
    return ""


def _rows(numbers: Sequence[Number], named: bool = True) -> list[list[str]]:
    """Cells of a table. `named`: AP and AR in percent; joints are no metrics' names."""
    rows: list[list[str]] = []
    for n in numbers:
        gap, name = n.difference, n.name if named else ""
        known = gap is not None and gap.low <= gap.high
        rows.append(
            [
                n.name,
                _value(name, n.a),
                _value(name, n.b),
                _signed(name, gap.value) if gap else _NONE,
                f"{_signed(name, gap.low)} to {_signed(name, gap.high)}" if gap and known else _NONE,
                _NONE if n.p is None or n.p != n.p else f"{n.p:.3f}",
            ]
        )
    return rows


def _value(name: str, value: float | None) -> str:
    if value is None:
        return _NONE
    return shown(name, value) if name else f"{value:.3f}"


def _signed(name: str, value: float) -> str:
    text = _value(name, value)
    return text if text.startswith("-") or value == 0 else f"+{text}"


def _plain(value: Any) -> str:
    return "null" if value is None else str(value)


def _grid(heads: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int]) -> Any:
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for i, head in enumerate(heads):
        grid.add_column(head, overflow="fold", header_style="bold", justify="right" if i in right else "left")
    for row in rows:
        grid.add_row(*map(escape, row))
    return grid
