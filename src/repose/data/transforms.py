"""Random draws of one sample, and the photometric augmentation (the only door to albumentations).

A sample's draws are one row of uniform numbers at fixed places (`Slot`), so that switching one draw on or off never
changes the others, and nothing depends on workers, ranks or what was drawn before. albumentations' own random state
is not used at all (its worker seeding repeats itself): its pixel functions are called with drawn values, and only where
one of them is to act, which also avoids the overhead of `Compose`.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum, auto
from math import floor
from statistics import NormalDist

import numpy as np

from repose.config import Augment, Draw

_NORMAL = NormalDist()
_LOW = _NORMAL.cdf(-1.0)
_SPAN = _NORMAL.cdf(1.0) - _LOW


class Slot(IntEnum):
    """Places of the uniform numbers in a sample's row; new ones are appended, or old runs would change."""

    FLIP = 0
    HALF_BODY = auto()
    HALF_UPPER = auto()
    SCALE = auto()
    SCALE_VALUE = auto()
    ROTATION = auto()
    ROTATION_VALUE = auto()
    SHIFT = auto()
    SHIFT_X = auto()
    SHIFT_Y = auto()
    CENTRE = auto()
    HUE = auto()
    HUE_VALUE = auto()
    SATURATION = auto()
    SATURATION_VALUE = auto()
    VALUE = auto()
    VALUE_VALUE = auto()
    BLUR = auto()
    BLUR_KERNEL = auto()
    MEDIAN = auto()
    MEDIAN_KERNEL = auto()
    HOLE = auto()
    HOLE_H = auto()
    HOLE_W = auto()
    HOLE_Y = auto()
    HOLE_X = auto()


SLOTS = len(Slot)


def sample_draws(seed: int, epoch: int, index: int, attempt: int = 0) -> tuple[list[float], int]:
    """The random numbers of a sample, a function of (seed, epoch, index) alone.

    Args:
        seed: of the run.
        epoch: that the sampler drew the sample for.
        index: of the sample.
        attempt: above 0 where an unreadable image was replaced.

    Returns:
        `SLOTS` uniform numbers in [0, 1), and a seed for draws on the device (below 2^62).
    """
    key = [seed, epoch, index] if attempt == 0 else [seed, epoch, index, attempt]
    generator = np.random.default_rng(key)
    uniform = generator.random(SLOTS + 1).tolist()
    # 53 random bits of the last number; exact, because a float64 holds them all.
    return uniform, int(uniform.pop() * (1 << 53))


def drawn(draw: Draw, u: Sequence[float], gate: int, value: int, neutral: float = 0.0) -> float:
    """The value of a draw, `neutral` where its gate stays shut.

    Args:
        draw: probability, range and distribution.
        u: the sample's uniform numbers.
        gate: place of the number that decides whether the draw is made.
        value: place of the number that decides its value.
        neutral: value without a draw.
    """
    if u[gate] >= draw.p:
        return neutral
    return spread(draw, u[value])


def spread(draw: Draw, u: float) -> float:
    """A uniform number in [0, 1) to a value of the draw's range and distribution."""
    low, high = draw.range
    if draw.distribution == "inverse":
        return low * high / (low + u * (high - low))
    if draw.distribution == "truncnorm":
        u = (_NORMAL.inv_cdf(_LOW + u * _SPAN) + 1) / 2
    elif draw.distribution != "uniform":
        cut = int(draw.distribution.removeprefix("clipnorm"))  # standard deviations from the middle to an end
        beyond = _NORMAL.cdf(-cut)
        u = (_NORMAL.inv_cdf(min(max(u, beyond), 1 - beyond)) / cut + 1) / 2
    return low + u * (high - low)


def integer(draw: Draw, u: Sequence[float], gate: int, value: int) -> int:
    """An integer of the draw's range, both ends included; 0 where its gate stays shut."""
    if u[gate] >= draw.p:
        return 0
    low, high = draw.range
    if draw.distribution == "uniform":
        return floor(low + u[value] * (floor(high - low) + 1))
    return round(spread(draw, u[value]))


class Photometric:
    """Hue, saturation, value, blur, median blur and one black hole, on the warped uint8 RGB image alone.

    Labels stay as they are: a joint below the hole is still to be found (RTMPose's augmentation; DRP-Net spec. §4).
    """

    def __init__(self, augment: Augment) -> None:
        self.augment = augment
        self.colours = max(augment.hue.p, augment.saturation.p, augment.value.p) > 0
        self.blurs = max(augment.blur, augment.median_blur) > 0
        self.holes = augment.hole.p > 0
        if self.colours or self.blurs:
            # 2.5 s of import, so only where it is used; and here, so that forked workers share it.
            from albumentations.augmentations.blur.functional import box_blur, median_blur
            from albumentations.augmentations.pixel.functional import shift_hsv

            self._box_blur, self._median_blur, self._shift_hsv = box_blur, median_blur, shift_hsv

    def __call__(self, image_HW3: np.ndarray, u: Sequence[float]) -> np.ndarray:
        """Augment an image, possibly in place.

        Args:
            image_HW3: uint8 RGB, may be written to.
            u: the sample's uniform numbers.

        Returns:
            The augmented image (the same array or a new one).
        """
        augment = self.augment
        if self.colours:
            hue = integer(augment.hue, u, Slot.HUE, Slot.HUE_VALUE)
            saturation = integer(augment.saturation, u, Slot.SATURATION, Slot.SATURATION_VALUE)
            value = integer(augment.value, u, Slot.VALUE, Slot.VALUE_VALUE)
            if hue or saturation or value:
                image_HW3 = self._shift_hsv(image_HW3, hue, saturation, value)
        if self.blurs:
            if u[Slot.BLUR] < augment.blur:
                image_HW3 = self._box_blur(image_HW3, _kernel(u[Slot.BLUR_KERNEL]))
            if u[Slot.MEDIAN] < augment.median_blur:
                image_HW3 = self._median_blur(image_HW3, _kernel(u[Slot.MEDIAN_KERNEL]))
        if self.holes and u[Slot.HOLE] < augment.hole.p:
            self._hole(image_HW3, u)
        return image_HW3

    def _hole(self, image_HW3: np.ndarray, u: Sequence[float]) -> None:
        height, width = image_HW3.shape[:2]
        low, high = self.augment.hole.side
        hole_h = int(height * (low + u[Slot.HOLE_H] * (high - low)))
        hole_w = int(width * (low + u[Slot.HOLE_W] * (high - low)))
        y = int(u[Slot.HOLE_Y] * (height - hole_h + 1))
        x = int(u[Slot.HOLE_X] * (width - hole_w + 1))
        image_HW3[y : y + hole_h, x : x + hole_w] = 0


def _kernel(u: float) -> int:
    return 3 + 2 * int(u * 3)  # 3, 5 or 7
