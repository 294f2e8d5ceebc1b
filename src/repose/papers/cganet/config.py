"""Settings of CGANet. Defaults are the paper's main model, TNet-D1W64 with two ROIGuiders at 512, and its recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from repose.config import Augment, Data, Draw, ExperimentBase, Optim, Test, Train
from repose.errors import UserError


@dataclass(frozen=True)
class Backbone:
    """TNet-DxWy, or ResNet with a feature pyramid (rows a and b of Table 1)."""

    kind: Literal["tnet", "fpn"] = "tnet"
    """fpn = a timm model with FPN | Table 1"""
    depth: int = 1
    """[trapezoids] D of TNet | Efficient Trapezoidal Network: 1 in the single model, 3 in the separated one"""
    width: int = 64
    """[channels] W of TNet; level i has W (i + 1)
    | Efficient Trapezoidal Network; how widths grow is not stated, these fit the parameters"""
    levels: int = 5
    """[levels] of TNet's first trapezoid, strides 4, 8, ...; each further one has one less | not stated"""
    n_rb: int = 3
    """[blocks] residual blocks from level to level | not stated"""
    gfm_reduction: int = 1
    """[factor] by which the guide's channels shrink inside GFM | Eq. 1 and 2: none"""
    gfm_double_identity: bool = False
    """add C_i once more after GFM | Eq. 2 and Eq. 7 both add it"""
    reverse: Literal["sequential", "parallel"] = "sequential"
    """guide of level i: the guided level i + 1, or the raw one (leaves half of D3 without gradient) | Eq. 6 and 7"""
    name: str = "resnet50"
    """timm model of fpn | Table 1: FPN-50"""
    pretrained: bool = False
    """fpn: timm's ImageNet weights (needs the network once)"""
    weights: str | None = None
    """[file] fpn: ImageNet weights; wins over pretrained"""
    fpn_width: int = 256
    """[channels] of fpn's levels | FPN"""


@dataclass(frozen=True)
class Roi:
    """What happens in a person's box."""

    kind: Literal["guider", "pooler"] = "guider"
    """pooler = one level by the box's size and plain convolutions, fpn only | Table 1"""
    size: int = 32
    """[cells] side of the aligned stride-4 level: training input / 16, halved from level to level
    | ROIguider: 24 at 384"""
    stages: int = 2
    """[ROIGuiders] in a row | Table 1, row f"""
    samples: int = 2
    """[samples per bin and axis] of RoIAlign | not stated; torchvision's Mask R-CNN"""
    upscale: Literal[1, 2] = 2
    """[factor] of the heatmap against `size` | not stated"""
    intermediate: bool = False
    """a head and a loss behind every ROIGuider, not the last alone | not stated"""
    pooler_width: int = 512
    """[channels] of the pooler's convolutions | Mask R-CNN; fits Table 1"""
    pooler_convs: int = 4
    """[layers] 3x3 convolutions of the pooler | not stated; fits Table 1's parameters and speed"""


@dataclass(frozen=True)
class Model:
    """The network."""

    kind: Literal["single", "separated"] = "single"
    """separated = top-down: one crop per person, TNet and a heatmap head
    | TNet on Separated-Model Experiments, Tables 4 and 5"""
    task: Literal["keypoints", "masks"] = "keypoints"
    """masks = the ROI head predicts a person's mask | Table 6"""
    backbone: Backbone = Backbone()
    head_width: int = 64
    """[channels] of the detection heads' 3x3 convolution (and the separated head's) | not stated; CenterNet"""
    centre_lines: bool = True
    """the two heads of the Centre Line Branch | Center Line Branch"""
    roi: Roi = Roi()

    def __post_init__(self) -> None:
        b = self.backbone
        if b.kind == "tnet":
            if b.width < 4 or b.width % 4:
                raise UserError(
                    f"model.backbone.width={b.width}: the pixel shuffle needs a multiple of 4; "
                    f"set {max(b.width // 4 * 4, 4)}"
                )
            most = b.levels - (2 if self.kind == "single" else 1)
            if not 1 <= b.depth <= most:
                raise UserError(
                    f"model.backbone.depth={b.depth}: with model.backbone.levels={b.levels} the {self.kind} model can "
                    f"be 1 to {most} deep"
                )
        if self.kind == "separated" and b.kind != "tnet":
            raise UserError("model.kind=separated is a TNet; set model.backbone.kind=tnet (FPN-50 is a single model)")
        if self.roi.kind == "pooler" and b.kind != "fpn":
            raise UserError("model.roi.kind=pooler chooses a level of a pyramid; set model.backbone.kind=fpn")
        if self.roi.size < 4 or self.roi.size % 4:
            raise UserError(f"model.roi.size={self.roi.size}: it is halved twice, so a multiple of 4")
        if self.roi.stages < 1:
            raise UserError(f"model.roi.stages={self.roi.stages}: at least one ROIGuider")


