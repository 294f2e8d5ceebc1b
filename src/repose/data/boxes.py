"""Boxes that a top-down test crops: ground truth, the data set's detections, or any COCO result file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from repose.config import Data
from repose.data.coco import Annotations, is_finite_box, load_json, result_box
from repose.data.roots import data_file, is_drawn
from repose.errors import UserError
from repose.geometry import edges_to_box


@dataclass(frozen=True)
class Boxes:
    """Boxes to crop, ordered by image.

    Attributes:
        image_M: int64, image row of the annotations.
        box_M4: float64, (x1, y1, x2, y2) in joint coordinates.
        score_M: float64, 1 for ground truth.
        subject_M: int64, annotation id (ground truth) or row of the result file.
        row_M: int64, annotation row, -1 for detections.
        source: printed beside every AP: `gt` or `detections: <file name>`.
        file: the result file, None for ground truth.
        dropped: how many boxes of the file were not usable (another category, another image, no extent).
    """

    image_M: np.ndarray
    box_M4: np.ndarray
    score_M: np.ndarray
    subject_M: np.ndarray
    row_M: np.ndarray
    source: str
    file: Path | None = None
    dropped: int = 0

    @property
    def n(self) -> int:
        """Number of boxes."""
        return len(self.image_M)


def box_file(data: Data, root: Path) -> Path | None:
    """The result file that `data.boxes` names; None for ground truth.

    Raises:
        UserError: it is not there.
    """
    if data.boxes == "gt":
        return None
    if data.boxes == "detections":
        if data.detections is None:
            raise UserError(
                f"data.boxes=detections: data set {data.name!r} names no file; set data.detections or use data.boxes=gt"
            )
        return data_file(root, data.detections, "data.detections", data)
    here = Path(data.boxes).expanduser()
    return here if here.is_file() else data_file(root, data.boxes, "data.boxes", data)


def box_source(data: Data, root: Path) -> str:
    """How the box source is printed beside an AP, without reading the file."""
    file = box_file(data, root)
    return "gt" if file is None else f"detections: {file.name}"


def read_boxes(data: Data, root: Path, annotations: Annotations) -> Boxes:
    """Boxes of the evaluated images as `data.boxes` says.

    An empty result file is allowed: nobody is found, and the AP is 0.

    Raises:
        UserError: the file is missing, or is no list of COCO results.
    """
    file = box_file(data, root)
    if file is None:
        return ground_truth_boxes(annotations)
    results = load_json(file)
    if isinstance(results, dict) and "annotations" in results:
        raise UserError(f"{file}: this is an annotation file, not a list of results; for its boxes use data.boxes=gt")
    if not isinstance(results, list) or not all(isinstance(r, dict) and "image_id" in r for r in results):
        raise UserError(f"{file}: not a COCO result file (a list of {{image_id, category_id, bbox, score}})")
    image_row = {int(image_id): i for i, image_id in enumerate(annotations.image_id_I)}
    kept: list[tuple[int, list[float], float, int]] = []
    dropped = 0
    person = annotations.category["id"]
    for number, result in enumerate(results):
        image = image_row.get(int(result["image_id"]))
        if image is None:  # results of images that are not evaluated (data.limit_val) are nothing to speak of
            continue
        box = result_box(result)
        if box is None:
            raise UserError(f"{file}: result {number} has neither bbox nor segmentation nor keypoints")
        if result.get("category_id", person) != person or not is_finite_box(box):
            dropped += 1
            continue
        kept.append((image, box, float(result.get("score", 1.0)), number))
    kept.sort(key=lambda entry: (entry[0], entry[3]))
    return Boxes(
        image_M=np.array([k[0] for k in kept], np.int64),
        box_M4=edges_to_box(np.array([k[1] for k in kept], np.float64).reshape(-1, 4)),
        score_M=np.array([k[2] for k in kept], np.float64),
        subject_M=np.array([k[3] for k in kept], np.int64),
        row_M=np.full(len(kept), -1, np.int64),
        source=f"detections: {file.name}",
        file=file,
        dropped=dropped,
    )


def ground_truth_boxes(annotations: Annotations) -> Boxes:
    """Annotated boxes of the people that the evaluation counts: not a crowd, with labelled joints."""
    row = np.flatnonzero(~annotations.crowd_A & (annotations.num_keypoints_A > 0))
    return Boxes(
        image_M=annotations.image_A[row],
        box_M4=annotations.box_A4[row],
        score_M=np.ones(len(row)),
        subject_M=annotations.ann_id_A[row],
        row_M=row,
        source="gt",
    )


def digest(file: Path) -> str:
    """First 16 hexadecimal digits of a file's SHA-256."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def fingerprint(data: Data, root: Path) -> str:
    """Hash of the annotation files and the box file: what the data of a result are, 16 hexadecimal digits.

    Of a drawn set also of its folder's name, which says what drew it: other pictures may have the same annotations.
    """
    files = [data_file(root, data.val_json, "data.val_json", data)]
    train = root / data.train_json
    if train.is_file():  # an evaluation needs none
        files.append(train)
    boxes = box_file(data, root) if data.view == "person" else None
    if boxes is not None:
        files.append(boxes)
    parts = [digest(f) for f in files] + ([root.name] if is_drawn(data, root) else [])
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]
