"""From views to boxes, from boxes to joints or masks.

In steps that an inference-only grid can repeat one by one: `see` (pyramid and heads, once per image), `detect` and
`extend` (boxes), `poses` (heatmaps of boxes), `joints` or `paste`.

Shapes: B images, N detections of all images, K joints (1 for masks), U cells of a heatmap's side, H W cells at stride
4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from repose.geometry import mirror_points
from repose.ops.boxes import centre_box
from repose.ops.heatmap import find_peak
from repose.ops.peaks import find_peaks
from repose.ops.points import read_cells
from repose.papers.cganet.config import Decode
from repose.papers.cganet.extend import dichotomy, fixed
from repose.papers.cganet.model import CGANet, Maps
from repose.papers.cganet.targets import STRIDE, from_roi
from repose.types import Poses

ROI_CHUNK = 256
"""Boxes that go through the ROI branch at once in a test: bounds the memory."""
MASK_CHUNK = 16
"""Masks that are pasted at once."""
MIN_SIDE = 1.0
"""[input pixels] least side of a detected box: regressed sizes can be 0 or less."""
MASK_FROM = 0.5
"""[probability] from which a pixel belongs to the person (Mask R-CNN)."""


class Scene(NamedTuple):
    """What all later steps need of a batch of images, computed once.

    Attributes:
        pyramids: levels of each view.
        mirrored: whether each view is mirrored.
        maps: probabilities, averaged over the views.
        input_wh: input size, pixels.
    """

    pyramids: list[list[Tensor]]
    mirrored: list[bool]
    maps: Maps
    input_wh: tuple[int, int]


class Detections(NamedTuple):
    """Coarse boxes of a batch, sorted by image, then falling score.

    Attributes:
        box_cell_N4: (x1, y1, x2, y2), cells.
        owner_N: int64, image.
        score_N: height of the centre map, after Ambiguity Alleviation where that is on.
    """

    box_cell_N4: Tensor
    owner_N: Tensor
    score_N: Tensor


class Outputs(NamedTuple):
    """What `decode` makes people of.

    Attributes:
        detections: coarse boxes.
        box_in_N4: extended boxes, input pixels.
        heatmap_NKUU: probabilities in them.
        b: images.
        input_wh: input size, pixels.
    """

    detections: Detections
    box_in_N4: Tensor
    heatmap_NKUU: Tensor
    b: int
    input_wh: tuple[int, int]


def see(net: CGANet, image_BCHW: Sequence[Tensor], mirrored: Sequence[bool]) -> Scene:
    """Pyramids of all views, and their maps, averaged.

    Mirrored maps are mirrored back; offsets are the first view's alone, since a centre's cell is not the mirrored
    centre's (CenterNet's flip test). Differs from the paper: it does not describe its flip test.

    Args:
        net: the network.
        image_BCHW: normalised images of each view, the first not mirrored.
        mirrored: whether each was made by `geometry.mirror` at stride 4.
    """
    pyramids = [net.pyramid(image) for image in image_BCHW]
    views = [probabilities(net.maps(pyramid)) for pyramid in pyramids]
    turned = [Maps(*(m.flip(-1) for m in v)) if f else v for v, f in zip(views, mirrored, strict=True)]
    mean = Maps(*(torch.stack(parts).mean(0) for parts in zip(*turned, strict=True)))
    size = image_BCHW[0].shape[-1], image_BCHW[0].shape[-2]
    return Scene(pyramids, list(mirrored), mean._replace(off_B2HW=views[0].off_B2HW), size)


def probabilities(maps: Maps) -> Maps:
    """Maps with their sigmoids, float32."""
    return Maps(
        hm_B1HW=maps.hm_B1HW.float().sigmoid(),
        wh_B2HW=maps.wh_B2HW.float(),
        off_B2HW=maps.off_B2HW.float(),
        line_x_B1HW=maps.line_x_B1HW.float().sigmoid(),
        line_y_B1HW=maps.line_y_B1HW.float().sigmoid(),
    )


def alleviated(maps: Maps, alpha: float, beta: float) -> Tensor:
    """Ambiguity Alleviation: centres that no centre lines cross at lose their score (Center Line Branch, Eq. 4)."""
    return maps.hm_B1HW**alpha * (maps.line_x_B1HW * maps.line_y_B1HW) ** beta


def detect(maps: Maps, cfg: Decode) -> Detections:
    """The best `cfg.top` local maxima of each image's centre map and their boxes; no threshold, no NMS (CenterNet).

    Args:
        maps: probabilities.
        cfg: `top`, `ambiguity`, `alpha`, `beta`.
    """
    centre_map = alleviated(maps, cfg.alpha, cfg.beta) if cfg.ambiguity else maps.hm_B1HW
    peaks = find_peaks(centre_map, 3, cfg.top, 0.0)
    size_N2 = read_cells(maps.wh_B2HW, peaks.owner_N, peaks.cell_N2).clamp(min=MIN_SIDE / STRIDE)
    centre_N2 = peaks.cell_N2 + read_cells(maps.off_B2HW, peaks.owner_N, peaks.cell_N2)
    return Detections(centre_box(centre_N2, size_N2), peaks.owner_N, peaks.score_N)


def extend(detections: Detections, maps: Maps, cfg: Decode) -> Tensor:
    """Boxes after `cfg.extend`, (N, 4) input pixels."""
    box_N4 = detections.box_cell_N4
    if cfg.extend == "dichotomy":
        ratio, thre = box_N4.new_tensor([cfg.ratio]), box_N4.new_tensor([cfg.thre])
        box_N4 = extend_many(detections, maps, ratio, thre, cfg)[0]
    elif cfg.extend == "fixed":
        box_N4 = fixed(box_N4, cfg.fixed)
    return box_N4 * STRIDE


def extend_many(detections: Detections, maps: Maps, ratio_S: Tensor, thre_S: Tensor, cfg: Decode) -> Tensor:
    """Dichotomy Extended Area at many settings at once: (S, N, 4) cells (Table 2)."""
    line_x, line_y = maps.line_x_B1HW[:, 0], maps.line_y_B1HW[:, 0]
    box, owner = detections.box_cell_N4, detections.owner_N
    return dichotomy(box, owner, line_x, line_y, ratio_S, thre_S, cfg.iterations, cfg.direction)


def poses(net: CGANet, scene: Scene, box_in_N4: Tensor, owner_N: Tensor, flip_index: Sequence[int]) -> Tensor:
    """Heatmaps of boxes (input pixels), averaged over the views: (N, K, U, U) probabilities.

    Mirrored views are read at the mirrored boxes; their heatmaps are mirrored back, left and right joints swapped.
    """
    width = scene.input_wh[0]
    found: list[Tensor] = []
    for pyramid, mirrored in zip(scene.pyramids, scene.mirrored, strict=True):
        box = mirror_boxes(box_in_N4, width) if mirrored else box_in_N4
        chunks = zip(box.split(ROI_CHUNK), owner_N.split(ROI_CHUNK), strict=True)
        heatmap = torch.cat([net.heatmaps(pyramid, b, o)[-1].sigmoid() for b, o in chunks])
        if mirrored:
            swap = list(flip_index) if heatmap.shape[1] == len(flip_index) else [0]
            heatmap = heatmap.flip(-1)[:, swap]
        found.append(heatmap)
    return torch.stack(found).mean(0)


def mirror_boxes(box_in_N4: Tensor, width: int) -> Tensor:
    """Where boxes lie in the mirrored view."""
    corner_N22 = mirror_points(box_in_N4.view(-1, 2, 2), width, STRIDE)
    return torch.stack([corner_N22[:, 1, 0], corner_N22[:, 0, 1], corner_N22[:, 0, 0], corner_N22[:, 1, 1]], dim=-1)


def joints(heatmap_NKUU: Tensor, box_in_N4: Tensor, cfg: Decode) -> Tensor:
    """Joints (x, y, score) of heatmaps in boxes, input pixels, (N, K, 3)."""
    cell_NK2, score_NK = find_peak(heatmap_NKUU, cfg.peak, 1.0)
    return torch.cat([from_roi(cell_NK2, box_in_N4, heatmap_NKUU.shape[-1]), score_NK[..., None]], dim=-1)


def paste(heatmap_N1UU: Tensor, box_in_N4: Tensor, input_wh: tuple[int, int]) -> Tensor:
    """Masks at the input's size, (N, H, W) uint8: the heatmap stretched over its box, 1 above one half."""
    width, height = input_wh
    y_H = torch.arange(height, device=box_in_N4.device)
    x_W = torch.arange(width, device=box_in_N4.device)
    found = [torch.zeros(0, height, width, dtype=torch.uint8, device=box_in_N4.device)]
    for mask, box in zip(heatmap_N1UU.split(MASK_CHUNK), box_in_N4.split(MASK_CHUNK), strict=True):
        size = (box[:, 2:] - box[:, :2]).clamp(min=MIN_SIDE)
        x_NW = 2 * (x_W - box[:, 0, None]) / size[:, 0, None] - 1  # -1 and 1 are the box's edges
        y_NH = 2 * (y_H - box[:, 1, None]) / size[:, 1, None] - 1
        inside = (y_NH.abs() <= 1)[:, :, None] & (x_NW.abs() <= 1)[:, None, :]
        grid = torch.stack(torch.broadcast_tensors(x_NW[:, None, :], y_NH[:, :, None]), dim=-1)
        values = F.grid_sample(mask, grid, mode="bilinear", padding_mode="border", align_corners=False)[:, 0]
        found.append(((values > MASK_FROM) & inside).to(torch.uint8))
    return torch.cat(found)


