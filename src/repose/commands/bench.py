"""`repose bench`: how fast the parts are, on this machine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from repose import papers
from repose.commands.show import one_experiment
from repose.config import Loaded, load, nearest
from repose.errors import UserError

if TYPE_CHECKING:
    from repose.tables.speed import What

_WHAT = ("data", "decode", "train", "inference", "latency", "video")
_NUMBERS = {"train": ("batch", "steps", "warm"), "inference": ("images", "warm")}
"""Whole numbers that a measurement takes beside the experiment's settings."""


def bench(words: list[str], as_json: bool) -> int:
    """Measure one part."""
    if not words or words[0] not in _WHAT:
        hint = nearest(words[0], _WHAT, 1) if words else []
        raise UserError(
            f"bench: name what to measure: {', '.join(_WHAT)}" + (f" (did you mean {hint[0]!r}?)" if hint else "")
        )
    if words[0] == "decode":
        return _decode(words[1:], as_json)
    if words[0] == "train":
        return _speed("train", words[1:], as_json)
    if words[0] == "inference":
        return _speed("inference", words[1:], as_json)
    if words[0] == "latency":
        return _latency(words[1:], as_json)
    if words[0] == "video":
        from repose.commands.bench_video import bench_video

        return bench_video(words[1:], as_json)
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


def _speed(what: What, words: list[str], as_json: bool) -> int:
    """Speed of training steps or of inference: of one experiment, or with `table=NAME` of all rows of a table."""
    numbers, words = _numbers(what, words)
    fixed = what == "inference" and "fixed=true" in words
    words = [w for w in words if w not in ("fixed=true", "fixed=false")] if what == "inference" else words
    found: list[dict[str, Any]] = []
    for label, loaded in _experiments(what, words):
        measured = _measure(what, loaded, numbers, fixed)
        if label:
            measured["row"] = label
        found.append(measured)
        if not as_json:
            print(f"{label}: {_render(what, measured)}" if label else _render(what, measured), flush=True)
    if as_json:
        whole_table = bool(words) and words[0].startswith("table=")
        print(json.dumps({"rows": found} if whole_table else found[0]))
    return 0


def _latency(words: list[str], as_json: bool) -> int:
    """Latency of one experiment's network, or with `table=NAME` of all rows' of a table, at the paper's size."""
    from repose.commands.bench_latency import bench_latency, latency_options, render
    from repose.tables import speed

    options, words = latency_options(words)
    whole_table = bool(words) and words[0].startswith("table=")
    if whole_table and not any(w.startswith("scale=") for w in words):
        words = [*words, "scale=paper"]  # speeds are of the network that the paper timed
    found: list[dict[str, Any]] = []
    seen: set[str] = set()
    for label, loaded in _experiments("latency", words):
        if (key := speed.latency_key(loaded.cfg)) in seen:  # rows that differ in their runtime alone
            continue
        seen.add(key)
        measured = bench_latency(loaded, options)
        speed.keep("latency", loaded.cfg, measured)
        found.append({**measured, "row": label} if label else measured)
        if not as_json:
            print(render(measured), flush=True)
    if as_json:
        print(json.dumps({"rows": found} if whole_table else found[0]))
    return 0


def _experiments(what: str, words: list[str]) -> list[tuple[str, Loaded]]:
    if not words or not words[0].startswith("table="):
        return [("", one_experiment(words, f"bench {what}"))]
    from repose.tables.cells import cells, choose
    from repose.tables.schema import find_tables

    choice = choose(words[1:])
    tables = find_tables(words[0].partition("=")[2])
    found = [(c.row.label, c.loaded) for t in tables for every in cells(t, choice).values() for c in every[:1]]
    if not found:
        raise UserError(f"bench {what}: no row of {words[0].partition('=')[2]} has a form at scale {choice.scale}")
    return found


def _measure(what: What, loaded: Loaded, numbers: dict[str, int], fixed: bool) -> dict[str, Any]:
    from repose.tables import speed

    if what == "train":
        from repose.commands.bench_train import bench_train

        measured = bench_train(loaded, numbers.get("batch"), numbers.get("steps"), numbers.get("warm"))
    else:
        from repose.commands.bench_inference import bench_inference

        measured = bench_inference(loaded, numbers.get("images"), numbers.get("warm"), fixed)
    if not fixed:  # the tables print the average over images
        speed.keep(what, loaded.cfg, measured)
    return measured


def _render(what: What, measured: dict[str, Any]) -> str:
    if what == "train":
        from repose.commands.bench_train import render
    else:
        from repose.commands.bench_inference import render
    return render(measured)


def _numbers(what: str, words: list[str]) -> tuple[dict[str, int], list[str]]:
    """Whole numbers of the measurement, and the other words."""
    found: dict[str, int] = {}
    rest: list[str] = []
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or key not in _NUMBERS[what]:
            rest.append(word)
            continue
        least = 0 if key == "warm" else 1
        if key in found or not text.isdigit() or int(text) < least:
            raise UserError(f"bench {what}: {word}: give one whole number from {least} on, {key}=20")
        found[key] = int(text)
    return found, rest
