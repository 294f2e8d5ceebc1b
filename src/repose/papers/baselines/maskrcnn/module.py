"""Mask R-CNN as a PoseModule: wires model, targets and decode; the losses are torchvision's."""

from __future__ import annotations

from torch import Tensor

from repose.data.masks import refuse_without_masks
from repose.engine.graph import Graph
from repose.engine.module import PoseModule, View
from repose.errors import UserError
from repose.papers.baselines.maskrcnn.config import Experiment
from repose.papers.baselines.maskrcnn.decode import Outputs, decode, infer
from repose.papers.baselines.maskrcnn.model import RCNN
from repose.papers.baselines.maskrcnn.targets import Targets, encode, sizes
from repose.types import Batch, Poses


class MaskRCNNModule(PoseModule):
    """Mask R-CNN and Keypoint R-CNN (one image with all its people)."""

    cfg: Experiment
    net: RCNN

    def build(self) -> RCNN:
        """The network."""
        return RCNN(self.cfg.model, self.cfg.loss, self.cfg.decode, self.skeleton.k)

    def graph(self) -> Graph:
        """None."""
        raise UserError(
            "Mask R-CNN is no ONNX graph here: torchvision picks its proposals and boxes inside the network, image by "
            "image, in lists of varying length"
        )

    @property
    def stride(self) -> int:
        """1: a mirrored view is the mirrored picture, boxes and maps are mirrored with it."""
        return 1

    @property
    def weights(self) -> dict[str, float]:
        """Of torchvision's losses."""
        third = "mask" if self.cfg.model.task == "masks" else "keypoint"
        names = ("objectness", "rpn_box_reg", "classifier", "box_reg", third)
        return {name: getattr(self.cfg.loss, name) for name in names}

    def on_fit_start(self) -> None:
        """Refuse to train masks without any, and a random network with frozen batch norms: it learns nothing of use."""
        if self.cfg.model.task == "masks" and self._trainer is not None:
            refuse_without_masks(self.trainer.datamodule.train_set.annotations)  # pyright: ignore[reportAttributeAccessIssue]
        model = self.cfg.model
        given = (model.weights, model.backbone.weights, self.cfg.init, self.cfg.resume)
        if model.backbone.norm == "frozen" and not any(given):
            raise UserError(
                "model.backbone.norm=frozen needs weights: give model.backbone.weights=FILE or model.weights=FILE, "
                "or train from scratch with model.backbone.norm=batch model.backbone.trainable=5"
            )

    def encode(self, batch: Batch) -> Targets:
        """Boxes, joints and masks by image."""
        return encode(batch, self.cfg.loss)

    def forward_train(self, image_BCHW: Tensor, batch: Batch, targets: Targets) -> dict[str, Tensor]:
        """The losses: torchvision computes them on the way."""
        return self.net.train_losses(image_BCHW, targets)

    def losses(self, outputs: dict[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        """`objectness`, `rpn_box_reg`, `classifier`, `box_reg`, and `keypoint` or `mask`."""
        return outputs

    def infer(self, views: list[View]) -> Outputs:
        """Boxes, and maps in them averaged with the mirrored view's."""
        if any(view.scale != views[0].scale for view in views):
            raise UserError("data.test_scales: Mask R-CNN's boxes are found at one scale; give one, [1.0]")
        images, mirrored = [view.image_BCHW for view in views], [view.mirrored for view in views]
        return infer(self.net, images, mirrored, sizes(views[0].batch), self.skeleton.flip_index)

    def decode(self, outputs: Outputs) -> list[Poses]:
        """People of each image."""
        return decode(outputs, self.skeleton.k, self.cfg.model.task == "masks")