@dataclass(frozen=True)
class Loss:
    """Losses, targets and training ROIs."""

    det: float = 1.0
    """[weight] of loss det, the person centres | Total Loss"""
    wh: float = 0.1
    """[weight] of loss wh, box sizes | Total Loss"""
    off: float = 1.0
    """[weight] of loss off, sub-cell centres | Total Loss"""
    line_x: float = 1.0
    """[weight] of loss line_x, horizontal centre lines | Total Loss"""
    line_y: float = 1.0
    """[weight] of loss line_y, vertical centre lines | Total Loss"""
    keypoint: float = 3.0
    """[weight] of loss keypoint | Total Loss"""
    mask: float = 3.0
    """[weight] of loss mask, in place of keypoint | not stated; keypoint's"""
    heatmap: float = 1.0
    """[weight] of loss heatmap of the separated model"""
    min_overlap: float = 0.7
    """[IoU] that sets the radius of the centres' Gaussians | CenterNet"""
    line_iou: float = 0.3
    """[IoU] miniou, sets the thickness of centre lines | Center Line Branch"""
    line_sigma: float = 1.4
    """[cells] of the Gaussian around centre lines | Center Line Branch"""
    line_thre: float = 0.1
    """[height] from which a cell of a line map is foreground | Eq. 3"""
    line_alpha: float = 1.0
    """[exponent] of the line loss's weight | Eq. 3"""
    line_detach: bool = False
    """no gradient through the line loss's weight | not stated"""
    sigma_share: float = 2 / 64
    """[share of the ROI heatmap's side] sigma of keypoint Gaussians | not stated; 2 cells of 64"""
    roi_source: Literal["gt_jitter", "gt", "pred_mix"] = "gt_jitter"
    """training ROIs: annotated boxes, moved and scaled at random or not; pred_mix adds detected boxes | not stated"""
    roi_shift: float = 0.08
    """[share of width and height] largest shift of a training ROI | not stated"""
    roi_scale: tuple[float, float] = (0.9, 1.25)
    """[factor] range of its width and of its height | not stated"""
    roi_max: int = 20
    """[ROIs per image] a random subset of more | not stated"""
    roi_pred_from: float = 5 / 95
    """[share of training] before which pred_mix adds none | not stated"""
    separated: Literal["mse", "focal"] = "mse"
    """loss of the separated model | not stated; mse is what its baselines use"""
    separated_sigma: float = 2.0
    """[cells] of the separated model's Gaussians; 3 at 384x288 | not stated; HRNet"""

    def __post_init__(self) -> None:
        for name in ("line_sigma", "sigma_share", "separated_sigma"):
            if getattr(self, name) <= 0:
                raise UserError(f"loss.{name}={getattr(self, name)}: a Gaussian's standard deviation is above 0")
        if not 0 < self.line_iou < 1 or not 0 < self.min_overlap < 1:
            raise UserError("loss.line_iou and loss.min_overlap are IoUs between 0 and 1")
        low, high = self.roi_scale
        if not 0 < low <= high:
            raise UserError(f"loss.roi_scale=[{low}, {high}]: two factors above 0, the lower one first")


