"""Photographs on disk: their size from the header alone, and decoding that refuses truncated files."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

FLAGS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
"""RGB from any file, grey ones too; COCO's annotations ignore the EXIF orientation."""
_JPEG_END, _JPEG_SCAN = b"\xff\xd9", b"\xff\xda"
_PNG = b"\x89PNG\r\n\x1a\n"

UNREADABLE = "unreadable"
"""First word of what is wrong with a file that the system did not give: it may pass."""


def decode(file: Path, exif: bool = False) -> np.ndarray | str:
    """Read a photograph.

    Args:
        file: JPEG, PNG or whatever OpenCV reads.
        exif: turn it as its EXIF orientation says; annotated data sets do not.

    Returns:
        (H, W, 3) uint8 RGB, or one line that says what is wrong ("missing", "truncated", ...).
    """
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"{UNREADABLE} ({error.strerror})"
    # OpenCV fills the lost part of a truncated JPEG with grey and says nothing, so the end is looked at first.
    if _is_truncated(data):
        return "truncated"
    flags = cv2.IMREAD_COLOR_RGB if exif else FLAGS
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    return "not an image that OpenCV can read" if image is None else image


def _is_truncated(data: bytes) -> bool:
    if data.startswith(b"\xff\xd8"):
        # Entropy-coded bytes never hold an end marker, but files may carry something after it, and EXIF previews have
        # one of their own: the last end must come after the last scan.
        return not data.endswith(_JPEG_END) and data.rfind(_JPEG_END) <= data.rfind(_JPEG_SCAN)
    return data.startswith(_PNG) and data.rfind(b"IEND") < 0


def probe(file: Path) -> tuple[int, int] | str:
    """Width and height from the header, and whether the file has its end; does not decode.

    Returns:
        (width, height), or one line that says what is wrong.
    """
    try:
        with file.open("rb") as stream:
            start = stream.read(26)
            if start.startswith(_PNG):
                width, height = struct.unpack(">II", start[16:24])
                stream.seek(-min(12, file.stat().st_size), 2)
                if b"IEND" not in stream.read():
                    stream.seek(0)  # something may follow the end
                    return "truncated" if _is_truncated(stream.read()) else (width, height)
                return width, height
            if start.startswith(b"\xff\xd8"):
                size = _jpeg_size(stream)
                if size is None:
                    return "truncated"
                stream.seek(-2, 2)
                if stream.read() == _JPEG_END:
                    return size
                stream.seek(0)
                return "truncated" if _is_truncated(stream.read()) else size
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"{UNREADABLE} ({error.strerror})"
    image = decode(file)
    return image if isinstance(image, str) else (image.shape[1], image.shape[0])


def _jpeg_size(stream: BinaryIO) -> tuple[int, int] | None:
    # Walks the segments to the frame header (SOF0-SOF15 without DHT, JPG, DAC), ITU T.81 B.2.2.
    stream.seek(2)
    while True:
        head = stream.read(4)
        if len(head) < 4 or head[0] != 0xFF:
            return None
        marker = head[1]
        if marker == 0xFF:  # fill byte
            stream.seek(-3, 1)
            continue
        length = struct.unpack(">H", head[2:])[0]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            frame = stream.read(5)
            if len(frame) < 5:
                return None
            height, width = struct.unpack(">HH", frame[1:])
            return width, height
        stream.seek(length - 2, 1)


def exif_turns(file: Path) -> bool:
    """Whether the file's EXIF orientation swaps width and height (a hint for a size that differs from the json)."""
    plain, turned = cv2.imread(str(file), FLAGS), cv2.imread(str(file), cv2.IMREAD_COLOR)
    return plain is not None and turned is not None and plain.shape[:2] != turned.shape[:2]
