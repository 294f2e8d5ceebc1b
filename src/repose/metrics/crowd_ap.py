"""Keypoint AP of the whole and of subsets of its images: CrowdPose's easy, medium and hard, bins of box overlap."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from repose.config import Test
from repose.metrics import keypoint_ap
from repose.metrics.keypoint_ap import NAMES, KeypointAP
from repose.metrics.subsets import Subsets, by_crowd_index, image_subsets, restrict
from repose.skeleton import Skeleton

_BY_SIZE: Final = ("AP_M", "AP_L", "AR_M", "AR_L")
"""COCO's numbers by size: left out where AP_M is the medium crowd index, as in CrowdPose's own evaluation."""


class SubsetAP(KeypointAP):
    """KeypointAP, and AP over subsets of the images, each evaluated from scratch."""

    def __init__(
        self,
        skeleton: Skeleton,
        ground_truth: Mapping[str, Any],
        subsets: Subsets,
        max_people: int = 20,
        oks_nms: float | None = None,
    ) -> None:
        """Args: subsets: name of an AP -> image ids, from `metrics.subsets`; the others as in KeypointAP."""
        super().__init__(skeleton, ground_truth, max_people, oks_nms)
        self.subsets = subsets

    def score(self, results: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """COCO's numbers and each subset's AP."""
        return score(results, self.ground_truth, self.skeleton, self.subsets, self.max_people)

    def explain(self) -> str:
        """Why a number of the last `compute` is nan or 0, "" if there is nothing to say."""
        return explain(self._metrics, self.ground_truth, self._results, self.subsets) if self._metrics else ""


class CrowdAP(SubsetAP):
    """KeypointAP with AP_E, AP_M, AP_H: images with a crowd index below 0.2, from 0.2 and from 0.8 on.

    CrowdPose's evaluation, for any skeleton and OKS area; AP_M is not COCO's here, whose numbers by size are left out.
    """

    def __init__(
        self,
        skeleton: Skeleton,
        ground_truth: Mapping[str, Any],
        max_people: int = 20,
        oks_nms: float | None = None,
    ) -> None:
        """Args: as in KeypointAP. Raises UserError: images without `crowdIndex`."""
        super().__init__(skeleton, ground_truth, by_crowd_index(ground_truth), max_people, oks_nms)


def keypoint_metric(
    test: Test, skeleton: Skeleton, ground_truth: Mapping[str, Any], subsets: Subsets | None = None
) -> KeypointAP:
    """The metric that an experiment's `test` asks for.

    Args:
        test: its settings.
        skeleton: joints of the data.
        ground_truth: COCO-format dict of the evaluated images.
        subsets: where they are known already.

    Raises:
        UserError: see `metrics.subsets.image_subsets`.
    """
    subsets = image_subsets(test, ground_truth) if subsets is None else subsets
    if not subsets:
        return KeypointAP(skeleton, ground_truth, test.max_people, test.oks_nms)
    return SubsetAP(skeleton, ground_truth, subsets, test.max_people, test.oks_nms)


def score(
    results: Sequence[Mapping[str, Any]],
    ground_truth: Mapping[str, Any],
    skeleton: Skeleton,
    subsets: Subsets,
    max_people: int = 20,
) -> dict[str, float]:
    """COCO's numbers and the AP of each subset.

    Args: see `keypoint_ap.score`; subsets: {} for none.

    Returns:
        name -> share; nan where nobody is to be found. With an AP_M among the subsets, COCO's numbers by size are out.

    Raises:
        UserError: see `keypoint_ap.evaluate`.
    """
    found = keypoint_ap.score(results, ground_truth, skeleton, max_people)
    if "AP_M" in subsets:
        found = {name: value for name, value in found.items() if name not in _BY_SIZE}
    for name, images in subsets.items():
        mine, truth = restrict(results, ground_truth, images)
        found[name] = keypoint_ap.score(mine, truth, skeleton, max_people)["AP"]
    return found


def explain(
    metrics: Mapping[str, float],
    ground_truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    subsets: Subsets,
) -> str:
    """As `keypoint_ap.explain`, and which subsets have nobody to find."""
    whole = {name: value for name, value in metrics.items() if name in NAMES and name not in subsets}
    said = [keypoint_ap.explain(whole, ground_truth, results)]
    empty = [name for name in subsets if math.isnan(metrics.get(name, 0.0))]
    if empty and not math.isnan(metrics.get("AP", 0.0)):
        counts = ", ".join(f"{name} ({len(subsets[name])} images)" for name in empty)
        said.append(f"nobody with labelled joints, so no AP: {counts}")
    return "; ".join(s for s in said if s)
