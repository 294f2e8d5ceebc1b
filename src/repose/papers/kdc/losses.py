"""Losses of KDC. All sums run over the whole batch; denominators are at least 1.

Shapes: B images, N people of the batch, K joints, M directed edges, H W cells of the loss grid, P = H W.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from repose.ops.lovasz import dice, lovasz_hinge
from repose.ops.points import sample_points
from repose.papers.kdc.config import Loss, Model
from repose.papers.kdc.frame import Frame
from repose.papers.kdc.model import Outputs
from repose.papers.kdc.targets import Targets, on_grid, pixels


def losses(outputs: Outputs, stride: int, targets: Targets, frame: Frame, model: Model, cfg: Loss) -> dict[str, Tensor]:
    """Unweighted losses, float32 scalars.

    `heatmap` (Eq. 1), `keycentroid` (Eq. 4), `midrange`, `seg`, `offset` (Eq. 5), `instance` (Eq. 6 and 7),
    `bandwidth`. A batch without what a loss needs gives a finite zero.

    Args:
        outputs: of the network, at `stride`.
        stride: input pixels per cell of the outputs.
        targets: ground truth, on the loss grid.
        frame: lengths.
        model: which heads there are, and the centre.
        cfg: settings.
    """
    found = {"heatmap": heatmap_loss(on_grid(outputs.heatmap_BKHW, stride, targets), targets)}
    if model.use_kc:
        vectors = on_grid(outputs.keycentroid_BJHW, stride, targets).unflatten(1, (-1, 2))
        found["keycentroid"] = vector_loss(vectors, targets.keycentroid_BK2HW, targets.disk_BKHW)
    if model.grouping == "midrange":
        vectors = on_grid(outputs.midrange_BEHW, stride, targets).unflatten(1, (-1, 2))
        found["midrange"] = vector_loss(vectors, targets.midrange_BM2HW, targets.edge_BMHW)
    return found | segment_losses(outputs, stride, targets, frame, model, cfg)


def heatmap_loss(logit_BKHW: Tensor, targets: Targets) -> Tensor:
    """Binary cross-entropy over all pixels but those of people without keypoints and crowds (KDC §3.1, Eq. 1)."""
    return _entropy(logit_BKHW, targets.heatmap_BKHW, targets.valid_heatmap_B1HW)


def vector_loss(vector_BJ2HW: Tensor, wanted_BJ2HW: Tensor, where_BJHW: Tensor) -> Tensor:
    """L1 over x and y, mean over the pixels that count (KDC §3.2, Eq. 4); units of R."""
    error_BJHW = (vector_BJ2HW - wanted_BJ2HW).abs().sum(2)
    return (error_BJHW * where_BJHW).sum() / where_BJHW.sum().clamp(min=1)


def _entropy(logit: Tensor, wanted: Tensor, valid_B1HW: Tensor) -> Tensor:
    each = F.binary_cross_entropy_with_logits(logit, wanted, reduction="none")
    return (each * valid_B1HW).sum() / (logit.shape[1] * valid_B1HW.sum()).clamp(min=1)


def segment_losses(
    outputs: Outputs, stride: int, targets: Targets, frame: Frame, model: Model, cfg: Loss
) -> dict[str, Tensor]:
    """Losses of SegNet: `seg`, `offset`, `instance`, `bandwidth`; zeros where the data have no masks (CrowdPose).

    Differs from the paper: Eq. 5 alone is degenerate with dynamic centroids (a constant embedding has no error), and
    no loss on phi is given; `instance` is SpatialEmbeddings' Lovasz hinge, `bandwidth` its smoothness of sigma.
    """
    seg, embed, log_beta = (
        on_grid(m, stride, targets) for m in (outputs.seg_B1HW, outputs.embed_B2HW, outputs.bandwidth_B1HW)
    )
    nothing = {"offset": embed, "instance": embed, "bandwidth": log_beta}
    zeros = {name: 0.0 * value.sum() for name, value in nothing.items()}
    if not targets.masks:
        return {"seg": 0.0 * seg.sum(), **zeros}
    found = {"seg": _entropy(seg, targets.seg_B1HW, targets.valid_seg_B1HW)}
    large_J = (targets.member_NHW.sum((1, 2)) >= cfg.min_pixels).nonzero()[:, 0]
    if len(large_J) == 0:
        return found | zeros
    owner_J = targets.owner_N[large_J]
    member_JP = targets.member_NHW[large_J].flatten(1)
    count_J = member_JP.sum(1)
    pixel_2HW = pixels((seg.shape[-2], seg.shape[-1]), targets.stride, seg.device) / frame.span
    e_J2P = (embed + pixel_2HW).flatten(2)[owner_J]
    b_JP = log_beta.flatten(1)[owner_J]

    def mean(value: Tensor) -> Tensor:  # over the instance's pixels
        return (value * (member_JP if value.ndim == 2 else member_JP[:, None])).sum(-1) / count_J.view(
            -1, *[1] * (value.ndim - 2)
        )

    centre_J2 = centres(outputs, stride, targets, frame, model, large_J, mean(e_J2P), mean(pixel_2HW.flatten(1)[None]))
    error_JP = (e_J2P - centre_J2.detach()[..., None]).abs().sum(1)
    mean_b_J = mean(b_JP)
    square_JP = (e_J2P - centre_J2[..., None]).square().sum(1)
    phi_JP = torch.exp(-mean_b_J.exp()[:, None] * square_JP)
    valid_JP = targets.valid_embed_B1HW.flatten(1)[owner_J]
    if cfg.inst_loss == "lovasz":
        instance_J = lovasz_hinge(2 * phi_JP - 1, member_JP, valid_JP)
    else:
        instance_J = dice(phi_JP, member_JP, valid_JP)
    found["offset"] = (error_JP * member_JP).sum() / member_JP.sum()
    found["instance"] = instance_J.mean()
    found["bandwidth"] = mean((b_JP - mean_b_J.detach()[:, None]).square()).mean()
    return found


def centres(
    outputs: Outputs,
    stride: int,
    targets: Targets,
    frame: Frame,
    model: Model,
    large_J: Tensor,
    mean_embedding_J2: Tensor,
    mean_pixel_J2: Tensor,
) -> Tensor:
    """MaskCentroids C_j in units of U (`model.center_mode`; KDC §3.3, Fig. 8).

    `static` is the mean pixel of the mask, `dynamic` the mean embedding (Eq. 7), `keypoint` the mean of the labelled
    keypoints weighted by softmax(a_k + log p_k); people without keypoints use the mean pixel there.
    """
    if model.center_mode == "dynamic":
        return mean_embedding_J2
    if model.center_mode == "static":
        return mean_pixel_J2
    joint_JK3, owner_J = targets.joint_NK3[large_J], targets.owner_N[large_J]
    logit_JKK = sample_points(outputs.heatmap_BKHW.detach().float(), owner_J, joint_JK3[..., :2] / stride, "edge")
    score_JK = outputs.attention_K.float() + F.logsigmoid(logit_JKK.diagonal(dim1=1, dim2=2))
    known_JK = joint_JK3[..., 2] > 0
    any_J1 = known_JK.any(1, keepdim=True)
    weight_JK = score_JK.masked_fill(~known_JK & any_J1, -torch.inf).softmax(1)
    point_JK2 = torch.where(known_JK[..., None], joint_JK3[..., :2], 0.0) / frame.span
    return torch.where(any_J1, (weight_JK[..., None] * point_JK2).sum(1), mean_pixel_J2)
