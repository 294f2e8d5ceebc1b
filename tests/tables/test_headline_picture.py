"""The picture of the headline networks, with a network that was really trained for a moment."""

from pathlib import Path

import cv2
import pytest
from table_kit import TABLE, Numbers, same, smoke, work_in, write_table

from repose.errors import UserError
from repose.tables import headline_picture, plan
from repose.tables.cells import cells
from repose.tables.report import build
from repose.tables.runner import Jobs, run_tasks

ONE = """\
title: One network
source: Table 9
experiment: drpnet/m
rows:
  own: {label: the default, paper: {AP: 74.1}}
headline: {row: own, method: DRP-Net}
"""


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, root: Path) -> None:
    work_in(tmp_path, root, monkeypatch)


@pytest.mark.slow
def test_one_image_through_each_network(tmp_path: Path) -> None:
    table, choice = write_table(tmp_path, ONE), smoke()
    empty = [build(table, choice, same, Numbers(), {})]  # type: ignore[arg-type]
    assert headline_picture.networks(empty) == []
    with pytest.raises(UserError, match="no headline row is trained here"):
        headline_picture.draw([], "", None, tmp_path / "five.jpg")

    run_tasks(plan.tasks(cells(table, choice)["own"], same), Jobs(say=lambda line: None))
    reports = [build(table, choice, same, Numbers(), {})]  # type: ignore[arg-type]
    ((name, folder),) = headline_picture.networks(reports)
    assert name == "DRP-Net" and (folder / "result.json").is_file()
    runs = [(name, folder)] * 2
    out = headline_picture.draw(runs, "", None, tmp_path / "docs" / "five.jpg")
    image = cv2.imread(str(out))
    assert image is not None and image.shape[1] > image.shape[0] > 200, "annotation and prediction side by side"
    assert image.std() > 20, "not an empty sheet"
    with pytest.raises(UserError, match="no image 999999"):
        headline_picture.draw(runs, "999999", None, tmp_path / "five.jpg")


def test_tables_without_headline_have_no_network(tmp_path: Path) -> None:
    assert headline_picture.networks([build(write_table(tmp_path, TABLE), smoke(), same, Numbers(), {})]) == []  # type: ignore[arg-type]
