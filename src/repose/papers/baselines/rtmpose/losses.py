"""Loss of RTMPose. Shapes: B crops, K joints, X Y bins."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from repose.papers.baselines.rtmpose.config import Loss
from repose.papers.baselines.rtmpose.model import Outputs
from repose.papers.baselines.rtmpose.targets import Targets


def losses(outputs: Outputs, targets: Targets, cfg: Loss) -> dict[str, Tensor]:
    """`simcc`: divergence of the predicted from the label's distribution over the bins, x and y (RTMPose §3.3).

    A mean over the bins, the sum over the crops' labelled joints, divided by K but not by B (mmpose's code; AdamW does
    not mind the factor).
    """
    each_BK = divergence(outputs.x_BKX, targets.x_BKX, cfg.temperature) + divergence(
        outputs.y_BKY, targets.y_BKY, cfg.temperature
    )
    return {"simcc": (each_BK * targets.weight_BK).sum() / targets.weight_BK.shape[1]}


def divergence(logit_BKL: Tensor, label_BKL: Tensor, temperature: float) -> Tensor:
    """KL(softmax(t label) || softmax(t logit)) divided by the number of bins, (B, K)."""
    predicted = F.log_softmax(logit_BKL.float() * temperature, dim=-1)
    wanted = torch.softmax(label_BKL * temperature, dim=-1)
    return F.kl_div(predicted, wanted, reduction="none").mean(-1)
