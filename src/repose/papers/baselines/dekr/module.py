"""DEKR as a PoseModule: wires model, targets, losses and decode."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from repose.engine.module import PoseModule, View
from repose.papers.baselines.dekr.config import Experiment
from repose.papers.baselines.dekr.decode import Level, decode, infer
from repose.papers.baselines.dekr.losses import losses
from repose.papers.baselines.dekr.model import DEKR, Outputs
from repose.papers.baselines.dekr.rescore import RescoreNet, pose_features, read
from repose.papers.baselines.dekr.targets import STRIDE, Targets, encode
from repose.types import Batch, Poses


class DEKRModule(PoseModule):
    """DEKR (bottom-up: one image with all its people)."""

    cfg: Experiment
    net: DEKR
    _rescorer: tuple[RescoreNet] | None = None

    def build(self) -> DEKR:
        """The network."""
        return DEKR(self.cfg.model, self.skeleton.k)

    @property
    def stride(self) -> int:
        """Input pixels per cell."""
        return STRIDE

    @property
    def weights(self) -> dict[str, float]:
        """Of the losses."""
        return {"heat": self.cfg.loss.heat, "offset": self.cfg.loss.offset}

    def encode(self, batch: Batch) -> Targets:
        """Heatmaps and offset cells."""
        return encode(batch, self.cfg.loss)

    def losses(self, outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
        """`heat` and `offset`, in float32."""
        with torch.autocast(self.device.type, enabled=False):
            return losses(outputs, targets, self.cfg.loss)

    def infer(self, views: list[View]) -> list[Level]:
        """Maps of each test scale, the mirrored view's averaged in."""
        return infer(self.net, views, self.skeleton.flip_index)

    def decode(self, outputs: list[Level]) -> list[Poses]:
        """People of each image, rescored where `decode.rescore` names a network."""
        people = decode(outputs, self.cfg.decode, self.skeleton.sigmas)
        if self.cfg.decode.rescore is None:
            return people
        if self._rescorer is None:
            # In a tuple, so that it is no part of the network: not counted, not averaged, not in checkpoints.
            self._rescorer = (read(self.cfg.decode.rescore, self.skeleton).to(self.device),)
        net = self._rescorer[0]
        return [
            replace(p, score_N=p.score_N * net(pose_features(p.joint_NK3, self.skeleton)).nan_to_num(0.0))
            for p in people
        ]
