"""From maps to people: Hough voting, peaks and masks on the device; the walk between (poseseg.py) on the CPU.

Shapes: B images, N people, K joints, H W cells or input pixels, F foreground pixels.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from repose.ops.disks import disk_mean
from repose.ops.grids import resample, unmirror
from repose.ops.hough import hough_votes, smooth, smooth_near, sparse_peaks
from repose.papers.kdc.config import Decode, Model
from repose.papers.kdc.frame import Frame
from repose.papers.kdc.model import Outputs
from repose.papers.kdc.poseseg import Reader, centroids, group, score
from repose.papers.kdc.targets import pixels
from repose.types import Poses

BAND = 0.2
"""Share of a threshold from which a pixel is in the fields of masks: those just outside a mask place its edge."""


class Maps(NamedTuple):
    """Outputs and the grid they are on.

    Attributes:
        outputs: of the network.
        stride: input pixels per cell.
        input_hw: input height and width.
    """

    outputs: Outputs
    stride: int
    input_hw: tuple[int, int]


def mirror_back(maps: Maps, frame: Frame) -> Maps:
    """The maps of a plainly mirrored image as maps of the image: its own inverse.

    Columns turn round, left and right joints and their edges trade places, and dx changes its sign.
    """
    out, stride, (_, width) = maps.outputs, maps.stride, maps.input_hw

    def turned(map_BCHW: Tensor) -> Tensor:
        return unmirror(map_BCHW.float(), stride, width) if map_BCHW.shape[1] else map_BCHW

    def vectors(map_BCHW: Tensor, order: tuple[int, ...]) -> Tensor:
        if not map_BCHW.shape[1]:
            return map_BCHW
        pair = turned(map_BCHW).unflatten(1, (-1, 2))[:, list(order)]
        return (pair * pair.new_tensor([-1.0, 1.0])[:, None, None]).flatten(1, 2)

    # e = p / U + v turns at the middle of the image like p does, so v turns like any other vector.
    edges = frame.flip_M() if out.midrange_BEHW.shape[1] else ()
    return maps._replace(
        outputs=out._replace(
            heatmap_BKHW=turned(out.heatmap_BKHW)[:, list(frame.flip_K)],
            keycentroid_BJHW=vectors(out.keycentroid_BJHW, frame.flip_K),
            midrange_BEHW=vectors(out.midrange_BEHW, edges),
            seg_B1HW=turned(out.seg_B1HW),
            embed_B2HW=vectors(out.embed_B2HW, (0,)),
            bandwidth_B1HW=turned(out.bandwidth_B1HW),
        )
    )


def merge(views: list[Maps]) -> Maps:
    """The mean of views on one grid."""
    fields = [
        torch.stack([v.float() for v in values]).mean(0) for values in zip(*(m.outputs for m in views), strict=True)
    ]
    return views[0]._replace(outputs=Outputs(*fields))


def decode(maps: Maps, frame: Frame, model: Model, cfg: Decode) -> list[Poses]:
    """People of each image, input pixels, with masks at the input's size (KDC §3.4, PoseSeg).

    A joint's score is p_k at its place. `extra["mask_score_N"]` is the masks' score; dropped masks are empty, with 0.

    Differs from the paper: it gives no scores; these are PersonLab's.
    """
    return [_decode_image(maps, i, frame, model, cfg) for i in range(maps.outputs.heatmap_BKHW.shape[0])]


def _decode_image(maps: Maps, image: int, frame: Frame, model: Model, cfg: Decode) -> Poses:
    device = maps.outputs.heatmap_BKHW.device
    channel, position, height = keypoint_peaks(maps, image, frame, model, cfg)
    reader = Reader(maps.outputs, image, maps.stride)
    people, score_N = score(group(channel, position, height, reader, frame, model, cfg), frame, cfg)
    joint_NK3 = torch.from_numpy(people).float().to(device)
    score_T = torch.from_numpy(score_N).float().to(device)
    if not cfg.masks:
        return Poses(joint_NK3, score_T)
    centre, beta = centroids(people, reader, frame, model)
    mask, quality = masks(
        maps, image, torch.from_numpy(centre).float().to(device), torch.from_numpy(beta).float().to(device), frame, cfg
    )
    return Poses(joint_NK3, score_T, mask_NHW=mask, extra={"mask_score_N": score_T * quality})


def keypoint_peaks(maps: Maps, image: int, frame: Frame, model: Model, cfg: Decode) -> tuple[Tensor, Tensor, Tensor]:
    """Peaks of the smoothed score maps: joint types, places (input pixels) and heights.

    `tau` is a density of votes per px^2 of the frame; maps of probabilities (`use_kc=false`) use it as it is.
    """
    tau = cfg.tau / frame.unit**2 if model.use_kc else cfg.tau
    radius, refine = (max(1, round(r * frame.unit)) for r in (cfg.nms_radius, cfg.refine_radius))
    sigmas = pgo_sigmas(frame, maps.stride, cfg)
    hough_KHW = smooth_near(score_map(maps, image, frame, model, cfg), sigmas, tau, refine)
    return sparse_peaks(hough_KHW, tau, radius, refine)


def score_map(maps: Maps, image: int, frame: Frame, model: Model, cfg: Decode) -> Tensor:
    """Maps (K, H, W) whose peaks are keypoints (KDC §3.2: heatmap and KeyCentroid aggregated).

    With KeyCentroids: votes of the disk's pixels per disk area. Without: the heatmap, smoothed by the disk if its
    targets were disks. Pixels below `vote_threshold` count in neither.
    """
    if model.use_kc:
        logit_KHW = maps.outputs.heatmap_BKHW[image].float()
        offset_K2HW = maps.outputs.keycentroid_BJHW[image].float().unflatten(0, (-1, 2)) * frame.radius
        disks = 1 / (math.pi * frame.radius**2)
        return hough_votes(logit_KHW, offset_K2HW, maps.stride, maps.input_hw, cfg.vote_threshold, disks)
    p_KHW = F.threshold(_dense(maps, maps.outputs.heatmap_BKHW, image).sigmoid(), cfg.vote_threshold, 0.0)
    return disk_mean(p_KHW, frame.radius) if model.khdr else p_KHW


def _dense(maps: Maps, map_BCHW: Tensor, image: int) -> Tensor:
    return resample(map_BCHW[image : image + 1].float(), maps.stride, 1, maps.input_hw)[0]


def pgo_sigmas(frame: Frame, stride: int, cfg: Decode) -> tuple[float, ...]:
    """Standard deviation of each joint's smoothing, input pixels (KDC §3.1, Eq. 2)."""
    scale = {"px": frame.unit, "cell": float(stride), "radius": frame.radius}[cfg.pgo.unit]
    high, low = cfg.pgo.sigma_hvk * scale, cfg.pgo.sigma_lvk * scale
    return tuple(high if hvk else low for hvk in frame.high_variance_K)


