"""The network of DEKR: backbone, heatmap branch, and an offset branch that is disentangled joint by joint.

Shapes: B images, K joints, C channels of F, D channels of one joint's branch, H W cells at stride 4. Maps are in cells
(targets.py has the map to pixels).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from repose.nn.backbones import backbone, concatenated
from repose.nn.blocks import ConvBN
from repose.ops.deform import deform_conv
from repose.papers.baselines.dekr.config import Model

_STD = 0.001
"""Of the convolutions' weights at the start (the release's)."""
_TAPS = 9


class Outputs(NamedTuple):
    """What the network predicts.

    Attributes:
        heat_BJHW: heatmaps of the K joints, then of the centre (J = K + 1).
        offset_BDHW: (B, 2 K, H, W) cell minus joint, cells; joint by joint, x before y. float32.
    """

    heat_BJHW: Tensor
    offset_BDHW: Tensor


class DEKR(nn.Module):
    """Heatmaps and offsets from one map F (DEKR's network)."""

    stride = 4

    def __init__(self, cfg: Model, k: int) -> None:
        super().__init__()
        self.backbone = backbone(cfg.backbone.name, cfg.backbone.pretrained, cfg.backbone.weights)
        channels = sum(self.backbone.channels)
        width, d = cfg.heat_width, cfg.joint_width
        self.heat = nn.Sequential(ConvBN(channels, width), nn.ReLU(), BasicBlock(width), nn.Conv2d(width, k + 1, 1))
        self.split = nn.Sequential(ConvBN(channels, k * d), nn.ReLU())
        self.joints = nn.Sequential(*(AdaptiveBlock(k, d, cfg.adaptive) for _ in range(cfg.blocks)))
        self.offset = nn.Conv2d(k * d, 2 * k, 1, groups=k)  # one D -> 2 for each joint
        for branch in (self.heat, self.split, self.offset):
            branch.apply(_init)

    def forward(self, image_B3HW: Tensor) -> Outputs:
        """Heatmaps and offsets; the offsets in float32 always: bfloat16 has steps of half a cell at 64 cells."""
        features = concatenated(self.backbone(image_B3HW))  # (B, C, H, W)
        heat = self.heat(features)  # (B, K + 1, H, W)
        x = self.split(features)  # (B, K D, H, W)
        with torch.autocast(x.device.type, enabled=False):
            offset = self.offset(self.joints(x.float()))  # (B, 2 K, H, W)
        return Outputs(heat, offset)


class BasicBlock(nn.Module):
    """ResNet's block of two 3x3 convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = ConvBN(width, width, 3), ConvBN(width, width, 3)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Same shape."""
        return F.relu(x_BCHW + self.conv2(F.relu(self.conv1(x_BCHW))))


class AdaptiveBlock(nn.Module):
    """A residual 3x3 convolution of each joint's own channels whose taps an affine map of each cell moves.

    Tap g of the 3x3 grid is read at A g + t from the cell, with a 2x2 matrix A and a shift t that two ordinary
    convolutions predict there; both start at zero, so at first every tap is read at the cell itself. All K joints are
    one grouped convolution, equal to K separate ones.
    """

    def __init__(self, k: int, d: int, adaptive: bool = True) -> None:
        super().__init__()
        self.k = k
        self.weight = nn.Parameter(torch.empty(k * d, d, 3, 3))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)  # PyTorch's default for convolutions
        self.bn = nn.BatchNorm2d(k * d)
        self.adaptive = adaptive
        if adaptive:
            self.matrix = nn.Conv2d(k * d, 4 * k, 3, padding=1, groups=k)
            self.shift = nn.Conv2d(k * d, 2 * k, 3, padding=1, groups=k)
            for conv in (self.matrix, self.shift):
                nn.init.zeros_(conv.weight)
                nn.init.zeros_(conv.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, K D, H, W), the same shape."""
        if self.adaptive:
            y = deform_conv(x_BCHW, self.tap_offsets(x_BCHW), self.weight, self.k)
        else:
            y = F.conv2d(x_BCHW, self.weight, padding=1, groups=self.k)
        return F.relu(x_BCHW + self.bn(y))

    def tap_offsets(self, x_BCHW: Tensor) -> Tensor:
        """How far each tap is read from where an ordinary convolution reads it, A g + t - g, cells.

        Returns:
            (B, K 9 2, H, W): joint by joint, tap by tap (rows first), y before x, as deform_conv wants it.
        """
        b, _, height, width = x_BCHW.shape
        step = torch.arange(-1, 2, device=x_BCHW.device, dtype=x_BCHW.dtype)
        tap_T21 = torch.stack(torch.meshgrid(step, step, indexing="ij"), dim=-1).view(_TAPS, 2, 1)  # y, x; rows first
        gy_T11, gx_T11 = tap_T21[:, :1], tap_T21[:, 1:]
        matrix = self.matrix(x_BCHW).view(b, self.k, 1, 2, 2, height * width)
        shift = self.shift(x_BCHW).view(b, self.k, 1, 2, height * width)
        offset = matrix[..., 0, :] * gy_T11 + matrix[..., 1, :] * gx_T11 + shift - tap_T21  # (B, K, 9, 2, H W)
        return offset.reshape(b, self.k * _TAPS * 2, height, width)


def _init(module: nn.Module) -> None:
    """The release's start of ordinary convolutions."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, std=_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
