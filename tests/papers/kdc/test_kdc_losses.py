"""Targets and losses against hand-computed values, and their degenerate cases."""

import math
from dataclasses import replace

import pytest
import torch
from kdc_kit import batch_of, headless, person

from repose.papers.kdc.losses import heatmap_loss, losses, vector_loss
from repose.papers.kdc.model import Outputs, log_beta
from repose.papers.kdc.oracle import perfect
from repose.papers.kdc.targets import encode, pixels

MODULE = headless()
FRAME, MODEL, LOSS = MODULE.frame, MODULE.cfg.model, MODULE.cfg.loss


def one_joint(k, x, y, v=2.0):
    joint = torch.zeros(17, 3)
    joint[k] = torch.tensor([x, y, v])
    return joint


def blank(targets, requires_grad=False):
    """Zero maps on the targets' own grid."""
    b, _, h, w = targets.heatmap_BKHW.shape
    maps = [torch.zeros(b, c, h, w, requires_grad=requires_grad) for c in (17, 34, 2 * FRAME.m, 1, 2, 1)]
    return Outputs(*maps, attention_K=torch.zeros(17))


def test_a_keypoint_on_a_cell_has_no_vector_there():
    """A keypoint at pixel (16 i, 16 j) has kc* = 0 at cell (i, j) of the stride-16 map."""
    targets = encode(batch_of([one_joint(9, 16.0 * 5, 16.0 * 7)]), FRAME, MODEL, 16)
    kc = targets.keycentroid_BK2HW[0, 9]
    assert kc[:, 7, 5].tolist() == [0, 0]
    assert kc[:, 7, 4].tolist() == [0.5, 0] and kc[:, 9, 5].tolist() == [0, -1]  # 16 / 32, -32 / 32
    disk = targets.disk_BKHW[0, 9]
    assert int(disk.sum()) == 13 and disk[7, 7] and not disk[8, 7]  # radius 2 cells
    assert targets.heatmap_BKHW[0, 9].sum() == 13 and targets.heatmap_BKHW[0, [0, 8, 16]].sum() == 0


def test_gaussian_targets_without_khdr():
    targets = encode(batch_of([one_joint(0, 160, 160)]), FRAME, replace(MODEL, khdr=False), 16)
    heat = targets.heatmap_BKHW[0, 0]
    assert heat[10, 10] == 1
    torch.testing.assert_close(heat[10, 11].item(), math.exp(-(16**2) / (2 * (32 / 3) ** 2)))


def test_overlapping_disks_go_to_the_nearest_and_edges_follow_them():
    a, b = person(100, 100, 200), person(140, 100, 200)  # 40 px apart
    targets = encode(batch_of([a, b]), FRAME, MODEL, 4)
    nose_a, nose_b = a[0, :2], b[0, :2]
    at = (nose_a * 0.75 + nose_b * 0.25).div(4).round().long()  # in both disks, nearer to a
    p = at * 4.0
    torch.testing.assert_close(targets.keycentroid_BK2HW[0, 0, :, at[1], at[0]], (nose_a - p) / 32)
    edge = FRAME.edge_M2.index((0, 5))
    torch.testing.assert_close(targets.midrange_BM2HW[0, edge, :, at[1], at[0]], (a[5, :2] - p) / 32)
    assert targets.edge_BMHW[0, edge, at[1], at[0]]


def test_an_edge_without_its_end_has_no_target():
    targets = encode(batch_of([person(100, 100, 200, "left_shoulder")]), FRAME, MODEL, 4)
    weight = targets.edge_BMHW[0].flatten(1).any(1)
    for e, (a, b) in enumerate(FRAME.edge_M2):
        assert bool(weight[e]) == (5 not in (a, b))
    assert torch.isfinite(targets.midrange_BM2HW).all()


def test_valid_maps():
    batch = batch_of([person(100, 100, 200)])
    crowd, unlabelled = batch.crowd_B1HW, batch.unlabelled_B1HW
    assert crowd is not None and unlabelled is not None
    crowd[0, 0, :10], unlabelled[0, 0, 20:] = 1, 1
    targets = encode(batch, FRAME, MODEL, 4)
    on_disk = targets.disk_BKHW.any(1)[0]
    valid = targets.valid_heatmap_B1HW[0, 0]
    assert not valid[:10].any() and valid[10:20].all()
    assert torch.equal(valid[20:], on_disk[20:]) and on_disk[20:].any() and not on_disk[20:].all()
    assert torch.equal(targets.valid_seg_B1HW[0, 0], crowd[0, 0] == 0)


