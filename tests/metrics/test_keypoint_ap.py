"""KeypointAP against plain pycocotools, over processes, and on the inputs that pycocotools cannot read."""

import contextlib
import copy
import io
import json
import math
import time
import warnings

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from repose.errors import UserError
from repose.metrics.keypoint_ap import NAMES, KeypointAP, explain, load_results, score
from repose.skeleton import COCO17, CROWDPOSE14, Skeleton
from repose.types import Poses

K5 = Skeleton(
    name="five",
    joints=("head", "left_hand", "right_hand", "left_foot", "right_foot"),
    flip_pairs=(("left_hand", "right_hand"), ("left_foot", "right_foot")),
    limbs=(("head", "left_hand"),),
    sigmas=(0.05, 0.06, 0.06, 0.08, 0.08),
)


def draw_truth(skeleton, images=12, people=3, seed=0):
    """Random people of all sizes, some without joints, some crowds."""
    rng = np.random.default_rng(seed)
    annotations = []
    for image in range(images):
        for _ in range(people):
            size = rng.uniform(20, 200)
            corner = rng.uniform(0, 300, 2)
            joints = np.concatenate(
                [corner + rng.uniform(0, size, (skeleton.k, 2)), rng.integers(0, 3, (skeleton.k, 1))], axis=1
            )
            kind = rng.random()
            if kind < 0.15:
                joints[:] = 0
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 900_100_433_000 + image,
                    "category_id": 1,
                    "iscrowd": int(kind < 0.07),
                    "area": float(0.5 * size**2),
                    "bbox": [*corner.tolist(), size, size],
                    "num_keypoints": int((joints[:, 2] > 0).sum()),
                    "keypoints": joints.reshape(-1).tolist(),
                }
            )
    return {
        "images": [{"id": 900_100_433_000 + i, "width": 500, "height": 500} for i in range(images)],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person"}],
    }


def noisy(truth, skeleton, spread=4.0, seed=1):
    """A prediction for most people and some for nobody; scores have ties."""
    rng = np.random.default_rng(seed)
    results = []
    for annotation in truth["annotations"]:
        joints = np.array(annotation["keypoints"], dtype=float).reshape(-1, 3)
        joints[:, :2] += rng.normal(0, spread * rng.random(), (skeleton.k, 2))
        if rng.random() < 0.2:
            joints[:, :2] = rng.uniform(0, 400, (skeleton.k, 2))
        joints[:, 2] = rng.random(skeleton.k)
        for _ in range(int(rng.choice([0, 1, 1, 1, 2]))):
            results.append(
                {
                    "image_id": annotation["image_id"],
                    "category_id": 1,
                    "keypoints": np.round(joints, 4).reshape(-1).tolist(),
                    "score": round(float(rng.random()), 2),
                }
            )
    return results


def plain(truth, results, sigmas):
    """The ten numbers of pycocotools, used as its own demo does."""
    with contextlib.redirect_stdout(io.StringIO()):
        ground = COCO()
        ground.dataset = copy.deepcopy(truth)
        ground.createIndex()
        evaluation = COCOeval(ground, ground.loadRes(copy.deepcopy(results)), "keypoints")
        evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


def feed(metric, results, skeleton, images):
    """The results as the evaluation gives them: one Poses per image."""
    for image in images:
        mine = [r for r in results if r["image_id"] == image]
        joints = torch.tensor([r["keypoints"] for r in mine], dtype=torch.float64).view(-1, skeleton.k, 3)
        poses = Poses(joints, torch.tensor([r["score"] for r in mine], dtype=torch.float64))
        metric.update(torch.tensor([image]), torch.tensor([-1]), [poses], torch.tensor([1000.0]))


