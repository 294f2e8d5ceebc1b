"""`repose.load`: a trained network that takes pictures and gives people.

A picture goes through the evaluation's own steps (`data.dataset.TestSet`, `PoseModule.evaluate`, OKS-NMS), so a data
set's image gives here what `repose test` writes. Shapes: N people of one picture.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from repose.config import Loaded
from repose.data import boxes as data_boxes
from repose.data.coco import Annotations, without_people
from repose.data.dataset import TestSet
from repose.data.photographs import Photographs
from repose.data.sampler import TestBatches
from repose.data.views import ImageView
from repose.engine.layout import precision
from repose.engine.logging import say
from repose.engine.module import Evaluated, PoseModule, pose_area
from repose.errors import UserError
from repose.field.boxes import Boxes
from repose.field.detectors import BoxFile, BoxSource, open_boxes
from repose.field.model import device_named, open_checkpoint
from repose.field.options import Detect, Smooth, Track
from repose.field.poses import PicturePoses
from repose.field.sources import Broken, Order, Picture, Video, pictures
from repose.geometry import edges_to_box
from repose.metrics.mask_ap import photograph_masks
from repose.ops.oks import oks_nms
from repose.skeleton import Skeleton
from repose.types import Batch, Poses

CHUNK = 16
"""Pictures in memory at once."""
BOX_SCORE = "box_score_N"
"""Key of `PicturePoses.extra`: the score of the box that was cropped."""
MOST_PIXELS = 2**24
"""Of an image view's canvas: beyond it (a thin strip of a picture) no network here has the memory."""


class _InMemory(Photographs):
    """Decoded pictures in the place of files."""

    def __init__(self, annotations: Annotations, pixels: Sequence[np.ndarray]) -> None:
        # Not the parent's: it shares its notes of bad files with worker processes, and there are neither here.
        self.annotations = annotations
        self._pixels = pixels

    def read(self, image: int) -> np.ndarray:
        return self._pixels[image]


def load(
    checkpoint: str | Path,
    *settings: str,
    boxes: str | BoxSource = "full_frame",
    detector: Detect | None = None,
    device: str = "auto",
    batch: int | None = None,
    threads: int | None = None,
) -> Predictor:
    """Open a trained network.

    Args:
        checkpoint: a `.ckpt` file or a run folder, `repose weights`' `.safetensors`, or `repose export`'s `.onnx`.
        settings: `key=value` of the experiment on top of the saved ones (`"test.flip=false"` halves the time).
        boxes: top-down methods: `full_frame`, `detector`, a COCO file with boxes, or any `BoxSource`.
        detector: settings of `boxes="detector"`.
        device: auto (CUDA where it is), cpu, cuda, cuda:1, mps.
        batch: crops or images that the network sees at once; None = the checkpoint's `test.batch`.
        threads: of torch (and onnxruntime) on the CPU; None = their own choice.

    Returns:
        a `Predictor`: `poses = predictor(images)`.

    Raises:
        UserError: one line that says what is wrong with the file, a setting, the device or the boxes.
    """
    target = device_named(device)
    if threads is not None:
        torch.set_num_threads(threads)
    path = Path(checkpoint)
    if path.suffix.lower() == ".onnx":
        from repose.field.export import open_exported

        opened = open_exported(path, settings, target, threads)
    else:
        opened = open_checkpoint(checkpoint, settings)
    if opened.loaded.cfg.data.view == "image" and boxes != "full_frame":
        say(f"boxes are not used: {opened.loaded.cfg.paper} looks at whole pictures")
        boxes, detector = "full_frame", None
    source = open_boxes(boxes, detector or Detect(), target, threads) if isinstance(boxes, str) else boxes
    return Predictor(opened.loaded, opened.module, source, target, batch)


