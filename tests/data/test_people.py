"""Boxes, visible shares, labels and masks move with the pixels."""

import numpy as np
import pytest
import torch

from repose.config import Augment, Draw

JOINTS = [(40.0, 30.0, 2), (35.0, 45.0, 2), (45.0, 45.0, 1)]
GREY = np.full((80, 100, 3), 90, np.uint8)
IMAGE = {"view": "image", "base": "short", "centre": "image"}


def test_outside_joints_lose_their_visibility_but_keep_their_place(folder):
    number = folder.image(GREY)
    folder.person(number, [(40.0, 30.0, 2), (2.0, 2.0, 2), (0, 0, 0)], [35.0, 20.0, 12.0, 16.0])
    folder.write()
    people = folder.module(batch=1, padding=1.0).train_set[(0, 0)].people
    # The box 12x16 fills 96x128: 8 input pixels per photograph pixel.
    np.testing.assert_allclose(people.joint_NK3[0], [[43.5, 83.5, 2], [-260.5, -140.5, 0], [0, 0, 0]], atol=1e-4)
    np.testing.assert_allclose(people.box_N4[0], [-0.5, -0.5, 95.5, 127.5], atol=1e-4)
    assert people.visible_fraction_N.tolist() == [1.0] and people.labelled_N.tolist() == [True]
    np.testing.assert_allclose(people.box_img_N4[0], [34.5, 19.5, 46.5, 35.5])


def test_box_is_tight_around_the_warped_polygon(folder):
    number = folder.image(GREY)
    diamond = [40.0, 20.0, 50.0, 40.0, 40.0, 60.0, 30.0, 40.0]
    folder.person(number, JOINTS, [30.0, 20.0, 20.0, 40.0], segmentation=[diamond])
    folder.person(number, JOINTS, [30.0, 20.0, 20.0, 40.0])
    folder.write()
    data = {**IMAGE, "input_size": (80, 80), "augment": Augment(rotation=Draw(1.0, (90, 90)))}
    people = folder.module(batch=1, **data).train_set[(0, 0)].people
    # A quarter turn about (49.5, 39.5), which lands at (39.5, 39.5): x' = 79 - y, y' = x - 10.
    np.testing.assert_allclose(people.box_N4, [[19.5, 19.5, 59.5, 39.5]] * 2, atol=1e-3)
    data["augment"] = Augment(rotation=Draw(1.0, (45, 45)))
    people = folder.module(batch=1, **data).train_set[(0, 0)].people
    size = people.box_N4[:, 2:] - people.box_N4[:, :2]
    # The diamond's far tips are 40 apart, its near ones 20; the corners of its box lie further out.
    np.testing.assert_allclose(size[0], [40 / np.sqrt(2)] * 2, atol=1e-3)
    np.testing.assert_allclose(size[1], [60 / np.sqrt(2)] * 2, atol=1e-3)


def test_a_shift_in_units_of_the_box_goes_by_its_sides(folder):
    """RTMPose's: centre += offset x padded (w, h), before the aspect is fixed: a standing person moves little in x."""
    number = folder.image(GREY)
    folder.person(number, JOINTS, [30.0, 20.0, 10.0, 40.0])
    folder.write()
    moved = {}
    for unit in ("longer", "box"):
        augment = Augment(shift=Draw(1.0, (0.1, 0.1)), shift_unit=unit)
        matrix = folder.module(batch=1, padding=1.25, augment=augment).train_set[(0, 0)].to_image_B23[0]
        plain = folder.module(batch=1, padding=1.25).train_set[(0, 0)].to_image_B23[0]
        moved[unit] = (matrix - plain)[:, 2].tolist()
    assert moved["longer"] == pytest.approx([0.1 * 1.25 * 40, 0.1 * 1.25 * 40])
    assert moved["box"] == pytest.approx([0.1 * 1.25 * 10, 0.1 * 1.25 * 40])


def test_visible_share_and_people_outside(folder):
    number = folder.image(GREY)
    inside = folder.person(number, JOINTS, [30.0, 20.0, 20.0, 40.0])
    half = folder.person(number, JOINTS, [0.0, 20.0, 20.0, 40.0])  # the 80x80 crop begins at x = 10
    folder.person(number, JOINTS, [0.0, 20.0, 9.0, 40.0])
    unlabelled = folder.person(number, [], [60.0, 20.0, 20.0, 40.0])
    folder.person(number, [], [60.0, 20.0, 20.0, 40.0], iscrowd=1)
    folder.write()
    batch = folder.module(batch=1, **IMAGE, input_size=(80, 80)).train_set[(0, 0)]
    people = batch.people
    assert people.ann_id_N.tolist() == [inside, half, unlabelled]  # outside and crowd left out
    np.testing.assert_allclose(people.visible_fraction_N, [1.0, 0.5, 1.0], atol=1e-6)
    assert people.labelled_N.tolist() == [True, True, False]
    np.testing.assert_allclose(people.box_N4[1], [-0.5, 19.5, 9.5, 59.5], atol=1e-4)
    assert batch.valid_size_B2.tolist() == [[80, 80]] and batch.subject_id_B.tolist() == [-1]
    np.testing.assert_array_equal(batch.box_img_B4[0], [-0.5, -0.5, 99.5, 79.5])


