"""Counts against hand-computed ones, torch's own counter, and published sizes."""

import io
import json
import logging
import warnings

import pytest
import timm
import torch
from rich.console import Console
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from torchvision.ops import deform_conv2d, roi_align

from repose.errors import UserError
from repose.metrics.cost import BY_OP, count, render


class Of(nn.Module):
    """A function as a network."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def of(function, *shape):
    return count(Of(function), torch.zeros(1, *shape)).by_op


def torchs(net, example):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.eval()(example)
    return counter.get_total_flops()


def test_layers_by_hand():
    def only(layer, *shape):
        return {k: v for k, v in count(layer, torch.zeros(1, *shape)).by_op.items() if v}

    assert only(nn.Conv2d(3, 8, 3, padding=1), 3, 16, 16) == {"conv": 3 * 8 * 9 * 16 * 16}
    assert only(nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=4), 8, 16, 16) == {"conv": 2 * 8 * 9 * 8 * 8}
    assert only(nn.ConvTranspose2d(6, 4, 4, 2, 1, groups=2), 6, 8, 8) == {"deconv": 6 * 2 * 16 * 8 * 8}
    assert only(nn.Linear(10, 7), 10) == {"linear": 70}
    assert only(nn.BatchNorm2d(5), 5, 4, 4) == {"norm": 160}  # fvcore: a scale and a shift per value
    assert only(nn.Upsample(scale_factor=2), 3, 4, 4) == {"upsample": 192}
    assert only(nn.Upsample(scale_factor=2, mode="bilinear"), 3, 4, 4) == {"upsample": 768}
    assert only(nn.Upsample(scale_factor=2, mode="bicubic"), 3, 4, 4) == {"upsample": 3072}
    assert only(nn.AdaptiveAvgPool2d(1), 3, 4, 4) == {"other": 48}


def test_operations_that_fvcore_takes_for_nothing():
    boxes = torch.tensor([[0.0, 0, 0, 4, 4], [0, 2, 2, 8, 8], [0, 1, 1, 5, 5]])
    for ratio, r in ((1, 1), (3, 3), (-1, 2)):
        by_op = of(lambda x, ratio=ratio: roi_align(x, boxes, (7, 7), sampling_ratio=ratio, aligned=True), 6, 16, 16)
        assert by_op["roi_align"] == 4 * 6 * 7**2 * r**2 * 3
    weight, offset = torch.zeros(8, 2, 3, 3), torch.zeros(1, 18, 14, 14)
    assert of(lambda x: deform_conv2d(x, offset, weight), 4, 16, 16)["deform"] == 8 * 14 * 14 * 2 * 9
    key, value = torch.zeros(1, 2, 50, 16), torch.zeros(1, 2, 50, 24)
    by_op = of(lambda x: F.scaled_dot_product_attention(x, key, value), 2, 40, 16)
    assert by_op["attention"] == 2 * 40 * 50 * (16 + 24)
    assert by_op["linear"] == 0


def test_attention_agrees_with_torch():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.out = nn.Linear(32, 96), nn.Linear(32, 32)

        def forward(self, x):
            q, k, v = self.qkv(x).view(1, -1, 3, 4, 8).permute(2, 0, 3, 1, 4)
            return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    net, example = Block(), torch.zeros(1, 64, 32)
    cost = count(net, example)
    assert cost.by_op["attention"] == 4 * 64 * 64 * 16
    assert torchs(net, example) == 2 * cost.macs


def test_an_unknown_operation_is_an_error():
    with pytest.raises(
        UserError, match=r"nobody counts aten::fft_fft2, aten::real; give it a handle in metrics/cost\.py"
    ):
        of(lambda x: torch.fft.fft2(x).real, 3, 8, 8)
    with pytest.raises(UserError, match="aten::lstm"):
        count(nn.LSTM(8, 8, batch_first=True), torch.zeros(1, 5, 8))
    cost = count(Of(lambda x: F.silu(torch.fft.fft2(x).real)), torch.zeros(1, 3, 8, 8), strict=False)
    assert "aten::fft_fft2" in cost.unsupported and cost.free == {"aten::silu": 1}


def test_activations_and_copies_are_free():
    def forward(x):
        x = F.max_pool2d(F.gelu(F.silu(x)).sigmoid() * x + x, 2)
        x = F.pixel_shuffle(x, 2).flatten(1).softmax(-1)
        return x.topk(3).values

    cost = count(Of(forward), torch.zeros(1, 4, 8, 8))
    assert cost.macs == 0 and cost.unsupported == [] and cost.free["aten::topk"] == 1


class Tiny(nn.Module):
    """A list that is never called, frozen parts, and a shared layer."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.heads = nn.ModuleList([nn.Conv2d(4, 2, 1), nn.Conv2d(4, 3, 1)])
        self.ups = nn.ModuleList([nn.Upsample(scale_factor=2)])
        self.idle = nn.Linear(5, 5)

    def forward(self, x):
        x = self.ups[0](self.stem(x))
        return torch.cat([head(x) for head in self.heads], dim=1)


