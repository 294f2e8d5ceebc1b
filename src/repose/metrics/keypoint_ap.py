# pycocotools has no types; its arrays become floats and plain dicts in this file.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
"""COCO keypoint AP for any skeleton, accumulated by pycocotools.

Shapes: B results of a batch, N people of one image, K joints. Values are shares (0 to 1), never percent.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor
from torchmetrics import Metric

from repose.errors import UserError
from repose.ops.oks import oks_nms
from repose.skeleton import Skeleton
from repose.types import Poses

NAMES = ("AP", "AP50", "AP75", "AP_M", "AP_L", "AR", "AR50", "AR75", "AR_M", "AR_L")
"""COCO's ten numbers, in pycocotools' order."""
_DECIMALS = 4
"""Of coordinates and scores in results: rounded before scoring, so that the saved file scores the same."""


class KeypointAP(Metric):
    """Collects poses, drops duplicates, applies OKS-NMS, and lets pycocotools score the rest.

    A result is named by (image id, subject id, position in the image), so an image or crop that a sampler repeated
    counts once. Works over processes, also where one of them saw nothing.
    """

    full_state_update = False
    rows: Tensor

    def __init__(
        self,
        skeleton: Skeleton,
        ground_truth: Mapping[str, Any],
        max_people: int = 20,
        oks_nms: float | None = None,
    ) -> None:
        """Args: see `score`; oks_nms: OKS threshold of the NMS within an image, None for none."""
        super().__init__()
        self.skeleton = skeleton
        self.ground_truth = ground_truth
        self.max_people = max_people
        self.oks_nms = oks_nms
        # One matrix (image, subject, position, score, area, K x (x, y, score)), float64 because ids pass 2^24. It starts
        # with no rows rather than as a list: a process that saw nothing must still have something to gather.
        empty = torch.zeros(0, 5 + 3 * skeleton.k, dtype=torch.float64)
        self.add_state("rows", default=empty, dist_reduce_fx="cat")
        self._waiting: list[Tensor] = []

    def update(self, image_id_B: Tensor, subject_id_B: Tensor, poses: Sequence[Poses], area_B: Tensor) -> None:
        """Add a batch.

        Args:
            image_id_B: int64.
            subject_id_B: int64, who a crop is of; -1 for whole images.
            poses: one per batch element, photograph pixels.
            area_B: areas for OKS-NMS, photograph pixels^2.
        """
        if not len(poses) == len(image_id_B) == len(subject_id_B) == len(area_B):
            raise ValueError(f"{len(poses)} poses for {len(image_id_B)} images")
        for image, subject, pose, area in zip(image_id_B, subject_id_B, poses, area_B, strict=True):
            n = pose.n
            head = torch.empty(n, 5, dtype=torch.float64, device=self.rows.device)
            head[:, 0], head[:, 1], head[:, 4] = image, subject, area
            head[:, 2] = torch.arange(n)
            head[:, 3] = pose.score_N
            joints = pose.joint_NK3.reshape(n, 3 * self.skeleton.k).to(head)
            self._waiting.append(torch.cat([head, joints], dim=1))

    def _flush(self) -> None:
        if self._waiting:
            self.rows = torch.cat([self.rows, *self._waiting])
            self._waiting = []

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self._waiting = []

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather the rows of all processes."""
        self._flush()
        super().sync(*args, **kwargs)

    def compute(self) -> dict[str, float]:
        """COCO's ten numbers; nan where the ground truth has nobody to score (`explain` says why)."""
        self._flush()
        self._results = _to_results(self.rows.cpu(), self.skeleton, self.oks_nms)
        return score(self._results, self.ground_truth, self.skeleton, self.max_people)

    def results(self) -> list[dict[str, Any]]:
        """What the last `compute` scored, in COCO's result format."""
        return self._results

    def explain(self) -> str:
        """Why a number of the last `compute` is nan, "" if none is."""
        return explain(score(self._results, self.ground_truth, self.skeleton, self.max_people), self.ground_truth)


def _to_results(rows: Tensor, skeleton: Skeleton, threshold: float | None) -> list[dict[str, Any]]:
    unique: dict[tuple[int, int, int], Tensor] = {}
    for key, row in zip(rows[:, :3].long().tolist(), rows, strict=True):
        unique.setdefault((key[0], key[1], key[2]), row)
    by_image: dict[int, list[Tensor]] = {}
    for key in sorted(unique):
        by_image.setdefault(key[0], []).append(unique[key])
    results: list[dict[str, Any]] = []
    for image, members in by_image.items():
        kept = torch.stack(members)
        if threshold is not None:
            joint_NK3 = kept[:, 5:].view(len(kept), skeleton.k, 3)
            kept = kept[oks_nms(joint_NK3, kept[:, 3], kept[:, 4], skeleton.sigmas, threshold)]
        for row in kept.numpy():
            # Only these four keys: with a `bbox` pycocotools takes the area from it, and AP by size changes.
            results.append(
                {
                    "image_id": image,
                    "category_id": 1,
                    "keypoints": np.round(row[5:], _DECIMALS).tolist(),
                    "score": round(float(row[3]), 8),
                }
            )
    return results


