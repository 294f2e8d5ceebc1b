"""`repose diff A B`: what two runs differ in, setting by setting, file by file, number by number, image by image."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from repose.commands.run_folders import RUNS, Judge, RunFolder, open_run
from repose.config import ExperimentBase, Test, parse_arguments
from repose.config.schema import LATER, NOT_IDENTITY
from repose.engine import rundir
from repose.errors import UserError
from repose.skeleton import Skeleton
from repose.tables.claims import Interval
from repose.tables.schema import inner
from repose.tables.state import data_fingerprint

_NONE = "–"
_MASK = "mask_"
"""How the metrics of masks begin."""
_TOLERANCE = 1e-6
"""[share] of an AP that predictions.json must give again."""


@dataclass(frozen=True)
class Setting:
    """A key with different values; None where the other run's method has no such key is "absent"."""

    key: str
    a: Any
    b: Any


@dataclass(frozen=True)
class Code:
    """What differs between the code of two runs.

    Attributes:
        changed: files that both have.
        only_a: files of A alone.
        only_b: files of B alone.
        commits: of A and B, shortened; "+" where the tree held more than the commit.
        versions: libraries, `name a -> b`.
    """

    changed: list[str]
    only_a: list[str]
    only_b: list[str]
    commits: tuple[str, str]
    versions: list[str]


@dataclass(frozen=True)
class Number:
    """A metric of both runs.

    Attributes:
        name: of the metric.
        a: value of A, None where it has none.
        b: value of B.
        difference: B minus A with its 95 % interval over images; nan bounds where no interval is known.
        p: two-sided p-value of "no difference"; None without an interval.
    """

    name: str
    a: float | None
    b: float | None
    difference: Interval | None = None
    p: float | None = None


@dataclass(frozen=True)
class Comparison:
    """Two runs side by side.

    Attributes:
        a: first run.
        b: second run.
        settings: what their configs differ in, of the keys that change a number.
        aside: keys that differ and change no number.
        code: what their code differs in.
        apart: why their numbers are not subtracted; empty if they are.
        unpaired: why there are no intervals and pictures, though the numbers are subtracted; "" if there are.
        images: evaluated images.
        numbers: metrics.
        joints: mean similarity of each joint.
        changes: the images that changed most (`changed_images.Change`).
    """

    a: RunFolder
    b: RunFolder
    settings: list[Setting]
    aside: list[str]
    code: Code
    apart: list[str] = field(default_factory=list[str])
    unpaired: str = ""
    images: int = 0
    numbers: list[Number] = field(default_factory=list[Number])
    joints: list[Number] = field(default_factory=list[Number])
    changes: list[Any] = field(default_factory=list[Any])


def diff(words: list[str], as_json: bool, out: str | None) -> int:
    """Compare two runs.

    Args:
        words: two runs (folders, or names below `runs/`), then `images=20`, `resamples=1000`, `runs=FOLDER`.
        as_json: print one JSON object.
        out: folder of the pictures; None = figures/diff/<A>--<B>.
    """
    named = [w for w in words if "=" not in w]
    line, overlays = parse_arguments(w for w in words if "=" in w)
    values = {**line.values, **overlays}
    if unknown := values.keys() - {"images", "resamples", "runs"}:
        raise UserError(f"diff: unknown key {sorted(unknown)[0]!r}; it takes images=20, resamples=1000, runs=FOLDER")
    images, resamples = _whole(values, "images", 20, least=0), _whole(values, "resamples", 1000, least=100)
    if len(named) != 2:
        raise UserError(f"diff: name two runs, not {len(named)}: repose diff A B; `repose runs` lists them")
    root = Path(str(values.get("runs", RUNS)))
    a, b = (open_run(name, root) for name in named)
    if a.path.resolve() == b.path.resolve():
        raise UserError(f"diff: {named[0]} and {named[1]} are the same run, {a.path}")
    folder = Path(out) if out else Path("figures") / "diff" / f"{_short(a)}--{_short(b)}"
    found = compare(a, b, images, resamples, folder)
    if as_json:
        print(json.dumps(rundir.without_nan(to_json(found))))
    else:
        from repose.commands import diff_text

        diff_text.show(found, folder)
    return 0


