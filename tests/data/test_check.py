"""`repose data check`: each fault in a small folder, named with its id."""

import json

import numpy as np
import pytest

from repose.data.check import check

JOINTS = [(40.0, 30.0, 2), (35.0, 45.0, 2), (45.0, 45.0, 1)]
BOX = [30.0, 20.0, 20.0, 40.0]


@pytest.fixture
def sound(folder):
    for i in range(2):
        pixels = np.random.default_rng(i).integers(0, 256, (80, 100, 3), np.uint8)
        folder.person(folder.image(pixels, f"{i + 1:06d}.jpg"), JOINTS, BOX)
    return folder


def _check(folder, decode_images=True, **data):
    folder.write("val.json")
    if not (folder.root / "train.json").exists():
        empty = {**json.loads((folder.root / "val.json").read_text()), "images": [], "annotations": []}
        (folder.root / "train.json").write_text(json.dumps(empty))
    return check(folder.cfg(train_json="train.json", val_json="val.json", **data), decode_images)


def test_a_sound_folder_has_no_problems(sound):
    assert _check(sound) == [] and _check(sound, decode_images=False) == []


A = 900_100_000_001
FAULTS = {
    "joint outside": (
        {"keypoints": [40, 30, 2, 102, 45, 2, 45, 45, 1]},
        "left_hand at (102, 45) is outside the image of 100x80",
    ),
    "visibility": ({"keypoints": [40, 30, 3, 35, 45, 2, 45, 45, 1]}, "nose has v=3"),
    "keypoint values": ({"keypoints": [1, 2, 2] * 4}, "12 keypoint values, skeleton k3 needs 3 x 3"),
    "num_keypoints": ({"num_keypoints": 2}, "num_keypoints is 2, but 3 joints have v > 0"),
    "no joints": ({"keypoints": None}, "num_keypoints is 3, but there are no keypoints"),
    "no area": ({"area": None}, "no area; give it, or set data.oks_area=box*0.53"),
    "area 0": ({"area": 0}, "area is 0, OKS needs one above 0"),
    "no box": ({"bbox": None}, "no bbox"),
    "flat box": ({"bbox": [3, 4, 0, 5]}, "bbox [3, 4, 0, 5] has no extent"),
    "box outside": ({"bbox": [90, 4, 20, 5]}, "bbox [90, 4, 20, 5] leaves the image of 100x80"),
    "foreign image": ({"image_id": 77}, "image 77 is not in the file"),
    "crowd polygon": ({"iscrowd": 1, "segmentation": [[0, 0, 1, 0, 1, 1]]}, "iscrowd=1 with a polygon"),
    "two points": ({"segmentation": [[0, 0, 1, 0]]}, "at least 3 points"),
    "rle size": ({"segmentation": {"size": [100, 80], "counts": [8000]}}, "RLE of size 80x100 in an image of 100x80"),
    "rle counts": (
        {"segmentation": {"size": [80, 100], "counts": [7000]}},
        "RLE counts add up to 7000, its size has 8000",
    ),
    "rle fields": ({"segmentation": {"counts": [8000]}}, "RLE without counts and size"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_an_annotation(sound, fault):
    change, message = FAULTS[fault]
    sound.annotations[1].update(change)
    sound.annotations[1] = {k: v for k, v in sound.annotations[1].items() if v is not None}
    lines = _check(sound, decode_images=False)
    assert len(lines) == 1 and lines[0].startswith(f"val: annotation {A}: ") and message in lines[0]


def test_slack_of_one_pixel(sound):
    sound.annotations[1].update(keypoints=[-1, 30, 2, 100, 45, 2, 45, 80, 1], bbox=[-0.6, 0, 101.5, 80])
    assert _check(sound, decode_images=False) == []


def test_areas_do_not_matter_where_they_are_not_used(sound):
    sound.annotations[1].pop("area")
    assert _check(sound, oks_area="box*0.53") == []


def test_ids_that_are_used_twice(sound):
    sound.annotations[1]["id"] = A - 1
    sound.images.append(dict(sound.images[0]))
    lines = _check(sound)
    assert f"val: annotation {A - 1}: id is used twice" in lines and "val: image 1: id is used twice" in lines


def test_images_missing_truncated_or_of_another_size(sound):
    file = sound.root / "images" / "000001.jpg"
    file.write_bytes(file.read_bytes()[:-200])
    (sound.root / "images" / "000002.jpg").unlink()
    third = sound.image(np.zeros((40, 60, 3), np.uint8))
    sound.images[third - 1].update(width=60, height=41)
    wanted = [
        "val: image 1: 000001.jpg is truncated",
        "val: image 2: 000002.jpg is missing",
        "val: image 3: 000003.png is 60x40, the json says 60x41",
    ]
    assert _check(sound) == wanted and _check(sound, decode_images=False) == wanted


def test_the_same_photograph_in_both_splits(sound):
    sound.write("train.json")
    lines = _check(sound)
    assert len(lines) == 2 and "image 1 of val is image 1 of train (000001.jpg), the same file" in lines[0]


def test_another_skeleton(sound):
    sound.joints = ("nose", "left_hand")
    assert any("has 2 keypoints (nose, left_hand), but skeleton 'k3' has 3 joints" in line for line in _check(sound))


def test_a_joint_without_its_partner(sound):
    from repose.config import SkeletonBlock

    block = SkeletonBlock("k3", sound.joints, (), (), (0.1,) * 3)
    assert sum("is in no flip pair" in line for line in _check(sound, skeleton=block)) == 2


def test_box_files(sound):
    results = [
        {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5},
        {"image_id": 9, "category_id": 1, "bbox": [1, 2, 0, 4], "score": 1.5},
    ]
    (sound.root / "boxes.json").write_text(json.dumps(results))
    lines = _check(sound, detections="boxes.json")
    assert all("boxes.json (sha256 " in line for line in lines)
    for message in ("result 1 (image 9): bbox [1, 2, 0, 4] has no extent", "score is 1.5", "1 results are of images"):
        assert sum(message in line for line in lines) == 1
    (sound.root / "boxes.json").write_text("[]")
    assert "holds no box" in _check(sound, boxes="boxes.json")[0]


def test_many_faults_of_a_kind_are_counted(sound):
    for _ in range(30):
        sound.person(1, JOINTS, BOX, num_keypoints=1)
    lines = _check(sound, decode_images=False)
    assert len(lines) == 21 and lines[-1] == "val: and 10 more of these (num_keypoints)"
