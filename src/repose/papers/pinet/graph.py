"""PINet as one graph of two networks: an image's maps, and PR's corrections of the poses that are chosen from them.

PR reads F at the poses' joints; that reading, as everything that chooses poses, stays outside the graph.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from repose.engine.graph import IMAGE, Graph, Run, Stage, StandIn, named
from repose.papers.pinet.model import PR, Maps, PINet
from repose.types import Batch

_READ = ("joint_NKC", "part_NC")


class PINetGraph(Graph):
    """Inputs: the image; F at the joints and at the part centre of N poses (`PR.read`)."""

    inputs = (IMAGE, *_READ)
    lists = {name: {0: "N"} for name in _READ}  # noqa: RUF012 - a constant of the class
    net: PINet

    def __init__(self, net: PINet) -> None:
        nn.Module.__init__(self)
        self.net = net
        self.outputs = (*Maps._fields, "correction_NK2")

    def forward(self, image: Tensor, joint_NKC: Tensor, part_NC: Tensor) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The maps, and corrections (N, K, 2) in cells."""
        assert self.net.pr is not None
        return *self.net(image), self.net.pr.correct(joint_NKC, part_NC)

    @property
    def stages(self) -> dict[str, Stage]:
        """Maps, then PR."""
        return {"whole": Stage((IMAGE,), Maps._fields), "refine": Stage(_READ, ("correction_NK2",))}

    def further(self, batch: Batch) -> dict[str, Tensor]:
        """As many poses as there are people, with F between 0 and 1: PR has no convolution that is calibrated."""
        assert self.net.pr is not None
        n, (k, c) = max(batch.people.n, 1), (self.net.pr.fc2.out_features // 2, self.net.pr.fc2.in_features)
        shade = batch.image_B3HW.float().mean() / 255
        return named(_READ, (shade.expand(n, k, c), shade.expand(n, c)))

    def stand_in(self, run: Run) -> nn.Module:
        """See `PINetStandIn`."""
        return PINetStandIn(self, run)

    def rebuild(self, found: Mapping[str, Tensor]) -> Maps:
        """The maps."""
        return Maps(**{name: found[name] for name in Maps._fields})


class PINetStandIn(StandIn):
    """`net(image)` and `net.pr(...)` of PINet by a file."""

    def __init__(self, graph: PINetGraph, run: Run) -> None:
        super().__init__(graph, run)
        assert graph.net.pr is not None
        self.pr = PRStandIn(graph.net.pr, run)


class PRStandIn(nn.Module):
    """PR by a file."""

    def __init__(self, pr: PR, run: Run) -> None:
        super().__init__()
        self.macs_per_pose, self._read, self._run = pr.macs_per_pose, pr.read, run

    def forward(self, feature_BCHW: Tensor, owner_N: Tensor, cell_N2: Tensor, pose_NK2: Tensor) -> Tensor:
        """Corrections (N, K, 2), cells."""
        if not len(owner_N):
            return pose_NK2.new_zeros(pose_NK2.shape)
        read = self._read(feature_BCHW, owner_N, cell_N2, pose_NK2)
        return self._run("refine", named(_READ, read))["correction_NK2"]
