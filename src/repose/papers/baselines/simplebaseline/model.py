"""The network: one heatmap per joint, from a backbone and a head, or from a stacked hourglass.

Shapes: B crops, K joints, C channels, H W cells of stride `Model.stride`.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from repose.nn.backbones import STRIDES, backbone
from repose.nn.hourglass import Bottleneck, StackedHourglass
from repose.papers.baselines.simplebaseline.config import Head, Model


class Outputs(NamedTuple):
    """What the network predicts.

    Attributes:
        heatmap_BKHW: (B, K, ceil(height / stride), ceil(width / stride)).
        earlier: heatmaps of all hourglasses but the last, for the loss.
    """

    heatmap_BKHW: Tensor
    earlier: tuple[Tensor, ...] = ()


def heatmap_net(cfg: Model, k: int) -> HeatmapNet | HourglassNet:
    """The network that `model.kind` names."""
    return (HeatmapNet if cfg.kind == "backbone" else HourglassNet)(cfg, k)


class HourglassNet(nn.Module):
    """The stacked hourglass network (Newell, Yang and Deng, ECCV 2016, §3), with the layers of its code."""

    def __init__(self, cfg: Model, k: int) -> None:
        super().__init__()
        h = cfg.hourglass
        quarter, half = h.width // 4, h.width // 2
        stem = nn.Sequential(
            nn.Conv2d(3, quarter, 7, stride=2, padding=3),  # (B, C / 4, H / 2, W / 2)
            nn.BatchNorm2d(quarter),
            nn.ReLU(inplace=True),
            Bottleneck(quarter, half, bias=True),
            nn.MaxPool2d(2, ceil_mode=True),  # (B, C / 2, H / 4, W / 4)
            Bottleneck(half, bias=True),
            Bottleneck(half, h.width, bias=True),
        )
        self.stacked = StackedHourglass(3, k, h.stacks, h.depth, h.width, stem, bias=True)

    def forward(self, image_B3HW: Tensor) -> Outputs:
        """Heatmaps of a batch of normalised crops."""
        *earlier, heatmap_BKHW = self.stacked(image_B3HW)  # (B, K, H / 4, W / 4) each
        return Outputs(heatmap_BKHW, tuple(earlier))


class HeatmapNet(nn.Module):
    """SimpleBaseline (ResNet and transposed convolutions, §2) or HRNet (its stride-4 branch, §3)."""

    def __init__(self, cfg: Model, k: int) -> None:
        super().__init__()
        self.stride = cfg.stride
        levels = len(STRIDES) if cfg.head.deconvs else 1
        self.backbone = backbone(cfg.backbone.name, cfg.backbone.pretrained, cfg.backbone.weights, levels)
        width = self.backbone.channels[-1]
        self.deconv = deconvolutions(cfg.head, width)
        self.last = nn.Conv2d(cfg.head.width if cfg.head.deconvs else width, k, 1)
        for layer in (*self.deconv, self.last):
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(layer.weight, std=cfg.head.init_std)
        nn.init.zeros_(self.last.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, image_B3HW: Tensor) -> Outputs:
        """Heatmaps of a batch of normalised crops."""
        height, width = image_B3HW.shape[-2:]
        # HRNet adds its branches, so each must halve exactly: other sizes are filled up, and the filling cut off again
        image = F.pad(image_B3HW, (0, -width % STRIDES[-1], 0, -height % STRIDES[-1]))
        x = self.backbone(image)[-1]  # (B, C, H / 32, W / 32), HRNet (B, C, H / 4, W / 4)
        x = self.deconv(x)  # twice the size per layer: (B, 256, H / 4, W / 4)
        return Outputs(self.last(x)[..., : -(-height // self.stride), : -(-width // self.stride)])  # (B, K, H, W)


def deconvolutions(cfg: Head, width: int) -> nn.Sequential:
    """`cfg.deconvs` times transposed convolution, batch norm, ReLU (SimpleBaseline §2, Fig. 1c)."""
    layers: list[nn.Module] = []
    for _ in range(cfg.deconvs):
        layers += [
            nn.ConvTranspose2d(width, cfg.width, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(cfg.width),
            nn.ReLU(inplace=True),
        ]
        width = cfg.width
    return nn.Sequential(*layers)
