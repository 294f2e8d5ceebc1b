"""Votes, smoothing, peaks."""

import math

import pytest
import torch

from repose.ops.grids import resample
from repose.ops.hough import hough_votes, smooth, smooth_near, sparse_peaks


@pytest.mark.parametrize(("stride", "hw"), [(8, (33, 25)), (4, (30, 23)), (1, (9, 11))])
def test_votes_are_those_of_every_pixel(stride, hw):
    torch.manual_seed(stride)
    rows, columns = -(-hw[0] // stride), -(-hw[1] // stride)
    logit, offset = torch.randn(2, rows, columns) * 3, torch.randn(2, 2, rows, columns) * 6
    found = hough_votes(logit, offset, stride, hw, 0.05, scale=0.5)
    p = resample(logit[None], stride, 1, hw)[0].sigmoid()
    vector = resample(offset.flatten(0, 1)[None], stride, 1, hw)[0].view(2, 2, *hw)
    wanted = torch.zeros(2, *hw)
    for k in range(2):
        for y in range(hw[0]):
            for x in range(hw[1]):
                if p[k, y, x] <= 0.05:
                    continue
                tx, ty = x + float(vector[k, 0, y, x]), y + float(vector[k, 1, y, x])
                for a in (math.floor(tx), math.floor(tx) + 1):
                    for b in (math.floor(ty), math.floor(ty) + 1):
                        if 0 <= a < hw[1] and 0 <= b < hw[0]:
                            wanted[k, b, a] += 0.5 * p[k, y, x] * (1 - abs(tx - a)) * (1 - abs(ty - b))
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_sigma_of_a_tenth_of_a_pixel_is_the_identity():
    m = torch.rand(3, 20, 30)
    assert torch.equal(smooth(m, (0.1, 0.1, 0.12)), m)
    mixed = smooth(m, (0.1, 0.9, 0.1))
    assert torch.equal(mixed[0], m[0]) and not torch.equal(mixed[1], m[1])


def test_smoothing_by_hand():
    """Sigma 0.4 has radius int(2.1) = 2; a single pixel becomes the outer product of the kernel with itself."""
    m = torch.zeros(1, 9, 9)
    m[0, 4, 4] = 1
    g = [math.exp(-(t**2) / (2 * 0.16)) for t in range(-2, 3)]
    line = torch.tensor(g) / sum(g)
    found = smooth(m, (0.4,))[0]
    torch.testing.assert_close(found[2:7, 2:7], line[:, None] * line)
    assert found[1].abs().sum() == 0
    constant = torch.full((1, 5, 5), 2.0)
    torch.testing.assert_close(smooth(constant, (1.0,)), constant)


@pytest.mark.parametrize("margin", [0, 2, 20])
def test_smoothing_near_peaks_is_smoothing(margin):
    torch.manual_seed(2)
    m = torch.zeros(3, 90, 70)
    spot = torch.randint(0, 70, (40, 2))
    m[torch.randint(0, 3, (40,)), spot[:, 0] + 10, spot[:, 1]] = torch.rand(40)
    sigma = (0.4, 0.9, 0.1)
    whole, near = smooth(m, sigma), smooth_near(m, sigma, 0.05, margin)
    above = (whole > 0.05).float()[None]
    around = torch.nn.functional.max_pool2d(above, 2 * margin + 1, 1, margin)[0] > 0
    assert above.sum() > 20
    torch.testing.assert_close(near[around], whole[around])
    assert ((near == 0) | torch.isclose(near, whole)).all()
    assert smooth_near(m * 0, sigma, 0.05, margin).abs().sum() == 0


def test_peaks_are_the_highest_of_their_window():
    torch.manual_seed(3)
    m = torch.rand(2, 40, 50)
    channel, position, height = sparse_peaks(m, 0.3, 4, 0)
    highest = torch.nn.functional.max_pool2d(m[None], 9, 1, 4)[0]
    k, y, x = ((m == highest) & (m > 0.3)).nonzero(as_tuple=True)
    assert torch.equal(channel, k) and torch.equal(position, torch.stack([x, y], -1).float())
    assert torch.equal(height, m[k, y, x]) and len(k) > 10


def test_equal_neighbours_are_one_peak():
    m = torch.zeros(1, 9, 9)
    m[0, 3:5, 3:5] = 1.0
    _, position, _ = sparse_peaks(m, 0.5, 2, 0)
    assert position.tolist() == [[3, 3]]
    _, position, _ = sparse_peaks(m, 0.5, 2, 2)
    assert position.tolist() == [[3.5, 3.5]]  # the centre of mass


def test_refined_at_the_border_and_nobody():
    m = torch.zeros(2, 5, 5)
    m[1, 0, 0], m[1, 0, 1] = 3.0, 1.0
    channel, position, height = sparse_peaks(m, 0.5, 1, 1)
    assert channel.tolist() == [1] and position.tolist() == [[0.25, 0]] and height.tolist() == [3]
    assert len(sparse_peaks(m, 5.0, 1, 1)[0]) == 0
