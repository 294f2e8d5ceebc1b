"""The network of PINet: backbone, PPG (three 1x1 convolutions), PR (a graph network for each pose).

Shapes: B images, K joints, P parts, C channels of F, D = 2 K, H W cells at stride 4, N poses of the whole batch.
Positions are in cells (targets.py has the map to pixels).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from repose.geometry import EDGE
from repose.nn.backbones import backbone, concatenated
from repose.nn.graph import GraphUnit, skeleton_graph
from repose.ops.points import read_cells, sample_points
from repose.papers.pinet.config import Model, Refine
from repose.skeleton import COCO17, CROWDPOSE14, Skeleton

_STD = 0.001
"""Of the three convolutions' weights at the start (the release's)."""
_DROPPED = {("left_ear", "left_shoulder"), ("right_ear", "right_shoulder")}
_PAPER_EDGES = {
    COCO17.joints: [*(limb for limb in COCO17.limbs if limb not in _DROPPED), ("left_eye", "right_eye")],
    CROWDPOSE14.joints: [*CROWDPOSE14.limbs, ("left_shoulder", "right_shoulder")],
}
"""Edges of the release's graphs; on COCO the face hangs on nothing."""


class Maps(NamedTuple):
    """What the network makes of an image (PPG, Eq. 6 and 12).

    Attributes:
        feature_BCHW: F.
        heat_BKHW: joint heatmaps, H.
        part_BPHW: heatmaps of part centres, P.
        offset_BPDHW: O; for each part cell minus joint, cells, joint by joint, x before y. float32, as H and P.
    """

    feature_BCHW: Tensor
    heat_BKHW: Tensor
    part_BPHW: Tensor
    offset_BPDHW: Tensor

    def poses(self, owner_N: Tensor, part_N: Tensor, cell_N2: Tensor) -> Tensor:
        """Poses that parts at these cells propose: cell minus offset, (N, K, 2) cells."""
        offset_ND = read_cells(self.offset_BPDHW, owner_N, cell_N2, part_N)
        return cell_N2[:, None] - offset_ND.unflatten(1, (-1, 2))


class PINet(nn.Module):
    """Backbone and PPG; `pr` is called for chosen poses alone.

    The paper's 29.4 M parameters and 42.4 GFLOPs are those of `forward`, without `pr`.
    """

    stride = 4

    def __init__(self, cfg: Model, skeleton: Skeleton, parts: int) -> None:
        super().__init__()
        self.backbone = backbone(cfg.backbone.name, cfg.backbone.pretrained, cfg.backbone.weights)
        channels = sum(self.backbone.channels)
        self.ppg = PPG(channels, skeleton.k, parts)
        self.pr = PR(cfg.refine, channels, skeleton) if cfg.refine.enabled else None

    def forward(self, image_B3HW: Tensor) -> Maps:
        """F and the three maps of PPG."""
        feature = concatenated(self.backbone(image_B3HW))  # (B, C, H, W), input / 4
        return self.ppg(feature)

    @property
    def params_ppg(self) -> int:
        """Parameters without PR: what the paper prints."""
        return sum(p.numel() for part in (self.backbone, self.ppg) for p in part.parameters())


