"""Synthetic people with exact labels: the embedded data set."""

from .labels import Person, crowd_index
from .pose import JOINTS
from .scene import Scene, render
from .write import synthesize, synthesize_clip

__all__ = ["JOINTS", "Person", "Scene", "crowd_index", "render", "synthesize", "synthesize_clip"]
