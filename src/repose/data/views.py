"""What one sample is cut from: the crop of a person or of an image, augmented or not, as one affine map.

All numbers here are plain Python floats: a handful of them per sample, where numpy's call overhead would dominate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from repose.config import Augment, Data
from repose.data.transforms import Slot, drawn, spread
from repose.errors import UserError
from repose.geometry import EDGE, PoseAffine, box_centre_size, crop_affine, grow_to_aspect
from repose.skeleton import Skeleton


@dataclass(frozen=True)
class Crop:
    """A rectangle of the photograph and how it is laid into the input.

    Attributes:
        centre_xy: photograph pixels.
        size_wh: photograph pixels.
        rotation: degrees.
        mirrored: left and right swapped.
    """

    centre_xy: tuple[float, float]
    size_wh: tuple[float, float]
    rotation: float = 0.0
    mirrored: bool = False

    def affine(self, out_wh: tuple[int, int]) -> PoseAffine:
        """The map onto an input of this width and height."""
        return crop_affine(self.centre_xy, self.size_wh, out_wh, self.rotation, self.mirrored)


class PersonView:
    """Crops of one person each (`data.view: person`)."""

    def __init__(self, data: Data, skeleton: Skeleton) -> None:
        if data.base != "box" or data.centre != "box":
            raise UserError(
                "data.view=person crops boxes: data.base and data.centre must be box (or use data.view=image)"
            )
        self.out_wh = (data.input_size[1], data.input_size[0])
        self.padding = data.padding
        self.halves: tuple[tuple[int, ...], ...] = ()
        for augment in (data.augment, data.augment_final):
            # A skeleton with fewer joints than a half body needs can never be halved, so it needs no groups.
            if augment is not None and augment.half_body.p > 0 and skeleton.k >= augment.half_body.min_labelled:
                self.halves = tuple(skeleton.group(half, "data.augment.half_body") for half in ("upper", "lower"))

    def plain(self, box_4: np.ndarray, zoom: float = 1.0) -> Crop:
        """The padded box, grown to the input's aspect; a test scale above 1 zooms in."""
        centre, (width, height) = box_centre_size(box_4)
        factor = self.padding / zoom
        return Crop(centre, self._grown(width * factor, height * factor))

    def augmented(self, box_4: np.ndarray, joint_K3: np.ndarray, augment: Augment, u: Sequence[float]) -> Crop:
        """A random crop: half body, shift, scale, rotation, flip (RTMPose's order; DRP-Net spec. §4).

        The shift is in units of the padded box's (or half body's) longer side.
        """
        half = self._half_body(joint_K3, augment, u)
        if half is None:
            (x, y), (width, height) = box_centre_size(box_4)
            width, height = width * self.padding, height * self.padding
        else:
            (x, y), (width, height) = half
        if u[Slot.SHIFT] < augment.shift.p:
            side = max(width, height)
            x += spread(augment.shift, u[Slot.SHIFT_X]) * side
            y += spread(augment.shift, u[Slot.SHIFT_Y]) * side
        scale = drawn(augment.scale, u, Slot.SCALE, Slot.SCALE_VALUE, 1.0)
        width, height = self._grown(width, height)
        return Crop((x, y), (width * scale, height * scale), _rotation(augment, u), u[Slot.FLIP] < augment.flip)

    def _grown(self, width: float, height: float) -> tuple[float, float]:
        # Boxes of no extent exist in the wild; one pixel keeps the map invertible.
        return grow_to_aspect((max(width, 1.0), max(height, 1.0)), self.out_wh[0] / self.out_wh[1])

    def _half_body(
        self, joint_K3: np.ndarray, augment: Augment, u: Sequence[float]
    ) -> tuple[tuple[float, float], tuple[float, float]] | None:
        rule = augment.half_body
        if u[Slot.HALF_BODY] >= rule.p or not self.halves:
            return None
        joints = joint_K3.tolist()
        if sum(j[2] > 0 for j in joints) < rule.min_labelled:
            return None
        upper, lower = ([joints[k] for k in half if joints[k][2] > 0] for half in self.halves)
        can_upper, can_lower = len(upper) >= rule.min_upper, len(lower) >= rule.min_lower
        if can_upper and can_lower:
            chosen = upper if u[Slot.HALF_UPPER] < rule.upper_p else lower
        elif can_upper or can_lower:
            chosen = upper if can_upper else lower
        else:
            return None
        xs, ys = [j[0] for j in chosen], [j[1] for j in chosen]
        centre = sum(xs) / len(xs), sum(ys) / len(ys)
        return centre, ((max(xs) - min(xs)) * rule.padding, (max(ys) - min(ys)) * rule.padding)


