"""Peaks of maps."""

from __future__ import annotations

import pytest
import torch

from repose.ops.peaks import find_peaks, kernel_for


def test_peaks_of_two_images_and_channels():
    maps = torch.zeros(2, 2, 6, 8)
    maps[0, 0, 2, 3], maps[0, 0, 2, 4], maps[0, 0, 5, 7] = 0.9, 0.8, 0.95  # the second is beside a higher one
    maps[1, 1, 0, 0], maps[1, 1, 4, 6] = 0.5, 0.009  # the last is under the threshold
    peaks = find_peaks(maps, kernel=3, top=30, threshold=0.01)
    assert peaks.owner_N.tolist() == [0, 0, 1]
    assert peaks.part_N.tolist() == [0, 0, 1]
    assert peaks.cell_N2.tolist() == [[7, 5], [3, 2], [0, 0]]  # (x, y), the higher first
    assert peaks.score_N.tolist() == pytest.approx([0.95, 0.9, 0.5])


def test_top_is_per_image_and_channel():
    maps = torch.zeros(1, 2, 9, 9)
    maps[0, :, ::2, ::2] = torch.rand(2, 5, 5, generator=torch.Generator().manual_seed(0)) + 0.1
    peaks = find_peaks(maps, kernel=3, top=7, threshold=0.01)
    assert torch.bincount(peaks.part_N).tolist() == [7, 7]
    for part in range(2):
        found = peaks.score_N[peaks.part_N == part]
        assert torch.equal(found, maps[0, part].flatten().topk(7).values)


def test_a_larger_kernel_joins_peaks_two_cells_apart():
    maps = torch.zeros(1, 1, 5, 9)
    maps[0, 0, 2, 2], maps[0, 0, 2, 4] = 0.6, 0.7
    assert len(find_peaks(maps, 3, 30, 0.01).score_N) == 2
    assert find_peaks(maps, 5, 30, 0.01).cell_N2.tolist() == [[4, 2]]


def test_nothing_and_negative_values():
    assert find_peaks(torch.full((2, 3, 4, 4), -1.0), 3, 30, 0.01).cell_N2.shape == (0, 2)
    # a threshold below 0 must not bring back cells that are no peaks
    maps = torch.full((1, 1, 3, 3), -0.5)
    maps[0, 0, 1, 1] = -0.1
    assert find_peaks(maps, 3, 9, -1.0).cell_N2.tolist() == [[1, 1]]


def test_even_kernels_are_refused():
    with pytest.raises(ValueError, match="odd"):
        find_peaks(torch.zeros(1, 1, 4, 4), 4, 1, 0.0)


@pytest.mark.parametrize(
    ("hw", "kernel"), [((128, 128), 3), ((200, 200), 3), ((200, 201), 5), ((256, 344), 5), ((300, 301), 7)]
)
def test_kernel_by_size(hw, kernel):
    assert kernel_for(*hw) == kernel
