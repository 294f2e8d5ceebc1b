"""`repose data check`: what is wrong with a data set, one line each with the id it is about."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from repose.config import ExperimentBase
from repose.data.boxes import box_file, digest
from repose.data.cache import size_problem
from repose.data.coco import coco_dict, joint_mismatch, load_json, person_category, wrong_limbs
from repose.data.images import decode, exif_turns, probe
from repose.data.roots import data_file, find_root
from repose.skeleton import CROWDPOSE14, Skeleton

_SHOWN = 20
"""Lines per kind of problem and file; the rest is counted."""


def check(cfg: ExperimentBase, decode_images: bool = True) -> list[str]:
    """Validate the data set of an experiment.

    Args:
        cfg: the experiment.
        decode_images: decode every photograph; False looks at headers and file ends only (fast).

    Returns:
        One line per problem, naming the file and the id; empty = ok.

    Raises:
        UserError: the data set is not there, or a file is no COCO file at all.
    """
    data, skeleton = cfg.data, cfg.joint_set()
    root = find_root(data, skeleton)
    lines = _flips(skeleton)
    seen: dict[str, dict[Any, str]] = {}
    contents = {}
    splits = [("train", data.train_json, data.train_images), ("val", data.val_json, data.val_images)]
    for split, name, folder in splits:
        if split == "train" and not (root / name).is_file():
            lines.append(f"train: no file {root / name}; only evaluations can run")
            continue
        file = data_file(root, name, f"data.{split}_json", data)
        content = coco_dict(load_json(file), file, split == "train" or data.val_labelled)
        contents[split] = content
        lines += check_annotations(content, split, skeleton, data.oks_area)
        lines += check_images(content, split, root / folder, decode_images, data.swapped_size == "photograph")
        seen[split] = _files(content, root / folder)
    if "train" in seen:
        lines += _duplicates(seen["train"], seen["val"])
    boxes = box_file(data, root) if data.boxes != "gt" else _optional(data.detections, root)
    if boxes is not None:
        lines += check_results(load_json(boxes), boxes, contents["val"])
    return lines


def notes(cfg: ExperimentBase) -> list[str]:
    """What is unusual in the annotation files and handled, one line each: nothing to do, but good to know.

    Args:
        cfg: the experiment.

    Raises:
        UserError: as `check`.
    """
    data, skeleton = cfg.data, cfg.joint_set()
    root = find_root(data, skeleton)
    lines = []
    for split, name in (("train", data.train_json), ("val", data.val_json)):
        file = root / name
        if file.is_file():
            content = coco_dict(load_json(file), file, split == "train" or data.val_labelled)
            lines += [f"{split}: {line}" for line in _notes(content, skeleton)]
            if data.masks != "none" and not any(a.get("segmentation") for a in content["annotations"]):
                lines.append(f"{split}: nobody has a segmentation, so all masks of data.masks={data.masks} are empty")
    return lines


def _notes(content: dict[str, Any], skeleton: Skeleton) -> Iterator[str]:
    category = person_category(content)
    wrong = wrong_limbs(category, skeleton)
    if wrong:
        yield f"category {category.get('id')}: {wrong}"
    images, people = content["images"], content["annotations"]
    if _counts_limbs(skeleton):
        fewer = sum(
            a.get("num_keypoints", n) < n
            for a, n in ((a, sum(v > 0 for v in a["keypoints"][2::3])) for a in people if a.get("keypoints"))
        )
        if fewer:
            yield (
                f"{fewer} people have fewer num_keypoints than joints with v > 0: it counts the limbs' joints alone, "
                "and an evaluation ignores people with 0 (CrowdPose's protocol)"
            )
        without = sum("crowdIndex" not in image for image in images)
        if people and without:
            yield f"{without} of {len(images)} images have no crowdIndex: no AP by crowding (easy, medium, hard)"
    with_people = {a.get("image_id") for a in people}
    empty = sum(image.get("id") not in with_people for image in images)
    if people and empty:
        yield f"{empty} of {len(images)} images have nobody in them; they are evaluated, not trained on"


def _counts_limbs(skeleton: Skeleton) -> bool:
    return skeleton.joints == CROWDPOSE14.joints


def _optional(name: str | None, root: Path) -> Path | None:
    return root / name if name is not None and (root / name).is_file() else None


def _flips(skeleton: Skeleton) -> list[str]:
    order = skeleton.flip_index
    if any(order[order[i]] != i for i in range(skeleton.k)):
        return [f"skeleton {skeleton.name}: mirroring twice does not give the start; correct flip_pairs"]
    sides = [
        j for j in skeleton.joints if ("left" in j or "right" in j) and order[skeleton.index(j)] == skeleton.index(j)
    ]
    return [
        f"skeleton {skeleton.name}: {j} is in no flip pair; a mirrored person keeps it on the wrong side" for j in sides
    ]


class _Lines:
    """Collects lines per kind; of each kind the first ones are kept and the rest is counted."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.count: Counter[str] = Counter()
        self.lines: dict[str, list[str]] = {}

    def add(self, kind: str, line: str) -> None:
        self.count[kind] += 1
        if self.count[kind] <= _SHOWN:
            self.lines.setdefault(kind, []).append(f"{self.prefix}: {line}")

    def all(self) -> Iterator[str]:
        for kind, lines in self.lines.items():
            yield from lines
            if self.count[kind] > len(lines):
                yield f"{self.prefix}: and {self.count[kind] - len(lines)} more of these ({kind})"


