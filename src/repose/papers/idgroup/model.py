"""The network: backbone, neck, hourglass (presence of keypoints) and grouping transformer (identity vectors).

Shapes: B images, K joints, C channels, H W cells at stride 4, L = H W, T tokens, Q queried cells of an image (padded),
N queried cells of the batch, D = 2 K. Positions are in cells, cell i's centre at i + 1/2 (targets.py).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from repose.geometry import EDGE
from repose.nn.attention import TransformerLayer, sine_encoding
from repose.nn.backbones import backbone
from repose.nn.blocks import ConvBN
from repose.nn.hourglass import StackedHourglass
from repose.ops.disks import pad_people
from repose.ops.points import read_cells
from repose.papers.idgroup.config import Model, Neck, Transformer

_STD = 0.01
"""Of the vector head's weights at the start."""
_MIDDLE = 1 / 2
"""Where absolute vectors start: the middle of the map."""


class Features(NamedTuple):
    """What the network makes of an image before anybody asks for vectors.

    Attributes:
        logit_SBHW: presence logits of each stack, float32; the last is used.
        joined_BCHW: F and the last presence map.
        memory_BTC: the encoder's tokens; without transformer, empty.
    """

    logit_SBHW: Tensor
    joined_BCHW: Tensor
    memory_BTC: Tensor

    @property
    def presence_BHW(self) -> Tensor:
        """Probabilities of the last stack."""
        return self.logit_SBHW[-1].sigmoid()


class IDGroup(nn.Module):
    """`features`, and `vectors` at chosen cells; `forward` is the dense network that the paper counts."""

    stride = 4

    def __init__(self, cfg: Model, k: int) -> None:
        super().__init__()
        self.cfg = cfg
        self.k = k
        self.backbone = backbone(cfg.backbone.name, cfg.backbone.pretrained, cfg.backbone.weights)
        self.neck = PyramidNeck(self.backbone.channels, cfg.neck)
        channels = cfg.neck.channels
        self.hourglass: nn.Module
        if cfg.hourglass.enabled:
            self.hourglass = StackedHourglass(
                channels, 1, cfg.hourglass.stacks, cfg.hourglass.depth, cfg.hourglass.width
            )
        else:
            self.hourglass = nn.Conv2d(channels, 1, 1)
        if cfg.transformer.enabled:
            self.transformer = GroupTransformer(cfg.transformer, channels + 1)
            self.head = nn.Linear(cfg.transformer.width, 2 * k)
        else:
            self.transformer = None
            self.head = nn.Linear(channels + 1, 2 * k)  # a 1x1 convolution, cell by cell
        nn.init.normal_(self.head.weight, std=_STD)
        nn.init.constant_(self.head.bias, _MIDDLE if cfg.vector_param == "absolute" else 0.0)

    def forward(self, image_B3HW: Tensor) -> tuple[Tensor, Tensor]:
        """Presence logits (S, B, H, W) and the vectors of every cell (B, H, W, K, 2), cells."""
        features = self.features(image_B3HW)
        return features.logit_SBHW, self.dense(features)

    def features(self, image_B3HW: Tensor) -> Features:
        """Backbone, neck, hourglass, and the transformer's encoder."""
        feature = self.neck(self.backbone(image_B3HW))  # (B, C, H, W)
        found = self.hourglass(feature)
        logits = torch.stack(found if isinstance(found, list) else [found])[:, :, 0].float()  # (S, B, H, W)
        presence = logits[-1].sigmoid()[:, None].to(feature.dtype)
        joined = torch.cat([feature, presence], dim=1)  # (B, C + 1, H, W); the vectors' loss teaches presence too
        memory = joined.new_zeros(len(joined), 0, 1) if self.transformer is None else self.transformer.encode(joined)
        return Features(logits, joined, memory)

    def dense(self, features: Features) -> Tensor:
        """Vectors of every cell, (B, H, W, K, 2)."""
        b, _, height, width = features.joined_BCHW.shape
        cell_L2 = cells_of(height, width, features.joined_BCHW.device)
        column_BLC = features.joined_BCHW.flatten(2).transpose(1, 2)  # (B, L, C + 1)
        if self.transformer is not None:
            column_BLC = self.transformer.decode(column_BLC, cell_L2.expand(b, -1, -1), features.memory_BTC)
        return self.place(column_BLC, cell_L2, (height, width)).view(b, height, width, self.k, 2)

    def vectors(self, features: Features, owner_N: Tensor, cell_N2: Tensor) -> Tensor:
        """Vectors of some cells: those that `dense` has there, at their share of the cost.

        Args:
            features: of the batch.
            owner_N: int64, image of each cell.
            cell_N2: int64, x and y.

        Returns:
            (N, K, 2), cells.
        """
        joined = features.joined_BCHW
        size_hw = (joined.shape[-2], joined.shape[-1])
        if self.transformer is not None and self.cfg.transformer.decoder_self_attn:
            x_N, y_N = cell_N2.unbind(-1)
            return self.dense(features)[owner_N, y_N, x_N]
        column_NC = read_cells(joined, owner_N, cell_N2)  # (N, C + 1)
        if self.transformer is not None:
            column_BQC, slot_N = pad_people(column_NC, owner_N, len(joined))
            cell_BQ2, _ = pad_people(cell_N2, owner_N, len(joined))
            if column_BQC.shape[1] == 0:  # nobody anywhere: one idle query keeps every parameter in the graph (DDP)
                column_BQC = joined[:, :, :1, 0].transpose(1, 2)
                cell_BQ2 = cell_N2.new_zeros(len(joined), 1, 2)
            column_NC = self.transformer.decode(column_BQC, cell_BQ2, features.memory_BTC)[owner_N, slot_N]
        return self.place(column_NC, cell_N2, size_hw).view(-1, self.k, 2)

    def place(self, column_NC: Tensor, cell_N2: Tensor, size_hw: tuple[int, int]) -> Tensor:
        """The head: (..., N, D) in cells, float32 (bfloat16 has steps of a quarter of a cell at 64 cells)."""
        with torch.autocast(column_NC.device.type, enabled=False):
            share = F.linear(column_NC.float(), self.head.weight, self.head.bias) * max(size_hw)
            if self.cfg.vector_param == "offset":
                share = (share.unflatten(-1, (self.k, 2)) + (cell_N2 + EDGE)[..., None, :]).flatten(-2)
            return share


