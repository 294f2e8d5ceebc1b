import os
import re
from pathlib import Path

import pytest

from repose.__main__ import main
from repose.errors import UserError
from repose.tables import overview
from repose.tables.schema import all_tables, find_tables

PAPERS = ("drpnet", "pinet", "cganet", "kdc", "idgroup")


@pytest.mark.parametrize("paper", PAPERS)
def test_captions_are_complete_and_their_tables_exist(paper: str) -> None:
    found = overview.captions(paper)
    for kind in ("Table", "Figure"):
        numbers = [int(m[1]) for c in found if (m := re.fullmatch(rf"{kind} (\d+)", c.item))]
        assert numbers == list(range(1, len(numbers) + 1)), f"{paper}: a {kind} is missing"
    for caption in found:
        if caption.table:
            assert find_tables(caption.table)


@pytest.mark.parametrize("paper", PAPERS)
def test_every_caption_of_the_text_is_listed(paper: str, root: Path) -> None:
    folder = Path(os.environ.get("REPOSE_PAPERS", root.parent / "shared" / "papers"))
    text = folder / f"{paper}.txt"
    if not text.is_file():
        pytest.skip("the papers' text is not beside the checkout (set REPOSE_PAPERS)")
    lines = text.read_text(encoding="utf-8").splitlines()
    captions = {m[0].rstrip(".:") for line in lines if (m := re.match(r"(Table|Figure) \d+[.: ]", line))}
    listed = {c.item for c in overview.captions(paper)}
    assert {c.strip() for c in captions} <= listed


def test_every_table_with_a_number_is_in_the_captions() -> None:
    listed = {c.table for paper in PAPERS for c in overview.captions(paper)}
    for path in all_tables():
        if path.stem.startswith(("table-", "figure-")):
            name = find_tables(f"{path.parent.parent.name}/{path.stem}")[0].name
            assert name in listed or re.sub(r"[a-z]$", "", name) in listed


def test_a_caption_with_numbers_needs_a_table_or_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "experiments_root", lambda: tmp_path)
    (tmp_path / "p").mkdir()
    file = tmp_path / "p" / "captions.csv"
    file.write_text("item,title,numbers,table,reason\nTable 1,a,yes,,\n")
    with pytest.raises(UserError, match=r"captions.csv:2: Table 1 has numbers"):
        overview.captions("p")
    file.write_text("item,title\nTable 1,a\n")
    with pytest.raises(UserError, match="columns must be"):
        overview.captions("p")


def test_a_figure_of_pictures_says_where_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table", "pinet/fig-4"]) == 2
    assert capsys.readouterr().err == "repose: pinet/fig-4 has no table: pictures: repose figures pinet\n"
    assert overview.elsewhere("pinet/figure-4") == "pictures: repose figures pinet"
    for name in ("pinet/4", "pinet/fig-5", "pinet/fig-3b", "pinet/fig-44", "fig-4", "nobody/fig-4"):
        assert overview.elsewhere(name) == ""
    assert main(["table", "pinet/fig-44"]) == 2
    assert "no table 'pinet/fig-44' below" in capsys.readouterr().err
