"""Targets of DRP-Net, and where ROIs lie.

Cell-to-pixel map: cell i of F (stride s) is input pixel s * i, so x_F = x_in / s. The linear layer's output p maps to
input pixels as p * (W, H). The canvas of an ROI around centre c has u = f * S cells a side, with cell u at
c + (s / f) * (u - (f * S - 1) / 2) input pixels (`Canvas`); encode and decode both go through it.

Shapes: B crops, K joints, N people, H W canvas cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from repose.geometry import EDGE
from repose.ops import draws
from repose.ops.heatmap import gaussian
from repose.papers.drpnet.config import Decode, Loss, Model
from repose.types import Batch

# Streams of the device-side draws: one number per use, so that no two uses share their numbers.
_TEACHER, _REACH, _JITTER, _TEST = 1, 2, 3, 4


@dataclass(frozen=True)
class Canvas:
    """Geometry of the ROI and of the local heatmap on it.

    Attributes:
        stride: input pixels per cell of F.
        size: cells of F per side of the ROI, S.
        up: canvas cells per cell of F, f.
    """

    stride: int
    size: int
    up: int

    @staticmethod
    def of(model: Model) -> Canvas:
        """The canvas of a model's settings."""
        return Canvas(model.neck.stride, model.roi.size, model.roi.up)

    @property
    def cells(self) -> int:
        """Canvas cells per side, h = w = f * S."""
        return self.up * self.size

    def from_input(self, point_BK2: Tensor, centre_BK2: Tensor) -> Tensor:
        """Input pixels to canvas cells of the ROI around `centre` (input pixels)."""
        return (point_BK2 - centre_BK2) * (self.up / self.stride) + (self.cells - 1) / 2

    def to_input(self, cell_BK2: Tensor, centre_BK2: Tensor) -> Tensor:
        """Canvas cells to input pixels; the inverse of `from_input`."""
        return centre_BK2 + (cell_BK2 - (self.cells - 1) / 2) * (self.stride / self.up)

    def inside(self, point_BK2: Tensor, centre_BK2: Tensor) -> Tensor:
        """Whether points lie in the ROI: within S / 2 cells of its centre on both axes. Returns bool (B, K)."""
        return ((point_BK2 - centre_BK2).abs() <= self.stride * self.size / 2).all(-1)


class Targets(NamedTuple):
    """Ground truth of a batch of crops.

    Attributes:
        joint_BK2: input pixels.
        weight_BK: 1 for labelled joints (v > 0) inside the crop, else 0.
        seed_B: int64, for draws.
        ann_id_B: int64 annotation id, 0 where the crop has no person.
        person_B: bool, whether the crop's person is annotated.
        input_wh: input width and height, pixels.
        progress: share of the training that is done.
    """

    joint_BK2: Tensor
    weight_BK: Tensor
    seed_B: Tensor
    ann_id_B: Tensor
    person_B: Tensor
    input_wh: tuple[int, int]
    progress: float


def encode(batch: Batch, k: int, progress: float = 1.0) -> Targets:
    """Ground truth by crop; crops without an annotated person have weight 0 everywhere (DRP-Net §2.2, I(v > 0)).

    Args:
        batch: person view.
        k: number of joints.
        progress: share of the training that is done, in [0, 1].
    """
    people, b = batch.people, batch.b
    device = people.joint_NK3.device
    joint_BK3 = torch.zeros(b, k, 3, device=device)
    joint_BK3[people.owner_N] = people.joint_NK3.float()
    ann_id_B = torch.zeros(b, dtype=torch.int64, device=device)
    ann_id_B[people.owner_N] = people.ann_id_N
    person_B = torch.zeros(b, dtype=torch.bool, device=device)
    person_B[people.owner_N] = True
    point_BK2 = joint_BK3[..., :2]
    x, y = point_BK2.unbind(-1)
    width, height = batch.input_wh
    in_crop_BK = (x >= -EDGE) & (x <= width - EDGE) & (y >= -EDGE) & (y <= height - EDGE)
    weight_BK = ((joint_BK3[..., 2] > 0) & in_crop_BK).float()
    # Where a joint without label lies means nothing, not even when it is nan: no gradient may see it.
    point_BK2 = torch.where(weight_BK[..., None] > 0, point_BK2, torch.zeros_like(point_BK2))
    return Targets(point_BK2, weight_BK, batch.seed_B, ann_id_B, person_B, batch.input_wh, progress)


