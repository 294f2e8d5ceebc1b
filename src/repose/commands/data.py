"""`repose data synthesize|check|preview|cache`."""

from __future__ import annotations

import json
from pathlib import Path

from repose import papers
from repose.config import Loaded, load, nearest
from repose.errors import UserError

_ACTIONS = ("synthesize", "check", "preview", "cache")


def data(words: list[str], as_json: bool, out: str | None) -> int:
    """Run one action on the data set that the words name."""
    if not words or words[0] not in _ACTIONS:
        hint = nearest(words[0], _ACTIONS, 1) if words else []
        fix = f"did you mean {hint[0]!r}?" if hint else f"one of: {', '.join(_ACTIONS)}"
        raise UserError(f"data: {words[0]!r} is not an action; {fix}" if words else f"data: name an action, {fix}")
    action, *rest = words
    loaded = _loaded(rest, "synthetic" if action == "synthesize" else None)
    if action == "synthesize":
        return _synthesize(loaded)
    if action == "check":
        return _check(loaded, as_json)
    if action == "preview":
        from repose.data.preview import preview

        print(f"wrote {preview(loaded.cfg, Path(out or 'figures') / f'preview-{loaded.cfg.data.name}.png')}")
        return 0
    return _cache(loaded)


def _loaded(words: list[str], default: str | None) -> Loaded:
    # The data verbs need a data set, not a method: the headline experiment serves where none is named.
    if words and "=" not in words[0]:
        return load(words[0], words[1:], find_paper=papers.get)
    if default and not any(w.startswith("data=") for w in words):
        words = [f"data={default}", *words]
    return load("drpnet/m", words, find_paper=papers.get)


def _synthesize(loaded: Loaded) -> int:
    from repose.data.datamodule import PoseDataModule
    from repose.data.roots import find_root

    if loaded.cfg.data.synthetic is None:
        raise UserError(f"data synthesize: data={loaded.cfg.data.name} is not a drawn data set; use data=synthetic")
    PoseDataModule(loaded.cfg).prepare_data()
    print(f"synthetic people are in {find_root(loaded.cfg.data)}")
    return 0


def _check(loaded: Loaded, as_json: bool) -> int:
    from repose.data.check import check

    problems = check(loaded.cfg)
    if as_json:
        print(json.dumps({"data": loaded.cfg.data.name, "problems": problems}))
        return 1 if problems else 0
    for line in problems:
        print(line)
    print(f"{loaded.cfg.data.name}: {len(problems)} problem(s)" if problems else f"{loaded.cfg.data.name}: ok")
    return 1 if problems else 0


def _cache(loaded: Loaded) -> int:
    from dataclasses import replace

    from repose.data.datamodule import PoseDataModule

    cfg = replace(loaded.cfg, data=replace(loaded.cfg.data, cache="on"))
    module = PoseDataModule(cfg)
    module.prepare_data()
    module.setup("fit")
    return 0