class PPG(nn.Module):
    """Part-based pose generation: heatmaps, part centres and offsets by one 1x1 convolution each (PINet §3.2, Eq. 6).

    In float32 always: bfloat16 has steps of half a cell at 64 cells.
    """

    def __init__(self, channels: int, k: int, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.heat = nn.Conv2d(channels, k, 1)
        self.part = nn.Conv2d(channels, parts, 1)
        self.offset = nn.Conv2d(channels, parts * 2 * k, 1)
        for conv in (self.heat, self.part, self.offset):
            nn.init.normal_(conv.weight, std=_STD)
            nn.init.zeros_(conv.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, feature_BCHW: Tensor) -> Maps:
        """All maps, at F's size."""
        with torch.autocast(feature_BCHW.device.type, enabled=False):
            feature = feature_BCHW.float()
            offset = self.offset(feature).unflatten(1, (self.parts, -1))  # (B, P D, H, W) -> (B, P, D, H, W)
            return Maps(feature, self.heat(feature), self.part(feature), offset)


class GraphBlock(nn.Module):
    """Two graph layers with a residual connection, without activation after the sum."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.unit1, self.unit2 = GraphUnit(width), GraphUnit(width)

    def forward(self, x_NKC: Tensor, graph_KK: Tensor) -> Tensor:
        """Same shape."""
        return x_NKC + self.unit2(self.unit1(x_NKC, graph_KK), graph_KK)


class PR(nn.Module):
    """Pose refinement: joint features over a graph, pooled, and a correction of all joints (PINet §3.3).

    One graph layer, then `blocks` residual blocks of two; the mean and the maximum over the joints and the part
    centre's own feature go through two linear layers.
    """

    graph_KK: Tensor

    def __init__(self, cfg: Refine, channels: int, skeleton: Skeleton) -> None:
        super().__init__()
        self.cfg = cfg
        self.first: GraphUnit | None = None
        self.blocks = nn.ModuleList()
        if cfg.graph != "none":
            self.first = GraphUnit(channels)
            self.blocks.extend(GraphBlock(channels) for _ in range(cfg.blocks))
            graph_KK = skeleton_graph(skeleton.k, graph_edges(cfg, skeleton))
            if cfg.graph == "dynamic":
                self.graph_KK = nn.Parameter(graph_KK)  # learnt without any constraint
            else:
                self.register_buffer("graph_KK", graph_KK)
        self.fc1 = nn.Linear(3 * channels, channels)
        self.bn = nn.BatchNorm1d(channels)
        self.fc2 = nn.Linear(channels, 2 * skeleton.k)

    def forward(self, feature_BCHW: Tensor, owner_N: Tensor, cell_N2: Tensor, pose_NK2: Tensor) -> Tensor:
        """Corrections (N, K, 2), cells: the refined joint is the joint minus it.

        F gets gradients through the samples; where they are taken, and the poses, get none.

        Args:
            feature_BCHW: F.
            owner_N: int64, image of each pose.
            cell_N2: int64, the part centre's cell.
            pose_NK2: initial poses, cells.
        """
        n, k = pose_NK2.shape[:2]
        if n < 2 and self.training:  # batch norm needs two; the zeros keep every parameter in the graph (DDP)
            return pose_NK2.new_zeros(n, k, 2) + 0 * torch.stack([p.sum() for p in self.parameters()]).sum()
        with torch.autocast(feature_BCHW.device.type, enabled=False):
            return self.correct(*self.read(feature_BCHW, owner_N, cell_N2, pose_NK2))

    def read(self, feature_BCHW: Tensor, owner_N: Tensor, cell_N2: Tensor, pose_NK2: Tensor) -> tuple[Tensor, Tensor]:
        """F at the joints (N, K, C) and at the part centre (N, C), float32; arguments as in `forward`."""
        feature = feature_BCHW.float()
        pose = pose_NK2.detach().float()
        if self.cfg.legacy_grid_sample:
            pose = _legacy_cells(pose, feature)
        return sample_points(feature, owner_N, pose), read_cells(feature, owner_N, cell_N2)

    def correct(self, x_NKC: Tensor, part_NC: Tensor) -> Tensor:
        """Corrections (N, K, 2) from what `read` found."""
        if self.first is not None:
            x_NKC = self.first(x_NKC, self.graph_KK)
            for block in self.blocks:
                x_NKC = block(x_NKC, self.graph_KK)
        pooled = torch.cat([x_NKC.mean(1), x_NKC.amax(1), part_NC], dim=1)  # (N, 3 C)
        return self.fc2(F.relu(self.bn(self.fc1(pooled)))).unflatten(1, (-1, 2))

    @property
    def macs_per_pose(self) -> int:
        """Multiply-accumulates of matrix products for one pose; `forward` of the network has none of them."""
        channels, outputs = self.fc2.in_features, self.fc2.out_features
        k = outputs // 2
        unit = k * channels * channels + k * k * channels
        units = 0 if self.first is None else 1 + 2 * len(self.blocks)
        return units * unit + 3 * channels * channels + channels * outputs


def graph_edges(cfg: Refine, skeleton: Skeleton) -> list[tuple[int, int]]:
    """Edges of the graph at the start (`model.refine.edges`), as joint indices."""
    if cfg.edges == "self":
        return []
    named = _PAPER_EDGES.get(skeleton.joints, skeleton.limbs) if cfg.edges == "paper" else skeleton.limbs
    return [(skeleton.index(a), skeleton.index(b)) for a, b in named]


def _legacy_cells(pose_NK2: Tensor, feature_BCHW: Tensor) -> Tensor:
    """Where the release reads: it normalises for outermost cells at -1 and 1, then reads with outer edges there."""
    size_2 = pose_NK2.new_tensor([feature_BCHW.shape[-1], feature_BCHW.shape[-2]])
    return pose_NK2 * size_2 / (size_2 - 1).clamp(min=1) - EDGE
