"""`repose data preview` chooses whole images where people hide each other, crops elsewhere, and obeys a named one."""

from __future__ import annotations

from pathlib import Path

import pytest

from repose.__main__ import main
from repose.config import ExperimentBase
from repose.data import preview as sheet


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[ExperimentBase]:
    """The experiments that a sheet was asked for."""
    asked: list[ExperimentBase] = []

    def note(cfg: ExperimentBase, out: Path) -> Path:
        asked.append(cfg)
        return out

    monkeypatch.setattr(sheet, "preview", note)
    return asked


@pytest.mark.parametrize(
    ("words", "view", "paper"),
    [
        (["data=synthetic"], "person", "drpnet"),
        (["data=coco-lite"], "person", "drpnet"),
        (["data=synthetic-pairs"], "image", "pinet"),
        (["data=synthetic-crowd"], "image", "pinet"),
        (["data=synthetic-crowdpose"], "image", "pinet"),
        (["data=crowdpose"], "image", "pinet"),
        (["data=ochuman"], "image", "pinet"),
        (["data=coco-lite", "data.view=image"], "image", "pinet"),
        (["drpnet/s", "data=synthetic-pairs"], "person", "drpnet"),
        (["pinet/coco", "data=coco-lite"], "image", "pinet"),
    ],
)
def test_the_view_fits_the_data(words: list[str], view: str, paper: str, seen: list[ExperimentBase]) -> None:
    assert main(["data", "preview", *words]) == 0
    assert [(cfg.data.view, cfg.paper) for cfg in seen] == [(view, paper)]
    name = next(w for w in words if w.startswith("data=")).removeprefix("data=")
    assert seen[0].data.name.startswith(name)


def test_crowdpose_is_shown_with_its_own_joints(seen: list[ExperimentBase]) -> None:
    assert main(["data", "preview", "data=synthetic-crowdpose"]) == 0
    assert seen[0].joint_set().k == 14
