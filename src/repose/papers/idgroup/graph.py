"""The dense network as one graph: presence, and the identity vectors of every cell.

A file gives the vectors of all cells where `IDGroup.vectors` computes those that are asked for: the same values at the
cost that the paper counts.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from repose.engine.graph import IMAGE, Graph, Run
from repose.papers.idgroup.model import IDGroup


class Seen(NamedTuple):
    """One view as the file sees it."""

    logit_SBHW: Tensor
    vector_BHWK2: Tensor

    @property
    def presence_BHW(self) -> Tensor:
        """Probabilities of the last stack."""
        return self.logit_SBHW[-1].sigmoid()


class IDGroupGraph(Graph):
    """Outputs: presence logits of each stack, and vectors in cells."""

    net: IDGroup

    def __init__(self, net: IDGroup) -> None:
        nn.Module.__init__(self)
        self.net = net
        self.outputs = Seen._fields

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """See `outputs`."""
        return self.net(image)

    def stand_in(self, run: Run) -> nn.Module:
        """See `IDGroupStandIn`."""
        return IDGroupStandIn(run)


class IDGroupStandIn(nn.Module):
    """`features` and `vectors` of IDGroup by a file."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run

    def features(self, image_B3HW: Tensor) -> Seen:
        """Run the file."""
        return Seen(**self._run("whole", {IMAGE: image_B3HW}))

    def vectors(self, features: Seen, owner_N: Tensor, cell_N2: Tensor) -> Tensor:
        """Vectors of some cells, (N, K, 2), cells."""
        x_N, y_N = cell_N2.unbind(-1)
        return features.vector_BHWK2[owner_N, y_N, x_N]
