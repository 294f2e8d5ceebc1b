"""`repose bench`: how fast the parts are, on this machine."""

from __future__ import annotations

import json

from repose import papers
from repose.config import load, nearest
from repose.errors import UserError

_WHAT = ("data",)


def bench(words: list[str], as_json: bool) -> int:
    """Measure one part."""
    if not words or words[0] not in _WHAT:
        hint = nearest(words[0], _WHAT, 1) if words else []
        raise UserError(
            f"bench: name what to measure: {', '.join(_WHAT)}" + (f" (did you mean {hint[0]!r}?)" if hint else "")
        )
    rest = words[1:]
    experiment = rest.pop(0) if rest and "=" not in rest[0] else "drpnet/m"
    loaded = load(experiment, rest, find_paper=papers.get)
    from repose.data.bench import bench_data, render

    measured = bench_data(loaded.cfg)
    print(json.dumps(measured) if as_json else render(measured))
    return 0
