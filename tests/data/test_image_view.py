"""The image view for bottom-up methods: canvases and their exact inverse, crops, masks, which images."""

import json

import numpy as np
import pytest
import torch

from repose.config import Augment, Data, Draw
from repose.data.views import ImageView
from repose.errors import UserError

JOINTS = [(40.0, 30.0, 2), (35.0, 45.0, 2), (45.0, 45.0, 1)]
BOX = [30.0, 20.0, 20.0, 40.0]
GREY = np.full((80, 100, 3), 90, np.uint8)
PINET = {"view": "image", "base": "short", "centre": "image", "test_place": "centre", "test_multiple": 64}


def _view(**data):
    return ImageView(Data(**{**PINET, "input_size": (512, 512), **data}))


# --- test geometry (PINet spec. 7.1)

EXAMPLES = {  # photograph -> canvas, input pixels per photograph pixel, offset
    (640, 480): ((704, 512), 512 / 480, (10.6667, 0.0)),
    (480, 640): ((512, 704), 512 / 480, (0.0, 10.6667)),
    (1000, 667): ((768, 512), 512 / 667, (0.1919, -0.3838)),
    (333, 1000): ((512, 1600), 512 / 333, (-0.7688, 31.2312)),
}


@pytest.mark.parametrize("photograph", EXAMPLES)
def test_worked_examples_of_the_resize(photograph):
    wh, scale, offset = EXAMPLES[photograph]
    crop, canvas = _view().plain(photograph)
    assert canvas.wh == wh
    np.testing.assert_allclose(crop.affine(wh).matrix_23, [[scale, 0, offset[0]], [0, scale, offset[1]]], atol=1e-4)
    middle = np.array([int(side / 2 + 0.5) for side in photograph], float)
    np.testing.assert_allclose(crop.affine(wh).points(middle), np.array(wh) / 2, atol=1e-9)


@pytest.mark.parametrize("photograph", [*EXAMPLES, (37, 1023), (512, 512), (1, 1)])
def test_scales_are_multiples_of_each_other_and_invert_exactly(photograph):
    view = _view(test_scales=(1.0, 0.5, 2.0))
    one, canvas = view.plain(photograph)
    point_N2 = np.array([[0.0, 0.0], [photograph[0] - 1.0, photograph[1] - 1.0], [3.25, 7.5]])
    base_N2 = one.affine(canvas.wh).points(point_N2)
    for t in (0.5, 2.0):
        crop, scaled = view.plain(photograph, t)
        assert scaled.wh == (canvas.wh[0] * t, canvas.wh[1] * t)
        affine = crop.affine(scaled.wh)
        np.testing.assert_allclose(affine.points(point_N2), t * base_N2, atol=1e-8)
        inverse = affine.inverse_23()
        np.testing.assert_allclose(affine.points(point_N2) @ inverse[:, :2].T + inverse[:, 2], point_N2, atol=1e-9)


def test_the_part_that_the_photograph_touches(folder):
    number = folder.image(np.full((48, 64, 3), 200, np.uint8))
    folder.person(number, JOINTS, BOX)
    folder.write()
    module = folder.module("test", **{**PINET, "test_multiple": 32}, input_size=(96, 96), test_scales=(1.0, 0.5))
    (batches,) = list(module.val_dataloader())
    for batch, (wh, origin, size) in zip(
        batches, [((128, 96), (0, 0), (128, 96)), ((64, 48), (0, 0), (64, 48))], strict=True
    ):  # 2x: columns 0 to 127, all of the canvas
        assert batch.input_wh == wh
        assert batch.valid_origin_B2.tolist() == [list(origin)] and batch.valid_size_B2.tolist() == [list(size)]
    narrow = folder.module("test", **{**PINET, "test_multiple": 16}, input_size=(48, 48)).val_set.sample(0)
    assert narrow.input_wh == (64, 48)
    tall = folder.image(np.full((50, 33, 3), 200, np.uint8), "tall.png")
    folder.person(tall, JOINTS, [0.0, 0.0, 30.0, 40.0])
    folder.write()
    batch = folder.module("test", **{**PINET, "test_multiple": 32}, input_size=(32, 32)).val_set.sample(1)
    # 33x50 at 32/33: 48.5 rows on a canvas of 64, photograph row 25 at 32: from 7.27 to 55.76, which
    # touches rows 7 to 56.
    assert batch.input_wh == (32, 64)
    assert batch.valid_origin_B2.tolist() == [[0, 7]] and batch.valid_size_B2.tolist() == [[32, 50]]
    lit = batch.image_B3HW[0, 0].amax(1) > 0
    assert not lit[:7].any() and lit[7:56].all() and not lit[57:].any()


def test_corner_placement_touches_from_the_first_pixel(folder):
    folder.person(folder.image(GREY), JOINTS, BOX)
    folder.write()
    batch = folder.module(
        "test", **{**PINET, "test_place": "corner", "test_multiple": 32}, input_size=(64, 64)
    ).val_set.sample(0)
    assert batch.input_wh == (96, 64)
    assert batch.valid_origin_B2.tolist() == [[0, 0]] and batch.valid_size_B2.tolist() == [[80, 64]]


