"""Settings of PINet. Defaults are the paper's main model, HRNet-W32 at 512x512, with its recipe for OCHuman.

"code" below is the authors' release, "DEKR" the release that it follows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from repose.config import Augment, Data, Draw, ExperimentBase, Optim, Test, Train
from repose.errors import UserError


@dataclass(frozen=True)
class Backbone:
    """The shared feature extractor."""

    name: str = "hrnet_w32"
    """any timm model with feature maps at strides 4, 8, 16, 32 | §4.2"""
    pretrained: bool = False
    """timm's ImageNet weights (needs the network once) | §4.2: the paper starts from ImageNet"""
    weights: str | None = None
    """[file] ImageNet weights, the official HRNet files too; wins over pretrained"""


@dataclass(frozen=True)
class Refine:
    """PR, pose refinement."""

    enabled: bool = True
    """False = the poses of PPG stand | Table 1(a)"""
    graph: Literal["dynamic", "static", "none"] = "dynamic"
    """dynamic = learnt, static = the skeleton's, none = no graph layers at all | §3.3, Table 1(c); none: not stated"""
    edges: Literal["paper", "limbs", "self"] = "paper"
    """the graph at the start: the release's edges (the skeleton's limbs, where it has none), the limbs that are drawn,
    or no edge but each joint to itself | code"""
    blocks: int = 3
    """[blocks] residual blocks of two graph layers; 2 on COCO | code; §3.3 says 3 layers with residual connection"""
    legacy_grid_sample: bool = False
    """joint features are read up to half a cell off, as the release does; its weights need it | code"""


@dataclass(frozen=True)
class Model:
    """The network."""

    backbone: Backbone = Backbone()
    partition: Literal["center", "head", "part_large", "part_small", "keypoint"] = "part_large"
    """which parts a body has, made of the skeleton's joint groups | §3.2, Fig. 3; Table 1(b)"""
    parts: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    """a partition of one's own, wins over `partition`: part name -> names of joint groups or joints (a group first)"""
    refine: Refine = Refine()


@dataclass(frozen=True)
class Loss:
    """Losses and targets."""

    point: float = 1.0
    """[weight] of loss point | §3.1, Eq. 5"""
    offset: float = 0.03
    """[weight] of loss offset, lambda_o | §4.2"""
    refine: float = 0.03
    """[weight] of loss refine, lambda | §4.2"""
    sigma: float = 2.0
    """[cells] of the joints' Gaussians | code"""
    part_sigma: float = 2.0
    """[cells] of the part centres' Gaussians; DEKR has 4, with radius 4 | code"""
    radius: int = 2
    """[cells] offsets are taught at (2 radius)^2 cells around a part's centre | code"""
    background: float = 0.1
    """[weight] of cells outside every Gaussian's window | §3.2"""
    beta: float = 1 / 9
    """[cells] where smooth L1 turns from square to line | code"""
    normaliser: Literal["sqrt_area", "area"] = "sqrt_area"
    """1 / S of Eq. 8 and 10: S the square root of the box's area (input pixels), or the area | §3.2: area; code"""
    min_area: float = 32.0**2
    """[input pixels^2] people in smaller boxes have no part centres; 0 on CrowdPose | code"""
    mask: Literal["regions", "photograph"] = "photograph"
    """cells whose heatmaps are not taught: beyond the photograph's edges; with `regions` (COCO) also crowds and people
    without joints | code"""
    proposals: int = 40
    """[poses per image and part] that PR is trained on: the target cells with the highest Gaussian / sqrt(area)
    | §4.2, code"""
    legacy_flip: bool = False
    """targets of mirrored training images lie 3 input pixels to the left, as in the release | code"""

    def __post_init__(self) -> None:
        if min(self.sigma, self.part_sigma, self.beta) <= 0 or self.radius < 1 or self.proposals < 1:
            raise UserError("loss: sigma, part_sigma and beta must be above 0, radius and proposals at least 1")


@dataclass(frozen=True)
class Decode:
    """From maps to people."""

    candidates: int = 30
    """[peaks] per image, part and scale | code"""
    threshold: float = 0.01
    """[score] peaks must be above it | code"""
    decrease: float = 0.9
    """[factor] of the part scores of scales other than 1; 0.8 on CrowdPose | DEKR; the release's is undefined"""
    fuse: bool = True
    """PF: False = the best pose of each group stands, plain NMS | §3.4, Table 1(a) and (d)"""
    oks: float = 0.7
    """[OKS] strictly above it poses are one person | §4.2, gamma"""


_DATA = Data(
    view="image",
    input_size=(512, 512),
    base="short",
    centre="image",
    train_on="annotated",
    test_multiple=64,
    test_place="centre",
    regions=True,
    augment=Augment(
        flip=0.5,
        scale=Draw(1.0, (0.75, 1.5)),
        rotation=Draw(1.0, (-30, 30)),
        shift=Draw(1.0, (-0.2, 0.2)),  # 40 of 200 px of the crop
        shift_unit="base",
    ),
)
_OPTIM = Optim(name="adam", base_lr=1e-3, base_batch=20, schedule="multi_step", milestones=(90 / 140, 120 / 140))
_TRAIN = Train(epochs=140, batch=20, val_every=10, keep="last", sync_bn=False)
_TEST = Test(batch=8, oks_nms=None)
_HRNET_MULTIPLE = 32


@dataclass(frozen=True)
class Experiment(ExperimentBase):
    """PINet's experiment."""

    paper: str = "pinet"
    model: Model = Model()
    loss: Loss = Loss()
    decode: Decode = Decode()
    data: Data = _DATA
    optim: Optim = _OPTIM
    train: Train = _TRAIN
    test: Test = _TEST

    def __post_init__(self) -> None:
        if self.data.view != "image":
            raise UserError(f"data.view={self.data.view}: PINet sees whole images; set data.view=image")
        if self.test.oks_nms is not None:
            raise UserError("test.oks_nms: PINet groups poses itself (decode.oks, decode.fuse); set test.oks_nms=null")
        if self.model.backbone.name.startswith("hrnet"):
            sides = [*self.data.input_size, *(self.data.test_multiple * scale for scale in self.data.test_scales)]
            if any(side % _HRNET_MULTIPLE for side in sides):
                raise UserError(
                    f"data.input_size={list(self.data.input_size)}, data.test_multiple={self.data.test_multiple} at "
                    f"test_scales={list(self.data.test_scales)}: HRNet's branches need multiples of {_HRNET_MULTIPLE}"
                )