def _whole(values: dict[str, Any], key: str, default: int, least: int) -> int:
    value = values.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UserError(f"diff: {key}={value}: give a whole number, at least {least}")
    return value


def _short(run: RunFolder) -> str:
    """A run's name for a folder's."""
    path = run.path.resolve()
    return path.name if path.parent.name != "tests" else f"{path.parents[1].name}-{path.name}"


def compare(a: RunFolder, b: RunFolder, images: int, resamples: int, folder: Path) -> Comparison:
    """Compare two runs.

    Args:
        a: first run.
        b: second run.
        images: how many of the images that changed most are drawn.
        resamples: of the bootstrap.
        folder: where they are drawn.
    """
    settings, aside = _settings(a, b)
    found = {"a": a, "b": b, "settings": settings, "aside": aside, "code": _code(a, b)}
    if apart := _unfinished(a, b) or _protocols(a, b):
        return Comparison(**found, apart=apart, numbers=_numbers(a, b, subtract=False))
    try:
        cfg_a, cfg_b = a.config(), b.config()
    except UserError as error:
        return Comparison(**found, apart=[str(error)], numbers=_numbers(a, b, subtract=False))
    apart, unpaired = _data(a, b, cfg_a, cfg_b)
    if apart:
        return Comparison(**found, apart=apart, numbers=_numbers(a, b, subtract=False))
    if unpaired:
        return Comparison(**found, unpaired=unpaired, numbers=_numbers(a, b, subtract=True))
    return _paired(a, b, cfg_a, found, images, resamples, folder)


# --- config and code -------------------------------------------------------------------------------------------------

_ABSENT = "absent"


def _settings(a: RunFolder, b: RunFolder) -> tuple[list[Setting], list[str]]:
    found: list[Setting] = []
    aside: list[str] = []
    for key in dict.fromkeys([*a.settings, *b.settings]):
        one, two = (r.settings.get(key, LATER.get(key, _ABSENT)) for r in (a, b))
        if one == two:
            continue
        if any(key == out or key.startswith(f"{out}.") for out in NOT_IDENTITY):
            aside.append(key)
        else:
            found.append(Setting(key, one, two))
    return found, aside


def _code(a: RunFolder, b: RunFolder) -> Code:
    one, two = (inner(r.result, "code_fingerprint") for r in (a, b))
    commits = [str(r.result.get("commit") or "?")[:7] + ("+" if r.result.get("dirty") else "") for r in (a, b)]
    then, now = (inner(r.result, "versions") for r in (a, b))
    names = dict.fromkeys([*then, *now])
    return Code(
        changed=sorted(f for f in one.keys() & two.keys() if one[f] != two[f]),
        only_a=sorted(one.keys() - two.keys()),
        only_b=sorted(two.keys() - one.keys()),
        commits=(commits[0], commits[1]),
        versions=[f"{n} {then.get(n, _NONE)} -> {now.get(n, _NONE)}" for n in names if then.get(n) != now.get(n)],
    )


# --- whether numbers may be subtracted -------------------------------------------------------------------------------


def _unfinished(a: RunFolder, b: RunFolder) -> list[str]:
    """Runs without a result: what became of each."""
    without = [r for r in (a, b) if r.result.get("status") != "done" or not r.metrics]
    if not without:
        return []
    judge = Judge()
    return [f"{r.name} has no result: it is {judge.standing(r)}" for r in without]


def _protocols(a: RunFolder, b: RunFolder) -> list[str]:
    one, two = a.protocol, b.protocol
    for name, key in _evaluations(a, b).items():
        one[name], two[name] = (_plain(r.settings.get(f"test.{key}", getattr(Test(), key))) for r in (a, b))
    return [f"{key}: {one[key]} in A, {two[key]} in B" for key in one if one[key] != two[key]]


