# pycocotools has no types; its arrays become floats and plain dicts in this file.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
"""COCO mask AP of people at the photograph's size, matched and accumulated by pycocotools.

Masks are warped to the photograph and run-length encoded as they come, so that thousands of them stay small.
Shapes: B results of a batch, N people of one image, H W mask pixels. Values are shares (0 to 1), never percent.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor
from torchmetrics import Metric

from repose.errors import UserError
from repose.types import Poses

NAMES: Final = ("mask_AP", "mask_AP50", "mask_AP75", "mask_AP_S", "mask_AP_M", "mask_AP_L")
"""COCO's six APs, in pycocotools' order."""
People = Literal["all", "labelled"]
_KEYS: Final = ("image_id", "segmentation", "score")
_SCORE_DECIMALS: Final = 8
"""Of results: rounded before scoring, so that the saved file scores the same."""
_HALF: Final = 0.5
"""Share of a pixel, or probability, from which it belongs to a mask."""


class MaskAP(Metric):
    """Collects instance masks as run lengths, drops duplicates, and lets pycocotools score them.

    As in KeypointAP a result is named by (image id, subject id, position in the image) and counts once, and processes
    may see different numbers of people, or nobody. No NMS: overlapping masks are for `decode` to drop.
    """

    full_state_update = False
    rows: list[Tensor] | Tensor  # a tensor after processes were joined
    codes: list[Tensor] | Tensor

    def __init__(self, ground_truth: Mapping[str, Any], max_people: int = 100, people: People = "all") -> None:
        """Args: see `score`."""
        super().__init__()
        self.ground_truth = ground_truth
        self.max_people = max_people
        self.people: People = people
        self._size = {int(i["id"]): (int(i["width"]), int(i["height"])) for i in ground_truth["images"]}
        self._results: list[dict[str, Any]] = []
        self.add_state("rows", default=[], dist_reduce_fx="cat")
        self.add_state("codes", default=[], dist_reduce_fx="cat")
        self._seed()

    def _seed(self) -> None:
        # Rows are (image, subject, position, score, bytes of its run lengths), float64 because ids pass 2^24; codes
        # are those bytes, one after the other. The first has none: gloo fails where there is nothing to gather.
        self.rows = [torch.zeros(0, 5, dtype=torch.float64, device=self.device)]
        self.codes = [torch.zeros(0, dtype=torch.uint8, device=self.device)]

    @property
    def update_called(self) -> bool:
        """True: an evaluation that found nobody is a valid one, and torchmetrics would warn of it."""
        return True

    def update(self, image_id_B: Tensor, subject_id_B: Tensor, poses: Sequence[Poses], to_image_B23: Tensor) -> None:
        """Add a batch.

        Args:
            image_id_B: int64.
            subject_id_B: int64, who a crop is of; -1 for whole images.
            poses: one per batch element, with `mask_NHW` in input pixels. Where there is `extra["mask_score_N"]`, it
                ranks the masks instead of `score_N`.
            to_image_B23: matrices from input pixels to photograph pixels (the batch's).
        """
        if not len(poses) == len(image_id_B) == len(subject_id_B) == len(to_image_B23):
            raise ValueError(f"{len(poses)} poses, {len(image_id_B)} ids, {len(to_image_B23)} matrices")
        matrix_B23 = to_image_B23.detach().cpu().double().numpy()
        rows: list[list[float]] = []
        codes: list[bytes] = []
        for image, subject, pose, matrix_23 in zip(
            image_id_B.tolist(), subject_id_B.tolist(), poses, matrix_B23, strict=True
        ):
            if not pose.n:
                continue
            if pose.mask_NHW is None:
                raise ValueError(f"image {image}: {pose.n} poses without masks")
            mask_NHW = pose.mask_NHW.detach().cpu().numpy()
            own_N = (pose.extra or {}).get("mask_score_N", pose.score_N)
            score_N = own_N.detach().cpu().double().tolist()
            for n, code in enumerate(run_lengths(mask_NHW, matrix_23, self._size[image])):
                rows.append([image, subject, n, score_N[n], len(code)])
                codes.append(code)
        assert isinstance(self.rows, list) and isinstance(self.codes, list)
        if rows:
            self.rows.append(torch.tensor(rows, dtype=torch.float64, device=self.device))
            whole = np.frombuffer(b"".join(codes), dtype=np.uint8).copy()
            self.codes.append(torch.from_numpy(whole).to(self.device))

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self._seed()
        self._results = []

    def compute(self) -> dict[str, float]:
        """COCO's six mask APs; nan where the ground truth has nobody of that size.

        Raises:
            UserError: people without masks in the ground truth (`missing` says so before).
        """
        rows = (torch.cat(self.rows) if isinstance(self.rows, list) else self.rows).cpu()
        codes = (torch.cat(self.codes) if isinstance(self.codes, list) else self.codes).cpu()
        self._results = _to_results(rows, codes.numpy().tobytes(), self._size)
        return score(self._results, self.ground_truth, self.max_people, self.people)

    def results(self) -> list[dict[str, Any]]:
        """What the last `compute` scored, in COCO's result format: of all processes, without duplicates."""
        return self._results


def run_lengths(mask_NHW: NDArray[Any], matrix_23: NDArray[np.float64], size_wh: tuple[int, int]) -> list[bytes]:
    """Masks warped to the photograph (`photograph_masks`), as COCO's compressed run lengths: N `counts`."""
    return [run_length(mask) for mask in photograph_masks(mask_NHW, matrix_23, size_wh)]


def run_length(mask_HW: NDArray[np.bool_]) -> bytes:
    """A mask as COCO's compressed run lengths (`counts`)."""
    code = rle.encode(np.asfortranarray(mask_HW, dtype=np.uint8))["counts"]
    return code if isinstance(code, bytes) else code.encode("ascii")


def photograph_masks(
    mask_NHW: NDArray[Any], matrix_23: NDArray[np.float64], size_wh: tuple[int, int]
) -> Iterator[NDArray[np.bool_]]:
    """Masks warped to the photograph (pixel centres at integers, outside is 0), one after the other.

    Args:
        mask_NHW: 0/1 (bool or integers), or probabilities; a pixel is in where at least half of it is.
        matrix_23: from mask pixels to photograph pixels.
        size_wh: of the photograph.
    """
    whole = mask_NHW.dtype.kind in "bui"
    for mask_HW in mask_NHW:
        # Bytes warp three times as fast as floats, and 0/1 masks lose nothing by it.
        scaled = (mask_HW != 0).astype(np.uint8) * np.uint8(255) if whole else mask_HW.astype(np.float32)
        warped = cv2.warpAffine(scaled, matrix_23, size_wh, flags=cv2.INTER_LINEAR, borderValue=0)
        yield warped >= (255 * _HALF if whole else _HALF)


def _to_results(rows: Tensor, codes: bytes, size: Mapping[int, tuple[int, int]]) -> list[dict[str, Any]]:
    unique: dict[tuple[int, int, int], tuple[float, bytes]] = {}
    start = 0
    for image, subject, position, value, length in rows.tolist():
        end = start + int(length)
        unique.setdefault((int(image), int(subject), int(position)), (value, codes[start:end]))
        start = end
    results: list[dict[str, Any]] = []
    for key in sorted(unique):  # the same order however many processes there were
        value, code = unique[key]
        width, height = size[key[0]]
        results.append(
            {
                "image_id": key[0],
                "category_id": 1,
                "segmentation": {"size": [height, width], "counts": code.decode("ascii")},
                "score": round(value, _SCORE_DECIMALS),
            }
        )
    return results


def encoded(segmentation: Any, height: int, width: int) -> Any:
    """A COCO segmentation (polygons, plain or compressed run lengths) as compressed run lengths."""
    if isinstance(segmentation, list):
        return rle.merge(rle.frPyObjects(segmentation, height, width))
    if isinstance(segmentation["counts"], list):
        return rle.frPyObjects(segmentation, height, width)
    return segmentation


def missing(ground_truth: Mapping[str, Any]) -> str:
    """Why the ground truth has no mask AP, one line; "" if it has one."""
    people = [a for a in ground_truth["annotations"] if not a.get("iscrowd", 0)]
    without = sum(1 for a in people if not a.get("segmentation"))
    if not without:
        return ""
    return f"mask AP is not evaluated: {without} of the {len(people)} evaluated people have no mask in the annotations"


def score(
    results: Sequence[Mapping[str, Any]],
    ground_truth: Mapping[str, Any],
    max_people: int = 100,
    people: People = "all",
) -> dict[str, float]:
    """COCO's six mask APs.

    Args:
        results: COCO segmentation results (run lengths); may be empty.
        ground_truth: COCO-format dict of the evaluated images whose people have `segmentation`.
        max_people: predictions per image that count, best first (maxDets).
        people: labelled = people without labelled joints are ignored like crowd regions | not COCO's rule, which is all

    Returns:
        name -> share, nan where pycocotools says -1 (nobody of that size in the ground truth).

    Raises:
        UserError: see `evaluate`.
    """
    evaluation = evaluate(results, ground_truth, max_people, people)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.accumulate()
    precision_TRA = evaluation.eval["precision"][:, :, 0, :, 0]
    half, three_quarters = (np.flatnonzero(np.isclose(evaluation.params.iouThrs, t)) for t in (0.5, 0.75))
    parts = [precision_TRA[..., 0], precision_TRA[half][..., 0], precision_TRA[three_quarters][..., 0]]
    parts += [precision_TRA[..., size] for size in (1, 2, 3)]
    values = [float(np.mean(part[part > -1])) if (part > -1).any() else math.nan for part in parts]
    return dict(zip(NAMES, values, strict=True))


def evaluate(
    results: Sequence[Mapping[str, Any]],
    ground_truth: Mapping[str, Any],
    max_people: int = 100,
    people: People = "all",
) -> COCOeval:
    """Matching per image by pycocotools, not yet accumulated; prints nothing and leaves its arguments as they are.

    Crowd regions are ignored as in COCO (one without a mask by its box).

    Raises:
        UserError: what `check` refuses, or people without masks.
    """
    check(results, ground_truth, "masks")
    if said := missing(ground_truth):
        raise UserError(said)
    truth: Any = COCO()  # Any: its stubs know no such results
    found: Any = COCO()
    size = {int(i["id"]): (int(i["height"]), int(i["width"])) for i in ground_truth["images"]}
    with contextlib.redirect_stdout(io.StringIO()):
        truth.dataset = {
            "info": {},
            "images": list(ground_truth["images"]),
            "categories": [{"id": 1, "name": "person"}],
            "annotations": [
                _complete(a, i + 1, size[int(a["image_id"])], people) for i, a in enumerate(ground_truth["annotations"])
            ],
        }
        truth.createIndex()
        bare = [{**{key: r[key] for key in _KEYS}, "category_id": 1} for r in results]
        if bare:
            found = truth.loadRes(bare)
        else:  # which loadRes cannot read
            found.dataset = {**truth.dataset, "annotations": []}
            found.createIndex()
        evaluation = COCOeval(truth, found, "segm")
        evaluation.params.maxDets = [max_people]
        evaluation.params.imgIds = sorted(truth.imgs)
        evaluation.evaluate()
    return evaluation


def _complete(annotation: Mapping[str, Any], number: int, size: tuple[int, int], people: People) -> dict[str, Any]:
    segmentation = annotation.get("segmentation")
    if not segmentation:
        x, y, w, h = annotation["bbox"]
        segmentation = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    code = encoded(segmentation, *size)
    unlabelled = people == "labelled" and not annotation.get("num_keypoints", 0)
    area = annotation.get("area")
    return {
        "id": number,  # from 1: pycocotools takes a match with annotation 0 for none
        "image_id": annotation["image_id"],
        "category_id": 1,
        "iscrowd": int(bool(annotation.get("iscrowd", 0)) or unlabelled),
        "area": float(rle.area(code)) if area is None else area,
        "segmentation": code,
    }


def check(results: Sequence[Mapping[str, Any]], ground_truth: Mapping[str, Any], source: str) -> None:
    """Refuse results that would score wrongly.

    Raises:
        UserError: missing keys, no run lengths, a mask of another size than its image, a score that is not finite, or
            an image that is not evaluated.
    """
    size = {int(i["id"]): [int(i["height"]), int(i["width"])] for i in ground_truth["images"]}
    for i, result in enumerate(results):
        absent = [key for key in _KEYS if key not in result]
        if absent:
            raise UserError(f"{source}: result {i} has no `{absent[0]}`; each needs {', '.join(_KEYS)}")
        code, image, value = result["segmentation"], result["image_id"], result["score"]
        if image not in size:
            raise UserError(f"{source}: result {i} is of image {image}, which is not among the {len(size)} evaluated")
        if not isinstance(code, Mapping) or not isinstance(code.get("counts"), str | bytes) or "size" not in code:
            raise UserError(f"{source}: result {i} (image {image}) has no compressed run lengths as `segmentation`")
        if list(code["size"]) != size[image]:
            raise UserError(
                f"{source}: result {i} has a mask of height and width {list(code['size'])}, image {image} has "
                f"{size[image]}"
            )
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise UserError(f"{source}: result {i} (image {image}) has a score that is not a finite number")


def load_results(path: Path, ground_truth: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A COCO segmentation result file.

    Raises:
        UserError: no such file, not a list of results, or what `check` refuses.
    """
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a JSON file ({error})") from None
    if not isinstance(results, list) or not all(isinstance(r, dict) for r in results):
        raise UserError(f"{path}: a COCO result file is a list of results, each an object with {', '.join(_KEYS)}")
    check(results, ground_truth, str(path))
    return results
