"""Draws and the photometric augmentation."""

import numpy as np
import pytest

from repose.config import Augment, Draw, Hole
from repose.data.transforms import SLOTS, Photometric, Slot, drawn, integer, sample_draws, spread


def _u(**slots):
    row = [0.999999] * SLOTS
    for name, value in slots.items():
        row[Slot[name]] = value
    return row


def _picture(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (64, 48, 3), np.uint8)


def test_draws_are_a_function_of_seed_epoch_and_index():
    first = sample_draws(21, 3, 7)
    assert first == sample_draws(21, 3, 7)
    others = [sample_draws(22, 3, 7), sample_draws(21, 4, 7), sample_draws(21, 3, 8), sample_draws(21, 3, 7, 1)]
    assert all(first[0] != o[0] and first[1] != o[1] for o in others)
    assert len(first[0]) == SLOTS and all(0 <= u < 1 for u in first[0]) and 0 <= first[1] < 2**53


def test_no_two_samples_of_two_epochs_draw_the_same():
    rows = {tuple(sample_draws(21, epoch, index)[0]) for epoch in range(2) for index in range(500)}
    assert len(rows) == 1000


def test_a_draw_is_neutral_behind_its_gate():
    draw = Draw(0.5, (-80, 80))
    assert drawn(draw, [0.5, 0.25], 0, 1) == 0.0
    assert drawn(draw, [0.49, 0.25], 0, 1) == -40.0
    assert drawn(Draw(), [0.0, 0.7], 0, 1, 1.0) == 1.0


def test_truncated_normal_has_its_range_and_shape():
    draw = Draw(1.0, (0.6, 1.4), "truncnorm")
    values = np.array([spread(draw, u) for u in (np.arange(20000) + 0.5) / 20000])
    assert 0.6 <= values.min() < 0.601 and 1.399 < values.max() <= 1.4
    assert values.mean() == pytest.approx(1.0, abs=1e-6)
    # Standard deviation of a standard normal cut at +-1 is 0.5396.
    assert values.std() == pytest.approx(0.4 * 0.5396, abs=2e-4)


def test_an_inverse_draw_is_a_uniform_zoom():
    draw = Draw(1.0, (0.5, 1.25), "inverse")
    zoom = 1 / np.array([spread(draw, u) for u in (np.arange(20000) + 0.5) / 20000])
    assert (zoom.min(), zoom.max()) == (pytest.approx(0.8, abs=1e-4), pytest.approx(2.0, abs=1e-4))
    assert zoom.mean() == pytest.approx(1.4, abs=1e-4) and zoom.std() == pytest.approx(1.2 / 12**0.5, abs=1e-4)


@pytest.mark.parametrize(("cut", "at_an_end", "deviation"), [(1, 0.158655, 0.718), (2, 0.022750, 0.4798)])
def test_clipped_normal_is_hrnets_draw(cut, at_an_end, deviation):
    """`clip(randn() * s, -cut s, cut s)`: what is beyond lies at the ends."""
    draw = Draw(1.0, (0.6, 1.4), f"clipnorm{cut}")
    values = np.array([spread(draw, u) for u in (np.arange(20000) + 0.5) / 20000])
    assert (values.min(), values.max()) == (pytest.approx(0.6), pytest.approx(1.4))
    assert np.isclose(values, 0.6).mean() == pytest.approx(at_an_end, abs=2e-4)
    assert np.isclose(values, 1.4).mean() == pytest.approx(at_an_end, abs=2e-4)
    official = np.clip(np.random.default_rng(0).standard_normal(400_000) * 0.4 / cut + 1, 0.6, 1.4)
    assert values.std() == pytest.approx(official.std(), abs=1e-3)
    assert values.std() == pytest.approx(0.4 * deviation, abs=2e-3)
    assert spread(draw, 0.0) == pytest.approx(0.6)


def test_integers_reach_both_ends_evenly():
    draw = Draw(1.0, (-5, 5))
    values = [integer(draw, [0.0, u], 0, 1) for u in (np.arange(1100) + 0.5) / 1100]
    assert sorted(set(values)) == list(range(-5, 6))
    assert {values.count(v) for v in set(values)} == {100}


def test_colours_are_albumentations_own():
    import albumentations as A  # the reference, not a dependency of this layer

    picture = _picture()
    colour = Photometric(Augment(hue=Draw(0.5, (-5, 5)), saturation=Draw(0.5, (-30, 30)), value=Draw(0.5, (-30, 30))))
    made = colour(
        picture.copy(), _u(HUE=0.1, HUE_VALUE=0.99, SATURATION=0.1, SATURATION_VALUE=0.0, VALUE=0.1, VALUE_VALUE=0.75)
    )
    wanted = A.HueSaturationValue((5, 5), (-30, -30), (15, 15), p=1.0)(image=picture)["image"]
    np.testing.assert_array_equal(made, wanted)
    np.testing.assert_array_equal(colour(picture.copy(), _u()), picture)


@pytest.mark.parametrize(("u", "kernel"), [(0.0, 3), (0.34, 5), (0.99, 7)])
def test_blurs(u, kernel):
    import cv2

    picture = _picture()
    blur = Photometric(Augment(blur=0.1, median_blur=0.1))
    made = blur(picture.copy(), _u(BLUR=0.05, BLUR_KERNEL=u))
    np.testing.assert_array_equal(made, cv2.blur(picture, (kernel, kernel)))
    made = blur(picture.copy(), _u(MEDIAN=0.05, MEDIAN_KERNEL=u))
    np.testing.assert_array_equal(made, cv2.medianBlur(picture, kernel))
    np.testing.assert_array_equal(blur(picture.copy(), _u()), picture)


def test_one_black_hole_of_the_stated_size():
    hole = Photometric(Augment(hole=Hole(p=1.0)))
    for index in range(50):
        image = hole(np.full((100, 80, 3), 9, np.uint8), sample_draws(0, 0, index)[0])
        rows, columns = np.flatnonzero((image == 0).all(2).any(1)), np.flatnonzero((image == 0).all(2).any(0))
        assert 20 <= len(rows) <= 40 and 16 <= len(columns) <= 32
        assert (image == 0).sum() == 3 * len(rows) * len(columns)
    assert (Photometric(Augment(hole=Hole(p=0.5)))(np.full((10, 10, 3), 9, np.uint8), _u(HOLE=0.6)) == 9).all()


def test_nothing_to_do_imports_nothing():
    import subprocess
    import sys

    code = (
        "import sys; from repose.data.transforms import Photometric; from repose.config import Augment, Hole;"
        "Photometric(Augment(flip=0.5, hole=Hole(p=1.0))); assert 'albumentations' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