def _evaluations(a: RunFolder, b: RunFolder) -> dict[str, str]:
    """Settings of `test` that make another number of the same predictions, of those that matter to both runs, by name.

    The kind of subsets always matters: AP_M is of people of medium size without, of medium crowds with `crowd_index`.
    """
    found = {"people per image": "max_people", "subsets": "subsets"}
    if all(r.settings.get("test.subsets") == "iou_bins" for r in (a, b)):
        found |= {"overlap of an image": "iou_reduce", "edges of the overlaps": "iou_edges"}
    if all(any(name.startswith(_MASK) for name in r.metrics) for r in (a, b)):
        found |= {"people of mask AP": "mask_people", "masks per image": "max_masks"}
    return found


def _plain(value: Any) -> str:
    return (
        ", ".join(f"{x:g}" for x in cast("Sequence[float]", value)) if isinstance(value, list | tuple) else str(value)
    )


def _data(a: RunFolder, b: RunFolder, cfg_a: ExperimentBase, cfg_b: ExperimentBase) -> tuple[list[str], str]:
    """Whether both saw the same people: why they did not, and why that cannot be tested image by image."""
    if cfg_a.joint_set().joints != cfg_b.joint_set().joints or cfg_a.joint_set().sigmas != cfg_b.joint_set().sigmas:
        return [f"skeleton: {cfg_a.skeleton.name} in A, {cfg_b.skeleton.name} in B"], ""
    then = [inner(r.result, "data").get("fingerprint") for r in (a, b)]
    now = [data_fingerprint(cfg) for cfg in (cfg_a, cfg_b)]
    if None in now:
        lacking = cfg_a if now[0] is None else cfg_b
        why = f"the data set {lacking.data.name} is not here"
        return ([], why) if then[0] == then[1] else ([f"data: other annotation or box files, and {why}"], "")
    here = then == now
    if not here and then[0] != then[1]:
        return [f"data: {cfg_a.data.name} had other annotation or box files in A than in B"], ""
    if not here:
        return [], f"the annotations or boxes of {cfg_a.data.name} changed since"
    if (one := truth_key(cfg_a)) != (two := truth_key(cfg_b)):
        return [f"data: evaluated on {one} in A, on {two} in B"], ""
    return [], ""


def truth_key(cfg: ExperimentBase) -> str:
    """Names the evaluated people: annotation file and its sum, number of images."""
    from repose.data.boxes import digest
    from repose.data.roots import data_file, find_root

    data = cfg.data
    file = data_file(find_root(data, cfg.joint_set()), data.val_json, "data.val_json", data)
    return f"{file.name} ({digest(file)[:8]}, {data.limit_val or 'all'} images)"


# --- numbers ---------------------------------------------------------------------------------------------------------


def _numbers(a: RunFolder, b: RunFolder, subtract: bool) -> list[Number]:
    """The metrics of both, without intervals."""
    found: list[Number] = []
    for name in dict.fromkeys([*a.metrics, *b.metrics]):
        one, two = a.metrics.get(name), b.metrics.get(name)
        gap = (
            Interval(two - one, float("nan"), float("nan"))
            if subtract and one is not None and two is not None
            else None
        )
        found.append(Number(name, one, two, gap))
    return found


def _paired(
    a: RunFolder, b: RunFolder, cfg: ExperimentBase, found: dict[str, Any], images: int, resamples: int, folder: Path
) -> Comparison:
    from repose.commands.changed_images import changed_most, draw
    from repose.data.datamodule import PoseDataModule
    from repose.metrics import keypoint_ap
    from repose.metrics.errors import matches

    data = PoseDataModule(cfg)
    truth, skeleton, people = data.ground_truth(), cfg.joint_set(), cfg.test.max_people
    try:
        predictions = [keypoint_ap.load_results(r.path / rundir.PREDICTIONS, truth, skeleton) for r in (a, b)]
    except UserError as error:
        return Comparison(**found, unpaired=str(error), numbers=_numbers(a, b, subtract=True))
    for run, results in zip((a, b), predictions, strict=True):
        again = keypoint_ap.score(results, truth, skeleton, people)["AP"]
        if not abs(again - run.metrics.get("AP", again)) <= _TOLERANCE:
            why = (
                f"{run.path / rundir.PREDICTIONS} scores AP {100 * again:.2f} and {rundir.RESULT} says "
                f"{100 * run.metrics['AP']:.2f}: evaluate it again, repose test checkpoint={run.path}"
            )
            return Comparison(**found, apart=[why], numbers=_numbers(a, b, subtract=False))
    numbers = [_tested(n, a, b, cfg, predictions, truth, resamples) for n in _numbers(a, b, subtract=True)]
    each = [list(matches(results, truth, skeleton, people)) for results in predictions]
    joints = _joints(each[0], each[1], skeleton, resamples)
    changes = changed_most(each[0], each[1], images)
    return Comparison(
        **found,
        images=len(truth["images"]),
        numbers=numbers,
        joints=joints,
        changes=draw(changes, (a, b), data, folder) if changes else [],
    )