class Predictor:
    """Finds people in pictures and videos.

    Attributes:
        loaded: the experiment that the checkpoint carries.
        module: its network, in evaluation mode.
        boxes: where a top-down method's boxes come from.
        device: where the network runs.
        network_s: seconds spent in it so far: mirrored view, network, decoding.
        clock: what they are counted with.
    """

    def __init__(
        self, loaded: Loaded, module: PoseModule, boxes: BoxSource, device: torch.device, batch: int | None = None
    ) -> None:
        """Args: see `load`, which makes it."""
        self.loaded = loaded
        self.cfg: Any = loaded.cfg
        self.module = module.eval().to(device)
        self.boxes = boxes
        self.device = device
        self.batch = batch or self.cfg.test.batch
        self.network_s = 0.0
        self.clock: Callable[[], float] = time.perf_counter
        self._precision = precision(self.cfg.train.precision, {"cuda": "gpu"}.get(device.type, device.type))

    @property
    def skeleton(self) -> Skeleton:
        """The joints that are found."""
        return self.module.skeleton

    @property
    def top_down(self) -> bool:
        """Whether the method looks at crops of boxes (else at whole pictures)."""
        return self.cfg.data.view == "person"

    @property
    def stored(self) -> bool:
        """Whether files are seen as they are stored, without their EXIF turn: where boxes of a data set are given."""
        return self.top_down and isinstance(self.boxes, BoxFile) and self.boxes.stored

    def __call__(
        self, images: Any, boxes: Sequence[Any] | None = None, order: Order = "rgb", masks: bool = True
    ) -> list[PicturePoses]:
        """The people of pictures.

        Args:
            images: a path, an array or a tensor, or a list of them (mixed too); a folder, a glob and a batch give all
                their pictures. Arrays are (H, W, 3) or (H, W), tensors (3, H, W) too, uint8 or floating point in
                [0, 1]. Files are turned as their EXIF orientation says, unless `stored`.
            boxes: top-down methods: for each picture the boxes to look into, (N, 4) x1, y1, x2, y2 as edges in pixels
                (COCO's and torchvision's way), or (N, 5) with scores; None = `self.boxes`.
            order: channels of arrays and tensors: `rgb`, or `bgr` as OpenCV reads them.
            masks: take masks to the picture's size, where the method has them.

        Returns:
            one `PicturePoses` per picture.

        Raises:
            UserError: a file that cannot be read, or an array that is no picture.
        """
        seen = [self._must(p) for p in pictures(images, order, self.stored)]
        if boxes is not None:
            if not self.top_down:
                raise UserError(f"boxes: {self.cfg.paper} looks at whole pictures and takes none")
            if len(boxes) != len(seen):
                raise UserError(f"boxes: {len(boxes)} entries for {len(seen)} pictures")
            given = [given_boxes(b, f"boxes of {p.source}") for b, p in zip(boxes, seen, strict=True)]
            return self.see(seen, given, masks)
        return [p for first in range(0, len(seen), CHUNK) for p in self.see(seen[first : first + CHUNK], None, masks)]

    def stream(
        self, images: Iterable[Picture | Broken], broken: Callable[[Broken], None], masks: bool = True
    ) -> Iterator[PicturePoses]:
        """The people of many pictures, a few of them in memory at once.

        Args:
            images: decoded pictures (`sources.read_picture`, `sources.pictures`).
            broken: called with every picture that cannot be used; it is skipped.
            masks: see `__call__`.
        """
        chunk: list[Picture] = []
        for image in images:
            refused = image if isinstance(image, Broken) else self._refuse(image)
            if refused is not None:
                broken(refused)
                continue
            assert isinstance(image, Picture)
            chunk.append(image)
            if len(chunk) == CHUNK:
                yield from self.see(chunk, None, masks)
                chunk = []
        if chunk:
            yield from self.see(chunk, None, masks)

    def video(
        self,
        source: str | Path | int,
        track: Track | None = None,
        smooth: Smooth | None = None,
        frames: int | None = None,
    ) -> Iterator[PicturePoses]:
        """The people of a video file or webcam, frame by frame, with `track_N` saying who is who.

        Frames that cannot be read are skipped; `sources.Video` and `video.follow` say which.

        Args:
            source: a file, or a webcam's number.
            track: settings of detector interval and tracks; None = the defaults.
            smooth: settings of the filter; None = the defaults.
            frames: most frames; None = all.

        Raises:
            UserError: it cannot be opened.
        """
        from repose.field.video import follow

        video = Video(source if isinstance(source, int) else Path(source))
        try:
            yield from follow(self, video, track, smooth, frames)
        finally:
            video.close()

    def see(
        self,
        seen: Sequence[Picture],
        boxes: Sequence[Boxes] | None = None,
        masks: bool = True,
        frame: int | None = None,
    ) -> list[PicturePoses]:
        """The people of decoded pictures, all in one go.

        Args:
            seen: the pictures.
            boxes: top-down methods: of each picture; None = `self.boxes`.
            masks: see `__call__`.
            frame: the video's frame, for `self.boxes`.
        """
        if self.top_down and boxes is None:
            boxes = [self.boxes(p.image_HW3, p.source, frame) for p in seen]
        parts = self._evaluate(seen, boxes if self.top_down else None, masks)
        return [self._joined(picture, found) for picture, found in zip(seen, parts, strict=True)]

    def _must(self, picture: Picture | Broken) -> Picture:
        refused = picture if isinstance(picture, Broken) else self._refuse(picture)
        if refused is not None:
            raise UserError(f"{refused.source}: {refused.reason}")
        assert isinstance(picture, Picture)
        return picture

    def _refuse(self, picture: Picture) -> Broken | None:
        if self.top_down:
            return None
        height, width = picture.image_HW3.shape[:2]
        view = ImageView(self.cfg.data)
        wide, high = max((view.canvas_wh((width, height), t) for t in self.cfg.data.test_scales), key=np.prod)
        if wide * high <= MOST_PIXELS:
            return None
        return Broken(picture.source, f"so thin ({width}x{height}) that the network's input would be {wide}x{high}")

    def _evaluate(self, seen: Sequence[Picture], boxes: Sequence[Boxes] | None, masks: bool) -> list[list[_Part]]:
        cfg = self.cfg
        size_wh = [(p.image_HW3.shape[1], p.image_HW3.shape[0]) for p in seen]
        annotations = without_people([p.source for p in seen], size_wh, self.skeleton)
        photographs = _InMemory(annotations, [p.image_HW3 for p in seen])
        test_set = TestSet(photographs, cfg.data, self.skeleton, cfg.seed, None if boxes is None else _flat(boxes))
        groups = [test_set.canvases(i) for i in range(len(test_set))]
        found: list[list[_Part]] = [[] for _ in seen]
        for keys in TestBatches(test_set.image_S, self.batch, groups):
            if not keys:
                continue
            batches = self.module.transfer_batch_to_device(test_set.__getitems__(keys), self.device, 0)
            begin = self.clock()
            with torch.inference_mode(), self._autocast():
                evaluated = self.module.evaluate(batches, read_outs=False)
            self._wait()
            self.network_s += self.clock() - begin
            for b, image in enumerate(batches[0].image_id_B.tolist()):
                found[image].append(_part(evaluated, batches[0], b, size_wh[image], masks, self.top_down))
        return found

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._precision == "32-true":
            return nullcontext()
        half = torch.bfloat16 if self._precision == "bf16-mixed" else torch.float16
        return torch.autocast(self.device.type, half)

    def _joined(self, picture: Picture, parts: list[_Part]) -> PicturePoses:
        poses = _concatenated([p.poses for p in sorted(parts, key=lambda p: p.subject)], self.skeleton.k)
        area_N = torch.cat([p.area_N for p in sorted(parts, key=lambda p: p.subject)]) if parts else torch.zeros(0)
        whole = PicturePoses(
            joint_NK3=poses.joint_NK3,
            score_N=poses.score_N,
            box_N4=poses.box_N4,
            mask_NHW=poses.mask_NHW,
            extra=poses.extra,
            skeleton=self.skeleton,
            image_HW3=picture.image_HW3,
            source=picture.source,
        )
        threshold = self.cfg.test.oks_nms
        if threshold is None:
            return whole.keep(torch.argsort(whole.score_N.double(), descending=True, stable=True))
        joint, score = whole.joint_NK3.double(), whole.score_N.double()
        return whole.keep(oks_nms(joint, score, area_N.double(), self.skeleton.sigmas, threshold))


