"""Sampling regions of a feature map.

Shapes: B images, N regions, C channels, H W cells of the map, S cells of a region's side.
"""

from __future__ import annotations

import torch
from torch import Tensor
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
        box_cell_N4 = box_in_N4.detach().float() / stride + EDGE
        roi_N5 = torch.cat([owner_N.to(box_cell_N4)[:, None], box_cell_N4], dim=1)
        return roi_align(map_BCHW.float(), roi_N5, size_hw, spatial_scale=1.0, sampling_ratio=samples, aligned=True)
