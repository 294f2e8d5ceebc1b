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
from torch import Tensor, nn

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
    info: Any = body.feature_info
    return Backbone(body, tuple(info.channels()), tuple(info.reduction()))


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
    return {"feature_location": ""} if name.startswith("hrnet") else {}


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


def _check_weights(name: str, weights: str) -> None:
    """Every tensor of the backbone must be in the file: timm itself would silently leave missing ones at random."""
    if not Path(weights).is_file():
        raise UserError(f"model.backbone.weights={weights}: no such file")
    try:
        state = read_weights(weights)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"model.backbone.weights={weights}: not a readable weight file: {reason}") from None
    with torch.device("meta"):
        body = timm.create_model(name, num_classes=0)
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
