"""CGANet's networks: the specification's exact counts (2.3, 2.4, 3, 11), shapes, gradients."""

import pytest
import torch
from torch.nn import functional as F

from repose.errors import UserError
from repose.metrics.cost import count
from repose.papers.cganet.config import Backbone, Experiment, Loss, Model, Roi
from repose.papers.cganet.model import CGANet, GuiderBranch, Head, ROIGuider, Separated
from repose.papers.cganet.tnet import ResidualBlock, TNet

ONE = Roi(size=24, stages=1)
FPN = Backbone(kind="fpn")


def parameters(net):
    return sum(p.numel() for p in net.parameters())


@pytest.fixture
def weightless():
    """Networks that are only counted need no memory."""
    with torch.device("meta"):
        yield


@pytest.mark.usefixtures("weightless")
def test_single_models_of_width_96():
    """D3W96 with two ROIGuiders: 90.03e6 (2.3); its separated form: 57,847,825."""
    assert parameters(CGANet(Model(backbone=Backbone(depth=3, width=96), roi=Roi(size=24)), 17)) == 90_030_539
    wide = Separated(Model(kind="separated", backbone=Backbone(depth=3, width=96)), 17, 0.0)
    assert parameters(wide) == 57_847_825


@pytest.mark.parametrize(("depth", "width", "params"), [(1, 64, 13_859_392), (3, 64, 25_709_760), (3, 96, 57_791_360)])
@pytest.mark.usefixtures("weightless")
def test_backbone_parameters(depth, width, params):
    assert parameters(TNet(Backbone(depth=depth, width=width))) == params


@pytest.mark.usefixtures("weightless")
def test_parts_of_the_trapezoids():
    net = TNet(Backbone(depth=3))
    assert parameters(net.stem) == 260_800
    assert [parameters(d) for d in net.depths] == [13_598_592, 8_188_672, 3_661_696]
    first, second, third = net.depths
    assert [parameters(m) for m in first.same] == [4_224] and [parameters(m) for m in first.lower] == [73_984]
    assert [parameters(m) for m in first.climb] == [820_992, 1_907_328, 3_444_224, 5_431_680]
    assert [parameters(m) for m in first.reverse.guides] == [28_672, 70_656, 131_072, 209_920]
    assert [parameters(m) for m in first.reverse.fuses] == [55_424, 203_008, 442_752, 774_656]
    assert first.start is None and second.start is not None and parameters(second.start) == 221_952
    assert [parameters(m) for m in second.same] == [4_224, 16_640, 37_248, 66_048]
    assert [parameters(m) for m in second.lower] == [73_984, 221_568, 442_880]
    assert [parameters(m) for m in third.lower] == [73_984, 221_568]


@pytest.mark.parametrize(
    ("row", "model", "params", "printed"),
    [
        ("c", Model(centre_lines=False, roi=ONE), 21_079_049, 20.1),
        ("d, e", Model(roi=ONE), 21_153_035, 20.2),
        ("f", Model(roi=Roi(size=24)), 28_257_163, 26.9),
        ("masks", Model(task="masks", roi=ONE), 21_148_875, 20.2),
    ],
)
@pytest.mark.usefixtures("weightless")
def test_rows_of_table_1_and_6_in_the_papers_unit(row, model, params, printed):
    """The paper's M is 2^20 (specification, section 1)."""
    assert parameters(CGANet(model, 17)) == params
    assert round(params / 2**20, 1) == printed


@pytest.mark.usefixtures("weightless")
def test_rows_with_fpn():
    """a: 34.04 and b: 38.90 x 2^20; the paper prints 34.7 and 37.3."""
    pooler = Model(backbone=FPN, centre_lines=False, roi=Roi(kind="pooler", size=24))
    net = CGANet(pooler, 17)
    assert parameters(net.backbone) == 26_852_416 and parameters(net.heads) == 442_885
    assert parameters(net) == 35_694_166
    assert parameters(CGANet(Model(backbone=FPN, centre_lines=False, roi=ONE), 17)) == 40_792_713


@pytest.mark.usefixtures("weightless")
def test_roi_guider_and_heads():
    assert parameters(ROIGuider((64, 128, 192), Backbone())) == 7_104_128
    assert parameters(ROIGuider((256, 256, 256), FPN)) == 13_479_936
    branch = GuiderBranch(Model(roi=ONE), (64, 128, 192, 256), (4, 8, 16, 32), 17)
    assert parameters(branch.heads) == 4_420
    assert parameters(Head(64, 64, 1)) == 36_993 and parameters(Head(64, 64, 2)) == 37_058


