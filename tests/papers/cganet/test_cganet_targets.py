"""CGANet's targets: centre maps, centre lines, training regions, against hand-computed numbers."""

from dataclasses import replace

import pytest
import torch
from drawn_batch import drawn_batch
from torch import tensor

from repose.errors import UserError
from repose.ops.boxes import box_iou, box_size
from repose.papers.cganet.config import Loss
from repose.papers.cganet.targets import (
    centre_maps,
    encode,
    from_roi,
    keypoint_maps,
    line_maps,
    line_thickness,
    mask_maps,
    to_roi,
    with_predicted,
)
from repose.skeleton import COCO17

BOX = tensor([[10.0, 20, 26, 52]])


def owners(*of):
    return tensor(of, dtype=torch.int64)


@pytest.fixture
def batch():
    return drawn_batch(COCO17, 3, (128, 96), 2)


@pytest.mark.parametrize(
    ("hw", "d"),
    [
        ((128, 64), 1),
        ((200, 80), 1),
        ((384, 192), 3),
        ((32, 16), 1),
        ((60, 30), 1),
        ((480, 320), 5),
        ((40, 40), 1),
    ],
)
def test_line_thickness(hw, d):
    """Pixels to cells; the formula's 0 becomes 1."""
    assert line_thickness(tensor([hw[1] / 4, hw[0] / 4]), 0.3).item() == d


def test_drawn_lines_are_the_specifications():
    line_x, line_y = (m[0, 0] for m in line_maps(BOX, owners(0), 1, (64, 64), 0.3, 1.4))
    expected = {
        (36, 18): 1,
        (19, 18): 0.774837,
        (18, 18): 0.360448,
        (17, 18): 0.100669,
        (16, 18): 0.016880,
        (36, 19): 0.774837,
        (36, 21): 0.100669,
        (19, 19): 0.600373,
    }
    for (y, x), value in expected.items():
        assert line_y[y, x].item() == pytest.approx(value, abs=1e-6)
    assert int((line_y >= 0.1).sum()) == 253 and line_y.sum().item() == pytest.approx(124.6120, abs=1e-3)
    assert (line_y[20:53, 18] == 1).all() and (line_y == 1).sum() == 33
    assert (line_x[36, 10:27] == 1).all() and (line_x == 1).sum() == 17
    assert line_x[36, 9].item() == pytest.approx(0.774837, abs=1e-6)
    assert line_x[34, 18].item() == pytest.approx(0.360448, abs=1e-6)
    product = line_x * line_y
    assert product[36, 18] == 1 and product[33, 18].item() == pytest.approx(0.1007, abs=1e-4)


def test_a_large_box_has_a_thick_line():
    _, line_y = line_maps(tensor([[0.0, 0, 48, 96]]), owners(0), 1, (128, 64), 0.3, 1.4)
    rows, columns = (line_y[0, 0] == 1).nonzero().unbind(1)
    assert columns.unique().tolist() == [23, 24, 25] and rows.unique().tolist() == list(range(97))


def test_a_box_thinner_than_a_cell_has_its_centre():
    line_x, line_y = line_maps(tensor([[5.3, 7.1, 5.6, 9.2]]), owners(0), 1, (16, 16), 0.3, 1.4)
    assert (line_x == 1).nonzero().tolist() == [[0, 0, 8, 5]]
    assert (line_y == 1).nonzero()[:, 2:].tolist() == [[8, 5], [9, 5]]


def test_lines_of_people_keep_the_higher_value():
    boxes = torch.cat([BOX, BOX + 3, BOX])
    together = line_maps(boxes, owners(0, 0, 1), 2, (64, 64), 0.3, 1.4)[1]
    alone = line_maps(boxes, owners(0, 1, 2), 3, (64, 64), 0.3, 1.4)[1]
    assert torch.equal(together[0], torch.maximum(alone[0], alone[1])) and torch.equal(together[1], alone[2])


def test_centre_gaussian():
    """(h, w) = (32, 16): radius 5, sigma 11 / 6, cut to an 11x11 window."""
    found = centre_maps(BOX, tensor([[18, 36]]), owners(0), 1, (64, 64), 0.7)[0, 0]
    assert found[36, 18] == 1 and (found > 0).sum() == 121
    assert found[36, 20].item() == pytest.approx(2.718281828 ** (-4 / (2 * (11 / 6) ** 2)), abs=1e-6)
    assert found[30, 18] == 0 and found[31, 18] > 0