@dataclass(frozen=True)
class _Part:
    """What one input (a crop, or the whole picture) gave.

    Attributes:
        subject: order among the picture's crops.
        poses: in picture pixels, on the CPU; masks at the picture's size.
        area_N: for OKS-NMS.
    """

    subject: int
    poses: Poses
    area_N: Tensor


def _part(evaluated: Evaluated, batch: Batch, b: int, size_wh: tuple[int, int], masks: bool, top_down: bool) -> _Part:
    pose = evaluated.poses_img[b]
    n = pose.n
    if top_down:
        box_N4 = batch.box_img_B4[b].expand(n, 4)
    elif pose.box_N4 is not None:
        box_N4 = pose.box_N4
    else:
        box_N4 = torch.cat([pose.joint_NK3[..., :2].amin(1), pose.joint_NK3[..., :2].amax(1)], -1)
    mask_NHW = None
    if pose.mask_NHW is not None and masks:
        matrix_23 = batch.to_image_B23[b].double().cpu().numpy()
        each = list(photograph_masks(pose.mask_NHW.detach().cpu().numpy(), matrix_23, size_wh))
        width, height = size_wh
        mask_NHW = torch.from_numpy(np.stack(each)) if each else torch.zeros(0, height, width, dtype=torch.bool)
    area = evaluated.area_B[b] if top_down else pose_area(pose)
    extra = {name: t.cpu() for name, t in (pose.extra or {}).items()}
    if top_down:
        extra[BOX_SCORE] = batch.box_score_B[b].float().expand(n).cpu()
    moved = Poses(
        joint_NK3=pose.joint_NK3.float().cpu(),
        score_N=pose.score_N.float().cpu(),
        box_N4=box_N4.float().cpu(),
        mask_NHW=mask_NHW,
        extra=extra or None,
    )
    return _Part(int(batch.subject_id_B[b]), moved, area.reshape(-1).expand(n).cpu())


