"""Presence, owners and vectors by hand; the cell-centre convention."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from idgroup_kit import batch_of, person

from repose.geometry import mirror
from repose.papers.idgroup.config import Loss
from repose.papers.idgroup.targets import encode, keypoint_cells, to_input, to_map


def cells(points: list[list[list[float]]], radius: float, size: int = 8):
    """Keypoint cells of one image's people, as {(x, y): (person, joint)}."""
    joint = torch.tensor(points)
    labelled = torch.ones(joint.shape[:2], dtype=torch.bool)
    _, cell, who, which = keypoint_cells(
        joint, labelled, torch.zeros(len(joint), dtype=torch.int64), (size, size), radius
    )
    return {tuple(c): (p, k) for c, p, k in zip(cell.tolist(), who.tolist(), which.tolist(), strict=True)}


def test_map_and_pixels():
    """Pixel 0 is 1/8 into the map, cell 0's centre is pixel 1.5; the plain mirror of 256 pixels is 64 - g."""
    assert to_map(torch.tensor([0.0, 1.5, 255.0])).tolist() == [0.125, 0.5, 63.875]
    x = torch.tensor([0.0, 7.25, 100.0])
    torch.testing.assert_close(to_input(to_map(x)), x)
    torch.testing.assert_close(to_map(255 - x), 64 - to_map(x))
    column = torch.arange(256.0).view(1, 1, 1, 256)
    assert torch.equal(mirror(column, 1)[0, 0, 0], 255 - torch.arange(256.0))


def test_cells_within_a_radius():
    """Around a cell's centre the radius 1 has 5 cells, around a corner 4; outside the map there are none."""
    assert set(cells([[[3.5, 3.5]]], 1.0)) == {(3, 3), (2, 3), (4, 3), (3, 2), (3, 4)}
    assert set(cells([[[3.0, 3.0]]], 1.0)) == {(2, 2), (3, 2), (2, 3), (3, 3)}
    assert set(cells([[[0.1, 7.9]]], 1.0)) == {(0, 7)}  # (1, 7) is 1.4 away, (0, 6) 1.46


def test_radius_0_is_the_cell_that_the_joint_is_in():
    assert cells([[[3.99, 3.01], [3.5, 3.4]]], 0.0) == {(3, 3): (0, 1)}  # two joints: the one nearer to its centre


def test_the_nearest_joint_owns_a_cell():
    """(4, 2) has its centre 0.8 from the first person and 0.9 from the second."""
    found = cells([[[3.7, 2.5]], [[5.4, 2.5]]], 1.0)
    assert found[4, 2] == (0, 0) and found[5, 2] == (1, 0) and found[3, 2] == (0, 0)


def test_every_cell_once_and_sorted():
    generator = torch.Generator().manual_seed(0)
    joint = torch.rand(6, 5, 2, generator=generator) * 10 - 1
    labelled = torch.rand(6, 5, generator=generator) < 0.7
    owner = torch.tensor([0, 0, 1, 1, 1, 3])
    labelled &= ((joint >= 0) & (joint < 8)).all(-1)
    o, c, who, which = keypoint_cells(joint, labelled, owner, (8, 8), 1.0)
    flat = (o * 8 + c[:, 1]) * 8 + c[:, 0]
    assert (flat[1:] > flat[:-1]).all()
    assert labelled[who, which].all() and torch.equal(owner[who], o)
    # brute force
    centre = c + 0.5
    for i in range(len(o)):
        mine = (owner == o[i])[:, None] & labelled
        distance = torch.where(mine, (joint - centre[i]).norm(dim=-1), torch.inf)
        assert distance.min() <= 1 and distance[who[i], which[i]] == distance.min()
    grid = torch.stack(torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="xy"), -1).view(-1, 2) + 0.5
    total = 0
    for b in range(4):
        mine = joint[(owner == b)[:, None] & labelled]
        total += int((torch.cdist(grid, mine) <= 1).any(1).sum()) if len(mine) else 0
    assert len(o) == total


def test_vectors_are_the_owners_joints():
    a, b = person(20, 30, 120), person(120, 60, 100)
    a[5, 2] = 0
    t = encode(batch_of([a], [b, person(10, 10, 80)]), Loss())
    assert (t.person_M[t.owner_M == 0] == 0).all() and set(t.person_M[t.owner_M == 1].tolist()) == {1, 2}
    mine = t.person_M == 0
    wanted = (a[:, :2] + 0.5) / 4
    wanted[5] = 0
    torch.testing.assert_close(t.vector_MK2[mine], wanted.expand(int(mine.sum()), 17, 2))
    assert t.weight_MK[mine].sum(0).tolist() == [float(mine.sum()) * (k != 5) for k in range(17)]
    assert not (t.joint_M[mine] == 5).any()
    assert int(t.presence_BHW.sum()) == len(t.owner_M)
    zero = encode(batch_of([a]), Loss(unlabelled="zero"))
    assert zero.weight_MK.all() and not zero.vector_MK2[:, 5].any()


def test_three_cells_per_joint():
    """Specification 3: 2 to 5 cells, pi on average where joints do not crowd."""
    generator = torch.Generator().manual_seed(0)
    joint = torch.rand(400, 1, 2, generator=generator) * 60 + 2
    one_each = torch.arange(400)
    o, _, _, _ = keypoint_cells(joint, torch.ones(400, 1, dtype=torch.bool), one_each, (64, 64), 1.0)
    count = torch.bincount(o)
    assert count.min() >= 2 and count.max() <= 5 and count.float().mean().item() == pytest.approx(torch.pi, rel=0.03)


def test_mask_leaves_out_crowds_and_people_without_joints_but_not_padding():
    region = torch.zeros(1, 1, 64, 64, dtype=torch.uint8)
    crowd, unlabelled, inside = region.clone(), region.clone(), region.clone()
    crowd[..., :20, :] = 1
    unlabelled[..., 60:, :] = 1
    batch = batch_of([person(40, 40, 150)], crowd_B1HW=crowd, unlabelled_B1HW=unlabelled, inside_B1HW=inside)
    t = encode(batch, Loss())
    hidden = (crowd | unlabelled)[:, 0].bool() & ~t.presence_BHW
    assert torch.equal(t.mask_BHW == 0, hidden)
    assert (t.presence_BHW & crowd[:, 0].bool()).any()  # a keypoint in a crowd is still taught
    plain = encode(replace(batch, crowd_B1HW=None, unlabelled_B1HW=None), Loss())
    assert plain.mask_BHW.all()


def test_nobody():
    t = encode(batch_of([], []), Loss())
    assert not t.presence_BHW.any() and t.vector_MK2.shape == (0, 17, 2) and t.mask_BHW.all()
