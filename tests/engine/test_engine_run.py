import json
import signal
import sys

import pytest
import torch
from toy import ToyData, ToyModule, loaded

from repose.engine import provenance, run
from repose.engine.layout import plan
from repose.errors import UserError
from repose.tables.state import changed_since

EMA = ("optim.ema.decay=0.9", "optim.ema.ramp=5", "optim.schedule=flat_cosine", "optim.warmup_steps=2")


def _train(folder, *arguments):
    experiment = loaded(folder, *arguments)
    data = ToyData(experiment.cfg, plan(experiment.cfg.train).device_batch)
    return run.train(experiment, data), data


def _last(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def _same(a, b, path=""):
    """Names of what differs between two nested states."""
    if isinstance(a, torch.Tensor):
        return [] if torch.equal(a, b) else [path]
    if isinstance(a, dict):
        keys = [f"{path}: keys"] if a.keys() != b.keys() else []
        return keys + [d for k in a.keys() & b.keys() for d in _same(a[k], b[k], f"{path}.{k}")]
    if isinstance(a, (list, tuple)):
        return [d for i, (x, y) in enumerate(zip(a, b, strict=True)) for d in _same(x, y, f"{path}[{i}]")]
    return [] if a == b or (a != a and b != b) else [f"{path}: {a} and {b}"]


def _assert_same_training(a, b):
    one, two = _last(a), _last(b)
    assert one["global_step"] == two["global_step"] and one["epoch"] == two["epoch"]
    for key in ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers"):
        if key in one:
            assert _same(one[key], two[key], key) == []
    assert _same(one["repose"]["metrics"], two["repose"]["metrics"]) == []


def _steps(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(r["kind"], r["step"]) for r in rows]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run: 4 epochs of 3 steps, evaluated after epochs 2 and 4."""
    folder = tmp_path_factory.mktemp("whole")
    result, data = _train(folder, *EMA, "train.epochs=4", "train.val_every=2")
    return folder, result, data


def test_a_run_leaves_everything_behind(whole):
    folder, result, _ = whole
    assert result["status"] == "done" and result["steps"] == 12 and result["dir"] == str(folder)
    on_disk = json.loads((folder / "result.json").read_text())
    assert on_disk == {k: v for k, v in result.items() if k != "dir"}
    for name in ("config.yaml", "metrics.jsonl", "predictions.json", "checkpoints/last.ckpt", "checkpoints/best.ckpt"):
        assert (folder / name).is_file(), name
    assert [p.name for p in (folder / "pictures").iterdir()] == ["5001-5001.png"]
    assert result["metrics"]["mean_id"] == sum(range(5001, 5008)) / 7
    assert result["metrics"]["AP"] > result["metrics"]["coarse_AP"] == 0  # the toy's coarse points are 100 px off
    assert result["evaluated"]["weights"] == "ema" and result["init"] == "scratch"
    assert result["lr"] == 3e-2 and result["global_batch"] == 8 and result["box_source"] == "gt"
    train = [("train", s) for s in range(1, 13)]
    assert _steps(folder) == [*train[:6], ("test", 6), *train[6:], ("test", 12)]


@pytest.mark.parametrize("keep", ["best", "last"])
def test_which_evaluation_is_reported(tmp_path, keep, capsys):
    """A learning rate that ruins the network makes the first evaluation the best one."""
    ruin = ("optim.base_lr=1e3", "optim.clip_norm=null", "optim.warmup_steps=0", "train.epochs=3", "train.val_every=1")
    result, _ = _train(tmp_path, *ruin, f"train.keep={keep}")
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    tests = [r["AP"] for r in rows if r["kind"] == "test"]
    assert len(tests) == 3
    chosen = tests.index(max(tests)) if keep == "best" else 2
    assert result["evaluated"]["epoch"] == chosen + 1 and result["metrics"]["AP"] == tests[chosen]
    assert result["evaluated"]["chosen_of"] == (3 if keep == "best" else 1)
    assert result["last"]["metrics"]["AP"] == tests[2]
    saved = torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)
    assert saved["repose"]["evaluated_step"] == result["evaluated"]["step"] == 3 * (chosen + 1)
    assert ("(best" in capsys.readouterr().err) == (keep == "best")


def test_a_run_that_is_done_is_returned_at_once(whole, capsys):
    folder, result, _ = whole
    again, data = _train(folder, *EMA, "train.epochs=4", "train.val_every=2")
    assert again == result and data.seen == [] and "done already" in capsys.readouterr().err
    with pytest.raises(UserError, match="finished run of other settings"):
        _train(folder, "train.epochs=1")


def test_checkpoint_says_what_it_holds(whole):
    folder, result, _ = whole
    saved = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    note = saved["repose"]
    assert note["weights"] == "ema" and note["metrics"]["AP"] == result["metrics"]["AP"]
    assert note["step"] == result["evaluated"]["step"] == note["evaluated_step"]
    assert not torch.equal(saved["state_dict"]["net.head.weight"], saved["current_model_state"]["net.head.weight"])


@pytest.mark.parametrize("stop", [1, 2, 5, 11, *(pytest.param(n, marks=pytest.mark.slow) for n in (0, 3, 4, 6, 7, 8))])
def test_stopped_by_sigterm_and_resumed_bit_for_bit(whole, tmp_path, stop):
    """The signal comes within step `stop` + 1: mid-epoch, at an epoch's end without (2) and with evaluation (5, 11)."""
    whole_folder, _, whole_data = whole
    settings = (*EMA, "train.epochs=4", "train.val_every=2")
    with pytest.raises(SystemExit) as left:
        _train(tmp_path, *settings, f"log.signal_at={stop}")
    assert left.value.code == 143
    assert json.loads((tmp_path / "result.json").read_text())["status"] == "running"
    saved = _last(tmp_path)["repose"]
    assert saved["step"] == stop + 1 and saved["samples"] == 8 * (stop + 1)
    result, data = _train(tmp_path, *settings, "resume=auto")
    assert data.seen == whole_data.seen[8 * (stop + 1) :]
    _assert_same_training(whole_folder, tmp_path)
    assert _last(tmp_path)["repose"]["wandb_id"] == saved["wandb_id"]
    assert result["metrics"] == whole[1]["metrics"] and result["evaluated"] == whole[1]["evaluated"]
    assert _steps(tmp_path) == _steps(whole_folder)


def test_stopped_within_an_evaluation_and_resumed(whole, tmp_path):
    whole_folder, whole_result, _ = whole
    settings = (*EMA, "train.epochs=4", "train.val_every=2")
    with pytest.raises(SystemExit):
        _train(tmp_path, *settings, "log.signal_in_test=true")
    assert _last(tmp_path)["repose"]["step"] == 6 and not (tmp_path / "checkpoints" / "best.ckpt").exists()
    result, _ = _train(tmp_path, *settings, "resume=auto")
    _assert_same_training(whole_folder, tmp_path)
    assert _steps(tmp_path) == _steps(whole_folder) and result["metrics"] == whole_result["metrics"]


def test_killed_between_checkpoints_and_resumed_bit_for_bit(whole, tmp_path, monkeypatch):
    """No signal: an exception at step 5, with a checkpoint every 2 steps; steps 5 on are done again."""

    def die(self, outputs, targets):
        if self._trainer is not None and self.global_step == 5:
            raise RuntimeError("power failure")
        return {"heat": (outputs - targets).square().mean()}

    settings = (*EMA, "train.epochs=4", "train.val_every=2", "train.checkpoint_every=2")
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="power"):
        patch.setattr("toy.ToyModule.losses", die)
        _train(tmp_path, *settings)
    assert json.loads((tmp_path / "result.json").read_text())["status"] == "failed"
    assert _last(tmp_path)["repose"]["step"] == 4
    _train(tmp_path, *settings, "resume=auto")
    _assert_same_training(whole[0], tmp_path)
    assert _steps(tmp_path) == _steps(whole[0])


