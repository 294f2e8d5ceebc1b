"""CrowdAP and SubsetAP against plain pycocotools, on constructed people and on CrowdPose's own annotations."""

import copy
import json
import math

import numpy as np
import pytest
import torch
from test_keypoint_ap import K5, draw_truth, feed, noisy, plain

from repose.config import Test as Evaluation
from repose.errors import UserError
from repose.metrics import crowd_ap
from repose.metrics.crowd_ap import CrowdAP, SubsetAP, keypoint_metric
from repose.metrics.keypoint_ap import NAMES, KeypointAP, load_results
from repose.metrics.subsets import by_crowd_index
from repose.skeleton import COCO17, CROWDPOSE14, Skeleton
from repose.types import Poses

CROWD_NAMES = ["AP", "AP50", "AP75", "AR", "AR50", "AR75", "AP_E", "AP_M", "AP_H"]


def crowds(skeleton, images=18, people=4, seed=0):
    """Random people whose images have a crowd index, some of it on the borders."""
    truth = draw_truth(skeleton, images, people, seed)
    for i, image in enumerate(truth["images"]):
        image["crowdIndex"] = (0.0, 0.1, 0.2, 0.5, 0.8, 1.7)[i % 6]
    return truth


def subset_of(truth, results, images):
    """The images of a subset and nothing else, for pycocotools."""
    kept = {**truth, "images": [i for i in truth["images"] if i["id"] in images]}
    kept["annotations"] = [a for a in truth["annotations"] if a["image_id"] in images]
    return kept, [r for r in results if r["image_id"] in images]


@pytest.mark.parametrize("skeleton", [COCO17, CROWDPOSE14, K5])
def test_equals_pycocotools(skeleton, capsys):
    truth = crowds(skeleton)
    results = noisy(truth, skeleton)
    before = copy.deepcopy((truth, results))
    metric = CrowdAP(skeleton, truth)
    feed(metric, results, skeleton, [i["id"] for i in truth["images"]])
    found = metric.compute()
    assert list(found) == CROWD_NAMES
    stats = plain(truth, results, skeleton.sigmas)
    assert [found[n] for n in CROWD_NAMES[:6]] == pytest.approx(stats[[0, 1, 2, 5, 6, 7]], abs=1e-9)
    first = truth["images"][0]["id"]
    for name, remainders in (("AP_E", {0, 1}), ("AP_M", {2, 3}), ("AP_H", {4, 5})):
        images = {i["id"] for i in truth["images"] if (i["id"] - first) % 6 in remainders}
        expected = plain(*subset_of(truth, results, images), skeleton.sigmas)[0]
        assert 0.02 < expected < 0.98 and found[name] == pytest.approx(expected, abs=1e-9)
    assert len({found["AP_E"], found["AP_M"], found["AP_H"], found["AP"]}) == 4
    assert (truth, results) == before and metric.explain() == ""
    assert capsys.readouterr() == ("", "")


def crowdpose(shared_data, images=None):
    """CrowdPose's val annotations with the area of its evaluation, and noisy detections of its people."""
    content = json.loads((shared_data / "crowdpose_val.json").read_text())
    content["images"] = content["images"][:images]
    kept = {i["id"] for i in content["images"]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept]
    for a in content["annotations"]:
        a["area"] = 0.53 * a["bbox"][2] * a["bbox"][3]
    rng = np.random.default_rng(0)
    results = []
    for a in content["annotations"]:
        joints = np.array(a["keypoints"], dtype=float).reshape(14, 3)
        if rng.random() < 0.1 or not joints[:, 2].any():
            continue
        size = math.sqrt(a["area"])
        joints[:, :2] += rng.normal(0, 0.09 * size * rng.random(), (14, 2))
        for _ in range(1 + (rng.random() < 0.2)):  # some twice
            row = {"image_id": a["image_id"], "category_id": 1, "keypoints": np.round(joints, 4).ravel().tolist()}
            results.append({**row, "score": round(float(rng.random()), 3)})
    return content, results


