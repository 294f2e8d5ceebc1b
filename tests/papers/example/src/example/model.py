"""The network. Shapes: B crops, K joints, C channels, H W cells of 4 input pixels."""

from __future__ import annotations

from torch import Tensor, nn

from .config import Model

STRIDE = 4


class Net(nn.Module):
    """Three convolutions, two of which halve the size, and one heatmap per joint."""

    def __init__(self, cfg: Model, k: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for stride in (2, 2, 1):
            layers += [nn.Conv2d(channels, cfg.width, 3, stride, 1, bias=False), nn.BatchNorm2d(cfg.width), nn.ReLU()]
            channels = cfg.width
        self.body = nn.Sequential(*layers)
        self.heat = nn.Conv2d(channels, k, 1)

    def forward(self, image_B3HW: Tensor) -> Tensor:
        """Heatmaps (B, K, ceil(H / 4), ceil(W / 4))."""
        return self.heat(self.body(image_B3HW))  # (B, C, H / 4, W / 4) -> (B, K, H / 4, W / 4)
