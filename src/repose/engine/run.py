"""`train` and `test`: one experiment from its config to its result.json."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, Trainer

from repose.config import ExperimentBase, Loaded, dump, identity
from repose.data.submission import write_zip
from repose.engine import checkpoint as ckpt
from repose.engine import locks, provenance, results
from repose.engine.callbacks import Keeper, Progress, Recorder, StepSeed, write_pictures
from repose.engine.ema import Average
from repose.engine.evaluation import Evaluator, Scores, score_files
from repose.engine.layout import Layout, plan
from repose.engine.logging import MetricsFile, Wandb, first_rank, say
from repose.engine.module import NonFiniteLoss, PoseModule
from repose.engine.rundir import (
    BEST,
    CONFIG,
    LAST,
    MASKS,
    PICTURES,
    PREDICTIONS,
    atomic,
    read_result,
    run_dir,
    set_aside,
    write_json,
    write_text,
)
from repose.engine.setup import build_data, build_module, build_trainer, use_threads
from repose.engine.signals import Signals, Stopped
from repose.engine.start import alone, start_of
from repose.errors import UserError

# --- train ---------------------------------------------------------------------------------------------------------


def train(loaded: Loaded, data: Any = None) -> dict[str, Any]:
    """Train an experiment, evaluate it, write its run folder.

    A run that is done already is not trained again: its result is returned at once. `resume=auto` goes on from the run
    folder's last checkpoint, bit-identically on a CPU.

    Args:
        loaded: the experiment.
        data: a DataModule in the place of the config's (PoseDataModule's interface).

    Returns:
        the content of result.json, and `dir`.

    Raises:
        UserError: a mistake in the input; a loss that is not finite; a disk that is full.
        SystemExit: stopped by a signal, after saving (see `repose.engine.signals`); in the other processes of a
            distributed run, with 0, when all is done.
    """
    cfg = loaded.cfg
    folder = run_dir(cfg)
    if done := _done_before(cfg, folder):
        if not first_rank():
            sys.exit(0)
        return done
    layout = plan(cfg.train)
    resume = _resume_file(cfg, folder)
    init = None if resume else _init_file(loaded)
    with locks.alone_in(folder) if first_rank() else nullcontext(), Signals() as signals:
        try:
            return _train(loaded, data, folder, layout, resume, init, signals)
        except Stopped:
            code = signals.exit_code()
            say(f"stopped; saved {folder / LAST}; go on with resume=auto")
            sys.exit(code)


def _init_file(loaded: Loaded) -> Path | None:
    """The checkpoint to start from; where `init` names an experiment, that one is trained first."""
    if not loaded.cfg.init:
        return None
    first = start_of(loaded)
    if first is None:
        return Path(loaded.cfg.init)
    with alone(first):
        folder = run_dir(first.cfg)
        if why := _start_changed(first, folder):
            # a start of other code or data would make this run's number nobody's
            say(f"init={loaded.cfg.init}: {why} since it was trained; the old start is kept in {set_aside(folder)}")
        return Path(train(first)["dir"]) / BEST


def _start_changed(first: Loaded, folder: Path) -> str:
    """What of a start's code and data is not today's any more; "" where nothing is, or nothing was trained yet."""
    before = read_result(folder)
    if before is None:
        return ""
    if files := provenance.stale(before, provenance.code_of(first.cfg)):
        return f"{', '.join(files)} changed"
    data = build_data(first.cfg, plan(first.cfg.train))
    data.prepare_data()  # a drawn set that is not here has no fingerprint yet, and is needed now anyway
    then = before.get("data", {}).get("fingerprint")
    same = then is None or then == data.fingerprint()
    return "" if same else f"the annotations or boxes of {first.cfg.data.name} changed"


def _done_before(cfg: ExperimentBase, folder: Path) -> dict[str, Any] | None:
    result = read_result(folder)
    if result is None or result.get("status") != "done":
        return None
    if result.get("identity") != identity(cfg):
        raise UserError(
            f"{folder} holds a finished run of other settings (identity {result.get('identity')}, "
            f"this is {identity(cfg)}); use another log.dir"
        )
    changed = provenance.stale(result, provenance.code_of(cfg))
    note = f"; stale: {', '.join(changed)} changed since; move the folder away to train anew" if changed else ""
    say(f"{folder}: done already{note}")
    if os.environ.get("WANDB_SWEEP_ID") and first_rank():  # the agent waits for this cell's numbers
        wandb = Wandb(cfg, folder, identity(cfg))
        wandb.summary(results.summary(result))
        wandb.finish()
    return {**result, "dir": str(folder)}


def _resume_file(cfg: ExperimentBase, folder: Path) -> Path | None:
    last = folder / LAST
    if cfg.resume == "auto":
        return last if last.is_file() else None
    if cfg.resume:
        path = Path(cfg.resume)
        return path / LAST if (path / LAST).is_file() else ckpt.find(cfg.resume)
    if last.is_file():
        raise UserError(f"{folder} holds an unfinished run; add resume=auto to go on with it, or move the folder away")
    return None


def _load_for_resume(path: Path, cfg: ExperimentBase, module: PoseModule) -> dict[str, Any]:
    saved = ckpt.load_checkpoint(path)
    ckpt.require_same(saved, cfg, path)
    if wrong := ckpt.first_mismatch(module.state_dict(), saved["state_dict"]):
        raise UserError(
            f"resume={path}: does not fit this model: {wrong}; resume with the settings it was trained with"
        )
    _refuse_other_settings(saved[ckpt.KEY], cfg, path)
    return saved


def _refuse_other_settings(note: dict[str, Any], cfg: ExperimentBase, path: Path) -> None:
    """A run that went on with other settings would give a number that neither settings make.

    Its optimiser and its schedule are the checkpoint's, whatever the settings say.
    """
    own = path.parent.parent
    then = note.get("identity") or (read_result(own) or {}).get("identity")
    if then is not None and then != identity(cfg):
        raise UserError(
            f"{own} holds an unfinished run of other settings (identity {then}, this is {identity(cfg)}); go on with "
            f"those in its {CONFIG}, or use another log.dir; for its weights alone: init={path}"
        )


def _bring(resume: Path, folder: Path) -> None:
    """Files of the run that a checkpoint elsewhere belongs to: what its best evaluation left is part of its state."""
    if resume.resolve().is_relative_to(folder.resolve()):
        return
    (folder / LAST).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(resume, folder / LAST)
    for name in (BEST, PREDICTIONS, MASKS):
        if (resume.parent.parent / name).is_file():
            shutil.copy2(resume.parent.parent / name, folder / name)


_BEGAN = ("commit", "dirty", "code_fingerprint", "data", "resumed_with")
"""Facts that a resumed run keeps from its beginning; they are in its checkpoints as `began`."""


def _began(note: dict[str, Any], path: Path) -> dict[str, Any]:
    """What a run began with; older checkpoints do not say it, the result.json beside them does."""
    return note.get("began") or read_result(path.parent.parent) or {}


def _as_begun(facts: dict[str, Any], began: dict[str, Any]) -> dict[str, Any]:
    """The facts of a resumed run, with the code and data it began with where today's are others.

    So a table calls it stale: neither code alone made its number. `resumed_with` says what it went on with.

    Args:
        facts: today's.
        began: `_BEGAN` of them as they were.
    """
    before = began.get("resumed_with") or []
    if "code_fingerprint" not in began:
        return facts
    files = provenance.differing(began["code_fingerprint"], facts["code_fingerprint"])
    data = began.get("data", facts["data"])
    changed = [*files, *(["the annotations or boxes"] if data != facts["data"] else [])]
    if not changed and not before:
        return facts
    if changed:
        say(
            f"resume: {', '.join(changed)} changed since this run began (commit {began.get('commit')}); "
            "its result stays with what it began with, so tables call it stale; move the folder away to train anew"
        )
    then = {name: began.get(name) for name in ("commit", "dirty", "code_fingerprint")}
    now = {"commit": facts["commit"], "dirty": facts["dirty"], "changed": files}
    return {**facts, **then, "data": data, "resumed_with": [*before, now]}


def _train(
    loaded: Loaded,
    data: Any,
    folder: Path,
    layout: Layout,
    resume: Path | None,
    init: Path | None,
    signals: Signals,
) -> dict[str, Any]:
    cfg = loaded.cfg
    use_threads(cfg)
    module = build_module(loaded)
    if init:
        ckpt.init_from(module, init)
    saved = _load_for_resume(resume, cfg, module) if resume else None
    note = saved[ckpt.KEY] if saved else {}
    data = data if data is not None else build_data(cfg, layout)
    data.prepare_data()
    data.setup("fit")
    cost = results.cost(module, cfg)
    begin, hours_before = time.monotonic(), float(note.get("hours", 0.0))
    wandb_id = note.get("wandb_id") or f"{identity(cfg)}-{int(time.time()):x}"

    def hours() -> float:
        return hours_before + (time.monotonic() - begin) / 3600

    def known() -> dict[str, Any]:
        return {
            "hours": hours(),
            "wandb_id": wandb_id,
            "accumulate": layout.accumulate,
            "world": layout.world,
            "identity": identity(cfg),
            "began": {name: facts[name] for name in _BEGAN if name in facts},
        }

    first = first_rank()
    file = MetricsFile(folder)
    facts = results.facts(loaded, layout, data, int(note.get("step", 0)), cost) if first else {}
    if first and resume:
        _bring(resume, folder)
        facts = _as_begun(facts, _began(note, resume))
    if first:
        _open_folder(cfg, folder, facts)
        file.keep_until(int(note.get("step", 0)), evaluated=note.get("evaluated_step") == note.get("step"))
        _announce(loaded, layout, data, facts, folder, resume, note)
    off = dataclasses.replace(cfg, log=dataclasses.replace(cfg.log, wandb="off"))
    wandb = Wandb(cfg if first else off, folder, wandb_id)
    recorder = Recorder(cfg, file, wandb)
    evaluator = Evaluator(cfg, cfg.joint_set())
    keeper = Keeper(cfg, folder, evaluator, signals, known, recorder)
    ema = [Average(cfg.optim.ema)] if cfg.optim.ema.decay is not None else []
    progress = [Progress()] if cfg.log.progress else []
    trainer = build_trainer(cfg, layout, folder, [StepSeed(cfg.seed), *ema, evaluator, recorder, *progress, keeper])
    if saved is not None:
        data.resume_at(int(note["samples"]))
    exit_code = 1
    try:
        _fit(trainer, module, data, cfg, resume)
        if first:
            result = _finish(facts, keeper, data, cfg, folder, trainer, hours())
            wandb.summary(results.summary(result))
        exit_code = 0
    except Stopped:
        exit_code = 0
        raise
    except NonFiniteLoss as error:
        raise _nan_guard(error, folder) from None
    finally:
        if first and exit_code:
            _note_failure(folder, facts, hours())
        wandb.finish(exit_code)
    if not first:
        sys.exit(0)
    return {**result, "dir": str(folder)}


def _open_folder(cfg: ExperimentBase, folder: Path, facts: dict[str, Any]) -> None:
    with atomic(folder / CONFIG) as part:
        dump(cfg, part)
    if patch := provenance.diff():
        write_text(folder / ("diff-resumed.patch" if facts.get("resumed_with") else "diff.patch"), patch)
    results.write(folder, {**facts, "status": "running", "metrics": {}, "started": results.now()})


def _announce(
    loaded: Loaded,
    layout: Layout,
    data: Any,
    facts: dict[str, Any],
    folder: Path,
    resume: Path | None,
    note: dict[str, Any],
) -> None:
    cfg = loaded.cfg
    say(f"{loaded.paper.name}: {cfg.title or cfg.name}, scale {cfg.scale}, {facts['init']} -> {folder}")
    say(
        f"{facts['params'] / 1e6:.3f} M parameters, {facts['macs'] / 1e9:.3f} GMACs at "
        f"{'x'.join(map(str, cfg.data.input_size))}; {data.train_samples} samples of {cfg.data.name}, "
        f"{cfg.train.epochs} epochs; {layout.words()}"
    )
    say(
        f"learning rate {facts['lr']:.4g} = {cfg.optim.base_lr:.4g} x {cfg.train.batch} / {cfg.optim.base_batch} "
        "(global batch / base batch)"
    )
    if resume:
        say(f"resuming {resume}: step {note['step']}, {note['samples']} samples done")
        if (note["world"], note["accumulate"]) != (layout.world, layout.accumulate):
            say(f"  it ran on {note['world']} devices x {note['accumulate']} accumulated: same samples, other rounding")


def _fit(trainer: Trainer, module: PoseModule, data: Any, cfg: ExperimentBase, resume: Path | None) -> None:
    path = str(resume) if resume else None
    if cfg.train.debug != "overfit":
        trainer.fit(module, datamodule=data, ckpt_path=path)
        return
    batch = next(iter(data.train_dataloader()))
    steps = len(data.train_dataloader())
    trainer.fit(module, datamodule=_Overfit(data, [batch] * steps), ckpt_path=path)


class _Overfit(LightningDataModule):
    """The same training batch again and again; evaluation as ever."""

    def __init__(self, data: Any, batches: list[Any]) -> None:
        super().__init__()
        self.data = data
        self.batches = batches

    def train_dataloader(self) -> Any:
        return torch.utils.data.DataLoader(self.batches, batch_size=None)  # type: ignore[arg-type]

    def val_dataloader(self) -> Any:
        return self.data.val_dataloader()

    def ground_truth(self, masks: bool = False) -> dict[str, Any]:
        return self.data.ground_truth(masks=True) if masks else self.data.ground_truth()


def _finish(
    facts: dict[str, Any],
    keeper: Keeper,
    data: Any,
    cfg: ExperimentBase,
    folder: Path,
    trainer: Trainer,
    hours: float,
) -> dict[str, Any]:
    best = keeper.best
    poses = json.loads((folder / PREDICTIONS).read_text(encoding="utf-8"))
    result = {
        **facts,
        "status": "done",
        "metrics": best["metrics"],
        "evaluated": {
            "checkpoint": str(BEST),
            "step": best["step"],
            "epoch": best["epoch"] + 1,
            "chosen_of": 1 if cfg.train.keep == "last" else keeper.latest.get("count", 1),
            "weights": "raw" if cfg.optim.ema.decay is None else "ema",
        },
        "last": {"metrics": keeper.latest["metrics"], "step": keeper.latest["step"]},
        "errors": results.errors(poses, data, cfg),
        **results.subsets(data, cfg),
        "steps": trainer.global_step,
        "hours": hours,
        "finished": results.now(),
    }
    results.write(folder, result)
    return read_result(folder) or result


def _note_failure(folder: Path, facts: dict[str, Any], hours: float) -> None:
    error = sys.exc_info()[1]
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    try:
        results.write(folder, {**facts, "status": "failed", "metrics": {}, "error": reason, "hours": hours})
    except UserError as second:  # a full disk; the first error is the one to report
        say(str(second))


def _nan_guard(error: NonFiniteLoss, folder: Path) -> UserError:
    ids = sorted(set(error.batch.image_id_B.tolist()))
    path = folder / "nan_batch.pt"
    batch = dataclasses.asdict(error.batch.to("cpu"))
    with atomic(path) as part:
        torch.save({"batch": batch, "losses": error.losses}, part)
    bad = ", ".join(f"{k}={v:g}" for k, v in error.losses.items())
    shown = ", ".join(map(str, ids[:16])) + (f" and {len(ids) - 16} more" if len(ids) > 16 else "")
    return UserError(
        f"the loss is not finite ({bad}) on images {shown}; the batch is saved in {path}; "
        f"train anew with a lower optim.base_lr, optim.clip_norm=1 or train.precision=32"
    )


Deployed = Callable[[PoseModule, Path], PoseModule]
"""See `test`."""

# --- test ----------------------------------------------------------------------------------------------------------


def test(loaded: Loaded, data: Any = None, deployed: Deployed | None = None) -> dict[str, Any]:
    """Evaluate a checkpoint, or score a predictions file without a model.

    The result goes to <run folder>/tests/<identity>-<checkpoint's name> (beside a predictions file:
    tests/<identity>-<its name>), or to `log.dir` where that is no training run's folder.

    Args:
        loaded: the experiment, with `checkpoint` or `predictions` set.
        data: a DataModule in the place of the config's.
        deployed: for `test.runtime`: from the trained module and a folder to the module that is tested, whose network
            runs in another way.

    Returns:
        the content of result.json, and `dir`.

    Raises:
        UserError: neither is given; a file is missing or does not fit.
    """
    cfg = loaded.cfg
    layout = plan(cfg.train, testing=True)
    data = data if data is not None else build_data(cfg, layout)
    if cfg.predictions:
        return _test_predictions(loaded, data, layout, Path(cfg.predictions))
    if not cfg.checkpoint:
        raise UserError("test: give checkpoint=<run folder or file>, or predictions=<COCO results file>")
    path = ckpt.find(cfg.checkpoint)
    saved = ckpt.load_checkpoint(path)
    use_threads(cfg)
    module = build_module(loaded)
    ckpt.load_weights(module, saved, path)
    run_folder = path.parent.parent if path.parent.name == "checkpoints" else path.parent
    folder = _test_dir(cfg, run_folder, path.stem)
    data.prepare_data()
    note = saved[ckpt.KEY]
    # before the hours that a test may take: what is edited in them did not run
    facts = results.facts(loaded, layout, data, int(note["step"]), results.cost(module, cfg)) if first_rank() else {}
    if deployed is not None:
        module = deployed(module, folder)
    evaluator = Evaluator(cfg, cfg.joint_set())
    progress = [Progress()] if cfg.log.progress else []
    trainer = build_trainer(cfg, layout, folder, [evaluator, *progress])
    begin = time.monotonic()
    trainer.test(module, datamodule=data, verbose=False)
    scores = evaluator.scores
    assert scores is not None
    if not first_rank():
        sys.exit(0)
    extra = {
        "evaluated": {
            "checkpoint": str(path),
            "step": note["step"],
            "epoch": note["epoch"],
            "weights": note["weights"],
            "runtime": cfg.test.runtime,
        },
        "hours": (time.monotonic() - begin) / 3600,
    }
    return _write_test(loaded, data, folder, facts, scores, extra)


def _test_dir(cfg: ExperimentBase, run_folder: Path, name: str) -> Path:
    """Where a test is written; never over a training run (whose config may have been read, log.dir included)."""
    if cfg.log.dir:
        given = Path(cfg.log.dir)
        if given.resolve() != run_folder.resolve() and not (given / LAST).exists():
            return given
    return run_folder / "tests" / f"{identity(cfg)}-{name}"


def _test_predictions(loaded: Loaded, data: Any, layout: Layout, path: Path) -> dict[str, Any]:
    cfg = loaded.cfg
    data.prepare_data()
    facts = {**results.facts(loaded, layout, data, 0, (0, 0)), "params": None, "macs": None}
    scores = score_files(cfg, path, data.ground_truth(), lambda: data.ground_truth(masks=True))
    folder = _test_dir(cfg, path.parent, path.stem)
    extra = {"evaluated": {"predictions": str(path)}, "hours": 0.0}
    return _write_test(loaded, data, folder, facts, scores, extra)


def _write_test(
    loaded: Loaded, data: Any, folder: Path, facts: dict[str, Any], scores: Scores, extra: dict[str, Any]
) -> dict[str, Any]:
    cfg = loaded.cfg
    write_json(folder / PREDICTIONS, scores.results)
    if scores.masks is not None:
        write_json(folder / MASKS, scores.masks)
    write_pictures(scores, folder / PICTURES)
    with atomic(folder / CONFIG) as part:
        dump(cfg, part)
    if cfg.data.val_labelled:
        errors = results.errors(scores.results, data, cfg)
        measured = {"metrics": scores.metrics, "errors": errors, **results.subsets(data, cfg)}
        found = f"AP {100 * scores.metrics['AP']:.2f}"
        if scores.explanation:
            say(scores.explanation)
    else:
        zipped = str(_submission(loaded, data, folder, scores))
        measured, found = {"metrics": {}, "submission": zipped}, f"submission {zipped}"
    problems = list(data.problems)  # images may turn out unreadable while they are tested
    result = {**facts, "problems": problems, "status": "done", **measured, **extra, "finished": results.now()}
    scales = ", ".join(f"{s:g}" for s in cfg.data.test_scales)
    say(
        f"{cfg.title or cfg.name} on {cfg.data.name}: {found}, boxes {data.box_source}, "
        f"flip {'yes' if cfg.test.flip else 'no'}, scales {scales}, OKS area {cfg.data.oks_area}"
    )
    results.write(folder, result)
    return {**(read_result(folder) or result), "dir": str(folder)}


def _submission(loaded: Loaded, data: Any, folder: Path, scores: Scores) -> Path:
    """The zip for the evaluation server of a set without public labels."""
    cfg = loaded.cfg
    images = [image["id"] for image in data.ground_truth()["images"]]
    name = re.sub(r"[^A-Za-z0-9.]+", "-", cfg.title or cfg.name).strip("-.")
    return write_zip(scores.results, images, folder, name, joints=cfg.joint_set().k)
