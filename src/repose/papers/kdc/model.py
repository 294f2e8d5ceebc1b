"""The network of KDC: a dilated ResNet and six 1x1 heads on its last map (or on a stride-4 map that joins the first).

The heads are computed as one convolution, whose channels are split.

Shapes: B images, K joints, M directed edges, C channels, H W cells.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from repose.nn.backbones import dilated_resnet
from repose.ops.grids import resample
from repose.papers.kdc.config import Model

SIGMA = 0.1
"""[U] sigma_j at the start, and of all instances where it is not learnt."""
_LOG_BETA = (math.log(2.0), math.log(5000.0))
"""Limits of b = log(1 / (2 sigma^2)): sigma from 0.5 to 0.01 U."""
_STD = 0.001
"""Of the heads' weights at the start."""
_FINE, _WIDE = 48, 256
"""Channels of the stride-4 decoder."""


class Outputs(NamedTuple):
    """What the network predicts; heads that the settings leave out have 0 channels.

    Attributes:
        heatmap_BKHW: logits of p_k (§3.1).
        keycentroid_BJHW: (B, 2 K), dx and dy of each joint in units of R (§3.2).
        midrange_BEHW: (B, 2 M), dx and dy along each directed edge in units of R.
        seg_B1HW: person logit (Fig. 1g).
        embed_B2HW: v of e(p) = p / U + v, in units of U (§3.3, Eq. 5).
        bandwidth_B1HW: b = log(1 / (2 sigma^2)), sigma in units of U (Eq. 6).
        attention_K: a_k of `center_mode=keypoint`, else zeros.
    """

    heatmap_BKHW: Tensor
    keycentroid_BJHW: Tensor
    midrange_BEHW: Tensor
    seg_B1HW: Tensor
    embed_B2HW: Tensor
    bandwidth_B1HW: Tensor
    attention_K: Tensor


def log_beta(sigma: float) -> float:
    """The bandwidth b = log(1 / (2 sigma^2)) of a sigma, in units of U."""
    return -math.log(2 * sigma**2)


_PRIOR = {"heatmap": -3.9, "seg": -1.1, "bandwidth": log_beta(SIGMA)}
"""Biases at the start: logits of how often a pixel is positive (a disk covers 2 % of the frame), and b of SIGMA."""


class KDC(nn.Module):
    """PoseNet (the first three heads) and SegNet (the last three) on one backbone (KDC, Fig. 2).

    Attributes:
        channels: of each head, in their order in `heads`.
    """

    def __init__(self, cfg: Model, k: int, m: int) -> None:
        """Build it for k joints and m directed edges."""
        super().__init__()
        self.cfg = cfg
        self.k = k
        b = cfg.backbone
        self.backbone = dilated_resnet(b.name, cfg.stride, cfg.eval_stride, b.pretrained, b.weights, b.width)
        if b.freeze_bn and (b.pretrained or b.weights is not None):
            self.backbone.freeze_bn()
        fine, last = self.backbone.channels
        self.decoder = Skip4(fine, last) if cfg.decoder == "skip4" else None
        self.channels = {"heatmap": k}
        if cfg.use_kc:
            self.channels["keycentroid"] = 2 * k
        if cfg.grouping == "midrange":
            self.channels["midrange"] = 2 * m
        self.channels |= {"seg": 1, "embed": 2}
        if cfg.bandwidth:
            self.channels["bandwidth"] = 1
        self.heads = nn.Conv2d(_WIDE if self.decoder else last, sum(self.channels.values()), 1)
        nn.init.normal_(self.heads.weight, std=_STD)
        with torch.no_grad():
            assert self.heads.bias is not None
            for name, bias in zip(self.channels, self.heads.bias.split(list(self.channels.values())), strict=True):
                bias.fill_(_PRIOR.get(name, 0.0))
        self.attention = nn.Parameter(torch.zeros(k)) if cfg.center_mode == "keypoint" else None

    @property
    def stride(self) -> int:
        """Input pixels per cell of the outputs, in the present mode."""
        return 4 if self.decoder is not None else self.backbone.stride

    def forward(self, image_B3HW: Tensor) -> Outputs:
        """Maps at `stride`, (B, C, ceil(H / stride), ceil(W / stride))."""
        fine, feature = self.backbone(image_B3HW)  # strides 4 and 16 (8 in evaluation)
        if self.decoder is not None:
            feature = self.decoder(fine, feature, self.backbone.stride, image_B3HW.shape[-2:])  # stride 4
        maps = dict(zip(self.channels, self.heads(feature).split(list(self.channels.values()), dim=1), strict=True))
        none = feature[:, :0]
        if "bandwidth" in maps:
            bandwidth = maps["bandwidth"].clamp(*_LOG_BETA)
        else:
            bandwidth = torch.full_like(maps["seg"], log_beta(SIGMA))
        return Outputs(
            maps["heatmap"],
            maps.get("keycentroid", none),
            maps.get("midrange", none),
            maps["seg"],
            maps["embed"],
            bandwidth,
            feature.new_zeros(self.k) if self.attention is None else self.attention,
        )


class Skip4(nn.Module):
    """A light decoder: the last map at stride 4 beside the first stage. Differs from the paper, which has none."""

    def __init__(self, fine: int, last: int) -> None:
        super().__init__()
        self.last = _conv_bn(last, _WIDE, 1)
        self.fine = _conv_bn(fine, _FINE, 1)
        self.mix = nn.Sequential(_separable(_WIDE + _FINE, _WIDE), _separable(_WIDE, _WIDE))

    def forward(self, fine: Tensor, last: Tensor, stride: int, input_hw: tuple[int, int]) -> Tensor:
        """(B, 256, ceil(H / 4), ceil(W / 4))."""
        return self.mix(torch.cat([resample(self.last(last), stride, 4, input_hw), self.fine(fine)], dim=1))


def _conv_bn(inside: int, outside: int, kernel: int, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inside, outside, kernel, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outside), nn.ReLU(inplace=True))


def _separable(inside: int, outside: int) -> nn.Sequential:
    return nn.Sequential(_conv_bn(inside, inside, 3, groups=inside), _conv_bn(inside, outside, 1))
