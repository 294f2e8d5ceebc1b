"""From presence and vectors to people: active cells, clusters, pooled vectors, scores.

Shapes: B images, K joints, P active cells (of an image, or of the batch), N people of an image, H W cells.
Vectors are in cells (g of targets.py) until the poses.
"""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

import torch
from torch import Tensor

from repose.geometry import EDGE
from repose.ops.clustering import leader_clusters
from repose.papers.idgroup.config import Decode
from repose.papers.idgroup.targets import STRIDE, to_input
from repose.types import Batch, Poses


class Active(NamedTuple):
    """Active cells of a batch and their vectors, by image, then falling presence.

    Attributes:
        owner_P: int64, image.
        cell_P2: int64, x and y.
        score_P: presence.
        vector_PK2: identity vectors, cells.
        images: number of images.
    """

    owner_P: Tensor
    cell_P2: Tensor
    score_P: Tensor
    vector_PK2: Tensor
    images: int


def active_cells(presence_BHW: Tensor, batch: Batch, cfg: Decode) -> tuple[Tensor, Tensor, Tensor]:
    """Cells of the photograph whose presence reaches the threshold, the highest of each image (spec 5.1).

    Returns:
        owner_P, cell_P2, score_P; by image, then falling presence.
    """
    height, width = presence_BHW.shape[1:]
    value_BL = torch.where(covered(batch, (height, width)), presence_BHW.float(), -1.0).flatten(1)
    value_BL, index_BL = value_BL.sort(dim=1, descending=True, stable=True)
    taken_BL = value_BL >= cfg.threshold
    taken_BL[:, cfg.top :] = False
    owner_P, rank_P = taken_BL.nonzero(as_tuple=True)
    index_P = index_BL[owner_P, rank_P]
    cell_P2 = torch.stack([index_P % width, index_P // width], dim=-1)
    return owner_P, cell_P2, value_BL[owner_P, rank_P]


def covered(batch: Batch, size_hw: tuple[int, int]) -> Tensor:
    """Cells that lie on the photograph, not on padding, in part at least: bool (B, H, W)."""
    size_B2 = batch.valid_size_B2
    low_B2 = torch.zeros_like(size_B2) if batch.valid_origin_B2 is None else batch.valid_origin_B2
    high_B2 = low_B2 + size_B2
    first_x = torch.arange(size_hw[1], device=size_B2.device) * STRIDE
    first_y = torch.arange(size_hw[0], device=size_B2.device) * STRIDE
    x_BW = (first_x < high_B2[:, :1]) & (first_x + STRIDE > low_B2[:, :1])
    y_BH = (first_y < high_B2[:, 1:]) & (first_y + STRIDE > low_B2[:, 1:])
    return y_BH[:, :, None] & x_BW[:, None, :]


def on_the_map(vector_PK2: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Vectors with every joint moved onto the map."""
    return torch.minimum(vector_PK2.clamp(min=0), vector_PK2.new_tensor([size_hw[1], size_hw[0]]))


def mirrored_vectors(vector_PK2: Tensor, width: int, flip_index: tuple[int, ...]) -> Tensor:
    """Vectors as the mirrored image shows them: g to W - g, left and right trade places. Its own inverse."""
    x, y = vector_PK2[:, list(flip_index)].unbind(-1)
    return torch.stack([width - x, y], dim=-1)


def decode(active: Active, cfg: Decode) -> list[Poses]:
    """People of each image (§IV; spec 5.3 to 5.6)."""
    count_B = torch.bincount(active.owner_P, minlength=active.images).tolist()
    parts = zip(
        active.cell_P2.split(count_B), active.score_P.split(count_B), active.vector_PK2.split(count_B), strict=True
    )
    return [group(cell_P2, score_P, vector_PK2, cfg) for cell_P2, score_P, vector_PK2 in parts]


def group(cell_P2: Tensor, score_P: Tensor, vector_PK2: Tensor, cfg: Decode) -> Poses:
    """People of one image from its active cells, highest presence first (§IV.A and B).

    A cell votes for all joints of its person: the mean over a person's cells is the pose, joints without a cell of
    their own (recovered ones) included; their joint score is 0. `extra` has each person's number of cells (`cells_N`).
    """
    p, k = vector_PK2.shape[:2]
    label_P = clusters(vector_PK2, cfg.distance)
    n = int(label_P.max()) + 1 if p else 0
    cells_N = torch.bincount(label_P, minlength=n)
    mean_NK2 = vector_PK2.new_zeros(n, k, 2).index_add(0, label_P, vector_PK2) / cells_N[:, None, None]
    type_P = joint_types(vector_PK2, cell_P2)
    votes_P = label_P * k + type_P
    best_NK = score_P.new_zeros(n * k).scatter_reduce(0, votes_P, score_P, "amax").view(n, k)
    pose_NK2 = mean_NK2 if cfg.coord == "mean" else local_mean(score_P, vector_PK2, votes_P, type_P, mean_NK2)
    joint_NK3 = torch.cat([to_input(pose_NK2), best_NK[..., None]], dim=-1).float()
    return Poses(joint_NK3=joint_NK3, score_N=best_NK.mean(1), extra={"cells_N": cells_N})


def clusters(vector_PK2: Tensor, distance: float) -> Tensor:
    """Whose each cell is, numbered from the surest cell's person on (§IV.A; spec 5.3), (P,) int64.

    Args:
        vector_PK2: vectors, those of the surest cells first.
        distance: T, root mean square over the joints.
    """
    # The distance of whole vectors is sqrt(K) times that.
    return leader_clusters(vector_PK2.flatten(1), distance * sqrt(vector_PK2.shape[1]))


def surest(pose: Poses) -> Poses:
    """The person with the highest score, if there is any: whom a crop is of.

    Differs from the paper, which knows no crops: only so can its numbers be compared with a top-down method's.
    """
    best_N = pose.score_N.topk(min(pose.n, 1)).indices
    extra = None if pose.extra is None else {name: values[best_N] for name, values in pose.extra.items()}
    return Poses(joint_NK3=pose.joint_NK3[best_N], score_N=pose.score_N[best_N], extra=extra)


def joint_types(vector_PK2: Tensor, cell_P2: Tensor) -> Tensor:
    """Which joint each cell is of: the one that its own vector places nearest to its centre (spec 5.4), (P,)."""
    return (vector_PK2 - (cell_P2[:, None] + EDGE)).square().sum(-1).argmin(1)


def local_mean(score_P: Tensor, vector_PK2: Tensor, votes_P: Tensor, type_P: Tensor, mean_NK2: Tensor) -> Tensor:
    """Each joint as the cells nearest to it see it, weighted by presence; the mean vector's where it has no cell."""
    n, k = mean_NK2.shape[:2]
    own_P2 = vector_PK2[torch.arange(len(type_P), device=type_P.device), type_P]
    total = mean_NK2.new_zeros(n * k, 2).index_add(0, votes_P, own_P2 * score_P[:, None])
    weight = score_P.new_zeros(n * k).index_add(0, votes_P, score_P)
    local = total / weight.clamp(min=torch.finfo(weight.dtype).tiny)[:, None]
    return torch.where(weight[:, None] > 0, local, mean_NK2.flatten(0, 1)).view(n, k, 2)
