"""What a prediction gives: the people of one picture, with joint names, masks, files and drawings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from repose import viz
from repose.geometry import EDGE
from repose.metrics.keypoint_ap import COORDINATE_DECIMALS, SCORE_DECIMALS
from repose.metrics.mask_ap import run_length
from repose.skeleton import Skeleton
from repose.types import Poses


@dataclass(frozen=True, eq=False, kw_only=True)
class PicturePoses(Poses):
    """People found in one picture, best first. All coordinates are the picture's pixels (pixel centres at integers).

    Attributes:
        joint_NK3: x, y and score of each joint.
        score_N: instance scores.
        box_N4: (x1, y1, x2, y2): the box that was cropped (top-down), else the method's, else around the joints.
        mask_NHW: bool, at the picture's size; None where the method has no masks.
        skeleton: the joints' names, limbs and sigmas.
        image_HW3: the picture, RGB uint8.
        source: where it came from: a file name, `clip.mp4#12`, `array 3`.
        track_N: int64, who is who from frame to frame; None outside videos.
        frame: number of the video's frame from 0; None for pictures.
        second: time of the frame.
    """

    skeleton: Skeleton
    image_HW3: viz.Image
    source: str
    track_N: Tensor | None = None
    frame: int | None = None
    second: float | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The joints' names, in the order of `joint_NK3`."""
        return self.skeleton.joints

    @property
    def scores(self) -> Tensor:
        """Instance scores, (N,)."""
        return self.score_N

    @property
    def masks(self) -> Tensor | None:
        """(N, H, W) bool masks at the picture's size; None where the method has none."""
        return self.mask_NHW

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height of the picture."""
        return self.image_HW3.shape[1], self.image_HW3.shape[0]

    def joint(self, name: str) -> Tensor:
        """x, y and score of one joint of everybody, (N, 3).

        Raises:
            UserError: there is no such joint.
        """
        return self.joint_NK3[:, self.skeleton.index(name)]

    def keep(self, index_M: Tensor) -> PicturePoses:
        """The people of these indices (or of a bool mask), in that order."""

        def some(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor[index_M]

        extra = None if self.extra is None else {name: t[index_M] for name, t in self.extra.items()}
        return replace(
            self,
            joint_NK3=self.joint_NK3[index_M],
            score_N=self.score_N[index_M],
            box_N4=some(self.box_N4),
            mask_NHW=some(self.mask_NHW),
            track_N=some(self.track_N),
            extra=extra,
        )

    def above(self, score: float) -> PicturePoses:
        """The people whose instance score is at least `score`."""
        return self.keep(torch.nonzero(self.score_N >= score)[:, 0])

    def to_coco(self, image_id: int = 0, masks: bool = False) -> list[dict[str, Any]]:
        """The people in COCO's result format, as `repose test` writes them.

        There is no `bbox`: with one, pycocotools takes the area from it, and AP by size changes.

        Args:
            image_id: of the picture.
            masks: segmentation results (run lengths) in the place of keypoints; [] where the method has none.
        """
        score_N = (self.extra or {}).get("mask_score_N", self.score_N) if masks else self.score_N
        results: list[dict[str, Any]] = []
        for n, score in enumerate(score_N.detach().cpu().double().tolist()):
            result: dict[str, Any] = {"image_id": image_id, "category_id": 1}
            if masks:
                if self.mask_NHW is None:
                    return []
                mask_HW = self.mask_NHW[n].cpu().numpy()
                counts = run_length(mask_HW).decode("ascii")
                result["segmentation"] = {"size": list(mask_HW.shape), "counts": counts}
            else:
                joints = self.joint_NK3[n].detach().cpu().double().numpy().ravel()
                result["keypoints"] = np.round(joints, COORDINATE_DECIMALS).tolist()
            result["score"] = round(score, SCORE_DECIMALS)
            if self.track_N is not None:
                result["track_id"] = int(self.track_N[n])
            results.append(result)
        return results

    def draw(self, threshold: float = 0.2, score: float = 0.0, boxes: bool = False, fast: bool = False) -> viz.Image:
        """The picture with its people.

        Args:
            threshold: joints with scores at or below it are left out.
            score: people with lower scores are left out.
            boxes: draw the boxes too.
            fast: plain lines, for video.

        Returns:
            RGB uint8 (H, W, 3), a new picture.
        """
        shown = self.above(score) if score > 0 else self
        colours = [viz.person_colour(n) for n in shown._numbers()]
        canvas = self.image_HW3
        if shown.mask_NHW is not None:
            canvas = viz.draw_masks(canvas, shown.mask_NHW, colours)
        joint_NK3 = shown.joint_NK3.detach().cpu().numpy()
        if fast:
            canvas = viz.sketch_poses(canvas, joint_NK3, self.skeleton, threshold)
        else:
            canvas = viz.draw_poses(canvas, joint_NK3, self.skeleton, "score", threshold)
        if (boxes or self.track_N is not None) and shown.box_N4 is not None and shown.n:
            labels = None if shown.track_N is None else [f"#{track}" for track in shown.track_N.tolist()]
            canvas = viz.draw_boxes(canvas, shown.box_N4.cpu(), labels, colours)
        return canvas

    def _numbers(self) -> list[int]:
        return list(range(self.n)) if self.track_N is None else [int(t) for t in self.track_N]


def row_names(skeleton: Skeleton) -> list[str]:
    """Columns of a CSV file of poses, one row per person; x1 to y2 are edges: the first pixel spans [0, 1]."""
    joints = [f"{joint}_{value}" for joint in skeleton.joints for value in ("x", "y", "score")]
    return ["source", "frame", "second", "person", "track", "score", "x1", "y1", "x2", "y2", *joints]


def rows(poses: PicturePoses) -> list[list[Any]]:
    """A picture's people as rows of a CSV file; what does not apply is empty."""
    found: list[list[Any]] = []
    box_N4 = np.full((poses.n, 4), np.nan) if poses.box_N4 is None else poses.box_N4.cpu().numpy() + EDGE
    second = "" if poses.second is None else f"{poses.second:.4f}"
    for n in range(poses.n):
        head = [poses.source, "" if poses.frame is None else poses.frame, second, n]
        track = "" if poses.track_N is None else int(poses.track_N[n])
        joints = [f"{value:.4f}" for value in poses.joint_NK3[n].flatten().tolist()]
        box = ["" if np.isnan(value) else f"{value:.2f}" for value in box_N4[n].tolist()]
        found.append([*head, track, f"{float(poses.score_N[n]):.6f}", *box, *joints])
    return found
