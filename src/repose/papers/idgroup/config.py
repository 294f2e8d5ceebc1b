"""Settings of identity-vector grouping. Defaults are the paper's MobileNetV3 model on whole 256x256 images.

The paper has no code and states few sizes: "spec" marks what was fitted to its parameter counts or decided by us, with
the reason in the README.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from repose.config import Augment, Data, Draw, Ema, ExperimentBase, Optim, Test, Train
from repose.errors import UserError


@dataclass(frozen=True)
class Backbone:
    """The feature extractor."""

    name: str = "mobilenetv3_large_100"
    """any timm model with feature maps at strides 4, 8, 16, 32 | §III.B, Table 1: MobileNetV3 and MaxViT"""
    pretrained: bool = False
    """timm's ImageNet weights (needs the network once) | not stated"""
    weights: str | None = None
    """[file] ImageNet weights; wins over pretrained"""
    lr_factor: float = 0.1
    """[factor] of the learning rate for the backbone; 1 from scratch | not stated; 3e-3 is harsh on ImageNet weights"""


@dataclass(frozen=True)
class Neck:
    """From the backbone's four maps to one at stride 4."""

    width: int = 192
    """[channels] of the path down | not stated; fitted to 8.6 M and 19.1 M"""
    channels: int = 256
    """[channels] of F; the transformer sees one more | §III.D: 257"""


@dataclass(frozen=True)
class Hourglass:
    """The branch that finds keypoints."""

    enabled: bool = True
    """False = one 1x1 convolution | Table 2"""
    stacks: int = 2
    """[hourglasses] one after another, each with a map and a loss | "stacked"; number not stated"""
    depth: int = 4
    """[halvings] of each, 64 to 4 cells | not stated"""
    width: int = 128
    """[channels] of its maps | not stated; fitted"""


@dataclass(frozen=True)
class Transformer:
    """The branch that finds identity vectors."""

    enabled: bool = True
    """False = one 1x1 convolution | Table 2"""
    width: int = 128
    """[channels] of tokens and queries | not stated; fitted"""
    heads: int = 4
    """[heads] of each attention | not stated"""
    hidden: int = 512
    """[channels] inside the feed-forward layers | not stated"""
    encoder_layers: int = 2
    """[layers] in which tokens look at each other | not stated"""
    decoder_layers: int = 2
    """[layers] in which cells look at the tokens | not stated"""
    patch: int = 2
    """[cells] side of a token; 1 = all 4096 cells, which no T4 could train | not stated"""
    decoder_self_attn: bool = False
    """queries also look at each other (textbook decoder): every cell must then be queried | not stated"""
    temperature: float = 100.0
    """[ratio] of the position encoding's longest wavelength to its shortest, 2 pi cells | not stated; Transformer's
    usual 10000 is far longer than any map"""


@dataclass(frozen=True)
class Model:
    """The network."""

    backbone: Backbone = Backbone()
    neck: Neck = Neck()
    hourglass: Hourglass = Hourglass()
    transformer: Transformer = Transformer()
    vector_param: Literal["absolute", "offset"] = "absolute"
    """what a cell predicts: joints' places on the map, or from the cell; the vector means the same | §III.D, Eq. 1"""

    def __post_init__(self) -> None:
        t, h = self.transformer, self.hourglass
        if min(t.heads, t.hidden, t.patch, h.stacks, h.depth, self.neck.width, self.neck.channels) < 1 or h.width % 2:
            raise UserError(
                "model: neck.width, neck.channels, transformer.heads, transformer.hidden, transformer.patch, "
                "hourglass.stacks and hourglass.depth must be at least 1, hourglass.width an even number"
            )
        if min(t.encoder_layers, t.decoder_layers) < 0 or t.temperature <= 0 or self.backbone.lr_factor < 0:
            raise UserError(
                "model: transformer.encoder_layers, transformer.decoder_layers and backbone.lr_factor must be at least "
                "0, transformer.temperature above 0"
            )
        if t.width < 4 or t.width % 4 or t.width % t.heads:
            raise UserError(
                f"model.transformer.width={t.width}: must be a multiple of 4 (sine and cosine of x and y) and of "
                f"model.transformer.heads={t.heads}"
            )


