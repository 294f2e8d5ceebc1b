"""The network of DRP-Net: backbone, neck, coarse regression, refinement head.

Shapes: B crops, K joints, C channels of a stage, W channels of F (`neck.width`), D channels of the head, S cells of
the ROI's side, f upsampling, H W at a map's stride. The coarse points and ROI centres are in input pixels (targets.py
has the map).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from repose.nn.backbones import STRIDES, backbone
from repose.nn.blocks import ConvBN, init_relu_conv
from repose.ops.roi import roi_sample
from repose.papers.drpnet.config import Head, Model, Roi
from repose.papers.drpnet.targets import clamp_centres

_MIDDLE = 1 / 2
"""Middle of the crop in shares of its size: where coarse points start."""
_LAST_STD = 0.001
"""Of the last 1x1 convolution's weights at the start."""


class Features(NamedTuple):
    """Maps of a batch: F, and the map that the coarse head pools (F itself unless `coarse.source=top`)."""

    fused_BWHW: Tensor
    pooled_BCHW: Tensor


class Outputs(NamedTuple):
    """What the network predicts.

    Attributes:
        coarse_BK2: coarse points, input pixels, float32 (§2.2).
        centre_BK2: centres of the ROIs, input pixels, detached and inside F.
        heatmap_BKHW: local heatmaps, (B, K, f S, f S) (§2.3); coarse-only networks give (B, K, 0, 0).
    """

    coarse_BK2: Tensor
    centre_BK2: Tensor
    heatmap_BKHW: Tensor

    @property
    def refined(self) -> bool:
        """Whether there is a refinement head."""
        return self.heatmap_BKHW.shape[-1] > 0


