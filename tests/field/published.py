"""Published checkpoints made by the fill rule of the parity fixtures."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def filled(folder: Path, model: str) -> dict[str, Tensor]:
    """The state dict of a published model's names and shapes, filled by the fixtures' rule."""
    shapes = json.loads((folder / f"{model}.keys.json").read_text())
    return {name: fill(name, shape) for name, shape in shapes.items()}


def fill(name: str, shape: list[int]) -> Tensor:
    """One tensor: normal numbers seeded by its name, scaled so that activations keep their size."""
    if name.endswith("num_batches_tracked"):
        return torch.zeros((), dtype=torch.int64)
    n = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
    if name.endswith("running_var"):
        n = 1 + 0.1 * np.abs(n)
    elif name.endswith("running_mean"):
        n = 0.1 * n
    elif n.ndim >= 2:
        n = n / np.sqrt(np.prod(shape[1:]))
    elif name.endswith(("bias", "beta")):
        n = 0.1 * n
    else:
        n = 1 + 0.1 * n
    return torch.from_numpy(np.asarray(n, dtype=np.float32))


def picture(height: int, width: int) -> Tensor:
    """The fixtures' input, (1, 3, height, width)."""
    x, y = np.arange(width)[None, None, :], np.arange(height)[None, :, None]
    c = np.arange(3)[:, None, None]
    value = np.sin(x / 7 + c) + 0.5 * np.cos(y / 11 - c) + 0.5 * np.sin((x + y) / 23)
    return torch.from_numpy(value.astype(np.float32))[None]


def relative_error(ours: Tensor, fixture: np.ndarray) -> float:
    """Largest difference over the fixture's largest value; the shapes must be the same."""
    assert tuple(ours.shape) == fixture.shape
    return float(np.abs(ours.numpy() - fixture).max() / np.abs(fixture).max())
