"""Intervals of AP: the accumulation is pycocotools', and the resampling does what repeated images would do."""

import copy
import math
import time

import numpy as np
import pytest

from repose.errors import UserError
from repose.metrics import mask_ap
from repose.metrics.bootstrap import (
    average_precision,
    interval,
    interval_of,
    match,
    match_masks,
    paired,
    paired_means,
    paired_of,
)
from repose.metrics.keypoint_ap import NAMES, score
from repose.skeleton import Skeleton

TWO = Skeleton("two", ("a", "b"), (("a", "b"),), (("a", "b"),), (0.1, 0.1))


def case(images, people, seed=0, spread=8.0):
    """Truth of `people` per image, and predictions of about all of them with different scores."""
    rng = np.random.default_rng(seed)
    annotations, results = [], []
    for i in range(images * people):
        joints = np.concatenate([rng.uniform(0, 300, (2, 2)), [[2], [1]]], axis=1)
        labelled = rng.random() > 0.1  # the others are ignored
        annotations.append(
            {
                "id": i + 1, "image_id": i // people + 1, "category_id": 1, "iscrowd": 0, "area": 2000.0,
                "bbox": [0, 0, 300, 300], "num_keypoints": 2 * labelled,
                "keypoints": (joints * labelled).reshape(-1).tolist(),
            }
        )  # fmt: skip
        for _ in range(int(rng.integers(0, 3))):
            moved = joints + np.array([1, 1, 0]) * rng.normal(0, spread * rng.random(), (2, 3))
            results.append(
                {
                    "image_id": i // people + 1,
                    "category_id": 1,
                    "keypoints": moved.reshape(-1).tolist(),
                    "score": float(rng.random()),
                }
            )
    truth = {"images": [{"id": i + 1} for i in range(images)], "annotations": annotations}
    return results, truth


def repeated(results, truth, weights):
    """The same data with each image really there so many times."""
    many = {"images": [], "annotations": []}
    found = []
    for image, weight in enumerate(weights, 1):
        for copy_number in range(weight):
            name = 1000 * image + copy_number
            many["images"].append({"id": name})
            for a in truth["annotations"]:
                if a["image_id"] == image:
                    many["annotations"].append({**a, "image_id": name, "id": len(many["annotations"]) + 1})
            found += [{**r, "image_id": name} for r in results if r["image_id"] == image]
    return found, many


@pytest.mark.parametrize("seed", range(4))
def test_once_each_is_pycocotools(seed):
    results, truth = case(20, 3, seed)
    results = [{**r, "score": round(r["score"], 1)} for r in results]  # ties
    matches = match(results, truth, TWO)
    ap = average_precision(matches, np.ones(20, dtype=np.int64))
    assert 0.05 < ap < 0.9
    assert ap == pytest.approx(score(results, truth, TWO)["AP"], abs=1e-9)


@pytest.mark.parametrize("metric", NAMES)
def test_every_number_of_coco_has_a_paired_difference(metric):
    good, truth = case(30, 3, spread=4.0)
    truth["annotations"] = [{**a, "area": 2000.0 if a["id"] % 2 else 12000.0} for a in truth["annotations"]]
    bad = [{**r, "keypoints": [c + 12 * (i % 3 == 0) for i, c in enumerate(r["keypoints"])]} for r in good]
    found = paired(good, bad, truth, TWO, n=60, metric=metric)
    assert found.difference == pytest.approx(score(good, truth, TWO)[metric] - score(bad, truth, TWO)[metric], abs=1e-9)
    assert found.low < found.difference < found.high and found.difference > 0
    low, high = interval(good, truth, TWO, n=60, metric=metric)
    assert low <= score(good, truth, TWO)[metric] <= high


