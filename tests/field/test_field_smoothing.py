"""The OneEuro filter (DRP-Net spec. 9, acceptance 8)."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from repose.field.options import Smooth
from repose.field.smoothing import OneEuro, past_weight

RATE = 30.0


def filtered(points, cfg=None, times=None, seen=None, frame_s=1 / RATE):
    """One person's keypoints (frames, K, 2) through a filter."""
    points = np.asarray(points, float)
    one = OneEuro(cfg or Smooth(), points.shape[1])
    row = np.array([one.new()])
    out = []
    for n, point_K2 in enumerate(points):
        second = n / RATE if times is None else times[n]
        seen_K = np.ones(points.shape[1], bool) if seen is None else seen[n]
        out.append(one(row, point_K2[None], second, seen_K[None], frame_s)[0])
    return np.stack(out)


def test_a_constant_stays_constant():
    points = np.tile([[3.5, -2.0], [100.25, 7.0]], (50, 1, 1))
    np.testing.assert_allclose(filtered(points), points, rtol=0, atol=1e-12)


@given(st.floats(1e-3, 1e4), st.floats(1e-3, 1.0))
def test_the_weight_of_the_past_lies_between_0_and_1_and_falls_with_the_cutoff(cutoff, step):
    alpha = float(past_weight(cutoff, step))
    assert 0 < alpha < 1
    assert float(past_weight(2 * cutoff, step)) < alpha


def test_alpha_falls_with_speed():
    """A step of d pixels leaves alpha * d behind; the faster, the smaller the share."""
    left = []
    for speed in (1.0, 10.0, 100.0, 1000.0):
        path = np.arange(30)[:, None, None] * np.full((1, 1, 2), speed / RATE / np.sqrt(2))
        lag = np.linalg.norm(path[-1] - filtered(path)[-1])
        left.append(lag / (speed / RATE))
    assert all(a > b > 0 for a, b in pairwise(left))


def test_the_first_sample_passes_and_so_does_the_first_after_a_gap():
    points = np.array([[[0.0, 0.0]], [[9.0, 0.0]], [[50.0, 0.0]]])
    out = filtered(points, times=[0.0, 0.1, 1.2])
    assert out[0, 0, 0] == 0.0
    assert 0 < out[1, 0, 0] < 9
    assert out[2, 0, 0] == 50.0  # 1.1 s later


def test_equation_13_by_hand():
    cfg = Smooth(min_cutoff=1.0, beta=0.5, d_cutoff=2.0)
    (_, second) = filtered([[[0.0, 0.0]], [[3.0, 4.0]]], cfg, times=[0.0, 0.1])
    tau_d = 1 / (2 * np.pi * 2.0)
    a_d = 1 / (1 + tau_d / 0.1)
    speed = a_d * 5.0 / 0.1  # Euclidean
    cutoff = 1.0 + 0.5 * speed
    alpha = 1 / (1 + 2 * np.pi * cutoff * 0.1)
    np.testing.assert_allclose(second, [[(1 - alpha) * 3.0, (1 - alpha) * 4.0]])


def test_per_frame_and_per_second_differ_as_the_specification_says():
    """0.17 of the new value at rest at 30 frames/s, 0.86 with mmdeploy's time in frames (beta as good as nothing)."""
    step = [[[0.0, 0.0]], [[1e-6, 0.0]]]
    assert filtered(step)[1, 0, 0] / 1e-6 == pytest.approx(0.173, abs=2e-3)
    assert filtered(step, Smooth(preset="frames"))[1, 0, 0] / 1e-6 == pytest.approx(0.863, abs=2e-3)
    assert filtered(step, Smooth(preset="off"))[1, 0, 0] == 1e-6


def test_unsure_keypoints_pass_and_leave_the_filter_alone():
    points = np.array([[[0.0, 0.0]], [[500.0, 0.0]], [[1.0, 0.0]]])
    seen = np.array([[True], [False], [True]])
    out = filtered(points, seen=seen)
    assert out[1, 0, 0] == 500.0
    direct = filtered(points[[0, 2]], times=[0.0, 2 / RATE])
    assert out[2, 0, 0] == pytest.approx(direct[1, 0, 0])


def test_jitter_falls_and_a_row_is_used_again():
    rng = np.random.default_rng(0)
    noisy = 50 + rng.normal(0, 1.0, (200, 1, 2))
    bend = lambda p: np.abs(np.diff(p, 2, axis=0)).mean()  # noqa: E731
    assert bend(filtered(noisy)) < 0.3 * bend(noisy)
    one = OneEuro(Smooth(), 1)
    first = one.new()
    one(np.array([first]), np.zeros((1, 1, 2)), 0.0, np.ones((1, 1), bool), 1 / RATE)
    one.forget(first)
    again = one.new()
    assert again == first
    out = one(np.array([again]), np.full((1, 1, 2), 7.0), 0.1, np.ones((1, 1), bool), 1 / RATE)
    assert (out == 7.0).all()  # somebody new: nothing of the old one is left
