"""Targets of CGANet.

Cell-to-pixel map: cell i of the detection maps (stride 4) is input pixel 4 i, so x_cell = x_in / 4; a centre is stored
at the cell floor(x_cell), with the rest as its offset. Cell u of a box's heatmap (U cells a side) covers
[x1 + u w / U, x1 + (u + 1) w / U] (`to_roi`, `from_roi`); roi_sample puts its bins there too.

Shapes: B images, N people of the batch (those that count), R regions, K joints, U cells of a heatmap's side, H W cells
at stride 4.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import NamedTuple

import torch
from torch import Tensor

from repose.errors import UserError
from repose.geometry import EDGE
from repose.ops import draws
from repose.ops.boxes import box_centre, box_iou, box_size, centre_box, corner_radius, shift_radius
from repose.ops.heatmap import gaussian
from repose.ops.roi import roi_sample
from repose.papers.cganet.config import Loss
from repose.types import Batch, People

STRIDE = 4
"""Input pixels per cell of the detection maps."""
MIN_AREA = 16.0
"""[pixels^2] smaller boxes are left out (spec; not stated)."""
MIN_VISIBLE = 0.3
"""[share] people of whom less lies inside the input are left out (spec; not stated)."""
MIN_ROIS = 2
"""Regions of a training batch: batch norm of a 1x1 map needs two; DDP needs every parameter used."""
MATCH_IOU = 0.5
"""[IoU] from which a detected box is trained on as its person's (pred_mix)."""
_SHIFT, _SCALE, _SUBSET = 1, 2, 3  # streams of the device-side draws


class Rois(NamedTuple):
    """Training regions.

    Attributes:
        box_in_R4: input pixels.
        owner_R: int64, image.
        person_R: int64, row of the targets' people.
        weight_R: 1, or 0 for stand-ins that keep the batch from being empty.
    """

    box_in_R4: Tensor
    owner_R: Tensor
    person_R: Tensor
    weight_R: Tensor


class Targets(NamedTuple):
    """Ground truth of a batch of images.

    Attributes:
        hm_B1HW: person centres, 1 at each.
        line_x_B1HW: horizontal centre lines.
        line_y_B1HW: vertical ones.
        weight_B1HW: 0 in crowd regions, else 1.
        people: those that count (large enough, inside enough).
        cell_N2: int64 x and y of their centres.
        wh_N2: box sizes, cells.
        off_N2: centre minus its cell.
        rois: training regions around people with joints (or masks).
        progress: share of the training that is done.
        input_wh: input size, pixels.
    """

    hm_B1HW: Tensor
    line_x_B1HW: Tensor
    line_y_B1HW: Tensor
    weight_B1HW: Tensor
    people: People
    cell_N2: Tensor
    wh_N2: Tensor
    off_N2: Tensor
    rois: Rois
    progress: float
    input_wh: tuple[int, int]


