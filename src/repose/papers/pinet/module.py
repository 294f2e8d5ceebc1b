"""PINet as a PoseModule: wires model, targets, losses and decode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from repose.engine.graph import Graph
from repose.engine.module import PoseModule, View
from repose.papers.pinet.config import Experiment
from repose.papers.pinet.decode import Candidates, Scale, Swap, candidates, decode
from repose.papers.pinet.graph import PINetGraph
from repose.papers.pinet.losses import Outputs, forward_train, losses
from repose.papers.pinet.model import PINet
from repose.papers.pinet.oracle import mirrored_people, perfect_maps
from repose.papers.pinet.parts import Partition, partition
from repose.papers.pinet.targets import Targets, encode
from repose.types import Batch, Poses

_GIGA = 1e9


class PINetModule(PoseModule):
    """PINet (bottom-up: a whole image with all its people)."""

    cfg: Experiment
    net: PINet
    ap_read_outs = {"initial_AP": "initial_NK2"}  # noqa: RUF012 - a constant of the class

    def build(self) -> PINet:
        """The network."""
        return PINet(self.cfg.model, self.skeleton, self.parts.p)

    def graph(self) -> Graph:
        """See graph.py."""
        return Graph(self.net) if self.net.pr is None else PINetGraph(self.net)

    @property
    def parts(self) -> Partition:
        """The parts of a body."""
        return partition(self.cfg.model, self.skeleton)

    @property
    def stride(self) -> int:
        """Input pixels per cell."""
        return PINet.stride

    @property
    def weights(self) -> dict[str, float]:
        """Eq. 5 and L_PPG of §3.2."""
        loss = self.cfg.loss
        return {"point": loss.point, "offset": loss.offset, "refine": loss.refine}

    def encode(self, batch: Batch) -> Targets:
        """Heatmaps, offset cells and proposals."""
        return encode(batch, self.parts, self.cfg.loss)

    def forward_train(self, image_BCHW: Tensor, batch: Batch, targets: Targets) -> Outputs:
        """PPG, and PR on its poses at the true part centres."""
        return forward_train(self.net, image_BCHW, targets)

    def losses(self, outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
        """`point`, `offset` and, with PR, `refine`, in float32."""
        with torch.autocast(self.device.type, enabled=False):
            return losses(outputs, targets, self.cfg.loss)

    def infer(self, views: list[View]) -> Candidates:
        """Candidate poses of all views: each scale's view, then its mirror if there is one."""
        scales = self.scales(views)
        with torch.autocast(self.device.type, enabled=False):
            return candidates(scales, self.net.pr, self.swap, self.cfg.decode)

    def scales(self, views: list[View]) -> list[Scale]:
        """The network's maps of all views, scale by scale."""
        scales: list[Scale] = []
        for view in views:
            maps = self.net(view.image_BCHW)
            if view.mirrored:
                scales[-1] = scales[-1]._replace(mirrored=maps)
            else:
                scales.append(Scale(maps, None, view.batch))
        return scales

    def decode(self, outputs: Candidates) -> list[Poses]:
        """People of each image (PF)."""
        return decode(outputs, self.skeleton.sigmas, self.cfg.decode)

    @property
    def swap(self) -> Swap:
        """Joints and parts of a mirrored person."""
        return Swap(list(self.skeleton.flip_index), list(self.parts.flip_index))

    def oracle(self, batch: Batch) -> list[Scale]:
        """Maps of a perfect network at scale 1, and of its mirrored view with flip test; F is zero."""
        channels = sum(self.net.backbone.channels)
        plain = perfect_maps(batch, self.parts, self.cfg.loss, channels)
        if not self.cfg.test.flip:
            return [Scale(plain, None, batch)]
        mirrored = perfect_maps(mirrored_people(batch, self.swap), self.parts, self.cfg.loss, channels)
        return [Scale(plain, mirrored, batch)]

    def people_of(self, maps: list[Scale]) -> list[Poses]:
        """PPG and PF from maps; PR is left out (`pose_networks`)."""
        return self.decode(candidates(maps, None, self.swap, self.cfg.decode))

    def pose_networks(self, maps: list[Scale]) -> dict[str, Callable[[], Any]]:
        """PR on the candidates of all views."""
        pr = self.net.pr
        if pr is None:
            return {}
        found = candidates(maps, None, self.swap, self.cfg.decode)
        cell_N2 = (found.centre_N2 / PINet.stride).round().long()
        pose_NK2 = found.initial_NK2 / PINet.stride
        features = [m.feature_BCHW for s in maps for m in (s.plain, s.mirrored) if m is not None]
        return {"PR": lambda: [pr(feature, found.owner_N, cell_N2, pose_NK2) for feature in features]}

    def read_outs(self, outputs: Candidates, batch: Batch, poses: list[Poses]) -> dict[str, tuple[Tensor, Tensor]]:
        """Per image: candidates, people, and what PR cost (it is not in the network's GMACs)."""
        images = torch.tensor(float(outputs.images))

        def per_image(total: float) -> tuple[Tensor, Tensor]:
            return torch.tensor(float(total)), images

        found = {
            "candidates": per_image(len(outputs.owner_N)),
            "people": per_image(sum(p.n for p in poses)),
        }
        if self.net.pr is not None:
            found["refine_gmacs"] = per_image(outputs.refined * self.net.pr.macs_per_pose / _GIGA)
        return found
