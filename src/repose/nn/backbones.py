"""Backbones: timm behind one function. Any timm model with feature maps at strides 4, 8, 16, 32 will do.

Shapes: B images, C channels, H W at each map's stride.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import load_state_dict as read_weights
from timm.models import model_entrypoint
from timm.models.hrnet import HighResolutionNetFeatures
from torch import Tensor, nn
from torch.nn import functional as F

from repose.config import nearest
from repose.errors import UserError

STRIDES = (4, 8, 16, 32)
"""[pixels] of levels 1 to 4."""


class Backbone(nn.Module):
    """Feature maps of a timm model.

    Attributes:
        channels: of each map, level 1 first.
        strides: input pixels per cell of each map: 4, 8, ...
    """

    def __init__(self, body: nn.Module, channels: tuple[int, ...], strides: tuple[int, ...]) -> None:
        super().__init__()
        self.body = body
        self.channels = channels
        self.strides = strides

    def forward(self, image_B3HW: Tensor) -> list[Tensor]:
        """Maps (B, C_i, ceil(H / s_i), ceil(W / s_i)), finest first."""
        return self.body(image_B3HW)


def backbone(name: str, pretrained: bool = False, weights: str | None = None, levels: int = 4) -> Backbone:
    """A timm backbone with maps at strides 4, 8, 16, 32.

    HRNets give their four branches as pose networks use them (32, 64, 128, 256 channels for W32), not the wider maps
    that timm's classifier makes of them.

    Args:
        name: timm model name (`timm.list_models()`), with or without a weight tag.
        pretrained: timm's ImageNet weights, fetched once.
        weights: weight file (timm's or, for CSPNeXt, OpenMMLab's format); wins over `pretrained`.
        levels: how many maps, 1 to 4; later layers are not built.

    Raises:
        UserError: an unknown name (names the nearest), other strides, no network for `pretrained`, or a weight file
            that is missing, unreadable, or lacks a tensor of the backbone.
    """
    _check_name(name)
    if weights is not None:
        _check_weights(name, weights)
    body = _features(name, pretrained, weights, levels)
    _drop_branches(body, levels)
    info: Any = body.feature_info
    return Backbone(body, tuple(info.channels()), tuple(info.reduction()))


class DilatedResNet(nn.Module):
    """The stride-4 map and the last map of a ResNet whose output stride is one in training and one in evaluation.

    Stages beyond the output stride keep their map's size and dilate their convolutions instead, so the weights serve
    every output stride.

    Attributes:
        channels: of the two maps.
        stride: input pixels per cell of the last map, in the present mode.
    """

    def __init__(self, bodies: dict[int, nn.Module], channels: tuple[int, int], strides: tuple[int, int]) -> None:
        """Build it.

        Args:
            bodies: the same network by output stride; the training one's weights are used.
            channels: of the two maps.
            strides: output stride in training and in evaluation.
        """
        super().__init__()
        self.body = bodies[strides[0]]
        self.channels = channels
        self._strides = strides
        self._layout = {stride: _layout(body) for stride, body in bodies.items()}
        self._frozen = False
        self.stride = strides[0]

    def freeze_bn(self) -> None:
        """Keep batch norms as they are, in training too."""
        self._frozen = True
        for module in _norms(self.body):
            module.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> DilatedResNet:
        """Change the mode, and with it the output stride."""
        super().train(mode)
        self.stride = self._strides[0] if mode else self._strides[1]
        layout = self._layout[self.stride]
        for name, module in self.body.named_modules():
            if name in layout:
                conv: Any = module
                conv.stride, conv.padding, conv.dilation = layout[name]
        if self._frozen:
            for module in _norms(self.body):
                module.eval()
        return self

    def forward(self, image_B3HW: Tensor) -> list[Tensor]:
        """Maps (B, C_1, ceil(H / 4), ceil(W / 4)) and (B, C_4, ceil(H / stride), ceil(W / stride))."""
        return self.body(image_B3HW)


def dilated_resnet(
    name: str,
    stride: int,
    eval_stride: int,
    pretrained: bool = False,
    weights: str | None = None,
    width: float = 1.0,
) -> DilatedResNet:
    """A timm ResNet with an output stride of 8, 16 or 32, in training and evaluation separately.

    Args:
        name: timm model name of a ResNet.
        stride: output stride in training.
        eval_stride: output stride in evaluation.
        pretrained: timm's ImageNet weights, fetched once.
        weights: weight file; wins over `pretrained`.
        width: factor of the stages' channels; 1 with ImageNet weights.

    Raises:
        UserError: an unknown name, no ResNet, a network that needs other layers at another output stride, or weights
            as `backbone` refuses them.
    """
    _check_name(name)
    if width != 1 and (pretrained or weights is not None):
        raise UserError(f"model.backbone.width={width}: ImageNet weights fit width 1 only")
    if weights is not None:
        _check_weights(name, weights)
    bodies = {stride: _dilated(name, stride, pretrained, weights, width)}
    if eval_stride != stride:
        with torch.device("meta"):  # only its layout is read
            bodies[eval_stride] = _dilated(name, eval_stride, False, None, width)
    info: Any = bodies[stride].feature_info
    kinds = [[type(m).__name__ for m in body.modules()] for body in bodies.values()]
    if kinds[0] != kinds[-1]:
        raise UserError(
            f"model.backbone.name={name!r} needs other layers at output stride {eval_stride} than at {stride}; "
            "take a plain ResNet (resnet18 ... resnet152), or set model.eval_stride=model.stride"
        )
    fine, last = info.channels()
    return DilatedResNet(bodies, (fine, last), (stride, eval_stride))


def _dilated(name: str, stride: int, pretrained: bool, weights: str | None, width: float) -> nn.Module:
    options: dict[str, Any] = {"output_stride": stride, "out_indices": (1, 4), "features_only": True}
    options["zero_init_last"] = False  # timm's residual branches would start as zeros, without a gradient inside them
    if width != 1:
        options["channels"] = tuple(max(8, round(c * width)) for c in (64, 128, 256, 512))
    if weights is not None:
        options["pretrained_cfg_overlay"] = {"file": weights}
    try:
        body = timm.create_model(name, pretrained=pretrained or weights is not None, **options)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if weights is not None:
            raise UserError(f"model.backbone.weights={weights}: does not fit {name}: {reason}") from None
        if pretrained:
            raise UserError(
                f"model.backbone.pretrained=true: timm could not fetch the weights of {name} ({reason}); "
                "go online once, or give a file: model.backbone.weights=FILE"
            ) from None
        raise UserError(f"model.backbone.name={name!r} is no ResNet that can be dilated: {reason}") from None
    info: Any = body.feature_info
    if tuple(info.reduction()) != (4, stride):
        raise UserError(
            f"model.backbone.name={name!r}: its maps have strides {tuple(info.reduction())}, needed are {(4, stride)}"
        )
    return body


_Conv = tuple[Any, Any, Any]


def _layout(body: nn.Module) -> dict[str, _Conv]:
    """Stride, padding and dilation of every convolution, by name."""
    return {n: (m.stride, m.padding, m.dilation) for n, m in body.named_modules() if isinstance(m, nn.Conv2d)}


def _norms(body: nn.Module) -> list[nn.Module]:
    return [m for m in body.modules() if isinstance(m, nn.BatchNorm2d)]


def _check_name(name: str) -> None:
    if timm.is_model(name):
        return
    hint = nearest(name.partition(".")[0], timm.list_models())
    fix = (
        f"did you mean {' or '.join(map(repr, hint))}?"
        if hint
        else "`python -c 'import timm; print(timm.list_models())'` lists them"
    )
    raise UserError(f"model.backbone.name={name!r} is not a timm model; {fix}")


def _options(name: str) -> dict[str, Any]:
    if name.startswith("hrnet"):
        return {"feature_location": ""}
    if model_entrypoint(name).__module__ == "timm.models.resnet":
        return {"zero_init_last": False}  # as torchvision and the pose code bases: no residual branch starts at zero
    return {}


def _features(name: str, pretrained: bool, weights: str | None, levels: int) -> nn.Module:
    """The features-only model whose maps have strides 4, 8, ...: index 0 is a stride-2 stem in some models only."""
    loading: dict[str, Any] = {"pretrained": pretrained or weights is not None}
    if weights is not None:
        loading["pretrained_cfg_overlay"] = {"file": weights}
    seen: list[str] = []
    for first in (1, 0):
        indices = tuple(range(first, first + levels))
        try:
            body = timm.create_model(name, features_only=True, out_indices=indices, **_options(name), **loading)
        except (IndexError, AssertionError, ValueError):
            continue  # fewer maps than that
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            if weights is not None:
                raise UserError(f"model.backbone.weights={weights}: does not fit {name}: {reason}") from None
            if pretrained:
                raise UserError(
                    f"model.backbone.pretrained=true: timm could not fetch the weights of {name} ({reason}); "
                    "go online once, or give a file: model.backbone.weights=FILE"
                ) from None
            raise UserError(f"model.backbone.name={name!r}: timm cannot give its feature maps: {reason}") from None
        info: Any = body.feature_info
        strides = tuple(info.reduction())
        if strides == STRIDES[:levels]:
            return body
        seen.append(str(strides))
    raise UserError(
        f"model.backbone.name={name!r}: its feature maps have strides {' or '.join(seen) or 'unknown to timm'}; "
        f"needed are {STRIDES[:levels]}"
    )


def _drop_branches(body: nn.Module, levels: int) -> None:
    """An HRNet's last fusion makes all four branches; the layers of those that nobody reads are not kept."""
    if isinstance(body, HighResolutionNetFeatures):
        last: Any = body.stage4[-1]
        last.fuse_layers = last.fuse_layers[:levels]


