"""Dichotomy Extended Area against the specification's worked examples (5.4 and 16)."""

import pytest
import torch
from torch import tensor

from repose.papers.cganet.extend import dichotomy, fixed
from repose.papers.cganet.targets import line_maps

BOX = tensor([[10.0, 20, 26, 52]])
FIRST = torch.zeros(1, dtype=torch.int64)


def owners(n):
    return torch.zeros(n, dtype=torch.int64)


@pytest.fixture(scope="module")
def drawn():
    """Line maps of the box (40, 80, 104, 208) pixels on a 64x64 map."""
    line_x, line_y = line_maps(BOX, FIRST, 1, (64, 64), 0.3, 1.4)
    return line_x[:, 0], line_y[:, 0]


BOXES = tensor([[10.0, 20, 26, 52], [10, 24, 26, 52], [12, 20, 24, 52], [10, 20, 26, 46]])
RESULTS = {
    (0.09, 0.08): [
        [8.5607, 17.1214, 27.4393, 54.8786],
        [8.5607, 21.4812, 27.4393, 54.5188],
        [10.9205, 17.1214, 25.0795, 54.8786],
        [9.0880, 17.6611, 26.9120, 48.3389],
    ],
    (0.15, 0.15): [
        [7.6012, 17.1898, 28.3988, 54.8102],
        [8.1355, 19.8020, 27.8645, 54.8116],
        [10.2009, 17.1898, 25.7991, 54.8102],
        [9.9988, 17.1912, 26.0012, 49.8981],
    ],
}


def test_worked_examples_on_drawn_maps(drawn):
    ratio, thre = tensor([r for r, _ in RESULTS]), tensor([t for _, t in RESULTS])
    found = dichotomy(BOXES, owners(4), *drawn, ratio, thre)
    torch.testing.assert_close(found, tensor(list(RESULTS.values())), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("y1", "y2", "ratio", "thre", "text", "printed"),
    [
        (20, 60, 0.09, 0.08, 16.851758, 19.998242),
        (24, 60, 0.09, 0.08, 20.761582, 23.998418),
        (14, 60, 0.09, 0.08, 13.997979, 9.862021),
        (20, 28, 0.09, 0.08, 19.280352, 19.999648),
        (20, 60, 0.5, 0.08, 16.845703, 0.009766),
        (20, 60, 0.09, 0.15, 17.273633, 19.998242),
        (20, 60, 0.15, 0.05, 16.575195, 19.997070),
    ],
)
def test_worked_examples_of_the_top_side(y1, y2, ratio, thre, text, printed):
    """A continuous M(y) = exp(-max(0, 20 - y)^2 / 3.92): sampled at 1/256 of a cell, in units of such cells."""
    fine = 256
    y = torch.arange(70 * fine, dtype=torch.float64) / fine
    line_y = torch.exp(-((20 - y).clamp(min=0) ** 2) / 3.92)[None, :, None].expand(1, -1, 3)
    box = tensor([[0.0, y1, 2 / fine, y2]], dtype=torch.float64) * fine
    args = (box, FIRST, torch.zeros_like(line_y), line_y, tensor([ratio]).double(), tensor([thre]).double())
    assert dichotomy(*args)[0, 0, 1].item() / fine == pytest.approx(text, abs=1e-5)
    assert dichotomy(*args, direction="printed")[0, 0, 1].item() / fine == pytest.approx(printed, abs=1e-5)


def test_a_batch_equals_box_by_box():
    torch.manual_seed(0)
    line_x, line_y = torch.rand(2, 3, 40, 56)
    box = torch.rand(30, 4) * 30
    box[:, 2:] += box[:, :2]
    owner = torch.arange(30) % 3
    ratio, thre = tensor([0.05, 0.15, 0.3]), tensor([0.3, 0.5, 0.4])
    together = dichotomy(box, owner, line_x, line_y, ratio, thre)
    for n in range(30):
        for s in range(3):
            alone = dichotomy(box[n : n + 1], owner[n : n + 1], line_x, line_y, ratio[s : s + 1], thre[s : s + 1])
            assert torch.equal(together[s, n], alone[0, 0])


