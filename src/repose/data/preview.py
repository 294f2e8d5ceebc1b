"""`repose data preview`: a sheet of what the network will see, so that a wrong joint order or flip shows at a glance.

One row per training sample: the photograph with its annotation and boxes, the input without augmentation, two augmented
draws (one of each stage where there are two), and the mirrored input, in which left and right must have changed sides.
In the image view the inputs have boxes too, a colour per person.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from repose import viz
from repose.config import Augment, ExperimentBase
from repose.data.coco import Annotations, read
from repose.data.datamodule import PoseDataModule
from repose.data.dataset import TrainSet
from repose.data.photographs import Photographs
from repose.data.roots import data_file, find_root
from repose.errors import UserError
from repose.skeleton import Skeleton
from repose.types import Batch

PANELS = 5
_HEIGHT = 320
"""[pixels] of a panel."""


def preview(cfg: ExperimentBase, out: Path, n: int = 8, indices: list[int] | None = None) -> Path:
    """Write the sheet of a data set as an experiment uses it (view, input size, augmentation).

    Args:
        cfg: the experiment.
        out: PNG file to write.
        n: number of samples, spread over the training samples.
        indices: training samples to show in the place of those.

    Returns:
        `out`.

    Raises:
        UserError: there is no sample, or not the wanted one.
    """
    data, skeleton = cfg.data, cfg.joint_set()
    PoseDataModule(cfg).prepare_data()
    root = find_root(data, skeleton)
    annotations = read(
        data_file(root, data.train_json, "data.train_json", data),
        root / data.train_images,
        skeleton,
        data.oks_area,
        data.limit_train,
    )
    photographs, images = Photographs(annotations), np.arange(annotations.images)
    train = TrainSet(photographs, data, skeleton, cfg.seed, cfg.train.epochs, images)
    # Mirrored by the training code itself: a flip that forgot to swap the sides would show here.
    flipping = replace(data, augment=Augment(flip=1.0), augment_final=None)
    mirrored = TrainSet(photographs, flipping, skeleton, cfg.seed, cfg.train.epochs, images)
    chosen = _chosen(len(train), n, indices, data.train_json)
    pictures: list[viz.Image] = []
    captions: list[str] = []
    for index in chosen:
        plain = train.sample(index, augment=False)
        # an epoch before and one after the change of stages, or the first two
        epochs = (0, train.final_epoch if data.augment_final is not None else 1)
        draws = [train.sample(index, epoch) for epoch in epochs]
        stages = ("augmented", "augmented, last epochs" if data.augment_final is not None else "augmented again")
        width, height = plain.input_wh
        inputs, whole = (plain, *draws, mirrored.sample(index)), plain if data.view == "image" else None
        pictures += [_photograph(photographs, plain, skeleton), *(_input(b, skeleton, whole) for b in inputs)]
        captions += [_title(plain, annotations), f"input, {width} x {height}", *stages, "mirrored"]
    title = f"{data.name}: {len(train)} training samples, {data.view} view"
    sheet = viz.sheet(pictures, PANELS, captions, title, (_HEIGHT, _HEIGHT * 4 // 3), viz.legend())
    return write(out, sheet)


def write(path: Path, image: viz.Image) -> Path:
    """Write a picture (RGB) as a file of the type its name ends in.

    Raises:
        UserError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        good, code = cv2.imencode(path.suffix or ".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        if not good:
            raise OSError("OpenCV cannot encode it")
        path.write_bytes(code.tobytes())
    except (OSError, cv2.error) as error:
        raise UserError(
            f"{path}: the picture cannot be written ({error}); name a PNG file in a folder of yours"
        ) from None
    return path


def _chosen(samples: int, n: int, indices: list[int] | None, name: str) -> list[int]:
    if not samples:
        raise UserError(f"data preview: {name} has nobody with labelled joints to show")
    if indices is None:
        return sorted({int(i) for i in np.linspace(0, samples - 1, min(n, samples))})
    for index in indices:
        if not 0 <= index < samples:
            raise UserError(f"data preview: sample {index} is not there; {name} has samples 0 to {samples - 1}")
    return indices


def _photograph(photographs: Photographs, batch: Batch, skeleton: Skeleton) -> viz.Image:
    """The photograph with the sample's people as the file annotates them, and their boxes, one colour per person."""
    annotations = photographs.annotations
    row_N = np.flatnonzero(np.isin(annotations.ann_id_A, batch.people.ann_id_N.numpy()))
    pixels = photographs.read(int(annotations.image_A[row_N[0]]))
    assert pixels is not None  # the plain sample was cut from it
    large, affine = viz.enlarge(pixels, _HEIGHT)
    box_N4 = affine.points(annotations.box_A4[row_N].reshape(-1, 2, 2)).reshape(-1, 4)
    drawn = viz.draw_boxes(large, box_N4, colours=_colours(annotations.ann_id_A[row_N], batch), width=2.0)
    return viz.draw_poses(drawn, viz.move(annotations.joint_AK3[row_N], affine), skeleton)


def _colours(ann_id_N: np.ndarray, batch: Batch) -> list[viz.Colour]:
    """Colours of people, the same in all pictures of an image."""
    order = sorted(batch.people.ann_id_N.tolist())
    return [viz.person_colour(order.index(i) if i in order else 0) for i in ann_id_N.tolist()]


def _input(batch: Batch, skeleton: Skeleton, whole: Batch | None = None) -> viz.Image:
    """An input with its joints. `whole`: image view, the batch that all of the image's people are in; adds boxes."""
    large, affine = viz.enlarge(batch.image_B3HW[0], 360)
    people = batch.people
    if whole is not None:
        box_N4 = affine.points(people.box_N4.double().numpy().reshape(-1, 2, 2)).reshape(-1, 4)
        large = viz.draw_boxes(large, box_N4, colours=_colours(people.ann_id_N.numpy(), whole), width=2.0)
    return viz.draw_poses(large, viz.move(batch.people.joint_NK3, affine), skeleton)


def _title(batch: Batch, annotations: Annotations) -> str:
    image, subject = int(batch.image_id_B[0]), int(batch.subject_id_B[0])
    if subject >= 0:
        return f"image {image}, annotation {subject}"
    extra = annotations.image_extra_I.get(int(np.flatnonzero(annotations.image_id_I == image)[0]), {})
    crowding = [
        f"{name} {extra[key]:.2f}"
        for name, key in (("max IoU", "max_iou"), ("crowd index", "crowdIndex"))
        if isinstance(extra.get(key), int | float)
    ]
    people = batch.people.n
    return ", ".join([f"image {image}", *(crowding or [f"{people} {'person' if people == 1 else 'people'}"])])
