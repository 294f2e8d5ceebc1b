"""Dichotomy Extended Area: each side of a box searches the line map outwards for the place where the person ends.

Shapes: N boxes, S settings (ratio and thre), L cells of a line. All in stride-4 cells.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from repose.ops.boxes import box_centre, box_size

_OUTWARD = (-1.0, -1.0, 1.0, 1.0)
"""Sign of the outward direction of x1, y1, x2, y2."""


def dichotomy(
    box_N4: Tensor,
    owner_N: Tensor,
    line_x_BHW: Tensor,
    line_y_BHW: Tensor,
    ratio_S: Tensor,
    thre_S: Tensor,
    iterations: int = 10,
    direction: Literal["text", "printed"] = "text",
) -> Tensor:
    """Boxes with every side extended by 0 to `ratio` of the box's side (Center Line Branch, Algorithm 1).

    A binary search on the line through the box's centre: above `thre` the person goes on and the side moves out, else
    back. All boxes, sides and settings at once; a side's line is read from the map once, so each step is a linear
    interpolation in a row of numbers (equal to bilinear sampling; zero outside the map).

    Differs from the paper: Algorithm 1 prints the two moves swapped (`direction=printed`), which contradicts its text
    and Table 2 and never searches; its loop runs once more.

    Args:
        box_N4: coarse boxes (x1, y1, x2, y2).
        owner_N: int64, image of each box.
        line_x_BHW: probabilities of horizontal centre lines.
        line_y_BHW: of vertical ones.
        ratio_S: most extension per side, share of the box's width or height.
        thre_S: height of the map where a person ends; one per ratio.
        iterations: steps; the result is within ratio * side / 2^(iterations + 1).
        direction: see above.

    Returns:
        (S, N, 4).
    """
    centre_N2, size_N2 = box_centre(box_N4), box_size(box_N4).clamp(min=0)
    height, width = line_x_BHW.shape[1:]
    length = max(height, width) + 2  # the lines begin and end with a zero, for all beyond the map
    line_N2L = box_N4.new_zeros(box_N4.shape[0], 2, length + 1)
    line_N2L[:, 0, 1 : width + 1] = _profile(line_x_BHW, owner_N, centre_N2[:, 1])
    line_N2L[:, 1, 1 : height + 1] = _profile(line_y_BHW.transpose(1, 2), owner_N, centre_N2[:, 0])
    line_N4L = torch.cat([line_N2L, line_N2L], dim=1)  # the line of each side: x1, y1, x2, y2
    slope_N4L = line_N4L.diff()

    outward_41 = box_N4.new_tensor(_OUTWARD)[:, None]
    edge_N4S = box_N4[..., None].expand(-1, -1, len(ratio_S)) + 1  # where the line's first zero is 0
    half_N4S = size_N2.repeat(1, 2)[..., None] * (ratio_S / 2) * outward_41
    sign = 1.0 if direction == "text" else -1.0
    at_N4S = edge_N4S + half_N4S
    for i in range(1, iterations + 1):
        step_N4S = half_N4S * (sign / 2**i)
        read_N4S = at_N4S.clamp(0, length - 1)
        cell_N4S = read_N4S.long()
        value_N4S = torch.addcmul(line_N4L.gather(2, cell_N4S), slope_N4L.gather(2, cell_N4S), read_N4S.frac())
        at_N4S = at_N4S + torch.where(value_N4S > thre_S, step_N4S, -step_N4S)
    return (at_N4S - 1).permute(2, 0, 1)


def fixed(box_N4: Tensor, share: float) -> Tensor:
    """Every side moved out by a share of the box's width or height, (..., 4) (Table 1, row d*)."""
    size = box_size(box_N4)
    return torch.cat([box_N4[..., :2] - share * size, box_N4[..., 2:] + share * size], dim=-1)


def _profile(map_BHW: Tensor, owner_N: Tensor, row_N: Tensor) -> Tensor:
    """The maps along the rows at real-valued y, zero outside: (N, W)."""
    height = map_BHW.shape[1]
    at_N = row_N.clamp(-1, height)
    low_N = at_N.floor()
    row_2N = torch.stack([low_N, low_N + 1])
    weight_2N = (1 - (at_N - row_2N).abs()) * ((row_2N >= 0) & (row_2N < height))
    return (map_BHW[owner_N, row_2N.clamp(0, height - 1).long()] * weight_2N[..., None]).sum(0)