@pytest.mark.parametrize(
    ("scales", "message"),
    [
        ((0.5, 1.0, 2.0), r"the first one must be 1.0 .*: \[1.0, 0.5, 2.0\]"),
        ((0.5,), r"the first one must be 1.0 .*: \[1.0, 0.5\]"),
        ((1.0, 1.0), "different scales above 0"),
        ((1.0, -1.0), "different scales above 0"),
        ((), "different scales above 0"),
        ((1.0, 0.3), "0.3 x data.test_multiple=64 is no whole number"),
    ],
)
def test_scales_that_make_no_sense(scales, message):
    with pytest.raises(UserError, match=message):
        _view(test_scales=scales)


# --- training geometry (PINet spec. 6)


def test_shift_in_units_of_the_crop():
    view = _view(input_size=(128, 128))
    augment = Augment(scale=Draw(1.0, (1.5, 1.5)), shift=Draw(1.0, (0.2, 0.2)), shift_unit="base")
    u = [0.25] * 64
    crop = view.augmented((200, 100), np.zeros((0, 4)), augment, u)
    # The crop's side is 1.5 x 100; 0.2 of it is 30 pixels (40 S / 200).
    np.testing.assert_allclose(crop.size_wh, (150, 150))
    np.testing.assert_allclose(crop.centre_xy, (99.5 + 30, 49.5 + 30))
    longer = view.augmented((200, 100), np.zeros((0, 4)), Augment(shift=Draw(1.0, (0.2, 0.2))), u)
    np.testing.assert_allclose(longer.centre_xy, (99.5 + 40, 49.5 + 40))


def test_rotation_is_about_the_centre_of_the_crop():
    augment = Augment(rotation=Draw(1.0, (30, 30)), shift=Draw(1.0, (0.1, 0.1)), shift_unit="base")
    crop = _view(input_size=(128, 128)).augmented((200, 100), np.zeros((0, 4)), augment, [0.25] * 64)
    assert crop.rotation == 30
    np.testing.assert_allclose(crop.affine((128, 128)).points(np.array(crop.centre_xy)), (63.5, 63.5), atol=1e-9)


def test_area_of_the_annotated_box_in_input_pixels(folder):
    folder.person(folder.image(GREY), JOINTS, BOX)
    folder.write()
    module = folder.module(batch=1, **PINET, input_size=(160, 160), augment=Augment(rotation=Draw(1.0, (20, 20))))
    batch = module.train_set[(0, 0)]
    side = batch.people.box_img_N4[0, 2:] - batch.people.box_img_N4[0, :2]
    grown = 1 / batch.to_image_B23[0, :, :2].det()
    assert float(side.prod() * grown) == pytest.approx(20 * 40 * 4, rel=1e-6)  # 80 px become 160


def test_joints_outside_the_crop_keep_their_place_and_that_they_are_labelled(folder):
    number = folder.image(GREY)
    # The 80x80 crop begins at x = 10: the nose is outside it, the right hand not labelled.
    folder.person(number, [(4.0, 30.0, 2), (35.0, 45.0, 1), (0, 0, 0)], [0.0, 20.0, 40.0, 40.0])
    folder.write()
    data = {**PINET, "input_size": (80, 80)}
    people = folder.module(batch=1, **data).train_set[(0, 0)].people
    np.testing.assert_allclose(people.joint_NK3[0], [[-6, 30, 0], [25, 45, 1], [0, 0, 0]], atol=1e-4)
    assert people.given_NK.tolist() == [[True, True, False]]
    mirrored = folder.module(batch=1, **data, augment=Augment(flip=1.0)).train_set[(0, 0)].people
    np.testing.assert_allclose(mirrored.joint_NK3[0], [[85, 30, 0], [0, 0, 0], [54, 45, 1]], atol=1e-4)
    assert mirrored.given_NK.tolist() == [[True, False, True]]


def test_people_survive_the_trip_to_a_device_with_their_new_fields(folder):
    folder.person(folder.image(GREY), JOINTS, BOX)
    folder.write()
    batch = folder.module(batch=1, **PINET, input_size=(80, 80), regions=True).train_set[(0, 0)].to("meta")
    assert batch.people.given_NK.is_meta and batch.inside_B1HW.is_meta and batch.valid_origin_B2.is_meta


# --- masks -----------------------------------------------------------------------------------------------------------


def _regions(folder):
    number = folder.image(GREY)
    folder.person(number, JOINTS, BOX)
    folder.person(number, [], [80.0, 0.0, 20.0, 20.0], iscrowd=1)
    folder.person(number, [], [0.0, 60.0, 20.0, 20.0])
    folder.write()


