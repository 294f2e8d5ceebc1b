"""Targets. Cell i is input pixel 4 i: the convolutions' padding puts it there. Shapes: B crops, K joints, H W cells."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from repose.ops.heatmap import gaussian
from repose.types import Batch

from .config import Loss
from .model import STRIDE


class Targets(NamedTuple):
    """What the loss compares with.

    Attributes:
        heatmap_BKHW: a Gaussian of height 1 at each joint.
        labelled_BK: 1 for joints with a label.
    """

    heatmap_BKHW: Tensor
    labelled_BK: Tensor


def encode(batch: Batch, k: int, cfg: Loss) -> Targets:
    """One Gaussian per labelled joint of the crop's person; a crop without one has none."""
    width, height = batch.input_wh
    people = batch.people
    size_hw = (-(-height // STRIDE), -(-width // STRIDE))
    heatmap_BKHW = people.joint_NK3.new_zeros(batch.b, k, *size_hw)
    labelled_BK = people.joint_NK3.new_zeros(batch.b, k)
    heatmap_BKHW[people.owner_N] = gaussian(people.joint_NK3[..., :2] / STRIDE, size_hw, cfg.sigma)
    labelled_BK[people.owner_N] = (people.joint_NK3[..., 2] > 0).float()
    return Targets(heatmap_BKHW, labelled_BK)