def test_two_runs_are_equal_and_another_seed_is_not(whole, tmp_path):
    settings = (*EMA, "train.epochs=4", "train.val_every=2")
    _train(tmp_path / "a", *settings)
    _assert_same_training(whole[0], tmp_path / "a")
    _train(tmp_path / "b", *settings, "seed=3")
    assert _same(_last(whole[0])["state_dict"], _last(tmp_path / "b")["state_dict"])


def test_accumulation_gives_the_same_step_as_the_whole_batch(tmp_path, monkeypatch):
    """Without batch norm and dropout, whose result depends on how a batch is cut."""
    monkeypatch.setattr("toy.Net", lambda k, width: torch.nn.Conv2d(3, k, 3, 2, 1))
    results = {}
    for device_batch in (8, 2):
        folder = tmp_path / str(device_batch)
        _train(folder, "optim.name=sgd", "train.epochs=1", f"train.device_batch={device_batch}")
        results[device_batch] = _last(folder)
    assert results[2]["global_step"] == results[8]["global_step"] == 3
    weight = "net.weight"
    assert torch.allclose(results[2]["state_dict"][weight], results[8]["state_dict"][weight], atol=1e-6)


def test_resume_on_another_number_of_accumulated_batches_goes_on_with_the_same_samples(tmp_path):
    _train(tmp_path / "whole", "train.epochs=2")
    with pytest.raises(SystemExit):
        _, data = _train(tmp_path / "cut", "train.epochs=2", "train.device_batch=2", "log.signal_at=3")
    result, data = _train(tmp_path / "cut", "train.epochs=2", "resume=auto")
    assert result["steps"] == 6 and [e for e, _ in data.seen] == [1] * 16
    assert _steps(tmp_path / "cut") == _steps(tmp_path / "whole")


