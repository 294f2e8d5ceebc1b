"""Settings of DEKR. Defaults are its main model, DEKR-W32 at 512x512 on COCO, with the recipe of its code.

"code" below is the authors' release (HRNet/DEKR), "PINet" the paper that trained it on OCHuman.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from repose.config import Augment, Data, Draw, ExperimentBase, Optim, Test, Train
from repose.errors import UserError


@dataclass(frozen=True)
class Backbone:
    """The shared feature extractor."""

    name: str = "hrnet_w32"
    """any timm model with feature maps at strides 4, 8, 16, 32 | paper, code"""
    pretrained: bool = False
    """timm's ImageNet weights (needs the network once); the paper starts from ImageNet"""
    weights: str | None = None
    """[file] ImageNet weights; wins over pretrained"""


@dataclass(frozen=True)
class Model:
    """The network."""

    backbone: Backbone = Backbone()
    heat_width: int = 32
    """[channels] of the heatmap branch | code"""
    joint_width: int = 15
    """[channels] of each joint's own offset branch | code"""
    blocks: int = 2
    """[blocks] of each joint's branch | code"""
    adaptive: bool = True
    """False = ordinary 3x3 convolutions: an ablation | paper: adaptive"""


@dataclass(frozen=True)
class Loss:
    """Losses and targets."""

    heat: float = 1.0
    """[weight] of loss heat | code"""
    offset: float = 0.03
    """[weight] of loss offset | code"""
    sigma: float = 2.0
    """[cells] of the joints' Gaussians | code"""
    centre_sigma: float = 4.0
    """[cells] of the centres' Gaussians | code"""
    legacy_centre_sigma: bool = False
    """with fewer than 17 joints the centre gets the joints' sigma: the release tests its channel's number against 17,
    so CrowdPose's centres (channel 14) are drawn with 2 | code"""
    radius: int = 4
    """[cells] offsets are taught at (2 radius)^2 cells around a centre | code"""
    background: float = 0.1
    """[weight] of cells outside every Gaussian's window | code"""
    beta: float = 1 / 9
    """[cells] where smooth L1 turns from square to line | code"""
    min_area: float = 32.0**2
    """[photograph pixels^2] people whose OKS area is smaller have no centre; 0 on CrowdPose | code"""
    mask: Literal["regions", "photograph"] = "regions"
    """cells whose heatmaps are not taught: beyond the photograph's edges, and with `regions` also crowds and people
    without joints (COCO; on CrowdPose and OCHuman the releases teach those as background) | code"""
    legacy_dekr_area: bool = False
    """the size a of a person, whose 1 / sqrt(a) weighs the offsets: False = w^2 + h^2 of the labelled joints' extent;
    True = the release's, whose extent starts at the photograph's corner: x_max^2 + y_max^2 | code"""

    def __post_init__(self) -> None:
        if min(self.sigma, self.centre_sigma, self.beta) <= 0 or self.radius < 1:
            raise UserError("loss: sigma, centre_sigma and beta must be above 0, radius at least 1")


@dataclass(frozen=True)
class Decode:
    """From maps to people."""

    candidates: int = 30
    """[peaks] centres per image and scale | code"""
    threshold: float = 0.01
    """[score] centres must be above it | code"""
    decrease: float = 0.9
    """[factor] of the centre scores of scales other than 1; 0.8 on CrowdPose | code"""
    nms: Literal["distance", "oks", "fusion"] = "distance"
    """distance = DEKR's own; oks = PINet's clustering without, fusion = with its fusion of joints (PF)
    | code; PINet, Table 1(d)"""
    distance: float = 0.05
    """[share of sqrt(w^2 + h^2)] joints closer than it are the same | code"""
    distance_multi: float = 0.15
    """[share of sqrt(w^2 + h^2)] the same with several test scales | code"""
    same_joints: int = 8
    """[joints] poses with more than it the same are duplicates; 7 on CrowdPose | code"""
    max_people: int = 30
    """[people per image] kept by nms=distance | code"""
    oks: float = 0.7
    """[OKS] above it poses are one person, for nms=oks and fusion | PINet §3.4, gamma"""
    rescore: str | None = None
    """[file] weights of the rescoring network, whose predicted OKS multiplies the score; null = none
    | paper; none on OCHuman (PINet)"""


RECIPE = Augment(
    flip=0.5,
    scale=Draw(1.0, (0.75, 1.5)),
    rotation=Draw(1.0, (-30, 30)),
    shift=Draw(1.0, (-0.2, 0.2)),
    shift_unit="base",
)
"""The release's: short side, scale, rotation and shift (40 of 200 px of the crop) drawn for every image."""
_DATA = Data(
    view="image",
    input_size=(512, 512),
    base="short",
    centre="image",
    train_on="annotated",
    test_multiple=64,
    test_place="centre",
    regions=True,
    augment=RECIPE,
)
_OPTIM = Optim(name="adam", base_lr=1e-3, base_batch=40, schedule="multi_step", milestones=(90 / 140, 120 / 140))
_TRAIN = Train(epochs=140, batch=40, val_every=10, keep="last", sync_bn=False)
_TEST = Test(batch=8, oks_nms=None)
_HRNET_MULTIPLE = 32


@dataclass(frozen=True)
class Experiment(ExperimentBase):
    """DEKR's experiment."""

    paper: str = "dekr"
    model: Model = Model()
    loss: Loss = Loss()
    decode: Decode = Decode()
    data: Data = _DATA
    optim: Optim = _OPTIM
    train: Train = _TRAIN
    test: Test = _TEST

    def __post_init__(self) -> None:
        if self.data.view != "image":
            raise UserError(f"data.view={self.data.view}: DEKR sees whole images; set data.view=image")
        if self.test.oks_nms is not None:
            raise UserError("test.oks_nms: DEKR removes duplicates itself (decode.nms); set test.oks_nms=null")
        if self.model.backbone.name.startswith("hrnet"):
            sides = [*self.data.input_size, *(self.data.test_multiple * scale for scale in self.data.test_scales)]
            if any(side % _HRNET_MULTIPLE for side in sides):
                raise UserError(
                    f"data.input_size={list(self.data.input_size)}, data.test_multiple={self.data.test_multiple} at "
                    f"test_scales={list(self.data.test_scales)}: HRNet's branches need multiples of {_HRNET_MULTIPLE}"
                )
