"""Deformable convolution: the CPU's training path is torchvision's, value by value and gradient by gradient."""

import pytest
import torch
from torch.nn import functional as F
from torchvision.ops import deform_conv2d

from repose.ops.deform import deform_conv


def case(b=2, groups=3, c=4, d=5, hw=(6, 7), side=3, reach=1.5, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(b, groups * c, *hw, generator=g)
    offset = torch.randn(b, groups * side * side * 2, *hw, generator=g) * reach
    weight = torch.randn(groups * d, c, side, side, generator=g)
    return [t.requires_grad_() for t in (x, offset, weight)], groups


@pytest.mark.parametrize("hw", [(6, 7), (1, 5), (1, 1)])
def test_equals_torchvision(hw):
    inputs, groups = case(hw=hw)
    x, offset, weight = inputs
    mine = deform_conv(x, offset, weight, groups)
    theirs = deform_conv2d(x, offset, weight, padding=(1, 1))
    torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)
    seed = torch.randn(mine.shape, generator=torch.Generator().manual_seed(1))
    for a, b in zip(torch.autograd.grad(mine, inputs, seed), torch.autograd.grad(theirs, inputs, seed), strict=True):
        torch.testing.assert_close(a, b, atol=2e-4, rtol=1e-3)
    with torch.no_grad():  # the test path is torchvision's own
        assert torch.equal(deform_conv(x, offset, weight, groups), theirs)


def test_without_offsets_it_is_a_convolution():
    (x, offset, weight), groups = case(side=5)
    found = deform_conv(x, torch.zeros_like(offset), weight, groups)
    torch.testing.assert_close(found, F.conv2d(x, weight, padding=2, groups=groups), atol=1e-4, rtol=1e-4)


def test_an_offset_of_a_cell_reads_the_neighbour_and_zero_outside():
    x = torch.arange(6.0).view(1, 1, 2, 3).requires_grad_()
    weight = torch.zeros(1, 1, 3, 3)
    weight[0, 0, 1, 1] = 1.0
    offset = torch.zeros(1, 18, 2, 3)
    offset[:, 2 * 4 + 1] = 1.0  # x of the middle tap
    assert deform_conv(x, offset, weight, 1).tolist() == [[[[1.0, 2.0, 0.0], [4.0, 5.0, 0.0]]]]
    offset[:, 2 * 4] = 0.5  # and half a cell down: the mean of two rows, of which the lower one's successor is outside
    assert deform_conv(x, offset, weight, 1).tolist() == [[[[2.5, 3.5, 0.0], [2.0, 2.5, 0.0]]]]
