"""Reading dense maps at single points on the host: for walks of many small steps, each of which needs the one before.

`ops.points` reads many points at once on the device. Shapes: C channels, H W cells, N points. Points are (x, y) in
input pixels, cell i lies at pixel stride * i.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor


class MapReader:
    """A copy of maps on the host, read bilinearly; outside, the border's value.

    Attributes:
        map_HWC: float32 copy.
        stride: input pixels per cell.
    """

    def __init__(self, map_CHW: Tensor, stride: int) -> None:
        """Copy the maps.

        Args:
            map_CHW: maps, on any device.
            stride: input pixels per cell.
        """
        self.map_HWC: np.ndarray = map_CHW.float().permute(1, 2, 0).contiguous().cpu().numpy()
        self.stride = stride
        self._flat = memoryview(self.map_HWC.reshape(-1).data)  # gives Python floats, several times as fast as numpy's

    def pick(self, x: float, y: float, channels: tuple[int, ...]) -> list[float]:
        """Some channels at one point: for a few, a tenth of the time that `many` takes."""
        height, width, c = self.map_HWC.shape
        u, v = min(max(x / self.stride, 0.0), width - 1.0), min(max(y / self.stride, 0.0), height - 1.0)
        left, top = int(u), int(v)
        fx, fy = u - left, v - top
        right, below = min(left + 1, width - 1), min(top + 1, height - 1)
        nw, ne = (top * width + left) * c, (top * width + right) * c
        sw, se = (below * width + left) * c, (below * width + right) * c
        w_ne, w_sw, w_se = fx * (1 - fy), (1 - fx) * fy, fx * fy
        w_nw = 1 - w_ne - w_sw - w_se
        flat = self._flat
        return [flat[nw + i] * w_nw + flat[ne + i] * w_ne + flat[sw + i] * w_sw + flat[se + i] * w_se for i in channels]

    def at(self, x: float, y: float) -> np.ndarray:
        """All channels at one point, (C,)."""
        height, width = self.map_HWC.shape[:2]
        u, v = min(max(x / self.stride, 0.0), width - 1.0), min(max(y / self.stride, 0.0), height - 1.0)
        left, top = min(int(u), max(width - 2, 0)), min(int(v), max(height - 2, 0))
        fx, fy = u - left, v - top
        low, high = self.map_HWC[top], self.map_HWC[min(top + 1, height - 1)]
        right = min(left + 1, width - 1)
        upper = low[left] * (1 - fx) + low[right] * fx
        return upper * (1 - fy) + (high[left] * (1 - fx) + high[right] * fx) * fy

    def many(self, point_N2: np.ndarray) -> np.ndarray:
        """All channels at points, (N, C)."""
        height, width = self.map_HWC.shape[:2]
        cell = np.clip(point_N2 / self.stride, 0, (width - 1, height - 1))
        low = np.minimum(cell.astype(np.int64), np.maximum((width - 2, height - 2), 0))
        (fx, fy), (x, y) = (cell - low).T[..., None], low.T
        right, below = np.minimum(x + 1, width - 1), np.minimum(y + 1, height - 1)
        upper = self.map_HWC[y, x] * (1 - fx) + self.map_HWC[y, right] * fx
        lower = self.map_HWC[below, x] * (1 - fx) + self.map_HWC[below, right] * fx
        return upper * (1 - fy) + lower * fy
