"""`repose train` and `repose test`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from repose import papers
from repose.commands.show import one_experiment
from repose.config import Loaded, identity, load, load_saved, parse_arguments, read_yaml
from repose.errors import UserError

_SPLITS = {"split=test-dev": "data=coco-test-dev", "split=val": "data=coco"}
"""COCO's own names of its splits, as overlays."""


def train(words: list[str], dry_run: bool) -> int:
    """Train an experiment, or with `dry_run` say what that would be."""
    loaded = one_experiment(words, "train")
    if dry_run:
        return _dry_run(loaded)
    from repose.engine import run

    _print_result(run.train(loaded))
    return 0


def test(words: list[str], as_json: bool) -> int:
    """Evaluate a checkpoint, or score a predictions file."""
    loaded = _loaded_for_test([_SPLITS.get(word, word) for word in words])
    from repose.engine import run
    from repose.tables.grid import test_together

    if loaded.cfg.test.runtime == "torch":
        result = test_together(loaded) or run.test(loaded)
    else:
        from repose.field.export import deployed

        result = run.test(loaded, deployed=deployed(loaded))
    _tell_sweep(loaded, result)
    if as_json:
        print(json.dumps(result))
    else:
        _print_result(result)
    return 0


def _tell_sweep(loaded: Loaded, result: dict[str, Any]) -> None:
    """W&B's agent waits for the numbers of each of its runs, tests too."""
    if not os.environ.get("WANDB_SWEEP_ID") or not result.get("metrics"):
        return
    from repose.engine import results
    from repose.engine.logging import Wandb

    wandb = Wandb(loaded.cfg, Path(result["dir"]), identity(loaded.cfg))
    wandb.summary(results.summary(result))
    wandb.finish()


def _loaded_for_test(words: list[str]) -> Loaded:
    if words and "=" not in words[0]:
        return load(words[0], words[1:], find_paper=papers.get)
    values, _ = parse_arguments(words)
    given = values.values.get("checkpoint") or values.values.get("predictions")
    if not given:
        raise UserError(
            "test: give checkpoint=RUN (a run folder or .ckpt file) or predictions=FILE, or name an experiment"
        )
    saved, origin = _saved_config(Path(str(given)))
    return load_saved(saved, origin, words, find_paper=papers.get)


def _saved_config(given: Path) -> tuple[dict[str, Any], str]:
    if not given.exists():
        raise UserError(f"{given}: no such file or folder; runs are below runs/<paper>/")
    if given.suffix == ".onnx":
        raise UserError(
            f"{given}: an exported file has no test of its own; test the checkpoint it was made of with "
            "test.runtime=onnx or onnx-int8 (repose predict takes the file)"
        )
    if given.suffix == ".safetensors":  # a converted file may lie anywhere, beside other runs too
        from repose.engine.checkpoint import saved_config

        return saved_config(given), str(given)
    for folder in (given, given.parent, given.parent.parent):
        if (folder / "config.yaml").is_file():
            return read_yaml(folder / "config.yaml")[0], str(folder / "config.yaml")
    if given.suffix == ".ckpt":
        from repose.engine.checkpoint import saved_config

        return saved_config(given), str(given)
    raise UserError(
        f"{given}: no config.yaml beside it; name the experiment too: repose test drpnet/m predictions={given}"
    )


def _dry_run(loaded: Loaded) -> int:
    from repose.commands.cost import count_experiment
    from repose.engine.rundir import run_dir

    cfg = loaded.cfg
    counted = count_experiment(loaded)
    print(f"{cfg.title or cfg.name}: {loaded.paper.name}, scale {cfg.scale}, identity {identity(cfg)}")
    size = "x".join(map(str, counted.input_size))
    print(f"{counted.params / 1e6:.3f} M parameters, {counted.macs / 1e9:.3f} GMACs (fvcore) at {size}")
    print(_steps(loaded))
    print(f"would be written to {run_dir(cfg)}")
    return 0


def _steps(loaded: Loaded) -> str:
    from repose.data.datamodule import PoseDataModule

    cfg = loaded.cfg
    lr = cfg.optim.base_lr * cfg.train.batch / cfg.optim.base_batch
    plan = f"{cfg.train.epochs} epochs, global batch {cfg.train.batch}, {cfg.optim.name} at {lr:.3g}"
    try:
        data = PoseDataModule(cfg)
        data.setup("fit")
    except UserError as error:
        return f"{plan}; steps unknown: {error}"
    steps = data.train_samples // cfg.train.batch
    return f"{plan}; {data.train_samples} samples, {steps} steps per epoch, {steps * cfg.train.epochs} in all"


def _print_result(result: dict[str, Any]) -> None:
    metrics = result.get("metrics", {})
    ap = metrics.get("AP")
    if zipped := result.get("submission"):
        print(f"{zipped}: no AP here, this set's labels are not public; upload the file to its evaluation server")
        return
    protocol = (
        f"{result.get('data', {}).get('name')}, boxes {result.get('box_source')}",
        f"flip {'yes' if result.get('flip') else 'no'}, OKS area {result.get('oks_area')}",
        f"{result.get('init')}, scale {result.get('scale')}",
    )
    print(f"AP {'-' if ap is None else f'{100 * ap:.1f}'} ({', '.join(protocol)})")
    rest = {k: v for k, v in metrics.items() if k != "AP" and isinstance(v, (int, float))}
    print("  ".join(f"{name} {value:.4g}" for name, value in rest.items()))
    if folder := result.get("dir"):
        print(f"run folder: {folder}")
