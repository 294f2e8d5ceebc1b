"""Standing people in a batch of 401x401 images, for the tests of KDC."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from repose import papers
from repose.config import load
from repose.papers.kdc.module import KDCModule
from repose.skeleton import COCO17
from repose.types import Batch, People

SIDE = 401
# A standing person in a box of width 0.4 and height 1, COCO's joints.
SHAPE = torch.tensor(
    [
        [0.50, 0.08], [0.53, 0.06], [0.47, 0.06], [0.57, 0.07], [0.43, 0.07], [0.65, 0.20], [0.35, 0.20],
        [0.72, 0.35], [0.28, 0.35], [0.75, 0.50], [0.25, 0.50], [0.60, 0.52], [0.40, 0.52], [0.60, 0.75],
        [0.40, 0.75], [0.60, 0.97], [0.40, 0.97],
    ]
)  # fmt: skip


def person(x: float, y: float, height: float, *missing: str) -> torch.Tensor:
    """Joints (K, 3) of somebody whose box starts at (x, y), without the joints named."""
    joint = torch.cat(
        [SHAPE * torch.tensor([0.4 * height, height]) + torch.tensor([x, y]), torch.full((17, 1), 2.0)], 1
    )
    for name in missing:
        joint[COCO17.index(name)] = 0
    return joint


def body(joint_K3: torch.Tensor, size: int, stride: int) -> torch.Tensor:
    """A rectangle around the labelled joints as a mask."""
    known = joint_K3[joint_K3[:, 2] > 0, :2]
    low, high = known.amin(0) - 4, known.amax(0) + 4
    t = torch.arange(size) * stride
    return (((t >= low[1]) & (t <= high[1]))[:, None] & ((t >= low[0]) & (t <= high[0]))).to(torch.uint8)


def batch_of(*images: list[torch.Tensor], masks: str | None = "stride4", side: int = SIDE) -> Batch:
    """A batch of images of people; masks are rectangles."""
    joint = [p for image in images for p in image]
    owner = torch.tensor([b for b, image in enumerate(images) for _ in image], dtype=torch.int64)
    n, b = len(joint), len(images)
    joint_NK3 = torch.stack(joint) if joint else torch.zeros(0, 17, 3)
    stride = 1 if masks == "full" else 4
    size = -(-side // stride)
    mask = None
    if masks is not None:
        mask = torch.stack([body(p, size, stride) for p in joint]) if joint else torch.zeros(0, size, size).byte()
    low = joint_NK3[..., :2].amin(1) if n else torch.zeros(0, 2)
    high = joint_NK3[..., :2].amax(1) if n else torch.zeros(0, 2)
    people = People(
        owner_N=owner,
        ann_id_N=torch.arange(n),
        joint_NK3=joint_NK3,
        box_N4=torch.cat([low, high], -1),
        visible_fraction_N=torch.ones(n),
        box_img_N4=torch.cat([low, high], -1),
        area_N=(high - low).prod(-1),
        labelled_N=joint_NK3[..., 2].any(1) if n else torch.zeros(0, dtype=torch.bool),
        mask_NHW=mask,
    )
    region = torch.zeros(b, 1, -(-side // 4), -(-side // 4), dtype=torch.uint8)
    return Batch(
        image_B3HW=torch.zeros(b, 3, side, side, dtype=torch.uint8),
        valid_size_B2=torch.full((b, 2), side),
        to_image_B23=torch.tensor([[1.0, 0, 0], [0, 1.0, 0]], dtype=torch.float64).expand(b, 2, 3),
        image_id_B=torch.arange(1, b + 1),
        subject_id_B=torch.full((b,), -1),
        seed_B=torch.arange(b),
        box_img_B4=torch.zeros(b, 4),
        box_score_B=torch.ones(b),
        people=people,
        crowd_B1HW=region.clone(),
        unlabelled_B1HW=region.clone(),
    )


def config(*settings: str, experiment: str = "kdc/r101") -> Any:
    """KDC's settings at the paper's size."""
    return load(experiment, list(settings), find_paper=papers.get).cfg


class Headless(KDCModule):
    """Everything but the network: for targets, oracles and decoding."""

    def build(self) -> Any:
        return nn.Identity()


def headless(*settings: str, experiment: str = "kdc/r101") -> Headless:
    cfg = config(*settings, experiment=experiment)
    return Headless(cfg, cfg.joint_set()).eval()
