"""TNet, and the reverse path with guidance that its trapezoids and the ROIGuider share.

Shapes: B images (or N regions), C_i channels of level i, H_i W_i its cells; level i has half the cells of level i - 1,
rounded up.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from repose.nn.blocks import ConvBN
from repose.papers.cganet.config import Backbone

STEM = 64
"""[channels] of the stem's first convolution."""


def down(c_in: int, c_out: int, kernel: int = 3) -> nn.Sequential:
    """Convolution that halves the map (rounding up), without bias, then batch norm."""
    conv = nn.Conv2d(c_in, c_out, kernel, stride=2, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out))


class ResidualBlock(nn.Module):
    """Basic residual block, RB: two 3x3 convolutions with batch norm and a shortcut."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = down(c_in, c_out) if stride == 2 else ConvBN(c_in, c_out, 3)
        self.conv2 = ConvBN(c_out, c_out, 3)
        self.short: nn.Module = nn.Identity()
        if stride == 2:
            self.short = down(c_in, c_out, 1)
        elif c_in != c_out:
            self.short = ConvBN(c_in, c_out)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Same size, or half of it."""
        return F.relu(self.conv2(F.relu(self.conv1(x_BCHW))) + self.short(x_BCHW))


def blocks(c_in: int, c_out: int, n: int, stride: int = 2) -> nn.Sequential:
    """f_RB: n residual blocks, the first of which halves the map and changes the channels (TNet, Eq. 5)."""
    return nn.Sequential(ResidualBlock(c_in, c_out, stride), *(ResidualBlock(c_out, c_out) for _ in range(n - 1)))


class GuidedFusion(nn.Module):
    """GFM: weighs a map's channels by the global average of the level above it (ROI Guider, Eq. 1 and 2).

    Differs from the paper: Eq. 2 and Eq. 7 both add the map; it is added once (`gfm_double_identity` adds it twice).
    """

    def __init__(self, guide: int, channels: int, reduction: int = 1, double_identity: bool = False) -> None:
        super().__init__()
        inner = max(guide // reduction, 1)
        self.mix = nn.Conv2d(guide, inner, 1, bias=False)  # W_m
        self.spread = nn.Conv2d(inner, channels, 1, bias=False)  # f
        self.identities = 2 if double_identity else 1

    def forward(self, guide_BCHW: Tensor, x_BCHW: Tensor) -> Tensor:
        """The map, re-weighted."""
        d_BC11 = F.adaptive_avg_pool2d(guide_BCHW, 1)  # (B, C_{i+1}, 1, 1)
        weight_BC11 = self.spread(torch.sigmoid(self.mix(d_BC11)))  # (B, C, 1, 1)
        return weight_BC11 * x_BCHW + self.identities * x_BCHW


class Reverse(nn.Module):
    """Top-down path: O_i from L_i and the level above it, from the highest level down (TNet, Eq. 6 and 7).

    Differs from the paper: Eq. 6 and 7 name L_{i+1} as source and guide; taken literally (`parallel`) O_0 would see
    levels 0 and 1 alone and half of a deep TNet would get no gradient. The guided level itself is used.
    """

    def __init__(self, widths: list[int], cfg: Backbone) -> None:
        super().__init__()
        self.sequential = cfg.reverse == "sequential"
        self.guides, self.fuses = nn.ModuleList(), nn.ModuleList()
        for c, above in itertools.pairwise(widths):
            joined = c + above // 4
            self.guides.append(GuidedFusion(above, joined, cfg.gfm_reduction, cfg.gfm_double_identity))
            self.fuses.append(ConvBN(joined, c, 3))

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """O_0 .. O_{K-1} of L_0 .. L_K."""
        above = levels[-1]
        outputs: list[Tensor] = []
        for i in range(len(levels) - 2, -1, -1):
            level = levels[i]
            wide = F.pixel_shuffle(above, 2)[..., : level.shape[-2], : level.shape[-1]]  # (B, C_{i+1} / 4, H_i, W_i)
            joined = torch.cat([wide, level], dim=1)  # (B, C_i + C_{i+1} / 4, H_i, W_i)
            fused = F.relu(self.fuses[i](self.guides[i](above, joined)))  # (B, C_i, H_i, W_i)
            outputs.append(fused)
            above = fused if self.sequential else level
        return outputs[::-1]


class Trapezoid(nn.Module):
    """One depth of TNet: K + 1 levels up, K outputs down, since every output needs a guide above it (TNet, Eq. 5)."""

    def __init__(self, widths: list[int], first: bool, cfg: Backbone) -> None:
        super().__init__()
        laterals = 1 if first else len(widths)
        self.same = nn.ModuleList(ConvBN(c, c) for c in widths[:laterals])  # 1x1, level i to level i
        pairs = list(itertools.pairwise(widths))
        self.lower = nn.ModuleList(down(a, b) for a, b in pairs[:laterals])  # 3x3, level i to level i + 1
        self.start = None if first else blocks(widths[0], widths[0], cfg.n_rb, stride=1)
        self.climb = nn.ModuleList(blocks(a, b, cfg.n_rb) for a, b in pairs)
        self.reverse = Reverse(widths, cfg)

    def forward(self, inputs: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Outputs O_0 .. O_{K-1} and the unguided top level L_K, of the previous depth's outputs or the stem's map."""
        x = F.relu(self.same[0](inputs[0]))
        levels = [x if self.start is None else self.start(x)]
        for i, climb in enumerate(self.climb, start=1):
            x = climb(levels[-1])
            if i - 1 < len(self.lower):
                x = x + self.lower[i - 1](inputs[i - 1])
                if i < len(self.same):
                    x = x + self.same[i](inputs[i])
                x = F.relu(x)
            levels.append(x)
        return self.reverse(levels), levels[-1]


class TNet(nn.Module):
    """TNet-DxWy (TNet, Eq. 4 to 7): a stem and D trapezoids, each one level lower than the one before.

    Differs from the paper: it gives neither widths, levels nor blocks; these fit its parameters, cost and name.

    Attributes:
        channels: of the exported levels.
        strides: input pixels per cell of each.
    """

    def __init__(self, cfg: Backbone) -> None:
        super().__init__()
        w = cfg.width
        widths = [w * (i + 1) for i in range(cfg.levels)]
        body = [ResidualBlock(w, w) for _ in range(cfg.n_rb)]
        self.stem = nn.Sequential(down(3, STEM), nn.ReLU(), down(STEM, w), nn.ReLU(), *body)
        self.depths = nn.ModuleList(Trapezoid(widths[: cfg.levels - d], d == 0, cfg) for d in range(cfg.depth))
        guided = cfg.levels - cfg.depth
        # A deep TNet's outputs are too few for the ROIGuider's three levels: its top level goes with them, unguided.
        self.with_top = guided < 3
        exported = guided + self.with_top
        self.channels = tuple(widths[:exported])
        self.strides = tuple(4 * 2**i for i in range(exported))
        init_convs(self)

    def forward(self, image_B3HW: Tensor) -> list[Tensor]:
        """Maps (B, C_i, ceil(H / s_i), ceil(W / s_i)), finest first."""
        maps = [self.stem(image_B3HW)]  # (B, W, H / 4, W / 4)
        top = maps[0]
        for depth in self.depths:
            maps, top = depth(maps)
        return [*maps, top] if self.with_top else maps


def init_convs(module: nn.Module) -> None:
    """He's normal initialisation, fan-out, of every convolution."""
    for m in module.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
