"""Batches of people placed by hand, for the tests of identity-vector grouping."""

from __future__ import annotations

from typing import Any

import torch

from repose import papers
from repose.config import load
from repose.papers.idgroup.module import IDGroupModule
from repose.types import Batch, People

SIDE = 256
# A standing person in a box of width 0.4 and height 1, COCO's joints.
SHAPE = torch.tensor(
    [
        [0.50, 0.08], [0.53, 0.06], [0.47, 0.06], [0.57, 0.07], [0.43, 0.07], [0.65, 0.20], [0.35, 0.20],
        [0.72, 0.35], [0.28, 0.35], [0.75, 0.50], [0.25, 0.50], [0.60, 0.52], [0.40, 0.52], [0.60, 0.75],
        [0.40, 0.75], [0.60, 0.97], [0.40, 0.97],
    ]
)  # fmt: skip


def config(*settings: str, experiment: str = "idgroup/mobilenetv3", scale: str = "smoke") -> Any:
    """An experiment at a scale."""
    return load(experiment, [f"scale={scale}", *settings], find_paper=papers.get).cfg


def module(*settings: str) -> IDGroupModule:
    """The module at smoke, from seed 0."""
    cfg = config(*settings)
    torch.manual_seed(0)
    return IDGroupModule(cfg, cfg.joint_set())


def person(x: float, y: float, height: float) -> torch.Tensor:
    """Joints (K, 3), input pixels, of somebody whose box starts at (x, y)."""
    point = SHAPE * torch.tensor([0.4 * height, height]) + torch.tensor([x, y])
    return torch.cat([point, torch.full((17, 1), 2.0)], 1)


def batch_of(*images: list[torch.Tensor], side: int = SIDE, **regions: torch.Tensor) -> Batch:
    """A batch of square images of people (their photographs are the inputs)."""
    joint = [p for image in images for p in image]
    owner = torch.tensor([b for b, image in enumerate(images) for _ in image], dtype=torch.int64)
    n, b = len(joint), len(images)
    people = People.empty(17)
    if n:
        joint_NK3 = torch.stack(joint)
        box = torch.cat([joint_NK3[..., :2].amin(1) - 2, joint_NK3[..., :2].amax(1) + 2], -1)
        people = People(
            owner_N=owner,
            ann_id_N=torch.arange(1, n + 1),
            joint_NK3=joint_NK3,
            box_N4=box,
            visible_fraction_N=torch.ones(n),
            box_img_N4=box,
            area_N=(box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]),
            labelled_N=torch.ones(n, dtype=torch.bool),
        )
    return Batch(
        image_B3HW=torch.zeros(b, 3, side, side, dtype=torch.uint8),
        valid_size_B2=torch.tensor([[side, side]]).expand(b, 2),
        to_image_B23=torch.tensor([[1.0, 0, 0], [0, 1.0, 0]], dtype=torch.float64).expand(b, 2, 3),
        image_id_B=torch.arange(1, b + 1),
        subject_id_B=torch.full((b,), -1),
        seed_B=torch.arange(b),
        box_img_B4=torch.zeros(b, 4),
        box_score_B=torch.ones(b),
        people=people,
        **regions,
    )
