"""Losses by hand: both forms of Eq. 2, masked joints, Eq. 5 and what it does."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from idgroup_kit import batch_of, module, person

from repose.errors import UserError
from repose.papers.idgroup.config import Loss
from repose.papers.idgroup.losses import Balance, Outputs, asymmetric_loss, losses, vector_loss
from repose.papers.idgroup.targets import encode


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def test_asymmetric_by_hand():
    """Two stacks, one keypoint cell at p = 0.8, one other at 0.3, one masked."""
    z = torch.tensor([[[[logit(0.8), logit(0.3), 9.0]]]]).expand(2, 1, 1, 3)
    y = torch.tensor([[[True, False, False]]])
    m = torch.tensor([[[1.0, 1.0, 0.0]]])
    wanted = -math.log(0.8) - 0.3**4 * math.log(0.7)
    assert asymmetric_loss(z, y, m, Loss()).item() == pytest.approx(wanted, rel=1e-5)
    wanted = -(0.2**2) * math.log(0.8) - 0.3**3 * math.log(0.7)
    assert asymmetric_loss(z, y, m, Loss(gamma_pos=2, gamma_neg=3)).item() == pytest.approx(wanted, rel=1e-5)
    wanted = -math.log(0.8) - 0.7**4 * math.log(0.7)
    assert asymmetric_loss(z, y, m, Loss(asym_printed=True)).item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(("posterior", "p"), [(0.1, 0.44), (0.3, 0.56), (0.5, 0.64), (0.7, 0.73), (0.9, 0.88)])
def test_calibration(posterior, p):
    """Specification 4: which p is best where a cell is a keypoint this often; at 0.8 it takes more than 0.7."""
    z = torch.linspace(-8, 8, 3201)
    present = asymmetric_loss_of(z, True)
    absent = asymmetric_loss_of(z, False)
    best = z[(posterior * present + (1 - posterior) * absent).argmin()]
    assert best.sigmoid().item() == pytest.approx(p, abs=0.006)


def asymmetric_loss_of(z: torch.Tensor, present: bool, cfg: Loss | None = None) -> torch.Tensor:
    """Loss of one cell at each logit."""
    y = torch.full((1, 1, 1), present)
    each = [asymmetric_loss(v.view(1, 1, 1, 1), y, torch.ones(1, 1, 1), cfg or Loss()) for v in z]
    return torch.stack(each)


@pytest.mark.parametrize("share", [0.5, 0.1, 0.02])
def test_eq_2_as_printed_is_least_where_everything_is_a_keypoint(share):
    """The misprint: with (1 - p)^gamma for other cells the loss vanishes as p goes to 1, for any share of keypoints."""
    z = torch.linspace(-10, 20, 301)
    for cfg, printed in ((Loss(asym_printed=True), True), (Loss(), False)):
        total = share * asymmetric_loss_of(z, True, cfg) + (1 - share) * asymmetric_loss_of(z, False, cfg)
        best = z[total.argmin()].sigmoid().item()
        assert (best > 0.999) == printed
        assert (total.min().item() < 1e-4) == printed


def test_asymmetric_is_finite_at_the_ends():
    for cfg in (Loss(), Loss(gamma_pos=0.05, gamma_neg=0.5), Loss(asym_printed=True)):
        z = torch.tensor([[[[-200.0, 200.0, -200.0, 200.0]]]], requires_grad=True)
        y = torch.tensor([[[True, True, False, False]]])
        asymmetric_loss(z, y, torch.ones(1, 1, 4), cfg).backward()
        assert z.grad is not None and torch.isfinite(z.grad).all()


def test_vector_by_hand_and_masked_joints_have_no_gradient():
    """One cell, two joints of which one is taught, off by (8, 16) cells: (1 + 4) / 2."""
    v = torch.tensor([[[18.0, 26.0], [50.0, 50.0]]], requires_grad=True)
    target, weight = torch.tensor([[[10.0, 10.0], [0.0, 0.0]]]), torch.tensor([[1.0, 0.0]])
    loss = vector_loss(v, target, weight, 8.0)
    assert loss.item() == pytest.approx(2.5)
    loss.backward()
    assert v.grad is not None and not v.grad[0, 1].any() and v.grad[0, 0].all()
    assert vector_loss(v[:0], target[:0], weight[:0], 8.0).item() == 0


def test_zero_at_the_target():
    t = encode(batch_of([person(20, 30, 120)], [person(60, 20, 200)]), Loss())
    perfect = Outputs(torch.where(t.presence_BHW, 60.0, -60.0).expand(2, -1, -1, -1), t.vector_MK2)
    found = losses(perfect, t, Loss())
    assert found.keys() == {"asymmetric", "chamfer", "vector"}
    assert all(abs(v.item()) < 1e-6 for v in found.values())
    shifted = losses(perfect._replace(logit_SBHW=perfect.logit_SBHW.roll(1, -1)), t, Loss())
    assert shifted["asymmetric"] > 1 and shifted["chamfer"] > 0.01 and shifted["vector"] == 0
    nobody = encode(batch_of([], []), Loss())
    found = losses(Outputs(perfect.logit_SBHW * 0, nobody.vector_MK2), nobody, Loss())
    assert found["vector"] == 0 and found["chamfer"] == 0 and found["asymmetric"] > 0


def test_fixed_and_learnt_lambdas_start_alike():
    a, b = torch.tensor(2.0), torch.tensor(0.5)
    assert Balance(Loss())(a, b).item() == pytest.approx(1.25)
    assert Balance(Loss(weighting="paper"))(a, b).item() == pytest.approx(1.25)
    assert Balance(Loss(heatmap=3.0))(a, b).item() == pytest.approx(6.5 / 4)
    # e^-s = 1: both weigh 1/2, and so do the penalties
    assert Balance(Loss(weighting="kendall"))(a, b).item() == pytest.approx(1.25)
    assert not list(Balance(Loss()).parameters())


def descend(kind, steps: int = 1500, lr: float = 0.1) -> tuple[float, float]:
    """Weights after plain SGD on constant losses 2 and 0.5."""
    balance = Balance(Loss(weighting=kind))
    optimizer = torch.optim.SGD(balance.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        balance(torch.tensor(2.0), torch.tensor(0.5)).backward()
        optimizer.step()
        balance.clamp()
        if kind == "paper":
            assert balance.weight_2.min() >= 0.01 - 1e-6 and balance.weight_2.max() <= 5
    return balance.weights()


def test_eq_5_switches_the_larger_loss_off():
    """Specification 4: no balance; Kendall's ends at the inverse losses (over 2)."""
    heatmap, group = descend("paper")
    assert heatmap < 0.01 and group > 0.99
    assert descend("kendall") == pytest.approx((0.25, 1.0), rel=1e-3)


