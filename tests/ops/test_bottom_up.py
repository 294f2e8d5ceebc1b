"""What DEKR and PINet share: masks, weights, scales."""

from dataclasses import replace

import pytest
import torch

from repose.ops.bottom_up import (
    given_joints,
    heat_loss,
    heat_weight,
    highest,
    image_mask,
    level_scores,
    mean_point,
    mirrored_back,
    move_poses,
    on_map,
    view_to_view,
)
from repose.types import Batch, People


@pytest.fixture
def batch():
    """Two images of 24x16 with nobody on them; the input is the photograph."""
    return Batch(
        image_B3HW=torch.zeros(2, 3, 16, 24, dtype=torch.uint8),
        valid_size_B2=torch.tensor([[24, 16]] * 2),
        to_image_B23=torch.eye(2, 3, dtype=torch.float64).expand(2, 2, 3),
        image_id_B=torch.arange(2),
        subject_id_B=torch.full((2,), -1),
        seed_B=torch.arange(2),
        box_img_B4=torch.zeros(2, 4),
        box_score_B=torch.ones(2),
        people=People.empty(5),
    )


def test_mean_of_the_points_that_count():
    point = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [float("nan"), 0.0]], [[9.0, 9.0], [1.0, 1.0], [2.0, 2.0]]])
    counts = torch.tensor([[True, True, False], [False, False, False]])
    assert mean_point(point, counts).tolist() == [[2.0, 4.0], [0.0, 0.0]]


def test_on_map_is_half_open():
    point = torch.tensor([[0.0, 0.0], [-0.1, 3], [5.9, 3.9], [6.0, 1], [1, 4.0]])
    assert on_map(point, (4, 6)).tolist() == [True, False, True, False, False]


def test_labelled_joints_outside_count_where_the_batch_knows_them():
    joint = torch.tensor([[[5.0, 5.0, 2.0], [-9.0, 5.0, 0.0], [6.0, 5.0, 1.0]]])
    people = replace(People.empty(3), joint_NK3=joint, given_NK=None)
    assert given_joints(people).tolist() == [[True, False, True]]
    assert given_joints(replace(people, given_NK=torch.ones(1, 3, dtype=torch.bool))).all()


def test_image_mask(batch):
    assert image_mask(batch) is None
    crowd, people, inside = (torch.zeros(2, 1, 4, 6, dtype=torch.uint8) for _ in range(3))
    crowd[0, 0, 0, 0] = people[1, 0, 1, 1] = 1
    inside[..., :5] = 1
    batch = replace(batch, crowd_B1HW=crowd, unlabelled_B1HW=people, inside_B1HW=inside)
    mask = image_mask(batch)
    assert mask is not None and mask.dtype == torch.float32 and mask.sum() == 2 * 20 - 2
    assert mask[0, 0, 0, 0] == mask[1, 0, 1, 1] == mask[0, 0, 0, 5] == 0
    whole = image_mask(batch, regions=False)
    assert whole is not None and whole.sum() == 2 * 20


def test_heat_weight_and_loss():
    window = torch.tensor([[[[True, False]], [[False, False]]]])
    mask = torch.tensor([[[[1.0, 0.0]]]])
    assert heat_weight(window, None, 0.25).flatten().tolist() == [1.0, 0.25, 0.25, 0.25]
    weight = heat_weight(window, mask, 0.25)
    assert weight.flatten().tolist() == [1.0, 0.0, 0.25, 0.0]
    pred, target = torch.tensor([[[[3.0, 9.0]], [[1.0, 9.0]]]]), torch.tensor([[[[1.0, 0.0]], [[3.0, 0.0]]]])
    assert heat_loss(pred.bfloat16(), target, weight).item() == (4 + 1) / 4


def test_mirrored_back():
    maps = torch.tensor([[[[1.0, 2.0, 3.0]], [[4.0, 5.0, 6.0]]]])
    assert mirrored_back(maps, [1, 0]).tolist() == [[[[6.0, 5.0, 4.0]], [[3.0, 2.0, 1.0]]]]


def test_views_of_one_photograph(batch):
    """Through the photograph and back: a turned, shifted view and a larger one."""
    other = torch.tensor([[[0.0, -2.0, 7.0], [2.0, 0.0, 1.0]], [[0.5, 0, 3], [0, 0.5, 4]]], dtype=torch.float64)
    view = replace(batch, to_image_B23=other)
    base = replace(batch, to_image_B23=torch.tensor([[0.25, 0, 1], [0, 0.25, 2]], dtype=torch.float64).expand(2, 2, 3))
    owner = torch.tensor([1, 0])
    point = torch.tensor([[[10.0, 20.0]], [[3.0, 5.0]]])
    moved = move_poses(point, owner, view_to_view(view, base))
    # (10, 20) of image 1 is photograph (8, 14), base (28, 48); (3, 5) of image 0 is photograph (-3, 7), base (-16, 20)
    assert moved.tolist() == [[[28.0, 48.0]], [[-16.0, 20.0]]]
    torch.testing.assert_close(move_poses(moved, owner, view_to_view(base, view)), point)


def test_scores_are_levelled_image_by_image():
    owner = torch.tensor([0, 0, 2, 2])
    score = torch.tensor([0.2, 0.4, 0.5, 0.1])
    assert highest(score, owner, 3).tolist() == pytest.approx([0.4, 1.0, 0.5])
    reference = torch.tensor([0.8, 1.0, 0.25])
    assert level_scores(score, owner, reference, 0.9).tolist() == pytest.approx([0.36, 0.72, 0.225, 0.045])
    assert level_scores(score[:0], owner[:0], reference, 0.9).shape == (0,)
