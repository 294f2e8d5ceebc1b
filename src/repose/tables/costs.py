"""Parameters and GMACs of a row, always at the paper's size: a small scale's network is not what the paper counted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from repose.config import to_dict
from repose.engine import rundir
from repose.errors import UserError
from repose.tables.cells import Choice, cell
from repose.tables.schema import Row, Table

CACHE = ".cost-cache"
"""Folder below `log.runs`."""
_NETWORK_CODE = ("papers/", "nn/", "ops/", "metrics/cost.py", "skeleton.py")


@dataclass(frozen=True)
class RowCost:
    """What a row's network costs at the paper's size.

    Attributes:
        params: millions (1e6).
        gmacs: 1e9 multiply-adds, of the row's `rule` or of everything that fvcore counts.
        size: network input, height x width.
        why: why there is no count.
    """

    params: float | None = None
    gmacs: float | None = None
    size: str = ""
    why: str = ""


def cost_of(table: Table, row: Row, choice: Choice, runs: Path, count_new: bool = True) -> RowCost:
    """Count a row's network, or look the count up (`<runs>/.cost-cache`, keyed by network settings and code).

    Without `count_new` a network that nobody has counted yet has no cost.
    """
    if not row.has_network:
        return RowCost()
    try:
        full = cell(table, row, replace(choice, data=None), scale="paper").loaded
    except UserError as error:
        return RowCost(why=f"not counted: {error}")
    from repose.engine import provenance

    cfg = _without_weights(full.cfg)
    code = {k: v for k, v in provenance.code_fingerprint(cfg.paper).items() if k.startswith(_NETWORK_CODE)}
    values = to_dict(cfg)
    network = {k: values.get(k) for k in ("paper", "model", "decode", "loss", "skeleton")}
    network["input_size"] = values["data"]["input_size"]
    key = hashlib.sha256(json.dumps([network, code, provenance.versions()], sort_keys=True).encode()).hexdigest()[:16]
    file = runs / CACHE / f"{key}.json"
    try:
        said = json.loads(file.read_text())
        return _by_rule(row, float(said["params"]), dict(said["by_op"]), str(said["size"]))
    except (OSError, ValueError, KeyError, TypeError):
        if not count_new:
            return RowCost()
    import torch

    from repose.metrics.cost import count

    height, width = cfg.data.input_size
    try:
        module = full.paper.module()(cfg, cfg.joint_set())
        counted = count(module.net, torch.zeros(1, 3, height, width))
    except UserError as error:
        return RowCost(why=f"not counted: {error}")
    size = f"{height}x{width}"
    rundir.write_json(file, {"params": counted.params / 1e6, "by_op": counted.by_op, "size": size})
    return _by_rule(row, counted.params / 1e6, counted.by_op, size)


def _without_weights(cfg: Any) -> Any:
    """The same network without pretrained weights: counting needs none, and they may have to be fetched."""
    backbone: Any = getattr(getattr(cfg, "model", None), "backbone", None)
    if not getattr(backbone, "pretrained", False):
        return cfg
    return replace(cfg, model=replace(cfg.model, backbone=replace(backbone, pretrained=False)))


def _by_rule(row: Row, params: float, by_op: Mapping[str, float], size: str) -> RowCost:
    counted = [float(macs) for name, macs in by_op.items() if not row.rule or name in row.rule]
    return RowCost(params, sum(counted) / 1e9, size)