def masks(
    maps: Maps, image: int, centre_N2: Tensor, beta_N: Tensor, frame: Frame, cfg: Decode
) -> tuple[Tensor, Tensor]:
    """Disjoint masks: each foreground pixel joins the person of its highest phi, if that is high enough (Eq. 6, §3.4).

    They are fields, so that who brings them to the photograph's size thresholds them there (spec 5.7): the smaller of
    phi and p_seg, each over its threshold, halved; a pixel is in from 1/2 on. Values that are far below are 0.

    Args:
        maps: outputs.
        image: which image.
        centre_N2: MaskCentroids, units of U.
        beta_N: 1 / (2 sigma^2).
        frame: lengths.
        cfg: settings.

    Returns:
        (N, H, W) float32 fields in [0, 1], and (N,) the mean of phi * p_seg over each mask (0 where it was dropped).
    """
    n, (height, width) = len(beta_N), maps.input_hw
    stacked = torch.cat([maps.outputs.seg_B1HW, maps.outputs.embed_B2HW], dim=1)
    dense_3HW = _dense(maps, stacked, image)
    least = cfg.seg_threshold * BAND
    flat_F = (dense_3HW[0].flatten() > math.log(least / (1 - least))).nonzero()[:, 0]
    field = torch.zeros(n, height * width, device=beta_N.device)
    if n == 0 or len(flat_F) == 0:
        return field.view(n, height, width), beta_N.new_zeros(n)
    e_2F = (dense_3HW[1:] + pixels((height, width), 1, beta_N.device) / frame.span).flatten(1)[:, flat_F]
    if cfg.igo.mode == "bandwidth":
        beta_N = torch.full_like(beta_N, 1 / (2 * cfg.igo.sigma**2))
    power_NF = (e_2F[0] - centre_N2[:, :1]).square_()
    power_NF += (e_2F[1] - centre_N2[:, 1:]).square_()
    power_NF *= -beta_N[:, None]  # log phi
    sigma = cfg.igo.sigma * frame.unit
    if cfg.igo.mode == "blur_px" and int(4 * sigma + 1 / 2) > 0:
        phi_NHW = torch.zeros(n, height * width, device=beta_N.device).index_copy(1, flat_F, power_NF.exp_())
        phi_NF = smooth(phi_NHW.view(n, height, width), (sigma,) * n).flatten(1)[:, flat_F]
        best_F, owner_F = phi_NF.max(0)
    else:
        best_F, owner_F = power_NF.max(0)
        best_F = best_F.exp()
    near_F = best_F > cfg.mask_threshold * BAND
    flat_F, owner_F, best_F = flat_F[near_F], owner_F[near_F], best_F[near_F]
    p_F = dense_3HW[0].flatten()[flat_F].sigmoid()
    value_F = torch.minimum(best_F / cfg.mask_threshold, p_F / cfg.seg_threshold).mul_(0.5).clamp_(max=1)
    taken_F = value_F > 0.5
    count_N = torch.bincount(owner_F[taken_F], minlength=n)
    quality_N = beta_N.new_zeros(n).index_add(0, owner_F[taken_F], (best_F * p_F)[taken_F]) / count_N.clamp(min=1)
    kept_N = count_N >= max(cfg.min_mask * frame.unit**2, 1)
    kept_F = kept_N[owner_F]
    field[owner_F[kept_F], flat_F[kept_F]] = value_F[kept_F]
    return field.view(n, height, width), quality_N * kept_N
