# pycocotools has no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
"""How sure an AP is: confidence intervals by resampling the evaluated images with replacement.

pycocotools matches once; a resample only weighs each image by how often it was drawn and accumulates again, which
is the AP pycocotools would give for the images repeated that often (but for the order of equal scores).
Shapes: I images, D predictions (best score first), T OKS (or mask IoU) thresholds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from repose.errors import UserError
from repose.metrics import mask_ap
from repose.metrics.keypoint_ap import NAMES, evaluate
from repose.metrics.subsets import Subsets, restrict
from repose.skeleton import Skeleton

_Results = Sequence[Mapping[str, Any]]
_THRESHOLD: Final[dict[str, float | None]] = {"AP": None, "AP50": 0.5, "AP75": 0.75}
"""Metrics of all images, and the one OKS (or IoU) they are read at."""
_SIZE: Final[dict[str, int]] = {"AP_M": 1, "AP_L": 2, "AR_M": 1, "AR_L": 2}
"""Metrics of people of one size, and pycocotools' number of the size."""


@dataclass(frozen=True)
class Matches:
    """What AP is accumulated from.

    Attributes:
        image_D: index of each prediction's image.
        true_TD: 1 where a prediction is a person's, at each threshold.
        false_TD: 1 where it is nobody's; both are 0 where pycocotools ignores it (a crowd, say).
        people_I: people to find in each image.
        recall_R: recalls at which precision is read.
    """

    image_D: NDArray[np.int64]
    true_TD: NDArray[np.float64]
    false_TD: NDArray[np.float64]
    people_I: NDArray[np.int64]
    recall_R: NDArray[np.float64]


class Paired(NamedTuple):
    """AP of a minus AP of b: value, interval, and two-sided p-value of "no difference"."""

    difference: float
    low: float
    high: float
    p: float


def match(
    results: _Results,
    ground_truth: Mapping[str, Any],
    skeleton: Skeleton,
    max_people: int = 20,
    metric: str = "AP",
    subsets: Subsets | None = None,
) -> Matches:
    """Match predictions to people once, as pycocotools does.

    Args:
        results: COCO keypoint results.
        ground_truth: COCO-format dict of the evaluated images.
        skeleton: joints of both.
        max_people: predictions per image that count.
        metric: one of COCO's ten numbers, or one of `subsets`.
        subsets: name of an AP -> its images (`metrics.subsets`); only they are matched and resampled for that name.

    Raises:
        UserError: another metric.
    """
    if subsets and metric in subsets:
        results, ground_truth = restrict(results, ground_truth, subsets[metric])
        return _matches(evaluate(results, ground_truth, skeleton, max_people), None)
    if metric not in NAMES:
        raise UserError(f"no interval is computed for {metric}; there are: {', '.join([*NAMES, *(subsets or {})])}")
    evaluation = evaluate(results, ground_truth, skeleton, max_people)
    return _matches(evaluation, _THRESHOLD.get(f"AP{metric[2:]}"), _SIZE.get(metric, 0))


def match_masks(
    results: _Results,
    ground_truth: Mapping[str, Any],
    max_people: int = 100,
    people: mask_ap.People = "all",
    metric: str = "mask_AP",
) -> Matches:
    """As `match`, of COCO segmentation results; `metric` is mask_AP, mask_AP50 or mask_AP75."""
    if metric.removeprefix("mask_") not in _THRESHOLD or not metric.startswith("mask_"):
        raise UserError(
            f"no interval is computed for {metric}; there are: {', '.join(f'mask_{m}' for m in _THRESHOLD)}"
        )
    evaluation = mask_ap.evaluate(results, ground_truth, max_people, people)
    return _matches(evaluation, _THRESHOLD[metric.removeprefix("mask_")])


