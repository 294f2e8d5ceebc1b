"""From maps to people: round trip, clusters, pooling and recovery, scores, and the failure when people are near."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from idgroup_kit import batch_of, config, module, person

from repose.geometry import EDGE
from repose.papers.idgroup.config import Decode
from repose.papers.idgroup.decode import Active, active_cells, covered, decode, group, joint_types, mirrored_vectors
from repose.papers.idgroup.targets import encode, to_input, to_map
from repose.skeleton import COCO17


def found_people(batch, *settings: str):
    m = module("data.input_size=[256, 256]", *settings)
    return m.people_of(m.oracle(batch))


def by_place(joint_NK3: torch.Tensor) -> torch.Tensor:
    return joint_NK3[joint_NK3[:, 0, 0].argsort()]


def test_the_truth_comes_back():
    """Overlapping people too: each cell knows its person; an image with nobody gives nobody."""
    a, b, c = person(20, 30, 180), person(45, 40, 170), person(120, 60, 100)
    poses = found_people(batch_of([a, b, c], [], [c]))
    assert [p.n for p in poses] == [3, 0, 1]
    torch.testing.assert_close(
        by_place(poses[0].joint_NK3)[..., :2], torch.stack([a, b, c])[..., :2], atol=1e-3, rtol=0
    )
    torch.testing.assert_close(poses[2].joint_NK3[0, :, :2], c[:, :2], atol=1e-3, rtol=0)


def test_joints_without_a_cell_are_recovered():
    """Joints hidden from presence are output all the same, by the other cells' vectors; their score is 0."""
    m = module("data.input_size=[256, 256]")
    a = person(60, 20, 200)
    batch = batch_of([a])
    maps = m.oracle(batch)
    t = m.encode(batch)
    gone = [9, 15]
    hidden = torch.isin(t.joint_M, torch.tensor(gone))
    presence = maps.presence_BHW.clone()
    presence[0, t.cell_M2[hidden, 1], t.cell_M2[hidden, 0]] = 0
    (pose,) = m.people_of(maps._replace(presence_BHW=presence))
    assert pose.n == 1
    torch.testing.assert_close(pose.joint_NK3[0, :, :2], a[:, :2], atol=1e-3, rtol=0)
    assert [k for k in range(17) if pose.joint_NK3[0, k, 2] == 0] == gone
    assert pose.score_N.item() == pytest.approx(15 / 17)


@pytest.mark.parametrize(("apart", "people"), [(4, 2), (2, 1)])
def test_two_people_apart(apart, people):
    """Specification 11, T = 3 cells: 4 cells apart they are two, 2 cells apart they merge (the method's limit)."""
    a = person(60, 20, 150)
    b = a + torch.tensor([4.0 * apart, 0, 0])
    (pose,) = found_people(batch_of([a, b]))
    assert pose.n == people
    if people == 1:  # between them
        middle = pose.joint_NK3[0, :, 0] - a[:, 0]
        assert (middle > 0).all() and (middle < 8).all()
        assert found_people(batch_of([a, b]), "decode.distance=1.5")[0].n == 2


def test_the_cell_centre_counts():
    """A cell's own vector names its joint by the distance to the cell's centre, i + 1/2."""
    t = encode(batch_of([person(20.0, 30.0, 200.0)]), config().loss)
    assert torch.equal(joint_types(t.vector_MK2, t.cell_M2), t.joint_M)
    centre = to_input(t.cell_M2 + EDGE)
    truth = to_input(t.vector_MK2[torch.arange(len(t.joint_M)), t.joint_M])
    error = centre - truth
    assert error.norm(dim=-1).max() <= 4.0 + 1e-4  # one cell
    assert error.mean(0).abs().max() < 0.5  # no bias; cells' corners would be off by 2 pixels
    corner = to_input(t.cell_M2.float()) - truth
    assert corner.mean(0).max() < -1.5


def test_mean_and_local_coordinates_by_hand():
    """Two cells of one person with two joints: 1 cell apart in what they say of joint 0."""
    cell = torch.tensor([[2, 2], [5, 5], [5, 4]])
    vector = torch.tensor([[[2.5, 2.5], [5.5, 5.5]], [[3.5, 2.5], [5.5, 5.1]], [[3.5, 2.5], [5.5, 4.9]]])
    p = torch.tensor([0.9, 0.8, 0.4])
    mean = group(cell, p, vector, Decode())
    assert mean.n == 1 and mean.extra is not None and mean.extra["cells_N"].tolist() == [3]
    wanted = torch.tensor([[9.5 / 3, 2.5], [5.5, 15.5 / 3]])
    torch.testing.assert_close(to_map(mean.joint_NK3[0, :, :2]), wanted)
    assert mean.joint_NK3[0, :, 2].tolist() == pytest.approx([0.9, 0.8])
    assert mean.score_N.item() == pytest.approx(0.85)
    local = group(cell, p, vector, Decode(coord="local"))
    wanted = torch.tensor([[2.5, 2.5], [5.5, (0.8 * 5.1 + 0.4 * 4.9) / 1.2]])
    torch.testing.assert_close(to_map(local.joint_NK3[0, :, :2]), wanted)


