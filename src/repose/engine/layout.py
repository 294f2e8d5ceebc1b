"""Devices, precision, and how the fixed global batch falls on them."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from repose.config import Train
from repose.errors import UserError


@dataclass(frozen=True)
class Layout:
    """Who computes what of a global batch.

    Attributes:
        accelerator: cpu, gpu or mps.
        devices: processes on this machine.
        nodes: machines.
        device_batch: samples that one device takes at once.
        accumulate: device batches per optimiser step.
        precision: Lightning's name.
    """

    accelerator: str
    devices: int
    nodes: int
    device_batch: int
    accumulate: int
    precision: str

    @property
    def world(self) -> int:
        """Processes in all."""
        return self.devices * self.nodes

    def words(self) -> str:
        """In words, for the first line of a run."""
        on = f"{self.world} x {self.accelerator}" if self.world > 1 else self.accelerator
        gathered = f" x {self.accumulate} accumulated" if self.accumulate > 1 else ""
        return f"{on}, {self.device_batch} per device{gathered}, precision {self.precision}"


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


def split_batch(batch: int, world: int, device_batch: int | None) -> tuple[int, int]:
    """Samples per device and accumulated batches per step, so that their product with `world` is the global batch.

    Args:
        batch: global batch.
        world: devices in all.
        device_batch: most that a device takes at once; None takes its whole share.

    Raises:
        UserError: it cannot be divided evenly; says what can.
    """
    if batch % world:
        near = [b for b in (batch - batch % world, batch - batch % world + world) if b]
        fewer = max(d for d in _divisors(batch) if d <= world)
        raise UserError(
            f"train.batch={batch} cannot be divided over {world} devices; "
            f"use train.batch={' or '.join(map(str, near))}, or train.devices={fewer}"
        )
    share = batch // world
    if device_batch is None or device_batch >= share:
        return share, 1
    if device_batch < 1 or share % device_batch:
        fits = max((d for d in _divisors(share) if d <= max(device_batch, 1)), default=1)
        raise UserError(
            f"train.device_batch={device_batch} does not divide a device's share of the global batch "
            f"({batch} / {world} devices = {share}); use train.device_batch={fits}"
        )
    return device_batch, share // device_batch


def plan(train: Train, testing: bool = False) -> Layout:
    """The layout on this machine.

    Args:
        train: settings.
        testing: for an evaluation, whose batch need not fall evenly on the devices.

    Raises:
        UserError: a GPU is asked for and absent, or the batch cannot be divided.
    """
    accelerator = train.accelerator
    if accelerator == "auto":
        accelerator = "gpu" if torch.cuda.is_available() else "cpu"
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise UserError(
            "train.accelerator=gpu: torch sees no GPU here (`repose doctor` says why); use train.accelerator=cpu"
        )
    there = torch.cuda.device_count() if accelerator == "gpu" else 1
    devices = train.devices or there
    if accelerator == "gpu" and devices > there:
        raise UserError(f"train.devices={devices}: there are {there} GPUs here; use train.devices={there}")
    nodes = train.nodes
    if local := os.environ.get("LOCAL_WORLD_SIZE"):  # torchrun has already decided
        devices = int(local)
        nodes = int(os.environ.get("WORLD_SIZE", local)) // devices
    if testing:
        device_batch, accumulate = train.batch, 1
    else:
        device_batch, accumulate = split_batch(train.batch, devices * nodes, train.device_batch)
    return Layout(accelerator, devices, nodes, device_batch, accumulate, precision(train.precision, accelerator))


def precision(wanted: str, accelerator: str) -> str:
    """Lightning's name of a precision; auto is bf16 where the device computes in it (no emulation), else 32 bits."""
    if wanted == "auto":
        wanted = "bf16" if _computes_in_bf16(accelerator) else "32"
    return {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}[wanted]


def _computes_in_bf16(accelerator: str) -> bool:
    """Whether bf16 is worth it: tensor cores, or a CPU with AMX tiles (1.0 to 1.7 times as fast as 32 bits there)."""
    if accelerator == "gpu":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if accelerator == "cpu" and hasattr(torch.cpu, "get_capabilities"):  # older torch lacks it
        return bool(torch.cpu.get_capabilities().get("amx_bf16"))
    return False
