"""The person of each crop, for top-down methods. Shapes: B crops, K joints, N annotated people of the batch."""

from __future__ import annotations

import torch
from torch import Tensor

from repose.geometry import EDGE
from repose.types import Batch


def crop_joints(batch: Batch, k: int) -> tuple[Tensor, Tensor]:
    """Joints of the person that each crop is of.

    Args:
        batch: person view.
        k: number of joints.

    Returns:
        (B, K, 2) input pixels, zero where a joint has no weight; (B, K) weights: 1 for labelled joints (v > 0) inside
        the crop, else 0. Crops without an annotated person have weight 0 everywhere.
    """
    people = batch.people
    joint_BK3 = torch.zeros(batch.b, k, 3, device=people.joint_NK3.device)
    joint_BK3[people.owner_N] = people.joint_NK3.float()
    x, y = joint_BK3[..., 0], joint_BK3[..., 1]
    width, height = batch.input_wh
    in_crop_BK = (x >= -EDGE) & (x <= width - EDGE) & (y >= -EDGE) & (y <= height - EDGE)
    weight_BK = ((joint_BK3[..., 2] > 0) & in_crop_BK).float()
    # Where a joint without label lies means nothing, not even when it is nan: no gradient may see it.
    point_BK2 = torch.where(weight_BK[..., None] > 0, joint_BK3[..., :2], torch.zeros_like(joint_BK3[..., :2]))
    return point_BK2, weight_BK
