"""Random draws on the device that depend on each element's own seed alone.

Torch's generators draw for a whole batch at once, so an element's numbers would change with its neighbours, the
device and the batch size. Here a number is a hash of (seed, stream, index): the mixing function of SplitMix64
(Steele, Lea and Flood, OOPSLA 2014).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)
_BITS = 24
"""Bits of a draw: all that a float32 in [0, 1) holds."""


def uniform(seed_B: Tensor, shape: tuple[int, ...], stream: int) -> Tensor:
    """Uniform draws in [0, 1).

    Args:
        seed_B: int64 seeds.
        shape: shape of one element's draws.
        stream: number of the use; different streams of one seed are independent.

    Returns:
        (B, *shape), float32.
    """
    n = math.prod(shape)
    index = torch.arange(1, n + 1, device=seed_B.device, dtype=torch.int64) * _GOLDEN
    start_B = _mix(_mix(seed_B.to(torch.int64)) + stream)
    bits = _shift(_mix(start_B[:, None] + index), 64 - _BITS)
    return (bits.float() / (1 << _BITS)).view(-1, *shape)


def normal(seed_B: Tensor, shape: tuple[int, ...], stream: int) -> Tensor:
    """Standard normal draws (Box-Muller); arguments as `uniform`, of which it uses 2 numbers each."""
    u = uniform(seed_B, (2, *shape), stream)
    radius = (-2 * torch.log1p(-u[:, 0])).sqrt()
    return radius * torch.cos(2 * math.pi * u[:, 1])


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64, whose own shift repeats the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift(x, 30)) * _MIX_1  # int64 products wrap around, as the hash wants
    x = (x ^ _shift(x, 27)) * _MIX_2
    return x ^ _shift(x, 31)
