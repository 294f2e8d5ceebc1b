"""CGANet's tables and sweeps: they resolve, hold the paper's numbers, and share their trainings."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from table_kit import Numbers, same, smoke, write_table

from repose.engine import rundir
from repose.tables import costs, plot, speed
from repose.tables.cells import Cell, Choice, cell, cells, choose
from repose.tables.plan import unique
from repose.tables.render import markdown, write_files
from repose.tables.report import build
from repose.tables.schema import Table, all_tables, find_tables, load_table
from repose.tables.sweep import load_sweep

NAMES = (
    "1", "2", "3", "4", "5", "6", "fig-1",
    "ablation-ambiguity", "ablation-cascade", "ablation-fixed-extension", "ablation-loss-weights",
)  # fmt: skip
FAST = tuple(n for n in NAMES if n != "2")
"""Table 2 has 43 rows of one kind, which take long to resolve."""


def table(name: str) -> Table:
    (found,) = find_tables(f"cganet/{name}")
    return found


def paper(name: str, *metrics: str) -> dict[str, tuple[float | None, ...]]:
    return {i: tuple(r.paper.get(m) for m in metrics) for i, r in table(name).rows.items()}


def cell_of(name: str, row: str, scale: str) -> Cell:
    one = table(name)
    return cell(one, one.rows[row], choose([f"scale={scale}"]))


def test_all_are_there(root: Path) -> None:
    found = [load_table(p).name for p in all_tables() if p.parent.parent.name == "cganet"]
    assert sorted(found) == sorted(f"cganet/{n}" for n in NAMES)
    assert {p.stem for p in (root / "sweeps").glob("cganet-*.yaml")} == {
        "cganet-extension", "cganet-cascade", "cganet-loss-weights",
    }  # fmt: skip


@pytest.mark.parametrize("scale", ["smoke", "mini", "paper"])
def test_rows_resolve_and_differ(scale: str) -> None:
    for name in FAST:
        keys = [c.key for found in cells(table(name), choose([f"scale={scale}"])).values() for c in found]
        assert len(set(keys)) == len(keys), name


@pytest.mark.slow
@pytest.mark.parametrize("scale", ["smoke", "mini", "lite", "paper"])
def test_every_row_resolves(scale: str) -> None:
    for name in NAMES:
        keys = [c.key for found in cells(table(name), choose([f"scale={scale}"])).values() for c in found]
        assert len(set(keys)) == len(keys), name


@pytest.mark.parametrize("scale", ["smoke", "paper"])
def test_tables_share_their_trainings(scale: str) -> None:
    """Five for Tables 1 and 2; Table 3's own is Table 1's (f) where a scale has one input size."""
    for shared in (
        [("1", "e"), ("2", "trained"), ("ablation-ambiguity", "a1-b05"), ("ablation-cascade", "one")],
        [("1", "f"), ("ablation-cascade", "two")],
        [("1", "c"), ("ablation-fixed-extension", "none")],
        [("1", "d"), ("2", "r09-t08"), ("ablation-ambiguity", "off")],
        [("3", "ours"), ("ablation-loss-weights", "kp-3"), *([("1", "f")] if scale == "smoke" else [])],
    ):
        assert len({cell_of(*place, scale).key for place in shared}) == 1, shared
    every = unique(c for found in cells(table("1"), choose([f"scale={scale}"])).values() for c in found)
    assert [c.row.kind for c in every].count("train") == 5 and len(every) == 7


def test_switches_of_table_1() -> None:
    def of(row: str) -> tuple[Any, ...]:
        cfg: Any = cell_of("1", row, "paper").loaded.cfg
        m, d = cfg.model, cfg.decode
        return m.backbone.kind, m.roi.kind, m.roi.stages, m.centre_lines, d.extend, d.ambiguity

    assert {row: of(row) for row in table("1").rows} == {
        "a": ("fpn", "pooler", 1, False, "none", False),
        "b": ("fpn", "guider", 1, False, "none", False),
        "c": ("tnet", "guider", 1, False, "none", False),
        "d-fixed": ("tnet", "guider", 1, False, "fixed", False),
        "d": ("tnet", "guider", 1, True, "dichotomy", False),
        "e": ("tnet", "guider", 1, True, "dichotomy", True),
        "f": ("tnet", "guider", 2, True, "dichotomy", True),
    }


def test_inputs_of_the_paper_and_of_lite() -> None:
    for scale in ("lite", "paper"):
        sizes: dict[tuple[str, str], Any] = {}
        for place in (("1", "c"), ("1", "d"), ("2", "r05-t05"), ("3", "ours"), ("6", "ours-384"), ("6", "ours-512")):
            cfg: Any = cell_of(*place, scale).loaded.cfg
            sizes[place] = (cfg.data.input_size, cfg.model.roi.size)
        small, large = ((384, 384), 24), ((512, 512), 32)
        assert list(sizes.values()) == [small, small, small, large, small, large]


def test_protocols_are_those_of_the_runs() -> None:
    """Else no difference to the paper would ever be printed."""
    for name in ("1", "4", "6"):
        one = table(name)
        for found in cells(one, choose(["scale=paper"])).values():
            for c in found:
                cfg = c.loaded.cfg
                assert (cfg.data.name, cfg.test.flip) == (one.protocol.data, one.protocol.flip), (name, c.row.id)
                if one.protocol.boxes:
                    assert cfg.data.boxes == one.protocol.boxes


@pytest.mark.parametrize("scale", ["paper", "lite", "mini"])
def test_rows_of_table_4_share_one_recipe(scale: str) -> None:
    """Specification 10: one recipe for TNet, SimpleBaseline and HRNet (Hourglass: half the learning rate)."""
    cfgs = {row: cell_of("4", row, scale).loaded.cfg for row in ("simple", "hrnet", "ours", "hourglass")}

    def recipe(row: str) -> tuple[Any, ...]:
        data, optim, train = cfgs[row].data, cfgs[row].optim, cfgs[row].train
        draws = data.augment
        made = [draw if draw.p else None for draw in (draws.half_body, draws.scale, draws.rotation, draws.shift)]
        drops = [round(m * train.epochs) for m in optim.milestones] if optim.schedule == "multi_step" else []
        rest = replace(
            optim, base_lr=0.0, milestones=(), warmup_factor=optim.warmup_factor if optim.warmup_steps else 0
        )
        return draws.flip, made, data.input_size, data.padding, data.boxes, rest, drops, train.epochs, train.batch

    assert recipe("simple") == recipe("hrnet") == recipe("ours") == recipe("hourglass")
    rate = {row: cfg.optim.base_lr for row, cfg in cfgs.items()}
    assert rate["simple"] == rate["hrnet"] == rate["ours"]
    assert rate["hourglass"] == (rate["ours"] if scale == "mini" else rate["ours"] / 2)


@pytest.mark.parametrize(("name", "rows"), [("3", ("mask-rcnn", "ours")), ("6", ("mask-rcnn-512", "ours-512"))])
def test_mask_rcnn_is_measured_as_ours_is(name: str, rows: tuple[str, str]) -> None:
    for scale in ("paper", "lite", "mini"):
        theirs, ours = (cell_of(name, row, scale).loaded.cfg for row in rows)
        assert theirs.data.input_size == ours.data.input_size
        assert theirs.decode.top == ours.decode.top and theirs.test.max_people == ours.test.max_people
        assert (theirs.optim.ema.decay is None) or theirs.optim.ema == ours.optim.ema
        if name == "6":
            assert theirs.data.train_on == ours.data.train_on == "annotated"
        if scale == "mini":
            start = 12 if ours.init else 0
            assert theirs.train.epochs == ours.train.epochs + start


def test_numbers_of_the_paper() -> None:
    assert paper("1", "params", "fps", "AP") == {
        "a": (34.7, 13.5, 57.5), "b": (37.3, 18.0, 60.5), "c": (20.1, 27.8, 61.9), "d-fixed": (20.1, 27.2, 62.2),
        "d": (20.2, 26.4, 63.0), "e": (20.2, 26.4, 63.2), "f": (26.9, 23.4, 64.4),
    }  # fmt: skip
    grid = paper("2", "AP")
    rows = {
        "05": (62.6, 62.6, 62.6, 62.7, 62.6, 62.6, 62.5), "07": (62.8, 62.8, 62.8, 62.9, 62.8, 62.7, 62.6),
        "08": (62.8, 62.8, 62.9, 63.0, 62.9, 62.8, 62.7), "09": (62.8, 62.8, 63.0, 63.0, 62.9, 62.9, 62.7),
        "10": (62.7, 62.7, 62.8, 62.9, 62.9, 62.8, 62.7), "15": (62.3, 62.4, 62.6, 62.7, 62.6, 62.6, 62.6),
    }  # fmt: skip
    thres = ("05", "06", "07", "08", "09", "10", "15")
    assert {k: v for k, (v,) in grid.items() if k != "trained"} == {
        f"r{r}-t{t}": ap for r, values in rows.items() for t, ap in zip(thres, values, strict=True)
    }
    for row_id, row in table("2").rows.items():
        if row_id != "trained":
            assert row_id == f"r{row.set['decode']['ratio'] * 100:02.0f}-t{row.set['decode']['thre'] * 100:02.0f}"
    three = list(paper("3", "params", "fps", "AP").values())
    assert three == [
        (56.4, 14.9, 60.7), (24.1, 9.2, 62.9), (123.0, 2.2, 65.8), (28.6, 13.7, 54.1), (28.6, 6.3, 63.6),
        (28.6, 2.0, 67.1), (26.9, 21.1, 68.1), (26.9, 12.4, 69.5), (26.9, 12.4, 70.3),
    ]  # fmt: skip
    assert list(paper("4", "params", "GFLOPs", "sps", "memory_MB", "AP").values()) == [
        (25.1, 19.5, None, None, 66.9), (34.0, 4.0, 423, 7829, 70.5), (28.5, 7.7, 235, 10955, 74.5),
        (24.7, 7.2, 503, 6645, 74.9),
    ]  # fmt: skip
    five = paper("5", "AP", "AP50", "AP75", "AP_M", "AP_L", "AR")
    assert len([v for v in five.values() if v[0]]) == 15
    assert five["separated"] == (75.8, 92.6, 83.6, 72.7, 81.4, 81.1)
    assert five["single"] == (68.8, 88.0, 75.8, 64.2, 76.0, 78.0)
    assert five["ae"] == (65.5, 86.8, 72.3, 60.6, 72.6, 70.2) and five["pifpaf"] == (66.7, None, None, 62.4, 72.9, 72.2)
    assert {i: table("5").rows[i].kind for i in ("separated", "single")} == dict.fromkeys(
        ("separated", "single"), "server-only"
    )
    assert list(paper("6", "params", "mask_AP").values()) == [(42.3, 38.6), (42.3, 41.6), (20.2, 41.6), (20.2, 45.1)]


def test_claims_are_those_of_the_papers_numbers() -> None:
    """Where the paper gives both numbers, its own order is the claim's."""
    for name in NAMES:
        one = table(name)
        for claim in one.claims.values():
            better, worse = (one.rows[i].paper.get(claim.metric) for i in (claim.better, claim.worse))
            if better is not None and worse is not None:
                assert (better < worse) if claim.metric in ("GFLOPs", "params") else (better > worse), (name, claim.id)


