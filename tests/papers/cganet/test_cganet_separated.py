"""CGANet's separated model: the papers' contract, targets, losses, flip test, learning one batch by heart."""

from dataclasses import replace

import pytest
import test_contract_papers as contract
import torch
from drawn_batch import FIVE, coco_ground_truth, drawn_batch, without_people

from repose import papers
from repose.config import Layer, load
from repose.metrics.keypoint_ap import KeypointAP
from repose.ops.crops import crop_heatmaps, heatmap_people
from repose.papers.cganet import separated
from repose.papers.cganet.config import Loss
from repose.papers.cganet.module import SeparatedModule, cganet_module
from repose.skeleton import COCO17

SMALL = ["scale=smoke", "data.input_size=[96, 72]", "model.backbone.width=8"]


def module(*settings, seed=0):
    cfg = load("cganet/separated", [*SMALL, *settings], find_paper=papers.get).cfg
    torch.manual_seed(seed)
    made = cganet_module(cfg, COCO17)
    assert isinstance(made, SeparatedModule)
    return made


@pytest.fixture(scope="module")
def batch():
    return drawn_batch(COCO17, 3, (96, 72))


def run(m, batch):
    targets = m.encode(batch)
    return m.losses(m.forward_train(m.normalise(batch.image_B3HW), batch, targets), targets)


def test_targets_stand_on_whole_cells(batch):
    targets = crop_heatmaps(batch, 17, 4, Loss().separated_sigma)
    assert targets.heatmap_BKHW.shape == (3, 17, 24, 18) and targets.weight_BK.all()
    cells = targets.heatmap_BKHW.flatten(2).argmax(-1)
    found = torch.stack([cells % 18, cells // 18], -1) * 4
    assert (found - batch.people.joint_NK3[..., :2]).abs().max() <= 2
    assert torch.equal(targets.heatmap_BKHW.flatten(2).amax(-1), torch.ones(3, 17))


def test_losses_by_hand(batch):
    targets = crop_heatmaps(batch, 17, 4, Loss().separated_sigma)
    zero = torch.zeros_like(targets.heatmap_BKHW)
    found = separated.losses(zero, targets, Loss())["heatmap"]
    torch.testing.assert_close(found, targets.heatmap_BKHW.square().mean() / 2)
    assert separated.losses(targets.heatmap_BKHW, targets, Loss())["heatmap"] == 0
    focal = separated.losses(zero, targets, Loss(separated="focal"))["heatmap"]
    wanted = targets.heatmap_BKHW
    by_hand = 0.6931472 * 0.25 * ((wanted == 1).sum() + ((1 - wanted[wanted < 1]) ** 4).sum()) / (3 * 17)
    torch.testing.assert_close(focal, by_hand, rtol=1e-4, atol=0)


def test_decode_inverts_encode(batch):
    targets = crop_heatmaps(batch, 17, 4, Loss().separated_sigma)
    people = heatmap_people(targets.heatmap_BKHW, 4, "argmax")
    found = torch.cat([p.joint_NK3 for p in people])
    assert (found[..., :2] - batch.people.joint_NK3[..., :2]).abs().max() <= 2  # half a cell
    assert torch.equal(found[..., 2], torch.ones(3, 17))


@pytest.mark.parametrize("loss", ["mse", "focal"])
def test_every_parameter_gets_a_gradient_and_nobody_trains(batch, loss):
    m = module(f"loss.separated={loss}")
    found = run(m, batch)
    assert found.keys() == {"heatmap"} == m.weights.keys()
    m.combine(found).backward()
    assert all(p.grad is not None and p.grad.any() for p in m.net.parameters())
    empty = run(m, without_people(batch, 17))
    assert empty["heatmap"].item() == 0
    with torch.no_grad():
        evaluated = m.eval().evaluate([without_people(batch, 17)])
    assert len(evaluated.poses) == 3


@pytest.fixture
def facts(monkeypatch):
    """The contract builds the separated model."""
    mine = replace(contract.FACTS["cganet"], experiment="cganet/separated")
    monkeypatch.setitem(contract.FACTS, "cganet", mine)


@pytest.mark.usefixtures("facts")
@pytest.mark.parametrize("skeleton", contract.SKELETONS)
@pytest.mark.parametrize(
    "clause",
    [
        contract.test_every_parameter_gets_a_finite_gradient,
        contract.test_a_batch_equals_its_images_one_by_one,
        contract.test_checkpoint_round_trip_is_bit_equal,
        contract.test_nobody_trains_and_tests,
    ],
)
def test_contract(clause, skeleton):
    clause("cganet", skeleton)


@pytest.mark.usefixtures("facts")
@pytest.mark.parametrize("hw", [(100, 76), (97, 75)])
def test_contract_odd_sizes(hw):
    contract.test_odd_sizes("cganet", hw)


@pytest.mark.usefixtures("facts")
def test_contract_precision_and_inputs():
    contract.test_bfloat16_trains("cganet")
    contract.test_inputs_are_left_alone("cganet")


def test_flip_merge():
    one, two = torch.rand(2, 1, 17, 6, 4)
    swap = list(COCO17.flip_index)
    found = separated.merge([one, two], [False, True], swap, Loss())
    torch.testing.assert_close(found, (one + two.flip(-1)[:, swap]) / 2)
    torch.testing.assert_close(separated.merge([one], [False], swap, Loss(separated="focal")), one.sigmoid())


def test_switches_change_the_targets_and_the_loss(batch):
    plain = run(module(), batch)["heatmap"].item()
    assert run(module("loss.separated_sigma=3"), batch)["heatmap"].item() != plain
    assert run(module("loss.separated=focal"), batch)["heatmap"].item() != plain
    assert module("loss.heatmap=2").weights == {"heatmap": 2.0}


@pytest.mark.slow
def test_learns_a_batch_by_heart():
    # targets stand on whole cells of 4 pixels: a quarter cell towards the higher neighbour is noise where all is learnt
    settings = {"model": {"backbone": {"depth": 2}}, "decode": {"peak": "argmax"}, "test": {"flip": False}}
    row = [Layer("test", settings | {"skeleton": FIVE})]
    cfg = load("cganet/separated", ["scale=smoke", "data.input_size=[96, 72]"], find_paper=papers.get, row=row).cfg
    five = cfg.joint_set()
    torch.manual_seed(3)
    m = cganet_module(cfg, five)
    batch = drawn_batch(five, 4, (96, 72), seed=5)
    optimizer = torch.optim.AdamW(m.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=80, pct_start=0.1)
    for _ in range(80):
        loss = m.combine(run(m, batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        evaluated = m.eval().evaluate([batch])
    metric = KeypointAP(five, coco_ground_truth(batch, five), oks_nms=0.9)
    metric.update(batch.image_id_B, batch.subject_id_B, evaluated.poses_img, evaluated.area_B)
    assert metric.compute()["AP"] >= 0.95
