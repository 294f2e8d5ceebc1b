"""Losses of CGANet, each with its reduction.

Shapes: B images, N people, R regions, K joints, U cells of a heatmap's side.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from repose.papers.cganet.config import Loss
from repose.papers.cganet.model import Maps, Outputs
from repose.papers.cganet.targets import Targets, keypoint_maps, mask_maps

LOWEST = 1e-4
"""Probabilities are held in [1e-4, 1 - 1e-4] before the logarithm (CenterNet)."""
_EPS = 1e-4
"""Of CenterNet's denominators."""


def losses(outputs: Outputs, targets: Targets, cfg: Loss, masks: bool) -> dict[str, Tensor]:
    """Unweighted losses, float32 scalars: `det`, `wh`, `off`, `line_x`, `line_y`, and `keypoint` or `mask`.

    Sums run over the whole batch of a device and are divided by its number of positives, at least 1, so a batch without
    people gives finite values.
    """
    maps = Maps(*(m.float() for m in outputs.maps))
    found = detection_losses(maps, targets)
    if maps.line_x_B1HW.shape[1]:
        for name, logit, wanted in (
            ("line_x", maps.line_x_B1HW, targets.line_x_B1HW),
            ("line_y", maps.line_y_B1HW, targets.line_y_B1HW),
        ):
            found[name] = line_loss(torch.sigmoid(logit), wanted, targets.weight_B1HW, cfg)
    if masks:
        found["mask"] = torch.stack([mask_loss(h, outputs, targets) for h in outputs.heatmap_RKUU]).sum()
    else:
        found["keypoint"] = torch.stack([keypoint_loss(h, outputs, targets, cfg) for h in outputs.heatmap_RKUU]).sum()
    return found


def detection_losses(maps: Maps, targets: Targets) -> dict[str, Tensor]:
    """CenterNet's losses: focal `det` over the number of people, L1 `wh` and `off` at the centres (Architecture).

    L1 sums x and y and is divided by 2 N + 1e-4.
    """
    det = focal(_held(maps.hm_B1HW), targets.hm_B1HW, targets.weight_B1HW)
    positive = ((targets.hm_B1HW == 1) * targets.weight_B1HW).sum()
    owner_N, (x_N, y_N) = targets.people.owner_N, targets.cell_N2.unbind(-1)
    count = 2 * len(owner_N) + _EPS
    return {
        "det": det / positive.clamp(min=1),
        "wh": (maps.wh_B2HW[owner_N, :, y_N, x_N] - targets.wh_N2).abs().sum() / count,
        "off": (maps.off_B2HW[owner_N, :, y_N, x_N] - targets.off_N2).abs().sum() / count,
    }


def focal(p: Tensor, wanted: Tensor, weight: Tensor, alpha: float = 2, beta: float = 4) -> Tensor:
    """Penalty-reduced focal loss, the sum over cells (Total Loss, Eq. 8; CenterNet).

    Differs from the paper: Eq. 8 is printed without its minus.
    """
    positive = wanted == 1
    hit = (1 - p) ** alpha * p.log()
    miss = (1 - wanted) ** beta * p**alpha * (1 - p).log()
    return -(torch.where(positive, hit, miss) * weight).sum()


def line_loss(p: Tensor, wanted: Tensor, weight: Tensor, cfg: Loss) -> Tensor:
    """Weighted squared difference over the number of foreground cells, at least 1 (Center Line Branch, Eq. 3).

    A background cell that is nearly 0 and a foreground cell that is nearly 1 count little.
    """
    foreground = wanted >= cfg.line_thre
    base = p.detach() if cfg.line_detach else p
    focus = torch.where(foreground, 1 - base, base) ** cfg.line_alpha
    count = (foreground * weight).sum().clamp(min=1)
    return (focus * (p - wanted) ** 2 * weight).sum() / count


def keypoint_loss(logit_RKUU: Tensor, outputs: Outputs, targets: Targets, cfg: Loss) -> Tensor:
    """Focal loss of the regions' heatmaps over the number of annotated joints inside them (Total Loss, Eq. 8)."""
    cells = logit_RKUU.shape[-1]
    wanted, weight_RK = keypoint_maps(targets, outputs.box_in_R4, outputs.person_R, cells, cfg)
    weight_RK = weight_RK * outputs.weight_R[:, None]
    return focal(_held(logit_RKUU), wanted, weight_RK[..., None, None]) / weight_RK.sum().clamp(min=1)


def mask_loss(logit_R1UU: Tensor, outputs: Outputs, targets: Targets) -> Tensor:
    """Mean binary cross-entropy of the regions' masks (Mask R-CNN; Person Instance Segmentation)."""
    wanted = mask_maps(targets, outputs.box_in_R4, outputs.person_R, logit_R1UU.shape[-1])
    each_R = F.binary_cross_entropy_with_logits(logit_R1UU.float(), wanted, reduction="none").mean((-3, -2, -1))
    return (each_R * outputs.weight_R).sum() / outputs.weight_R.sum().clamp(min=1)


def _held(logit: Tensor) -> Tensor:
    return torch.sigmoid(logit.float()).clamp(LOWEST, 1 - LOWEST)
