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


@dataclass(frozen=True)
class Canvas:
    """A test input of the image view.

    Attributes:
        wh: its size, pixels.
        origin: first column and row that the photograph touches.
        valid_wh: columns and rows that it touches; the rest is padding.
    """

    wh: tuple[int, int]
    origin: tuple[int, int]
    valid_wh: tuple[int, int]


def check_scales(scales: Sequence[float]) -> None:
    """Refuse test scales of which the first is not 1, the view that poses are decoded in.

    Raises:
        UserError: none, a second 1.0, one twice, or one that is not above 0.
    """
    if not scales or min(scales) <= 0 or not all(math.isfinite(s) for s in scales) or len(set(scales)) != len(scales):
        raise UserError(f"data.test_scales={list(scales)}: give different scales above 0, [1.0] for one scale")
    if scales[0] != 1:
        ordered = [1.0, *(s for s in scales if s != 1)]
        raise UserError(
            f"data.test_scales={list(scales)}: the first one must be 1.0 (poses are decoded there): {ordered}"
        )


class PersonView:
    """Crops of one person each (`data.view: person`)."""

    def __init__(self, data: Data, skeleton: Skeleton) -> None:
        if data.base != "box" or data.centre != "box":
            raise UserError(
                "data.view=person crops boxes: data.base and data.centre must be box (or use data.view=image)"
            )
        check_scales(data.test_scales)
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

        The shift is in units of the padded box's (or half body's) longer side, with `shift_unit: base` of the crop's
        shorter side, with `box` of the padded box's width in x and its height in y.
        """
        half = self._half_body(joint_K3, augment, u)
        if half is None:
            (x, y), (width, height) = box_centre_size(box_4)
            width, height = width * self.padding, height * self.padding
        else:
            (x, y), (width, height) = half
        box = width, height
        scale = drawn(augment.scale, u, Slot.SCALE, Slot.SCALE_VALUE, 1.0)
        width, height = self._grown(width, height)
        size = width * scale, height * scale
        dx, dy = _shift(augment, u, box, size)
        return Crop((x + dx, y + dy), size, _rotation(augment, u), u[Slot.FLIP] < augment.flip)

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
        self.centred = data.test_place == "centre"
        check_scales(data.test_scales)
        for zoom in data.test_scales if self.centred else ():
            if not (zoom * self.multiple).is_integer():
                raise UserError(
                    f"data.test_scales: {zoom:g} x data.test_multiple={self.multiple} is no whole number of pixels, "
                    "which data.test_place=centre needs"
                )

    def scale(self, image_wh: tuple[int, int]) -> float:
        """Input pixels per photograph pixel at which the longer side fits the input, or the shorter one fills it."""
        ratios = self.out_wh[0] / image_wh[0], self.out_wh[1] / image_wh[1]
        return min(ratios) if self.long else max(ratios)

    def canvas_wh(self, image_wh: tuple[int, int], zoom: float = 1.0) -> tuple[int, int]:
        """Size of the test input: sides rounded up to multiples of `data.test_multiple`.

        With `data.test_place: centre` the canvas of a scale t is t times that of scale 1 (PINet spec. 7.1).
        """
        scale = self.scale(image_wh) * (1.0 if self.centred else zoom)
        # The tiny slack keeps 512.0000001 from becoming 513 columns.
        sides = (max(1, math.ceil(side * scale - 1e-6)) for side in image_wh)
        width, height = (-(-side // self.multiple) * self.multiple for side in sides)
        return (round(width * zoom), round(height * zoom)) if self.centred else (width, height)

    def plain(self, image_wh: tuple[int, int], zoom: float = 1.0) -> tuple[Crop, Canvas]:
        """Crop and canvas of a test image.

        `data.test_place: corner`: the photograph's edges lie on the canvas's upper and left edges. `centre`: pixel
        int(W / 2 + 0.5) of the photograph lies at W' / 2 of the canvas, for every scale, so that a pixel of scale t is
        exactly t times the one of scale 1 (PINet spec. 7.1, 7.5; the half there rounds, it is no pixel's edge).
        """
        wh = self.canvas_wh(image_wh, zoom)
        scale = self.scale(image_wh) * zoom
        size = wh[0] / scale, wh[1] / scale
        if self.centred:
            # The middle of an input is W' / 2 - EDGE; the crop's centre makes up for it.
            x, y = ((side + 1) // 2 - EDGE / scale for side in image_wh)
        else:
            x, y = size[0] / 2 - EDGE, size[1] / 2 - EDGE
        low_xy = [scale * (-EDGE - c) + side / 2 - EDGE for c, side in zip((x, y), wh, strict=True)]
        first = [max(0, math.floor(low + EDGE + 1e-6)) for low in low_xy]
        last = [
            min(side, math.ceil(low + scale * photograph + EDGE - 1e-6))
            for low, photograph, side in zip(low_xy, image_wh, wh, strict=True)
        ]
        valid_wh = (max(1, last[0] - first[0]), max(1, last[1] - first[1]))
        return Crop((x, y), size), Canvas(wh, (first[0], first[1]), valid_wh)

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
        factor = drawn(augment.scale, u, Slot.SCALE, Slot.SCALE_VALUE, 1.0) / self.scale(image_wh)
        size = self.out_wh[0] * factor, self.out_wh[1] * factor
        dx, dy = _shift(augment, u, image_wh, size)
        return Crop((x + dx, y + dy), size, _rotation(augment, u), u[Slot.FLIP] < augment.flip)


def _shift(
    augment: Augment, u: Sequence[float], box_wh: tuple[float, float], crop_wh: tuple[float, float]
) -> tuple[float, float]:
    if u[Slot.SHIFT] >= augment.shift.p:
        return 0.0, 0.0
    longer, shorter = max(box_wh), min(crop_wh)
    unit_x, unit_y = {"longer": (longer, longer), "base": (shorter, shorter), "box": box_wh}[augment.shift_unit]
    return spread(augment.shift, u[Slot.SHIFT_X]) * unit_x, spread(augment.shift, u[Slot.SHIFT_Y]) * unit_y


def _rotation(augment: Augment, u: Sequence[float]) -> float:
    return drawn(augment.rotation, u, Slot.ROTATION, Slot.ROTATION_VALUE)