def score(
    results: Sequence[Mapping[str, Any]],
    ground_truth: Mapping[str, Any],
    skeleton: Skeleton,
    max_people: int = 20,
) -> dict[str, float]:
    """COCO's ten numbers.

    Args:
        results: COCO keypoint results; may be empty.
        ground_truth: COCO-format dict of the evaluated images; its annotations have `area`.
        skeleton: for its sigmas.
        max_people: predictions per image that count, best first.

    Returns:
        name -> share, nan where pycocotools says -1 (nobody of that size in the ground truth).
    """
    evaluation = evaluate(results, ground_truth, skeleton, max_people)
    if evaluation is None:
        has = {
            "": any(_counts(a) for a in ground_truth["annotations"]),
            "M": any(_counts(a) and 32**2 <= a["area"] <= 96**2 for a in ground_truth["annotations"]),
            "L": any(_counts(a) and a["area"] >= 96**2 for a in ground_truth["annotations"]),
        }
        sizes = [name.rpartition("_")[2] if "_" in name else "" for name in NAMES]
        return {name: 0.0 if has[size] else math.nan for name, size in zip(NAMES, sizes, strict=True)}
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.accumulate()
        evaluation.summarize()
    return {name: math.nan if v < 0 else float(v) for name, v in zip(NAMES, evaluation.stats, strict=True)}


def _counts(annotation: Mapping[str, Any]) -> bool:
    return bool(annotation.get("num_keypoints")) and not annotation.get("iscrowd")


def evaluate(
    results: Sequence[Mapping[str, Any]], ground_truth: Mapping[str, Any], skeleton: Skeleton, max_people: int = 20
) -> COCOeval | None:
    """pycocotools' per-image evaluation, not yet accumulated; None without results (it cannot load an empty list)."""
    if not results or not ground_truth["images"]:
        return None
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": list(ground_truth["images"]),
            "categories": list(ground_truth.get("categories") or [{"id": 1, "name": "person"}]),
            "annotations": [_complete(a, skeleton.k) for a in ground_truth["annotations"]],
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes([_bare(r) for r in results]), "keypoints")
        evaluation.params.kpt_oks_sigmas = np.array(skeleton.sigmas)
        evaluation.params.maxDets = [max_people]
        evaluation.params.imgIds = sorted(truth.imgs)
        evaluation.evaluate()
    return evaluation


def _complete(annotation: Mapping[str, Any], k: int) -> dict[str, Any]:
    """An annotation with the optional keys that pycocotools insists on."""
    joints = annotation.get("keypoints") or [0] * (3 * k)
    return {"iscrowd": 0, "num_keypoints": sum(v > 0 for v in joints[2::3]), **annotation, "keypoints": joints}


def _bare(result: Mapping[str, Any]) -> dict[str, Any]:
    return {key: result[key] for key in ("image_id", "category_id", "keypoints", "score")}


def explain(metrics: Mapping[str, float], ground_truth: Mapping[str, Any]) -> str:
    """Why numbers are nan, one line, "" if none is."""
    absent = [name for name in NAMES if math.isnan(metrics[name])]
    if not absent:
        return ""
    if not ground_truth["images"]:
        return "no image was evaluated"
    if "AP" in absent:
        return f"the {len(ground_truth['images'])} evaluated images have nobody with labelled joints"
    sizes = {"M": "medium (32^2 to 96^2 pixels)", "L": "large (above 96^2 pixels)"}
    gone = " and ".join(text for size, text in sizes.items() if f"AP_{size}" in absent)
    return f"{', '.join(absent)}: no labelled person of the evaluated images is {gone}"


def load_results(path: Path, ground_truth: Mapping[str, Any], skeleton: Skeleton) -> list[dict[str, Any]]:
    """A COCO keypoint result file.

    Raises:
        UserError: missing, not a list of results, joints of another skeleton, or images that are not evaluated.
    """
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a JSON file ({error})") from None
    if not isinstance(results, list):
        raise UserError(f"{path}: a COCO result file is a list of results, not a {type(results).__name__}")
    known = {int(image["id"]) for image in ground_truth["images"]}
    for i, result in enumerate(results):
        missing = [k for k in ("image_id", "category_id", "keypoints", "score") if k not in result]
        if missing:
            raise UserError(f"{path}: result {i} has no {missing[0]!r}")
        if len(result["keypoints"]) != 3 * skeleton.k:
            n = len(result["keypoints"]) / 3
            raise UserError(f"{path}: result {i} has {n:g} joints, skeleton {skeleton.name} has {skeleton.k}")
        if int(result["image_id"]) not in known:
            raise UserError(f"{path}: result {i} is of image {result['image_id']}, which is not among those evaluated")
    return results
