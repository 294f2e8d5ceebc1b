"""A result file for COCO's evaluation server: validated, named and zipped as it asks.

The server takes one zip with one file `person_keypoints_test-dev2017_<name>_results.json` (cocodataset.org, "Upload").
"""

from __future__ import annotations

import json
import math
import re
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from repose.data.files import whole
from repose.errors import UserError

KEYS = ("image_id", "category_id", "keypoints", "score")
"""What every result must hold."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.\-]*")
"""Underscores separate the parts of the server's file name, so a method's name has none."""


def write_zip(
    results: Sequence[dict[str, Any]],
    image_ids: Iterable[int],
    folder: Path,
    name: str,
    split: str = "test-dev2017",
    joints: int = 17,
) -> Path:
    """Validate COCO keypoint results and write them as a submission.

    Args:
        results: image_id, category_id, keypoints (x, y, score per joint) and score of every person; further keys are
            left out.
        image_ids: ids of the test set's images.
        folder: where the zip goes.
        name: of the method: letters, digits, dots and dashes.
        split: part of the file's name.
        joints: joints per person.

    Returns:
        `<folder>/person_keypoints_<split>_<name>_results.zip`.

    Raises:
        UserError: the first result that the server would refuse, or a name that it cannot take.
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"submission: name {name!r} must be of letters, digits, dots and dashes (no underscore)")
    known = set(image_ids)
    if not known:
        raise UserError("submission: the test set has no images")
    rows = [_row(number, result, known, joints) for number, result in enumerate(results)]
    if not rows:
        raise UserError("submission: no results; the server refuses an empty file")
    stem = f"person_keypoints_{split}_{name}_results"
    path = folder / f"{stem}.zip"
    with whole(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{stem}.json", json.dumps(rows, separators=(",", ":")))
    return path


def _row(number: int, result: Any, known: set[int], joints: int) -> dict[str, Any]:
    where = f"submission: result {number}"
    if not isinstance(result, dict) or (missing := [key for key in KEYS if key not in result]):
        lacks = ", ".join(missing) if isinstance(result, dict) else "everything: it is no dict"
        raise UserError(f"{where} lacks {lacks}")
    image = result["image_id"]
    if type(image) is not int or image not in known:
        raise UserError(f"{where}: image_id {image!r} is not an image of the test set")
    if result["category_id"] != 1:
        raise UserError(f"{where}: category_id {result['category_id']!r} is not 1, the person")
    keypoints = result["keypoints"]
    if not isinstance(keypoints, (list, tuple)) or len(keypoints) != 3 * joints:
        size = len(keypoints) if isinstance(keypoints, (list, tuple)) else "no"
        raise UserError(f"{where}: {size} keypoint values, the server needs 3 x {joints}")
    if not all(_finite(v) for v in (*keypoints, result["score"])):
        raise UserError(f"{where} (image {image}): a coordinate or score is not a finite number")
    values = {"keypoints": [float(v) for v in keypoints], "score": float(result["score"])}
    return {"image_id": image, "category_id": 1, **values}


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
