"""Nearest keypoints."""

import math

import torch

from repose.ops.disks import FAR, disk_mean, gather_people, nearest_keypoint, pad_people


def test_people_are_padded_in_order():
    value = torch.tensor([10.0, 20.0, 30.0, 40.0])
    padded, slot = pad_people(value, torch.tensor([2, 0, 2, 2]), 4)
    assert padded.tolist() == [[20, 0, 0], [0, 0, 0], [10, 30, 40], [0, 0, 0]]
    assert slot.tolist() == [0, 0, 1, 2]
    empty, _ = pad_people(torch.zeros(0, 5), torch.zeros(0, dtype=torch.int64), 2)
    assert empty.shape == (2, 0, 5)


def test_cells_belong_to_the_nearest_known_keypoint():
    point = torch.tensor([[[[0.0, 0.0]], [[12.0, 0.0]], [[8.0, 0.0]]]])  # (1, 3 people, 1 joint, 2)
    known = torch.tensor([[[True], [True], [False]]])
    distance, slot = nearest_keypoint(point, known, (2, 4), 4)
    assert distance[0, 0, 0].tolist() == [0, 4, 4, 0]
    assert slot[0, 0, 0].tolist() == [0, 0, 1, 1]
    torch.testing.assert_close(distance[0, 0, 1], torch.tensor([4.0, 32**0.5, 32**0.5, 4.0]))
    value = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]], [[5.0, 6.0]]]])
    assert gather_people(value, slot)[0, 0, :, 0].tolist() == [[1, 1, 3, 3], [2, 2, 4, 4]]


def test_equally_near_people_and_nobody():
    point = torch.tensor([[[[0.0, 0.0], [0.0, 0.0]], [[8.0, 0.0], [0.0, 0.0]]]])
    known = torch.tensor([[[True, False], [True, False]]])
    distance, slot = nearest_keypoint(point, known, (1, 3), 4)
    assert slot[0, 0, 0].tolist() == [0, 0, 1]
    assert (distance[0, 1] == FAR).all()
    assert gather_people(torch.zeros(1, 0, 2, 2), slot).shape == (1, 2, 2, 1, 3)


def test_disk_mean_is_the_sum_over_a_disk():
    """Sums of ones, cut off at the border; the radius need not be whole."""
    radius = 2.5
    found = disk_mean(torch.ones(2, 9, 8), radius)
    inside = [(y, x) for y in range(-2, 3) for x in range(-2, 3) if x * x + y * y <= radius**2]
    for y, x in ((4, 4), (0, 0), (8, 3)):
        count = sum(0 <= y + dy < 9 and 0 <= x + dx < 8 for dy, dx in inside)
        torch.testing.assert_close(found[1, y, x].item(), count / (math.pi * radius**2))
