"""CrowdPose's files and their traps: limbs of another joint set, swapped sizes, num_keypoints, crowdIndex, no areas."""

import json

import numpy as np
import pytest

from repose import papers
from repose.config import SkeletonBlock, load
from repose.data.check import check, notes
from repose.data.coco import read
from repose.errors import UserError
from repose.skeleton import COCO17, CROWDPOSE14

BLOCK = SkeletonBlock("crowdpose14")
LIMBS = [[16, 14], [14, 12], [6, 7]]
"""COCO's, as CrowdPose's files have them."""
IMAGE = {"view": "image", "base": "short", "centre": "image", "input_size": (64, 64), "oks_area": "box*0.53"}


@pytest.fixture
def crowd(folder):
    """Two images; a person with limbs and head labelled, one with head and neck alone."""
    folder.joints = CROWDPOSE14.joints
    for i, index in enumerate((0.1, 0.9)):
        pixels = np.random.default_rng(i).integers(0, 256, (80, 100, 3), np.uint8)
        number = folder.image(pixels, f"{i + 1:06d}.jpg", crowdIndex=index)
        limbs = [(20.0 + k, 30.0 + k, 2) for k in range(12)]
        rest = [(25.0, 10.0, 1), (25.0, 20.0, 1)]
        folder.person(number, limbs + rest, [10.0, 5.0, 40.0, 50.0], num_keypoints=12, area=None)
        folder.person(number, [(0, 0, 0)] * 12 + rest, [10.0, 5.0, 20.0, 20.0], num_keypoints=0, area=None)
    return folder


def _write(folder):
    file = folder.write()
    content = json.loads(file.read_text())
    content["categories"][0]["skeleton"] = LIMBS
    file.write_text(json.dumps(content))
    return file


def _module(folder, stage="fit", **data):
    _write(folder)
    return folder.module(stage, skeleton=BLOCK, batch=1, **{**IMAGE, **data})


def test_limbs_of_another_joint_set_are_replaced(crowd):
    people = read(_write(crowd), crowd.root / "images", CROWDPOSE14, "box*0.53")
    assert people.category["skeleton"] == [[a + 1, b + 1] for a, b in CROWDPOSE14.limb_index]
    assert people.ground_truth()["categories"][0]["skeleton"] != LIMBS


def test_sound_limbs_stay_as_they_are(folder):
    folder.joints = COCO17.joints
    folder.person(folder.image(np.zeros((40, 60, 3), np.uint8)), [(5, 5, 2)] * 17, [0, 0, 20, 20])
    content = json.loads(folder.write().read_text())
    content["categories"][0]["skeleton"] = LIMBS
    (folder.root / "people.json").write_text(json.dumps(content))
    assert read(folder.root / "people.json", folder.root, COCO17).category["skeleton"] == LIMBS


def test_areas_counts_and_crowd_index_reach_the_evaluation(crowd):
    truth = _module(crowd, "test").ground_truth()
    assert [a["num_keypoints"] for a in truth["annotations"]] == [12, 0, 12, 0]  # as in the file: 0 is ignored
    assert [a["area"] for a in truth["annotations"][:2]] == pytest.approx([0.53 * 2000, 0.53 * 400])
    assert [i["crowdIndex"] for i in truth["images"]] == [0.1, 0.9]


def test_a_person_with_head_and_neck_alone_is_trained_on(crowd):
    people = _module(crowd).train_set[(0, 0)].people
    assert people.labelled_N.tolist() == [True, True]
    assert people.given_NK.sum(1).tolist() == [14, 2]


def test_missing_areas_are_told_with_the_fix(crowd):
    with pytest.raises(UserError, match=r"4 annotations have no `area`.*data\.oks_area=box\*0\.53"):
        _module(crowd, oks_area="annotation")


def test_a_missing_crowd_index_hinders_nothing_but_is_noted(crowd):
    del crowd.images[1]["crowdIndex"]
    module = _module(crowd)
    assert "crowdIndex" not in module.ground_truth()["images"][1] and len(module.train_set) == 2
    assert any("1 of 2 images have no crowdIndex" in line for line in notes(module.cfg))


def _swap(folder):
    for image in folder.images:
        image["width"], image["height"] = image["height"], image["width"]


def test_swapped_sizes_are_refused_with_the_fix(crowd):
    _swap(crowd)
    with pytest.raises(UserError, match=r"is 100x80, the json says 80x100.*data\.swapped_size=photograph"):
        _module(crowd)


