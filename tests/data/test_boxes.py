"""Box sources of a top-down test."""

import json

import numpy as np
import pytest

from repose.errors import UserError

JOINTS = [(40.0, 30.0, 2), (35.0, 45.0, 2), (45.0, 45.0, 1)]
GREY = np.full((80, 100, 3), 90, np.uint8)


@pytest.fixture
def two(folder):
    first, second = folder.image(GREY), folder.image(GREY)
    folder.first = folder.person(first, JOINTS, [30.0, 20.0, 20.0, 40.0])
    folder.person(first, [], [0.0, 0.0, 20.0, 20.0])
    folder.person(second, JOINTS, [30.0, 20.0, 20.0, 40.0], iscrowd=1)
    folder.second = folder.person(second, JOINTS, [10.0, 20.0, 20.0, 40.0])
    folder.write()
    return folder


def _results(folder, results, name="boxes.json"):
    (folder.root / name).write_text(json.dumps(results))
    return name


def test_ground_truth_boxes_are_the_people_that_count(two):
    module = two.module("test")
    assert module.box_source == "gt"
    assert module.val_set.boxes.subject_M.tolist() == [two.first, two.second]
    (batch,), (other,) = ([b for b in batches] for batches in [module.val_set[(0, 0)], module.val_set[(0, 1)]])
    assert batch.subject_id_B.tolist() == [two.first] and batch.people.ann_id_N.tolist() == [two.first]
    assert other.box_score_B.tolist() == [1.0]


def test_detections_have_scores_and_no_people(two):
    box = {"category_id": 1, "bbox": [30.0, 20.0, 20.0, 40.0]}
    results = [
        {**box, "image_id": 2, "score": 0.5},
        {**box, "image_id": 1, "score": 0.25},
        {**box, "image_id": 1, "score": 0.75, "category_id": 3},
        {**box, "image_id": 1, "score": 0.75, "bbox": [1, 1, 0, 5]},
        {**box, "image_id": 99, "score": 0.75},
    ]
    module = two.module("test", detections=_results(two, results), boxes="detections")
    assert module.box_source == "detections: boxes.json"
    boxes = module.val_set.boxes
    assert boxes.image_M.tolist() == [0, 1] and boxes.subject_M.tolist() == [1, 0] and boxes.dropped == 2
    batch = module.val_set.sample(0)
    assert batch.people.n == 0 and batch.subject_id_B.tolist() == [1]
    assert batch.box_score_B.tolist() == [0.25] and batch.image_id_B.tolist() == [1]
    np.testing.assert_array_equal(batch.box_img_B4[0], [29.5, 19.5, 49.5, 59.5])
    assert (batch.image_B3HW == two.module("test").val_set.sample(0).image_B3HW).all()  # the same box, the same pixels


def test_any_result_file_below_the_root_or_anywhere(two, tmp_path):
    keypoints = [{"image_id": 1, "category_id": 1, "score": 1, "keypoints": [2, 3, 1, 6, 9, 1, 4, 4, 1]}]
    _results(two, keypoints, "poses.json")
    assert two.module("test", boxes="poses.json").val_set.boxes.box_M4.tolist() == [[2, 3, 6, 9]]
    assert two.module("test", boxes=str(two.root / "poses.json")).box_source == "detections: poses.json"


def test_empty_detection_file_is_allowed_and_said(two, capsys):
    module = two.module("test", boxes=_results(two, []))
    assert "nobody is found: AP 0" in capsys.readouterr().err
    (batches,) = list(module.val_dataloader())
    assert batches[0].b == 0 and batches[0].people.n == 0 and batches[0].image_B3HW.shape == (0, 3, 128, 96)
    assert len(module.ground_truth()["annotations"]) == 4


def test_images_without_boxes_are_said(two, capsys):
    two.module("test", boxes=_results(two, [{"image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "score": 1}]))
    assert "has none for 1 of 2 images with people" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": [], "annotations": []}, "this is an annotation file"),
        ({"a": 1}, "not a COCO result file"),
        ([{"bbox": [1, 2, 3, 4]}], "not a COCO result file"),
        ([{"image_id": 1, "score": 1}], "result 0 has neither"),
    ],
)
def test_files_that_are_no_results(two, content, message):
    with pytest.raises(UserError, match=message):
        two.module("test", boxes=_results(two, content))


def test_missing_files_name_the_key(two):
    with pytest.raises(UserError, match=r"data\.boxes: no file .*nothing\.json"):
        two.module("test", boxes="nothing.json")
    with pytest.raises(UserError, match=r"set data\.detections or use data\.boxes=gt"):
        two.module("test", boxes="detections")
