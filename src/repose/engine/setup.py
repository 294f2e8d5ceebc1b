"""What `train` and `test` are made of: module, data, trainer."""

from __future__ import annotations

import dataclasses
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer, seed_everything

from repose.config import ExperimentBase, Loaded
from repose.engine.checkpoint import AtomicIO
from repose.engine.layout import Layout
from repose.engine.module import PoseModule


def build_module(loaded: Loaded) -> PoseModule:
    """The paper's module, with fresh weights drawn from `seed`."""
    _quiet()
    seed_everything(loaded.cfg.seed, verbose=False)
    return loaded.paper.module()(loaded.cfg, loaded.cfg.joint_set())


def use_threads(cfg: ExperimentBase) -> None:
    """Give torch the CPU threads that the experiment names (`train.threads`), if it does."""
    if cfg.train.threads:
        torch.set_num_threads(cfg.train.threads)


def build_data(cfg: ExperimentBase, layout: Layout) -> Any:
    """The DataModule of an experiment; it gets the batch of one device."""
    from repose.data.datamodule import PoseDataModule

    train = dataclasses.replace(cfg.train, device_batch=layout.device_batch)
    return PoseDataModule(dataclasses.replace(cfg, train=train))


def _quiet() -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\..*")


def build_trainer(cfg: ExperimentBase, layout: Layout, folder: Path, callbacks: list[Any]) -> Trainer:
    """Lightning's Trainer for an experiment; `folder` is the run folder."""
    debug = cfg.train.debug
    fast = 1 if debug == "fast" else None
    epochs = 1 if debug == "fast" else cfg.train.epochs
    profiler = None
    if debug == "profile":
        from lightning.pytorch.profilers import SimpleProfiler

        folder.mkdir(parents=True, exist_ok=True)
        profiler = SimpleProfiler(dirpath=folder, filename="profile")
    return Trainer(
        accelerator=layout.accelerator,
        devices=layout.devices,
        num_nodes=layout.nodes,
        strategy=cfg.train.strategy,
        precision=layout.precision,  # type: ignore[arg-type]
        max_epochs=epochs,
        accumulate_grad_batches=layout.accumulate,
        gradient_clip_val=cfg.optim.clip_norm,
        limit_train_batches=layout.accumulate if fast else None,
        limit_val_batches=fast,
        limit_test_batches=fast,
        check_val_every_n_epoch=epochs + 1,  # Keeper evaluates
        num_sanity_val_steps=0,
        sync_batchnorm=cfg.train.sync_bn and layout.world > 1 and layout.accelerator == "gpu",
        deterministic="warn" if cfg.train.deterministic else None,
        detect_anomaly=debug == "anomaly",
        profiler=profiler,
        use_distributed_sampler=False,  # our sampler knows its rank, and repeats nothing
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=callbacks,
        plugins=[AtomicIO(layout.accumulate)],
        default_root_dir=folder,
    )