def _check_weights(name: str, weights: str) -> None:
    """Every tensor of the backbone must be in the file: timm itself would silently leave missing ones at random."""
    if not Path(weights).is_file():
        raise UserError(f"model.backbone.weights={weights}: no such file")
    try:
        state = read_weights(weights)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"model.backbone.weights={weights}: not a readable weight file: {reason}") from None
    # Files of pose networks lack the layers that HRNet's classifier adds to the branches.
    branches: dict[str, Any] = {"head": "none"} if name.startswith("hrnet") else {}
    with torch.device("meta"):
        body = timm.create_model(name, num_classes=0, **branches)
    module = sys.modules[model_entrypoint(name).__module__]
    convert = getattr(module, "checkpoint_filter_fn", None)
    if convert is not None:
        state = convert(state, body)
    # BN's step counter is absent from old checkpoints and of no consequence.
    missing = [k for k in body.state_dict() if k not in state and not k.endswith("num_batches_tracked")]
    if missing:
        raise UserError(
            f"model.backbone.weights={weights}: lacks {len(missing)} tensors of {name}, first {missing[0]!r}; "
            "is it a file of another model?"
        )
    for key, tensor in body.state_dict().items():
        if key in state and tuple(state[key].shape) != tuple(tensor.shape):
            raise UserError(
                f"model.backbone.weights={weights}: {key!r} is {tuple(state[key].shape)}, "
                f"that of {name} is {tuple(tensor.shape)}"
            )


def concatenated(maps: list[Tensor]) -> Tensor:
    """All maps at the finest one's size, channel by channel: F of DEKR and PINet (bilinear, half-pixel centres).

    Args:
        maps: (B, C_i, H_i, W_i), finest first.

    Returns:
        (B, sum of C_i, H_1, W_1).
    """
    size = maps[0].shape[-2:]
    coarser = [F.interpolate(m, size=size, mode="bilinear", align_corners=False) for m in maps[1:]]
    return torch.cat([maps[0], *coarser], dim=1)
