"""Maps of a network without error: the targets themselves. For tests of the decode and `repose bench decode`.

Shapes: B images, K joints, P parts, C channels of F, J = K + P, D = 2 K, H W cells.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from repose.papers.pinet.config import Loss
from repose.papers.pinet.decode import Swap
from repose.papers.pinet.model import Maps
from repose.papers.pinet.parts import Partition
from repose.papers.pinet.targets import STRIDE, encode
from repose.types import Batch


def perfect_maps(batch: Batch, parts: Partition, cfg: Loss, channels: int = 0) -> Maps:
    """What PPG would give: H*, P* and the offsets of the target cells, 0 in all others.

    Args:
        batch: its people are the truth; joints that are not labelled have no offsets (0).
        parts: of a body.
        cfg: how targets are made.
        channels: of F, which is zero.
    """
    targets = encode(batch, parts, cfg)
    heat_BJHW, cells = targets.heat_BJHW, targets.cells
    b, j, height, width = heat_BJHW.shape
    k = j - parts.p
    offset_BPHWD = heat_BJHW.new_zeros(b, parts.p, height, width, 2 * k)
    x_M, y_M = cells.cell_M2.unbind(-1)
    offset_BPHWD[cells.owner_M, cells.part_M, y_M, x_M] = cells.target_MD
    feature = heat_BJHW.new_zeros(b, channels, height, width)
    return Maps(feature, heat_BJHW[:, :k], heat_BJHW[:, k:], offset_BPHWD.permute(0, 1, 4, 2, 3).contiguous())


def mirrored_people(batch: Batch, swap: Swap) -> Batch:
    """The batch as `geometry.mirror` would show it: cell i becomes cell w - 1 - i, left and right trade places."""
    people = batch.people
    last = STRIDE * (-(-batch.input_wh[0] // STRIDE) - 1)
    x, y, v = people.joint_NK3[:, swap.joints].unbind(-1)
    given = people.given_NK[:, swap.joints] if people.given_NK is not None else None
    joint_NK3 = torch.stack([last - x, y, v], dim=-1)
    return replace(batch, people=replace(people, joint_NK3=joint_NK3, given_NK=given))
