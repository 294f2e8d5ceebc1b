"""Losses on sets of pixels. Shapes: N sets (instances), P pixels.

Source: Berman et al., "The Lovasz-Softmax loss", CVPR 2018, Alg. 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

_IGNORED = -1e4


def lovasz_hinge(logit_NP: Tensor, member_NP: Tensor, valid_NP: Tensor) -> Tensor:
    """Lovasz hinge of each set: a convex surrogate of 1 - IoU.

    Args:
        logit_NP: scores, above 0 where the pixel is said to belong to the set.
        member_NP: bool, whether it does.
        valid_NP: bool, pixels that count.

    Returns:
        (N,), 0 where every pixel is right by a margin of 1.
    """
    sign_NP = member_NP.to(logit_NP.dtype) * 2 - 1
    # Pixels that do not count are sorted to the end, where they change no other pixel's share, and have no hinge.
    error_NP = torch.where(valid_NP, 1 - logit_NP * sign_NP, _IGNORED)
    sorted_NP, order_NP = error_NP.sort(dim=1, descending=True)
    truth_NP = (member_NP & valid_NP).to(logit_NP.dtype).gather(1, order_NP)
    total_N1 = truth_NP.sum(1, keepdim=True)
    left_NP = total_N1 - truth_NP.cumsum(1)
    union_NP = total_N1 + (1 - truth_NP).cumsum(1)
    jaccard_NP = 1 - left_NP / union_NP
    share_NP = torch.cat([jaccard_NP[:, :1], jaccard_NP[:, 1:] - jaccard_NP[:, :-1]], dim=1)
    return (sorted_NP.relu() * share_NP).sum(1)


def dice(probability_NP: Tensor, member_NP: Tensor, valid_NP: Tensor) -> Tensor:
    """1 - 2 |p g| / (|p|^2 + |g|^2) of each set, (N,). Arguments as `lovasz_hinge`, probabilities for scores."""
    p = probability_NP * valid_NP
    g = (member_NP & valid_NP).to(p.dtype)
    return 1 - 2 * (p * g).sum(1) / (p.square().sum(1) + g.sum(1)).clamp(min=1e-6)
