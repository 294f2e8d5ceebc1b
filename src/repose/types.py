"""What flows between data, papers and metrics: `Batch`, `People`, `Poses`.

Shapes by suffix: B images (or crops) of a batch, N people, K joints, H W pixels. People are flattened over the batch;
`owner_N` says which image each belongs to. Coordinates: see `geometry.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor


class _Tensors:
    """`.to` and `.pin_memory` over the tensor fields (also nested and in lists) of a dataclass."""

    def _map(self, f: Callable[[Tensor], Tensor]) -> Self:
        assert is_dataclass(self)
        return replace(self, **{x.name: _apply(getattr(self, x.name), f) for x in fields(self)})

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """Copy with every tensor on `device`."""
        return self._map(lambda t: t.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """Copy with every tensor in pinned memory."""
        return self._map(lambda t: t.pin_memory())


def _apply(value: Any, f: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return f(value)
    if isinstance(value, _Tensors):
        return value._map(f)  # pyright: ignore[reportPrivateUsage]
    return value


@dataclass(frozen=True)
class People(_Tensors):
    """Annotated people of a batch, flattened.

    Attributes:
        owner_N: int64, index of the image (or crop) in the batch.
        ann_id_N: int64, annotation id.
        joint_NK3: float32, x and y in input pixels, v (0 not labelled, 1 hidden, 2 visible; 0 also when outside).
        box_N4: float32, (x1, y1, x2, y2) in input pixels, clipped to the input: tight around the warped polygon where
            there is one, else around the warped corners of the annotated box.
        visible_fraction_N: float32, share of the annotated box that lies inside the input.
        box_img_N4: float32, the annotated box (x1, y1, x2, y2) in photograph pixels.
        area_N: float32, OKS area in photograph pixels^2 (what `data.oks_area` says).
        labelled_N: bool, False for people without labelled joints (detectors still need their boxes).
        mask_NHW: uint8 instance masks at `data.masks` resolution (0/1), or None.
        given_NK: bool, joints that the file labels, also those outside the input (whose v is 0 here while x and y
            stay): what a centre over all labelled joints is made of. None in batches made by hand.
    """

    owner_N: Tensor
    ann_id_N: Tensor
    joint_NK3: Tensor
    box_N4: Tensor
    visible_fraction_N: Tensor
    box_img_N4: Tensor
    area_N: Tensor
    labelled_N: Tensor
    mask_NHW: Tensor | None = None
    given_NK: Tensor | None = None

    @property
    def n(self) -> int:
        """Number of people."""
        return self.owner_N.shape[0]

    @staticmethod
    def empty(k: int, mask_hw: tuple[int, int] | None = None) -> People:
        """Nobody, for a skeleton of k joints."""
        return People(
            owner_N=torch.zeros(0, dtype=torch.int64),
            ann_id_N=torch.zeros(0, dtype=torch.int64),
            joint_NK3=torch.zeros(0, k, 3),
            box_N4=torch.zeros(0, 4),
            visible_fraction_N=torch.zeros(0),
            box_img_N4=torch.zeros(0, 4),
            area_N=torch.zeros(0),
            labelled_N=torch.zeros(0, dtype=torch.bool),
            mask_NHW=None if mask_hw is None else torch.zeros(0, *mask_hw, dtype=torch.uint8),
            given_NK=torch.zeros(0, k, dtype=torch.bool),
        )


@dataclass(frozen=True)
class Batch(_Tensors):
    """A batch of network inputs: crops of one person each (`data.view: person`) or whole images (`image`).

    Attributes:
        image_B3HW: uint8 RGB; normalised on the device by PoseModule.
        valid_size_B2: int64, width and height of the part that the photograph can cover (the rest is padding).
        to_image_B23: float64 matrices from input pixels to photograph pixels.
        image_id_B: int64.
        subject_id_B: int64, person view: annotation id (ground-truth boxes) or row of the box file; image view: -1.
            (image_id, subject_id) names a result, so results that a sampler duplicated are dropped by it.
        seed_B: int64, for random draws on the device: a function of (seed, epoch, index) alone.
        box_img_B4: float32, the box that was cropped (x1, y1, x2, y2; photograph pixels); image view: the whole image.
        box_score_B: float32, score of that box (1 for ground truth).
        people: annotated people. Person view: the subject alone, where the box is a ground-truth one.
        crowd_B1HW: uint8 at stride 4, 1 where a crowd region was annotated; None unless `data.masks` or `data.regions`
            asks for it.
        unlabelled_B1HW: uint8 at stride 4, 1 where people without joints are; None likewise.
        epoch_B: int64, the epoch the sampler drew these samples for.
        valid_origin_B2: int64, first column and row of the part that `valid_size_B2` gives the size of; None = (0, 0).
        inside_B1HW: uint8 at stride 4, 1 where the photograph is, 0 beyond its edges; None like `crowd_B1HW`.
    """

    image_B3HW: Tensor
    valid_size_B2: Tensor
    to_image_B23: Tensor
    image_id_B: Tensor
    subject_id_B: Tensor
    seed_B: Tensor
    box_img_B4: Tensor
    box_score_B: Tensor
    people: People
    crowd_B1HW: Tensor | None = None
    unlabelled_B1HW: Tensor | None = None
    epoch_B: Tensor | None = None
    valid_origin_B2: Tensor | None = None
    inside_B1HW: Tensor | None = None

    @property
    def b(self) -> int:
        """Number of images (or crops)."""
        return self.image_B3HW.shape[0]

    @property
    def input_wh(self) -> tuple[int, int]:
        """Input width and height, pixels."""
        return self.image_B3HW.shape[-1], self.image_B3HW.shape[-2]


@dataclass(frozen=True)
class Poses(_Tensors):
    """Predicted people of one image (or crop), N may be 0.

    Attributes:
        joint_NK3: float32, x, y and the joint's score in [0, 1]. `decode` gives input pixels, PoseModule maps them to
            the photograph.
        score_N: float32, instance score.
        box_N4: float32 (x1, y1, x2, y2), same pixels as the joints, or None.
        mask_NHW: instance masks at the input's size, also after PoseModule (MaskAP warps them): uint8 (0/1), or float
            probabilities of which half and more is in; or None.
        extra: further tensors with N rows (a coarse stage's points, say), for figures and read-outs; mapped like joints
            when their name ends in `_NK2`.
    """

    joint_NK3: Tensor
    score_N: Tensor
    box_N4: Tensor | None = None
    mask_NHW: Tensor | None = None
    extra: dict[str, Tensor] | None = None

    @property
    def n(self) -> int:
        """Number of people."""
        return self.joint_NK3.shape[0]

    def _map(self, f: Callable[[Tensor], Tensor]) -> Self:
        moved = super()._map(f)
        if self.extra is None:
            return moved
        return replace(moved, extra={name: f(t) for name, t in self.extra.items()})
