"""Parts and targets of PINet."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from drawn_batch import FIVE, drawn_batch, without_people

from repose.config.schema import SkeletonBlock
from repose.errors import UserError
from repose.papers.pinet.config import Loss, Model
from repose.papers.pinet.parts import partition
from repose.papers.pinet.targets import box_area_in, encode
from repose.skeleton import COCO17, CROWDPOSE14
from repose.types import Batch

LARGE = partition(Model(), COCO17)
LOSS = Loss()


def person(joints: dict[int, tuple[float, float]], box: float = 400.0, given: dict | None = None, count: int = 1):
    """One image of 512x512 px; people have the same joints (index -> cells) and the box `box` px a side."""
    batch = drawn_batch(COCO17, 1, (512, 512), count)
    joint = torch.zeros(count, 17, 3)
    for k, (x, y) in joints.items():
        joint[:, k] = torch.tensor([4 * x, 4 * y, 2.0])
    mask = joint[..., 2] > 0
    for k, (x, y) in (given or {}).items():  # labelled, but outside
        joint[:, k] = torch.tensor([4 * x, 4 * y, 0.0])
        mask[:, k] = True
    people = replace(
        batch.people,
        joint_NK3=joint,
        given_NK=mask,
        box_img_N4=torch.tensor([[0.0, 0.0, box, box]]).expand(count, 4),
        labelled_N=mask.any(1),
    )
    return replace(batch, people=people)


# --- parts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "coco", "crowd", "flip"),
    [
        ("center", [list(range(17))], [list(range(14))], [0]),
        ("head", [[0, 1, 2, 3, 4]], [[12, 13]], [0]),
        (
            "part_large",
            [[0, 1, 2, 3, 4], [5, 6, 11, 12], [11, 12, 13, 14, 15, 16]],
            [[12, 13], [0, 1, 6, 7], [6, 7, 8, 9, 10, 11]],
            [0, 1, 2],
        ),
        (
            "part_small",
            [[0, 1, 2, 3, 4], [5, 6, 11, 12], [5, 7, 9], [6, 8, 10], [11, 13, 15], [12, 14, 16]],
            [[12, 13], [0, 1, 6, 7], [0, 2, 4], [1, 3, 5], [6, 8, 10], [7, 9, 11]],
            [0, 1, 3, 2, 5, 4],
        ),
        (
            "keypoint",
            [[0, 1, 2, 3, 4], *[[k] for k in range(5, 17)]],
            [[12, 13], *[[k] for k in range(12)]],
            [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11],
        ),
    ],
)
def test_partitions(strategy, coco, crowd, flip):
    """Specification 3.1."""
    for skeleton, wanted in ((COCO17, coco), (CROWDPOSE14, crowd)):
        found = partition(Model(partition=strategy), skeleton)
        assert [sorted(part) for part in found.joints] == wanted
        assert list(found.flip_index) == flip


def test_own_partition_and_its_errors():
    found = partition(Model(parts={"face": ["nose", "left_eye", "right_eye"], "legs": ["legs"]}), COCO17)
    assert found.joints[0] == (0, 1, 2) and sorted(found.joints[1]) == [11, 12, 13, 14, 15, 16]
    with pytest.raises(UserError, match=r"the part 'a' mirrored \(right_ankle\) is no part"):
        partition(Model(parts={"a": ["left_ankle"], "b": ["nose"]}), COCO17)
    with pytest.raises(UserError, match="has no joint group or joint 'tail'"):
        partition(Model(parts={"a": ["tail"]}), COCO17)
    with pytest.raises(UserError, match="no two the same"):
        partition(Model(parts={"a": ["nose"], "b": ["nose"]}), COCO17)


def test_a_skeleton_without_the_groups_is_one_clear_error():
    plain = SkeletonBlock(**{**FIVE, "groups": {}}).build()
    with pytest.raises(UserError, match=r"model.partition=part_large needs the joint group 'head'") as error:
        partition(Model(), plain)
    assert "\n" not in str(error.value)
    assert partition(Model(partition="center"), plain).p == 1


# --- centres ---------------------------------------------------------------------------------------------------------


def test_centres_are_means_of_labelled_joints():
    """Hips only: the middle and the bottom part lie on them, the upper part does not exist."""
    targets = encode(person({11: (10.0, 20.0), 12: (14.0, 22.5)}), LARGE, LOSS)
    part_P = targets.heat_BJHW[0, 17:]
    assert not part_P[0].any()
    for p in (1, 2):
        flat = int(part_P[p].argmax())
        assert (flat % 128, flat // 128) == (12, 21)
        assert part_P[p].max().item() == pytest.approx(math.exp(-(0.25**2) / 8), abs=1e-6)
    assert targets.cells.part_M.unique().tolist() == [1, 2]


def test_labelled_joints_outside_move_the_centre_but_are_not_taught():
    inside = {5: (4.0, 30.0), 6: (8.0, 30.0)}
    targets = encode(person(inside, given={11: (-8.0, 38.0), 12: (4.0, 134.0)}), LARGE, LOSS)
    cells = targets.cells
    middle = cells.cell_M2[cells.part_M == 1]
    assert middle.amin(0).tolist() == [0, 56] and middle.amax(0).tolist() == [3, 59]  # centre (2, 58)
    taught = cells.weight_MD[cells.part_M == 1].unflatten(1, (17, 2))[..., 0].any(0)
    assert taught.nonzero()[:, 0].tolist() == [5, 6]


def test_centre_outside_and_small_people():
    outside = encode(person({0: (1.0, 5.0)}, given={1: (-9.0, 5.0)}), LARGE, LOSS)
    assert not outside.heat_BJHW[0, 17:].any() and len(outside.cells.cell_M2) == 0
    assert outside.heat_BJHW[0, 0].max() == 1, "the joint itself is drawn"
    small = person({0: (10.0, 10.0)}, box=31.9)
    targets = encode(small, LARGE, LOSS)
    assert not targets.heat_BJHW[0, 17:].any() and targets.heat_BJHW[0, 0].max() == 1
    assert encode(small, LARGE, Loss(min_area=0.0)).heat_BJHW[0, 17].max() == 1


def test_area_is_that_of_the_input():
    """A photograph shown at half size and mirrored: the box's area is a quarter."""
    batch = person({0: (10.0, 10.0)}, box=100.0)
    half = torch.tensor([[[-2.0, 0, 1022], [0, 2.0, 0]]], dtype=torch.float64)
    assert box_area_in(replace(batch, to_image_B23=half)).tolist() == [2500.0]


