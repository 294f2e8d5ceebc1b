"""DRP-Net's network: sizes, costs, switches of the graph, gradients."""

from dataclasses import replace

import pytest
import torch

from repose.errors import UserError
from repose.metrics.cost import count
from repose.papers.drpnet.config import Backbone, Coarse, Head, Model, Neck, Roi
from repose.papers.drpnet.model import DRPNet, RefineHead

TINY = Model(backbone=Backbone("cspnext_tiny"), head=Head(width=8))
M = Model(backbone=Backbone("cspnext_m"))


def parameters(net):
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    ("size", "params", "macs", "macs_192"),
    [
        ("s", 7_027_459, 858.94e6, 573.2e6),
        ("m", 15_043_579, 2155.79e6, 1332.3e6),
        pytest.param("l", 29_048_787, 4449.36e6, 2663.6e6, marks=pytest.mark.slow),
    ],
)
def test_sizes_of_the_specification(size, params, macs, macs_192):
    net = DRPNet(Model(backbone=Backbone(f"cspnext_{size}")), 17).eval()
    assert parameters(net) == params
    cost = count(net, torch.zeros(1, 3, 256, 192))
    assert cost.params == params and cost.macs == pytest.approx(macs, rel=0.005)
    assert not cost.unsupported
    assert count(net, torch.zeros(1, 3, 192, 144)).macs == pytest.approx(macs_192, rel=0.005)


def test_parts_of_m():
    net = DRPNet(M, 17)
    assert parameters(net.backbone) == 12_279_432
    assert parameters(net.neck) == 139_008
    assert parameters(net.fc) == 3_298
    assert net.head is not None and parameters(net.head) == 2_621_841


def test_table_3_steps():
    macs = {}
    for size in (5, 7, 9):
        net = DRPNet(replace(M, roi=Roi(size=size)), 17).eval()
        macs[size] = count(net, torch.zeros(1, 3, 256, 192)).macs / 1e9
    assert macs[5] == pytest.approx(2.050, rel=0.005) and macs[9] == pytest.approx(2.296, rel=0.005)
    assert macs[7] - macs[5] == pytest.approx(0.1055, abs=0.0005)
    assert macs[9] - macs[7] == pytest.approx(0.1407, abs=0.0005)


@pytest.mark.parametrize(
    ("share", "head"), [("shared", 258_433), ("kp_final", 260_497), ("hybrid", 2_621_841), ("per_kp", 4_393_361)]
)
def test_share_of_the_head(share, head):
    """M totals 12.68 / 12.68 / 15.04 / 16.82 M."""
    # 3x3 convs of 96 x 128 x 9 + 128 = 110 720 and 147 584 parameters, a 1x1 of 129; the own ones 17 times
    assert parameters(RefineHead(Head(share=share), Roi(), 96, 17)) == head
    total = 12_279_432 + 139_008 + 3_298 + head
    assert total / 1e6 == pytest.approx(
        {"shared": 12.68, "kp_final": 12.68, "hybrid": 15.04, "per_kp": 16.82}[share], abs=0.005
    )


def test_coarse_only_of_m():
    net = DRPNet(replace(M, head=Head(enabled=False)), 17).eval()
    assert parameters(net) / 1e6 == pytest.approx(12.422, abs=0.0005)
    assert count(net, torch.zeros(1, 3, 256, 192)).macs / 1e9 == pytest.approx(1.940, rel=0.005)
    out = net(torch.zeros(2, 3, 64, 48))
    assert not out.refined and out.heatmap_BKHW.shape == (2, 17, 0, 0)


def test_caption_preset():
    net = DRPNet(replace(M, neck=Neck(width=256), head=Head(share="shared")), 17)
    assert parameters(net) / 1e6 == pytest.approx(13.10, abs=0.005)


