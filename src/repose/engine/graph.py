"""A method's network as one graph with named inputs and outputs, and what stands in for it where a file is run.

`repose export` writes a `Graph` as ONNX. `infer` then calls its `stand_in` in the network's place, so views, flip test
and decoding are the same code whatever runs the network. A graph is run whole, or in stages where `infer` decides
between them which people the network looks at.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from repose.types import Batch

IMAGE = "image"
"""Name of every graph's first input: (B, 3, H, W) float32, normalised."""
Run = Callable[[str, Mapping[str, Tensor]], dict[str, Tensor]]
"""Runs a stage of a file: stage, inputs by name -> outputs by name."""


@dataclass(frozen=True)
class Stage:
    """A part of a graph that is run by itself.

    Attributes:
        inputs: inputs of the graph, and outputs of earlier stages.
        outputs: what it gives.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Graph(nn.Module):
    """The network of a method whose `infer` asks for nothing but `net(image)`; others derive their own.

    Outputs are named as the fields of the NamedTuple that `net` returns; fields with a default, which only losses
    read, are left out.

    Attributes:
        net: the network.
        inputs: names of `forward`'s arguments, the image first.
        outputs: names of what it returns.
        lists: dimension by input whose length changes from call to call, beside the batch: {"box_R4": {0: "R"}}.
    """

    inputs: tuple[str, ...] = (IMAGE,)
    lists: Mapping[str, Mapping[int, str]] = {}

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net: Any = net
        self._kind = typing.get_type_hints(type(net).forward)["return"]
        fields = getattr(self._kind, "_fields", ("output",))
        self.outputs: tuple[str, ...] = tuple(f for f in fields if f not in getattr(self._kind, "_field_defaults", {}))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """The network's outputs, in the order of `outputs`."""
        found = self.net(image)
        return (found,) if isinstance(found, Tensor) else tuple(getattr(found, name) for name in self.outputs)

    @property
    def stages(self) -> dict[str, Stage]:
        """Parts that `stand_in` runs, by name."""
        return {"whole": Stage(self.inputs, self.outputs)}

    def further(self, batch: Batch) -> dict[str, Tensor]:
        """The inputs beside the image for a batch with people: for examples, parity and calibration."""
        return {}

    def stand_in(self, run: Run) -> nn.Module:
        """What `infer` calls in the place of `net`."""
        return StandIn(self, run)

    def rebuild(self, found: Mapping[str, Tensor]) -> Any:
        """Outputs by name as `net` returns them."""
        if self._kind is Tensor:
            return found["output"]
        return self._kind(**{name: found[name] for name in self.outputs})


class StandIn(nn.Module):
    """`net(image)` by a file."""

    def __init__(self, graph: Graph, run: Run) -> None:
        super().__init__()
        self._rebuild, self._run = graph.rebuild, run
        stride = getattr(graph.net, "stride", None)
        if stride is not None:
            self.stride = stride

    def forward(self, image: Tensor) -> Any:
        """The network's outputs."""
        return self._rebuild(self._run("whole", {IMAGE: image}))


def named(names: Sequence[str], values: Sequence[Tensor]) -> dict[str, Tensor]:
    """Tensors by name."""
    return dict(zip(names, values, strict=True))