def _concatenated(poses: list[Poses], k: int) -> Poses:
    if len(poses) == 1:
        return poses[0]
    if not poses:
        return Poses(torch.zeros(0, k, 3), torch.zeros(0), torch.zeros(0, 4))

    def all_of(tensors: Iterable[Tensor | None]) -> Tensor | None:
        known = [t for t in tensors if t is not None]
        return torch.cat(known) if len(known) == len(poses) else None

    names = poses[0].extra or {}
    return Poses(
        joint_NK3=torch.cat([p.joint_NK3 for p in poses]),
        score_N=torch.cat([p.score_N for p in poses]),
        box_N4=all_of(p.box_N4 for p in poses),
        mask_NHW=all_of(p.mask_NHW for p in poses),
        extra={name: torch.cat([(p.extra or {})[name] for p in poses]) for name in names} or None,
    )


def _flat(boxes: Sequence[Boxes]) -> data_boxes.Boxes:
    """Boxes of each picture as a test set takes them."""
    counts = [b.n for b in boxes]
    return data_boxes.Boxes(
        image_M=np.repeat(np.arange(len(boxes)), counts),
        box_M4=np.concatenate([b.box_N4 for b in boxes]).reshape(-1, 4),
        score_M=np.concatenate([b.score_N for b in boxes]).reshape(-1),
        subject_M=np.concatenate([np.arange(n) for n in counts]).astype(np.int64),
        row_M=np.full(sum(counts), -1, np.int64),
        source="given",
    )


def given_boxes(boxes: Any, name: str) -> Boxes:
    """Boxes that somebody gave: (N, 4) edges x1, y1, x2, y2, or (N, 5) with scores.

    Raises:
        UserError: another shape, or a box without extent.
    """
    array = boxes.detach().cpu().numpy() if isinstance(boxes, Tensor) else np.asarray(boxes)
    array = array.astype(np.float64)
    if array.size == 0:
        array = array.reshape(0, 4)
    if array.ndim != 2 or array.shape[1] not in (4, 5):
        raise UserError(f"{name}: shape {array.shape}; give (N, 4): x1, y1, x2, y2, or (N, 5) with scores")
    xywh_N4 = np.concatenate([array[:, :2], array[:, 2:4] - array[:, :2]], axis=1)
    if not np.isfinite(array).all() or (xywh_N4[:, 2:] <= 0).any():
        raise UserError(f"{name}: a box without extent or with a number that is not finite")
    return Boxes(edges_to_box(xywh_N4), array[:, 4] if array.shape[1] == 5 else np.ones(len(array)))


def describe(predictor: Predictor) -> str:
    """The first line of a prediction: method, joints, where the boxes come from."""
    cfg = predictor.cfg
    kind = f"boxes: {predictor.boxes.words}" if predictor.top_down else "whole pictures"
    flip = "flip test" if cfg.test.flip else "no flip test"
    return (
        f"{cfg.title or cfg.name} ({cfg.paper}, trained on {cfg.data.name}, scale {cfg.scale}), "
        f"{predictor.skeleton.k} joints of {predictor.skeleton.name}, {kind}, {flip}, {predictor.device}"
    )
