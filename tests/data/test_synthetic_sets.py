"""Drawn crowds and pairs: their files' crowdIndex and max_iou, recomputed from the json, and that people overlap."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest

from repose import papers
from repose.config import ExperimentBase, load
from repose.data.datamodule import PoseDataModule
from repose.data.synthetic import render

NAMES = ("synthetic-crowd", "synthetic-pairs", "synthetic-crowdpose")
IMAGE = {"view": "image", "base": "short", "centre": "image", "input_size": (128, 128), "augment_final": None}


def _experiment(name, **data):
    cfg = load("drpnet/m", [f"data={name}"], find_paper=papers.get).cfg
    return ExperimentBase(skeleton=cfg.skeleton, data=replace(cfg.data, workers=1, cache="off", **IMAGE, **data))


@pytest.fixture(scope="module", params=NAMES)
def drawn(request, tmp_path_factory):
    """A few images of each set, and its DataModule."""
    cfg = _experiment(request.param)
    few = replace(cfg.data.synthetic, train=1, val=16)
    root = tmp_path_factory.mktemp(request.param)
    module = PoseDataModule(replace(cfg, data=replace(cfg.data, synthetic=few, root=str(root / "set"))))
    module.prepare_data()
    return request.param, module, json.loads((module.root / cfg.data.val_json).read_text())


def _iou(a, b):
    w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(w, 0) * max(h, 0)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def _inside(person, box):
    x, y, w, h = box
    triples = zip(*(person["keypoints"][i::3] for i in range(3)), strict=True)
    return sum(v > 0 and x <= px + 0.5 <= x + w and y <= py + 0.5 <= y + h for px, py, v in triples)


def test_crowd_index_is_others_joints_by_own_in_each_box(drawn):
    _, _, content = drawn
    for image in content["images"]:
        people = [a for a in content["annotations"] if a["image_id"] == image["id"] and a["num_keypoints"]]
        ratios = []
        for person in people:
            own = _inside(person, person["bbox"])
            others = sum(_inside(other, person["bbox"]) for other in people) - own
            if own:
                ratios.append(others / own)
        assert image["crowdIndex"] == pytest.approx(np.mean(ratios) if ratios else 0.0, abs=1e-4)


def test_max_iou_is_the_largest_with_another_person(drawn):
    _, _, content = drawn
    for image in content["images"]:
        people = [a for a in content["annotations"] if a["image_id"] == image["id"] and not a["iscrowd"]]
        for person in people:
            others = [_iou(person["bbox"], other["bbox"]) for other in people if other is not person]
            assert person["max_iou"] == pytest.approx(max(others, default=0.0), abs=1e-4)
        labelled = [a["max_iou"] for a in people if a["num_keypoints"]]
        assert image["max_iou"] == max(labelled, default=0.0)


def test_both_reach_the_evaluation(drawn):
    _, module, content = drawn
    truth = module.ground_truth()
    assert [(i["crowdIndex"], i["max_iou"]) for i in truth["images"]] == [
        (i["crowdIndex"], i["max_iou"]) for i in content["images"]
    ]
    wanted = {a["id"]: a["max_iou"] for a in content["annotations"]}
    assert {a["id"]: a["max_iou"] for a in truth["annotations"]} == wanted


def test_people_are_as_crowded_as_the_set_says(drawn):
    name, module, content = drawn
    overlap = np.array([image["max_iou"] for image in content["images"]])
    index = np.array([image["crowdIndex"] for image in content["images"]])
    joints = len(content["categories"][0]["keypoints"])
    assert joints == module.skeleton.k == (14 if name == "synthetic-crowdpose" else 17)
    if name == "synthetic-pairs":
        assert np.median(overlap) > 0.35 and (overlap > 0.5).mean() > 0.25
    elif name == "synthetic-crowd":
        assert np.median(index) > 0.5 and np.median(overlap) > 0.2
    else:  # every subset of CrowdPose's protocol has images
        assert min((index < 0.2).mean(), ((index >= 0.2) & (index < 0.8)).mean(), (index >= 0.8).mean()) > 0.1
    areas = [a["area"] for a in module.ground_truth()["annotations"][:3]]
    boxes = [a["bbox"][2] * a["bbox"][3] for a in content["annotations"][:3]]
    drawn_areas = [a["area"] for a in content["annotations"][:3]]
    assert areas == pytest.approx([0.53 * b for b in boxes] if name == "synthetic-crowdpose" else drawn_areas)


def test_training_samples_of_the_image_view(drawn):
    _, module, _ = drawn
    module.setup("fit")
    batch = module.train_set[(0, 0)]
    assert batch.image_B3HW.shape == (1, 3, 128, 128) and batch.people.given_NK.shape[1] == module.skeleton.k


def test_the_sets_lie_in_folders_of_their_own():
    assert len({PoseDataModule(_experiment(name)).root for name in NAMES}) == len(NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_set_is_drawn_within_three_minutes_of_one_core(name):
    cfg = _experiment(name)
    options = cfg.data.synthetic
    start = time.process_time()
    for index in range(20):
        render(index, options, cfg.joint_set().joints)
    seconds = (time.process_time() - start) / 20
    assert seconds * (options.train + options.val) < 180