class DRPNet(nn.Module):
    """Coarse points by pooling and one linear layer, then a local heatmap around each (DRP-Net, Fig. 1, Alg. 1)."""

    def __init__(self, cfg: Model, k: int) -> None:
        super().__init__()
        self.cfg, self.k = cfg, k
        self.stride: int = cfg.neck.stride
        levels = 4 if cfg.coarse.source == "top" else max(cfg.neck.levels)
        self.backbone = backbone(cfg.backbone.name, cfg.backbone.pretrained, cfg.backbone.weights, levels)
        width = self.backbone.channels[0] if cfg.neck.width == "C1" else int(cfg.neck.width)
        self.neck = Neck(self.backbone.channels, cfg.neck.levels, width, cfg.neck.stride)
        self.fc = nn.Linear(self.backbone.channels[-1] if cfg.coarse.source == "top" else width, 2 * k)
        nn.init.normal_(self.fc.weight, std=cfg.coarse.init_std)
        nn.init.constant_(self.fc.bias, _MIDDLE)
        self.head = RefineHead(cfg.head, cfg.roi, width, k) if cfg.head.enabled else None

    def forward(self, image_B3HW: Tensor) -> Outputs:
        """All of Algorithm 1 but its arg max, with ROIs at the coarse points."""
        features = self.features(image_B3HW)
        coarse_BK2 = self.coarse(features, (image_B3HW.shape[-1], image_B3HW.shape[-2]))
        return self.refine(features, coarse_BK2, coarse_BK2)

    def features(self, image_B3HW: Tensor) -> Features:
        """The shared map F (§2.1, Eq. 2)."""
        maps = self.backbone(image_B3HW)  # (B, C_i, H / s_i, W / s_i), rounded up
        size_hw = (-(-image_B3HW.shape[-2] // self.stride), -(-image_B3HW.shape[-1] // self.stride))
        fused = self.neck(maps, size_hw)  # (B, W, H / s, W / s)
        return Features(fused, maps[-1] if self.cfg.coarse.source == "top" else fused)

    def coarse(self, features: Features, input_wh: tuple[int, int]) -> Tensor:
        """Coarse points in input pixels, (B, K, 2): global average pooling and one linear layer (§2.2, Eq. 3 and 4).

        In float32 always: bfloat16 would be off by a pixel at 200.
        """
        pooled = features.pooled_BCHW
        with torch.autocast(pooled.device.type, enabled=False):
            v_BC = F.adaptive_avg_pool2d(pooled.float(), 1).flatten(1)  # (B, C)
            p_BK2 = self.fc(v_BC).view(-1, self.k, 2)  # (B, 2 K) -> (B, K, 2), shares of the input
            return torch.stack([p_BK2[..., 0] * input_wh[0], p_BK2[..., 1] * input_wh[1]], dim=-1)

    def refine(self, features: Features, coarse_BK2: Tensor, centre_BK2: Tensor) -> Outputs:
        """Local heatmaps in ROIs around `centre_BK2`, input pixels, which get no gradient (§2.3, Eq. 7 and 8)."""
        map_BWHW = features.fused_BWHW
        b, size = coarse_BK2.shape[0], self.cfg.roi.size
        centre = clamp_centres(centre_BK2, self.stride, (map_BWHW.shape[-2], map_BWHW.shape[-1]))
        if self.head is None:
            return Outputs(coarse_BK2, centre, map_BWHW.new_zeros(b, self.k, 0, 0))
        reach = self.stride * size / 2
        box_N4 = torch.cat([centre - reach, centre + reach], dim=-1).view(b * self.k, 4)
        owner_N = torch.arange(b, device=centre.device).repeat_interleave(self.k)  # joints fastest
        roi_NWSS = roi_sample(map_BWHW, box_N4, owner_N, self.stride, (size, size))  # (B K, W, S, S)
        return Outputs(coarse_BK2, centre, self.head(roi_NWSS))


class Neck(nn.Module):
    """Adds the stages' 1x1 projections top-down into F.

    Its laterals are linear, so the average of F is an affine map of the stages' averages and Eq. 3's pooling of F loses
    nothing against pooling the last stage.
    """

    def __init__(self, channels: tuple[int, ...], levels: tuple[int, ...], width: int, stride: int) -> None:
        super().__init__()
        self.levels = sorted(levels, reverse=True)
        self.has_stride = stride in (STRIDES[level - 1] for level in levels)
        self.laterals = nn.ModuleList(ConvBN(channels[level - 1], width) for level in self.levels)

    def forward(self, maps: list[Tensor], size_hw: tuple[int, int]) -> Tensor:
        """F of (B, W, *size_hw) from the backbone's maps."""
        fused: Tensor | None = None
        for level, lateral in zip(self.levels, self.laterals, strict=True):
            side: Tensor = lateral(maps[level - 1])  # (B, W, H_i, W_i)
            # to the lateral's size, not by a factor 2: odd sizes (192x144 has a 6x5 last stage) do not halve exactly
            fused = side if fused is None else side + F.interpolate(fused, size=side.shape[-2:], mode="nearest")
        assert fused is not None
        return fused if self.has_stride else F.interpolate(fused, size=size_hw, mode="nearest")


class RefineHead(nn.Module):
    """Two 3x3 convolutions with ReLU and a 1x1 to one channel per joint (DRP-Net §2.3).

    `share` says which layers have weights of their own for each joint; those are grouped convolutions over the
    joints, equal to K separate ones. A head shared to the end cannot know which joint it is asked for (left and right
    wrist look alike).
    """

    def __init__(self, head: Head, roi: Roi, width: int, k: int) -> None:
        super().__init__()
        self.k, self.up = k, int(roi.up)
        own = {"shared": (1, 1, 1), "kp_final": (1, 1, k), "hybrid": (1, k, k), "per_kp": (k, k, k)}[head.share]
        d = head.width
        self.conv1 = nn.Conv2d(own[0] * width, own[0] * d, 3, padding=1, groups=own[0])
        self.conv2 = nn.Conv2d(own[1] * d, own[1] * d, 3, padding=1, groups=own[1])
        self.last = nn.Conv2d(own[2] * d, own[2], 1, groups=own[2])
        init_relu_conv(self.conv1)
        init_relu_conv(self.conv2)
        nn.init.normal_(self.last.weight, std=_LAST_STD)
        nn.init.zeros_(self.last.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, roi_NWSS: Tensor) -> Tensor:
        """Local heatmaps (B, K, f S, f S) of ROIs (B K, W, S, S), joints fastest; linear output."""
        x = F.relu(self._conv(self.conv1, roi_NWSS))  # (B K, D, S, S)
        x = F.relu(self._conv(self.conv2, x))  # (B K, D, S, S)
        x = self._conv(self.last, x)  # (B K, 1, S, S)
        if (
            self.up > 1
        ):  # after the 1x1: the two commute exactly (both linear, weights of a sample add up to 1), 1/D the work
            x = F.interpolate(x, scale_factor=self.up, mode="bilinear", align_corners=False)  # (B K, 1, f S, f S)
        return x.reshape(x.shape[0] // self.k, self.k, *x.shape[-2:])

    def _conv(self, conv: nn.Conv2d, x_NCHW: Tensor) -> Tensor:
        """A convolution shared by the joints, or grouped by joint; in and out (B K, C, H, W)."""
        n, c, h, w = x_NCHW.shape
        if conv.in_channels == c:
            return conv(x_NCHW)
        y = conv(x_NCHW.reshape(n // self.k, self.k * c, h, w))  # (B, K C, H, W)
        return y.reshape(n, y.shape[1] // self.k, h, w)
