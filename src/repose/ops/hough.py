"""Hough voting: pixels vote for the place their vector points at, and peaks of the votes are found.

Shapes: K channels, H W pixels, V votes, N peaks. Positions are (x, y) in pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_EXACT = 1 << 24
"""Up to here float32 holds every integer."""
_CACHED = 1 << 15
"""Votes whose intermediate values fit into a CPU core's own cache."""
_TILE = 16
"""[pixels] smallest side of the tiles that `smooth_near` works in."""


def hough_votes(
    logit_KHW: Tensor,
    offset_K2HW: Tensor,
    stride: int,
    input_hw: tuple[int, int],
    threshold: float,
    scale: float = 1.0,
) -> Tensor:
    """Every input pixel above a probability votes, with that probability as weight, where its vector points.

    Logits and vectors are interpolated bilinearly between cells (beyond the last cell they repeat), but only in the
    blocks of stride^2 pixels that have a corner above the threshold: nowhere else can a pixel be. Votes are shared
    bilinearly between four pixels; those outside the input are lost.

    Args:
        logit_KHW: logits of the probabilities, cells of `stride`.
        offset_K2HW: vectors, input pixels.
        stride: input pixels per cell, a power of two.
        input_hw: input height and width.
        threshold: [probability] in (0, 1).
        scale: of the votes' weights.

    Returns:
        (K, input height, input width) sums of votes.
    """
    k, rows, columns = logit_KHW.shape
    height, width = input_hw
    device, dtype = logit_KHW.device, logit_KHW.dtype
    limit = torch.logit(torch.tensor(threshold, dtype=torch.float64)).item()
    # Where a vector points is as linear between cells as the vector itself. The map of votes has two pixels around it,
    # which catch what falls outside, so that no vote needs a test.
    y_H = torch.arange(rows + 1, device=device, dtype=dtype) * stride + 1
    x_W = torch.arange(columns + 1, device=device, dtype=dtype) * stride + 1
    maps_K3HW = F.pad(torch.cat([logit_KHW[:, None], offset_K2HW], dim=1), (0, 1, 0, 1), mode="replicate")
    maps_K3HW[:, 1] += x_W
    maps_K3HW[:, 2] += y_H[:, None]
    above = maps_K3HW[:, 0] > limit
    near_KHW = above[:, :-1, :-1] | above[:, :-1, 1:] | above[:, 1:, :-1] | above[:, 1:, 1:]
    channel_A, i_A, j_A = near_KHW.nonzero(as_tuple=True)
    wide = columns + 1
    flat_3KHW = maps_K3HW.permute(1, 0, 2, 3).reshape(3, -1)
    t = torch.arange(stride, device=device)
    down_S, right_S = (g.reshape(-1) for g in torch.meshgrid(t, t, indexing="ij"))
    down, right = down_S.to(dtype) / stride, right_S.to(dtype) / stride
    share_4S = torch.stack([(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right])
    corner_4 = torch.tensor([0, 1, wide, wide + 1], device=device)
    overhang = rows * stride > height or columns * stride > width
    area = (height + 3) * (width + 3)
    # Not torch.zeros: its pages are fresh from the system, which costs more than all the votes of five people.
    votes = torch.empty(k * area, device=device, dtype=dtype).zero_()
    # On a CPU few enough blocks at a time that their votes stay in its cache: twice as fast.
    part = max(1, _CACHED // stride**2) if device.type == "cpu" else max(1, len(channel_A))
    for channel_a, i_a, j_a in zip(channel_A.split(part), i_A.split(part), j_A.split(part), strict=True):
        first_a = (channel_a * (rows + 1) + i_a) * wide + j_a
        dense_3aS = flat_3KHW[:, first_a[:, None] + corner_4] @ share_4S
        votes_aS = dense_3aS[0] > limit
        if overhang:  # the last blocks hang over the input's edge
            votes_aS &= (i_a * stride)[:, None] + down_S < height
            votes_aS &= (j_a * stride)[:, None] + right_S < width
        vote_V = votes_aS.view(-1).nonzero()[:, 0]
        weight_V = dense_3aS[0].view(-1)[vote_V].sigmoid_().mul_(scale)
        tx_V = dense_3aS[1].view(-1)[vote_V].clamp_(0, width + 1)
        ty_V = dense_3aS[2].view(-1)[vote_V].clamp_(0, height + 1)
        left_V, top_V = tx_V.floor(), ty_V.floor()
        fx_V, fy_V = tx_V.sub_(left_V), ty_V.sub_(top_V)
        place_V = top_V.double() if area > _EXACT else top_V
        at_V = place_V.mul_(width + 3).add_(left_V).long()
        at_V += (channel_a * area)[vote_V >> 2 * (stride.bit_length() - 1)]  # by stride^2, a power of two
        right_V, below_V = weight_V * fx_V, weight_V * fy_V
        both_V = right_V * fy_V
        votes.scatter_add_(0, at_V, weight_V.sub_(right_V).sub_(below_V).add_(both_V))
        votes.scatter_add_(0, at_V + 1, right_V.sub_(both_V))
        at_V += width + 3
        votes.scatter_add_(0, at_V, below_V.sub_(both_V))
        votes.scatter_add_(0, at_V + 1, both_V)
    return votes.view(k, height + 3, width + 3)[:, 1 : height + 1, 1 : width + 1]


def smooth(map_CHW: Tensor, sigma_C: tuple[float, ...]) -> Tensor:
    """Gaussian smoothing of each channel, truncated at 4 sigma (radius int(4 sigma + 1/2)), borders repeated.

    A sigma below 1/8 pixel has radius 0 and is exactly the identity, as in scipy's gaussian_filter.

    Args:
        map_CHW: maps.
        sigma_C: standard deviations, pixels.
    """
    radius = max(_radius(sigma) for sigma in sigma_C) if sigma_C else 0
    if radius == 0:
        return map_CHW
    c = map_CHW.shape[0]
    kernel_CT = torch.stack([_kernel(sigma, radius) for sigma in sigma_C]).to(map_CHW)
    padded = F.pad(map_CHW[None], (radius,) * 4, mode="replicate")
    rows = F.conv2d(padded, kernel_CT[:, None, None, :], groups=c)
    return F.conv2d(rows, kernel_CT[:, None, :, None], groups=c)[0]


def smooth_near(map_CHW: Tensor, sigma_C: tuple[float, ...], threshold: float, margin: int) -> Tensor:
    """`smooth`, but only where peaks can be: the rest of the map is 0.

    A smoothed value above the threshold needs a value above it within the kernel's reach. The result equals `smooth`
    at every such pixel and within `margin` pixels of it; most tiles of a map of keypoints are never touched.

    Args:
        map_CHW: maps, 0 or above.
        sigma_C: standard deviations, pixels.
        threshold: see above.
        margin: pixels.
    """
    c, height, width = map_CHW.shape
    radius = max(_radius(sigma) for sigma in sigma_C)
    if radius == 0:
        return map_CHW
    reach = radius + margin
    tile = max(_TILE, 2 * reach + 1)  # so that the neighbourhood of a pixel lies in at most two tiles per axis
    down, across = -(-height // tile), -(-width // tile)
    channel_A, y_A, x_A = _above(map_CHW, threshold)
    touched = torch.zeros(c, down, across, dtype=torch.bool, device=map_CHW.device)
    for y in ((y_A - reach).clamp_(min=0), (y_A + reach).clamp_(max=height - 1)):
        for x in ((x_A - reach).clamp_(min=0), (x_A + reach).clamp_(max=width - 1)):
            touched[channel_A, y // tile, x // tile] = True
    channel_T, row_T, column_T = touched.nonzero(as_tuple=True)
    out = map_CHW.new_empty(c, down * tile, across * tile).zero_()
    out_wide = across * tile
    to_T = channel_T * (down * tile * out_wide) + row_T * (tile * out_wide) + column_T * tile
    t = torch.arange(-radius, tile + radius, device=map_CHW.device)
    # A border that repeats is an index that stops there: no padded copy of the whole map.
    y_TS = (row_T[:, None] * tile + t).clamp_(0, height - 1) * width + (channel_T * height * width)[:, None]
    x_TS = (column_T[:, None] * tile + t).clamp_(0, width - 1)
    to_SS = torch.arange(tile, device=map_CHW.device)[:, None] * out_wide + torch.arange(tile, device=map_CHW.device)
    part = max(1, _CACHED // len(t) ** 2) if map_CHW.is_cpu else max(1, len(channel_T))
    own_T = torch.tensor(sigma_C, device=map_CHW.device)[channel_T]
    flat = map_CHW.reshape(-1)
    for sigma in sorted(set(sigma_C)):
        along_ST = _band(_kernel(sigma, radius).to(map_CHW), tile)
        mine = (own_T == torch.tensor(sigma, device=own_T.device)).nonzero()[:, 0]
        for some in mine.split(part):
            block_TSS = flat[y_TS[some][:, :, None] + x_TS[some][:, None]]
            out.view(-1)[to_T[some, None, None] + to_SS] = along_ST.T @ (block_TSS @ along_ST)
    return out[:, :height, :width]


def _band(kernel_D: Tensor, size: int) -> Tensor:
    """A kernel as the matrix that smooths `size + len(kernel) - 1` values to `size`."""
    d = len(kernel_D)
    band = kernel_D.new_zeros(size + d - 1, size)
    columns = torch.arange(size, device=kernel_D.device)
    for i in range(d):
        band[columns + i, columns] = kernel_D[i]
    return band


def _radius(sigma: float) -> int:
    return int(4 * sigma + 1 / 2)


def _kernel(sigma: float, radius: int) -> Tensor:
    """A normalised Gaussian of its own radius, padded with zeros to a common one."""
    t = torch.arange(-radius, radius + 1, dtype=torch.float64)
    own = _radius(sigma)
    if own == 0:
        return (t == 0).float()
    g = torch.exp(-(t**2) / (2 * sigma**2)) * (t.abs() <= own)
    return (g / g.sum()).float()


def sparse_peaks(map_KHW: Tensor, threshold: float, radius: int, refine: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels above a threshold that are the highest within a square window, moved to their centre of mass.

    Only pixels above the threshold are looked at, so its cost does not grow with the window's area. Of equal
    neighbours the first in reading order is the peak.

    Args:
        map_KHW: maps, 0 or above.
        threshold: peaks are higher than this.
        radius: [pixels] a peak is the highest of (2 radius + 1)^2.
        refine: [pixels] the centre of mass is that of (2 refine + 1)^2; 0 = the pixel itself.

    Returns:
        (N,) int64 channels, (N, 2) positions, (N,) heights; by channel, then in reading order.
    """
    height, width = map_KHW.shape[-2:]
    channel_N, y_N, x_N = _above(map_KHW, threshold)
    value_N = map_KHW[channel_N, y_N, x_N]
    for reach in sorted({1, radius} if radius >= 1 else {0}):  # the small window leaves few for the large one
        dy_T, dx_T = _window(reach, map_KHW.device)
        # Beyond the border stands the border's pixel, which lies in the window anyway: no padded copy of the whole map.
        y_NT, x_NT = (y_N[:, None] + dy_T).clamp_(0, height - 1), (x_N[:, None] + dx_T).clamp_(0, width - 1)
        around_NT = map_KHW[channel_N[:, None], y_NT, x_NT]
        before_NT = y_NT * width + x_NT < (y_N * width + x_N)[:, None]
        beaten_N = ((around_NT > value_N[:, None]) | ((around_NT == value_N[:, None]) & before_NT)).any(1)
        channel_N, y_N, x_N, value_N = (part[~beaten_N] for part in (channel_N, y_N, x_N, value_N))
    position_N2 = torch.stack([x_N, y_N], dim=-1).to(map_KHW.dtype)
    if refine > 0 and len(value_N):
        dy_T, dx_T = _window(refine, map_KHW.device)
        y_NT, x_NT = y_N[:, None] + dy_T, x_N[:, None] + dx_T
        inside_NT = (y_NT >= 0) & (y_NT < height) & (x_NT >= 0) & (x_NT < width)
        near_NT = map_KHW[channel_N[:, None], y_NT.clamp_(0, height - 1), x_NT.clamp_(0, width - 1)]
        mass_NT = torch.where(inside_NT, near_NT, 0.0)
        moved_N2 = torch.stack([(mass_NT * dx_T).sum(1), (mass_NT * dy_T).sum(1)], dim=-1)
        position_N2 = position_N2 + moved_N2 / mass_NT.sum(1, keepdim=True)
    return channel_N, position_N2, value_N


def _above(map_KHW: Tensor, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """Channel, y and x of the pixels above a threshold, in reading order; rows without any are skipped at once."""
    channel_R, y_R = (map_KHW.amax(-1) > threshold).nonzero(as_tuple=True)
    row_A, x_A = (map_KHW[channel_R, y_R] > threshold).nonzero(as_tuple=True)
    return channel_R[row_A], y_R[row_A], x_A


def _window(reach: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Offsets dy and dx of a window's pixels, in reading order."""
    t = torch.arange(-reach, reach + 1, device=device)
    dy, dx = torch.meshgrid(t, t, indexing="ij")
    return dy.reshape(-1), dx.reshape(-1)
