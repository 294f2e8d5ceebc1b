"""Settings of `repose predict` and `repose bench video`. Each field's docstring reads `[unit] text | source`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from repose.errors import UserError


@dataclass(frozen=True)
class Detect:
    """The person detector of `boxes=detector`."""

    model: str = ""
    """a detector of torchvision (fasterrcnn_mobilenet_v3_large_fpn, say), or the .onnx file of an RTMDet"""
    weights: str | None = None
    """[file] torchvision's weights; null = where torch.hub keeps them, if they are there"""
    size: int | None = None
    """[pixels] RTMDet: longer side of its input; null = what the file says, else 640"""
    score: float = 0.5
    """[score] lowest of a box that is used | DRP-Net spec. 5"""
    nms: float = 0.7
    """[IoU] boxes that overlap a better one by more are dropped | DRP-Net spec. 5"""
    min_side: float = 0.0
    """[pixels] smallest side of a box"""


@dataclass(frozen=True)
class Track:
    """From frame to frame."""

    interval: int = 5
    """[frames] top-down: the detector looks at every n-th; the others crop around the last keypoints | DRP-Net §2.4"""
    redetect: bool = True
    """top-down: detect too after a frame in which somebody was lost | not stated; our choice"""
    keypoint_score: float = 0.3
    """[score] keypoints below it make no box and are not filtered | our scores are heatmap maxima"""
    box_factor: float = 1.25
    """[factor] of the tight box around the last keypoints; the crop then adds its own padding | DRP-Net spec. 5"""
    merge_iou: float = 0.7
    """[IoU] a track's box that overlaps a detection by more is dropped | DRP-Net spec. 5"""
    oks_nms: float | None = 0.7
    """[OKS] poses of a frame that resemble a better one by more are dropped; null = none | DRP-Net spec. 5"""
    match_oks: float = 0.3
    """[OKS] least resemblance of a pose to its track | DRP-Net spec. 5"""
    match_iou: float = 0.4
    """[IoU] least overlap of the boxes, for poses that no OKS matched | DRP-Net spec. 5"""
    max_missing: int = 10
    """[frames] a track that was missing for more is forgotten | DRP-Net spec. 5"""
    min_score: float = 0.1
    """[score] poses below it are left out: methods without a detector guess a lot | not stated; our choice"""


@dataclass(frozen=True)
class Smooth:
    """The OneEuro filter over each keypoint (DRP-Net Eq. 13; Casiez et al., CHI 2012)."""

    preset: Literal["seconds", "frames", "off"] = "seconds"
    """seconds = frequencies in Hz; frames = mmdeploy's, per frame (nearly no smoothing); off = no filter"""
    min_cutoff: float = 1.0
    """[Hz, or 1/frame] cutoff at rest: lower = less jitter | DRP-Net spec. 5"""
    beta: float = 0.007
    """[per px/s, or per px/frame] rise of the cutoff with speed: higher = less lag. It counts pixels, so it lags more,
    for the size of a person, in small videos: raise it there | DRP-Net spec. 5"""
    d_cutoff: float = 1.0
    """[Hz, or 1/frame] cutoff of the speed | DRP-Net spec. 5"""
    reset_s: float = 1.0
    """[s] a keypoint not seen for longer starts anew | DRP-Net spec. 5"""


@dataclass(frozen=True)
class Draw:
    """Annotated pictures and video."""

    write: bool = True
    """write them"""
    score: float = 0.2
    """[score] people below it are not drawn; the files have everybody"""
    joints: float = 0.2
    """[score] joints at or below it are not drawn"""
    boxes: bool = False
    """draw boxes"""
    codec: Literal["vp8", "mp4v"] = "vp8"
    """vp8 = .webm (browsers and notebooks play it); mp4v = .mp4"""


@dataclass(frozen=True)
class Bench:
    """Settings of `repose bench video`."""

    checkpoint: str | None = None
    """[file or run folder] the pose network"""
    intervals: tuple[int, ...] = (1, 2, 5, 10)
    """[frames] between two looks of the detector; top-down methods"""
    frames: int = 100
    """[frames] of the drawn clip, or most of a video"""
    warm: int = 3
    """[frames] before the clock starts"""
    people: tuple[int, int] = (2, 4)
    """[people] drawn clip: fewest, most"""
    size: tuple[int, int] = (256, 320)
    """[pixels] drawn clip: height, width"""
    seed: int = 7
    """drawn clip: another one is another clip"""
    boxes: str = "drawn"
    """drawn clip: drawn = boxes as a detector might find them (some missed, some false), gt = the true ones; a video:
    full_frame, detector or a COCO file"""
    time_detector: str | None = "fasterrcnn_mobilenet_v3_large_320_fpn"
    """a detector of torchvision that runs beside boxes that cost nothing, for its time alone; null = none"""
    detector: Detect = Detect()
    """of boxes=detector"""
    device: str = "auto"
    """auto, cpu, cuda, ..."""
    threads: int | None = None
    """[threads] of torch on the CPU"""
    plot: str | None = "predictions/bench-video.png"
    """[file] the figure; null = none"""
    track: Track = Track()
    smooth: Smooth = Smooth()


@dataclass(frozen=True)
class Options:
    """`repose predict`."""

    checkpoint: str | None = None
    """[file or run folder] a checkpoint of any method, converted published weights, or an exported .onnx file"""
    boxes: str = "full_frame"
    """top-down methods: full_frame | detector | a COCO file (results or annotations) with boxes"""
    detector: Detect = Detect()
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps"""
    batch: int | None = None
    """[crops or images] that the network sees at once; null = the checkpoint's test.batch"""
    threads: int | None = None
    """[threads] of torch on the CPU; null = torch's own choice"""
    frames: int | None = None
    """[frames] most of a video or webcam"""
    masks: bool = True
    """write masks where the method has them"""
    track: Track = Track()
    smooth: Smooth = Smooth()
    draw: Draw = Draw()

    def check(self) -> None:
        """Refuse numbers that mean nothing.

        Raises:
            UserError: names the first.
        """
        track, smooth, detector = self.track, self.smooth, self.detector
        least_one = {"track.interval": track.interval, "batch": self.batch, "threads": self.threads}
        least_one |= {"frames": self.frames, "detector.size": detector.size}
        for key, value in least_one.items():
            if value is not None and value < 1:
                raise UserError(f"{key}={value}: give a whole number from 1 on")
        shares = {
            "track.merge_iou": track.merge_iou,
            "track.oks_nms": track.oks_nms,
            "track.match_oks": track.match_oks,
            "track.match_iou": track.match_iou,
            "detector.nms": detector.nms,
        }
        for key, value in shares.items():
            if value is not None and not 0 <= value <= 1:
                raise UserError(f"{key}={value:g}: give a number from 0 to 1")
        above = {"smooth.min_cutoff": smooth.min_cutoff, "smooth.d_cutoff": smooth.d_cutoff}
        above |= {"track.box_factor": track.box_factor, "smooth.reset_s": smooth.reset_s}
        for key, value in above.items():
            if not (value > 0 and math.isfinite(value)):
                raise UserError(f"{key}={value:g}: give a number above 0")
        if not (smooth.beta >= 0 and math.isfinite(smooth.beta)):
            raise UserError(f"smooth.beta={smooth.beta:g}: give a number from 0 on")
        if track.max_missing < 0:
            raise UserError(f"track.max_missing={track.max_missing}: give a whole number from 0 on")