def test_a_changed_file_makes_a_result_stale(whole, tmp_path, capsys):
    result = {k: v for k, v in whole[1].items() if k != "dir"}
    result["code_fingerprint"] = {**result["code_fingerprint"], "engine/optim.py": "0" * 12}
    (tmp_path / "result.json").write_text(json.dumps(result))
    _train(tmp_path, *EMA, "train.epochs=4", "train.val_every=2")
    assert "stale: engine/optim.py changed" in capsys.readouterr().err


def test_an_unfinished_run_is_not_overwritten(tmp_path):
    with pytest.raises(SystemExit):
        _train(tmp_path, "log.signal_at=0")
    with pytest.raises(UserError, match="resume=auto"):
        _train(tmp_path)


@pytest.mark.parametrize(("name", "code"), [(signal.SIGINT, 130), (signal.SIGUSR1, 138)])
def test_other_signals(tmp_path, monkeypatch, name, code):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    before = signal.getsignal(name)
    with pytest.raises(SystemExit) as left:
        _train(tmp_path, "log.signal_at=1", f"log.signal={int(name)}")
    assert left.value.code == code and _last(tmp_path)["repose"]["step"] == 2
    assert signal.getsignal(name) == before


def test_sigusr1_requeues_the_slurm_job(tmp_path, monkeypatch):
    tool = tmp_path / "bin" / "scontrol"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent), prepend=":")
    monkeypatch.setenv("SLURM_JOB_ID", "123")
    from repose.engine.signals import Signals

    signals = Signals()
    signals.received = signal.SIGUSR1
    assert signals.exit_code() == 0
    assert (tmp_path / "asked").read_text() == "requeue 123\n"


def test_a_loss_that_is_not_finite_names_the_images_and_saves_the_batch(tmp_path):
    with pytest.raises(UserError, match=r"not finite \(heat=nan\) on images \d+, ") as caught:
        _train(tmp_path, "loss.break_at=1", "train.checkpoint_every=1")
    saved = torch.load(tmp_path / "nan_batch.pt", weights_only=True)
    ids = saved["batch"]["image_id_B"].tolist()
    assert len(ids) == 8 and all(str(i) in str(caught.value) for i in ids)
    assert json.loads((tmp_path / "result.json").read_text())["status"] == "failed"
    assert _last(tmp_path)["repose"]["step"] == 1
    assert all(torch.isfinite(t).all() for t in _last(tmp_path)["state_dict"].values())


def test_resume_with_another_model_names_the_first_mismatch(tmp_path):
    with pytest.raises(SystemExit):
        _train(tmp_path, "log.signal_at=0")
    with pytest.raises(UserError, match=r"net.body.0.weight is 4x3x3x3 here and 8x3x3x3 there"):
        _train(tmp_path, "model.width=4", "resume=auto")


