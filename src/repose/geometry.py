"""Coordinates and affine maps. THE statement of the coordinate convention; every other module refers to this text.

* A point is (x, y), x to the right, y down. Joints are pixel centres at integers: (0, 0) is the first pixel's centre.
* Boxes and polygons of COCO files are edges: pixel column i spans [i, i + 1]. The reader subtracts `EDGE` (half a
  pixel) and the writer adds it, so inside repose a box (x1, y1, x2, y2) lies in joint coordinates too: an image of
  width W spans [-0.5, W - 0.5].
* A resize, letterbox, crop, rotation or mirror is one 2x3 matrix in joint coordinates, applied to the picture by one
  `cv2.warpAffine` and to joints, boxes and masks by the same matrix (`PoseAffine`).
* A map of stride s has its cell i at input pixel s * i, unless the paper's `targets.py` states another map at its top.
  `mirror(image, stride)` respects it: cell i of the mirrored image is exactly cell w - 1 - i.

Suffixes: `_img` photograph pixels, `_in` network-input pixels, `_cell` map cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

EDGE = 0.5
"""Distance in pixels from a pixel's centre to its edge: what COCO boxes and polygons are shifted by."""


@dataclass(frozen=True)
class PoseAffine:
    """An affine map from photograph pixels to network-input pixels.

    Attributes:
        matrix_23: float64, 2x3; in joint coordinates (pixel centres at integers).
        mirrored: True if the map mirrors, so that left and right joints must be swapped.
    """

    matrix_23: np.ndarray
    mirrored: bool = False

    def points(self, point_N2: np.ndarray) -> np.ndarray:
        """Map points. Args: point_N2: (..., 2) photograph pixels. Returns: (..., 2) input pixels, float64."""
        return point_N2 @ self.matrix_23[:, :2].T + self.matrix_23[:, 2]

    def inverse_23(self) -> np.ndarray:
        """The 2x3 matrix from input pixels back to photograph pixels."""
        return invert_23(self.matrix_23)

    @property
    def scale(self) -> float:
        """Input pixels per photograph pixel (square root of the area ratio)."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix_23[:, :2]))))


def invert_23(matrix_23: np.ndarray) -> np.ndarray:
    """Inverse of a 2x3 affine matrix."""
    linear = np.linalg.inv(matrix_23[:, :2])
    return np.concatenate([linear, -linear @ matrix_23[:, 2:]], axis=1)


def crop_affine(
    centre_xy: tuple[float, float],
    size_wh: tuple[float, float],
    out_wh: tuple[int, int],
    rotation: float = 0.0,
    mirrored: bool = False,
) -> PoseAffine:
    """Affine map that fills the input with a (rotated, mirrored) rectangle of the photograph.

    The rectangle's edges land on the input's edges, [-0.5, W - 0.5] x [-0.5, H - 0.5].

    Args:
        centre_xy: centre of the rectangle, photograph pixels.
        size_wh: its width and height, photograph pixels; above 0.
        out_wh: input width and height, pixels.
        rotation: degrees; positive turns the picture's content clockwise on screen.
        mirrored: mirror left and right (after the rotation).
    """
    scale_x, scale_y = out_wh[0] / size_wh[0], out_wh[1] / size_wh[1]
    angle = np.deg2rad(rotation)
    cos, sin = np.cos(angle), np.sin(angle)
    linear = np.array([[scale_x * cos, -scale_x * sin], [scale_y * sin, scale_y * cos]])
    middle = np.array([out_wh[0] / 2 - EDGE, out_wh[1] / 2 - EDGE])
    offset = middle - linear @ np.asarray(centre_xy, dtype=np.float64)
    matrix = np.concatenate([linear, offset[:, None]], axis=1)
    if mirrored:
        matrix[0] = -matrix[0]
        matrix[0, 2] += out_wh[0] - 1
    return PoseAffine(matrix, mirrored)


def edges_to_box(xywh_N4: np.ndarray) -> np.ndarray:
    """COCO boxes (x, y, w, h; edges) to (x1, y1, x2, y2) in joint coordinates. Shapes: (..., 4)."""
    box = np.asarray(xywh_N4, dtype=np.float64)
    low = box[..., :2] - EDGE
    return np.concatenate([low, low + box[..., 2:]], axis=-1)


def box_to_edges(box_N4: np.ndarray) -> np.ndarray:
    """(x1, y1, x2, y2) in joint coordinates to COCO boxes (x, y, w, h; edges). Shapes: (..., 4)."""
    box = np.asarray(box_N4, dtype=np.float64)
    return np.concatenate([box[..., :2] + EDGE, box[..., 2:] - box[..., :2]], axis=-1)


def box_centre_size(box_4: np.ndarray) -> tuple[tuple[float, float], tuple[float, float]]:
    """Centre (x, y) and size (w, h) of a box (x1, y1, x2, y2), pixels."""
    x1, y1, x2, y2 = (float(v) for v in box_4)
    return ((x1 + x2) / 2, (y1 + y2) / 2), (x2 - x1, y2 - y1)


def grow_to_aspect(size_wh: tuple[float, float], aspect: float) -> tuple[float, float]:
    """Grow (never shrink) a width and height until width / height equals `aspect`."""
    width, height = size_wh
    return (max(width, height * aspect), max(height, width / aspect))


def apply_affine(point_NK2: Tensor, matrix_N23: Tensor) -> Tensor:
    """Map points of each element by that element's matrix.

    Args:
        point_NK2: (N, K, 2) points.
        matrix_N23: (N, 2, 3) matrices.

    Returns:
        (N, K, 2) in the matrices' dtype.
    """
    point = point_NK2.to(matrix_N23.dtype)
    return point @ matrix_N23[:, :, :2].transpose(1, 2) + matrix_N23[:, None, :, 2]


def mirror(image_BCHW: Tensor, stride: int) -> Tensor:
    """Mirror left and right so that cell i of a stride-s map becomes exactly cell w - 1 - i.

    Cell i sits at pixel s * i, so a plain mirror (x to W - 1 - x) would leave cells s - 1 pixels off; the mirrored
    image is shifted left by that, and the last s - 1 columns repeat the edge. Width must be a multiple of the stride.

    Args:
        image_BCHW: images, any dtype.
        stride: input pixels per map cell.
    """
    flipped = image_BCHW.flip(-1)
    if stride == 1:
        return flipped
    if image_BCHW.shape[-1] % stride:
        raise ValueError(f"width {image_BCHW.shape[-1]} is not a multiple of the stride {stride}")
    edge = flipped[..., -1:].expand(*flipped.shape[:-1], stride - 1)
    return torch.cat([flipped[..., stride - 1 :], edge], dim=-1)


def mirror_points(point_NK2: Tensor, width: int, stride: int) -> Tensor:
    """Where points of an image lie after `mirror(image, stride)`; its own inverse. Units: input pixels."""
    x, y = point_NK2.unbind(-1)
    return torch.stack([(width - stride) - x, y], dim=-1)