def check_crowdpose(content, results, sizes):
    metric = CrowdAP(CROWDPOSE14, content)
    feed(metric, results, CROWDPOSE14, [i["id"] for i in content["images"]])
    found = metric.compute()
    stats = plain_subset(content, results, None)
    assert 0.1 < stats[0] < 0.9
    assert [found[n] for n in CROWD_NAMES[:6]] == pytest.approx(stats[[0, 1, 2, 5, 6, 7]], abs=1e-9)
    subsets = by_crowd_index(content)
    assert [len(s) for s in subsets.values()] == sizes
    for name, images in subsets.items():
        assert found[name] == pytest.approx(plain_subset(content, results, images)[0], abs=1e-9)


def plain_subset(content, results, images):
    """The recipe of the specification's section 8.2: pycocotools, 14 sigmas, params.imgIds."""
    from contextlib import redirect_stdout
    from io import StringIO

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with redirect_stdout(StringIO()):
        ground = COCO()
        ground.dataset = copy.deepcopy(content)
        ground.createIndex()
        evaluation = COCOeval(ground, ground.loadRes(copy.deepcopy(results)), "keypoints")
        evaluation.params.kpt_oks_sigmas = (
            np.array([0.79, 0.79, 0.72, 0.72, 0.62, 0.62, 1.07, 1.07, 0.87, 0.87, 0.89, 0.89, 0.79, 0.79]) / 10
        )
        if images is not None:
            evaluation.params.imgIds = sorted(images)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


@pytest.mark.data
def test_200_images_of_crowdpose(shared_data):
    content, results = crowdpose(shared_data, 200)
    index = [i["crowdIndex"] for i in content["images"]]
    sizes = [sum(v < 0.2 for v in index), sum(0.2 <= v < 0.8 for v in index), sum(v >= 0.8 for v in index)]
    assert min(sizes) > 20
    check_crowdpose(content, results, sizes)


@pytest.mark.data
@pytest.mark.slow
def test_all_of_crowdpose_val(shared_data):
    check_crowdpose(*crowdpose(shared_data), [411, 1240, 349])


