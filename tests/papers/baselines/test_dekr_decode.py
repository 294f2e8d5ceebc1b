"""DEKR's decode: flip and scales, scores, its own NMS and PINet's fusion."""

from dataclasses import replace

import pytest
import torch
from drawn_batch import FIVE, drawn_batch

from repose.config import SkeletonBlock
from repose.engine.module import View
from repose.geometry import mirror
from repose.papers.baselines.dekr.config import Decode, Loss
from repose.papers.baselines.dekr.decode import Level, candidates, decode, distance_nms, heat_values, infer
from repose.papers.baselines.dekr.model import Outputs
from repose.papers.baselines.dekr.targets import encode

SKELETON = SkeletonBlock(**FIVE).build()
SIGMAS, SWAP = SKELETON.sigmas, SKELETON.flip_index
SAME = torch.eye(2, 3, dtype=torch.float64)[None]


def level(heat, offset, scale=1.0, wh=(128, 128)) -> Level:
    """A scale whose input pixels are `scale` times the base's."""
    grow = torch.tensor([[[scale, 0, 0], [0, scale, 0]]], dtype=torch.float64)
    shrink = torch.tensor([[[1 / scale, 0, 0], [0, 1 / scale, 0]]], dtype=torch.float64)
    b = heat.shape[0]
    return Level(Outputs(heat, offset), scale, shrink.expand(b, 2, 3), grow.expand(b, 2, 3), wh)


def blank(h=32, w=32):
    return torch.zeros(1, 6, h, w), torch.zeros(1, 10, h, w)


def test_decode_inverts_encode():
    batch = drawn_batch(SKELETON, 3, (128, 160), people_per_image=2, seed=3)
    targets = encode(batch, Loss())
    cells = targets.cells
    offset = torch.zeros(3, 10, 32, 40)
    offset[cells.owner_M, :, cells.cell_M2[:, 1], cells.cell_M2[:, 0]] = cells.target_MD
    whole = SAME.expand(3, 2, 3)
    levels = [Level(Outputs(targets.heat_BJHW, offset), 1.0, whole, whole, (160, 128))]
    for nms in ("distance", "oks", "fusion"):
        for image, people in enumerate(decode(levels, Decode(nms=nms, same_joints=3), SIGMAS)):
            truth = batch.people.joint_NK3[batch.people.owner_N == image]
            assert people.n == 2
            error = (people.joint_NK3[:, None, :, :2] - truth[None, :, :, :2]).abs().amax((-1, -2))
            assert error.min(1).values.max() < 1e-3 and sorted(error.argmin(1).tolist()) == [0, 1]
            torch.testing.assert_close(people.score_N, people.joint_NK3[..., 2].mean(-1))
            assert people.score_N.min() > 0.7


def test_flip_averages_the_pose_of_every_cell():
    """As the release does it: poses of the mirrored view, turned back cell by cell, averaged with the plain ones."""
    g = torch.Generator().manual_seed(0)
    maps = [Outputs(torch.randn(2, 6, 8, 12, generator=g), torch.randn(2, 10, 8, 12, generator=g)) for _ in range(2)]
    answers = iter(maps)
    batch = drawn_batch(SKELETON, 2, (32, 48))
    image = torch.zeros(2, 3, 32, 48)
    views = [View(image, batch, False, 1.0), View(mirror(image, 4), batch, True, 1.0)]
    (found,) = infer(lambda _: next(answers), views, SWAP)  # type: ignore[arg-type]
    swap = list(SWAP)
    x, y = torch.meshgrid(torch.arange(12.0), torch.arange(8.0), indexing="xy")
    cell = torch.stack([x, y])
    plain, flipped = (cell - m.offset_BDHW.view(2, 5, 2, 8, 12) for m in maps)
    flipped = flipped[:, swap].clone()
    flipped[:, :, 0] = 12 - 1 - flipped[:, :, 0]
    mean = (plain + flipped.flip(-1)) / 2
    torch.testing.assert_close(cell - found.maps.offset_BDHW.view(2, 5, 2, 8, 12), mean)
    heat = (maps[0].heat_BJHW + maps[1].heat_BJHW.flip(-1)[:, [*swap, 5]]) / 2
    torch.testing.assert_close(found.maps.heat_BJHW, heat)


