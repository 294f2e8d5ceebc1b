"""Reader for COCO-format keypoint files, into compact arrays that start fast and are shared by worker processes.

Keypoints are pixel centres and stay as they are; boxes and polygons are edges and are shifted by `geometry.EDGE`.
Rows of the arrays are annotations (A), ordered by image (I) as the file orders its images.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as rle

from repose.errors import UserError
from repose.geometry import EDGE, box_to_edges, edges_to_box
from repose.skeleton import Skeleton

BOX_AREA = 0.53
"""OKS area as a share of the box area where annotations have none (CrowdPose's official evaluation)."""


@dataclass(frozen=True)
class Segments:
    """Outlines of all annotations.

    Attributes:
        point_S2: float32, polygon points of all rings in joint coordinates.
        ring_first_R: ring r has points [ring_first_R[r], ring_first_R[r + 1]).
        first_ring_A: annotation a has rings [first_ring_A[a], first_ring_A[a + 1]); none = no polygon.
        rle_A: run-length encodings by annotation row (as in the file).
    """

    point_S2: np.ndarray
    ring_first_R: np.ndarray
    first_ring_A: np.ndarray
    rle_A: dict[int, dict[str, Any]] = field(default_factory=dict)

    def points(self, row: int) -> np.ndarray:
        """(P, 2) points of all rings of an annotation, joint coordinates; P = 0 without a polygon."""
        a, b = self.first_ring_A[row], self.first_ring_A[row + 1]
        return self.point_S2[self.ring_first_R[a] : self.ring_first_R[b]]


@dataclass(frozen=True)
class Annotations:
    """People of a COCO-format file.

    Attributes:
        file: the json.
        folder: the images' folder.
        category: the person category as in the file; its `skeleton` is the joint set's where the file's names joints
            that are not there (CrowdPose's is COCO's).
        image_id_I: int64.
        image_name_I: file names below `folder`.
        image_wh_I2: int64, width and height that the json states.
        image_extra_I: other image fields that evaluations need (crowdIndex, max_iou), by image row.
        first_I: image i has annotation rows [first_I[i], first_I[i + 1]).
        ann_id_A: int64.
        image_A: int64, image row.
        joint_AK3: float64, x, y (pixel centres) and v.
        box_A4: float64, (x1, y1, x2, y2) in joint coordinates.
        area_A: float64, OKS area in pixels^2 as `data.oks_area` says.
        num_keypoints_A: int64, as in the file (CrowdPose's disagree with v); an evaluation ignores people with 0.
        labelled_A: int64, joints with v > 0; training uses this one.
        crowd_A: bool, iscrowd.
        segments: polygons and run-length encodings.
        max_iou_A: float64, largest box IoU with another person of the image as the file states it (OCHuman); nan where
            it does not.
        head_size_A: float64, pixels, the unit of PCKh as the file states it (MPII); nan where it does not.
    """

    file: Path
    folder: Path
    category: dict[str, Any]
    image_id_I: np.ndarray
    image_name_I: list[str]
    image_wh_I2: np.ndarray
    image_extra_I: dict[int, dict[str, Any]]
    first_I: np.ndarray
    ann_id_A: np.ndarray
    image_A: np.ndarray
    joint_AK3: np.ndarray
    box_A4: np.ndarray
    area_A: np.ndarray
    num_keypoints_A: np.ndarray
    labelled_A: np.ndarray
    crowd_A: np.ndarray
    segments: Segments
    max_iou_A: np.ndarray
    head_size_A: np.ndarray

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.image_name_I)

    def path(self, image: int) -> Path:
        """File of an image row."""
        return self.folder / self.image_name_I[image]

    def rows(self, image: int) -> range:
        """Annotation rows of an image row."""
        return range(int(self.first_I[image]), int(self.first_I[image + 1]))

    def has_mask(self, row: int) -> bool:
        """Whether the annotation has a polygon or an RLE."""
        return row in self.segments.rle_A or bool(len(self.segments.points(row)))

    def mask(self, row: int) -> np.ndarray:
        """(H, W) uint8 0/1 mask of an annotation in photograph pixels; all 0 where there is no segmentation."""
        width, height = (int(v) for v in self.image_wh_I2[self.image_A[row]])
        if row in self.segments.rle_A:
            return rle.decode(_compressed(self.segments.rle_A[row]))
        a, b = self.segments.first_ring_A[row], self.segments.first_ring_A[row + 1]
        edges = self.segments.ring_first_R[a : b + 1]
        rings = [(self.segments.point_S2[s:e].astype(np.float64) + EDGE).ravel() for s, e in pairwise(edges.tolist())]
        if not rings:
            return np.zeros((height, width), np.uint8)
        return rle.decode(rle.merge(rle.frPyObjects(rings, height, width)))  # type: ignore[arg-type]

    def segmentation(self, row: int) -> Any:
        """COCO polygons or run lengths of an annotation, in the file's own coordinates; None without either."""
        if row in self.segments.rle_A:
            return self.segments.rle_A[row]
        a, b = self.segments.first_ring_A[row], self.segments.first_ring_A[row + 1]
        edges = self.segments.ring_first_R[a : b + 1]
        points = (self.segments.point_S2[s:e].astype(np.float64) + EDGE for s, e in pairwise(edges.tolist()))
        rings = [np.round(ring, 3).ravel().tolist() for ring in points]  # the file's own decimals, from float32
        return rings or None

    def ground_truth(self, images: Sequence[int] | None = None, masks: bool = False) -> dict[str, Any]:
        """COCO-format dict of (some) image rows in the file's own coordinates, `area` as `data.oks_area` says.

        Args:
            images: image rows; None for all.
            masks: with the `segmentation` of annotations that have one.
        """
        keep = range(self.images) if images is None else images
        box_A4 = box_to_edges(self.box_A4)
        annotations = [
            {
                "id": int(self.ann_id_A[a]),
                "image_id": int(self.image_id_I[i]),
                "category_id": self.category["id"],
                "keypoints": self.joint_AK3[a].ravel().tolist(),
                "num_keypoints": int(self.num_keypoints_A[a]),
                "area": float(self.area_A[a]),
                "iscrowd": int(self.crowd_A[a]),
                "bbox": box_A4[a].tolist(),
                **({"max_iou": float(self.max_iou_A[a])} if np.isfinite(self.max_iou_A[a]) else {}),
                **({"head_size": float(self.head_size_A[a])} if np.isfinite(self.head_size_A[a]) else {}),
                **({"segmentation": outline} if masks and (outline := self.segmentation(a)) else {}),
            }
            for i in keep
            for a in self.rows(i)
        ]
        return {
            "info": {"description": self.file.name},
            "images": [
                {
                    "id": int(self.image_id_I[i]),
                    "file_name": self.image_name_I[i],
                    "width": int(self.image_wh_I2[i, 0]),
                    "height": int(self.image_wh_I2[i, 1]),
                    **self.image_extra_I.get(i, {}),
                }
                for i in keep
            ],
            "annotations": annotations,
            "categories": [self.category],
        }


