"""A trained network from its checkpoint alone: the checkpoint knows its method, joints and protocol."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from repose import papers
from repose.config import Loaded, load_saved
from repose.engine import checkpoint as ckpt
from repose.engine.module import PoseModule
from repose.engine.setup import build_module
from repose.errors import UserError


@dataclass(frozen=True)
class Opened:
    """A network that is ready for a test.

    Attributes:
        path: its file.
        loaded: the resolved experiment that the file carries, with the settings that were given on top.
        module: in evaluation mode, on the CPU.
    """

    path: Path
    loaded: Loaded
    module: PoseModule


def open_checkpoint(name: str | Path, words: Iterable[str] = ()) -> Opened:
    """The network of a checkpoint with its evaluated weights (the EMA's where there is one).

    Files that the training started from (ImageNet's weights, say) are not needed: the checkpoint holds all weights.

    Args:
        name: a `.ckpt` file, a `.safetensors` file of `repose weights`, or a run folder (its best checkpoint).
        words: `key=value` settings on top (`test.flip=false`).

    Raises:
        UserError: no such file; it is damaged, of another schema, of an unknown method or skeleton, or does not fit.
    """
    path = ckpt.find(str(name))
    saved = ckpt.load_checkpoint(path)
    loaded = saved_experiment(saved[ckpt.KEY], path, words)
    module = build_module(loaded)
    ckpt.load_weights(module, saved, path)
    module.eval()
    return Opened(path, loaded, module)


def saved_experiment(note: dict[str, Any], path: Path, words: Iterable[str] = ()) -> Loaded:
    """The experiment that a file's note holds.

    Args:
        note: `schema` and `config`, as `engine.checkpoint.describe` wrote them.
        path: the file, for errors.
        words: `key=value` settings on top.

    Raises:
        UserError: an unknown method or skeleton, or a setting that does not exist.
    """
    words = list(words)
    config = {"schema": note.get("schema"), **note.get("config", {})}
    if words:  # first without them, so that an error says whose mistake it is
        saved_experiment(note, path)
    try:
        loaded = load_saved(config, str(path), words, find_paper=papers.get)
    except UserError as error:
        if words or str(error).startswith(str(path)):
            raise
        raise UserError(f"{path}: {error}") from None
    return dataclasses.replace(loaded, cfg=without_start(loaded.cfg))


def without_start(cfg: Any) -> Any:
    """A config (or a part of one) whose network is built without reading or fetching weights to start from."""
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(cfg):
        value = getattr(cfg, field.name)
        if field.name == "pretrained" and value is True:
            changes[field.name] = False
        elif field.name == "weights" and (value is None or isinstance(value, str)):
            changes[field.name] = None
        elif dataclasses.is_dataclass(value):
            changes[field.name] = without_start(value)
    return dataclasses.replace(cfg, **changes)


def device_named(name: str) -> torch.device:
    """A torch device by its name; `auto` is CUDA where it is, else the CPU.

    Raises:
        UserError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"device={name}: no device of that name; use auto, cpu, cuda, cuda:1 or mps") from None
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise UserError(f"device={name}: torch sees no such GPU here (`repose doctor` says why); use device=cpu")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError(f"device={name}: torch sees no Apple GPU here; use device=cpu")
    return device
