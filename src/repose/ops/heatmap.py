"""Gaussian heatmaps: rendering at real-valued centres, and their peaks with sub-cell precision.

Shapes: `...` any leading sizes, H W cells. Positions are (x, y) in cells, cell centres at integers.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from repose.geometry import EDGE

Peak = Literal["argmax", "subpixel", "gauss"]
FLOOR = 1e-6
"""Heights below it are taken as it before the logarithm."""
BORDER_REACH = 2.0
"""[cells] how far `gauss` places a peak outside the border cell."""


def gaussian(centre_2: Tensor, size_hw: tuple[int, int], sigma: float) -> Tensor:
    """Unnormalised Gaussians, height 1 at their centres, which need not be integers nor lie inside.

    Args:
        centre_2: (..., 2) cells.
        size_hw: height and width of the maps.
        sigma: standard deviation, cells.

    Returns:
        (..., H, W) in the centres' dtype.
    """
    height, width = size_hw
    # A Gaussian is a product over the axes: H + W exponentials per map instead of H * W.
    x = torch.arange(width, device=centre_2.device, dtype=centre_2.dtype) - centre_2[..., 0, None]
    y = torch.arange(height, device=centre_2.device, dtype=centre_2.dtype) - centre_2[..., 1, None]
    scale = -1 / (2 * sigma**2)
    return (y**2 * scale).exp()[..., :, None] * (x**2 * scale).exp()[..., None, :]


def find_peak(heatmap_HW: Tensor, method: Peak, sigma: float) -> tuple[Tensor, Tensor]:
    """Position and height of each map's maximum.

    `argmax` gives the cell. `subpixel` fits a Gaussian through the maximum and its two neighbours, per axis: exact
    for a Gaussian of any sigma; a maximum in the border row or column stays where it is. `gauss` also moves those, by
    the known sigma and the one inner neighbour: exact for a Gaussian whose centre lies up to 2 cells beyond the
    border cell.

    Args:
        heatmap_HW: (..., H, W).
        method: see above.
        sigma: cells; used by `gauss` alone.

    Returns:
        (..., 2) positions (x, y) in cells and (...) heights, float32.
    """
    heatmap_HW = heatmap_HW.float()
    width = heatmap_HW.shape[-1]
    value, flat = heatmap_HW.flatten(-2).max(-1)
    x, y = flat % width, flat // width
    cell = torch.stack([x, y], dim=-1).float()
    if method == "argmax":
        return cell, value
    row_W = _line(heatmap_HW, y, -2)
    column_H = _line(heatmap_HW, x, -1)
    offset = torch.stack([_offset(row_W, x, method, sigma), _offset(column_H, y, method, sigma)], dim=-1)
    return cell + offset, value


def _line(heatmap_HW: Tensor, index: Tensor, dim: int) -> Tensor:
    """The row (dim -2) or column (dim -1) of each map that `index` names: (..., W) or (..., H)."""
    by_line = heatmap_HW if dim == -2 else heatmap_HW.transpose(-2, -1)
    wanted = index[..., None, None].expand(*index.shape, 1, by_line.shape[-1])
    return by_line.gather(-2, wanted)[..., 0, :]


def _offset(line_L: Tensor, index: Tensor, method: Peak, sigma: float) -> Tensor:
    """Sub-cell offset of the maximum of a line of cells, (...)."""
    last = line_L.shape[-1] - 1
    log_L = line_L.clamp(min=FLOOR).log()

    def at(i: Tensor) -> Tensor:
        return log_L.gather(-1, i.clamp(0, last)[..., None])[..., 0]

    before, here, after = at(index - 1), at(index), at(index + 1)
    curve = before - 2 * here + after  # below 0 at a true maximum; 0 on a plateau, which has no sub-cell peak
    bent = curve < -FLOOR
    inner = (index > 0) & (index < last)
    parabola = (before - after) / (2 * torch.where(bent, curve, -torch.ones_like(curve)))
    offset = torch.where(inner & bent, parabola.clamp(-EDGE, EDGE), torch.zeros_like(parabola))
    if method == "gauss" and last > 0:
        # ln H(u) - ln H(u - 1) = (2 (mu - u) + 1) / (2 sigma^2) for a Gaussian at mu; likewise on the other side.
        right = (sigma**2 * (here - before) - EDGE).clamp(-BORDER_REACH, BORDER_REACH)
        left = (EDGE - sigma**2 * (here - after)).clamp(-BORDER_REACH, BORDER_REACH)
        offset = torch.where(index == last, right, torch.where(index == 0, left, offset))
    return offset
