"""The heatmap baselines as a PoseModule: wires model, targets, losses and decode."""

from __future__ import annotations

import torch
from torch import Tensor

from repose.engine.module import PoseModule, View
from repose.errors import UserError
from repose.ops.crops import CropHeatmaps, crop_heatmaps, merge_heatmaps
from repose.papers.baselines.simplebaseline.config import Experiment
from repose.papers.baselines.simplebaseline.decode import decode
from repose.papers.baselines.simplebaseline.losses import losses
from repose.papers.baselines.simplebaseline.model import HeatmapNet, HourglassNet, Outputs, heatmap_net
from repose.types import Batch, Poses


class SimpleBaselineModule(PoseModule):
    """SimpleBaseline, HRNet and Hourglass (top-down: one person per crop)."""

    cfg: Experiment
    net: HeatmapNet | HourglassNet

    def build(self) -> HeatmapNet | HourglassNet:
        """The network."""
        return heatmap_net(self.cfg.model, self.skeleton.k)

    @property
    def stride(self) -> int:
        """Input pixels per heatmap cell."""
        return self.cfg.model.stride

    @property
    def weights(self) -> dict[str, float]:
        """Weight of the one loss."""
        return {"heatmap": self.cfg.loss.heatmap}

    def encode(self, batch: Batch) -> CropHeatmaps:
        """A Gaussian at each labelled joint (SimpleBaseline §2; HRNet §3)."""
        loss = self.cfg.loss
        return crop_heatmaps(batch, self.skeleton.k, self.stride, loss.sigma, loss.centre)

    def losses(self, outputs: Outputs, targets: CropHeatmaps) -> dict[str, Tensor]:
        """`heatmap`, in float32."""
        with torch.autocast(self.device.type, enabled=False):
            return losses(outputs, targets)

    def infer(self, views: list[View]) -> Outputs:
        """Heatmaps averaged over the views."""
        if any(view.scale != views[0].scale for view in views):
            raise UserError("data.test_scales: this baseline sees one crop per person; give one scale, [1.0]")
        heatmaps = [self.net(view.image_BCHW).heatmap_BKHW for view in views]
        return Outputs(merge_heatmaps(heatmaps, [v.mirrored for v in views], self.skeleton.flip_index))

    def decode(self, outputs: Outputs) -> list[Poses]:
        """One person per crop."""
        return decode(outputs, self.cfg.decode, self.stride)
