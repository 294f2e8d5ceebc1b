"""`repose bench`: how fast the parts are, on this machine."""

from __future__ import annotations

import json

from repose import papers
from repose.commands.show import one_experiment
from repose.config import load, nearest
from repose.errors import UserError

_WHAT = ("data", "decode")


def bench(words: list[str], as_json: bool) -> int:
    """Measure one part."""
    if not words or words[0] not in _WHAT:
        hint = nearest(words[0], _WHAT, 1) if words else []
        raise UserError(
            f"bench: name what to measure: {', '.join(_WHAT)}" + (f" (did you mean {hint[0]!r}?)" if hint else "")
        )
    if words[0] == "decode":
        return _decode(words[1:], as_json)
    rest = words[1:]
    experiment = rest.pop(0) if rest and "=" not in rest[0] else "drpnet/m"
    loaded = load(experiment, rest, find_paper=papers.get)
    from repose.data.bench import bench_data, render

    measured = bench_data(loaded.cfg)
    print(json.dumps(measured) if as_json else render(measured))
    return 0


def _decode(words: list[str], as_json: bool) -> int:
    from repose.commands.bench_decode import COUNTS, bench_decode, render

    given = [w.partition("=")[2] for w in words if w.startswith("people=")]
    if len(given) > 1 or (given and not (given[0].isdigit() and int(given[0]) > 0)):
        raise UserError(f"bench decode: people={given[-1]}: give one whole number above 0, people=30")
    counts = (int(given[0]),) if given else COUNTS
    loaded = one_experiment([w for w in words if not w.startswith("people=")], "bench decode")
    measured = bench_decode(loaded, counts)
    print(json.dumps(measured) if as_json else render(measured))
    return 0