@pytest.mark.parametrize(("hw", "radius"), [((32, 16), 5), ((50, 20), 7), ((10, 10), 2), ((96, 48), 17), ((5, 3), 1)])
def test_centre_radius_is_a_whole_number_of_cells(hw, radius):
    height, width = hw
    box = tensor([[64 - width / 2, 64 - height / 2, 64 + width / 2, 64 + height / 2]])
    found = centre_maps(box, tensor([[64, 64]]), owners(0), 1, (128, 128), 0.7)[0, 0]
    assert found[64].count_nonzero() == found[:, 64].count_nonzero() == 2 * radius + 1


def test_encode(batch):
    targets = encode(batch, Loss(), masks=False)
    n = batch.people.n
    assert targets.hm_B1HW.shape == (3, 1, 32, 24) and targets.people.n == n == 6
    assert (targets.hm_B1HW == 1).sum() == n
    centre = (batch.people.box_N4[:, :2] + batch.people.box_N4[:, 2:]) / 2
    torch.testing.assert_close((targets.cell_N2 + targets.off_N2) * 4, centre)
    assert (targets.off_N2 >= 0).all() and (targets.off_N2 < 1).all()
    torch.testing.assert_close(targets.wh_N2 * 4, box_size(batch.people.box_N4))
    assert targets.weight_B1HW.all() and len(targets.rois.weight_R) == n


def test_people_that_do_not_count(batch):
    """Zero size, thinner than a pixel, mostly outside: no target, no region. Without joints: a target, no region."""
    box = batch.people.box_N4.clone()
    box[0] = tensor([20.0, 20, 20, 60])
    box[1] = tensor([20.0, 20, 20.1, 60])
    fraction = batch.people.visible_fraction_N.clone()
    fraction[2] = 0.2
    labelled = batch.people.labelled_N.clone()
    labelled[3] = False
    people = replace(batch.people, box_N4=box, visible_fraction_N=fraction, labelled_N=labelled)
    targets = encode(replace(batch, people=people), Loss(), masks=False)
    assert targets.people.n == 3 and (targets.hm_B1HW == 1).sum() == 3
    assert targets.rois.person_R.tolist() == [1, 2]


def test_crowds_have_no_weight(batch):
    crowd = torch.zeros(3, 1, 32, 24, dtype=torch.uint8)
    crowd[1, 0, 5:9, 4:8] = 1
    weight = encode(replace(batch, crowd_B1HW=crowd), Loss(), masks=False).weight_B1HW
    assert weight.sum() == weight.numel() - 16 and weight[1, 0, 6, 6] == 0


def test_regions_are_jittered_boxes_within_bounds(batch):
    loss = Loss()
    rois = encode(batch, loss, masks=False).rois
    box = batch.people.box_N4
    assert not torch.equal(rois.box_in_R4, box)
    size, wanted = box_size(rois.box_in_R4), box_size(box)
    assert (size / wanted >= 0.9 - 1e-5).all() and (size / wanted <= 1.25 + 1e-5).all()
    moved = ((rois.box_in_R4[:, :2] + rois.box_in_R4[:, 2:]) - (box[:, :2] + box[:, 2:])).abs() / 2
    assert (moved / wanted <= 0.08 + 1e-5).all() and moved.max() > 0
    assert torch.equal(encode(batch, replace(loss, roi_source="gt"), masks=False).rois.box_in_R4, box)


def test_regions_depend_on_the_images_seed_alone(batch):
    both = encode(batch, Loss(), masks=False).rois
    mine = batch.people.owner_N == 1
    from drawn_batch import one_image

    alone = encode(one_image(batch, 1), Loss(), masks=False).rois
    assert torch.equal(both.box_in_R4[mine], alone.box_in_R4)
    other = encode(replace(batch, seed_B=batch.seed_B + 1), Loss(), masks=False).rois
    assert not torch.equal(other.box_in_R4, both.box_in_R4)


def test_at_most_so_many_regions_per_image(batch):
    rois = encode(batch, Loss(roi_max=1), masks=False).rois
    assert rois.owner_R.tolist() == [0, 1, 2]
    chosen = {
        tuple(encode(replace(batch, seed_B=batch.seed_B + s), Loss(roi_max=1), masks=False).rois.person_R.tolist())
        for s in range(8)
    }
    assert len(chosen) > 1  # a random subset


def test_an_empty_batch_has_stand_ins_without_weight(batch):
    from drawn_batch import without_people

    targets = encode(without_people(batch, 17), Loss(), masks=False)
    assert targets.hm_B1HW.sum() == 0 and targets.line_x_B1HW.sum() == 0
    assert targets.rois.weight_R.tolist() == [0, 0]
    torch.testing.assert_close(targets.rois.box_in_R4[0], tensor([-0.5, -0.5, 95.5, 127.5]))
    _, weight = keypoint_maps(targets, targets.rois.box_in_R4, targets.rois.person_R, 8, Loss())
    assert weight.shape == (2, 17)


