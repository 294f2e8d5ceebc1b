"""Keypoint disks: for every cell the nearest keypoint of each joint type (PersonLab's and KDC's dense targets).

Shapes: B images, N people of an image (padded), K joints, H W cells.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

FAR = 1e9
"""Distance where an image has no keypoint of the type."""


def pad_people(value_N: Tensor, owner_N: Tensor, b: int) -> tuple[Tensor, Tensor]:
    """People of a batch, one row per image.

    Args:
        value_N: (N, ...), people of the whole batch, flattened.
        owner_N: int64, image of each; ascending or not.
        b: number of images.

    Returns:
        (B, most, ...) with zeros where an image has fewer people, and the place of each person in it, (N,).
    """
    count_B = torch.bincount(owner_N, minlength=b)
    most = int(count_B.max()) if len(owner_N) else 0
    order_N = torch.argsort(owner_N, stable=True)
    first_B = count_B.cumsum(0) - count_B
    place = torch.arange(len(owner_N), device=owner_N.device) - first_B[owner_N[order_N]]
    slot_N = torch.empty_like(place).index_copy(0, order_N, place)
    padded = value_N.new_zeros(b * most, *value_N.shape[1:])
    return padded.index_copy(0, owner_N * most + slot_N, value_N).view(b, most, *value_N.shape[1:]), slot_N


def nearest_keypoint(
    point_BNK2: Tensor, known_BNK: Tensor, size_hw: tuple[int, int], stride: int
) -> tuple[Tensor, Tensor]:
    """Distance of each cell to the nearest known keypoint of each type, and whose it is.

    Overlapping disks of one type are thereby split between their centres. Of equally near people the first wins.

    Args:
        point_BNK2: keypoints, input pixels.
        known_BNK: bool.
        size_hw: cells.
        stride: input pixels per cell.

    Returns:
        (B, K, H, W) distances in input pixels (`FAR` where there is none) and int64 places in N.
    """
    b, n, k = known_BNK.shape
    device = point_BNK2.device
    x_W = torch.arange(size_hw[1], device=device, dtype=torch.float32) * stride
    y_H = torch.arange(size_hw[0], device=device, dtype=torch.float32) * stride
    best = torch.full((b, k, *size_hw), FAR**2, device=device)
    slot = torch.zeros(b, k, *size_hw, dtype=torch.int64, device=device)
    for i in range(n):  # over people, so that one map per joint is held and not one per joint and person
        dx, dy = x_W - point_BNK2[:, i, :, :1], y_H - point_BNK2[:, i, :, 1:]
        square = dy.square()[..., :, None] + dx.square()[..., None, :]  # (B, K, H, W)
        nearer = (square < best) & known_BNK[:, i, :, None, None]
        best = torch.where(nearer, square, best)
        slot = torch.where(nearer, i, slot)
    return best.sqrt(), slot


def gather_people(value_BNJ2: Tensor, slot_BJHW: Tensor) -> Tensor:
    """For every cell the value of the person that `slot` names: (B, J, 2, H, W).

    Args:
        value_BNJ2: one pair of numbers per person and channel.
        slot_BJHW: place in N, for each of J channels.
    """
    b, n, j, _ = value_BNJ2.shape
    if n == 0:
        return value_BNJ2.new_zeros(b, j, 2, *slot_BJHW.shape[-2:])
    flat = slot_BJHW.flatten(2)[:, :, None].expand(b, j, 2, -1)  # (B, J, 2, H W)
    found = value_BNJ2.permute(0, 2, 3, 1).gather(3, flat)  # (B, J, 2, N) -> (B, J, 2, H W)
    return found.view(b, j, 2, *slot_BJHW.shape[-2:])


def disk_mean(map_KHW: Tensor, radius: float) -> Tensor:
    """Sum over a disk around each pixel over the disk's area pi R^2; 0 beyond the map.

    By Fourier transform: the kernel has thousands of pixels. Negative rounding errors become 0.

    Args:
        map_KHW: maps, 0 or above.
        radius: R, pixels.
    """
    reach = int(radius)
    t = torch.arange(-reach, reach + 1, device=map_KHW.device)
    disk = ((t[:, None] ** 2 + t**2) <= radius**2).to(map_KHW) / (math.pi * radius**2)
    height, width = map_KHW.shape[-2:]
    size = (height + 2 * reach, width + 2 * reach)
    product = torch.fft.rfft2(map_KHW, s=size) * torch.fft.rfft2(disk, s=size)
    return torch.fft.irfft2(product, s=size)[:, reach : reach + height, reach : reach + width].clamp(min=0)