# --- weights and cells -----------------------------------------------------------------------------------------------


def test_offset_cells_of_the_specification():
    """Acceptance 4: centre (10.7, 20.2), weight 1 / sqrt(A), or 1 / A."""
    batch = person({0: (10.7, 20.2), 16: (50.0, 100.0)})
    cells = encode(batch, LARGE, LOSS).cells
    upper = cells.part_M == 0
    assert sorted(set(cells.cell_M2[upper, 0].tolist())) == [8, 9, 10, 11]
    assert sorted(set(cells.cell_M2[upper, 1].tolist())) == [18, 19, 20, 21]
    assert cells.weight_MD[upper, 0].unique().tolist() == pytest.approx([1 / 400])
    target = cells.target_MD[upper][(cells.cell_M2[upper] == torch.tensor([9, 18])).all(1)][0].view(17, 2)
    torch.testing.assert_close(target[0], torch.tensor([-1.7, -2.2]))
    assert target[16].tolist() == [-41.0, -82.0]
    by_area = encode(batch, LARGE, Loss(normaliser="area")).cells
    assert by_area.weight_MD.max().item() == pytest.approx(1 / 160_000)


def test_heatmap_weights():
    targets = encode(person({0: (10.0, 20.0)}), LARGE, LOSS)
    weight = targets.weight_BJHW
    assert weight.unique().tolist() == pytest.approx([0.1, 1.0])
    assert weight[0, 0, 20, 3] == 1 and weight[0, 0, 20, 2] == pytest.approx(0.1)  # window x - 7 ... x + 7
    assert (weight[0, 1] < 1).all(), "each channel has its own windows"


def with_regions(batch: Batch) -> Batch:
    zero = torch.zeros(1, 1, 128, 128, dtype=torch.uint8)
    crowd, unlabelled, inside = zero.clone(), zero.clone(), 1 - zero
    crowd[..., 20, 10] = 1
    unlabelled[..., 21, 10] = 1
    inside[..., 22, 10] = 0
    return replace(batch, crowd_B1HW=crowd, unlabelled_B1HW=unlabelled, inside_B1HW=inside)


@pytest.mark.parametrize(("mask", "weights"), [("photograph", [1, 1, 0]), ("regions", [0, 0, 0])])
def test_image_mask(mask, weights):
    batch = with_regions(person({0: (10.0, 20.0)}))
    targets = encode(batch, LARGE, Loss(mask=mask))
    for channel in (0, 17):
        assert targets.weight_BJHW[0, channel, 20:23, 10].tolist() == weights
    assert len(targets.cells.cell_M2) == 16, "offsets are taught in masked cells too"


def test_legacy_flip_moves_mirrored_images_by_three_pixels():
    batch = person({0: (10.0, 20.0)})
    turned = replace(batch, to_image_B23=torch.tensor([[[-1.0, 0, 511], [0, 1.0, 0]]], dtype=torch.float64))
    legacy = Loss(legacy_flip=True)
    same = encode(batch, LARGE, legacy)
    assert torch.equal(same.heat_BJHW, encode(batch, LARGE, LOSS).heat_BJHW)
    moved = encode(turned, LARGE, legacy).heat_BJHW[0, 0]
    assert moved[20, 9].item() == pytest.approx(math.exp(-(0.25**2) / 8), abs=1e-6)  # 9.25
    exact = encode(turned, LARGE, LOSS).heat_BJHW[0, 0]
    assert exact[20, 10] == 1


# --- proposals -------------------------------------------------------------------------------------------------------


def test_proposals_are_the_best_cells_of_each_image_and_part():
    batch = drawn_batch(COCO17, 2, (512, 512), 3)
    targets = encode(batch, LARGE, Loss(proposals=5))
    cells, chosen = targets.cells, targets.proposal_Q
    group = cells.owner_M * 3 + cells.part_M
    assert torch.bincount(group[chosen]).tolist() == [5] * 6
    value = cells.gauss_M * cells.weight_MD.amax(1)
    for g in range(6):
        best = value[group == g].sort(descending=True).values[:5]
        torch.testing.assert_close(value[chosen[group[chosen] == g]], best)
    few = encode(person({0: (10.0, 20.0)}), LARGE, LOSS)
    assert len(few.proposal_Q) == 16, "min(40, available)"


def test_nobody():
    targets = encode(without_people(drawn_batch(COCO17, 2, (96, 64)), 17), LARGE, LOSS)
    assert targets.heat_BJHW.shape == (2, 20, 24, 16) and not targets.heat_BJHW.any()
    assert len(targets.proposal_Q) == 0 and targets.cells.target_MD.shape == (0, 34)
