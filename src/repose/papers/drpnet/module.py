"""DRP-Net as a PoseModule: wires model, targets, losses and decode."""

from __future__ import annotations

import torch
from torch import Tensor

from repose.engine.module import PoseModule, View
from repose.errors import UserError
from repose.papers.drpnet.config import Experiment
from repose.papers.drpnet.decode import decode, infer
from repose.papers.drpnet.graph import DRPNetGraph
from repose.papers.drpnet.losses import losses
from repose.papers.drpnet.model import DRPNet, Outputs
from repose.papers.drpnet.targets import Canvas, Targets, encode, eval_centres, train_centres
from repose.types import Batch, Poses


class DRPNetModule(PoseModule):
    """DRP-Net (top-down: one person per crop)."""

    cfg: Experiment
    net: DRPNet
    ap_read_outs = {"coarse_AP": "coarse_NK2"}  # noqa: RUF012 - a constant of the class

    def build(self) -> DRPNet:
        """The network."""
        return DRPNet(self.cfg.model, self.skeleton.k)

    def graph(self) -> DRPNetGraph:
        """See graph.py."""
        return DRPNetGraph(self.net)

    @property
    def canvas(self) -> Canvas:
        """Geometry of the ROIs."""
        return Canvas.of(self.cfg.model)

    @property
    def stride(self) -> int:
        """Input pixels per cell of F."""
        return self.cfg.model.neck.stride

    @property
    def weights(self) -> dict[str, float]:
        """Eq. 11."""
        return {"coarse": self.cfg.loss.coarse, "fine": self.cfg.loss.fine}

    def encode(self, batch: Batch) -> Targets:
        """Ground truth by crop."""
        return encode(batch, self.skeleton.k, self.progress)

    def forward_train(self, image_BCHW: Tensor, batch: Batch, targets: Targets) -> Outputs:
        """Outputs with ROIs where `loss.roi_source` says."""
        features = self.net.features(image_BCHW)
        coarse_BK2 = self.net.coarse(features, targets.input_wh)
        return self.net.refine(features, coarse_BK2, train_centres(coarse_BK2, targets, self.cfg.loss, self.canvas))

    def losses(self, outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
        """`coarse` and `fine`, in float32."""
        with torch.autocast(self.device.type, enabled=False):
            return losses(outputs, targets, self.cfg.loss, self.canvas)

    def infer(self, views: list[View]) -> Outputs:
        """All views merged at a common ROI centre."""
        if any(view.scale != views[0].scale for view in views):
            raise UserError("data.test_scales: DRP-Net sees one crop per person; give one scale, [1.0]")
        batch = views[0].batch

        def centres(coarse_BK2: Tensor) -> Tensor:
            targets = encode(batch, self.skeleton.k)
            if self.cfg.decode.centre != "pred" and not bool(targets.person_B.all()):
                raise UserError(
                    f"decode.centre={self.cfg.decode.centre} needs the ground truth of every crop; set data.boxes=gt"
                )
            return eval_centres(coarse_BK2, targets, self.cfg.decode, self.cfg.loss, self.canvas)

        images = [view.image_BCHW for view in views]
        return infer(self.net, images, [v.mirrored for v in views], self.skeleton.flip_index, centres)

    def decode(self, outputs: Outputs) -> list[Poses]:
        """One person per crop."""
        return decode(outputs, self.cfg.decode, self.canvas, self.cfg.loss.sigma)

    def read_outs(self, outputs: Outputs, batch: Batch, poses: list[Poses]) -> dict[str, tuple[Tensor, Tensor]]:
        """Share of labelled joints inside their ROI, and mean coarse and final error in input pixels."""
        targets = encode(batch, self.skeleton.k)
        weight_BK, count = targets.weight_BK, targets.weight_BK.sum()
        final_BK2 = torch.cat([pose.joint_NK3[..., :2] for pose in poses])

        def total(value_BK: Tensor) -> tuple[Tensor, Tensor]:
            return (value_BK * weight_BK).sum(), count

        return {
            "roi_inside": total(self.canvas.inside(targets.joint_BK2, outputs.centre_BK2).float()),
            "coarse_error_px": total((outputs.coarse_BK2 - targets.joint_BK2).norm(dim=-1)),
            "final_error_px": total((final_BK2 - targets.joint_BK2).norm(dim=-1)),
        }
