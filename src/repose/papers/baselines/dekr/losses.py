"""Losses of DEKR. Shapes: B images, J channels, M target cells, D = 2 K offset entries, H W cells."""

from __future__ import annotations

from torch import Tensor

from repose.ops.bottom_up import heat_loss
from repose.ops.offsets import offset_loss
from repose.ops.points import read_cells
from repose.papers.baselines.dekr.config import Loss
from repose.papers.baselines.dekr.model import Outputs
from repose.papers.baselines.dekr.targets import Targets


def losses(outputs: Outputs, targets: Targets, cfg: Loss) -> dict[str, Tensor]:
    """Unweighted losses, float32 scalars: `heat` and `offset`.

    `heat` is the weighted mean square over all cells of all channels, `offset` smooth L1 over the taught entries, each
    weighted by 1 / sqrt(a), divided by their number.
    """
    cells = targets.cells
    pred_MD = read_cells(outputs.offset_BDHW, cells.owner_M, cells.cell_M2)
    return {
        "heat": heat_loss(outputs.heat_BJHW, targets.heat_BJHW, targets.weight_BJHW),
        "offset": offset_loss(pred_MD, cells.target_MD, cells.weight_MD, cfg.beta),
    }
