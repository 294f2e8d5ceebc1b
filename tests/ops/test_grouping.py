"""Clusters of poses and their fusion (PINet's specification, acceptance 8)."""

from __future__ import annotations

import math

import pytest
import torch

from repose.ops.grouping import extent_area, greedy_groups, group_poses
from repose.ops.oks import pose_oks

SIGMAS = (0.1, 0.1, 0.1)
BASE = torch.tensor([[0.0, 0.0], [100.0, 0.0], [0.0, 100.0]])  # extent 100 x 100


def pose(shift: float, scores: tuple[float, float, float]) -> torch.Tensor:
    return torch.cat([BASE + torch.tensor([shift, 0.0]), torch.tensor(scores)[:, None]], -1)


def test_two_poses_of_one_person_are_fused_joint_by_joint():
    a, b, c = pose(0.0, (0.9, 0.2, 0.5)), pose(2.0, (0.3, 0.7, 0.5)), pose(500.0, (0.1, 0.1, 0.1))
    found = group_poses(torch.stack([c, b, a]), SIGMAS, 0.7)
    assert found.kept_G.tolist() == [2, 0]
    assert found.group_N.tolist() == [1, 0, 0]
    # joint 2 ties: the better pose keeps it
    torch.testing.assert_close(found.joint_GK3[0], torch.stack([a[0], b[1], a[2]]))
    assert found.score_G.tolist() == pytest.approx([(0.9 + 0.7 + 0.5) / 3, 0.1])


def test_without_fusion_it_is_nms():
    a, b = pose(0.0, (0.9, 0.2, 0.5)), pose(2.0, (0.3, 0.7, 0.5))
    found = group_poses(torch.stack([b, a]), SIGMAS, 0.7, fuse=False)
    torch.testing.assert_close(found.joint_GK3, a[None])
    assert found.score_G.tolist() == pytest.approx([1.6 / 3])


def test_an_oks_of_exactly_the_threshold_does_not_group():
    shift = 10.0
    pair = torch.stack([pose(0.0, (0.9, 0.9, 0.9)), pose(shift, (0.5, 0.5, 0.5))])
    exact = pose_oks(pair[..., :2], extent_area(pair[..., :2]), SIGMAS)[0, 1].item()
    assert exact == pytest.approx(math.exp(-(shift**2) / (20000 * 0.04)), rel=1e-12)  # (S + S) (2 sigma)^2
    assert len(group_poses(pair, SIGMAS, exact).score_G) == 2
    assert len(group_poses(pair, SIGMAS, math.nextafter(exact, 0)).score_G) == 1


def test_the_walk_is_greedy_not_transitive():
    # 0 - 1 and 1 - 2 are close, 0 - 2 is not: 1 goes to 0, and 2 then stands alone
    close = torch.tensor([[1, 1, 0], [1, 1, 1], [0, 1, 1]], dtype=torch.bool)
    assert greedy_groups(close).tolist() == [0, 0, 2]


def test_against_a_plain_loop():
    generator = torch.Generator().manual_seed(0)
    people = torch.randn(6, 1, 3, 2, generator=generator) * 60
    joint = (people + torch.randn(6, 9, 3, 2, generator=generator) * 6).view(54, 3, 2)
    joint = torch.cat([joint, torch.rand(54, 3, 1, generator=generator)], -1)
    found = group_poses(joint, SIGMAS, 0.7)

    left = sorted(range(54), key=lambda i: -joint[i, :, 2].mean().item())
    area = extent_area(joint[..., :2]).double()
    results = []
    while left:
        i, rest = left[0], left[1:]
        fused, members, left = joint[i].clone(), [], []
        for j in rest:
            d2 = (joint[i, :, :2] - joint[j, :, :2]).double().square().sum(-1)
            oks = torch.exp(-d2 / ((area[i] + area[j]) * 0.04)).mean()
            (members if oks > 0.7 else left).append(j)
        for j in members:
            better = joint[j, :, 2] > fused[:, 2]
            fused[better] = joint[j][better]
        results.append(fused)
    assert len(results) < 54
    torch.testing.assert_close(found.joint_GK3, torch.stack(results))


def test_nobody_and_poses_of_no_extent():
    assert group_poses(torch.zeros(0, 3, 3), SIGMAS, 0.7).joint_GK3.shape == (0, 3, 3)
    twice = torch.zeros(2, 3, 3)
    twice[..., 2] = 0.5
    assert len(group_poses(twice, SIGMAS, 0.7).score_G) == 1  # the same point twice is one pose
