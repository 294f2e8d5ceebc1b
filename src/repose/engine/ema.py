"""Exponential moving average of weights and buffers, with a ramp: Lightning's WeightAveraging with our momentum.

Validation and the `state_dict` of checkpoints hold the averaged weights; the raw ones lie under `current_model_state`
for resuming. The average starts at step 0 (a delayed start would validate a copy that was never updated).
"""

from __future__ import annotations

import math

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from repose.config import Ema


def momentum(step: int, ema: Ema) -> float:
    """Share of the new weights in the average at an update.

    momentum_t = (1 - m) exp(-(1 + t) / ramp) + m with m = 1 - decay (RTMPose's recipe; DRP-Net §2.4, Eq. 12 gives m).

    Args:
        step: t, updates made before; 0 is the first.
        ema: settings; `decay` must be set.
    """
    if ema.decay is None:
        raise ValueError("optim.ema.decay is null: there is no average")
    m = 1 - ema.decay
    if ema.ramp <= 0:
        return m
    return (1 - m) * math.exp(-(1 + step) / ema.ramp) + m


class Average(WeightAveraging):
    """The moving average as a callback."""

    def __init__(self, ema: Ema) -> None:
        """Args: ema: settings with `decay`."""
        self._ema = ema
        super().__init__(use_buffers=True, multi_avg_fn=self._update)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The copy was made before the network went to its GPU, and would be updated over the bus at every step."""
        assert self._average_model is not None
        self._average_model.to(pl_module.device)

    @torch.no_grad()
    def _update(self, average: list[Tensor], current: list[Tensor], n: Tensor) -> None:
        # The step is counted in Python (one update per optimiser step): reading `n` would stop the GPU's queue.
        if average[0].is_floating_point():
            share = momentum(self._latest_update_step, self._ema)
            torch._foreach_lerp_(average, current, share)  # pyright: ignore[reportPrivateImportUsage]
        else:  # counters (num_batches_tracked)
            torch._foreach_copy_(average, current)  # pyright: ignore[reportPrivateImportUsage]
