"""Batches of crops or images: decode, ONE affine warp, photometric augmentation, and people moved by the same matrix.

A data set is asked for a whole batch at once (`__getitems__`), so that images are written straight into the batch's
memory and people are moved in one vectorised step. Workers ship uint8 images and joints only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from repose.config import Augment, Data
from repose.data.boxes import Boxes
from repose.data.coco import Annotations
from repose.data.people import MASK_STRIDE, gather, inside_masks, instance_masks, region_masks
from repose.data.photographs import Photographs
from repose.data.transforms import Photometric, sample_draws
from repose.data.views import Canvas, Crop, ImageView, PersonView
from repose.errors import UserError
from repose.geometry import EDGE
from repose.skeleton import Skeleton
from repose.types import Batch

Key = tuple[int, int]
"""(epoch, index) as the samplers yield it."""
_BORDER = {"black": (0.0, 0.0, 0.0), "mean": (124.0, 116.0, 104.0)}
"""Colour outside the photograph; mean is ImageNet's, rounded, so that it is close to 0 after normalisation."""
_ATTEMPTS = 50


@dataclass(frozen=True)
class Stage:
    """One stage of the augmentation, with its photometric part built."""

    augment: Augment
    photometric: Photometric


@dataclass(frozen=True)
class Cut:
    """One batch element before its pixels are there.

    Attributes:
        image: image row.
        crop: what is cut.
        row: annotation rows of its people.
        box_4: the box that is cropped, photograph pixels.
        score: of that box.
        subject: annotation id or box row; -1 in the image view.
        valid_wh: size of the part of the input that the photograph can cover.
        seed: for draws on the device.
        epoch: of the sampler.
        uniform: the sample's draws.
        stage: photometric augmentation, None in a test.
        origin: upper left corner of that part.
    """

    image: int
    crop: Crop
    row: np.ndarray
    box_4: Sequence[float] | np.ndarray
    score: float
    subject: int
    valid_wh: tuple[int, int]
    seed: int
    epoch: int
    uniform: Sequence[float]
    stage: Stage | None
    origin: tuple[int, int] = (0, 0)


