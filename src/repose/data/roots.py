"""Where a data set lies: `data.root` absolute, below $REPOSE_DATA, or below ./data."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from repose.config import Data
from repose.errors import UserError
from repose.skeleton import COCO17, Skeleton

VARIABLE = "REPOSE_DATA"
"""Environment variable with the folder that holds the data sets."""

_DRAWING = Path(__file__).with_name("synthetic")
"""Folder of the code that draws people."""


def candidates(data: Data) -> list[Path]:
    """Folders where the data set may lie, in the order they are looked up."""
    name = Path(data.root or data.name).expanduser()
    if name.is_absolute():
        return [name]
    outside = os.environ.get(VARIABLE)
    return [*([Path(outside).expanduser() / name] if outside else []), Path("data") / name]


def find_root(data: Data, skeleton: Skeleton | None = None) -> Path:
    """The folder of the data set.

    Args:
        data: the data block.
        skeleton: joint set; drawn data sets of different joint sets lie in different folders.

    Raises:
        UserError: it is nowhere; the message says what to download and where it goes.
    """
    looked = candidates(data)
    for folder in looked:
        if (folder / data.val_json).is_file() or (folder / data.train_json).is_file():
            return folder
    if data.synthetic is not None:
        return _drawn(data, looked, skeleton or COCO17)
    for folder in looked:
        if folder.is_dir():
            return folder  # The file that lacks is named by whoever opens it.
    what = f"needed there: {data.download}" if data.download else "put the data set there"
    places = " or ".join(str(p.absolute()) for p in looked)
    raise UserError(
        f"data.root={data.root or data.name}: no such folder {places}; {what}; or set data.root or ${VARIABLE}"
    )


def _drawn(data: Data, looked: list[Path], skeleton: Skeleton) -> Path:
    # Each set of options and each drawing code has its own folder: what changed is drawn anew, and never meets
    # yesterday's people.
    options: dict[str, Any] = {**asdict(data.synthetic), "code": drawing_code()}  # type: ignore[arg-type]
    if skeleton.joints != COCO17.joints:
        options["joints"] = skeleton.joints
    key = hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:10]
    for folder in looked:
        if (folder / key).is_dir():
            return folder / key
    return looked[0] / key


def is_drawn(data: Data, root: Path) -> bool:
    """Whether a data set's folder is one that is drawn here, and not a data set that was given."""
    return data.synthetic is not None and root.parent in candidates(data)


def drawing_code() -> str:
    """Hash of the code that draws people, 16 hexadecimal digits; follows an edit, without reading the files again."""
    files = sorted(_DRAWING.glob("*.py"))
    return _hash(tuple((file, file.stat().st_mtime_ns, file.stat().st_size) for file in files))


@cache
def _hash(files: tuple[tuple[Path, int, int], ...]) -> str:
    """Hash of the names and contents of files, each with its time and size."""
    whole = hashlib.sha256()
    for file, _, _ in files:
        whole.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return whole.hexdigest()[:16]


def data_file(root: Path, name: str, key: str, data: Data) -> Path:
    """A file of the data set.

    Args:
        root: the data set's folder.
        name: the file below it (or an absolute path).
        key: config key that names it, for the message.
        data: the data block.

    Raises:
        UserError: no such file.
    """
    file = root / name
    if not file.is_file():
        hint = f"; needed in {root}: {data.download}" if data.download else f"; correct {key}"
        raise UserError(f"{key}: no file {file}{hint}")
    return file
