"""The COCO reader: every form that annotation files come in, and the ones it must refuse."""

import json

import numpy as np
import pytest
from pycocotools import mask as rle

from repose.data.coco import read, result_box
from repose.errors import UserError
from repose.skeleton import COCO17, CROWDPOSE14, Skeleton

SKELETON = Skeleton("k3", ("nose", "left_hand", "right_hand"), (("left_hand", "right_hand"),), (), (0.1, 0.1, 0.1))
JOINTS = [(10.0, 12.0, 2), (8.0, 20.0, 1), (0, 0, 0)]
BLACK = np.zeros((40, 60, 3), np.uint8)


def _read(folder, skeleton=SKELETON, **options):
    return read(folder.write(), folder.root / "images", skeleton, **options)


def test_arrays_hold_what_the_file_says(folder):
    first, second = folder.image(BLACK), folder.image(BLACK)
    folder.person(second, JOINTS, [5.0, 6.0, 20.0, 30.0])
    big = folder.person(first, JOINTS, [1.0, 2.0, 3.0, 4.0], area=7.5)
    people = _read(folder)
    assert people.ann_id_A.tolist() == [big, big - 1]  # ordered by image, ids beyond 32 bits intact
    assert people.ann_id_A.dtype == np.int64
    assert people.rows(0) == range(1) and people.rows(1) == range(1, 2)
    np.testing.assert_array_equal(people.box_A4[0], [0.5, 1.5, 3.5, 5.5])  # edges to pixel centres: minus half a pixel
    np.testing.assert_array_equal(people.joint_AK3[0], JOINTS)  # joints are pixel centres already
    assert people.area_A.tolist() == [7.5, 300.0]
    assert people.labelled_A.tolist() == [2, 2]
    assert people.image_wh_I2.tolist() == [[60, 40], [60, 40]]


def test_ground_truth_gives_the_file_back(folder):
    number = folder.image(BLACK, crowdIndex=0.3)
    folder.person(number, [(1.37, 2.11, 2), (3.7, 4.9, 1), (0, 0, 0)], [1.1, 2.2, 3.3, 4.4], num_keypoints=1)
    truth = _read(folder).ground_truth()
    assert truth["images"][0]["crowdIndex"] == 0.3
    made, wanted = truth["annotations"][0], folder.annotations[0]
    assert made["keypoints"] == wanted["keypoints"]
    assert made["num_keypoints"] == 1  # as in the file, though two joints are labelled
    assert made["bbox"] == pytest.approx(wanted["bbox"], abs=1e-12)
    assert {k: made[k] for k in ("id", "image_id", "area", "iscrowd")} == {
        k: wanted[k] for k in ("id", "image_id", "area", "iscrowd")
    }
    assert _read(folder).ground_truth([])["annotations"] == []


def test_polygons_and_both_kinds_of_rle_give_the_same_mask(folder):
    number = folder.image(BLACK)
    square = [10.0, 5.0, 30.0, 5.0, 30.0, 25.0, 10.0, 25.0]
    wanted = np.zeros((40, 60), np.uint8)
    wanted[5:25, 10:30] = 1
    packed = rle.encode(np.asfortranarray(wanted))
    flat = wanted.T.ravel()
    change = np.flatnonzero(np.diff(np.concatenate([[0], flat]))).tolist()
    counts = np.diff([0, *change, flat.size]).tolist()
    for outline, crowd in (
        ([square], 0),
        ({"size": [40, 60], "counts": counts}, 1),
        ({"size": [40, 60], "counts": packed["counts"].decode()}, 0),
    ):
        folder.person(number, JOINTS, [10.0, 5.0, 20.0, 20.0], segmentation=outline, iscrowd=crowd)
    folder.person(number, JOINTS, [10.0, 5.0, 20.0, 20.0])
    people = _read(folder)
    for row in range(3):
        np.testing.assert_array_equal(people.mask(row), wanted)
        assert people.has_mask(row)
    assert not people.mask(3).any() and not people.has_mask(3)
    assert people.crowd_A.tolist() == [False, True, False, False]
    np.testing.assert_array_equal(people.segments.points(0)[0], [9.5, 4.5])


def test_two_rings_are_one_mask(folder):
    number = folder.image(BLACK)
    rings = [[0, 0, 4, 0, 4, 4, 0, 4], [10, 10, 14, 10, 14, 14, 10, 14]]
    folder.person(number, JOINTS, [0.0, 0.0, 14.0, 14.0], segmentation=rings)
    assert _read(folder).mask(0).sum() == 32


def test_people_without_keypoints_stay(folder):
    number = folder.image(BLACK)
    folder.person(number, [], [5.0, 6.0, 20.0, 30.0], keypoints=None, num_keypoints=None)
    people = _read(folder)
    assert people.labelled_A.tolist() == [0] and people.num_keypoints_A.tolist() == [0]
    assert people.joint_AK3.shape == (1, 3, 3)


