"""The module as a whole: recipe, learning rates, flip test, read-outs, configuration errors."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from drawn_batch import drawn_batch
from idgroup_kit import batch_of, config, module, person

from repose import papers
from repose.config import load
from repose.engine.module import View
from repose.engine.optim import Schedule
from repose.errors import UserError
from repose.geometry import mirror
from repose.papers.idgroup.decode import Active
from repose.skeleton import COCO17


@pytest.mark.parametrize("name", ["mobilenetv3", "maxvit"])
def test_recipe(name):
    """Specification 6; §V.B: AdamW, learning rate in [1e-4, 3e-3], weight decay 1e-5."""
    cfg = load(f"idgroup/{name}", find_paper=papers.get).cfg
    assert (cfg.optim.name, cfg.optim.base_lr, cfg.optim.weight_decay) == ("adamw", 3e-3, 1e-5)
    assert cfg.optim.base_batch == cfg.train.batch == 32 and cfg.train.epochs == 100 and cfg.train.val_every == 1
    assert (cfg.optim.clip_norm, cfg.optim.warmup_steps, cfg.optim.ema.decay) == (1.0, 500, 0.999)
    assert cfg.data.input_size == (256, 256) and cfg.data.base == "long" and cfg.data.test_multiple == 256
    assert (cfg.decode.threshold, cfg.decode.distance) == (0.8, 3.0)
    draw = cfg.data.augment
    assert (draw.flip, draw.scale.range, draw.rotation.range, draw.shift.range) == (
        0.5, (0.75, 1.33), (-30, 30), (-0.15, 0.15),
    )  # fmt: skip


def test_the_plateau_ends_at_the_papers_lowest_rate():
    cfg = load("idgroup/mobilenetv3", find_paper=papers.get).cfg
    schedule = Schedule(cfg.optim, 10_000)
    rates = []
    for _ in range(60):
        schedule.see(0.1)  # AP never improves after the first
        rates.append(3e-3 * schedule(600))
    assert rates[0] == pytest.approx(3e-3) and rates[4] == pytest.approx(1.5e-3)
    assert min(rates) == pytest.approx(1e-4) == pytest.approx(rates[-1])
    assert schedule(250) == pytest.approx(schedule(600) / 2, rel=0.01)  # the warm-up still holds


def test_the_backbones_learning_rate():
    m = module("model.backbone.lr_factor=0.1", "loss.weighting=paper")
    m._trainer = SimpleNamespace(estimated_stepping_batches=10)  # type: ignore[assignment]
    optimizer = m.configure_optimizers()["optimizer"]
    rate = {id(p): (g["initial_lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    assert len(rate) == len(list(m.parameters()))
    full = m.cfg.optim.base_lr * m.cfg.train.batch / m.cfg.optim.base_batch
    for name, p in m.named_parameters():
        lr, decay = rate[id(p)]
        assert lr == pytest.approx(full * (0.1 if name.startswith("net.backbone") else 1)), name
        assert decay == (m.cfg.optim.weight_decay if p.ndim > 1 else 0), name
    assert rate[id(m.balance.weight_2)] == (pytest.approx(full), 0)


def test_wrong_settings_are_one_line():
    for settings, message in (
        (["data.view=person"], "set data.view=image"),
        (["test.oks_nms=0.9"], "set it to null"),
        (["model.backbone.name=maxvit_nano_rw_256"], "multiples of 256"),
        (["model.transformer.width=30"], "multiple of 4"),
        (["model.transformer.heads=3"], "model.transformer.heads=3"),
        (["model.hourglass.width=33"], "even number"),
        (["model.transformer.heads=0"], "transformer.heads.*at least 1"),
        (["model.transformer.temperature=0"], "temperature above 0"),
        (["loss.vector_unit=0"], "above 0"),
        (["loss.chamfer=-1"], "chamfer.*at least 0"),
        (["decode.threshold=1.5"], r"threshold=1\.5 must be in \[0, 1\]"),
        (["decode.distance=-3"], "distance=-3 at least 0"),
        (["decode.top=0"], "top=0 at least 1"),
    ):
        with pytest.raises(UserError, match=message) as error:
            config(*settings)
        assert "\n" not in str(error.value)


def test_scales_load():
    for scale in ("smoke", "mini", "lite"):
        cfg = config(scale=scale)
        assert cfg.model.backbone.lr_factor == 1.0  # from scratch
        assert cfg.data.input_size[0] == cfg.data.test_multiple
    assert config(scale="mini").data.input_size == (128, 128)


@torch.no_grad()
def test_flip_test_of_a_mirrored_network():
    """A network that gives the mirrored view the mirrored maps changes nothing by the flip test."""
    m = module("test.flip=true").eval()
    batch = drawn_batch(COCO17, 2, (96, 96), 2)
    image = m.normalise(batch.image_B3HW)
    plain = m.infer([View(image, batch, False, 1.0)])
    assert len(plain.owner_P) > 0
    # the same view twice, once declared as the mirror of its mirror: cells of the mean are symmetric
    both = m.infer([View(image, batch, False, 1.0), View(mirror(image, 1), batch, True, 1.0)])
    turned = replace(batch, image_B3HW=batch.image_B3HW.flip(-1))
    other = m.infer([View(mirror(image, 1), turned, False, 1.0), View(image, turned, True, 1.0)])

    def cells(active: Active, flip: bool) -> dict[tuple[int, int, int], torch.Tensor]:
        vector = active.vector_PK2
        if flip:
            vector = torch.stack([24 - vector[..., 0], vector[..., 1]], -1)[:, list(COCO17.flip_index)]
        x = 23 - active.cell_P2[:, 0] if flip else active.cell_P2[:, 0]
        keys = zip(active.owner_P.tolist(), x.tolist(), active.cell_P2[:, 1].tolist(), strict=True)
        return dict(zip(keys, vector, strict=True))

    a, b = cells(both, False), cells(other, True)
    assert a.keys() == b.keys()
    for key, vector in a.items():
        torch.testing.assert_close(vector, b[key], atol=1e-3, rtol=1e-4)


def test_several_scales_are_refused():
    m = module()
    batch = drawn_batch(COCO17, 1, (96, 96), 1)
    image = m.normalise(batch.image_B3HW)
    with pytest.raises(UserError, match=r"give one scale"):
        m.infer([View(image, batch, False, 1.0), View(image, batch, False, 0.5)])


def test_read_outs_of_the_truth():
    m = module("data.input_size=[256, 256]")
    batch = batch_of([person(20, 30, 180), person(120, 60, 100)], [])
    t = m.encode(batch)
    off = t.vector_MK2 + torch.tensor([0.3, 0.4])  # half a cell
    active = Active(t.owner_M, t.cell_M2, torch.ones(len(t.owner_M)), off, 2)
    found = {k: float(s / n) for k, (s, n) in m.read_outs(active, batch, m.decode(active)).items()}
    assert found["active_cells"] == len(t.owner_M) / 2 and found["people"] == 1
    assert found["vector_error"] == pytest.approx(0.5, rel=1e-4)
    true = active._replace(vector_PK2=t.vector_MK2, score_P=(t.joint_M != 9).float())  # as if no cell were a wrist's
    total, count = m.read_outs(true, batch, m.decode(true))["recovered"]
    assert (total.item(), count.item()) == (2, 34)
    assert m.read_outs(true, batch, m.decode(true))["vector_error"][0] == 0


@torch.no_grad()
def test_vectors_stay_on_the_map():
    m = module().eval()
    m.net.head.bias += 3
    batch = drawn_batch(COCO17, 1, (96, 96), 1)
    active = m.infer([View(m.normalise(batch.image_B3HW), batch, False, 1.0)])
    assert len(active.owner_P) and active.vector_PK2.max() == 24
