"""Gaussians and their peaks."""

import math

import pytest
import torch

from repose.ops.heatmap import find_peak, gaussian, people_heatmaps


def test_values_by_hand():
    h = gaussian(torch.tensor([3.0, 3.0]), (7, 7), 2.0)
    want = [0.325, 0.607, 0.882, 1, 0.882, 0.607, 0.325]  # exp(-d^2 / 8), d = 3 ... 0 ... 3
    torch.testing.assert_close(h[3], torch.tensor(want), atol=5e-4, rtol=0)
    assert h[0, 0].item() == pytest.approx(math.exp(-18 / 8), abs=1e-6)
    assert h.shape == (7, 7)
    assert (h**2).sum().item() == pytest.approx(12.28, abs=0.01)


def test_not_rounded_and_x_before_y():
    h = gaussian(torch.tensor([[1.25, 4.5]]), (6, 5), 1.5)
    assert h.shape == (1, 6, 5)
    assert h[0, 4, 1].item() == pytest.approx(math.exp(-(0.25**2 + 0.5**2) / 4.5), abs=1e-6)


@pytest.mark.parametrize("sigma", [1.0, 2.0, 3.0])
def test_subpixel_is_exact_for_a_gaussian(sigma):
    g = torch.Generator().manual_seed(0)
    centre = torch.rand(200, 2, generator=g) * 5 + 0.51  # the maximum is an inner cell of 7
    centre = centre.clamp(max=5.49)
    at, value = find_peak(gaussian(centre, (7, 7), sigma), "subpixel", 123.0)
    assert (at - centre).abs().max() < 1e-3
    assert (value <= 1).all()


def test_argmax_within_half_a_cell():
    g = torch.Generator().manual_seed(1)
    centre = torch.rand(100, 2, generator=g) * 6
    at, _ = find_peak(gaussian(centre, (7, 7), 2.0), "argmax", 2.0)
    assert torch.equal(at, at.round())
    assert (at - centre).abs().max() <= 0.5


def test_border_subpixel_stays_and_gauss_extrapolates():
    centre = torch.tensor([[7.2, 3.0], [-1.4, 2.6], [3.3, 7.9], [6.2, -0.3]])
    h = gaussian(centre, (7, 7), 2.0)
    sub, _ = find_peak(h, "subpixel", 2.0)
    assert sub[0].tolist() == pytest.approx([6.0, 3.0], abs=1e-3)
    assert sub[1].tolist() == pytest.approx([0.0, 2.6], abs=1e-3)
    exact, _ = find_peak(h, "gauss", 2.0)
    assert (exact - centre).abs().max() < 1e-3


def test_gauss_reaches_two_cells_at_most():
    at, _ = find_peak(gaussian(torch.tensor([11.0, 3.0]), (7, 7), 2.0), "gauss", 2.0)
    assert at[0].item() == pytest.approx(8.0, abs=1e-4)


@pytest.mark.parametrize("method", ["argmax", "subpixel", "gauss"])
@pytest.mark.parametrize("flat", [0.0, -3.0, 0.7])
def test_a_plateau_is_finite(method, flat):
    at, value = find_peak(torch.full((2, 7, 7), flat), method, 2.0)
    assert torch.isfinite(at).all()
    assert torch.equal(value, torch.full((2,), flat))


def test_non_square_and_batched():
    centre = torch.tensor([[[2.3, 6.6], [1.1, 1.9]]])
    at, value = find_peak(gaussian(centre, (9, 5), 1.5), "subpixel", 1.5)
    assert at.shape == (1, 2, 2) and value.shape == (1, 2)
    assert (at - centre).abs().max() < 1e-3


def test_people_heatmaps_against_a_loop():
    """Windows [floor(x - 3 s - 1), ceil(x + 3 s + 2)), the higher Gaussian, nothing for joints that do not count."""
    generator = torch.Generator().manual_seed(0)
    n, k, b, height, width, sigma = 7, 3, 2, 24, 31, 1.5
    centre = torch.rand(n, k, 2, generator=generator) * torch.tensor([width, height])
    centre[0, 0] = torch.tensor([4.0, 20.0])  # whole cells have a window of their own size
    counts = torch.rand(n, k, generator=generator) > 0.2
    owner = torch.tensor([0, 1, 0, 1, 1, 0, 0])
    heat, window = people_heatmaps(centre, counts, owner, b, (height, width), sigma)
    wanted, inside = torch.zeros(b, k, height, width), torch.zeros(b, k, height, width, dtype=torch.bool)
    for i in range(n):
        for j in range(k):
            if not counts[i, j]:
                continue
            x, y = centre[i, j].tolist()
            x0, x1 = max(math.floor(x - 3 * sigma - 1), 0), min(math.ceil(x + 3 * sigma + 2), width)
            y0, y1 = max(math.floor(y - 3 * sigma - 1), 0), min(math.ceil(y + 3 * sigma + 2), height)
            whole = gaussian(centre[i, j], (height, width), sigma)[y0:y1, x0:x1]
            view = wanted[owner[i], j, y0:y1, x0:x1]
            view.copy_(torch.maximum(view, whole))
            inside[owner[i], j, y0:y1, x0:x1] = True
    torch.testing.assert_close(heat, wanted)
    assert torch.equal(window, inside)
    assert heat[0, 0, 20, 4] == 1


def test_people_heatmaps_of_nobody():
    heat, window = people_heatmaps(
        torch.zeros(0, 2, 2), torch.zeros(0, 2, dtype=torch.bool), torch.zeros(0, dtype=torch.int64), 3, (4, 5), 2.0
    )
    assert heat.shape == (3, 2, 4, 5) and not heat.any() and not window.any()
