"""Hourglass-8, an experiment of `simplebaseline`: size, intermediate supervision, and the papers' contract."""

from dataclasses import replace
from typing import Any

import pytest
import test_contract_papers as contract
import torch

from repose import papers
from repose.config import load
from repose.errors import UserError
from repose.metrics.cost import count
from repose.nn.hourglass import Bottleneck, StackedHourglass
from repose.ops.crops import CropHeatmaps
from repose.papers.baselines.simplebaseline.config import Hourglass, Model
from repose.papers.baselines.simplebaseline.losses import losses
from repose.papers.baselines.simplebaseline.model import HourglassNet, Outputs, heatmap_net


def bottleneck(c_in: int, c_out: int) -> int:
    """Parameters by hand: three batch norms, three convolutions with biases, a 1x1 beside them where it widens."""
    half = c_out // 2
    norms = 2 * (c_in + half + half)
    convolutions = (c_in * half + half) + (9 * half * half + half) + (half * c_out + c_out)
    return norms + convolutions + (c_in * c_out + c_out if c_in != c_out else 0)


def test_parameters_by_hand():
    """Newell's layers add up to 25,437,960, 1.3 % above the 25.1 M that CPN (and with it CGANet's Table 4) prints.

    13 residual modules in an hourglass of 4 levels, one after it, 1x1 with batch norm, 17 heatmaps; 7 times two remaps.
    """
    stem = (7 * 7 * 3 * 64 + 64) + 2 * 64 + bottleneck(64, 128) + bottleneck(128, 128) + bottleneck(128, 256)
    one = 14 * bottleneck(256, 256) + (256 * 256 + 256 + 2 * 256) + (256 * 17 + 17)
    remaps = (256 * 256 + 256) + (17 * 256 + 256)
    assert stem + 8 * one + 7 * remaps == 25_437_960
    with torch.device("meta"):
        net = heatmap_net(Model(kind="hourglass"), 17)
    assert isinstance(net, HourglassNet)
    assert sum(p.numel() for p in net.parameters()) == 25_437_960
    assert sum(isinstance(m, Bottleneck) for m in net.modules()) == 3 + 8 * 14


def test_convolutions_of_a_narrow_one_by_hand():
    """One stack that halves once, 8 channels, one joint, 8x8 input: 4x4, 2x2 and 1x1 cells."""
    net = heatmap_net(Model(kind="hourglass", hourglass=Hourglass(stacks=1, width=8, depth=1)), 1).eval()

    def macs(c_in, c_out):  # per cell
        half = c_out // 2
        return c_in * half + 9 * half * half + half * c_out + (c_in * c_out if c_in != c_out else 0)

    stem = 16 * (49 * 3 * 2 + macs(2, 4)) + 4 * (macs(4, 4) + macs(4, 8))
    hourglass = 4 * macs(8, 8) + 1 * 3 * macs(8, 8)
    assert count(net, torch.zeros(1, 3, 8, 8)).by_op["conv"] == stem + hourglass + 4 * (macs(8, 8) + 64 + 8)


def test_every_stack_hands_its_heatmaps_on():
    torch.manual_seed(0)
    net = heatmap_net(Model(kind="hourglass", hourglass=Hourglass(stacks=3, width=16, depth=2)), 5).eval()
    assert isinstance(net, HourglassNet)
    image = torch.rand(2, 3, 97, 75)  # no level halves it exactly
    found = net(image)
    assert [h.shape for h in (found.heatmap_BKHW, *found.earlier)] == [(2, 5, 25, 19)] * 3
    stacked: Any = net.stacked
    with torch.no_grad():
        stacked.head[0].bias += 1  # moves the first heatmaps by 1, and what follows through their remap alone
    moved = net(image)
    torch.testing.assert_close(moved.earlier[0], found.earlier[0] + 1)
    assert not torch.allclose(moved.heatmap_BKHW, found.heatmap_BKHW)


def test_loss_is_the_sum_over_the_stacks():
    target = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    heatmaps = [torch.full_like(target, v) for v in (0.5, 1.0, 0.0)]  # squared errors 0.25, 3 / 4 and 1 / 4
    targets = CropHeatmaps(target, torch.ones(1, 1))
    assert losses(Outputs(heatmaps[0], tuple(heatmaps[1:])), targets)["heatmap"].item() == pytest.approx(1.25)
    assert losses(Outputs(heatmaps[0]), targets)["heatmap"].item() == pytest.approx(0.25)


def test_identity_vectors_hourglass_keeps_its_count():
    """Without biases, from 257 feature channels, one map: 700,544 in an hourglass (identity vectors' specification)."""
    net: Any = StackedHourglass(256, 1, 2, 4, 128)
    assert sum(p.numel() for p in net.body[0].parameters()) == 700_544


@pytest.mark.parametrize("scale", ["smoke", "mini", "lite", "paper"])
def test_stays_an_hourglass_at_every_scale(scale):
    cfg: Any = load("baselines/hourglass-8", [f"scale={scale}"], find_paper=papers.get).cfg
    assert cfg.model.kind == "hourglass"
    assert cfg.model.hourglass.stacks == (8 if scale in ("lite", "paper") else 2)


@pytest.mark.parametrize("setting", ["stacks=0", "depth=0", "width=12"])
def test_mistakes(setting):
    with pytest.raises(UserError, match="at least 1, width="):
        load("baselines/hourglass-8", [f"model.hourglass.{setting}"], find_paper=papers.get)


@pytest.fixture
def facts(monkeypatch):
    """The contract builds Hourglass instead of SimpleBaseline."""
    mine = replace(
        contract.FACTS["simplebaseline"],
        experiment="baselines/hourglass-8",
        overfit={"model.hourglass.width": 64},
        steps=120,
        lr=5e-3,
    )
    monkeypatch.setitem(contract.FACTS, "simplebaseline", mine)


@pytest.mark.usefixtures("facts")
@pytest.mark.parametrize("skeleton", contract.SKELETONS)
@pytest.mark.parametrize(
    "clause",
    [
        contract.test_every_parameter_gets_a_finite_gradient,
        contract.test_a_batch_equals_its_images_one_by_one,
        contract.test_checkpoint_round_trip_is_bit_equal,
        contract.test_nobody_trains_and_tests,
        pytest.param(contract.test_overfits_a_batch_to_ap_95, marks=pytest.mark.slow),
    ],
)
def test_contract(clause, skeleton):
    clause("simplebaseline", skeleton)


@pytest.mark.usefixtures("facts")
@pytest.mark.parametrize("hw", [(100, 76), (97, 75)])
def test_contract_odd_sizes(hw):
    contract.test_odd_sizes("simplebaseline", hw)


@pytest.mark.usefixtures("facts")
def test_contract_bfloat16():
    contract.test_bfloat16_trains("simplebaseline")


@pytest.mark.parametrize("change", [{"stacks": 3}, {"width": 40}, {"depth": 3}])
def test_every_switch_changes_the_network(change):
    start = heatmap_net(Model(kind="hourglass", hourglass=Hourglass(2, 32, 2)), 5)
    other = heatmap_net(Model(kind="hourglass", hourglass=replace(Hourglass(2, 32, 2), **change)), 5)
    assert sum(p.numel() for p in start.parameters()) != sum(p.numel() for p in other.parameters())
