"""Boxes (x1, y1, x2, y2): overlap, and how far one may shift before it overlaps too little.

Shapes: N, M boxes; `...` any leading sizes.
"""

from __future__ import annotations

import torch
from torch import Tensor


def box_size(box_N4: Tensor) -> Tensor:
    """Width and height, (..., 2)."""
    return box_N4[..., 2:] - box_N4[..., :2]


def box_centre(box_N4: Tensor) -> Tensor:
    """Centre x and y, (..., 2)."""
    return (box_N4[..., :2] + box_N4[..., 2:]) / 2


def centre_box(centre_N2: Tensor, size_N2: Tensor) -> Tensor:
    """Boxes of centre and size, (..., 4)."""
    return torch.cat([centre_N2 - size_N2 / 2, centre_N2 + size_N2 / 2], dim=-1)


def box_iou(a_N4: Tensor, b_M4: Tensor) -> Tensor:
    """Intersection over union of every pair, (N, M); 0 where both are empty."""
    low = torch.maximum(a_N4[:, None, :2], b_M4[None, :, :2])
    high = torch.minimum(a_N4[:, None, 2:], b_M4[None, :, 2:])
    shared_NM = (high - low).clamp(min=0).prod(-1)
    area_N, area_M = box_size(a_N4).clamp(min=0).prod(-1), box_size(b_M4).clamp(min=0).prod(-1)
    union_NM = area_N[:, None] + area_M[None] - shared_NM
    return shared_NM / union_NM.clamp(min=torch.finfo(union_NM.dtype).tiny)


def shift_radius(size_N2: Tensor, min_iou: float) -> Tensor:
    """How far a box may shift along both axes until it overlaps itself by `min_iou` alone, (...).

    The smaller root of r^2 - (w + h) r + w h (1 - min_iou) / (1 + min_iou) (CGANet, Center Line Branch).
    """
    b, c = _sum_and_rest(size_N2, min_iou)
    return (b - (b**2 - 4 * c).clamp(min=0).sqrt()) / 2


def corner_radius(size_N2: Tensor, min_iou: float) -> Tensor:
    """CornerNet's radius within which two corners may err, (...), as CenterNet and others compute it.

    Its three quadratics (both corners outwards, inwards, one of each) with the published code's division by 2 instead
    of 2a, which every method that follows it has inherited.
    """
    b1, c1 = _sum_and_rest(size_N2, min_iou)
    area = size_N2.prod(-1)
    r1 = b1 + (b1**2 - 4 * c1).sqrt()
    b2 = 2 * b1
    r2 = b2 + (b2**2 - 16 * (1 - min_iou) * area).sqrt()
    b3 = -2 * min_iou * b1
    r3 = b3 + (b3**2 + 16 * min_iou * (1 - min_iou) * area).sqrt()
    return torch.minimum(torch.minimum(r1, r2), r3) / 2


def _sum_and_rest(size_N2: Tensor, min_iou: float) -> tuple[Tensor, Tensor]:
    return size_N2.sum(-1), size_N2.prod(-1) * (1 - min_iou) / (1 + min_iou)
