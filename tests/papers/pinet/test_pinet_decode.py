"""PINet's decoder: peaks, poses, flip, scales, scores, PF; oracle decode on real annotations."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import torch
from drawn_batch import drawn_batch
from oracle import decode_oracle, perfect_maps, read_crowdpose

from repose.config import load
from repose.data.views import ImageView
from repose.engine.module import to_photograph
from repose.geometry import mirror
from repose.metrics.keypoint_ap import KeypointAP
from repose.papers import get
from repose.papers.pinet.config import Decode, Experiment, Model
from repose.papers.pinet.decode import Candidates, Scale, Swap, averaged, candidates, decode, joint_scores
from repose.papers.pinet.model import Maps
from repose.papers.pinet.module import PINetModule
from repose.papers.pinet.parts import partition
from repose.skeleton import COCO17, CROWDPOSE14

LARGE = partition(Model(), COCO17)
SWAP = Swap(list(COCO17.flip_index), list(LARGE.flip_index))


@pytest.fixture(scope="module")
def batch():
    return drawn_batch(COCO17, 2, (128, 192), 2, seed=3)


def mirrored_maps(maps: Maps, swap: Swap) -> Maps:
    """What the network would give for the mirrored picture: joint (x, y) is at (w - 1 - x, y), sides trade places."""
    b, parts, d, height, width = maps.offset_BPDHW.shape
    offset = maps.offset_BPDHW.view(b, parts, d // 2, 2, height, width).flip(-1)[:, swap.parts][:, :, swap.joints]
    offset = offset * torch.tensor([-1.0, 1.0])[:, None, None]
    return Maps(
        maps.feature_BCHW.flip(-1),
        maps.heat_BKHW.flip(-1)[:, swap.joints],
        maps.part_BPHW.flip(-1)[:, swap.parts],
        offset.reshape(b, parts, d, height, width),
    )


def joints_of(batch):
    return batch.people.joint_NK3[..., :2]


def test_perfect_maps_give_the_people_back(batch):
    found = candidates([Scale(perfect_maps(batch, LARGE, 17), None, batch)], None, SWAP, Decode())
    people = decode(found, COCO17.sigmas, Decode())
    assert found.refined == 0 and len(people) == 2
    for image, pose in enumerate(people):
        truth = joints_of(batch)[batch.people.owner_N == image]
        assert pose.n == 2
        order = (pose.joint_NK3[:, None, :, :2] - truth[None]).norm(dim=-1).mean(-1).argmin(1)
        assert sorted(order.tolist()) == [0, 1]
        torch.testing.assert_close(pose.joint_NK3[..., :2], truth[order], atol=1e-3, rtol=0)
        assert (pose.score_N[:-1] >= pose.score_N[1:]).all() and pose.score_N.min() > 0.8
        assert pose.extra["part_N"].max() < 3 and pose.extra["centre_NK2"].shape == (2, 1, 2)


@pytest.mark.parametrize("strategy", ["part_large", "part_small", "keypoint"])
def test_the_flip_test_agrees_with_itself(batch, strategy):
    """A mirrored view that is the exact mirror image changes nothing, asymmetric parts included."""
    parts = partition(Model(partition=strategy), COCO17)
    swap = Swap(list(COCO17.flip_index), list(parts.flip_index))
    maps = perfect_maps(batch, parts, 17)
    alone = candidates([Scale(maps, None, batch)], None, swap, Decode())
    both = candidates([Scale(maps, mirrored_maps(maps, swap), batch)], None, swap, Decode())
    assert len(alone.owner_N) >= 4 * parts.p - 2
    torch.testing.assert_close(both.joint_NK3, alone.joint_NK3, atol=1e-3, rtol=1e-4)
    if strategy != "part_large":
        wrong = Swap(swap.joints, list(range(parts.p)))
        part = averaged(Scale(maps, mirrored_maps(maps, swap), batch), wrong)[1]
        assert not torch.allclose(part, maps.part_BPHW, atol=0.1), "the parts' permutation matters"


def test_views_are_averaged(batch):
    """Offsets of the mirrored view 2 cells further left and 1 further down: the mean is 1 left, half a cell down."""
    maps = perfect_maps(batch, LARGE, 17)
    other = mirrored_maps(maps, SWAP)
    moved = other.offset_BPDHW.unflatten(2, (17, 2)) - torch.tensor([2.0, 1.0])[:, None, None]
    other = other._replace(offset_BPDHW=moved.flatten(2, 3))
    alone = candidates([Scale(maps, None, batch)], None, SWAP, Decode())
    both = candidates([Scale(maps, other, batch)], None, SWAP, Decode())
    shift = (both.joint_NK3 - alone.joint_NK3)[..., :2].flatten(0, 1)
    torch.testing.assert_close(shift, torch.tensor([[-4.0, 2.0]]).expand_as(shift), atol=1e-3, rtol=0)


def network(seed: int = 0, *settings: str) -> PINetModule:
    """An untrained network whose outputs vary and peaks abound."""
    torch.manual_seed(seed)
    m = PINetModule(load("pinet/ochuman", ["scale=smoke", *settings], find_paper=get).cfg, COCO17)
    for conv, std in ((m.net.ppg.heat, 0.1), (m.net.ppg.part, 0.1), (m.net.ppg.offset, 0.3)):
        torch.nn.init.normal_(conv.weight, std=std)
    return m.eval()


@torch.no_grad()
def test_a_mirrored_image_gives_mirrored_people(batch):
    """Acceptance 3, through the whole network: with the flip test both see the same two views."""
    m = network(0, "model.partition=part_small")
    wide = batch.image_B3HW.clone()
    wide[..., :3], wide[..., -3:] = wide[..., 3:4], wide[..., -4:-3]  # columns that `mirror` pushes out and repeats
    plain, turned = replace(batch, image_B3HW=wide), replace(batch, image_B3HW=mirror(wide, 4))
    a, b = (m.infer(m.views([view])) for view in (plain, turned))
    assert len(a.owner_N) > 20
    back = torch.cat([188 - b.joint_NK3[..., :1], b.joint_NK3[..., 1:]], -1)[:, SWAP.joints]
    # the same candidates in another order
    for image in range(2):
        mine, theirs = a.joint_NK3[a.owner_N == image], back[b.owner_N == image]
        assert len(mine) == len(theirs)
        nearest = (mine[:, None, :, :2] - theirs[None, ..., :2]).norm(dim=-1).mean(-1).min(1)
        assert nearest.values.max() < 0.05
        # the canvas ends at -0.5 and 191.5, which is not symmetric about the mirror's axis, 94
        inside = (mine[..., 0] > 1) & (mine[..., 0] < 187)
        assert inside.float().mean() > 0.8
        torch.testing.assert_close(theirs[nearest.indices][inside][:, 2], mine[inside][:, 2], atol=1e-3, rtol=1e-2)


@torch.no_grad()
def test_refined_poses_and_read_outs(batch):
    m = network()
    e = m.evaluate([batch])
    found = m.infer(m.views([batch]))
    assert found.refined == 2 * len(found.owner_N) > 0
    assert (found.joint_NK3[..., :2] - found.initial_NK2).abs().max() > 0.1
    total, images = e.sums["refine_gmacs"]
    assert images == 2 and total.item() == pytest.approx(found.refined * m.net.pr.macs_per_pose / 1e9)
    assert e.sums["candidates"][0] == len(found.owner_N)
    assert e.sums["people"][0] == sum(p.n for p in e.poses)
    plain = network(0, "model.refine.enabled=false")
    assert "refine_gmacs" not in plain.evaluate([batch]).sums and plain.net.pr is None


def test_candidates_are_capped_per_part(batch):
    maps = perfect_maps(batch, LARGE, 17)
    found = candidates([Scale(maps, None, batch)], None, SWAP, Decode(candidates=1))
    assert torch.bincount(found.owner_N * 3 + found.part_N).tolist() == [1] * 6
    assert len(candidates([Scale(maps, None, batch)], None, SWAP, Decode(threshold=2.0)).owner_N) == 0


# --- scales and scores ------------------------------------------------------------------------------------------------


def at_scale(batch, t: int):
    """The batch warped t times as large: pixel p lies at t p."""
    people = replace(
        batch.people, joint_NK3=batch.people.joint_NK3 * torch.tensor([t, t, 1.0]), box_N4=batch.people.box_N4 * t
    )
    matrix = batch.to_image_B23.clone()
    matrix[:, :, :2] /= t
    height, width = batch.image_B3HW.shape[-2:]
    image = torch.zeros(1, dtype=torch.uint8).expand(batch.b, 3, t * height, t * width)
    return replace(batch, image_B3HW=image, people=people, to_image_B23=matrix)


def test_scales_meet_in_the_first_ones_frame(batch):
    large = at_scale(batch, 2)
    first, second = perfect_maps(batch, LARGE, 17), perfect_maps(large, LARGE, 17)
    second = second._replace(part_BPHW=second.part_BPHW * 0.5)
    found = candidates([Scale(first, None, batch), Scale(second, None, large)], None, SWAP, Decode(decrease=0.9))
    n = len(found.owner_N) // 2
    truth = joints_of(batch)
    for i in range(2 * n):
        mine = truth[batch.people.owner_N == found.owner_N[i]]
        assert (found.joint_NK3[i, :, :2] - mine).norm(dim=-1).mean(-1).min() < 1e-2
    # r_p of scale 2: halved, then levelled to scale 1's highest, times 0.9
    one = candidates([Scale(first, None, batch)], None, SWAP, Decode())
    heat = joint_scores(one.joint_NK3[..., :2], one.owner_N, [first.heat_BKHW], [Scale(first, None, batch)])
    r_p = (one.joint_NK3[..., 2] / heat).mean(1)
    other = candidates([Scale(second, None, large)], None, SWAP, Decode())
    heat2 = joint_scores(other.joint_NK3[..., :2], other.owner_N, [second.heat_BKHW], [Scale(second, None, large)])
    r_p2 = (other.joint_NK3[..., 2] / heat2).mean(1)
    both = joint_scores(
        found.joint_NK3[..., :2],
        found.owner_N,
        [first.heat_BKHW, second.heat_BKHW],
        [Scale(first, None, batch), Scale(second, None, large)],
    )
    levelled = (found.joint_NK3[..., 2] / both).mean(1)
    torch.testing.assert_close(levelled[:n], r_p, atol=1e-4, rtol=1e-3)
    for image in range(2):
        mine = other.owner_N == image
        want = r_p2[mine] / r_p2[mine].max() * r_p[one.owner_N == image].max() * 0.9
        torch.testing.assert_close(levelled[n:][mine], want, atol=1e-4, rtol=1e-3)
    assert len(decode(found, COCO17.sigmas, Decode())[0].score_N) == 2, "both scales' poses are one person's"


def test_joint_scores_read_own_channels_and_end_at_the_canvas(batch):
    heat = torch.zeros(2, 17, 32, 48)
    heat[0, 4, 10, 20], heat[0, 5] = 0.8, 0.3
    maps = Maps(heat[:, :1], heat, heat[:, :3], torch.zeros(2, 3, 34, 32, 48))
    pose = torch.zeros(1, 17, 2)
    pose[0, 4] = torch.tensor([82.0, 40.0])  # half a cell to the right
    pose[0, 5] = torch.tensor([191.0, 40.0])  # x = W' - 1 is outside
    pose[0, 6] = torch.tensor([80.0, 40.0])
    found = joint_scores(pose, torch.tensor([0]), [heat], [Scale(maps, None, batch)])
    assert found[0, 4].item() == pytest.approx(0.4) and found[0, 5] == 0 and found[0, 6] == 0
    pose[0, 5, 0] = 190.9  # beyond the last cell (188), inside the canvas: the border's value
    assert joint_scores(pose, torch.tensor([0]), [heat], [Scale(maps, None, batch)])[0, 5].item() == pytest.approx(0.3)


# --- PF ---------------------------------------------------------------------------------------------------------------


def two_poses(shift: float = 1.0) -> Candidates:
    """Two candidates of one person, good at different joints, and one far away in another image."""
    base = torch.rand(17, 2, generator=torch.Generator().manual_seed(0)) * 100
    score = torch.linspace(0.1, 0.9, 17)
    joints = [
        torch.cat([base, score[:, None]], -1),
        torch.cat([base + shift, score.flip(0)[:, None] - 0.05], -1),
        torch.cat([base, score[:, None]], -1),
    ]
    joint = torch.stack(joints)
    owner = torch.tensor([0, 0, 1])
    return Candidates(owner, torch.tensor([0, 2, 1]), joint, joint[..., :2], torch.zeros(3, 2), 0, 2)


def test_fusion_takes_each_joint_from_its_best_candidate():
    """Acceptance 8."""
    found = two_poses()
    fused = decode(found, COCO17.sigmas, Decode())
    assert [p.n for p in fused] == [1, 1]
    a, b = found.joint_NK3[0], found.joint_NK3[1]
    want = torch.where((b[:, 2] > a[:, 2])[:, None], b, a)
    torch.testing.assert_close(fused[0].joint_NK3[0], want)
    assert fused[0].score_N.item() == pytest.approx(want[:, 2].mean().item())
    plain = decode(found, COCO17.sigmas, Decode(fuse=False))
    torch.testing.assert_close(plain[0].joint_NK3[0], a)
    assert plain[0].score_N.item() == pytest.approx(a[:, 2].mean().item())
    assert plain[0].extra["part_N"].tolist() == [0]
    assert [p.n for p in decode(found, COCO17.sigmas, Decode(oks=0.999))] == [2, 1]


# --- resize (acceptance 5) --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "canvas", "scale", "shift"),
    [
        ((640, 480), (704, 512), 512 / 480, (10.667, 0)),
        ((480, 640), (512, 704), 512 / 480, (0, 10.667)),
        ((1000, 667), (768, 512), 512 / 667, (0.192, -0.384)),
        ((333, 1000), (512, 1600), 512 / 333, None),
    ],
)
def test_resize_of_the_specification(image, canvas, scale, shift):
    crop, found = ImageView(Experiment().data).plain(image)
    affine = crop.affine(found.wh)
    assert found.wh == canvas
    assert affine.scale == pytest.approx(scale, rel=1e-5)
    if shift is not None:
        assert affine.matrix_23[:, 2].tolist() == pytest.approx(shift, abs=1e-3)


# --- oracle decode (acceptance 6) -------------------------------------------------------------------------------------


def oracle_ap(gt, strategy, noise):
    """AP with PF off and on, per cent."""
    cfgs = [Decode(fuse=False), Decode(fuse=True)]
    found = []
    for ids, poses, batches in decode_oracle(gt, CROWDPOSE14, strategy, cfgs, noise):
        metric = KeypointAP(CROWDPOSE14, gt, oks_nms=None)
        for image, pose, batch in zip(ids, poses, batches, strict=True):
            metric.update(torch.tensor([image]), torch.tensor([-1]), to_photograph([pose], batch), torch.ones(1))
        found.append(100 * metric.compute()["AP"])
    return found


@pytest.fixture(scope="module")
def crowdpose_file(shared_data):
    file = shared_data / "crowdpose_val.json"
    if not file.is_file():
        pytest.skip("crowdpose_val.json is not in the shared data")
    return file


@pytest.mark.parametrize(
    ("strategy", "noise", "plain", "fused"),
    [("part_large", 0.0, 98.0, 98.0), ("part_large", 0.08, 82.2, 96.1), ("center", 0.08, 85.7, 85.7)],
)
def test_oracle_decode_of_200_images(crowdpose_file, strategy, noise, plain, fused):
    """Every tenth image; what it gives is pinned, the specification's numbers are of the whole file."""
    assert oracle_ap(read_crowdpose(crowdpose_file, 200), strategy, noise) == pytest.approx([plain, fused], abs=0.15)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "noise", "plain", "fused"),
    [
        ("center", 0.0, 99.0, 99.0),
        ("head", 0.0, 90.1, 90.1),
        ("part_large", 0.0, 98.0, 98.0),
        ("part_small", 0.0, 99.0, 99.0),
        ("keypoint", 0.0, 99.0, 99.0),
        ("center", 0.08, 86.0, 86.0),
        ("part_large", 0.08, 82.6, 96.1),
        ("part_small", 0.08, 85.8, 98.3),
    ],
)
def test_oracle_decode_of_the_specification(crowdpose_file, strategy, noise, plain, fused):
    """Acceptance 6: 2,000 images. Fusion helps only where candidates start from different parts."""
    assert oracle_ap(read_crowdpose(crowdpose_file), strategy, noise) == pytest.approx([plain, fused], abs=0.3)


# --- speed ------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_thirty_people_are_decoded_within_15_ms_of_a_core():
    """512x512, three parts of 30 people; the network, PR included, is not part of it. Best of some, on one thread."""
    crowd = drawn_batch(COCO17, 1, (512, 512), 30, seed=1)
    maps = perfect_maps(crowd, LARGE, 17, noise=0.08)
    best = float("inf")
    for _ in range(40):  # a neighbour's use of the caches is in this thread's time too
        start = time.thread_time()
        found = candidates([Scale(maps, maps, crowd)], None, SWAP, Decode())
        people = decode(found, COCO17.sigmas, Decode())
        best = min(best, time.thread_time() - start)
    assert len(found.owner_N) > 60 and people[0].n >= 20
    assert best < 0.015
