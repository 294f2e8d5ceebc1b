"""The papers, one line each.

A method in somebody's own repository is found by an entry point of the group `repose.papers` that names its `Paper`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points

from repose.config import Paper, nearest
from repose.errors import UserError


def _own(name: str) -> Paper:
    return import_module(f"repose.papers.{name}").PAPER


PAPERS: dict[str, Callable[[], Paper]] = {
    "drpnet": lambda: _own("drpnet"),
    "cganet": lambda: _own("cganet"),
    "pinet": lambda: _own("pinet"),
    "kdc": lambda: _own("kdc"),
    "idgroup": lambda: _own("idgroup"),
    "rtmpose": lambda: _own("baselines.rtmpose"),
    "simplebaseline": lambda: _own("baselines.simplebaseline"),
    "dekr": lambda: _own("baselines.dekr"),
    "maskrcnn": lambda: _own("baselines.maskrcnn"),
}


@cache
def get(name: str) -> Paper:
    """The paper of that name: its schema, and its LightningModule class behind a function (so this imports no torch).

    Raises:
        UserError: no such paper; names the nearest one.
    """
    if name in PAPERS:
        return PAPERS[name]()
    plugins = {p.name: p for p in entry_points(group="repose.papers")}
    if name in plugins:
        return plugins[name].load()
    known = [*PAPERS, *plugins]
    hint = nearest(name, known)
    raise UserError(
        f"no paper {name!r}" + (f"; did you mean {hint[0]!r}?" if hint else f"; there are: {', '.join(known)}")
    )
