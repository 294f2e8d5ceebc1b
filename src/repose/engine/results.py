"""result.json: every number with what made it."""

from __future__ import annotations

import copy
import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from repose.config import SCHEMA, ExperimentBase, Loaded, identity
from repose.engine import provenance
from repose.engine.layout import Layout
from repose.engine.module import PoseModule
from repose.engine.optim import scaled_lr
from repose.engine.rundir import RESULT, write_json


def cost(module: PoseModule, cfg: ExperimentBase) -> tuple[int, int]:
    """Parameters, and fvcore MACs at the run's input size."""
    from repose.metrics.cost import count

    net = copy.deepcopy(module.net).cpu().eval()
    height, width = cfg.data.input_size
    counted = count(net, torch.zeros(1, 3, height, width))
    return int(counted.params), int(counted.macs)


def facts(loaded: Loaded, layout: Layout, data: Any, steps: int, counted: tuple[int, int]) -> dict[str, Any]:
    """What result.json says besides metrics."""
    cfg = loaded.cfg
    return {
        "schema": SCHEMA,
        "paper": cfg.paper,
        "name": cfg.name,
        "title": cfg.title,
        "identity": identity(cfg),
        "paper_value": cfg.paper_value,
        "params": counted[0],
        "macs": counted[1],
        "input_size": list(cfg.data.input_size),
        "box_source": data.box_source,
        "oks_area": cfg.data.oks_area,
        "flip": cfg.test.flip,
        "test_scales": list(cfg.data.test_scales),
        "oks_nms": cfg.test.oks_nms,
        "seed": cfg.seed,
        "ema": cfg.optim.ema.decay,
        "global_batch": cfg.train.batch,
        "layout": dataclasses.asdict(layout),
        "lr": scaled_lr(cfg.optim, cfg.train.batch),
        "epochs": cfg.train.epochs,
        "steps": steps,
        "scale": cfg.scale,
        "debug": cfg.train.debug,
        "data": {"name": cfg.data.name, "fingerprint": data.fingerprint()},
        "init": initialisation(cfg),
        "commit": provenance.commit(),
        "dirty": bool(provenance.diff()),
        "code_fingerprint": provenance.code_of(cfg),
        "hardware": provenance.hardware(),
        "versions": provenance.versions(),
        "problems": list(data.problems),
    }


def initialisation(cfg: ExperimentBase) -> str:
    """Where the weights started: scratch, ImageNet (and the file), or another checkpoint; printed beside every AP."""
    if cfg.init:
        return f"checkpoint: {Path(cfg.init).name}" if Path(cfg.init).suffix else f"{cfg.init} trained first"
    backbone = getattr(getattr(cfg, "model", None), "backbone", None)
    if weights := getattr(backbone, "weights", None):
        return f"ImageNet: {Path(weights).name}"
    if getattr(backbone, "pretrained", False):
        return f"ImageNet: timm {getattr(backbone, 'name', '')}".strip()
    return "scratch"


def write(folder: Path, result: dict[str, Any]) -> None:
    """Write result.json."""
    write_json(folder / RESULT, result)


def errors(results: list[dict[str, Any]], data: Any, cfg: ExperimentBase) -> dict[str, Any]:
    """Per-joint OKS and the kinds of errors of COCO results."""
    from repose.metrics.errors import analyse

    return analyse(results, data.ground_truth(), cfg.joint_set(), max_people=cfg.test.max_people)


def subsets(data: Any, cfg: ExperimentBase) -> dict[str, Any]:
    """`subsets`: images and people behind each AP of `test.subsets`; {} without subsets."""
    from repose.metrics.subsets import image_subsets, sizes

    if cfg.test.subsets == "none":
        return {}
    truth = data.ground_truth()
    return {"subsets": sizes(image_subsets(cfg.test, truth), truth)}


def summary(result: dict[str, Any]) -> dict[str, Any]:
    """The W&B summary of a result: fixed keys, so that a sweep's table shows cost beside AP."""
    ap = result["metrics"].get("AP")
    return {
        **result["metrics"],
        "AP": ap,
        "params": result["params"],
        "gmacs": result["macs"] / 1e9,
        "paper_value": result["paper_value"].get("AP"),
        "box_source": result["box_source"],
        "scale": result["scale"],
    }


def now() -> str:
    """This moment, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