class _PoseDataset(Dataset[Any]):
    """What training and test sets share: from cuts to a batch."""

    def __init__(self, photographs: Photographs, data: Data, skeleton: Skeleton, seed: int) -> None:
        self.photographs = photographs
        self.annotations = photographs.annotations
        self.data = data
        self.seed = seed
        self.out_wh = (data.input_size[1], data.input_size[0])
        self.view: PersonView | ImageView = PersonView(data, skeleton) if data.view == "person" else ImageView(data)
        self.k = skeleton.k
        self._flip_index = np.array(skeleton.flip_index)
        self._scratch = np.empty((0, 0, 3), np.uint8)

    def _batch(self, cuts: list[Cut], pixels: list[np.ndarray], wh: tuple[int, int]) -> Batch:
        width, height = wh
        data = self.data
        image_B3HW = torch.empty(len(cuts), 3, height, width, dtype=torch.uint8)
        pixel_B3HW = image_B3HW.numpy()
        matrix_B23 = np.empty((len(cuts), 2, 3))
        for b, (cut, photograph) in enumerate(zip(cuts, pixels, strict=True)):
            matrix_B23[b] = cut.crop.affine(wh).matrix_23
            self._draw(photograph, matrix_B23[b], cut, pixel_B3HW[b])
        linear_B22 = np.linalg.inv(matrix_B23[:, :, :2]) if cuts else matrix_B23[:, :, :2]
        to_image_B23 = np.concatenate([linear_B22, -linear_B22 @ matrix_B23[:, :, 2:]], axis=2)

        owner_N = np.repeat(np.arange(len(cuts)), [len(c.row) for c in cuts])
        row_N = np.concatenate([c.row for c in cuts]) if cuts else np.zeros(0, np.int64)
        people, row_N = gather(
            self.annotations,
            row_N,
            owner_N,
            matrix_B23,
            np.array([c.crop.mirrored for c in cuts], bool),
            wh,
            self._flip_index,
            data.min_keypoints,
            drop_outside=data.view == "image",
        )
        crowd = unlabelled = inside = None
        if data.masks != "none" or data.regions:
            images = [c.image for c in cuts]
            crowd, unlabelled = region_masks(self.annotations, images, matrix_B23, wh, data.min_keypoints)
            inside = inside_masks(self.annotations, images, matrix_B23, wh)
        if data.masks != "none":
            stride = MASK_STRIDE if data.masks == "stride4" else 1
            mask = instance_masks(self.annotations, row_N, people.owner_N, matrix_B23, wh, stride)
            people = replace(people, mask_NHW=mask)
        return Batch(
            image_B3HW=image_B3HW,
            valid_size_B2=torch.tensor([c.valid_wh for c in cuts], dtype=torch.int64).reshape(-1, 2),
            to_image_B23=torch.from_numpy(to_image_B23),
            image_id_B=torch.from_numpy(self.annotations.image_id_I[np.array([c.image for c in cuts], np.int64)]),
            subject_id_B=torch.tensor([c.subject for c in cuts], dtype=torch.int64),
            seed_B=torch.tensor([c.seed for c in cuts], dtype=torch.int64),
            box_img_B4=torch.from_numpy(np.array([c.box_4 for c in cuts], np.float32).reshape(-1, 4)),
            box_score_B=torch.tensor([c.score for c in cuts], dtype=torch.float32),
            people=people,
            crowd_B1HW=crowd,
            unlabelled_B1HW=unlabelled,
            epoch_B=torch.tensor([c.epoch for c in cuts], dtype=torch.int64),
            valid_origin_B2=torch.tensor([c.origin for c in cuts], dtype=torch.int64).reshape(-1, 2),
            inside_B1HW=inside,
        )

    def _draw(self, photograph: np.ndarray, matrix_23: np.ndarray, cut: Cut, out_3HW: np.ndarray) -> None:
        height, width = out_3HW.shape[1:]
        if self._scratch.shape[:2] != (height, width):
            self._scratch = np.empty((height, width, 3), np.uint8)
        image = cv2.warpAffine(
            photograph,
            matrix_23,
            (width, height),
            dst=self._scratch,
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=_BORDER[self.data.border],
        )
        if cut.stage is not None:
            image = cut.stage.photometric(image, cut.uniform)
        planes = [out_3HW[0], out_3HW[1], out_3HW[2]]
        written = cv2.split(image, planes)
        if written[0] is not planes[0] and not np.shares_memory(written[0], out_3HW):
            out_3HW[:] = written  # an OpenCV that allocates its own planes

    def _whole(self, image: int) -> tuple[float, float, float, float]:
        width, height = self.annotations.image_wh_I2[image].tolist()
        return (-EDGE, -EDGE, width - EDGE, height - EDGE)

    def _people(self, image: int) -> np.ndarray:
        rows = np.arange(self.annotations.first_I[image], self.annotations.first_I[image + 1])
        return rows[~self.annotations.crowd_A[rows]]


def trainable(annotations: Annotations, data: Data) -> tuple[np.ndarray, np.ndarray]:
    """Who and what is trained on.

    Args:
        annotations: of the training split.
        data: person view: people with `min_keypoints` labelled joints. Image view: `train_on` and
            `min_image_keypoints` choose photographs.

    Returns:
        bool per annotation (people, never crowds), and the image rows that are used, ascending.
    """
    usable_A = ~annotations.crowd_A & (annotations.labelled_A >= max(data.min_keypoints, 1))
    if data.view == "person":
        return usable_A, np.unique(annotations.image_A[usable_A])
    # A photograph without a pose still teaches a detector, or heatmaps, what is no person.
    images = np.unique(annotations.image_A if data.train_on == "annotated" else annotations.image_A[usable_A])
    if data.min_image_keypoints > 0:
        joints_I = np.bincount(annotations.image_A, annotations.num_keypoints_A, annotations.images)
        images = images[joints_I[images] >= data.min_image_keypoints]
    return usable_A, images


