"""Which images belong to which subset: CrowdPose's crowd index, and bins of box overlap."""

import json

import numpy as np
import pytest

from repose.config import Test as Evaluation
from repose.errors import UserError
from repose.metrics.subsets import by_crowd_index, by_overlap, image_subsets, max_iou, overlap, restrict, sizes


def truth(*images):
    """One image per dict of image fields; `people` is a list of annotation fields."""
    found = {"info": {"description": "people.json"}, "images": [], "annotations": []}
    for i, fields in enumerate(images, 1):
        people = fields.pop("people", [])
        found["images"].append({"id": i, **fields})
        for person in people:
            found["annotations"].append({"id": len(found["annotations"]) + 1, "image_id": i, "iscrowd": 0, **person})
    return found


def test_crowd_index_borders():
    index = (0.0, 0.1999, 0.2, 0.7999, 0.8, 3.02)
    found = by_crowd_index(truth(*({"crowdIndex": v} for v in index)))
    assert found == {"AP_E": {1, 2}, "AP_M": {3, 4}, "AP_H": {5, 6}}


def test_a_missing_crowd_index_names_file_and_image():
    with pytest.raises(UserError) as error:
        by_crowd_index(truth({"crowdIndex": 0.3}, {}, {"crowdIndex": None}))
    said = str(error.value)
    assert said.startswith("people.json: 2 of 3 images have no `crowdIndex` (the first: image 2)")
    assert "test.subsets=none" in said and "\n" not in said


def test_max_iou_by_hand():
    # 10 x 10 boxes: the second is shifted by 5 (IoU 50 / 150), the third lies within the first (25 / 100), the last
    # is alone; a box without area overlaps nobody.
    box_N4 = np.array([[0, 0, 10, 10], [5, 0, 10, 10], [0, 5, 5, 5], [50, 50, 4, 4], [2, 2, 0, 0]], dtype=float)
    np.testing.assert_allclose(max_iou(box_N4), [1 / 3, 1 / 3, 1 / 4, 0, 0])
    assert max_iou(box_N4[:1]).tolist() == [0]


def test_overlap_from_boxes_and_stored():
    boxes = [{"bbox": b} for b in ([0, 0, 10, 10], [5, 0, 10, 10], [0, 5, 5, 5], [50, 50, 4, 4])]
    crowd = {"bbox": [0, 0, 10, 10], "iscrowd": 1}
    two = truth({"people": [*boxes, crowd]}, {"people": [crowd]}, {"people": boxes[:1]})
    assert overlap(two) == pytest.approx({1: (2 / 3 + 1 / 4) / 4, 2: 0, 3: 0})
    assert overlap(two, "max") == pytest.approx({1: 1 / 3, 2: 0, 3: 0})
    stored = truth(
        {"people": [{"max_iou": 0.9, "bbox": [0, 0, 1, 1]}]}, {"people": [{"max_iou": m} for m in (0.2, 0.6)]}
    )
    assert overlap(stored) == pytest.approx({1: 0.9, 2: 0.4})
    assert overlap(stored, "max") == pytest.approx({1: 0.9, 2: 0.6})
    del stored["annotations"][2]["max_iou"]
    with pytest.raises(UserError, match=r"people.json: 1 of 3 people have no `max_iou` \(the first: annotation 3\)"):
        overlap(stored)


def test_ochumans_coco_files_need_its_own_max_iou():
    """Many of its images name one person of a pair: by the boxes they would overlap nobody."""
    alone = truth({"people": [{"bbox": [0, 0, 10, 10]}]})
    assert overlap(alone) == {1: 0}
    alone["info"]["description"] = "ochuman_coco_format_test_range_0.00_1.00.json"
    with pytest.raises(UserError, match=r"^ochuman_coco.*no `max_iou`.*`repose data convert") as error:
        overlap(alone)
    assert "\n" not in str(error.value)
    alone["annotations"][0]["max_iou"] = 0.7
    assert overlap(alone) == {1: 0.7}