@pytest.mark.usefixtures("weightless")
def test_a_decimal_reading_of_the_units_would_need_a_reduction():
    assert parameters(TNet(Backbone(depth=3, gfm_reduction=16))) == pytest.approx(25.03e6 - 38_033, rel=0.002)


@pytest.mark.slow
def test_separated_costs():
    net = Separated(Model(kind="separated", backbone=Backbone(depth=3)), 17, 0.0)
    assert count(net, torch.zeros(1, 3, 384, 288)).by_op["conv"] == pytest.approx(16.238e9, rel=1e-4)
    wide = Separated(Model(kind="separated", backbone=Backbone(depth=3, width=96)), 17, 0.0)
    assert count(wide, torch.zeros(1, 3, 384, 288)).by_op["conv"] == pytest.approx(36.09e9, rel=1e-3)


def test_separated_costs_at_256x192():
    net = Separated(Model(kind="separated", backbone=Backbone(depth=3)), 17, 0.0)
    assert parameters(net) == 25_747_793
    assert count(net, torch.zeros(1, 3, 256, 192)).by_op["conv"] == 7_210_237_952


@torch.no_grad()
def test_shapes_of_d1w64_at_384():
    net = CGANet(Model(roi=ONE), 17).eval()
    pyramid = net.pyramid(torch.zeros(1, 3, 384, 384))
    assert [tuple(p.shape[1:]) for p in pyramid] == [(64, 96, 96), (128, 48, 48), (192, 24, 24), (256, 12, 12)]
    assert net.backbone.depths[0]([net.backbone.stem(torch.zeros(1, 3, 384, 384))])[1].shape[1:] == (320, 6, 6)
    maps = net.maps(pyramid)
    assert [tuple(m.shape[1:]) for m in maps] == [(c, 96, 96) for c in (1, 2, 2, 1, 1)]
    box, owner = torch.tensor([[10.0, 10, 200, 300]]), torch.tensor([0])
    assert net.heatmaps(pyramid, box, owner)[-1].shape == (1, 17, 48, 48)