def test_an_unfinished_run_of_other_settings_is_refused(tmp_path):
    """Also where its checkpoint is of a version that did not note the identity."""
    with pytest.raises(SystemExit):
        _train(tmp_path, "log.signal_at=0")
    refused = "holds an unfinished run of other settings .*go on with those in its config.yaml, or use another log.dir"
    with pytest.raises(UserError, match=refused):
        _train(tmp_path, "optim.base_lr=0.1", "resume=auto")
    saved = _last(tmp_path)
    del saved["repose"]["identity"]
    torch.save(saved, tmp_path / "checkpoints" / "last.ckpt")
    with pytest.raises(UserError, match=refused):
        _train(tmp_path, "optim.base_lr=0.1", f"resume={tmp_path / 'checkpoints' / 'last.ckpt'}")
    with pytest.raises(UserError, match=refused):  # nor in a folder of its own
        _train(tmp_path / "new", "optim.base_lr=0.1", f"resume={tmp_path}")
    assert _train(tmp_path, "resume=auto")[0]["status"] == "done"


@pytest.mark.parametrize("named", ["folder", "file", "lone file"])
def test_a_run_goes_on_in_another_folder(tmp_path, named):
    """Its best evaluation comes along; that of a lone file is not here, so the best of the rest is."""
    with pytest.raises(SystemExit):
        _train(tmp_path / "a", "train.epochs=4", "log.signal_at=8")
    source = tmp_path / "a"
    if named != "folder":
        source = source / "checkpoints" / "last.ckpt"
    if named == "lone file":
        source = source.rename(tmp_path / "lone.ckpt")
    best = 1.0  # nothing later beats it
    saved = torch.load(tmp_path / "lone.ckpt" if named == "lone file" else _path(source), weights_only=True)
    key = next(k for k in saved["callbacks"] if "Keeper" in k)
    saved["callbacks"][key]["best"]["AP"] = best
    torch.save(saved, tmp_path / "lone.ckpt" if named == "lone file" else _path(source))
    result, _ = _train(tmp_path / "b", "train.epochs=4", f"resume={source}")
    assert result["status"] == "done" and (tmp_path / "b" / "predictions.json").is_file()
    assert (result["evaluated"]["epoch"] > 2) == (named == "lone file")


def _path(source):
    return source / "checkpoints" / "last.ckpt" if source.is_dir() else source


@pytest.mark.parametrize("noted", [True, False])
def test_a_run_that_is_resumed_with_other_code_stays_stale(tmp_path, monkeypatch, capsys, noted):
    """Edited, stopped again, and undone: the number is still of two codes. `noted`: the checkpoint says its code."""
    then = {"losses.py": "1", "model.py": "1"}
    edited = {"losses.py": "2", "model.py": "1"}

    def today(code, name):
        monkeypatch.setattr(provenance, "code_fingerprint", lambda *_: code)
        monkeypatch.setattr(provenance, "commit", lambda: name)

    today(then, "first")
    with pytest.raises(SystemExit):
        _train(tmp_path, "log.signal_at=0")
    if not noted:
        saved = _last(tmp_path)
        del saved["repose"]["began"]
        torch.save(saved, tmp_path / "checkpoints" / "last.ckpt")
    today(edited, "second")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        _train(tmp_path, "log.signal_at=2", "resume=auto")
    assert "resume: losses.py changed since this run began (commit first)" in capsys.readouterr().err
    today(then, "third")
    result, _ = _train(tmp_path, "resume=auto")
    assert (result["commit"], result["code_fingerprint"]) == ("first", then)
    assert [(r["commit"], r["changed"]) for r in result["resumed_with"]] == [("second", ["losses.py"]), ("third", [])]
    assert provenance.stale(result, then) == provenance.stale(result, edited) == ["losses.py"]


