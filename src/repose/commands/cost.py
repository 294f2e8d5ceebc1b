"""`repose cost`: parameters and GMACs of an experiment's network, per module."""

from __future__ import annotations

import json
from pathlib import Path

from repose.commands.show import one_experiment
from repose.config import Loaded


def count_experiment(loaded: Loaded):  # noqa: ANN201 - the type lives in a module that imports torch
    """Build the network of an experiment and count it at its input size. Returns a `metrics.cost.Cost`."""
    import torch

    from repose.metrics.cost import count

    module = loaded.paper.module()(loaded.cfg, loaded.cfg.joint_set())
    height, width = loaded.cfg.data.input_size
    return count(module.net, torch.zeros(1, 3, height, width))


def cost(words: list[str], as_json: bool) -> int:
    """Print the count: a tree for people, one JSON object for programs."""
    loaded = one_experiment(words, "cost")
    counted = count_experiment(loaded)
    if as_json:
        print(json.dumps(counted.to_json()))
        return 0
    from rich.console import Console

    from repose.metrics.cost import render

    Console().print(render(counted))
    height, width = counted.input_size
    print(f"{Path(words[0]).stem}: {counted.params / 1e6:.3f} M parameters ({counted.params / 2**20:.3f} Mi), ", end="")
    print(f"{counted.macs / 1e9:.3f} GMACs (fvcore) at {height}x{width}; flip test, decoding and NMS are not counted")
    return 0
