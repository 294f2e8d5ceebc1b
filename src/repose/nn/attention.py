"""Transformer layers with layer norm first, and sine position encodings of points of a map.

Shapes: B images, T tokens that are looked at, Q queries that look, C channels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def sine_encoding(point_2: Tensor, channels: int, temperature: float) -> Tensor:
    """Sines and cosines of x, then of y (Vaswani et al. 2017, over two axes as in DETR).

    Wavelengths run geometrically from 2 pi to 2 pi times the temperature, in the points' own unit.

    Args:
        point_2: (..., 2) x and y.
        channels: C, a multiple of 4.
        temperature: ratio of the longest to the shortest wavelength.

    Returns:
        (..., C), float32.
    """
    if channels % 4:
        raise ValueError(f"channels={channels}: sine and cosine of x and y need a multiple of 4")
    n = channels // 4
    step = torch.arange(n, device=point_2.device, dtype=torch.float32) / max(n - 1, 1)
    angle = point_2.float()[..., None] * torch.exp(-math.log(temperature) * step)  # (..., 2, C / 4)
    return torch.cat([angle.sin(), angle.cos()], dim=-1).flatten(-2)


class Attention(nn.Module):
    """Multi-head attention; queries look at tokens, themselves or others."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, query_BQC: Tensor, token_BTC: Tensor) -> Tensor:
        """(B, Q, C)."""
        q = self.q(query_BQC).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, Q, C / heads)
        k, v = self.kv(token_BTC).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v)
        return self.out(seen.transpose(1, 2).flatten(2))  # (B, Q, C)


class TransformerLayer(nn.Module):
    """x + attention(LN x), then x + FFN(LN x); with `self_attention` the queries first look at each other.

    With memory the attention is to the memory, else to x itself.
    """

    def __init__(self, width: int, heads: int, hidden: int, self_attention: bool = False) -> None:
        super().__init__()
        self.norm_self = nn.LayerNorm(width) if self_attention else None
        self.attention_self = Attention(width, heads) if self_attention else None
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm_ffn = nn.LayerNorm(width)
        self.ffn = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x_BQC: Tensor, memory_BTC: Tensor | None = None) -> Tensor:
        """Same shape as x."""
        if self.norm_self is not None and self.attention_self is not None:
            y_BQC = self.norm_self(x_BQC)
            x_BQC = x_BQC + self.attention_self(y_BQC, y_BQC)
        y_BQC = self.norm(x_BQC)
        x_BQC = x_BQC + self.attention(y_BQC, y_BQC if memory_BTC is None else memory_BTC)
        return x_BQC + self.ffn(self.norm_ffn(x_BQC))
