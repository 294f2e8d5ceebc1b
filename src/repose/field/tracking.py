"""Who is who from frame to frame: boxes for the frames without detector, duplicates, association, smoothing.

Source: DRP-Net §2.4 (spec. 5, after RTMPose's pipeline). Pure of networks and pictures: poses go in, tracks come out.
Shapes: N poses of a frame, T tracks, K joints.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from repose.field.boxes import Boxes
from repose.field.options import Smooth, Track
from repose.field.smoothing import OneEuro
from repose.geometry import EDGE
from repose.ops.boxes import box_iou
from repose.ops.oks import oks_between, oks_nms

Array = NDArray[np.float64]


@dataclass
class Person:
    """Somebody who is followed.

    Attributes:
        number: from 1, never given twice.
        joint_K3: as measured in the last frame it was seen in, not filtered.
        box_4: its box there.
        box_score: what the detector thought of it when it last saw it.
        missing: frames since then.
        row: of the filter's memory.
    """

    number: int
    joint_K3: Array
    box_4: Array
    box_score: float
    missing: int
    row: int


@dataclass(frozen=True)
class Followed:
    """The people of one frame.

    Attributes:
        index_M: which of the frame's poses they are (duplicates are left out), best first.
        number_M: their tracks.
        joint_MK3: filtered.
    """

    index_M: NDArray[np.int64]
    number_M: NDArray[np.int64]
    joint_MK3: Array


class Tracker:
    """Follows people through a video.

    Attributes:
        people: who is followed now, the missing ones too.
    """

    def __init__(self, track: Track, smooth: Smooth, sigmas: tuple[float, ...]) -> None:
        """Args: track, smooth: settings; sigmas: K OKS constants."""
        self.track = track
        self.smooth = smooth
        self.sigmas = sigmas
        self.people: list[Person] = []
        self._filter = OneEuro(smooth, len(sigmas))
        self._next = 1
        self._lost = False

    @property
    def alive(self) -> list[Person]:
        """Those seen in the last frame."""
        return [p for p in self.people if p.missing == 0]

    def wants_detection(self, frame: int) -> bool:
        """Whether the detector looks at this frame: every n-th, where nobody is followed, after somebody was lost.

        Args:
            frame: number of the frame, from 0.
        """
        return frame % self.track.interval == 0 or not self.alive or (self.track.redetect and self._lost)

    def boxes(self, image_wh: tuple[int, int]) -> Boxes:
        """Boxes of the people seen in the last frame, around their last keypoints.

        Somebody with fewer than half of the keypoints above `keypoint_score` has no box, and is missing from now on
        unless a detection finds them.
        """
        boxes: list[Array] = []
        scores: list[float] = []
        for person in self.alive:
            box_4 = keypoint_box(person.joint_K3, self.track.keypoint_score, self.track.box_factor)
            if box_4 is None:
                continue
            box_4 = clipped(box_4, image_wh)
            if (box_4[2:] > box_4[:2]).all():
                boxes.append(box_4)
                scores.append(person.box_score)
        return Boxes(np.array(boxes).reshape(-1, 4), np.array(scores))

    def merge(self, detected: Boxes, tracked: Boxes) -> Boxes:
        """Detections, and the tracks' boxes that none of them overlaps by more than `merge_iou`."""
        if not detected.n or not tracked.n:
            return tracked if tracked.n else detected
        overlap_TN = box_iou(torch.from_numpy(tracked.box_N4), torch.from_numpy(detected.box_N4)).numpy()
        rest = overlap_TN.max(1) <= self.track.merge_iou
        return Boxes(
            np.concatenate([detected.box_N4, tracked.box_N4[rest]]),
            np.concatenate([detected.score_N, tracked.score_N[rest]]),
        )

    def follow(self, joint_NK3: Array, score_N: Array, boxes: Boxes, second: float, frame_s: float) -> Followed:
        """Take in the poses of a frame.

        Args:
            joint_NK3: x, y, score.
            score_N: instance scores.
            boxes: what each was found in: OKS takes areas from them.
            second: time of the frame.
            frame_s: seconds per frame.
        """
        kept = self._without_duplicates(joint_NK3, score_N, boxes.box_N4)
        joint_MK3, box_M4, box_score_M = joint_NK3[kept], boxes.box_N4[kept], boxes.score_N[kept]
        owner_M = self._match(joint_MK3, box_M4)
        for person in self.people:
            person.missing += 1
        who = [self.people[owner] if owner >= 0 else self._new() for owner in owner_M.tolist()]
        for m, person in enumerate(who):
            person.joint_K3, person.box_4, person.missing = joint_MK3[m], box_M4[m], 0
            person.box_score = float(box_score_M[m])
        seen_MK = joint_MK3[..., 2] >= self.track.keypoint_score
        row_M = np.array([person.row for person in who], np.int64)
        smooth_MK3 = joint_MK3.astype(np.float64)
        smooth_MK3[..., :2] = self._filter(row_M, joint_MK3[..., :2], second, seen_MK, frame_s)
        self._lost = any(p.missing == 1 for p in self.people)
        for person in self.people:
            if person.missing > self.track.max_missing:
                self._filter.forget(person.row)
        self.people = [p for p in self.people if p.missing <= self.track.max_missing]
        return Followed(kept, np.array([person.number for person in who], np.int64), smooth_MK3)

    def _new(self) -> Person:
        k = len(self.sigmas)
        person = Person(self._next, np.zeros((k, 3)), np.zeros(4), 1.0, 0, self._filter.new())
        self.people.append(person)
        self._next += 1
        return person

    def _without_duplicates(self, joint_NK3: Array, score_N: Array, box_N4: Array) -> NDArray[np.int64]:
        good = np.flatnonzero(score_N >= self.track.min_score)
        if self.track.oks_nms is None or len(good) < 2:
            return good[np.argsort(-score_N[good], kind="stable")]
        joint, score, area = (torch.from_numpy(v[good]) for v in (joint_NK3, score_N, box_area(box_N4)))
        return good[oks_nms(joint, score, area, self.sigmas, self.track.oks_nms).numpy()]

    def _match(self, joint_MK3: Array, box_M4: Array) -> NDArray[np.int64]:
        """Index into `people` of each pose, -1 for somebody new: greedily by OKS, then by IoU for the rest."""
        owner_M = np.full(len(joint_MK3), -1, np.int64)
        if not len(joint_MK3) or not self.people:
            return owner_M
        last_TK3 = np.stack([p.joint_K3 for p in self.people])
        last_T4 = np.stack([p.box_4 for p in self.people])
        oks_MT = oks_between(
            torch.from_numpy(joint_MK3[..., :2]),
            torch.from_numpy(box_area(box_M4)),
            torch.from_numpy(last_TK3[..., :2]),
            torch.from_numpy(box_area(last_T4)),
            self.sigmas,
        ).numpy()
        for m, t in greedy_pairs(oks_MT, self.track.match_oks):
            owner_M[m] = t
        if (owner_M >= 0).all():
            return owner_M
        iou_MT = box_iou(torch.from_numpy(box_M4), torch.from_numpy(last_T4)).numpy()
        iou_MT[owner_M >= 0] = iou_MT[:, owner_M[owner_M >= 0]] = -1.0
        for m, t in greedy_pairs(iou_MT, self.track.match_iou):
            owner_M[m] = t
        return owner_M


