"""DEKR's targets and losses, by hand."""

from dataclasses import replace

import pytest
import torch
from drawn_batch import FIVE, drawn_batch

from repose.config import SkeletonBlock
from repose.papers.baselines.dekr.config import Loss
from repose.papers.baselines.dekr.losses import losses
from repose.papers.baselines.dekr.model import Outputs
from repose.papers.baselines.dekr.targets import centre_sigma, encode, person_size
from repose.skeleton import COCO17, CROWDPOSE14
from repose.types import Batch, People

SKELETON = SkeletonBlock(**FIVE).build()


def batch_of(*people: list[tuple[float, float, float]], size: int = 128, area: float = 9000.0) -> Batch:
    """One image (the photograph is the input) of people given joint by joint in input pixels."""
    base = drawn_batch(SKELETON, 1, (size, size))
    n = len(people)
    joint_NK3 = torch.tensor(people).view(n, 5, 3)
    return replace(
        base,
        people=People(
            owner_N=torch.zeros(n, dtype=torch.int64),
            ann_id_N=torch.arange(n),
            joint_NK3=joint_NK3,
            box_N4=torch.zeros(n, 4),
            visible_fraction_N=torch.ones(n),
            box_img_N4=torch.zeros(n, 4),
            area_N=torch.full((n,), area),
            labelled_N=joint_NK3[..., 2].any(-1),
        ),
    )


# centre (41.2, 80.4) px = (10.3, 20.1) cells; extent 40 x 52 px
PERSON = [(20.0, 60.0, 2.0), (60.0, 60.0, 2.0), (46.0, 112.0, 1.0), (40.0, 90.0, 2.0), (40.0, 80.0, 2.0)]
NOBODY = (0.0, 0.0, 0.0)


def test_centre_cells_and_offsets():
    found = encode(batch_of(PERSON), Loss())
    cells = found.cells
    assert cells.cell_M2.shape == (64, 2)
    assert cells.cell_M2[:, 0].unique().tolist() == list(range(6, 14))  # int(10.3) - 4 ... + 3, half open
    assert cells.cell_M2[:, 1].unique().tolist() == list(range(16, 24))
    here = (cells.cell_M2 == torch.tensor([7, 22])).all(-1)
    expected = torch.tensor([7 - 5.0, 22 - 15.0, 7 - 15.0, 22 - 15.0, 7 - 11.5, 22 - 28.0])
    torch.testing.assert_close(cells.target_MD[here][0, :6], expected)
    size = 40.0**2 + 52.0**2  # input pixels
    torch.testing.assert_close(cells.weight_MD, torch.full((64, 10), size**-0.5))


def test_heatmaps_have_their_own_sigmas():
    found = encode(batch_of(PERSON), Loss())
    assert found.heat_BJHW.shape == (1, 6, 32, 32)
    assert found.heat_BJHW[0, 0, 15, 5] == 1
    assert found.heat_BJHW[0, 0, 15, 8].item() == pytest.approx(torch.tensor(-(3**2) / 8).exp().item(), rel=1e-5)
    squared = (12 - 10.3) ** 2 + (20 - 20.1) ** 2
    assert found.heat_BJHW[0, 5, 20, 12].item() == pytest.approx(torch.tensor(-squared / 32).exp().item(), rel=1e-5)
    weight = found.weight_BJHW[0, 0]
    # window of joint 0 at (5, 15): [-2, 13) x [8, 23)
    assert weight[8, 0] == weight[22, 12] == 1 and weight[7, 0] == weight[22, 13] == torch.tensor(0.1)


def test_crowdpose_oversight():
    assert centre_sigma(Loss(), COCO17.k) == centre_sigma(Loss(), CROWDPOSE14.k) == 4
    assert centre_sigma(Loss(legacy_centre_sigma=True), COCO17.k) == 4
    assert centre_sigma(Loss(legacy_centre_sigma=True), CROWDPOSE14.k) == 2
    narrow = encode(batch_of(PERSON), Loss(legacy_centre_sigma=True)).heat_BJHW[0, 5, 20, 12].item()
    squared = (12 - 10.3) ** 2 + (20 - 20.1) ** 2
    assert narrow == pytest.approx(torch.tensor(-squared / 8).exp().item(), rel=1e-5)


