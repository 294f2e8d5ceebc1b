"""A drawn batch: people as discs and limbs, with exact joints, for any skeleton and either view."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import cv2
import numpy as np
import torch

from repose.skeleton import Skeleton
from repose.types import Batch, People

# A skeleton that is nobody's: five joints, one flip pair, its own sigmas.
FIVE: dict[str, Any] = {
    "name": "five",
    "joints": ["top", "left_side", "right_side", "middle", "bottom"],
    "flip_pairs": [["left_side", "right_side"]],
    "limbs": [["top", "middle"], ["middle", "bottom"], ["left_side", "middle"], ["right_side", "middle"]],
    "sigmas": [0.05, 0.06, 0.06, 0.08, 0.08],
    "groups": {
        "upper": ["top", "left_side", "right_side", "middle"],
        "lower": ["bottom"],
        "head": ["top"],
        "torso": ["left_side", "right_side", "middle"],
        "legs": ["bottom"],
    },
}


def drawn_batch(
    skeleton: Skeleton, images: int, input_hw: tuple[int, int], people_per_image: int = 1, seed: int = 0
) -> Batch:
    """Images of people whose joints are discs of the joint's own colour; all joints labelled and visible."""
    rng = np.random.default_rng(seed)
    height, width = input_hw
    k = skeleton.k
    colour_K3 = cv2.cvtColor(
        np.stack([np.linspace(0, 179, k), np.full(k, 255), np.where(np.arange(k) % 2, 255, 160)], -1)[None].astype(
            "uint8"
        ),
        cv2.COLOR_HSV2RGB,
    )[0]
    image_BHW3 = rng.integers(90, 130, (images, height, width, 3), dtype=np.uint8)
    joints, owners = [], []
    radius = max(2, round(min(height, width / people_per_image) / 24))
    for b in range(images):
        for p in range(people_per_image):
            low, high = width * p / people_per_image, width * (p + 1) / people_per_image
            x = rng.uniform(low + 2 * radius, high - 2 * radius, k)
            y = rng.uniform(2 * radius, height - 2 * radius, k)
            point = np.stack([x, y], -1)
            for i, j in skeleton.limb_index:
                ends = [tuple(int(v) for v in np.round(point[q])) for q in (i, j)]
                cv2.line(image_BHW3[b], ends[0], ends[1], (70, 70, 70), 1)
            for i in range(k):
                spot = tuple(int(v) for v in np.round(point[i] * 16))
                cv2.circle(image_BHW3[b], spot, radius * 16, colour_K3[i].tolist(), -1, cv2.LINE_AA, 4)
            joints.append(np.concatenate([point, np.full((k, 1), 2.0)], -1))
            owners.append(b)
    joint_NK3 = torch.tensor(np.stack(joints), dtype=torch.float32)
    owner_N = torch.tensor(owners)
    low_N2, high_N2 = joint_NK3[..., :2].amin(1), joint_NK3[..., :2].amax(1)
    box_N4 = torch.cat([low_N2 - radius, high_N2 + radius], -1)
    n = len(owners)
    people = People(
        owner_N=owner_N,
        ann_id_N=torch.arange(1, n + 1),
        joint_NK3=joint_NK3,
        box_N4=box_N4,
        visible_fraction_N=torch.ones(n),
        box_img_N4=box_N4,
        area_N=(box_N4[:, 2] - box_N4[:, 0]) * (box_N4[:, 3] - box_N4[:, 1]),
        labelled_N=torch.ones(n, dtype=torch.bool),
    )
    edge = torch.tensor([-0.5, -0.5, width - 0.5, height - 0.5])
    return Batch(
        image_B3HW=torch.from_numpy(image_BHW3).permute(0, 3, 1, 2).contiguous(),
        valid_size_B2=torch.tensor([[width, height]]).expand(images, 2),
        to_image_B23=torch.tensor([[1.0, 0, 0], [0, 1.0, 0]], dtype=torch.float64).expand(images, 2, 3),
        image_id_B=torch.arange(1, images + 1),
        subject_id_B=torch.arange(1, images + 1) if people_per_image == 1 else torch.full((images,), -1),
        seed_B=torch.arange(images) + 1000 * seed,
        box_img_B4=edge.expand(images, 4),
        box_score_B=torch.ones(images),
        people=people,
        epoch_B=torch.zeros(images, dtype=torch.int64),
    )


def with_masks(batch: Batch, masks: str) -> Batch:
    """The same batch with what `data.masks` ships: each person's mask is the convex hull of its joints."""
    stride = 4 if masks == "stride4" else 1
    width, height = batch.input_wh
    mask = np.zeros((batch.people.n, -(-height // stride), -(-width // stride)), np.uint8)
    for n, joint_K3 in enumerate(batch.people.joint_NK3.numpy()):
        hull = cv2.convexHull(np.round(joint_K3[:, :2] / stride).astype(np.int32))
        cv2.fillConvexPoly(mask[n], hull, 1)
    region = torch.zeros(batch.b, 1, -(-height // 4), -(-width // 4), dtype=torch.uint8)
    people = replace(batch.people, mask_NHW=torch.from_numpy(mask))
    return replace(batch, people=people, crowd_B1HW=region, unlabelled_B1HW=region)


def without_people(batch: Batch, k: int) -> Batch:
    """The same images with nobody annotated."""
    return replace(batch, people=People.empty(k))


def one_image(batch: Batch, i: int) -> Batch:
    """Image i of a batch as a batch of its own."""
    mine = batch.people.owner_N == i
    values = {f.name: getattr(batch.people, f.name) for f in fields(People)}
    people = replace(batch.people, **{name: value[mine] for name, value in values.items() if value is not None})
    people = replace(people, owner_N=torch.zeros_like(people.owner_N))
    cut = {
        f.name: getattr(batch, f.name)[i : i + 1]
        for f in fields(Batch)
        if isinstance(getattr(batch, f.name), torch.Tensor)
    }
    return replace(batch, people=people, **cut)


def coco_ground_truth(batch: Batch, skeleton: Skeleton) -> dict[str, Any]:
    """The batch's people as a COCO-format dict (the photograph is the input)."""
    people = batch.people
    height, width = batch.image_B3HW.shape[-2:]
    annotations = []
    for n in range(people.n):
        x1, y1, x2, y2 = people.box_N4[n].tolist()
        annotations.append(
            {
                "id": int(people.ann_id_N[n]),
                "image_id": int(batch.image_id_B[people.owner_N[n]]),
                "category_id": 1,
                "keypoints": people.joint_NK3[n].flatten().tolist(),
                "num_keypoints": int((people.joint_NK3[n, :, 2] > 0).sum()),
                "area": float(people.area_N[n]),
                "iscrowd": 0,
                "bbox": [x1 + 0.5, y1 + 0.5, x2 - x1, y2 - y1],
            }
        )
    return {
        "images": [
            {"id": int(i), "width": width, "height": height, "file_name": f"{int(i)}.jpg"} for i in batch.image_id_B
        ],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person", "keypoints": list(skeleton.joints), "skeleton": []}],
    }
