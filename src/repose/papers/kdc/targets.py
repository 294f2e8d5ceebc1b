"""Targets of KDC, built on the batch's device from keypoints and masks.

Cell-to-pixel map: cell i of a map (and of the loss grid) of stride s is input pixel s * i. Vectors are in units of R,
embeddings in units of U (frame.py).

Shapes: B images, N people of the batch, K joints, M directed edges, H W cells of the grid, P = H W.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from repose.ops.disks import gather_people, nearest_keypoint, pad_people
from repose.ops.grids import grid_size, nearest_cells, resample
from repose.papers.kdc.config import Model
from repose.papers.kdc.frame import Frame
from repose.types import Batch

REGION_STRIDE = 4
"""Input pixels per cell of the batch's crowd and unlabelled masks (data/people.py)."""


class Targets(NamedTuple):
    """Ground truth of a batch on a grid of stride `stride`.

    Attributes:
        heatmap_BKHW: in [0, 1]: disks, or Gaussians (Eq. 3).
        disk_BKHW: bool, D_k without crowd regions; where keypoints have vectors.
        keycentroid_BK2HW: (c - p) / R with the nearest keypoint c of the type; meant on the disk, defined everywhere.
        midrange_BM2HW: (y_l - p) / R for the person of the nearest k.
        edge_BMHW: bool, where midrange counts: on the disk of k, with l labelled.
        seg_B1HW: 1 on any mask.
        member_NHW: bool, pixels that are this person's alone.
        valid_heatmap_B1HW: bool, V_hm.
        valid_seg_B1HW: bool, V_seg: neither crowd nor, beside all masks, in the box of somebody without a mask.
        valid_embed_B1HW: bool, pixels of the instance losses: V_seg without overlaps of masks.
        joint_NK3: people, input pixels.
        owner_N: image of each.
        masks: whether the batch has instance masks; without them SegNet has no loss.
        stride: input pixels per cell.
        input_hw: input height and width.
    """

    heatmap_BKHW: Tensor
    disk_BKHW: Tensor
    keycentroid_BK2HW: Tensor
    midrange_BM2HW: Tensor
    edge_BMHW: Tensor
    seg_B1HW: Tensor
    member_NHW: Tensor
    valid_heatmap_B1HW: Tensor
    valid_seg_B1HW: Tensor
    valid_embed_B1HW: Tensor
    joint_NK3: Tensor
    owner_N: Tensor
    masks: bool
    stride: int
    input_hw: tuple[int, int]


def pixels(size_hw: tuple[int, int], stride: int, device: torch.device) -> Tensor:
    """Input pixels (x, y) of the cells of a grid, (2, H, W)."""
    y, x = torch.meshgrid(
        torch.arange(size_hw[0], device=device), torch.arange(size_hw[1], device=device), indexing="ij"
    )
    return torch.stack([x, y]).float() * stride


