"""Tests of one checkpoint that differ in `decode` alone, in one pass over the images (CGANet's Table 2).

A `repose test` that is one of a table's evaluations (`log.group` names the table, as `repose table` and `repose sweep`
write it) measures all of them, each into its own folder below the run: the others find theirs there. Imports no torch.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repose.config import ExperimentBase, Loaded, dump, identity, leaves
from repose.engine import rundir
from repose.errors import UserError
from repose.tables.cells import Choice, at_scale, cell
from repose.tables.schema import Table, find_tables
from repose.tables.state import Changed, changed_since, judge_run

if TYPE_CHECKING:
    from repose.engine.evaluation import Scores

SLACK_PX = 0.1
"""Mean extensions may break their order by this much: real line maps are not strictly monotone."""


@dataclass(frozen=True)
class One:
    """One of the tests.

    Attributes:
        loaded: its config.
        folder: where its result goes, below the run that is tested.
        label: of its row.
    """

    loaded: Loaded
    folder: Path
    label: str


def folder_of(cfg: ExperimentBase) -> Path:
    """Where a table looks for a test of `checkpoint`, a run folder."""
    return Path(str(cfg.checkpoint)) / "tests" / identity(cfg)


def siblings(loaded: Loaded) -> list[One]:
    """The tests of a table that one pass can measure, this one first; [] where it is none of a table's, or alone.

    Args:
        loaded: a test with `log.group` and `checkpoint`.
    """
    cfg: Any = loaded.cfg
    if cfg.paper != "cganet" or cfg.model.kind != "single" or cfg.model.task != "keypoints":
        return []
    if not cfg.checkpoint or not Path(cfg.checkpoint).is_dir() or len(cfg.data.test_scales) > 1:
        return []
    try:
        tables = find_tables(cfg.log.group or "")
    except UserError:
        return []  # a group of the user's own
    found = [one for table in tables for one in _of_table(table, loaded)]
    mine = [one for one in found if identity(one.loaded.cfg) == identity(cfg)]
    rest = [one for one in found if one not in mine]
    return [replace(mine[0], loaded=loaded), *rest] if mine and rest else []


def _of_table(table: Table, loaded: Loaded) -> list[One]:
    """The tests of a table whose rows change `decode` alone, of the network that this test has."""
    cfg: Any = loaded.cfg
    found: list[One] = []
    trained: dict[str, Any] = {}
    for row in table.rows.values():
        changed = dict([*leaves(row.set), *leaves(row.set_at.get(cfg.scale, {}))])
        if row.kind != "eval" or not at_scale(row, cfg.scale) or any(not k.startswith("decode.") for k in changed):
            continue
        if row.reuse not in trained:
            trained[row.reuse] = cell(table, table.rows[row.reuse], Choice(cfg.scale)).loaded.cfg
        base = trained[row.reuse]
        if base.model != cfg.model:
            continue
        # what the command line says besides holds for all of them
        whole: dict[str, Any] = {
            "decode": _with(base.decode, {k.removeprefix("decode."): v for k, v in changed.items()}),
            "title": row.label,
            "paper_value": dict(row.paper),
            "log": replace(cfg.log, dir=None),
            "test": replace(cfg.test, save_pictures=0),
        }
        one = replace(cfg, **whole)
        found.append(One(replace(loaded, cfg=one), folder_of(one), row.label))
    return found


def _with(decode: Any, changed: dict[str, Any]) -> Any:
    """A paper's `decode` with other values; a whole number is a float where one is due, as in every YAML."""
    values = {k: float(v) if isinstance(getattr(decode, k), float) else v for k, v in changed.items()}
    return replace(decode, **values)


def test_together(loaded: Loaded) -> dict[str, Any] | None:
    """Measure a test with all its siblings that are not measured yet, or look its result up.

    Returns:
        the result of this test, and `dir`; None where it has no siblings: test it alone.

    Raises:
        UserError: as `engine.run.test`.
    """
    cfg = loaded.cfg
    if not cfg.log.group or not cfg.checkpoint:
        return None
    changed = changed_since()
    if known := _known(loaded, changed):
        return known
    found = siblings(loaded)
    todo = [one for one in found[1:] if _measured(one.loaded.cfg, one.folder, changed) is None]
    if not todo:
        return None
    run_all([replace(found[0], folder=Path(cfg.log.dir) if cfg.log.dir else folder_of(cfg)), *todo])
    return _known(loaded, changed)


def _known(loaded: Loaded, changed: Changed) -> dict[str, Any] | None:
    folder = Path(loaded.cfg.log.dir) if loaded.cfg.log.dir else folder_of(loaded.cfg)
    result = _measured(loaded.cfg, folder, changed)
    return None if result is None else {**result, "dir": str(folder)}


