"""`init=` by the name of an experiment: that one is trained first, once, and every run that names it starts from it.

So the rows of a table can share the larger part of their training, as papers share a pre-trained backbone.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from repose.config import ExperimentBase, Layer, Loaded, experiments_file, find_experiment, load, read_yaml
from repose.engine.rundir import is_done, run_dir
from repose.errors import UserError


def start_file(init: str) -> Path | None:
    """The experiment file that `init` names, None where it is a weight file.

    Raises:
        UserError: neither a file nor an experiment.
    """
    if Path(init).exists():
        return None
    try:
        return find_experiment(init)
    except UserError as error:
        raise UserError(f"init={init}: no such file, and {error}") from None


def own_settings(cfg: ExperimentBase) -> list[Path]:
    """What a start does otherwise than the runs that go on from it: `<paper>/scales/<scale>-start.yaml`, if any."""
    path = experiments_file(cfg.paper, "scales", f"{cfg.scale}-start.yaml")
    return [path] if path else []


def start_of(loaded: Loaded) -> Loaded | None:
    """The experiment whose training `loaded` starts from: at the same scale, data and seed; None where there is none.

    Raises:
        UserError: it is an experiment of another paper.
    """
    cfg = loaded.cfg
    file = start_file(cfg.init) if cfg.init else None
    if file is None:
        return None
    layers = [Layer(str(p), *read_yaml(p)) for p in own_settings(cfg)]
    first = load(file, [f"scale={cfg.scale}"], find_paper=lambda _: loaded.paper, row=layers, origin=f"init={cfg.init}")
    if first.cfg.paper != cfg.paper:
        raise UserError(f"init={cfg.init}: an experiment of {first.cfg.paper} cannot start one of {cfg.paper}")
    where = ("accelerator", "devices", "nodes", "strategy", "device_batch", "precision", "compile")
    train = replace(first.cfg.train, **{name: getattr(cfg.train, name) for name in where})
    train = replace(train, threads=cfg.train.start_threads or cfg.train.threads)
    log = replace(first.cfg.log, runs=cfg.log.runs, progress=cfg.log.progress, every=cfg.log.every, wandb="off")
    own = replace(first.cfg, init=None, resume="auto", seed=cfg.seed, skeleton=cfg.skeleton, data=cfg.data)
    return replace(first, cfg=replace(own, train=train, log=log))


def left_of(loaded: Loaded) -> Path | None:
    """Run folder of the training that `loaded` starts from, where that is still to be done.

    Raises:
        UserError: as `start_of`.
    """
    first = start_of(loaded)
    folder = run_dir(first.cfg) if first else None
    return None if folder is None or is_done(folder) else folder


@contextmanager
def alone(first: Loaded) -> Iterator[None]:
    """One process at a time trains a start; the others wait for it and find it done."""
    folder = run_dir(first.cfg)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.start").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
