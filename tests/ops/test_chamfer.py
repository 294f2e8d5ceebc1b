"""The relaxed Chamfer distance against pairs of cells, and its gradient."""

import pytest
import torch

from repose.ops.chamfer import soft_chamfer, truncated_square


def pairs(a_HW: torch.Tensor, b_HW: torch.Tensor, reach: float) -> torch.Tensor:
    """Truncated squared distances of the cells of a to those of b."""
    return (torch.cdist(a_HW.nonzero().float(), b_HW.nonzero().float()).square() / reach**2).clamp(max=1)


@pytest.mark.parametrize("reach", [1.0, 2.5, 8.0])
def test_distance_map(reach):
    generator = torch.Generator().manual_seed(0)
    wanted = torch.rand(2, 13, 9, generator=generator) < 0.05
    wanted[1] = False
    wanted[1, 12, 0] = True
    found = truncated_square(wanted, reach)
    everywhere = torch.ones(13, 9, dtype=torch.bool)
    for image in range(2):
        torch.testing.assert_close(found[image].flatten(), pairs(everywhere, wanted[image], reach).amin(1))
    assert torch.equal(truncated_square(torch.zeros(1, 4, 4, dtype=torch.bool), reach), torch.ones(1, 4, 4))


@pytest.mark.parametrize("seed", range(8))
def test_binary_maps_give_the_truncated_mean_chamfer(seed):
    """Specification 11: exact for maps of 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    p = torch.rand(3, 16, 20, generator=generator) < 0.03
    wanted = torch.rand(3, 16, 20, generator=generator) < 0.02
    p[:, 0, 0] = wanted[:, 5, 5] = True
    each = [pairs(p[i], wanted[i], 8.0) for i in range(3)]
    truth = torch.stack([d.amin(1).mean() + d.amin(0).mean() for d in each]).mean()
    torch.testing.assert_close(soft_chamfer(p.float(), wanted, torch.ones(3, 16, 20), 8.0), truth)


def test_zero_at_the_target_and_without_one():
    wanted = torch.zeros(2, 10, 10, dtype=torch.bool)
    wanted[0, 3, 4] = wanted[0, 9, 9] = True
    ones = torch.ones(2, 10, 10)
    p = wanted.float()
    p[1] = 0.7  # an image with no keypoint counts 0 whatever is predicted
    p.requires_grad_()
    loss = soft_chamfer(p, wanted, ones, 8.0)
    assert loss.item() == 0
    loss.backward()
    assert p.grad is not None and not p.grad[1].any()


def test_by_hand():
    """One wanted cell; 0.5 two cells away, 0.8 there: A = 0.5 x 4/64 / 1.3, B = 1 - max(0.8, 0.5 x 60/64)."""
    wanted = torch.zeros(1, 9, 9, dtype=torch.bool)
    wanted[0, 4, 4] = True
    p = torch.zeros(1, 9, 9)
    p[0, 4, 4], p[0, 4, 6] = 0.8, 0.5
    assert soft_chamfer(p, wanted, torch.ones(1, 9, 9), 8.0).item() == pytest.approx(0.5 * 4 / 64 / 1.3 + 0.2)
    masked = torch.ones(1, 9, 9)
    masked[0, 4, 6] = 0
    assert soft_chamfer(p, wanted, masked, 8.0).item() == pytest.approx(0.2)


def test_the_gradient_pulls_presence_to_the_wanted_cell():
    wanted = torch.zeros(1, 9, 9, dtype=torch.bool)
    wanted[0, 4, 4] = True
    p = torch.full((1, 9, 9), 0.3)
    p.requires_grad_()
    soft_chamfer(p, wanted, torch.ones(1, 9, 9), 8.0).backward()
    assert p.grad is not None
    assert p.grad[0, 4, 4] < 0 < p.grad[0, 0, 0]
    assert torch.isfinite(p.grad).all()
