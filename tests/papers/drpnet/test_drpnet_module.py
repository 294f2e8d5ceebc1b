"""DRP-Net as a whole: gradients, flip test, oracles, read-outs, recipe, overfitting."""

from dataclasses import replace

import pytest
import torch
from drawn_batch import drawn_batch, without_people

from repose import papers
from repose.config import load
from repose.engine.ema import momentum
from repose.engine.module import View
from repose.engine.optim import Schedule, scaled_lr
from repose.errors import UserError
from repose.geometry import mirror
from repose.papers.drpnet.config import Experiment
from repose.papers.drpnet.module import DRPNetModule
from repose.skeleton import COCO17


def config(*settings: str) -> Experiment:
    """DRP-Net at smoke: cspnext_tiny, 96x72."""
    return load("drpnet/m", ["scale=smoke", *settings], find_paper=papers.get).cfg


def module(*settings: str, seed: int = 0) -> DRPNetModule:
    torch.manual_seed(seed)
    return DRPNetModule(config(*settings), COCO17)


def strong_heads(m: DRPNetModule) -> DRPNetModule:
    """An untrained network whose outputs vary: peaks and coarse points all over the place."""
    torch.manual_seed(1)
    if m.net.head is not None:
        torch.nn.init.normal_(m.net.head.last.weight, std=1.0)
    torch.nn.init.normal_(m.net.fc.weight, std=0.3)
    return m


@pytest.fixture(scope="module")
def batch():
    return drawn_batch(COCO17, 4, (96, 72))


def run_losses(m, batch):
    targets = m.encode(batch)
    return m.losses(m.forward_train(m.normalise(batch.image_B3HW), batch, targets), targets)


def test_fine_loss_reaches_the_neck_but_not_the_coarse_head(batch):
    m = module()
    found = run_losses(m, batch)
    found["fine"].backward(retain_graph=True)
    assert m.net.fc.weight.grad is None and m.net.fc.bias.grad is None
    neck = m.net.neck.laterals[-1][0].weight
    assert neck.grad.abs().sum() > 0
    stem = next(m.net.backbone.parameters())
    assert stem.grad.abs().sum() > 0
    neck.grad = None
    found["coarse"].backward()
    assert neck.grad.abs().sum() > 0 and m.net.fc.weight.grad.abs().sum() > 0


def test_nobody_trains_and_tests(batch):
    m = module()
    empty = without_people(batch, 17)
    found = run_losses(m, empty)
    assert found["coarse"].item() == 0 and found["fine"].item() == 0
    m.combine(found).backward()
    grads = [p.grad for p in m.parameters() if p.grad is not None]
    assert grads and all(g.abs().sum() == 0 for g in grads)
    m.eval()
    with torch.no_grad():
        evaluated = m.evaluate([empty])
    assert len(evaluated.poses) == 4
    assert all(float(n) == 0 for _, n in evaluated.sums.values())


@torch.no_grad()
def test_mirrored_image_gives_mirrored_joints(batch):
    """With the flip test, the network sees the same two views of an image and of its mirror: the result is mirrored."""
    m = strong_heads(module()).eval()
    wide = batch.image_B3HW.float()
    # Columns that `mirror` pushes out and repeats: without them mirroring twice gives the image back.
    wide[..., :3] = wide[..., 3:4]
    wide[..., -3:] = wide[..., -4:-3]
    plain = replace(batch, image_B3HW=wide)
    turned = replace(batch, image_B3HW=mirror(wide, 4))
    a = torch.cat([p.joint_NK3 for p in m.decode(m.infer(m.views([plain])))])
    b = torch.cat([p.joint_NK3 for p in m.decode(m.infer(m.views([turned])))])
    swap = list(COCO17.flip_index)
    back = torch.stack([72 - 4 - b[..., 0], b[..., 1], b[..., 2]], -1)[:, swap]
    same_views = torch.equal(mirror(turned.image_B3HW, 4)[..., :69], plain.image_B3HW[..., :69])
    assert same_views
    assert (back - a).abs().max() < 1e-3
    assert a[..., :2].std() > 5  # not all at one place


