"""Identity-vector grouping's tables and sweeps: they resolve, hold the paper's numbers, and share their trainings."""

from pathlib import Path
from typing import Any

import pytest

from repose.tables import costs
from repose.tables.cells import Cell, Choice, cells, choose
from repose.tables.plan import unique
from repose.tables.schema import all_tables, find_tables, load_table
from repose.tables.sweep import load_sweep

NAMES = ("1", "2", "ablation-threshold", "ablation-gamma", "ablation-radius", "ablation-weighting", "ablation-vectors",
         "ablation-crops")  # fmt: skip
SWEEPS = ("threshold", "gamma", "radius", "weighting")


def paper(name: str, *metrics: str) -> dict[str, tuple[float | None, ...]]:
    (table,) = find_tables(f"idgroup/{name}")
    return {i: tuple(r.paper.get(m) for m in metrics) for i, r in table.rows.items()}


def cell_of(name: str, row: str, choice: Choice) -> Cell:
    (table,) = find_tables(f"idgroup/{name}")
    return cells(table, choice)[row][0]


def config(name: str, row: str, scale: str) -> Any:
    return cell_of(name, row, choose([f"scale={scale}"])).loaded.cfg


def test_all_are_there(root: Path) -> None:
    found = [load_table(p).name for p in all_tables() if p.parent.parent.name == "idgroup"]
    assert sorted(found) == sorted(f"idgroup/{n}" for n in NAMES)
    assert {p.stem for p in (root / "sweeps").glob("idgroup-*.yaml")} == {f"idgroup-{n}" for n in SWEEPS}


@pytest.mark.parametrize(
    ("name", "scale"),
    # the grid of tests at mini and paper alone, as it resolves 29 configs each time (smoke: test_table_sweep.py)
    [
        (n, s)
        for n in NAMES
        for s in ("smoke", "mini", "lite", "paper")
        if n != "ablation-threshold" or s in ("mini", "paper")
    ],
)
def test_rows_resolve_and_differ(name: str, scale: str) -> None:
    (table,) = find_tables(f"idgroup/{name}")
    keys = [c.key for found in cells(table, choose([f"scale={scale}"])).values() for c in found]
    assert keys and len(set(keys)) == len(keys)


@pytest.mark.parametrize("scale", ["smoke", "mini", "lite", "paper"])
def test_tables_share_their_trainings(scale: str) -> None:
    """One MobileNetV3 model for Tables 1 and 2 and every ablation, one MaxViT model where that is run."""
    choice = choose([f"scale={scale}"])
    shared = [
        [("1", "mobilenetv3"), ("2", "both"), ("ablation-threshold", "trained"), ("ablation-gamma", "g0-4"),
         ("ablation-radius", "r1"), ("ablation-weighting", "fixed"), ("ablation-vectors", "absolute"),
         ("ablation-crops", "whole")],
    ]  # fmt: skip
    if scale in ("lite", "paper"):
        shared.append([("1", "maxvit"), ("2", "both-maxvit"), ("ablation-crops", "whole-maxvit")])
    for places in shared:
        assert len({cell_of(*place, choice).key for place in places}) == 1, places
    both = [find_tables(f"idgroup/{n}")[0] for n in ("1", "2")]
    every = unique(c for t in both for found in cells(t, choice).values() for c in found)
    assert len(every) == (8 if len(shared) == 2 else 4)


def test_maxvit_is_not_run_at_mini_and_table_2_is_planned_for_half_an_hour() -> None:
    for name in ("1", "2", "ablation-crops"):
        (table,) = find_tables(f"idgroup/{name}")
        found = cells(table, choose(["scale=mini"]))
        maxvit = {i for i, r in table.rows.items() if "MaxViT" in r.label or "maxvit" in i}
        assert maxvit and not any(found.get(i) for i in maxvit)
        if name == "2":
            assert len(maxvit) == 4
            assert sum(r.hours["mini"] for i, r in table.rows.items() if i not in maxvit) <= 0.5


