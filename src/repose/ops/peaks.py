"""Peaks of dense maps: what a bottom-up method's centres are found by.

Shapes: B images, P channels (parts), H W cells, N peaks of the whole batch. Cells are (x, y).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Peaks(NamedTuple):
    """Peaks of a batch, sorted by image, then channel, then falling height.

    Attributes:
        owner_N: int64, index of the image.
        part_N: int64, channel.
        cell_N2: int64, x and y.
        score_N: float32, height.
    """

    owner_N: Tensor
    part_N: Tensor
    cell_N2: Tensor
    score_N: Tensor


def find_peaks(map_BPHW: Tensor, kernel: int, top: int, threshold: float) -> Peaks:
    """The highest local maxima of each channel (HigherHRNet, DEKR, PINet spec 7.3).

    A peak is a cell that equals the maximum of the kernel around it; of equal neighbours all are peaks.

    Args:
        map_BPHW: maps.
        kernel: [cells] odd side of the neighbourhood.
        top: most peaks per image and channel.
        threshold: peaks must be higher than this.
    """
    if kernel % 2 == 0:
        raise ValueError(f"kernel={kernel}: a neighbourhood around a cell has an odd side")
    map_BPHW = map_BPHW.float()
    width = map_BPHW.shape[-1]
    highest = F.max_pool2d(map_BPHW, kernel, stride=1, padding=kernel // 2)
    is_peak = (map_BPHW == highest) & (map_BPHW > threshold)
    peak_BPL = map_BPHW.masked_fill(~is_peak, -float("inf")).flatten(2)
    value_BPT, flat_BPT = peak_BPL.topk(min(top, peak_BPL.shape[-1]), dim=-1)
    owner_N, part_N, rank_N = (value_BPT > threshold).nonzero(as_tuple=True)
    flat_N = flat_BPT[owner_N, part_N, rank_N]
    cell_N2 = torch.stack([flat_N % width, flat_N // width], dim=-1)
    return Peaks(owner_N, part_N, cell_N2, value_BPT[owner_N, part_N, rank_N])


def kernel_for(h: int, w: int) -> int:
    """[cells] side of the peaks' neighbourhood for a map of this size (PINet spec 7.3; DEKR's rule)."""
    mean = (h + w) / 2
    if mean > 300:
        return 7
    return 5 if mean > 200 else 3
