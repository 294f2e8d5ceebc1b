"""Sparse offset targets: from cells around a person's (or a part's) centre to the person's joints.

Shapes: N centres (people times parts) of a batch, K joints, M target cells. Cells are (x, y).
Source: SPM, DEKR; PINet §3.2 and spec 3.4 and 5.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class OffsetCells(NamedTuple):
    """Cells at which offsets are taught, sorted by image, part, y, x; no cell of a part occurs twice.

    Attributes:
        owner_M: int64, image.
        part_M: int64, part.
        centre_M: int64, index among the N centres of the one that owns the cell.
        cell_M2: int64, x and y.
        target_MD: (M, 2 K) cell minus joint, cells; joint by joint, x before y; zero where the weight is.
        weight_MD: (M, 2 K) 1 / sqrt(area), 0 for joints that do not count.
        gauss_M: height of the owning centre's Gaussian at the cell.
    """

    owner_M: Tensor
    part_M: Tensor
    centre_M: Tensor
    cell_M2: Tensor
    target_MD: Tensor
    weight_MD: Tensor
    gauss_M: Tensor


def offset_cells(
    owner_N: Tensor,
    part_N: Tensor,
    centre_N2: Tensor,
    area_N: Tensor,
    joint_NK2: Tensor,
    counts_NK: Tensor,
    size_hw: tuple[int, int],
    radius: int,
    sigma: float,
) -> OffsetCells:
    """Target cells of centres: x in [int(cx) - r, int(cx) + r), y likewise, inside the map.

    A cell that several centres of one part claim belongs to the smallest area (equal ones: the earlier), for all
    joints.

    Args:
        owner_N: int64, image of each centre.
        part_N: int64, its part.
        centre_N2: its position, cells, inside the map.
        area_N: what the weight is made of, at least 1 is taken.
        joint_NK2: joints of its person, cells.
        counts_NK: bool, which joints are taught (labelled and inside, say).
        size_hw: height and width of the map.
        radius: [cells] half the window's side; the window is half open, (2 r)^2 cells.
        sigma: [cells] of `gauss_M`.
    """
    height, width = size_hw
    span = torch.arange(-radius, radius, device=owner_N.device)
    low_N2 = centre_N2.long()  # centres are inside, so truncation is the floor
    x_NR, y_NR = low_N2[:, 0, None] + span, low_N2[:, 1, None] + span
    shape = (len(owner_N), 2 * radius, 2 * radius)  # (N, y, x)
    x, y = x_NR[:, None, :].expand(shape), y_NR[:, :, None].expand(shape)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    who = torch.arange(len(owner_N), device=owner_N.device)[:, None, None].expand(shape)
    who, x, y = who[inside], x[inside], y[inside]
    parts = part_N.max() + 1 if len(part_N) else 1
    key = ((owner_N[who] * parts + part_N[who]) * height + y) * width + x
    order = torch.argsort(area_N[who], stable=True)
    order = order[torch.argsort(key[order], stable=True)]  # by cell, the smallest area first
    key = key[order]
    first = torch.ones_like(key, dtype=torch.bool)
    first[1:] = key[1:] != key[:-1]
    chosen = order[first]
    who, cell_M2 = who[chosen], torch.stack([x[chosen], y[chosen]], dim=-1)

    counts_MK1 = counts_NK[who][..., None]
    delta_MK2 = (cell_M2.to(joint_NK2)[:, None] - joint_NK2[who]) * counts_MK1
    weight_MK2 = (counts_MK1 / area_N[who].clamp(min=1).sqrt()[:, None, None]).expand_as(delta_MK2)
    squared_M = (cell_M2 - centre_N2[who]).square().sum(-1)
    return OffsetCells(
        owner_M=owner_N[who],
        part_M=part_N[who],
        centre_M=who,
        cell_M2=cell_M2,
        target_MD=delta_MK2.flatten(1),
        weight_MD=weight_MK2.flatten(1),
        gauss_M=torch.exp(-squared_M / (2 * sigma**2)),
    )


def offset_loss(pred_MD: Tensor, target_MD: Tensor, weight_MD: Tensor, beta: float) -> Tensor:
    """Weighted smooth L1, divided by the number of entries whose weight is above 0 (at least 1).

    Args:
        pred_MD: predictions.
        target_MD: targets, same unit.
        weight_MD: weights.
        beta: below it the loss is d^2 / (2 beta), above it d - beta / 2.

    Returns:
        float32 scalar; exactly 0 (with zero gradients) where nothing counts.
    """
    each_MD = F.smooth_l1_loss(pred_MD.float(), target_MD, reduction="none", beta=beta)
    return (each_MD * weight_MD).sum() / (weight_MD > 0).sum().clamp(min=1)


def top_per_group(group_N: Tensor, value_N: Tensor, top: int) -> Tensor:
    """Indices of the `top` highest values of every group (equal ones: the earlier first).

    Args:
        group_N: int64, 0 or above.
        value_N: what is ranked.
        top: most per group.

    Returns:
        int64 indices, sorted by group, then by falling value.
    """
    order_N = torch.argsort(value_N, descending=True, stable=True)
    order_N = order_N[torch.argsort(group_N[order_N], stable=True)]
    group_N = group_N[order_N]
    count_G = torch.bincount(group_N)
    rank_N = torch.arange(len(group_N), device=group_N.device) - (count_G.cumsum(0) - count_G)[group_N]
    return order_N[rank_N < top]