def test_table_2_switches_the_two_parts() -> None:
    wanted = {"both": (True, True), "neither": (False, False), "no-hourglass": (False, True),
              "no-transformer": (True, False)}  # fmt: skip
    for row, parts in wanted.items():
        for name, backbone in ((row, "mobilenetv3_large_100"), (f"{row}-maxvit", "maxvit_nano_rw_256")):
            model = config("2", name, "paper").model
            assert (model.hourglass.enabled, model.transformer.enabled) == parts
            assert (model.backbone.name, model.backbone.pretrained) == (backbone, True)


def test_the_threshold_grid() -> None:
    """{0.3 .. 0.9} x {2, 3, 4} of one checkpoint; at mini also what T 3 is on a map of half as many cells."""
    (table,) = find_tables("idgroup/ablation-threshold")
    thresholds = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    for scale, distances in (("mini", (1.5, 2.0, 3.0, 4.0)), ("paper", (2.0, 3.0, 4.0))):
        found = {i: c[0] for i, c in cells(table, choose([f"scale={scale}"])).items() if c}
        trained = found.pop("trained")
        assert {c.parent.key for c in found.values() if c.parent} == {trained.key}
        grid: list[Any] = [c.loaded.cfg for c in found.values()]
        pairs = [(c.decode.threshold, c.decode.distance) for c in grid]
        assert pairs == [(p, t) for p in thresholds for t in distances]
        one: Any = trained.loaded.cfg
        assert (one.decode.threshold, one.decode.distance) in pairs
        for row, c in found.items():
            label = f"p {c.loaded.cfg.decode.threshold}, T {c.loaded.cfg.decode.distance:g}"  # type: ignore[attr-defined]
            assert table.rows[row].label.startswith(label)


def test_settings_of_the_ablations() -> None:
    gamma = {i: config("ablation-gamma", i, "mini").loss for i in ("g0-0", "g0-2", "g0-4", "g1-4", "printed")}
    assert {i: (c.gamma_pos, c.gamma_neg, c.asym_printed) for i, c in gamma.items()} == {
        "g0-0": (0, 0, False), "g0-2": (0, 2, False), "g0-4": (0, 4, False), "g1-4": (1, 4, False),
        "printed": (0, 4, True),
    }  # fmt: skip
    radius = [config("ablation-radius", i, "mini").loss.presence_radius for i in ("r0", "r1", "r15", "r2")]
    assert radius == [0, 1, 1.5, 2]
    kinds = [config("ablation-weighting", i, "mini").loss.weighting for i in ("fixed", "learnt", "kendall")]
    assert kinds == ["fixed", "paper", "kendall"]


def test_the_crop_run() -> None:
    """Crops of true boxes, at the same input size, and the same settings else."""
    for scale, rows in (
        ("mini", [("whole", "crops")]),
        ("paper", [("whole", "crops"), ("whole-maxvit", "crops-maxvit")]),
    ):
        for whole, crops in rows:
            a, b = config("ablation-crops", whole, scale), config("ablation-crops", crops, scale)
            assert (a.data.view, b.data.view, b.data.base, b.data.centre) == ("image", "person", "box", "box")
            assert b.data.boxes == "gt" and a.data.input_size == b.data.input_size
            assert (a.model, a.loss, a.decode, a.optim, a.train, a.test) == (
                b.model, b.loss, b.decode, b.optim, b.train, b.test,
            )  # fmt: skip
    one = config("ablation-crops", "crops-one", "paper")
    # vectors lie on the map, so their joints are no further apart than its diagonal: all active cells are one person
    assert one.decode.distance > 2**0.5 * one.data.input_size[0] / 4


def test_protocols_are_those_of_the_runs() -> None:
    """Else no difference to the paper would ever be printed."""
    choice = choose(["scale=paper"])
    for name in NAMES:
        (table,) = find_tables(f"idgroup/{name}")
        for found in cells(table, choice).values():
            for one in found:
                cfg = one.loaded.cfg
                assert cfg.data.name == table.evaluated_on(one.row) == "coco-val2017", (name, one.row.id)
                assert cfg.data.oks_area == table.protocol.oks_area and table.protocol.flip is None


