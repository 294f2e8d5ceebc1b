"""`PoseDataModule`: the one DataModule of all papers; it knows no paper."""

from __future__ import annotations

import fcntl
import multiprocessing
import multiprocessing.util
import os
import signal
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.distributed
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.data import DataLoader

from repose.config import ExperimentBase
from repose.data.boxes import box_source, fingerprint, ground_truth_boxes, read_boxes
from repose.data.cache import open_cache
from repose.data.coco import Annotations, read
from repose.data.dataset import TestSet, TrainSet, trainable
from repose.data.photographs import Photographs
from repose.data.roots import data_file, find_root
from repose.data.sampler import TestBatches, TrainSampler, device_batch
from repose.errors import UserError
from repose.skeleton import Skeleton

_MOST_WORKERS = 8


class PoseDataModule(LightningDataModule):
    """People of a COCO-format data set as batches.

    Attributes:
        cfg: the experiment.
        skeleton: its joint set.
        train_set: after `setup("fit")`.
        val_set: after any `setup`.
    """

    def __init__(self, cfg: ExperimentBase) -> None:
        super().__init__()
        self.cfg = cfg
        self.skeleton: Skeleton = cfg.joint_set()
        self.train_set: TrainSet | None = None
        self.val_set: TestSet | None = None
        self._val: Annotations | None = None
        self._photographs: list[Photographs] = []
        self._samples_done = 0
        self._sampler: TrainSampler | None = None

    # --- where things are -------------------------------------------------------------------------------------------

    @cached_property
    def root(self) -> Path:
        """The data set's folder; kept, so that an edit of the drawing code does not move it while a run reads it."""
        return find_root(self.cfg.data, self.skeleton)

    @property
    def box_source(self) -> str:
        """Source of the test boxes, printed beside every AP: `gt`, `detections: <file name>`; `none` (image view)."""
        return "none" if self.cfg.data.view == "image" else box_source(self.cfg.data, self.root)

    @property
    def val_annotations(self) -> Annotations:
        """People of the evaluated images; read on first use, without looking at the images."""
        if self._val is None:
            data = self.cfg.data
            file = data_file(self.root, data.val_json, "data.val_json", data)
            folder, labelled = self.root / data.val_images, data.val_labelled
            self._val = read(file, folder, self.skeleton, data.oks_area, data.limit_val, labelled)
        return self._val

    def ground_truth(self, masks: bool = False) -> dict[str, Any]:
        """COCO-format dict of the evaluated images, unreadable ones too: their people count as missed.

        Args:
            masks: with the people's `segmentation`.
        """
        return self.val_annotations.ground_truth(masks=masks)

    def fingerprint(self) -> str:
        """Hash of the annotation files and the box file: what the data of a result are, 16 hexadecimal digits."""
        return fingerprint(self.cfg.data, self.root)

    # --- Lightning's hooks ------------------------------------------------------------------------------------------

    def prepare_data(self) -> None:
        """Draw the synthetic data set if the experiment wants one that is not there."""
        data = self.cfg.data
        if data.synthetic is None:
            return
        folder = self.root
        if (folder / data.val_json).is_file():
            return
        from repose.data.synthetic import synthesize

        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # runs that start at once draw it once; it is moved there whole
            if (folder / data.val_json).is_file():
                return
            wanted = data.synthetic
            _say(f"data: drawing {wanted.train} + {wanted.val} synthetic images into {folder}")
            try:
                synthesize(folder, wanted, self.skeleton.joints, self.skeleton.limbs, data.workers or None, _progress)
            except (ValueError, FileExistsError) as error:
                raise UserError(f"data.synthetic: {error}") from None

    def setup(self, stage: str) -> None:
        """Read the annotations, look at the images, open the caches.

        Args:
            stage: Lightning's `fit`, `validate` or `test`.

        Raises:
            UserError: anything that is wrong with the data set and cannot be skipped.
        """
        data = self.cfg.data
        if data.check and stage == "fit" and self.train_set is None:
            self._refuse_problems()
        if self.val_set is None:
            self._setup_val()
        if stage == "fit" and self.train_set is None:
            self._setup_train()

    def _setup_val(self) -> None:
        data, annotations = self.cfg.data, self.val_annotations
        photographs = self._look(annotations, np.arange(annotations.images))
        boxes = None
        if data.view == "person":
            if data.boxes == "gt" and not data.val_labelled:
                raise UserError(
                    f"data.boxes=gt: {annotations.file.name} has no people to take boxes of; use data.boxes=detections"
                )
            boxes = read_boxes(data, self.root, annotations)
            if boxes.file is not None and boxes.n == 0:
                _say(f"boxes: {boxes.file} has no person box of the evaluated images, so nobody is found: AP 0")
            with_people = np.unique(ground_truth_boxes(annotations).image_M)
            missing = len(np.setdiff1d(with_people, boxes.image_M))
            if boxes.n and missing:
                _say(f"boxes: {boxes.source} has none for {missing} of {len(with_people)} images with people")
            if boxes.dropped:
                _say(f"boxes: {boxes.dropped} results of {boxes.source} are not people or have no extent; left out")
        images = np.arange(annotations.images) if boxes is None else np.unique(boxes.image_M)
        photographs.use(open_cache(data, self.root, annotations, images))
        self._tell(photographs, "their people count as missed")
        self.val_set = TestSet(photographs, data, self.skeleton, self.cfg.seed, boxes)

    def _setup_train(self) -> None:
        data = self.cfg.data
        file = data_file(self.root, data.train_json, "data.train_json", data)
        annotations = read(file, self.root / data.train_images, self.skeleton, data.oks_area, data.limit_train)
        _, images = trainable(annotations, data)
        if len(images) == 0:
            more = f" in images with data.min_image_keypoints={data.min_image_keypoints}"
            raise UserError(
                f"{file}: nobody with at least data.min_keypoints={data.min_keypoints} labelled joints"
                + (more if data.min_image_keypoints else "")
            )
        if data.masks != "none" and not any(annotations.has_mask(a) for a in range(len(annotations.ann_id_A))):
            _say(f"data: data.masks={data.masks}, but nobody in {file.name} has a segmentation: all masks are empty")
        photographs = self._look(annotations, images)
        photographs.use(open_cache(data, self.root, annotations, images))
        self._tell(photographs, "not trained on")
        good = np.array([i for i in images.tolist() if not photographs.is_bad(i)], np.int64)
        if len(good) == 0:
            raise UserError(f"{annotations.folder}: none of the {len(images)} images of {file.name} can be read")
        self.train_set = TrainSet(photographs, data, self.skeleton, self.cfg.seed, self.cfg.train.epochs, good)

    def _look(self, annotations: Annotations, images: np.ndarray) -> Photographs:
        if not annotations.folder.is_dir():
            hint = self.cfg.data.download or "the images"
            raise UserError(f"{annotations.folder}: no such folder; needed there: {hint}")
        photographs = Photographs(annotations)
        swapped = photographs.look(images, unswap=self.cfg.data.swapped_size == "photograph")
        if swapped:
            _say(
                f"data: {annotations.file.name} has width and height swapped for {swapped} of {len(images)} images; "
                "the photographs' own sizes are used"
            )
        self._photographs.append(photographs)
        return photographs

    def _tell(self, photographs: Photographs, what_follows: str) -> None:
        bad = photographs.bad()
        if bad:
            shown = "; ".join(bad[:5]) + ("; ..." if len(bad) > 5 else "")
            _say(
                f"data: {len(bad)} images in {photographs.annotations.folder} cannot be used ({shown}); {what_follows}"
            )

    def _refuse_problems(self) -> None:
        from repose.data.check import check

        found = check(self.cfg)
        if found:
            raise UserError(
                f"data.check: {len(found)} problem(s), the first: {found[0]}; `repose data check` lists them"
            )

    # --- training ---------------------------------------------------------------------------------------------------

    @property
    def train_samples(self) -> int:
        """Training samples: people (person view) or images (image view)."""
        return len(self._train())

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps per epoch; the last incomplete global batch is dropped."""
        return self._train_sampler().steps_per_epoch

    @property
    def device_batch(self) -> tuple[int, int]:
        """Samples per device and step, and accumulation steps."""
        return device_batch(self.cfg.train.batch, self._rank()[1], self.cfg.train.device_batch)

    def resume_at(self, samples_done: int) -> None:
        """Start the next training epoch where a run stopped, exactly.

        Args:
            samples_done: samples that all ranks together have trained on since the run's beginning.
        """
        self._samples_done = samples_done
        if self._sampler is not None:
            self._sampler.resume_at(samples_done)

    def train_dataloader(self) -> DataLoader[Any]:
        """Training batches of `device_batch` samples; yields Batch."""
        sampler = self._train_sampler()
        workers = self._workers()
        return DataLoader(
            self._train(),
            batch_size=self.device_batch[0],
            sampler=sampler,
            collate_fn=_as_is,
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=_set_up_worker,
            pin_memory=torch.cuda.is_available(),
            drop_last=False,
        )

    def _train(self) -> TrainSet:
        if self.train_set is None:
            raise RuntimeError('call setup("fit") first')
        return self.train_set

    def _train_sampler(self) -> TrainSampler:
        if self._sampler is None:
            rank, world = self._rank()
            self._sampler = TrainSampler(len(self._train()), self.cfg.train.batch, self.cfg.seed, rank, world)
            self._sampler.resume_at(self._samples_done)
        return self._sampler

    # --- evaluation -------------------------------------------------------------------------------------------------

    def val_dataloader(self) -> DataLoader[Any]:
        """Evaluation batches; yields a list with one Batch per `data.test_scales` entry."""
        if self.val_set is None:
            raise RuntimeError("call setup first")
        rank, world = self._rank()
        groups = [self.val_set.canvases(i) for i in range(len(self.val_set))]
        batches = TestBatches(self.val_set.image_S, self.cfg.test.batch, groups, rank, world)
        return DataLoader(
            self.val_set,
            batch_sampler=batches,
            collate_fn=_as_is,
            num_workers=min(self._workers(), len(batches)),
            worker_init_fn=_set_up_worker,
            pin_memory=torch.cuda.is_available(),
        )

    def test_dataloader(self) -> DataLoader[Any]:
        """The same as `val_dataloader`: these data sets publish the labels of their val split only."""
        return self.val_dataloader()

    # --- what went wrong --------------------------------------------------------------------------------------------

    @property
    def problems(self) -> list[str]:
        """Images that could not be used so far: name and what is wrong, one line each."""
        return [line for photographs in self._photographs for line in photographs.bad()]

    def _workers(self) -> int:
        if self.cfg.data.workers is not None:
            return self.cfg.data.workers
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
        here = self.trainer.num_devices if self.trainer is not None else 1
        return min(_MOST_WORKERS, max(1, cores // here))

    def _rank(self) -> tuple[int, int]:
        if self.trainer is not None:
            return self.trainer.global_rank, self.trainer.world_size
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        return 0, 1


def _as_is(batch: Any) -> Any:
    return batch  # the data set makes whole batches


def _set_up_worker(_: int) -> None:
    # One process per core is enough; threads would only get into each other's way (and hang after a fork).
    cv2.setNumThreads(0)
    # A signal to the whole group (SLURM's, a shell's) is the main process's to answer: it saves first, and ends the
    # workers then. A worker that died of it would make that saving fail.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def _end_workers() -> None:
    # A process that fails keeps its loaders alive (its traceback refers to them). Python then asks their workers with
    # SIGTERM, which they ignore, and would wait for them for ever.
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()


multiprocessing.util.Finalize(None, _end_workers, exitpriority=0)  # before Python asks and waits


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty() and (done % 20 == 0 or done == total):
        print(f"\rdata: {done}/{total} images drawn ", end="\n" if done == total else "", file=sys.stderr)


@rank_zero_only
def _say(line: str) -> None:
    print(line, file=sys.stderr)