def test_people_with_too_few_joints_count_as_unlabelled(folder):
    number = folder.image(GREY)
    folder.person(number, JOINTS, [30.0, 20.0, 20.0, 40.0])
    few = folder.person(number, [(40.0, 30.0, 2), (0, 0, 0), (0, 0, 0)], [5.0, 20.0, 20.0, 40.0])
    folder.write()
    batch = folder.module(batch=1, **IMAGE, input_size=(80, 80), min_keypoints=2, masks="stride4").train_set[(0, 0)]
    assert batch.people.labelled_N[batch.people.ann_id_N == few].tolist() == [False]
    assert batch.unlabelled_B1HW[0, 0, 10, 0] == 1
    person = folder.module(batch=1, min_keypoints=2)
    assert person.train_samples == 1


@pytest.mark.parametrize("masks", ["stride4", "full"])
@pytest.mark.parametrize("view", ["person", "image"])
def test_masks_lie_where_the_pixels_are(folder, masks, view):
    # A white ellipse on black is photograph and outline at once.
    x, y = np.arange(100)[None, :], np.arange(80)[:, None]
    picture = np.repeat((((x - 48) / 20) ** 2 + ((y - 40) / 30) ** 2 <= 1)[..., None], 3, 2).astype(np.uint8) * 255
    turn = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    ring = np.stack([48.5 + 20 * np.cos(turn), 40.5 + 30 * np.sin(turn)], -1).ravel().tolist()
    number = folder.image(picture)
    folder.person(number, JOINTS, [28.5, 10.5, 40.0, 60.0], segmentation=[ring])
    folder.write()
    augment = Augment(flip=0.5, rotation=Draw(1.0, (-40, 40)), scale=Draw(1.0, (0.8, 1.2)))
    where = IMAGE if view == "image" else {}
    module = folder.module(batch=1, masks=masks, augment=augment, input_size=(128, 128), **where)
    for epoch in range(4):
        batch = module.train_set[(epoch, 0)]
        stride = 4 if masks == "stride4" else 1
        mask = batch.people.mask_NHW[0]
        assert mask.shape == (128 // stride, 128 // stride)
        white = batch.image_B3HW[0, 0, ::stride, ::stride] > 127  # cell i lies at input pixel stride * i
        assert (mask.bool() == white).float().mean() > 0.985
        low = torch.nonzero(white).amin(0).flip(0) * stride
        assert (batch.people.box_N4[0, :2] <= low + 1).all() and (batch.people.box_N4[0, :2] >= low - stride - 1).all()


def test_crowd_and_unlabelled_regions(folder):
    number = folder.image(GREY)
    folder.person(number, JOINTS, [30.0, 20.0, 20.0, 40.0])
    region = np.zeros((80, 100), np.uint8)
    region[0:20, 80:100] = 1
    flat = region.T.ravel()
    change = np.flatnonzero(np.diff(np.concatenate([[0], flat]))).tolist()
    counts = {"size": [80, 100], "counts": np.diff([0, *change, flat.size]).tolist()}
    folder.person(number, [], [80.0, 0.0, 20.0, 20.0], iscrowd=1, segmentation=counts)
    folder.person(number, [], [0.0, 60.0, 20.0, 20.0])
    folder.write()
    data = {**IMAGE, "base": "long", "input_size": (100, 100), "test_multiple": 4}
    assert folder.module(batch=1, **data).val_set.sample(0).crowd_B1HW is None
    batch = folder.module(batch=1, **data, masks="stride4").val_set.sample(0)
    crowd, unlabelled = batch.crowd_B1HW[0, 0], batch.unlabelled_B1HW[0, 0]
    assert crowd.shape == (20, 25)
    assert crowd.sum() == 25 and crowd[:5, 20:].all()
    assert unlabelled.sum() == 25 and unlabelled[15:, :5].all()
    assert batch.people.mask_NHW.shape == (2, 20, 25)


def test_borders(folder):
    number = folder.image(np.full((80, 100, 3), 200, np.uint8))
    folder.person(number, JOINTS, [0.0, 0.0, 20.0, 40.0])
    folder.write()
    for border, colour in (("black", [0, 0, 0]), ("mean", [124, 116, 104])):
        batch = folder.module(batch=1, border=border, padding=2.0).train_set[(0, 0)]
        assert batch.image_B3HW[0, :, 0, 0].tolist() == colour


def test_grey_photographs_become_rgb(folder):
    number = folder.image(np.full((80, 100), 77, np.uint8), "grey.jpg")
    folder.person(number, JOINTS, [20.0, 20.0, 30.0, 40.0])
    folder.write()
    image = folder.module(batch=1).train_set[(0, 0)].image_B3HW
    assert image.shape == (1, 3, 128, 96) and (image == 77).all()


def test_colours_are_rgb(folder):
    number = folder.image(np.full((80, 100, 3), (200, 100, 50), np.uint8))
    folder.person(number, JOINTS, [20.0, 20.0, 30.0, 40.0])
    folder.write()
    assert folder.module(batch=1).train_set[(0, 0)].image_B3HW[0, :, 60, 40].tolist() == [200, 100, 50]