def _matches(evaluation: Any, threshold: float | None, size: int = 0) -> Matches:
    rows = np.ones(len(evaluation.params.iouThrs), dtype=bool)
    if threshold is not None:
        rows = np.isclose(evaluation.params.iouThrs, threshold)
    # One category; each size class (0 = all) has I entries; None for images without people and predictions.
    evaluated = len(evaluation.params.imgIds)
    images: list[dict[str, Any] | None] = evaluation.evalImgs[size * evaluated : (size + 1) * evaluated]
    people_I = np.array([0 if e is None else np.count_nonzero(e["gtIgnore"] == 0) for e in images], dtype=np.int64)
    seen = [(i, e) for i, e in enumerate(images) if e is not None]
    count = [len(e["dtScores"]) for _, e in seen]
    score_D = np.concatenate([np.zeros(0), *(np.asarray(e["dtScores"], dtype=np.float64) for _, e in seen)])
    image_D = np.repeat(np.array([i for i, _ in seen], dtype=np.int64), count)
    matched_TD = np.concatenate([np.zeros((len(rows), 0)), *(e["dtMatches"] for _, e in seen)], axis=1)[rows] > 0
    ignored_TD = np.concatenate([np.zeros((len(rows), 0)), *(e["dtIgnore"] for _, e in seen)], axis=1)[rows] > 0
    order = np.argsort(-score_D, kind="mergesort")  # pycocotools' own, for equal scores
    true_TD = (matched_TD & ~ignored_TD)[:, order]
    false_TD = (~matched_TD & ~ignored_TD)[:, order]
    found = np.flatnonzero(true_TD.any(0))
    used = int(found[-1]) + 1 if len(found) else 0  # wrong predictions below the last right one change no AP
    return Matches(
        image_D=image_D[order][:used],
        true_TD=true_TD[:, :used].astype(np.float64),
        false_TD=false_TD[:, :used].astype(np.float64),
        people_I=people_I,
        recall_R=np.asarray(evaluation.params.recThrs),
    )


def average_precision(matches: Matches, weight_I: NDArray[np.int64]) -> float:
    """AP with each image counted `weight_I` times; nan if nobody is left to find."""
    people = int(matches.people_I @ weight_I)
    if not people:
        return math.nan
    weight_D = weight_I[matches.image_D].astype(np.float64)
    true_TD = np.cumsum(matches.true_TD * weight_D, axis=1)
    false_TD = np.cumsum(matches.false_TD * weight_D, axis=1)
    precision_TD = true_TD / (true_TD + false_TD + np.spacing(1))
    # Precision at a recall is the best one at that recall or any higher; 0 where the recall is never reached.
    best_TD = np.maximum.accumulate(precision_TD[:, ::-1], axis=1)[:, ::-1]
    best_TD = np.concatenate([best_TD, np.zeros((len(best_TD), 1))], axis=1)
    total = 0.0
    for recall_D, best_D in zip(true_TD / people, best_TD, strict=True):
        total += best_D[np.searchsorted(recall_D, matches.recall_R, side="left")].sum()
    return float(total / (len(best_TD) * len(matches.recall_R)))


def average_recall(matches: Matches, weight_I: NDArray[np.int64]) -> float:
    """AR with each image counted `weight_I` times; nan if nobody is left to find."""
    people = int(matches.people_I @ weight_I)
    if not people:
        return math.nan
    return float((matches.true_TD @ weight_I[matches.image_D].astype(np.float64)).mean() / people)


Statistic = Callable[[Matches, NDArray[np.int64]], float]
"""AP or AR of matches, each image weighed by how often it was drawn."""


def _statistic(metric: str) -> Statistic:
    return average_recall if metric.startswith("AR") else average_precision


