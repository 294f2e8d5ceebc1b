"""The example as a PoseModule: wires model, targets, losses and decode."""

from __future__ import annotations

import torch
from torch import Tensor

from repose.engine.module import PoseModule, View
from repose.types import Batch, Poses

from .config import Experiment
from .decode import decode
from .losses import losses
from .model import STRIDE, Net
from .targets import Targets, encode


class ExampleModule(PoseModule):
    """The example (top-down: one person per crop)."""

    cfg: Experiment
    net: Net

    def build(self) -> Net:
        """The network."""
        return Net(self.cfg.model, self.skeleton.k)

    @property
    def stride(self) -> int:
        """Input pixels per cell."""
        return STRIDE

    @property
    def weights(self) -> dict[str, float]:
        """Weight of the one loss."""
        return {"heatmap": self.cfg.loss.heatmap}

    def encode(self, batch: Batch) -> Targets:
        """Heatmaps of the labelled joints."""
        return encode(batch, self.skeleton.k, self.cfg.loss)

    def losses(self, outputs: Tensor, targets: Targets) -> dict[str, Tensor]:
        """`heatmap`, in float32."""
        return losses(outputs, targets)

    def infer(self, views: list[View]) -> Tensor:
        """Heatmaps averaged over the views; those of a mirrored one are turned back."""
        merged = []
        for view in views:
            heatmap_BKHW = self.net(view.image_BCHW).float()
            merged.append(heatmap_BKHW.flip(-1)[:, list(self.skeleton.flip_index)] if view.mirrored else heatmap_BKHW)
        return torch.stack(merged).mean(0)

    def decode(self, outputs: Tensor) -> list[Poses]:
        """One person per crop."""
        return decode(outputs, self.cfg.decode)
