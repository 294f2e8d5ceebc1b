"""`repose bench train`: samples per second and peak memory of training steps on one device (CGANet's Table 4)."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

from repose.commands.bench_inference import device_of, memory, start_memory, synchronise
from repose.config import ExperimentBase, Loaded
from repose.errors import UserError

if TYPE_CHECKING:
    from repose.types import Batch

STEPS = {"cuda": 20, "mps": 10, "cpu": 3}
"""Steps measured, by device."""
WARM = {"cuda": 5, "mps": 3, "cpu": 1}


def bench_train(
    loaded: Loaded, batch: int | None = None, steps: int | None = None, warm: int | None = None
) -> dict[str, Any]:
    """Time training steps: targets, forward, losses, backward, clipping, the optimiser's step.

    The batch is read once and used again, so the data pipeline is not measured (`repose bench data` does); it stays on
    the device. In a distributed run the gradients' exchange comes on top.

    Args:
        loaded: an experiment.
        batch: samples on the device; None = what one device of this machine would get.
        steps: how many are measured.
        warm: how many before.

    Returns:
        `experiment`, `device`, `hardware`, `precision`, `threads`, `batch`, `input_size`, `warm`, `steps`,
        `samples_per_s` (by the median step), `step_ms` {median, p10, p90}, `peak_memory_mb`, `reserved_memory_mb`,
        `memory_of` (device; or the process, where there is no GPU), `loss` of the last step.

    Raises:
        UserError: the data are not here, or the loss is not finite.
    """
    import torch

    from repose.engine.layout import plan
    from repose.engine.module import NonFiniteLoss
    from repose.engine.optim import build_optimizer, scaled_lr
    from repose.engine.provenance import hardware
    from repose.engine.setup import build_module, use_threads

    cfg = loaded.cfg
    use_threads(cfg)
    layout, device = plan(cfg.train, testing=batch is not None), device_of(cfg)
    batch = batch or layout.device_batch
    steps = STEPS[device.type] if steps is None else steps
    warm = WARM[device.type] if warm is None else warm
    module = build_module(loaded).to(device).train()
    optimizer = build_optimizer(module.parameters(), cfg.optim, scaled_lr(cfg.optim, cfg.train.batch))
    samples = module.transfer_batch_to_device(training_batch(cfg, batch), device, 0)
    low = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(layout.precision)
    seconds: list[float] = []
    loss = torch.zeros(())
    start_memory(device)
    for i in range(warm + steps):
        synchronise(device)
        begin = time.perf_counter()
        try:
            with torch.autocast(device.type, dtype=low, enabled=low is not None):
                loss = module.training_step(samples, i)
        except NonFiniteLoss as error:
            raise UserError(f"bench train: the loss is not finite after {i} steps: {error}") from None
        optimizer.zero_grad()
        loss.backward()
        if cfg.optim.clip_norm:
            torch.nn.utils.clip_grad_norm_(module.parameters(), cfg.optim.clip_norm)
        optimizer.step()
        module.after_step()
        synchronise(device)
        if i >= warm:
            seconds.append(time.perf_counter() - begin)
    median, peak = statistics.median(seconds), memory(device)
    ordered = sorted(seconds)
    return {
        "experiment": cfg.name,
        "scale": cfg.scale,
        "device": device.type,
        "hardware": hardware(),
        "precision": layout.precision,
        "threads": torch.get_num_threads(),
        "batch": batch,
        "input_size": list(cfg.data.input_size),
        "warm": warm,
        "steps": steps,
        "samples_per_s": round(batch / median, 3),
        "step_ms": {
            "median": round(1000 * median, 2),
            "p10": round(1000 * ordered[len(ordered) // 10], 2),
            "p90": round(1000 * ordered[(9 * len(ordered)) // 10], 2),
        },
        "peak_memory_mb": peak["allocated_mb"],
        "reserved_memory_mb": peak["reserved_mb"],
        "memory_of": peak["of"],
        "loss": float(loss.detach()),
    }


def training_batch(cfg: ExperimentBase, size: int) -> Batch:
    """The first training samples as one batch, from the beginning again where there are too few."""
    from dataclasses import replace

    from repose.data.datamodule import PoseDataModule

    # a small batch may be less than one step of the experiment's
    data = PoseDataModule(replace(cfg, train=replace(cfg.train, batch=size, device_batch=None)))
    data.prepare_data()
    data.setup("fit")
    assert data.train_set is not None
    return data.train_set.__getitems__([(0, i % len(data.train_set)) for i in range(size)])


def render(measured: dict[str, Any]) -> str:
    """The measurement for people."""
    size = "x".join(map(str, measured["input_size"]))
    step = measured["step_ms"]
    reserved = f", {measured['reserved_memory_mb']:.0f} MiB reserved" if measured["memory_of"] == "device" else ""
    return "\n".join(
        [
            f"{measured['experiment']}, scale {measured['scale']}: training steps of {measured['batch']} samples at "
            f"{size}, median of {measured['steps']} after {measured['warm']}; data pipeline not counted",
            f"{measured['hardware']}; {measured['device']}, precision {measured['precision']}, "
            f"{measured['threads']} threads",
            f"{measured['samples_per_s']:.2f} samples/s; step {step['median']:.0f} ms (10 to 90 %: {step['p10']:.0f} "
            f"to {step['p90']:.0f}); peak memory {measured['peak_memory_mb']:.0f} MiB of the {measured['memory_of']}"
            f"{reserved}",
        ]
    )
