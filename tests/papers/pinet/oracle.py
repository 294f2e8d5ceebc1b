"""Targets as if they were predictions: what the decoder makes of perfect (or perturbed) maps."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from repose.config import Data
from repose.data.views import ImageView
from repose.geometry import edges_to_box
from repose.papers.pinet.config import Decode, Experiment, Loss, Model
from repose.papers.pinet.decode import Scale, Swap, candidates, decode
from repose.papers.pinet.model import Maps
from repose.papers.pinet.parts import Partition, partition
from repose.papers.pinet.targets import encode
from repose.skeleton import Skeleton
from repose.types import Batch, People, Poses


def read_crowdpose(file: Path, images: int | None = None) -> dict[str, Any]:
    """CrowdPose's ground truth with the area of its protocol; the first `images` of every crowd index group alike."""
    gt = json.loads(file.read_text())
    if images is not None:
        gt["images"] = gt["images"][:: len(gt["images"]) // images][:images]
    kept = {image["id"] for image in gt["images"]}
    gt["annotations"] = [a for a in gt["annotations"] if a["image_id"] in kept]
    for annotation in gt["annotations"]:
        annotation["area"] = 0.53 * annotation["bbox"][2] * annotation["bbox"][3]
    return gt


def test_batch(image: dict[str, Any], annotations: list[dict[str, Any]], data: Data, k: int) -> Batch:
    """An image at test resolution, without its pixels; joints without label lie at the person's mean."""
    crop, canvas = ImageView(data).plain((image["width"], image["height"]))
    affine = crop.affine(canvas.wh)
    n = len(annotations)
    joint = np.array([a["keypoints"] for a in annotations], np.float64).reshape(n, k, 3)
    given = joint[..., 2] > 0
    mean = (joint[..., :2] * given[..., None]).sum(1, keepdims=True) / given.sum(1)[:, None, None].clip(1)
    joint[..., :2] = np.where(given[..., None], joint[..., :2], mean)
    point = affine.points(joint[..., :2])
    box = edges_to_box(np.array([a["bbox"] for a in annotations], np.float64).reshape(n, 4))
    empty = People.empty(k)
    people = People(
        owner_N=torch.zeros(n, dtype=torch.int64),
        ann_id_N=torch.tensor([a["id"] for a in annotations], dtype=torch.int64),
        joint_NK3=torch.cat([torch.from_numpy(point).float(), torch.full((n, k, 1), 2.0)], -1),
        box_N4=torch.zeros(n, 4),
        visible_fraction_N=torch.ones(n),
        box_img_N4=torch.from_numpy(box).float(),
        area_N=torch.tensor([a["area"] for a in annotations]),
        labelled_N=torch.ones(n, dtype=torch.bool),
        given_NK=torch.from_numpy(given),
    )
    return Batch(
        image_B3HW=torch.zeros(1, 1, 1, 1, dtype=torch.uint8).expand(1, 3, canvas.wh[1], canvas.wh[0]),
        valid_size_B2=torch.tensor([canvas.valid_wh]),
        to_image_B23=torch.from_numpy(affine.inverse_23())[None],
        image_id_B=torch.tensor([image["id"]]),
        subject_id_B=torch.tensor([-1]),
        seed_B=torch.zeros(1, dtype=torch.int64),
        box_img_B4=torch.zeros(1, 4),
        box_score_B=torch.ones(1),
        people=people if n else empty,
    )


def perfect_maps(batch: Batch, parts: Partition, k: int, noise: float = 0.0, seed: int = 0) -> Maps:
    """PPG's maps as their targets, offsets perturbed by `noise` times their length."""
    targets = encode(batch, parts, Loss(min_area=0.0))
    cells = targets.cells
    offset = cells.target_MD.unflatten(1, (k, 2))
    if noise > 0:
        # one error for all cells of a centre, as a network's neighbouring cells have
        generator = torch.Generator().manual_seed(seed)
        n = int(cells.centre_M.max()) + 1 if len(cells.centre_M) else 0
        error = torch.randn(n, k, 2, generator=generator)[cells.centre_M]
        offset = offset + noise * error * offset.norm(dim=-1, keepdim=True)
    b, _, height, width = targets.heat_BJHW.shape
    dense = torch.zeros(b, parts.p, 2 * k, height, width)
    dense[cells.owner_M, cells.part_M, :, cells.cell_M2[:, 1], cells.cell_M2[:, 0]] = offset.flatten(1)
    part = targets.heat_BJHW[:, k:]
    people = batch.people
    if people.given_NK is not None:  # joints without label have offsets here, but no peak
        labelled = people.joint_NK3 * people.given_NK[..., None]
        targets = encode(replace(batch, people=replace(people, joint_NK3=labelled)), parts, Loss(min_area=0.0))
    heat = targets.heat_BJHW[:, :k]
    return Maps(torch.zeros(b, 1, height, width), heat, part, dense)


def decode_oracle(
    gt: dict[str, Any], skeleton: Skeleton, strategy: Any, cfgs: list[Decode], noise: float = 0.0
) -> list[tuple[list[int], list[Poses], list[Batch]]]:
    """People of every image for each of the decoder's settings, in input pixels."""
    parts = partition(Model(partition=strategy), skeleton)
    swap = Swap(list(skeleton.flip_index), list(parts.flip_index))
    data = Experiment().data
    by_image: dict[int, list[dict[str, Any]]] = {}
    for annotation in gt["annotations"]:
        if not annotation["iscrowd"]:
            by_image.setdefault(annotation["image_id"], []).append(annotation)
    results: list[tuple[list[int], list[Poses], list[Batch]]] = [([], [], []) for _ in cfgs]
    for image in gt["images"]:
        batch = test_batch(image, by_image.get(image["id"], []), data, skeleton.k)
        maps = perfect_maps(batch, parts, skeleton.k, noise, seed=image["id"])
        found = candidates([Scale(maps, None, batch)], None, swap, cfgs[0])
        for cfg, (ids, poses, batches) in zip(cfgs, results, strict=True):
            ids.append(image["id"])
            poses.extend(decode(found, skeleton.sigmas, cfg))
            batches.append(batch)
    return results


test_batch.__test__ = False  # pytest collects functions called test_...
