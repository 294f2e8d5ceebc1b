"""Drawing: where it changes a picture, which colours it uses, what it accepts."""

import numpy as np
import pytest
import torch

from repose import viz
from repose.skeleton import COCO17, CROWDPOSE14, MPII16, Skeleton

STICK = Skeleton(
    name="stick",
    joints=("top", "low_a", "low_b"),
    flip_pairs=(("low_a", "low_b"),),
    limbs=(("top", "low_a"), ("top", "low_b"), ("low_a", "low_b")),
    sigmas=(0.1, 0.1, 0.1),
)
GREY = np.full((120, 160, 3), 128, np.uint8)


def person(v=(2, 2, 2)):
    return np.array([[[80.0, 20.0, v[0]], [60.0, 90.0, v[1]], [100.0, 90.0, v[2]]]])


def changed(after, before=GREY):
    return (after != before).any(axis=2)


def distance_to_segment(shape, a, b):
    y, x = np.mgrid[: shape[0], : shape[1]]
    p = np.stack([x, y], axis=-1) - a
    along = np.clip((p @ (b - a)) / max(((b - a) ** 2).sum(), 1e-9), 0, 1)
    return np.linalg.norm(p - along[..., None] * (b - a), axis=-1)


def test_people_change_only_pixels_near_their_limbs():
    pose = person()
    drawn = viz.draw_poses(GREY, pose, STICK)
    xy = pose[0, :, :2]
    near = np.min([distance_to_segment(GREY.shape, xy[a], xy[b]) for a, b in STICK.limb_index], axis=0)
    width = viz.limb_width(xy)
    assert width == pytest.approx(0.022 * np.hypot(40, 70))
    assert changed(drawn).any()
    assert near[changed(drawn)].max() < 0.8 * width + max(0.28 * width, 0.6) + 1.5
    assert changed(drawn)[near < 0.2].all()


def test_the_input_picture_is_not_drawn_on():
    before = GREY.copy()
    viz.draw_poses(GREY, person(), STICK)
    viz.draw_boxes(GREY, [[10, 10, 50, 50]], ["a"])
    viz.draw_heatmap(GREY, np.ones((4, 4)))
    assert (before == GREY).all()


@pytest.mark.parametrize("skeleton", [COCO17, CROWDPOSE14, MPII16, STICK], ids=lambda s: s.name)
def test_left_and_right_have_families_of_their_own(skeleton):
    colours = viz.joint_colours(skeleton)
    left = {colours[skeleton.index(a)] for a, _ in skeleton.flip_pairs}
    right = {colours[skeleton.index(b)] for _, b in skeleton.flip_pairs}
    centre = set(colours) - left - right
    assert all(r > b + 60 for r, _, b in left)  # orange
    assert all(b > r + 60 for r, _, b in right)  # blue
    assert all(max(c) - min(c) < 60 and min(c) > 150 for c in centre)  # pale
    assert len(viz.limb_colours(skeleton)) == len(skeleton.limbs)


def test_sides_come_from_flip_pairs_not_from_names():
    assert [viz.side_of(STICK, k) for k in range(3)] == ["centre", "left", "right"]
    orange, blue, pale = viz.limb_colours(STICK)
    assert orange[0] > orange[2] and blue[2] > blue[0] and max(pale) - min(pale) < 60


def test_a_mirrored_and_swapped_person_is_the_mirrored_drawing_with_colours_kept():
    pose = person()
    flipped = pose[:, list(STICK.flip_index)]
    flipped[..., 0] = GREY.shape[1] - 1 - flipped[..., 0]
    a, b = viz.draw_poses(GREY, pose, STICK, width=5), viz.draw_poses(GREY, flipped, STICK, width=5)
    # The left end of the mirrored person is orange, as the left end of the person was: it stands at the same place.
    assert a[90, 60].tolist() == b[90, 59].tolist()
    assert a[90, 60, 0] > a[90, 60, 2]


def test_hidden_joints_are_hollow_visible_ones_filled_and_unlabelled_ones_absent():
    colour = viz.joint_colours(STICK)[1]
    seen = viz.draw_poses(GREY, person((2, 2, 0)), STICK, width=8)
    hidden = viz.draw_poses(GREY, person((2, 1, 0)), STICK, width=8)
    assert tuple(seen[90, 60]) == colour
    assert tuple(hidden[90, 60]) == (128, 128, 128)  # the picture shows through
    ring = hidden[90, 60:74].astype(int)
    assert (np.abs(ring - np.array(colour)).sum(axis=1) == 0).any()
    assert not changed(seen)[85:96, 90:111].any()  # v = 0: no joint, no limb


def test_limbs_to_hidden_joints_are_paler():
    middle = (slice(54, 57), slice(68, 72))
    seen = viz.draw_poses(GREY, person((2, 2, 0)), STICK, width=8)[middle].astype(int)
    hidden = viz.draw_poses(GREY, person((2, 1, 0)), STICK, width=8)[middle].astype(int)
    assert 0 < np.abs(hidden - 128).sum() < np.abs(seen - 128).sum()


