"""Many decode settings of one network in one pass over the images (Different Settings in Dichotomy Extended Area).

Pyramid and detection maps are computed once per image, boxes of all settings together, heatmaps once per distinct box.
Shapes: B images, S settings, N detections of all images, U distinct boxes of all images and settings, K joints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from repose.engine.evaluation import Evaluator
from repose.engine.module import Evaluated, pose_area, to_photograph
from repose.papers.cganet.config import Decode
from repose.papers.cganet.decode import (
    ROI_CHUNK,
    Detections,
    Outputs,
    Scene,
    detect,
    extend,
    extend_many,
    joints,
    poses,
    see,
)
from repose.papers.cganet.module import CGANetModule
from repose.papers.cganet.targets import STRIDE
from repose.types import Batch, Poses

QUANTUM = 1 / 64
"""[cells] edges of boxes are rounded to multiples of it (a sixteenth of a pixel): the search ends a thousandth of its
range from 0 or from the most it may add, which is one box for many settings."""


def together(scene: Scene, cfgs: Sequence[Decode]) -> list[tuple[Detections, Tensor]]:
    """Detections and extended boxes (N, 4) in input pixels, rounded to `QUANTUM`, of each setting.

    Settings that detect alike share their detections, and the dichotomy's are searched at once.
    """
    found: dict[int, tuple[Detections, Tensor]] = {}
    detected: dict[tuple[object, ...], list[int]] = {}
    for i, cfg in enumerate(cfgs):
        detected.setdefault((cfg.top, cfg.ambiguity, cfg.alpha, cfg.beta), []).append(i)
    for members in detected.values():
        detections = detect(scene.maps, cfgs[members[0]])
        searches: dict[tuple[object, ...], list[int]] = {}
        for i in members:
            if cfgs[i].extend == "dichotomy":
                searches.setdefault((cfgs[i].iterations, cfgs[i].direction), []).append(i)
            else:
                found[i] = detections, _rounded(extend(detections, scene.maps, cfgs[i]))
        for same in searches.values():
            ratio_S = detections.score_N.new_tensor([cfgs[i].ratio for i in same])
            thre_S = detections.score_N.new_tensor([cfgs[i].thre for i in same])
            boxes_SN4 = _rounded(extend_many(detections, scene.maps, ratio_S, thre_S, cfgs[same[0]]) * STRIDE)
            found |= {i: (detections, box_N4) for i, box_N4 in zip(same, boxes_SN4, strict=True)}
    return [found[i] for i in range(len(cfgs))]


def _rounded(box_in_N4: Tensor) -> Tensor:
    quantum = QUANTUM * STRIDE
    return (box_in_N4 / quantum).round() * quantum


def distinct(found: Sequence[tuple[Detections, Tensor]]) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Each box once.

    Returns:
        box_in_U4; owner_U, rising; and for each setting the row (N,) of each of its boxes among them.
    """
    rows = [torch.cat([d.owner_N[:, None].to(box.dtype), box], dim=1) for d, box in found]
    unique_U5, row = torch.cat(rows).unique(dim=0, return_inverse=True)  # sorted by owner, then box
    return unique_U5[:, 1:], unique_U5[:, 0].long(), list(row.split([len(r) for r in rows]))


class GridModule(CGANetModule):
    """The single model, tested at many settings of `decode` at once.

    Attributes:
        decodes: the settings.
        receivers: what gets the evaluated batches of each setting.
        images: images seen.
        boxes: boxes of all settings.
        looked: boxes that went through the ROI branch.
    """

    decodes: Sequence[Decode] = ()
    receivers: Sequence[Callable[[Evaluated], None]] = ()
    images = 0
    boxes = 0
    looked = 0

    def test_step(self, batch: list[Batch], batch_idx: int) -> None:
        """Evaluate one batch at every setting."""
        if batch[0].b == 0:
            return
        for receive, evaluated in zip(self.receivers, self.evaluate_all(batch), strict=True):
            receive(evaluated)

    def evaluate_all(self, batches: list[Batch]) -> list[Evaluated]:
        """What `evaluate` gives, for every setting."""
        batch, views = batches[0], self.views(batches)
        scene = see(self.net, [v.image_BCHW for v in views], [v.mirrored for v in views])
        found = together(scene, self.decodes)
        box_U4, owner_U, rows = distinct(found)
        joint_UK3 = self._joints(scene, box_U4, owner_U)
        self.images += batch.b
        self.boxes += sum(len(row) for row in rows)
        self.looked += len(box_U4)
        every: list[Evaluated] = []
        for cfg, (detections, box_N4), row_N in zip(self.decodes, found, rows, strict=True):
            people = _people(detections, box_N4, joint_UK3[cfg.peak][row_N], batch.b, cfg)
            outputs = Outputs(detections, box_N4, box_N4.new_zeros(0, 1, 1, 1), batch.b, scene.input_wh)
            image = to_photograph(people, batch)
            sums = self.read_outs(outputs, batch, people)
            every.append(Evaluated(batch, people, image, [pose_area(p) for p in image], sums))
        return every

    def _joints(self, scene: Scene, box_U4: Tensor, owner_U: Tensor) -> dict[str, Tensor]:
        """Joints (U, K, 3) in each distinct box, by `decode.peak`; a chunk of heatmaps at a time bounds the memory."""
        kinds = {cfg.peak: cfg for cfg in self.decodes}
        found: dict[str, list[Tensor]] = {peak: [box_U4.new_zeros(0, self.skeleton.k, 3)] for peak in kinds}
        for box, owner in zip(box_U4.split(ROI_CHUNK), owner_U.split(ROI_CHUNK), strict=True):
            if len(box) == 0:
                continue
            heatmap = poses(self.net, scene, box, owner, self.skeleton.flip_index)
            for peak, cfg in kinds.items():
                found[peak].append(joints(heatmap, box, cfg))
        return {peak: torch.cat(parts) for peak, parts in found.items()}


def _people(detections: Detections, box_N4: Tensor, joint_NK3: Tensor, b: int, cfg: Decode) -> list[Poses]:
    """People of each image, as `decode.decode` makes them of heatmaps."""
    score_N = detections.score_N
    if cfg.score == "box_x_kp":
        score_N = score_N * joint_NK3[..., 2].mean(-1)
    coarse_N22 = (detections.box_cell_N4 * STRIDE).view(-1, 2, 2)
    owner_N = detections.owner_N
    return [
        Poses(joint_NK3[mine], score_N[mine], box_N4[mine], extra={"coarse_NK2": coarse_N22[mine]})
        for mine in (owner_N == i for i in range(b))
    ]


class Receivers(Callback):
    """One evaluator per setting of a `GridModule`."""

    def __init__(self, evaluators: Sequence[Evaluator]) -> None:
        """Args: evaluators: in the order of the module's `decodes`."""
        self.evaluators = evaluators

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make the metrics."""
        for one in self.evaluators:
            one.setup(trainer, pl_module, stage)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Empty the metrics, and collect what they take batches by."""
        assert isinstance(pl_module, GridModule)
        receivers: list[Callable[[Evaluated], None]] = []
        for one in self.evaluators:
            one.on_test_start(trainer, pl_module)
            assert pl_module.evaluated is not None
            receivers.append(pl_module.evaluated)
        pl_module.receivers = receivers

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score."""
        for one in self.evaluators:
            one.on_test_epoch_end(trainer, pl_module)
