# torch's lists have no types; they become floats in this file.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""PCKh: share of labelled joints that lie within half a head size of their place (MPII's measure).

As MPII's single-person evaluation: a prediction is a given person's (its box was given), nobody is matched, and scores
count for nothing. The mean is over all labelled joints but pelvis and thorax, so a joint that is labelled more often
weighs more (HRNet's and mmpose's evaluation). Values are shares (0 to 1). Source: Andriluka et al., CVPR 2014.

Shapes: B results of a batch, N people, K joints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from repose.skeleton import Skeleton
from repose.types import Poses

THRESHOLD: Final = 0.5
"""Of a head size: "within" includes it."""
STRICT: Final = 0.1
"""The stricter measure that MPII's tables print beside it."""
LEFT_OUT: Final = ("pelvis", "thorax")
"""Joints that do not count: their place follows from others'."""
PARTS: Final = ("head", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
"""Columns of MPII's tables; head is the top of the head."""


class PCKh(Metric):
    """Collects poses of given people, drops duplicates, and scores them.

    People without head size are left out (`missing` counts them); who has one and no pose has every joint wrong.
    """

    full_state_update = False
    rows: list[Tensor] | Tensor  # a tensor after processes were joined

    def __init__(self, skeleton: Skeleton, ground_truth: Mapping[str, Any]) -> None:
        """Args: skeleton: joints; ground_truth: COCO-format dict whose annotations have `head_size`, pixels."""
        super().__init__()
        self.skeleton = skeleton
        self.ground_truth = ground_truth
        self.add_state("rows", default=[], dist_reduce_fx="cat")
        self._seed()

    def _seed(self) -> None:
        # Rows are (subject, K x (x, y)), float64 because ids pass 2^24. The first has none: gloo fails where a process
        # that saw nothing has nothing to gather.
        self.rows = [torch.zeros(0, 1 + 2 * self.skeleton.k, dtype=torch.float64, device=self.device)]

    @property
    def update_called(self) -> bool:
        """True: an evaluation that saw nobody is a valid one, and torchmetrics would warn of it."""
        return True

    def update(self, subject_id_B: Tensor, poses: Sequence[Poses]) -> None:
        """Add a batch of crops.

        Args:
            subject_id_B: int64, annotation id of whom each crop is of.
            poses: one per crop, photograph pixels; of several people of a crop the best counts.
        """
        if len(poses) != len(subject_id_B):
            raise ValueError(f"{len(poses)} poses, {len(subject_id_B)} subjects")
        rows: list[Tensor] = []
        for subject, pose in zip(subject_id_B.tolist(), poses, strict=True):
            if pose.n:
                point_K2 = pose.joint_NK3[int(pose.score_N.argmax()), :, :2].detach().cpu().double()
                rows.append(torch.cat([torch.tensor([float(subject)], dtype=torch.float64), point_K2.flatten()]))
        assert isinstance(self.rows, list)
        if rows:
            self.rows.append(torch.stack(rows).to(self.device))

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self._seed()

    def compute(self) -> dict[str, float]:
        """See `score`."""
        rows = (torch.cat(self.rows) if isinstance(self.rows, list) else self.rows).cpu().numpy()
        found: dict[int, NDArray[np.float64]] = {}
        for row in rows:
            found.setdefault(int(row[0]), row[1:].reshape(-1, 2))
        return score(found, self.ground_truth, self.skeleton)


def people(ground_truth: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Annotated people that are scored: no crowd, with a labelled joint and a head size."""
    return [
        a
        for a in ground_truth["annotations"]
        if not a.get("iscrowd", 0) and a.get("num_keypoints", 1) and float(a.get("head_size") or 0) > 0
    ]


def missing(ground_truth: Mapping[str, Any]) -> str:
    """One line where only some people have a head size, "" where all have one or nobody does."""
    labelled = [a for a in ground_truth["annotations"] if not a.get("iscrowd", 0) and a.get("num_keypoints", 1)]
    counted = len(people(ground_truth))
    if not counted or counted == len(labelled):
        return ""
    return f"PCKh leaves out {len(labelled) - counted} of {len(labelled)} people: they have no head size"


def score(
    found: Mapping[int, NDArray[np.float64]], ground_truth: Mapping[str, Any], skeleton: Skeleton
) -> dict[str, float]:
    """PCKh of given people.

    Args:
        found: annotation id -> (K, 2) photograph pixels.
        ground_truth: COCO-format dict.
        skeleton: joint names.

    Returns:
        `PCKh` (at 0.5, over all joints that count), `PCKh_01` (at 0.1), and `PCKh_head` ... `PCKh_ankle` (at 0.5);
        nan where no joint is labelled.
    """
    k = skeleton.k
    distance: list[NDArray[np.float64]] = []
    seen: list[NDArray[np.bool_]] = []
    for person in people(ground_truth):
        truth_K3 = np.array(person["keypoints"], np.float64).reshape(k, 3)
        mine = found.get(int(person["id"]))
        apart_K = np.full(k, np.inf) if mine is None else np.hypot(*(mine - truth_K3[:, :2]).T)
        distance.append(apart_K / float(person["head_size"]))
        seen.append(truth_K3[:, 2] > 0)
    distance_NK, seen_NK = np.array(distance).reshape(-1, k), np.array(seen, dtype=bool).reshape(-1, k)

    def share(joints: Sequence[str], threshold: float) -> float:
        columns = [i for i, name in enumerate(skeleton.joints) if name in joints]
        labelled = seen_NK[:, columns]
        right = (distance_NK[:, columns] <= threshold) & labelled
        return float(right.sum() / labelled.sum()) if labelled.any() else float("nan")

    counted = [name for name in skeleton.joints if name not in LEFT_OUT]
    values = {"PCKh": share(counted, THRESHOLD), "PCKh_01": share(counted, STRICT)}
    for part in PARTS:
        names = ("head_top",) if part == "head" else (f"left_{part}", f"right_{part}")
        values[f"PCKh_{part}"] = share(names, THRESHOLD)
    return values


def of_results(
    results: Sequence[Mapping[str, Any]], ground_truth: Mapping[str, Any], skeleton: Skeleton
) -> dict[str, float] | None:
    """PCKh of a COCO results file; None where an image has several people, since such a file does not say who is who.

    Args:
        results: COCO keypoint results.
        ground_truth: COCO-format dict.
        skeleton: joints of both.
    """
    by_image: dict[int, int] = {}
    for person in people(ground_truth):
        if int(person["image_id"]) in by_image:
            return None
        by_image[int(person["image_id"])] = int(person["id"])
    best: dict[int, Mapping[str, Any]] = {}
    for result in results:
        subject = by_image.get(int(result["image_id"]))
        if subject is not None and (subject not in best or result["score"] > best[subject]["score"]):
            best[subject] = result
    points = {s: np.array(r["keypoints"], np.float64).reshape(-1, 3)[:, :2] for s, r in best.items()}
    return score(points, ground_truth, skeleton)
