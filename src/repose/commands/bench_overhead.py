"""What a video costs beside the networks: the real code around a pose network that knows the answer."""

from __future__ import annotations

import statistics
import time
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from repose.config import ExperimentBase, Loaded, Paper, SkeletonBlock
from repose.config import Test as Evaluation
from repose.engine.module import PoseModule, View
from repose.field.boxes import Boxes
from repose.field.options import Smooth, Track
from repose.field.predictor import Predictor
from repose.field.sources import Frame
from repose.field.video import Follower, Spent
from repose.geometry import apply_affine
from repose.skeleton import Skeleton
from repose.types import Batch, Poses

PEOPLE, SIZE_WH, RATE = 10, (1280, 720), 25.0
_TREMBLE = 1.0
"""[pixels] noise of the joints, so that the filter has something to do."""


class Knowing(PoseModule):
    """A pose network that knows where everybody is.

    Attributes:
        truth_NK2: joints of the people in the photograph.
    """

    truth_NK2: Tensor

    def build(self) -> nn.Module:
        """Nothing."""
        return nn.Identity()

    @property
    def stride(self) -> int:
        """Of no importance: there is no mirrored view."""
        return 4

    @property
    def weights(self) -> dict[str, float]:
        """It is never trained."""
        return {}

    def encode(self, batch: Batch) -> None:
        """It is never trained."""

    def losses(self, outputs: Any, targets: Any) -> dict[str, Tensor]:
        """It is never trained."""
        return {}

    def infer(self, views: list[View]) -> Batch:
        """What is looked at."""
        return views[0].batch

    def decode(self, outputs: Batch) -> list[Poses]:
        """The person nearest to each crop's middle, trembling."""
        middle_B2 = (outputs.box_img_B4[:, :2] + outputs.box_img_B4[:, 2:]) / 2
        who_B = torch.cdist(middle_B2, self.truth_NK2.mean(1)).argmin(1)
        joint_BK2 = self.truth_NK2[who_B].double()
        joint_BK2 = joint_BK2 + _TREMBLE * torch.randn_like(joint_BK2)
        linear_B22 = torch.linalg.inv(outputs.to_image_B23[:, :, :2])
        matrix_B23 = torch.cat([linear_B22, -linear_B22 @ outputs.to_image_B23[:, :, 2:]], -1)
        point_BK2 = apply_affine(joint_BK2, matrix_B23).float()
        joint_BK3 = torch.cat([point_BK2, torch.full_like(point_BK2[..., :1], 0.8)], -1)
        return [Poses(joint[None], joint[None, :, 2].mean(-1)) for joint in joint_BK3]


class Standing:
    """People in two rows, each as high as a third of the frame and more."""

    words = "standing people"

    def __init__(self, people: int, size_wh: tuple[int, int]) -> None:
        width, height = size_wh
        across = -(-people // 2)
        place_N2 = np.stack([np.arange(people) % across * width / across, np.arange(people) // across * height / 2], -1)
        size_2 = np.array([0.6 * width / across, 0.45 * height])
        self.boxes = Boxes(np.concatenate([place_N2 + 5, place_N2 + 5 + size_2], -1), np.full(people, 0.9))

    def __call__(self, image_HW3: np.ndarray, name: str, frame: int | None) -> Boxes:
        """The same boxes in every frame."""
        return self.boxes


def standing_people(skeleton: Skeleton, people: int = PEOPLE, size_wh: tuple[int, int] = SIZE_WH) -> Predictor:
    """A top-down predictor at 256x192 whose network finds them all, and needs no time for it."""
    block = SkeletonBlock(skeleton.name, skeleton.joints, skeleton.flip_pairs, skeleton.limbs, skeleton.sigmas)
    cfg = ExperimentBase(paper="knowing", skeleton=block, test=Evaluation(flip=False))
    module = Knowing(cfg, skeleton)
    boxes = Standing(people, size_wh)
    low, high = (torch.from_numpy(boxes.boxes.box_N4[:, part]).float()[:, None] for part in (slice(2), slice(2, 4)))
    share_K2 = torch.rand(skeleton.k, 2, generator=torch.Generator().manual_seed(0))
    share_K2[0], share_K2[-1] = 0.0, 1.0  # they fill their boxes
    module.truth_NK2 = low + share_K2 * (high - low)
    paper = Paper("knowing", "knows the answer", ExperimentBase, lambda: Knowing)
    return Predictor(Loaded(cfg, paper, {}), module, boxes, torch.device("cpu"))


def overhead(skeleton: Skeleton, track: Track, smooth: Smooth, frames: int = 100) -> dict[str, Any]:
    """CPU milliseconds of one thread per frame beside the networks, with ten people on a large frame.

    Args:
        skeleton: joints.
        track: settings.
        smooth: settings.
        frames: measured, after a fifth as many.

    Returns:
        `people`, `size`, and medians: `tracks_ms` (boxes of tracks, duplicates, who is who, filter), `crops_ms` (one
        warp per person and what belongs to it).
    """
    predictor = standing_people(skeleton)
    predictor.clock = time.thread_time
    width, height = SIZE_WH
    image = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    threads, cv_threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    follower = Follower(predictor, track, smooth, "overhead", clock=time.thread_time)
    spent: list[Spent] = []
    counts: set[int] = set()
    try:
        for n in range(frames + frames // 5):
            counts.add(follower(Frame(n, n / RATE, image), 1 / RATE).n)
            spent.append(follower.spent)
    finally:
        torch.set_num_threads(threads)
        cv2.setNumThreads(cv_threads)
    if counts != {PEOPLE}:
        raise RuntimeError(f"{sorted(counts)} of {PEOPLE} people were followed")
    counted = spent[frames // 5 :]
    return {
        "people": PEOPLE,
        "size": [height, width],
        "tracks_ms": 1000 * statistics.median(s.tracks for s in counted),
        "crops_ms": 1000 * statistics.median(s.crops for s in counted),
    }
