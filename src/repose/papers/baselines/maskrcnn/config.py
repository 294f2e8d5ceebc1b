"""Settings of Mask R-CNN. Defaults are torchvision's Keypoint R-CNN, ResNet-50-FPN, at 512 pixels on the short side.

"torchvision" below is its detection models and their reference training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from repose.config import Augment, Data, Draw, ExperimentBase, Optim, Test, Train
from repose.errors import UserError

LEVELS = 5
"""Pyramid levels with anchors, strides 4 to 64."""


@dataclass(frozen=True)
class Backbone:
    """ResNet with a feature pyramid."""

    name: Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"] = "resnet50"
    """torchvision's ResNet | Mask R-CNN §3: ResNet-50 and -101"""
    norm: Literal["frozen", "batch"] = "frozen"
    """frozen = batch norms keep the statistics and weights of the file; batch = ordinary ones, for training from
    scratch | torchvision: frozen"""
    trainable: int = 3
    """[stages] that are trained, counted from the last; 5 = all with the first convolution | torchvision: 3"""
    fpn_width: int = 256
    """[channels] of the pyramid | FPN; torchvision"""
    weights: str | None = None
    """[file] ImageNet weights of torchvision's or timm's ResNet; nothing is ever downloaded"""


@dataclass(frozen=True)
class Model:
    """The network."""

    task: Literal["keypoints", "masks"] = "keypoints"
    """what the third head predicts in each box | Mask R-CNN §3 and §5"""
    classes: int = 2
    """[classes] with background; people are class 1; 91 = as torchvision's weights for masks | torchvision"""
    backbone: Backbone = Backbone()
    anchors: tuple[float, ...] = (32.0, 64.0, 128.0, 256.0, 512.0)
    """[input pixels] side of the anchors of each pyramid level, finest first | FPN; torchvision"""
    box_width: int = 1024
    """[channels] of the box head's two layers | FPN; torchvision"""
    keypoint_width: int = 512
    """[channels] of the keypoint head | Mask R-CNN §5"""
    keypoint_convs: int = 8
    """[layers] 3x3 convolutions of the keypoint head | Mask R-CNN §5"""
    mask_width: int = 256
    """[channels] of the mask head | Mask R-CNN Fig. 4"""
    mask_convs: int = 4
    """[layers] 3x3 convolutions of the mask head | Mask R-CNN Fig. 4"""
    weights: str | None = None
    """[file] torchvision's weights of the whole detector; its batch norms then have eps 0, as torchvision gives them"""

    def __post_init__(self) -> None:
        if not 0 <= self.backbone.trainable <= LEVELS:
            raise UserError(f"model.backbone.trainable={self.backbone.trainable}: 0 to {LEVELS} stages")
        if len(self.anchors) != LEVELS:
            raise UserError(f"model.anchors={list(self.anchors)}: one side per pyramid level, {LEVELS}")
        if self.classes < 2:
            raise UserError(f"model.classes={self.classes}: background and people are 2")


@dataclass(frozen=True)
class Loss:
    """Weights of torchvision's losses, by its names without `loss_`, and what they are sampled from."""

    objectness: float = 1.0
    """[weight] of loss objectness: anchors, cross entropy | Mask R-CNN §3; torchvision"""
    rpn_box_reg: float = 1.0
    """[weight] of loss rpn_box_reg: proposals, smooth L1 | torchvision"""
    classifier: float = 1.0
    """[weight] of loss classifier: boxes, cross entropy | torchvision"""
    box_reg: float = 1.0
    """[weight] of loss box_reg: boxes, smooth L1 | torchvision"""
    keypoint: float = 1.0
    """[weight] of loss keypoint: softmax over the cells of each joint's map | Mask R-CNN §5; torchvision"""
    mask: float = 1.0
    """[weight] of loss mask: binary cross entropy | Mask R-CNN §3; torchvision"""
    rpn_samples: int = 256
    """[anchors per image] that losses are computed from, at most half of them people | torchvision"""
    proposals: int = 2000
    """[boxes per image] of the region proposal network in training, by score | torchvision"""
    samples: int = 512
    """[proposals per image] that losses are computed from | torchvision"""
    positive: float = 0.25
    """[share] most of `samples` that are people | torchvision"""
    min_side: float = 1.0
    """[input pixels] people whose box is thinner are left out: a crop's edge may cut all but a sliver off"""

    def __post_init__(self) -> None:
        if self.min_side <= 0:
            raise UserError(f"loss.min_side={self.min_side}: a box that is learnt from must have an area; above 0")


@dataclass(frozen=True)
class Decode:
    """From proposals to people."""

    proposals: int = 1000
    """[boxes per image] of the region proposal network, by score | torchvision"""
    proposal_nms: float = 0.7
    """[IoU] above it proposals are the same | torchvision"""
    threshold: float = 0.05
    """[score] boxes must be above it | torchvision"""
    nms: float = 0.5
    """[IoU] above it boxes are the same person | torchvision"""
    top: int = 20
    """[people per image] best boxes whose joints or masks are read; 100 for masks | COCO's maxDets; torchvision: 100"""


_DATA = Data(
    view="image",
    input_size=(512, 512),
    base="short",
    centre="image",
    train_on="annotated",
    test_multiple=32,
    augment=Augment(flip=0.5, scale=Draw(1.0, (0.8, 1.6)), shift=Draw(1.0, (-0.1, 0.1))),
)
_OPTIM = Optim(
    name="sgd",
    base_lr=0.02,
    base_batch=16,
    momentum=0.9,
    weight_decay=1e-4,
    decay_1d=True,
    schedule="multi_step",
    milestones=(36 / 46, 43 / 46),
    warmup_steps=1000,
    warmup_factor=0.001,
)
_TRAIN = Train(epochs=46, batch=16, val_every=5)
_TEST = Test(batch=8, flip=False, oks_nms=None)


@dataclass(frozen=True)
class Experiment(ExperimentBase):
    """Mask R-CNN's experiment."""

    paper: str = "maskrcnn"
    model: Model = Model()
    loss: Loss = Loss()
    decode: Decode = Decode()
    data: Data = _DATA
    optim: Optim = _OPTIM
    train: Train = _TRAIN
    test: Test = _TEST

    def __post_init__(self) -> None:
        if self.data.view != "image":
            raise UserError(f"data.view={self.data.view}: Mask R-CNN sees whole images; set data.view=image")
        if self.model.task == "masks" and self.data.masks != "full":
            raise UserError(f"data.masks={self.data.masks}: model.task=masks learns from them; set data.masks=full")