@dataclass(frozen=True)
class Decode:
    """From maps to boxes, from boxes to joints."""

    top: int = 20
    """[people per image] best detections that go on | Implementation Details: maxDets 20"""
    ambiguity: bool = True
    """Ambiguity Alleviation: score the centres with the centre lines | Eq. 4"""
    alpha: float = 1.0
    """[exponent] of the centre map in Eq. 4 | not stated"""
    beta: float = 0.5
    """[exponent] of the line maps in Eq. 4 | not stated"""
    extend: Literal["none", "dichotomy", "fixed"] = "dichotomy"
    """how detected boxes are extended; fixed = by a share of their size
    | Center Line Branch, Algorithm 1; Table 1, row d*"""
    ratio: float = 0.09
    """[share of the box's side] most that dichotomy adds on each side | Ablation Study, Table 2"""
    thre: float = 0.08
    """[height of the line map] where a person ends | Ablation Study, Table 2"""
    iterations: int = 10
    """[steps] of the search | Algorithm 1: the loop runs 11 times, the text says fewer than 10 do"""
    direction: Literal["text", "printed"] = "text"
    """printed = Algorithm 1 with its signs, which never searches | Center Line Branch against Algorithm 1"""
    fixed: float = 0.05
    """[share of the box's side] added on each side by extend=fixed | not stated"""
    peak: Literal["quarter", "argmax", "subpixel"] = "quarter"
    """joint from its heatmap; quarter of a cell towards the higher neighbour | not stated; HRNet"""
    score: Literal["box_x_kp", "box"] = "box_x_kp"
    """instance score: detection score times mean joint score, or alone | not stated"""

    def __post_init__(self) -> None:
        if self.top < 1:
            raise UserError(f"decode.top={self.top}: at least one detection per image")


_DATA = Data(
    view="image",
    input_size=(512, 512),
    base="short",
    centre="image",
    masks="stride4",
    test_multiple=64,
    test_place="centre",
    augment=Augment(
        flip=0.5,
        scale=Draw(1.0, (0.6, 1.5)),
        rotation=Draw(1.0, (-45.0, 45.0)),
        shift=Draw(1.0, (-0.2, 0.2)),
        shift_unit="base",
    ),
)
"""Implementation Details: scale 0.6 to 1.5, rotation 45, translation 40: HigherHRNet's fields, so 40 of 200 of the
scaled short side. Crowd regions (stride 4) are left out of the detection losses."""
_OPTIM = Optim(
    name="sgd",
    base_lr=1e-2,
    base_batch=32,
    momentum=0.9,
    weight_decay=1e-4,
    schedule="multi_step",
    milestones=(70 / 95, 85 / 95),
    gamma=0.1,
    warmup_steps=1000,
    warmup_factor=0.1,
    clip_norm=35.0,
)
_TRAIN = Train(epochs=95, batch=32, val_every=5)
_TEST = Test(batch=16, flip=False, oks_nms=None, max_people=20)


@dataclass(frozen=True)
class Experiment(ExperimentBase):
    """CGANet's experiment."""

    paper: str = "cganet"
    model: Model = Model()
    loss: Loss = Loss()
    decode: Decode = Decode()
    data: Data = _DATA
    optim: Optim = _OPTIM
    train: Train = _TRAIN
    test: Test = _TEST

    def __post_init__(self) -> None:
        view = "image" if self.model.kind == "single" else "person"
        if self.data.view != view:
            raise UserError(
                f"data.view={self.data.view}: CGANet's {self.model.kind} model sees "
                + ("whole images" if view == "image" else "one crop per person")
                + f"; set data.view={view}"
            )
        if self.model.kind == "separated":
            if self.model.task == "masks":
                raise UserError("model.task=masks is the single model's; set model.kind=single")
            return
        lines = [
            n
            for n, on in (
                ("ambiguity=true", self.decode.ambiguity),
                (f"extend={self.decode.extend}", self.decode.extend == "dichotomy"),
            )
            if on
        ]
        if lines and not self.model.centre_lines:
            raise UserError(
                f"decode.{lines[0]} needs the centre lines; set model.centre_lines=true, "
                f"or decode.ambiguity=false and decode.extend=none"
            )
        if self.model.task == "masks" and self.data.masks == "none":
            raise UserError("model.task=masks learns from instance masks; set data.masks=full")
