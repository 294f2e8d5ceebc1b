"""The OneEuro filter: a low-pass filter per keypoint whose cutoff rises with the keypoint's speed.

Source: DRP-Net §2.4, Eq. 13 (spec. 5); Casiez, Roussel, Vogel: 1 Euro Filter, CHI 2012. Eq. 13's alpha is the weight of
the PAST, one minus the usual one. Shapes: N people of a frame, T rows of memory, K keypoints.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from repose.field.options import Smooth

Array = NDArray[np.float64]


def past_weight(cutoff: Array | float, step_s: Array | float) -> Array:
    """Alpha of Eq. 13: 1 / (1 + 2 pi f Te), in (0, 1); falls with the cutoff.

    Args:
        cutoff: f_c, Hz.
        step_s: Te, seconds since the last sample.
    """
    return 1 / (1 + 2 * np.pi * np.asarray(cutoff, np.float64) * step_s)


class OneEuro:
    """The filters of everybody who is followed, in one go: a row of memory each.

    Attributes:
        cfg: settings.
    """

    def __init__(self, cfg: Smooth, k: int) -> None:
        """Args: cfg: settings; k: keypoints."""
        self.cfg = cfg
        self._point_TK2: Array = np.zeros((0, k, 2))
        self._speed_TK2: Array = np.zeros((0, k, 2))
        self._second_TK: Array = np.zeros((0, k))  # of each keypoint's last sample
        self._free: list[int] = []

    def new(self) -> int:
        """A row for somebody new."""
        if not self._free:
            t, k = self._second_TK.shape
            self._point_TK2 = np.concatenate([self._point_TK2, np.zeros((1, k, 2))])
            self._speed_TK2 = np.concatenate([self._speed_TK2, np.zeros((1, k, 2))])
            self._second_TK = np.concatenate([self._second_TK, np.zeros((1, k))])
            self._free.append(t)
        row = self._free.pop()
        self._second_TK[row] = -np.inf
        return row

    def forget(self, row: int) -> None:
        """Somebody is gone; the row may be somebody else's."""
        self._free.append(row)

    def __call__(
        self, row_N: NDArray[np.int64], point_NK2: Array, second: float, seen_NK: NDArray[np.bool_], frame_s: float
    ) -> Array:
        """Filter the keypoints of one frame.

        Speed is the Euclidean length, so x and y of a keypoint share a cutoff. A keypoint's first sample, and the first
        after a gap of more than `reset_s`, passes unchanged.

        Args:
            row_N: whose they are.
            point_NK2: measured.
            second: time of the frame.
            seen_NK: keypoints with a score worth filtering; the others pass unchanged and leave the filter as it is.
            frame_s: seconds per frame, for `preset: frames`, which counts time in frames.

        Returns:
            (N, K, 2).
        """
        if self.cfg.preset == "off":
            return point_NK2
        gap_NK = second - self._second_TK[row_N]
        going_NK1 = ((gap_NK > 0) & (gap_NK <= self.cfg.reset_s))[..., None]
        step_NK1 = np.where(going_NK1, gap_NK[..., None], 1.0)
        if self.cfg.preset == "frames":
            step_NK1 = step_NK1 / frame_s
        before_NK2 = self._point_TK2[row_N]
        weight_NK1 = past_weight(self.cfg.d_cutoff, step_NK1)
        speed_NK2 = (1 - weight_NK1) * (point_NK2 - before_NK2) / step_NK1 + weight_NK1 * self._speed_TK2[row_N]
        cutoff_NK1 = self.cfg.min_cutoff + self.cfg.beta * np.sqrt((speed_NK2**2).sum(-1, keepdims=True))
        alpha_NK1 = np.where(going_NK1, past_weight(cutoff_NK1, step_NK1), 0.0)
        out_NK2 = np.where(seen_NK[..., None], alpha_NK1 * before_NK2 + (1 - alpha_NK1) * point_NK2, point_NK2)
        n, k = np.nonzero(seen_NK)
        rows = row_N[n]
        self._point_TK2[rows, k] = out_NK2[n, k]
        self._speed_TK2[rows, k] = np.where(going_NK1, speed_NK2, 0.0)[n, k]
        self._second_TK[rows, k] = second
        return out_NK2