class ImageView:
    """Whole images (`data.view: image`)."""

    def __init__(self, data: Data) -> None:
        if data.base == "box" or data.centre == "box":
            raise UserError("data.view=image: set data.base to short or long and data.centre to image or person")
        self.out_wh = (data.input_size[1], data.input_size[0])
        self.long = data.base == "long"
        self.person = data.centre == "person"
        self.multiple = data.test_multiple

    def scale(self, image_wh: tuple[int, int]) -> float:
        """Input pixels per photograph pixel at which the longer side fits the input, or the shorter one fills it."""
        ratios = self.out_wh[0] / image_wh[0], self.out_wh[1] / image_wh[1]
        return min(ratios) if self.long else max(ratios)

    def canvas(self, image_wh: tuple[int, int], zoom: float = 1.0) -> tuple[tuple[int, int], tuple[int, int]]:
        """Test input of an image: size padded to `data.test_multiple`, and the part that the photograph covers."""
        scale = self.scale(image_wh) * zoom
        # The tiny slack keeps 512.0000001 from becoming 513 columns.
        valid = tuple(max(1, math.ceil(side * scale - 1e-6)) for side in image_wh)
        padded = tuple(-(-side // self.multiple) * self.multiple for side in valid)
        return (padded[0], padded[1]), (valid[0], valid[1])

    def plain(self, image_wh: tuple[int, int], zoom: float = 1.0) -> tuple[Crop, tuple[int, int], tuple[int, int]]:
        """Crop, canvas and valid size of a test image: the photograph lies in the canvas's upper left corner."""
        canvas, valid = self.canvas(image_wh, zoom)
        scale = self.scale(image_wh) * zoom
        width, height = canvas[0] / scale, canvas[1] / scale
        return Crop((width / 2 - EDGE, height / 2 - EDGE), (width, height)), canvas, valid

    def augmented(self, image_wh: tuple[int, int], box_N4: np.ndarray, augment: Augment, u: Sequence[float]) -> Crop:
        """A random crop of the input's size.

        Args:
            image_wh: photograph size.
            box_N4: boxes of labelled people, for `data.centre: person`.
            augment: what to draw.
            u: the sample's uniform numbers.
        """
        x, y = image_wh[0] / 2 - EDGE, image_wh[1] / 2 - EDGE
        if self.person and len(box_N4):
            (x, y), _ = box_centre_size(box_N4[int(u[Slot.CENTRE] * len(box_N4))])
        if u[Slot.SHIFT] < augment.shift.p:
            side = max(image_wh)
            x += spread(augment.shift, u[Slot.SHIFT_X]) * side
            y += spread(augment.shift, u[Slot.SHIFT_Y]) * side
        factor = drawn(augment.scale, u, Slot.SCALE, Slot.SCALE_VALUE, 1.0) / self.scale(image_wh)
        size = self.out_wh[0] * factor, self.out_wh[1] * factor
        return Crop((x, y), size, _rotation(augment, u), u[Slot.FLIP] < augment.flip)


def _rotation(augment: Augment, u: Sequence[float]) -> float:
    return drawn(augment.rotation, u, Slot.ROTATION, Slot.ROTATION_VALUE)
