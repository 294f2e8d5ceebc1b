"""DEKR's rescoring network: features by hand, training, its file, the scores of a test."""

import pytest
import torch
from drawn_batch import FIVE, drawn_batch

from repose import papers
from repose.config import Layer, SkeletonBlock, load
from repose.errors import UserError
from repose.ops.oks import oks
from repose.papers.baselines.dekr.module import DEKRModule
from repose.papers.baselines.dekr.rescore import RescoreNet, collect, fit, pose_features, read, save
from repose.skeleton import COCO17, CROWDPOSE14

SKELETON = SkeletonBlock(**FIVE).build()


def module(**decode) -> DEKRModule:
    row = [Layer("test", {"skeleton": FIVE, "decode": decode})]
    torch.manual_seed(0)
    cfg = load("baselines/dekr", ["scale=smoke"], find_paper=papers.get, row=row).cfg
    made = DEKRModule(cfg, SKELETON)
    made.net.heat[-1].bias.data.fill_(0.5)  # an untrained network that finds people everywhere
    torch.nn.init.normal_(made.net.heat[-1].weight, std=0.05)
    torch.nn.init.uniform_(made.net.offset.bias, -8, 8)
    return made.eval()


def test_features_by_hand():
    """The five-joint skeleton has no torso: its mean limb is the unit."""
    pose = torch.tensor([[[0.0, 0, 0.1], [6, 10, 0.2], [-6, 10, 0.3], [0, 8, 0.4], [0, 20, 0.5]]])
    # limbs: top-middle (0, -8), middle-bottom (0, -12), sides (6, 2) and (-6, 2)
    side = 40**0.5
    unit = (8 + 12 + 2 * side) / 4
    vectors = [0, -8, 0, -12, 6, 2, -6, 2]
    expected = [v / unit for v in vectors] + [v / unit for v in (8, 12, side, side)] + [0.1, 0.2, 0.3, 0.4, 0.5]
    torch.testing.assert_close(pose_features(pose, SKELETON), torch.tensor([expected]))


@pytest.mark.parametrize("skeleton", [COCO17, CROWDPOSE14])
def test_torso_is_the_unit(skeleton):
    pose = torch.rand(3, skeleton.k, 3, generator=torch.Generator().manual_seed(0)) * 100
    features = pose_features(pose, skeleton)
    limbs = len(skeleton.limbs)
    assert features.shape == (3, 3 * limbs + skeleton.k)
    sides = [
        (pose[:, skeleton.index(f"{s}_shoulder"), :2] - pose[:, skeleton.index(f"{s}_hip"), :2]).norm(dim=-1)
        for s in ("left", "right")
    ]
    arm = pose[:, skeleton.index("left_shoulder"), :2] - pose[:, skeleton.index("left_elbow"), :2]
    torch.testing.assert_close(features[:, 2 * limbs], arm.norm(dim=-1) / ((sides[0] + sides[1]) / 2))
    bigger = torch.cat([pose[..., :2] * 7 + 30, pose[..., 2:]], -1)
    torch.testing.assert_close(pose_features(bigger, skeleton), features, atol=1e-4, rtol=1e-4)
    flat = torch.zeros(1, skeleton.k, 3)
    assert (pose_features(flat, skeleton) == 0).all()


def test_fit_learns_and_repeats_itself():
    feature = torch.rand(2000, 6, generator=torch.Generator().manual_seed(0))
    truth = (feature[:, 0] * feature[:, 1]).sqrt()
    net = fit(feature[:1500], truth[:1500], epochs=60, batch=100)
    with torch.no_grad():
        error = (net(feature[1500:]) - truth[1500:]).square().mean()
    assert error < 0.05 * truth.var()
    again = fit(feature[:1500], truth[:1500], epochs=60, batch=100)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))


@torch.no_grad()
def test_collect_pairs_poses_with_their_best_oks():
    m = module()
    batch = drawn_batch(SKELETON, 2, (96, 96), people_per_image=2)
    feature, value = collect(m, [[batch]])
    poses = m.evaluate([batch]).poses
    assert len(feature) == len(value) == sum(p.n for p in poses) > 0
    first = poses[0].joint_NK3
    truth, area = batch.people.joint_NK3[:2], batch.people.area_N[:2]
    expected = torch.stack(
        [oks(first[i : i + 1, :, :2], truth, area, SKELETON.sigmas).max() for i in range(len(first))]
    )
    torch.testing.assert_close(value[: len(first)], expected.float())
    torch.testing.assert_close(feature[: len(first)], pose_features(first, SKELETON))
    assert value.max() > value.min()


@torch.no_grad()
def test_predicted_oks_multiplies_the_score(tmp_path):
    net = RescoreNet(3 * len(SKELETON.limbs) + SKELETON.k)
    save(net, tmp_path / "net.pt")
    batch = drawn_batch(SKELETON, 2, (96, 96), people_per_image=2)
    plain = module().evaluate([batch]).poses
    m = module(rescore=str(tmp_path / "net.pt"))
    scored = m.evaluate([batch]).poses
    for a, b in zip(plain, scored, strict=True):
        assert a.n and torch.equal(a.joint_NK3, b.joint_NK3)
        torch.testing.assert_close(b.score_N, a.score_N * net(pose_features(a.joint_NK3, SKELETON)))
    # its weights are no part of the network's
    assert m.state_dict().keys() == module().state_dict().keys()


def test_bad_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"decode.rescore=nothing.pt: no such file"):
        read("nothing.pt", SKELETON)
    save(RescoreNet(12), tmp_path / "other.pt")
    with pytest.raises(UserError, match=r"other.pt: not the weights of a rescoring network for five"):
        read(str(tmp_path / "other.pt"), SKELETON)
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(UserError, match=r"text.pt: not the weights"):
        read(str(tmp_path / "text.pt"), SKELETON)
