"""What a prediction writes. Every file is valid after every picture: a run that is stopped loses nothing."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np

from repose import viz
from repose.errors import UserError
from repose.field.sources import muted

CODECS = {"vp8": ("VP80", ".webm"), "mp4v": ("mp4v", ".mp4")}
"""Name -> FFmpeg's tag and the file it goes into."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say in one line that a file cannot be written.

    Raises:
        UserError: it cannot.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{path}: cannot be written ({reason}); what was written before stays usable") from None


class _File:
    """An open file that is closed at the end of a `with`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("w", encoding="utf-8", newline="")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


class JsonList(_File):
    """A JSON file that holds a list (COCO results), or a list inside an object, valid after every `add`."""

    def __init__(self, path: Path, head: str = "[", foot: str = "]") -> None:
        """Args: path: the file; head, foot: what stands around the list's members."""
        super().__init__(path)
        self._foot = f"\n{foot}\n"
        self._first = True
        with writing(path):
            self._file.write(head)
            self._end = self._file.tell()
            self._file.write(self._foot)
            self._file.flush()

    def add(self, members: Iterable[Mapping[str, Any]]) -> None:
        """Append members."""
        text = "".join(
            f"{'' if self._first and i == 0 else ','}\n{json.dumps(member, separators=(',', ':'))}"
            for i, member in enumerate(members)
        )
        if not text:
            return
        self._first = False
        with writing(self.path):
            self._file.seek(self._end)
            self._file.write(text)
            self._end = self._file.tell()
            self._file.write(self._foot)
            self._file.flush()


class CsvFile(_File):
    """A CSV file with one row per person."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        """Args: path: the file; columns: their names."""
        super().__init__(path)
        self._csv = csv.writer(self._file)
        self.add([list(columns)])

    def add(self, rows: Iterable[Sequence[Any]]) -> None:
        """Append rows."""
        with writing(self.path):
            self._csv.writerows(rows)
            self._file.flush()


class VideoFile:
    """An annotated video.

    Attributes:
        path: the file.
    """

    def __init__(self, path: Path, codec: str, fps: float, size_wh: tuple[int, int]) -> None:
        """Open it.

        Args:
            path: the file; its ending fits the codec (`CODECS`).
            codec: vp8 or mp4v.
            fps: frames per second.
            size_wh: of the frames; odd sides get a column or row more, which codecs want.

        Raises:
            UserError: the codec is missing in this OpenCV, or the file cannot be written.
        """
        self.path = path
        self._size = (size_wh[0] + size_wh[0] % 2, size_wh[1] + size_wh[1] % 2)
        tag = CODECS[codec][0]
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb"):  # FFmpeg does not say why it cannot open a file
                pass
        with muted():
            self._writer = cv2.VideoWriter(
                str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*tag), float(fps), self._size
            )
        if not self._writer.isOpened():
            path.unlink(missing_ok=True)
            other = next(name for name in CODECS if name != codec)
            raise UserError(
                f"{path}: this OpenCV cannot write {codec} video at {self._size[0]}x{self._size[1]} "
                f"(its FFmpeg lacks the codec); use draw.codec={other}, or draw.write=false for the files alone"
            )

    def add(self, image_HW3: viz.Image) -> None:
        """Append a frame (RGB)."""
        height, width = image_HW3.shape[:2]
        bgr = cv2.cvtColor(image_HW3, cv2.COLOR_RGB2BGR)
        if (width, height) != self._size:
            grown = (0, self._size[1] - height, 0, self._size[0] - width)
            bgr = cv2.copyMakeBorder(bgr, *grown, borderType=cv2.BORDER_REPLICATE)
        self._writer.write(bgr)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with muted():
            self._writer.release()


def write_picture(path: Path, image_HW3: viz.Image) -> None:
    """Write a picture (RGB) as the kind of file its name ends in.

    Raises:
        UserError: it cannot be written.
    """
    try:
        good, code = cv2.imencode(path.suffix, cv2.cvtColor(np.ascontiguousarray(image_HW3), cv2.COLOR_RGB2BGR))
    except cv2.error:
        good, code = False, np.zeros(0, np.uint8)
    if not good:
        raise UserError(f"{path}: OpenCV cannot write a picture of this kind and size")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(code.tobytes())