def test_a_run_that_is_resumed_with_other_data_keeps_those_it_began_with(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        _train(tmp_path, "log.signal_at=0")
    monkeypatch.setattr(ToyData, "fingerprint", lambda _: "other dots")
    result, _ = _train(tmp_path, "resume=auto")
    assert result["data"]["fingerprint"] == "dots"
    assert "the annotations or boxes changed since this run began" in capsys.readouterr().err


def test_a_run_that_is_resumed_with_its_own_code_is_as_any_other(tmp_path):
    with pytest.raises(SystemExit):
        _train(tmp_path, "log.signal_at=0")
    result, _ = _train(tmp_path, "resume=auto")
    assert "resumed_with" not in result


def test_test_gives_the_numbers_of_the_run_again(whole, tmp_path):
    folder, result, _ = whole
    settings = (*EMA, "train.epochs=4", "train.val_every=2")
    experiment = loaded(tmp_path / "t", *settings, f"checkpoint={folder}")
    tested = run.test(experiment, ToyData(experiment.cfg))
    assert tested["metrics"] == result["metrics"]
    assert json.loads((tmp_path / "t" / "predictions.json").read_text()) == json.loads(
        (folder / "predictions.json").read_text()
    )
    scored = loaded(tmp_path / "p", *settings, f"predictions={folder / 'predictions.json'}")
    again = run.test(scored, ToyData(scored.cfg))
    assert again["metrics"]["AP"] == pytest.approx(result["metrics"]["AP"], abs=1e-9) and again["params"] is None


def test_a_test_with_the_runs_own_settings_does_not_write_over_the_run(whole):
    folder, _, _ = whole
    before = {p: (folder / p).read_bytes() for p in ("result.json", "predictions.json", "config.yaml")}
    experiment = loaded(folder, f"checkpoint={folder}", "test.joint_threshold=0.5")
    tested = run.test(experiment, ToyData(experiment.cfg))
    assert tested["dir"].startswith(str(folder / "tests"))
    scored = loaded(folder, f"predictions={folder / 'predictions.json'}")
    assert run.test(scored, ToyData(scored.cfg))["dir"].startswith(str(folder / "tests"))
    assert before == {p: (folder / p).read_bytes() for p in before}


def test_a_test_names_the_code_it_began_with(whole, tmp_path, monkeypatch):
    """An edit while it runs is of code that did not run."""
    folder, _, _ = whole
    edits = []
    monkeypatch.setattr(provenance, "commit", lambda: f"commit {len(edits)}")

    def edited(original):
        def call(*arguments):
            edits.append("losses.py")
            return original(*arguments)

        return call

    monkeypatch.setattr("toy.ToyModule.infer", edited(ToyModule.infer))
    tested = loaded(tmp_path / "t", f"checkpoint={folder}")
    assert run.test(tested, ToyData(tested.cfg))["commit"] == "commit 0" and edits
    edits.clear()
    monkeypatch.setattr(run, "score_files", edited(run.score_files))
    scored = loaded(tmp_path / "p", f"predictions={folder / 'predictions.json'}")
    assert run.test(scored, ToyData(scored.cfg))["commit"] == "commit 0" and edits


def test_a_test_in_another_runtime_names_its_code(whole, tmp_path):
    folder, result, _ = whole
    experiment = loaded(tmp_path, f"checkpoint={folder}", "test.runtime=onnx-int8")
    tested = run.test(experiment, ToyData(experiment.cfg), deployed=lambda module, _: module)
    code = tested["code_fingerprint"]
    assert "field/export.py" in code and result["code_fingerprint"].items() <= code.items()
    assert changed_since()(experiment.cfg, {k: v for k, v in tested.items() if k != "data"}) == ""
    code["field/export.py"] = "0" * 12
    assert changed_since()(experiment.cfg, tested) == "export.py changed"


def test_test_refuses_bad_input(tmp_path):
    for arguments, message in (
        ((), "give checkpoint="),
        (("checkpoint=nowhere",), "no such file"),
        (("predictions=nowhere.json",), "no such file"),
    ):
        experiment = loaded(tmp_path, *arguments)
        with pytest.raises(UserError, match=message):
            run.test(experiment, ToyData(experiment.cfg))


@pytest.mark.parametrize(
    "debug", ["overfit", "fast", *(pytest.param(d, marks=pytest.mark.slow) for d in ("profile", "anomaly"))]
)
def test_debug_modes(tmp_path, debug):
    result, data = _train(tmp_path, f"train.debug={debug}", "train.epochs=2", "data.limit_train=16")
    assert result["debug"] == debug
    assert result["steps"] == (1 if debug == "fast" else 4)
    if debug == "overfit":
        assert len(set(data.seen)) == 8
    if debug == "profile":
        assert list(tmp_path.glob("*profile*"))


def test_wandb_offline_run_is_written(tmp_path):
    pytest.importorskip("wandb")
    _train(tmp_path, "log.wandb=offline", "train.epochs=1", "log.group=table-3")
    runs = list((tmp_path / "wandb").glob("offline-run-*"))
    assert len(runs) == 1 and list(runs[0].glob("*.wandb"))
    assert _last(tmp_path)["repose"]["wandb_id"] in runs[0].name
    assert sys.modules["wandb"].run is None