@pytest.mark.slow
def test_parameters_of_table_1_are_exact(tmp_path: Path) -> None:
    """Specification 1 and 2.4; the pooler is counted too, without fetching weights."""
    one = table("1")
    counted = {i: costs.cost_of(one, r, Choice("mini"), tmp_path) for i, r in one.rows.items()}
    assert {i: round(1e6 * (c.params or 0)) for i, c in counted.items()} == {
        "a": 35_694_166, "b": 40_792_713, "c": 21_079_049, "d-fixed": 21_079_049, "d": 21_153_035, "e": 21_153_035,
        "f": 28_257_163,
    }  # fmt: skip


@pytest.mark.slow
def test_costs_of_table_4_are_exact(tmp_path: Path) -> None:
    """Without deconvolutions, as the paper counts: 4.017, 7.645 and 7.210 G."""
    one = table("4")
    counted = {i: costs.cost_of(one, one.rows[i], Choice("mini"), tmp_path) for i in ("simple", "hrnet", "ours")}
    assert {i: round(c.gmacs or 0, 3) for i, c in counted.items()} == {"simple": 4.017, "hrnet": 7.645, "ours": 7.210}
    assert round(1e6 * (counted["ours"].params or 0)) == 25_747_793


UNITS = """\
title: units
source: Table 9
experiment: drpnet/m
counted: M is 2^20
params_unit: 2^20
metrics: [AP, fps, sps]
rows:
  seven: {label: 7x7, paper: {AP: 74.1, fps: 20.0}}
  other: {label: HRNet, kind: quoted, paper: {AP: 74.4, fps: 10.0}, source: its own paper}
plot: ap-fps
"""


