"""Tracks: which frames are detected, whose box is whose, duplicates, and who is who."""

from __future__ import annotations

import numpy as np
import pytest

from repose.field.boxes import NONE, Boxes
from repose.field.options import Smooth, Track
from repose.field.tracking import Tracker, greedy_pairs, keypoint_box

SIGMAS = (0.08,) * 6
SHAPE = np.array([[0, 0], [20, 0], [0, 40], [20, 40], [10, 60], [10, 10]], float)
OFF = Smooth(preset="off")
FRAME = 1 / 25


def person(x, y, score=0.9):
    return np.concatenate([SHAPE + np.array([x, y]), np.full((6, 1), score)], 1)


def box(joint_K3):
    return np.concatenate([joint_K3[:, :2].min(0), joint_K3[:, :2].max(0)])


def step(tracker, people, scores=None, second=0.0):
    joints = np.array(people).reshape(-1, 6, 3)
    scores = np.array([0.9] * len(joints) if scores is None else scores, float)
    boxes = Boxes(np.array([box(j) for j in joints]).reshape(-1, 4), np.ones(len(joints)))
    return tracker.follow(joints, scores, boxes, second, FRAME)


def test_numbers_stay_with_people_who_cross_the_order_of_the_poses():
    tracker = Tracker(Track(), OFF, SIGMAS)
    first = step(tracker, [person(10, 10), person(200, 10)])
    assert sorted(first.number_M) == [1, 2]
    second = step(tracker, [person(203, 12), person(13, 11)])
    by_x = {int(j[0, 0]): int(n) for j, n in zip(second.joint_MK3, second.number_M, strict=True)}
    assert by_x == {203: 2, 13: 1}


def test_a_far_jump_is_somebody_new_and_boxes_match_where_poses_do_not():
    tracker = Tracker(Track(), OFF, SIGMAS)
    step(tracker, [person(10, 10)])
    assert step(tracker, [person(120, 10)]).number_M.tolist() == [2]
    tracker = Tracker(Track(match_oks=0.99, match_iou=0.4), OFF, SIGMAS)
    step(tracker, [person(10, 10)])
    assert step(tracker, [person(14, 12)]).number_M.tolist() == [1]  # by IoU
    tracker = Tracker(Track(match_oks=0.99, match_iou=0.99), OFF, SIGMAS)
    step(tracker, [person(10, 10)])
    assert step(tracker, [person(14, 12)]).number_M.tolist() == [2]


def test_duplicates_are_dropped_and_the_better_one_stays():
    twice = [person(10, 10), person(11, 10)]
    tracker = Tracker(Track(), OFF, SIGMAS)
    followed = step(tracker, twice, [0.5, 0.8])
    assert followed.index_M.tolist() == [1]
    tracker = Tracker(Track(oks_nms=None), OFF, SIGMAS)
    assert step(tracker, twice, [0.5, 0.8]).index_M.tolist() == [1, 0]
    tracker = Tracker(Track(min_score=0.6), OFF, SIGMAS)
    assert step(tracker, [person(10, 10), person(200, 10)], [0.5, 0.8]).index_M.tolist() == [1]


def test_who_is_missing_too_long_is_forgotten():
    tracker = Tracker(Track(max_missing=2), OFF, SIGMAS)
    step(tracker, [person(10, 10)])
    for _ in range(2):
        step(tracker, [])
    assert step(tracker, [person(10, 10)]).number_M.tolist() == [1]
    for _ in range(3):
        step(tracker, [])
    assert tracker.people == []
    assert step(tracker, [person(10, 10)]).number_M.tolist() == [2]


def test_when_the_detector_looks():
    tracker = Tracker(Track(interval=3, redetect=False), OFF, SIGMAS)
    assert tracker.wants_detection(0)
    assert tracker.wants_detection(1)  # nobody is followed
    step(tracker, [person(10, 10), person(200, 10)])
    assert [tracker.wants_detection(n) for n in range(1, 7)] == [False, False, True, False, False, True]
    step(tracker, [person(10, 10)])
    assert not tracker.wants_detection(4)
    tracker = Tracker(Track(interval=3, redetect=True), OFF, SIGMAS)
    step(tracker, [person(10, 10), person(200, 10)])
    step(tracker, [person(10, 10)])
    assert tracker.wants_detection(4)  # somebody was lost
    step(tracker, [person(10, 10)])
    assert not tracker.wants_detection(5)  # a frame ago, no longer news


def test_boxes_of_tracks_are_around_the_last_keypoints():
    tracker = Tracker(Track(), OFF, SIGMAS)
    unsure = person(200, 10)
    unsure[:4, 2] = 0.1  # 2 of 6 keypoints are left: fewer than half
    step(tracker, [person(10, 30), unsure, person(-15, 100)])
    boxes = tracker.boxes((300, 300))
    # 20 x 60 around (20, 60), times 1.25
    assert boxes.box_N4.tolist() == [[7.5, 22.5, 32.5, 97.5], [-0.5, 92.5, 7.5, 167.5]]  # the second is cut at the edge
    assert keypoint_box(unsure, 0.3, 1.25) is None


def test_a_tracks_box_gives_way_to_a_detection_that_covers_it():
    tracker = Tracker(Track(merge_iou=0.7), OFF, SIGMAS)
    tracked = Boxes(np.array([[0.0, 0, 10, 10], [50, 0, 60, 10]]), np.array([0.6, 0.7]))
    detected = Boxes(np.array([[1.0, 0, 10, 10], [52, 0, 70, 10]]), np.array([0.8, 0.9]))
    merged = tracker.merge(detected, tracked)
    assert merged.box_N4.tolist() == [[1, 0, 10, 10], [52, 0, 70, 10], [50, 0, 60, 10]]
    assert merged.score_N.tolist() == [0.8, 0.9, 0.7]
    assert tracker.merge(NONE, tracked) is tracked and tracker.merge(detected, NONE) is detected


def test_the_next_box_comes_from_what_was_measured_not_from_the_filter():
    tracker = Tracker(Track(), Smooth(), SIGMAS)
    step(tracker, [person(10, 10)], second=0.0)
    followed = step(tracker, [person(16, 10)], second=FRAME)
    assert followed.number_M.tolist() == [1]
    assert 10 < followed.joint_MK3[0, 0, 0] < 16  # filtered
    assert tracker.boxes((300, 300)).box_N4[0, 0] == pytest.approx(16 - 2.5)


def test_greedy_pairs():
    likeness = np.array([[0.9, 0.8], [0.85, 0.1], [0.2, 0.3]])
    assert greedy_pairs(likeness, 0.3) == [(0, 0), (2, 1)]
    assert greedy_pairs(likeness, 0.95) == []
    assert greedy_pairs(np.zeros((0, 2)), 0.0) == []