@pytest.mark.parametrize("share", ["shared", "kp_final", "hybrid", "per_kp"])
@pytest.mark.parametrize("up", [1, 2])
def test_grouped_head_equals_a_loop(share, up):
    torch.manual_seed(0)
    k, width, d, b = 5, 6, 4, 3
    head = RefineHead(Head(share=share, width=d), Roi(size=7, up=up), width, k)
    torch.nn.init.normal_(head.last.weight)
    roi = torch.randn(b * k, width, 7, 7)
    got = head(roi)
    roi_BK = roi.view(b, k, width, 7, 7)

    def pick(conv, i):
        """Weights of joint i."""
        if conv.groups == 1:
            return conv.weight, conv.bias
        n = conv.out_channels // k
        return conv.weight[i * n : (i + 1) * n], conv.bias[i * n : (i + 1) * n]

    for i in range(k):
        x = torch.relu(torch.nn.functional.conv2d(roi_BK[:, i], *pick(head.conv1, i), padding=1))
        x = torch.relu(torch.nn.functional.conv2d(x, *pick(head.conv2, i), padding=1))
        if up > 1:
            x = torch.nn.functional.interpolate(x, scale_factor=up, mode="bilinear", align_corners=False)
        x = torch.nn.functional.conv2d(x, *pick(head.last, i))
        torch.testing.assert_close(got[:, i], x[:, 0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("model", "map_hw", "width"),
    [
        (TINY, (24, 18), 48),
        (replace(TINY, neck=Neck(width=20)), (24, 18), 20),
        (replace(TINY, neck=Neck(levels=(2, 3, 4), stride=8)), (12, 9), 48),
        (replace(TINY, neck=Neck(levels=(3, 4), stride=16)), (6, 5), 48),
        (replace(TINY, neck=Neck(levels=(3, 4), stride=4)), (24, 18), 48),
        (replace(TINY, neck=Neck(levels=(1, 2, 3))), (24, 18), 48),
        (replace(TINY, neck=Neck(levels=(1, 2, 3)), coarse=Coarse(source="top")), (24, 18), 48),
        (replace(TINY, roi=Roi(size=5, up=2)), (24, 18), 48),
        (replace(TINY, roi=Roi(size=9, up=4)), (24, 18), 48),
    ],
)
def test_switches_of_the_graph(model, map_hw, width):
    """96x72, whose last stage is 3x3 (72 / 32 rounded up): sizes that do not halve exactly."""
    net = DRPNet(model, 5).eval()
    features = net.features(torch.zeros(2, 3, 96, 72))
    assert features.fused_BWHW.shape == (2, width, *map_hw)
    assert net.fc.in_features == (384 if model.coarse.source == "top" else width)
    out = net(torch.zeros(2, 3, 96, 72))
    cells = model.roi.size * model.roi.up
    assert out.heatmap_BKHW.shape == (2, 5, cells, cells) and out.coarse_BK2.shape == (2, 5, 2)


def test_coarse_points_start_in_the_middle_in_input_pixels():
    torch.manual_seed(0)
    out = DRPNet(TINY, 17).eval()(torch.zeros(1, 3, 96, 72))
    assert (out.coarse_BK2 - torch.tensor([36.0, 48.0])).abs().max() < 12


def test_centres_are_clamped_for_the_roi_alone():
    net = DRPNet(TINY, 2).eval()
    features = net.features(torch.zeros(1, 3, 96, 72))
    far = torch.tensor([[[-50.0, 10.0], [500.0, 500.0]]], requires_grad=True)
    out = net.refine(features, far, far)
    assert torch.equal(out.coarse_BK2, far)
    assert out.centre_BK2.tolist() == [[[0, 10], [4 * 17, 4 * 23]]]
    assert not out.centre_BK2.requires_grad


def test_coordinates_stay_in_float32_under_autocast():
    torch.manual_seed(0)
    net = DRPNet(replace(TINY, coarse=Coarse(init_std=1.0)), 17).eval()
    image = torch.randn(2, 3, 96, 72)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = net.features(image)
        assert features.fused_BWHW.dtype == torch.bfloat16
        coarse = net.coarse(features, (72, 96))
        out = net.refine(features, coarse, coarse)
    assert coarse.dtype == torch.float32 and out.centre_BK2.dtype == torch.float32
    pooled = features.fused_BWHW.float().mean((2, 3))
    want = net.fc(pooled).view(2, 17, 2) * torch.tensor([72.0, 96.0])
    torch.testing.assert_close(coarse, want, atol=1e-3, rtol=0)
    assert (coarse - coarse.bfloat16().float()).abs().max() > 1e-3  # what half precision would lose


def test_settings_that_contradict_are_refused():
    with pytest.raises(UserError, match=r"set model.neck.levels=\[2, 3, 4\]"):
        Model(neck=Neck(stride=8))
    with pytest.raises(UserError, match="odd number of cells"):
        Model(roi=Roi(size=6))
    with pytest.raises(UserError, match="each once"):
        Model(neck=Neck(levels=(1, 1)))