def check_annotations(content: dict[str, Any], split: str, skeleton: Skeleton, oks_area: str) -> list[str]:
    """Check the images and annotations of a COCO-format dict.

    Args:
        content: the parsed file.
        split: printed before each line.
        skeleton: joint set it must have.
        oks_area: `data.oks_area`; areas are checked where they are used.
    """
    lines = _Lines(split)
    category = person_category(content)
    wrong = joint_mismatch(category, skeleton)
    if wrong:
        lines.add("skeleton", f"category {category.get('id')} {wrong}")
    sizes: dict[Any, tuple[float, float] | None] = {}
    for image in content["images"]:
        number = image.get("id")
        if number in sizes:
            lines.add("image ids", f"image {number}: id is used twice")
        if "width" not in image or "height" not in image or "file_name" not in image:
            lines.add("image fields", f"image {number}: needs file_name, width and height")
            sizes[number] = None
        else:
            sizes[number] = (image["width"], image["height"])
    used: set[Any] = set()
    for annotation in content["annotations"]:
        if annotation.get("category_id", category["id"]) != category["id"]:
            continue
        number = annotation.get("id")
        if number is None or number in used:
            lines.add("annotation ids", f"annotation {number}: id is {'missing' if number is None else 'used twice'}")
        used.add(number)
        if annotation.get("image_id") not in sizes:
            lines.add(
                "image of annotation", f"annotation {number}: image {annotation.get('image_id')} is not in the file"
            )
            continue
        for kind, line in _person(annotation, sizes[annotation["image_id"]], skeleton, oks_area):
            lines.add(kind, f"annotation {number}: {line}")
    return list(lines.all())


def _person(
    annotation: dict[str, Any], size: tuple[float, float] | None, skeleton: Skeleton, oks_area: str
) -> Iterator[tuple[str, str]]:
    width, height = size or (math.inf, math.inf)
    keypoints = annotation.get("keypoints")
    if keypoints:
        yield from _keypoints(annotation, keypoints, width, height, skeleton)
    elif annotation.get("num_keypoints"):
        yield "num_keypoints", f"num_keypoints is {annotation['num_keypoints']}, but there are no keypoints"
    box = annotation.get("bbox")
    if not box or len(box) != 4:
        yield "bbox", "no bbox [x, y, width, height]"
    else:
        x, y, w, h = box
        if w <= 0 or h <= 0:
            yield "bbox", f"bbox {box} has no extent"
        # One pixel of slack: annotation tools round outwards.
        elif x < -1 or y < -1 or x + w > width + 1 or y + h > height + 1:
            yield "bbox outside", f"bbox {box} leaves the image of {width}x{height}"
    if oks_area == "annotation":
        area = annotation.get("area")
        if area is None:
            yield "area", "no area; give it, or set data.oks_area=box*0.53"
        elif area <= 0:
            yield "area", f"area is {area}, OKS needs one above 0"
    yield from _segmentation(annotation, size)


def _keypoints(
    annotation: dict[str, Any], keypoints: list[float], width: float, height: float, skeleton: Skeleton
) -> Iterator[tuple[str, str]]:
    if len(keypoints) != 3 * skeleton.k:
        yield "keypoint count", f"{len(keypoints)} keypoint values, skeleton {skeleton.name} needs 3 x {skeleton.k}"
        return
    labelled = 0
    for name, x, y, v in zip(skeleton.joints, keypoints[0::3], keypoints[1::3], keypoints[2::3], strict=True):
        if v not in (0, 1, 2):
            yield "visibility", f"{name} has v={v}; it must be 0, 1 or 2"
        if v > 0:
            labelled += 1
            if not (-1 <= x <= width and -1 <= y <= height):
                yield "joint outside", f"{name} at ({x:g}, {y:g}) is outside the image of {width}x{height}"
    stated = annotation.get("num_keypoints")
    # CrowdPose's num_keypoints leaves out head and neck, its two last joints; both counts are sound there.
    limbs = sum(v > 0 for v in keypoints[2 : 3 * (skeleton.k - 2) : 3]) if _counts_limbs(skeleton) else labelled
    if stated is not None and stated not in (labelled, limbs):
        yield "num_keypoints", f"num_keypoints is {stated}, but {labelled} joints have v > 0"


