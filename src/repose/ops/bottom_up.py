"""What bottom-up methods with centre maps share beyond peaks, points and offsets.

Where maps are taught, and how test views and scales are brought together.

Shapes: B images, J channels, N poses (or peaks) of the whole batch, H W cells.
Source: DEKR's code; PINet, spec 3.3, 3.5, 5 and 7.5 to 7.6.
"""

from __future__ import annotations

import torch
from torch import Tensor

from repose.geometry import apply_affine
from repose.types import Batch, People


def given_joints(people: People) -> Tensor:
    """Joints that the file labels, inside the input or not: bool (N, K)."""
    return people.joint_NK3[..., 2] > 0 if people.given_NK is None else people.given_NK


def mean_point(point_NK2: Tensor, counts_NK: Tensor) -> Tensor:
    """Mean of the points that count, (N, 2); zero where none does."""
    weight_NK1 = counts_NK[..., None].to(point_NK2)
    # An uncounted point may be anything, even nan: a product with 0 would not remove it.
    total_N2 = torch.where(counts_NK[..., None], point_NK2, torch.zeros_like(point_NK2)).sum(1)
    return total_N2 / weight_NK1.sum(1).clamp(min=1)


def on_map(cell_N2: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Whether points lie in [0, W) x [0, H) cells: bool, without the last axis."""
    x, y = cell_N2.unbind(-1)
    return (x >= 0) & (x < size_hw[1]) & (y >= 0) & (y < size_hw[0])


def image_mask(batch: Batch, regions: bool = True) -> Tensor | None:
    """Where heatmaps are taught: not beyond the photograph's edges, not in crowds, not on people without joints.

    Args:
        batch: images.
        regions: False = crowds and people without joints are taught as background.

    Returns:
        (B, 1, H, W) float32 at stride 4, 1 or 0; None if the batch ships no regions (`data.regions`).
    """
    mask: Tensor | None = None
    people = ((batch.crowd_B1HW, 0), (batch.unlabelled_B1HW, 0)) if regions else ()
    for region, good in ((batch.inside_B1HW, 1), *people):
        if region is not None:
            here = region == good
            mask = here if mask is None else mask & here
    return None if mask is None else mask.float()


def heat_weight(window_BJHW: Tensor, mask_B1HW: Tensor | None, background: float) -> Tensor:
    """Weight of each cell of heatmaps: 1 inside a Gaussian's window, `background` elsewhere, times the image's mask."""
    weight_BJHW = torch.where(window_BJHW, 1.0, background)
    return weight_BJHW if mask_B1HW is None else weight_BJHW * mask_B1HW


def heat_loss(pred_BJHW: Tensor, target_BJHW: Tensor, weight_BJHW: Tensor) -> Tensor:
    """Mean over all cells of all channels of weight times squared difference, float32."""
    return (weight_BJHW * (pred_BJHW.float() - target_BJHW).square()).mean()


def mirrored_back(map_BJHW: Tensor, channels: list[int]) -> Tensor:
    """Maps of a view made by `geometry.mirror`, as the plain view would have them: cell i was cell w - 1 - i."""
    return map_BJHW.flip(-1)[:, channels]


def view_to_view(source: Batch, target: Batch) -> Tensor:
    """Maps from input pixels of one test scale to those of another: (B, 2, 3), the matrices' own dtype."""
    to_image, back = source.to_image_B23, target.to_image_B23
    inverse_B22 = torch.linalg.inv(back[:, :, :2])
    linear = inverse_B22 @ to_image[:, :, :2]
    shift = inverse_B22 @ (to_image[:, :, 2:] - back[:, :, 2:])
    return torch.cat([linear, shift], dim=-1)


def move_poses(point_NK2: Tensor, owner_N: Tensor, matrix_B23: Tensor) -> Tensor:
    """Points moved by their image's matrix, float32."""
    return apply_affine(point_NK2, matrix_B23[owner_N]).float()


def highest(score_N: Tensor, owner_N: Tensor, b: int) -> Tensor:
    """Highest score of each image, (B,); 1 where it has none."""
    best_B = score_N.new_full((b,), -float("inf")).scatter_reduce(0, owner_N, score_N, "amax")
    return torch.where(best_B.isfinite(), best_B, torch.ones_like(best_B))


def level_scores(score_N: Tensor, owner_N: Tensor, reference_B: Tensor, decrease: float) -> Tensor:
    """Centre scores of a test scale other than 1, levelled to those of scale 1 and lowered.

    score / (highest of this scale) * (highest of scale 1) * decrease, image by image (DEKR's code; PINet, spec 7.6).

    Args:
        score_N: scores of this scale.
        owner_N: int64, image of each.
        reference_B: `highest` of scale 1.
        decrease: factor.
    """
    own_B = highest(score_N, owner_N, len(reference_B))
    return score_N * (reference_B / own_B)[owner_N] * decrease
