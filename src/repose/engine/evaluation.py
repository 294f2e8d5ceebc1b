"""Evaluation: every test batch into keypoint AP, mask AP where there are masks, read-outs, and a few pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from repose.engine.module import Evaluated, PoseModule
from repose.engine.rundir import MASKS
from repose.metrics import crowd_ap, keypoint_ap, mask_ap, pckh
from repose.metrics.keypoint_ap import KeypointAP
from repose.metrics.mask_ap import MaskAP
from repose.metrics.pckh import PCKh
from repose.metrics.subsets import image_subsets
from repose.skeleton import Skeleton
from repose.types import Poses


@dataclass
class Scores:
    """One evaluation.

    Attributes:
        metrics: AP ... AR_L, APs of subsets (`test.subsets`), mask_AP ... mask_AP_L where a method gives masks and the
            data have them, PCKh ... where crops of given people have head sizes (MPII), and the paper's read-outs; nan
            where there is nothing to score.
        results: COCO results after de-duplication and NMS.
        explanation: why a value is nan, "" if none is.
        step: optimiser steps of the weights.
        pictures: (caption, RGB image) of the first images.
        masks: COCO segmentation results; None where mask AP was not evaluated.
    """

    metrics: dict[str, float]
    results: list[dict[str, Any]]
    explanation: str
    step: int
    pictures: list[tuple[str, np.ndarray]] = field(default_factory=list)
    masks: list[dict[str, Any]] | None = None


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
        self._masks = _Masks(cfg)
        self._pckh: PCKh | None = None
        self._sums: dict[str, list[float]] = {}
        self._drawn: list[tuple[str, np.ndarray]] = []
        self._extra: dict[str, str] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make the metrics: ground truth that they cannot use is refused before anything is trained."""
        assert isinstance(pl_module, PoseModule)
        if self._ap:
            return
        self._extra = dict(pl_module.ap_read_outs)
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        truth, test = data.ground_truth(), self.cfg.test
        self._ap = {"AP": crowd_ap.keypoint_metric(test, self.skeleton, truth)}
        for name in self._extra:
            self._ap[name] = KeypointAP(self.skeleton, truth, max_people=test.max_people, oks_nms=test.oks_nms)
        self._masks.truth = lambda: data.ground_truth(masks=True)
        if self.cfg.data.view == "person" and self.cfg.data.boxes == "gt" and pckh.people(truth):
            self._pckh = PCKh(self.skeleton, truth)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Empty metrics, on the module's device."""
        assert isinstance(pl_module, PoseModule)
        # Where processes gather; other devices may lack the metrics' float64.
        device = pl_module.device if pl_module.device.type == "cuda" else torch.device("cpu")
        for metric in (*self._ap.values(), *([self._pckh] if self._pckh else [])):
            metric.reset()
            metric.to(device)
        self._masks.reset(device)
        self._sums, self._drawn = {}, []
        pl_module.evaluated = self._add

    on_test_start = on_validation_start

    def _add(self, seen: Evaluated) -> None:
        batch = seen.batch
        self._ap["AP"].update(batch.image_id_B, batch.subject_id_B, seen.poses_img, seen.area_B)
        for name, key in self._extra.items():
            points = [_with_points(pose, key) for pose in seen.poses_img]
            self._ap[name].update(batch.image_id_B, batch.subject_id_B, points, seen.area_B)
        self._masks.add(seen)
        if self._pckh is not None:
            self._pckh.update(batch.subject_id_B, seen.poses_img)
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
        masks, mask_results, said = self._masks.compute(trainer.world_size)
        heads = self._pckh.compute() if self._pckh else {}
        left_out = pckh.missing(self._pckh.ground_truth) if self._pckh else ""
        self.scores = Scores(
            metrics=metrics | masks | heads,
            results=self._ap["AP"].results(),
            explanation="; ".join(s for s in (self._ap["AP"].explain(), said, left_out) if s),
            step=trainer.global_step,
            pictures=self._drawn,
            masks=mask_results,
        )

    on_test_epoch_end = on_validation_epoch_end