def _measured(cfg: ExperimentBase, folder: Path, changed: Changed) -> dict[str, Any] | None:
    """Today's result in a folder, or None; one that is older than the checkpoint is of another training."""
    state = judge_run(folder, cfg, changed)
    checkpoint = Path(str(cfg.checkpoint)) / rundir.BEST
    if state.status != "measured" or state.result is None or not checkpoint.is_file():
        return None
    young = (folder / rundir.RESULT).stat().st_mtime >= checkpoint.stat().st_mtime
    return state.result if young else None


def run_all(tests: Sequence[One]) -> None:
    """One pass over the images for all tests, which share checkpoint and data; writes each result.

    Prints the number of distinct boxes per image, and for a grid of `ratio` and `thre` whether the mean extension grows
    with the one and falls with the other, as it must.
    """
    from repose.engine import checkpoint as ckpt
    from repose.engine import results
    from repose.engine.evaluation import Evaluator
    from repose.engine.layout import plan
    from repose.engine.setup import build_data, build_module, build_trainer, use_threads
    from repose.papers.cganet.grid import GridModule, Receivers

    cfg: Any = tests[0].loaded.cfg
    layout = plan(cfg.train, testing=True)
    path = ckpt.find(cfg.checkpoint)
    saved = ckpt.load_checkpoint(path)
    use_threads(cfg)
    loaded = tests[0].loaded
    module: Any = build_module(replace(loaded, paper=replace(loaded.paper, module=lambda: GridModule)))
    ckpt.load_weights(module, saved, path)
    settings: list[Any] = [one.loaded.cfg for one in tests]
    module.decodes = [one.decode for one in settings]
    evaluators = [Evaluator(one.loaded.cfg, cfg.joint_set()) for one in tests]
    data = build_data(cfg, layout)
    trainer = build_trainer(cfg, layout, tests[0].folder, [Receivers(evaluators)])
    data.prepare_data()
    note = saved[ckpt.KEY]
    # before the test: what is edited while it runs did not run
    facts = results.facts(tests[0].loaded, layout, data, int(note["step"]), results.cost(module, cfg))
    begin = time.monotonic()
    trainer.test(module, datamodule=data, verbose=False)
    if not trainer.is_global_zero:
        sys.exit(0)
    hours = (time.monotonic() - begin) / 3600
    evaluated = {
        "checkpoint": str(path),
        "step": note["step"],
        "epoch": note["epoch"],
        "weights": note["weights"],
    }
    grid = {
        "tests": len(tests),
        "images": module.images,
        "boxes_per_image": module.boxes / max(module.images, 1),
        "distinct_boxes_per_image": module.looked / max(module.images, 1),
        "hours": hours,
    }
    for one, evaluator in zip(tests, evaluators, strict=True):
        scores = evaluator.scores
        assert scores is not None
        _write(one, facts, scores, data, {"evaluated": evaluated, "grid": grid, "hours": hours / len(tests)})
    _say(
        f"{len(tests)} tests in one pass over {module.images} images: {grid['distinct_boxes_per_image']:.1f} distinct "
        f"of {grid['boxes_per_image']:.0f} boxes per image, {3600 * hours:.0f} s"
    )
    extension = [float(e.scores.metrics["extension_px"]) for e in evaluators if e.scores is not None]
    for line in disorder(module.decodes, extension):
        _say(line)


def _write(one: One, facts: dict[str, Any], scores: Scores, data: Any, extra: dict[str, Any]) -> None:
    from repose.engine import results
    from repose.engine.callbacks import write_pictures

    cfg = one.loaded.cfg
    rundir.write_json(one.folder / rundir.PREDICTIONS, scores.results)
    write_pictures(scores, one.folder / rundir.PICTURES)
    with rundir.atomic(one.folder / rundir.CONFIG) as part:
        dump(cfg, part)
    measured = {
        "metrics": scores.metrics,
        "errors": results.errors(scores.results, data, cfg),
        **results.subsets(data, cfg),
    }
    own = {
        "title": cfg.title,
        "identity": identity(cfg),
        "paper_value": cfg.paper_value,
        "problems": list(data.problems),  # images may turn out unreadable while they are tested
    }
    results.write(one.folder, {**facts, **own, "status": "done", **measured, **extra, "finished": results.now()})


def disorder(decodes: Sequence[Any], extension_px: Sequence[float]) -> list[str]:
    """Pairs of dichotomy settings whose mean extension is in the wrong order, one line each; [] as it should be.

    More `ratio` extends boxes at least as far, more `thre` at most as far: the printed direction of Algorithm 1 breaks
    this at once.
    """
    searched = [(d, e) for d, e in zip(decodes, extension_px, strict=True) if d.extend == "dichotomy"]
    found: list[str] = []
    for a, less in searched:
        for b, more in searched:
            grows = b.thre == a.thre and b.ratio > a.ratio
            falls = b.ratio == a.ratio and b.thre < a.thre
            if (grows or falls) and more < less - SLACK_PX:
                found.append(
                    f"extension {more:.2f} px at ratio {b.ratio:g}, thre {b.thre:g}, but {less:.2f} px at ratio "
                    f"{a.ratio:g}, thre {a.thre:g}: the lines of this network are not monotone"
                )
    return found


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
