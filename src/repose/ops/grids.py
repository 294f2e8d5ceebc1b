"""Maps of one stride at another: exact bilinear interpolation between grids of cells at input pixels stride * i.

Shapes: B images, C channels, H W cells.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_STEPS, _RATE, _START = 20, 1.0, 4.0
"""Of `fitted_logits`: steps of Adam, their size, and the logits that it starts from (+-4)."""


def grid_size(input_hw: tuple[int, int], stride: int) -> tuple[int, int]:
    """Cells of a stride-s map of an input: rounded up, so the last cell is the last multiple of the stride."""
    return -(-input_hw[0] // stride), -(-input_hw[1] // stride)


def resample(map_BCHW: Tensor, stride: int, to_stride: int, input_hw: tuple[int, int]) -> Tensor:
    """A map at another stride.

    Finer: bilinear between the cells; pixels beyond the last cell repeat it. Coarser: the cells that both grids have.

    Args:
        map_BCHW: map at `stride`.
        stride: input pixels per cell.
        to_stride: wanted; one of the two must be a multiple of the other.
        input_hw: input height and width, pixels.

    Returns:
        (B, C, ceil(H / to_stride), ceil(W / to_stride)).
    """
    if max(stride, to_stride) % min(stride, to_stride):
        raise ValueError(f"a map of stride {stride} has no grid in common with stride {to_stride}")
    if to_stride >= stride:
        step = to_stride // stride
        return map_BCHW[..., ::step, ::step]
    up = stride // to_stride
    height, width = map_BCHW.shape[-2:]
    size = ((height - 1) * up + 1, (width - 1) * up + 1)
    fine = F.interpolate(map_BCHW, size=size, mode="bilinear", align_corners=True)
    wanted = grid_size(input_hw, to_stride)
    below, right = wanted[0] - size[0], wanted[1] - size[1]
    return F.pad(fine, (0, right, 0, below), mode="replicate") if below or right else fine


def nearest_cells(map_BCHW: Tensor, stride: int, to_stride: int, size_hw: tuple[int, int]) -> Tensor:
    """A mask at another stride: the cells that both grids have, or the nearest cell where the new grid is finer.

    Args:
        map_BCHW: map at `stride`, of any type.
        stride: input pixels per cell.
        to_stride: wanted.
        size_hw: cells wanted.
    """
    device, (height, width) = map_BCHW.device, map_BCHW.shape[-2:]
    y, x = (torch.round(torch.arange(s, device=device) * (to_stride / stride)).long() for s in size_hw)
    return map_BCHW[..., y.clamp(max=height - 1), :][..., x.clamp(max=width - 1)]


def unmirror(map_BCHW: Tensor, stride: int, width: int) -> Tensor:
    """The map of a plainly mirrored image (x to width - 1 - x), mirrored back onto the cells of the image itself.

    With a width of a multiple of the stride plus 1 this is a flip of the columns; else cells lie between columns of
    the mirrored map, and the border repeats.

    Args:
        map_BCHW: of the mirrored image.
        stride: input pixels per cell.
        width: of the input, pixels.
    """
    flipped = map_BCHW.flip(-1)
    # Cell i at pixel s i shows pixel W - 1 - s i of the mirrored image; in the flipped map that is column i + shift.
    shift = (stride * (map_BCHW.shape[-1] - 1) - (width - 1)) / stride
    if shift == 0:
        return flipped
    padded = F.pad(flipped, (1, 0, 0, 0), mode="replicate")  # -1 < shift < 0
    return padded[..., :-1] * -shift + padded[..., 1:] * (1 + shift)


def fitted_logits(mask_B1HW: Tensor, stride: int) -> Tensor:
    """Logits of a coarser grid whose interpolation has the smallest cross-entropy with masks.

    Args:
        mask_B1HW: 0 and 1.
        stride: cells of the masks per cell of the logits.

    Returns:
        (B, 1, ceil(H / stride), ceil(W / stride)).
    """
    hw = (mask_B1HW.shape[-2], mask_B1HW.shape[-1])
    rows, columns = grid_size(hw, stride)
    reach = stride // 2
    covered = F.avg_pool2d(F.pad(mask_B1HW, (reach,) * 4, mode="replicate"), 2 * reach + 1, stride)
    with torch.enable_grad():
        logit = (_START * (2 * covered[..., :rows, :columns] - 1)).requires_grad_()
        optimiser = torch.optim.Adam([logit], lr=_RATE)
        for _ in range(_STEPS):
            loss = F.binary_cross_entropy_with_logits(resample(logit, stride, 1, hw), mask_B1HW)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return logit.detach()