def test_size_of_a_person():
    """Labelled joints alone; measured in the photograph, in input pixels; the release's starts at the corner."""
    partly = [PERSON[0], PERSON[1], NOBODY, NOBODY, NOBODY]
    batch = batch_of(partly)
    given = batch.people.joint_NK3[..., 2] > 0
    assert person_size(batch, given, Loss()).tolist() == [40.0**2]
    assert person_size(batch, given, Loss(legacy_dekr_area=True)).tolist() == [60.0**2 + 60.0**2]
    # a photograph of half the size, 10 pixels to the right: photograph = input / 2 + (10, 0)
    to_image = torch.tensor([[[0.5, 0, 10], [0, 0.5, 0]]], dtype=torch.float64)
    moved = replace(batch, to_image_B23=to_image)
    assert person_size(moved, given, Loss()).tolist() == [40.0**2]
    legacy = person_size(moved, given, Loss(legacy_dekr_area=True))
    assert legacy.tolist() == [pytest.approx(4 * (40.0**2 + 30.0**2))]


def test_who_has_a_centre():
    none = encode(batch_of([NOBODY] * 5), Loss())
    small = encode(batch_of(PERSON, area=1023.0), Loss())
    large = encode(batch_of(PERSON, area=1024.0), Loss())
    assert len(none.cells.owner_M) == len(small.cells.owner_M) == 0 and len(large.cells.owner_M) == 64
    assert none.heat_BJHW.max() == 0
    assert small.heat_BJHW[0, 5].max() == 0 and small.heat_BJHW[0, :5].amax((1, 2)).min() > 0.9  # joints are drawn


def test_joints_outside_pull_the_centre_but_are_not_taught():
    outside = [(20.0, 60.0, 2.0), (60.0, 60.0, 2.0), (-40.0, 60.0, 0.0), NOBODY, NOBODY]
    batch = batch_of(outside)
    without = encode(batch, Loss())
    assert without.cells.cell_M2[:, 0].min() == 10 - 4  # (20 + 60) / 2 px = 10 cells
    given = torch.tensor([[True, True, True, False, False]])
    found = encode(replace(batch, people=replace(batch.people, given_NK=given)), Loss())
    assert found.cells.cell_M2[:, 0].unique().tolist() == [0, 1, 2, 3, 4, 5, 6]  # int(3.33) - 4, clipped
    assert (found.cells.weight_MD[:, 4:] == 0).all() and (found.cells.weight_MD[:, :4] == 1 / 100).all()
    assert found.heat_BJHW[0, 2].max() == 0


def test_regions_are_not_taught():
    batch = batch_of(PERSON)
    crowd, inside = torch.zeros(1, 1, 32, 32, dtype=torch.uint8), torch.ones(1, 1, 32, 32, dtype=torch.uint8)
    crowd[..., :4, :] = 1
    inside[..., 30:] = 0
    batch = replace(batch, crowd_B1HW=crowd, unlabelled_B1HW=torch.zeros_like(crowd), inside_B1HW=inside)
    weight = encode(batch, Loss()).weight_BJHW
    assert (weight[:, :, :4] == 0).all() and (weight[..., 30:] == 0).all() and weight[:, :, 4:, :30].min() > 0
    weight = encode(batch, Loss(mask="photograph")).weight_BJHW
    assert weight[:, :, :4, :30].min() > 0 and (weight[..., 30:] == 0).all()


def test_losses_by_hand():
    targets = encode(batch_of(PERSON), Loss())
    cells = targets.cells
    offset = torch.zeros(1, 10, 32, 32)
    offset[:, :, cells.cell_M2[:, 1], cells.cell_M2[:, 0]] = cells.target_MD.t()
    exact = losses(Outputs(targets.heat_BJHW, offset), targets, Loss())
    assert exact["heat"] == 0 and exact["offset"] == 0
    wrong = losses(Outputs(targets.heat_BJHW + 0.5, offset + 3), targets, Loss())
    assert wrong["heat"].item() == pytest.approx(0.25 * targets.weight_BJHW.mean().item(), rel=1e-5)
    size = 40.0**2 + 52.0**2
    assert wrong["offset"].item() == pytest.approx((3 - 1 / 18) * size**-0.5, rel=1e-4)  # beta 1 / 9
    near = losses(Outputs(targets.heat_BJHW, offset + 0.05), targets, Loss())
    assert near["offset"].item() == pytest.approx(0.05**2 * 9 / 2 * size**-0.5, rel=1e-3)


def test_unlabelled_joints_get_no_gradient():
    partly = [PERSON[0], PERSON[1], (float("nan"), float("nan"), 0.0), NOBODY, NOBODY]
    targets = encode(batch_of(partly), Loss())
    offset = torch.ones(1, 10, 32, 32, requires_grad=True)
    losses(Outputs(targets.heat_BJHW, offset), targets, Loss())["offset"].backward()
    assert offset.grad is not None and offset.grad.isfinite().all()
    assert offset.grad[:, :4].abs().sum() > 0 and (offset.grad[:, 4:] == 0).all()
