"""Targets of Mask R-CNN, in torchvision's form and coordinates.

torchvision measures from edges: an image of width W spans [0, W], ours [-EDGE, W - EDGE], so boxes and joints move by
EDGE (the centre of pixel 0 is at EDGE). Column i of the U x U map of a box (x1, y1, x2, y2) lies at
x = x1 + (i + EDGE) / U * (x2 - x1). Shapes: B images, N people of one image, K joints, H W input pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from repose.geometry import EDGE
from repose.papers.baselines.maskrcnn.config import Loss
from repose.types import Batch

PERSON = 1
"""Class of people, here and in torchvision's weights."""


class Targets(NamedTuple):
    """Ground truth of a batch of images.

    Attributes:
        people: per image what torchvision's losses read: `boxes` (N, 4), `labels` (N,), `keypoints` (N, K, 3) and,
            where masks were shipped, `masks` (N, H, W).
        size_hw: per image the height and width that the photograph can cover; boxes end there.
        seed_B: of the draws of anchors and proposals.
    """

    people: list[dict[str, Tensor]]
    size_hw: list[tuple[int, int]]
    seed_B: Tensor


def encode(batch: Batch, cfg: Loss) -> Targets:
    """Boxes, joints and masks of each image's people; those without joints have a box all the same (torchvision).

    Args:
        batch: image view.
        cfg: `min_side`.
    """
    everybody = batch.people
    box_N4 = everybody.box_N4.float() + EDGE
    joint_NK3 = everybody.joint_NK3.float() + torch.tensor([EDGE, EDGE, 0.0], device=box_N4.device)
    whole_N = (box_N4[:, 2:] - box_N4[:, :2]).amin(-1) >= cfg.min_side
    people: list[dict[str, Tensor]] = []
    for i in range(batch.b):
        mine = whole_N & (everybody.owner_N == i)
        person = {
            "boxes": box_N4[mine],
            "labels": torch.full_like(everybody.owner_N[mine], PERSON),
            "keypoints": joint_NK3[mine],
        }
        if everybody.mask_NHW is not None:
            person["masks"] = everybody.mask_NHW[mine]
        elif not everybody.n:  # torchvision wants masks of nobody, too
            person["masks"] = torch.zeros(0, *batch.image_B3HW.shape[-2:], dtype=torch.uint8, device=box_N4.device)
        people.append(person)
    return Targets(people, sizes(batch), batch.seed_B)


def sizes(batch: Batch) -> list[tuple[int, int]]:
    """Height and width up to which each image can be covered by its photograph."""
    last_B2 = batch.valid_size_B2 if batch.valid_origin_B2 is None else batch.valid_size_B2 + batch.valid_origin_B2
    return [(height, width) for width, height in last_B2.tolist()]
