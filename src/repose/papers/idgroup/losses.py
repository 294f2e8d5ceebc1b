"""Losses of identity-vector grouping. Shapes: S stacks, B images, H W cells, M keypoint cells, K joints."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from repose.ops.chamfer import soft_chamfer
from repose.papers.idgroup.config import Loss
from repose.papers.idgroup.model import IDGroup
from repose.papers.idgroup.targets import Targets

LIMITS = (0.01, 5.0)
"""Of the learnt lambdas (Eq. 5)."""


class Outputs(NamedTuple):
    """The network in training.

    Attributes:
        logit_SBHW: presence logits of each stack.
        vector_MK2: vectors at the keypoint cells, cells.
    """

    logit_SBHW: Tensor
    vector_MK2: Tensor


def forward_train(net: IDGroup, image_BCHW: Tensor, targets: Targets) -> Outputs:
    """Presence everywhere; vectors at the keypoint cells alone, for no other cell is taught any."""
    features = net.features(image_BCHW)
    return Outputs(features.logit_SBHW, net.vectors(features, targets.owner_M, targets.cell_M2))


def losses(outputs: Outputs, targets: Targets, cfg: Loss) -> dict[str, Tensor]:
    """Unweighted losses, float32 scalars: `asymmetric` (Eq. 2), `chamfer` (Eq. 3), `vector` (Eq. 4)."""
    logit_SBHW = outputs.logit_SBHW.float()
    return {
        "asymmetric": asymmetric_loss(logit_SBHW, targets.presence_BHW, targets.mask_BHW, cfg),
        "chamfer": soft_chamfer(logit_SBHW[-1].sigmoid(), targets.presence_BHW, targets.mask_BHW, cfg.chamfer_reach),
        "vector": vector_loss(outputs.vector_MK2, targets.vector_MK2, targets.weight_MK, cfg.vector_unit),
    }


def asymmetric_loss(logit_SBHW: Tensor, presence_BHW: Tensor, mask_BHW: Tensor, cfg: Loss) -> Tensor:
    """Focal loss with an exponent of its own for either kind of cell (Eq. 2), over the number of keypoint cells.

    Differs from the paper: other cells weigh p^gamma_neg, as in the asymmetric loss (Ben-Baruch et al. 2021). The
    printed (1 - p)^gamma_neg (`loss.asym_printed`) vanishes at p = 1, so that keypoints everywhere cost nothing.
    """
    log_p, log_q = F.logsigmoid(logit_SBHW), F.logsigmoid(-logit_SBHW)
    # Powers as exponentials of logarithms: finite gradients for any exponent, also at p = 0 and 1.
    positive = -(cfg.gamma_pos * log_q).exp() * log_p
    negative = -(cfg.gamma_neg * (log_q if cfg.asym_printed else log_p)).exp() * log_q
    each = torch.where(presence_BHW, positive, negative) * mask_BHW
    return each.sum() / (len(logit_SBHW) * presence_BHW.sum().clamp(min=1))


def vector_loss(vector_MK2: Tensor, target_MK2: Tensor, weight_MK: Tensor, unit: float) -> Tensor:
    """Mean squared error of the taught coordinates, in units of `unit` cells (Eq. 4)."""
    square_MK = ((vector_MK2.float() - target_MK2) / unit).square().sum(-1)
    return (weight_MK * square_MK).sum() / (2 * weight_MK.sum()).clamp(min=1)


class Balance(nn.Module):
    """How L_Heatmap and L_Group are weighed (Eq. 5).

    Eq. 5 with learnt lambdas is no balance: its gradient in lambda_1 is lambda_2 (L_H - L_G) / (lambda_1 + lambda_2)^2,
    which moves weight to the smaller loss until the clamp stops it.
    """

    weight_2: Tensor

    def __init__(self, cfg: Loss) -> None:
        super().__init__()
        self.kind = cfg.weighting
        start_2 = torch.tensor([cfg.heatmap, cfg.group])
        if self.kind == "fixed":
            self.register_buffer("weight_2", start_2, persistent=False)
        else:
            self.weight_2 = nn.Parameter(start_2 if self.kind == "paper" else -start_2.log())

    def forward(self, heatmap: Tensor, group: Tensor) -> Tensor:
        """The total loss."""
        loss_2 = torch.stack([heatmap, group])
        if self.kind == "kendall":
            return ((-self.weight_2).exp() * loss_2 + self.weight_2).sum() / 2
        return (self.weight_2 * loss_2).sum() / self.weight_2.sum()

    def weights(self) -> tuple[float, float]:
        """Present weights of the two losses."""
        weight_2 = self.weight_2.detach()
        effective = (-weight_2).exp() / 2 if self.kind == "kendall" else weight_2 / weight_2.sum()
        heatmap, group = effective.tolist()
        return heatmap, group

    @torch.no_grad()
    def clamp(self) -> None:
        """Keep learnt lambdas in [0.01, 5]."""
        if self.kind == "paper":
            self.weight_2.clamp_(*LIMITS)