class TrainSet(_PoseDataset):
    """Training samples: people (person view) or images (image view), augmented by (seed, epoch, index).

    Attributes:
        sample_S: annotation rows (person view) or image rows (image view).
        final_epoch: first epoch of the second augmentation stage.
    """

    def __init__(
        self, photographs: Photographs, data: Data, skeleton: Skeleton, seed: int, epochs: int, images: np.ndarray
    ) -> None:
        """Build the set. `images`: image rows that may be used."""
        super().__init__(photographs, data, skeleton, seed)
        self.first = Stage(data.augment, Photometric(data.augment))
        self.final = self.first
        self.final_epoch = epochs
        if data.augment_final is not None:
            self.final = Stage(data.augment_final, Photometric(data.augment_final))
            self.final_epoch = epochs - round(data.final_share * epochs)
        usable_A, rows = trainable(self.annotations, data)
        usable_A &= np.isin(self.annotations.image_A, images)
        self.sample_S = np.flatnonzero(usable_A) if data.view == "person" else rows[np.isin(rows, images)]

    def __len__(self) -> int:
        return len(self.sample_S)

    def __getitem__(self, key: Key) -> Batch:
        return self.__getitems__([key])

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        """The batch of these (epoch, index) keys; an unreadable image is replaced, always by the same."""
        found = [self._readable(epoch, index) for epoch, index in keys]
        return self._batch([f[0] for f in found], [f[1] for f in found], self.out_wh)

    def sample(self, index: int, epoch: int = 0, augment: bool = True) -> Batch:
        """A batch of one.

        Args:
            index: of the sample.
            epoch: whose draws are made.
            augment: False gives the plain crop.
        """
        if augment:
            return self[(epoch, index)]
        cut = self._cut(epoch, index, 0)
        pixels = self.photographs.read(cut.image)
        if pixels is None:
            raise UserError(
                f"{self.annotations.path(cut.image)}: {self.photographs.known.get(cut.image, 'unreadable')}"
            )
        if isinstance(self.view, PersonView):
            crop, canvas = self.view.plain(np.asarray(cut.box_4)), Canvas(self.out_wh, (0, 0), self.out_wh)
        else:
            width, height = self.annotations.image_wh_I2[cut.image].tolist()
            crop, canvas = self.view.plain((width, height))
        plain = replace(cut, crop=crop, valid_wh=canvas.valid_wh, origin=canvas.origin, stage=None)
        return self._batch([plain], [pixels], canvas.wh)

    def cut(self, key: Key) -> Cut:
        """What is cut for a key, before any pixel is read."""
        return self._cut(*key, 0)

    def _readable(self, epoch: int, index: int) -> tuple[Cut, np.ndarray]:
        cut = self._cut(epoch, index, 0)
        pixels = self.photographs.read(cut.image)
        for attempt in range(1, _ATTEMPTS):
            if pixels is not None:
                return cut, pixels
            # Another sample, drawn from (seed, epoch, index, attempt): the same one whoever loads it.
            uniform, _ = sample_draws(self.seed, epoch, index, attempt)
            cut = self._cut(epoch, int(uniform[0] * len(self)), attempt)
            pixels = self.photographs.read(cut.image)
        raise UserError(
            f"{self.annotations.folder}: {_ATTEMPTS} images in a row cannot be read, "
            f"the last is {self.annotations.image_name_I[cut.image]}; `repose data check` names them all"
        )

    def _cut(self, epoch: int, index: int, attempt: int) -> Cut:
        uniform, seed = sample_draws(self.seed, epoch, index, attempt)
        stage = self.final if epoch >= self.final_epoch else self.first
        annotations = self.annotations
        sample = int(self.sample_S[index])
        if isinstance(self.view, PersonView):
            box_4 = annotations.box_A4[sample]
            return Cut(
                image=int(annotations.image_A[sample]),
                crop=self.view.augmented(box_4, annotations.joint_AK3[sample], stage.augment, uniform),
                row=self.sample_S[index : index + 1],
                box_4=box_4,
                score=1.0,
                subject=int(annotations.ann_id_A[sample]),
                valid_wh=self.out_wh,
                seed=seed,
                epoch=epoch,
                uniform=uniform,
                stage=stage,
            )
        rows = self._people(sample)
        width, height = annotations.image_wh_I2[sample].tolist()
        box_N4 = (
            annotations.box_A4[rows[annotations.labelled_A[rows] > 0]] if self.view.person else annotations.box_A4[:0]
        )
        return Cut(
            image=sample,
            crop=self.view.augmented((width, height), box_N4, stage.augment, uniform),
            row=rows,
            box_4=self._whole(sample),
            score=1.0,
            subject=-1,
            valid_wh=self.out_wh,
            seed=seed,
            epoch=epoch,
            uniform=uniform,
            stage=stage,
        )


