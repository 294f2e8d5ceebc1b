"""The HTML page without a browser: what stands in it, where its numbers come from, and that it needs nothing else."""

import argparse
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import page_kit
import pytest
from page_kit import SCRIPT
from table_kit import FAKE, Numbers, flags, same, smoke, work_in, write_table

from repose.errors import UserError
from repose.tables import cli, page, publish, runner
from repose.tables.page_parts import hours_text, part
from repose.tables.page_plots import CURVE_POINTS, HEIGHT, WIDTH, Curve, Point, curves, scatter
from repose.tables.report import Report, build


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, root: Path) -> None:
    work_in(tmp_path, root, monkeypatch)
    monkeypatch.setattr(runner, "PROGRAM", FAKE)
    monkeypatch.setenv("FAKE_AP", json.dumps({"5": 0.40, "7": 0.45}))


@pytest.fixture
def experiments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An experiments folder with the tables of the kit alone; configs still come from the repository."""
    import repose.tables.overview as overview
    import repose.tables.schema as schema

    for module in (schema, publish, overview, cli):
        monkeypatch.setattr(module, "experiments_root", lambda: tmp_path / "here")
    for module in (page, cli):
        monkeypatch.setattr(module, "changed_since", lambda: same)
    monkeypatch.setattr(cli, "Counted", lambda runs, count=True: Numbers())
    return tmp_path / "here"


def options(**given: str) -> argparse.Namespace:
    return flags(**{"out": None, "picture": None, "image": None, **given})


class Seen(HTMLParser):
    """Every tag with its attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def seen(reports: list[Report]) -> Seen:
    return Seen(page.html(page.build(reports, smoke())))


def test_every_number_and_every_missing_one_with_its_reason(tmp_path: Path, experiments: Path) -> None:
    text = seen(page_kit.reports(tmp_path)).text
    for part_of in (
        "73.5", "40.0 [38.0, 42.0]", "14.90", "2.16",  # paper, ours, counted
        "not run at smoke", "no distinct form at this scale", "quoted", "its own paper",
        "confirmed", "7x7 beats 5x5", "+5.0 [+2.0, +8.0]",
        "scale smoke is not the paper's", "fake machine", "abc1234def",
        "30.0 min",  # hours of a fake run
        "left ear", "0.30", "10 of 12", "Training curves",
    ):  # fmt: skip
        assert part_of in text, part_of


def test_provenance_of_each_measured_cell(tmp_path: Path, experiments: Path) -> None:
    found = seen(page_kit.reports(tmp_path))
    ids = [a["id"] for _, a in found.tags if a.get("id")]
    assert len(ids) == len(set(ids)), "every id once"
    targets = {a["popovertarget"] for a in found.all("button") if "popovertarget" in a}
    assert targets <= set(ids)
    assert {a["href"] for a in found.all("a")} <= {f"#{i}" for i in ids}
    measured = [a for a in found.all("td") if "ours" in (a.get("class") or "").split() and a.get("data-v")]
    assert len(measured) >= 8
    for attributes in measured:
        tip = attributes["title"] or ""
        assert "scale smoke, data synthetic, 1 seed" in tip and "commit abc1234def, a fake machine" in tip
    dialog = found.text[found.text.index("5x5, scale smoke") :]
    for key in ("run", "commit", "data", "protocol", "hardware", "hours", "seed", "identity"):
        assert key in dialog[:2000]


