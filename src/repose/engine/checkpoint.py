"""Checkpoints: written atomically, readable with `torch.load(weights_only=True)`, refused with one clear line.

Besides Lightning's entries a checkpoint has the key `repose`: {schema, paper, config, skeleton, epoch, step, samples,
accumulate, world, metrics, evaluated_step, weights, hours, wandb_id, identity, began}; `weights` says what
`state_dict` holds: `ema` (the average, which was evaluated; the raw weights are under `current_model_state`) or `raw`;
`began` is the code and data that the run began with.
"""

from __future__ import annotations

import errno
import json
import pickle
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO
from torch import Tensor

from repose.config import SCHEMA, ExperimentBase, leaves, parse_value, to_dict
from repose.engine.logging import say
from repose.engine.module import PoseModule
from repose.engine.rundir import BEST, LAST, atomic
from repose.errors import UserError

KEY = "repose"


class AtomicIO(CheckpointIO):
    """Writes a checkpoint beside its place, then moves it there; the previous one survives a full disk."""

    def __init__(self, accumulate: int = 1) -> None:
        """Args: accumulate: device batches per step of this run; a checkpoint of another number is adapted to it."""
        self.accumulate = accumulate

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write `checkpoint`.

        Raises:
            UserError: the disk is full or the folder cannot be written.
        """
        path = Path(path)
        with atomic(path) as part:
            try:
                torch.save(checkpoint, part)
            except RuntimeError as error:  # torch's own writer hides the errno
                raise OSError(errno.ENOSPC, f"no space left, or {first_line(error)}") from error

    def load_checkpoint(self, path: Any, map_location: Any | None = None, weights_only: bool | None = None) -> Any:
        """Read a checkpoint onto the CPU (Lightning moves it)."""
        checkpoint = read(Path(path))
        adapt_accumulation(checkpoint, self.accumulate)
        return checkpoint

    def remove_checkpoint(self, path: Any) -> None:
        """Delete a checkpoint."""
        Path(path).unlink(missing_ok=True)


def adapt_accumulation(checkpoint: dict[str, Any], accumulate: int) -> None:
    """Count the batches of a checkpoint in this run's batches, where devices or `device_batch` changed.

    Checkpoints are written at the end of a step, so whole steps were done: only the batches per step differ.
    """
    before = checkpoint.get(KEY, {}).get("accumulate", accumulate)
    if before == accumulate:
        return
    progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    for counts in (progress["total"], progress["current"]):
        ready = counts["ready"] // before * accumulate
        for name in ("started", "processed", "completed", "ready"):  # `completed` may lag one behind
            counts[name] = ready - (counts["ready"] - counts[name])


def read(path: Path) -> dict[str, Any]:
    """A checkpoint or weight file (.ckpt, .pth, .safetensors), tensors on the CPU.

    Raises:
        UserError: missing, damaged, or holding Python objects besides tensors.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint")
    try:
        if path.suffix == ".safetensors":
            return _read_safetensors(path)
        value = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"{path}: not a checkpoint of tensors and plain values (it is damaged or holds Python objects); "
            "if it is trusted, save its state_dict alone with torch.save"
        ) from None
    except Exception as error:  # the unpickler fails in as many ways as files can be damaged
        raise UserError(f"{path}: damaged checkpoint ({first_line(error)})") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: holds a {type(value).__name__}, not a checkpoint")
    return value


def _read_safetensors(path: Path) -> dict[str, Any]:
    """Tensors by name; a file that `repose weights` wrote becomes a checkpoint by the note in its metadata."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            note = (file.metadata() or {}).get(KEY)
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    return {"state_dict": tensors, KEY: json.loads(note)} if note else tensors


def source_sha256(path: Path) -> str | None:
    """Sum of the published file that a converted one (`repose weights`) was made of; None for other files."""
    if path.suffix != ".safetensors":
        return None
    return read(path).get(KEY, {}).get("published", {}).get("source_sha256")


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its kind where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def find(name: str) -> Path:
    """The checkpoint that a file name or run folder means: the folder's best one, else its last.

    Raises:
        UserError: there is none.
    """
    path = Path(name)
    if path.is_file():
        return path
    for candidate in (path / BEST, path / LAST):
        if candidate.is_file():
            return candidate
    if not path.exists():
        raise UserError(f"checkpoint={name}: no such file or folder")
    raise UserError(f"checkpoint={name}: no {BEST} or {LAST} in it; train the run first")


def load_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint that this package wrote.

    Raises:
        UserError: not one of ours, or of another schema.
    """
    checkpoint = read(path)
    note = checkpoint.get(KEY)
    if not isinstance(note, dict) or "state_dict" not in checkpoint:
        raise UserError(
            f"{path}: not a checkpoint of repose (no {KEY!r} entry); to start from its weights use init={path}"
        )
    if note.get("schema") != SCHEMA:
        raise UserError(
            f"{path}: written with schema {note.get('schema')}, this version reads schema {SCHEMA}; "
            f"use the version that wrote it, or init={path} for its weights alone"
        )
    return checkpoint