def test_scores_fade_joints_and_low_ones_are_left_out():
    pose = person((0.9, 0.9, 0.1))
    drawn = viz.draw_poses(GREY, pose, STICK, third="score", threshold=0.2)
    assert changed(drawn)[90, 60] and not changed(drawn)[85:96, 92:111].any()
    strong = viz.draw_poses(GREY, person((1, 1, 1)), STICK, "score").astype(int)
    weak = viz.draw_poses(GREY, person((0.3, 0.3, 0.3)), STICK, "score").astype(int)
    assert np.abs(weak - 128).sum() < np.abs(strong - 128).sum()


@pytest.mark.parametrize("nobody", [[], np.zeros((0, 3, 3)), torch.zeros(0, 3, 3), person((0, 0, 0))])
def test_nobody_leaves_the_picture_as_it_is(nobody):
    assert not changed(viz.draw_poses(GREY, nobody, STICK)).any()


def test_points_far_outside_and_nan_are_harmless():
    pose = person()
    pose[0, 0, :2], pose[0, 1, :2] = (-5000, 9000), np.nan
    assert viz.draw_poses(GREY, pose, STICK).shape == GREY.shape
    assert viz.draw_points(GREY, pose[..., :2], STICK).shape == GREY.shape


def test_torch_float_grey_and_channel_first_pictures_are_the_same_picture():
    rgb = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    chw = torch.from_numpy(rgb).permute(2, 0, 1)
    for same in (chw, chw.float() / 255, torch.from_numpy(rgb), rgb / 255.0, rgb.astype(np.float32) / 255):
        assert (viz.as_image(same) == rgb).all()
    assert viz.as_image(np.zeros((5, 6), np.uint8)).shape == (5, 6, 3)
    with pytest.raises(ValueError, match="not an RGB picture"):
        viz.as_image(np.zeros((5, 6, 4)))
    for wrong in (rgb.astype(np.int32), rgb.astype(np.uint16), rgb.astype(np.float32), rgb / 255.0 - 0.5, rgb > 9):
        with pytest.raises(ValueError, match="not a picture: "):
            viz.as_image(wrong)
    assert viz.as_image(rgb / 255.0 + 0.005).max() == 255
    from_torch = viz.draw_poses(torch.from_numpy(GREY).permute(2, 0, 1), torch.from_numpy(person()), STICK)
    assert (from_torch == viz.draw_poses(GREY, person(), STICK)).all()


def test_a_box_is_drawn_on_its_edges_and_nowhere_else():
    drawn = changed(viz.draw_boxes(GREY, [[20.0, 30.0, 100.0, 80.0]], width=2))
    assert drawn[30, 20:101].all() and drawn[80, 20:101].all() and drawn[30:81, 20].all() and drawn[30:81, 100].all()
    assert not drawn[36:75, 26:95].any() and not drawn[:26].any() and not drawn[85:].any()
    assert not changed(viz.draw_boxes(GREY, np.zeros((0, 4)))).any()


def test_labels_stay_inside_the_picture():
    drawn = changed(viz.draw_boxes(GREY, [[150.0, -20.0, 200.0, 30.0]], ["person 12"]))
    assert drawn[:14, :145].any()


def test_regions_have_the_side_and_the_colour_of_their_joint():
    centre = np.array([[40.0, 40.0], [80.0, 60.0], [120.0, 80.0]])
    drawn = viz.draw_rois(GREY, centre, 28.0, STICK, width=2)
    for k, (x, y) in enumerate(centre.astype(int)):
        assert tuple(drawn[y - 14, x]) == viz.joint_colours(STICK)[k]
        assert not changed(drawn)[y - 8 : y + 9, x - 8 : x + 9].any()


def test_points_are_crosses_in_their_colours():
    drawn = viz.draw_points(GREY, person()[..., :2], STICK, size=10)
    assert tuple(drawn[90, 60]) == viz.joint_colours(STICK)[1]
    assert not changed(drawn)[:, :50].any()


def test_a_heatmap_shines_where_it_is_high_and_shows_the_picture_where_it_is_zero():
    heat = np.zeros((7, 7))
    heat[2, 5] = 1.0
    # 28 pixels from edge to edge: cell (2, 5) of 4 pixels has its middle at 40 + (5 + 0.5) * 4 and 20 + (2 + 0.5) * 4.
    drawn = viz.draw_heatmap(GREY, heat, box_4=[40.0, 20.0, 68.0, 48.0])
    strength = np.abs(drawn.astype(int) - 128).sum(axis=2)
    assert np.unravel_index(strength.argmax(), strength.shape) == (30, 62)
    assert strength[:, :55].max() == 0 and strength[40:].max() == 0