def test_it_asks_no_network_and_runs_no_text_of_others(tmp_path: Path, experiments: Path) -> None:
    text = page.html(page.build(page_kit.reports(tmp_path), smoke()))
    found = Seen(text)
    assert SCRIPT not in text and SCRIPT in found.text, "a label is escaped, and read back whole"
    assert len(found.all("script")) == 1
    assert not found.all("link")[0]["href"].startswith("http") and len(found.all("link")) == 1
    for tag, attributes in found.tags:
        for name in ("src", "href", "action", "data", "poster"):
            value = attributes.get(name) or ""
            assert value == "" or value.startswith(("data:", "#")), (tag, name, value)
    assert "url(" not in text and "@import" not in text
    policy = next(a["content"] for a in found.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and policy.startswith("default-src 'none'")


def test_a_run_is_embedded_once(tmp_path: Path, experiments: Path) -> None:
    found = seen(page_kit.reports(tmp_path))
    assert len(found.all("img")) == 3 * 3, "three pictures of three runs, though two tables and five rows show them"
    assert all(a["alt"] and a["src"].startswith("data:image/jpeg;base64,") for a in found.all("img"))  # type: ignore[union-attr]
    assert "the run shown under" in found.text


def test_published_rows_stand_in_their_own_column(tmp_path: Path, experiments: Path) -> None:
    first, *_ = page_kit.reports(tmp_path)
    publish.publish(first)
    other = smoke("log.runs=elsewhere")
    report = build(first.table, other, same, Numbers(), publish.read_published(first.table, "smoke"))
    made = part(report, {})
    heads = [h.text for h in made.heads]
    assert heads[:4] == ["row", "paper AP", "ours AP [95 %]", "status"]
    column = heads.index("published AP") - 1
    ours = heads.index("ours AP [95 %]") - 1
    five = made.lines[0].cells
    assert (five[column].text, five[ours].text) == ("40.0 [38.0, 42.0]", "–")
    assert five[2].text == "not run" and five[2].note == "nobody has run it here at scale smoke"
    assert next(f for f in made.facts if f.id == five[column].source).title == "published: 5x5, scale smoke"


def test_seeds_stand_apart_in_the_provenance(tmp_path: Path, experiments: Path) -> None:
    from repose.tables import plan
    from repose.tables.cells import cells
    from repose.tables.runner import Jobs, run_tasks

    table, choice = write_table(tmp_path), smoke("seeds=2")
    run_tasks(plan.tasks([c for f in cells(table, choice).values() for c in f], same), Jobs(say=lambda line: None))
    made = part(build(table, choice, same, Numbers(), {}), {})
    facts = next(f for f in made.facts if f.title == "5x5, scale smoke")
    assert [heading for heading, _ in facts.groups] == ["seed 21", "seed 22", "all that was measured"]
    folders = [dict(pairs)["run"] for _, pairs in facts.groups[:2]]
    assert len(set(folders)) == 2


def test_headline_is_the_rows_own_cells(tmp_path: Path, experiments: Path) -> None:
    made = page.build(page_kit.reports(tmp_path), smoke())
    (row,) = made.headlines
    cells = dict(zip([h.text for h in made.headline_heads], [c.text for c in row.cells], strict=True))
    assert (row.label, row.note) == ("DRP-Net", "7x7, Table 9")
    assert (cells["paper AP"], cells["ours AP [95 %]"]) == ("74.1", "45.0 [43.0, 47.0]")
    assert (cells["ours params M"], cells["ours GMACs"], cells["status"]) == ("14.90", "2.16", "measured")
    (glance,) = made.glance
    assert [c.text for c in glance.cells] == ["2", "10", "8", "1", "0", "0", "1.50 h"]


def test_scatter_keeps_to_its_frame() -> None:
    points = [Point(2.0 + 0.01 * i, 70 + i, "paper", 0, f"a label {i}", f"row {i}", 60.0, 90.0) for i in range(12)]
    plot = scatter(points, "title", "GFLOPs")
    assert plot is not None
    left, top, right, bottom = plot.frame
    assert all(left <= m.x <= right and top <= m.y <= bottom for m in plot.marks)
    assert all(m.high is not None and m.low is not None and m.high < m.y < m.low for m in plot.marks)  # y grows down
    order = [m.y for m in plot.marks]
    assert order == sorted(order, reverse=True)
    shown = [m for m in plot.marks if m.anchor]
    assert shown and len({(m.label_x, m.label_y) for m in shown}) == len(shown)
    assert all(0 < m.label_x < WIDTH and 0 < m.label_y < HEIGHT for m in shown)
    assert scatter(points[:1], "title", "GFLOPs") is None
    wide = scatter([replace(points[0], x=1.0), replace(points[1], x=100.0), replace(points[2], x=10.0)], "t", "x")
    assert wide is not None
    one, hundred, ten = (m.x for m in wide.marks)
    assert ten == pytest.approx((one + hundred) / 2, abs=0.2), "costs that span decades have a logarithmic axis"


def test_curves_are_thinned_by_means() -> None:
    plot = curves([Curve([(float(i), 1.0 + i % 2) for i in range(1200)], 0, "row")], "loss", "loss")
    assert plot is not None
    points = plot.paths[0].line.split()
    assert len(points) <= CURVE_POINTS
    heights = {float(p.split(",")[1]) for p in points}
    assert len(heights) == 1, "1, 2, 1, 2 ... is averaged, not picked at random"
    assert curves([Curve([], 0, "nothing")], "loss", "loss") is None
    assert curves([Curve([(1.0, float("nan"))], 0, "nan")], "loss", "loss") is None


def test_hours_for_people() -> None:
    assert [hours_text(h) for h in (0.001, 0.05, 0.9, 3.0)] == ["4 s", "3.0 min", "54.0 min", "3.00 h"]


def test_command_line(tmp_path: Path, experiments: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page_kit.reports(tmp_path)
    assert page.report(["drpnet", "scale=smoke"], options()) == 0
    assert "written: runs/report.html" in capsys.readouterr().out
    text = Path("runs/report.html").read_text()
    assert "Table 9" in text and "Figure 9" in text
    (tmp_path / "there").mkdir()
    assert page.report(["drpnet/9", "scale=smoke"], options(out=str(tmp_path / "there"))) == 0
    one = (tmp_path / "there" / "report.html").read_text()
    assert "Table 9" in one and "Figure 9" not in one
    with pytest.raises(UserError, match=r"no paper 'drpnt' with tables; did you mean 'drpnet'\?"):
        page.report(["drpnt"], options())
    with pytest.raises(UserError, match="no table 'drpnet/8'"):
        page.report(["drpnet/8"], options())


def test_templates_are_in_the_package(root: Path) -> None:
    import tomllib

    data = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    inside = {p for pattern in data["repose"] for p in (root / "src" / "repose").glob(pattern)}
    assert set((root / "src" / "repose" / "tables" / "templates").iterdir()) <= inside


def test_stale_and_failed_rows_are_not_shown_as_measured(tmp_path: Path, experiments: Path) -> None:
    first, *_ = page_kit.reports(tmp_path)
    stale = build(first.table, first.choice, lambda cfg, result: "losses.py changed", Numbers(), {})
    made = part(stale, {})
    five = made.lines[0].cells
    assert (five[2].text, five[2].note) == ("stale", "losses.py changed")
    assert not re.search(r"40\.0", " ".join(c.text for c in five))
    assert made.joints is None and made.training == [] and made.strips == []
