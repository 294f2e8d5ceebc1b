"""PCKh against values worked out by hand, and its place in an evaluation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from repose.metrics import pckh
from repose.metrics.pckh import PCKh, of_results, score
from repose.skeleton import MPII16
from repose.types import Poses

K = MPII16.k
TRUTH = np.stack([10.0 * np.arange(K), 5.0 * np.arange(K)], 1)


def _person(number, image=1, head_size=20.0, hidden=()):
    keypoints = [v for k in range(K) for v in (*TRUTH[k].tolist(), 0 if k in hidden else 2)]
    return {
        "id": number,
        "image_id": image,
        "iscrowd": 0,
        "num_keypoints": K - len(hidden),
        "keypoints": keypoints,
        **({} if head_size is None else {"head_size": head_size}),
    }


def _truth(*people):
    images = sorted({p["image_id"] for p in people})
    return {"images": [{"id": i, "width": 200, "height": 200} for i in images], "annotations": list(people)}


def test_a_joint_at_half_a_head_counts_and_beyond_it_does_not():
    """Head size 20: 10 px is in (the border counts), 10.1 px is not; 14 joints count, pelvis and thorax do not."""
    moved = TRUTH.copy()
    moved[MPII16.index("right_wrist")] += (10.0, 0.0)  # exactly half
    moved[MPII16.index("left_wrist")] += (0.0, 10.1)  # beyond
    moved[MPII16.index("right_knee")] += (6.0, 8.0)  # 10 px by Pythagoras
    moved[MPII16.index("pelvis")] += 500.0
    moved[MPII16.index("thorax")] += 500.0
    found = score({7: moved}, _truth(_person(7)), MPII16)
    assert found["PCKh"] == pytest.approx(13 / 14)
    assert found["PCKh_wrist"] == 0.5 and found["PCKh_knee"] == 1.0 and found["PCKh_head"] == 1.0
    # at 0.1 of the head (2 px) the three moved joints are wrong
    assert found["PCKh_01"] == pytest.approx(11 / 14)


def test_the_mean_is_over_labelled_joints_of_all_people():
    """4 of 14 labelled and right, 14 labelled and 7 wrong: 11 of 18, not the mean of people or of joints."""
    counted = [k for k, name in enumerate(MPII16.joints) if name not in pckh.LEFT_OUT]
    wrong = TRUTH.copy()
    wrong[counted[:7]] += 100.0
    truth = _truth(_person(1, hidden=counted[4:]), _person(2, image=2))
    found = score({1: TRUTH, 2: wrong}, truth, MPII16)
    assert found["PCKh"] == pytest.approx(11 / 18)


def test_head_sizes_scale_each_person_by_its_own():
    moved = TRUTH + np.array((8.0, 0.0))
    truth = _truth(_person(1, head_size=16.0), _person(2, image=2, head_size=15.9))
    found = score({1: moved, 2: moved}, truth, MPII16)
    assert found["PCKh"] == 0.5


def test_who_is_not_found_is_wrong_and_who_has_no_head_size_is_left_out():
    truth = _truth(_person(1), _person(2, image=2), _person(3, image=3, head_size=None))
    assert score({1: TRUTH, 3: TRUTH + 100}, truth, MPII16)["PCKh"] == 0.5
    assert pckh.missing(truth) == "PCKh leaves out 1 of 3 people: they have no head size"
    assert pckh.missing(_truth(_person(1))) == ""


def test_unlabelled_parts_are_nan():
    ankles = [MPII16.index(f"{side}_ankle") for side in ("left", "right")]
    found = score({1: TRUTH}, _truth(_person(1, hidden=ankles)), MPII16)
    assert math.isnan(found["PCKh_ankle"]) and found["PCKh"] == 1.0


def _pose(points, scores=(1.0,)):
    joint = torch.tensor(np.concatenate([points, np.ones((K, 1))], 1), dtype=torch.float32)
    return Poses(joint_NK3=torch.stack([joint + 300 * i for i in range(len(scores))]), score_N=torch.tensor(scores))


def test_the_metric_drops_repeated_crops_and_takes_the_best_of_a_crop():
    metric = PCKh(MPII16, _truth(_person(1), _person(2**40 + 1, image=2)))
    ids = torch.tensor([1, 2**40 + 1])  # beyond float32's whole numbers
    metric.update(ids, [_pose(TRUTH, (0.9, 0.2)), _pose(TRUTH)])
    metric.update(ids[:1], [_pose(TRUTH + 100)])  # the same crop again: the first counts
    assert metric.compute()["PCKh"] == 1.0
    metric.reset()
    metric.update(ids[:0], [])
    assert metric.compute()["PCKh"] == 0.0


def test_a_results_file_is_scored_where_every_image_has_one_person():
    truth = _truth(_person(1), _person(2, image=2))
    row = {"category_id": 1, "keypoints": [v for x, y in TRUTH.tolist() for v in (x, y, 1.0)]}
    far = {"category_id": 1, "keypoints": [v + 90.0 for v in row["keypoints"]]}
    results = [{**far, "image_id": 1, "score": 0.1}, {**row, "image_id": 1, "score": 0.8}]
    found = of_results(results, truth, MPII16)
    assert found is not None and found["PCKh"] == 0.5  # nobody in image 2
    assert of_results(results, _truth(_person(1), _person(2)), MPII16) is None
