"""Subsets of the evaluated images that crowded scenes are reported by: CrowdPose's crowd index, and overlap of boxes.

A subset is a set of image ids under the name of its AP; all instances of its images stay, and it is evaluated from
scratch, with its own number of people to find.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from repose.config import Test
from repose.errors import UserError

CROWD_EDGES: Final = (0.2, 0.8)
"""Crowd index from which an image is medium, and hard | CrowdPose's public evaluator (its paper may say 0.1)."""

Subsets = dict[str, frozenset[int]]
"""Name of an AP -> ids of its images."""


def image_subsets(test: Test, ground_truth: Mapping[str, Any]) -> Subsets:
    """The subsets that `test.subsets` asks for; {} for none.

    Raises:
        UserError: the ground truth lacks what they are made of, or `test.iou_edges` are no edges.
    """
    if test.subsets == "crowd_index":
        return by_crowd_index(ground_truth)
    if test.subsets == "iou_bins":
        return by_overlap(ground_truth, test.iou_edges, test.iou_reduce)
    return {}


def by_crowd_index(ground_truth: Mapping[str, Any]) -> Subsets:
    """AP_E, AP_M, AP_H: images with a `crowdIndex` below 0.2, from 0.2, from 0.8 on.

    The field is used as stored: a recomputation from the definition gives other numbers (PINet's spec, 8.2).

    Raises:
        UserError: images without it.
    """
    index = {int(image["id"]): image.get("crowdIndex") for image in ground_truth["images"]}
    absent = [i for i, v in index.items() if not isinstance(v, int | float) or not math.isfinite(v)]
    if absent:
        raise UserError(
            f"{_file(ground_truth)}: {len(absent)} of {len(index)} images have no `crowdIndex` (the first: image "
            f"{absent[0]}), which AP_E, AP_M and AP_H need; use CrowdPose's own annotation file, or test.subsets=none"
        )
    easy, hard = CROWD_EDGES
    return {
        "AP_E": frozenset(i for i, v in index.items() if v < easy),
        "AP_M": frozenset(i for i, v in index.items() if easy <= v < hard),
        "AP_H": frozenset(i for i, v in index.items() if v >= hard),
    }


def by_overlap(
    ground_truth: Mapping[str, Any],
    edges: Sequence[float] = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
    reduce: Literal["mean", "max"] = "mean",
) -> Subsets:
    """Bins of the overlap of an image's people, and all images from each lower edge on.

    Args:
        ground_truth: COCO-format dict.
        edges: increasing, in [0, 1]; a bin holds its lower edge, the last one its upper edge too.
        reduce: see `overlap`.

    Returns:
        AP_IoU50_60 ... AP_IoU90_100 (bins), AP_IoU50_up ... AP_IoU90_up (at least that). Source: PINet Fig. 5.

    Raises:
        UserError: edges that are none, or what `overlap` refuses.
    """
    edges = [float(e) for e in edges]
    if len(edges) < 2 or not 0 <= edges[0] <= edges[-1] <= 1 or any(a >= b for a, b in pairwise(edges)):
        raise UserError(f"test.iou_edges={edges}: at least two increasing numbers between 0 and 1 are needed")
    value = overlap(ground_truth, reduce)
    found: Subsets = {}
    for low, high in pairwise(edges):
        last = high == edges[-1]
        name = f"AP_IoU{100 * low:g}_{100 * high:g}"
        found[name] = frozenset(i for i, v in value.items() if low <= v < high or (last and v == high))
    for low in edges[:-1]:
        found[f"AP_IoU{100 * low:g}_up"] = frozenset(i for i, v in value.items() if v >= low)
    return found


