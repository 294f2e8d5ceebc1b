"""Reading dense maps at points: bilinear at real-valued cells, or at whole cells.

Shapes: B images, C channels, H W cells, N poses (or points) of the whole batch, M points of each. Cells are (x, y),
cell centres at integers.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from repose.geometry import EDGE


def sample_points(
    map_BCHW: Tensor, owner_N: Tensor, cell_NM2: Tensor, outside: Literal["zeros", "edge"] = "zeros"
) -> Tensor:
    """Bilinear samples at real-valued cells, exact: cell (2, 3) gives the map's value there.

    The points are padded to the largest count of an image and read by one `grid_sample`, so nothing as large as four
    corners of every point is held, forward or backward. There is no gradient for the positions.

    Args:
        map_BCHW: maps.
        owner_N: int64, image of each pose, in any order.
        cell_NM2: positions.
        outside: beyond the map's outermost cells zero (linearly within one cell), or the border's value.

    Returns:
        (N, M, C), the maps' dtype.
    """
    b, c, height, width = map_BCHW.shape
    n, m = cell_NM2.shape[:2]
    if n == 0 or m == 0:
        return map_BCHW.new_zeros(n, m, c)
    slot_N, most = _slots(owner_N, b)
    cell = cell_NM2.detach().float()
    # grid_sample's -1 and 1 are the outer edges of the outermost cells, so a map of one cell works too
    place = (cell + EDGE) * cell.new_tensor([2 / width, 2 / height]) - 1
    grid = cell.new_zeros(b * most, m, 2).index_copy(0, owner_N * most + slot_N, place).view(b, most, m, 2)
    padding = "zeros" if outside == "zeros" else "border"
    found = F.grid_sample(map_BCHW, grid.to(map_BCHW.dtype), mode="bilinear", padding_mode=padding, align_corners=False)
    return found.permute(0, 2, 3, 1)[owner_N, slot_N]  # (B, C, most, M) -> (N, M, C)


def sample_own_channel(
    map_BKHW: Tensor, owner_N: Tensor, cell_NK2: Tensor, outside: Literal["zeros", "edge"] = "zeros"
) -> Tensor:
    """Joint k's point read from channel k alone; as `sample_points`. Returns: (N, K)."""
    b, k, height, width = map_BKHW.shape
    n = cell_NK2.shape[0]
    channel_NK = owner_N[:, None] * k + torch.arange(k, device=owner_N.device)
    single = map_BKHW.reshape(b * k, 1, height, width)
    return sample_points(single, channel_NK.reshape(-1), cell_NK2.reshape(n * k, 1, 2), outside).view(n, k)


def read_cells(map_BCHW: Tensor, owner_N: Tensor, cell_N2: Tensor, part_N: Tensor | None = None) -> Tensor:
    """Values at whole cells.

    Args:
        map_BCHW: maps; with `part_N`, (B, P, C, H, W).
        owner_N: int64, image of each cell.
        cell_N2: int64 x and y, inside the map.
        part_N: int64, which of P groups of channels is read.

    Returns:
        (N, C).
    """
    x_N, y_N = cell_N2[:, 0], cell_N2[:, 1]
    # channels last: one run of memory per cell, which the backward pass of indexing wants
    if part_N is None:
        return map_BCHW.permute(0, 2, 3, 1)[owner_N, y_N, x_N]
    return map_BCHW.permute(0, 1, 3, 4, 2)[owner_N, part_N, y_N, x_N]


def _slots(owner_N: Tensor, b: int) -> tuple[Tensor, int]:
    """Number of each element within its image, and the largest count."""
    count_B = torch.bincount(owner_N, minlength=b)
    first_B = count_B.cumsum(0) - count_B
    order_N = torch.argsort(owner_N, stable=True)
    place_N = torch.arange(len(owner_N), device=owner_N.device) - first_B[owner_N[order_N]]
    return torch.empty_like(place_N).index_copy(0, order_N, place_N), int(count_B.max())
