"""From views to logits, and from logits to joints. Shapes: B crops, K joints, L bins of an axis."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from repose.geometry import EDGE
from repose.papers.baselines.rtmpose.config import Decode
from repose.papers.baselines.rtmpose.model import Outputs
from repose.types import Poses


def merge(outputs: Sequence[Outputs], mirrored: Sequence[bool], flip_index: Sequence[int], split: int) -> Outputs:
    """Logits averaged over the views; mirrored ones are mirrored back, left and right joints swapped.

    Pixel x of the mirrored picture is W - 1 - x, so bin i is bin split * (W - 1) - i; the last split - 1 bins, beyond
    the last pixel's centre, have no partner and keep the plain view's logits. Differs from mmpose's code: it reverses
    the bins, half a pixel off.

    Args:
        outputs: of each view; the first is not mirrored.
        mirrored: whether each view is mirrored.
        flip_index: K joint indices of the mirrored person.
        split: bins per pixel.
    """
    swap = list(flip_index)
    plain_BKX = outputs[0].x_BKX.float()
    whole = plain_BKX.shape[-1] - (split - 1)

    def back(x_BKX: Tensor) -> Tensor:
        return torch.cat([x_BKX.float()[..., :whole].flip(-1)[:, swap], plain_BKX[..., whole:]], dim=-1)

    x = [back(o.x_BKX) if m else o.x_BKX.float() for o, m in zip(outputs, mirrored, strict=True)]
    y = [o.y_BKY.float()[:, swap] if m else o.y_BKY.float() for o, m in zip(outputs, mirrored, strict=True)]
    return Outputs(torch.stack(x).mean(0), torch.stack(y).mean(0))


def decode(outputs: Outputs, cfg: Decode, split: int) -> list[Poses]:
    """One person per crop, input pixels: the bin of the maximum, per axis (SimCC; RTMPose §3.1).

    A joint's score is the smaller of both maxima, at least 0: a logit, which may exceed 1 (mmpose's code).
    """
    x_BK, x_score_BK = peak(outputs.x_BKX.float(), cfg.refine)
    y_BK, y_score_BK = peak(outputs.y_BKY.float(), cfg.refine)
    score_BK = torch.minimum(x_score_BK, y_score_BK).clamp(min=0)
    joint_BK3 = torch.stack([x_BK / split, y_BK / split, score_BK], dim=-1)
    return [Poses(joint_NK3=joint[None], score_N=joint[None, :, 2].mean(-1)) for joint in joint_BK3]


def peak(logit_BKL: Tensor, refine: bool) -> tuple[Tensor, Tensor]:
    """Position (bins) and height of each maximum, both (B, K); the parabola's vertex with `refine`."""
    value, index = logit_BKL.max(-1)
    if not refine:
        return index.float(), value
    last = logit_BKL.shape[-1] - 1
    before = logit_BKL.gather(-1, (index - 1).clamp(min=0)[..., None])[..., 0]
    after = logit_BKL.gather(-1, (index + 1).clamp(max=last)[..., None])[..., 0]
    curve = 2 * value - before - after  # 0 on a plateau, which has no vertex
    inner = (index > 0) & (index < last) & (curve > 0)
    offset = (after - before) / (2 * torch.where(inner, curve, torch.ones_like(curve)))
    return index + torch.where(inner, offset.clamp(-EDGE, EDGE), torch.zeros_like(offset)), value