def decode(outputs: Outputs, cfg: Decode, k: int, masks: bool) -> list[Poses]:
    """People of each image, input pixels: joints, extended boxes, and masks where those are the task.

    `extra["coarse_NK2"]` holds two corners of each box before its extension. The score is the detection's, times the
    mean of the joints' scores (`cfg.score`). A network of masks has no joints: they stand at the box's centre with
    score 0.

    Args:
        outputs: of the steps above.
        cfg: settings.
        k: joints of the skeleton.
        masks: the heatmaps are masks.
    """
    box_N4, score_N = outputs.box_in_N4, outputs.detections.score_N
    if masks:
        centre_N12 = (box_N4[:, None, :2] + box_N4[:, None, 2:]) / 2
        joint_NK3 = torch.cat([centre_N12, torch.zeros_like(centre_N12[..., :1])], dim=-1).expand(-1, k, 3)
    else:
        joint_NK3 = joints(outputs.heatmap_NKUU, box_N4, cfg)
        if cfg.score == "box_x_kp":
            score_N = score_N * joint_NK3[..., 2].mean(-1)
    coarse_N22 = (outputs.detections.box_cell_N4 * STRIDE).view(-1, 2, 2)
    found: list[Poses] = []
    for i in range(outputs.b):
        mine = outputs.detections.owner_N == i
        found.append(
            Poses(
                joint_NK3=joint_NK3[mine],
                score_N=score_N[mine],
                box_N4=box_N4[mine],
                mask_NHW=paste(outputs.heatmap_NKUU[mine], box_N4[mine], outputs.input_wh) if masks else None,
                extra={"coarse_NK2": coarse_N22[mine]},
            )
        )
    return found
