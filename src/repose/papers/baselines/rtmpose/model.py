"""The network of RTMPose: CSPNeXt, a large convolution, a gated attention unit over the joints, two linear layers.

Shapes: B crops, K joints, C channels, N tokens' cells, D channels of a token, X and Y bins along the axes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from repose.nn.backbones import STRIDES, backbone
from repose.papers.baselines.rtmpose.config import Head, Model

_EPS = 1e-5
"""Smallest norm that ScaleNorm divides by."""


class Outputs(NamedTuple):
    """What the network predicts.

    Attributes:
        x_BKX: logits of the x bins, `split` per input pixel.
        y_BKY: logits of the y bins.
    """

    x_BKX: Tensor
    y_BKY: Tensor


class RTMPose(nn.Module):
    """One network input size: the tokens are as long as the last stage has cells (RTMPose §3.3, Fig. 2)."""

    def __init__(self, cfg: Model, k: int, input_hw: tuple[int, int]) -> None:
        super().__init__()
        self.backbone = backbone(cfg.backbone.name, cfg.backbone.pretrained, cfg.backbone.weights)
        self.head = SimCCHead(cfg.head, self.backbone.channels[-1], k, input_hw)

    def forward(self, image_B3HW: Tensor) -> Outputs:
        """Logits of a batch of normalised crops."""
        return self.head(self.backbone(image_B3HW)[-1])


class SimCCHead(nn.Module):
    """A joint's channel of the 7x7 convolution is its token; the gated unit relates the tokens (RTMPose §3.3)."""

    def __init__(self, cfg: Head, channels: int, k: int, input_hw: tuple[int, int]) -> None:
        super().__init__()
        cells = -(-input_hw[0] // STRIDES[-1]) * -(-input_hw[1] // STRIDES[-1])
        self.conv = nn.Conv2d(channels, k, cfg.kernel, padding=cfg.kernel // 2)
        self.norm = ScaleNorm(cells)
        self.fc = nn.Linear(cells, cfg.width, bias=False)
        self.gau = GatedAttention(cfg.width, cfg.expansion * cfg.width, cfg.attention)
        self.x = nn.Linear(cfg.width, cfg.split * input_hw[1], bias=False)
        self.y = nn.Linear(cfg.width, cfg.split * input_hw[0], bias=False)
        nn.init.normal_(self.conv.weight, std=0.001)
        nn.init.zeros_(self.conv.bias)  # pyright: ignore[reportArgumentType]
        for layer in (self.fc, self.gau.out, self.x, self.y):
            nn.init.normal_(layer.weight, std=0.01)

    def forward(self, feature_BCHW: Tensor) -> Outputs:
        """Logits from the backbone's last stage."""
        token_BKN = self.conv(feature_BCHW).flatten(2)  # (B, C, H, W) -> (B, K, H W)
        token_BKD = self.gau(self.fc(self.norm(token_BKN)))  # (B, K, D)
        return Outputs(self.x(token_BKD), self.y(token_BKD))


class ScaleNorm(nn.Module):
    """Divides by the root mean square over the last axis; one learnt factor."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.root = size**-0.5
        self.g = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        norm = x.float().norm(dim=-1, keepdim=True) * self.root  # bfloat16 would lose half the digits of the sum
        return (x / norm.clamp(min=_EPS).to(x.dtype)) * self.g


class GatedAttention(nn.Module):
    """Gated attention unit: attention over the joints gates a linear layer (RTMPose §3.3, Eq. 1 and 2; FLASH's GAU)."""

    def __init__(self, width: int, inner: int, attention: int) -> None:
        super().__init__()
        self.inner, self.attention = inner, attention
        self.norm = ScaleNorm(width)
        self.uv = nn.Linear(width, 2 * inner + attention, bias=False)
        self.gamma = nn.Parameter(torch.rand(2, attention))
        self.beta = nn.Parameter(torch.rand(2, attention))
        self.out = nn.Linear(inner, width, bias=False)
        self.residual = nn.Parameter(torch.ones(width))
        nn.init.xavier_uniform_(self.uv.weight)

    def forward(self, x_BKD: Tensor) -> Tensor:
        """Same shape."""
        gates = F.silu(self.uv(self.norm(x_BKD)))
        u_BKE, v_BKE, base_BKA = gates.split([self.inner, self.inner, self.attention], dim=-1)
        q_BKA, k_BKA = (base_BKA[..., None, :] * self.gamma + self.beta).unbind(-2)
        weight_BKK = F.relu(q_BKA @ k_BKA.transpose(-2, -1) / self.attention**0.5).square()
        return x_BKD * self.residual + self.out(u_BKE * (weight_BKK @ v_BKE))