def saved_config(path: Path) -> dict[str, Any]:
    """The resolved config in a checkpoint, with its schema number (see `repose.config.from_dict`)."""
    note = load_checkpoint(path)[KEY]
    return {"schema": note["schema"], **note["config"]}


def describe(cfg: ExperimentBase) -> dict[str, Any]:
    """The part of the `repose` entry that names the experiment."""
    skeleton = cfg.joint_set()
    return {
        "schema": SCHEMA,
        "paper": cfg.paper,
        "config": to_dict(cfg),
        "skeleton": {"name": skeleton.name, "joints": list(skeleton.joints)},
    }


def require_same(checkpoint: dict[str, Any], cfg: ExperimentBase, path: Path) -> None:
    """Refuse a checkpoint of another paper or joint set.

    Raises:
        UserError: names what differs.
    """
    note = checkpoint[KEY]
    if note["paper"] != cfg.paper:
        raise UserError(f"{path}: a checkpoint of {note['paper']!r}, this experiment is {cfg.paper!r}")
    there, here = note["skeleton"], cfg.joint_set()
    if there["joints"] != list(here.joints):
        pairs = enumerate(zip(there["joints"], here.joints, strict=False))
        first = next(
            (f"joint {i} is {a!r} there and {b!r} here" for i, (a, b) in pairs if a != b),
            f"{len(there['joints'])} joints there and {here.k} here",
        )
        raise UserError(f"{path}: made for skeleton {there['name']!r}, this experiment has {here.name!r}: {first}")


def _shape(tensor: Any) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar" if isinstance(tensor, Tensor) else type(tensor).__name__


def first_mismatch(here: dict[str, Tensor], there: dict[str, Tensor]) -> str | None:
    """The first tensor (in the model's order) that does not fit, with both shapes; None if all do."""
    for name, tensor in here.items():
        if name not in there:
            return f"{name} is {_shape(tensor)} here and missing there"
        if there[name].shape != tensor.shape:
            return f"{name} is {_shape(tensor)} here and {_shape(there[name])} there"
    extra = next((name for name in there if name not in here), None)
    return None if extra is None else f"{extra} is {_shape(there[extra])} there and missing here"


def load_weights(module: PoseModule, checkpoint: dict[str, Any], path: Path) -> None:
    """Load a checkpoint's evaluated weights (EMA where there is one) into a module of the same paper and shape.

    Raises:
        UserError: names the first tensor that does not fit, with both shapes.
    """
    require_same(checkpoint, module.cfg, path)
    if wrong := first_mismatch(module.state_dict(), checkpoint["state_dict"]):
        raise UserError(f"{path}: does not fit this model: {wrong}; evaluate it with the settings it was trained with")
    module.load_state_dict(checkpoint["state_dict"])
    values = dict(leaves(to_dict(module.cfg)))
    for setting in checkpoint[KEY].get("published", {}).get("settings", []):
        key, _, text = setting.partition("=")
        if values.get(key) != parse_value(text):
            say(f"{path}: these weights were trained with {setting}; this experiment has {key}={values.get(key)}")


def init_from(module: PoseModule, path: Path) -> list[str]:
    """Start from another checkpoint or weight file: load what fits by name and shape, print every tensor that did not.

    Args:
        module: gets the weights.
        path: our checkpoint, a state_dict, or safetensors; names may lack the leading `net.`.

    Returns:
        one line per tensor that was not loaded.

    Raises:
        UserError: nothing in it fits.
    """
    found = read(path)
    there = found.get("state_dict", found.get("model", found))
    here = module.state_dict()
    there = {
        n if n in here or n.startswith("net.") else f"net.{n}": t for n, t in there.items() if isinstance(t, Tensor)
    }
    fits = {n: t for n, t in there.items() if n in here and here[n].shape == t.shape}
    misses = []
    for name, tensor in here.items():
        if name not in there:
            misses.append(f"{name} ({_shape(tensor)}): not in the file, keeps its initial values")
        elif name not in fits:
            misses.append(f"{name}: {_shape(tensor)} here, {_shape(there[name])} in the file, keeps its initial values")
    misses += [f"{name} ({_shape(t)}): only in the file, ignored" for name, t in there.items() if name not in here]
    if not fits:
        hint = f"; the first: {misses[0]}" if misses else ""
        raise UserError(f"init={path}: none of its {len(there)} tensors fits this model{hint}")
    module.load_state_dict(fits, strict=False)
    say(
        f"init: {len(fits)} of {len(here)} tensors from {path}"
        + (", all fit" if not misses else "; these did NOT fit:")
    )
    for line in misses:
        say(f"  {line}")
    return misses
