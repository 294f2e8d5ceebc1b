"""MPII Human Pose's own annotations (its .mat, or the .json lists made of it) to COCO format with head sizes.

Coordinates of MPII count from 1, ours from 0. A person's box is MPII's own: a square of 200 x `scale` around `center`,
15 x `scale` lower (HRNet's reading; the person is 200 x `scale` tall), clipped to the photograph. `head_size` is 0.6 of
the diagonal of the head's box: the unit of PCKh (Andriluka et al., CVPR 2014; MPII's evaluation, SC_BIAS). Of each
split a second file holds the images with exactly one annotated person (DRP-Net's Fig. 6, our reading of its subset).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from repose.data.coco import load_json
from repose.data.files import write_json
from repose.data.images import probe
from repose.errors import UserError
from repose.geometry import EDGE
from repose.skeleton import MPII16

UNIT = 200.0
"""[pixels] height of a person of scale 1."""
LOWER = 15.0
"""[pixels at scale 1] by which the box's centre lies below `center`."""
HEAD = 0.6
"""Head size over the diagonal of the head's box (MPII's evaluation)."""
FIRST = 1.0
"""Coordinate of the first pixel in MPII's files."""
SAME_CENTRE = 2.0
"""[pixels] centres that are nearer are one person's: lists round them."""
_SPLITS = ("train", "val")


@dataclass(frozen=True)
class Person:
    """One annotated person, coordinates from 0.

    Attributes:
        image: file name.
        joint_K3: x, y, v (0 not labelled, 1 hidden, 2 visible).
        centre: of the person.
        scale: height / 200 pixels.
        head_size: pixels; None where the file has no head boxes.
        alone: nobody else of the image is annotated.
    """

    image: str
    joint_K3: np.ndarray
    centre: tuple[float, float]
    scale: float
    head_size: float | None
    alone: bool


def convert(native: Path, folder: Path) -> list[str]:
    """Write COCO-format files of MPII's own.

    From `mpii_human_pose_v1_u12_1.mat`: train and val, where `mpii_val.json` (Tompson's validation images, as HRNet and
    mmpose have it) lies beside it: val holds the people whom that lists; else all labelled people as train. From a
    .json list: that split; head sizes come from `mpii_gt_<split>.mat` beside it, and without that there is no PCKh. A
    list knows nobody whom it leaves out, so that "alone" there is alone in the list.

    Args:
        native: the .mat or .json.
        folder: where `mpii_coco_<split>.json` and `mpii_coco_<split>_single.json` go.

    Returns:
        what was written, one line per file.

    Raises:
        UserError: not such a file, files that do not belong together, or no photograph found.
    """
    splits = _from_mat(native) if native.suffix == ".mat" else {_split_of(native): _from_list(native)}
    lines: list[str] = []
    for split, people in splits.items():
        for suffix, kept in (("", people), ("_single", [p for p in people if p.alone])):
            made, absent = to_coco(kept, native)
            if absent and not suffix and not made["images"]:
                looked = " or ".join(map(str, _image_folders(native)))
                raise UserError(f"{native}: none of its {absent} photographs is in {looked}; their sizes are needed")
            file = folder / f"mpii_coco_{split}{suffix}.json"
            write_json(file, made)
            without = sum("head_size" not in a for a in made["annotations"])
            line = f"{file}: written, {len(made['annotations'])} people in {len(made['images'])} images"
            line += f"; {absent} images are not here and left out" if absent else ""
            line += f"; {without} people without head size, so no PCKh of them" if without else ""
            lines.append(line)
    return lines


def is_list(content: Any) -> bool:
    """Whether a parsed file is one of MPII's .json lists."""
    if not isinstance(content, list) or not content or not isinstance(content[0], dict):
        return False
    return {"image", "center", "scale"} <= content[0].keys()


