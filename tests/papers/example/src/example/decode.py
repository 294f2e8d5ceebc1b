"""From heatmaps to joints. Shapes: B crops, K joints, H W cells."""

from __future__ import annotations

import torch
from torch import Tensor

from repose.ops.heatmap import find_peak
from repose.types import Poses

from .config import Decode
from .model import STRIDE


def decode(heatmap_BKHW: Tensor, cfg: Decode) -> list[Poses]:
    """One person per crop: each joint lies at its heatmap's peak, whose height is its score."""
    cell_BK2, height_BK = find_peak(heatmap_BKHW, cfg.refine, sigma=1.0)
    joint_BK3 = torch.cat([cell_BK2 * STRIDE, height_BK.clamp(0, 1)[..., None]], -1)
    return [Poses(joint_K3[None], joint_K3[None, :, 2].mean(-1)) for joint_K3 in joint_BK3]
