"""The HTML page in a real browser: no errors, no overflow on a phone, sorting, pictures, provenance, dark and light."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import chromium
import page_kit
import pytest
from table_kit import FAKE, work_in

from repose.tables import runner

pytestmark = pytest.mark.skipif(chromium.binary() is None, reason="no chromium here: apt-get install chromium")
PHONE, DESKTOP = 390, 1280


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        work_in(folder, root, patch)
        patch.setattr(runner, "PROGRAM", FAKE)
        patch.setenv("FAKE_AP", json.dumps({"5": 0.40, "7": 0.45}))
        yield page_kit.written(folder)


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Page]:
    with chromium.browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_it_fits_and_says_no_error(tab: chromium.Page, written: Path, width: int, dark: bool) -> None:
    tab.open(written, width, dark=dark)
    tab.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert tab.run("document.documentElement.scrollWidth") <= width
    # what is wider scrolls in a box of its own
    wide = tab.run(
        f"[...document.querySelectorAll('main *, nav *')].filter((e) => e.getBoundingClientRect().right > {width} + 1 "
        "&& !e.closest('.scroll, .strip')).map((e) => e.outerHTML.slice(0, 80))"
    )
    assert wide == []
    assert tab.run("getComputedStyle(document.body).backgroundColor") == (
        "rgb(22, 23, 26)" if dark else "rgb(253, 253, 251)"
    )
    assert tab.problems == []


def test_every_picture_loads(tab: chromium.Page, written: Path) -> None:
    tab.open(written, DESKTOP)
    tab.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    loaded = tab.run("Promise.all([...document.images].map((i) => i.decode().then(() => 'good', (e) => String(e))))")
    assert loaded == ["good"] * 9
    shapes = tab.run("[...document.images].map((i) => [i.naturalWidth, i.naturalHeight])")
    assert shapes == [[165, 220]] * 9
    drawn = tab.run("[...document.querySelectorAll('svg')].map((s) => s.getBoundingClientRect().height)")
    assert len(drawn) >= 6 and min(drawn) > 100


COLUMN = "[...document.querySelectorAll('#t-drpnet-9 table.sortable')][0]"


def test_sorting(tab: chromium.Page, written: Path) -> None:
    tab.open(written, DESKTOP)

    def labels() -> list[str]:
        return tab.run(f"[...{COLUMN}.tBodies[0].rows].map((r) => r.cells[0].innerText.split('<')[0].trim())")

    def click(head: str) -> str | None:
        return tab.run(
            f"(() => {{ const h = [...{COLUMN}.tHead.rows[0].cells].find((c) => c.innerText.startsWith('{head}')); "
            "h.querySelector('button').click(); return h.getAttribute('aria-sort'); })()"
        )

    paper = labels()
    assert paper[:3] == ["5x5", "7x7", "the default"]
    assert click("ours AP [") == "ascending"
    assert labels()[0] == "5x5"
    assert {*labels()[-2:]} == {"9x9", "HRNet"}, "rows without a number stay last"
    assert click("ours AP [") == "descending"
    assert labels()[0] in ("7x7", "the default", "coarse points")
    assert {*labels()[-2:]} == {"9x9", "HRNet"}
    assert click("ours AP [") is None
    assert labels() == paper, "a third click gives the paper's order back"
    click("row")
    assert labels() == sorted(paper, key=str.lower)
    assert tab.problems == []


def test_a_click_says_where_a_number_comes_from(tab: chromium.Page, written: Path) -> None:
    tab.open(written, PHONE)
    open_ones = "[...document.querySelectorAll('[popover]')].filter((p) => p.matches(':popover-open'))"
    assert tab.run(f"{open_ones}.length") == 0
    tab.run("document.querySelector('#t-drpnet-9 td.ours button').click()")
    text = tab.run(f"{open_ones}[0].innerText")
    for part in ("5x5, scale smoke", "abc1234def", "a fake machine", "runs/drpnet/"):
        assert part in text
    box = tab.run(f"(() => {{ const b = {open_ones}[0].getBoundingClientRect(); return [b.left, b.right]; }})()")
    assert box[0] >= 0 and box[1] <= PHONE
    tab.run(f"{open_ones}[0].querySelector('.close').click()")
    assert tab.run(f"{open_ones}.length") == 0
    assert tab.problems == []


def test_it_is_usable_without_eyes(tab: chromium.Page, written: Path) -> None:
    tab.open(written, DESKTOP)
    assert tab.run("document.documentElement.lang") == "en"
    assert tab.run("[...document.querySelectorAll('svg')].every((s) => s.getAttribute('aria-label'))")
    assert tab.run("[...document.images].every((i) => i.alt)")
    assert tab.run(
        "[...document.querySelectorAll('button')].every((b) => b.textContent || b.getAttribute('aria-label'))"
    )
    levels = tab.run("[...document.querySelectorAll('h1,h2,h3')].map((h) => Number(h.tagName[1]))")
    assert levels[0] == 1 and all(b - a <= 1 for a, b in itertools.pairwise(levels))
    # text against its ground, WCAG AA
    for dark in (False, True):
        tab.open(written, DESKTOP, dark=dark)
        names = ["ink", "quiet", "link", "good", "bad", "open"]
        ratios = tab.run(f"{json.dumps(names)}.map((n) => ({CONTRAST})('--' + n, '--ground'))")
        assert min(ratios) >= 4.5, dict(zip(names, ratios, strict=True))


CONTRAST = """(a, b) => {
  const light = (name) => {
    const hex = getComputedStyle(document.documentElement).getPropertyValue(name).trim().slice(1);
    const [r, g, b] = [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16) / 255)
      .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
  return (x + 0.05) / (y + 0.05);
}"""
