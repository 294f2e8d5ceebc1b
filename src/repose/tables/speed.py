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
from repose.errors import UserError
from repose.tables.schema import LATENCIES, SPEEDS

FOLDER = ".bench"
"""Folder below `log.runs`."""
_CODE = ("papers/", "nn/", "ops/", "geometry.py", "engine/module.py")
What = Literal["train", "inference", "latency", "video"]


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


def latencies(metrics: tuple[str, ...], cfg: ExperimentBase) -> tuple[dict[str, float], str]:
    """Measured latencies among a table's metrics, and on which hardware; nothing where nothing was measured.

    Args:
        metrics: a table's.
        cfg: of a row at the paper's size; `test.runtime` says which of its latencies.

    Returns:
        see `schema.LATENCIES`; `pipeline_ms` on the GPU where there is one (half precision), else on all CPU threads,
        with the detector that was timed beside it, one person, post-processing counted.
    """
    runtime = cfg.test.runtime
    one = _read("latency", cfg)
    rows = [r for r in one["rows"] if r["runtime"] == runtime] if one else []
    single = next((r for r in rows if r["device"] == "cpu" and r["threads"] == 1), None)
    if one is None or single is None:
        return {}, ""
    found = {
        "latency_ms": float(single["median_ms"]),
        "throughput_fps": float(single["fps"]),
        "energy_mJ": float(single["energy_mj"]),
    }
    size = "x".join(map(str, one["input_size"]))
    said = [f"{cfg.title or cfg.name}: {one['processor']}, one thread, {size}, {one['weights']} weights"]
    if "energy_mJ" in metrics and not single["energy_measured"]:
        said.append("energy estimated")
    if "pipeline_ms" in metrics and one.get("detector"):
        fastest = max(rows, key=lambda r: (r["device"] == "cuda", r["precision"] == "16", r["threads"] or 0))
        beside = [d for d in one["detector"] if (d["device"], d["threads"]) == (fastest["device"], fastest["threads"])]
        detector = beside[0] if beside else one["detector"][-1]
        every = int(one["interval"])
        found["pipeline_ms"] = float(detector["median_ms"]) / every + float(fastest["with_post_ms"])
        where = (
            "GPU, the pose network in half precision"
            if fastest["device"] == "cuda"
            else f"CPU, {fastest['threads']} threads"
        )
        said = [
            f"{cfg.title or cfg.name}: {one['hardware']}, {where}; detector {detector['runtime']} on every {every}th "
            f"frame ({detector['weights']} weights), one person"
        ]
    return {k: v for k, v in found.items() if k in metrics}, ", ".join(said)


def measured_latency(cfg: ExperimentBase) -> dict[str, Any] | None:
    """All that `repose bench latency` kept of a network; None where it was not measured."""
    return _read("latency", cfg)


def video(cfg: ExperimentBase, interval: int) -> dict[str, float]:
    """What `repose bench video` kept of an experiment at one interval.

    Args:
        cfg: of the experiment at its scale.
        interval: the detector looks at every n-th frame.

    Returns:
        `AP` (where the clip has true people) and `agreement` with interval 1, shares; `frame_ms`, mean time of a frame;
        `saved`, percent of interval 1's.

    Raises:
        UserError: it was not measured.
    """
    one = _read("video", cfg)
    how = f"measure it: repose bench video checkpoint=RUN (a run of {cfg.name} at scale {cfg.scale})"
    if one is None:
        raise UserError(how)
    rows = {int(row["interval"]): row for row in one["rows"]}
    if interval not in rows or 1 not in rows:
        raise UserError(
            f"interval {interval} was not measured (intervals {sorted(rows)}); {how} with intervals=[1,...]"
        )
    row, first = rows[interval], rows[1]
    whole = float(row["ms"]["whole"])
    found = {"frame_ms": whole, "agreement": float(row["agreement"])}
    if (ap := row["measured"].get("AP")) is not None:
        found["AP"] = float(ap)
    if interval != 1:
        found["saved"] = 100 * (1 - whole / float(first["ms"]["whole"]))
    return found


def latency_key(cfg: ExperimentBase) -> str:
    """Networks with the same key have the same latency."""
    return _file("latency", cfg).name


def asked(metrics: tuple[str, ...], which: tuple[str, ...] = SPEEDS) -> bool:
    """Whether a table prints any of these speeds."""
    return any(name in which for name in metrics)


def asked_latency(metrics: tuple[str, ...]) -> bool:
    """Whether a table prints any latency."""
    return asked(metrics, LATENCIES)


def _read(what: What, cfg: ExperimentBase) -> dict[str, Any] | None:
    try:
        return dict(json.loads(_file(what, cfg).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def _file(what: What, cfg: ExperimentBase) -> Path:
    values = to_dict(cfg)
    keys = ("paper", "scale", "model", "decode", "loss", "skeleton")
    data_keys = ("view", "input_size", "base", "test_multiple", "test_scales")
    if what == "latency":  # of the network at one size, whatever it is trained on and however it is tested
        keys, data_keys = ("paper", "model", "skeleton"), ("view", "input_size")
    if what == "video":
        keys, data_keys = ("paper", "scale", "model", "skeleton"), ("view", "input_size")
    settings: dict[str, Any] = {k: values.get(k) for k in keys}
    settings["data"] = {k: values["data"][k] for k in data_keys}
    if what in ("train", "inference"):
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
