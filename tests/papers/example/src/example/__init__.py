"""The example paper: one heatmap per joint by three convolutions (top-down)."""

from typing import Any

from repose.config import Paper

from .config import Experiment


def _module() -> Any:
    from .module import ExampleModule

    return ExampleModule


PAPER = Paper(name="example", title="An example", schema=Experiment, module=_module)
