"""DRP-Net's geometry, targets, ROI centres and losses, against hand numbers."""

import math
from dataclasses import replace

import pytest
import torch
from drawn_batch import drawn_batch, without_people

from repose.papers.drpnet.config import Decode, Loss, Model, Roi
from repose.papers.drpnet.decode import decode
from repose.papers.drpnet.losses import losses
from repose.papers.drpnet.model import Outputs
from repose.papers.drpnet.targets import (
    Canvas,
    Targets,
    clamp_centres,
    encode,
    eval_centres,
    local_heatmap,
    train_centres,
)
from repose.skeleton import COCO17

C7 = Canvas(stride=4, size=7, up=1)


def targets(joint_BK2, weight_BK=None, seed=0, wh=(192, 256), progress=1.0):
    joint_BK2 = torch.as_tensor(joint_BK2, dtype=torch.float32)
    b, k = joint_BK2.shape[:2]
    weight_BK = torch.ones(b, k) if weight_BK is None else torch.as_tensor(weight_BK)
    ids = torch.arange(b) + seed
    return Targets(joint_BK2, weight_BK, ids, ids + 500, torch.ones(b, dtype=torch.bool), wh, progress)


@pytest.mark.parametrize("hw", [(256, 192), (192, 144), (384, 288)])
@pytest.mark.parametrize("up", [1, 2, 4])
@pytest.mark.parametrize(
    ("peak", "reach", "bound"), [("subpixel", 2.45, 0.05), ("gauss", 3.0, 0.05), ("argmax", 3.0, 0.5)]
)
def test_decode_of_encode(hw, up, peak, reach, bound):
    """The joint comes back within 0.05 cells; `subpixel` while its maximum is an inner cell, `gauss` beyond."""
    canvas = Canvas(4, 7, up)
    g = torch.Generator().manual_seed(0)
    size = torch.tensor([hw[1], hw[0]], dtype=torch.float32)
    joint = torch.rand(4, 17, 2, generator=g) * (size - 40) + 20
    centre = joint + (torch.rand(4, 17, 2, generator=g) * 2 - 1) * reach * 4
    centre = clamp_centres(centre, 4, (hw[0] // 4, hw[1] // 4))
    heatmap, weight = local_heatmap(targets(joint), centre, Loss(), canvas)
    assert heatmap.shape == (4, 17, 7 * up, 7 * up) and weight.eq(1).all()
    poses = decode(Outputs(centre, centre, heatmap), Decode(peak=peak), canvas, 2.0)
    error_cells = (torch.cat([p.joint_NK3[..., :2] for p in poses]) - joint).abs() / 4
    assert error_cells.max() <= (bound if peak != "argmax" else bound / up + 1e-4)


def test_canvas_by_hand():
    """S = 7, stride 4: the centre is cell 3, one cell is 4 pixels; at f = 2 the centre is 6.5 and a cell 2 pixels."""
    centre = torch.tensor([[[100.0, 60.0]]])
    point = torch.tensor([[[104.0, 50.0]]])
    assert C7.from_input(point, centre).tolist() == [[[4.0, 0.5]]]
    c2 = Canvas(4, 7, 2)
    assert c2.from_input(point, centre).tolist() == [[[8.5, 1.5]]]
    assert torch.equal(c2.to_input(c2.from_input(point, centre), centre), point)
    assert C7.inside(torch.tensor([[[114.0, 60.0], [114.1, 60.0]]]), centre).tolist() == [[True, False]]


def test_target_by_hand():
    """DRP-Net Eq. 9 at a centred joint: exp(-d^2 / 8)."""
    h, _ = local_heatmap(targets([[[80.0, 80.0]]]), torch.tensor([[[80.0, 80.0]]]), Loss(), C7)
    assert [round(v, 3) for v in h[0, 0, 3].tolist()] == [0.325, 0.607, 0.882, 1.0, 0.882, 0.607, 0.325]


def test_joint_5_cells_off():
    """Its tail reaches the border with exp(-(5 - 3)^2 / 8) = 0.61."""
    off, centre = targets([[[100.0, 80.0]]]), torch.tensor([[[80.0, 80.0]]])
    tail, weight = local_heatmap(off, centre, Loss(), C7)
    assert tail[0, 0, 3, 6].item() == pytest.approx(math.exp(-0.5), abs=1e-4) and weight.item() == 1
    _, weight = local_heatmap(off, centre, Loss(outside="mask"), C7)
    assert weight.item() == 0
    clamped, weight = local_heatmap(off, centre, Loss(outside="clamp"), C7)
    assert clamped[0, 0, 3, 6].item() == 1 and weight.item() == 1
    zero, weight = local_heatmap(off, centre, Loss(outside="zero"), C7)
    assert zero.abs().max() == 0 and weight.item() == 1


def test_weights():
    """v in {1, 2} counts; outside the crop does not; a crop without a person has none."""
    batch = drawn_batch(COCO17, 2, (96, 72))
    joint = batch.people.joint_NK3.clone()
    joint[0, 0, 2], joint[0, 1, 2] = 0, 1
    joint[1, 2, :2], joint[1, 3, :2] = torch.tensor([-3.0, 5.0]), torch.tensor([30.0, 96.2])
    t = encode(replace(batch, people=replace(batch.people, joint_NK3=joint)), 17)
    want = torch.ones(2, 17)
    want[0, 0] = want[1, 2] = want[1, 3] = 0
    assert torch.equal(t.weight_BK, want)
    assert torch.equal(t.joint_BK2, joint[..., :2] * want[..., None])  # where a joint without label lies means nothing
    assert t.ann_id_B.tolist() == [1, 2] and t.input_wh == (72, 96)
    nobody = encode(without_people(batch, 17), 17)
    assert nobody.weight_BK.sum() == 0 and not nobody.person_B.any()


def outputs(coarse, heatmap=None, centre=None):
    coarse = torch.as_tensor(coarse, dtype=torch.float32)
    heatmap = torch.zeros(*coarse.shape[:2], 7, 7) if heatmap is None else heatmap
    return Outputs(coarse, coarse if centre is None else centre, heatmap)


@pytest.mark.parametrize(
    ("units", "want"),
    # joint 1 is off by (6, -2) px: cells (1.5, -0.5): 1.0 + 0.125; joint 2 by (0, 4) px: cell 1: 0.5
    [
        ("cell", (1.125 + 0.5) / 2),
        ("pixel", (5.5 + 1.5 + 3.5) / 2),
        ("unit", ((6 / 192) ** 2 + (2 / 256) ** 2 + (4 / 256) ** 2) / 4),
    ],
)
def test_coarse_loss_by_hand(units, want):
    t = targets([[[50.0, 60.0], [90.0, 100.0], [10.0, 10.0]]], [[1.0, 1.0, 0.0]])
    out = outputs([[[56.0, 58.0], [90.0, 104.0], [500.0, 500.0]]])
    assert losses(out, t, Loss(coarse_units=units), C7)["coarse"].item() == pytest.approx(want, rel=1e-5)


def test_fine_loss_by_hand():
    """An empty heatmap differs from a centred Gaussian by its energy, 12.28; the mean is 1/49 of it."""
    t = targets([[[80.0, 80.0], [10.0, 10.0]]], [[1.0, 0.0]])
    out = outputs([[[80.0, 80.0], [80.0, 80.0]]])
    assert losses(out, t, Loss(), C7)["fine"].item() == pytest.approx(12.28, abs=0.01)
    assert losses(out, t, Loss(fine_reduction="mean"), C7)["fine"].item() == pytest.approx(12.28 / 49, abs=0.001)
    exact, _ = local_heatmap(t, out.centre_BK2, Loss(), C7)
    assert losses(outputs(out.coarse_BK2, exact), t, Loss(), C7)["fine"].item() == 0


def test_k_vis_is_the_whole_batch():
    """Person 1 has one labelled joint, person 2 has three: the mean is over 4 joints, not over people."""
    joint = torch.full((2, 3, 2), 40.0)
    coarse = joint.clone()
    coarse[0, 0, 0] += 12  # 3 cells: 2.5
    t = targets(joint, [[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    assert losses(outputs(coarse), t, Loss(), C7)["coarse"].item() == pytest.approx(2.5 / 4)


def test_masked_joints_stay_in_k_vis():
    t = targets([[[80.0, 80.0], [120.0, 80.0]]])
    out = outputs([[[80.0, 80.0], [80.0, 80.0]]])
    assert losses(out, t, Loss(outside="mask"), C7)["fine"].item() == pytest.approx(12.28 / 2, abs=0.01)


def test_no_visible_joint_gives_a_finite_zero():
    t = targets([[[1e9, 0.0]]], [[0.0]])
    coarse = torch.zeros(1, 1, 2, requires_grad=True)
    heat = torch.randn(1, 1, 7, 7, requires_grad=True)
    found = losses(Outputs(coarse, coarse.detach(), heat), t, Loss(), C7)
    assert found["coarse"].item() == 0 and found["fine"].item() == 0
    sum(found.values()).backward()
    assert coarse.grad.abs().sum() == 0 and heat.grad.abs().sum() == 0


def test_no_gradient_for_unlabelled_joints():
    t = targets([[[10.0, 10.0], [20.0, 20.0]]], [[1.0, 0.0]])
    coarse = torch.zeros(1, 2, 2, requires_grad=True)
    heat = torch.zeros(1, 2, 7, 7, requires_grad=True)
    sum(losses(Outputs(coarse, coarse.detach(), heat), t, Loss(), C7).values()).backward()
    assert coarse.grad[0, 0].abs().min() > 0 and coarse.grad[0, 1].abs().sum() == 0
    assert heat.grad[0, 1].abs().sum() == 0


def test_coarse_only_has_no_fine_loss():
    assert set(losses(outputs([[[1.0, 1.0]]], torch.zeros(1, 1, 0, 0)), targets([[[0.0, 0.0]]]), Loss(), C7)) == {
        "coarse"
    }


class TestTrainCentres:
    pred = torch.rand(200, 17, 2, generator=torch.Generator().manual_seed(3)) * 190
    truth = torch.rand(200, 17, 2, generator=torch.Generator().manual_seed(4)) * 190

    def run(self, source, progress=0.0, weight=None, **kw):
        t = targets(self.truth, weight, progress=progress)
        return train_centres(self.pred.clone().requires_grad_(), t, Loss(roi_source=source, **kw), C7)

    def test_pred_is_detached(self):
        got = self.run("pred")
        assert torch.equal(got, self.pred) and not got.requires_grad

    def test_oracle(self):
        assert torch.equal(self.run("oracle"), self.truth)
        weight = torch.ones(200, 17)
        weight[3, 4] = 0
        assert torch.equal(self.run("oracle", weight=weight)[3, 4], self.pred[3, 4])

    def test_oracle_jitter_is_within_2_4_cells(self):
        off = (self.run("oracle_jitter", progress=1.0) - self.truth) / 4
        assert off.abs().max() <= 2.4 and off.abs().max() > 2.35
        assert off.mean().abs() < 0.05 and abs(off.std().item() - 2.4 / 3**0.5) < 0.03

    def test_mixed_falls_linearly(self):
        """p_e is 1 at the start, a half in the middle of the share, 0 after it."""
        for progress, want in ((0.0, 1.0), (5 / 420, 0.5), (10 / 420, 0.0), (1.0, 0.0)):
            got = self.run("mixed", progress)
            from_pred = (got == self.pred).all(-1)
            assert 1 - from_pred.float().mean().item() == pytest.approx(want, abs=0.03)
            assert ((got - self.truth)[~from_pred].abs() <= 9.6 + 1e-4).all()

    def test_extra_jitter(self):
        off = (self.run("pred", roi_jitter=0.5) - self.pred) / 4
        assert abs(off.std().item() - 0.5) < 0.02

    def test_draws_do_not_depend_on_the_batch(self):
        t = targets(self.truth)
        whole = train_centres(self.pred, t, Loss(roi_source="oracle_jitter"), C7)
        part = Targets(
            t.joint_BK2[7:9], t.weight_BK[7:9], t.seed_B[7:9], t.ann_id_B[7:9], t.person_B[7:9], t.input_wh, 1.0
        )
        assert torch.equal(train_centres(self.pred[7:9], part, Loss(roi_source="oracle_jitter"), C7), whole[7:9])


class TestEvalCentres:
    truth = torch.full((50, 17, 2), 100.0)

    def test_oracle_clip(self):
        """The centre is at most S / 2 - 1 / 2 = 3 cells from the joint: 12 px."""
        coarse = self.truth + torch.tensor([30.0, -5.0])
        got = eval_centres(coarse, targets(self.truth), Decode(centre="oracle_clip"), Loss(), C7)
        assert torch.equal(got, self.truth + torch.tensor([12.0, -5.0]))

    def test_oracle_jitter_by_annotation_id(self):
        t = targets(self.truth)
        decode_cfg = Decode(centre="oracle_jitter")
        got = eval_centres(self.truth + 70, t, decode_cfg, Loss(), C7)
        assert (got - self.truth).abs().max() <= 9.6 and (got - self.truth).std() > 4
        other_seeds = t._replace(seed_B=t.seed_B + 9)  # a test draw knows nothing of the sampler
        assert torch.equal(eval_centres(self.truth + 70, other_seeds, decode_cfg, Loss(), C7), got)
        other_people = t._replace(ann_id_B=t.ann_id_B + 9)
        assert not torch.equal(eval_centres(self.truth + 70, other_people, decode_cfg, Loss(), C7), got)

    def test_unlabelled_joints_use_the_prediction(self):
        weight = torch.ones(50, 17)
        weight[:, 2] = 0
        coarse = self.truth + 70
        for centre in ("oracle_jitter", "oracle_clip"):
            got = eval_centres(coarse, targets(self.truth, weight), Decode(centre=centre), Loss(), C7)
            assert torch.equal(got[:, 2], coarse[:, 2]) and not torch.equal(got[:, 3], coarse[:, 3])


class TestDecode:
    def run(self, heat, **kw):
        centre = torch.tensor([[[100.0, 60.0]]])
        coarse = torch.tensor([[[110.0, 65.0]]])
        return decode(Outputs(coarse, centre, heat), Decode(**kw), C7, 2.0)[0]

    def test_scores(self):
        heat = torch.zeros(1, 1, 7, 7)
        heat[0, 0, 2, 4] = 1.7
        pose = self.run(heat, peak="argmax")
        assert pose.joint_NK3[0, 0].tolist() == [104.0, 56.0, 1.0]  # cell (4, 2) of centre (3, 3)
        heat[0, 0, 2, 4] = 0.4
        assert self.run(heat, peak="argmax").joint_NK3[0, 0, 2].item() == pytest.approx(0.4)
        assert pose.extra["coarse_NK2"].tolist() == [[[110, 65]]] and pose.n == 1

    def test_no_positive_cell_gives_the_coarse_point(self):
        pose = self.run(torch.full((1, 1, 7, 7), -0.2))
        assert pose.joint_NK3[0, 0].tolist() == pytest.approx([110, 65, 0.01])

    def test_coarse_points_have_the_heatmaps_scores(self):
        """So that the row ranks people as the refined one does; a coarse-only network has no confidence."""
        heat = torch.full((1, 1, 7, 7), 0.3)
        heat[0, 0, 2, 4] = 0.6
        assert self.run(heat, read_out="coarse").joint_NK3[0, 0].tolist() == pytest.approx([110, 65, 0.6])
        assert self.run(-heat, read_out="coarse").joint_NK3[0, 0].tolist() == pytest.approx([110, 65, 0.01])
        assert self.run(torch.zeros(1, 1, 0, 0)).joint_NK3[0, 0].tolist() == [110, 65, 1]


def test_canvas_of_the_settings():
    assert Canvas.of(Model(roi=Roi(size=9, up=2))) == Canvas(4, 9, 2)
    assert Canvas(4, 9, 2).cells == 18
