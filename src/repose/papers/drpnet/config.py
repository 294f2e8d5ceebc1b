"""Settings of DRP-Net. Defaults are the paper's main model, DRP-Net-M at 256x192, with its training recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from repose.config import Augment, Data, Draw, Ema, ExperimentBase, HalfBody, Hole, Optim, Train
from repose.errors import UserError


@dataclass(frozen=True)
class Backbone:
    """The shared feature extractor."""

    name: str = "cspnext_m"
    """any timm model with feature maps at strides 4, 8, 16, 32 | §2.1, CSPNeXt"""
    pretrained: bool = False
    """timm's ImageNet weights (needs the network once)"""
    weights: str | None = None
    """[file] ImageNet weights; wins over pretrained"""


@dataclass(frozen=True)
class Neck:
    """Fuses the backbone's stages into the one map F that both heads read."""

    width: int | str = "C1"
    """[channels] W of F; C1 = those of the stride-4 stage
    | not stated; Table 3's cost steps allow 73 to 90, C1 of M is 96"""
    levels: tuple[int, ...] = (1, 2, 3, 4)
    """stages that are fused (1 = stride 4 ... 4 = stride 32), none finer than `stride` | not stated"""
    stride: Literal[4, 8, 16] = 4
    """[pixels] of F | Fig. 1: 64x48 at 256x192"""


@dataclass(frozen=True)
class Coarse:
    """Global average pooling and one linear layer."""

    source: Literal["fused", "top"] = "fused"
    """what is pooled: F, or the backbone's last stage | §2.2, Eq. 3: F"""
    init_std: float = 0.01
    """of the linear layer's weights; its bias starts at the crop's centre, 0.5 | not stated"""


@dataclass(frozen=True)
class Head:
    """The refinement head."""

    enabled: bool = True
    """False = coarse only | Table 2"""
    share: Literal["hybrid", "shared", "kp_final", "per_kp"] = "hybrid"
    """hybrid: first conv shared, second conv and 1x1 per keypoint; kp_final: only the 1x1 per keypoint
    | not stated; only hybrid meets Table 1's parameters"""
    width: int = 128
    """[channels] of both 3x3 convs | §2.3"""


@dataclass(frozen=True)
class Roi:
    """The region of interest around each coarse point."""

    size: int = 7
    """[cells of F] side S of the ROI | §2.3, Table 3"""
    up: Literal[1, 2, 4] = 1
    """[factor] bilinear upsampling of the head's map before its last conv; h = w = up * S | not stated"""


@dataclass(frozen=True)
class Model:
    """The network."""

    backbone: Backbone = Backbone()
    neck: Neck = Neck()
    coarse: Coarse = Coarse()
    head: Head = Head()
    roi: Roi = Roi()

    def __post_init__(self) -> None:
        if self.roi.size < 3 or self.roi.size % 2 == 0:
            raise UserError(f"model.roi.size={self.roi.size}: the ROI's side must be an odd number of cells, 3 or more")
        if isinstance(self.neck.width, str) and self.neck.width != "C1":
            raise UserError(f"model.neck.width={self.neck.width!r}: give a number of channels, or C1")
        levels = self.neck.levels
        if not levels or len(set(levels)) != len(levels) or not set(levels) <= {1, 2, 3, 4}:
            raise UserError(f"model.neck.levels={list(levels)}: list some of 1, 2, 3, 4, each once")
        coarsest = [level for level in levels if 2 ** (level + 1) >= self.neck.stride]
        if len(coarsest) != len(levels):
            raise UserError(
                f"model.neck.levels={list(levels)} has stages finer than model.neck.stride={self.neck.stride}; "
                f"set model.neck.levels={coarsest or [4]}"
            )


@dataclass(frozen=True)
class Loss:
    """Losses, targets and where training ROIs come from."""

    coarse: float = 1.0
    """[weight] of loss coarse | §2.4, Eq. 11"""
    fine: float = 1.0
    """[weight] of loss fine | §2.4, Eq. 11"""
    coarse_units: Literal["cell", "pixel", "unit"] = "cell"
    """[unit] of z in SmoothL1(z): cells of F, input pixels, or shares of the input | not stated"""
    sigma: float = 2.0
    """[canvas cells] of the target Gaussian; cells of F at roi.up=1 | §2.3: 2"""
    fine_reduction: Literal["sum", "mean"] = "sum"
    """over the canvas; the text says MSE, Eq. 10 is a sum | Eq. 10"""
    outside: Literal["tail", "mask", "clamp", "zero"] = "tail"
    """target where the joint lies outside its ROI | not stated"""
    roi_source: Literal["pred", "mixed", "oracle", "oracle_jitter"] = "mixed"
    """centres of training ROIs: the prediction; ground truth with jitter at first, then predictions (teacher forcing);
    ground truth; ground truth with jitter | not stated; pred is the paper-literal one"""
    roi_mixed_share: float = 10 / 420
    """[share of training] over which mixed falls from ground truth to predictions | not stated"""
    roi_reach: float = 0.8
    """[share of (S - 1) / 2] range r of the ground-truth jitter | not stated"""
    roi_jitter: float = 0.0
    """[cells] standard deviation of extra jitter of predicted centres | not stated"""

    def __post_init__(self) -> None:
        if self.sigma <= 0:
            raise UserError(f"loss.sigma={self.sigma}: the target's standard deviation must be above 0")


@dataclass(frozen=True)
class Decode:
    """From local heatmaps to joints."""

    peak: Literal["subpixel", "argmax", "gauss"] = "subpixel"
    """argmax is Algorithm 1; subpixel adds the exact sub-cell peak of a Gaussian; gauss also extrapolates at borders"""
    centre: Literal["pred", "oracle_jitter", "oracle_clip"] = "pred"
    """ROI centres in a test; the oracles need ground-truth boxes | Table 2"""
    read_out: Literal["fine", "coarse"] = "fine"
    """coarse = the coarse points as the result"""


_SHARED = {
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
    **_SHARED,
)
"""Stage 1 of the two-stage augmentation (§2.4 names it; the values are RTMPose's)."""
WEAK = Augment(
    scale=Draw(1.0, (0.75, 1.25), "truncnorm"),
    rotation=Draw(0.6, (-60, 60), "truncnorm"),
    hole=Hole(p=0.5),
    **_SHARED,
)
"""Stage 2: the last 30 of 420 epochs (RTMPose's values)."""


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
    """DRP-Net's experiment."""

    paper: str = "drpnet"
    model: Model = Model()
    loss: Loss = Loss()
    decode: Decode = Decode()
    data: Data = _DATA
    optim: Optim = _OPTIM
    train: Train = _TRAIN

    def __post_init__(self) -> None:
        if self.data.view != "person":
            raise UserError(f"data.view={self.data.view}: DRP-Net sees one crop per person; set data.view=person")
        if self.decode.centre != "pred" and self.data.boxes != "gt":
            raise UserError(
                f"decode.centre={self.decode.centre} needs ground-truth boxes; set data.boxes=gt "
                f"(it is {self.data.boxes})"
            )
        height, width = self.data.input_size
        if self.test.flip and width % self.model.neck.stride:
            raise UserError(
                f"data.input_size=[{height}, {width}]: with test.flip the width must be a multiple of "
                f"model.neck.stride={self.model.neck.stride}"
            )
