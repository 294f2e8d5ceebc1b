import errno
import json
import os
from pathlib import Path

import pytest
import torch
from toy import PAPER, ToyModule, loaded

from repose.config import identity
from repose.engine import checkpoint as ckpt
from repose.engine import rundir
from repose.errors import UserError


def _module(folder, *arguments):
    experiment = loaded(folder, *arguments)
    return ToyModule(experiment.cfg, experiment.cfg.joint_set())


def _save(module, path, **note):
    entry = {**ckpt.describe(module.cfg), "epoch": 0, "step": 3, "weights": "raw", **note}
    ckpt.AtomicIO().save_checkpoint({"state_dict": module.state_dict(), ckpt.KEY: entry}, path)
    return path


def test_run_dir_has_the_identity(tmp_path):
    cfg = loaded("x").cfg
    assert rundir.run_dir(cfg) == Path("x")
    from dataclasses import replace

    cfg = replace(cfg, log=replace(cfg.log, dir=None, runs=str(tmp_path)))
    assert rundir.run_dir(cfg) == tmp_path / "toy" / f"toy-{identity(cfg)}"


def test_checkpoint_holds_plain_values_and_its_config_comes_back(tmp_path):
    path = _save(_module(tmp_path, "model.width=6"), tmp_path / "a.ckpt")
    saved = torch.load(path, weights_only=True)
    assert saved["repose"]["paper"] == "toy" and saved["repose"]["skeleton"]["joints"][0] == "head"
    from repose.config import load_saved

    again = load_saved(ckpt.saved_config(path), str(path), find_paper=lambda name: PAPER)
    assert again.cfg.model.width == 6 and identity(again.cfg) == identity(loaded("", "model.width=6").cfg)


def test_another_width_is_refused_with_name_and_both_shapes(tmp_path):
    path = _save(_module(tmp_path), tmp_path / "a.ckpt")
    other = _module(tmp_path, "model.width=6")
    with pytest.raises(UserError, match=r"net.body.0.weight is 6x3x3x3 here and 8x3x3x3 there"):
        ckpt.load_weights(other, ckpt.load_checkpoint(path), path)


def test_another_paper_schema_or_skeleton_is_refused(tmp_path):
    module = _module(tmp_path)
    path = _save(module, tmp_path / "a.ckpt", paper="pinet")
    with pytest.raises(UserError, match=r"a checkpoint of 'pinet', this experiment is 'toy'"):
        ckpt.load_weights(module, ckpt.load_checkpoint(path), path)
    path = _save(module, tmp_path / "b.ckpt", schema=0)
    with pytest.raises(UserError, match=r"written with schema 0, this version reads schema 1"):
        ckpt.load_checkpoint(path)
    path = _save(module, tmp_path / "c.ckpt", skeleton={"name": "x", "joints": ["nose", "b", "c", "d", "e"]})
    with pytest.raises(UserError, match=r"skeleton 'x', .*joint 0 is 'nose' there and 'head' here"):
        ckpt.load_weights(module, ckpt.load_checkpoint(path), path)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut off"])
def test_a_damaged_file_is_one_line(tmp_path, content):
    path = tmp_path / "bad.ckpt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"bad\.ckpt"):
        ckpt.load_checkpoint(path)


def test_a_checkpoint_of_somebody_else_points_to_init(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "x.pth")
    with pytest.raises(UserError, match="init="):
        ckpt.load_checkpoint(tmp_path / "x.pth")
    torch.save({"state_dict": Path("x")}, tmp_path / "y.pth")
    with pytest.raises(UserError, match="Python objects"):
        ckpt.load_checkpoint(tmp_path / "y.pth")


def test_init_lists_every_tensor_that_did_not_fit(tmp_path, capsys):
    source = _module(tmp_path)
    state = source.state_dict()
    state["net.head.weight"] = torch.zeros(7, 8, 1, 1)
    del state["net.body.1.bias"]
    torch.save({n.removeprefix("net."): t for n, t in state.items()}, tmp_path / "w.pth")
    module = _module(tmp_path)
    misses = ckpt.init_from(module, tmp_path / "w.pth")
    assert misses == [
        "net.body.1.bias (8): not in the file, keeps its initial values",
        "net.head.weight: 5x8x1x1 here, 7x8x1x1 in the file, keeps its initial values",
    ]
    printed = capsys.readouterr().err
    assert all(line in printed for line in misses) and "did NOT fit" in printed
    assert torch.equal(module.net.body[0].weight, source.net.body[0].weight)
    for one in (source, module):  # a learnt weight beside the network
        one.register_parameter("balance", torch.nn.Parameter(torch.zeros(2)))
    source.balance.data.fill_(3.0)
    torch.save(source.state_dict(), tmp_path / "own.pth")
    assert not any("balance" in line for line in ckpt.init_from(module, tmp_path / "own.pth"))
    assert module.balance.tolist() == [3.0, 3.0]
    torch.save({"a": torch.zeros(1)}, tmp_path / "none.pth")
    with pytest.raises(UserError, match="none of its 1 tensors fits"):
        ckpt.init_from(module, tmp_path / "none.pth")


def test_a_full_disk_keeps_the_previous_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    _save(_module(tmp_path), path)
    before = path.read_bytes()

    def full(value, target):
        Path(target).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match=r"No space left on device.*previous last.ckpt is kept") as caught:
        _save(_module(tmp_path), path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["last.ckpt"]

    def torchs_own(value, target):
        raise RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0\nmore")

    monkeypatch.setattr(torch, "save", torchs_own)
    with pytest.raises(UserError, match="no space left"):
        _save(_module(tmp_path), path)
    assert path.read_bytes() == before


def test_find_prefers_the_best(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        ckpt.find(str(tmp_path / "no"))
    with pytest.raises(UserError, match="train the run first"):
        ckpt.find(str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / rundir.LAST).touch()
    assert ckpt.find(str(tmp_path)) == tmp_path / rundir.LAST
    (tmp_path / rundir.BEST).touch()
    assert ckpt.find(str(tmp_path)) == tmp_path / rundir.BEST


def test_results_are_strict_json_and_folders_are_set_aside(tmp_path):
    run = tmp_path / "run"
    rundir.write_json(run / "result.json", {"metrics": {"AP_M": float("nan"), "AP": 0.5}})
    assert json.loads((run / "result.json").read_text())["metrics"] == {"AP_M": None, "AP": 0.5}
    assert rundir.set_aside(run) == tmp_path / "run.old-1" and not run.exists()
    assert rundir.read_result(run) is None
    run.mkdir()
    (run / "result.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        rundir.read_result(run)