def _tested(
    number: Number,
    a: RunFolder,
    b: RunFolder,
    cfg: ExperimentBase,
    predictions: Sequence[list[dict[str, Any]]],
    truth: dict[str, Any],
    resamples: int,
) -> Number:
    """A metric with the interval of its difference, where the bootstrap knows it."""
    from repose.metrics import bootstrap
    from repose.metrics.subsets import image_subsets

    if number.a is None or number.b is None:
        return number
    name, skeleton, people = number.name, cfg.joint_set(), cfg.test.max_people
    try:
        if name.startswith(_MASK):
            one, two = (_mask_matches(r, cfg, name) for r in (b, a))
            found = bootstrap.paired_of(one, two, resamples)
        else:
            subsets = image_subsets(cfg.test, truth)
            found = bootstrap.paired(
                predictions[1],
                predictions[0],
                truth,
                skeleton,
                resamples,
                max_people=people,
                metric=name,
                subsets=subsets,
            )
    except UserError:  # a read-out, say: no interval is computed for it
        return number
    return Number(name, number.a, number.b, Interval(found.difference, found.low, found.high), found.p)


def _mask_matches(run: RunFolder, cfg: ExperimentBase, metric: str) -> Any:
    from repose.data.datamodule import PoseDataModule
    from repose.metrics import bootstrap, mask_ap

    truth = PoseDataModule(cfg).ground_truth(masks=True)
    results = mask_ap.load_results(run.path / rundir.MASKS, truth)
    return bootstrap.match_masks(results, truth, cfg.test.max_masks, cfg.test.mask_people, metric)


def _joints(a: Sequence[Any], b: Sequence[Any], skeleton: Skeleton, resamples: int) -> list[Number]:
    """Mean keypoint similarity of each joint over all labelled ones; 0 where a person was not found."""
    import numpy as np

    from repose.metrics.bootstrap import paired_means

    if not a:
        return []
    one, two = (np.stack([m.similarity_MK(skeleton.sigmas).sum(0).numpy() for m in each]) for each in (a, b))  # (I, K)
    count = np.stack([(m.gt_MK3[..., 2] > 0).sum(0).double().numpy() for m in a])
    found: list[Number] = []
    for k, name in enumerate(skeleton.joints):
        n = float(count[:, k].sum())
        if not n:
            found.append(Number(name, None, None))
            continue
        gap = paired_means(two[:, k], one[:, k], count[:, k], resamples)
        found.append(
            Number(name, one[:, k].sum() / n, two[:, k].sum() / n, Interval(gap.difference, gap.low, gap.high), gap.p)
        )
    return found


# --- output ----------------------------------------------------------------------------------------------------------


def to_json(found: Comparison) -> dict[str, Any]:
    """The comparison as one JSON object; values and differences of AP are shares."""
    return {
        "a": {"run": found.a.name, "title": found.a.title, "protocol": found.a.protocol},
        "b": {"run": found.b.name, "title": found.b.title, "protocol": found.b.protocol},
        "config": [asdict(s) for s in found.settings],
        "config_aside": found.aside,
        "code": asdict(found.code),
        "subtracted": not found.apart,
        "why_not": found.apart,
        "no_intervals": found.unpaired,
        "images": found.images,
        "metrics": [asdict(n) for n in found.numbers],
        "joints": [asdict(n) for n in found.joints],
        "changed_most": [c.to_json() for c in found.changes],
    }