@torch.no_grad()
def test_flip_test_has_a_common_centre(batch):
    m = strong_heads(module()).eval()
    views = m.views([batch])
    assert [v.mirrored for v in views] == [False, True]
    both = m.infer(views)
    alone = m.infer(views[:1])
    assert not torch.allclose(both.coarse_BK2, alone.coarse_BK2, atol=0.1)
    # the same by hand for the first view's half of the heatmap
    f = m.net.features(views[0].image_BCHW)
    first = m.net.refine(f, both.coarse_BK2, both.coarse_BK2)
    torch.testing.assert_close(first.centre_BK2, both.centre_BK2)
    g = m.net.features(views[1].image_BCHW)
    swap = list(COCO17.flip_index)
    there = torch.stack([72 - 4 - both.coarse_BK2[..., 0], both.coarse_BK2[..., 1]], -1)[:, swap]
    second = m.net.refine(g, there, there).heatmap_BKHW.flip(-1)[:, swap]
    torch.testing.assert_close(both.heatmap_BKHW, (first.heatmap_BKHW + second) / 2, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_oracles_need_ground_truth(batch):
    m = module("decode.centre=oracle_clip").eval()
    m.infer(m.views([batch]))
    with pytest.raises(UserError, match=r"decode.centre=oracle_clip needs .*data.boxes=gt"):
        m.infer(m.views([without_people(batch, 17)]))
    with pytest.raises(UserError, match=r"set data.boxes=gt"):
        config("decode.centre=oracle_jitter", "data.boxes=detections")


@torch.no_grad()
def test_oracle_clip_brings_every_joint_into_its_roi(batch):
    m = strong_heads(module("decode.centre=oracle_clip")).eval()
    e = m.evaluate([batch])
    inside, n = e.sums["roi_inside"]
    assert n == 4 * 17 and inside == n
    plain = strong_heads(module()).eval().evaluate([batch])
    assert plain.sums["roi_inside"][0] < n


@torch.no_grad()
def test_read_outs_by_hand(batch):
    m = strong_heads(module()).eval()
    e = m.evaluate([batch])
    truth = batch.people.joint_NK3[..., :2]
    coarse = torch.cat([p.extra["coarse_NK2"] for p in e.poses])
    final = torch.cat([p.joint_NK3[..., :2] for p in e.poses])
    assert e.sums["coarse_error_px"][0].item() == pytest.approx((coarse - truth).norm(dim=-1).sum().item(), rel=1e-5)
    assert e.sums["final_error_px"][0].item() == pytest.approx((final - truth).norm(dim=-1).sum().item(), rel=1e-5)
    centre = torch.cat([p.extra["centre_NK2"] for p in e.poses])
    assert e.sums["roi_inside"][0] == ((truth - centre).abs() <= 14).all(-1).sum()
    assert m.ap_read_outs == {"coarse_AP": "coarse_NK2"}


def test_several_scales_are_refused(batch):
    m = module()
    image = m.normalise(batch.image_B3HW)
    with pytest.raises(UserError, match="test_scales"):
        m.infer([View(image, batch, False, 1.0), View(image, batch, False, 2.0)])


def test_learning_rate_of_the_recipe():
    """Specification section 9.7: 4e-8, 4e-3, 4e-3, 2e-4 at iterations 0 and 1000 and epochs 210 and 420."""
    cfg = load("drpnet/m", find_paper=papers.get).cfg
    per_epoch = 146  # 149 813 people / 1024
    schedule = Schedule(cfg.optim, 420 * per_epoch)
    base = scaled_lr(cfg.optim, cfg.train.batch)
    got = [base * schedule(step) for step in (0, 1000, 210 * per_epoch, 420 * per_epoch)]
    assert got == pytest.approx([4e-8, 4e-3, 4e-3, 2e-4], rel=1e-3)
    assert scaled_lr(cfg.optim, 256) == pytest.approx(1e-3)


def test_ema_and_augmentation_of_the_recipe():
    cfg = load("drpnet/m", find_paper=papers.get).cfg
    for step, want in ((0, 0.9995), (1000, 0.606), (5000, 0.082), (20_000, 0.00025)):
        assert momentum(step, cfg.optim.ema) == pytest.approx(want, rel=0.02)
    assert cfg.train.epochs * (1 - cfg.data.final_share) == pytest.approx(390)
    assert cfg.data.augment_final.shift.p == 0 and cfg.data.augment.shift.p == 0.3
    assert cfg.loss.roi_mixed_share * cfg.train.epochs == pytest.approx(10)
    assert cfg.optim.weight_decay == 0.05 and not cfg.optim.decay_1d and cfg.optim.name == "adamw"


def test_presets():
    literal = load("drpnet/paper-literal", find_paper=papers.get).cfg
    assert (literal.loss.roi_source, literal.decode.peak, literal.test.flip) == ("pred", "argmax", False)
    caption = load("drpnet/caption", find_paper=papers.get).cfg
    assert (caption.model.neck.width, caption.model.head.share) == (256, "shared")
    fit = load("drpnet/m", find_paper=papers.get).cfg
    assert (fit.loss.roi_source, fit.decode.peak, fit.test.flip) == ("mixed", "subpixel", True)


@pytest.mark.slow  # the contract overfits a batch too
def test_overfits_8_people():
    """Specification section 9.10: both losses fall, the final error is below 2 px."""
    people = drawn_batch(COCO17, 8, (96, 72), seed=5)
    m = module("test.flip=false", seed=3)
    m.train()
    steps = 70
    optimizer = torch.optim.AdamW(m.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.1)
    history = []
    for _ in range(steps):
        found = run_losses(m, people)
        optimizer.zero_grad()
        m.combine(found).backward()
        optimizer.step()
        schedule.step()
        history.append({k: v.item() for k, v in found.items()})
    for name in ("coarse", "fine"):
        assert history[-1][name] < 0.2 * history[0][name], (name, history[0], history[-1])
    m.eval()
    with torch.no_grad():
        sums = m.evaluate([people]).sums
    mean = {name: float(s / n) for name, (s, n) in sums.items()}
    assert mean["final_error_px"] < 2, mean
    assert mean["roi_inside"] > 0.98, mean
