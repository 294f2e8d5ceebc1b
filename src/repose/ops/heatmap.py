"""Gaussian heatmaps: rendering at real-valued centres, and their peaks with sub-cell precision.

Shapes: `...` any leading sizes, H W cells. Positions are (x, y) in cells, cell centres at integers.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from repose.geometry import EDGE

Peak = Literal["argmax", "quarter", "subpixel", "gauss"]
FLOOR = 1e-6
"""Heights below it are taken as it before the logarithm."""
QUARTER = 1 / 4
"""[cells] how far `quarter` moves a maximum."""
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


def people_heatmaps(
    centre_NK2: Tensor, counts_NK: Tensor, owner_N: Tensor, b: int, size_hw: tuple[int, int], sigma: float
) -> tuple[Tensor, Tensor]:
    """Gaussian heatmaps of all people of a batch, the higher one where several reach a cell (HRNet's generator).

    Each Gaussian is drawn in the window [floor(x - 3 sigma - 1), ceil(x + 3 sigma + 2)), y likewise, around its
    real-valued centre, all windows by one scatter: no loop over people, nothing as large as people times maps.

    Args:
        centre_NK2: (N, K, 2) cells; channel k is joint (or part) k.
        counts_NK: bool, which of them are drawn.
        owner_N: int64, image of each person.
        b: number of images.
        size_hw: height and width of the maps.
        sigma: standard deviation, cells.

    Returns:
        (B, K, H, W) float32 heatmaps, and bool: cells inside a window of their channel.
    """
    k = counts_NK.shape[1]
    height, width = size_hw
    reach = 3 * sigma
    centre = torch.where(counts_NK[..., None], centre_NK2.float(), torch.zeros_like(centre_NK2, dtype=torch.float32))
    low, high = (centre - reach - 1).floor(), (centre + reach + 2).ceil()
    side = math.ceil(2 * reach) + 5  # cells of the largest window: floor and ceil add less than 2 to 2 * reach + 3
    cell_NK2S = low[..., None] + torch.arange(side, device=centre.device)  # (N, K, 2, S)
    limit_2 = torch.tensor([[width], [height]], device=centre.device)
    inside = (cell_NK2S < high[..., None]) & (cell_NK2S >= 0) & (cell_NK2S < limit_2)
    squared = (cell_NK2S - centre[..., None]).square()
    drawn = inside[..., 1, :, None] & inside[..., 0, None, :] & counts_NK[..., None, None]  # (N, K, Sy, Sx)
    height_NKSS = torch.exp(-(squared[..., 1, :, None] + squared[..., 0, None, :]) / (2 * sigma**2))
    channel_NK = owner_N[:, None] * k + torch.arange(k, device=centre.device)
    cell = torch.minimum(cell_NK2S.clamp(min=0), limit_2 - 1).long()
    flat = (channel_NK[..., None, None] * height + cell[..., 1, :, None]) * width + cell[..., 0, None, :]
    # -1 marks cells that no window reaches; what is not drawn writes -1, which changes nothing
    value = torch.where(drawn, height_NKSS, -torch.ones_like(height_NKSS))
    maps = torch.full((b * k * height * width,), -1.0, device=centre.device)
    maps = maps.scatter_reduce(0, flat.flatten(), value.flatten(), "amax").view(b, k, height, width)
    return maps.clamp(min=0), maps >= 0


def find_peak(heatmap_HW: Tensor, method: Peak, sigma: float) -> tuple[Tensor, Tensor]:
    """Position and height of each map's maximum.

    `argmax` gives the cell, `quarter` moves it a quarter of a cell towards the higher neighbour on each axis, except in
    the first two and the last row and column (SimpleBaseline's and HRNet's read-out). `subpixel` fits a Gaussian
    through the maximum and its two neighbours, per axis: exact for a Gaussian of any sigma; a maximum in the border row
    or column stays where it is. `gauss` also moves those, by the known sigma and the one inner neighbour: exact for a
    Gaussian whose centre lies up to 2 cells beyond the border cell.

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
    if method == "quarter":
        inner = (x > 1) & (x < width - 1) & (y > 1) & (y < heatmap_HW.shape[-2] - 1)
        slope = torch.stack([_slope(row_W, x), _slope(column_H, y)], dim=-1)
        return cell + QUARTER * slope.sign() * inner[..., None], value
    offset = torch.stack([_offset(row_W, x, method, sigma), _offset(column_H, y, method, sigma)], dim=-1)
    return cell + offset, value


def _line(heatmap_HW: Tensor, index: Tensor, dim: int) -> Tensor:
    """The row (dim -2) or column (dim -1) of each map that `index` names: (..., W) or (..., H)."""
    by_line = heatmap_HW if dim == -2 else heatmap_HW.transpose(-2, -1)
    wanted = index[..., None, None].expand(*index.shape, 1, by_line.shape[-1])
    return by_line.gather(-2, wanted)[..., 0, :]


def _slope(line_L: Tensor, index: Tensor) -> Tensor:
    """The next cell's height minus the previous one's, (...)."""
    last = line_L.shape[-1] - 1
    after, before = (line_L.gather(-1, (index + d).clamp(0, last)[..., None])[..., 0] for d in (1, -1))
    return after - before


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
