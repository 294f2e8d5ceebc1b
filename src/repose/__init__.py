"""repose: human-pose papers as LightningModules over one DataModule, their tables as commands."""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from repose.field.predictor import load as load

# albumentations asks a package index for its newest version when it is imported; a library must not do that.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # `repose.load` brings torch with it; `import repose`, the configs and `--help` stay light.
    if name == "load":
        from importlib import import_module

        return import_module("repose.field.predictor").load
    raise AttributeError(f"module 'repose' has no attribute {name!r}")