def test_regions_without_instance_masks(folder):
    _regions(folder)
    data = {**PINET, "base": "long", "test_place": "corner", "input_size": (100, 100), "test_multiple": 20}
    batch = folder.module("test", **data, regions=True).val_set.sample(0)
    assert batch.people.mask_NHW is None
    assert batch.crowd_B1HW.shape == batch.unlabelled_B1HW.shape == batch.inside_B1HW.shape == (1, 1, 20, 25)
    assert batch.crowd_B1HW.sum() == 25 and batch.crowd_B1HW[0, 0, :5, 20:].all()
    assert batch.unlabelled_B1HW.sum() == 25 and batch.unlabelled_B1HW[0, 0, 15:, :5].all()
    assert batch.inside_B1HW.all()
    masks = folder.module("test", **data, masks="stride4").val_set.sample(0)
    assert torch.equal(masks.crowd_B1HW, batch.crowd_B1HW) and torch.equal(masks.inside_B1HW, batch.inside_B1HW)
    plain = folder.module("test", **data).val_set.sample(0)
    assert plain.crowd_B1HW is None and plain.inside_B1HW is None


def test_inside_mask_is_the_photograph_under_every_transform(folder):
    folder.person(folder.image(np.full((80, 100, 3), 255, np.uint8)), JOINTS, BOX)
    folder.write()
    augment = Augment(
        flip=0.5, scale=Draw(1.0, (0.75, 1.5)), rotation=Draw(1.0, (-30, 30)), shift=Draw(1.0, (-0.2, 0.2))
    )
    train = folder.module(batch=1, **PINET, input_size=(128, 128), regions=True, augment=augment).train_set
    shares = []
    for epoch in range(6):
        batch = train[(epoch, 0)]
        white = batch.image_B3HW[0, 0, ::4, ::4] > 127  # cell i lies at input pixel 4 i
        assert (batch.inside_B1HW[0, 0].bool() == white).float().mean() > 0.995
        shares.append(float(white.float().mean()))
    assert min(shares) < 0.7  # zoomed out: some of the input is beyond the photograph


# --- which photographs are trained on


def _three(folder):
    both, one, nobody, bare = (folder.image(GREY) for _ in range(4))
    folder.person(both, JOINTS, BOX)
    folder.person(both, JOINTS, [50.0, 20.0, 20.0, 40.0])
    folder.person(one, JOINTS, BOX)
    folder.person(nobody, [], BOX)
    folder.write()
    return both, one, nobody, bare


def _ids(module):
    return [int(module.train_set[(0, i)].image_id_B) for i in range(len(module.train_set))]


def test_images_by_annotation_and_by_their_joints(folder):
    both, one, nobody, _ = _three(folder)
    assert _ids(folder.module(batch=1, **PINET)) == [both, one]
    assert _ids(folder.module(batch=1, **PINET, train_on="annotated")) == [both, one, nobody]
    assert _ids(folder.module(batch=1, **PINET, train_on="annotated", min_image_keypoints=4)) == [both]
    assert _ids(folder.module(batch=1, **PINET, min_image_keypoints=3)) == [both, one]
    with pytest.raises(UserError, match=r"images with data\.min_image_keypoints=7"):
        folder.module(batch=1, **PINET, min_image_keypoints=7)


def test_an_image_whose_people_have_no_joints_is_a_sample_with_people_but_no_pose(folder):
    _, _, nobody, _ = _three(folder)
    train = folder.module(batch=1, **PINET, train_on="annotated", regions=True).train_set
    batch = train[(0, 2)]
    assert int(batch.image_id_B) == nobody and batch.people.n == 1
    assert not batch.people.labelled_N.any() and not batch.people.given_NK.any()
    assert batch.unlabelled_B1HW.any()


def test_an_image_with_nobody_is_evaluated_and_never_trained_on(folder):
    *_, bare = _three(folder)
    module = folder.module("test", **PINET)
    tested = [batch.image_id_B.tolist() for (batch,) in module.val_dataloader()]
    assert any(bare in ids for ids in tested)
    last = module.val_set.sample(3)
    assert last.people.n == 0 and last.people.given_NK.shape == (0, 3)


def test_no_masks_at_all_are_told(folder, capsys):
    folder.person(folder.image(GREY), JOINTS, BOX)
    folder.write()
    folder.module(batch=1, **PINET, masks="stride4")
    assert "data.masks=stride4, but nobody in people.json has a segmentation" in capsys.readouterr().err


def test_a_test_set_without_labels(folder):
    folder.image(GREY)
    file = folder.write()
    content = json.loads(file.read_text())
    content.pop("annotations")
    content["categories"] = [{"id": 1, "name": "person"}, {"id": 2, "name": "bicycle"}]
    (folder.root / "images.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"has no `annotations`.*data\.val_labelled=false"):
        folder.module("test", **PINET, val_json="images.json")
    module = folder.module("test", **PINET, val_json="images.json", val_labelled=False)
    assert module.ground_truth()["annotations"] == [] and module.val_set.sample(0).people.n == 0
    with pytest.raises(UserError, match="no people to take boxes of"):
        folder.module("test", val_json="images.json", val_labelled=False)