def greedy_pairs(likeness_MT: Array, least: float) -> list[tuple[int, int]]:
    """Pairs of a row and a column, each taken once, the likest first; those below `least` stay alone."""
    left_MT = np.where(likeness_MT >= least, likeness_MT, -1.0)
    pairs: list[tuple[int, int]] = []
    while left_MT.size and left_MT.max() >= 0:
        m, t = divmod(int(left_MT.argmax()), left_MT.shape[1])
        pairs.append((m, t))
        left_MT[m] = left_MT[:, t] = -1.0
    return pairs


def keypoint_box(joint_K3: Array, score: float, factor: float) -> Array | None:
    """The tight box around the keypoints of at least `score`, grown by `factor`; None for fewer than half of them.

    Returns:
        (x1, y1, x2, y2) in joint coordinates.
    """
    point_M2 = joint_K3[joint_K3[:, 2] >= score, :2]
    if len(point_M2) < -(-len(joint_K3) // 2):
        return None
    low, high = point_M2.min(0), point_M2.max(0)
    middle, half = (low + high) / 2, (high - low) / 2 * factor
    return np.concatenate([middle - half, middle + half])


def clipped(box_N4: Array, image_wh: tuple[int, int]) -> Array:
    """Boxes cut at the picture's edges."""
    limit = np.array(image_wh * 2) - EDGE
    return np.clip(box_N4, -EDGE, limit)


def box_area(box_N4: Array) -> Array:
    """Areas, pixels^2, at least one pixel: OKS divides by them."""
    return np.maximum((box_N4[..., 2:] - box_N4[..., :2]).clip(min=0).prod(-1), 1.0)
