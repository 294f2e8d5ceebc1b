"""Losses of PINet. Shapes: M target cells, Q proposals among them, D = 2 K."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from repose.ops.bottom_up import heat_loss
from repose.ops.offsets import offset_loss
from repose.ops.points import read_cells
from repose.papers.pinet.config import Loss
from repose.papers.pinet.model import Maps, PINet
from repose.papers.pinet.targets import Targets


class Outputs(NamedTuple):
    """The network in training.

    Attributes:
        maps: of PPG.
        offset_MD: predicted offsets at the target cells.
        delta_QD: PR's corrections of the proposals; None without PR.
    """

    maps: Maps
    offset_MD: Tensor
    delta_QD: Tensor | None


def forward_train(net: PINet, image_BCHW: Tensor, targets: Targets) -> Outputs:
    """PPG's maps, and PR on the poses that PPG predicts at the true part centres (PINet §3.3; spec 4).

    Neither the initial poses nor the places that are read get a gradient from PR: it never teaches the offsets.
    """
    maps: Maps = net(image_BCHW)
    cells, chosen = targets.cells, targets.proposal_Q
    offset_MD = read_cells(maps.offset_BPDHW, cells.owner_M, cells.cell_M2, cells.part_M)
    if net.pr is None:
        return Outputs(maps, offset_MD, None)
    cell_Q2 = cells.cell_M2[chosen]
    pose_QK2 = cell_Q2[:, None] - offset_MD[chosen].detach().unflatten(1, (-1, 2))
    delta_QK2 = net.pr(maps.feature_BCHW, cells.owner_M[chosen], cell_Q2, pose_QK2)
    return Outputs(maps, offset_MD, delta_QK2.flatten(1))


def losses(outputs: Outputs, targets: Targets, cfg: Loss) -> dict[str, Tensor]:
    """Unweighted losses, float32 scalars: `point` (Eq. 12), `offset` (Eq. 8) and, with PR, `refine` (Eq. 10)."""
    found = {
        "point": point_loss(outputs.maps, targets),
        "offset": offset_loss(outputs.offset_MD, targets.cells.target_MD, targets.cells.weight_MD, cfg.beta),
    }
    if outputs.delta_QD is not None:
        found["refine"] = refine_loss(outputs.offset_MD, outputs.delta_QD, targets, cfg)
    return found


def point_loss(maps: Maps, targets: Targets) -> Tensor:
    """Weighted squared difference of joint and part heatmaps (PINet §3.2, Eq. 7 and 12).

    Differs from the paper: a mean over all cells, where it writes a sum.
    """
    return heat_loss(torch.cat([maps.heat_BKHW, maps.part_BPHW], dim=1), targets.heat_BJHW, targets.weight_BJHW)


def refine_loss(offset_MD: Tensor, delta_QD: Tensor, targets: Targets, cfg: Loss) -> Tensor:
    """`offset_loss` of the refined poses, offset + correction (PINet §3.3, Eq. 10)."""
    chosen, cells = targets.proposal_Q, targets.cells
    refined_QD = offset_MD[chosen].detach() + delta_QD
    return offset_loss(refined_QD, cells.target_MD[chosen], cells.weight_MD[chosen], cfg.beta)
