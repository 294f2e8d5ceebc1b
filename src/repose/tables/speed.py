"""Speeds that `repose bench` measured here, for the tables that print the paper's: `<runs>/.bench`. Imports no torch.

A measurement holds for every run of the same settings and code on this machine. Most methods take the same time however
well they were trained; where the number of people found matters, a trained network is to be measured.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

from repose.config import ExperimentBase, to_dict
from repose.engine import provenance, rundir
from repose.tables.schema import SPEEDS

FOLDER = ".bench"
"""Folder below `log.runs`."""
_CODE = ("papers/", "nn/", "ops/", "geometry.py", "engine/module.py")
What = Literal["train", "inference"]


def keep(what: What, cfg: ExperimentBase, measured: Mapping[str, Any]) -> Path:
    """Keep a measurement of `repose bench`; a later one of the same settings takes its place."""
    path = _file(what, cfg)
    rundir.write_json(path, dict(measured))
    return path


def speeds(metrics: tuple[str, ...], cfg: ExperimentBase) -> tuple[dict[str, float], str]:
    """Measured speeds among a table's metrics, and on which hardware; nothing where nothing was measured.

    Args:
        metrics: a table's.
        cfg: of a row.

    Returns:
        `fps` (images per second, post-processing counted), `sps` (training samples per second), `memory_MB` (peak of a
        training step, on a GPU); hardware and settings in words.
    """
    found: dict[str, float] = {}
    said: list[str] = []
    if "fps" in metrics and (one := _read("inference", cfg)):
        found["fps"] = float(one["with_post"]["images_per_s"])
        weights = "random" if one["weights"] == "random" else "trained"
        said.append(f"fps: {one['hardware']}, {one['images']} images, {weights} weights, scale {one['scale']}")
    if ("sps" in metrics or "memory_MB" in metrics) and (one := _read("train", cfg)):
        found["sps"] = float(one["samples_per_s"])
        if one["memory_of"] == "device":
            found["memory_MB"] = float(one["peak_memory_mb"])
        said.append(f"sps: {one['hardware']}, one device, {one['batch']} samples, scale {one['scale']}")
    return {k: v for k, v in found.items() if k in metrics}, "; ".join(said)


def asked(metrics: tuple[str, ...]) -> bool:
    """Whether a table prints any speed."""
    return any(name in SPEEDS for name in metrics)


def _read(what: What, cfg: ExperimentBase) -> dict[str, Any] | None:
    try:
        return dict(json.loads(_file(what, cfg).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def _file(what: What, cfg: ExperimentBase) -> Path:
    values = to_dict(cfg)
    keys = ("paper", "scale", "model", "decode", "loss", "skeleton")
    settings: dict[str, Any] = {k: values.get(k) for k in keys}
    settings["data"] = {k: values["data"][k] for k in ("view", "input_size", "base", "test_multiple", "test_scales")}
    settings["run"] = values["test"]["flip"] if what == "inference" else values["optim"]["name"]
    # weights do not change the speed
    for block in _blocks(settings["model"]):
        block.pop("pretrained", None)
        block.pop("weights", None)
    code = {k: v for k, v in provenance.code_fingerprint(cfg.paper).items() if k.startswith(_CODE)}
    key = hashlib.sha256(json.dumps([settings, code], sort_keys=True).encode()).hexdigest()[:16]
    return Path(cfg.log.runs) / FOLDER / f"{what}-{key}.json"


def _blocks(block: Any) -> list[dict[str, Any]]:
    if not isinstance(block, dict):
        return []
    here = cast("dict[str, Any]", block)
    return [here, *(inside for value in here.values() for inside in _blocks(value))]