def test_bins_and_cumulative():
    values = (0.0, 0.49, 0.5, 0.6, 0.89, 0.9, 1.0)
    found = by_overlap(truth(*({"people": [{"max_iou": v}]} for v in values)))
    assert found == {
        "AP_IoU50_60": {3}, "AP_IoU60_70": {4}, "AP_IoU70_80": set(), "AP_IoU80_90": {5}, "AP_IoU90_100": {6, 7},
        "AP_IoU50_up": {3, 4, 5, 6, 7}, "AP_IoU60_up": {4, 5, 6, 7}, "AP_IoU70_up": {5, 6, 7},
        "AP_IoU80_up": {5, 6, 7}, "AP_IoU90_up": {6, 7},
    }  # fmt: skip
    test = Evaluation(subsets="iou_bins", iou_edges=(0.0, 0.2, 0.4, 0.6, 0.8, 1.0))
    wide = image_subsets(test, truth(*({"people": [{"max_iou": v}]} for v in values)))
    assert wide["AP_IoU0_20"] == {1} and wide["AP_IoU0_up"] == set(range(1, 8)) and wide["AP_IoU80_100"] == {5, 6, 7}


def test_the_config_chooses():
    one = truth({"crowdIndex": 0.9, "people": [{"max_iou": 0.55}, {"max_iou": 0.75}]})
    assert image_subsets(Evaluation(), one) == {}
    assert image_subsets(Evaluation(subsets="crowd_index"), one)["AP_H"] == {1}
    assert image_subsets(Evaluation(subsets="iou_bins"), one)["AP_IoU60_70"] == {1}
    assert image_subsets(Evaluation(subsets="iou_bins", iou_reduce="max"), one)["AP_IoU70_80"] == {1}


@pytest.mark.parametrize("edges", [(0.5,), (0.5, 0.5), (0.6, 0.5), (-0.1, 1.0), (0.5, 1.1), ()])
def test_edges_that_are_none(edges):
    with pytest.raises(UserError, match=r"test.iou_edges=.*increasing"):
        by_overlap(truth({}), edges)


def test_restrict_and_sizes():
    two = truth({"people": [{}, {"iscrowd": 1}]}, {"people": [{}, {}]})
    results = [{"image_id": 1, "score": 0.5}, {"image_id": 2, "score": 0.25}]
    mine, kept = restrict(results, two, {2})
    assert [i["id"] for i in kept["images"]] == [2] and [a["id"] for a in kept["annotations"]] == [3, 4]
    assert mine == results[1:] and kept["info"] == two["info"] and len(two["images"]) == 2
    assert sizes({"AP_E": frozenset({1, 2}), "AP_H": frozenset()}, two) == {
        "AP_E": {"images": 2, "people": 3},
        "AP_H": {"images": 0, "people": 0},
    }


def test_synthetic_people_have_all_of_it(synthetic_smoke):
    """What the drawn data sets write comes through the reader."""
    from repose.data.coco import read
    from repose.metrics import mask_ap
    from repose.skeleton import COCO17

    people = read(synthetic_smoke / "annotations" / "person_keypoints_val.json", synthetic_smoke / "images", COCO17)
    found = people.ground_truth(masks=True)
    assert sum(len(s) for s in by_crowd_index(found).values()) == 8 and mask_ap.missing(found) == ""
    stored = overlap(found, "max")
    for a in found["annotations"]:
        del a["max_iou"]
    # Boxes of the file are rounded, and MaxIoU was taken before.
    assert any(stored.values()) and stored == pytest.approx(overlap(found, "max"), abs=0.02)


@pytest.mark.data
def test_crowdpose_val(shared_data):
    """Sizes of the specification's sections 8.2 and 12; those of 12 were measured with the 106 crowd regions in."""
    content = json.loads((shared_data / "crowdpose_val.json").read_text())
    assert [len(v) for v in by_crowd_index(content).values()] == [411, 1240, 349]
    names = ["AP_IoU50_60", "AP_IoU60_70", "AP_IoU70_80", "AP_IoU80_90", "AP_IoU90_100"]
    bins = by_overlap(content, reduce="max")
    assert [len(bins[name]) for name in names] == [156, 72, 42, 12, 4]
    assert sum(a["iscrowd"] for a in content["annotations"]) == 106
    everyone = {**content, "annotations": [{**a, "iscrowd": 0} for a in content["annotations"]]}
    bins = by_overlap(everyone, reduce="max")
    assert [len(bins[name]) for name in names] == [157, 72, 43, 12, 4]
    for reduce, shares, average in (
        ("max", {0.3: 0.429, 0.5: 0.144, 0.75: 0.018}, 0.288),
        ("mean", {0.3: 0.28, 0.5: 0.084, 0.75: 0.007}, 0.227),
    ):
        value_I = np.array(list(overlap(everyone, reduce).values()))
        assert value_I.mean() == pytest.approx(average, abs=6e-4)
        for threshold, share in shares.items():
            assert (value_I > threshold).mean() == pytest.approx(share, abs=6e-4)
