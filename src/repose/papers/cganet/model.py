"""The networks of CGANet: pyramid, detection heads, ROIGuider or pooler in boxes; and the separated model.

Shapes: B images, R regions (boxes of all images), C channels, K joints (1 for masks), S cells of a region's side, U
cells of its heatmap's side, H W at a map's stride. Boxes are in input pixels.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import FeaturePyramidNetwork

from repose.nn.backbones import backbone
from repose.nn.blocks import init_relu_conv
from repose.ops.roi import roi_sample
from repose.papers.cganet.config import Backbone, Model, Roi
from repose.papers.cganet.tnet import Reverse, TNet, blocks, init_convs

LEVELS = 3
"""Levels of the pyramid that the ROIGuider aligns: strides 4, 8, 16 (Architecture: "only L_0 to L_2 are used")."""
PRIOR = -2.19
"""Bias at the start of what a sigmoid follows: 0.1 (CenterNet)."""
COUNTED_BOXES = 20
"""Boxes per image of a plain forward pass, whose cost is counted: the most that COCO's evaluation looks at."""
_HEAD_STD = 0.01
_CANONICAL_SIDE, _CANONICAL_LEVEL = 224, 4
"""A box of this side [pixels] is pooled from the level of stride 2^4 (FPN, Eq. 1)."""


class Maps(NamedTuple):
    """Detection maps at stride 4; logits from the network, probabilities after `decode.see`.

    Attributes:
        hm_B1HW: person centres.
        wh_B2HW: width and height of the box, cells.
        off_B2HW: centre minus its cell, cells.
        line_x_B1HW: horizontal centre lines; 0 channels without the Centre Line Branch.
        line_y_B1HW: vertical ones.
    """

    hm_B1HW: Tensor
    wh_B2HW: Tensor
    off_B2HW: Tensor
    line_x_B1HW: Tensor
    line_y_B1HW: Tensor


class Outputs(NamedTuple):
    """Training outputs of the single model.

    Attributes:
        maps: logits.
        heatmap_RKUU: logits of the regions, one tensor per supervised stage, the last one last.
        box_in_R4: the regions.
        person_R: int64, row of each region's person in the targets.
        weight_R: 1 for regions that are trained on, 0 for stand-ins.
    """

    maps: Maps
    heatmap_RKUU: list[Tensor]
    box_in_R4: Tensor
    person_R: Tensor
    weight_R: Tensor


class Head(nn.Sequential):
    """3x3 convolution, ReLU, 1x1 convolution: CenterNet's head."""

    def __init__(self, c_in: int, width: int, c_out: int, bias: float = 0.0) -> None:
        super().__init__(nn.Conv2d(c_in, width, 3, padding=1), nn.ReLU(), last_conv(width, c_out, bias))
        first = self[0]
        assert isinstance(first, nn.Conv2d)
        init_relu_conv(first)


def last_conv(c_in: int, c_out: int, bias: float) -> nn.Conv2d:
    """1x1 convolution to outputs: small weights, so that the bias alone speaks at the start."""
    conv = nn.Conv2d(c_in, c_out, 1)
    nn.init.normal_(conv.weight, std=_HEAD_STD)
    nn.init.constant_(conv.bias, bias)  # pyright: ignore[reportArgumentType]
    return conv


class FPN(nn.Module):
    """A timm model with a feature pyramid of equal widths (FPN-50 of Table 1)."""

    def __init__(self, cfg: Backbone) -> None:
        super().__init__()
        self.body = backbone(cfg.name, cfg.pretrained, cfg.weights)
        self.fpn = FeaturePyramidNetwork(list(self.body.channels), cfg.fpn_width)
        self.channels = (cfg.fpn_width,) * 4
        self.strides = self.body.strides

    def forward(self, image_B3HW: Tensor) -> list[Tensor]:
        """P2 to P5."""
        maps = self.body(image_B3HW)
        return list(self.fpn({str(i): m for i, m in enumerate(maps)}).values())


