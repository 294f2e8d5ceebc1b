"""Losses of DRP-Net. Shapes: B crops, K joints, H W canvas cells."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from repose.papers.drpnet.config import Loss
from repose.papers.drpnet.model import Outputs
from repose.papers.drpnet.targets import Canvas, Targets, local_heatmap


def losses(outputs: Outputs, targets: Targets, cfg: Loss, canvas: Canvas) -> dict[str, Tensor]:
    """Unweighted losses, float32 scalars: `coarse` (Eq. 6) and, with a refinement head, `fine` (Eq. 10).

    Both are sums over the labelled joints of the whole batch divided by their number K_vis, at least 1, so a batch
    without labels gives a finite zero.
    """
    found = {"coarse": coarse_loss(outputs.coarse_BK2, targets, cfg, canvas)}
    if outputs.refined:
        found["fine"] = fine_loss(outputs, targets, cfg, canvas)
    return found


def coarse_loss(coarse_BK2: Tensor, targets: Targets, cfg: Loss, canvas: Canvas) -> Tensor:
    """Smooth L1 of the coarse points, summed over x and y (DRP-Net §2.2, Eq. 5 and 6).

    Differs from the paper: it gives no unit of z. In shares of the input |z| < 1 always holds and Eq. 5 is a tiny
    squared error; in pixels it is an L1 of 10 to 40. Cells of F (`coarse_units`) are the ROI's own frame, of the
    order of `fine`.
    """
    z_BK2 = coarse_BK2.float() - targets.joint_BK2
    if cfg.coarse_units == "cell":
        z_BK2 = z_BK2 / canvas.stride
    elif cfg.coarse_units == "unit":
        z_BK2 = z_BK2 / z_BK2.new_tensor(targets.input_wh)
    each_BK = F.smooth_l1_loss(z_BK2, torch.zeros_like(z_BK2), reduction="none").sum(-1)
    return _mean(each_BK, targets.weight_BK, visible(targets))


def fine_loss(outputs: Outputs, targets: Targets, cfg: Loss, canvas: Canvas) -> Tensor:
    """Squared difference of the local heatmaps (DRP-Net §2.3, Eq. 10): a sum over the canvas, or its mean."""
    wanted_BKHW, weight_BK = local_heatmap(targets, outputs.centre_BK2, cfg, canvas)
    square_BKHW = (outputs.heatmap_BKHW.float() - wanted_BKHW) ** 2
    each_BK = square_BKHW.mean((-2, -1)) if cfg.fine_reduction == "mean" else square_BKHW.sum((-2, -1))
    return _mean(each_BK, weight_BK, visible(targets))


def visible(targets: Targets) -> Tensor:
    """K_vis: labelled joints of the batch, at least 1."""
    return targets.weight_BK.sum().clamp(min=1)


def _mean(each_BK: Tensor, weight_BK: Tensor, count: Tensor) -> Tensor:
    return (each_BK * weight_BK).sum() / count