def test_predicted_boxes_join_their_person(batch):
    targets = encode(batch, Loss(roi_source="gt"), masks=False)
    people = targets.people
    found = torch.cat([people.box_N4[:2] + 1, people.box_N4[:1] + 500, people.box_N4[:1]])
    more = with_predicted(targets.rois, found, owners(0, 0, 0, 2), people)
    overlap = box_iou(people.box_N4[:1], people.box_N4[4:6])[0]  # with the people of image 2
    last = [4 + int(overlap.argmax())] if overlap.max() >= 0.5 else []
    assert more.person_R.tolist() == [0, 1, 2, 3, 4, 5, 0, 1, *last]
    assert box_iou(more.box_in_R4[6:7], people.box_N4[:1]).item() > 0.5
    assert more.weight_R.all()
    few = encode(batch, Loss(roi_source="gt", roi_max=1), masks=False)
    mine = few.rois.person_R[0]
    again = with_predicted(few.rois, people.box_N4[:2], owners(0, 0), people)
    assert again.person_R[3:].tolist() == [mine.item()]  # people left out of the regions stay out


def test_region_cells_and_pixels_are_inverse():
    box = tensor([[10.0, 20, 58, 116]])
    cells = tensor([[[0.0, 0], [47, 47], [23.25, 11]]])
    there = from_roi(cells, box, 48)
    torch.testing.assert_close(there[0, 0], tensor([10.5, 21.0]))  # a cell is 1x2 pixels here
    torch.testing.assert_close(to_roi(there, box, 48), cells + 0.5)


def test_keypoint_maps(batch):
    targets = encode(batch, Loss(roi_source="gt"), masks=False)
    joint = targets.people.joint_NK3.clone()
    joint[0, 0] = tensor([joint[0, 0, 0].item(), joint[0, 0, 1].item(), 0.0])  # not labelled
    joint[0, 1, :2] = targets.people.box_N4[0, :2] - 3  # outside its region
    joint[0, 2, 2] = 1.0  # hidden counts
    targets = targets._replace(people=replace(targets.people, joint_NK3=joint))
    maps, weight = keypoint_maps(targets, targets.rois.box_in_R4, targets.rois.person_R, 48, Loss())
    assert weight[0, :3].tolist() == [0, 0, 1] and weight[1:].all()
    assert ((maps == 1).flatten(2).sum(-1)[weight > 0] == 1).all()
    flat = maps[0, 2].flatten().argmax()
    there = from_roi(tensor([[[flat % 48, flat // 48]]]).float(), targets.rois.box_in_R4[:1], 48)[0, 0]
    cell = box_size(targets.rois.box_in_R4[0]) / 48
    assert ((there - joint[0, 2, :2]).abs() <= cell / 2 + 1e-4).all()
    one = maps[0, 2].max(0).values.sort().values  # sigma 1.5 cells at 48: the neighbour's height
    assert one[-2].item() == pytest.approx(2.718281828 ** (-1 / (2 * 1.5**2)), abs=1e-5)


def test_masks_are_cut_by_the_region(batch):
    mask = torch.zeros(6, 128, 96, dtype=torch.uint8)
    box = batch.people.box_N4
    for n in range(6):  # the left half of each box
        x1, y1, x2, y2 = (int(v) for v in box[n].round())
        mask[n, max(y1 - 9, 0) : y2 + 9, max(x1 - 9, 0) : (x1 + x2) // 2] = 1
    full = replace(batch, people=replace(batch.people, mask_NHW=mask))
    targets = encode(full, Loss(roi_source="gt"), masks=True)
    found = mask_maps(targets, targets.rois.box_in_R4, targets.rois.person_R, 16)
    assert found.shape == (6, 1, 16, 16) and found.unique().tolist() == [0, 1]
    assert found[:, :, :, :6].all() and not found[:, :, :, 10:].any()
    coarse = replace(batch, people=replace(batch.people, mask_NHW=mask[:, ::4, ::4]))
    targets = encode(coarse, Loss(roi_source="gt"), masks=True)
    found = mask_maps(targets, targets.rois.box_in_R4, targets.rois.person_R, 16)
    assert found[:, :, 3:13, :5].all() and not found[:, :, :, 12:].any()


def test_people_without_a_mask_have_no_mask_region(batch):
    mask = torch.zeros(6, 128, 96, dtype=torch.uint8)
    mask[[1, 4], 30:60, 20:40] = 1
    full = replace(batch, people=replace(batch.people, mask_NHW=mask))
    assert encode(full, Loss(), masks=True).rois.person_R.tolist() == [1, 4]
    with pytest.raises(UserError, match=r"set data\.masks=full"):
        encode(batch, Loss(), masks=True)
