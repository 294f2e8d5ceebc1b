"""What a prediction looks at: pictures, folders, globs, videos, webcams; broken ones are named, never fatal."""

from __future__ import annotations

import glob
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import cv2
import numpy as np
import torch

from repose import viz
from repose.data.images import decode
from repose.errors import UserError

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2")
VIDEOS = (".mp4", ".webm", ".avi", ".mkv", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv", ".ts", ".gif")
FRAMES_PER_S = 25.0
"""Assumed where a video or webcam does not say."""
_RETRIES = 5
"""Reads that may fail in a row before a video counts as ended."""
_SLACK = 1.5
"""[frames] between two timestamps from which a frame lacks."""

Kind = Literal["pictures", "video", "webcam"]
Order = Literal["rgb", "bgr"]


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes:
        image_HW3: RGB uint8.
        source: its name.
    """

    image_HW3: viz.Image
    source: str


@dataclass(frozen=True)
class Broken:
    """A picture that cannot be used.

    Attributes:
        source: its name.
        reason: one line.
    """

    source: str
    reason: str


@dataclass(frozen=True)
class Source:
    """What the words of a command line mean.

    Attributes:
        kind: pictures, one video, or a webcam.
        files: of pictures and videos.
        folder: what names of pictures are relative to.
        camera: number of a webcam.
        name: for the output folder.
    """

    kind: Kind
    files: tuple[Path, ...]
    folder: Path
    camera: int
    name: str


def find_source(text: str) -> Source:
    """An image, a folder of images (and its folders), a glob, a video, or the number of a webcam.

    Raises:
        UserError: there is no such thing, or no picture in it.
    """
    path = Path(text).expanduser()
    if path.is_dir():
        every = sorted(p for p in path.rglob("*") if p.is_file())
        files = tuple(p for p in every if p.suffix.lower() in PICTURES)
        if not files:
            videos = [p for p in every if p.suffix.lower() in VIDEOS]
            hint = f"; it has a video: {videos[0]}" if videos else f"; looked for {', '.join(PICTURES)}"
            raise UserError(f"{text}: a folder without pictures{hint}")
        return Source("pictures", files, path, -1, path.resolve().name)
    if path.is_file():
        kind: Kind = "video" if path.suffix.lower() in VIDEOS else "pictures"
        return Source(kind, (path,), path.parent, -1, path.stem)
    if text.isdecimal():
        return Source("webcam", (), Path(), int(text), f"webcam-{text}")
    if any(c in text for c in "*?["):
        found = sorted(Path(p) for p in glob.glob(str(path), recursive=True))
        files = tuple(p for p in found if p.is_file() and p.suffix.lower() in PICTURES)
        if not files:
            raise UserError(f"{text}: no picture matches; quote the pattern so that the shell leaves it alone")
        return Source("pictures", files, Path(os.path.commonpath([p.parent for p in files])), -1, "pictures")
    raise UserError(
        f"{text}: no such file or folder; give an image, a folder, a 'glob*', a video, or a webcam's number"
    )


# --- pictures -------------------------------------------------------------------------------------------------------


def read_picture(path: Path, name: str | None = None, stored: bool = False) -> Picture | Broken:
    """Decode a file, turned as its EXIF orientation says; `stored`: as it is stored, as annotations see it."""
    name = str(path) if name is None else name
    image = decode(path, exif=not stored)
    return Broken(name, image) if isinstance(image, str) else Picture(image, name)


def pictures(images: Any, order: Order = "rgb", stored: bool = False) -> Iterator[Picture | Broken]:
    """Everything that `Predictor` takes, one picture after the other.

    Args:
        images: a path (a folder or glob gives all its pictures), an array or a tensor, or several of them. Arrays are
            (H, W, 3) or (H, W), tensors (3, H, W) too, uint8 or floating point in [0, 1]; one more dimension is a
            batch.
        order: channels of arrays and tensors: rgb, or bgr as OpenCV reads them. Files are what they are.
        stored: files without their EXIF turn (see `read_picture`).

    Raises:
        UserError: no such file, or an array that is no picture.
    """
    for number, image in enumerate(_flat(images)):
        if isinstance(image, Path):
            yield read_picture(image, stored=stored)
            continue
        try:
            array = viz.as_image(image)
        except (ValueError, TypeError) as error:
            raise UserError(
                f"array {number}: {error}; give (H, W, 3) or (3, H, W), uint8 or floating point in [0, 1]"
            ) from None
        if 0 in array.shape:
            raise UserError(f"array {number}: shape {array.shape} has no pixels")
        yield Picture(np.ascontiguousarray(array[..., ::-1]) if order == "bgr" else array, f"array {number}")


def _flat(images: Any) -> Iterator[Any]:
    if isinstance(images, (str, Path)):
        source = find_source(str(images))
        if source.kind != "pictures":
            raise UserError(f"{images}: not a picture; videos and webcams: predictor.video({str(images)!r})")
        yield from source.files
    elif isinstance(images, (np.ndarray, torch.Tensor)):
        yield from images if images.ndim == 4 else (images,)
    elif isinstance(images, Iterable):
        for one in cast("Iterable[Any]", images):
            yield from _flat(one)
    else:
        raise UserError(f"{type(images).__name__}: not a picture; give paths, numpy arrays or torch tensors")


# --- video ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Frame:
    """A frame of a video.

    Attributes:
        number: from 0, counting the frames that could be read.
        second: its time.
        image_HW3: RGB uint8.
    """

    number: int
    second: float
    image_HW3: viz.Image


class Video:
    """A video file or a webcam, frame by frame.

    Attributes:
        name: for messages.
        fps: frames per second, as the file says or assumed.
        frames: how many the file promises; None where it does not say.
        size_wh: of a frame.
        read: frames given so far.
    """

    def __init__(self, source: Path | int) -> None:
        """Args: source: a file, or a webcam's number.

        Raises:
            UserError: it cannot be opened.
        """
        self.name = f"webcam {source}" if isinstance(source, int) else source.name
        self.live = isinstance(source, int)
        if not isinstance(source, int) and not source.is_file():
            raise UserError(f"{source}: no such video")
        with quiet():
            if isinstance(source, int):
                self._capture = cv2.VideoCapture(source)
            else:
                # FFmpeg alone: OpenCV's other readers take names with digits for numbered pictures.
                self._capture = cv2.VideoCapture(str(source), cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            if isinstance(source, int):
                raise UserError(f"webcam {source}: cannot be opened; is it plugged in, and not used by something else?")
            raise UserError(
                f"{source}: not a video that OpenCV's FFmpeg can open (cut off, damaged, or of an unknown codec); "
                f"if it plays elsewhere, convert it: ffmpeg -i {source.name} -c:v libx264 new.mp4"
            )
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 1 <= fps <= 1000 else FRAMES_PER_S
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.frames = round(count) if not self.live and 0 < count < 1e9 else None
        self.size_wh = (
            round(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
            round(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        )
        self.read = 0
        self._gaps: list[tuple[float, float]] = []
        self._ended = False
        self._resized = 0

    def __iter__(self) -> Iterator[Frame]:
        """The frames that can be read; afterwards `problems` says what was wrong."""
        begin = time.monotonic()
        second = -1.0 / self.fps
        shape: tuple[int, ...] | None = None
        while True:
            image = self._next()
            if image is None:
                self._ended = True
                return
            stated = time.monotonic() - begin if self.live else self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            # Some files have no timestamps, or repeat them: then frames come at the stated rate.
            now = stated if stated > second else second + 1 / self.fps
            if not self.live and now - second > _SLACK / self.fps:
                self._gaps.append((second + 1 / self.fps, now))
            second = now
            if shape is not None and image.shape != shape:
                self._resized += 1  # a picture of another size cannot go into the same video
                continue
            shape = image.shape
            yield Frame(self.read, second, np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8))
            self.read += 1

    def _next(self) -> np.ndarray | None:
        with quiet():
            for _ in range(1 if self.live else _RETRIES):
                good, image = self._capture.read()
                if good and image is not None:
                    return image
        return None

    def problems(self) -> list[str]:
        """What was wrong with it so far, one line each."""
        found = [f"{self.name}: {self._resized} frames of another size; skipped"] if self._resized else []
        lost = 0 if self.frames is None else self.frames - self.read - self._resized
        if not self._ended or self.frames is None or lost <= 0:
            return found
        # Only now are gaps between timestamps known to be lost frames, and no uneven rate.
        inside = 0
        for low, high in self._gaps:
            count = min(lost - inside, round((high - low) * self.fps))
            if count > 0:
                inside += count
                where = f"at {low:.2f} s" if count == 1 else f"from {low:.2f} to {high - 1 / self.fps:.2f} s"
                found.append(f"{self.name}: {count} broken frames {where}; skipped")
        if rest := lost - inside:
            what = f"{rest} of {self.frames} frames are missing or broken"
            found.append(f"{self.name}: ends early, {what} (a copy that broke off?)")
        return found

    def close(self) -> None:
        """Let go of the file or camera."""
        self._capture.release()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep FFmpeg and OpenCV, which write to the process's own stderr, from saying in many lines what we say in one."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    logging: Any = cv2.utils.logging
    before = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(before)


@contextmanager
def muted() -> Iterator[None]:
    """`quiet`, and the process's stderr shut: OpenCV prints about a codec's tag there whatever its log level."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        with quiet():
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def common_names(files: Sequence[Path], folder: Path) -> list[str]:
    """Names of files relative to their folder, with forward slashes."""
    return [p.relative_to(folder).as_posix() if p.is_relative_to(folder) else p.name for p in files]
