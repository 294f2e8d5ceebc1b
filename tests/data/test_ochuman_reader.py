"""OCHuman's own format: COCO's joints and visibility, masks with holes, boxes, splits, and max_iou in COCO files."""

import json

import numpy as np
import pytest

from repose.__main__ import main
from repose.data import ochuman
from repose.data.coco import read
from repose.data.ochuman import convert
from repose.errors import UserError
from repose.skeleton import COCO17

NAMES = [
    *(f"right_{j}" for j in ("shoulder", "elbow", "wrist")),
    *(f"left_{j}" for j in ("shoulder", "elbow", "wrist")),
    *(f"right_{j}" for j in ("hip", "knee", "ankle")),
    *(f"left_{j}" for j in ("hip", "knee", "ankle")),
    *("head", "neck", "right_ear", "left_ear", "nose", "right_eye", "left_eye"),
]
VAL = "ochuman_coco_format_val_range_0.00_1.00.json"
TEST = "ochuman_coco_format_test_range_0.00_1.00.json"


def _square(x, y, side):
    return [x, y, x + side, y, x + side, y + side, x, y + side]


def _person(first=10, max_iou=0.6, masked=True, posed=True):
    keypoints = [v for k in range(19) for v in (first + k, 2 * k, k % 4)]
    rings = {"outer": [_square(first, 5, 20)], "inner": [_square(first + 5, 10, 4)], "width": 60, "height": 40}
    return {
        "bbox": [first, 5, first + 20, 25],
        "max_iou": max_iou,
        "keypoints": keypoints if posed else None,
        "segms": rings if masked else None,
    }


@pytest.fixture
def native(tmp_path):
    """Four images; the second has nobody with joints and mask, of the third one person is left out."""
    people = [
        [_person(10, 0.6), _person(12, 0.7)],
        [_person(10, 0.5, masked=False)],
        [_person(10, 0.9), _person(30, 0.9, posed=False)],
        [_person(20, 0.55)],
    ]
    images = [
        {"file_name": f"{i:06d}.jpg", "image_id": f"{i:06d}", "width": 60, "height": 40, "annotations": p}
        for i, p in enumerate(people, 1)
    ]
    file = tmp_path / "ochuman.json"
    order = {"missing": 0, "vis": 1, "self_occluded": 2, "others_occluded": 3}
    file.write_text(json.dumps({"images": images[::-1], "keypoint_names": NAMES, "keypoint_visible": order}))
    return file


def _load(file):
    return json.loads(file.read_text())


def test_people_with_joints_and_mask_in_the_order_of_their_images(native, tmp_path, monkeypatch):
    monkeypatch.setattr(ochuman, "VAL_IMAGES", 2)
    lines = convert(native, tmp_path / "annotations")
    assert [line.split(": ")[1] for line in lines] == ["written, 3 people in 2 images", "written, 1 people in 1 images"]
    val, test = (_load(tmp_path / "annotations" / name) for name in (VAL, TEST))
    assert [(i["id"], i["file_name"]) for i in val["images"]] == [(1, "000001.jpg"), (2, "000003.jpg")]
    assert [(a["id"], a["image_id"]) for a in val["annotations"]] == [(1, 1), (2, 1), (3, 2)]
    assert [(i["id"], i["file_name"]) for i in test["images"]] == [(1, "000004.jpg")]  # ids start again
    assert [a["max_iou"] for a in val["annotations"]] == [0.6, 0.7, 0.9]
    assert [i["max_iou"] for i in val["images"]] == [0.7, 0.9]


def test_joints_visibility_box_and_mask(native, tmp_path):
    convert(native, tmp_path)
    people = read(tmp_path / VAL, tmp_path, COCO17)
    # The nose is their joint 16 (v = 16 % 4 = 0), the left shoulder their 3 (occluded by others: v = 1), the right
    # elbow their 1 (visible), the right wrist their 2 (self-occluded: visible to COCO).
    joint = dict(zip(COCO17.joints, people.joint_AK3[0].tolist(), strict=True))
    assert joint["nose"] == [26, 32, 0] and joint["left_shoulder"] == [13, 6, 1]
    assert joint["right_elbow"] == [11, 2, 2] and joint["right_wrist"] == [12, 4, 2]
    # Of the 17 joints (their 0-11 and 14-18) 0, 4, 8 and 16 are missing.
    assert people.num_keypoints_A[0] == 13
    assert people.area_A[0] == 400  # the box's, not the mask's
    truth = people.ground_truth()["annotations"][0]
    assert truth["bbox"] == [10, 5, 20, 20] and truth["max_iou"] == 0.6
    wanted = np.zeros((40, 60), np.uint8)
    wanted[5:25, 10:30] = 1
    wanted[10:14, 15:19] = 0  # the hole
    np.testing.assert_array_equal(people.mask(0), wanted)
    assert people.image_extra_I[0] == {"max_iou": 0.7}


