"""The coordinate convention: edges, crops, mirrors."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from repose.geometry import (
    apply_affine,
    box_centre_size,
    box_to_edges,
    crop_affine,
    edges_to_box,
    grow_to_aspect,
    invert_23,
    mirror,
    mirror_points,
)

_REAL = st.floats(-300, 300, allow_nan=False)
_SIZE = st.floats(8, 400, allow_nan=False)


def test_edges_and_centres() -> None:
    box = edges_to_box(np.array([0.0, 0.0, 10.0, 4.0]))
    assert box.tolist() == [-0.5, -0.5, 9.5, 3.5]
    assert box_centre_size(box) == ((4.5, 1.5), (10.0, 4.0))
    assert box_to_edges(box).tolist() == [0.0, 0.0, 10.0, 4.0]


def test_identity_crop_is_the_identity() -> None:
    affine = crop_affine((31.5, 23.5), (64, 48), (64, 48))
    assert np.allclose(affine.matrix_23, [[1, 0, 0], [0, 1, 0]], atol=1e-12)


def test_halving_puts_a_pixel_pair_on_one_pixel() -> None:
    # Pixels 0 and 1 together become pixel 0: their common centre 0.5 must map to 0.
    affine = crop_affine((31.5, 23.5), (64, 48), (32, 24))
    assert np.allclose(affine.points(np.array([[0.5, 0.5]])), 0, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(_REAL, _REAL, _SIZE, _SIZE, st.floats(-180, 180), st.booleans())
def test_inverse_and_edges(cx: float, cy: float, w: float, h: float, rotation: float, mirrored: bool) -> None:
    affine = crop_affine((cx, cy), (w, h), (96, 128), rotation, mirrored)
    point = np.array([[3.0, 5.0], [90.0, 100.0]])
    back = affine.points(point) @ affine.inverse_23()[:, :2].T + affine.inverse_23()[:, 2]
    assert np.allclose(back, point, atol=1e-6)
    assert np.allclose(affine.points(np.array([[cx, cy]])), [[47.5, 63.5]], atol=1e-8)
    if rotation == 0:
        low = affine.points(np.array([[cx - w / 2, cy - h / 2]]))[0]
        assert low[1] == pytest.approx(-0.5)
        assert low[0] == pytest.approx(95.5 if mirrored else -0.5)
    assert np.linalg.det(affine.matrix_23[:, :2]) * (-1 if mirrored else 1) > 0


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation", [0.0, 30.0, -75.0])
def test_a_drawn_blob_stays_under_its_joint(rotation: float, mirrored: bool) -> None:
    y, x = np.mgrid[:200, :240]
    joint = np.array([[131.3, 88.7]])
    image = (255 * np.exp(-((x - joint[0, 0]) ** 2 + (y - joint[0, 1]) ** 2) / (2 * 6.0**2))).astype(np.float32)
    affine = crop_affine((120, 90), (150, 160), (192, 256), rotation, mirrored)
    crop = cv2.warpAffine(image, affine.matrix_23, (192, 256), flags=cv2.INTER_LINEAR)
    v, u = np.mgrid[:256, :192]
    centroid = np.array([(crop * u).sum(), (crop * v).sum()]) / crop.sum()
    assert np.abs(centroid - affine.points(joint)[0]).max() < 0.02


def test_rotation_turns_clockwise_on_screen() -> None:
    affine = crop_affine((0, 0), (10, 10), (10, 10), rotation=90)
    right = affine.points(np.array([[1.0, 0.0]]))[0] - affine.points(np.array([[0.0, 0.0]]))[0]
    assert np.allclose(right, [0, 1], atol=1e-12)  # right goes to below: clockwise, as y points down


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_mirror_moves_cell_i_to_cell_w_minus_1_minus_i(stride: int) -> None:
    width = 32
    image = torch.arange(width, dtype=torch.float32).repeat(1, 1, 4, 1)
    mirrored = mirror(image, stride)
    assert mirrored.shape == image.shape
    assert torch.equal(mirrored[..., ::stride], image[..., ::stride].flip(-1))
    point = torch.tensor([[[7.0, 3.0]]])
    there = mirror_points(point, width, stride)
    assert torch.equal(mirror_points(there, width, stride), point)
    assert mirrored[0, 0, 0, int(there[0, 0, 0])] == 7


def _symmetric_stack(stride: int) -> torch.nn.Sequential:
    """3x3 convolutions of stride 2, as backbones begin with, whose kernels are their own mirror images."""
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 3, 3, stride=2, padding=1) for _ in range(stride.bit_length() - 1)]
    for layer in layers:
        layer.weight.data = (layer.weight.data + layer.weight.data.flip(-1)) / 2
    return torch.nn.Sequential(*layers).double()


@pytest.mark.parametrize("stride", [2, 4, 8])
@torch.no_grad()
def test_a_symmetric_network_maps_a_mirrored_image_to_the_mirrored_map(stride: int) -> None:
    """PINet, acceptance 3: with the shift of stride - 1 pixels, away from the borders; without it nowhere near."""
    net = _symmetric_stack(stride)
    image = torch.rand(1, 3, 64, 128, dtype=torch.float64)
    inner = slice(3, -3)
    wanted = net(image).flip(-1)[..., inner]
    torch.testing.assert_close(net(mirror(image, stride))[..., inner], wanted, atol=1e-5, rtol=0)
    assert (net(image.flip(-1))[..., inner] - wanted).abs().max() > 0.05


def test_mirror_refuses_a_width_between_cells() -> None:
    with pytest.raises(ValueError, match="not a multiple"):
        mirror(torch.zeros(1, 3, 4, 30), 4)


def test_grow_to_aspect_never_shrinks() -> None:
    assert grow_to_aspect((10, 100), 0.75) == (75, 100)
    assert grow_to_aspect((90, 100), 0.75) == (90, 120)


def test_batched_affine_equals_numpy() -> None:
    affine = crop_affine((12, 7), (31, 55), (48, 64), 20, True)
    points = np.random.default_rng(0).normal(size=(5, 2)) * 40
    back = invert_23(affine.matrix_23)
    ours = apply_affine(torch.tensor(affine.points(points))[None], torch.tensor(back)[None])
    assert np.allclose(ours[0].numpy(), points, atol=1e-9)
