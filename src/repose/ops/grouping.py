"""Poses of one person brought together: greedy clusters by OKS, and their fusion joint by joint.

Shapes: N candidate poses of one image, G groups, K joints. Source: PINet §3.4 (PF), spec 7.8.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from repose.ops.oks import pose_oks


class Grouped(NamedTuple):
    """What is left of an image's candidates, best first (by the score before fusion).

    Attributes:
        joint_GK3: x, y and score of each joint.
        score_G: mean of the joint scores after fusion; without it the kept candidate's score.
        kept_G: int64, candidate each group is built around.
        group_N: int64, group of every candidate.
    """

    joint_GK3: Tensor
    score_G: Tensor
    kept_G: Tensor
    group_N: Tensor


def extent_area(joint_NK2: Tensor) -> Tensor:
    """Area of the tight box around all joints, pixels^2, (N,)."""
    size_N2 = joint_NK2.amax(1) - joint_NK2.amin(1)
    return size_N2[:, 0] * size_N2[:, 1]


def greedy_groups(close_NN: Tensor) -> Tensor:
    """Groups of candidates that are sorted best first: the best one left takes all that are close to it.

    Args:
        close_NN: bool; row i says who is a duplicate of candidate i.

    Returns:
        (N,) int64 on the CPU: the candidate that heads each one's group (a head: itself).
    """
    close = close_NN.cpu().numpy()
    head = np.full(len(close), -1, np.int64)
    for i in range(len(close)):
        if head[i] < 0:
            head[(head < 0) & close[i]] = i
            head[i] = i
    return torch.from_numpy(head)


def group_poses(
    joint_NK3: Tensor,
    sigmas: tuple[float, ...],
    threshold: float,
    fuse: bool = True,
    score_N: Tensor | None = None,
    area_N: Tensor | None = None,
) -> Grouped:
    """Greedy OKS clustering of an image's candidates, then one pose per cluster (PINet §3.4; spec 7.8).

    A candidate joins the best pose left whose OKS with it is strictly above `threshold`. With `fuse` each joint of a
    group is that of the member with the highest joint score (equal ones: the better pose's), without it the kept
    pose stands: plain NMS. OKS takes the mean of the two areas and all K joints.

    Args:
        joint_NK3: x, y (pixels of one frame) and joint score.
        sigmas: K constants.
        threshold: OKS, gamma of the paper.
        fuse: fuse joint by joint (PF).
        score_N: pose scores; None = mean of the joint scores.
        area_N: areas, pixels^2; None = extents of the joints.
    """
    joint_NK3 = joint_NK3.float()
    score_N = joint_NK3[..., 2].mean(-1) if score_N is None else score_N.float()
    area_N = extent_area(joint_NK3[..., :2]) if area_N is None else area_N
    order_N = torch.argsort(score_N, descending=True, stable=True)
    sorted_NK3 = joint_NK3[order_N]
    head_N = greedy_groups(pose_oks(sorted_NK3[..., :2], area_N[order_N], sigmas) > threshold).to(order_N.device)
    first_G, group_N = torch.unique(head_N, return_inverse=True)  # ascending: best first
    unsorted_N = torch.empty_like(group_N).index_copy(0, order_N, group_N)
    if not fuse:
        kept_GK3 = sorted_NK3[first_G]
        return Grouped(kept_GK3, score_N[order_N][first_G], order_N[first_G], unsorted_N)
    r_NK = sorted_NK3[..., 2]
    n, k = r_NK.shape
    index_NK = group_N[:, None].expand(n, k)
    best_GK = r_NK.new_full((len(first_G), k), -float("inf")).scatter_reduce(0, index_NK, r_NK, "amax")
    place_NK = torch.arange(n, device=order_N.device)[:, None].expand(n, k)
    place_NK = torch.where(r_NK == best_GK[group_N], place_NK, n)
    who_GK = torch.full_like(best_GK, n, dtype=torch.int64).scatter_reduce(0, index_NK, place_NK, "amin")
    fused_GK3 = sorted_NK3[who_GK, torch.arange(k, device=order_N.device)]
    return Grouped(fused_GK3, best_GK.mean(-1), order_N[first_G], unsorted_N)
