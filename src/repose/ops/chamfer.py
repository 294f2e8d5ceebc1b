"""Chamfer distance between a probability map and a set of cells, differentiable in the probabilities.

Shapes: B images, H W cells, M cells of the set over the whole batch, O offsets of a window.
"""

from __future__ import annotations

from math import ceil

import torch
from torch import Tensor
from torch.nn import functional as F


def truncated_square(set_BHW: Tensor, reach: float) -> Tensor:
    """Squared distance of each cell to the nearest cell of the set, in units of reach^2 and at most 1.

    Exact: a row of windows, then a column of them (the squared distance is a sum over the axes).

    Args:
        set_BHW: bool.
        reach: cells.

    Returns:
        (B, H, W) float32.
    """
    r = ceil(reach)
    limit = reach * reach
    step_O = torch.arange(-r, r + 1, device=set_BHW.device, dtype=torch.float32).square()
    square = torch.where(set_BHW, 0.0, limit)
    for axis in (2, 1):
        padding = (r, r) if axis == 2 else (0, 0, r, r)
        window = F.pad(square, padding, value=limit).unfold(axis, 2 * r + 1, 1)  # (B, H, W, O)
        square = (window + step_O).amin(-1)
    return square.clamp(max=limit) / limit


def soft_chamfer(p_BHW: Tensor, set_BHW: Tensor, weight_BHW: Tensor, reach: float) -> Tensor:
    """Relaxed Chamfer distance between a map and a set of cells, mean over images (identity vectors, Eq. 3; spec 4).

    With d2 = squared distance / reach^2, at most 1: the probabilities' mean d2 to the nearest cell of the set, plus,
    over the set, the mean of 1 - max_i p_i (1 - d2). For maps of 0 and 1 with at least one 1 these are the truncated
    means of Eq. 3's two sums; both vanish where the map is the set. An image without a set counts 0.

    Args:
        p_BHW: probabilities; they get the gradient.
        set_BHW: bool, the wanted cells.
        weight_BHW: of each cell in the first term.
        reach: [cells] distances count up to here.
    """
    p_BHW = p_BHW.float()
    b, height, width = p_BHW.shape
    weighted = weight_BHW * p_BHW
    toward_B = (weighted * truncated_square(set_BHW, reach)).sum((1, 2)) / weighted.sum((1, 2)).clamp(min=1)

    r = ceil(reach)
    side = torch.arange(-r, r + 1, device=p_BHW.device)
    dy, dx = (d.flatten() for d in torch.meshgrid(side, side, indexing="ij"))
    square_O = (dx.square() + dy.square()) / (reach * reach)
    inside = square_O < 1  # further cells cannot win the maximum
    dx, dy, near_O = dx[inside], dy[inside], 1 - square_O[inside]
    owner_M, y_M, x_M = set_BHW.nonzero(as_tuple=True)
    padded = F.pad(p_BHW, (r, r, r, r))
    row_M = (owner_M * (height + 2 * r) + y_M + r) * (width + 2 * r) + x_M + r
    around_MO = padded.flatten()[row_M[:, None] + (dy * (width + 2 * r) + dx)]
    missed_M = 1 - (around_MO * near_O).amax(1)
    count_B = torch.bincount(owner_M, minlength=b)
    back_B = p_BHW.new_zeros(b).index_add(0, owner_M, missed_M) / count_B.clamp(min=1)
    return (torch.where(count_B > 0, toward_B, 0.0) + back_B).mean()
