"""Evaluation: every test batch into KeypointAP, the paper's read-outs, and a few pictures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from repose.engine.module import Evaluated, PoseModule
from repose.metrics.keypoint_ap import KeypointAP
from repose.skeleton import Skeleton
from repose.types import Poses


@dataclass
class Scores:
    """One evaluation.

    Attributes:
        metrics: AP ... AR_L and the paper's read-outs; nan where there is nothing to score.
        results: COCO results after de-duplication and NMS.
        explanation: why a value is nan, "" if none is.
        step: optimiser steps of the weights.
        pictures: (caption, RGB image) of the first images.
    """

    metrics: dict[str, float]
    results: list[dict[str, Any]]
    explanation: str
    step: int
    pictures: list[tuple[str, np.ndarray]] = field(default_factory=list)


class Evaluator(Callback):
    """Collects the module's evaluated batches in every validation and test.

    Attributes:
        scores: the latest evaluation.
    """

    def __init__(self, cfg: Any, skeleton: Skeleton) -> None:
        """Args: cfg: the experiment; skeleton: its joints."""
        self.cfg = cfg
        self.skeleton = skeleton
        self.scores: Scores | None = None
        self._ap: dict[str, KeypointAP] = {}
        self._sums: dict[str, list[float]] = {}
        self._drawn: list[tuple[str, np.ndarray]] = []
        self._extra: dict[str, str] = {}

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Empty metrics, on the module's device."""
        assert isinstance(pl_module, PoseModule)
        if not self._ap:
            self._extra = dict(pl_module.ap_read_outs)
            truth = trainer.datamodule.ground_truth()  # type: ignore[attr-defined]
            test = self.cfg.test
            self._ap = {
                name: KeypointAP(self.skeleton, truth, max_people=test.max_people, oks_nms=test.oks_nms)
                for name in ("AP", *self._extra)
            }
        for metric in self._ap.values():
            metric.reset()
            if pl_module.device.type == "cuda":  # where processes gather; other devices may lack its float64
                metric.to(pl_module.device)
        self._sums, self._drawn = {}, []
        pl_module.evaluated = self._add

    on_test_start = on_validation_start

    def _add(self, seen: Evaluated) -> None:
        batch = seen.batch
        self._ap["AP"].update(batch.image_id_B, batch.subject_id_B, seen.poses_img, seen.area_B)
        for name, key in self._extra.items():
            points = [_with_points(pose, key) for pose in seen.poses_img]
            self._ap[name].update(batch.image_id_B, batch.subject_id_B, points, seen.area_B)
        for name, (total, count) in seen.sums.items():
            pair = self._sums.setdefault(name, [0.0, 0.0])
            pair[0] += float(total)
            pair[1] += float(count)
        for i in range(min(self.cfg.test.save_pictures - len(self._drawn), batch.b)):
            self._drawn.append(_drawing(seen, i, self.skeleton, self.cfg.test.joint_threshold))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score what was collected, on every process together."""
        assert isinstance(pl_module, PoseModule)
        pl_module.evaluated = None
        metrics = {name: float(value) for name, value in self._ap["AP"].compute().items()}
        for name in self._extra:
            metrics[name] = float(self._ap[name].compute()["AP"])
        metrics |= _means(self._sums, trainer.world_size)
        self.scores = Scores(
            metrics=metrics,
            results=self._ap["AP"].results(),
            explanation=self._ap["AP"].explain(),
            step=trainer.global_step,
            pictures=self._drawn,
        )

    on_test_epoch_end = on_validation_epoch_end


def _with_points(pose: Poses, key: str) -> Poses:
    if pose.extra is None or key not in pose.extra:
        raise KeyError(f"ap_read_outs names {key!r}; `decode` did not put it into Poses.extra")
    joint = torch.cat([pose.extra[key].to(pose.joint_NK3), pose.joint_NK3[..., 2:]], dim=-1)
    return replace(pose, joint_NK3=joint, extra=None)


def _means(sums: dict[str, list[float]], world_size: int) -> dict[str, float]:
    every: Iterable[dict[str, list[float]]] = [sums]
    if world_size > 1:
        gathered: list[Any] = [None] * world_size
        torch.distributed.all_gather_object(gathered, sums)  # as objects: a process that saw no image knows no names
        every = gathered
    total: dict[str, list[float]] = {}
    for one in every:
        for name, (value, count) in one.items():
            pair = total.setdefault(name, [0.0, 0.0])
            pair[0] += value
            pair[1] += count
    return {name: value / count if count else float("nan") for name, (value, count) in sorted(total.items())}


def _drawing(seen: Evaluated, i: int, skeleton: Skeleton, threshold: float) -> tuple[str, np.ndarray]:
    from repose.viz import draw_poses, enlarge, move

    image, affine = enlarge(np.ascontiguousarray(seen.batch.image_B3HW[i].permute(1, 2, 0).cpu().numpy()))
    joint_NK3 = move(seen.poses[i].joint_NK3.float().cpu().numpy(), affine)
    drawn = draw_poses(image, joint_NK3, skeleton, third="score", threshold=threshold)
    subject = int(seen.batch.subject_id_B[i])
    image_id = int(seen.batch.image_id_B[i])
    return f"{image_id}" if subject < 0 else f"{image_id}-{subject}", drawn