def to_coco(people: Iterable[Person], native: Path) -> tuple[dict[str, Any], int]:
    """People in COCO format, and how many images were not found."""
    by_image: dict[str, list[Person]] = {}
    for person in people:
        by_image.setdefault(person.image, []).append(person)
    limbs = [[a + 1, b + 1] for a, b in MPII16.limb_index]
    category = {"id": 1, "name": "person", "supercategory": "person", "keypoints": list(MPII16.joints)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    places = _image_folders(native)
    for name in sorted(by_image):
        size = next((found for p in places if not isinstance(found := probe(p / name), str)), None)
        if size is None:
            continue
        images.append({"id": len(images) + 1, "file_name": name, "width": size[0], "height": size[1]})
        for person in by_image[name]:
            annotations.append({"id": len(annotations) + 1, "image_id": len(images), **_annotation(person, size)})
    whole = {"images": images, "annotations": annotations, "categories": [{**category, "skeleton": limbs}]}
    return whole, len(by_image) - len(images)


def _image_folders(native: Path) -> list[Path]:
    return [native.parent / "images", native.parent.parent / "images", native.parent]


def _annotation(person: Person, image_wh: tuple[int, int]) -> dict[str, Any]:
    half = UNIT * person.scale / 2
    centre = np.array([person.centre[0], person.centre[1] + LOWER * person.scale]) + EDGE  # COCO's boxes are edges
    low, high = np.maximum(centre - half, 0), np.minimum(centre + half, image_wh)
    box = [*low.tolist(), *(high - low).tolist()]
    labelled = person.joint_K3[:, 2] > 0
    keypoints = np.where(labelled[:, None], person.joint_K3, 0.0)
    return {
        "category_id": 1,
        "iscrowd": 0,
        "keypoints": [v for x, y, seen in keypoints.tolist() for v in (round(x, 4), round(y, 4), int(seen))],
        "num_keypoints": int(labelled.sum()),
        "bbox": [round(v, 4) for v in box],
        **({} if person.head_size is None else {"head_size": round(person.head_size, 4)}),
    }


# --- .json lists ---------------------------------------------------------------------------------------------------


def _split_of(native: Path) -> str:
    return next((s for s in ("trainval", *_SPLITS, "test") if native.stem.endswith(s)), native.stem)


def _from_list(native: Path) -> list[Person]:
    content = load_json(native)
    if not is_list(content):
        raise UserError(f"{native}: not one of MPII's lists (image, center, scale, joints, joints_vis of each person)")
    if "joints" not in content[0]:
        raise UserError(f"{native}: has no joints; MPII withholds the labels of its test images")
    heads = _head_sizes(native, len(content))
    counts: dict[str, int] = {}
    for entry in content:
        counts[entry["image"]] = counts.get(entry["image"], 0) + 1
    people: list[Person] = []
    for number, entry in enumerate(content):
        try:
            point_K2 = np.array(entry["joints"], np.float64).reshape(MPII16.k, 2) - FIRST
            seen_K = np.array(entry["joints_vis"], np.float64).reshape(MPII16.k)
            centre = float(entry["center"][0]) - FIRST, float(entry["center"][1]) - FIRST
            scale = float(entry["scale"])
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise UserError(f"{native}: entry {number} is malformed ({type(error).__name__}: {error})") from None
        joint_K3 = np.concatenate([point_K2, 2.0 * (seen_K[:, None] > 0)], axis=1)
        head = None if heads is None else heads[number]
        people.append(Person(entry["image"], joint_K3, centre, scale, head, counts[entry["image"]] == 1))
    return people


def _head_sizes(native: Path, count: int) -> list[float] | None:
    """Head sizes of a split's people from the .mat beside the list; None without it."""
    file = native.with_name(f"mpii_gt_{_split_of(native)}.mat")
    if not file.is_file():
        return None
    boxes = np.asarray(_load_mat(file).get("headboxes_src", np.zeros((2, 2, 0))), np.float64)
    if boxes.shape != (2, 2, count):
        raise UserError(f"{file}: head boxes of {boxes.shape[-1]} people, {native.name} has {count}; not one split")
    return [HEAD * float(np.hypot(*(boxes[1, :, n] - boxes[0, :, n]))) for n in range(count)]


# --- .mat ----------------------------------------------------------------------------------------------------------


def _load_mat(file: Path) -> Mapping[str, Any]:
    from scipy.io import loadmat

    try:
        return loadmat(str(file), struct_as_record=False, squeeze_me=True)
    except FileNotFoundError:
        raise UserError(f"{file}: no such file") from None
    except Exception as error:  # scipy's share no base class, and a damaged file raises any
        reason = (str(error).splitlines() or [type(error).__name__])[0][:100]
        raise UserError(f"{file}: not a MATLAB file that can be read ({reason})") from None


def _from_mat(native: Path) -> dict[str, list[Person]]:
    release = _load_mat(native).get("RELEASE")
    if release is None or not hasattr(release, "annolist"):
        raise UserError(f"{native}: no RELEASE.annolist in it; this is not mpii_human_pose_v1_u12_1.mat")
    people: list[Person] = []
    training = np.atleast_1d(release.img_train)
    for number, entry in enumerate(np.atleast_1d(release.annolist)):
        if not training[number]:
            continue  # MPII withholds the labels of its test images
        annotated = [rect for rect in _several(entry, "annorect") if _points(rect)]
        for rect in annotated:
            people.append(_person_of(rect, str(entry.image.name), len(annotated) == 1, native))
    if not people:
        raise UserError(f"{native}: nobody with labelled joints in it")
    listed = native.with_name("mpii_val.json")
    if not listed.is_file():
        return {"train": people}
    content = load_json(listed)
    if not is_list(content):
        raise UserError(f"{listed}: not MPII's list of validation people")
    val: dict[str, list[tuple[float, float]]] = {}
    for entry in content:
        try:
            centre = float(entry["center"][0]) - FIRST, float(entry["center"][1]) - FIRST
            val.setdefault(entry["image"], []).append(centre)
        except (KeyError, TypeError, ValueError, IndexError):
            raise UserError(f"{listed}: an entry has no image and center that can be used") from None
    return {
        "train": [p for p in people if p.image not in val],
        "val": [p for p in people if p.image in val and _listed(p, val[p.image])],
    }


def _listed(person: Person, centre_N2: Sequence[tuple[float, float]]) -> bool:
    """Whether a list has this person of its image: it may leave out some, who then belong to no split."""
    x, y = person.centre
    return any(math.hypot(x - cx, y - cy) < SAME_CENTRE for cx, cy in centre_N2)


def _several(owner: Any, name: str) -> list[Any]:
    """A MATLAB field that may be missing, empty, one or several."""
    value = getattr(owner, name, None)
    if value is None:
        return []
    return [v for v in np.atleast_1d(value).tolist() if v is not None and not isinstance(v, int | float | str)]


def _points(rect: Any) -> list[Any]:
    return [point for points in _several(rect, "annopoints") for point in _several(points, "point")]


def _person_of(rect: Any, image: str, alone: bool, native: Path) -> Person:
    joint_K3 = np.zeros((MPII16.k, 3))
    try:
        for point in _points(rect):
            hidden = str(getattr(point, "is_visible", "1")) in ("0", "0.0")
            joint_K3[int(point.id)] = float(point.x) - FIRST, float(point.y) - FIRST, 1 if hidden else 2
        centre = float(rect.objpos.x) - FIRST, float(rect.objpos.y) - FIRST
        head = HEAD * float(np.hypot(float(rect.x2) - float(rect.x1), float(rect.y2) - float(rect.y1)))
        return Person(image, joint_K3, centre, float(rect.scale), head, alone)
    except (AttributeError, TypeError, ValueError, IndexError) as error:
        raise UserError(f"{native}: a person of image {image} is malformed ({error})") from None
