# pycocotools has no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
"""How often people are occluded as a partition into parts sees it: PINet Fig. 3(b), in both readings.

The paper calls a person occluded if no part is visible and does not say when a part is. M1: all its labelled joints
are visible (v = 2). M2: the pixel of its centre shows the person: it lies in the person's mask and in nobody else's.
Shapes: N people with a labelled joint, K joints, P parts of a strategy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle

from repose.errors import UserError
from repose.metrics.mask_ap import encoded

Parts = Mapping[str, Sequence[Sequence[int]]]
"""Strategy -> its parts, each a list of joint indices."""


def occlusion(ground_truth: Mapping[str, Any], parts: Parts, joints: Sequence[int] | None = None) -> dict[str, Any]:
    """Share of people without a visible part, by strategy.

    Args:
        ground_truth: COCO-format dict; its crowd regions are left out.
        parts: strategy -> parts as joint indices.
        joints: who has none of these labelled is not counted; None = all joints.

    Returns:
        `people`: how many are counted; `M1`: strategy -> share (nan without people); `M2`: the same by masks, None
        where a person has no mask.

    Raises:
        UserError: a part names a joint that the annotations lack.
    """
    annotations = [a for a in ground_truth["annotations"] if not a.get("iscrowd", 0) and a.get("keypoints")]
    used = sorted({joint for strategy in parts.values() for part in strategy for joint in part} | {*(joints or ())})
    k = len(annotations[0]["keypoints"]) // 3 if annotations else max(used, default=0) + 1
    if used and not 0 <= used[0] <= used[-1] < k:
        raise UserError(f"parts name joints {used[0]} to {used[-1]}, the people have {k} joints (0 to {k - 1})")
    joint_NK3 = np.array([a["keypoints"] for a in annotations], dtype=np.float64).reshape(-1, k, 3)
    kept = np.flatnonzero((joint_NK3[:, slice(None) if joints is None else list(joints), 2] > 0).any(1))
    people = [annotations[n] for n in kept]
    joint_NK3 = joint_NK3[kept]
    member_SPK = {name: _members(strategy, k) for name, strategy in parts.items()}
    masked = all(a.get("segmentation") for a in people)
    return {
        "people": len(people),
        "M1": {name: _share(visible_by_joints(joint_NK3[..., 2], m)) for name, m in member_SPK.items()},
        "M2": _by_masks(ground_truth, people, joint_NK3, member_SPK) if masked else None,
    }


def visible_by_joints(v_NK: NDArray[np.float64], member_PK: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """M1: parts that have a labelled joint and no hidden one, (N, P)."""
    member_1PK = member_PK[None]
    labelled_NP = ((v_NK[:, None] > 0) & member_1PK).any(-1)
    hidden_NP = ((v_NK[:, None] == 1) & member_1PK).any(-1)
    return labelled_NP & ~hidden_NP


def part_centres(
    joint_NK3: NDArray[np.float64], member_PK: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Mean of each part's labelled joints, (N, P, 2), and which parts have one, (N, P). Source: PINet's spec, 3.2."""
    weight_NPK = (member_PK[None] & (joint_NK3[:, None, :, 2] > 0)).astype(np.float64)
    count_NP = weight_NPK.sum(-1)
    centre_NP2 = weight_NPK @ joint_NK3[..., :2] / count_NP.clip(min=1)[..., None]
    return centre_NP2, count_NP > 0


def _by_masks(
    ground_truth: Mapping[str, Any],
    people: Sequence[Mapping[str, Any]],
    joint_NK3: NDArray[np.float64],
    member_SPK: Mapping[str, NDArray[np.bool_]],
) -> dict[str, float]:
    size = {int(image["id"]): (int(image["height"]), int(image["width"])) for image in ground_truth["images"]}
    row = {id(person): n for n, person in enumerate(people)}
    by_image: dict[int, list[Mapping[str, Any]]] = {}
    for annotation in ground_truth["annotations"]:
        # Whoever has a mask can stand in front, also without labelled joints.
        if not annotation.get("iscrowd", 0) and annotation.get("segmentation"):
            by_image.setdefault(int(annotation["image_id"]), []).append(annotation)
    place = {name: part_centres(joint_NK3, member_PK) for name, member_PK in member_SPK.items()}
    visible = {name: np.zeros(there_NP.shape, dtype=bool) for name, (_, there_NP) in place.items()}
    for image, members in by_image.items():
        own = [(m, row[id(a)]) for m, a in enumerate(members) if id(a) in row]
        if not own:
            continue
        m_N, n_N = np.array(own).T
        height, width = size[image]
        codes: Any = [encoded(a["segmentation"], height, width) for a in members]
        mask_HWM = rle.decode(codes)
        covered_HW = mask_HWM.sum(-1, dtype=np.int32)
        for name, (centre_NP2, there_NP) in place.items():
            x, y = np.rint(centre_NP2[n_N]).astype(np.int64).transpose(2, 0, 1)
            inside = there_NP[n_N] & (x >= 0) & (y >= 0) & (x < width) & (y < height)
            x, y = x.clip(0, width - 1), y.clip(0, height - 1)
            alone = (mask_HWM[y, x, m_N[:, None]] > 0) & (covered_HW[y, x] == 1)
            visible[name][n_N] = inside & alone
    return {name: _share(visible_NP) for name, visible_NP in visible.items()}


def _members(strategy: Sequence[Sequence[int]], k: int) -> NDArray[np.bool_]:
    member_PK = np.zeros((len(strategy), k), dtype=bool)
    for p, part in enumerate(strategy):
        member_PK[p, list(part)] = True
    return member_PK


def _share(visible_NP: NDArray[np.bool_]) -> float:
    return float(1 - visible_NP.any(1).mean()) if len(visible_NP) else float("nan")
