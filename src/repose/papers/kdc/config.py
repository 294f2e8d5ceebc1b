"""Settings of KDC. Defaults are the paper's ResNet-101 at 401x401, with its training recipe.

Lengths called px are pixels of the 401x401 frame; at another input side they are multiplied by (side - 1) / 400.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from repose.config import Augment, Data, Draw, Ema, ExperimentBase, Optim, Test, Train
from repose.errors import UserError


@dataclass(frozen=True)
class Backbone:
    """The residual network that all heads share."""

    name: str = "resnet101"
    """any timm ResNet | §4: ResNet-101 and ResNet-152"""
    pretrained: bool = False
    """timm's ImageNet weights (needs the network once)"""
    weights: str | None = None
    """[file] ImageNet weights; wins over pretrained"""
    width: float = 1.0
    """[factor] of the stages' channels, for small scales; ImageNet weights need 1"""
    freeze_bn: bool = True
    """keep batch norms, statistics and weights, as the ImageNet weights have them; without weights they are trained
    | not stated; the first author's older code"""
    lr_factor: float = 1.0
    """[factor] of the backbone's learning rate; for training from ImageNet weights at a higher one than the paper's"""

    def __post_init__(self) -> None:
        if self.width <= 0 or self.lr_factor < 0:
            raise UserError(
                f"model.backbone.width={self.width}, model.backbone.lr_factor={self.lr_factor}: "
                "the width must be above 0, the factor cannot be negative"
            )


@dataclass(frozen=True)
class Model:
    """The network, and what its maps mean."""

    backbone: Backbone = Backbone()
    stride: Literal[8, 16, 32] = 16
    """[pixels] output stride in training | not stated; the first author's older code: 16"""
    eval_stride: Literal[8, 16, 32] = 8
    """[pixels] output stride in evaluation, of the same weights | not stated; the first author's older code: 8"""
    decoder: Literal["none", "skip4"] = "none"
    """skip4 = heads on a stride-4 map that joins the first stage | not in the paper"""
    radius: float = 32.0
    """[px] R of the keypoint disks | §3.2: 32; Fig. 7: 8, 16, 32"""
    khdr: bool = True
    """True = binary disks as heatmap targets; False = Gaussians of deviation R / 3 | §3.1, Eq. 3, Table 7"""
    use_kc: bool = True
    """KeyCentroid: vectors from the disk's pixels to the keypoint | §3.2, Table 7"""
    grouping: Literal["midrange", "embedding"] = "midrange"
    """midrange = vectors between joints of an edge; embedding = the heads that the paper lists, and no more
    | not stated; see the README"""
    graph: Literal["full", "tree", "limbs"] = "full"
    """edges between joints: the skeleton's group kdc_full (its limbs where it has none), kdc_tree, or its limbs
    | §3.4 "kinematic graph", not given"""
    center_mode: Literal["static", "dynamic", "keypoint"] = "dynamic"
    """MaskCentroid in training: mean pixel, mean embedding (Eq. 7), or weighted keypoints | §3.3, Fig. 8"""
    bandwidth: bool = True
    """learn sigma_j of Eq. 6 per pixel; False = 0.1 of the frame for all | not stated; SpatialEmbeddings"""

    def __post_init__(self) -> None:
        if self.radius <= 0:
            raise UserError(f"model.radius={self.radius}: the disks' radius must be above 0")


@dataclass(frozen=True)
class Loss:
    """Weights of the losses, and the grid they are computed on."""

    heatmap: float = 4.0
    """[weight] of loss heatmap | Eq. 1; weight not stated, PersonLab's"""
    keycentroid: float = 1.0
    """[weight] of loss keycentroid | Eq. 4; weight not stated, PersonLab's"""
    midrange: float = 0.25
    """[weight] of loss midrange | not in the paper; PersonLab's"""
    seg: float = 2.0
    """[weight] of loss seg | Fig. 1g; weight not stated, PersonLab's"""
    offset: float = 2.0
    """[weight] of loss offset | Eq. 5; weight not stated"""
    instance: float = 1.0
    """[weight] of loss instance | Eq. 6 and 7 without a loss in the paper; SpatialEmbeddings"""
    bandwidth: float = 0.1
    """[weight] of loss bandwidth | not in the paper; SpatialEmbeddings"""
    stride: Literal[1, 2, 4, 8] = 4
    """[pixels] of the grid that targets and losses use | not stated; 1 = every pixel"""
    inst_loss: Literal["lovasz", "dice"] = "lovasz"
    """loss on phi | not stated; SpatialEmbeddings"""
    min_pixels: int = 16
    """[pixels of the loss grid] smaller instances have no mask loss"""


