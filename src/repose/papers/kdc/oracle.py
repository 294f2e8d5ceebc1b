"""Maps of a network without error, made of the annotation: what the decoder can reach at a stride.

Shapes: B images, N people of the batch, K joints, H W cells of the maps.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from repose.ops.grids import fitted_logits
from repose.papers.kdc.config import Model
from repose.papers.kdc.frame import Frame
from repose.papers.kdc.model import SIGMA, Outputs
from repose.papers.kdc.targets import REGION_STRIDE, Targets, pixels
from repose.types import Batch

_SURE = 10.0
"""Logit of a certain pixel."""
_RINGS = 3
"""[cells] that embeddings go on beyond their masks."""


def perfect(batch: Batch, targets: Targets, frame: Frame, model: Model) -> Outputs:
    """The maps of a network that made no mistake, on the targets' grid.

    Logits are +-10; those of the masks are fitted (`fitted_logits`). Vectors and embeddings go on beyond their disks
    and masks, as a network's would: else interpolation mixes them with zeros at the rim. Embeddings are the instances'
    mean pixels (mean keypoints with `center_mode=keypoint`); sigma_j makes phi_j 1/2 halfway to the nearest other.

    Args:
        batch: its people are the truth.
        targets: of the batch, at the stride of the maps.
        frame: lengths.
        model: which heads there are.
    """
    b, _, height, width = targets.heatmap_BKHW.shape
    device = targets.heatmap_BKHW.device
    probability = targets.heatmap_BKHW.clamp(1e-5, 1 - 1e-5)
    size_N = targets.member_NHW.sum((1, 2))
    n = len(size_N)
    pixel_2HW = pixels((height, width), targets.stride, device) / frame.span
    centre_N2 = (targets.member_NHW[:, None] * pixel_2HW).sum((2, 3)) / size_N.clamp(min=1)[:, None]
    if model.center_mode == "keypoint":
        known_NK1 = targets.joint_NK3[..., 2:] > 0
        joint_N2 = torch.where(known_NK1, targets.joint_NK3[..., :2], 0.0).sum(1) / known_NK1.sum(1).clamp(min=1)
        centre_N2 = torch.where(known_NK1.any(1), joint_N2 / frame.span, centre_N2)
    other_NN = (
        (targets.owner_N[:, None] == targets.owner_N) & (size_N > 0) & ~torch.eye(n, dtype=torch.bool, device=device)
    )
    far = torch.ones(n, 1, device=device)  # alone: U
    nearest_N = torch.cat([torch.cdist(centre_N2, centre_N2).masked_fill(~other_NN, 1.0), far], dim=1).amin(1)
    sigma_N = (nearest_N / 2 / math.sqrt(2 * math.log(2))).clamp(0.01, 0.5)  # phi is 1/2 at sqrt(2 ln 2) sigma
    # Which person a cell is of (0 = nobody), and rings of cells around each person.
    number_N = torch.arange(1, n + 1, device=device, dtype=torch.float32)[:, None, None]
    person_B1HW = torch.zeros(b, height, width, device=device).index_add(
        0, targets.owner_N, targets.member_NHW * number_N
    )[:, None]
    for _ in range(_RINGS):
        person_B1HW = torch.where(person_B1HW > 0, person_B1HW, F.max_pool2d(person_B1HW, 3, 1, 1))
    person_BHW = person_B1HW[:, 0].long()
    e_BHW2 = torch.cat([centre_N2.new_zeros(1, 2), centre_N2])[person_BHW]
    sigma_BHW = torch.cat([sigma_N.new_full((1,), SIGMA), sigma_N])[person_BHW]
    none = probability[:, :0]
    return Outputs(
        heatmap_BKHW=_SURE * (2 * probability - 1) if model.khdr else torch.logit(probability),
        keycentroid_BJHW=targets.keycentroid_BK2HW.flatten(1, 2) if model.use_kc else none,
        midrange_BEHW=targets.midrange_BM2HW.flatten(1, 2) if model.grouping == "midrange" else none,
        seg_B1HW=_mask_logits(batch, targets),
        embed_B2HW=torch.where(person_BHW[:, None] > 0, e_BHW2.permute(0, 3, 1, 2) - pixel_2HW, 0.0),
        bandwidth_B1HW=-torch.log(2 * sigma_BHW[:, None] ** 2),
        attention_K=probability.new_zeros(frame.k),
    )


def _mask_logits(batch: Batch, targets: Targets) -> Tensor:
    mask_NHW = batch.people.mask_NHW
    own = REGION_STRIDE if mask_NHW is None or mask_NHW.shape[-1] != batch.input_wh[0] else 1
    if mask_NHW is None or own >= targets.stride:
        return _SURE * (2 * targets.seg_B1HW - 1)
    union_B1HW = torch.zeros(batch.b, 1, *mask_NHW.shape[1:], device=mask_NHW.device)
    union_B1HW = union_B1HW.index_add(0, batch.people.owner_N, mask_NHW[:, None].float()).clamp(max=1)
    return fitted_logits(union_B1HW, targets.stride // own)
