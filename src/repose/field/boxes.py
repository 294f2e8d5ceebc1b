"""Boxes of one picture, whoever found them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Boxes:
    """Boxes of one picture, N of them.

    Attributes:
        box_N4: float64, (x1, y1, x2, y2) in joint coordinates.
        score_N: float64, in [0, 1].
    """

    box_N4: NDArray[np.float64]
    score_N: NDArray[np.float64]

    @property
    def n(self) -> int:
        """Number of boxes."""
        return len(self.box_N4)


NONE = Boxes(np.zeros((0, 4)), np.zeros(0))