def encode(batch: Batch, loss: Loss, masks: bool, progress: float = 1.0) -> Targets:
    """Detection targets and training regions.

    People of fewer than 16 pixels^2 or with less than 30 % of their box inside the input are left out; people without
    joints are positives of the detection branch and have no region.

    Differs from the paper: CenterNet cuts boxes at the last cell; ours end at the input's edge, half a cell further.

    Args:
        batch: image view.
        loss: settings.
        masks: train masks, not keypoints.
        progress: share of the training that is done.

    Raises:
        UserError: masks are wanted and the batch has none.
    """
    if masks and batch.people.mask_NHW is None:
        raise UserError("model.task=masks learns from instance masks, and these data have none; set data.masks=full")
    people = counted(batch.people)
    width, height = batch.input_wh
    hw = -(-height // STRIDE), -(-width // STRIDE)
    box_cell_N4 = people.box_N4.float() / STRIDE
    centre_N2 = box_centre(box_cell_N4)
    last = torch.tensor([hw[1] - 1, hw[0] - 1], device=centre_N2.device)
    cell_N2 = torch.minimum(centre_N2.floor().long().clamp(min=0), last)
    owner_N, b = people.owner_N, batch.b
    line_x, line_y = line_maps(box_cell_N4, owner_N, b, hw, loss.line_iou, loss.line_sigma)
    weight = torch.ones(b, 1, *hw, device=centre_N2.device)
    if batch.crowd_B1HW is not None:
        weight = weight * (batch.crowd_B1HW == 0)
    return Targets(
        hm_B1HW=centre_maps(box_cell_N4, cell_N2, owner_N, b, hw, loss.min_overlap),
        line_x_B1HW=line_x,
        line_y_B1HW=line_y,
        weight_B1HW=weight,
        people=people,
        cell_N2=cell_N2,
        wh_N2=box_size(box_cell_N4),
        off_N2=centre_N2 - cell_N2,
        rois=train_rois(people, batch, loss, masks),
        progress=progress,
        input_wh=batch.input_wh,
    )


def counted(people: People) -> People:
    """The people that are trained on: with a box of some size, enough of it inside the input."""
    size_N2 = box_size(people.box_N4)
    kept_N = (size_N2 > 0).all(-1) & (size_N2.prod(-1) >= MIN_AREA) & (people.visible_fraction_N >= MIN_VISIBLE)
    return _rows(people, kept_N)


def _rows(people: People, kept_N: Tensor) -> People:
    parts = {f.name: getattr(people, f.name) for f in fields(people)}
    return replace(people, **{name: t[kept_N] for name, t in parts.items() if t is not None})


# --- detection branch and Centre Line Branch ------------------------------------------------------------------------


def centre_maps(
    box_cell_N4: Tensor, cell_N2: Tensor, owner_N: Tensor, b: int, hw: tuple[int, int], min_overlap: float
) -> Tensor:
    """CenterNet's target: a Gaussian in a window of (2 r + 1)^2 cells around each centre, (B, 1, H, W).

    Its radius r follows from the box's size (`ops.boxes.corner_radius`), its sigma is (2 r + 1) / 6; where two meet,
    the higher one stays.
    """
    radius_N = corner_radius(box_size(box_cell_N4).ceil(), min_overlap).clamp(min=0).floor()
    scale_N = -18 / (2 * radius_N + 1) ** 2  # -1 / (2 sigma^2)
    y_NH = torch.arange(hw[0], device=cell_N2.device) - cell_N2[:, 1, None]
    x_NW = torch.arange(hw[1], device=cell_N2.device) - cell_N2[:, 0, None]

    def falling(d_NL: Tensor) -> Tensor:
        return (d_NL**2 * scale_N[:, None]).exp() * (d_NL.abs() <= radius_N[:, None])

    return _highest(falling(y_NH)[:, :, None] * falling(x_NW)[:, None, :], owner_N, b)


def line_maps(
    box_cell_N4: Tensor, owner_N: Tensor, b: int, hw: tuple[int, int], min_iou: float, sigma: float
) -> tuple[Tensor, Tensor]:
    """Horizontal and vertical centre lines of people, (B, 1, H, W) each (Center Line Branch).

    A line runs through the box's centre from edge to edge, d cells thick, and every cell of it carries a Gaussian; the
    maximum of them all has the closed form exp(-(dx^2 + dy^2) / (2 sigma^2)) with the distances to the line.
    """
    thick_N = line_thickness(box_size(box_cell_N4), min_iou)
    centre_N2 = box_centre(box_cell_N4).floor()
    low_N2, high_N2 = box_cell_N4[:, :2].ceil(), box_cell_N4[:, 2:].floor()
    # a box thinner than a cell has the one that its centre lies in
    none_N2 = box_cell_N4[:, 2:].floor() < box_cell_N4[:, :2].ceil()
    low_N2, high_N2 = torch.where(none_N2, centre_N2, low_N2), torch.where(none_N2, centre_N2, high_N2)
    before_N1 = torch.div(thick_N - 1, 2, rounding_mode="floor")[:, None]
    after_N1 = torch.div(thick_N, 2, rounding_mode="floor")[:, None]
    thin_low_N2, thin_high_N2 = centre_N2 - before_N1, centre_N2 + after_N1

    def falling(low_N: Tensor, high_N: Tensor, cells: int) -> Tensor:
        at_L = torch.arange(cells, device=low_N.device)
        d_NL = torch.maximum(low_N[:, None] - at_L, at_L - high_N[:, None]).clamp(min=0)
        return (d_NL**2 * (-1 / (2 * sigma**2))).exp()

    def drawn(x_low: Tensor, x_high: Tensor, y_low: Tensor, y_high: Tensor) -> Tensor:
        return _highest(
            falling(y_low, y_high, hw[0])[:, :, None] * falling(x_low, x_high, hw[1])[:, None, :], owner_N, b
        )

    line_x = drawn(low_N2[:, 0], high_N2[:, 0], thin_low_N2[:, 1], thin_high_N2[:, 1])
    line_y = drawn(thin_low_N2[:, 0], thin_high_N2[:, 0], low_N2[:, 1], high_N2[:, 1])
    return line_x, line_y


def line_thickness(size_cell_N2: Tensor, min_iou: float) -> Tensor:
    """d, cells: a sixth of the radius r by which a box may shift, rounded (Center Line Branch).

    Differs from the paper: at least 1; its formula gives 0 for r below 3.
    """
    return (shift_radius(size_cell_N2, min_iou) / 6 + 1 / 2).floor().clamp(min=1)


def _highest(drawn_NHW: Tensor, owner_N: Tensor, b: int) -> Tensor:
    """Per image the highest of its people's maps, (B, 1, H, W)."""
    _, height, width = drawn_NHW.shape
    cells_NL = owner_N[:, None].expand(-1, height * width)
    found = drawn_NHW.new_zeros(b, height * width)
    return found.scatter_reduce(0, cells_NL, drawn_NHW.flatten(1), "amax").view(b, 1, height, width)


# --- regions ----------------------------------------------------------------------------------------------------------


def train_rois(people: People, batch: Batch, loss: Loss, masks: bool) -> Rois:
    """One region per person with joints inside the input (or with a mask), at most `roi_max` per image, jittered.

    Differs from the paper: it does not say where training regions come from. Exact boxes would never teach the branch
    what detected ones look like.
    """
    if masks:
        assert people.mask_NHW is not None
        usable_N = (people.mask_NHW > 0).flatten(1).any(1)
    else:
        usable_N = people.labelled_N & (people.joint_NK3[..., 2] > 0).any(-1)
    slot_N = _slots(people.owner_N, batch.b)
    key_N = _drawn(batch, people, slot_N, 1, _SUBSET)[:, 0]
    # place of each usable person among its image's, in the order of the drawn keys
    earlier_NN = (key_N[None] < key_N[:, None]) & (people.owner_N[None] == people.owner_N[:, None]) & usable_N[None]
    person_R = (usable_N & (earlier_NN.sum(-1) < loss.roi_max)).nonzero()[:, 0]
    box_R4 = people.box_N4[person_R].float()
    if loss.roi_source != "gt":
        low, high = loss.roi_scale
        shift_R2 = (2 * _drawn(batch, people, slot_N, 2, _SHIFT)[person_R] - 1) * loss.roi_shift
        scale_R2 = low + (high - low) * _drawn(batch, people, slot_N, 2, _SCALE)[person_R]
        size_R2 = box_size(box_R4)
        box_R4 = centre_box(box_centre(box_R4) + shift_R2 * size_R2, size_R2 * scale_R2)
    rois = Rois(box_R4, people.owner_N[person_R], person_R, torch.ones_like(box_R4[:, 0]))
    return rois if len(person_R) >= MIN_ROIS else _filled(rois, batch)


def _filled(rois: Rois, batch: Batch) -> Rois:
    """Stand-ins of weight 0 up to two regions: the one there is once more, or the whole image."""
    missing = MIN_ROIS - len(rois.person_R)
    if len(rois.person_R):
        stand_in = Rois(*(t[:1] for t in rois))
    else:
        width, height = batch.input_wh
        box = rois.box_in_R4.new_tensor([[-EDGE, -EDGE, width - EDGE, height - EDGE]])
        zero = torch.zeros(1, dtype=torch.int64, device=box.device)
        stand_in = Rois(box, zero, zero, box[:, 0])
    stand_in = stand_in._replace(weight_R=torch.zeros_like(stand_in.weight_R))
    return Rois(*(torch.cat([a, *[b] * missing]) for a, b in zip(rois, stand_in, strict=True)))


def with_predicted(rois: Rois, box_in_M4: Tensor, owner_M: Tensor, people: People) -> Rois:
    """Regions, and detected boxes that overlap a person of theirs enough (`roi_source=pred_mix`)."""
    if people.n == 0 or len(box_in_M4) == 0:
        return rois
    iou_MN = box_iou(box_in_M4, people.box_N4.float()) * (owner_M[:, None] == people.owner_N)
    best_M, person_M = iou_MN.max(-1)
    found_M = (best_M >= MATCH_IOU) & torch.isin(person_M, rois.person_R[rois.weight_R > 0])
    box, owner, person = box_in_M4[found_M], owner_M[found_M], person_M[found_M]
    more = Rois(box.detach(), owner, person, torch.ones_like(box[:, 0]))
    return Rois(*(torch.cat(pair) for pair in zip(rois, more, strict=True)))


def to_roi(point_RK2: Tensor, box_R4: Tensor, cells: int) -> Tensor:
    """Input pixels to the cells of each box's heatmap, left edge of cell 0 at 0; (R, K, 2)."""
    return (point_RK2 - box_R4[:, None, :2]) / box_size(box_R4)[:, None] * cells


def from_roi(cell_RK2: Tensor, box_R4: Tensor, cells: int) -> Tensor:
    """Cells of each box's heatmap (centres at integers) to input pixels; (R, K, 2)."""
    return box_R4[:, None, :2] + (cell_RK2 + EDGE) / cells * box_size(box_R4)[:, None]


def keypoint_maps(
    targets: Targets, box_in_R4: Tensor, person_R: Tensor, cells: int, loss: Loss
) -> tuple[Tensor, Tensor]:
    """Gaussians at the cells that hold the joints, (R, K, U, U), and the weight of each channel, (R, K) (Total Loss).

    Differs from the paper: it gives no sigma; joints without label or outside their region have weight 0.
    """
    joint_RK3 = (
        targets.people.joint_NK3.float()[person_R]
        if targets.people.n
        else targets.people.joint_NK3.new_zeros(len(person_R), *targets.people.joint_NK3.shape[1:])
    )
    labelled_RK = joint_RK3[..., 2] > 0
    point_RK2 = torch.where(labelled_RK[..., None], joint_RK3[..., :2], torch.zeros_like(joint_RK3[..., :2]))
    cell_RK2 = to_roi(point_RK2, box_in_R4, cells).floor()
    inside_RK = ((cell_RK2 >= 0) & (cell_RK2 < cells)).all(-1)
    return gaussian(cell_RK2, (cells, cells), loss.sigma_share * cells), (labelled_RK & inside_RK).float()


def mask_maps(targets: Targets, box_in_R4: Tensor, person_R: Tensor, cells: int) -> Tensor:
    """The people's masks inside the regions, 0 or 1, (R, 1, U, U) (Person Instance Segmentation)."""
    mask_NHW = targets.people.mask_NHW
    assert mask_NHW is not None
    if len(mask_NHW) == 0:
        return box_in_R4.new_zeros(len(person_R), 1, cells, cells)
    stride = 1 if mask_NHW.shape[-1] == targets.input_wh[0] else STRIDE
    mask_R1HW = mask_NHW[person_R][:, None].float()
    own_R = torch.arange(len(person_R), device=person_R.device)
    return (roi_sample(mask_R1HW, box_in_R4, own_R, stride, (cells, cells), samples=2) >= 1 / 2).float()


def _slots(owner_N: Tensor, b: int) -> Tensor:
    """Number of each person within its image; people come sorted by image."""
    count_B = torch.bincount(owner_N, minlength=b)
    return torch.arange(len(owner_N), device=owner_N.device) - (count_B.cumsum(0) - count_B)[owner_N]


def _drawn(batch: Batch, people: People, slot_N: Tensor, n: int, stream: int) -> Tensor:
    """Uniform draws of each person: a function of its image's seed and its number in it, (N, n)."""
    most = int(slot_N.max()) + 1 if len(slot_N) else 1
    return draws.uniform(batch.seed_B, (most, n), stream)[people.owner_N, slot_N]