_IMAGE_EXTRA = ("crowdIndex", "max_iou")
"""Image fields beyond COCO's that evaluations split by: CrowdPose's and OCHuman's."""


def read(
    json_path: Path,
    image_dir: Path,
    skeleton: Skeleton,
    oks_area: str = "annotation",
    limit: int | None = None,
    labelled: bool = True,
) -> Annotations:
    """Read a COCO-format file.

    Args:
        json_path: the annotations.
        image_dir: the images' folder.
        skeleton: joint set that the annotations must have.
        oks_area: `annotation` (the file's `area`, a missing one is an error) or `box*0.53`.
        limit: take the first n images only.
        labelled: False for a list of images alone (COCO's image_info_test-dev2017.json).

    Raises:
        UserError: not a COCO file, keypoints of another skeleton, or areas missing.
    """
    content = coco_dict(load_json(json_path), json_path, labelled)
    try:
        return _compact(content, json_path, image_dir, skeleton, oks_area, limit)
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{json_path}: an image or annotation is malformed ({type(error).__name__}: {error}); "
            "`repose data check` names it"
        ) from error


def without_people(names: Sequence[str], image_wh: Sequence[tuple[int, int]], skeleton: Skeleton) -> Annotations:
    """Images without annotations, ids from 0: what a prediction looks at.

    Args:
        names: of the images.
        image_wh: width and height of each.
        skeleton: joints of whoever will be found.
    """
    images = [
        {"id": i, "file_name": name, "width": width, "height": height}
        for i, (name, (width, height)) in enumerate(zip(names, image_wh, strict=True))
    ]
    content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "person"}]}
    return _compact(content, Path("images"), Path(), skeleton, "annotation", None)


def coco_dict(content: Any, file: Path, labelled: bool = True) -> dict[str, Any]:
    """The parsed file if it is a COCO annotation file; with `labelled` False its images alone, without people.

    Raises:
        UserError: it is something else; of well-known other files it says which, and what to do.
    """
    if isinstance(content, dict) and "images" in content:
        if not labelled:
            return {**content, "annotations": []}
        if "annotations" in content:
            return content
        if "keypoint_visible" in content:
            raise UserError(
                f"{file}: OCHuman's own format; run `repose data convert {file}` for COCO-format files of it"
            )
        raise UserError(
            f"{file}: lists images but has no `annotations`; for a test set without public labels set "
            "data.val_labelled=false"
        )
    if isinstance(content, list) and content and isinstance(content[0], dict) and "joints_vis" in content[0]:
        raise UserError(f"{file}: MPII's own list; run `repose data convert {file}` for COCO-format files of it")
    raise UserError(f"{file}: not a COCO annotation file (a dict with `images` and `annotations`)")


