"""What the tests of the page share: two tables with fake runs that have pictures, curves and errors per joint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from table_kit import TABLE, Numbers, same, smoke, write_table

from repose.engine import rundir
from repose.metrics.errors import KINDS
from repose.skeleton import COCO17
from repose.tables import page, plan
from repose.tables.cells import cells
from repose.tables.publish import read_published
from repose.tables.report import Report, build
from repose.tables.runner import Jobs, run_tasks

SCRIPT = "<script>document.title = 'broken'</script>"
"""In a label: must arrive as text."""
HEADLINE = TABLE.replace("claims:", "headline: {row: seven, method: DRP-Net}\nclaims:").replace(
    "label: HRNet", f'label: "HRNet {SCRIPT}"'
)
FIGURE = """\
title: The same rows as a figure
source: Figure 9
rows_from: table-9
metrics: [AP]
"""


def reports(folder: Path) -> list[Report]:
    """Two tables at smoke, run by the fake program; the second shares every run with the first."""
    tables = [write_table(folder, HEADLINE), write_table(folder, FIGURE, "figure-9")]
    choice = smoke()
    runs = plan.unique(c for t in tables for found in cells(t, choice).values() for c in found)
    run_tasks(plan.tasks(runs, same), Jobs(say=lambda line: None))
    for number, run in enumerate(runs):
        decorate(run.folder, number)
    return [build(t, choice, same, Numbers(), read_published(t, choice.scale)) for t in tables]


def decorate(folder: Path, number: int) -> None:
    """Give a fake run what a real one has beside its AP."""
    (folder / rundir.PICTURES).mkdir(exist_ok=True)
    for image in (3, 20, 100):
        drawn = np.full((480, 360, 3), 40 * number, np.uint8)
        cv2.imwrite(str(folder / rundir.PICTURES / f"{image}-1.png"), drawn)
    rows: list[dict[str, Any]] = [
        {"kind": "train", "step": step, "loss": 90 / step, "time": 0, "epoch": 0} for step in range(1, 300)
    ]
    rows += [{"kind": "test", "step": step, "AP": step / 700, "epoch": 0, "time": 0} for step in (100, 200, 299)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / rundir.METRICS).write_text(text + '{"kind": "train", "st')  # a killed run's last line is cut
    shares = dict(zip(KINDS, (0.5, 0.2, 0.1, 0.1, 0.1), strict=True))
    joints = {name: {"n": 4, "similarity": 0.02 * i + 0.3, **shares} for i, name in enumerate(COCO17.joints)}
    joints["left_ear"] = {"n": 0, "similarity": None, **dict.fromkeys(KINDS, 0.0)}
    result = rundir.read_result(folder) or {}
    errors = {"people": 12, "matched": 10, "kinds": shares, "joints": joints}
    rundir.write_json(folder / rundir.RESULT, {**result, "errors": errors, "finished": f"2026-01-0{number + 1}"})


def written(folder: Path) -> Path:
    """The page of those tables, on disk."""
    path = folder / "report.html"
    page.write(path, page.build(reports(folder), smoke()))
    return path
