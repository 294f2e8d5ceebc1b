"""Sampling regions of a feature map.

Shapes: B images, N regions, C channels, H W cells of the map, S cells of a region's side.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import roi_align

from repose.geometry import EDGE


def roi_sample(
    map_BCHW: Tensor, box_in_N4: Tensor, owner_N: Tensor, stride: int, size_hw: tuple[int, int], samples: int = 1
) -> Tensor:
    """Sample boxes of a map by bilinear interpolation; the only call of roi_align in repose.

    A map of stride s has cell i at input pixel s * i (geometry.py), while roi_align puts cell i's centre at i + 0.5.
    This function adds that half cell, so that maps of different stride see the same place and a mirrored image gives
    exactly the mirrored region. With `samples=1`, bin j of a box of S cells around c is the map interpolated at c + j
    - (S - 1) / 2. Outside the map it is zero (linearly, within one cell of the edge). There is no gradient for the
    boxes.

    Args:
        map_BCHW: feature maps.
        box_in_N4: (x1, y1, x2, y2), input pixels, joint coordinates.
        owner_N: int64, index of each box's image in the batch.
        stride: input pixels per cell.
        size_hw: bins per box, height and width.
        samples: samples per bin and axis.

    Returns:
        (N, C, *size_hw), float32: box coordinates in half precision would be off by a pixel.
    """
    with torch.autocast(map_BCHW.device.type, enabled=False):
        if samples == 1 and map_BCHW.requires_grad and map_BCHW.is_cpu and _same_count(owner_N, map_BCHW.shape[0]):
            return _by_grid(map_BCHW.float(), box_in_N4.detach().float() / stride, size_hw)
        box_cell_N4 = box_in_N4.detach().float() / stride + EDGE
        roi_N5 = torch.cat([owner_N.to(box_cell_N4)[:, None], box_cell_N4], dim=1)
        return roi_align(map_BCHW.float(), roi_N5, size_hw, spatial_scale=1.0, sampling_ratio=samples, aligned=True)


def _same_count(owner_N: Tensor, b: int) -> bool:
    """Whether every image has equally many boxes, in the images' order."""
    n = owner_N.shape[0]
    return n > 0 and n % b == 0 and torch.equal(owner_N, torch.arange(b).repeat_interleave(n // b))


def _by_grid(map_BCHW: Tensor, box_cell_N4: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """The same values and gradients as roi_align with one sample per bin, by grid_sample.

    roi_align's backward pass on the CPU has one thread and was a fifth of DRP-Net's training step there.
    """
    b, c, height, width = map_BCHW.shape
    low_N2, side_N2 = box_cell_N4[:, :2], box_cell_N4[:, 2:] - box_cell_N4[:, :2]
    x_NS = _bins(low_N2[:, 0], side_N2[:, 0], size_hw[1])
    y_NS = _bins(low_N2[:, 1], side_N2[:, 1], size_hw[0])
    # roi_align is zero beyond one cell outside the map, and repeats the edge within that cell
    inside_NSS = ((y_NS >= -1) & (y_NS <= height))[:, :, None] & ((x_NS >= -1) & (x_NS <= width))[:, None, :]
    x_NS, y_NS = x_NS.clamp(0, width - 1), y_NS.clamp(0, height - 1)
    grid_NSS2 = torch.stack(
        [
            (2 * x_NS / max(width - 1, 1) - 1)[:, None, :].expand(-1, size_hw[0], -1),
            (2 * y_NS / max(height - 1, 1) - 1)[:, :, None].expand(-1, -1, size_hw[1]),
        ],
        dim=-1,
    )
    grid = grid_NSS2.reshape(b, -1, size_hw[1], 2)  # (B, N / B * S, S, 2)
    bins = F.grid_sample(map_BCHW, grid, mode="bilinear", padding_mode="border", align_corners=True)
    bins = bins.view(b, c, -1, *size_hw).transpose(1, 2).reshape(-1, c, *size_hw)  # (B, C, N / B S, S) -> (N, C, S, S)
    return bins * inside_NSS[:, None]


def _bins(low_N: Tensor, side_N: Tensor, bins: int) -> Tensor:
    """Centres of the bins of a side, cells, (N, bins)."""
    middle_S = (torch.arange(bins) + EDGE) / bins
    return low_N[:, None] + side_N[:, None] * middle_S
