"""Annotated people of a batch, moved into the inputs by the same matrices as the pixels. Vectorised over the batch."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from repose.data.coco import Annotations
from repose.geometry import EDGE
from repose.types import People

MASK_STRIDE = 4
"""Input pixels per cell of `data.masks: stride4` and of the region masks; cell i lies at input pixel 4 i."""


def gather(
    annotations: Annotations,
    row_N: np.ndarray,
    owner_N: np.ndarray,
    matrix_B23: np.ndarray,
    mirrored_B: np.ndarray,
    input_wh: tuple[int, int],
    flip_index: np.ndarray,
    min_keypoints: int,
    drop_outside: bool,
) -> tuple[People, np.ndarray]:
    """People as a batch ships them.

    Args:
        annotations: all people.
        row_N: annotation rows of the people.
        owner_N: which batch element each belongs to.
        matrix_B23: photograph to input, per batch element.
        mirrored_B: bool, elements whose left and right joints trade places.
        input_wh: input width and height.
        flip_index: K joint indices of the mirrored person.
        min_keypoints: people with fewer labelled joints count as not labelled.
        drop_outside: leave out people whose box lies wholly outside the input.

    Returns:
        The people (without masks), and the annotation rows of those kept.
    """
    box_img_N4 = annotations.box_A4[row_N]
    matrix_N23 = matrix_B23[owner_N]
    corner_N42 = _map(box_img_N4[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2), matrix_N23)
    fraction_N = _visible(corner_N42, input_wh)
    if drop_outside and not fraction_N.all():
        kept = fraction_N > 0
        row_N, owner_N, matrix_N23 = row_N[kept], owner_N[kept], matrix_N23[kept]
        corner_N42, fraction_N, box_img_N4 = corner_N42[kept], fraction_N[kept], box_img_N4[kept]

    joint_NK3, given_NK = _joints(annotations.joint_AK3[row_N], matrix_N23, mirrored_B[owner_N], input_wh, flip_index)
    labelled_N = (joint_NK3[..., 2] > 0).any(axis=1) & (annotations.labelled_A[row_N] >= min_keypoints)
    box_N4 = _boxes(annotations, row_N, corner_N42, matrix_N23, input_wh)
    people = People(
        owner_N=torch.from_numpy(owner_N),
        ann_id_N=torch.from_numpy(annotations.ann_id_A[row_N]),
        joint_NK3=torch.from_numpy(joint_NK3.astype(np.float32)),
        box_N4=torch.from_numpy(box_N4.astype(np.float32)),
        visible_fraction_N=torch.from_numpy(fraction_N.astype(np.float32)),
        box_img_N4=torch.from_numpy(box_img_N4.astype(np.float32)),
        area_N=torch.from_numpy(annotations.area_A[row_N].astype(np.float32)),
        labelled_N=torch.from_numpy(labelled_N),
        given_NK=torch.from_numpy(given_NK),
    )
    return people, row_N


def _map(point_NP2: np.ndarray, matrix_N23: np.ndarray) -> np.ndarray:
    return point_NP2 @ matrix_N23[:, :, :2].transpose(0, 2, 1) + matrix_N23[:, None, :, 2]


def _joints(
    joint_NK3: np.ndarray,
    matrix_N23: np.ndarray,
    mirrored_N: np.ndarray,
    input_wh: tuple[int, int],
    flip_index: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    point_NK2, v_NK = _map(joint_NK3[..., :2], matrix_N23), joint_NK3[..., 2]
    high = np.array(input_wh) - EDGE
    inside_NK = ((point_NK2 >= -EDGE) & (point_NK2 <= high)).all(axis=-1)
    given_NK = v_NK > 0
    # Joints that are not labelled have no position at all (COCO writes 0, 0); those outside keep theirs, with v = 0.
    point_NK2 = np.where(given_NK[..., None], point_NK2, 0.0)
    out = np.concatenate([point_NK2, (v_NK * inside_NK)[..., None]], axis=-1)
    if mirrored_N.any():
        out[mirrored_N] = out[mirrored_N][:, flip_index]
        given_NK[mirrored_N] = given_NK[mirrored_N][:, flip_index]
    return out, given_NK


def _visible(corner_N42: np.ndarray, input_wh: tuple[int, int]) -> np.ndarray:
    # Share of each (possibly rotated) box inside the input.
    low_N2, high_N2 = corner_N42.min(axis=1), corner_N42.max(axis=1)
    high = np.array(input_wh) - EDGE
    within_N = ((low_N2 >= -EDGE) & (high_N2 <= high)).all(axis=1)
    fraction_N = within_N.astype(np.float64)
    rest = np.flatnonzero(~within_N & (high_N2 > -EDGE).all(axis=1) & (low_N2 < high).all(axis=1))
    if len(rest):
        frame = np.array([[-EDGE, -EDGE], [high[0], -EDGE], high, [-EDGE, high[1]]], np.float32)
        for n in rest.tolist():
            corner = corner_N42[n].astype(np.float32)
            whole = cv2.contourArea(corner)
            shared = cv2.intersectConvexConvex(corner, frame)[0] if whole > 0 else 0.0
            fraction_N[n] = min(shared / whole, 1.0) if whole > 0 else 0.0
    return fraction_N


def _boxes(
    annotations: Annotations,
    row_N: np.ndarray,
    corner_N42: np.ndarray,
    matrix_N23: np.ndarray,
    input_wh: tuple[int, int],
) -> np.ndarray:
    low_N2, high_N2 = corner_N42.min(axis=1), corner_N42.max(axis=1)
    segments = annotations.segments
    start_N = segments.ring_first_R[segments.first_ring_A[row_N]]
    count_N = segments.ring_first_R[segments.first_ring_A[row_N + 1]] - start_N
    outlined = np.flatnonzero(count_N)
    if len(outlined):
        start, count = start_N[outlined], count_N[outlined]
        first = np.concatenate([[0], np.cumsum(count)[:-1]])
        # Points of all outlines in one row: index = start of the outline + place within it.
        index = np.arange(count.sum()) + np.repeat(start - first, count)
        matrix = np.repeat(matrix_N23[outlined], count, axis=0)
        point = segments.point_S2[index]
        moved = (matrix[:, :, :2] * point[:, None]).sum(axis=-1) + matrix[:, :, 2]
        low_N2[outlined] = np.minimum.reduceat(moved, first)
        high_N2[outlined] = np.maximum.reduceat(moved, first)
    box_N4 = np.concatenate([low_N2, high_N2], axis=1)
    limit = np.array(input_wh * 2) - EDGE
    return np.clip(box_N4, -EDGE, limit)


def warp_mask(mask_HW: np.ndarray, matrix_23: np.ndarray, input_wh: tuple[int, int], stride: int) -> np.ndarray:
    """A photograph mask at the input's resolution (stride 1) or at a map's (cell i at input pixel stride * i), 0/1."""
    size = -(-input_wh[0] // stride), -(-input_wh[1] // stride)
    # Linear sampling of 0/255 and a threshold put the outline where it belongs between pixels; nearest would step.
    moved = cv2.warpAffine(mask_HW * np.uint8(255), matrix_23 / stride, size, flags=cv2.INTER_LINEAR)
    return (moved > 127).astype(np.uint8)


def instance_masks(
    annotations: Annotations,
    row_N: np.ndarray,
    owner_N: Tensor,
    matrix_B23: np.ndarray,
    input_wh: tuple[int, int],
    stride: int,
) -> Tensor:
    """(N, H, W) uint8 masks of people; overlaps kept, all 0 for people without a segmentation."""
    masks = [
        warp_mask(annotations.mask(row), matrix_B23[owner], input_wh, stride)
        for row, owner in zip(row_N.tolist(), owner_N.tolist(), strict=True)
    ]
    if not masks:
        return torch.zeros(0, -(-input_wh[1] // stride), -(-input_wh[0] // stride), dtype=torch.uint8)
    return torch.from_numpy(np.stack(masks))


def region_masks(
    annotations: Annotations, images: list[int], matrix_B23: np.ndarray, input_wh: tuple[int, int], min_keypoints: int
) -> tuple[Tensor, Tensor]:
    """Crowd regions, and people without (enough) labelled joints: two (B, 1, H, W) uint8 masks at stride 4.

    Where such an annotation has no segmentation, its box is filled.
    """
    height, width = -(-input_wh[1] // MASK_STRIDE), -(-input_wh[0] // MASK_STRIDE)
    crowd, unlabelled = np.zeros((2, len(images), 1, height, width), np.uint8)
    for b, image in enumerate(images):
        for row in annotations.rows(image):
            if annotations.crowd_A[row]:
                target = crowd
            elif annotations.labelled_A[row] < max(min_keypoints, 1):
                target = unlabelled
            else:
                continue
            region = annotations.mask(row) if annotations.has_mask(row) else _filled_box(annotations, row)
            np.maximum(target[b, 0], warp_mask(region, matrix_B23[b], input_wh, MASK_STRIDE), out=target[b, 0])
    return torch.from_numpy(crowd), torch.from_numpy(unlabelled)


def inside_masks(
    annotations: Annotations, images: list[int], matrix_B23: np.ndarray, input_wh: tuple[int, int]
) -> Tensor:
    """(B, 1, H, W) uint8 at stride 4: 1 in cells whose middle lies on the photograph, 0 beyond its edges."""
    height, width = -(-input_wh[1] // MASK_STRIDE), -(-input_wh[0] // MASK_STRIDE)
    inside = np.zeros((len(images), 1, height, width), np.uint8)
    for b, image in enumerate(images):
        photograph_wh = annotations.image_wh_I2[image].tolist()
        whole = np.ones((photograph_wh[1], photograph_wh[0]), np.uint8)
        inside[b, 0] = warp_mask(whole, matrix_B23[b], input_wh, MASK_STRIDE)
    return torch.from_numpy(inside)


def _filled_box(annotations: Annotations, row: int) -> np.ndarray:
    width, height = annotations.image_wh_I2[annotations.image_A[row]].tolist()
    mask = np.zeros((height, width), np.uint8)
    x1, y1, x2, y2 = np.rint(annotations.box_A4[row] + EDGE).astype(int).clip(0).tolist()
    mask[y1:y2, x1:x2] = 1
    return mask
