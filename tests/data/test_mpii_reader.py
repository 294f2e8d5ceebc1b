"""MPII's own files: coordinates from 1, boxes, head sizes, single people, the .mat; and the drawn set of its joints."""

from __future__ import annotations

import json
import shutil

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from repose.__main__ import main
from repose.config import load
from repose.data.coco import read
from repose.data.mpii import convert
from repose.errors import UserError
from repose.papers import get
from repose.skeleton import MPII16


def _entry(image, first=20.0, scale=0.5, missing=()):
    joints = [[-1.0, -1.0] if k in missing else [first + k, first + 2 * k] for k in range(16)]
    return {
        "image": image,
        "joints": joints,
        "joints_vis": [int(k not in missing) for k in range(16)],
        "center": [41.0, 51.0],
        "scale": scale,
    }


def _photographs(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        cv2.imwrite(str(folder / name), np.full((120, 160, 3), 90, np.uint8))


@pytest.fixture
def native(tmp_path):
    """Three people in two images, with the head boxes of their split."""
    _photographs(tmp_path / "images", "b.jpg", "a.jpg")
    file = tmp_path / "annotations" / "mpii_val.json"
    file.parent.mkdir()
    file.write_text(json.dumps([_entry("b.jpg"), _entry("a.jpg", missing=(0, 5)), _entry("b.jpg", first=40.0)]))
    heads = np.zeros((2, 2, 3))
    heads[1, :, 0], heads[1, :, 1], heads[1, :, 2] = (30, 40), (6, 8), (3, 4)
    savemat(file.with_name("mpii_gt_val.mat"), {"headboxes_src": heads})
    return file


def _load(file):
    return json.loads(file.read_text())


def test_a_list_becomes_coco_format(native, tmp_path):
    lines = convert(native, tmp_path / "out")
    assert [line.split(":")[0].rpartition("/")[2] for line in lines] == [
        "mpii_coco_val.json",
        "mpii_coco_val_single.json",
    ]
    made = _load(tmp_path / "out" / "mpii_coco_val.json")
    assert [(i["file_name"], i["width"], i["height"]) for i in made["images"]] == [
        ("a.jpg", 160, 120),
        ("b.jpg", 160, 120),
    ]
    first = next(a for a in made["annotations"] if a["image_id"] == 2)
    assert first["keypoints"][:6] == [19.0, 19.0, 2, 20.0, 21.0, 2]  # 20 from 1 is 19 from 0
    # head size: 0.6 of a diagonal of 50
    assert [a["head_size"] for a in made["annotations"]] == [6.0, 30.0, 3.0]
    # the box of side 200 x 0.5 around (40, 50 + 15 x 0.5), edges half a pixel on, cut at the picture
    assert first["bbox"] == [0.0, 8.0, 90.5, 100.0]
    hidden = made["annotations"][0]
    assert hidden["num_keypoints"] == 14 and hidden["keypoints"][:3] == [0.0, 0.0, 0]


def test_single_people_are_a_file_of_their_own(native, tmp_path):
    convert(native, tmp_path / "out")
    single = _load(tmp_path / "out" / "mpii_coco_val_single.json")
    assert [i["file_name"] for i in single["images"]] == ["a.jpg"] and len(single["annotations"]) == 1


def test_the_reader_takes_the_file_and_keeps_head_sizes(native, tmp_path):
    convert(native, tmp_path / "out")
    people = read(tmp_path / "out" / "mpii_coco_val.json", tmp_path / "images", MPII16, "box*0.53")
    assert people.head_size_A.tolist() == [6.0, 30.0, 3.0]
    assert people.area_A[1] == pytest.approx(0.53 * 90.5 * 100)
    assert [a["head_size"] for a in people.ground_truth()["annotations"]] == [6.0, 30.0, 3.0]


def _mat(tmp_path, **changes):
    """The structure of mpii_human_pose_v1_u12_1.mat: one image of two people, one of one, one of the test half."""

    def point(number, x, y, seen):
        return {"id": number, "x": x, "y": y, "is_visible": seen}

    def rect(x, points, centre=(41.4, 51.0)):
        return {
            "x1": x, "y1": 10.0, "x2": x + 30.0, "y2": 50.0, "scale": 1.0,
            "objpos": {"x": centre[0], "y": centre[1]},
            "annopoints": {"point": np.array(points, dtype=object)},
        }  # fmt: skip

    unlabelled = {"x1": 1.0, "y1": 1.0, "x2": 2.0, "y2": 2.0}
    two = [
        rect(10.0, [point(9, 21.0, 31.0, "1"), point(8, 22.0, 41.0, "0")]),
        rect(40.0, [point(9, 5.0, 6.0, 1)], (70.0, 51.0)),
    ]
    annolist = [
        {"image": {"name": "two.jpg"}, "annorect": np.array(two, dtype=object)},
        {"image": {"name": "one.jpg"}, "annorect": np.array([two[0], unlabelled], dtype=object)},
        {"image": {"name": "test.jpg"}, "annorect": np.array(two, dtype=object)},
    ]
    release = {"annolist": np.array(annolist, dtype=object), "img_train": np.array([1, 1, 0]), **changes}
    file = tmp_path / "annotations" / "mpii_human_pose_v1_u12_1.mat"
    file.parent.mkdir(exist_ok=True)
    savemat(file, {"RELEASE": release})
    _photographs(tmp_path / "images", "two.jpg", "one.jpg", "test.jpg")
    return file


def test_the_mat_gives_visibility_head_sizes_and_who_is_alone(tmp_path):
    file = _mat(tmp_path)
    file.with_name("mpii_val.json").write_text(json.dumps([_entry("one.jpg")]))
    convert(file, tmp_path / "out")
    train, val = (_load(tmp_path / "out" / f"mpii_coco_{s}.json") for s in ("train", "val"))
    assert [i["file_name"] for i in train["images"]] == ["two.jpg"] and len(train["annotations"]) == 2
    assert [i["file_name"] for i in val["images"]] == ["one.jpg"]  # the test half has no labels
    person = train["annotations"][0]
    top, neck = (person["keypoints"][3 * k : 3 * k + 3] for k in (9, 8))
    assert (top, neck) == ([20.0, 30.0, 2], [21.0, 40.0, 1])
    assert person["head_size"] == 30.0 and person["num_keypoints"] == 2  # 0.6 of the diagonal of 30 x 40
    singles = [_load(tmp_path / "out" / f"mpii_coco_{s}_single.json")["images"] for s in ("train", "val")]
    assert [len(s) for s in singles] == [0, 1]  # whoever has a box and no joints is not annotated


def test_the_mats_validation_people_are_those_of_the_list(tmp_path):
    """Of two in an image the list has one, whose centre it rounds; the other is in no split, but not forgotten."""
    file = _mat(tmp_path)
    file.with_name("mpii_val.json").write_text(json.dumps([_entry("two.jpg")]))
    convert(file, tmp_path / "out")
    train, val, single = (_load(tmp_path / "out" / f"mpii_coco_{s}.json") for s in ("train", "val", "val_single"))
    assert [i["file_name"] for i in train["images"]] == ["one.jpg"]
    assert [a["num_keypoints"] for a in val["annotations"]] == [2]
    assert single["annotations"] == []
    file.with_name("mpii_val.json").write_text(json.dumps([{**_entry("two.jpg"), "center": []}]))
    with pytest.raises(UserError, match=r"mpii_val\.json: an entry has no image and center"):
        convert(file, tmp_path / "out")


def test_without_a_list_of_validation_people_all_are_train(tmp_path):
    convert(_mat(tmp_path), tmp_path / "out")
    assert len(_load(tmp_path / "out" / "mpii_coco_train.json")["annotations"]) == 3
    assert not (tmp_path / "out" / "mpii_coco_val.json").exists()


def test_bad_files_are_named_in_one_line(native, tmp_path, capsys):
    savemat(native.with_name("mpii_gt_val.mat"), {"headboxes_src": np.zeros((2, 2, 5))})
    with pytest.raises(UserError, match=r"head boxes of 5 people, mpii_val\.json has 3"):
        convert(native, tmp_path / "out")
    other = tmp_path / "other.mat"
    savemat(other, {"x": 1})
    with pytest.raises(UserError, match=r"no RELEASE\.annolist"):
        convert(other, tmp_path / "out")
    other.write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match="not a MATLAB file"):
        convert(other, tmp_path / "out")
    native.with_name("mpii_gt_val.mat").unlink()
    shutil.rmtree(tmp_path / "images")
    assert main(["data", "convert", str(native)]) == 2
    error = capsys.readouterr().err
    assert "none of its 2 photographs" in error and error.count("\n") == 1


