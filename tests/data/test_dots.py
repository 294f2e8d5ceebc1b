"""A dot drawn under each joint stays under it, to 0.02 px, through everything that moves pixels."""

import numpy as np
import pytest
from coco_folder import K3

from repose.config import Augment, Draw, HalfBody, SkeletonBlock

EXACT = 0.02
DOTS = [(131.3, 92.6), (170.45, 130.2), (120.0, 141.75)]
BOX = [95.0, 60.0, 100.0, 110.0]


def _dotted(sigma=7.0, width=320, height=240):
    # One Gaussian per joint, each in its own colour channel, so that channel k says where joint k went.
    x, y = np.arange(width)[None, :], np.arange(height)[:, None]
    planes = [255 * np.exp(-((x - dx) ** 2 + (y - dy) ** 2) / (2 * sigma**2)) for dx, dy in DOTS]
    return np.rint(np.stack(planes, -1)).astype(np.uint8)


def _centroids(image_3HW):
    plane = image_3HW.numpy().astype(np.float64)
    x, y = np.arange(plane.shape[2]), np.arange(plane.shape[1])
    total = plane.sum(axis=(1, 2))
    return np.stack([(plane.sum(1) * x).sum(1) / total, (plane.sum(2) * y).sum(1) / total], -1)


def _off(batch, b=0):
    mirrored = np.linalg.det(batch.to_image_B23[b, :, :2].numpy()) < 0
    dot = _centroids(batch.image_B3HW[b])
    if mirrored:  # what was the left hand is the mirrored person's right hand
        dot = dot[[0, 2, 1]]
    joint = batch.people.joint_NK3[b].numpy()
    assert (joint[:, 2] == 2).all()
    return np.abs(joint[:, :2] - dot).max(), mirrored


def _set(folder, **data):
    number = folder.image(_dotted())
    folder.person(number, [(x, y, 2) for x, y in DOTS], BOX)
    folder.write()
    return folder.module(batch=1, **data)


PERSON = {"view": "person", "input_size": (256, 192)}
IMAGE = {"view": "image", "input_size": (192, 192), "base": "short", "centre": "image", "test_multiple": 32}
GEOMETRY = {
    "plain": Augment(),
    "flip": Augment(flip=1.0),
    "rotation": Augment(rotation=Draw(1.0, (-80, 80), "truncnorm")),
    "scale": Augment(scale=Draw(1.0, (0.9, 1.4))),
    "shift": Augment(shift=Draw(1.0, (-0.05, 0.05))),
    "shift of the crop": Augment(shift=Draw(1.0, (-0.05, 0.05)), shift_unit="base"),
    "all": Augment(
        flip=0.5,
        scale=Draw(1.0, (1.0, 1.4)),
        rotation=Draw(0.6, (-60, 60)),
        shift=Draw(0.3, (-0.05, 0.05), "truncnorm"),
    ),
}


@pytest.mark.parametrize("view", [PERSON, IMAGE], ids=["person", "image"])
@pytest.mark.parametrize("what", GEOMETRY)
def test_dots_stay_under_their_joints(folder, view, what):
    padding = {"padding": 1.6} if view is PERSON else {}
    train = _set(folder, augment=GEOMETRY[what], **view, **padding).train_set
    flips = []
    for epoch in range(8):
        off, mirrored = _off(train[(epoch, 0)])
        assert off < EXACT
        flips.append(mirrored)
    assert (what == "flip") == all(flips)
    assert any(flips) == (what in ("flip", "all"))


@pytest.mark.parametrize("base", ["short", "long"])
@pytest.mark.parametrize("centre", ["image", "person"])
def test_image_view_bases_and_centres(folder, base, centre):
    train = _set(folder, **{**IMAGE, "base": base, "centre": centre}, augment=GEOMETRY["rotation"]).train_set
    assert max(_off(train[(epoch, 0)])[0] for epoch in range(4)) < EXACT


def test_half_body_and_its_dots(folder):
    groups = {"upper": ["nose", "left_hand"], "lower": ["right_hand"]}
    halves = SkeletonBlock(K3.name, K3.joints, K3.flip_pairs, K3.limbs, K3.sigmas, groups)
    rule = HalfBody(p=1.0, min_labelled=3, min_upper=2, min_lower=2, padding=4.0)
    module = _set(folder, skeleton=halves, augment=Augment(half_body=rule), **PERSON)
    batch = module.train_set[(0, 0)]
    assert _off(batch)[0] < EXACT
    # The middle of the chosen joints is the middle of the crop.
    middle = batch.people.joint_NK3[0, :2, :2].mean(0)
    np.testing.assert_allclose(middle, [95.5, 127.5], atol=1e-4)


@pytest.mark.parametrize(
    "view",
    [PERSON, IMAGE, {**IMAGE, "base": "long", "test_multiple": 64}, {**IMAGE, "test_place": "centre"}],
    ids=["person", "short", "long", "centre"],
)
def test_test_views_of_all_scales_agree_with_the_photograph(folder, view):
    module = _set(folder, test_scales=(1.0, 0.75, 1.5), **view)
    (batches,) = list(module.val_dataloader())
    assert len(batches) == 3
    for batch in batches:
        dot = _centroids(batch.image_B3HW[0])
        if batch is not batches[2] or view is not PERSON:  # a person crop zoomed by 1.5 cuts the dots' tails
            np.testing.assert_allclose(batch.people.joint_NK3[0, :, :2], dot, atol=EXACT)
        matrix = batch.to_image_B23[0].numpy()
        back = batch.people.joint_NK3[0, :, :2].numpy() @ matrix[:, :2].T + matrix[:, 2]
        np.testing.assert_allclose(back, DOTS, atol=1e-4)


def test_plain_samples_are_not_augmented(folder):
    module = _set(folder, augment=GEOMETRY["all"], padding=1.6, **PERSON)
    plain = module.train_set.sample(0, epoch=3, augment=False)
    test = module.val_set.sample(0)
    assert (plain.image_B3HW == test.image_B3HW).all()
    assert _off(plain)[0] < EXACT


def test_image_in_the_upper_left_corner_of_its_canvas(folder):
    module = _set(folder, **{**IMAGE, "base": "long", "test_multiple": 64})  # 320x240 at 0.6 is 192x144
    batch = module.val_set.sample(0)
    assert batch.input_wh == (192, 192)
    assert batch.valid_size_B2.tolist() == [[192, 144]]
    np.testing.assert_allclose(
        batch.to_image_B23[0], [[1 / 0.6, 0, 0.5 / 0.6 - 0.5], [0, 1 / 0.6, 0.5 / 0.6 - 0.5]], atol=1e-9
    )
    assert not batch.image_B3HW[0, :, 145:].any()
