"""The run folder: config.yaml, metrics.jsonl, result.json, checkpoints/, predictions.json, pictures/, diff.patch.

Files are written beside their place and moved over it: a reader never sees half of one, a full disk loses nothing.
A run that was resumed with other code has a diff-resumed.patch too.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from repose.config import ExperimentBase, identity
from repose.errors import UserError

RESULT = "result.json"
PREDICTIONS = "predictions.json"
MASKS = "masks.json"
METRICS = "metrics.jsonl"
CONFIG = "config.yaml"
PICTURES = "pictures"
LAST = Path("checkpoints") / "last.ckpt"
BEST = Path("checkpoints") / "best.ckpt"


def run_dir(cfg: ExperimentBase, own: str = "") -> Path:
    """Folder of a run: `log.dir`, or <log.runs>/<paper>/<name>-<identity>.

    Args:
        cfg: resolved.
        own: its identity, where that is known already; it takes milliseconds.
    """
    if cfg.log.dir:
        return Path(cfg.log.dir)
    return Path(cfg.log.runs) / cfg.paper / f"{cfg.name}-{own or identity(cfg)}"


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that replaces it when the block ends well, and vanishes when it does not.

    Raises:
        UserError: the disk is full or the folder cannot be written; what `path` held before is untouched.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with part.open("rb+") as f:  # on disk before it takes the old file's place
            os.fsync(f.fileno())
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        kept = f"; the previous {path.name} is kept" if path.exists() else ""
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}){kept}; free some space, then resume=auto"
        ) from error
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically; NaN becomes null (JSON has none)."""
    write_text(path, json.dumps(without_nan(value), indent=None if isinstance(value, list) else 1) + "\n")


def without_nan(value: Any) -> Any:
    """The value with every NaN and infinity replaced by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(k): without_nan(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(v) for v in value]
    return value


def is_done(folder: Path) -> bool:
    """Whether a run folder holds a finished run.

    Raises:
        UserError: as `read_result`.
    """
    return (read_result(folder) or {}).get("status") == "done"


def read_result(folder: Path) -> dict[str, Any] | None:
    """result.json of a run folder, or None where there is none yet.

    Raises:
        UserError: it is there and is not JSON.
    """
    path = folder / RESULT
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise UserError(f"{path}: not valid JSON; delete it and run again") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: must hold one JSON object; delete it and run again")
    return value


def set_aside(folder: Path) -> Path:
    """Rename a run folder to <folder>.old-N, so that a new run can take its place and nothing is lost."""
    n = 1
    while (aside := folder.with_name(f"{folder.name}.old-{n}")).exists():
        n += 1
    folder.rename(aside)
    return aside


def replace_by_link(source: Path, target: Path, link: Callable[[Path, Path], None] = os.link) -> None:
    """Make `target` the same content as `source`: a hard link where the file system has them, else a copy."""
    import shutil

    with atomic(target) as part:
        part.unlink(missing_ok=True)
        try:
            link(source, part)
        except OSError:
            shutil.copyfile(source, part)
