"""From views to boxes and their maps, and from maps to joints and masks. Boxes are in torchvision's coordinates.

Shapes: B images, N people, K joints, U cells of a box's map, H W input pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.models.detection.roi_heads import heatmaps_to_keypoints, paste_masks_in_image

from repose.geometry import EDGE
from repose.papers.baselines.maskrcnn.model import RCNN, Boxes
from repose.types import Poses


class Outputs(NamedTuple):
    """What the views gave.

    Attributes:
        boxes: people of each image.
        map_NKUU: per image the logits in its boxes, averaged over the views; K = 1 for masks.
        input_wh: width and height of the input.
    """

    boxes: Boxes
    map_NKUU: list[Tensor]
    input_wh: tuple[int, int]


def infer(
    net: RCNN,
    images: Sequence[Tensor],
    mirrored: Sequence[bool],
    size_hw: list[tuple[int, int]],
    flip_index: Sequence[int],
) -> Outputs:
    """Boxes of the first view; maps in them of all views, averaged (Detectron's keypoint test-time augmentation).

    Mirrored views are read at the mirrored boxes; their maps are mirrored back, left and right joints swapped.
    """
    width, height = images[0].shape[-1], images[0].shape[-2]
    boxes, features = net.detect(images[0], size_hw)
    counts = [len(box) for box in boxes.box_N4]
    found = [net.maps(features, boxes.box_N4, size_hw).float()]
    for image, flipped in zip(images[1:], mirrored[1:], strict=True):
        box_N4 = [mirror_boxes(box, width) if flipped else box for box in boxes.box_N4]
        # a mirrored photograph ends elsewhere; the sizes only say from which level boxes are read
        map_NKUU = net.maps(net.backbone(image), box_N4, [(height, width)] * len(box_N4)).float()
        if flipped:
            swap = list(flip_index) if net.cfg.task == "keypoints" else [0]
            map_NKUU = map_NKUU.flip(-1)[:, swap]
        found.append(map_NKUU)
    return Outputs(boxes, list(torch.stack(found).mean(0).split(counts)), (width, height))


def mirror_boxes(box_N4: Tensor, width: int) -> Tensor:
    """Where boxes lie in the mirrored image."""
    x1, y1, x2, y2 = box_N4.unbind(-1)
    return torch.stack([width - x2, y1, width - x1, y2], dim=-1)


def decode(outputs: Outputs, k: int, masks: bool) -> list[Poses]:
    """People of each image, input pixels, best first; the score is the box's, as in torchvision.

    A network of masks has no joints: they stand at the box's centre with score 0.

    Args:
        outputs: of `infer`.
        k: joints of the skeleton.
        masks: the maps are masks.
    """
    width, height = outputs.input_wh
    found: list[Poses] = []
    for box_N4, score_N, map_NKUU in zip(*outputs.boxes, outputs.map_NKUU, strict=True):
        mask_NHW = None
        if masks:
            centre_N12 = (box_N4[:, None, :2] + box_N4[:, None, 2:]) / 2 - EDGE
            joint_NK3 = torch.cat([centre_N12, torch.zeros_like(centre_N12[..., :1])], dim=-1).expand(-1, k, 3)
            mask_NHW = paste_masks_in_image(map_NKUU.sigmoid(), box_N4, (height, width))[:, 0]
        else:
            joint_NK3 = joints(map_NKUU, box_N4)
        found.append(Poses(joint_NK3=joint_NK3, score_N=score_N, box_N4=box_N4 - EDGE, mask_NHW=mask_NHW))
    return found


def joints(map_NKUU: Tensor, box_N4: Tensor) -> Tensor:
    """Joints (x, y, score) of logits in boxes, input pixels, (N, K, 3): the highest pixel of the box (torchvision).

    The score is the softmax over the map's cells at its highest one, the probability that the loss trains.
    """
    point_NK3, _ = heatmaps_to_keypoints(map_NKUU, box_N4)
    score_NK = map_NKUU.flatten(-2).softmax(-1).amax(-1)
    return torch.cat([point_NK3[..., :2] - EDGE, score_NK[..., None]], dim=-1)