def test_images_that_are_not_here_are_left_out_and_counted(native, tmp_path, capsys):
    (tmp_path / "images" / "a.jpg").unlink()
    native.with_name("mpii_gt_val.mat").unlink()
    assert main(["data", "convert", str(native), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out.splitlines()[0]
    assert "2 people in 1 images; 1 images are not here" in said and "2 people without head size" in said


def test_a_native_list_as_annotations_says_what_to_do(native, tmp_path):
    with pytest.raises(UserError, match="repose data convert"):
        read(native, tmp_path, MPII16)


@pytest.mark.data
def test_the_sample_photographs_are_read(shared_data, tmp_path):
    """Five people of MPII: joints lie in their boxes and pictures, the person is about 200 x scale tall."""
    sample = shared_data / "samples" / "mpii" / "test_mpii.json"
    if not sample.is_file():
        pytest.skip("no MPII samples in the shared data")
    convert(sample, tmp_path)
    people = read(tmp_path / "mpii_coco_test_mpii.json", sample.parent, MPII16, "box*0.53")
    assert len(people.ann_id_A) == people.images == 5
    native = {e["image"]: e for e in json.loads(sample.read_text())}
    for row in range(5):
        image = people.image_A[row]
        entry = native[people.image_name_I[image]]
        seen = people.joint_AK3[row][people.joint_AK3[row, :, 2] > 0, :2]
        assert len(seen) == sum(entry["joints_vis"])
        wanted = np.array(entry["joints"])[np.array(entry["joints_vis"]) > 0] - 1
        np.testing.assert_allclose(seen, wanted, atol=1e-3)
        assert (seen >= 0).all() and (seen < people.image_wh_I2[image]).all()
        x1, y1, x2, y2 = people.box_A4[row]
        inside = (seen >= (x1, y1)).all(1) & (seen <= (x2, y2)).all(1)
        assert inside.mean() > 0.9


def test_drawn_people_have_sixteen_joints_and_a_head_size(tmp_path, monkeypatch):
    """One person in a picture; the head size is the way from the neck to the top of the head."""
    from repose.data.datamodule import PoseDataModule

    monkeypatch.setenv("REPOSE_DATA", str(tmp_path))
    words = ["scale=smoke", "data=synthetic-mpii", "data.synthetic.train=2", "data.synthetic.val=4"]
    loaded = load("drpnet/m", [*words, "data.limit_val=null", "data.workers=1"], find_paper=get)
    data = PoseDataModule(loaded.cfg)
    data.prepare_data()
    truth = data.ground_truth()
    assert loaded.cfg.joint_set() is MPII16
    assert all(sum(a["image_id"] == i["id"] for a in truth["annotations"]) <= 1 for i in truth["images"])
    sized = [a for a in truth["annotations"] if "head_size" in a]
    assert sized
    for a in sized:
        joint = np.array(a["keypoints"]).reshape(16, 3)
        top, neck = joint[MPII16.index("head_top")], joint[MPII16.index("upper_neck")]
        assert a["head_size"] == pytest.approx(np.hypot(*(top - neck)[:2]), abs=0.02)