def same(ours, stats):
    expected = [math.nan if v < 0 else v for v in stats]
    assert list(ours) == list(NAMES)
    np.testing.assert_allclose(list(ours.values()), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("skeleton", [COCO17, CROWDPOSE14, K5])
def test_equals_pycocotools(skeleton, capsys):
    truth = draw_truth(skeleton)
    results = noisy(truth, skeleton)
    before = copy.deepcopy((truth, results))
    stats = plain(truth, results, skeleton.sigmas)
    assert 0.05 < stats[0] < 0.95  # a case that says something
    same(score(results, truth, skeleton), stats)
    metric = KeypointAP(skeleton, truth)
    feed(metric, results, skeleton, [i["id"] for i in truth["images"]])
    same(metric.compute(), stats)
    assert (truth, results) == before
    assert capsys.readouterr() == ("", "")


@pytest.mark.data
def test_forty_photographs_equal_pycocotools(coco_lite):
    truth = json.loads((coco_lite / "annotations" / "person_keypoints_val.json").read_text())
    truth["images"] = truth["images"][:40]
    kept = {i["id"] for i in truth["images"]}
    truth["annotations"] = [a for a in truth["annotations"] if a["image_id"] in kept]
    results = noisy(truth, COCO17, spread=3.0)
    stats = plain(truth, results, COCO17.sigmas)
    assert 0.05 < stats[0] < 0.9
    same(score(results, truth, COCO17), stats)
    metric = KeypointAP(COCO17, truth)
    feed(metric, results, COCO17, sorted(kept))
    same(metric.compute(), stats)


def test_saved_results_score_the_same(tmp_path):
    truth = draw_truth(COCO17)
    metric = KeypointAP(COCO17, truth, oks_nms=0.9)
    rng = np.random.default_rng(3)
    for annotation in truth["annotations"]:  # float32 with all its digits
        joints = torch.tensor(annotation["keypoints"]).view(1, 17, 3) + torch.from_numpy(rng.normal(0, 2, (1, 17, 3)))
        poses = Poses(joints.float(), torch.tensor(rng.random(1)).float())
        image, subject = torch.tensor([annotation["image_id"]]), torch.tensor([annotation["id"]])
        metric.update(image, subject, [poses], torch.tensor([2000.0]))
    metrics = metric.compute()
    path = tmp_path / "predictions.json"
    path.write_text(json.dumps(metric.results()))
    again = load_results(path, truth, COCO17)
    assert score(again, truth, COCO17) == metrics
    assert set(again[0]) == {"image_id", "category_id", "keypoints", "score"}  # a bbox would change AP_M and AP_L
    same(metrics, plain(truth, again, COCO17.sigmas))


def test_nobody_predicted():
    truth = draw_truth(COCO17)
    metric = KeypointAP(COCO17, truth)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert set(metric.compute().values()) == {0.0}  # never updated
    assert metric.results() == [] and metric.explain() == "nobody was predicted, so AP is 0"
    empty = Poses(torch.zeros(0, 17, 3), torch.zeros(0))
    metric.update(torch.tensor([900_100_433_000]), torch.tensor([7]), [empty], torch.tensor([5.0]))
    metric.update(torch.zeros(0).long(), torch.zeros(0).long(), [], torch.zeros(0))
    assert set(metric.compute().values()) == {0.0}


def test_nobody_in_the_ground_truth():
    truth = {**draw_truth(COCO17), "annotations": []}
    result = {"image_id": 900_100_433_000, "category_id": 1, "keypoints": [1.0] * 51, "score": 0.5}
    for results in ([], [result]):
        metrics = score(results, truth, COCO17)
        assert all(math.isnan(v) for v in metrics.values())
        assert "12 evaluated images have nobody with labelled joints" in explain(metrics, truth)
    nothing = {"images": [], "annotations": [], "categories": []}
    metrics = score([], nothing, COCO17)
    assert all(math.isnan(v) for v in metrics.values()) and explain(metrics, nothing) == "no image was evaluated"


def test_a_size_without_people_is_nan_and_explained():
    truth = draw_truth(COCO17)
    truth["annotations"] = [{**a, "area": 5000.0} for a in truth["annotations"]]  # all medium
    results = noisy(truth, COCO17)
    metrics = score(results, truth, COCO17)
    assert math.isnan(metrics["AP_L"]) and math.isnan(metrics["AR_L"]) and metrics["AP_M"] > 0
    assert explain(metrics, truth, results) == (
        "AP_L, AR_L: no labelled person of the evaluated images is large (9216 pixels^2 and above)"
    )
    empty = score([], truth, COCO17)
    assert empty["AP"] == 0 and empty["AP_M"] == 0 and math.isnan(empty["AP_L"])


def test_annotations_without_optional_keys_and_with_id_zero():
    truth = draw_truth(COCO17)
    truth["annotations"] = [a for a in truth["annotations"] if a["num_keypoints"]]
    for annotation in truth["annotations"]:
        annotation["iscrowd"] = 0
    results = noisy(truth, COCO17)
    stats = plain(truth, results, COCO17.sigmas)
    bare = copy.deepcopy(truth)
    for i, annotation in enumerate(bare["annotations"]):
        annotation["id"] = i  # pycocotools takes a match with annotation 0 for none
        for key in ("iscrowd", "num_keypoints", "bbox", "category_id"):
            del annotation[key]
    del bare["categories"]
    same(score(results, bare, COCO17), stats)
    del bare["annotations"][3]["area"]
    with pytest.raises(UserError, match=r"annotation 3 of image \d+ has no `area`.*data\.oks_area"):
        score(results, bare, COCO17)


def test_people_beyond_max_people_do_not_count():
    truth = draw_truth(COCO17, images=1, people=1, seed=4)
    joints = truth["annotations"][0]["keypoints"]
    assert truth["annotations"][0]["num_keypoints"]
    wrong = {"image_id": 900_100_433_000, "category_id": 1, "keypoints": [400.0] * 51, "score": 0.9}
    right = {**wrong, "keypoints": joints, "score": 0.1}
    assert score([wrong, right], truth, COCO17, max_people=2)["AP"] == pytest.approx(0.5)
    assert score([wrong, right], truth, COCO17, max_people=1)["AP"] == 0
    assert score([wrong] * 25 + [right], truth, COCO17, max_people=30)["AR"] == 1


def test_duplicates_of_a_sampler_count_once():
    truth = draw_truth(K5)
    results = noisy(truth, K5)
    images = [i["id"] for i in truth["images"]]
    once, twice = KeypointAP(K5, truth), KeypointAP(K5, truth)
    feed(once, results, K5, images)
    feed(twice, results, K5, [*images, images[0], images[5]])
    assert once.compute() == twice.compute() and once.results() == twice.results()
    twice.reset()
    assert twice.compute()["AP"] == 0 and twice.results() == []


def test_nms_within_an_image():
    truth = draw_truth(K5, images=2, people=1, seed=5)
    joints = torch.tensor(truth["annotations"][0]["keypoints"]).view(1, 5, 3)
    images = torch.tensor([i["id"] for i in truth["images"]])[[0, 0, 1]]
    poses = [Poses(joints, torch.tensor([s])) for s in (0.5, 0.8, 0.3)]
    for threshold, scores in ((None, [0.5, 0.8, 0.3]), (0.9, [0.8, 0.3])):
        metric = KeypointAP(K5, truth, oks_nms=threshold)
        metric.update(images, torch.tensor([1, 2, 3]), poses, torch.full((3,), 1000.0))
        metric.compute()
        assert [r["score"] for r in metric.results()] == pytest.approx(scores)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r[0]["keypoints"].__setitem__(4, math.nan), r"result 0 .*not a finite number"),
        (lambda r: r[0].__setitem__("score", None), r"result 0 .*not a finite number"),
        (lambda r: r[1].pop("score"), r"result 1 has no `score`; each needs image_id, category_id, keypoints, score"),
        (lambda r: r[2]["keypoints"].extend([0, 0, 0]), "result 2 has 6 joints, skeleton five has 5"),
        (lambda r: r[2].__setitem__("image_id", 17), "result 2 is of image 17, which is not among the 12 evaluated"),
        (lambda r: r.__setitem__(0, [1]), "result 0 is a list, not an object"),
    ],
)
def test_bad_result_files(tmp_path, change, message):
    truth = draw_truth(K5)
    results = noisy(truth, K5)
    change(results)
    path = tmp_path / "predictions.json"
    path.write_text(json.dumps(results))
    with pytest.raises(UserError, match=f"predictions.json: {message}"):
        load_results(path, truth, K5)


def test_files_that_hold_no_results(tmp_path):
    truth = draw_truth(K5)
    path = tmp_path / "predictions.json"
    with pytest.raises(UserError, match="no such file"):
        load_results(path, truth, K5)
    path.write_text('{"annotations": []}')
    with pytest.raises(UserError, match="a list of results, not a dict"):
        load_results(path, truth, K5)
    path.write_text("[{")
    with pytest.raises(UserError, match="not a JSON file"):
        load_results(path, truth, K5)
    path.write_text("[]")
    assert load_results(path, truth, K5) == []


def test_speed_of_300_images():
    truth = draw_truth(COCO17, images=300, people=2)
    results = noisy(truth, COCO17)
    begin = time.process_time()
    score(results, truth, COCO17)
    assert time.process_time() - begin < 1.5  # 0.3 s on an idle core