def clamp_centres(centre_BK2: Tensor, stride: int, map_hw: tuple[int, int]) -> Tensor:
    """ROI centres, detached and held inside F: [0, W_F - 1] x [0, H_F - 1] cells. Input pixels."""
    x, y = centre_BK2.detach().float().unbind(-1)
    return torch.stack([x.clamp(0, (map_hw[1] - 1) * stride), y.clamp(0, (map_hw[0] - 1) * stride)], dim=-1)


def train_centres(coarse_BK2: Tensor, targets: Targets, loss: Loss, canvas: Canvas) -> Tensor:
    """Centres of training ROIs before clamping, input pixels (`loss.roi_source`).

    Joints without label use the prediction. Differs from the paper: it names no teacher forcing; `roi_source=pred` is
    its literal reading. At the start predictions sit near the mean pose, most ROIs would miss, and the head would learn
    zeros.
    """
    k = coarse_BK2.shape[1]
    pred = coarse_BK2.detach()
    if loss.roi_jitter > 0:
        pred = pred + draws.normal(targets.seed_B, (k, 2), _JITTER) * (loss.roi_jitter * canvas.stride)
    if loss.roi_source == "pred":
        return pred
    truth = targets.joint_BK2
    if loss.roi_source != "oracle":
        truth = truth + _reach(targets.seed_B, k, _REACH, loss, canvas)
    taught_BK = targets.weight_BK > 0
    if loss.roi_source == "mixed":
        share = 1 - targets.progress / loss.roi_mixed_share if loss.roi_mixed_share > 0 else 0.0
        taught_BK = taught_BK & (draws.uniform(targets.seed_B, (k,), _TEACHER) < share)
    return torch.where(taught_BK[..., None], truth, pred)


def eval_centres(coarse_BK2: Tensor, targets: Targets, decode: Decode, loss: Loss, canvas: Canvas) -> Tensor:
    """Centres of test ROIs before clamping, input pixels (`decode.centre`, Table 2).

    `oracle_jitter`: ground truth plus a uniform offset drawn from the annotation id, as in training. `oracle_clip`: the
    prediction moved just far enough that no joint is outside its ROI. Joints without label use the prediction.
    """
    if decode.centre == "pred":
        return coarse_BK2
    if decode.centre == "oracle_jitter":
        truth = targets.joint_BK2 + _reach(targets.ann_id_B, coarse_BK2.shape[1], _TEST, loss, canvas)
    else:
        most = (canvas.size - 1) / 2 * canvas.stride
        truth = targets.joint_BK2 + (coarse_BK2 - targets.joint_BK2).clamp(-most, most)
    return torch.where((targets.weight_BK > 0)[..., None], truth, coarse_BK2)


def _reach(seed_B: Tensor, k: int, stream: int, loss: Loss, canvas: Canvas) -> Tensor:
    """Uniform offsets in [-r, r]^2 with r = roi_reach * (S - 1) / 2 cells; (B, K, 2) input pixels."""
    reach = loss.roi_reach * (canvas.size - 1) / 2 * canvas.stride
    return (2 * draws.uniform(seed_B, (k, 2), stream) - 1) * reach


def local_heatmap(targets: Targets, centre_BK2: Tensor, loss: Loss, canvas: Canvas) -> tuple[Tensor, Tensor]:
    """Target of the refinement head: a Gaussian at the joint, on the ROI's canvas (DRP-Net §2.3, Eq. 9).

    The paper is silent about joints outside their ROI (`loss.outside`): `tail` keeps the formula, so a near miss
    leaves a slope that pulls towards it and a far one asks for zeros; `mask` gives them no weight, `clamp` moves the
    peak to the border, `zero` asks for zeros.

    Args:
        targets: ground truth.
        centre_BK2: ROI centres, input pixels.
        loss: sigma and `outside`.
        canvas: geometry.

    Returns:
        (B, K, H, W) heatmaps and their (B, K) weights.
    """
    peak_BK2 = canvas.from_input(targets.joint_BK2, centre_BK2)
    inside_BK = canvas.inside(targets.joint_BK2, centre_BK2)
    if loss.outside == "clamp":
        peak_BK2 = peak_BK2.clamp(0, canvas.cells - 1)
    heatmap = gaussian(peak_BK2, (canvas.cells, canvas.cells), loss.sigma)
    weight_BK = targets.weight_BK
    if loss.outside == "mask":
        weight_BK = weight_BK * inside_BK
    if loss.outside == "zero":
        heatmap = heatmap * inside_BK[..., None, None]
    return heatmap, weight_BK