@pytest.mark.parametrize(("size", "sides", "heatmap"), [(24, (24, 12, 6), 48), (32, (32, 16, 8), 64)])
@torch.no_grad()
def test_shapes_of_the_roi_guider(size, sides, heatmap):
    small = Backbone(width=8, n_rb=1)
    branch = GuiderBranch(Model(backbone=small, roi=Roi(size=size)), (8, 16, 24, 32), (4, 8, 16, 32), 5).eval()
    aligned = [torch.rand(2, c, s, s) for c, s in zip((8, 16, 24), sides, strict=True)]
    assert [x.shape for x in branch.stages[0](aligned)] == [x.shape for x in aligned]
    pyramid = [torch.rand(1, c, 64 // s, 64 // s) for c, s in ((8, 4), (16, 8), (24, 16), (32, 32))]
    box, owner = torch.tensor([[0.0, 0, 30, 60]]), torch.tensor([0])
    assert [x.shape for x in branch(pyramid, box, owner)] == [(1, 5, heatmap, heatmap)]
    plain = GuiderBranch(
        Model(backbone=small, roi=Roi(size=size, upscale=1, intermediate=True)), (8, 16, 24), (4, 8, 16), 5
    )
    assert [x.shape for x in plain.eval()(pyramid, box, owner)] == [(1, 5, size, size)] * 2


@torch.no_grad()
def test_sizes_that_do_not_halve_are_cut():
    """384x288: level 3 is 12x9, level 4 6x5."""
    net = TNet(Backbone(depth=3, width=4, n_rb=1)).eval()
    assert [tuple(x.shape[-2:]) for x in net(torch.zeros(1, 3, 384, 288))] == [(96, 72), (48, 36), (24, 18)]
    assert [tuple(x.shape[-2:]) for x in net(torch.zeros(1, 3, 2, 3))] == [(1, 1)] * 3  # smaller than the stride


@torch.no_grad()
def test_first_level_equations():
    """Eq. 5 and 6 written out at depth 1: L_0 and L_1 see the stem, L_2 has no lateral, O_0 is guided by O_1."""
    torch.manual_seed(0)
    net = TNet(Backbone(width=4, levels=3, n_rb=1)).eval()
    (one,) = net.depths
    stem = net.stem(torch.rand(1, 3, 32, 32))
    level_0 = F.relu(one.same[0](stem))
    level_1 = F.relu(one.climb[0](level_0) + one.lower[0](stem))
    level_2 = one.climb[1](level_1)
    joined_1 = torch.cat([F.pixel_shuffle(level_2, 2), level_1], 1)
    weight = one.reverse.guides[1].spread(torch.sigmoid(one.reverse.guides[1].mix(level_2.mean((2, 3), keepdim=True))))
    out_1 = F.relu(one.reverse.fuses[1](joined_1 * weight + joined_1))
    joined_0 = torch.cat([F.pixel_shuffle(out_1, 2), level_0], 1)
    weight = one.reverse.guides[0].spread(torch.sigmoid(one.reverse.guides[0].mix(out_1.mean((2, 3), keepdim=True))))
    out_0 = F.relu(one.reverse.fuses[0](joined_0 * weight + joined_0))
    outputs, top = one([stem])
    torch.testing.assert_close(outputs, [out_0, out_1])
    torch.testing.assert_close(top, level_2)


@pytest.mark.parametrize("reverse", ["sequential", "parallel"])
def test_parallel_reverse_leaves_parameters_without_gradient(reverse):
    net = Separated(Model(kind="separated", backbone=Backbone(depth=3, width=4, n_rb=1, reverse=reverse)), 3, 0.0)
    net(torch.rand(2, 3, 64, 64)).square().sum().backward()
    dead = sum(p.numel() for p in net.parameters() if p.grad is None or not p.grad.any())
    assert (dead == 0) if reverse == "sequential" else (dead > parameters(net) / 3)


@pytest.mark.parametrize("reverse", ["sequential", "parallel"])
def test_the_same_in_the_single_model(reverse):
    """D1 with the cascade: the loss looks at the finest level's maps and the last stage's heatmaps."""
    torch.manual_seed(0)
    net = CGANet(Model(backbone=Backbone(width=4, n_rb=1, reverse=reverse), head_width=4, roi=Roi(size=16)), 3)
    pyramid = net.pyramid(torch.rand(2, 3, 128, 128))
    box_R4, owner_R = torch.tensor([[4.0, 4, 100, 120], [20, 0, 90, 60]]), torch.tensor([0, 1])
    seen = [*net.maps(pyramid), *net.heatmaps(pyramid, box_R4, owner_R)]
    torch.stack([x.square().sum() for x in seen]).sum().backward()
    dead = sum(p.numel() for p in net.parameters() if p.grad is None or not p.grad.any())
    assert (dead == 0) if reverse == "sequential" else (dead > parameters(net) / 3)


def test_residual_block_shortcuts():
    assert isinstance(ResidualBlock(4, 4).short, torch.nn.Identity)
    assert ResidualBlock(4, 8, 2)(torch.rand(2, 4, 5, 5)).shape == (2, 8, 3, 3)
    assert ResidualBlock(4, 8)(torch.rand(2, 4, 5, 5)).shape == (2, 8, 5, 5)


@torch.no_grad()
def test_pooler_takes_the_level_of_the_boxs_size():
    model = Model(
        backbone=Backbone(kind="fpn", name="resnet18", fpn_width=4), roi=Roi(kind="pooler", size=4, pooler_width=4)
    )
    branch = CGANet(model, 2).branch.eval()
    pyramid = [torch.full((1, 4, 256 // s, 256 // s), float(i)) for i, s in enumerate((4, 8, 16, 32))]
    box = torch.tensor([[0.0, 0, 50, 50], [0, 0, 120, 120], [0, 0, 230, 230], [0, 0, 255, 255], [5, 5, 5, 5]])
    seen = []
    hook = branch.convs.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    assert branch(pyramid, box, torch.zeros(5, dtype=torch.int64))[0].shape == (5, 2, 8, 8)
    hook.remove()
    assert seen[0][:, 0, 1, 1].tolist() == [0, 1, 2, 2, 0]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Model(backbone=Backbone(width=10)), "multiple of 4"),
        (lambda: Model(backbone=Backbone(depth=4)), "can be 1 to 3 deep"),
        (lambda: Model(roi=Roi(size=22)), "multiple of 4"),
        (lambda: Model(roi=Roi(kind="pooler")), "set model.backbone.kind=fpn"),
        (lambda: Model(roi=Roi(stages=0)), "at least one"),
        (lambda: Model(kind="separated", backbone=FPN), "set model.backbone.kind=tnet"),
        (lambda: Experiment(model=Model(centre_lines=False)), "model.centre_lines=true"),
        (lambda: Experiment(model=Model(kind="separated")), "data.view=person"),
        (lambda: Loss(roi_scale=(0.0, 1.0)), "above 0"),
        (lambda: Loss(line_iou=1.0), "between 0 and 1"),
    ],
)
def test_settings_that_cannot_be(make, words):
    with pytest.raises(UserError, match=words):
        make()
