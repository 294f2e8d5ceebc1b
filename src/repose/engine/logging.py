"""Logs of a run: metrics.jsonl always, W&B as a mirror. The only module that imports wandb, when it is used."""

from __future__ import annotations

import json
import netrc
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from repose.config import ExperimentBase, identity, to_dict
from repose.engine.rundir import METRICS, without_nan, write_text

Mode = Literal["off", "offline", "online"]
SUMMARY = ("AP", "params", "gmacs", "paper_value", "box_source", "scale")
"""Keys of the W&B summary that every run has, so that a sweep's table shows cost beside AP."""


def first_rank() -> bool:
    """True in the process that prints and writes; known from the environment before processes are connected."""
    from lightning.fabric.utilities.rank_zero import rank_zero_only

    return not rank_zero_only.rank


def say(text: str) -> None:
    """One line to stderr (stdout belongs to results and `--json`), from the first process alone."""
    if first_rank():
        print(text, file=sys.stderr, flush=True)


class MetricsFile:
    """metrics.jsonl: one JSON object per line, appended; a resumed run drops the lines after its checkpoint.

    Attributes:
        path: the file.
    """

    def __init__(self, folder: Path) -> None:
        """Args: folder: the run folder."""
        self.path = folder / METRICS

    def keep_until(self, step: int, evaluated: bool) -> None:
        """Drop what a resumed run will write again.

        Args:
            step: optimiser steps that the checkpoint holds; 0 empties the file.
            evaluated: the checkpoint holds the evaluation made at that step.
        """
        if not self.path.is_file():
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:  # the last line of a killed run may be cut
                continue
            if row["step"] < step or (row["step"] == step and step and (evaluated or row["kind"] == "train")):
                kept.append(line)
        write_text(self.path, "".join(f"{line}\n" for line in kept))

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Append a line: kind `train` or `test`, the optimiser step, the time and the values."""
        row = {"kind": kind, "step": step, "time": round(time.time(), 3), **values}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as f:
            f.write(json.dumps(without_nan(row)) + "\n")


def wandb_mode(wanted: str) -> Mode:
    """What `log.wandb` means here: `auto` is online with a key (WANDB_API_KEY or a netrc login), else off.

    The environment's WANDB_MODE (offline, disabled) wins over auto.
    """
    if wanted != "auto":
        return wanted  # type: ignore[return-value]
    match os.environ.get("WANDB_MODE", ""):
        case "offline" | "dryrun":
            return "offline"
        case "disabled":
            return "off"
    return "online" if os.environ.get("WANDB_API_KEY") or _netrc_login() else "off"


def _netrc_login() -> bool:
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").partition("://")[2].partition("/")[0]
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        return netrc.netrc(path).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


class Wandb:
    """A W&B run that mirrors metrics.jsonl; does nothing where it is off.

    Attributes:
        mode: off, offline or online.
    """

    def __init__(self, cfg: ExperimentBase, folder: Path, run_id: str) -> None:
        """Start (or go on with) the run.

        Args:
            cfg: the experiment.
            folder: the run folder; W&B's files go below it.
            run_id: stays the same when a run is resumed. Under a W&B agent the agent's own id is used.
        """
        self.mode = wandb_mode(cfg.log.wandb)
        self._run: Any = None
        if self.mode == "off":
            return
        try:
            import wandb
        except ImportError:
            say("W&B: the package is not installed (pip install wandb); metrics.jsonl has everything")
            self.mode = "off"
            return
        self._wandb = wandb
        try:
            self._run = wandb.init(
                project=cfg.log.project,
                dir=str(folder),
                id=None if os.environ.get("WANDB_SWEEP_ID") else run_id,
                resume="allow",
                mode=self.mode,
                name=cfg.name,
                group=cfg.log.group,
                tags=list(dict.fromkeys([cfg.paper, *cfg.log.tags])),
                config={**to_dict(cfg), "identity": identity(cfg)},
                settings=wandb.Settings(silent=True, console="off"),
            )
            self._run.define_metric("*", step_metric="step")
        except Exception as error:  # no network, a wrong key: the run itself must not die of its mirror
            say(f"W&B: off ({str(error).splitlines()[0]}); metrics.jsonl has everything")
            self.mode, self._run = "off", None

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Log values at an optimiser step."""
        if self._run is not None:
            # `step` is a value of its own: W&B's counter must grow, which a resumed run's would not
            self._run.log({"step": step, **values})

    def pictures(self, step: int, pictures: Sequence[tuple[str, np.ndarray]]) -> None:
        """The panel of predictions: (caption, (H, W, 3) uint8 RGB)."""
        if self._run is not None and pictures:
            panel = [self._wandb.Image(image, caption=caption) for caption, image in pictures]
            self._run.log({"step": step, "predictions": panel})

    def summary(self, values: Mapping[str, Any]) -> None:
        """Set the summary; every key of SUMMARY must be given."""
        if missing := set(SUMMARY) - values.keys():
            raise KeyError(f"W&B summary lacks {sorted(missing)}")
        if self._run is not None:
            self._run.summary.update(dict(values))

    def finish(self, exit_code: int = 0) -> None:
        """End the run; a resumed one starts again under the same id."""
        if self._run is not None:
            self._run.finish(exit_code=exit_code)
            self._run = None