def test_pixels_of_two_masks_belong_to_nobody():
    a, b = person(100, 100, 200), person(140, 100, 200)
    targets = encode(batch_of([a, b]), FRAME, MODEL, 4)
    assert not (targets.member_NHW[0] & targets.member_NHW[1]).any()
    both = targets.seg_B1HW[0, 0].bool() & ~targets.member_NHW.any(0)
    assert both.any() and not targets.valid_embed_B1HW[0, 0][both].any()


def test_people_without_a_mask_are_not_background():
    """In their box SegNet has no loss, but for the pixels on somebody's mask."""
    a, b = person(60, 100, 200), person(80, 120, 200)
    batch = batch_of([a, b])
    assert batch.people.mask_NHW is not None
    batch.people.mask_NHW[1] = 0
    targets = encode(batch, FRAME, MODEL, 4)
    x1, y1, x2, y2 = batch.people.box_N4[1].tolist()
    x, y = pixels((101, 101), 4, torch.device("cpu"))
    boxed = (x >= x1) & (x <= x2) & (y >= y1) & (y <= y2)
    mask = batch.people.mask_NHW[0] > 0
    assert (boxed & mask).any()
    assert torch.equal(targets.valid_seg_B1HW[0, 0], ~boxed | mask)
    assert torch.equal(targets.valid_embed_B1HW[0, 0], ~boxed | mask)


def test_hand_computed_reductions():
    """Two cells count; errors 1 + 2 and 3 + 0 give 3; the entropy of logit 0 is ln 2 whatever the target."""
    vector, where = torch.zeros(1, 1, 2, 1, 3), torch.tensor([[[[True, True, False]]]])
    wanted = torch.tensor([[[[[1.0, -3, 50]], [[2.0, 0, 50]]]]])
    assert vector_loss(vector, wanted, where).item() == 3
    assert vector_loss(vector, wanted, where & False).item() == 0
    targets = encode(batch_of([person(100, 100, 200)]), FRAME, MODEL, 4)
    assert heatmap_loss(torch.zeros_like(targets.heatmap_BKHW), targets).item() == pytest.approx(math.log(2), rel=1e-5)


def test_perfect_maps_have_no_loss():
    """The oracle's maps, with background embeddings moved far from everybody."""
    batch = batch_of([person(40, 100, 200), person(200, 60, 300)], [person(100, 100, 200)])
    targets = encode(batch, FRAME, MODEL, 4)
    out = perfect(batch, targets, FRAME, MODEL)
    mine = torch.zeros(2, 101, 101).index_add(0, targets.owner_N, targets.member_NHW.float()) > 0
    out = out._replace(
        embed_B2HW=torch.where(mine[:, None], out.embed_B2HW, 100.0),
        bandwidth_B1HW=torch.full_like(out.bandwidth_B1HW, log_beta(0.01)),
    )
    found = losses(out, 4, targets, FRAME, MODEL, LOSS)
    assert found.keys() == MODULE.weights.keys()
    assert max(v.item() for v in found.values()) < 1e-4


def test_l1_alone_collapses():
    """A constant embedding has no error in Eq. 5 with dynamic centroids, and tells nobody apart: L_inst sees it."""
    targets = encode(batch_of([person(20, 100, 200), person(250, 100, 200)]), FRAME, MODEL, 4)
    out = blank(targets)
    constant = -pixels((101, 101), 4, torch.device("cpu"))[None] / FRAME.span
    out = out._replace(embed_B2HW=constant, bandwidth_B1HW=torch.full_like(out.seg_B1HW, log_beta(0.1)))
    found = losses(out, 4, targets, FRAME, MODEL, LOSS)
    assert found["offset"].item() == pytest.approx(0, abs=1e-6)
    assert found["instance"].item() > 0.5
    static = losses(out, 4, targets, FRAME, replace(MODEL, center_mode="static"), LOSS)
    assert static["offset"].item() > 0.1  # a fixed centre has the other problem not


