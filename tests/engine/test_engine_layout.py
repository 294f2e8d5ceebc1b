import pytest
import torch

from repose.config import Train
from repose.engine.layout import plan, precision, split_batch
from repose.errors import UserError


def test_global_batch_is_device_batch_times_devices_times_accumulation():
    assert split_batch(1024, 8, None) == (128, 1)
    assert split_batch(1024, 8, 32) == (32, 4)
    assert split_batch(1024, 1, 2048) == (1024, 1)


def test_a_batch_that_cannot_be_divided_names_the_fix():
    with pytest.raises(UserError, match=r"train.batch=100 .* 8 devices; use train.batch=96 or 104, or train.devices=5"):
        split_batch(100, 8, None)
    with pytest.raises(UserError, match=r"128.*use train.device_batch=32"):
        split_batch(128, 1, 48)


def test_plan_on_a_cpu(monkeypatch):
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    layout = plan(Train(batch=64, device_batch=16, accelerator="cpu", devices=2, precision="32"))
    assert (layout.device_batch, layout.accumulate, layout.world, layout.precision) == (16, 2, 2, "32-true")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert plan(Train(batch=64, accelerator="cpu")).nodes == 2


@pytest.mark.parametrize(("amx", "auto"), [(True, "bf16-mixed"), (False, "32-true")])
def test_auto_takes_bf16_where_the_cpu_computes_in_it(monkeypatch, amx, auto):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": amx}, raising=False)
    assert precision("auto", "cpu") == auto
    assert precision("32", "cpu") == "32-true"
