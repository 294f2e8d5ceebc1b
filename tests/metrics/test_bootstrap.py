"""Intervals of AP: the accumulation is pycocotools', and the resampling does what repeated images would do."""

import copy
import math
import time

import numpy as np
import pytest

from repose.metrics.bootstrap import average_precision, interval, match, paired
from repose.metrics.keypoint_ap import score
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
