"""Settings of the top-down heatmap baselines. Defaults are SimpleBaseline's ResNet-50 at 256x192 and its recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from repose.config import Augment, Data, Draw, ExperimentBase, Optim, Train
from repose.errors import UserError


@dataclass(frozen=True)
class Backbone:
    """The feature extractor."""

    name: str = "resnet50"
    """any timm model with feature maps at strides 4, 8, 16, 32 | SimpleBaseline §2; HRNet §3: hrnet_w32"""
    pretrained: bool = False
    """timm's ImageNet weights (needs the network once)"""
    weights: str | None = None
    """[file] ImageNet weights; wins over pretrained"""


@dataclass(frozen=True)
class Head:
    """From the backbone's map to one heatmap per joint."""

    deconvs: Literal[0, 1, 2, 3] = 3
    """[layers] 4x4 transposed convolutions of stride 2 with batch norm and ReLU after the last stage; 0 = the stride-4
    stage itself, as HRNet has it | SimpleBaseline §2: 3; HRNet §3: 0"""
    width: int = 256
    """[channels] of the transposed convolutions | SimpleBaseline §2"""
    init_std: float = 0.001
    """of the transposed convolutions' and the last 1x1's weights; biases start at 0 | official code"""


@dataclass(frozen=True)
class Hourglass:
    """A stacked hourglass network; it is backbone and head in one."""

    stacks: int = 8
    """[hourglasses] each with heatmaps and a loss of its own | Hourglass §3.2"""
    width: int = 256
    """[channels] of the hourglasses | Hourglass §3.1"""
    depth: int = 4
    """[levels] halvings of the map in each hourglass | Hourglass §3.1: from 64 to 4 cells"""

    def __post_init__(self) -> None:
        if self.stacks < 1 or self.depth < 1 or self.width < 8 or self.width % 8:
            raise UserError(
                f"model.hourglass: stacks={self.stacks} and depth={self.depth} must be at least 1, "
                f"width={self.width} a multiple of 8"
            )


@dataclass(frozen=True)
class Model:
    """The network."""

    backbone: Backbone = Backbone()
    head: Head = Head()
    kind: Literal["backbone", "hourglass"] = "backbone"
    """backbone = model.backbone and model.head; hourglass = model.hourglass instead of both"""
    hourglass: Hourglass = Hourglass()

    @property
    def stride(self) -> int:
        """Input pixels per heatmap cell."""
        return 32 >> self.head.deconvs if self.kind == "backbone" and self.head.deconvs else 4


@dataclass(frozen=True)
class Loss:
    """The loss and its targets."""

    heatmap: float = 0.5
    """[weight] of the mean squared error, of each hourglass's heatmaps alike | official code halves it"""
    sigma: float = 2.0
    """[cells] of the target Gaussian, height 1 | SimpleBaseline §2, official code"""
    centre: Literal["rounded", "exact"] = "rounded"
    """where the Gaussian stands: at the cell nearest to the joint, or at the joint | official code: rounded"""

    def __post_init__(self) -> None:
        if self.sigma <= 0:
            raise UserError(f"loss.sigma={self.sigma}: the target's standard deviation must be above 0")


@dataclass(frozen=True)
class Decode:
    """From heatmaps to joints."""

    refine: Literal["quarter", "none", "parabola"] = "quarter"
    """quarter = a quarter cell towards the higher neighbour, per axis; none = the cell; parabola = the sub-cell peak of
    a Gaussian through the maximum and its neighbours | SimpleBaseline §2: quarter"""


RESNET = Augment(
    flip=0.5,
    rotation=Draw(p=0.6, range=(-80, 80), distribution="clipnorm2"),
    scale=Draw(p=1.0, range=(0.7, 1.3), distribution="clipnorm1"),
)
"""SimpleBaseline's augmentation (its code): rotation N(0, 40) clipped at 80 degrees in 60 % of samples, scale N(1, 0.3)
clipped at 30 %."""


_DATA = Data(view="person", input_size=(256, 192), augment=RESNET)
_OPTIM = Optim(name="adam", base_lr=1e-3, base_batch=128, schedule="multi_step", milestones=(90 / 140, 120 / 140))
_TRAIN = Train(epochs=140, batch=128, val_every=10)


@dataclass(frozen=True)
class Experiment(ExperimentBase):
    """A heatmap baseline's experiment."""

    paper: str = "simplebaseline"
    model: Model = Model()
    loss: Loss = Loss()
    decode: Decode = Decode()
    data: Data = _DATA
    optim: Optim = _OPTIM
    train: Train = _TRAIN

    def __post_init__(self) -> None:
        if self.data.view != "person":
            raise UserError(f"data.view={self.data.view}: this baseline sees one crop per person; set data.view=person")
        height, width = self.data.input_size
        if self.test.flip and width % self.model.stride:
            raise UserError(
                f"data.input_size=[{height}, {width}]: with test.flip the width must be a multiple of the heatmaps' "
                f"stride, {self.model.stride}"
            )
