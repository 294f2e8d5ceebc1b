"""Object keypoint similarity (OKS) as COCO's evaluation defines it, and greedy NMS by it.

Shapes: N poses, M ground-truth people, K joints. Source: cocodataset.org/#keypoints-eval; DRP-Net §3.1, Eq. 14, whose
k_i is twice COCO's sigma. All in float64 (float32 on MPS, which has no other): pycocotools computes in it, and
thresholds are compared with equality.
"""

from __future__ import annotations

import torch
from torch import Tensor

_EPS = 2.220446049250313e-16
"""np.spacing(1), which pycocotools adds to the area."""


def _exact(x: Tensor) -> Tensor:
    return x.float() if x.device.type == "mps" else x.double()


def oks(
    pose_NK2: Tensor,
    gt_MK3: Tensor,
    area_M: Tensor,
    sigmas: tuple[float, ...],
    box_img_M4: Tensor | None = None,
) -> Tensor:
    """OKS of every pose with every person.

    Args:
        pose_NK2: predicted joints, pixels.
        gt_MK3: annotated joints (x, y, v), same pixels; joints with v = 0 do not count.
        area_M: OKS area of the people, pixels^2.
        sigmas: K constants of the skeleton.
        box_img_M4: people's boxes (x1, y1, x2, y2). For people without labelled joints pycocotools measures how far
            each joint lies outside the box grown to twice its size; without boxes their OKS is 0.

    Returns:
        (N, M) in [0, 1], float64.
    """
    pose, gt = _exact(pose_NK2), _exact(gt_MK3)
    variance_K = _variance(sigmas, pose.device)
    visible_MK = gt[..., 2] > 0
    delta_NMK2 = pose[:, None] - gt[None, :, :, :2]
    squared_NMK = delta_NMK2.square().sum(-1)
    e_NMK = squared_NMK / variance_K / (_exact(area_M) + _EPS)[None, :, None] / 2
    count_M = visible_MK.sum(-1)
    similarity = (torch.exp(-e_NMK) * visible_MK).sum(-1) / count_M.clamp(min=1)
    if box_img_M4 is None:
        return similarity
    outside_NM = _outside(pose, _exact(box_img_M4), _exact(area_M), variance_K)
    return torch.where(count_M > 0, similarity, outside_NM)


def _variance(sigmas: tuple[float, ...], device: torch.device) -> Tensor:
    dtype = torch.float32 if device.type == "mps" else torch.float64
    return (2 * torch.tensor(sigmas, dtype=dtype, device=device)).square()


def _outside(pose_NK2: Tensor, box_M4: Tensor, area_M: Tensor, variance_K: Tensor) -> Tensor:
    size = box_M4[:, 2:] - box_M4[:, :2]
    low, high = box_M4[:, :2] - size, box_M4[:, 2:] + size  # the box and one box more on each side
    point = pose_NK2[:, None]
    beyond = (low[None, :, None] - point).clamp(min=0) + (point - high[None, :, None]).clamp(min=0)
    e_NMK = beyond.square().sum(-1) / variance_K / (area_M + _EPS)[None, :, None] / 2
    return torch.exp(-e_NMK).mean(-1)


def keypoint_similarity(pose_NK2: Tensor, gt_NK2: Tensor, area_N: Tensor, sigmas: tuple[float, ...]) -> Tensor:
    """Similarity joint by joint, exp(-d^2 / (2 s^2 k^2)): what OKS is the mean of.

    Args:
        pose_NK2: points; broadcasts against the other.
        gt_NK2: points to compare with, pixels.
        area_N: s^2, pixels^2.
        sigmas: K constants.

    Returns:
        (N, K), float64.
    """
    squared_NK = (_exact(pose_NK2) - _exact(gt_NK2)).square().sum(-1)
    return torch.exp(-squared_NK / _variance(sigmas, squared_NK.device) / (_exact(area_N) + _EPS)[:, None] / 2)


def pose_oks(joint_NK2: Tensor, area_N: Tensor, sigmas: tuple[float, ...]) -> Tensor:
    """OKS of predictions with one another: all joints count, s^2 is the mean of the two areas.

    Returns:
        (N, N), float64, symmetric, ones on the diagonal.
    """
    return oks_between(joint_NK2, area_N, joint_NK2, area_N, sigmas)


def oks_between(
    joint_NK2: Tensor, area_N: Tensor, other_MK2: Tensor, area_M: Tensor, sigmas: tuple[float, ...]
) -> Tensor:
    """OKS of predictions with other predictions: all joints count, s^2 is the mean of the two areas.

    Returns:
        (N, M), float64.
    """
    joint, other = _exact(joint_NK2), _exact(other_MK2)
    squared_NMK = (joint[:, None] - other[None]).square().sum(-1)
    mean_NM = (_exact(area_N)[:, None] + _exact(area_M)[None]) / 2 + _EPS
    return torch.exp(-squared_NMK / _variance(sigmas, joint.device) / mean_NM[..., None] / 2).mean(-1)


def oks_nms(joint_NK2: Tensor, score_N: Tensor, area_N: Tensor, sigmas: tuple[float, ...], threshold: float) -> Tensor:
    """Greedy non-maximum suppression by OKS.

    A pose is dropped if its OKS with a better one that stays is above `threshold`. Equal scores: the earlier one wins.

    Args:
        joint_NK2: poses of one image (further columns are ignored).
        score_N: instance scores.
        area_N: areas, pixels^2.
        sigmas: K constants.
        threshold: OKS in [0, 1].

    Returns:
        int64 indices that stay, best first.
    """
    order = torch.argsort(_exact(score_N), descending=True, stable=True)
    close_NN = pose_oks(joint_NK2[..., :2][order], area_N[order], sigmas) > threshold
    alive = torch.ones(len(order), dtype=torch.bool)
    for i, row in enumerate(close_NN.cpu()):
        if alive[i]:
            row = row.clone()
            row[: i + 1] = False
            alive &= ~row
    return order[alive.to(order.device)]