def test_local_falls_back_to_the_mean():
    vector = torch.tensor([[[2.5, 2.5], [7.0, 7.0]], [[2.7, 2.5], [8.0, 7.0]]])
    found = group(torch.tensor([[2, 2], [2, 2]]), torch.tensor([0.9, 0.9]), vector, Decode(coord="local"))
    torch.testing.assert_close(to_map(found.joint_NK3[0, 1, :2]), torch.tensor([7.5, 7.0]))
    assert found.joint_NK3[0, 1, 2] == 0


def test_distance_is_a_root_mean_square_over_joints():
    """All 17 joints 2.9 cells off: raw distance 12.0, one person at T = 3; 3.1: two."""
    a = person(60, 20, 150)[:, :2] / 4
    for step, people in ((2.9, 1), (3.1, 2)):
        vector = torch.stack([a, a + torch.tensor([step, 0.0])])
        found = group(torch.zeros(2, 2, dtype=torch.int64), torch.tensor([0.9, 0.8]), vector, Decode())
        assert found.n == people


def test_active_cells():
    """Threshold included, best first, at most `top`, never on padding."""
    batch = batch_of([], [], side=16)
    batch = replace(
        batch, valid_size_B2=torch.tensor([[16, 16], [6, 16]]), valid_origin_B2=torch.tensor([[0, 0], [5, 0]])
    )
    presence = torch.zeros(2, 4, 4)
    presence[0, 1, 2], presence[0, 3, 3], presence[0, 0, 0] = 0.8, 0.95, 0.79
    presence[1, 2, :] = 0.9
    owner, cell, score = active_cells(presence, batch, Decode())
    assert owner.tolist() == [0, 0, 1, 1]
    assert cell.tolist() == [[3, 3], [2, 1], [1, 2], [2, 2]]  # pixels 5 to 10 are in columns 1 and 2
    assert score.tolist() == pytest.approx([0.95, 0.8, 0.9, 0.9])
    owner, _, score = active_cells(presence, batch, Decode(top=1))
    assert owner.tolist() == [0, 1] and score.tolist() == pytest.approx([0.95, 0.9])
    assert covered(replace(batch, valid_origin_B2=None), (4, 4))[1].sum() == 8


def test_mirrored_vectors_twice_are_no_change():
    generator = torch.Generator().manual_seed(0)
    v = torch.rand(5, 17, 2, generator=generator) * 64
    once = mirrored_vectors(v, 64, COCO17.flip_index)
    left, right = COCO17.index("left_wrist"), COCO17.index("right_wrist")
    torch.testing.assert_close(once[:, left, 0], 64 - v[:, right, 0])
    torch.testing.assert_close(mirrored_vectors(once, 64, COCO17.flip_index), v)


def test_mirrored_people_have_mirrored_targets():
    """The plain mirror of the picture, x to 255 - x, mirrors cells and vectors exactly."""
    a = person(20.3, 30.1, 200.7)
    b = a[list(COCO17.flip_index)] * torch.tensor([-1.0, 1, 1]) + torch.tensor([255.0, 0, 0])
    t, u = (encode(batch_of([p]), config().loss) for p in (a, b))
    assert torch.equal(u.presence_BHW, t.presence_BHW.flip(-1))
    back = mirrored_vectors(u.vector_MK2, 64, COCO17.flip_index)
    torch.testing.assert_close(back[0], t.vector_MK2[0], atol=1e-4, rtol=0)


def test_a_batch_is_split_by_image():
    a, b = person(20, 30, 180), person(120, 60, 100)
    t = encode(batch_of([a], [], [b]), config().loss)
    active = Active(t.owner_M, t.cell_M2, torch.ones(len(t.owner_M)), t.vector_MK2, 4)
    assert [p.n for p in decode(active, Decode())] == [1, 0, 1, 0]


def test_grouping_400_cells_takes_under_2_ms(best_ms):
    """Everything after the network for one image."""
    people = [person(5 + 24 * i, 10 + 60 * (i % 3), 100) for i in range(10)]
    t = encode(batch_of(people), config().loss)
    generator = torch.Generator().manual_seed(0)
    pick = torch.randint(len(t.owner_M), (400,), generator=generator)
    vector = t.vector_MK2[pick] + 0.5 * torch.randn(400, 17, 2, generator=generator)
    score = (0.8 + 0.2 * torch.rand(400, generator=generator)).sort(descending=True).values
    active = Active(torch.zeros(400, dtype=torch.int64), t.cell_M2[pick], score, vector, 1)
    assert decode(active, Decode())[0].n == 10
    assert best_ms(lambda: decode(active, Decode())) < 2