def test_scores_are_centre_times_heat_where_the_joint_lies():
    heat, offset = blank()
    heat[0, 5, 10, 8] = 0.5
    heat[0, 0, 12, 9], heat[0, 0, 12, 10] = 0.8, 0.4
    offset[0, 0:2, 10, 8] = torch.tensor([8 - 9.2, 10 - 12.1])  # (36.8, 48.4) px: pixel (36, 48), cell (9, 12)
    found = candidates([level(heat, offset)], Decode())
    assert found.owner_N.tolist() == [0]
    torch.testing.assert_close(found.joint_NK3[0, 0], torch.tensor([36.8, 48.4, 0.5 * 0.8]))
    torch.testing.assert_close(found.joint_NK3[0, 1], torch.tensor([32.0, 40.0, 0.0]))
    assert found.heat_N.item() == pytest.approx(0.8 / 5)
    offset[0, 0, 10, 8] = 8 - 9.6  # 38.4 px: pixel 38, half way to the next cell
    assert candidates([level(heat, offset)], Decode()).joint_NK3[0, 0, 2].item() == pytest.approx(0.5 * 0.6)
    outside = torch.tensor([[[-50.0, 48.0]] * 5])  # read at the border
    heat[0, 0, 12, 0] = 0.3
    assert heat_values([level(heat, offset)], torch.tensor([0]), outside)[0, 0].item() == pytest.approx(0.3)


def test_threshold_and_number_of_candidates():
    heat, offset = blank()
    heat[0, 5, 4, 4::4] = torch.linspace(0.005, 0.9, 7)
    assert len(candidates([level(heat, offset)], Decode()).owner_N) == 6
    assert len(candidates([level(heat, offset)], Decode(candidates=4)).owner_N) == 4
    nobody = decode([level(*blank())], Decode(), SIGMAS)
    assert nobody[0].n == 0 and nobody[0].joint_NK3.shape == (0, 5, 3)


def test_other_scales_are_levelled_and_lowered():
    """Scale 2 scores 0.8 and 0.4, scale 1 at most 0.6: 0.6 and 0.3, times the decrease; positions in base pixels."""
    heat, offset = blank()
    heat[0, 5, 10, 10] = 0.6
    heat[0, :5] = 1
    large, large_offset = blank(64, 64)
    large[0, 5, 40, 20], large[0, 5, 20, 50] = 0.8, 0.4
    large[0, :5] = 1
    levels = [level(heat, offset), level(large, large_offset, 2.0, (256, 256))]
    found = candidates(levels, Decode(decrease=0.9))
    # the larger scale first, by falling score
    torch.testing.assert_close(found.joint_NK3[:, 0, 2], torch.tensor([0.54, 0.27, 0.6]))
    assert found.joint_NK3[:, 0, :2].tolist() == [[40.0, 80.0], [100.0, 40.0], [40.0, 40.0]]
    other = candidates(levels, Decode(decrease=0.8)).joint_NK3[:, 0, 2]
    torch.testing.assert_close(other, torch.tensor([0.48, 0.24, 0.6]))
    heat[0, 5] = 0  # nobody at scale 1: its highest counts as 1
    torch.testing.assert_close(candidates(levels, Decode()).joint_NK3[:, 0, 2], torch.tensor([0.9, 0.45]))


def test_heat_is_the_mean_over_scales():
    heat, offset = blank()
    large, large_offset = blank(64, 64)
    heat[0, 0, 10, 10], large[0, 0, 20, 20] = 0.6, 0.2
    levels = [level(heat, offset), level(large, large_offset, 2.0, (256, 256))]
    point = torch.tensor([[[40.9, 40.9]] * 5])  # pixel (40, 40): cell (10, 10) and, of the larger map, (20, 20)
    assert heat_values(levels, torch.tensor([0]), point)[0, 0].item() == pytest.approx(0.4)


def square(x: float, y: float, moved: int = 0, by: float = 0.0) -> torch.Tensor:
    """Ten joints over a 30 x 40 box (diagonal 50), of which the first `moved` are shifted by `by` in x."""
    point = torch.tensor([[0, 0], [30, 40]] + [[15.0 + i, 20] for i in range(8)]) + torch.tensor([x, y])
    point[2 : 2 + moved, 0] += by
    return torch.cat([point, torch.ones(10, 1)], -1)


