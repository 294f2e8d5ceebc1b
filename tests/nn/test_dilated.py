"""Dilated ResNets."""

import pytest
import timm
import torch
import torchvision

from repose.errors import UserError
from repose.nn.backbones import dilated_resnet

IMAGE = torch.randn(1, 3, 97, 65, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def other():
    torch.manual_seed(0)
    return {
        stride: torchvision.models.resnet50(replace_stride_with_dilation=dilate).eval()
        for stride, dilate in {16: [False, False, True], 8: [False, True, True]}.items()
    }


def last(net, x):
    for name in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"):
        x = getattr(net, name)(x)
    return x


@torch.no_grad()
def test_both_output_strides_are_torchvisions_of_the_same_weights(other):
    net = dilated_resnet("resnet50", 16, 8)
    state = {k: v for k, v in other[16].state_dict().items() if not k.startswith("fc")}
    net.body.load_state_dict(state)
    other[8].load_state_dict(other[16].state_dict())
    net.train()
    for m in net.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.eval()
    assert net.stride == 16
    fine, deep = net(IMAGE)
    assert fine.shape == (1, 256, 25, 17) and deep.shape == (1, 2048, 7, 5)
    assert torch.equal(deep, last(other[16], IMAGE))
    net.eval()
    assert net.stride == 8
    deep = net(IMAGE)[1]
    assert deep.shape == (1, 2048, 13, 9)
    assert torch.equal(deep, last(other[8], IMAGE))


def test_frozen_batch_norms_do_not_move():
    net = dilated_resnet("resnet18", 16, 8, width=0.25)
    net.freeze_bn()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    net.train()
    net(IMAGE)[1].sum().backward()
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms and all(not m.training and m.weight.grad is None for m in norms)


def test_width_and_weights(tmp_path):
    assert dilated_resnet("resnet18", 8, 8, width=0.25).channels == (16, 128)
    torch.manual_seed(1)
    file, classifier = tmp_path / "w.pth", timm.create_model("resnet18", num_classes=10).state_dict()
    torch.save(classifier, file)
    state = dilated_resnet("resnet18", 16, 8, weights=str(file)).state_dict()
    assert all(torch.equal(v, classifier[k.removeprefix("body.")]) for k, v in state.items())
    with pytest.raises(UserError, match="width 1 only"):
        dilated_resnet("resnet18", 16, 8, weights=str(file), width=0.5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet1O1", "did you mean"),
        ("cspnext_tiny", "no ResNet that can be dilated"),
        ("resnet10t", "other layers at output stride 8"),
    ],
)
def test_what_cannot_be_dilated(name, message):
    with pytest.raises(UserError, match=message):
        dilated_resnet(name, 16, 8)