def test_units_and_speeds_are_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where M is 2^20 ours is said in it too: 14.9e6 / 2^20 = 14.21; a speed measured here stands in its column."""
    one = write_table(tmp_path, UNITS)
    choice = smoke(f"log.runs={tmp_path / 'runs'}")
    cfg = cell(one, one.rows["seven"], choice).loaded.cfg
    measured = {
        "hardware": "a clock",
        "images": 7,
        "weights": "random",
        "scale": "smoke",
        "with_post": {"images_per_s": 12.5},
    }
    assert speed.speeds(one.metrics, cfg) == ({}, "")
    speed.keep("inference", cfg, measured)
    assert speed.speeds(one.metrics, cfg) == ({"fps": 12.5}, "fps: a clock, 7 images, random weights, scale smoke")
    other: Any = replace(cfg, test=replace(cfg.test, flip=not cfg.test.flip))
    assert speed.speeds(one.metrics, other) == ({}, "")  # another test is another speed
    report = build(one, choice, same, Numbers(), {})
    text = markdown(report)
    assert "our parameters in the paper's unit, 2^20: 7x7 14.21" in text
    assert "| 7x7 | 74.1 | – | – | 20.0 | 12.5 |" in text
    assert "speeds, measured by `repose bench`: fps: a clock, 7 images, random weights, scale smoke" in text
    assert report.lines[0].status == "not run"
    files = write_files(report, tmp_path / "runs")
    assert files[-1].suffix == ".png" and files[-1].stat().st_size > 10_000
    drawn: list[str] = []
    monkeypatch.setattr(plot, "_save", lambda figure, path: drawn.extend(a.get_text() for a in figure.axes[0].texts))
    plot.ap_fps(report, tmp_path / "x.png")
    assert drawn == ["7x7", "HRNet"]


def test_memory_is_the_devices_alone(tmp_path: Path) -> None:
    cfg = cell_of("4", "ours", "smoke").loaded.cfg
    here = replace(cfg, log=replace(cfg.log, runs=str(tmp_path)))
    train = {"hardware": "h", "scale": "smoke", "batch": 64, "samples_per_s": 503.0, "peak_memory_mb": 6645.0}
    speed.keep("train", here, {**train, "memory_of": "process, resident"})
    assert speed.speeds(("AP", "sps", "memory_MB"), here)[0] == {"sps": 503.0}
    path = speed.keep("train", here, {**train, "memory_of": "device"})
    assert speed.speeds(("AP", "sps", "memory_MB"), here)[0] == {"sps": 503.0, "memory_MB": 6645.0}
    assert json.loads(path.read_text()) == rundir.without_nan({**train, "memory_of": "device"})


@pytest.mark.parametrize("name", ["extension", "cascade", "loss-weights"])
def test_a_sweep_names_its_table_and_scale(name: str) -> None:
    sweep = load_sweep(Path("sweeps") / f"cganet-{name}.yaml")
    assert "scale=mini" in sweep.command and sweep.table.startswith("cganet/")
    tests = name == "extension"
    assert ("test" in sweep.command) == tests and ("log.group=cganet/2" in sweep.command) == tests
    assert len(sweep.cells) == {"extension": 42, "cascade": 3, "loss-weights": 4}[name]