class ROIGuider(nn.Module):
    """One trapezoid over the aligned levels of a box: up with residual blocks, down with guidance (ROIguider, Fig. 3).

    Differs from the paper: the level above the aligned ones, which gives each of them a guide, is not described.
    """

    def __init__(self, channels: tuple[int, ...], cfg: Backbone) -> None:
        super().__init__()
        widths = [*channels, 2 * channels[-1] - channels[-2]]
        self.climb = nn.ModuleList(blocks(a, b, cfg.n_rb) for a, b in itertools.pairwise(widths))
        self.reverse = Reverse(widths, cfg)
        init_convs(self)

    def forward(self, aligned: list[Tensor]) -> list[Tensor]:
        """Guided levels (R, C_i, S / 2^i, S / 2^i) of the aligned ones, same shapes."""
        levels = [aligned[0]]
        for i, climb in enumerate(self.climb, start=1):
            x = climb(levels[-1])  # (R, C_i, S / 2^i, S / 2^i)
            levels.append(F.relu(x + aligned[i]) if i < len(aligned) else x)
        return self.reverse(levels)


class GuiderBranch(nn.Module):
    """Boxes to heatmap logits by ROIGuiders in a row (ROIguider; Table 1, rows b to f)."""

    def __init__(self, cfg: Model, channels: tuple[int, ...], strides: tuple[int, ...], k: int) -> None:
        super().__init__()
        self.roi, self.strides = cfg.roi, strides[:LEVELS]
        self.stages = nn.ModuleList(ROIGuider(channels[:LEVELS], cfg.backbone) for _ in range(cfg.roi.stages))
        heads = cfg.roi.stages if cfg.roi.intermediate else 1
        self.heads = nn.ModuleList(last_conv(channels[0], k * cfg.roi.upscale**2, PRIOR) for _ in range(heads))

    def forward(self, pyramid: list[Tensor], box_in_R4: Tensor, owner_R: Tensor) -> list[Tensor]:
        """Logits (R, K, U, U), one tensor per head, the last stage's last."""
        levels = [
            roi_sample(level, box_in_R4, owner_R, stride, (self.roi.size // 2**i,) * 2, self.roi.samples)
            for i, (level, stride) in enumerate(zip(pyramid, self.strides, strict=False))
        ]  # (R, C_i, S / 2^i, S / 2^i)
        first_head = len(self.stages) - len(self.heads)
        found: list[Tensor] = []
        for i, stage in enumerate(self.stages):
            levels = stage(levels)
            if i >= first_head:
                logits = self.heads[i - first_head](levels[0])  # (R, K upscale^2, S, S)
                found.append(F.pixel_shuffle(logits, self.roi.upscale))  # (R, K, U, U)
        return found


class PoolerBranch(nn.Module):
    """Boxes to heatmap logits as Mask R-CNN does: one level per box, plain convolutions (Table 1, row a)."""

    def __init__(self, roi: Roi, channels: tuple[int, ...], strides: tuple[int, ...], k: int) -> None:
        super().__init__()
        self.roi, self.strides = roi, strides
        layers: list[nn.Module] = []
        c = channels[0]
        for _ in range(roi.pooler_convs):
            conv = nn.Conv2d(c, roi.pooler_width, 3, padding=1)
            init_relu_conv(conv)
            layers += [conv, nn.ReLU()]
            c = roi.pooler_width
        self.convs = nn.Sequential(*layers)
        # kernel 4 at stride 2, or 3 at 1: twice the size, or the same
        self.last = nn.ConvTranspose2d(c, k, roi.upscale + 2, stride=roi.upscale, padding=1)
        nn.init.normal_(self.last.weight, std=_HEAD_STD)
        nn.init.constant_(self.last.bias, PRIOR)  # pyright: ignore[reportArgumentType]

    def forward(self, pyramid: list[Tensor], box_in_R4: Tensor, owner_R: Tensor) -> list[Tensor]:
        """Logits (R, K, U, U), in a list of one."""
        width_R, height_R = (box_in_R4[:, 2:] - box_in_R4[:, :2]).clamp(min=1).unbind(-1)
        side_R = (width_R * height_R).sqrt()
        level_R = (_CANONICAL_LEVEL + torch.log2(side_R / _CANONICAL_SIDE)).floor()
        finest = int(math.log2(self.strides[0]))
        level_R = (level_R - finest).clamp(0, len(pyramid) - 1)
        size_hw = (self.roi.size, self.roi.size)
        x = pyramid[0].new_zeros(len(owner_R), pyramid[0].shape[1], *size_hw, dtype=torch.float32)
        for i, (level, stride) in enumerate(zip(pyramid, self.strides, strict=True)):
            mine = (level_R == i).nonzero()[:, 0]
            x[mine] = roi_sample(level, box_in_R4[mine], owner_R[mine], stride, size_hw, self.roi.samples)
        return [self.last(self.convs(x))]  # (R, C, S, S) -> (R, K, U, U)


class CGANet(nn.Module):
    """The single model: a pyramid once per image, five heads on its finest level, and a branch for boxes (Fig. 2)."""

    def __init__(self, cfg: Model, k: int) -> None:
        super().__init__()
        self.cfg = cfg
        self.backbone: TNet | FPN = TNet(cfg.backbone) if cfg.backbone.kind == "tnet" else FPN(cfg.backbone)
        channels, strides = self.backbone.channels, self.backbone.strides
        outputs = {"hm": (1, PRIOR), "wh": (2, 0.0), "off": (2, 0.0)}
        if cfg.centre_lines:
            outputs |= {"line_x": (1, PRIOR), "line_y": (1, PRIOR)}
        self.heads = nn.ModuleDict({n: Head(channels[0], cfg.head_width, c, b) for n, (c, b) in outputs.items()})
        k = 1 if cfg.task == "masks" else k
        self.branch: GuiderBranch | PoolerBranch = (
            GuiderBranch(cfg, channels, strides, k)
            if cfg.roi.kind == "guider"
            else PoolerBranch(cfg.roi, channels, strides, k)
        )

    def forward(self, image_B3HW: Tensor) -> tuple[Maps, Tensor]:
        """Detection maps, and the heatmaps of 20 boxes as large as the image: what an image's cost is counted on."""
        b, _, height, width = image_B3HW.shape
        pyramid = self.pyramid(image_B3HW)
        box_4 = image_B3HW.new_tensor([0, 0, width - 1, height - 1])
        owner_R = torch.arange(b, device=box_4.device).repeat_interleave(COUNTED_BOXES)
        return self.maps(pyramid), self.heatmaps(pyramid, box_4.expand(len(owner_R), 4), owner_R)[-1]

    def pyramid(self, image_B3HW: Tensor) -> list[Tensor]:
        """Levels (B, C_i, H / s_i, W / s_i), finest first."""
        return self.backbone(image_B3HW)

    def maps(self, pyramid: list[Tensor]) -> Maps:
        """Logits of the detection branch and the Centre Line Branch, float32 (Architecture; Center Line Branch)."""
        x = pyramid[0]
        found = {name: self._head(head, x) for name, head in self.heads.items()}  # (B, n, H / 4, W / 4)
        none = found["hm"][:, :0]
        return Maps(found["hm"], found["wh"], found["off"], found.get("line_x", none), found.get("line_y", none))

    def heatmaps(self, pyramid: list[Tensor], box_in_R4: Tensor, owner_R: Tensor) -> list[Tensor]:
        """Logits of boxes, (R, K, U, U) in float32, one tensor per supervised stage."""
        return [x.float() for x in self.branch(pyramid, box_in_R4, owner_R)]

    @staticmethod
    def _head(head: nn.Module, x: Tensor) -> Tensor:
        assert isinstance(head, nn.Sequential)
        hidden = head[1](head[0](x))
        with torch.autocast(x.device.type, enabled=False):  # box sizes in bfloat16 would be off by a cell at 200
            return head[2](hidden.float())


class Separated(nn.Module):
    """The separated model: TNet and heatmaps at stride 4 of one person's crop (TNet on Separated-Model Experiments)."""

    def __init__(self, cfg: Model, k: int, prior: float) -> None:
        super().__init__()
        self.backbone = TNet(cfg.backbone)
        self.head = Head(self.backbone.channels[0], cfg.head_width, k, prior)

    def forward(self, image_B3HW: Tensor) -> Tensor:
        """Heatmaps (B, K, H / 4, W / 4)."""
        return self.head(self.backbone(image_B3HW)[0]).float()
