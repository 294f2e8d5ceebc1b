"""Decoded-image cache: photographs as raw uint8 RGB in one memory-mapped file.

Built on first use. A build writes to a temporary file and renames it, under a lock that other processes wait for, so
several runs may start at once; the index (written last) holds a checksum of itself and one of every photograph, which
each process tests when it reads a photograph for the first time.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from repose.config import Data
from repose.data.coco import Annotations
from repose.data.images import UNREADABLE, decode
from repose.errors import UserError

_VERSION = 1


@dataclass
class DecodedCache:
    """A built cache, opened for reading.

    Attributes:
        file: the pixels.
        offset_I: int64, byte at which an image starts; -1 = not cached.
        size_I2: int64, height and width.
        checksum_I: uint32, CRC-32 of the pixels.
        bad: images that could not be decoded, row -> what is wrong.
    """

    file: Path
    offset_I: np.ndarray
    size_I2: np.ndarray
    checksum_I: np.ndarray
    bad: dict[int, str]
    _map: np.memmap | None = field(default=None, repr=False)
    _tested: set[int] = field(default_factory=set, repr=False)

    def read(self, image: int) -> np.ndarray | None:
        """(H, W, 3) uint8 RGB view of an image (read-only), or None if it is not cached or its checksum is wrong."""
        offset = int(self.offset_I[image])
        if offset < 0:
            return None
        if self._map is None:
            self._map = np.memmap(self.file, np.uint8, "r")
        height, width = self.size_I2[image].tolist()
        pixel = self._map[offset : offset + height * width * 3]
        if image not in self._tested:
            if zlib.crc32(pixel.data) != int(self.checksum_I[image]):
                return None
            self._tested.add(image)
        # A plain ndarray: numpy.memmap's subclass costs microseconds at every slice that follows.
        return pixel.view(np.ndarray).reshape(height, width, 3)

    def damaged(self) -> list[int]:
        """Rows of cached images whose checksum is wrong."""
        return [i for i in np.flatnonzero(self.offset_I >= 0).tolist() if self.read(i) is None]

    def __getstate__(self) -> dict[str, Any]:
        # A memory map would be pickled by value; a spawned worker opens its own.
        return {**self.__dict__, "_map": None, "_tested": set()}


def open_cache(data: Data, root: Path, annotations: Annotations, images: np.ndarray) -> DecodedCache | None:
    """Open the cache of some images, building it first where needed.

    Args:
        data: its `cache`, `cache_gb` and `cache_dir`.
        root: the data set's folder.
        annotations: names and sizes of the images.
        images: image rows to cache.

    Returns:
        None where caching is off or (auto) too large, which is said in one line.

    Raises:
        UserError: `cache=on` and no room or no folder for it.
    """
    if data.cache == "off" or len(images) == 0:
        return None
    need = int((annotations.image_wh_I2[images].prod(axis=1) * 3).sum())
    try:
        folder = cache_folder(data, root)
        key = _key(annotations, images)
        file = folder / f"{annotations.folder.name}-{key}.rgb"
        with _lock(file.with_suffix(".lock"), annotations.folder):
            opened = _open(file, annotations.images)
            if opened is None:
                _check_room(data, folder, need)
                opened = _build(file, annotations, images, need)
            elif data.cache == "on":
                _say(f"cache: {file} is ready ({need / 1e9:.2f} GB)")
        return opened
    except (OSError, _NoRoomError) as error:
        if data.cache == "on":
            raise UserError(
                f"data.cache=on: {error}; free some room, set data.cache_dir, or use data.cache=off"
            ) from None
        _say(f"cache: off ({error}); photographs are decoded each time")
        return None


class _NoRoomError(Exception):
    pass


def cache_folder(data: Data, root: Path) -> Path:
    """Folder for caches: `data.cache_dir`, else .cache beside the data set, else (read-only) below data/."""
    if data.cache_dir:
        folder = Path(data.cache_dir).expanduser()
    elif (root / ".cache").is_dir() or _writable(root):
        folder = root / ".cache"
    else:
        folder = Path("data") / ".cache" / data.name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _writable(folder: Path) -> bool:
    # An administrator may write anywhere, but a folder without write permission was meant to stay as it is.
    return os.access(folder, os.W_OK) and bool(folder.stat().st_mode & 0o222)


def _key(annotations: Annotations, images: np.ndarray) -> str:
    # Size and time of every file: a changed photograph must not be served from an old cache.
    key = hashlib.sha256(f"{_VERSION} {annotations.folder.absolute()}".encode())
    for image in images.tolist():
        try:
            state = os.stat(annotations.path(image))
            what = f"{state.st_size} {state.st_mtime_ns}"
        except OSError:
            what = "missing"
        size = "x".join(map(str, annotations.image_wh_I2[image].tolist()))  # decoded ones are judged by it
        key.update(f"{image} {annotations.image_name_I[image]} {size} {what}\n".encode())
    return key.hexdigest()[:12]


def _check_room(data: Data, folder: Path, need: int) -> None:
    free = shutil.disk_usage(folder).free
    if data.cache == "auto" and need > data.cache_gb * 1e9:
        raise _NoRoomError(f"{need / 1e9:.1f} GB of decoded photographs, data.cache_gb={data.cache_gb:g}")
    if need > free / 2:
        raise _NoRoomError(f"{need / 1e9:.1f} GB of decoded photographs, {free / 1e9:.1f} GB free in {folder}")


@contextmanager
def _lock(file: Path, what: Path) -> Iterator[None]:
    with file.open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(f"cache: another process builds the one of {what.name}; waiting for it")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield  # closing the file releases the lock


def _open(file: Path, images: int) -> DecodedCache | None:
    try:
        text = file.with_suffix(".json").read_text()
        checksum, _, body = text.partition("\n")
        if int(checksum) != zlib.crc32(body.encode()):
            return None
        index = json.loads(body)
        if index["bytes"] != file.stat().st_size or len(index["offset"]) != images:
            return None
    except (OSError, ValueError, KeyError):
        return None
    return DecodedCache(
        file=file,
        offset_I=np.array(index["offset"], np.int64),
        size_I2=np.array(index["size"], np.int64).reshape(-1, 2),
        checksum_I=np.array(index["crc32"], np.int64),
        bad={int(k): v for k, v in index["bad"].items()},
    )


def _build(file: Path, annotations: Annotations, images: np.ndarray, need: int) -> DecodedCache:
    start = time.perf_counter()
    total = annotations.images
    offset_I, checksum_I, bad = [-1] * total, [0] * total, {}
    size_I2 = annotations.image_wh_I2[:, ::-1]
    ends = np.cumsum(size_I2[images].prod(axis=1) * 3)
    starts = dict(zip(images.tolist(), (ends - size_I2[images].prod(axis=1) * 3).tolist(), strict=True))
    partial = file.with_suffix(f".partial-{os.getpid()}")
    try:
        with partial.open("wb") as stream:
            # Takes the room now: a full disk shows here, and not as a crash while the map is written.
            os.posix_fallocate(stream.fileno(), 0, need) if hasattr(os, "posix_fallocate") else stream.truncate(need)
        pixel = np.memmap(partial, np.uint8, "r+")

        def one(image: int) -> None:
            got = decode(annotations.path(image))
            height, width = size_I2[image].tolist()
            if not isinstance(got, str) and got.shape[:2] != (height, width):
                got = size_problem((got.shape[1], got.shape[0]), (width, height))
            if isinstance(got, str):
                if not got.startswith(UNREADABLE):  # that may pass: it is tried again whenever the image is wanted
                    bad[image] = got
                return
            first = starts[image]
            pixel[first : first + got.size] = got.reshape(-1)
            checksum_I[image] = zlib.crc32(got.data)
            offset_I[image] = first

        # Threads: decoding, copying and checksums all release the interpreter lock.
        with ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool:
            for done, _ in enumerate(pool.map(one, images.tolist()), 1):
                _progress(done, len(images), start)
        pixel.flush()
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)
    body = json.dumps(
        {"bytes": need, "offset": offset_I, "size": size_I2.tolist(), "crc32": checksum_I, "bad": bad},
        separators=(",", ":"),
    )
    index = file.with_suffix(f".index-{os.getpid()}")
    index.write_text(f"{zlib.crc32(body.encode())}\n{body}")
    os.replace(index, file.with_suffix(".json"))
    seconds = time.perf_counter() - start
    _say(f"cache: {len(images) - len(bad)} photographs decoded into {file} ({need / 1e9:.2f} GB, {seconds:.0f} s)")
    opened = _open(file, total)
    assert opened is not None, "the index that was just written is readable"
    return opened


def size_problem(found_wh: tuple[int, int], stated_wh: tuple[int, int]) -> str:
    """One line about an image whose size is not what the json states."""
    text = f"is {found_wh[0]}x{found_wh[1]}, the json says {stated_wh[0]}x{stated_wh[1]}"
    if found_wh == stated_wh[::-1]:
        text += " (turned; EXIF orientation is ignored, as COCO's annotations expect)"
    return text


def _progress(done: int, total: int, start: float) -> None:
    if sys.stderr.isatty() and (done % 100 == 0 or done == total):
        left = (time.perf_counter() - start) / done * (total - done)
        print(
            f"\rcache: {done}/{total} photographs, {left:.0f} s left ",
            end="\n" if done == total else "",
            file=sys.stderr,
        )


def _say(line: str) -> None:
    print(line, file=sys.stderr)  # stdout belongs to results (--json)
