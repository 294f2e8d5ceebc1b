"""How good tracks are: agreement of two runs, identity switches, jitter. Shapes: N poses, M people, K joints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from repose.field.tracking import greedy_pairs
from repose.ops.oks import oks

Array = NDArray[np.float64]


@dataclass(frozen=True)
class People:
    """People of one frame, predicted or annotated.

    Attributes:
        joint_NK3: x, y, and score or visibility.
        area_N: for OKS, pixels^2.
        number_N: who is who.
    """

    joint_NK3: Array
    area_N: Array
    number_N: NDArray[np.int64]


def pairs(found: People, truth: People, sigmas: tuple[float, ...], least: float) -> list[tuple[int, int, float]]:
    """Predicted and true people of a frame by OKS, greedily: (row of found, row of truth, OKS)."""
    if not len(found.joint_NK3) or not len(truth.joint_NK3):
        return []
    likeness_NM = oks(
        torch.from_numpy(found.joint_NK3[..., :2]),
        torch.from_numpy(truth.joint_NK3),
        torch.from_numpy(truth.area_N),
        sigmas,
    ).numpy()
    return [(n, m, float(likeness_NM[n, m])) for n, m in greedy_pairs(likeness_NM, least)]


def agreement(run: Sequence[People], reference: Sequence[People], sigmas: tuple[float, ...]) -> float:
    """Mean OKS of a run's poses with those of another run, over the other's people: a missing one counts 0.

    This is agreement, not accuracy: it needs no annotations (DRP-Net spec. 5). nan where the reference has nobody.
    """
    total, count = 0.0, 0
    for mine, theirs in zip(run, reference, strict=True):
        joint_NK3 = theirs.joint_NK3.copy()
        joint_NK3[..., 2] = 1.0  # all joints count
        target = People(joint_NK3, theirs.area_N, theirs.number_N)
        total += sum(value for _, _, value in pairs(mine, target, sigmas, 0.0))
        count += len(theirs.joint_NK3)
    return total / count if count else float("nan")


@dataclass
class Identities:
    """Identity switches, as in CLEAR MOT: a true person who is found under another number than the last time.

    Attributes:
        least: OKS from which a pose is a person's.
        switches: so far.
        found: person-frames that were found.
        wanted: person-frames that there are.
        error_px: sum of joint errors of the found.
        joints: how many those are.
    """

    sigmas: tuple[float, ...]
    least: float = 0.5
    switches: int = 0
    found: int = 0
    wanted: int = 0
    error_px: float = 0.0
    joints: int = 0
    _last: dict[int, int] = field(default_factory=dict[int, int])

    def add(self, found: People, truth: People) -> None:
        """Take in a frame; people without labelled joints do not count."""
        labelled = (truth.joint_NK3[..., 2] > 0).any(1)
        truth = People(truth.joint_NK3[labelled], truth.area_N[labelled], truth.number_N[labelled])
        self.wanted += len(truth.number_N)
        for n, m, _ in pairs(found, truth, self.sigmas, self.least):
            who, number = int(truth.number_N[m]), int(found.number_N[n])
            self.switches += int(self._last.get(who, number) != number)
            self._last[who] = number
            self.found += 1
            seen_K = truth.joint_NK3[m, :, 2] > 0
            apart_K = np.linalg.norm(found.joint_NK3[n, :, :2] - truth.joint_NK3[m, :, :2], axis=1)
            self.error_px += float(apart_K[seen_K].sum())
            self.joints += int(seen_K.sum())

    @property
    def recall(self) -> float:
        """Share of person-frames that were found."""
        return self.found / self.wanted if self.wanted else float("nan")

    @property
    def mean_error_px(self) -> float:
        """Mean distance of labelled joints of found people, pixels."""
        return self.error_px / self.joints if self.joints else float("nan")


def jitter(frames: Sequence[People], frame_s: float, threshold: float) -> float:
    """Mean acceleration of joints, pixels / s^2: over every three frames in a row in which somebody keeps a number.

    Joints count where their score (or visibility) is above `threshold` in all three. nan without any.

    Args:
        frames: one after the other.
        frame_s: seconds per frame.
        threshold: see above.
    """
    total, count = 0.0, 0
    for three in zip(frames, frames[1:], frames[2:], strict=False):
        rows = [dict(zip(p.number_N.tolist(), p.joint_NK3, strict=True)) for p in three]
        for number in rows[0].keys() & rows[1].keys() & rows[2].keys():
            a, b, c = (row[number] for row in rows)
            seen_K = (np.stack([a, b, c])[..., 2] > threshold).all(0)
            bend_K = np.linalg.norm(a[:, :2] - 2 * b[:, :2] + c[:, :2], axis=1) / frame_s**2
            total += float(bend_K[seen_K].sum())
            count += int(seen_K.sum())
    return total / count if count else float("nan")
