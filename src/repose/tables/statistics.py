"""Rows without a run of their own: PINet's Fig. 3(b), from annotations; DRP-Net's Fig. 4, from `repose bench video`."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

from repose.config import ExperimentBase
from repose.engine import provenance, rundir
from repose.errors import UserError
from repose.tables import speed
from repose.tables.cells import Cell, at_scale, cell
from repose.tables.costs import CACHE


def computed(one: Cell, runs: Path) -> dict[str, float]:
    """The statistic of a row, or kept from before (`<runs>/.cost-cache`).

    The rows of a table are computed together: a person counts in all of them who has a labelled joint in any.

    Args:
        one: a statistic row at a scale.
        runs: folder of all runs; the cache is below it.

    Returns:
        `people`, `occluded_M1` and, where everybody has a mask, `occluded_M2` (shares; metrics/occlusion.py).

    Raises:
        UserError: the annotations are not here, or the method has no parts.
    """
    from repose.data.datamodule import PoseDataModule

    table, cfg = one.table, one.loaded.cfg
    if table.statistic == "video":
        return speed.video(cfg, one.row.interval)
    scale = one.choice.scale
    rows = [r for r in table.rows.values() if r.kind == "statistic" and at_scale(r, scale)]
    parts = {r.id: _parts(cell(table, r, one.choice).loaded.cfg) for r in rows}
    data = PoseDataModule(cfg)
    code = {k: v for k, v in provenance.code_fingerprint(cfg.paper).items() if k.startswith(("metrics/", "data/"))}
    name = [parts, data.fingerprint(), cfg.data.limit_train, cfg.data.limit_val, code]
    key = hashlib.sha256(json.dumps(name, sort_keys=True).encode()).hexdigest()[:16]
    file = runs / CACHE / f"occlusion-{key}.json"
    try:
        return {str(k): float(v) for k, v in json.loads(file.read_text())[one.row.id].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        found = _occlusion(data, parts)
        rundir.write_json(file, found)
        return found[one.row.id]


def prepare(one: Cell) -> None:
    """Draw the data set of a row where it is a drawn one that is not here."""
    from repose.data.datamodule import PoseDataModule

    if one.table.statistic == "occlusion":
        PoseDataModule(one.loaded.cfg).prepare_data()


def _occlusion(data: Any, parts: dict[str, list[list[int]]]) -> dict[str, dict[str, float]]:
    """Over the people of both annotation files (of OCHuman, val and test), each file weighing by its people."""
    from repose.data.coco import read
    from repose.data.roots import data_file
    from repose.metrics.occlusion import occlusion

    settings, root = data.cfg.data, data.root
    each: list[dict[str, Any]] = []
    for key, images, limit in (
        ("train_json", settings.train_images, settings.limit_train),
        ("val_json", settings.val_images, settings.limit_val),
    ):
        file = data_file(root, getattr(settings, key), f"data.{key}", settings)
        annotations = read(file, root / images, data.skeleton, settings.oks_area, limit)
        each.append(occlusion(annotations.ground_truth(masks=True), parts))
    total = sum(one["people"] for one in each)
    found: dict[str, dict[str, float]] = {name: {"people": float(total)} for name in parts}
    for reading in ("M1", "M2"):
        if not total or any(one[reading] is None for one in each if one["people"]):
            continue  # a person without a mask: the second reading says nothing
        for name in parts:
            share = math.fsum(one["people"] * one[reading][name] for one in each if one["people"]) / total
            found[name][f"occluded_{reading}"] = share
    return found


def _parts(cfg: ExperimentBase) -> list[list[int]]:
    """The parts of a body as joint indices."""
    from repose.papers.pinet.config import Experiment
    from repose.papers.pinet.parts import partition

    if not isinstance(cfg, Experiment):
        raise UserError(f"{cfg.paper}: the statistic of parts is PINet's; give the row an experiment of pinet")
    return [list(joints) for joints in partition(cfg.model, cfg.joint_set()).joints]
