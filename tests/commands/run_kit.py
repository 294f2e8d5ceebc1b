"""Run folders without a training: a config, predictions made of the annotations, and the result that they score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from repose import papers
from repose.config import dump, identity, load
from repose.data.datamodule import PoseDataModule
from repose.engine.provenance import code_fingerprint
from repose.metrics.keypoint_ap import score


def words(data: Path) -> list[str]:
    """A data set that is drawn already."""
    return ["scale=smoke", f"data.root={data}", "data.synthetic=null"]


def make_run(
    root: Path,
    data: Path,
    *settings: str,
    experiment: str = "drpnet/m",
    off: float = 2.0,
    worst: int | None = None,
    **result: Any,
) -> Path:
    """A finished run.

    Args:
        root: folder of all runs.
        data: of the drawn people.
        settings: `key=value` over the experiment at smoke.
        experiment: what was "trained".
        off: pixels that every predicted joint is away from its place.
        worst: image row whose joints are ten times as far away.
        result: further entries of result.json, in the place of these.
    """
    cfg = load(experiment, [*words(data), *settings], find_paper=papers.get).cfg
    folder = root / cfg.paper / f"{cfg.name}-{identity(cfg)}"
    folder.mkdir(parents=True)
    dump(cfg, folder / "config.yaml")
    module = PoseDataModule(cfg)
    truth, skeleton = module.ground_truth(), cfg.joint_set()
    worst_id = None if worst is None else truth["images"][worst]["id"]
    rng = np.random.default_rng(0)
    predictions = []
    for annotation in truth["annotations"]:
        joint_K3 = np.array(annotation["keypoints"], float).reshape(-1, 3)
        far = off * (10 if annotation["image_id"] == worst_id else 1)
        joint_K3[:, 0] += far
        joint_K3[:, 2] = 0.9
        predictions.append(
            {
                "image_id": annotation["image_id"],
                "category_id": 1,
                "keypoints": joint_K3.ravel().tolist(),
                "score": float(rng.uniform(0.5, 1)),
            }
        )
    (folder / "predictions.json").write_text(json.dumps(predictions))
    metrics = score(predictions, truth, skeleton, cfg.test.max_people)
    found = {
        "status": "done",
        "paper": cfg.paper,
        "name": cfg.name,
        "title": cfg.title,
        "identity": identity(cfg),
        "metrics": {k: v for k, v in metrics.items() if v == v} | {"coarse_error_px": off},
        "params": 1_000_000,
        "macs": 2e9,
        "box_source": module.box_source,
        "oks_area": cfg.data.oks_area,
        "flip": cfg.test.flip,
        "test_scales": list(cfg.data.test_scales),
        "seed": cfg.seed,
        "scale": cfg.scale,
        "data": {"name": cfg.data.name, "fingerprint": module.fingerprint()},
        "commit": "0123456789abcdef",
        "dirty": False,
        "code_fingerprint": code_fingerprint(cfg.paper),
        "versions": {"torch": "2.11"},
        "hours": 0.5,
        "finished": f"2026-01-01T00:00:{len(list(root.glob('*/*'))):02d}+00:00",
    }
    (folder / "result.json").write_text(json.dumps(found | result))
    return folder


def with_weights(folder: Path) -> Path:
    """A run with a checkpoint: fresh weights, which find nobody well, but find somebody."""
    import torch

    from repose.config import load_saved, read_yaml
    from repose.engine.checkpoint import KEY, describe
    from repose.engine.setup import build_module

    loaded = load_saved(read_yaml(folder / "config.yaml")[0], "config.yaml", find_paper=papers.get)
    module = build_module(loaded)
    note = {**describe(loaded.cfg), "epoch": 0, "step": 0, "weights": "raw"}
    (folder / "checkpoints").mkdir()
    torch.save({"state_dict": module.state_dict(), KEY: note}, folder / "checkpoints" / "best.ckpt")
    return folder