class PyramidNeck(nn.Module):
    """The backbone's maps, coarsest first, to one map at stride 4 (§III.B: upsampling, depthwise separable filters)."""

    def __init__(self, channels: tuple[int, ...], cfg: Neck) -> None:
        super().__init__()
        width = cfg.width
        self.up = nn.Sequential(
            nn.ConvTranspose2d(channels[-1], width, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        self.side = nn.ModuleList(ConvBN(c, width) for c in reversed(channels[:-1]))
        self.out = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            ConvBN(width, cfg.channels), nn.ReLU(),
        )  # fmt: skip

    def forward(self, maps: list[Tensor]) -> Tensor:
        """(B, channels, H, W) of the finest map."""
        y = self.up(maps[-1])  # (B, width, 2 h, 2 w)
        for side, level in zip(self.side, reversed(maps[:-1]), strict=True):
            # Odd maps are one cell short of twice the coarser one.
            y = F.relu(y[..., : level.shape[-2], : level.shape[-1]] + side(level))
            if level is not maps[0]:
                y = F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=False)
        return self.out(y)


class GroupTransformer(nn.Module):
    """Patches look at each other, then cells look at the patches (§III.D).

    Queries do not look at each other, so a cell's vector does not depend on which others are asked for.
    """

    def __init__(self, cfg: Transformer, channels: int) -> None:
        super().__init__()
        self.cfg = cfg
        self.patch = nn.Conv2d(channels, cfg.width, cfg.patch, stride=cfg.patch)
        self.query = nn.Linear(channels, cfg.width)
        self.encoder = nn.ModuleList(
            TransformerLayer(cfg.width, cfg.heads, cfg.hidden) for _ in range(cfg.encoder_layers)
        )
        self.decoder = nn.ModuleList(
            TransformerLayer(cfg.width, cfg.heads, cfg.hidden, cfg.decoder_self_attn) for _ in range(cfg.decoder_layers)
        )
        self.norm_memory = nn.LayerNorm(cfg.width)
        self.norm_query = nn.LayerNorm(cfg.width)

    def encode(self, joined_BCHW: Tensor) -> Tensor:
        """Memory (B, T, width)."""
        p = self.cfg.patch
        below, right = -joined_BCHW.shape[-2] % p, -joined_BCHW.shape[-1] % p
        token = self.patch(F.pad(joined_BCHW, (0, right, 0, below)))  # (B, width, H / p, W / p)
        height, width = token.shape[-2:]
        centre_T2 = (cells_of(height, width, token.device) + EDGE) * p
        x_BTC = token.flatten(2).transpose(1, 2) + self._position(centre_T2).to(token.dtype)
        for layer in self.encoder:
            x_BTC = layer(x_BTC)
        return self.norm_memory(x_BTC)

    def decode(self, column_BQC: Tensor, cell_BQ2: Tensor, memory_BTC: Tensor) -> Tensor:
        """Decoded cells (B, Q, width). Args: column_BQC: F and presence there; cell_BQ2: int64 x and y."""
        query = self.query(column_BQC)
        x_BQC = query + self._position(cell_BQ2 + EDGE).to(query.dtype)
        for layer in self.decoder:
            x_BQC = layer(x_BQC, memory_BTC)
        return self.norm_query(x_BQC)

    def _position(self, point_2: Tensor) -> Tensor:
        return sine_encoding(point_2, self.cfg.width, self.cfg.temperature)


def cells_of(height: int, width: int, device: torch.device) -> Tensor:
    """(x, y) of every cell of a map, row by row: (H W, 2) int64."""
    x_HW = torch.arange(width, device=device).expand(height, width)  # no division: ONNX has none by a free size
    y_HW = torch.arange(height, device=device)[:, None].expand(height, width)
    return torch.stack([x_HW, y_HW], dim=-1).flatten(0, 1)
