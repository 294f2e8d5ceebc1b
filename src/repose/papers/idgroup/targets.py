"""Targets of identity-vector grouping.

Cell-to-pixel map: g = (x_in + EDGE) / 4 is a continuous position on the map, g = i is the left edge of cell i and
g = i + EDGE its centre; x_in = 4 g - EDGE. So the map of side W / 4 covers the image from edge to edge, and mirroring
the image (x to W - 1 - x) mirrors g to W / 4 - g exactly. `encode` and decode.py both use `to_map` and `to_input`.

Shapes: B images, N people of the batch, K joints, M keypoint cells of the batch, H W cells.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from typing import NamedTuple

import torch
from torch import Tensor

from repose.geometry import EDGE
from repose.ops.bottom_up import image_mask, on_map
from repose.papers.idgroup.config import Loss
from repose.types import Batch

STRIDE = 4
"""[input pixels] per cell."""


class Targets(NamedTuple):
    """Ground truth of a batch.

    Attributes:
        presence_BHW: bool, keypoint cells (y).
        mask_BHW: float32, where presence is taught (m).
        owner_M: int64, image of each keypoint cell.
        cell_M2: int64, its x and y.
        person_M: int64, whose it is.
        joint_M: int64, which joint is nearest.
        vector_MK2: all joints of that person, cells.
        weight_MK: 1 for joints that are taught.
    """

    presence_BHW: Tensor
    mask_BHW: Tensor
    owner_M: Tensor
    cell_M2: Tensor
    person_M: Tensor
    joint_M: Tensor
    vector_MK2: Tensor
    weight_MK: Tensor


def to_map(point_in: Tensor) -> Tensor:
    """Input pixels to g."""
    return (point_in + EDGE) / STRIDE


def to_input(point_g: Tensor) -> Tensor:
    """G to input pixels."""
    return point_g * STRIDE - EDGE


def map_size(batch: Batch) -> tuple[int, int]:
    """Height and width of the map."""
    width, height = batch.input_wh
    return -(-height // STRIDE), -(-width // STRIDE)


def encode(batch: Batch, cfg: Loss) -> Targets:
    """Presence, its mask, and the identity vector of every keypoint cell (§III.C and D; spec 3)."""
    people, size_hw = batch.people, map_size(batch)
    joint_NK2 = to_map(people.joint_NK3[..., :2].float())
    labelled_NK = (people.joint_NK3[..., 2] > 0) & on_map(joint_NK2, size_hw)
    owner_M, cell_M2, person_M, joint_M = keypoint_cells(
        joint_NK2, labelled_NK, people.owner_N, size_hw, cfg.presence_radius
    )
    presence_BHW = torch.zeros(batch.b, *size_hw, dtype=torch.bool, device=joint_NK2.device)
    presence_BHW[owner_M, cell_M2[:, 1], cell_M2[:, 0]] = True
    # Padding is background that must be learnt; crowds and people without joints are not known to be background.
    mask = image_mask(replace(batch, inside_B1HW=None))
    mask_BHW = torch.ones_like(presence_BHW) if mask is None else (mask[:, 0] > 0) | presence_BHW
    vector_MK2, weight_MK = joint_NK2[person_M], labelled_NK[person_M].float()
    vector_MK2 = vector_MK2 * weight_MK[..., None]
    if cfg.unlabelled == "zero":
        weight_MK = torch.ones_like(weight_MK)
    return Targets(presence_BHW, mask_BHW.float(), owner_M, cell_M2, person_M, joint_M, vector_MK2, weight_MK)


def keypoint_cells(
    joint_NK2: Tensor, labelled_NK: Tensor, owner_N: Tensor, size_hw: tuple[int, int], radius: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Cells whose centre is within `radius` of a labelled joint, each once: the nearest joint owns it (spec 3).

    With radius 0 the one cell that the joint is in.

    Returns:
        owner_M, cell_M2, person_M, joint_M; by image, then row, then column.
    """
    person_J, joint_J = labelled_NK.nonzero(as_tuple=True)
    point_J2 = joint_NK2[person_J, joint_J]
    reach = ceil(radius) if radius > 0 else 0
    side = torch.arange(-reach, reach + 1, device=point_J2.device)
    step_O2 = torch.stack([t.flatten() for t in torch.meshgrid(side, side, indexing="xy")], dim=-1)
    cell_JO2 = point_J2.floor().long()[:, None] + step_O2
    square_JO = (cell_JO2 + EDGE - point_J2[:, None]).square().sum(-1)
    taken_JO = on_map(cell_JO2, size_hw)
    if radius > 0:
        taken_JO &= square_JO <= radius * radius
    joint_C, offset_C = taken_JO.nonzero(as_tuple=True)
    cell_C2, square_C = cell_JO2[joint_C, offset_C], square_JO[joint_C, offset_C]
    height, width = size_hw
    flat_C = (owner_N[person_J[joint_C]] * height + cell_C2[:, 1]) * width + cell_C2[:, 0]
    # Nearest first, then by cell (both sorts stable): the first of each cell is its owner's.
    order_C = square_C.argsort(stable=True)
    order_C = order_C[flat_C[order_C].argsort(stable=True)]
    flat_C = flat_C[order_C]
    first_C = torch.ones_like(flat_C, dtype=torch.bool)
    first_C[1:] = flat_C[1:] != flat_C[:-1]
    kept_M = order_C[first_C]
    winner_M = joint_C[kept_M]
    return owner_N[person_J[winner_M]], cell_C2[kept_M], person_J[winner_M], joint_J[winner_M]
