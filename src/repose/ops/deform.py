"""Deformable convolution, grouped; the only call of torchvision's in repose.

Shapes: B images, G groups, C channels in, D channels out, T taps of the kernel, H W cells.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import deform_conv2d


def deform_conv(x_BCHW: Tensor, offset_BTHW: Tensor, weight_DCKK: Tensor, groups: int) -> Tensor:
    """A convolution (stride 1, size kept, no bias) whose taps are moved, each group's by offsets of its own.

    Taps between cells are read bilinearly; outside the map it is zero.

    Args:
        x_BCHW: (B, C, H, W) float32.
        offset_BTHW: (B, G T 2, H, W): group by group, tap by tap (rows first), y before x, in cells.
        weight_DCKK: (D, C / G, k, k) with odd k.
        groups: G; each maps C / G channels to D / G.

    Returns:
        (B, D, H, W).
    """
    if x_BCHW.is_cpu and torch.is_grad_enabled():
        return _by_grid(x_BCHW, offset_BTHW, weight_DCKK, groups)
    half = int(weight_DCKK.shape[-1]) // 2  # int: a shape is a tensor while it is traced
    return deform_conv2d(x_BCHW, offset_BTHW, weight_DCKK, padding=(half, half))


def _by_grid(x_BCHW: Tensor, offset_BTHW: Tensor, weight_DCKK: Tensor, groups: int) -> Tensor:
    """The same values and gradients by grid_sample: torchvision's backward pass on the CPU takes many times longer."""
    b, channels, height, width = x_BCHW.shape
    side = weight_DCKK.shape[-1]
    x_NCHW = x_BCHW.reshape(b * groups, channels // groups, height, width)
    offset = offset_BTHW.reshape(b * groups, side * side, 2, height, width)
    rows = torch.arange(height, device=x_BCHW.device, dtype=x_BCHW.dtype)[:, None]
    columns = torch.arange(width, device=x_BCHW.device, dtype=x_BCHW.dtype)
    tap = torch.arange(side, device=x_BCHW.device, dtype=x_BCHW.dtype) - side // 2
    y = offset[:, :, 0] + tap.repeat_interleave(side)[:, None, None] + rows  # (B G, T, H, W)
    x = offset[:, :, 1] + tap.repeat(side)[:, None, None] + columns
    # Cells to grid_sample's [-1, 1] over the map's edges, which also serves maps of a single cell.
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1).flatten(1, 2)
    read = F.grid_sample(x_NCHW, grid, mode="bilinear", padding_mode="zeros", align_corners=False)  # (B G, C/G, T H, W)
    column = read.view(b, groups, -1, height * width)  # (B, G, C/G T, H W)
    return (weight_DCKK.reshape(groups, -1, column.shape[2]) @ column).view(b, -1, height, width)