def test_modules_and_json():
    cost = count(Tiny(), torch.zeros(1, 3, 8, 6))
    conv, norm, up, heads = 3 * 4 * 9 * 48, 2 * 4 * 48, 4 * 192, (8 * 192, 12 * 192)
    assert cost.macs == conv + norm + up + sum(heads)
    assert cost.modules["stem"] == {"params": 108 + 8, "macs": conv + norm}
    assert cost.modules["heads"] == {"params": 10 + 15, "macs": sum(heads)}
    assert cost.modules["heads.1"]["macs"] == heads[1] and cost.modules["ups"] == {"params": 0, "macs": up}
    assert cost.modules["idle"] == {"params": 30, "macs": 0}
    assert cost.modules[""] == {"params": cost.params, "macs": cost.macs} and cost.params == 171
    assert cost.input_size == (8, 6) and cost.params_mi == 171 / 2**20
    said = json.loads(json.dumps(cost.to_json()))
    assert said["params"] == 171 and said["params_mi"] == cost.params_mi and said["input_size"] == [8, 6]
    assert set(said) >= {"params", "params_mi", "macs", "by_op", "input_size", "unsupported", "modules"}
    assert tuple(said["by_op"]) == BY_OP and said["unsupported"] == []
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(render(cost))
    text = console.export_text()
    assert "heads: 0.000 M parameters" in text and "conv 0.0 M" in text


def test_no_side_effects(capsys, caplog):
    net = Tiny().train()
    net.stem[1].eval()  # frozen statistics
    modes = [m.training for m in net.modules()]
    state = {k: v.clone() for k, v in net.state_dict().items()}
    drawn = torch.random.get_rng_state()
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings():
        warnings.simplefilter("error")
        count(net, torch.ones(1, 3, 8, 8))
        with pytest.raises(UserError):
            count(Of(torch.fft.fft2), torch.ones(1, 3, 8, 8))
    assert [m.training for m in net.modules()] == modes
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert capsys.readouterr() == ("", "") and not [r for r in caplog.records if "fvcore" in r.name]
    with pytest.raises(ValueError, match="one image; the example is a batch of 2"):
        count(net, torch.ones(2, 3, 8, 8))


def test_resnet50():
    net, example = timm.create_model("resnet50", pretrained=False), torch.zeros(1, 3, 224, 224)
    cost = count(net, example)
    assert cost.params == 25_557_032
    assert (cost.by_op["conv"] + cost.by_op["linear"]) / 1e9 == pytest.approx(4.0892, abs=5e-5)
    assert cost.by_op["conv"] / 1e9 == pytest.approx(4.0871, abs=5e-5)
    assert cost.macs / 1e9 == pytest.approx(4.1115, abs=5e-5)
    assert torchs(net, example) == 2 * (cost.by_op["conv"] + cost.by_op["linear"])


@pytest.mark.parametrize(
    ("size", "params", "gmacs"),
    [
        ("s", 4_378_320, 0.6498),
        ("m", 12_279_432, 1.8859),
        pytest.param("l", 26_138_912, 4.1068, marks=pytest.mark.slow),
    ],
)
def test_cspnext(size, params, gmacs):
    """DRP-Net's backbones at 256x192 (the specification's count)."""
    net = timm.create_model(f"cspnext_{size}", pretrained=False, features_only=True, out_indices=(1, 2, 3, 4))
    cost = count(net, torch.zeros(1, 3, 256, 192))
    assert cost.params == params
    assert cost.macs / 1e9 == pytest.approx(gmacs, abs=1e-4)
