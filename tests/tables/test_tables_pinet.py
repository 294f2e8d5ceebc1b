"""PINet's tables and sweeps: they resolve, hold the paper's numbers, and share their trainings."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from repose.tables import costs, plot
from repose.tables.cells import Cell, Choice, cells, choose
from repose.tables.plan import unique
from repose.tables.report import Line, Report, shown
from repose.tables.schema import all_tables, find_tables, load_table
from repose.tables.sweep import load_sweep

NAMES = ("1a", "1b", "1c", "1d", "2", "3", "4", "5", "fig-3b", "fig-5a", "fig-5b", "fig-5c", "ablation-loss-weights")


def paper(name: str, *metrics: str) -> dict[str, tuple[float | None, ...]]:
    (table,) = find_tables(f"pinet/{name}")
    return {i: tuple(r.paper.get(m) for m in metrics) for i, r in table.rows.items()}


def cell_of(name: str, row: str, choice: Choice) -> Cell:
    (table,) = find_tables(f"pinet/{name}")
    return cells(table, choice)[row][0]


def test_all_are_there(root: Path) -> None:
    found = [load_table(p).name for p in all_tables() if p.parent.parent.name == "pinet"]
    assert sorted(found) == sorted(f"pinet/{n}" for n in NAMES)
    assert {p.stem for p in (root / "sweeps").glob("pinet-*.yaml")} == {
        "pinet-partition", "pinet-graph", "pinet-loss-weights",
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", ["smoke", "mini", "lite", "paper"])
def test_rows_resolve_and_differ(name: str, scale: str) -> None:
    (table,) = find_tables(f"pinet/{name}")
    keys = [c.key for found in cells(table, choose([f"scale={scale}"])).values() for c in found]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("scale", ["smoke", "paper"])
def test_tables_share_their_trainings(scale: str) -> None:
    """Nine trainings for Tables 1a to 1d and 2, which have 19 rows with weights of their own."""
    choice = choose([f"scale={scale}"])
    for shared in (
        [("1a", "spm"), ("1b", "center"), ("1d", "spm"), ("2", "spm"), ("fig-5a", "spm")],
        [("1a", "ppg"), ("1b", "part-large"), ("1d", "ppg")],
        [("1a", "full"), ("1c", "dynamic"), ("2", "pinet"), ("fig-5a", "pinet"), ("ablation-loss-weights", "w-003")],
        [("1d", "dekr"), ("2", "dekr"), ("fig-5a", "dekr")],
        [("1a", "ppg-pf"), ("1d", "ppg-pf")],
        *([("4", row), ("fig-5b", row), ("fig-5c", row)] for row in ("spm", "dekr", "pinet")),
    ):
        assert len({cell_of(*place, choice).key for place in shared}) == 1, shared
    tables = [t for name in ("1", "2") for t in find_tables(f"pinet/{name}")]
    every = unique(c for t in tables for found in cells(t, choice).values() for c in found)
    assert sum(c.row.kind == "train" for c in every) == 9


def test_fusion_and_refinement_are_switches_of_the_same_weights() -> None:
    choice = choose(["scale=paper"])
    for name, row, trained in (("1a", "ppg-pr", "full"), ("1a", "ppg-pf", "ppg"), ("1d", "dekr-pf", "dekr")):
        one = cell_of(name, row, choice)
        assert one.parent is not None
        assert one.parent.key == cell_of(name, trained, choice).key
    cfg = cell_of("1a", "ppg-pr", choice).loaded.cfg
    assert (cfg.model.refine.enabled, cfg.decode.fuse) == (True, False)  # type: ignore[attr-defined]


def test_data_of_each_scale() -> None:
    names = {
        (n, s): cell_of(n, row, choose([f"scale={s}"])).loaded.cfg.data.name
        for n, row in (("2", "pinet"), ("4", "pinet"), ("5", "pinet"), ("5", "pinet@ochuman-test"))
        for s in ("mini", "paper")
    }
    assert names == {
        ("2", "mini"): "synthetic-pairs", ("2", "paper"): "ochuman-test",
        ("4", "mini"): "synthetic-crowdpose", ("4", "paper"): "crowdpose-test",
        ("5", "mini"): "synthetic-pairs", ("5", "paper"): "ochuman-test",
    }  # fmt: skip


def test_protocols_are_those_of_the_runs() -> None:
    """Else no difference to the paper would ever be printed."""
    choice = choose(["scale=paper"])
    for name in ("1a", "2", "4", "5"):
        (table,) = find_tables(f"pinet/{name}")
        for found in cells(table, choice).values():
            for one in found:
                cfg = one.loaded.cfg
                assert cfg.data.name == table.evaluated_on(one.row), (name, one.row.id)
                assert (cfg.data.oks_area, cfg.test.flip) == (table.protocol.oks_area, table.protocol.flip)


def test_numbers_of_the_paper() -> None:
    assert paper("1a", "AP", "AP50", "AP75") == {
        "spm": (47.6, 67.5, 53.2), "ppg": (53.1, 70.5, 60.4), "ppg-pr": (58.8, 74.3, 65.5),
        "ppg-pf": (55.8, 72.7, 62.3), "full": (59.8, 74.9, 65.9),
    }  # fmt: skip
    assert paper("1b", "AP", "AP50", "AP75") == {
        "center": (47.6, 67.5, 53.2), "head": (49.8, 70.9, 55.6), "part-large": (53.1, 70.5, 60.4),
        "part-small": (50.3, 69.4, 57.2), "keypoint": (40.8, 59.0, 45.7),
    }  # fmt: skip
    assert paper("1c", "AP", "AP50", "AP75") == {
        "no-gcn": (56.8, 74.1, 63.0), "static": (57.7, 74.7, 64.3), "dynamic": (59.8, 74.9, 65.9),
    }  # fmt: skip
    assert [v for (v,) in paper("1d", "AP").values()] == [47.6, 48.1, 52.2, 53.0, 53.1, 55.8]
    assert [v for v in paper("2", "AP", "AP50", "AP75").values()] == [
        (20.2, 33.2, 24.5), (24.1, 37.4, 26.8), (27.6, 40.8, 29.9), (29.1, 41.3, 31.4), (47.6, 67.5, 53.2),
        (27.7, 66.9, 15.9), (52.2, 69.9, 56.6), (59.8, 74.9, 65.9), (59.8, 74.9, 65.9),
    ]  # fmt: skip
    assert list(paper("3", "params", "GFLOPs").values())[:4] == [(29.3, 41.8), (28.6, 47.7), (29.6, 45.4), (29.4, 42.4)]
    four = paper("4", "AP", "AP50", "AP75", "AP_E", "AP_M", "AP_H")
    assert four["openpose"] == (None, None, None, 62.7, 48.7, 32.3)
    assert four["dekr-ms"] == (67.0, 85.4, 72.4, 75.5, 68.0, 56.9)
    assert four["pinet"] == (68.9, 88.7, 74.7, 75.4, 69.6, 61.5)
    assert four["pinet-ms"] == (69.8, 89.1, 75.6, 76.4, 70.5, 62.2)
    five = {i: v for i, (v,) in paper("5", "AP").items()}
    assert [five[f"pinet{c}"] for c in ("", "@test-dev", "@ochuman-val", "@ochuman-test")] == [67.4, 66.7, 38.3, 37.2]
    assert [five[f"dekr{c}"] for c in ("", "@test-dev", "@ochuman-val", "@ochuman-test")] == [68.0, 67.3, 37.8, 36.4]
    assert five["ae@ochuman-val"] == 32.1 and "ae@coco-val" not in five


@pytest.mark.slow
def test_table_3_is_counted_exactly(tmp_path: Path) -> None:
    """Each row by the rule it was counted by: GFLOPs within 0.3 %; SPM is 29,305,536 + 480 (17 + 1 + 34) + 52."""
    (table,) = find_tables("pinet/3")
    counted = {i: costs.cost_of(table, r, Choice("mini"), tmp_path) for i, r in table.rows.items() if r.has_network}
    assert {i: round(1e6 * (c.params or 0)) for i, c in counted.items()} == {
        "spm": 29_330_548, "dekr": 29_561_182, "pinet": 29_364_218, "pinet-pr": 31_696_381,
    }  # fmt: skip
    for row in ("spm", "dekr", "pinet"):
        assert counted[row].gmacs == pytest.approx(table.rows[row].paper["GFLOPs"], rel=3e-3), row
    assert counted["pinet"].gmacs == counted["pinet-pr"].gmacs  # PR works on poses


@pytest.mark.parametrize("name", ["partition", "graph", "loss-weights"])
def test_a_sweep_runs_on_the_tables_data(name: str) -> None:
    sweep = load_sweep(Path("sweeps") / f"pinet-{name}.yaml")
    assert "data=synthetic-pairs" in sweep.command


def test_figure_5_draws_bins_beside_cumulative_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (table,) = find_tables("pinet/fig-5a")
    bins = [m for m in table.metrics if m != "AP"]
    spm = {name: 0.1 * n for n, name in enumerate(bins)}
    pinet = {name: 0.5 for name in (*bins[:3], *table.mechanism)}
    lines = [Line(table.rows["spm-bins"], "measured", values=spm), Line(table.rows["dekr-bins"], "not run")]
    lines.append(Line(table.rows["pinet-bins"], "measured", values=pinet))
    figures: list[Figure] = []
    monkeypatch.setattr(plot, "_save", lambda figure, path: figures.append(figure))
    plot.curves(Report(table, Choice("mini"), lines, [], [], []), tmp_path / "x.png")
    left, right = figures[0].axes
    assert [t.get_text() for t in left.get_xticklabels()] == bins
    assert [t.get_text() for t in right.get_xticklabels()] == list(table.mechanism)
    assert [line.get_label() for line in left.lines] == ["SPM*", "PINet"]
    assert [line.get_label() for line in right.lines] == ["PINet"], "SPM has nothing there"
    assert list(left.lines[0].get_ydata()) == pytest.approx([0, 10, 20, 30, 40])
    assert left.lines[1].get_color() == right.lines[0].get_color() != left.lines[0].get_color()


def test_counts_of_people_are_written_out() -> None:
    assert [shown("people", v) for v in (4498.0, 999.4, 0.0311)] == ["4498", "999", "0.0311"]
    assert shown("initial_AP", 0.0511) == "5.1"
