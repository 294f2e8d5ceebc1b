"""KDC's tables and sweeps: they resolve, hold the paper's numbers, and share their trainings."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as rle

from repose.engine import rundir
from repose.tables import costs
from repose.tables.cells import Cell, Choice, cells, choose
from repose.tables.numbers import Counted
from repose.tables.plan import unique
from repose.tables.schema import all_tables, find_tables, load_table
from repose.tables.sweep import load_sweep

NAMES = ("1", "2", "3", "4", "5", "6", "7", "fig-6", "fig-7", "fig-8", "fig-9", "fig-10")
KEYPOINTS = ("AP", "AP50", "AP75", "AP_M", "AP_L")


def paper(name: str, *metrics: str) -> dict[str, tuple[float | None, ...]]:
    (table,) = find_tables(f"kdc/{name}")
    return {i: tuple(r.paper.get(m) for m in metrics) for i, r in table.rows.items()}


def cell_of(name: str, row: str, choice: Choice) -> Cell:
    (table,) = find_tables(f"kdc/{name}")
    return cells(table, choice)[row][0]


def test_all_are_there(root: Path) -> None:
    found = [load_table(p).name for p in all_tables() if p.parent.parent.name == "kdc"]
    assert sorted(found) == sorted(f"kdc/{n}" for n in NAMES)
    assert {p.stem for p in (root / "sweeps").glob("kdc-*.yaml")} == {
        "kdc-radius", "kdc-centroid", "kdc-pgo-sigma", "kdc-igo-sigma",
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", ["smoke", "mini", "lite", "paper"])
def test_rows_resolve_and_differ(name: str, scale: str) -> None:
    (table,) = find_tables(f"kdc/{name}")
    keys = [c.key for found in cells(table, choose([f"scale={scale}"])).values() for c in found]
    assert len(set(keys)) == len(keys)


def test_tables_share_their_trainings() -> None:
    """Two networks on COCO for all tables and figures; at mini one; Table 7 and Fig. 8 take half an hour there."""
    for scale, shared in {
        "paper": [
            [(n, "r101") for n in ("1", "3", "4", "5")],
            [(n, "r152") for n in ("1", "3", "4", "5")]
            + [("7", "both"), ("fig-7", "r-32"), ("fig-8", "dynamic"), ("fig-9", "trained"), ("fig-10", "trained")],
            [("2", "r101"), ("6", "r101-test")],
            [("2", "r152"), ("6", "r152-test")],
        ],
        "mini": [[("1", "r101"), ("4", "r101"), ("7", "both"), ("fig-7", "r-32"), ("fig-8", "dynamic")]],
    }.items():
        choice = choose([f"scale={scale}"])
        for places in shared:
            assert len({cell_of(*place, choice).key for place in places}) == 1, (scale, places)
    mini = choose(["scale=mini"])
    both = [find_tables(f"kdc/{n}")[0] for n in ("7", "fig-8")]
    every = unique(c for t in both for found in cells(t, mini).values() for c in found)
    assert sum(c.row.kind == "train" for c in every) == 5
    hours = {c.key: c.row.hours["mini"] for t in both for found in cells(t, mini).values() for c in found}
    assert sum(hours.values()) <= 0.5


@pytest.mark.parametrize(("name", "tests"), [("fig-9", 20), ("fig-10", 10)])
def test_grids_are_tests_of_one_checkpoint(name: str, tests: int) -> None:
    (table,) = find_tables(f"kdc/{name}")
    found = cells(table, choose(["scale=mini"]))
    assert [r.kind for r in table.rows.values()] == ["train"] + tests * ["eval"]
    assert {c.parent.key for row in found.values() for c in row if c.parent} == {found["trained"][0].key}


def test_data_of_each_scale() -> None:
    names = {
        (n, s): cell_of(n, row, choose([f"scale={s}"])).loaded.cfg.data.name
        for n, row in (("1", "r101"), ("2", "r101"), ("3", "r101@ochuman-test"), ("5", "r101-test"), ("6", "r101-test"))
        for s in ("mini", "lite", "paper")
    }
    assert names == {
        ("1", "mini"): "synthetic", ("1", "lite"): "coco-lite", ("1", "paper"): "coco-val2017",
        ("2", "mini"): "synthetic-crowdpose", ("2", "lite"): "synthetic-crowdpose", ("2", "paper"): "crowdpose-test",
        ("3", "mini"): "synthetic-pairs", ("3", "lite"): "synthetic-pairs", ("3", "paper"): "ochuman-test",
        ("5", "mini"): "synthetic-pairs", ("5", "lite"): "synthetic-pairs", ("5", "paper"): "ochuman-test",
        ("6", "mini"): "synthetic-crowdpose", ("6", "lite"): "synthetic-crowdpose", ("6", "paper"): "crowdpose-test",
    }  # fmt: skip
    full = choose(["scale=paper"])
    assert cell_of("5", "r152-val", full).loaded.cfg.data.name == "ochuman-val"
    val = cell_of("6", "r152-val", full).loaded.cfg.data
    assert (val.name, val.train_json, val.masks) == ("crowdpose-val", "annotations/crowdpose_train.json", "none")


def test_switches_of_the_rows() -> None:
    full = choose(["scale=paper"])
    switches = {r: cell_of("7", r, full).loaded.cfg.model for r in ("none", "khdr", "kc", "both")}
    assert {r: (m.khdr, m.use_kc) for r, m in switches.items()} == {
        "none": (False, False), "khdr": (True, False), "kc": (False, True), "both": (True, True),
    }  # fmt: skip
    assert {m.backbone.name for m in switches.values()} == {"resnet152"}
    assert all(m.backbone.pretrained for m in switches.values())
    igo = cell_of("fig-10", "bandwidth-03", full).loaded.cfg.decode.igo  # type: ignore[attr-defined]
    assert (igo.mode, igo.sigma) == ("bandwidth", 0.3)
    pgo = cell_of("fig-9", "h02-l07", full).loaded.cfg.decode.pgo  # type: ignore[attr-defined]
    assert (pgo.sigma_hvk, pgo.sigma_lvk, pgo.unit) == (0.2, 0.7, "px")
    assert cell_of("4", "r101-labelled", full).loaded.cfg.test.mask_people == "labelled"
    crowd = cell_of("2", "r152", full).loaded.cfg
    assert (crowd.test.subsets, crowd.model.backbone.name) == ("crowd_index", "resnet152")  # type: ignore[attr-defined]


def test_protocols_are_those_of_the_runs() -> None:
    """Else no difference to the paper would ever be printed."""
    choice = choose(["scale=paper"])
    for name in ("1", "2", "3", "4", "7", "fig-8"):
        (table,) = find_tables(f"kdc/{name}")
        for found in cells(table, choice).values():
            for one in found:
                cfg = one.loaded.cfg
                assert cfg.data.name == table.evaluated_on(one.row), (name, one.row.id)
                assert (cfg.data.oks_area, cfg.test.flip) == (table.protocol.oks_area, table.protocol.flip)


def test_numbers_of_the_paper() -> None:
    one = paper("1", *KEYPOINTS)
    assert one["r101-test"] == (74.2, 89.0, 80.2, 69.3, 81.1) and one["r152-test"] == (76.1, 92.9, 83.9, 71.1, 83.5)
    assert one["r101"] == 5 * (None,)  # test-dev is not val2017
    assert one["hrnet"] == (75.5, 92.5, 83.3, 71.9, 81.5) and one["pifpaf"] == (66.7, None, None, 62.4, 72.9)
    assert len(one) == 29 + 4
    two = paper("2", "AP", "AP50", "AP75", "AP_E", "AP_M", "AP_H")
    assert two["r101"] == (71.6, 87.1, 75.2, 78.4, 71.9, 59.7) and two["r152"] == (74.5, 89.7, 76.8, 80.1, 74.8, 62.6)
    assert two["buctd"] == (None, None, None, 79.2, 73.4, 66.1)
    three = {i: v for i, (v,) in paper("3", "AP").items()}
    assert [three[f"{r}@ochuman-{s}"] for r in ("r101", "r152") for s in ("val", "test")] == [44.1, 44.6, 46.3, 46.0]
    four = paper("4", "mask_AP", "mask_AP50", "mask_AP75", "mask_AP_M", "mask_AP_L")
    assert four["r101-test"] == (45.7, 80.4, 47.8, 53.5, 67.4) and four["r152-test"] == (47.6, 81.8, 48.7, 54.6, 67.8)
    five = {i: v for i, (v,) in paper("5", "mask_AP").items()}
    assert [five[f"{r}-{s}"] for r in ("r101", "r152") for s in ("val", "test")] == [56.7, 57.0, 58.3, 59.6]
    six = {i: v for i, (v,) in paper("6", "AP50").items()}
    assert [six[f"{r}-{s}"] for r in ("r101", "r152") for s in ("val", "test")] == [86.3, 87.1, 88.1, 89.7]
    assert {i: v[1] for i, v in two.items() if i in ("r101", "r152")} == {
        "r101": six["r101-test"],
        "r152": six["r152-test"],
    }
    seven = paper("7", *KEYPOINTS)
    assert seven == {
        "none": 5 * (None,), "khdr": (74.8, 89.7, 75.6, 70.3, 79.1), "kc": (76.2, 91.8, 78.9, 72.5, 82.7),
        "both": (77.5, 94.9, 86.4, 73.8, 84.6),
    }  # fmt: skip
    ten = {i: v for i, (v,) in paper("fig-10", "mask_AP").items() if v}
    assert list(ten.values()) == [61.0, 57.2, 55.7, 55.0, 54.7] and all(i.startswith("blur") for i in ten)
    kinds = {i: r.kind for n in ("1", "4") for i, r in find_tables(f"kdc/{n}")[0].rows.items()}
    assert [i for i, k in kinds.items() if k == "server-only"] == ["r101-test", "r152-test"]


@pytest.mark.slow
def test_figure_6_is_counted_exactly(tmp_path: Path) -> None:
    """Parameters to the last one; multiply-adds within 0.5 % of an independent count of convolutions alone."""
    (table,) = find_tables("kdc/fig-6")
    counted = {i: costs.cost_of(table, r, Choice("mini"), tmp_path) for i, r in table.rows.items()}
    assert {i: round(1e6 * (c.params or 0)) for i, c in counted.items()} == {
        "r101": 42_776_775, "r101-os16": 42_776_775, "r152": 58_420_423, "r152-os16": 58_420_423,
        "r152-tree": 58_387_639, "r152-listed": 58_254_454, "r101-skip4": 43_222_583, "crowdpose": 42_717_354,
    }  # fmt: skip
    for row, gmacs in {"r101": 113.21, "r101-os16": 34.08, "r152": 153.78, "r152-os16": 46.77}.items():
        assert counted[row].gmacs == pytest.approx(gmacs, rel=5e-3), row


def rectangle(x: int, wide: int) -> dict[str, Any]:
    image_HW = np.zeros((40, 60), np.uint8, order="F")
    image_HW[5:35, x : x + wide] = 1
    code = rle.encode(image_HW)
    return {"size": code["size"], "counts": code["counts"].decode()}


def test_a_claim_about_masks_is_judged_by_the_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal keypoints, other masks: the difference is the masks' alone, and is kept under their own name."""
    person = {"id": 0, "category_id": 1, "iscrowd": 0, "area": 600.0, "bbox": [10, 5, 20, 30], "num_keypoints": 0}
    truth = {
        "images": [{"id": i, "width": 60, "height": 40} for i in range(3)],
        "annotations": [
            {**person, "id": i + 1, "image_id": i, "segmentation": rectangle(10, 20), "keypoints": 51 * [0]}
            for i in range(3)
        ],
        "categories": [{"id": 1, "name": "person"}],
    }
    choice = choose(["scale=smoke", f"log.runs={tmp_path}"])
    found = [cell_of("fig-10", row, choice) for row in ("blur-01", "blur-05", "bandwidth-05")]
    for one, x in zip(found, (10, 14, 40), strict=True):  # IoU 1, 16 / 24 and 0
        rundir.write_json(one.folder / rundir.PREDICTIONS, [])
        results = [{"image_id": i, "category_id": 1, "score": 0.9, "segmentation": rectangle(x, 20)} for i in range(3)]
        (one.folder / rundir.MASKS).write_text(json.dumps(results))
    numbers = Counted(tmp_path)
    monkeypatch.setattr(numbers, "_key", lambda _: "same people")
    monkeypatch.setattr(numbers, "_ground_truth", lambda _, masks=False: truth if masks else {})
    exact, shifted, wrong = found
    first = numbers.paired(exact, shifted, "mask_AP")
    assert first is not None
    assert (first.value, first.low, first.high) == pytest.approx((0.6, 0.6, 0.6))  # 2 / 3 passes four thresholds of ten
    second = numbers.paired(exact, wrong, "mask_AP")
    assert second is not None and second.value == pytest.approx(1.0)  # not what was kept for the pair before
    fifty = numbers.paired(exact, shifted, "mask_AP50")
    assert fifty is not None and fifty.value == pytest.approx(0.0)
    assert numbers.paired(exact, wrong, "mask_AP_S") is None


def test_sweeps_over_one_checkpoint_name_it() -> None:
    for name in ("pgo-sigma", "igo-sigma"):
        sweep = load_sweep(Path("sweeps") / f"kdc-{name}.yaml")
        assert sweep.repose_words(sweep.cells[0])[:3] == ["test", "kdc/r152", "scale=mini"]
        assert "checkpoint=RUN" in sweep.path.read_text()
