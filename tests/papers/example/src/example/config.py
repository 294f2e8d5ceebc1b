"""Settings of the example paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from repose.config import Data, ExperimentBase, Optim, Train


@dataclass(frozen=True)
class Model:
    """The network."""

    width: int = 48
    """[channels] of the convolutions"""


@dataclass(frozen=True)
class Loss:
    """The loss and its targets."""

    heatmap: float = 1.0
    """[weight] of loss heatmap"""
    sigma: float = 1.0
    """[cells] of the Gaussians"""


@dataclass(frozen=True)
class Decode:
    """From heatmaps to joints."""

    refine: Literal["argmax", "subpixel"] = "subpixel"
    """argmax = the highest cell; subpixel = the peak of a Gaussian through it and its neighbours"""


_DATA = Data(view="person", input_size=(96, 72))
_OPTIM = Optim(name="adamw", base_lr=1e-3, base_batch=64)
_TRAIN = Train(epochs=20, batch=64)


@dataclass(frozen=True)
class Experiment(ExperimentBase):
    """The example's experiment."""

    paper: str = "example"
    model: Model = Model()
    loss: Loss = Loss()
    decode: Decode = Decode()
    data: Data = _DATA
    optim: Optim = _OPTIM
    train: Train = _TRAIN
