"""`repose figures` and `repose demo`."""

from __future__ import annotations

from pathlib import Path

from repose.config import parse_arguments
from repose.errors import UserError


def figures(words: list[str], out: str | None) -> int:
    """Execute notebooks and collect their figures.

    Args:
        words: names of notebooks (none = all, or those that fit the checkpoint), then checkpoint=, data=, ids=.
        out: folder of the figures.
    """
    from repose.tables.figures import figures as draw

    notebooks = [word for word in words if "=" not in word and not word.startswith("-")]
    line, overlays = parse_arguments(word for word in words if word not in notebooks)
    for key in [*line.values, *(key for key in overlays if key != "data")]:
        if key not in ("checkpoint", "ids"):
            raise UserError(
                f"figures: unknown key {key!r}; it takes notebooks' names, checkpoint=RUN, data=NAME and ids=1,2"
            )
    checkpoint, ids = line.values.get("checkpoint"), line.values.get("ids")
    wanted = [int(i) for i in str(ids).strip("[]").split(",")] if ids is not None else None
    for path in draw(checkpoint, overlays.get("data"), wanted, Path(out or "figures"), notebooks):
        print(f"wrote {path}")
    return 0


def demo(words: list[str], out: str | None) -> int:
    """A picture and a tiny table within a minute."""
    from repose.tables.demo import demo as run

    if words:
        raise UserError(f"demo: takes no settings, not {words[0]!r}")
    return run(Path(out or "demo"))
