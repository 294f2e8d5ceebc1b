"""Boxes: overlap and radii against the specification's numbers."""

import pytest
import torch
from torch import tensor

from repose.ops.boxes import box_centre, box_iou, box_size, centre_box, corner_radius, shift_radius


@pytest.mark.parametrize(
    ("h", "w", "radius"), [(32, 16, 5.8847), (50, 20, 7.9298), (10, 10, 2.7332), (96, 48, 17.6540), (5, 3, 1.0302)]
)
def test_corner_radius_is_centernets(h, w, radius):
    assert corner_radius(tensor([float(w), float(h)]), 0.7).item() == pytest.approx(radius, abs=1e-4)


@pytest.mark.parametrize(
    ("h", "w", "radius"),
    [
        (128, 64, 6.6706),
        (200, 80, 8.7981),
        (384, 192, 20.0118),
        (32, 16, 1.6677),
        (60, 30, 3.1268),
        (480, 320, 30.4963),
        (40, 40, 3.2063),
    ],
)
def test_a_box_shifted_by_its_radius_has_that_iou(h, w, radius):
    """Sizes in pixels, radius in stride-4 cells."""
    size = tensor([w / 4, h / 4], dtype=torch.float64)
    r = shift_radius(size, 0.3)
    assert r.item() == pytest.approx(radius, abs=1e-4)
    box = torch.cat([torch.zeros(2, dtype=torch.float64), size])[None]
    assert box_iou(box, box + r).item() == pytest.approx(0.3, abs=1e-9)


def test_iou_of_known_boxes():
    a = tensor([[0.0, 0, 2, 2], [5, 5, 5, 5]])
    b = tensor([[1.0, 1, 3, 3], [0, 0, 2, 2], [5, 5, 5, 5], [9, 9, 8, 8]])
    expected = tensor([[1 / 7, 1, 0, 0], [0, 0, 0, 0]])
    torch.testing.assert_close(box_iou(a, b), expected)


def test_centre_and_size_make_the_box_again():
    box = tensor([[1.0, 2, 5, 9], [-3, 0, 0, 1]])
    torch.testing.assert_close(centre_box(box_centre(box), box_size(box)), box)