@dataclass(frozen=True)
class Pgo:
    """Point-wise Gaussian optimisation: smoothing of the Hough maps."""

    sigma_hvk: float = 0.4
    """[unit] for high-variance keypoints, the skeleton's group kdc_high_variance | Fig. 9: 0.1 to 0.4"""
    sigma_lvk: float = 0.9
    """[unit] for the other joints | Fig. 9: 0.5 to 0.9"""
    unit: Literal["px", "cell", "radius"] = "px"
    """px of the frame, cells of the output stride, or disk radii | not stated"""

    def __post_init__(self) -> None:
        for name in ("sigma_hvk", "sigma_lvk"):
            if getattr(self, name) < 0:
                raise UserError(f"decode.pgo.{name}={getattr(self, name)}: a standard deviation is 0 or more")


@dataclass(frozen=True)
class Igo:
    """Instance-wise Gaussian optimisation."""

    sigma: float = 0.1
    """[px, or U of the frame] of the smoothing, or sigma_j itself; 0.1 px is no change | §3.3, Fig. 10: 0.1 to 0.5"""
    mode: Literal["blur_px", "bandwidth"] = "blur_px"
    """blur_px = smooth each phi_j; bandwidth = take sigma for all sigma_j of Eq. 6 | not stated"""

    def __post_init__(self) -> None:
        if self.sigma < 0 or (self.mode == "bandwidth" and self.sigma == 0):
            least = "above 0 with decode.igo.mode=bandwidth" if self.mode == "bandwidth" else "0 or more"
            raise UserError(f"decode.igo.sigma={self.sigma}: it must be {least}")


@dataclass(frozen=True)
class Decode:
    """PoseSeg: from maps to people (§3.4)."""

    vote_threshold: float = 0.05
    """[probability] pixels above it vote for their keypoint | not stated"""
    tau: float = 0.004
    """[1 / px^2] smallest peak of the Hough map: an offset error of s px gives 1 / (2 pi s^2) | KerasPersonLab"""
    nms_radius: float = 10.0
    """[px] a peak is the highest within it, and people share no joint within it | PersonLab"""
    match_radius: float = 16.0
    """[px] a proposal takes the nearest free peak within it | not stated"""
    refine_radius: float = 2.0
    """[px] a peak moves to the centre of mass within it | not stated"""
    refine_steps: int = 2
    """[steps] that a proposal follows the KeyCentroid | PersonLab"""
    strict: bool = False
    """drop joints without a peak and what hangs on them; match radius doubled | the first author's older code"""
    max_people: int = 30
    """[people per image] that are kept | not stated"""
    min_score: float = 0.01
    """[score] people below it are dropped | not stated"""
    masks: bool = True
    """give instance masks"""
    seg_threshold: float = 0.5
    """[probability] pixels above it are person | §3.4"""
    mask_threshold: float = 0.5
    """[probability] phi above it joins the instance | §3.4: 0.5"""
    min_mask: int = 16
    """[px^2] smaller masks are dropped | not stated"""
    pgo: Pgo = Pgo()
    igo: Igo = Igo()

    def __post_init__(self) -> None:
        for name in ("vote_threshold", "seg_threshold", "mask_threshold"):
            if not 0 < getattr(self, name) < 1:
                raise UserError(f"decode.{name}={getattr(self, name)}: it must lie between 0 and 1")
        if self.tau <= 0:
            raise UserError(f"decode.tau={self.tau}: the smallest peak must be above 0")
        for name in ("nms_radius", "match_radius", "refine_radius", "refine_steps", "max_people", "min_mask"):
            if getattr(self, name) < 0:
                raise UserError(f"decode.{name}={getattr(self, name)}: it cannot be negative")


_AUGMENT = Augment(
    flip=0.5,
    scale=Draw(1.0, (0.5, 1.25), "inverse"),
    rotation=Draw(1.0, (-25, 25)),
    shift=Draw(1.0, (-0.05, 0.05)),
)
"""§4 names scale, flip and rotate; the ranges are PersonLab's (zoom 0.8 to 2 about a person, +-20 px)."""
_DATA = Data(
    view="image",
    input_size=(401, 401),
    base="long",
    centre="person",
    border="mean",
    test_multiple=401,
    train_on="annotated",
    masks="stride4",
    augment=_AUGMENT,
)
_OPTIM = Optim(name="adam", base_lr=1e-5, base_batch=4, schedule="constant", ema=Ema(decay=0.999))
_TRAIN = Train(epochs=400, batch=4, val_every=10)
_TEST = Test(batch=8, flip=False, oks_nms=None)


@dataclass(frozen=True)
class Experiment(ExperimentBase):
    """KDC's experiment."""

    paper: str = "kdc"
    model: Model = Model()
    loss: Loss = Loss()
    decode: Decode = Decode()
    data: Data = _DATA
    optim: Optim = _OPTIM
    train: Train = _TRAIN
    test: Test = _TEST

    def __post_init__(self) -> None:
        if self.data.view != "image":
            raise UserError(f"data.view={self.data.view}: KDC sees whole images; set data.view=image")
        if self.data.masks == "stride4" and self.loss.stride < 4:
            raise UserError(f"loss.stride={self.loss.stride}: masks at stride 4 are too coarse; set data.masks=full")
        if len(self.data.test_scales) != 1:
            raise UserError("data.test_scales: KDC tests at one scale; give one, [1.0]")
