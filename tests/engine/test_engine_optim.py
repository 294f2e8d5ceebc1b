import math

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn

from repose.config import Ema, Optim
from repose.engine.ema import Average, momentum
from repose.engine.optim import Schedule, build_optimizer, parameter_groups, scaled_lr

DRPNET = Optim(base_lr=4e-3, base_batch=1024, schedule="flat_cosine", warmup_steps=1000)


@pytest.mark.parametrize(
    ("step", "lr"), [(0, 4e-8), (500, 2e-3), (1000, 4e-3), (210 * 146, 4e-3), (315 * 146, 2.1e-3), (420 * 146, 2e-4)]
)
def test_learning_rates_of_drpnets_recipe(step, lr):
    # specs/drpnet.md, acceptance test 7; at 3/4 of training the cosine is half-way between 4e-3 and 2e-4
    schedule = Schedule(DRPNET, 420 * 146)
    assert scaled_lr(DRPNET, 1024) * schedule(step) == pytest.approx(lr, rel=1e-4)


def test_learning_rate_scales_with_the_global_batch():
    assert scaled_lr(DRPNET, 256) == pytest.approx(1e-3)


def test_multi_step_and_constant():
    schedule = Schedule(Optim(schedule="multi_step", milestones=(0.5, 0.75)), 200)
    assert [schedule(s) for s in (0, 99, 100, 149, 150, 199)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert Schedule(Optim(), 10)(7) == 1.0


def test_plateau_waits_its_patience_and_survives_a_checkpoint():
    schedule = Schedule(Optim(schedule="plateau", patience=1, gamma=0.5), 100)
    scheduler = torch.optim.lr_scheduler.LambdaLR(torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0), schedule)
    for score in (0.3, 0.2, 0.2):  # one better, two worse: patience 1 is over
        schedule.see(score)
    assert schedule(10) == 0.5
    other = Schedule(Optim(schedule="plateau", patience=1, gamma=0.5), 100)
    torch.optim.lr_scheduler.LambdaLR(torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0), other).load_state_dict(
        scheduler.state_dict()
    )
    assert (other.factor, other.best, other.bad) == (0.5, 0.3, 0)


def test_plateau_waits_for_a_first_person():
    schedule = Schedule(Optim(schedule="plateau", patience=1, gamma=0.5), 100)
    for score in (0.0, -1.0, 0.0, 0.0, 0.1, 0.0, 0.0):
        schedule.see(score)
    assert (schedule(10), schedule.best) == (1.0, 0.1)


def test_norms_and_biases_are_exempt_from_weight_decay():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    decayed, exempt = parameter_groups(net.parameters(), Optim(weight_decay=0.05))
    assert [tuple(p.shape) for p in decayed["params"]] == [(4, 3, 3, 3), (2, 4)]
    assert [tuple(p.shape) for p in exempt["params"]] == [(4,), (4,), (4,), (2,)]
    assert (decayed["weight_decay"], exempt["weight_decay"]) == (0.05, 0.0)
    (every,) = parameter_groups(net.parameters(), Optim(weight_decay=0.05, decay_1d=True))
    assert len(every["params"]) == 6


@pytest.mark.parametrize(("name", "kind"), [("adamw", "AdamW"), ("adam", "Adam"), ("sgd", "SGD")])
def test_optimizers(name, kind):
    optimizer = build_optimizer(nn.Linear(2, 2).parameters(), Optim(name=name), 0.1)
    assert type(optimizer).__name__ == kind and optimizer.param_groups[0]["lr"] == 0.1


@pytest.mark.parametrize(("step", "value"), [(0, 0.9995), (1000, 0.606), (5000, 0.082), (20_000, 0.00025)])
def test_ema_ramp(step, value):
    # specs/drpnet.md, section 4: (1 - m) exp(-(1 + t) / 2000) + m with m = 2e-4
    assert momentum(step, Ema(decay=0.9998, ramp=2000)) == pytest.approx(value, rel=0.02)


def test_the_average_goes_where_the_network_goes():
    """Lightning copies the network before it moves it."""
    network, average = LightningModule(), Average(Ema(decay=0.9))
    network.layer = nn.Linear(2, 2)
    trainer = Trainer(logger=False, accelerator="cpu", enable_checkpointing=False)
    average.setup(trainer, network, "fit")
    network.to("meta")
    average.on_fit_start(trainer, network)
    assert average._average_model is not None
    assert {p.device.type for p in average._average_model.parameters()} == {"meta"}


def test_ema_without_a_ramp():
    assert momentum(0, Ema(decay=0.99)) == pytest.approx(0.01)
    assert math.isclose(momentum(10**6, Ema(decay=0.99)), 0.01)