def test_extension_grows_with_ratio_and_falls_with_thre(drawn):
    """Tolerance 0.1 px (0.025 cells), as the specification allows."""
    ratios, thres = (0.05, 0.07, 0.08, 0.09, 0.1, 0.15), (0.05, 0.06, 0.07, 0.08, 0.09, 0.1, 0.15)
    ratio = tensor([r for r in ratios for _ in thres])
    thre = tensor([t for _ in ratios for t in thres])
    found = dichotomy(BOXES[:1], owners(1), *drawn, ratio, thre)
    mean = (found - BOXES[:1]).abs().mean((1, 2)).view(len(ratios), len(thres))
    assert (mean.diff(dim=0) >= -0.025).all() and (mean.diff(dim=1) <= 0.025).all()
    assert mean[0, 0] < mean[-1, 0] and mean[-1, 0] > mean[-1, -1]
    # printed: a higher threshold extends more
    low, high = dichotomy(BOXES[:1], owners(1), *drawn, tensor([0.2, 0.2]), tensor([0.05, 0.15]), direction="printed")[
        :, 0, 1
    ].tolist()
    assert (20 - low, 20 - high) == pytest.approx((0, 6.4), abs=0.01)


def test_never_smaller_and_never_far_out_of_the_image():
    everywhere = torch.ones(1, 30, 40)
    box = tensor([[-3.0, 4, 10, 29.5], [20, 10, 45, 40], [0, 0, 39, 29], [39, 29, 39, 29]])
    found = dichotomy(box, owners(4), everywhere, everywhere, tensor([0.4]), tensor([0.5]))[0]
    assert (found[:, :2] <= box[:, :2]).all() and (found[:, 2:] >= box[:, 2:]).all()
    beyond = tensor([-1.0, -1, 40, 30])  # a cell outside the map, where it is zero
    grown = found - box
    assert (found[:, :2] >= beyond[:2]).logical_or(grown[:, :2] > -0.02).all()
    assert (found[:, 2:] <= beyond[2:]).logical_or(grown[:, 2:] < 0.02).all()
    torch.testing.assert_close(found[3], box[3])  # a box of no size stays one


def test_boxes_outside_or_degenerate_give_numbers(drawn):
    strange = tensor([[100.0, 100, 120, 130], [-50, -50, -40, -40], [5, 5, 5, 5], [9, 9, 4, 4], [1e6, 0, 2e6, 9]])
    found = dichotomy(strange, owners(5), *drawn, tensor([0.09]), tensor([0.08]))
    assert torch.isfinite(found).all()
    assert dichotomy(strange[:0], owners(0), *drawn, tensor([0.09]), tensor([0.08])).shape == (1, 0, 4)


def test_resolution_is_offset_over_two_to_the_iterations():
    """Everywhere a person: each side ends ratio * side * (1 - 2^-11) further out."""
    everywhere = torch.ones(1, 64, 64)
    found = dichotomy(BOX, FIRST, everywhere, everywhere, tensor([0.1]), tensor([0.5]))[0, 0]
    reach = tensor([-1.6, -3.2, 1.6, 3.2]) * (1 - 2**-11)
    torch.testing.assert_close(found, BOX[0] + reach)


def test_fixed_share():
    torch.testing.assert_close(fixed(BOX, 0.1), tensor([[8.4, 16.8, 27.6, 55.2]]))


def test_under_a_millisecond_for_20_boxes(best_ms):
    box = torch.rand(20, 4) * 40
    box[:, 2:] += box[:, :2]
    maps = torch.rand(2, 1, 96, 96)
    ratio, thre = tensor([0.09]), tensor([0.08])
    assert best_ms(lambda: dichotomy(box, owners(20), maps[0], maps[1], ratio, thre)) < 1