def test_max_iou_joins_the_data_sets_own_coco_files(native, tmp_path):
    convert(native, tmp_path)
    official = _load(tmp_path / VAL)
    for entry in (*official["annotations"], *official["images"]):
        del entry["max_iou"]
    official["annotations"][0]["keypoints"][0] = 371.57  # theirs, and it stays
    official["images"].reverse()
    (tmp_path / VAL).write_text(json.dumps(official))
    before = read(tmp_path / VAL, tmp_path, COCO17)
    assert np.isnan(before.max_iou_A).all() and "max_iou" not in before.ground_truth()["annotations"][0]
    assert "max_iou added to 4 of 4 people" in convert(native, tmp_path)[0]
    joined = _load(tmp_path / VAL)
    assert [a["max_iou"] for a in joined["annotations"]] == [0.6, 0.7, 0.9, 0.55]
    assert joined["annotations"][0]["keypoints"][0] == 371.57
    assert {i["file_name"]: i["max_iou"] for i in joined["images"]}["000001.jpg"] == 0.7
    content = (tmp_path / VAL).read_bytes()
    assert "max_iou added to 0 of 4" in convert(native, tmp_path)[0] and (tmp_path / VAL).read_bytes() == content


def test_files_that_do_not_belong_together(native, tmp_path):
    convert(native, tmp_path)
    other = _load(tmp_path / VAL)
    other["annotations"][1]["bbox"] = [1, 1, 2, 2]
    (tmp_path / VAL).write_text(json.dumps(other))
    with pytest.raises(UserError, match=r"annotation 2 \(image 000001.jpg, box \[1, 1, 2, 2\]\) is not in .*ochuman"):
        convert(native, tmp_path)


def test_without_masks_there_is_nobody(native, tmp_path):
    content = _load(native)
    for image in content["images"]:
        for person in image["annotations"]:
            person["segms"] = None
    native.write_text(json.dumps(content))
    with pytest.raises(UserError, match="nobody has both keypoints and a mask"):
        convert(native, tmp_path)
    assert not (tmp_path / VAL).exists()


def test_files_that_are_not_ochumans(native, tmp_path):
    content = _load(native)
    (tmp_path / "no.json").write_text("{}")
    with pytest.raises(UserError, match="not OCHuman's own file"):
        convert(tmp_path / "no.json", tmp_path)
    content["keypoint_names"][18] = "nothing"
    native.write_text(json.dumps(content))
    with pytest.raises(UserError, match="keypoint_names lack left_eye"):
        convert(native, tmp_path)
    content["keypoint_names"][18] = "left_eye"
    content["images"][0]["annotations"][0]["keypoints"][2] = 7
    native.write_text(json.dumps(content))
    with pytest.raises(UserError, match="image 000004 has a malformed person"):
        convert(native, tmp_path)


def test_the_native_file_in_the_place_of_a_coco_file_is_named(native, folder):
    with pytest.raises(UserError, match=r"OCHuman's own format; run `repose data convert"):
        read(native, folder.root, COCO17)


def test_the_command_writes_beside_the_file(native, capsys):
    assert main(["data", "convert", str(native)]) == 0
    assert "written, 4 people in 3 images" in capsys.readouterr().out
    assert (native.parent / "annotations" / VAL).is_file()
    assert main(["data", "convert"]) == 2
    assert "name OCHuman's own annotation file" in capsys.readouterr().err


def test_native_sample(shared_data, tmp_path):
    file = shared_data / "samples" / "ochuman_native" / "ochuman.json"
    if not file.is_file():
        pytest.skip("no OCHuman sample in the shared data")
    convert(file, tmp_path)
    people = read(tmp_path / VAL, tmp_path, COCO17)
    assert people.images == 10 and len(people.ann_id_A) == 16
    assert people.max_iou_A.min() > 0.5 and people.image_extra_I[0]["max_iou"] == pytest.approx(0.6425931453704834)
    for row in range(len(people.ann_id_A)):  # masks lie within their boxes (drawn by hand, to a few pixels)
        y, x = np.nonzero(people.mask(row))
        x1, y1, x2, y2 = people.box_A4[row]
        inside = (x >= x1 - 8) & (x <= x2 + 8) & (y >= y1 - 8) & (y <= y2 + 8)
        assert inside.mean() > 0.97
        joint = people.joint_AK3[row][people.joint_AK3[row, :, 2] > 0, :2]
        assert ((joint >= (x1 - 15, y1 - 15)) & (joint <= (x2 + 15, y2 + 15))).all(-1).mean() > 0.9


def test_coco_format_sample(shared_data, folder):
    source = shared_data / "samples" / "ochuman"
    if not source.is_dir():
        pytest.skip("no OCHuman sample in the shared data")
    people = read(source / "test_ochuman.json", source, COCO17)
    assert people.images == 3 and all(people.mask(row).any() for row in range(len(people.ann_id_A)))
    width_height = people.box_A4[:, 2:] - people.box_A4[:, :2]
    np.testing.assert_allclose(people.area_A, width_height.prod(1), rtol=0.01)
