"""Reading maps at points."""

from __future__ import annotations

import pytest
import torch

from repose.ops.points import read_cells, sample_own_channel, sample_points

# A map whose value is x + 10 y (channel 0) and 100 b + x (channel 1): linear, so bilinear sampling is exact.
Y, X = torch.meshgrid(torch.arange(5.0), torch.arange(7.0), indexing="ij")
MAPS = torch.stack([torch.stack([X + 10 * Y, 100.0 * b + X]) for b in range(3)])


def test_exact_at_whole_and_broken_cells_and_any_order_of_owners():
    owner = torch.tensor([2, 0, 2, 1])
    cell = torch.tensor([[[2.0, 3.0]], [[0.25, 0.5]], [[6.0, 4.0]], [[5.75, 1.0]]])
    found = sample_points(MAPS, owner, cell)
    expected = [[32.0, 202.0], [5.25, 0.25], [46.0, 206.0], [15.75, 105.75]]
    torch.testing.assert_close(found[:, 0], torch.tensor(expected), atol=1e-4, rtol=0)


def test_outside():
    maps = torch.ones(1, 1, 4, 4)
    cell = torch.tensor([[[-0.25, 1.0], [3.5, 3.0], [-1.0, 0.0], [9.0, 9.0]]])
    owner = torch.zeros(1, dtype=torch.int64)
    assert sample_points(maps, owner, cell)[0, :, 0].tolist() == pytest.approx([0.75, 0.5, 0.0, 0.0], abs=1e-5)
    assert sample_points(maps, owner, cell, "edge")[0, :, 0].tolist() == pytest.approx([1.0] * 4)


def test_single_row_and_nobody():
    maps = torch.tensor([[[[1.0, 2.0, 4.0]]]])
    owner = torch.zeros(1, dtype=torch.int64)
    found = sample_points(maps, owner, torch.tensor([[[1.5, 0.0], [1.5, 0.5]]]))
    assert found[0, :, 0].tolist() == pytest.approx([3.0, 1.5], abs=1e-5)
    assert sample_points(MAPS, owner[:0], torch.zeros(0, 4, 2)).shape == (0, 4, 2)


def test_gradient_goes_to_the_four_cells():
    maps = MAPS.clone().requires_grad_()
    sample_points(maps, torch.tensor([1]), torch.tensor([[[2.25, 3.5]]]))[..., 0].sum().backward()
    assert maps.grad is not None
    expected = torch.zeros_like(MAPS)
    expected[1, 0, 3:5, 2:4] = torch.tensor([[0.375, 0.125], [0.375, 0.125]])
    torch.testing.assert_close(maps.grad, expected, atol=1e-5, rtol=0)


def test_own_channel():
    maps = torch.stack([k + X for k in (0.0, 50.0)])[None].repeat(2, 1, 1, 1)
    cell = torch.tensor([[[1.5, 2.0], [3.0, 0.0]], [[4.0, 1.0], [0.5, 0.5]]])
    found = sample_own_channel(maps, torch.tensor([1, 0]), cell)
    torch.testing.assert_close(found, torch.tensor([[1.5, 53.0], [4.0, 50.5]]), atol=1e-4, rtol=0)


def test_read_cells():
    owner, cell = torch.tensor([1, 2]), torch.tensor([[3, 2], [6, 4]])
    assert read_cells(MAPS, owner, cell).tolist() == [[23.0, 103.0], [46.0, 206.0]]
    grouped = MAPS[:, :, None]  # two groups of one channel
    assert read_cells(grouped, owner, cell, torch.tensor([1, 0])).tolist() == [[103.0], [46.0]]