def test_a_heatmap_without_a_box_covers_the_picture():
    drawn = viz.draw_heatmap(np.zeros((40, 60, 3), np.uint8), torch.ones(5, 6))
    assert drawn[20, 30].min() > 0
    assert (viz.draw_heatmap(GREY, np.zeros((5, 6))) == GREY).all()


def test_a_sheet_has_room_for_all_cells_captions_and_title():
    images = [np.full((40, 60, 3), 10 * n, np.uint8) for n in range(5)]
    plain = viz.sheet(images, 3)
    gap = 6
    assert plain.shape == (2 * (40 + gap) + gap, 3 * (60 + gap) + gap, 3)
    for n in range(5):
        top, left = gap + (n // 3) * (40 + gap), gap + (n % 3) * (60 + gap)
        assert (plain[top : top + 40, left : left + 60] == 10 * n).all()
    assert viz.sheet(images, 3, ["a"] * 5).shape[0] == plain.shape[0] + 2 * round(1.9 * 11)
    titled = viz.sheet(images, 3, title="people", foot=viz.legend())
    assert titled.shape[0] > plain.shape[0] and titled.shape[1] >= viz.legend().shape[1]
    scaled = viz.sheet([np.zeros((10, 40, 3), np.uint8)], 2, cell=(100, 100))
    assert scaled.shape[:2] == (25 + 2 * gap, 100 + 2 * gap) and (scaled == 0).all(axis=2).sum() == 25 * 100


def test_a_sheet_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="2 captions for 1 pictures"):
        viz.sheet([GREY], 1, ["a", "b"])
    with pytest.raises(ValueError, match="needs a picture"):
        viz.sheet([], 1)


def test_long_captions_are_cut_to_their_cell():
    sheet = viz.sheet([np.zeros((20, 60, 3), np.uint8)] * 2, 2, ["x" * 80, ""])
    assert (sheet[26:, 66:72] == 255).all() and (sheet[26:, 72:] == 255).all()


def test_enlarging_moves_joints_with_the_pixels():
    image = np.zeros((30, 20, 3), np.uint8)
    image[10, 5] = 255
    large, affine = viz.enlarge(image, 200)
    assert large.shape == (300, 200, 3)
    x, y = affine.points(np.array([5.0, 10.0]))
    assert (x, y) == (pytest.approx(54.5), pytest.approx(104.5))  # pixel 5 of 10 times the size spans 49.5 to 59.5
    weight = large[..., 0].astype(float) * (large[..., 0] > 60)
    assert (weight * np.arange(200)).sum() / weight.sum() == pytest.approx(x, abs=0.1)
    moved = viz.move(np.array([[[5.0, 10.0, 2.0]]]), affine)
    assert moved[0, 0].tolist() == pytest.approx([54.5, 104.5, 2.0])
    same, _ = viz.enlarge(large, 100)
    assert same.shape == large.shape
    assert viz.move(np.zeros((0, 3, 3)), affine).shape == (0, 3, 3)
    assert len(viz.move([], affine)) == 0


def test_ground_truth_stands_beside_the_prediction():
    truth, predicted = person(), person((0.9, 0.9, 0.9))
    both = viz.beside(GREY, truth, predicted, STICK, short_side=240)
    assert both.shape[1] == 2 * 320 + 3 * 8
    assert both.shape[0] > 240


def test_people_have_colours_of_their_own_away_from_those_of_the_sides():
    people = [viz.person_colour(n) for n in range(6)]
    assert len(set(people)) == 6 and viz.person_colour(6) == people[0]
    sides = viz.joint_colours(COCO17)[1:]
    nearest = min(np.abs(np.subtract(a, b)).sum() for a in people for b in sides)
    assert nearest > 60


def test_fast_drawing_puts_dots_on_their_joints_and_leaves_out_unsure_ones():
    joint = np.full((1, COCO17.k, 3), 0.0)
    joint[0, 0] = (30.5, 20.25, 0.9)
    joint[0, 1] = (60, 40, 0.1)
    blank = np.zeros((50, 80, 3), np.uint8)
    drawn = viz.sketch_poses(blank, joint, COCO17, threshold=0.2).astype(float).sum(2)
    assert not blank.any() and drawn[38:43, 58:63].sum() == 0
    y, x = np.mgrid[:50, :80]
    assert (drawn * x).sum() / drawn.sum() == pytest.approx(30.5, abs=0.1)
    assert (drawn * y).sum() / drawn.sum() == pytest.approx(20.25, abs=0.1)
    assert (viz.sketch_poses(blank, joint * 1e9, COCO17) == 0).all()  # far outside is nothing to OpenCV


def test_masks_are_tinted_and_outlined_inside_alone():
    mask = np.zeros((1, 40, 60), bool)
    mask[0, 10:30, 20:40] = True
    image = np.full((40, 60, 3), 100, np.uint8)
    drawn = viz.draw_masks(image, mask)
    assert (drawn[20, 30] != 100).any() and (drawn[5] == 100).all() and (drawn[20, 45:] == 100).all()
    assert (viz.draw_masks(image, mask[:0]) == image).all()
