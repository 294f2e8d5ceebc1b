"""`repose data synthesize|check|preview|cache|fetch|convert`."""

from __future__ import annotations

import json
from pathlib import Path

from repose import papers
from repose.config import ExperimentBase, Loaded, load, nearest
from repose.errors import UserError

_EXPERIMENT, _CROWD_EXPERIMENT = "drpnet/m", "pinet/ochuman"
"""Whose inputs and augmentation are looked at where no experiment is named: crops of people, whole images."""
_ACTIONS = ("synthesize", "check", "preview", "cache", "fetch", "convert")


def data(words: list[str], as_json: bool, out: str | None, part: str | None = None, yes: bool = False) -> int:
    """Run one action on the data set that the words name.

    Args:
        words: the action and what it is about.
        as_json: print one JSON object (check).
        out: folder of pictures (preview) or of files (convert).
        part: what to fetch; None = annotations, boxes and images.
        yes: fetch, and do not only say what would be fetched.
    """
    if not words or words[0] not in _ACTIONS:
        hint = nearest(words[0], _ACTIONS, 1) if words else []
        fix = f"did you mean {hint[0]!r}?" if hint else f"one of: {', '.join(_ACTIONS)}"
        raise UserError(f"data: {words[0]!r} is not an action; {fix}" if words else f"data: name an action, {fix}")
    action, *rest = words
    if action == "fetch":
        return _fetch(rest, part, yes)
    if action == "convert":
        return _convert(rest, out)
    loaded = _loaded(rest, "synthetic" if action == "synthesize" else None)
    if action == "preview" and _named(rest) is None and _crowded(loaded.cfg):
        loaded = load(_CROWD_EXPERIMENT, rest, find_paper=papers.get)
    if action == "synthesize":
        return _synthesize(loaded)
    if action == "check":
        return _check(loaded, as_json)
    if action == "preview":
        from repose.data.preview import preview

        print(f"wrote {preview(loaded.cfg, Path(out or 'figures') / f'preview-{loaded.cfg.data.name}.png')}")
        return 0
    return _cache(loaded)


def _named(words: list[str]) -> str | None:
    """The experiment, where one is named."""
    return words[0] if words and "=" not in words[0] else None


def _loaded(words: list[str], default: str | None) -> Loaded:
    # The data verbs need a data set, not a method: a headline experiment of the wanted view serves where none is named.
    if (experiment := _named(words)) is not None:
        return load(experiment, words[1:], find_paper=papers.get)
    if default and not any(w.startswith("data=") for w in words):
        words = [f"data={default}", *words]
    view = "data.view=image" in words
    return load(_CROWD_EXPERIMENT if view else _EXPERIMENT, words, find_paper=papers.get)


def _crowded(cfg: ExperimentBase) -> bool:
    """Whether people hide each other here: a crop of one says little, so whole images are looked at."""
    if cfg.data.synthetic is not None:
        return cfg.data.synthetic.crowding != "sparse"
    return cfg.data.name.startswith(("crowdpose", "ochuman"))


def _synthesize(loaded: Loaded) -> int:
    from repose.data.datamodule import PoseDataModule
    from repose.data.roots import find_root

    if loaded.cfg.data.synthetic is None:
        raise UserError(f"data synthesize: data={loaded.cfg.data.name} is not a drawn data set; use data=synthetic")
    PoseDataModule(loaded.cfg).prepare_data()
    print(f"synthetic people are in {find_root(loaded.cfg.data, loaded.cfg.joint_set())}")
    return 0


def _check(loaded: Loaded, as_json: bool) -> int:
    from repose.data.check import check, notes

    problems, remarks = check(loaded.cfg), notes(loaded.cfg)
    if as_json:
        print(json.dumps({"data": loaded.cfg.data.name, "problems": problems, "notes": remarks}))
        return 1 if problems else 0
    for line in problems:
        print(line)
    for line in remarks:
        print(f"note: {line}")
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


def _fetch(words: list[str], part: str | None, yes: bool) -> int:
    from repose.data import fetch
    from repose.data.roots import candidates

    if not words or words[0] not in fetch.SOURCES:
        hint = nearest(words[0], tuple(fetch.SOURCES), 1) if words else []
        fix = f"did you mean {hint[0]!r}?" if hint else f"one of: {', '.join(fetch.SOURCES)}"
        raise UserError(f"data fetch: {f'no data set {words[0]!r}' if words else 'name a data set'}; {fix}")
    source = fetch.SOURCES[words[0]]
    places = candidates(_loaded([f"data={source.name}", *words[1:]], None).cfg.data)
    root = next((place for place in places if place.is_dir()), places[0])
    for line in fetch.plan(source, root, part):
        print(line)
    missing = [item for item in fetch.items(source, part) if any(e.problem(root) for e in item.expected)]
    if not missing:
        print(f"{source.name}: everything is there")
        return 0
    if not any(isinstance(item, fetch.Archive) for item in missing):
        return 1  # by hand; the plan says what and where
    if not yes:
        print("nothing was downloaded; read the terms and add --yes")
        return 1
    left = fetch.fetch(source, root, part)
    for line in left:
        print(f"by hand: {line}")
    print(f"{source.name}: {f'{len(left)} left to get by hand' if left else 'everything is there'}")
    return 1 if left else 0


def _convert(words: list[str], out: str | None) -> int:
    from repose.data import mpii, ochuman
    from repose.data.coco import load_json

    if len(words) != 1 or "=" in words[0]:
        raise UserError(
            "data convert: name OCHuman's own annotation file (or MPII's): "
            "repose data convert data/ochuman/ochuman.json"
        )
    native = Path(words[0])
    is_mpii = native.suffix == ".mat" or mpii.is_list(load_json(native))
    convert = mpii.convert if is_mpii else ochuman.convert
    folder = native.parent if native.parent.name == "annotations" else native.parent / "annotations"
    for line in convert(native, Path(out) if out else folder):
        print(line)
    return 0