def test_differences_of_means_resample_images_not_members():
    rng = np.random.default_rng(0)
    count = rng.integers(0, 5, 30).astype(float)
    a, b = count * rng.uniform(0.5, 1, 30), count * rng.uniform(0.2, 0.7, 30)
    found = paired_means(a, b, count, n=200)
    assert found.difference == pytest.approx((a.sum() - b.sum()) / count.sum())
    assert 0 < found.low < found.difference < found.high and found.p == pytest.approx(2 / 201)
    one = paired_means(np.array([3.0, 0.0]), np.array([0.0, 0.0]), np.array([3.0, 1.0]), n=400)
    assert (one.low, one.high) == (0.0, 1.0)  # a resample of two images holds both, or one of them twice
    assert all(map(math.isnan, paired_means(np.zeros(3), np.zeros(3), np.zeros(3), n=9)))


def test_weights_are_repeated_images():
    results, truth = case(12, 3)
    matches = match(results, truth, TWO)
    rng = np.random.default_rng(0)
    for _ in range(5):
        weights = np.bincount(rng.integers(0, 12, 12), minlength=12)
        expected = score(*repeated(results, truth, weights), TWO)["AP"]
        assert average_precision(matches, weights) == pytest.approx(expected, abs=1e-9)


def test_by_hand():
    # Two images of one person each; the first is found exactly, the second missed: AP = 51/101 (recalls 0 to 0.5).
    joints = [10.0, 10.0, 2.0, 20.0, 20.0, 2.0]
    truth = {
        "images": [{"id": 1}, {"id": 2}],
        "annotations": [{"id": i, "image_id": i, "area": 100.0, "keypoints": joints} for i in (1, 2)],
    }
    results = [{"image_id": 1, "category_id": 1, "keypoints": joints, "score": 0.5}]
    matches = match(results, truth, TWO)
    assert average_precision(matches, np.array([1, 1])) == pytest.approx(51 / 101)
    assert average_precision(matches, np.array([2, 0])) == pytest.approx(1)
    assert average_precision(matches, np.array([0, 2])) == 0
    assert math.isnan(average_precision(matches, np.array([0, 0])))
    # resamples have AP 1, 51/101 or 0, a quarter of them the first and last
    assert interval(results, truth, TWO, n=200) == (0, pytest.approx(1))


def test_interval():
    results, truth = case(40, 2)
    ap = score(results, truth, TWO)["AP"]
    low, high = interval(results, truth, TWO, n=200)
    assert low < ap < high and high - low < 0.4
    assert interval(results, truth, TWO, n=200) == (low, high)  # the seed is an argument
    assert interval(results, truth, TWO, n=200, seed=1) != (low, high)
    inner = interval(results, truth, TWO, n=200, level=0.5)
    assert low < inner[0] < inner[1] < high


def test_paired():
    good, truth = case(40, 2, spread=6.0)
    bad = [{**r, "keypoints": [c + 6 * (i % 3 == 0) for i, c in enumerate(r["keypoints"])]} for r in good]
    better = paired(good, bad, truth, TWO, n=200)
    assert better.difference == pytest.approx(score(good, truth, TWO)["AP"] - score(bad, truth, TWO)["AP"], abs=1e-9)
    assert 0 < better.low < better.difference < better.high
    assert better.p == pytest.approx(2 / 201)  # no resample disagrees
    worse = paired(bad, good, truth, TWO, n=200)
    assert worse.difference == -better.difference and worse.p == better.p
    assert (worse.low, worse.high) == pytest.approx((-better.high, -better.low))
    same = paired(good, copy.deepcopy(good), truth, TWO, n=50)
    assert same == (0, 0, 0, 1)
    # the same images in another order are the same images
    backwards = {"images": truth["images"][::-1], "annotations": truth["annotations"]}
    assert paired(good, bad, backwards, TWO, n=200) == better