def interval(
    results: _Results,
    ground_truth: Mapping[str, Any],
    skeleton: Skeleton,
    n: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    max_people: int = 20,
    metric: str = "AP",
    subsets: Subsets | None = None,
) -> tuple[float, float]:
    """Percentile confidence interval of AP (or AR) over images.

    Args:
        results: COCO keypoint results.
        ground_truth: COCO-format dict of the evaluated images.
        skeleton: joints of both.
        n: resamples.
        seed: of the resamples.
        level: share of resamples inside the interval.
        max_people: predictions per image that count.
        metric: one of COCO's ten numbers, or one of `subsets`.
        subsets: name of an AP -> its images.

    Returns:
        (low, high), shares; nan if there is nobody to find.

    Raises:
        UserError: another metric.
    """
    found = match(results, ground_truth, skeleton, max_people, metric, subsets)
    return interval_of(found, n, seed, level, _statistic(metric))


def interval_of(
    matches: Matches, n: int = 1000, seed: int = 0, level: float = 0.95, statistic: Statistic = average_precision
) -> tuple[float, float]:
    """`interval` of matches that are made already (of masks, say)."""
    values = np.array([statistic(matches, w) for w in _draws(len(matches.people_I), n, seed)])
    return _percentiles(values, level)


def paired(
    results_a: _Results,
    results_b: _Results,
    ground_truth: Mapping[str, Any],
    skeleton: Skeleton,
    n: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    max_people: int = 20,
    metric: str = "AP",
    subsets: Subsets | None = None,
) -> Paired:
    """Difference of two methods' AP on the same images, both resampled alike.

    Args: see `interval`, with any of COCO's ten numbers; a positive difference says that a is better.
    """
    a = match(results_a, ground_truth, skeleton, max_people, metric, subsets)
    b = match(results_b, ground_truth, skeleton, max_people, metric, subsets)
    return paired_of(a, b, n, seed, level, _statistic(metric))


def paired_of(
    a: Matches,
    b: Matches,
    n: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    statistic: Statistic = average_precision,
) -> Paired:
    """`paired` of matches that are made already, of the same images."""
    once = np.ones(len(a.people_I), dtype=np.int64)
    difference = statistic(a, once) - statistic(b, once)
    draws = _draws(len(once), n, seed)
    return _tested(difference, np.array([statistic(a, w) - statistic(b, w) for w in draws]), level)


def paired_means(
    sum_a_I: NDArray[np.float64],
    sum_b_I: NDArray[np.float64],
    count_I: NDArray[np.float64],
    n: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Paired:
    """Difference of two means over the members (people, joints) of the same images, images resampled.

    Args:
        sum_a_I: sum over an image's members, of a.
        sum_b_I: the same of b.
        count_I: members of each image.
        n: resamples.
        seed: of the resamples.
        level: share of resamples inside the interval.
    """
    gap_I = sum_a_I - sum_b_I
    count = float(count_I.sum())
    values = np.array([(w @ gap_I) / c if (c := float(w @ count_I)) else math.nan for w in _draws(len(gap_I), n, seed)])
    return _tested(float(gap_I.sum()) / count if count else math.nan, values, level)


def _tested(difference: float, values: NDArray[np.float64], level: float) -> Paired:
    """Interval and p-value from the differences of the resamples."""
    low, high = _percentiles(values, level)
    values = values[np.isfinite(values)]
    if not len(values):
        return Paired(difference, low, high, math.nan)
    # One is added to both counts: the data themselves are one resample, and no finite number of them shows p = 0.
    beyond = min(np.count_nonzero(values <= 0), np.count_nonzero(values >= 0))
    return Paired(difference, low, high, min(1.0, 2 * (int(beyond) + 1) / (len(values) + 1)))


def _draws(images: int, n: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """How often each image is drawn, n times; nothing without images."""
    rng = np.random.default_rng(seed)
    for _ in range(n if images else 0):
        yield np.bincount(rng.integers(0, images, images), minlength=images)


def _percentiles(values: NDArray[np.float64], level: float) -> tuple[float, float]:
    values = values[np.isfinite(values)]  # resamples without anybody to find
    if not len(values):
        return math.nan, math.nan
    tail = 50 * (1 - level)
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)
