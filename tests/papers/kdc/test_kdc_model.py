"""The network: sizes, shapes, strides, switches."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import timm
import torch
from kdc_kit import config
from torch.utils.flop_counter import FlopCounterMode

from repose import papers
from repose.papers.kdc.frame import Frame
from repose.papers.kdc.model import KDC, Outputs
from repose.papers.kdc.module import KDCModule
from repose.skeleton import COCO17


def network(cfg):
    frame = Frame.of(cfg.model, cfg.data.input_size, cfg.joint_set())
    return KDC(cfg.model, frame.k, frame.m)


LISTED = "model.grouping=embedding model.bandwidth=false"


@pytest.mark.parametrize(
    ("settings", "params", "gmacs"),
    [
        ("kdc/r101", 42_776_775, {32: 26.63, 16: 34.08, 8: 113.21}),
        ("kdc/r152", 58_420_423, {32: 39.32, 16: 46.77, 8: 153.78}),
        ("kdc/r101 model.graph=tree", 42_743_991, {16: 34.06, 8: 113.13}),
        ("kdc/r152 model.graph=tree", 58_387_639, {16: 46.75, 8: 153.70}),
        (f"kdc/r101 {LISTED}", 42_610_806, {16: 33.97, 8: 112.78}),
        (f"kdc/r152 {LISTED}", 58_254_454, {16: 46.66, 8: 153.35}),
        ("kdc/crowdpose", 42_717_354, {16: 34.04, 8: 113.06}),
        ("kdc/crowdpose model.backbone.name=resnet152", 58_361_002, {16: 46.73, 8: 153.63}),
        ("kdc/r101 model.decoder=skip4", 43_222_583, {16: 36.24}),
        ("kdc/r152 model.decoder=skip4", 58_866_231, {16: 48.93}),
    ],
)
@torch.no_grad()
def test_sizes_are_the_specifications(settings, params, gmacs):
    """Convolutions' MACs, every number of the specification's table; training has output stride 16, evaluation 8."""
    experiment, *overrides = settings.split()
    coarsest = 32 if 32 in gmacs else 16
    with torch.device("meta"):
        net = network(config(*overrides, f"model.stride={coarsest}", experiment=experiment))
        assert sum(p.numel() for p in net.parameters()) == params
        for stride, wanted in gmacs.items():
            if stride == 16 and coarsest == 32:
                net = network(config(*overrides, experiment=experiment))
            net.train(stride > 8)
            assert net.backbone.stride == stride
            with FlopCounterMode(display=False) as counter:
                net(torch.zeros(1, 3, 401, 401))
            assert counter.get_total_flops() / 2e9 == pytest.approx(wanted, abs=0.006)


def test_head_parameters():
    with torch.device("meta"):
        net = network(config())
    assert sum(p.numel() for p in net.heads.parameters()) == 276_615
    assert net.channels == {"heatmap": 17, "keycentroid": 34, "midrange": 80, "seg": 1, "embed": 2, "bandwidth": 1}


@pytest.mark.parametrize(
    ("training", "decoder", "side"), [(True, "none", 26), (False, "none", 51), (False, "skip4", 101)]
)
def test_shapes(training, decoder, side):
    with torch.device("meta"):
        net = network(config(f"model.decoder={decoder}")).train(training)
        out = net(torch.zeros(2, 3, 401, 401))
    assert [tuple(m.shape) for m in out[:6]] == [(2, c, side, side) for c in (17, 34, 80, 1, 2, 1)]
    assert (side - 1) * net.stride == 400


@torch.no_grad()
def test_untrained_maps_are_the_priors():
    """2 % of the pixels on a disk, sigma 0.1, no displacement."""
    cfg = config("scale=smoke")
    out = network(cfg).eval()(torch.zeros(1, 3, 129, 129))
    assert out.heatmap_BKHW.sigmoid().mean().item() == pytest.approx(0.02, abs=0.002)
    assert (-out.bandwidth_B1HW).exp().div(2).sqrt().mean().item() == pytest.approx(0.1, abs=0.01)
    assert out.midrange_BEHW.abs().max() < 0.2


def test_bandwidth_stays_in_its_limits():
    cfg = config("scale=smoke")
    net = network(cfg)
    net.heads.bias.data[-1] = 100.0
    assert (-net(torch.zeros(1, 3, 65, 65)).bandwidth_B1HW).exp().div(2).sqrt().max().item() == pytest.approx(0.01)


def test_heads_that_are_left_out():
    cfg = config("scale=smoke", "model.use_kc=false", "model.grouping=embedding", "model.center_mode=keypoint")
    net = network(cfg)
    out: Outputs = net(torch.zeros(1, 3, 65, 65))
    assert out.keycentroid_BJHW.shape[1] == out.midrange_BEHW.shape[1] == 0
    assert out.attention_K is net.attention and len(out.attention_K) == 17


def test_batch_norms_are_frozen_with_weights_only(tmp_path):
    torch.manual_seed(0)
    file = tmp_path / "w.pth"
    torch.save(timm.create_model("resnet18", num_classes=10).state_dict(), file)
    settings = ["scale=smoke", "model.backbone.width=1.0"]

    def trained_norms(*more):
        net = network(config(*settings, *more)).train()
        return {m.training for m in net.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)}

    assert trained_norms() == {True}
    assert trained_norms(f"model.backbone.weights={file}") == {False}
    assert trained_norms(f"model.backbone.weights={file}", "model.backbone.freeze_bn=false") == {True}


def test_the_backbones_learning_rate():
    cfg = config("scale=smoke", "model.backbone.lr_factor=0.2", "optim.weight_decay=0.1")
    module = KDCModule(cfg, cfg.joint_set())
    module._trainer = SimpleNamespace(estimated_stepping_batches=10)  # type: ignore[assignment]
    optimizer = module.configure_optimizers()["optimizer"]
    given = {id(p): (g["initial_lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    full = cfg.optim.base_lr * cfg.train.batch / cfg.optim.base_batch
    assert len(given) == len(list(module.parameters()))
    for name, p in module.named_parameters():
        rate = full * (0.2 if name.startswith("net.backbone.") else 1)
        assert given[id(p)] == (pytest.approx(rate), 0.1 if p.ndim > 1 else 0.0), name


def test_the_practical_recipe():
    cfg = config(experiment="kdc/r101-practical")
    rate = cfg.optim.base_lr * cfg.train.batch / cfg.optim.base_batch
    assert (rate, rate * cfg.model.backbone.lr_factor, rate * cfg.optim.final_factor) == pytest.approx(
        (5e-4, 1e-4, 1e-6)
    )
    assert (cfg.train.batch, cfg.train.epochs, cfg.optim.name, cfg.optim.clip_norm) == (32, 100, "adamw", 5.0)


@torch.no_grad()
def test_evaluation_stride_changes_the_grid_alone():
    torch.manual_seed(0)
    cfg = config("scale=smoke", "model.stride=16", "model.eval_stride=8")
    net = network(cfg).eval()
    fine = net(torch.zeros(1, 3, 129, 129))
    coarse_net = network(replace(cfg, model=replace(cfg.model, eval_stride=16))).eval()
    coarse_net.load_state_dict(net.state_dict())
    assert fine.seg_B1HW.shape[-1] == 17 and coarse_net(torch.zeros(1, 3, 129, 129)).seg_B1HW.shape[-1] == 9


def test_graphs():
    cfg = config()
    frame = Frame.of(cfg.model, (401, 401), COCO17)
    assert frame.m == 40 and frame.unit == 1 and frame.radius == 32 and frame.span == 400
    assert frame.edge_M2[0] == (0, 1) and frame.edge_M2[20] == (1, 0) and frame.edge_M2[16:20] == (
        (5, 6), (11, 12), (3, 5), (4, 6),
    )  # fmt: skip
    order = frame.flip_M()
    assert sorted(order) == list(range(40)) and [order[i] for i in order] == list(range(40))
    assert sum(frame.high_variance_K) == 8
    assert Frame.of(replace(cfg.model, graph="tree"), (401, 401), COCO17).m == 32
    assert Frame.of(replace(cfg.model, graph="limbs"), (201, 161), COCO17).unit == 0.5


def test_k5_uses_its_limbs():
    from drawn_batch import FIVE

    from repose.config import Layer, load
    from repose.errors import UserError

    cfg = load("kdc/r101", [], find_paper=papers.get, row=[Layer("test", {"skeleton": FIVE})]).cfg
    assert Frame.of(cfg.model, (401, 401), cfg.joint_set()).m == 8
    with pytest.raises(UserError, match="kdc_tree"):
        Frame.of(replace(cfg.model, graph="tree"), (401, 401), cfg.joint_set())
    bare = replace(cfg.joint_set(), limbs=())
    with pytest.raises(UserError, match="has no limbs"):
        Frame.of(cfg.model, (401, 401), bare)
