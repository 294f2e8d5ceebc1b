"""From views to outputs, and from outputs to joints. Shapes: B crops, K joints, H W canvas cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from repose.geometry import mirror_points
from repose.ops.heatmap import find_peak
from repose.papers.drpnet.config import Decode
from repose.papers.drpnet.model import DRPNet, Outputs
from repose.papers.drpnet.targets import Canvas
from repose.types import Poses

NO_PEAK_SCORE = 0.01
"""Score of a joint whose heatmap has no positive cell: the coarse point stands in for it."""


def infer(
    net: DRPNet,
    image_BCHW: Sequence[Tensor],
    mirrored: Sequence[bool],
    flip_index: Sequence[int],
    centres: Callable[[Tensor], Tensor],
) -> Outputs:
    """Outputs of a crop from its views, averaged at a common ROI centre.

    The views' own ROIs would differ by their coarse points, and heatmaps of different ROIs cannot be averaged. So the
    coarse points are averaged first (mirrored ones moved back, left and right swapped); every view is refined at that
    common centre; the mirrored views' heatmaps are mirrored back and averaged. Differs from the paper: it does not
    describe its flip test.

    Args:
        net: the network.
        image_BCHW: one batch of normalised images per view.
        mirrored: whether each view was made by `geometry.mirror` at the network's stride.
        flip_index: K joint indices of the mirrored person.
        centres: from averaged coarse points to ROI centres (input pixels).
    """
    width, height = image_BCHW[0].shape[-1], image_BCHW[0].shape[-2]
    swap = list(flip_index)

    def back(point_BK2: Tensor, flipped: bool) -> Tensor:  # its own inverse
        return mirror_points(point_BK2, width, net.stride)[:, swap] if flipped else point_BK2

    features = [net.features(image) for image in image_BCHW]
    points = [back(net.coarse(f, (width, height)), m) for f, m in zip(features, mirrored, strict=True)]
    coarse_BK2 = torch.stack(points).mean(0)
    centre_BK2 = centres(coarse_BK2)
    outputs = [net.refine(f, coarse_BK2, back(centre_BK2, m)) for f, m in zip(features, mirrored, strict=True)]
    maps = [o.heatmap_BKHW.flip(-1)[:, swap] if m else o.heatmap_BKHW for o, m in zip(outputs, mirrored, strict=True)]
    heatmap_BKHW = torch.stack([m.float() for m in maps]).mean(0)
    return Outputs(coarse_BK2, outputs[0].centre_BK2, heatmap_BKHW)


def decode(outputs: Outputs, cfg: Decode, canvas: Canvas, sigma: float) -> list[Poses]:
    """One person per crop, input pixels (DRP-Net, Algorithm 1, lines 14 to 18).

    A joint's score is its heatmap's maximum, cut to [0, 1]; where no cell is positive the coarse point stands, with
    score 0.01. The coarse read-out has the same scores; a coarse-only network has none: every joint scores 1.
    `extra["coarse_NK2"]` and `extra["centre_NK2"]` hold the coarse points and the ROI centres.

    Differs from the paper: Algorithm 1 takes the cell of the maximum (`peak=argmax`), which at stride 4 costs about
    2.4 AP; `subpixel` is exact for a Gaussian.

    Args:
        outputs: of `infer` or the network.
        cfg: settings.
        canvas: geometry of the ROI.
        sigma: of the target Gaussian, canvas cells (for `peak=gauss`).
    """
    coarse_BK2 = outputs.coarse_BK2.float()
    point_BK2, score_BK = coarse_BK2, torch.ones_like(coarse_BK2[..., 0])
    if outputs.refined:
        cell_BK2, value_BK = find_peak(outputs.heatmap_BKHW, cfg.peak, sigma)
        found_BK = value_BK > 0
        score_BK = torch.where(found_BK, value_BK.clamp(0, 1), torch.full_like(value_BK, NO_PEAK_SCORE))
        if cfg.read_out != "coarse":
            point_BK2 = torch.where(found_BK[..., None], canvas.to_input(cell_BK2, outputs.centre_BK2), coarse_BK2)
    joint_BK3 = torch.cat([point_BK2, score_BK[..., None]], dim=-1)
    return [
        Poses(
            joint_NK3=joint[None],
            score_N=joint[None, :, 2].mean(-1),
            extra={"coarse_NK2": coarse[None], "centre_NK2": centre[None]},
        )
        for joint, coarse, centre in zip(joint_BK3, coarse_BK2, outputs.centre_BK2, strict=True)
    ]