def test_bins_keep_coco_numbers_by_size():
    truth = draw_truth(K5)
    for i, a in enumerate(truth["annotations"]):
        a["max_iou"] = round(0.5 + 0.04 * (i // 3), 2)
    results = noisy(truth, K5)
    metric = keypoint_metric(Evaluation(subsets="iou_bins", oks_nms=None), K5, truth)
    feed(metric, results, K5, [i["id"] for i in truth["images"]])
    found = metric.compute()
    assert list(found)[:10] == list(NAMES) and len(found) == 20
    assert found["AP_IoU50_up"] == found["AP"]  # everybody's
    first = truth["images"][0]["id"]
    for name, images in (("AP_IoU50_60", {0, 1, 2}), ("AP_IoU70_80", {5, 6, 7}), ("AP_IoU80_up", {8, 9, 10, 11})):
        part = subset_of(truth, results, {first + i for i in images})
        assert found[name] == pytest.approx(plain(*part, K5.sigmas)[0], abs=1e-9)
    assert found["AP_IoU90_100"] == found["AP_IoU90_up"]  # the same images


def test_the_config_chooses_the_metric():
    truth = crowds(K5)
    plain_metric = keypoint_metric(Evaluation(oks_nms=None, max_people=7), K5, truth)
    assert type(plain_metric) is KeypointAP and plain_metric.max_people == 7 and plain_metric.oks_nms is None
    crowd = keypoint_metric(Evaluation(subsets="crowd_index", oks_nms=0.7), K5, truth)
    assert isinstance(crowd, SubsetAP) and crowd.oks_nms == 0.7 and list(crowd.subsets) == ["AP_E", "AP_M", "AP_H"]
    del truth["images"][3]["crowdIndex"]
    for make in (lambda: CrowdAP(K5, truth), lambda: keypoint_metric(Evaluation(subsets="crowd_index"), K5, truth)):
        with pytest.raises(UserError, match="1 of 18 images have no `crowdIndex`"):
            make()


def test_a_subset_without_people_is_nan_and_explained():
    truth = crowds(K5)
    for image in truth["images"]:
        image["crowdIndex"] = min(image["crowdIndex"], 0.5)
    results = noisy(truth, K5)
    metric = CrowdAP(K5, truth)
    feed(metric, results, K5, [i["id"] for i in truth["images"]])
    found = metric.compute()
    assert math.isnan(found["AP_H"]) and found["AP_M"] > 0
    assert metric.explain() == "nobody with labelled joints, so no AP: AP_H (0 images)"
    nobody = CrowdAP(K5, {**truth, "annotations": []})
    assert all(map(math.isnan, nobody.compute().values()))
    assert nobody.explain() == "the 18 evaluated images have nobody with labelled joints, so there is no AP"
    metric.reset()
    assert set(metric.compute().values()) >= {0.0} and "nobody was predicted, so AP is 0" in metric.explain()


def test_saved_results_score_the_same(tmp_path):
    """More than 30 candidates per image: all are saved, the best 20 count."""
    truth = crowds(K5, images=6, people=3)
    rng = np.random.default_rng(0)
    metric = CrowdAP(K5, truth)
    for image in truth["images"]:
        own = [a for a in truth["annotations"] if a["image_id"] == image["id"]]
        joints = np.stack([np.array(own[i % 3]["keypoints"]).reshape(5, 3) for i in range(35)])
        joints[:, :, :2] += rng.normal(0, 5, (35, 5, 2))
        poses = Poses(torch.from_numpy(joints).float(), torch.from_numpy(rng.random(35)).float())
        metric.update(torch.tensor([image["id"]]), torch.tensor([-1]), [poses], [torch.full((35,), 500.0)])
    found = metric.compute()
    assert len(metric.results()) == 6 * 35 and 0.01 < found["AP"] < 0.99
    path = tmp_path / "predictions.json"
    path.write_text(json.dumps(metric.results()))
    again = load_results(path, truth, K5)
    assert crowd_ap.score(again, truth, K5, metric.subsets) == found
    best = [
        sorted((r for r in again if r["image_id"] == i["id"]), key=lambda r: -r["score"])[:20] for i in truth["images"]
    ]
    assert crowd_ap.score([r for rows in best for r in rows], truth, K5, metric.subsets) == found


def test_areas_of_each_pose_for_nms():
    """Two similar poses of one image: close for the large area, apart for the small one."""
    two = Skeleton("two", ("a", "b"), (("a", "b"),), (("a", "b"),), (0.1, 0.1))
    truth = {"images": [{"id": 1, "width": 99, "height": 99}], "annotations": []}
    joints = torch.tensor([[[0.0, 0, 1], [10, 10, 1]], [[2.0, 0, 1], [12, 10, 1]]])
    poses = Poses(joints, torch.tensor([0.5, 0.9]))
    # d^2 = 4 for both joints, (2 sigma)^2 = 0.04: OKS = exp(-4 / 0.04 / area / 2) = exp(-50 / area)
    for areas, kept in (((100.0, 100.0), [0.9]), ((40.0, 40.0), [0.5, 0.9]), ((40.0, 160.0), [0.9])):
        metric = KeypointAP(two, truth, oks_nms=0.5)  # exp(-0.5) = 0.61, exp(-1.25) = 0.29
        metric.update(torch.tensor([1]), torch.tensor([-1]), [poses], [torch.tensor(areas)])
        metric.compute()
        assert sorted(r["score"] for r in metric.results()) == pytest.approx(kept)
    with pytest.raises(ValueError, match="3 areas for 2 poses"):
        metric.update(torch.tensor([1]), torch.tensor([-1]), [poses], [torch.ones(3)])
    nobody = Poses(torch.zeros(0, 2, 3), torch.zeros(0))
    ids = torch.tensor([1, 1])
    metric.update(ids, ids * 0 - 1, [nobody, poses], [torch.zeros(0), torch.ones(2)])
    metric.update(ids, ids * 0 - 1, [nobody, poses], torch.ones(2))