def load_json(file: Path) -> Any:
    """Parse a json file.

    Raises:
        UserError: missing, or not json.
    """
    try:
        return json.loads(file.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{file}: no such file") from None
    except ValueError as error:
        raise UserError(f"{file}: not valid JSON ({error}); a download that broke off?") from None


def person_category(content: dict[str, Any]) -> dict[str, Any]:
    """The category that has keypoints (or is called person)."""
    categories = content.get("categories") or []
    for has in (lambda c: c.get("keypoints"), lambda c: c.get("name") == "person"):
        for category in categories:
            if has(category):
                return category
    return categories[0] if len(categories) == 1 else {"id": 1, "name": "person"}


def joint_mismatch(category: dict[str, Any], skeleton: Skeleton) -> str | None:
    """One line if the category's keypoint names are not the skeleton's, else None."""
    names = [str(n) for n in category.get("keypoints") or []]
    if not names:
        return None
    shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    if len(names) != skeleton.k:
        return f"has {len(names)} keypoints ({shown}), but skeleton {skeleton.name!r} has {skeleton.k} joints"
    for i, (theirs, ours) in enumerate(zip(names, skeleton.joints, strict=True)):
        if _plain(theirs) != _plain(ours):
            return f"keypoint {i} is {theirs!r} ({shown}), but joint {i} of skeleton {skeleton.name!r} is {ours!r}"
    return None


def _plain(name: str) -> str:
    name = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return re.sub(r"^r_", "right_", re.sub(r"^l_", "left_", name))


def _compact(
    content: dict[str, Any], file: Path, folder: Path, skeleton: Skeleton, oks_area: str, limit: int | None
) -> Annotations:
    category = person_category(content)
    wrong = joint_mismatch(category, skeleton)
    if wrong:
        raise UserError(f"{file}: {wrong}; choose the file's skeleton (skeleton.name, or a `skeleton:` block)")
    images = content["images"][:limit]
    image_row = {image["id"]: i for i, image in enumerate(images)}
    if len(image_row) != len(images):
        raise UserError(f"{file}: two images have the same id; `repose data check` names them")
    person = category["id"]
    rows = [a for a in content["annotations"] if a["image_id"] in image_row and a.get("category_id", person) == person]
    rows.sort(key=lambda a: image_row[a["image_id"]])  # stable: the file's order within an image

    count = len(rows)
    image_A = np.fromiter((image_row[a["image_id"]] for a in rows), np.int64, count)
    joint_AK3 = _joints(rows, file, skeleton, category)
    labelled_A = (joint_AK3[..., 2] > 0).sum(axis=1)
    boxes = [_box(a, file) for a in rows]
    box_A4 = edges_to_box(np.array(boxes, np.float64).reshape(-1, 4))
    return Annotations(
        file=file,
        folder=folder,
        category=_with_limbs(category, skeleton),
        image_id_I=np.array([int(image["id"]) for image in images], np.int64),
        image_name_I=[image["file_name"] for image in images],
        image_wh_I2=np.array([(image["width"], image["height"]) for image in images], np.int64).reshape(-1, 2),
        image_extra_I={
            i: extra for i, m in enumerate(images) if (extra := {key: m[key] for key in _IMAGE_EXTRA if key in m})
        },
        first_I=np.searchsorted(image_A, np.arange(len(images) + 1)),
        ann_id_A=np.array([int(a["id"]) for a in rows], np.int64),
        image_A=image_A,
        joint_AK3=joint_AK3,
        box_A4=box_A4,
        area_A=_areas(rows, boxes, file, oks_area),
        num_keypoints_A=np.array(
            [a.get("num_keypoints", n) for a, n in zip(rows, labelled_A.tolist(), strict=True)], np.int64
        ),
        labelled_A=labelled_A,
        crowd_A=np.fromiter((bool(a.get("iscrowd", 0)) for a in rows), bool, count),
        segments=_segments(rows),
        max_iou_A=np.array([a.get("max_iou", math.nan) for a in rows], np.float64),
        head_size_A=np.array([a.get("head_size", math.nan) for a in rows], np.float64),
    )


def _with_limbs(category: dict[str, Any], skeleton: Skeleton) -> dict[str, Any]:
    if not wrong_limbs(category, skeleton):
        return category
    return {**category, "skeleton": [[a + 1, b + 1] for a, b in skeleton.limb_index]}


def wrong_limbs(category: dict[str, Any], skeleton: Skeleton) -> str | None:
    """One line if the category's `skeleton` names joints that are not there (they are counted from 1), else None."""
    highest = max((int(joint) for limb in category.get("skeleton") or [] for joint in limb), default=0)
    if highest <= skeleton.k:
        return None
    return (
        f"`skeleton` names joint {highest} of {skeleton.k}, so it is another joint set's (CrowdPose's files have "
        f"COCO's); the limbs of skeleton {skeleton.name!r} are used"
    )


def _joints(rows: list[dict[str, Any]], file: Path, skeleton: Skeleton, category: dict[str, Any]) -> np.ndarray:
    nobody = [0.0] * (3 * skeleton.k)
    flat = [a.get("keypoints") or nobody for a in rows]
    for a, values in zip(rows, flat, strict=True):
        if len(values) != 3 * skeleton.k:
            names = ", ".join(category.get("keypoints") or []) or "not named in the file"
            raise UserError(
                f"{file}: annotation {a['id']} has {len(values)} keypoint values (3 x {len(values) / 3:g}; "
                f"names: {names}), skeleton {skeleton.name!r} needs 3 x {skeleton.k}; choose the file's skeleton"
            )
    return np.array(flat, np.float64).reshape(-1, skeleton.k, 3)


def _box(annotation: dict[str, Any], file: Path) -> list[float]:
    box = annotation.get("bbox")
    if not box or len(box) != 4:
        raise UserError(f"{file}: annotation {annotation['id']} has no `bbox` [x, y, width, height]")
    return box


def _areas(rows: list[dict[str, Any]], boxes: list[list[float]], file: Path, oks_area: str) -> np.ndarray:
    if oks_area != "annotation":
        return np.array([BOX_AREA * b[2] * b[3] for b in boxes], np.float64)
    missing = [a["id"] for a in rows if a.get("area") is None]
    if missing:
        raise UserError(
            f"{file}: {len(missing)} annotations have no `area` (the first is {missing[0]}), which OKS needs; "
            "say where it comes from: data.oks_area=box*0.53"
        )
    return np.array([a["area"] for a in rows], np.float64)


def _segments(rows: list[dict[str, Any]]) -> Segments:
    flat: list[float] = []
    ring_first, first_ring, codes = [0], [0], {}
    for row, annotation in enumerate(rows):
        outline = annotation.get("segmentation")
        if isinstance(outline, dict):
            codes[row] = outline
        elif outline:
            for ring in outline:
                if len(ring) >= 6:  # two points are no area; pycocotools would read four numbers as a box
                    flat.extend(ring)
                    ring_first.append(len(flat) // 2)
        first_ring.append(len(ring_first) - 1)
    point_S2 = (np.array(flat, np.float64).reshape(-1, 2) - EDGE).astype(np.float32)
    return Segments(point_S2, np.array(ring_first, np.int64), np.array(first_ring, np.int64), codes)


def encode_rings(
    outer: Sequence[Sequence[float]], inner: Sequence[Sequence[float]], width: int, height: int
) -> dict[str, Any]:
    """Compressed RLE of polygons (x, y, x, y, ...; edges) with holes, as COCO files of masks have it."""
    mask_HW = np.zeros((height, width), np.uint8)
    for rings, value in ((outer, 1), (inner, 0)):
        if len(rings):
            mask_HW[rle.decode(rle.merge(rle.frPyObjects([list(r) for r in rings], height, width))) > 0] = value  # type: ignore[arg-type]
    code = rle.encode(np.asfortranarray(mask_HW))
    counts = code["counts"]
    text = counts.decode("ascii") if isinstance(counts, bytes) else counts
    return {"size": [height, width], "counts": text}


def result_box(result: dict[str, Any]) -> list[float] | None:
    """The box (x, y, w, h; edges) of a COCO result: its `bbox`, else around its `segmentation` or `keypoints`."""
    if result.get("bbox") is not None:
        return [float(v) for v in result["bbox"]]
    outline = result.get("segmentation")
    if isinstance(outline, dict):
        return [float(v) for v in rle.toBbox(_compressed(outline))]
    points = result.get("keypoints")
    if points:
        x, y = points[0::3], points[1::3]
        # Keypoints are pixel centres; the box is stated in edges.
        low_x, low_y = min(x) + EDGE, min(y) + EDGE
        return [low_x, low_y, max(x) + EDGE - low_x, max(y) + EDGE - low_y]
    return None


def _compressed(outline: Any) -> Any:
    # Crowd regions come as plain counts, OCHuman's people as compressed strings.
    return rle.frPyObjects(outline, *outline["size"]) if isinstance(outline["counts"], list) else outline


def is_finite_box(box: Sequence[float]) -> bool:
    """Whether a box (x, y, w, h) can be cropped."""
    return len(box) == 4 and all(math.isfinite(v) for v in box) and box[2] > 0 and box[3] > 0