def test_the_gradient_of_eq_5():
    balance = Balance(Loss(weighting="paper", heatmap=2.0, group=3.0))
    balance(torch.tensor(2.0), torch.tensor(0.5)).backward()
    assert balance.weight_2.grad is not None
    assert balance.weight_2.grad.tolist() == pytest.approx([3 * 1.5 / 25, -2 * 1.5 / 25])


def test_the_module_combines_clamps_and_trains_them():
    m = module("loss.weighting=paper", "loss.chamfer=0.5")
    found = {"asymmetric": torch.tensor(1.0), "chamfer": torch.tensor(2.0), "vector": torch.tensor(0.5)}
    assert m.combine(found).item() == pytest.approx((1 + 0.5 * 2 + 0.5) / 2)
    assert m.weights == pytest.approx({"asymmetric": 0.5, "chamfer": 0.25, "vector": 0.5})
    assert m.logged["weight_heatmap"] == 1
    with torch.no_grad():
        m.balance.weight_2.copy_(torch.tensor([9.0, -1.0]))
    m.after_step()
    assert m.balance.weight_2.tolist() == pytest.approx([5.0, 0.01])
    assert "balance.weight_2" in m.state_dict() and "balance.weight_2" not in module().state_dict()


def test_wrong_settings_are_one_line():
    for settings in ({"heatmap": 0.0}, {"gamma_neg": -1.0}, {"chamfer_reach": 0.0}):
        with pytest.raises(UserError) as error:
            replace(Loss(), **settings)
        assert "\n" not in str(error.value)
