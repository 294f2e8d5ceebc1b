"""People in a video: the detector at every n-th frame, tracks between, duplicates dropped, keypoints smoothed.

Source: DRP-Net §2.4 (spec. 5). What is decided is `tracking.Tracker`'s; here frames meet networks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from repose.field.boxes import NONE, Boxes
from repose.field.options import Smooth, Track
from repose.field.poses import PicturePoses
from repose.field.predictor import BOX_SCORE, Predictor
from repose.field.sources import Frame, Picture, Video
from repose.field.tracking import Tracker

MEASURED = "measured_NK2"
"""Key of `PicturePoses.extra`: the keypoints before the filter."""


@dataclass
class Spent:
    """Seconds spent on one frame.

    Attributes:
        detector: by the person detector, 0 where it did not look.
        network: by the pose network: normalisation, mirrored view, network, decoding.
        crops: by its inputs and outputs: one warp per person, as in an evaluation, and the way back.
        tracks: by everything else: boxes of tracks, duplicates, who is who, filter.
    """

    detector: float = 0.0
    network: float = 0.0
    crops: float = 0.0
    tracks: float = 0.0

    @property
    def whole(self) -> float:
        """All of it."""
        return self.detector + self.network + self.crops + self.tracks


@dataclass
class Follower:
    """Follows people from frame to frame.

    Attributes:
        predictor: finds them.
        track: settings.
        smooth: settings of the filter.
        name: of the video.
        clock: seconds: `time.perf_counter`, or `time.thread_time` for the CPU time of this thread.
        spent: on the last frame.
    """

    predictor: Predictor
    track: Track
    smooth: Smooth
    name: str
    clock: Callable[[], float] = time.perf_counter
    spent: Spent = field(default_factory=Spent)

    def __post_init__(self) -> None:
        self.tracker = Tracker(self.track, self.smooth, self.predictor.skeleton.sigmas)

    def __call__(self, frame: Frame, frame_s: float) -> PicturePoses:
        """The people of the next frame, filtered, with their tracks; `extra["measured_NK2"]` has them as measured.

        Args:
            frame: of the same video as those before.
            frame_s: seconds per frame.
        """
        begin = self.clock()
        predictor, picture = self.predictor, Picture(frame.image_HW3, f"{self.name}#{frame.number}")
        self.spent = Spent()
        before = predictor.network_s
        boxes = [self._boxes(picture, frame.number)] if predictor.top_down else None
        seen = self.clock()
        (found,) = predictor.see([picture], boxes)
        looked_s = self.clock() - seen
        box_N4 = np.zeros((0, 4)) if found.box_N4 is None else found.box_N4.double().numpy()
        score_N = (found.extra or {}).get(BOX_SCORE, found.score_N).double().numpy()
        joint_NK3 = found.joint_NK3.double().numpy()
        looked = Boxes(box_N4, score_N)
        followed = self.tracker.follow(joint_NK3, found.score_N.double().numpy(), looked, frame.second, frame_s)
        kept = found.keep(torch.from_numpy(followed.index_M))
        poses = replace(
            kept,
            joint_NK3=torch.from_numpy(followed.joint_MK3).float(),
            track_N=torch.from_numpy(followed.number_M),
            extra={**(kept.extra or {}), MEASURED: kept.joint_NK3[..., :2]},
            frame=frame.number,
            second=frame.second,
        )
        self.spent.network = predictor.network_s - before
        self.spent.crops = looked_s - self.spent.network
        self.spent.tracks = self.clock() - begin - looked_s - self.spent.detector
        return poses

    def _boxes(self, picture: Picture, number: int) -> Boxes:
        height, width = picture.image_HW3.shape[:2]
        tracked = self.tracker.boxes((width, height))
        detected = NONE
        if self.tracker.wants_detection(number):
            begin = self.clock()
            detected = self.predictor.boxes(picture.image_HW3, picture.source, number)
            self.spent.detector = self.clock() - begin
        return self.tracker.merge(detected, tracked)


def follow(
    predictor: Predictor,
    video: Video,
    track: Track | None = None,
    smooth: Smooth | None = None,
    frames: int | None = None,
) -> Iterator[PicturePoses]:
    """The people of a video, frame by frame.

    Args:
        predictor: finds them.
        video: an opened one; `video.problems()` says afterwards which frames could not be read.
        track: settings; None = the defaults.
        smooth: settings of the filter; None = the defaults.
        frames: most frames; None = all.
    """
    follower = Follower(predictor, track or Track(), smooth or Smooth(), video.name)
    for frame in video:
        yield follower(frame, 1 / video.fps)
        if frames is not None and frame.number + 1 >= frames:
            return