class TestSet(_PoseDataset):
    """Test samples: boxes (person view) or images (image view), one batch per `data.test_scales` entry.

    An unreadable image gives no sample, so its people stay missed; a batch may come out smaller than asked, or empty.

    Attributes:
        image_S: image row of each sample, ascending.
        boxes: person view: what is cropped.
    """

    __test__ = False  # pytest collects classes called Test...

    def __init__(
        self, photographs: Photographs, data: Data, skeleton: Skeleton, seed: int, boxes: Boxes | None
    ) -> None:
        super().__init__(photographs, data, skeleton, seed)
        if (boxes is None) != (data.view == "image"):
            raise ValueError("boxes are needed in the person view, and only there")
        self.boxes = boxes
        self.image_S = np.arange(self.annotations.images) if boxes is None else boxes.image_M

    def __len__(self) -> int:
        return len(self.image_S)

    def __getitem__(self, key: Key) -> list[Batch]:
        return self.__getitems__([key])

    def __getitems__(self, keys: Sequence[Key]) -> list[Batch]:
        """The batches of these (epoch, index) keys, one per test scale; in the image view of equal canvases."""
        read = [(epoch, index, self.photographs.read(int(self.image_S[index]))) for epoch, index in keys]
        good = [(epoch, index, pixels) for epoch, index, pixels in read if pixels is not None]
        batches = []
        for zoom in self.data.test_scales:
            cut = [self._cut(epoch, index, zoom) for epoch, index, _ in good]
            wh = cut[0][1] if cut else self.out_wh
            batches.append(self._batch([c for c, _ in cut], [pixels for _, _, pixels in good], wh))
        return batches

    def sample(self, index: int, epoch: int = 0) -> Batch:
        """A batch of one, at the first test scale."""
        return self[(epoch, index)][0]

    def canvases(self, index: int) -> tuple[tuple[int, int], ...]:
        """Input sizes of a sample at all test scales: only samples with equal ones share a batch."""
        if isinstance(self.view, PersonView):
            return ()
        width, height = self.annotations.image_wh_I2[self.image_S[index]].tolist()
        return tuple(self.view.canvas_wh((width, height), zoom) for zoom in self.data.test_scales)

    def _cut(self, epoch: int, index: int, zoom: float) -> tuple[Cut, tuple[int, int]]:
        _, seed = sample_draws(self.seed, epoch, index)
        image = int(self.image_S[index])
        if isinstance(self.view, PersonView):
            assert self.boxes is not None
            box_4, row = self.boxes.box_M4[index], int(self.boxes.row_M[index])
            crop, canvas = self.view.plain(box_4, zoom), Canvas(self.out_wh, (0, 0), self.out_wh)
            rows = np.array([row] if row >= 0 else [], np.int64)
            score, subject = float(self.boxes.score_M[index]), int(self.boxes.subject_M[index])
        else:
            width, height = self.annotations.image_wh_I2[image].tolist()
            crop, canvas = self.view.plain((width, height), zoom)
            box_4, rows, score, subject = self._whole(image), self._people(image), 1.0, -1
        cut = Cut(image, crop, rows, box_4, score, subject, canvas.valid_wh, seed, epoch, (), None, canvas.origin)
        return cut, canvas.wh