def test_distance_nms_counts_joints():
    """Threshold 0.05 x 50 = 2.5 px; all ten joints of the same pose are closer, 10 - moved of a moved one."""
    heat = torch.tensor([0.5, 0.9])
    for moved, by, left in ((1, 2.6, [1]), (2, 2.6, [1, 0]), (2, 2.4, [1]), (2, 2.5, [1, 0])):
        poses = torch.stack([square(0, 0), square(0, 0, moved, by)])
        assert distance_nms(poses, heat, Decode(same_joints=8), False).tolist() == left, (moved, by)
    poses = torch.stack([square(0, 0), square(0, 0, 2, 7.4)])
    assert distance_nms(poses, heat, Decode(), True).tolist() == [1]  # several scales: 0.15 x 50 = 7.5 px
    assert distance_nms(poses, heat, Decode(distance_multi=0.1), True).tolist() == [1, 0]
    assert distance_nms(poses, heat, Decode(distance=0.15), False).tolist() == [1]
    assert distance_nms(poses, heat, Decode(same_joints=7), False).tolist() == [1]


def test_distance_nms_keeps_the_highest_heat_and_at_most_so_many():
    poses = torch.stack([square(0, 0), square(1, 0), square(100, 0), square(2, 0), square(200, 0)])
    heat = torch.tensor([0.1, 0.7, 0.2, 0.3, 0.9])
    assert distance_nms(poses, heat, Decode(), False).tolist() == [4, 1, 2]
    assert distance_nms(poses, heat, Decode(max_people=2), False).tolist() == [4, 1]
    flat = torch.zeros(2, 10, 3)  # poses without extent have no duplicates but themselves
    assert distance_nms(flat, torch.tensor([0.1, 0.2]), Decode(), False).tolist() == [1, 0]


def test_distance_nms_is_not_transitive():
    """0 - 1 and 1 - 2 are duplicates, 0 - 2 are not. 0's group keeps 1; 2's best is 1, which went: 2 is dropped too."""
    poses = torch.stack([square(0, 0), square(2, 0), square(4, 0)])
    assert distance_nms(poses, torch.tensor([0.1, 0.9, 0.5]), Decode(), False).tolist() == [1]
    assert distance_nms(poses, torch.tensor([0.9, 0.1, 0.5]), Decode(), False).tolist() == [0, 2]


def test_fusion_replaces_the_nms():
    """Two poses of one person, each right about other joints: PF takes the better joint of the two, NMS one pose."""
    heat, offset = blank()
    heat[0, 5, 10, 10], heat[0, 5, 10, 14] = 0.9, 0.8
    truth = torch.tensor([[6.0, 4], [18, 4], [6, 20], [18, 20], [12, 12]])
    for k, (x, y) in enumerate(truth.int().tolist()):
        heat[0, k, y - 1 : y + 2, x - 1 : x + 2] = 0.5
        heat[0, k, y, x] = 1
    cells = torch.tensor([[10.0, 10], [14, 10]])
    slip = torch.zeros(2, 5, 2)
    slip[0, 3, 0], slip[1, 0, 0] = 1.0, 1.0  # a cell to the right
    for n in range(2):
        x, y = cells[n].int().tolist()
        offset[0, :, y, x] = (cells[n] - truth - slip[n]).flatten()
    levels = [level(heat, offset)]
    (fused,) = decode(levels, Decode(nms="fusion"), SIGMAS)
    (plain,) = decode(levels, Decode(nms="oks"), SIGMAS)
    assert fused.n == plain.n == 1
    torch.testing.assert_close(fused.joint_NK3[0, :, :2], 4 * truth)
    assert fused.score_N.item() == pytest.approx((4 * 0.9 + 0.8) / 5)
    assert plain.joint_NK3[0, 3, 0] == 4 * 19 and plain.score_N.item() == pytest.approx(0.9 * 4.5 / 5)
    assert decode(levels, Decode(nms="fusion", oks=0.9999), SIGMAS)[0].n == 2


def test_two_scales_of_one_photograph_agree():
    """`infer` takes the way between the scales from the batches' matrices."""
    batch = drawn_batch(SKELETON, 1, (128, 128))
    half = replace(
        batch,
        image_B3HW=batch.image_B3HW[:, :, :64, :64],
        to_image_B23=torch.tensor([[[2.0, 0, 3], [0, 2.0, 5]]], dtype=torch.float64),
    )
    sizes = {128: blank(), 64: blank(16, 16)}

    def net(image):
        return Outputs(*sizes[image.shape[-1]])

    views = [View(b.image_B3HW.float(), b, False, s) for b, s in ((batch, 1.0), (half, 0.5))]
    one, other = infer(net, views, SWAP)  # type: ignore[arg-type]
    assert one.scale == 1 and torch.equal(one.to_base_B23, SAME) and other.input_wh == (64, 64)
    assert other.to_base_B23[0].tolist() == [[2, 0, 3], [0, 2, 5]]
    assert other.from_base_B23[0].tolist() == [[0.5, 0, -1.5], [0, 0.5, -2.5]]
