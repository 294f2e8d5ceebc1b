"""Stacked hourglass (Newell, Yang and Deng, ECCV 2016) of pre-activation bottlenecks (He et al., ECCV 2016).

Shapes: B images, C channels, J maps, H W cells.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from repose.nn.blocks import ConvBN


class Bottleneck(nn.Module):
    """BN-ReLU-1x1, BN-ReLU-3x3, BN-ReLU-1x1 over half the channels, added to the input (1x1, where that is wider)."""

    def __init__(self, width: int, out: int | None = None, bias: bool = False) -> None:
        """Build it.

        Args:
            width: channels of the input.
            out: channels of the output, even; None = width.
            bias: whether the convolutions that a batch norm follows have one, as in Newell's code.
        """
        super().__init__()
        out = width if out is None else out
        half = out // 2
        self.layers = nn.Sequential(
            nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, half, 1, bias=bias),
            nn.BatchNorm2d(half), nn.ReLU(), nn.Conv2d(half, half, 3, padding=1, bias=bias),
            nn.BatchNorm2d(half), nn.ReLU(), nn.Conv2d(half, out, 1),
        )  # fmt: skip
        self.skip = nn.Identity() if out == width else nn.Conv2d(width, out, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, out, H, W)."""
        return self.skip(x_BCHW) + self.layers(x_BCHW)


class Hourglass(nn.Module):
    """`depth` halvings and back; at each level one unit beside, one down and one up, and one unit at the bottom."""

    def __init__(self, depth: int, width: int, bias: bool = False) -> None:
        super().__init__()
        self.beside = nn.ModuleList(Bottleneck(width, bias=bias) for _ in range(depth))
        self.down = nn.ModuleList(Bottleneck(width, bias=bias) for _ in range(depth))
        self.up = nn.ModuleList(Bottleneck(width, bias=bias) for _ in range(depth))
        self.bottom = Bottleneck(width, bias=bias)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Same shape; odd sizes are halved upwards, so that a map never vanishes."""
        kept: list[Tensor] = []
        for beside, down in zip(self.beside, self.down, strict=True):
            kept.append(beside(x_BCHW))
            x_BCHW = down(F.max_pool2d(x_BCHW, 2, ceil_mode=True))  # (B, C, ceil(H / 2), ceil(W / 2))
        x_BCHW = self.bottom(x_BCHW)
        for up in self.up:
            wide = kept.pop()
            doubled = F.interpolate(up(x_BCHW), scale_factor=2, mode="nearest")  # (B, C, 2 H, 2 W)
            x_BCHW = wide + doubled[..., : wide.shape[-2], : wide.shape[-1]]
        return x_BCHW


class StackedHourglass(nn.Module):
    """Hourglasses one after another, each with maps of its own, which the next one sees."""

    def __init__(
        self, channels: int, maps: int, stacks: int, depth: int, width: int, stem: nn.Module | None = None,
        bias: bool = False,
    ) -> None:  # fmt: skip
        """Build it.

        Args:
            channels: of the input.
            maps: J, maps that each stack predicts.
            stacks: number of hourglasses.
            depth: halvings of each.
            width: channels inside; even.
            stem: from the input to `width` channels; None = a 1x1 convolution with batch norm and ReLU.
            bias: whether the convolutions that a batch norm follows have one, as in Newell's code.
        """
        super().__init__()
        self.stem = nn.Sequential(ConvBN(channels, width), nn.ReLU()) if stem is None else stem
        self.body = nn.ModuleList(Hourglass(depth, width, bias) for _ in range(stacks))
        self.tail = nn.ModuleList(
            nn.Sequential(
                Bottleneck(width, bias=bias),
                nn.Conv2d(width, width, 1, bias=bias),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            )
            for _ in range(stacks)
        )
        self.head = nn.ModuleList(nn.Conv2d(width, maps, 1) for _ in range(stacks))
        self.back = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(stacks - 1))
        self.seen = nn.ModuleList(nn.Conv2d(maps, width, 1) for _ in range(stacks - 1))

    def forward(self, feature_BCHW: Tensor) -> list[Tensor]:
        """Maps (B, J, H, W) of each stack, the last one's last."""
        x_BCHW = self.stem(feature_BCHW)  # (B, width, H, W)
        found: list[Tensor] = []
        for i, (body, tail, head) in enumerate(zip(self.body, self.tail, self.head, strict=True)):
            y_BCHW = tail(body(x_BCHW))
            found.append(head(y_BCHW))  # (B, J, H, W)
            if i < len(self.back):
                x_BCHW = x_BCHW + self.back[i](y_BCHW) + self.seen[i](found[-1])
        return found
