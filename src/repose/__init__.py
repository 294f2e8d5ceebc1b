"""repose: human-pose papers as LightningModules over one DataModule, their tables as commands."""

import os

# albumentations asks a package index for its newest version when it is imported; a library must not do that.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

__version__ = "0.1.0"