def test_numbers_of_the_paper() -> None:
    assert paper("1", "params", "AP50", "AP75", "AP_M", "AP_L") == {
        "multiposenet": (None, 86.3, 76.6, 65.0, 76.3), "integral": (45.0, 88.2, 74.8, 63.9, 74.0),
        "simplebaseline": (68.6, 91.9, 81.1, 70.3, 80.0), "hrnet-w32": (28.5, 90.5, 81.9, 70.8, 81.0),
        "hrnet-w48": (63.6, 90.6, 82.2, 71.5, 81.8), "tokenpose": (20.8, 90.0, 81.5, 71.8, 82.4),
        "transpose": (17.5, 90.1, 82.1, 71.9, 82.8), "hrnet-lite": (14.5, 89.7, 80.9, 70.3, 80.7),
        "openpose": (52.3, 85.2, 71.3, 62.2, 70.1), "realtime": (53.8, 69.0, 35.6, 34.6, 43.6),
        "mobilenetv3": (8.6, 60.5, 52.3, 45.7, 52.4), "maxvit": (19.1, 86.5, 74.7, 65.4, 74.9),
    }  # fmt: skip
    assert {i: v for i, (v,) in paper("2", "AP").items()} == {
        "both": 48.9, "both-maxvit": 68.8, "neither": 11.4, "neither-maxvit": 17.1,
        "no-hourglass": 43.1, "no-hourglass-maxvit": 57.7, "no-transformer": 56.0, "no-transformer-maxvit": 61.2,
    }  # fmt: skip


def test_what_the_notes_say_of_other_tables() -> None:
    """The quoted rows that equal KDC's test-dev rows, and the OpenPose that differs."""
    ours = paper("1", "AP50", "AP75", "AP_M", "AP_L")
    kdc = {i: tuple(r.paper.get(m) for m in ("AP50", "AP75", "AP_M", "AP_L"))
           for i, r in find_tables("kdc/1")[0].rows.items()}  # fmt: skip
    for row in ("multiposenet", "integral"):
        assert ours[row] == kdc[row]
    assert kdc["openpose"][:2] == (84.9, 67.5) != ours["openpose"][:2]
    hrnet, maxvit = (paper("1", "AP50", "AP75")[i] for i in ("hrnet-w32", "maxvit"))
    assert [round((h or 0) - (m or 0), 1) for h, m in zip(hrnet, maxvit, strict=True)] == [4.0, 7.2]
    by_row = {i: v or 0 for i, (v,) in paper("2", "AP").items()}
    assert round(by_row["no-transformer"] - by_row["both"], 1) == 7.1


@pytest.mark.slow
def test_sizes_are_counted(tmp_path: Path) -> None:
    """Specification 2: the totals of Table 1 and of the six ablated networks."""
    (table,) = find_tables("idgroup/2")
    counted = {i: costs.cost_of(table, r, Choice("mini"), tmp_path) for i, r in table.rows.items()}
    assert {i: round(1e6 * (c.params or 0)) for i, c in counted.items()} == {
        "both": 8_563_092, "neither": 6_017_205, "no-hourglass": 6_971_155, "no-transformer": 7_609_142,
        "both-maxvit": 19_204_232, "neither-maxvit": 16_658_345, "no-hourglass-maxvit": 17_612_295,
        "no-transformer-maxvit": 18_250_282,
    }  # fmt: skip


@pytest.mark.parametrize("name", SWEEPS)
def test_a_sweep_is_of_the_papers_small_model(name: str, root: Path) -> None:
    sweep = load_sweep(root / "sweeps" / f"idgroup-{name}.yaml")
    assert sweep.table == f"idgroup/ablation-{name}"
    verb = "test" if name == "threshold" else "train"
    assert sweep.repose_words(sweep.cells[0])[:3] == [verb, "idgroup/mobilenetv3", "scale=mini"]
    assert len(sweep.cells) == {"threshold": 28, "gamma": 5, "radius": 4, "weighting": 3}[name]
