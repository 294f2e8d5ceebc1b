"""Maps between strides."""

import pytest
import torch

from repose.ops.grids import fitted_logits, grid_size, nearest_cells, resample, unmirror


def ramp(h, w, stride):
    """A map that says where each cell lies: x and y in input pixels."""
    y, x = torch.meshgrid(torch.arange(h) * stride, torch.arange(w) * stride, indexing="ij")
    return torch.stack([x, y]).float()[None]


@pytest.mark.parametrize(("stride", "to"), [(16, 4), (16, 1), (8, 4), (4, 4), (4, 8), (1, 16)])
def test_cells_keep_their_pixels(stride, to):
    """On 33x65 every grid's last cell is the last pixel, so both axes are exact everywhere."""
    found = resample(ramp(*grid_size((33, 65), stride), stride), stride, to, (33, 65))
    torch.testing.assert_close(found, ramp(*grid_size((33, 65), to), to))


def test_pixels_beyond_the_last_cell_repeat_it():
    found = resample(ramp(3, 2, 16), 16, 4, (40, 30))  # last cells at 32 and 16; wanted 10 x 8 cells
    assert found.shape == (1, 2, 10, 8)
    assert found[0, 0, 0].tolist() == [0, 4, 8, 12, 16, 16, 16, 16]
    assert found[0, 1, :, 0].tolist() == [0, 4, 8, 12, 16, 20, 24, 28, 32, 32]


def test_strides_without_a_common_grid():
    with pytest.raises(ValueError, match="no grid in common"):
        resample(torch.zeros(1, 1, 3, 3), 6, 4, (18, 18))


def test_unmirror_of_a_width_that_fits_is_a_flip():
    m = torch.randn(2, 3, 5, 9)
    assert torch.equal(unmirror(m, 8, 65), m.flip(-1))
    assert torch.equal(unmirror(unmirror(m, 8, 65), 8, 65), m)


def test_unmirror_of_another_width():
    """Width 30, stride 8: cells at 0, 8, 16, 24; the mirrored image's cell j shows pixel 29 - 8 j."""
    mirrored = (29 - 8 * torch.arange(4.0))[None, None, None]
    assert unmirror(mirrored, 8, 30)[0, 0, 0].tolist() == [5, 8, 16, 24]  # pixel 0 is beyond the mirrored map's cells


def test_fitted_logits_give_the_outline_back():
    """A slanted edge to a fraction of a pixel, which logits of the covered share at the cells alone would round off."""
    t = torch.arange(161)
    inside = (0.4 * t[:, None] + t < 100).float()[None, None]
    found = resample(fitted_logits(inside, 16), 16, 1, (161, 161)) > 0
    assert ((found != (inside > 0)).sum() / 161).item() < 0.3
    assert torch.equal(fitted_logits(inside, 1) > 0, inside > 0)


def test_nearest_cells_of_coarser_and_finer_grids():
    mask = torch.arange(5)[None, None, None].expand(1, 1, 5, 5)
    assert nearest_cells(mask, 4, 8, (3, 3))[0, 0, 0].tolist() == [0, 2, 4]
    assert nearest_cells(mask, 4, 1, (17, 17))[0, 0, 0].tolist() == [0] * 3 + [1] * 3 + [2] * 5 + [3] * 3 + [4] * 3
