"""Callbacks of a training run: seeds per step, logs, progress with ETA, evaluation and checkpoints.

States are saved at one kind of place, the end of an optimiser step (`Keeper`), so that a resumed run has one way in.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from repose.engine import checkpoint as ckpt
from repose.engine.evaluation import Evaluator, Scores
from repose.engine.logging import MetricsFile, Wandb, say
from repose.engine.module import PoseModule
from repose.engine.optim import scaled_lr
from repose.engine.rundir import BEST, LAST, MASKS, PICTURES, PREDICTIONS, replace_by_link, write_json
from repose.engine.signals import Signals, Stopped


class StepSeed(Callback):
    """Seeds torch, numpy and Python at every training batch with f(seed, batch, process).

    So dropout and the like are a function of where the training is: no generator state has to be kept for a resumed
    run, and data loaders or evaluations that draw numbers change nothing.
    """

    def __init__(self, seed: int) -> None:
        """Args: seed: of the experiment."""
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed for this batch."""
        ready = trainer.fit_loop.epoch_loop.batch_progress.total.ready
        state = np.random.SeedSequence([self.seed, ready, trainer.global_rank]).generate_state(2, np.uint32)
        value = int(state[0]) << 32 | int(state[1])
        torch.manual_seed(value)
        np.random.seed(int(state[0]))  # a paper may use the global generator
        random.seed(value)


def stepped(trainer: Trainer) -> bool:
    """True in `on_train_batch_end` where this batch ended an optimiser step (and not an accumulation)."""
    return not trainer.fit_loop.epoch_loop._should_accumulate()


def is_last_batch(trainer: Trainer) -> bool:
    """True in `on_train_batch_end` of an epoch's last batch."""
    progress = trainer.fit_loop.epoch_loop.batch_progress
    return progress.is_last_batch or progress.current.ready >= trainer.num_training_batches


