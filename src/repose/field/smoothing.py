"""The OneEuro filter: a low-pass filter per keypoint whose cutoff rises with the keypoint's speed.

Source: DRP-Net §2.4, Eq. 13 (spec. 5); Casiez, Roussel, Vogel: 1 Euro Filter, CHI 2012. Eq. 13's alpha is the weight of
the PAST, one minus the usual one. Shape: K keypoints.
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
    """The filter of one person.

    Attributes:
        cfg: settings.
    """

    def __init__(self, cfg: Smooth, k: int) -> None:
        """Args: cfg: settings; k: keypoints."""
        self.cfg = cfg
        self._point_K2: Array = np.zeros((k, 2))
        self._speed_K2: Array = np.zeros((k, 2))
        self._second_K: Array = np.full(k, -np.inf)  # of each keypoint's last sample

    def __call__(self, point_K2: Array, second: float, seen_K: NDArray[np.bool_], frame_s: float) -> Array:
        """Filter the keypoints of one frame.

        Speed is the Euclidean length, so x and y of a keypoint share a cutoff. A keypoint's first sample, and the first
        after a gap of more than `reset_s`, passes unchanged.

        Args:
            point_K2: measured.
            second: time of the frame.
            seen_K: keypoints with a score worth filtering; the others pass unchanged and leave the filter as it is.
            frame_s: seconds per frame, for `preset: frames`, which counts time in frames.

        Returns:
            (K, 2).
        """
        if self.cfg.preset == "off":
            return point_K2
        gap_K = second - self._second_K
        fresh_K = seen_K & ~((gap_K > 0) & (gap_K <= self.cfg.reset_s))
        going_K = seen_K & ~fresh_K
        out_K2 = point_K2.astype(np.float64)
        self._speed_K2[fresh_K] = 0.0
        if going_K.any():
            step_M1 = gap_K[going_K, None]
            if self.cfg.preset == "frames":
                step_M1 = step_M1 / frame_s
            before_M2, past_M2 = self._point_K2[going_K], self._speed_K2[going_K]
            weight_M1 = past_weight(self.cfg.d_cutoff, step_M1)
            speed_M2 = (1 - weight_M1) * (out_K2[going_K] - before_M2) / step_M1 + weight_M1 * past_M2
            cutoff_M1 = self.cfg.min_cutoff + self.cfg.beta * np.linalg.norm(speed_M2, axis=1, keepdims=True)
            alpha_M1 = past_weight(cutoff_M1, step_M1)
            out_K2[going_K] = alpha_M1 * before_M2 + (1 - alpha_M1) * out_K2[going_K]
            self._speed_K2[going_K] = speed_M2
        self._point_K2[seen_K] = out_K2[seen_K]
        self._second_K[seen_K] = second
        return out_K2
