"""Settings of RTMPose. Defaults are RTMPose-m at 256x192 with its training recipe; "code" is mmpose 1.3.2."""

from __future__ import annotations

from dataclasses import dataclass

from repose.config import Augment, Data, Draw, Ema, ExperimentBase, HalfBody, Hole, Optim, Train
from repose.errors import UserError


@dataclass(frozen=True)
class Backbone:
    """The feature extractor; its last stage is read."""

    name: str = "cspnext_m"
    """any timm model with feature maps at strides 4, 8, 16, 32 | §3.2, CSPNeXt"""
    pretrained: bool = False
    """timm's ImageNet weights (needs the network once)"""
    weights: str | None = None
    """[file] ImageNet weights; wins over pretrained"""


@dataclass(frozen=True)
class Head:
    """From the last stage to one token per joint, and to bins."""

    kernel: int = 7
    """[cells] of the convolution that gives one channel per joint | §3.3, Fig. 2"""
    width: int = 256
    """[channels] of a joint's token | §3.3"""
    attention: int = 128
    """[channels] of queries and keys | §3.3; code"""
    expansion: int = 2
    """[factor] of the gated unit's inner width | code"""
    split: int = 2
    """[bins per pixel] how fine the classification is | §3.1, SimCC"""


@dataclass(frozen=True)
class Model:
    """The network."""

    backbone: Backbone = Backbone()
    head: Head = Head()

    def __post_init__(self) -> None:
        if self.head.kernel % 2 == 0:
            raise UserError(f"model.head.kernel={self.head.kernel}: the kernel's side must be odd")


@dataclass(frozen=True)
class Loss:
    """The loss and its labels."""

    simcc: float = 1.0
    """[weight] of loss simcc"""
    variance: float = 1 / 8
    """[bins^2 per pixel] of the label's Gaussian, of the input's side: sigma is 4.90 of 192 and 5.66 of 256 | code"""
    temperature: float = 10.0
    """[factor] of labels and logits before their softmax | §3.3: 0.1 as a divisor"""


@dataclass(frozen=True)
class Decode:
    """From bins to joints."""

    refine: bool = False
    """False = the bin of the maximum; True = the vertex of the parabola through it and its neighbours | code: False"""


_COLOUR = {
    "flip": 0.5,
    "half_body": HalfBody(p=0.3),
    "hue": Draw(p=0.5, range=(-5, 5)),
    "saturation": Draw(p=0.5, range=(-30, 30)),
    "value": Draw(p=0.5, range=(-30, 30)),
    "blur": 0.1,
    "median_blur": 0.1,
}
STRONG = Augment(
    scale=Draw(1.0, (0.6, 1.4), "truncnorm"),
    rotation=Draw(0.6, (-80, 80), "truncnorm"),
    shift=Draw(0.3, (-0.16, 0.16), "truncnorm"),
    shift_unit="box",
    hole=Hole(p=1.0),
    **_COLOUR,
)
"""Stage 1 of the two-stage augmentation (§3.4)."""
WEAK = Augment(
    scale=Draw(1.0, (0.75, 1.25), "truncnorm"),
    rotation=Draw(0.6, (-60, 60), "truncnorm"),
    hole=Hole(p=0.5),
    **_COLOUR,
)
"""Stage 2: the last 30 of 420 epochs."""


_DATA = Data(view="person", input_size=(256, 192), augment=STRONG, augment_final=WEAK, final_share=30 / 420)
_OPTIM = Optim(
    name="adamw",
    base_lr=4e-3,
    base_batch=1024,
    weight_decay=0.05,
    schedule="flat_cosine",
    warmup_steps=1000,
    ema=Ema(decay=0.9998, ramp=2000),
)
_TRAIN = Train(epochs=420, batch=1024, val_every=10)


@dataclass(frozen=True)
class Experiment(ExperimentBase):
    """RTMPose's experiment."""

    paper: str = "rtmpose"
    model: Model = Model()
    loss: Loss = Loss()
    decode: Decode = Decode()
    data: Data = _DATA
    optim: Optim = _OPTIM
    train: Train = _TRAIN

    def __post_init__(self) -> None:
        if self.data.view != "person":
            raise UserError(f"data.view={self.data.view}: RTMPose sees one crop per person; set data.view=person")
