"""DEKR's network: adaptive block, sizes, precision."""

import pytest
import torch
from torch.nn import functional as F

from repose.metrics.cost import count
from repose.papers.baselines.dekr.config import Backbone, Model
from repose.papers.baselines.dekr.model import DEKR, AdaptiveBlock

K, D = 3, 5
IDENTITY = torch.tensor([1.0, 0.0, 0.0, 1.0])


def block(adaptive: bool = True) -> AdaptiveBlock:
    torch.manual_seed(0)
    made = AdaptiveBlock(K, D, adaptive).eval()
    made.bn.running_mean.uniform_(-0.5, 0.5)
    made.bn.running_var.uniform_(0.5, 2)
    return made


@pytest.fixture
def x():
    return torch.randn(2, K * D, 7, 9, generator=torch.Generator().manual_seed(1))


def test_zero_start_reads_every_tap_at_the_cell(x):
    made = block()
    offset = made.tap_offsets(x).view(2, K, 3, 3, 2, 7, 9)
    for row in range(3):
        for column in range(3):
            assert (offset[:, :, row, column, 0] == 1 - row).all()  # y: back to the cell
            assert (offset[:, :, row, column, 1] == 1 - column).all()
    summed = made.weight.sum((2, 3), keepdim=True)  # nine taps at one place: a 1x1 convolution of their sum
    expected = F.relu(x + made.bn(F.conv2d(x, summed, groups=K)))
    torch.testing.assert_close(made(x), expected, atol=1e-5, rtol=1e-5)


def test_identity_is_an_ordinary_convolution(x):
    made = block()
    with torch.no_grad():
        made.matrix.bias.copy_(IDENTITY.repeat(K))
    assert made.tap_offsets(x).abs().max() == 0
    plain = block(adaptive=False)
    plain.load_state_dict({k: v for k, v in made.state_dict().items() if not k.startswith(("matrix", "shift"))})
    torch.testing.assert_close(made(x), plain(x), atol=1e-5, rtol=1e-5)
    with torch.no_grad():  # without gradients it is torchvision's operator
        torch.testing.assert_close(made(x), plain(x), atol=1e-5, rtol=1e-5)


def test_matrix_and_shift_by_hand(x):
    """A = [[1, 2], [3, 4]] in (y, x) and t = (5, 6) move tap (-1, 1) to (-1 + 2 + 5, -3 + 4 + 6)."""
    made = block()
    with torch.no_grad():
        made.matrix.bias[4:8] = torch.tensor([1.0, 2.0, 3.0, 4.0])  # the second joint alone
        made.shift.bias[2:4] = torch.tensor([5.0, 6.0])
    offset = made.tap_offsets(x).view(2, K, 9, 2, 7, 9)
    moved = offset[:, 1, 2] + torch.tensor([-1.0, 1.0]).view(2, 1, 1)
    assert (moved[:, 0] == 6).all() and (moved[:, 1] == 7).all()
    assert (offset[:, 0, 2] == torch.tensor([1.0, -1.0]).view(2, 1, 1)).all()  # the first one's stays at the cell


def test_joints_do_not_see_one_another(x):
    made = block()
    torch.nn.init.normal_(made.matrix.weight, std=0.1)
    torch.nn.init.normal_(made.shift.weight, std=0.1)
    changed = x.clone()
    changed[:, D : 2 * D] += 1
    same = (made(x) == made(changed)).view(2, K, D, 7, 9).all(dim=(0, 2, 3, 4))
    assert same.tolist() == [True, False, True]


def test_gradients_reach_matrix_and_shift(x):
    made = block().train()
    made(x).square().sum().backward()
    for name, p in made.named_parameters():
        assert p.grad is not None and p.grad.abs().sum() > 0, name


def test_size_as_counted_by_hand():
    """Backbone 29,305,536 (spec 0); the branches layer by layer."""
    k, d = 17, 15
    heat = 480 * 32 + 2 * 32 + 2 * (9 * 32 * 32 + 2 * 32) + 32 * (k + 1) + (k + 1)
    one_block = (9 * d * 4 + 4) + (9 * d * 2 + 2) + 9 * d * d + 2 * d
    offset = 480 * d * k + 2 * d * k + k * (2 * one_block + d * 2 + 2)
    net = DEKR(Model(), k)
    found = {name: sum(p.numel() for p in part.parameters()) for name, part in net.named_children()}
    assert found["backbone"] == 29_305_536
    assert found["heat"] == heat == 34_578
    assert found["split"] + found["joints"] + found["offset"] == offset == 221_068
    assert sum(found.values()) == 29_561_182


def test_macs_at_512_by_the_papers_rule():
    """Convolutions 44.257 G and deformable ones 1.128 G: 45.385 G, the paper's 45.4 (spec 9)."""
    cost = count(DEKR(Model(), 17), torch.zeros(1, 3, 512, 512))
    assert cost.by_op["deform"] == 2 * 17 * 15 * 15 * 9 * 128 * 128
    assert cost.by_op["conv"] / 1e9 == pytest.approx(44.257, rel=1e-4)
    assert (cost.by_op["conv"] + cost.by_op["deform"]) / 1e9 == pytest.approx(45.385, rel=0.005)
    assert not cost.unsupported


def test_spm_is_pinet_with_one_centre():
    """29.331 M and 41.84 GMAC of convolutions and batch norms (spec 9)."""
    from repose import papers
    from repose.config import load

    loaded = load("baselines/spm", find_paper=papers.get)
    assert loaded.paper.name == "pinet"
    torch.manual_seed(0)
    net = papers.get("pinet").module()(loaded.cfg, loaded.cfg.joint_set()).net
    assert sum(p.numel() for p in net.parameters()) == 29_305_536 + 480 * (17 + 1 + 34) + 17 + 1 + 34 == 29_330_548
    cost = count(net, torch.zeros(1, 3, 512, 512))
    assert (cost.by_op["conv"] + cost.by_op["norm"]) / 1e9 == pytest.approx(41.84, rel=0.005)
    wide = load("baselines/spm-dekr-targets", find_paper=papers.get).cfg
    assert (loaded.cfg.loss.part_sigma, loaded.cfg.loss.radius) == (2.0, 2)
    assert (wide.loss.part_sigma, wide.loss.radius) == (4.0, 4)


def test_offsets_stay_float32_under_autocast():
    net = DEKR(Model(backbone=Backbone(name="test_resnet"), joint_width=4), 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = net(torch.randn(1, 3, 64, 64))
    assert out.offset_BDHW.dtype == torch.float32 and out.offset_BDHW.shape == (1, 10, 16, 16)
    assert out.heat_BJHW.shape == (1, 6, 16, 16)