def _segmentation(annotation: dict[str, Any], size: tuple[float, float] | None) -> Iterator[tuple[str, str]]:
    outline = annotation.get("segmentation")
    crowd = bool(annotation.get("iscrowd", 0))
    if isinstance(outline, dict):
        counts, rle_size = outline.get("counts"), outline.get("size")
        if not isinstance(counts, (list, str, bytes)) or not isinstance(rle_size, list) or len(rle_size) != 2:
            yield "rle", "segmentation is an RLE without counts and size [height, width]"
        elif size is not None and [rle_size[1], rle_size[0]] != list(size):
            yield "rle", f"RLE of size {rle_size[1]}x{rle_size[0]} in an image of {size[0]}x{size[1]}"
        elif isinstance(counts, list) and sum(counts) != rle_size[0] * rle_size[1]:
            yield "rle", f"RLE counts add up to {sum(counts)}, its size has {rle_size[0] * rle_size[1]} pixels"
    elif outline is not None:
        if crowd:
            yield "rle", "iscrowd=1 with a polygon; a crowd region must be an RLE"
        if not isinstance(outline, list) or not all(
            isinstance(r, list) and len(r) >= 6 and len(r) % 2 == 0 for r in outline
        ):
            yield "polygon", "a polygon needs at least 3 points (6 numbers)"


def check_images(
    content: dict[str, Any], split: str, folder: Path, decode_images: bool, unswap: bool = False
) -> list[str]:
    """Check that every image is there, whole, and of the size that the json states (or, `unswap`, its mirror)."""
    lines = _Lines(split)
    if not folder.is_dir():
        return [f"{split}: no folder {folder} with the images"]

    def one(image: dict[str, Any]) -> str | None:
        file = folder / str(image.get("file_name"))
        found = _decoded_size(file) if decode_images else probe(file)
        stated = (image.get("width"), image.get("height"))
        if isinstance(found, str):
            return found
        if found == stated or (unswap and found == stated[::-1]):
            return None
        line = size_problem(found, stated)  # type: ignore[arg-type]
        if exif_turns(file):
            return f"{line}; the file has an EXIF orientation"
        return f"{line}; data.swapped_size=photograph takes this size" if found == stated[::-1] else line

    with ThreadPoolExecutor(8) as pool:
        for image, wrong in zip(content["images"], pool.map(one, content["images"]), strict=True):
            if wrong:
                lines.add("images", f"image {image.get('id')}: {image.get('file_name')} {_verb(wrong)}")
    return list(lines.all())


def _verb(wrong: str) -> str:
    return wrong if wrong.startswith("is ") else f"is {wrong}"


def _decoded_size(file: Path) -> tuple[int, int] | str:
    got = decode(file)
    return got if isinstance(got, str) else (got.shape[1], got.shape[0])


def _files(content: dict[str, Any], folder: Path) -> dict[Any, str]:
    files = ((image.get("id"), folder / str(image.get("file_name"))) for image in content["images"])
    return {number: str(file) for number, file in files if file.is_file()}


def _duplicates(train: dict[Any, str], val: dict[Any, str]) -> list[str]:
    lines = _Lines("train and val")
    by_size: dict[int, list[tuple[Any, str]]] = {}
    for number, file in train.items():
        by_size.setdefault(Path(file).stat().st_size, []).append((number, file))
    # Only files of equal size can be equal, so few are hashed.
    hashed: Callable[[str], str] = _Memo()
    for number, file in val.items():
        for other, other_file in by_size.get(Path(file).stat().st_size, []):
            if hashed(file) == hashed(other_file):
                lines.add(
                    "duplicates", f"image {number} of val is image {other} of train ({Path(file).name}), the same file"
                )
    return list(lines.all())


class _Memo:
    def __init__(self) -> None:
        self.known: dict[str, str] = {}

    def __call__(self, file: str) -> str:
        if file not in self.known:
            self.known[file] = digest(Path(file))
        return self.known[file]


def check_results(results: Any, file: Path, ground_truth: dict[str, Any]) -> list[str]:
    """Check a box file against the evaluated images; each line carries the file's SHA-256 start."""
    lines = _Lines(f"{file.name} (sha256 {digest(file)})")
    if not isinstance(results, list) or not all(isinstance(r, dict) for r in results):
        return [f"{lines.prefix}: not a list of COCO results"]
    if not results:
        lines.add("empty", "holds no box, so every top-down AP is 0")
    known = {image.get("id") for image in ground_truth["images"]}
    foreign = 0
    for number, result in enumerate(results):
        image = result.get("image_id")
        foreign += image not in known
        box = result.get("bbox")
        if box is not None and (len(box) != 4 or not np.isfinite(box).all() or box[2] <= 0 or box[3] <= 0):
            lines.add("bbox", f"result {number} (image {image}): bbox {box} has no extent")
        score = result.get("score")
        if score is None or not 0 <= score <= 1:
            lines.add("score", f"result {number} (image {image}): score is {score}, not in [0, 1]")
    if foreign:
        lines.add("images", f"{foreign} results are of images that the val file does not have")
    return list(lines.all())