def test_centre_modes():
    """Without offsets e = p / U: dynamic and static centres agree; keypoints weighted by their heatmaps do not."""
    a = person(100, 100, 200)
    targets = encode(batch_of([a]), FRAME, MODEL, 4)
    out = blank(targets)
    dynamic, static, keypoint = (
        losses(out, 4, targets, FRAME, replace(MODEL, center_mode=mode), LOSS)["offset"].item()
        for mode in ("dynamic", "static", "keypoint")
    )
    assert dynamic == pytest.approx(static, rel=1e-5)
    # equal weights: the centre is the mean keypoint
    centre, p = a[:, :2].mean(0), pixels((101, 101), 4, torch.device("cpu")).flatten(1).T
    wanted = ((p[targets.member_NHW[0].flatten()] - centre).abs().sum(1) / FRAME.span).mean()
    assert keypoint == pytest.approx(wanted.item(), rel=1e-4)


def test_keypoint_centres_teach_their_weights():
    targets = encode(batch_of([person(100, 100, 200)]), FRAME, MODEL, 4)
    attention = torch.zeros(17, requires_grad=True)
    out = blank(targets)._replace(attention_K=attention, bandwidth_B1HW=torch.full((1, 1, 101, 101), log_beta(0.1)))
    losses(out, 4, targets, FRAME, replace(MODEL, center_mode="keypoint"), LOSS)["instance"].backward()
    assert attention.grad is not None and attention.grad.abs().sum() > 0


def test_offsets_stop_at_the_centre():
    """L_off moves pixels towards their centre, not the centre towards the pixels: gradients do not cancel to zero."""
    targets = encode(batch_of([person(100, 100, 200)]), FRAME, MODEL, 4)
    out = blank(targets, requires_grad=True)
    losses(out, 4, targets, FRAME, MODEL, LOSS)["offset"].backward()
    g = out.embed_B2HW.grad
    assert g is not None
    inside = g[0, :, targets.member_NHW[0]]
    n = targets.member_NHW.sum().item()
    assert inside.abs().max().item() == pytest.approx(1 / n, rel=1e-5)  # the L1's own gradient and nothing else


def test_crowd_pixels_have_no_gradient():
    batch = batch_of([person(100, 100, 200)])
    assert batch.crowd_B1HW is not None
    batch.crowd_B1HW[0, 0, :, 30:40] = 1
    targets = encode(batch, FRAME, MODEL, 4)
    out = blank(targets, requires_grad=True)
    MODULE.combine(losses(out, 4, targets, FRAME, MODEL, LOSS)).backward()
    for name, m in zip(Outputs._fields[:6], out, strict=False):
        assert m.grad is not None and m.grad.abs().sum() > 0, name
        assert m.grad[..., 30:40].abs().max() == 0, name


def test_data_without_masks_train_posenet_alone():
    targets = encode(batch_of([person(100, 100, 200)], masks=None), FRAME, MODEL, 4)
    out = blank(targets, requires_grad=True)
    found = losses(out, 4, targets, FRAME, MODEL, LOSS)
    assert all(found[name].item() == 0 for name in ("seg", "offset", "instance", "bandwidth"))
    MODULE.combine(found).backward()
    assert out.seg_B1HW.grad is not None and out.seg_B1HW.grad.abs().sum() == 0
    assert out.heatmap_BKHW.grad is not None and out.heatmap_BKHW.grad.abs().sum() > 0


def test_small_instances_have_no_mask_loss():
    batch = batch_of([person(100, 100, 200)])
    targets = encode(batch, FRAME, MODEL, 4)
    pixels_of_it = int(targets.member_NHW.sum())
    out = blank(targets)
    at = losses(out, 4, targets, FRAME, MODEL, replace(LOSS, min_pixels=pixels_of_it))
    above = losses(out, 4, targets, FRAME, MODEL, replace(LOSS, min_pixels=pixels_of_it + 1))
    assert at["offset"].item() > 0 and above["offset"].item() == 0
    assert at["seg"].item() == above["seg"].item() > 0


def test_loss_does_not_depend_on_where_outputs_are_finer():
    """Linear maps at output stride 16 and at 4 are the same on the loss grid."""
    targets = encode(batch_of([person(100, 100, 200)]), FRAME, MODEL, 4)

    def linear(stride):
        p = pixels((-(-401 // stride),) * 2, stride, torch.device("cpu")) / 400
        return Outputs(*(p[:1].expand(1, c, -1, -1) * 1.0 for c in (17, 34, 80, 1, 2, 1)), torch.zeros(17))

    fine, coarse = (losses(linear(s), s, targets, FRAME, MODEL, LOSS) for s in (4, 16))
    for name in fine:
        torch.testing.assert_close(fine[name], coarse[name], atol=1e-5, rtol=1e-4)
