"""From views to heatmaps, and from heatmaps to joints. Shapes: B crops, K joints, H W cells."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from repose.ops.heatmap import find_peak
from repose.papers.baselines.simplebaseline.config import Decode
from repose.papers.baselines.simplebaseline.model import Outputs
from repose.types import Poses

QUARTER = 1 / 4
"""[cells] step towards the higher neighbour."""


def merge(heatmaps: Sequence[Tensor], mirrored: Sequence[bool], flip_index: Sequence[int]) -> Outputs:
    """Heatmaps averaged over the views; mirrored ones are mirrored back, left and right joints swapped.

    Cell i of a mirrored view is exactly cell w - 1 - i (`geometry.mirror` shifts the picture), so nothing is shifted
    here. Differs from the official code: it mirrors the picture alone and shifts the mirrored heatmap by a whole cell,
    a quarter cell too far at stride 4.

    Args:
        heatmaps: (B, K, H, W) of each view.
        mirrored: whether each view is mirrored.
        flip_index: K joint indices of the mirrored person.
    """
    swap = list(flip_index)
    maps = [h.float().flip(-1)[:, swap] if m else h.float() for h, m in zip(heatmaps, mirrored, strict=True)]
    return Outputs(torch.stack(maps).mean(0))


def decode(outputs: Outputs, cfg: Decode, stride: int) -> list[Poses]:
    """One person per crop, input pixels: each heatmap's maximum, refined by `cfg.refine`, is the joint.

    A joint's score is its heatmap's maximum, cut to [0, 1].

    Args:
        outputs: merged heatmaps.
        cfg: settings.
        stride: input pixels per cell.
    """
    heatmap_BKHW = outputs.heatmap_BKHW.float()
    # sigma is used by find_peak's `gauss` alone
    cell_BK2, value_BK = find_peak(heatmap_BKHW, "subpixel" if cfg.refine == "parabola" else "argmax", 1.0)
    if cfg.refine == "quarter":
        cell_BK2 = cell_BK2 + QUARTER * higher_neighbour(heatmap_BKHW, cell_BK2)
    joint_BK3 = torch.cat([cell_BK2 * stride, value_BK.clamp(0, 1)[..., None]], dim=-1)
    return [Poses(joint_NK3=joint[None], score_N=joint[None, :, 2].mean(-1)) for joint in joint_BK3]


def higher_neighbour(heatmap_BKHW: Tensor, cell_BK2: Tensor) -> Tensor:
    """Per axis -1, 0 or 1: the side on which a maximum's neighbour is higher (SimpleBaseline §2).

    A maximum in the outermost rows or columns has no neighbour on one side, and stays where it is on both axes, as in
    the official code.
    """
    height, width = heatmap_BKHW.shape[-2:]
    x, y = cell_BK2.long().unbind(-1)
    flat_BKC = heatmap_BKHW.flatten(-2)

    def at(column: Tensor, row: Tensor) -> Tensor:
        index = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
        return flat_BKC.gather(-1, index[..., None])[..., 0]

    slope = torch.stack([at(x + 1, y) - at(x - 1, y), at(x, y + 1) - at(x, y - 1)], dim=-1)
    inner = (x > 0) & (x < width - 1) & (y > 0) & (y < height - 1)
    return torch.sign(slope) * inner[..., None]
