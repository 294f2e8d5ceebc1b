"""CGANet as a PoseModule, single (image view) and separated (person view)."""

from __future__ import annotations

import torch
from torch import Tensor

from repose.data.masks import refuse_without_masks
from repose.engine.graph import Graph
from repose.engine.module import PoseModule, View
from repose.errors import UserError
from repose.ops.boxes import box_iou
from repose.ops.crops import CropHeatmaps, crop_heatmaps, heatmap_people
from repose.papers.cganet import separated
from repose.papers.cganet.config import Experiment
from repose.papers.cganet.decode import Outputs as Found
from repose.papers.cganet.decode import decode, detect, extend, poses, probabilities, see
from repose.papers.cganet.graph import CGANetGraph
from repose.papers.cganet.losses import losses
from repose.papers.cganet.model import PRIOR, CGANet, Outputs, Separated
from repose.papers.cganet.targets import STRIDE, Targets, encode, with_predicted
from repose.skeleton import Skeleton
from repose.types import Batch, Poses

_FOUND_IOU = 0.5


def cganet_module(cfg: Experiment, skeleton: Skeleton) -> PoseModule:
    """The module that `model.kind` names."""
    return (CGANetModule if cfg.model.kind == "single" else SeparatedModule)(cfg, skeleton)


class CGANetModule(PoseModule):
    """The single model."""

    cfg: Experiment
    net: CGANet

    def build(self) -> CGANet:
        """The network."""
        return CGANet(self.cfg.model, self.skeleton.k)

    def graph(self) -> Graph:
        """See graph.py."""
        if self.cfg.model.roi.kind == "pooler":
            raise UserError(
                "model.roi.kind=pooler is no ONNX graph: which level a box is read from depends on its size"
            )
        return CGANetGraph(self.net)

    @property
    def stride(self) -> int:
        """Input pixels per cell of the detection maps."""
        return STRIDE

    @property
    def weights(self) -> dict[str, float]:
        """Total Loss, with `mask` in place of `keypoint` where masks are the task."""
        names = ("det", "wh", "off", "line_x", "line_y", "keypoint", "mask")
        return {name: getattr(self.cfg.loss, name) for name in names}

    @property
    def masks(self) -> bool:
        """Whether the task is masks."""
        return self.cfg.model.task == "masks"

    def on_fit_start(self) -> None:
        """Refuse to train masks where the training file has none; keypoints go on without them."""
        if self.masks:
            refuse_without_masks(self.trainer.datamodule.train_set.annotations)  # pyright: ignore[reportAttributeAccessIssue]

    def encode(self, batch: Batch) -> Targets:
        """Detection targets and training regions."""
        return encode(batch, self.cfg.loss, self.masks, self.progress)

    def forward_train(self, image_BCHW: Tensor, batch: Batch, targets: Targets) -> Outputs:
        """Maps, and heatmaps of the regions that `loss.roi_source` names."""
        pyramid = self.net.pyramid(image_BCHW)
        maps, rois = self.net.maps(pyramid), targets.rois
        if self.cfg.loss.roi_source == "pred_mix" and targets.progress >= self.cfg.loss.roi_pred_from:
            with torch.no_grad():
                found = detect(probabilities(maps), self.cfg.decode)
                rois = with_predicted(rois, found.box_cell_N4 * STRIDE, found.owner_N, targets.people)
        heatmaps = self.net.heatmaps(pyramid, rois.box_in_R4, rois.owner_R)
        return Outputs(maps, heatmaps, rois.box_in_R4, rois.person_R, rois.weight_R)

    def losses(self, outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
        """See `losses.losses`; float32."""
        with torch.autocast(self.device.type, enabled=False):
            return losses(outputs, targets, self.cfg.loss, self.masks)

    def infer(self, views: list[View]) -> Found:
        """See the image once, detect, extend, look into the boxes."""
        if any(view.scale != views[0].scale for view in views):
            raise UserError("data.test_scales: CGANet's boxes are found at one scale; give one, [1.0]")
        scene = see(self.net, [view.image_BCHW for view in views], [view.mirrored for view in views])
        detections = detect(scene.maps, self.cfg.decode)
        box_in_N4 = extend(detections, scene.maps, self.cfg.decode)
        heatmap = poses(self.net, scene, box_in_N4, detections.owner_N, self.skeleton.flip_index)
        return Found(detections, box_in_N4, heatmap, views[0].image_BCHW.shape[0], scene.input_wh)

    def decode(self, outputs: Found) -> list[Poses]:
        """People of each image."""
        return decode(outputs, self.cfg.decode, self.skeleton.k, self.masks)

    def read_outs(self, outputs: Found, batch: Batch, poses: list[Poses]) -> dict[str, tuple[Tensor, Tensor]]:
        """Share of annotated boxes that a coarse box covers to IoU 0.5, and mean extension per side, input pixels."""
        coarse_N4 = outputs.detections.box_cell_N4 * STRIDE
        moved = (outputs.box_in_N4 - coarse_N4).abs()
        people = batch.people
        found = torch.zeros((), device=coarse_N4.device)
        if people.n and len(coarse_N4):
            same_MN = people.owner_N[:, None] == outputs.detections.owner_N
            found = ((box_iou(people.box_N4.float(), coarse_N4) * same_MN).amax(-1) >= _FOUND_IOU).float().sum()
        return {
            "boxes_found": (found, found.new_tensor(people.n)),
            "extension_px": (moved.sum(), moved.new_tensor(moved.numel())),
        }


class SeparatedModule(PoseModule):
    """The separated model: one person per crop."""

    cfg: Experiment

    def build(self) -> Separated:
        """The network."""
        return Separated(self.cfg.model, self.skeleton.k, PRIOR if self.cfg.loss.separated == "focal" else 0.0)

    @property
    def stride(self) -> int:
        """Input pixels per cell of the heatmaps."""
        return STRIDE

    @property
    def weights(self) -> dict[str, float]:
        """The one loss."""
        return {"heatmap": self.cfg.loss.heatmap}

    def encode(self, batch: Batch) -> CropHeatmaps:
        """A Gaussian at the cell nearest to each labelled joint (HRNet's targets; the paper does not say)."""
        return crop_heatmaps(batch, self.skeleton.k, STRIDE, self.cfg.loss.separated_sigma)

    def losses(self, outputs: Tensor, targets: CropHeatmaps) -> dict[str, Tensor]:
        """`heatmap`, in float32."""
        with torch.autocast(self.device.type, enabled=False):
            return separated.losses(outputs, targets, self.cfg.loss)

    def infer(self, views: list[View]) -> Tensor:
        """Heatmaps averaged over the views."""
        if any(view.scale != views[0].scale for view in views):
            raise UserError("data.test_scales: the separated model sees one crop per person; give one scale, [1.0]")
        found = [self.net(view.image_BCHW) for view in views]
        return separated.merge(found, [view.mirrored for view in views], self.skeleton.flip_index, self.cfg.loss)

    def decode(self, outputs: Tensor) -> list[Poses]:
        """One person per crop."""
        return heatmap_people(outputs, STRIDE, self.cfg.decode.peak)
