"""CGANet's losses against hand-computed values; zero at the target, no gradient where there is no weight."""

from dataclasses import replace

import pytest
import torch
from drawn_batch import drawn_batch
from torch import tensor

from repose.papers.cganet.config import Loss
from repose.papers.cganet.losses import detection_losses, focal, keypoint_loss, line_loss, losses, mask_loss
from repose.papers.cganet.model import Maps, Outputs
from repose.papers.cganet.targets import encode, keypoint_maps
from repose.skeleton import COCO17


@pytest.fixture
def targets():
    return encode(drawn_batch(COCO17, 2, (128, 96), 2), Loss(roi_source="gt"), masks=False)


def flat_maps(targets, value=0.0):
    b, _, h, w = targets.hm_B1HW.shape
    return Maps(*(torch.full((b, c, h, w), value, requires_grad=True) for c in (1, 2, 2, 1, 1)))


def test_equation_3():
    p, wanted = tensor([0.9, 0.2, 0.6, 0.05, 0.5]), tensor([1, 1, 0.5, 0, 0])
    loss = line_loss(p, wanted, torch.ones(5), Loss())
    assert loss.item() == pytest.approx(0.21404167, abs=1e-7)
    each = [line_loss(p[i : i + 1], wanted[i : i + 1], torch.ones(1), Loss()).item() for i in range(5)]
    assert each == pytest.approx([0.001, 0.512, 0.004, 0.000125, 0.125], abs=1e-7)


def test_equation_8_has_its_minus():
    p, wanted = tensor([0.8, 0.3, 0.1, 0.6]), tensor([1, 0.5, 0, 0])
    assert focal(p, wanted, torch.ones(4)).item() == pytest.approx(0.34185031, abs=1e-6)


def test_line_detach_changes_the_gradient_alone():
    wanted = tensor([1.0, 0.5, 0.0])
    grads = []
    for detach in (False, True):
        p = tensor([0.7, 0.4, 0.2], requires_grad=True)
        loss = line_loss(p, wanted, torch.ones(3), Loss(line_detach=detach))
        loss.backward()
        grads.append((loss.item(), p.grad.clone()))
    assert grads[0][0] == grads[1][0] and not torch.equal(grads[0][1], grads[1][1])
    # detached, background: d/dp of w (p - m)^2 / N = 2 w (p - m) / N = 2 * 0.2 * 0.2 / 2
    assert grads[1][1][2].item() == pytest.approx(0.04, abs=1e-6)


def test_detection_losses_by_hand(targets):
    maps = flat_maps(targets)
    found = detection_losses(maps, targets)
    n = targets.people.n
    assert found["wh"].item() == pytest.approx(targets.wh_N2.sum().item() / (2 * n + 1e-4), rel=1e-5)
    assert found["off"].item() == pytest.approx(targets.off_N2.sum().item() / (2 * n + 1e-4), rel=1e-5)
    wanted = targets.hm_B1HW
    by_hand = (wanted == 1).sum() * 0.25 + ((1 - wanted[wanted < 1]) ** 4 * 0.25).sum()
    assert found["det"].item() == pytest.approx((by_hand * 0.6931472 / n).item(), rel=1e-5)


def test_perfect_maps_cost_little(targets):
    def logit(p):
        return torch.logit(p.clamp(1e-5, 1 - 1e-5))

    b, _, h, w = targets.hm_B1HW.shape
    wh, off = torch.zeros(b, 2, h, w), torch.zeros(b, 2, h, w)
    x, y = targets.cell_N2.unbind(1)
    wh[targets.people.owner_N, :, y, x] = targets.wh_N2
    off[targets.people.owner_N, :, y, x] = targets.off_N2
    sharp = (targets.hm_B1HW == 1).float()
    wanted, weight = keypoint_maps(targets, targets.rois.box_in_R4, targets.rois.person_R, 16, Loss())
    assert weight.sum() > 0
    maps = Maps(logit(sharp), wh, off, logit(targets.line_x_B1HW), logit(targets.line_y_B1HW))
    rois = targets.rois
    outputs = Outputs(maps, [logit((wanted == 1).float())], rois.box_in_R4, rois.person_R, rois.weight_R)
    found = losses(outputs, targets, Loss(), masks=False)
    assert found.keys() == {"det", "wh", "off", "line_x", "line_y", "keypoint"}
    for name, value in found.items():
        assert 0 <= value.item() < 2e-3, name


def test_no_gradient_without_weight(targets):
    weight = targets.weight_B1HW.clone()
    weight[0] = 0
    maps = flat_maps(targets)
    blind = targets._replace(weight_B1HW=weight)
    line = line_loss(torch.sigmoid(maps.line_x_B1HW), targets.line_x_B1HW, weight, Loss())
    (detection_losses(maps, blind)["det"] + line).backward()
    for m in (maps.hm_B1HW, maps.line_x_B1HW):
        assert not m.grad[0].any() and m.grad[1].any()


def test_keypoint_loss_ignores_what_is_not_labelled(targets):
    joint = targets.people.joint_NK3.clone()
    joint[0, 3, 2] = 0
    joint[1, :, 2] = 0
    targets = targets._replace(people=replace(targets.people, joint_NK3=joint))
    rois = targets.rois
    logits = torch.zeros(4, 17, 16, 16, requires_grad=True)
    outputs = Outputs(flat_maps(targets), [logits], rois.box_in_R4, rois.person_R, rois.weight_R)
    keypoint_loss(logits, outputs, targets, Loss()).backward()
    assert not logits.grad[0, 3].any() and not logits.grad[1].any() and logits.grad[0, 4].any()
    stand_ins = outputs._replace(weight_R=torch.zeros(4))
    assert keypoint_loss(logits, stand_ins, targets, Loss()).item() == 0


def test_intermediate_stages_add_their_loss(targets):
    rois = targets.rois
    logits = torch.zeros(4, 17, 16, 16)
    one = Outputs(flat_maps(targets), [logits], rois.box_in_R4, rois.person_R, rois.weight_R)
    two = one._replace(heatmap_RKUU=[logits, logits])
    single = losses(one, targets, Loss(), masks=False)["keypoint"]
    torch.testing.assert_close(losses(two, targets, Loss(), masks=False)["keypoint"], 2 * single)


def test_mask_loss_is_the_mean_cross_entropy(targets):
    mask = torch.zeros(4, 128, 96, dtype=torch.uint8)
    mask[:2] = 1
    targets = targets._replace(people=replace(targets.people, mask_NHW=mask))
    rois = targets.rois
    weight = tensor([1.0, 0, 1, 1])
    logits = torch.full((4, 1, 8, 8), 2.0)
    outputs = Outputs(flat_maps(targets), [logits], rois.box_in_R4, rois.person_R, weight)
    hit, miss = 0.126928, 2.126928  # ln(1 + e^-2), ln(1 + e^2)
    assert mask_loss(logits, outputs, targets).item() == pytest.approx((hit + 2 * miss) / 3, abs=1e-5)