def test_swapped_sizes_give_way_to_the_photographs_and_are_told(crowd, capsys):
    plain = _module(crowd)
    wanted = plain.train_set[(0, 0)], plain.val_set.sample(1)
    _swap(crowd)
    capsys.readouterr()
    module = _module(crowd, swapped_size="photograph")
    told = capsys.readouterr().err
    assert "people.json has width and height swapped for 2 of 2 images; the photographs' own sizes are used" in told
    for got, want in zip((module.train_set[(0, 0)], module.val_set.sample(1)), wanted, strict=True):
        assert (got.image_B3HW == want.image_B3HW).all()
        assert (got.people.joint_NK3 == want.people.joint_NK3).all()
    assert module.ground_truth()["images"][0]["width"] == 100
    cached = _module(crowd, swapped_size="photograph", cache="on", cache_dir=str(crowd.root / "cache"))
    assert (cached.train_set[(0, 0)].image_B3HW == wanted[0].image_B3HW).all() and not cached.problems


def test_a_size_that_is_not_swapped_is_refused_all_the_same(crowd):
    crowd.images[0].update(width=101)
    with pytest.raises(UserError, match="is 100x80, the json says 101x80"):
        _module(crowd, swapped_size="photograph")


def test_check_knows_what_is_usual_in_crowdpose(crowd):
    _swap(crowd)
    _write(crowd)
    folder = crowd.cfg(skeleton=BLOCK, **IMAGE, swapped_size="photograph")
    lines = [line for line in check(folder) if "the same file" not in line]  # train is val here
    assert lines == []
    told = "\n".join(notes(folder))
    assert "category 1: `skeleton` names joint 16 of 14" in told
    assert "4 people have fewer num_keypoints than joints with v > 0" in told
    swapped = check(crowd.cfg(skeleton=BLOCK, **IMAGE))
    assert sum("data.swapped_size=photograph takes this size" in line for line in swapped) == 4
    crowd.annotations[0]["num_keypoints"] = 11
    _write(crowd)
    assert any("num_keypoints is 11, but 14 joints" in line for line in check(folder))


def test_the_other_joint_set_is_named(crowd):
    with pytest.raises(UserError, match=r"has 14 keypoints .* but skeleton 'coco17' has 17 joints"):
        read(_write(crowd), crowd.root, COCO17, "box*0.53")


@pytest.mark.parametrize("name", ["crowdpose", "crowdpose-val"])
def test_the_data_file_says_protocol_and_place(name):
    cfg = load("drpnet/m", [f"data={name}"], find_paper=papers.get).cfg
    assert cfg.joint_set() is CROWDPOSE14 and cfg.data.oks_area == "box*0.53"
    assert "github.com/Jeff-sjtu/CrowdPose" in cfg.data.download and cfg.data.swapped_size == "photograph"


# --- the real files --------------------------------------------------------------------------------------------------


def test_real_sample(shared_data, folder):
    source = shared_data / "samples" / "crowdpose"
    if not source.is_dir():
        pytest.skip("no CrowdPose sample in the shared data")
    content = json.loads((source / "test_crowdpose.json").read_text())
    for image in content["images"]:
        (folder.root / "images" / image["file_name"]).write_bytes((source / image["file_name"]).read_bytes())
    (folder.root / "people.json").write_text(json.dumps(content))
    cfg = folder.cfg(skeleton=BLOCK, **{**IMAGE, "input_size": (256, 256), "test_place": "centre"})
    assert [line for line in check(cfg) if "the same file" not in line] == []
    module = folder.module(skeleton=BLOCK, batch=1, **IMAGE)
    assert {i["id"]: i["crowdIndex"] for i in module.ground_truth()["images"]} == {106848: 0.33, 103319: 0.39}
    assert module.train_samples == 2


def test_real_annotations(shared_data, tmp_path):
    file = shared_data / "crowdpose_val.json"
    if not file.is_file():
        pytest.skip("no crowdpose_val.json in the shared data")
    people = read(file, tmp_path, CROWDPOSE14, "box*0.53")
    index = np.array([people.image_extra_I[i]["crowdIndex"] for i in range(people.images)])
    assert [(index < 0.2).sum(), ((index >= 0.2) & (index < 0.8)).sum(), (index >= 0.8).sum()] == [411, 1240, 349]
    assert len(people.ann_id_A) == 8527 and people.crowd_A.sum() == 106
    assert ((people.num_keypoints_A == 0) & ~people.crowd_A & (people.labelled_A > 0)).sum() == 888