def test_nobody_at_all(folder):
    folder.image(BLACK)
    people = _read(folder)
    assert people.ann_id_A.shape == (0,) and people.box_A4.shape == (0, 4) and people.rows(0) == range(0)
    assert people.ground_truth()["annotations"] == []


def test_missing_area_is_never_filled_silently(folder):
    number = folder.image(BLACK)
    folder.person(number, JOINTS, [5.0, 6.0, 20.0, 30.0], area=None)
    with pytest.raises(UserError, match=r"people\.json: 1 annotations have no `area`.*data\.oks_area=box\*0\.53"):
        _read(folder)
    assert _read(folder, oks_area="box*0.53").area_A.tolist() == [pytest.approx(0.53 * 600)]


def test_box_area_replaces_stated_areas_too(folder):
    folder.person(folder.image(BLACK), JOINTS, [5.0, 6.0, 20.0, 30.0], area=1.0)
    assert _read(folder, oks_area="box*0.53").area_A.tolist() == [pytest.approx(318.0)]


def test_keypoints_of_another_skeleton(folder):
    folder.person(folder.image(BLACK), JOINTS, [5.0, 6.0, 20.0, 30.0])
    with pytest.raises(UserError, match=r"has 3 keypoints \(nose, left_hand, right_hand\).*'coco17' has 17"):
        _read(folder, COCO17)
    turned = Skeleton("k3", ("nose", "right_hand", "left_hand"), (("left_hand", "right_hand"),), (), (0.1, 0.1, 0.1))
    with pytest.raises(UserError, match=r"keypoint 1 is 'left_hand'.*'right_hand'"):
        _read(folder, turned)
    folder.joints = ()
    folder.person(1, JOINTS[:2], [5.0, 6.0, 20.0, 30.0])
    with pytest.raises(UserError, match="annotation 900100000001 has 6 keypoint values"):
        _read(folder)


def test_spelling_of_joint_names_does_not_matter(folder):
    folder.joints = ("Nose", "l_hand", "right hand")
    folder.person(folder.image(BLACK), JOINTS, [5.0, 6.0, 20.0, 30.0])
    assert _read(folder).labelled_A.tolist() == [2]


def test_other_categories_and_images_beyond_the_limit_are_left_out(folder):
    for _ in range(2):
        folder.person(folder.image(BLACK), JOINTS, [5.0, 6.0, 20.0, 30.0])
    folder.person(1, JOINTS, [5.0, 6.0, 20.0, 30.0], category_id=18)
    assert len(_read(folder).ann_id_A) == 2
    limited = _read(folder, limit=1)
    assert limited.images == 1 and len(limited.ann_id_A) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [("[]", "not a COCO annotation file"), ("{", "not valid JSON"), (None, "no such file")],
)
def test_files_that_are_no_annotations(tmp_path, text, message):
    file = tmp_path / "people.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError, match=message):
        read(file, tmp_path, SKELETON)


def test_malformed_annotation_is_one_line(folder):
    folder.person(folder.image(BLACK), JOINTS, [5.0, 6.0, 20.0, 30.0], bbox=None)
    with pytest.raises(UserError, match="annotation 900100000000 has no `bbox`"):
        _read(folder)
    folder.images[0].pop("width")
    folder.annotations[0]["bbox"] = [1, 2, 3, 4]
    with pytest.raises(UserError, match="malformed"):
        _read(folder)


def test_result_boxes():
    assert result_box({"bbox": [1, 2, 3, 4]}) == [1, 2, 3, 4]
    # Joint centres at 2 and 6 span [2, 6] in joint coordinates, which edges call 2.5 to 6.5.
    assert result_box({"keypoints": [2, 3, 1, 6, 9, 1]}) == [2.5, 3.5, 4, 6]
    mask = np.zeros((10, 10), np.uint8)
    mask[2:5, 3:7] = 1
    assert result_box({"segmentation": rle.encode(np.asfortranarray(mask))}) == [3, 2, 4, 3]
    assert result_box({"score": 1}) is None


@pytest.mark.data
def test_crowdpose_and_ochuman_files(shared_data):
    crowd = read(shared_data / "crowdpose_val.json", shared_data, CROWDPOSE14, "box*0.53")
    assert crowd.images == 2000 and len(crowd.ann_id_A) == 8527
    raw = json.loads((shared_data / "crowdpose_val.json").read_bytes())
    assert sorted(crowd.num_keypoints_A.tolist()) == sorted(a["num_keypoints"] for a in raw["annotations"])
    assert crowd.ground_truth([0])["images"][0]["crowdIndex"] == raw["images"][0]["crowdIndex"]
    with pytest.raises(UserError, match="no `area`"):
        read(shared_data / "crowdpose_val.json", shared_data, CROWDPOSE14)
    folder = shared_data / "samples" / "ochuman"
    people = read(folder / "test_ochuman.json", folder, COCO17)
    assert people.segments.rle_A and people.mask(next(iter(people.segments.rle_A))).any()
