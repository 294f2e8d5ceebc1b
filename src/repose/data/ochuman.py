"""OCHuman's own annotation file (19 joints) to COCO-17 in COCO format, with each person's `max_iou`.

The data set's rules (its README and API; PINet spec. 8.1): people with both keypoints and a mask, 4,731 images in the
order of their ids, the first 2,500 of them val and the rest test; ids start at 1 in each split; `area` is the box's.
Other people of the photographs stay without annotation, so finding them counts as a false positive.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from repose.data.coco import encode_rings, load_json
from repose.data.files import write_json
from repose.errors import UserError
from repose.skeleton import COCO17

VAL_IMAGES = 2500
"""Images of the val split, the first ones with a usable person."""
_VISIBILITY = {0: 0, 1: 2, 2: 2, 3: 1}
"""OCHuman's missing, visible, self-occluded and occluded by others -> COCO's v."""
_FILE = "ochuman_coco_format_{}_range_0.00_1.00.json"


def convert(native: Path, folder: Path) -> list[str]:
    """Write COCO-format files of OCHuman's own, or complete the ones that are there with `max_iou`.

    Args:
        native: ochuman.json.
        folder: where the files go; existing ones (the data set's own) keep all they hold.

    Returns:
        what was done, one line per file.

    Raises:
        UserError: not such a file, nobody with keypoints and mask in it, or existing files of other people.
    """
    content = _native(native)
    splits = to_coco(content, native)
    lines = []
    for split, made in splits.items():
        file = folder / _FILE.format(split)
        people = f"{len(made['annotations'])} people in {len(made['images'])} images"
        if not file.exists():
            write_json(file, made)
            lines.append(f"{file}: written, {people}")
            continue
        there = load_json(file)
        joined = join_max_iou(there, content, file, native)
        if joined:
            write_json(file, there)
        lines.append(f"{file}: was there; max_iou added to {joined} of {len(there['annotations'])} people")
    return lines


def to_coco(content: dict[str, Any], native: Path) -> dict[str, dict[str, Any]]:
    """The splits in COCO format, by name; a split without images is left out.

    Args:
        content: the parsed file.
        native: its path, for messages.

    Raises:
        UserError: joints that COCO has are missing, a mask or visibility is malformed, or nobody can be used.
    """
    order = _joint_order(content, native)
    images = [(image, _usable(image)) for image in sorted(content["images"], key=lambda i: str(i["image_id"]))]
    images = [(image, people) for image, people in images if people]
    if not images:
        raise UserError(f"{native}: nobody has both keypoints and a mask, which OCHuman's protocol asks for")
    parts = {"val": images[:VAL_IMAGES], "test": images[VAL_IMAGES:]}
    return {split: _split(part, order, native) for split, part in parts.items() if part}


def join_max_iou(there: dict[str, Any], content: dict[str, Any], file: Path, native: Path) -> int:
    """Add `max_iou` of OCHuman's own file to people and images of a COCO-format file, in place.

    Args:
        there: the parsed COCO-format file.
        content: the parsed native file.
        file: path of the former, for messages.
        native: path of the latter.

    Returns:
        how many people got one.

    Raises:
        UserError: somebody of the COCO-format file is not in the native file.
    """
    overlap = {
        (image["file_name"], _box(person)): float(person["max_iou"])
        for image in content["images"]
        for person in image["annotations"]
    }
    name = {image["id"]: image["file_name"] for image in there["images"]}
    most: dict[Any, float] = {}
    joined = 0
    for person in there["annotations"]:
        key = name.get(person["image_id"], ""), tuple(round(float(v)) for v in person["bbox"])
        if key not in overlap:
            raise UserError(
                f"{file}: annotation {person['id']} (image {key[0]}, box {list(key[1])}) is not in {native}; "
                "the two files do not belong together"
            )
        joined += "max_iou" not in person
        person["max_iou"] = overlap[key]
        most[person["image_id"]] = max(most.get(person["image_id"], 0.0), overlap[key])
    for image in there["images"]:
        image["max_iou"] = most.get(image["id"], 0.0)
    return joined


def _native(file: Path) -> dict[str, Any]:
    content = load_json(file)
    if not isinstance(content, dict) or not {"images", "keypoint_names"} <= content.keys():
        raise UserError(f"{file}: not OCHuman's own file (ochuman.json, with `images` and `keypoint_names`)")
    return content


def _joint_order(content: dict[str, Any], file: Path) -> list[int]:
    names = list(content["keypoint_names"])
    missing = [joint for joint in COCO17.joints if joint not in names]
    if missing:
        raise UserError(f"{file}: keypoint_names lack {', '.join(missing)}; not OCHuman's 19 joints")
    return [names.index(joint) for joint in COCO17.joints]


def _usable(image: dict[str, Any]) -> list[dict[str, Any]]:
    return [person for person in image["annotations"] if person.get("keypoints") and person.get("segms")]


def _box(person: dict[str, Any]) -> tuple[int, ...]:
    # OCHuman's boxes are corners, COCO's a corner and a size.
    x1, y1, x2, y2 = (round(float(v)) for v in person["bbox"])
    return x1, y1, x2 - x1, y2 - y1


def _split(images: list[tuple[dict[str, Any], list[dict[str, Any]]]], order: list[int], file: Path) -> dict[str, Any]:
    limbs = [[a + 1, b + 1] for a, b in COCO17.limb_index]
    made: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [
            {"id": 1, "name": "person", "supercategory": "person", "keypoints": list(COCO17.joints), "skeleton": limbs}
        ],
    }
    for number, (image, people) in enumerate(images, 1):
        try:
            persons = [_person(person, order) for person in people]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise UserError(
                f"{file}: image {image['image_id']} has a malformed person ({type(error).__name__}: {error})"
            ) from error
        most = max(person["max_iou"] for person in persons)
        size = {"width": image["width"], "height": image["height"]}
        made["images"].append({"id": number, "file_name": image["file_name"], **size, "max_iou": most})
        for person in persons:
            made["annotations"].append({"id": len(made["annotations"]) + 1, "image_id": number, **person})
    return made


def _person(person: dict[str, Any], order: list[int]) -> dict[str, Any]:
    values = person["keypoints"]
    keypoints = [v for k in order for v in (values[3 * k], values[3 * k + 1], _VISIBILITY[int(values[3 * k + 2])])]
    outline = person["segms"]
    box = _box(person)
    return {
        "category_id": 1,
        "iscrowd": 0,
        "keypoints": keypoints,
        "num_keypoints": sum(v > 0 for v in keypoints[2::3]),
        "bbox": list(box),
        "area": box[2] * box[3],
        "segmentation": encode_rings(outline["outer"], outline["inner"], outline["width"], outline["height"]),
        "max_iou": float(person["max_iou"]),
    }
