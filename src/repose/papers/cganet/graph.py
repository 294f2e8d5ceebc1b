"""The single model as one graph in two stages: pyramid and detection maps, then the heatmaps of boxes found in them."""

from __future__ import annotations

from torch import Tensor, nn

from repose.engine.graph import IMAGE, Graph, Run, Stage, named
from repose.papers.cganet.model import LEVELS, CGANet, Maps
from repose.types import Batch

_BOXES = ("box_in_R4", "owner_R")
_LINES = ("line_x_B1HW", "line_y_B1HW")


class CGANetGraph(Graph):
    """Inputs: the image, and of R boxes their corners in input pixels and the index of their image."""

    inputs = (IMAGE, *_BOXES)
    lists = {name: {0: "R"} for name in _BOXES}  # noqa: RUF012 - a constant of the class
    net: CGANet

    def __init__(self, net: CGANet) -> None:
        nn.Module.__init__(self)
        self.net = net
        self.levels = tuple(f"level{i}_BCHW" for i in range(LEVELS))
        self.maps = tuple(name for name in Maps._fields if net.cfg.centre_lines or name not in _LINES)
        self.outputs = (*self.levels, *self.maps, "heatmap_RKUU")

    def forward(self, image: Tensor, box_in_R4: Tensor, owner_R: Tensor) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Levels of the pyramid, logits of the maps, logits of the boxes' heatmaps."""
        pyramid = self.net.pyramid(image)
        maps = self.net.maps(pyramid)
        heatmap = self.net.heatmaps(pyramid[:LEVELS], box_in_R4, owner_R)[-1]
        return *pyramid[:LEVELS], *(getattr(maps, name) for name in self.maps), heatmap

    @property
    def stages(self) -> dict[str, Stage]:
        """The image, then boxes."""
        return {
            "whole": Stage((IMAGE,), (*self.levels, *self.maps)),
            "boxes": Stage((IMAGE, *self.levels, *_BOXES), ("heatmap_RKUU",)),
        }

    def further(self, batch: Batch) -> dict[str, Tensor]:
        """The annotated boxes."""
        return named(_BOXES, (batch.people.box_N4.float(), batch.people.owner_N))

    def stand_in(self, run: Run) -> nn.Module:
        """See `CGANetStandIn`."""
        return CGANetStandIn(self, run)


class Pyramid(list[Tensor]):
    """Levels, with the maps that the file computed on the way."""

    maps: Maps


class CGANetStandIn(nn.Module):
    """`pyramid`, `maps` and `heatmaps` of CGANet by a file."""

    def __init__(self, graph: CGANetGraph, run: Run) -> None:
        super().__init__()
        self._graph_levels, self._run = graph.levels, run

    def pyramid(self, image_B3HW: Tensor) -> Pyramid:
        """Run the first stage."""
        found = self._run("whole", {IMAGE: image_B3HW})
        levels = Pyramid(found[name] for name in self._graph_levels)
        none = found["hm_B1HW"][:, :0]
        levels.maps = Maps(**{name: found.get(name, none) for name in Maps._fields})
        return levels

    def maps(self, pyramid: Pyramid) -> Maps:
        """Logits of the maps."""
        return pyramid.maps

    def heatmaps(self, pyramid: Pyramid, box_in_R4: Tensor, owner_R: Tensor) -> list[Tensor]:
        """Logits in boxes; of the last stage alone."""
        height, width = (4 * n for n in pyramid[0].shape[-2:])
        image = pyramid[0].new_zeros(len(pyramid[0]), 3, height, width)
        names = (IMAGE, *self._graph_levels, *_BOXES)
        return [self._run("boxes", named(names, (image, *pyramid, box_in_R4.float(), owner_R)))["heatmap_RKUU"]]
