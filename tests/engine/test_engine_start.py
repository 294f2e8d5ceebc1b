"""`init=` by the name of an experiment."""

import shutil
from pathlib import Path

import pytest
import torch

from repose import papers
from repose.config import identity, load
from repose.engine import provenance, run
from repose.engine.layout import plan
from repose.engine.rundir import run_dir, write_json
from repose.engine.setup import build_data
from repose.engine.start import left_of, start_file, start_of
from repose.errors import UserError


def _load(*tokens):
    return load("drpnet/m", ["scale=smoke", *tokens], find_paper=papers.get)


def test_the_start_is_trained_at_the_same_scale_data_and_seed():
    loaded = _load("init=drpnet/m", "seed=5", "data=coco-lite", "model.roi.size=5", "log.runs=elsewhere")
    first = start_of(loaded)
    assert first is not None
    assert first.cfg.init is None
    assert (first.cfg.seed, first.cfg.scale, first.cfg.log.runs) == (5, "smoke", "elsewhere")
    assert first.cfg.data == loaded.cfg.data
    assert first.cfg.train.epochs == loaded.cfg.train.epochs
    assert first.cfg.model.roi.size == 7, "the start is the experiment's own model, not the row's"
    other = start_of(_load("init=drpnet/m", "seed=5", "data=coco-lite", "model.roi.size=9", "log.runs=elsewhere"))
    assert identity(other.cfg) == identity(first.cfg), "rows share it"


def test_a_start_may_have_threads_of_its_own(tmp_path):
    """It is trained while others wait, so it may use their cores; it is the same start."""
    loaded = _load("init=drpnet/m", "train.threads=1", "train.start_threads=2", f"log.runs={tmp_path}")
    first, plain = start_of(loaded), start_of(_load("init=drpnet/m", "train.threads=1"))
    assert (first.cfg.train.threads, plain.cfg.train.threads, loaded.cfg.train.threads) == (2, 1, 1)
    assert identity(first.cfg) == identity(plain.cfg)
    assert left_of(loaded) == run_dir(first.cfg) and left_of(_load()) is None
    write_json(run_dir(first.cfg) / "result.json", {"status": "done"})
    assert left_of(loaded) is None


def test_a_scale_may_train_the_start_otherwise():
    loaded = load("drpnet/m", ["scale=mini"], find_paper=papers.get)
    first = start_of(loaded)
    assert first.cfg.train.epochs > loaded.cfg.train.epochs
    assert first.cfg.optim.flat_share == 1.0  # the rows take the learning rate down
    assert loaded.cfg.optim.flat_share == 0.0
    assert first.cfg.optim.base_lr == loaded.cfg.optim.base_lr
    assert "experiments/scales/mini-start.yaml" in provenance.code_fingerprint("drpnet", "drpnet/m", "mini")


def test_a_file_is_no_experiment(tmp_path):
    file = tmp_path / "weights.ckpt"
    file.write_bytes(b"")
    assert start_file(str(file)) is None
    assert start_of(_load(f"init={file}")) is None
    assert start_of(_load()) is None


def test_neither_file_nor_experiment_is_one_line():
    with pytest.raises(UserError, match=r"init=drpnet/n: no such file, and no experiment .*did you mean 'drpnet/"):
        start_of(_load("init=drpnet/n"))


def test_a_changed_start_makes_its_runs_stale(tmp_path, monkeypatch):
    then = {"code_fingerprint": provenance.code_fingerprint("drpnet", "drpnet/m")}
    assert provenance.stale(then, provenance.code_fingerprint("drpnet", "drpnet/m")) == []
    changed = tmp_path / "drpnet" / "m.yaml"
    changed.parent.mkdir()
    changed.write_text("paper: drpnet\nname: other\n")
    monkeypatch.setenv("REPOSE_EXPERIMENTS", str(tmp_path))
    assert provenance.stale(then, provenance.code_fingerprint("drpnet", "drpnet/m")) == ["experiments/drpnet/m.yaml"]


@pytest.mark.parametrize("changed", ["nothing", "data", "code", "drawn anew"])
def test_a_start_of_other_code_or_data_is_set_aside_and_trained_anew(
    synthetic_smoke, tmp_path, monkeypatch, capsys, changed
):
    """`drawn anew`: a drawn set that is not here when the start is looked at is drawn first, and is the same again."""
    where = (f"log.runs={tmp_path / 'runs'}", "data.workers=1", "init=drpnet/m")
    if changed == "drawn anew":
        loaded = _load(*where, f"data.root={tmp_path / 'set'}")
    else:
        shutil.copytree(synthetic_smoke, tmp_path / "set")
        loaded = _load(*where, f"data.root={tmp_path / 'set'}", "data.synthetic=None")
    first = start_of(loaded)
    data = build_data(first.cfg, plan(first.cfg.train))
    data.prepare_data()
    folder = run_dir(first.cfg)
    code = provenance.code_fingerprint("drpnet")
    then = {"status": "done", "code_fingerprint": code, "data": {"fingerprint": data.fingerprint()}}
    write_json(folder / "result.json", then)
    if changed == "data":
        with (data.root / first.cfg.data.train_json).open("a") as annotations:
            annotations.write("\n")
    if changed == "code":
        write_json(folder / "result.json", {**then, "code_fingerprint": {**code, "geometry.py": "0" * 12}})
    if changed == "drawn anew":
        shutil.rmtree(data.root)
    monkeypatch.setattr(run, "train", lambda one: {"dir": str(run_dir(one.cfg))})
    assert run._init_file(loaded) == folder / "checkpoints" / "best.ckpt"
    anew = changed in ("data", "code")
    assert folder.with_name(f"{folder.name}.old-1").is_dir() == anew
    assert folder.is_dir() != anew
    why = {"data": "the annotations or boxes of synthetic changed", "code": "geometry.py changed"}.get(changed)
    assert (f"init=drpnet/m: {why} since it was trained" in capsys.readouterr().err) == anew


@pytest.mark.slow
def test_two_runs_share_one_start_and_begin_with_its_weights(synthetic_smoke, tmp_path):
    where = (f"data.root={synthetic_smoke}", "data.synthetic=None", f"log.runs={tmp_path}", "log.progress=false")
    size = ("optim.ema.decay=None", "optim.base_lr=0.0", "init=drpnet/m")  # a learning rate of 0 keeps the start
    five = run.train(_load(*where, *size, "model.roi.size=5"))
    nine = run.train(_load(*where, *size, "model.roi.size=9"))
    assert five["init"] == nine["init"] == "drpnet/m trained first"
    runs = sorted(p for p in (tmp_path / "drpnet").iterdir() if (p / "result.json").is_file())
    assert len(runs) == 3, "the start was trained once"
    (start,) = (p for p in runs if str(p) not in (five["dir"], nine["dir"]))

    def weights(folder):
        state = torch.load(Path(folder) / "checkpoints/best.ckpt", weights_only=True)["state_dict"]
        return {n: t for n, t in state.items() if n.endswith("weight") and t.ndim > 1}

    first = weights(start)
    for result in (five, nine):
        mine = weights(result["dir"])
        assert all(torch.equal(first[n], mine[n]) for n in first)
