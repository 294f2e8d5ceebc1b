"""One image through the trained network of every paper's headline row: on the page, and in the README."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from repose.engine import rundir
from repose.errors import UserError
from repose.tables.cells import cell
from repose.tables.report import Report


def networks(reports: Sequence[Report]) -> list[tuple[str, Path]]:
    """Short name and run folder of each headline row that is measured here and has its checkpoint."""
    found: list[tuple[str, Path]] = []
    for report in reports:
        head = report.table.headline
        line = next((x for x in report.lines if head and x.row.id == head.row), None)
        if head is None or line is None or not line.results:
            continue
        folder = cell(report.table, line.row, report.choice).folder
        if (folder / rundir.BEST).is_file():
            found.append((head.method, folder))
    return found


def draw(runs: Sequence[tuple[str, Path]], image: str, data: str | None, out: Path) -> Path:
    """Draw an image through several trained networks, its annotation first.

    Args:
        runs: name and run folder (or checkpoint) of each network.
        image: id in the validation set, or a file; empty = one with many people.
        data: name of the data set; None = the first network's own.
        out: picture file; its suffix names the format.

    Returns:
        `out`.

    Raises:
        UserError: no network, or no such image.
    """
    from repose.commands import compare
    from repose.data.preview import write
    from repose.field.predictor import load

    if not runs:
        raise UserError("no headline row is trained here, so there is no network to draw with: repose reproduce")
    models = [compare.Model(name, load(str(folder)), str(folder)) for name, folder in runs]
    people = compare.annotated_people(models[0], data)
    photographs, broken = compare.find_photographs([image] if image else [], people)
    if broken:
        raise UserError(f"--image {image}: {broken[0]}")
    _, sheet = compare.draw_photograph(photographs[0], models, people)
    return write(out, sheet)
