"""Sparse offset targets."""

from __future__ import annotations

import pytest
import torch

from repose.ops.offsets import offset_cells, offset_loss, top_per_group


def cells(centre, area, joint, counts=None, owner=None, part=None, size_hw=(128, 128), radius=2):
    centre = torch.tensor(centre)
    n, joint = len(centre), torch.tensor(joint)
    zeros = torch.zeros(n, dtype=torch.int64)
    return offset_cells(
        zeros if owner is None else torch.tensor(owner),
        zeros if part is None else torch.tensor(part),
        centre,
        torch.tensor(area),
        joint,
        torch.ones(joint.shape[:2], dtype=torch.bool) if counts is None else torch.tensor(counts),
        size_hw,
        radius,
        sigma=2.0,
    )


def test_window_targets_and_weights():
    """Acceptance 4 of PINet's specification."""
    found = cells([[10.7, 20.2]], [400.0], [[[12.0, 19.0], [130.0, 19.0]]], [[True, False]])
    assert len(found.cell_M2) == 16
    assert sorted(set(found.cell_M2[:, 0].tolist())) == [8, 9, 10, 11]
    assert sorted(set(found.cell_M2[:, 1].tolist())) == [18, 19, 20, 21]
    assert found.weight_MD[:, :2].unique().tolist() == pytest.approx([1 / 20])
    assert not found.weight_MD[:, 2:].any()
    at = (found.cell_M2 == torch.tensor([9, 21])).all(-1).nonzero().item()
    assert found.target_MD[at].tolist() == [-3.0, 2.0, 0.0, 0.0]  # cell minus joint
    assert found.gauss_M[at].item() == pytest.approx(2.718281828 ** (-(1.7**2 + 0.8**2) / 8), rel=1e-4)


def test_windows_are_cut_at_the_border():
    found = cells([[0.4, 5.9]], [400.0], [[[0.0, 0.0]]], size_hw=(7, 9))
    assert found.cell_M2.tolist() == [[0, 3], [1, 3], [0, 4], [1, 4], [0, 5], [1, 5], [0, 6], [1, 6]]


def test_the_smaller_area_owns_a_contested_cell_for_all_joints():
    joint = [[[0.0, 0.0], [1.0, 1.0]], [[50.0, 50.0], [51.0, 51.0]]]
    found = cells([[10.0, 10.0], [12.0, 10.0]], [900.0, 100.0], joint, [[True, True], [True, False]])
    assert len(found.cell_M2) == 4 * 6  # x 8..11 and 10..13 share two columns
    shared = (found.cell_M2[:, 0] == 10) | (found.cell_M2[:, 0] == 11)
    assert shared.sum() == 8 and (found.centre_M[shared] == 1).all()
    assert not found.weight_MD[shared, 2:].any(), "the larger person's joint must not fill the smaller one's gap"
    assert found.weight_MD[shared, 0].unique().tolist() == pytest.approx([0.1])


def test_parts_and_images_do_not_contest():
    found = cells([[10.0, 10.0]] * 3, [9.0] * 3, [[[0.0, 0.0]]] * 3, owner=[0, 0, 1], part=[0, 1, 0])
    assert len(found.cell_M2) == 48
    assert found.owner_M.tolist() == [0] * 32 + [1] * 16
    assert found.part_M.tolist() == [0] * 16 + [1] * 16 + [0] * 16


def test_nobody():
    found = offset_cells(
        *(torch.zeros(0, dtype=torch.int64),) * 2,
        torch.zeros(0, 2),
        torch.zeros(0),
        torch.zeros(0, 3, 2),
        torch.zeros(0, 3, dtype=torch.bool),
        (8, 8),
        2,
        2.0,
    )
    assert found.cell_M2.shape == (0, 2) and found.target_MD.shape == (0, 6)
    pred = torch.zeros(0, 6, requires_grad=True)
    assert offset_loss(pred, found.target_MD, found.weight_MD, 1 / 9).item() == 0


def test_loss_by_hand():
    pred = torch.tensor([[0.1, 2.0], [5.0, 1.0]])
    weight = torch.tensor([[0.5, 0.25], [0.0, 1.0]])
    beta = 1 / 9
    small = 0.5 * 0.1**2 / beta
    expected = (0.5 * small + 0.25 * (2 - beta / 2) + (1 - beta / 2)) / 3
    assert offset_loss(pred, torch.zeros(2, 2), weight, beta).item() == pytest.approx(expected, rel=1e-6)


def test_top_per_group():
    group = torch.tensor([2, 0, 2, 2, 0, 5])
    value = torch.tensor([1.0, 3.0, 2.0, 2.0, 4.0, 0.0])
    assert top_per_group(group, value, 2).tolist() == [4, 1, 2, 3, 5]
    assert top_per_group(group[:0], value[:0], 2).tolist() == []
