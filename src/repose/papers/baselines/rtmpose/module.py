"""RTMPose as a PoseModule: wires model, targets, losses and decode."""

from __future__ import annotations

import torch
from torch import Tensor

from repose.engine.module import PoseModule, View
from repose.errors import UserError
from repose.papers.baselines.rtmpose.config import Experiment
from repose.papers.baselines.rtmpose.decode import decode, merge
from repose.papers.baselines.rtmpose.losses import losses
from repose.papers.baselines.rtmpose.model import Outputs, RTMPose
from repose.papers.baselines.rtmpose.targets import Targets, encode
from repose.types import Batch, Poses


class RTMPoseModule(PoseModule):
    """RTMPose (top-down: one person per crop)."""

    cfg: Experiment
    net: RTMPose

    def build(self) -> RTMPose:
        """The network, for `data.input_size` alone."""
        return RTMPose(self.cfg.model, self.skeleton.k, self.cfg.data.input_size)

    @property
    def stride(self) -> int:
        """1: the bins belong to pixels, so the mirrored view is the plain mirror."""
        return 1

    @property
    def weights(self) -> dict[str, float]:
        """Weight of the one loss."""
        return {"simcc": self.cfg.loss.simcc}

    def encode(self, batch: Batch) -> Targets:
        """Labels of the crops' people."""
        return encode(batch, self.skeleton.k, self.cfg.loss, self.cfg.model.head.split)

    def losses(self, outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
        """`simcc`, in float32."""
        with torch.autocast(self.device.type, enabled=False):
            return losses(outputs, targets, self.cfg.loss)

    def infer(self, views: list[View]) -> Outputs:
        """Logits averaged over the views."""
        if any(view.scale != views[0].scale for view in views):
            raise UserError("data.test_scales: RTMPose sees one crop per person; give one scale, [1.0]")
        outputs = [self.net(view.image_BCHW) for view in views]
        return merge(outputs, [v.mirrored for v in views], self.skeleton.flip_index, self.cfg.model.head.split)

    def decode(self, outputs: Outputs) -> list[Poses]:
        """One person per crop."""
        return decode(outputs, self.cfg.decode, self.cfg.model.head.split)