@dataclass(frozen=True)
class Loss:
    """Losses and targets."""

    weighting: Literal["fixed", "paper", "kendall"] = "fixed"
    """fixed = Eq. 5 with constant lambdas; paper = learnt ones, clamped to [0.01, 5]; kendall = homoscedastic
    uncertainty | §V.C, Eq. 5; Kendall et al., CVPR 2018"""
    heatmap: float = 1.0
    """[weight] lambda_1 of Eq. 5, or where it starts | not stated"""
    group: float = 1.0
    """[weight] lambda_2 of Eq. 5, or where it starts | not stated"""
    chamfer: float = 1.0
    """[weight] of chamfer beside asymmetric in L_Heatmap | not stated"""
    gamma_pos: float = 0.0
    """[exponent] of (1 - p) at keypoints | Eq. 2, value not stated; spec: 1 needs a posterior above 0.9 for p = 0.8"""
    gamma_neg: float = 4.0
    """[exponent] at other cells | Eq. 2, value not stated; the asymmetric loss's own"""
    asym_printed: bool = False
    """True = other cells weigh (1 - p)^gamma_neg, as Eq. 2 is printed: predicting keypoints everywhere is then its
    minimum. False = p^gamma_neg | Eq. 2; Ben-Baruch et al., ICCV 2021"""
    chamfer_reach: float = 8.0
    """[cells] distances of chamfer count up to here, and are in units of it | not stated"""
    presence_radius: float = 1.0
    """[cells] cells with their centre this near to a labelled joint are keypoint cells; 0 = the one cell that it is in
    | not stated; spec"""
    unlabelled: Literal["mask", "zero"] = "mask"
    """vectors of joints without label: not taught, or (0, 0) | §III.D "coordinates and visibility" """
    vector_unit: float = 8.0
    """[cells] unit of loss vector | not stated; it starts near 1"""

    def __post_init__(self) -> None:
        at_least_0 = (self.chamfer, self.gamma_pos, self.gamma_neg, self.presence_radius)
        if min(self.heatmap, self.group) <= 0 or min(at_least_0) < 0:
            raise UserError(
                "loss: heatmap and group must be above 0, chamfer, gamma_pos, gamma_neg, presence_radius at least 0"
            )
        if min(self.chamfer_reach, self.vector_unit) <= 0:
            raise UserError("loss: chamfer_reach and vector_unit must be above 0")


@dataclass(frozen=True)
class Decode:
    """From presence and vectors to people."""

    threshold: float = 0.8
    """[probability] from here on a cell is active | §V.C"""
    top: int = 1024
    """[cells] most active cells of an image | spec; the most seen on CrowdPose: 380"""
    distance: float = 3.0
    """[cells] T, root mean square over the joints: nearer vectors are one person's | §IV.A, value not stated; spec"""
    coord: Literal["mean", "local"] = "mean"
    """a joint is its component of the mean vector, or the mean of that component over the cells nearest to it, weighted
    by their presence, where there are any | §IV.B: mean pooling"""

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1 or self.top < 1 or self.distance < 0:
            raise UserError(
                f"decode: threshold={self.threshold:g} must be in [0, 1], top={self.top} at least 1, "
                f"distance={self.distance:g} at least 0"
            )


_DATA = Data(
    view="image",
    input_size=(256, 256),
    base="long",
    centre="image",
    border="mean",
    test_multiple=256,
    test_place="centre",
    regions=True,
    augment=Augment(
        flip=0.5,
        scale=Draw(1.0, (0.75, 1.33)),
        rotation=Draw(1.0, (-30, 30)),
        shift=Draw(1.0, (-0.15, 0.15)),
        hue=Draw(0.5, (-5, 5)),
        saturation=Draw(0.5, (-30, 30)),
        value=Draw(0.5, (-30, 30)),
    ),
)
_OPTIM = Optim(
    name="adamw",
    base_lr=3e-3,
    base_batch=32,
    weight_decay=1e-5,
    schedule="plateau",
    gamma=0.5,
    patience=3,
    final_factor=1 / 30,
    warmup_steps=500,
    clip_norm=1.0,
    ema=Ema(decay=0.999),
)
"""`final_factor` bounds `plateau` from below: the paper's learning rate lies in [1e-4, 3e-3]."""
_TRAIN = Train(epochs=100, batch=32)
_TEST = Test(batch=32, flip=False, oks_nms=None)
_MAXVIT_MULTIPLE = 256
"""[pixels] windows of 8x8 cells down to stride 32."""


@dataclass(frozen=True)
class Experiment(ExperimentBase):
    """Identity-vector grouping's experiment."""

    paper: str = "idgroup"
    model: Model = Model()
    loss: Loss = Loss()
    decode: Decode = Decode()
    data: Data = _DATA
    optim: Optim = _OPTIM
    train: Train = _TRAIN
    test: Test = _TEST

    def __post_init__(self) -> None:
        if self.data.view == "person" and (self.data.base, self.data.centre) != ("box", "box"):
            raise UserError(
                "data.view=person: crops of one person each also need data.base=box and data.centre=box "
                "(for whole images set data.view=image)"
            )
        if self.test.oks_nms is not None:
            raise UserError("test.oks_nms: identity vectors group poses themselves (decode.distance); set it to null")
        sides = (*self.data.input_size, self.data.test_multiple)
        if self.model.backbone.name.startswith("maxvit") and any(side % _MAXVIT_MULTIPLE for side in sides):
            raise UserError(
                f"data.input_size={list(self.data.input_size)}, data.test_multiple={self.data.test_multiple}: "
                f"MaxViT's windows need multiples of {_MAXVIT_MULTIPLE}"
            )
