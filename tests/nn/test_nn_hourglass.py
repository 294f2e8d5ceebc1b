"""Sizes and shapes of the hourglass."""

import pytest
import torch

from repose.nn.hourglass import Bottleneck, Hourglass, StackedHourglass


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_sizes_of_the_specification():
    assert count(Bottleneck(128)) == 53_888
    assert count(Hourglass(4, 128)) == 13 * 53_888 == 700_544
    assert count(StackedHourglass(256, 1, 2, 4, 128)) == 1_592_194


@pytest.mark.parametrize("hw", [(16, 16), (13, 7), (25, 19), (5, 3)])
def test_odd_maps_keep_their_size(hw):
    torch.manual_seed(0)
    net = StackedHourglass(6, 2, 3, 4, 8).eval()
    found = net(torch.randn(2, 6, *hw))
    assert [tuple(m.shape) for m in found] == [(2, 2, *hw)] * 3
    assert all(torch.isfinite(m).all() for m in found)


def test_an_even_map_goes_down_and_up_as_newell_draws_it():
    """With units that do nothing the hourglass adds each level's maxima to the map: depth 1 gives x + max of 2x2."""
    net = Hourglass(1, 4).eval()
    for unit in net.modules():
        if isinstance(unit, Bottleneck):
            torch.nn.init.zeros_(unit.layers[-1].weight)
            torch.nn.init.zeros_(unit.layers[-1].bias)
    x = torch.tensor([[1.0, 2.0, 0.0, 5.0], [3.0, 4.0, -1.0, -2.0]]).expand(1, 4, 2, 4).contiguous()
    wanted = torch.tensor([[5.0, 6.0, 5.0, 10.0], [7.0, 8.0, 4.0, 3.0]])
    assert torch.equal(net(x)[0, 0], wanted)


def test_a_stack_sees_the_maps_before_it():
    torch.manual_seed(0)
    net = StackedHourglass(4, 1, 2, 1, 8).eval()
    x = torch.randn(1, 4, 4, 4)
    first, second = net(x)
    with torch.no_grad():
        net.head[0].bias.add_(1.0)
    other, changed = net(x)
    torch.testing.assert_close(other, first + 1)
    assert (changed - second).abs().max() > 1e-4