def encode(batch: Batch, frame: Frame, model: Model, stride: int) -> Targets:
    """Targets on the grid of this stride (KDC §3.1 to §3.3).

    Overlapping disks of one joint type belong to the nearest keypoint. Labelled joints count whether visible or not.

    Args:
        batch: image view.
        frame: lengths and graph.
        model: `khdr`.
        stride: of the grid, input pixels.
    """
    people, b = batch.people, batch.b
    input_hw = (batch.input_wh[1], batch.input_wh[0])
    size_hw = grid_size(input_hw, stride)
    device = batch.image_B3HW.device
    joint_BNK3, _ = pad_people(people.joint_NK3.float(), people.owner_N, b)
    known_BNK = joint_BNK3[..., 2] > 0
    # Where a joint without label lies means nothing, not even when it is nan.
    point_BNK2 = torch.where(known_BNK[..., None], joint_BNK3[..., :2], 0.0)
    distance_BKHW, slot_BKHW = nearest_keypoint(point_BNK2, known_BNK, size_hw, stride)
    disk_BKHW = distance_BKHW <= frame.radius
    pixel_2HW = pixels(size_hw, stride, device)
    keycentroid = (gather_people(point_BNK2, slot_BKHW) - pixel_2HW) / frame.radius
    somewhere_BK = known_BNK.any(1)[..., None, None, None]  # (B, K, 1, 1, 1)
    source_M, target_M = torch.tensor(frame.edge_M2, device=device).unbind(1)
    slot_BMHW = slot_BKHW[:, source_M]
    ends = torch.where(known_BNK, 1.0, 0.0)[:, :, target_M, None]
    labelled_BMHW = gather_people(ends.expand(-1, -1, -1, 2), slot_BMHW)[:, :, 0] > 0
    labelled_BMHW &= somewhere_BK[:, source_M, 0]
    midrange = (gather_people(point_BNK2[:, :, target_M], slot_BMHW) - pixel_2HW) / frame.radius

    crowd, unlabelled = (_region(r, b, stride, size_hw, device) for r in (batch.crowd_B1HW, batch.unlabelled_B1HW))
    mask_NHW = _masks(batch, stride, size_hw)
    covered_BHW = torch.zeros(b, *size_hw, device=device).index_add(0, people.owner_N, mask_NHW.float())[:, None]
    known_B1HW = ~crowd & ~(_unmasked(batch, mask_NHW, stride, size_hw) & (covered_BHW == 0))
    alone_B1HW = (covered_BHW <= 1) & known_B1HW
    heatmap = torch.exp(-(distance_BKHW**2) / (2 * (frame.radius / 3) ** 2))
    return Targets(
        heatmap_BKHW=disk_BKHW.float() if model.khdr else heatmap,
        disk_BKHW=disk_BKHW & ~crowd,
        keycentroid_BK2HW=torch.where(somewhere_BK, keycentroid, 0.0),
        midrange_BM2HW=torch.where(labelled_BMHW[:, :, None], midrange, 0.0),
        edge_BMHW=labelled_BMHW & (disk_BKHW & ~crowd)[:, source_M],
        seg_B1HW=(covered_BHW > 0).float(),
        member_NHW=(mask_NHW > 0) & alone_B1HW[people.owner_N, 0],
        valid_heatmap_B1HW=~crowd & (~unlabelled | disk_BKHW.any(1, keepdim=True)),
        valid_seg_B1HW=known_B1HW,
        valid_embed_B1HW=alone_B1HW,
        joint_NK3=people.joint_NK3.float(),
        owner_N=people.owner_N,
        masks=people.mask_NHW is not None,
        stride=stride,
        input_hw=input_hw,
    )


def _region(region_B1HW: Tensor | None, b: int, stride: int, size_hw: tuple[int, int], device: torch.device) -> Tensor:
    """A region mask on the grid; finer grids take the cell that a pixel lies in the middle of."""
    if region_B1HW is None:
        return torch.zeros(b, 1, *size_hw, dtype=torch.bool, device=device)
    return nearest_cells(region_B1HW, REGION_STRIDE, stride, size_hw) > 0


def _masks(batch: Batch, stride: int, size_hw: tuple[int, int]) -> Tensor:
    mask_NHW = batch.people.mask_NHW
    if mask_NHW is None:
        return torch.zeros(batch.people.n, *size_hw, dtype=torch.uint8, device=batch.image_B3HW.device)
    own = 1 if mask_NHW.shape[-1] == batch.input_wh[0] else REGION_STRIDE
    return nearest_cells(mask_NHW[:, None], own, stride, size_hw)[:, 0]


def _unmasked(batch: Batch, mask_NHW: Tensor, stride: int, size_hw: tuple[int, int]) -> Tensor:
    """Cells in boxes of people who have no mask, (B, 1, H, W) bool: who knows which of them they cover."""
    people, b = batch.people, batch.b
    found = torch.zeros(b, 1, *size_hw, device=mask_NHW.device)
    if people.mask_NHW is None:
        return found > 0
    lacking = (people.mask_NHW.flatten(1).amax(1) == 0).nonzero()[:, 0]
    x1, y1, x2, y2 = people.box_N4[lacking, :, None, None].unbind(1)
    x_HW, y_HW = pixels(size_hw, stride, mask_NHW.device)
    inside = (x_HW >= x1) & (x_HW <= x2) & (y_HW >= y1) & (y_HW <= y2)
    return found.index_add(0, people.owner_N[lacking], inside[:, None].float()) > 0


def on_grid(map_BCHW: Tensor, stride: int, targets: Targets) -> Tensor:
    """A head's map on the targets' grid, float32 (exact bilinear interpolation)."""
    return resample(map_BCHW.float(), stride, targets.stride, targets.input_hw)
