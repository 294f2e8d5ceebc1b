"""Single points on the host are read as on the device."""

import numpy as np
import pytest
import torch

from repose.ops.points import sample_points
from repose.ops.readers import MapReader


@pytest.mark.parametrize("hw", [(7, 9), (1, 5), (6, 1), (1, 1)])
def test_all_ways_of_reading_agree(hw):
    """Also beyond the border, whose value counts there, and on maps of one row or column."""
    g = torch.Generator().manual_seed(0)
    maps = torch.randn(5, *hw, generator=g)
    point = torch.rand(50, 2, generator=g) * torch.tensor([hw[1] * 8.0, hw[0] * 8.0]) * 1.5 - 10
    point[:3] = torch.tensor([[0.0, 0.0], [8.0, 0.0], [8.0 * (hw[1] - 1), 8.0 * (hw[0] - 1)]])
    wanted = sample_points(maps[None], torch.zeros(1, dtype=torch.int64), point[None] / 8, "edge")[0].numpy()
    reader = MapReader(maps, 8)
    np.testing.assert_allclose(reader.many(point.numpy()), wanted, atol=1e-5)
    for (x, y), row in zip(point.tolist(), wanted, strict=True):
        np.testing.assert_allclose(reader.at(x, y), row, atol=1e-5)
        np.testing.assert_allclose(reader.pick(x, y, (4, 1)), row[[4, 1]], atol=1e-5)
    assert reader.pick(0.0, 0.0, (2,)) == [pytest.approx(float(maps[2, 0, 0]))]
