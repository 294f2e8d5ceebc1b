"""Targets of DEKR.

Cell-to-pixel map: cell i of a map (stride 4) is input pixel 4 i. Offsets are cell minus joint, in cells, so a joint is
its cell minus the offset. `encode` and decode.py both use `STRIDE`.

Shapes: B images, N people of the batch, K joints, J = K + 1 channels (the centre last), M target cells, H W cells.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from repose.geometry import apply_affine
from repose.ops.bottom_up import given_joints, heat_weight, image_mask, mean_point, on_map
from repose.ops.heatmap import people_heatmaps
from repose.ops.offsets import OffsetCells, offset_cells
from repose.papers.baselines.dekr.config import Loss
from repose.types import Batch

STRIDE = 4
"""[input pixels] per cell."""
_COCO_JOINTS = 17


class Targets(NamedTuple):
    """Ground truth of a batch.

    Attributes:
        heat_BJHW: heatmaps of the joints, then of the centre.
        weight_BJHW: their weights.
        cells: where offsets are taught, and which.
    """

    heat_BJHW: Tensor
    weight_BJHW: Tensor
    cells: OffsetCells


def centre_sigma(cfg: Loss, k: int) -> float:
    """[cells] of the centres' Gaussians (`loss.legacy_centre_sigma`)."""
    return cfg.sigma if cfg.legacy_centre_sigma and k < _COCO_JOINTS else cfg.centre_sigma


def encode(batch: Batch, cfg: Loss) -> Targets:
    """Heatmaps, weights and offset cells of a batch of images.

    A person's centre is the mean of the labelled joints, those outside the input included. Nobody without a labelled
    joint, of a smaller area than `loss.min_area`, or whose centre lies outside the map has a centre; such people's
    joints are in the heatmaps all the same.
    """
    people = batch.people
    k = people.joint_NK3.shape[1]
    width, height = batch.input_wh
    size_hw = (-(-height // STRIDE), -(-width // STRIDE))
    joint_NK2 = people.joint_NK3[..., :2].float() / STRIDE
    given_NK = given_joints(people)
    taught_NK = (people.joint_NK3[..., 2] > 0) & on_map(joint_NK2, size_hw)
    centre_N2 = mean_point(joint_NK2, given_NK)
    centred_N = given_NK.any(-1) & (people.area_N >= cfg.min_area) & on_map(centre_N2, size_hw)

    joints = people_heatmaps(joint_NK2, taught_NK, people.owner_N, batch.b, size_hw, cfg.sigma)
    sigma = centre_sigma(cfg, k)
    centres = people_heatmaps(centre_N2[:, None], centred_N[:, None], people.owner_N, batch.b, size_hw, sigma)
    heat_BJHW, window_BJHW = (torch.cat(maps, dim=1) for maps in zip(joints, centres, strict=True))

    # A joint without label lies anywhere: where it does not count, no target may see it.
    safe_NK2 = torch.where(taught_NK[..., None], joint_NK2, torch.zeros_like(joint_NK2))
    cells = offset_cells(
        people.owner_N[centred_N],
        torch.zeros_like(people.owner_N[centred_N]),
        centre_N2[centred_N],
        person_size(batch, given_NK, cfg)[centred_N],
        safe_NK2[centred_N],
        taught_NK[centred_N],
        size_hw,
        cfg.radius,
        sigma,
    )
    mask_B1HW = image_mask(batch, regions=cfg.mask == "regions")
    return Targets(heat_BJHW, heat_weight(window_BJHW, mask_B1HW, cfg.background), cells)


def person_size(batch: Batch, given_NK: Tensor, cfg: Loss) -> Tensor:
    """The size a of each person, input pixels^2: w^2 + h^2 of the extent of the labelled joints, (N,).

    With `loss.legacy_dekr_area` the extent is the release's: taken in the photograph, over all K joints and the centre
    that is not yet set, all of which are (0, 0) where they have no label. So it starts at the photograph's corner, a is
    x_max^2 + y_max^2, and a person weighs the less the further right and down it stands.
    """
    people = batch.people
    to_image_N23 = batch.to_image_B23[people.owner_N]
    photograph_NK2 = apply_affine(people.joint_NK3[..., :2], to_image_N23).float()
    given_NK1 = given_NK[..., None]
    # Distances do not turn with the input's rotation in the release, which measures in the photograph.
    if cfg.legacy_dekr_area:
        low_N2 = torch.zeros_like(photograph_NK2[:, 0])
    else:
        low_N2 = photograph_NK2.masked_fill(~given_NK1, float("inf")).amin(1)
    high_N2 = photograph_NK2.masked_fill(~given_NK1, -float("inf")).amax(1)
    linear = to_image_N23[:, :, :2]
    photograph_per_input_N = (linear[:, 0, 0] * linear[:, 1, 1] - linear[:, 0, 1] * linear[:, 1, 0]).abs().float()
    extent_N = (high_N2 - low_N2).square().sum(-1) / photograph_per_input_N
    return torch.where(given_NK.any(-1), extent_N, torch.ones_like(extent_N))