class _Masks:
    """Mask AP of a run whose poses may have masks and whose data may have them.

    Attributes:
        truth: reads the ground truth with masks; called when the first mask is seen, because most runs have none.
    """

    def __init__(self, cfg: Any) -> None:
        self.cfg = cfg
        self.truth: Callable[[], dict[str, Any]] | None = None
        self._device = torch.device("cpu")
        self._metric: MaskAP | None = None
        self._missing = ""

    def reset(self, device: torch.device) -> None:
        self._device = device
        if self._metric is not None:
            self._metric.reset()
            self._metric.to(device)

    def _open(self) -> None:
        """Make the metric, or learn why there is none: the same in every process, whatever it saw."""
        if self._metric is not None or self._missing or self.truth is None:
            return
        truth, test = self.truth(), self.cfg.test
        self._missing = mask_ap.missing(truth)
        if not self._missing:
            self._metric = MaskAP(truth, test.max_masks, test.mask_people).to(self._device)

    def add(self, seen: Evaluated) -> None:
        if all(pose.mask_NHW is None for pose in seen.poses):
            return
        self._open()
        if self._metric is not None:
            batch = seen.batch
            self._metric.update(batch.image_id_B, batch.subject_id_B, seen.poses_img, batch.to_image_B23)

    def compute(self, world_size: int) -> tuple[dict[str, float], list[dict[str, Any]] | None, str]:
        """Metrics, results, and why there are none."""
        seen = self._metric is not None or bool(self._missing)
        if any(_gather(seen, world_size)):
            self._open()
        if self._metric is None:
            return {}, None, self._missing
        metrics = {name: float(value) for name, value in self._metric.compute().items()}
        return metrics, self._metric.results(), ""


def score_files(
    cfg: Any, predictions: Path, truth: dict[str, Any], truth_with_masks: Callable[[], dict[str, Any]]
) -> Scores:
    """The scores of a COCO results file, as the evaluation that wrote it had them.

    Args:
        cfg: the experiment.
        predictions: keypoint results; `masks.json` beside it holds the same people's masks, where there are some.
        truth: COCO-format dict of the evaluated images.
        truth_with_masks: reads the same with `segmentation`.

    Raises:
        UserError: a file that is missing or does not fit.
    """
    test, skeleton = cfg.test, cfg.joint_set()
    poses = keypoint_ap.load_results(predictions, truth, skeleton)
    subsets = image_subsets(test, truth)
    metrics = crowd_ap.score(poses, truth, skeleton, subsets, test.max_people)
    explanation = crowd_ap.explain(metrics, truth, poses, subsets)
    if pckh.people(truth) and (heads := pckh.of_results(poses, truth, skeleton)):
        metrics |= heads
    masks = None
    beside = predictions.with_name(MASKS)
    if beside.is_file() and beside != predictions:
        whole = truth_with_masks()
        said = mask_ap.missing(whole)
        explanation = "; ".join(s for s in (explanation, said) if s)
        if not said:
            masks = mask_ap.load_results(beside, whole)
            metrics |= mask_ap.score(masks, whole, test.max_masks, test.mask_people)
    return Scores(metrics, poses, explanation, 0, masks=masks)


def _with_points(pose: Poses, key: str) -> Poses:
    if pose.extra is None or key not in pose.extra:
        raise KeyError(f"ap_read_outs names {key!r}; `decode` did not put it into Poses.extra")
    joint = torch.cat([pose.extra[key].to(pose.joint_NK3), pose.joint_NK3[..., 2:]], dim=-1)
    return replace(pose, joint_NK3=joint, extra=None)


def _means(sums: dict[str, list[float]], world_size: int) -> dict[str, float]:
    every: Iterable[dict[str, list[float]]] = _gather(sums, world_size)
    total: dict[str, list[float]] = {}
    for one in every:
        for name, (value, count) in one.items():
            pair = total.setdefault(name, [0.0, 0.0])
            pair[0] += value
            pair[1] += count
    return {name: value / count if count else float("nan") for name, (value, count) in sorted(total.items())}


def _gather(value: Any, world_size: int) -> list[Any]:
    if world_size == 1:
        return [value]
    gathered: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(gathered, value)  # as objects: a process that saw no image knows no names
    return gathered


def _drawing(seen: Evaluated, i: int, skeleton: Skeleton, threshold: float) -> tuple[str, np.ndarray]:
    from repose.viz import draw_poses, enlarge, move

    image, affine = enlarge(np.ascontiguousarray(seen.batch.image_B3HW[i].permute(1, 2, 0).cpu().numpy()))
    joint_NK3 = move(seen.poses[i].joint_NK3.float().cpu().numpy(), affine)
    drawn = draw_poses(image, joint_NK3, skeleton, third="score", threshold=threshold)
    subject = int(seen.batch.subject_id_B[i])
    image_id = int(seen.batch.image_id_B[i])
    return f"{image_id}" if subject < 0 else f"{image_id}-{subject}", drawn
