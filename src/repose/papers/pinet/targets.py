"""Targets of PINet.

Cell-to-pixel map: cell i of a map (stride 4) is input pixel 4 i. Offsets are cell minus joint, in cells, so a joint is
its cell minus the offset. `encode` and decode.py both use `STRIDE`.

Shapes: B images, N people of the batch, K joints, P parts, J = K + P channels (joints first), M target cells, Q of them
that PR is trained on, D = 2 K, H W cells.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from repose.ops.bottom_up import given_joints, heat_weight, image_mask, mean_point, on_map
from repose.ops.heatmap import people_heatmaps
from repose.ops.offsets import OffsetCells, offset_cells, top_per_group
from repose.papers.pinet.config import Loss
from repose.papers.pinet.parts import Partition
from repose.types import Batch, People

STRIDE = 4
"""[input pixels] per cell."""


class Targets(NamedTuple):
    """Ground truth of a batch.

    Attributes:
        heat_BJHW: heatmaps of the joints, then of the part centres (H* and P*).
        weight_BJHW: their weights M.
        cells: where offsets are taught, and which (Omega and o*).
        proposal_Q: indices of the cells whose predicted poses PR is trained on (T).
    """

    heat_BJHW: Tensor
    weight_BJHW: Tensor
    cells: OffsetCells
    proposal_Q: Tensor


def part_centres(people: People, joint_NK2: Tensor, parts: Partition) -> tuple[Tensor, Tensor]:
    """Mean of each part's labelled joints, those outside the input too: (N, P, 2), and whether there is one, (N, P)."""
    n, k = joint_NK2.shape[:2]
    of_part_PK = torch.zeros(parts.p, k, dtype=torch.bool, device=joint_NK2.device)
    for p, joints in enumerate(parts.joints):
        of_part_PK[p, list(joints)] = True
    counts_NPK = given_joints(people)[:, None] & of_part_PK
    point_NPK2 = joint_NK2[:, None].expand(n, parts.p, k, 2)
    centre_NP2 = mean_point(point_NPK2.flatten(0, 1), counts_NPK.flatten(0, 1)).view(n, parts.p, 2)
    return centre_NP2, counts_NPK.any(-1)


def box_area_in(batch: Batch) -> Tensor:
    """Area of each person's annotated box in input pixels^2, outside parts included (A), (N,)."""
    people = batch.people
    size_N2 = people.box_img_N4[:, 2:] - people.box_img_N4[:, :2]
    m = batch.to_image_B23
    shrink_B = (m[:, 0, 0] * m[:, 1, 1] - m[:, 0, 1] * m[:, 1, 0]).abs()
    return (size_N2[:, 0] * size_N2[:, 1] / shrink_B[people.owner_N]).float()


def encode(batch: Batch, parts: Partition, cfg: Loss) -> Targets:
    """Heatmaps, weights, offset cells and PR's proposals of a batch of images (PINet §3.2; spec 3).

    A person has no centre of a part none of whose joints is labelled, or whose centre lies outside the map; people in
    boxes smaller than `loss.min_area` have none at all. Their joints are in the heatmaps all the same.
    """
    people = batch.people
    width, height = batch.input_wh
    size_hw = (-(-height // STRIDE), -(-width // STRIDE))
    joint_NK2 = people.joint_NK3[..., :2].float() / STRIDE
    if cfg.legacy_flip:
        joint_NK2 = joint_NK2 - _flip_bias(batch)[people.owner_N, None, None] * joint_NK2.new_tensor([1.0, 0.0])
    taught_NK = (people.joint_NK3[..., 2] > 0) & on_map(joint_NK2, size_hw)
    area_N = box_area_in(batch)
    centre_NP2, has_NP = part_centres(people, joint_NK2, parts)
    has_NP = has_NP & on_map(centre_NP2, size_hw) & (area_N >= cfg.min_area)[:, None]

    owner_N = people.owner_N
    joints = people_heatmaps(joint_NK2, taught_NK, owner_N, batch.b, size_hw, cfg.sigma)
    centres = people_heatmaps(centre_NP2, has_NP, owner_N, batch.b, size_hw, cfg.part_sigma)
    heat_BJHW, window_BJHW = (torch.cat(pair, dim=1) for pair in zip(joints, centres, strict=True))
    person_C, part_C = has_NP.nonzero(as_tuple=True)
    cells = offset_cells(
        owner_N[person_C],
        part_C,
        centre_NP2[person_C, part_C],
        area_N[person_C] if cfg.normaliser == "sqrt_area" else area_N[person_C].square(),
        joint_NK2[person_C],
        taught_NK[person_C],
        size_hw,
        cfg.radius,
        cfg.part_sigma,
    )
    return Targets(
        heat_BJHW, heat_weight(window_BJHW, _mask(batch, cfg), cfg.background), cells, _proposals(cells, parts, cfg)
    )


def _proposals(cells: OffsetCells, parts: Partition, cfg: Loss) -> Tensor:
    """The target cells with the highest Gaussian times weight, at most `loss.proposals` per image and part."""
    value_M = cells.gauss_M * cells.weight_MD.amax(1)
    best_Q = top_per_group(cells.owner_M * parts.p + cells.part_M, value_M, cfg.proposals)
    return best_Q[value_M[best_Q] > 0]  # a person all of whose joints are outside teaches PR nothing


def _mask(batch: Batch, cfg: Loss) -> Tensor | None:
    if cfg.mask == "photograph":
        batch = replace(batch, crowd_B1HW=None, unlabelled_B1HW=None)
    return image_mask(batch)


def _flip_bias(batch: Batch) -> Tensor:
    """[cells] how far the release misplaces the joints of mirrored images.

    It mirrors cells as 127 - x, where the picture's mirror is 127.75 - x.
    """
    m = batch.to_image_B23
    mirrored_B = m[:, 0, 0] * m[:, 1, 1] - m[:, 0, 1] * m[:, 1, 0] < 0
    return mirrored_B.float() * ((STRIDE - 1) / STRIDE)
