"""DRP-Net as one graph: all of Algorithm 1 but its arg max; with a flip test its refinement runs a second time.

The views of a flip test are refined at a common centre (decode.infer), which is known when both have their coarse
points. So the file is run whole for each view, and then from F on where the centre is another.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from repose.engine.graph import IMAGE, Graph, Run, Stage, named
from repose.papers.drpnet.model import DRPNet, Outputs
from repose.papers.drpnet.targets import clamp_centres


class Seen(NamedTuple):
    """One view as the file sees it: what `features` hands to `coarse` and `refine`."""

    image_B3HW: Tensor
    fused_BWHW: Tensor
    outputs: Outputs


class DRPNetGraph(Graph):
    """Outputs: F, the coarse points, the ROIs' centres and the local heatmaps (`model.Outputs`)."""

    net: DRPNet

    def __init__(self, net: DRPNet) -> None:
        nn.Module.__init__(self)
        self.net = net
        heads = ("coarse_BK2", "centre_BK2", "heatmap_BKHW") if net.head is not None else ("coarse_BK2", "centre_BK2")
        self.outputs = ("fused_BWHW", *heads)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """See `outputs`."""
        features = self.net.features(image)
        coarse_BK2 = self.net.coarse(features, (image.shape[-1], image.shape[-2]))
        found = self.net.refine(features, coarse_BK2, coarse_BK2)
        return features.fused_BWHW, *(getattr(found, name) for name in self.outputs[1:])

    @property
    def stages(self) -> dict[str, Stage]:
        """The whole, and the head alone."""
        whole = {"whole": Stage(self.inputs, self.outputs)}
        if self.net.head is None:
            return whole
        # the image only gives the number of crops
        return {**whole, "refine": Stage((IMAGE, "fused_BWHW", "centre_BK2"), ("heatmap_BKHW",))}

    def stand_in(self, run: Run) -> nn.Module:
        """See `DRPNetStandIn`."""
        return DRPNetStandIn(self.net, run)


class DRPNetStandIn(nn.Module):
    """`features`, `coarse` and `refine` of DRPNet by a file."""

    def __init__(self, net: DRPNet, run: Run) -> None:
        super().__init__()
        self.stride, self._k, self._refined, self._run = net.stride, net.k, net.head is not None, run

    def features(self, image_B3HW: Tensor) -> Seen:
        """Run the whole file."""
        found = self._run("whole", {IMAGE: image_B3HW})
        coarse_BK2 = found["coarse_BK2"]
        none = coarse_BK2.new_zeros(len(coarse_BK2), self._k, 0, 0)
        heatmap_BKHW = found.get("heatmap_BKHW", none)
        return Seen(image_B3HW, found["fused_BWHW"], Outputs(coarse_BK2, found["centre_BK2"], heatmap_BKHW))

    def coarse(self, features: Seen, input_wh: tuple[int, int]) -> Tensor:
        """Its coarse points, (B, K, 2)."""
        return features.outputs.coarse_BK2

    def refine(self, features: Seen, coarse_BK2: Tensor, centre_BK2: Tensor) -> Outputs:
        """Its heatmaps; computed again where they are wanted around other centres."""
        fused, seen = features.fused_BWHW, features.outputs
        if torch.equal(centre_BK2, seen.coarse_BK2):
            return seen._replace(coarse_BK2=coarse_BK2)
        centre = clamp_centres(centre_BK2, self.stride, (fused.shape[-2], fused.shape[-1]))
        if not self._refined:
            return Outputs(coarse_BK2, centre, seen.heatmap_BKHW)
        names = (IMAGE, "fused_BWHW", "centre_BK2")
        found = self._run("refine", named(names, (features.image_B3HW, fused, centre)))
        return Outputs(coarse_BK2, centre, found["heatmap_BKHW"])
