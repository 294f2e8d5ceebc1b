"""`repose figures`: execute the notebooks and collect their figures, PNG and vector PDF."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from repose.config import nearest
from repose.errors import UserError

NOTEBOOKS = ("00-data", "drpnet", "pinet", "cganet", "kdc", "idgroup", "90-predict")
METHODS = NOTEBOOKS[1:-1]
"""Those that show one method; `90-predict` shows what to do with any."""
_TIMEOUT_S = 1800


def figures(
    checkpoint: str | None, data: str | None, ids: list[int] | None, out: Path, notebooks: Sequence[str] = ()
) -> list[Path]:
    """Execute notebooks; each writes its figures into `out`.

    Args:
        checkpoint: run folder or checkpoint file, shown by its method's notebook alone; None trains a demo of each
            method in seconds, and the figures say so.
        data: name of a data set; None = the checkpoint's, else drawn people.
        ids: image ids to show; None = some spread over the data set.
        out: folder for the figures.
        notebooks: names of those to execute; empty = the checkpoint's method's (and the data's where `data` is given),
            without a checkpoint all.

    Returns:
        the files that were written, sorted.

    Raises:
        UserError: the packages of the extra `notebooks` are missing, there are no such notebooks, or a setting is
            wrong.
    """
    paths = [notebooks_folder() / f"{name}.ipynb" for name in _chosen(checkpoint, data, notebooks)]
    for path in paths:
        if not path.is_file():
            raise UserError(f"{path}: no such notebook; figures are drawn from a checkout of repose")
    begin = time.time() - 1  # file systems round
    for path in paths:
        print(f"figures: executing {path.name}", file=sys.stderr, flush=True)
        execute(
            path,
            {
                "REPOSE_CHECKPOINT": str(Path(checkpoint).resolve()) if checkpoint else "",
                "REPOSE_NB_DATA": data or "",
                "REPOSE_NB_IDS": ",".join(map(str, ids or [])),
                "REPOSE_FIGURES": str(out.resolve()),
            },
            Path.cwd(),
        )
    return sorted(p for kind in ("png", "pdf") for p in out.glob(f"*.{kind}") if p.stat().st_mtime >= begin)


def _chosen(checkpoint: str | None, data: str | None, notebooks: Sequence[str]) -> list[str]:
    for name in notebooks:
        if name not in NOTEBOOKS:
            hint = nearest(name, NOTEBOOKS, 1)
            fix = f"did you mean {hint[0]!r}?" if hint else f"there are {', '.join(NOTEBOOKS)}"
            raise UserError(f"figures: no notebook {name!r}; {fix}")
    if checkpoint is None or notebooks:
        return list(notebooks or NOTEBOOKS)
    from repose.engine.checkpoint import find, saved_config

    paper = str(saved_config(find(checkpoint)).get("paper"))
    if paper not in METHODS:
        raise UserError(f"checkpoint={checkpoint}: {paper} has no notebook; there are {', '.join(METHODS)}")
    # without data= the checkpoint's own are shown, whose image ids the data notebook's drawn people do not have
    return [paper] if data is None else [NOTEBOOKS[0], paper]


def notebooks_folder() -> Path:
    """The `notebooks/` folder: the current folder's, else the one of this checkout."""
    here = Path("notebooks").resolve()
    return here if here.is_dir() else Path(__file__).resolve().parents[3] / "notebooks"


def execute(path: Path, variables: dict[str, str], folder: Path) -> None:
    """Execute a notebook in a kernel of this Python; the file itself is not changed.

    Args:
        path: the notebook.
        variables: added to the kernel's environment.
        folder: the kernel's working folder.

    Raises:
        UserError: nbclient is missing, or the notebook stopped with a user's mistake.
    """
    try:
        import nbformat
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError, DeadKernelError
    except ImportError as error:
        raise UserError(f"figures: {error.name} is missing; install it with: pip install 'repose[notebooks]'") from None
    notebook = cast("Any", nbformat.read(path, as_version=4))  # pyright: ignore[reportUnknownMemberType]
    client = NotebookClient(
        notebook,
        timeout=_TIMEOUT_S,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=["--log-level=ERROR"],  # else each kernel warns that its local socket is not encrypted
    )
    try:
        client.execute(env={**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline", **variables})
    except CellExecutionError as error:
        if error.ename == "UserError":
            raise UserError(f"{path.name}: {error.evalue}") from None
        raise RuntimeError(re.sub(r"\x1b\[[0-9;]*m", "", str(error))) from None
    except DeadKernelError:
        raise UserError(f"{path.name}: its kernel died (out of memory?)") from None