def overlap(ground_truth: Mapping[str, Any], reduce: Literal["mean", "max"] = "mean") -> dict[int, float]:
    """How much an image's people overlap: mean or largest of their MaxIoU, the largest box IoU with another person.

    MaxIoU is the annotations' `max_iou` where the file has it (OCHuman's own format, synthetic people: most OCHuman
    images name one person of a pair, whose boxes would say 0), else it is computed from the boxes. People are the
    annotations that are no crowd region.

    Args:
        ground_truth: COCO-format dict; boxes (x, y, w, h).
        reduce: mean (PINet Fig. 5) or max (the largest pair, OPEC-Net's shares).

    Returns:
        image id -> overlap in [0, 1]; 0 without people.

    Raises:
        UserError: some people have a `max_iou` and others not, or nobody of OCHuman has one.
    """
    people: dict[int, list[Mapping[str, Any]]] = {int(image["id"]): [] for image in ground_truth["images"]}
    for annotation in ground_truth["annotations"]:
        if not annotation.get("iscrowd", 0):
            people[int(annotation["image_id"])].append(annotation)
    everyone = [a for members in people.values() for a in members]
    without = [a for a in everyone if a.get("max_iou") is None]
    if without and len(without) < len(everyone):
        raise UserError(
            f"{_file(ground_truth)}: {len(without)} of {len(everyone)} people have no `max_iou` (the first: annotation "
            f"{without[0].get('id')}); give all of them one, or none, so that it is computed from the boxes"
        )
    if without and "ochuman" in _file(ground_truth).lower():
        raise UserError(
            f"{_file(ground_truth)}: its people have no `max_iou`, and their boxes cannot give it, because many images "
            "of OCHuman name one person of a pair; `repose data convert FOLDER/ochuman.json` adds it"
        )
    choose = np.mean if reduce == "mean" else np.max
    found: dict[int, float] = {}
    for image, members in people.items():
        if not members:
            found[image] = 0.0
            continue
        if without:
            value_N = max_iou(np.array([a["bbox"] for a in members], dtype=np.float64))
        else:
            value_N = np.array([a["max_iou"] for a in members], dtype=np.float64)
        found[image] = round(float(choose(value_N)), 9)  # the mean of 0.7, 0.7, 0.7 is below 0.7 in float64
    return found


def max_iou(box_N4: NDArray[np.float64]) -> NDArray[np.float64]:
    """Largest IoU of each box with another one; 0 for a single box.

    Args:
        box_N4: (x, y, w, h), N at least 1.

    Returns:
        (N,) in [0, 1].
    """
    low_N2, size_N2 = box_N4[:, :2], box_N4[:, 2:]
    high_N2 = low_N2 + size_N2
    side_NN2 = np.minimum(high_N2[:, None], high_N2[None]) - np.maximum(low_N2[:, None], low_N2[None])
    both_NN = side_NN2.clip(min=0).prod(-1)
    area_N = size_N2.prod(-1)
    either_NN = area_N[:, None] + area_N[None] - both_NN
    iou_NN = np.divide(both_NN, either_NN, out=np.zeros_like(both_NN), where=either_NN > 0)
    np.fill_diagonal(iou_NN, 0)
    return iou_NN.max(1)


def restrict(
    results: Sequence[Mapping[str, Any]], ground_truth: Mapping[str, Any], images: Collection[int]
) -> tuple[list[Mapping[str, Any]], dict[str, Any]]:
    """Results and ground truth of some images."""
    kept = set(images)
    truth = {
        **ground_truth,
        "images": [image for image in ground_truth["images"] if int(image["id"]) in kept],
        "annotations": [a for a in ground_truth["annotations"] if int(a["image_id"]) in kept],
    }
    return [r for r in results if int(r["image_id"]) in kept], truth


def sizes(subsets: Subsets, ground_truth: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Images and people (no crowd regions) of each subset, for result.json."""
    people: dict[int, int] = {}
    for annotation in ground_truth["annotations"]:
        if not annotation.get("iscrowd", 0):
            people[int(annotation["image_id"])] = people.get(int(annotation["image_id"]), 0) + 1
    return {
        name: {"images": len(images), "people": sum(people.get(i, 0) for i in images)}
        for name, images in subsets.items()
    }


def _file(ground_truth: Mapping[str, Any]) -> str:
    info: Any = ground_truth.get("info") or {}
    return str(info.get("description") or "ground truth")
