# pycocotools has no types; its arrays become floats and plain dicts in this file.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
"""COCO keypoint AP for any skeleton, matched and accumulated by pycocotools.

Shapes: B results of a batch, N people of one image, K joints. Values are shares (0 to 1), never percent.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

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

NAMES: Final = ("AP", "AP50", "AP75", "AP_M", "AP_L", "AR", "AR50", "AR75", "AR_M", "AR_L")
"""COCO's ten numbers, in pycocotools' order."""
_KEYS: Final = ("image_id", "category_id", "keypoints", "score")
"""What a result holds, and nothing else: with a `bbox` pycocotools takes the area from it, and AP by size changes."""
COORDINATE_DECIMALS: Final = 4
SCORE_DECIMALS: Final = 8
"""Of results: rounded before scoring, so that the saved file scores the same."""
_MEDIUM, _LARGE = 32**2, 96**2
"""COCO's size classes, pixels^2; an area on a border is in both."""


class KeypointAP(Metric):
    """Collects poses, drops duplicates, applies OKS-NMS, and lets pycocotools score the rest.

    A result is named by (image id, subject id, position in the image), so an image or crop that a sampler repeated
    counts once. Works over processes, also where one of them saw nothing.
    """

    full_state_update = False
    rows: list[Tensor] | Tensor  # a tensor after processes were joined

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
        self._results: list[dict[str, Any]] = []
        self._metrics: dict[str, float] = {}
        self.add_state("rows", default=[], dist_reduce_fx="cat")
        self._seed()

    def _seed(self) -> None:
        # Matrices of rows (image, subject, position, score, area, K x (x, y, score)), float64 because ids pass 2^24.
        # The first has no rows: gloo fails where a process that saw nothing has nothing to gather.
        empty = torch.zeros(0, 5 + 3 * self.skeleton.k, dtype=torch.float64, device=self.device)
        self.rows = [empty]

    @property
    def update_called(self) -> bool:
        """True: an evaluation that found nobody is a valid one, and torchmetrics would warn of it."""
        return True

    def update(
        self, image_id_B: Tensor, subject_id_B: Tensor, poses: Sequence[Poses], area: Tensor | Sequence[Tensor]
    ) -> None:
        """Add a batch.

        Args:
            image_id_B: int64.
            subject_id_B: int64, who a crop is of; -1 for whole images.
            poses: one per batch element, photograph pixels.
            area: for OKS-NMS, photograph pixels^2: (B,), one for all poses of a crop; or B tensors (N,), one for each
                pose of a whole image.
        """
        if not len(poses) == len(image_id_B) == len(subject_id_B) == len(area):
            raise ValueError(
                f"{len(poses)} poses, {len(image_id_B)} image ids, {len(subject_id_B)} subjects, {len(area)} areas"
            )
        if not poses:
            return
        n_B = torch.tensor([pose.n for pose in poses])
        head = torch.stack([v.detach().cpu().double() for v in (image_id_B, subject_id_B)])
        image, subject = head.repeat_interleave(n_B, dim=1)
        area = _per_pose(area, poses)
        position = torch.cat([torch.arange(pose.n, dtype=torch.float64) for pose in poses])
        score = torch.cat([pose.score_N.detach() for pose in poses]).cpu().double()
        joints = torch.cat([pose.joint_NK3.detach().flatten(1) for pose in poses]).cpu().double()
        columns = torch.stack([image, subject, position, score, area], dim=1)
        assert isinstance(self.rows, list)
        self.rows.append(torch.cat([columns, joints], dim=1).to(self.device))

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self._seed()
        self._results, self._metrics = [], {}

    def compute(self) -> dict[str, float]:
        """Numbers by name (COCO's ten); nan where the ground truth has nobody to score (`explain` says why)."""
        rows = torch.cat(self.rows) if isinstance(self.rows, list) else self.rows
        category = _category(self.ground_truth)
        self._results = _to_results(rows.cpu(), self.skeleton, self.oks_nms, category)
        self._metrics = self.score(self._results)
        return dict(self._metrics)

    def score(self, results: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """The numbers of COCO results; what a metric with more of them replaces."""
        return score(results, self.ground_truth, self.skeleton, self.max_people)

    def results(self) -> list[dict[str, Any]]:
        """What the last `compute` scored, in COCO's result format: of all processes, without duplicates, after NMS."""
        return self._results

    def explain(self) -> str:
        """Why a number of the last `compute` is nan or 0, "" if there is nothing to say."""
        return explain(self._metrics, self.ground_truth, self._results) if self._metrics else ""


def _per_pose(area: Tensor | Sequence[Tensor], poses: Sequence[Poses]) -> Tensor:
    each = [a.detach().cpu().double().reshape(-1) for a in area]
    for a, pose in zip(each, poses, strict=True):
        if len(a) not in (1, pose.n):
            raise ValueError(f"{len(a)} areas for {pose.n} poses")
    return torch.cat([a.expand(pose.n) if len(a) == 1 else a for a, pose in zip(each, poses, strict=True)])


def _category(ground_truth: Mapping[str, Any]) -> int:
    categories = ground_truth.get("categories") or [{"id": 1}]
    return int(categories[0]["id"])


def _to_results(rows: Tensor, skeleton: Skeleton, threshold: float | None, category: int) -> list[dict[str, Any]]:
    unique: dict[tuple[int, int, int], Tensor] = {}
    for key, row in zip(rows[:, :3].long().tolist(), rows, strict=True):
        unique.setdefault((key[0], key[1], key[2]), row)
    by_image: dict[int, list[Tensor]] = {}
    for key in sorted(unique):  # the same order however many processes there were
        by_image.setdefault(key[0], []).append(unique[key])
    results: list[dict[str, Any]] = []
    for image, members in by_image.items():
        kept = torch.stack(members)
        if threshold is not None:
            joint_NK3 = kept[:, 5:].view(len(kept), skeleton.k, 3)
            kept = kept[oks_nms(joint_NK3, kept[:, 3], kept[:, 4], skeleton.sigmas, threshold)]
        for row in kept.numpy():
            results.append(
                {
                    "image_id": image,
                    "category_id": category,
                    "keypoints": np.round(row[5:], COORDINATE_DECIMALS).tolist(),
                    "score": round(float(row[3]), SCORE_DECIMALS),
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

    Raises:
        UserError: see `evaluate`.
    """
    evaluation = evaluate(results, ground_truth, skeleton, max_people)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.accumulate()
    # Not pycocotools' own summary: that looks for maxDets = 20 and says -1 for every other number of people.
    precision_TRA, recall_TA = evaluation.eval["precision"][:, :, 0, :, 0], evaluation.eval["recall"][:, 0, :, 0]
    values: list[float] = []
    for table in (precision_TRA, recall_TA):
        half, three_quarters = (np.flatnonzero(np.isclose(evaluation.params.iouThrs, t)) for t in (0.5, 0.75))
        for part in (table[..., 0], table[half][..., 0], table[three_quarters][..., 0], table[..., 1], table[..., 2]):
            values.append(float(np.mean(part[part > -1])) if (part > -1).any() else math.nan)
    return dict(zip(NAMES, values, strict=True))


def evaluate(
    results: Sequence[Mapping[str, Any]], ground_truth: Mapping[str, Any], skeleton: Skeleton, max_people: int = 20
) -> COCOeval:
    """Matching per image by pycocotools, not yet accumulated; prints nothing and leaves its arguments as they are.

    Raises:
        UserError: a result that `check` refuses, or an annotation without `area`.
    """
    check(results, ground_truth, skeleton, "predictions")
    truth: Any = COCO()  # Any: its stubs know no keypoint results
    found: Any = COCO()
    with contextlib.redirect_stdout(io.StringIO()):
        truth.dataset = {
            "info": {},
            "images": list(ground_truth["images"]),
            # People are the only class, whatever number a file gives them.
            "categories": [{"id": 1, "name": "person"}],
            "annotations": [complete(a, i + 1, skeleton.k) for i, a in enumerate(ground_truth["annotations"])],
        }
        truth.createIndex()
        bare = [{**{key: r[key] for key in _KEYS}, "category_id": 1} for r in results]
        if bare:
            found = truth.loadRes(bare)
        else:  # which loadRes cannot read
            found.dataset = {**truth.dataset, "annotations": []}
            found.createIndex()
        evaluation = COCOeval(truth, found, "keypoints")
        evaluation.params.kpt_oks_sigmas = np.array(skeleton.sigmas)
        evaluation.params.maxDets = [max_people]
        evaluation.params.imgIds = sorted(truth.imgs)
        evaluation.evaluate()
    return evaluation


def complete(annotation: Mapping[str, Any], number: int, k: int) -> dict[str, Any]:
    """A copy of an annotation with every key that pycocotools insists on.

    Args:
        annotation: COCO keypoint annotation; `iscrowd`, `num_keypoints`, `bbox`, `keypoints`, `id` may be absent.
        number: its new id, from 1: pycocotools marks a match by the annotation's id, so id 0 would count as no match.
        k: joints of the skeleton.

    Raises:
        UserError: no `area`, or joints of another skeleton.
    """
    name = f"annotation {annotation.get('id', number)} of image {annotation['image_id']}"
    if annotation.get("area") is None:
        raise UserError(f"{name} has no `area`, which OKS needs; set data.oks_area to say what stands for it")
    joints = list(annotation.get("keypoints") or [0] * (3 * k))
    if len(joints) != 3 * k:
        raise UserError(f"{name} has {len(joints) / 3:g} joints, the skeleton has {k}")
    labelled = np.array(joints, dtype=np.float64).reshape(k, 3)
    labelled = labelled[labelled[:, 2] > 0, :2]
    low, high = (labelled.min(0), labelled.max(0)) if len(labelled) else (np.zeros(2), np.zeros(2))
    return {
        "iscrowd": 0,
        "num_keypoints": len(labelled),
        "bbox": [*low.tolist(), *(high - low).tolist()],
        **annotation,
        "keypoints": joints,
        "category_id": 1,
        "id": number,
    }


def explain(
    metrics: Mapping[str, float],
    ground_truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]] | None = None,
) -> str:
    """Why numbers are nan (or all 0, if the results are given and empty), one line, "" if there is nothing to say."""
    if not ground_truth["images"]:
        return "no image was evaluated"
    absent = [name for name in NAMES if math.isnan(metrics.get(name, 0.0))]
    if "AP" in absent:
        return f"the {len(ground_truth['images'])} evaluated images have nobody with labelled joints, so there is no AP"
    said: list[str] = []
    if results is not None and not results:
        said.append("nobody was predicted, so AP is 0")
    if absent:
        sizes = {
            "M": f"medium ({_MEDIUM} to {_LARGE} pixels^2)",
            "L": f"large ({_LARGE} pixels^2 and above)",
        }
        gone = " or ".join(text for size, text in sizes.items() if f"AP_{size}" in absent)
        said.append(f"{', '.join(absent)}: no labelled person of the evaluated images is {gone}")
    return "; ".join(said)


def check(
    results: Sequence[Mapping[str, Any]], ground_truth: Mapping[str, Any], skeleton: Skeleton, source: str
) -> None:
    """Refuse results that would score wrongly.

    Args:
        results: COCO keypoint results.
        ground_truth: of the evaluated images.
        skeleton: joints of both.
        source: file name or the like, for the message.

    Raises:
        UserError: missing keys, joints of another skeleton, values that are not finite (pycocotools matches NaN with
            anybody), or an image that is not evaluated.
    """
    known = {int(image["id"]) for image in ground_truth["images"]}
    for i, result in enumerate(results):
        missing = [key for key in _KEYS if key not in result]
        if missing:
            raise UserError(f"{source}: result {i} has no `{missing[0]}`; each needs {', '.join(_KEYS)}")
        joints, image = result["keypoints"], result["image_id"]
        if not isinstance(joints, Sequence) or len(joints) != 3 * skeleton.k:
            n = f"{len(joints) / 3:g}" if isinstance(joints, Sequence) else "no"
            raise UserError(f"{source}: result {i} has {n} joints, skeleton {skeleton.name} has {skeleton.k}")
        try:
            finite = math.isfinite(result["score"]) and all(map(math.isfinite, joints))
        except TypeError:
            finite = False
        if not finite:
            raise UserError(f"{source}: result {i} (image {image}) has a joint or score that is not a finite number")
        if image not in known:
            raise UserError(f"{source}: result {i} is of image {image}, which is not among the {len(known)} evaluated")


def load_results(path: Path, ground_truth: Mapping[str, Any], skeleton: Skeleton) -> list[dict[str, Any]]:
    """A COCO keypoint result file.

    Raises:
        UserError: no such file, not a list of results, or what `check` refuses.
    """
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a JSON file ({error})") from None
    if not isinstance(results, list):
        raise UserError(f"{path}: a COCO result file is a list of results, not a {type(results).__name__}")
    for i, result in enumerate(results):
        if not isinstance(result, dict):
            raise UserError(f"{path}: result {i} is a {type(result).__name__}, not an object with {', '.join(_KEYS)}")
    check(results, ground_truth, skeleton, str(path))
    return results