class Recorder(Callback):
    """Writes training values (means since the last line), learning rate and speed to metrics.jsonl and W&B."""

    def __init__(self, cfg: Any, file: MetricsFile, wandb: Wandb) -> None:
        """Args: cfg: the experiment; file, wandb: where lines go (rank 0 alone writes)."""
        self.cfg = cfg
        self.file = file
        self.wandb = wandb
        self._sums: dict[str, Tensor] = {}
        self._batches = 0
        self._steps = 0
        self._since = time.monotonic()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._since = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add this batch; write a line every `log.every` steps and at the end of an epoch."""
        assert isinstance(pl_module, PoseModule) and pl_module.schedule is not None
        for name, value in pl_module.logged.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._batches += 1
        if not stepped(trainer):
            return
        self._steps += 1
        step = trainer.global_step
        if step % self.cfg.log.every and not is_last_batch(trainer):
            return
        now = time.monotonic()
        lr = pl_module.schedule(step - 1) * scaled_lr(self.cfg.optim, self.cfg.train.batch)
        values = {
            "epoch": trainer.current_epoch,
            **{name: float(total) / self._batches for name, total in self._sums.items()},
            "lr": lr,
            "samples_per_s": round(self._steps * self.cfg.train.batch / max(now - self._since, 1e-9), 1),
        }
        self._sums, self._batches, self._steps, self._since = {}, 0, 0, now
        if trainer.is_global_zero:
            self.file.write("train", step, values)
            self.wandb.write(step, values)


class Progress(Callback):
    """One line with step, epoch, loss, last AP and the time left: live on a terminal, every 30 s in a log file."""

    def __init__(self, every_s: float = 30.0) -> None:
        """Args: every_s: seconds between lines where stderr is no terminal."""
        self.every_s = every_s
        self._live = sys.stderr.isatty()
        self._begin = self._shown = 0.0
        self._first = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._begin = self._shown = time.monotonic()
        self._first = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Show the line when it is time."""
        assert isinstance(pl_module, PoseModule)
        now = time.monotonic()
        if not trainer.is_global_zero or now - self._shown < (0.5 if self._live else self.every_s):
            return
        self._shown = now
        step, steps = trainer.global_step, pl_module.schedule.steps if pl_module.schedule else 0
        left = (now - self._begin) / max(step - self._first, 1) * max(steps - step, 0)
        loss = float(pl_module.logged.get("loss", torch.nan))
        self._show(
            f"step {step}/{steps}  epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  loss {loss:.4g}"
            f"  ETA {clock(left)}"
        )

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Show how far the evaluation is."""
        now = time.monotonic()
        if not trainer.is_global_zero or now - self._shown < (0.5 if self._live else self.every_s):
            return
        self._shown = now
        loader = trainer.val_dataloaders if trainer.val_dataloaders is not None else trainer.test_dataloaders
        n = len(loader) if loader is not None else 0
        self._show(f"evaluating {batch_idx + 1}/{n}")

    on_test_batch_end = on_validation_batch_end

    def _show(self, text: str) -> None:
        if self._live:
            print(f"\r\x1b[2K{text}", end="", file=sys.stderr, flush=True)
        else:
            say(text)

    def _clear(self) -> None:
        if self._live:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Clear the live line."""
        self._clear()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Clear the live line."""
        self._clear()


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}"


class Keeper(Callback):
    """Evaluates when it is due, and writes last.ckpt and best.ckpt; stops at a signal once the state is saved.

    It must be the last callback: what it saves includes the others' work of the step.

    Attributes:
        best: {AP, metrics, step, epoch} of the best evaluation so far, {} before the first.
        latest: the same of the latest evaluation.
    """

    def __init__(
        self,
        cfg: Any,
        folder: Path,
        evaluator: Evaluator,
        signals: Signals,
        note: Callable[[], dict[str, Any]],
        recorder: Recorder,
    ) -> None:
        """Make one.

        Args:
            cfg: the experiment.
            folder: the run folder.
            evaluator: gives the scores.
            signals: says whether to stop.
            note: entries of the checkpoint's `repose` key that the run knows (hours, world, ...).
            recorder: gets the scores.
        """
        self.cfg = cfg
        self.folder = folder
        self.evaluator = evaluator
        self.signals = signals
        self.note = note
        self.recorder = recorder
        self.best: dict[str, Any] = {}
        self.latest: dict[str, Any] = {}
        self._due = False
        self._explained = ""

    # --- state ------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know."""
        return {"best": self.best, "latest": self.latest, "due": self._due}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a saved state."""
        self.best, self.latest, self._due = state_dict["best"], state_dict["latest"], state_dict["due"]
        if not (self.folder / PREDICTIONS).is_file():  # a lone checkpoint: what its best evaluation left is not here
            self.best = {}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the `repose` entry."""
        step = trainer.global_step
        evaluated = self.latest.get("step") == step
        checkpoint[ckpt.KEY] = {
            **ckpt.describe(self.cfg),
            "epoch": trainer.current_epoch,
            "step": step,
            "samples": step * self.cfg.train.batch,
            "metrics": self.latest["metrics"] if evaluated else {},
            "evaluated_step": self.latest.get("step"),
            "weights": "raw" if self.cfg.optim.ema.decay is None else "ema",
            **self.note(),
        }

    # --- hooks ------------------------------------------------------------------------------------------------------

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals; make up for an evaluation that a stop cut off."""
        self.signals.install()
        self.signals.training = True
        if self._due:
            self._evaluate(trainer, pl_module, trainer.current_epoch - 1)  # Lightning counts the epoch as done
            self._complete_last(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """At the end of an optimiser step: save, evaluate, stop, as is due."""
        if not stepped(trainer):
            return
        stop = self._stop_asked(trainer)
        every = self.cfg.train.checkpoint_every
        self._due = is_last_batch(trainer) and self._evaluates_after(trainer.current_epoch, trainer.max_epochs or 1)
        # Before an evaluation too: a stop in the middle of it then loses nothing.
        if stop or self._due or (every and trainer.global_step % every == 0):
            self._save(trainer, LAST)
        if stop:
            raise Stopped
        if self._due:
            self._evaluate(trainer, pl_module, trainer.current_epoch)
            self._save(trainer, LAST)
            if self.best["step"] == trainer.global_step and trainer.is_global_zero:
                replace_by_link(self.folder / LAST, self.folder / BEST)
            if self._stop_asked(trainer):
                raise Stopped

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop within an evaluation (one process only: several have different numbers of batches)."""
        if self.signals.training and self.signals.received and trainer.world_size == 1:
            raise Stopped

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nobody looks at the flag from here on."""
        self.signals.training = False

    # --- doing ------------------------------------------------------------------------------------------------------

    def _evaluates_after(self, epoch: int, epochs: int) -> bool:
        return (epoch + 1) % self.cfg.train.val_every == 0 or epoch + 1 == epochs

    def _stop_asked(self, trainer: Trainer) -> bool:
        asked = self.signals.received is not None
        return trainer.strategy.reduce_boolean_decision(asked, all=False) if trainer.world_size > 1 else asked

    def _save(self, trainer: Trainer, name: Path) -> None:
        trainer.save_checkpoint(self.folder / name)

    def _complete_last(self, trainer: Trainer) -> None:
        """Put an evaluation that was made up for into last.ckpt (the loops stand elsewhere now: no new checkpoint)."""
        if not trainer.is_global_zero:
            return
        saved = ckpt.read(self.folder / LAST)
        saved[ckpt.KEY] |= {"metrics": self.latest["metrics"], "evaluated_step": self.latest["step"]}
        saved["callbacks"][self.state_key] = self.state_dict()
        saved["lr_schedulers"] = [c.scheduler.state_dict() for c in trainer.lr_scheduler_configs]
        ckpt.AtomicIO().save_checkpoint(saved, self.folder / LAST)
        if self.best["step"] == trainer.global_step:
            replace_by_link(self.folder / LAST, self.folder / BEST)

    def _evaluate(self, trainer: Trainer, pl_module: LightningModule, epoch: int) -> None:
        """Run the validation loop here (as Lightning does after an epoch), and take in its scores."""
        assert isinstance(pl_module, PoseModule)
        begin = time.monotonic()
        connector = trainer._logger_connector
        first = connector._first_loop_iter
        loop = trainer.fit_loop.epoch_loop.val_loop
        loop.restarting = False  # a resumed run's loop would skip the batches that an earlier evaluation did
        trainer.validating = True
        loop.run()
        trainer.training = True
        connector._first_loop_iter = first
        scores = self.evaluator.scores
        assert scores is not None
        self._due = False
        self.take(scores, epoch, trainer.is_global_zero, time.monotonic() - begin)
        if pl_module.schedule is not None:
            pl_module.schedule.see(self.latest["AP"])

    def take(self, scores: Scores, epoch: int, write: bool, seconds: float) -> None:
        """Remember an evaluation, write its predictions and pictures, say its AP."""
        ap = scores.metrics["AP"]
        score = ap if ap == ap else -1.0  # nan: nothing to score; any number beats it
        count = int(self.latest.get("count", 0)) + 1
        self.latest = {"AP": score, "metrics": scores.metrics, "step": scores.step, "epoch": epoch, "count": count}
        last = self.cfg.train.keep == "last"
        better = last or not self.best or score > self.best["AP"]
        if better:
            self.best = dict(self.latest)
        if not write:
            return
        say(
            f"epoch {epoch + 1}, step {scores.step}: AP {100 * ap:.1f}"
            + ("" if last else " (best)" if better else f" (best {100 * self.best['AP']:.1f})")
            + f", evaluated in {clock(seconds)}"
            + (f"; {scores.explanation}" if scores.explanation != self._explained else "")
        )
        self._explained = scores.explanation
        if better:
            write_json(self.folder / PREDICTIONS, scores.results)
            (self.folder / MASKS).unlink(missing_ok=True)  # never an older evaluation's beside these poses
            if scores.masks is not None:
                write_json(self.folder / MASKS, scores.masks)
        write_pictures(scores, self.folder / PICTURES)
        self.recorder.file.write("test", scores.step, {"epoch": epoch, **scores.metrics})
        self.recorder.wandb.write(scores.step, scores.metrics)
        self.recorder.wandb.pictures(scores.step, scores.pictures)


def write_pictures(scores: Scores, folder: Path) -> None:
    """The drawn predictions of the latest evaluation, one PNG each."""
    import cv2

    folder.mkdir(parents=True, exist_ok=True)
    for caption, image in scores.pictures:
        cv2.imwrite(str(folder / f"{caption}.png"), image[..., ::-1])
