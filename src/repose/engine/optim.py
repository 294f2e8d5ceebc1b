"""Optimiser, learning-rate schedule per step, and the linear scaling rule."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from repose.config import Optim


def scaled_lr(optim: Optim, batch: int) -> float:
    """Learning rate at a global batch: base_lr x batch / base_batch (linear scaling, Goyal et al. 2017).

    Args:
        optim: settings.
        batch: global batch, samples.
    """
    return optim.base_lr * batch / optim.base_batch


def parameter_groups(parameters: Iterable[nn.Parameter], optim: Optim) -> list[dict[str, Any]]:
    """Parameters with and without weight decay.

    1-D (and 0-D) tensors are norm weights, biases and learnable scalars: exempt unless `decay_1d`.
    """
    trained = [p for p in parameters if p.requires_grad]
    decayed = [p for p in trained if optim.decay_1d or p.ndim > 1]
    exempt = [p for p in trained if not optim.decay_1d and p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": optim.weight_decay}, {"params": exempt, "weight_decay": 0.0}]
    return [g for g in groups if g["params"]]


def build_optimizer(
    parameters: Iterable[nn.Parameter],
    optim: Optim,
    lr: float,
    others: Iterable[tuple[Iterable[nn.Parameter], float]] = (),
) -> Optimizer:
    """AdamW, Adam or SGD over `parameter_groups`, at learning rate `lr`.

    Args:
        parameters: at learning rate `lr`.
        optim: settings.
        lr: learning rate.
        others: parameters with another learning rate, and its factor of `lr`.
    """
    groups = parameter_groups(parameters, optim)
    for more, factor in others:
        groups += [{**group, "lr": lr * factor} for group in parameter_groups(more, optim)]
    match optim.name:
        case "adamw":
            return AdamW(groups, lr=lr, betas=optim.betas)
        case "adam":
            return Adam(groups, lr=lr, betas=optim.betas)
        case "sgd":
            return SGD(groups, lr=lr, momentum=optim.momentum)


class Schedule:
    """Factor of the learning rate at each optimiser step; called by LambdaLR, which keeps its state in checkpoints.

    Attributes:
        factor: product of the plateau's reductions so far.
        best: best score that `plateau` has seen.
        bad: evaluations in a row without a better one.
    """

    def __init__(self, optim: Optim, steps: int) -> None:
        """Args: optim: settings; steps: optimiser steps of the whole training."""
        self.kind = optim.schedule
        self.steps = steps
        self.warmup_steps = optim.warmup_steps
        self.warmup_factor = optim.warmup_factor
        self.flat_steps = optim.flat_share * steps
        self.final_factor = optim.final_factor
        self.milestones = [share * steps for share in optim.milestones]
        self.gamma = optim.gamma
        self.patience = optim.patience
        self.factor = 1.0
        self.best = -math.inf
        self.bad = 0

    def __call__(self, step: int) -> float:
        """Factor at optimiser step `step` (0 is the first)."""
        return self._warmup(step) * self._main(step)

    def _warmup(self, step: int) -> float:
        if step >= self.warmup_steps:
            return 1.0
        return self.warmup_factor + (1 - self.warmup_factor) * step / self.warmup_steps

    def _main(self, step: int) -> float:
        match self.kind:
            case "flat_cosine":
                span = max(self.steps - self.flat_steps, 1)
                done = min(max(step - self.flat_steps, 0) / span, 1.0)
                return self.final_factor + (1 - self.final_factor) * (1 + math.cos(math.pi * done)) / 2
            case "multi_step":
                return self.gamma ** sum(step >= m for m in self.milestones)
            case "plateau":
                return max(self.factor, self.final_factor)
            case _:
                return 1.0

    def see(self, score: float) -> None:
        """Tell `plateau` the AP of an evaluation; the new factor holds from the next step on.

        An AP of 0 says nothing: a network that finds nobody yet may still learn.
        """
        if self.kind != "plateau" or score <= 0:
            return
        if score > self.best:
            self.best, self.bad = score, 0
            return
        self.bad += 1
        if self.bad > self.patience:
            self.factor *= self.gamma
            self.bad = 0
