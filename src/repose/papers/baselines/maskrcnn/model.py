"""torchvision's Mask R-CNN and Keypoint R-CNN, run head by head so that mirrored views can be averaged.

Module names are torchvision's, so its weight files fit. Boxes are in its coordinates (`targets`). Shapes: B images, N
boxes of all images, K joints, C channels or classes, U cells of a box's map, H W input pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models import resnet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.keypoint_rcnn import KeypointRCNN, KeypointRCNNHeads, KeypointRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNN, MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import FrozenBatchNorm2d

from repose.errors import UserError
from repose.papers.baselines.maskrcnn import config
from repose.papers.baselines.maskrcnn.targets import PERSON, Targets

BOX_CELLS = 7
"""Cells along the side of a box's features for the box head (torchvision)."""
RATIOS = (0.5, 1.0, 2.0)
"""Height / width of the anchors (FPN; torchvision)."""


class Boxes(NamedTuple):
    """Detected people.

    Attributes:
        box_N4: per image (N, 4).
        score_N: per image (N,).
    """

    box_N4: list[Tensor]
    score_N: list[Tensor]


class RCNN(nn.Module):
    """The detector: pyramid, region proposals, and the heads of proposals and of people."""

    def __init__(self, cfg: config.Model, loss: config.Loss, decode: config.Decode, k: int) -> None:
        super().__init__()
        self.cfg, self.decode = cfg, decode
        detector = _detector(cfg, loss, decode, k)
        self.backbone: Any = detector.backbone
        self.rpn: Any = detector.rpn
        self.roi_heads: Any = detector.roi_heads
        if cfg.weights is not None:
            _load(self, cfg.weights, "model.weights")
            for module in self.modules():  # what torchvision does on loading its own files
                if isinstance(module, FrozenBatchNorm2d):
                    module.eps = 0.0

    def forward(self, image_BCHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Classes, boxes and maps of as many boxes as a test may have: what `repose cost` counts.

        The boxes are the first anchors, `decode.proposals` and `decode.top` of them in each image: the most of a test.
        """
        features = self.backbone(image_BCHW)
        size = [(image_BCHW.shape[-2], image_BCHW.shape[-1])] * image_BCHW.shape[0]
        anchors = self.rpn.anchor_generator(ImageList(image_BCHW, size), list(features.values()))
        self.rpn.head(list(features.values()))
        classes, boxes = self._classify(features, [a[: self.decode.proposals] for a in anchors], size)
        return classes, boxes, self.maps(features, [a[: self.decode.top] for a in anchors], size)

    def train_losses(self, image_BCHW: Tensor, targets: Targets) -> dict[str, Tensor]:
        """The losses by torchvision's names without `loss_`; anchors and proposals are drawn from the batch's seeds."""
        cuda = [image_BCHW.device] if image_BCHW.is_cuda else []
        # torchvision draws from torch's own generators: seed them, and leave them as they were
        with torch.random.fork_rng(devices=cuda):
            torch.manual_seed(int(targets.seed_B.sum()))
            images, features = ImageList(image_BCHW, targets.size_hw), self.backbone(image_BCHW)
            proposals, first = self.rpn(images, features, targets.people)
            _, second = self.roi_heads(features, proposals, targets.size_hw, targets.people)
        return {name.removeprefix("loss_"): loss.float() for name, loss in (first | second).items()}

    def detect(self, image_BCHW: Tensor, size_hw: Sequence[tuple[int, int]]) -> tuple[Boxes, dict[str, Tensor]]:
        """People of each image, best first, and the pyramid that they were found in."""
        features, size = self.backbone(image_BCHW), list(size_hw)
        proposals, _ = self.rpn(ImageList(image_BCHW, size), features)
        classes, regression = self._classify(features, proposals, size)
        found = self.roi_heads.postprocess_detections(classes.float(), regression.float(), proposals, size)
        people = [label == PERSON for label in found[2]]
        box_N4, score_N = ([x[mine] for x, mine in zip(xs, people, strict=True)] for xs in found[:2])
        return Boxes(box_N4, score_N), features

    def maps(self, features: dict[str, Tensor], box_N4: list[Tensor], size_hw: list[tuple[int, int]]) -> Tensor:
        """Logits in boxes: (N, K, 56, 56) of joints, or (N, 1, 28, 28) of the person's mask."""
        heads = self.roi_heads
        if self.cfg.task == "keypoints":
            pooled = heads.keypoint_roi_pool(features, box_N4, size_hw)  # (N, C, 14, 14)
            return heads.keypoint_predictor(heads.keypoint_head(pooled))  # (N, K, 56, 56)
        pooled = heads.mask_roi_pool(features, box_N4, size_hw)  # (N, C, 14, 14)
        return heads.mask_predictor(heads.mask_head(pooled))[:, PERSON, None]  # (N, 1, 28, 28)

    def _classify(
        self, features: dict[str, Tensor], box_N4: list[Tensor], size_hw: list[tuple[int, int]]
    ) -> tuple[Tensor, Tensor]:
        """Class logits (N, C) and box corrections (N, 4 C) of proposals."""
        heads = self.roi_heads
        return heads.box_predictor(heads.box_head(heads.box_roi_pool(features, box_N4, size_hw)))


class KeypointPredictor(KeypointRCNNPredictor):
    """Contiguous maps: torchvision's loss cannot read those of a network in channels_last, as PoseModule's are."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, K, 4 H, 4 W)."""
        return super().forward(x).contiguous()


def _detector(cfg: config.Model, loss: config.Loss, decode: config.Decode, k: int) -> Any:
    """The whole detector; its resizing and normalisation are not used (the data view and PoseModule do both)."""
    width = cfg.backbone.fpn_width
    common: dict[str, Any] = {
        "backbone": _pyramid(cfg.backbone),
        "rpn_anchor_generator": AnchorGenerator(tuple((side,) for side in cfg.anchors), (RATIOS,) * len(cfg.anchors)),
        "box_head": TwoMLPHead(width * BOX_CELLS**2, cfg.box_width),
        "box_predictor": FastRCNNPredictor(cfg.box_width, cfg.classes),
        "rpn_pre_nms_top_n_train": loss.proposals,
        "rpn_post_nms_top_n_train": loss.proposals,
        "rpn_pre_nms_top_n_test": decode.proposals,
        "rpn_post_nms_top_n_test": decode.proposals,
        "rpn_nms_thresh": decode.proposal_nms,
        "rpn_batch_size_per_image": loss.rpn_samples,
        "box_score_thresh": decode.threshold,
        "box_nms_thresh": decode.nms,
        "box_detections_per_img": decode.top,
        "box_batch_size_per_image": loss.samples,
        "box_positive_fraction": loss.positive,
    }
    if cfg.task == "keypoints":
        head = KeypointRCNNHeads(width, (cfg.keypoint_width,) * cfg.keypoint_convs)
        return KeypointRCNN(**common, keypoint_head=head, keypoint_predictor=KeypointPredictor(cfg.keypoint_width, k))
    head = MaskRCNNHeads(width, (cfg.mask_width,) * cfg.mask_convs, 1)
    return MaskRCNN(
        **common, mask_head=head, mask_predictor=MaskRCNNPredictor(cfg.mask_width, cfg.mask_width, cfg.classes)
    )


def _pyramid(cfg: config.Backbone) -> BackboneWithFPN:
    """A ResNet's four stages and the pyramid over them (FPN; torchvision's `resnet_fpn_backbone`, of any width)."""
    norm = FrozenBatchNorm2d if cfg.norm == "frozen" else nn.BatchNorm2d
    body: Any = getattr(resnet, cfg.name)(weights=None, norm_layer=norm)
    if cfg.weights is not None:
        _load(body, cfg.weights, "model.backbone.weights", without="fc.")
    trained = ["layer4", "layer3", "layer2", "layer1", "conv1"][: cfg.trainable]
    trained += ["bn1"] if "conv1" in trained else []
    for name, parameter in body.named_parameters():
        parameter.requires_grad_(name.split(".")[0] in trained)
    stages = [f"layer{i + 1}" for i in range(4)]
    widths = [body.inplanes // 2 ** (3 - i) for i in range(4)]
    return BackboneWithFPN(body, {name: str(i) for i, name in enumerate(stages)}, widths, cfg.fpn_width)


def _load(module: nn.Module, file: str, key: str, without: str = " ") -> None:
    """Load a weight file of torchvision, every tensor of the module but those named `without`."""
    if not Path(file).is_file():
        raise UserError(f"{key}={file}: no such file")
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{key}={file}: not a readable weight file: {reason}") from None
    own = {name: tensor for name, tensor in module.state_dict().items() if not name.startswith(without)}
    counters = "num_batches_tracked"  # of no consequence, and absent from old files
    missing = [name for name in own if name not in state and not name.endswith(counters)]
    other = [name for name, tensor in own.items() if name in state and state[name].shape != tensor.shape]
    if missing or other:
        raise UserError(
            f"{key}={file}: lacks {len(missing)} tensors of this network and has {len(other)} of another shape, "
            f"first {(missing + other)[0]!r}; is it a file of another model, or of other joints or classes?"
        )
    module.load_state_dict({name: state[name] for name in own if name in state}, strict=False)