def test_other_metrics_and_subsets():
    results, truth = case(30, 3)
    bad = [{**r, "keypoints": [c + 6 * (i % 3 == 0) for i, c in enumerate(r["keypoints"])]} for r in results]
    found = score(results, truth, TWO)
    for name in ("AP50", "AP75"):
        matches = match(results, truth, TWO, metric=name)
        assert average_precision(matches, np.ones(30, dtype=np.int64)) == pytest.approx(found[name], abs=1e-9)
        assert len(matches.true_TD) == 1
    hard = frozenset(range(20, 28))
    subsets = {"AP_E": frozenset(range(1, 20)), "AP_H": hard, "AP_M": frozenset()}
    mine = [r for r in results if r["image_id"] in hard]
    alone = {
        "images": [{"id": i} for i in hard],
        "annotations": [a for a in truth["annotations"] if a["image_id"] in hard],
    }
    matches = match(results, truth, TWO, metric="AP_H", subsets=subsets)
    assert len(matches.people_I) == 8  # only its images are resampled
    ap = average_precision(matches, np.ones(8, dtype=np.int64))
    assert ap == pytest.approx(score(mine, alone, TWO)["AP"], abs=1e-9) and abs(ap - found["AP"]) > 1e-3
    low, high = interval(results, truth, TWO, n=100, metric="AP_H", subsets=subsets)
    assert (low, high) == interval(mine, alone, TWO, n=100) and low < score(mine, alone, TWO)["AP"] < high
    better = paired(results, bad, truth, TWO, n=100, metric="AP_H", subsets=subsets)
    assert better == paired(mine, [r for r in bad if r["image_id"] in hard], alone, TWO, n=100)
    assert better != paired(results, bad, truth, TWO, n=100)
    assert all(map(math.isnan, paired(results, bad, truth, TWO, n=9, metric="AP_M", subsets=subsets)))
    with pytest.raises(UserError, match=r"no interval is computed for PCKh; there are: AP, AP50, .*, AR_L, AP_E, AP_H"):
        interval(results, truth, TWO, metric="PCKh", subsets=subsets)


def test_masks():
    rng = np.random.default_rng(0)
    truth = {"images": [{"id": i, "width": 60, "height": 60} for i in range(1, 13)], "annotations": []}
    results = {"a": [], "b": []}

    def rectangle(x, y, w, h):
        return [[x, y, x + w, y, x + w, y + h, x, y + h]]

    for i in range(36):
        x, y, w, h = (int(v) for v in rng.integers(5, 25, 4))
        common = {"image_id": i // 3 + 1, "category_id": 1}
        truth["annotations"].append(
            {**common, "id": i + 1, "iscrowd": 0, "area": w * h, "segmentation": rectangle(x, y, w, h)}
        )
        for name, most in (("a", 3), ("b", 6)):
            outline = rectangle(x + int(rng.integers(0, most)), y, w, h)
            code = mask_ap.encoded(outline, 60, 60)
            results[name].append({**common, "segmentation": code, "score": float(rng.random())})
    matches = {name: match_masks(rows, truth) for name, rows in results.items()}
    ap = {name: mask_ap.score(rows, truth)["mask_AP"] for name, rows in results.items()}
    once = np.ones(12, dtype=np.int64)
    assert 0.05 < ap["b"] < ap["a"] < 0.95
    for name in ap:
        assert average_precision(matches[name], once) == pytest.approx(ap[name], abs=1e-9)
    low, high = interval_of(matches["a"], n=100)
    assert low < ap["a"] < high
    assert paired_of(matches["a"], matches["b"], n=100).difference == pytest.approx(ap["a"] - ap["b"], abs=1e-9)
    half = match_masks(results["a"], truth, metric="mask_AP50")
    assert average_precision(half, once) == pytest.approx(mask_ap.score(results["a"], truth)["mask_AP50"], abs=1e-9)
    with pytest.raises(UserError, match="no interval is computed for AP; there are: mask_AP, mask_AP50, mask_AP75"):
        match_masks(results["a"], truth, metric="AP")


def test_nobody():
    results, truth = case(5, 2)
    assert interval([], truth, TWO, n=20) == (0, 0)
    empty = {"images": truth["images"], "annotations": []}
    assert all(map(math.isnan, interval(results, empty, TWO, n=20)))
    assert all(map(math.isnan, interval([], {"images": [], "annotations": []}, TWO, n=20)))
    assert all(map(math.isnan, paired(results, results, empty, TWO, n=20)))


def test_speed():
    results, truth = case(300, 2)
    begin = time.process_time()
    interval(results, truth, TWO, n=200)
    assert time.process_time() - begin < 1.5  # 1000 resamples in about 1 s on an idle core
