"""Published checkpoints: parity with the fixtures, names of several code bases, refusals, evaluation."""

from __future__ import annotations

import json
import pickle
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from published import filled, picture, relative_error
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from repose.__main__ import main
from repose.engine import checkpoint as ckpt
from repose.engine.setup import build_module
from repose.errors import UserError
from repose.field import weights
from repose.field.weights import MODELS, Published, convert, convert_file, experiment_of, read_published, sha256

TINY = replace(MODELS["simplebaseline-r50"], settings=("scale=smoke",))


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Published:
    """SimpleBaseline at smoke as a published model."""
    monkeypatch.setitem(MODELS, "tiny", TINY)
    return TINY


def on_meta(model: Published) -> dict[str, Tensor]:
    """Names and shapes of our network: no numbers are drawn."""
    with torch.device("meta"):
        return build_module(experiment_of(model)).state_dict()


def published_names(model: Published, seed: int = 0) -> dict[str, Tensor]:
    """A random state dict of a model with its published names."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, tensor in on_meta(model).items():
        rule = next(r for r in model.rules if re.match(r.ours, name))
        value = torch.zeros((), dtype=torch.int64)
        if tensor.is_floating_point():
            value = torch.rand(tensor.shape, generator=generator) + 0.5
        if rule.shape == "squeeze" and tensor.ndim == 2:
            value = value[..., None]
        found[re.sub(rule.ours, rule.theirs, name, count=1)] = value
    return found


def network(model: str, folder: Path) -> nn.Module:
    """Our network with the fixture's weights, converted."""
    return loaded_with(filled(folder, model), MODELS[model])


def loaded_with(theirs: dict[str, Tensor], published: Published) -> nn.Module:
    """Our network with published weights."""
    loaded = experiment_of(published)
    with torch.device("meta"):
        module = build_module(loaded)
    module.load_state_dict(convert(theirs, published, loaded, "x"), assign=True)
    return module.net.eval()


# --- parity with the published networks ----------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["simplebaseline-r50", "hrnet-w32"])
@torch.no_grad()
def test_heatmap_baselines_compute_what_mmpose_computes(model: str, shared_weights: Path) -> None:
    fixture = np.load(shared_weights / f"{model}.npz")
    net = network(model, shared_weights)
    assert relative_error(net.backbone(picture(256, 192))[-1][:, :8], fixture["feat"]) <= 1e-4
    assert relative_error(net(picture(256, 192)).heatmap_BKHW, fixture["out0"]) <= 1e-4


@pytest.mark.parametrize("model", ["pinet-ochuman", pytest.param("pinet-crowdpose", marks=pytest.mark.slow)])
@torch.no_grad()
def test_pinet_computes_what_its_release_computes(model: str, shared_weights: Path) -> None:
    fixture = np.load(shared_weights / f"{model}.npz")
    maps = network(model, shared_weights)(picture(256, 256))
    assert relative_error(maps.feature_BCHW[:, ::60], fixture["feat"]) <= 1e-4
    assert relative_error(maps.heat_BKHW, fixture["heatmap"]) <= 1e-4
    assert relative_error(maps.part_BPHW, fixture["parts"]) <= 1e-4
    assert relative_error(maps.offset_BPDHW.flatten(1, 2)[..., ::4, ::4], fixture["offset"]) <= 1e-4


@pytest.mark.parametrize("model", ["rtmpose-s", "rtmpose-m"])
@torch.no_grad()
def test_rtmpose_computes_what_mmpose_computes(model: str, shared_weights: Path) -> None:
    fixture = np.load(shared_weights / f"{model}.npz")
    net = network(model, shared_weights)
    assert relative_error(net.backbone(picture(256, 192))[-1][:, :8], fixture["feat"]) <= 1e-4
    out = net(picture(256, 192))
    assert relative_error(out.x_BKX, fixture["out0"]) <= 1e-4
    assert relative_error(out.y_BKY, fixture["out1"]) <= 1e-4


def test_a_swapped_tensor_breaks_parity(shared_weights: Path) -> None:
    """The parity test can fail: two weights of the same shape exchanged are noticed."""
    model = "simplebaseline-r50"
    state = filled(shared_weights, model)
    a, b = "backbone.layer1.1.conv2.weight", "backbone.layer1.2.conv2.weight"
    state[a], state[b] = state[b], state[a]
    with torch.no_grad():
        out = loaded_with(state, MODELS[model])(picture(256, 192)).heatmap_BKHW
    assert relative_error(out, np.load(shared_weights / f"{model}.npz")["out0"]) > 1e-2


# --- names ---------------------------------------------------------------------------------------------------------


def test_other_code_bases_names_give_the_same_weights() -> None:
    model = replace(TINY, bare=True)
    loaded = experiment_of(model)
    modern = published_names(model)
    wanted = convert(modern, model, loaded, "x")
    older = {n.replace("head.", "keypoint_head."): t for n, t in modern.items()}
    bare = {n.removeprefix("backbone.").removeprefix("head."): t for n, t in modern.items()}
    parallel = {f"module.{n}": t for n, t in bare.items() if not n.endswith("num_batches_tracked")}
    extra = {**modern, "data_preprocessor.mean": torch.zeros(3, 1, 1)}
    for theirs in (older, bare, parallel, extra):
        got = convert(theirs, model, loaded, "x")
        assert got.keys() == wanted.keys()
        assert all(torch.equal(got[n], wanted[n]) for n in wanted if not n.endswith("num_batches_tracked"))


def test_bare_files_of_simplebaseline_are_refused_because_of_their_colours() -> None:
    bare = {n.removeprefix("backbone.").removeprefix("head."): t for n, t in published_names(TINY).items()}
    with pytest.raises(UserError, match=r"x\.pth: .*BGR"):
        convert(bare, TINY, experiment_of(TINY), "x.pth")


@pytest.mark.parametrize(
    "model",  # those of a parity test are covered there; here the others, and in test-all every one
    [pytest.param(name, marks=[] if name in ("rtmpose-t", "rtmpose-l") else pytest.mark.slow) for name in MODELS],
)
def test_every_model_names_every_tensor_once(model: str) -> None:
    """Rules are complete and no two tensors get the same published name; squeezed shapes come back."""
    published = MODELS[model]
    theirs = published_names(published)
    loaded = experiment_of(published)
    here = on_meta(published)
    assert len(theirs) == len(here)
    got = convert(theirs, published, loaded, "x")
    assert {n: t.shape for n, t in got.items()} == {n: t.shape for n, t in here.items()}


# --- refusals ------------------------------------------------------------------------------------------------------


def test_a_file_that_does_not_fit_names_the_first_tensor(tmp_path: Path, tiny: Published) -> None:
    state = published_names(tiny)
    file = tmp_path / "x.pth"

    def refused(changed: dict[str, Tensor]) -> str:
        torch.save({"state_dict": changed}, file)
        with pytest.raises(UserError) as error:
            convert_file(file, "tiny")
        assert "\n" not in str(error.value)
        return str(error.value)

    other = {**state, "head.final_layer.weight": torch.zeros(14, 32, 1, 1)}
    assert "head.final_layer.weight is 17x32x1x1 here and 14x32x1x1 there" in refused(other)
    short = {n: t for n, t in state.items() if n != "backbone.bn1.weight"}
    assert "backbone.bn1.weight is 32 here and missing there" in refused(short)
    assert "backbone.extra is 3 there and missing here" in refused({**state, "backbone.extra": torch.zeros(3)})
    assert not (tmp_path / "x.safetensors").exists()


class Trap:
    """Pickles into a call, as a malicious file would."""

    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("run-by-pickle"),))


def test_only_tensors_and_plain_values_are_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "x.pth"
    # mmpose's files describe their data set, with numpy arrays and numbers
    meta = {"sigmas": np.ones(17, np.float32), "ap": np.float64(0.7), "names": np.array(["nose", "eye"])}
    torch.save({"meta": meta, "state_dict": {"a": torch.ones(2)}}, file)
    assert torch.equal(read_published(file)["a"], torch.ones(2))
    text = file.read_bytes()
    torch.save({"state_dict": {"a": torch.ones(2)}, "hook": Trap()}, file)
    with pytest.raises(UserError, match="holds Python objects"):
        read_published(file)
    assert not Path("run-by-pickle").exists()
    file.write_bytes(text[: len(text) // 2])
    with pytest.raises(UserError, match="damaged"):
        read_published(file)
    file.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(UserError):
        read_published(file)
    torch.save({"meta": 1}, file)
    with pytest.raises(UserError, match="holds no tensors"):
        read_published(file)


def test_numpy_1_files_are_read(tmp_path: Path) -> None:
    """Files of 2022 name numpy.core, which numpy 2 renamed."""
    file = tmp_path / "x.pth"
    state = {"state_dict": {"a": torch.ones(2)}, "meta": np.ones(3)}
    torch.save(state, file, _use_new_zipfile_serialization=False)
    text = file.read_bytes()
    assert b"numpy._core.multiarray" in text
    file.write_bytes(text.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert torch.equal(read_published(file)["a"], torch.ones(2))


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["x.pth"], "which model is x.pth? give model="),
        (["x.pth", "model=hrnet-w31"], "did you mean 'hrnet-w32'?"),
        (["x.pth", "model=zzz"], "there are: pinet-ochuman"),
        (["model=hrnet-w32"], "give one FILE"),
        (["x.pth", "model=hrnet-w32", "scale=mini"], "unknown setting 'scale'"),
        (["x.pth", "model=hrnet-w32", "data.root=x"], "unknown setting 'data'"),
        (["x.pth", "model=hrnet-w32"], "x.pth: no such checkpoint"),
        (["x.pth", "model=hrnet-w32", "--out", "y.pth"], "written as safetensors; name it y.safetensors"),
        (["x.safetensors", "model=hrnet-w32", "--out", "x.safetensors"], "published file itself"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], part: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "experiments").symlink_to(Path("experiments").resolve())
    monkeypatch.chdir(tmp_path)
    assert main(["weights", *words]) == 2
    out, err = capsys.readouterr()
    assert part in err and err.count("\n") == 1 and not out


def test_without_words_the_models_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(MODELS)


# --- what is written -----------------------------------------------------------------------------------------------


def test_the_written_file_says_what_it_is(tmp_path: Path, tiny: Published) -> None:
    file = tmp_path / "x.pth"
    torch.save({"state_dict": published_names(tiny)}, file)
    out = convert_file(file, "tiny")
    assert out == tmp_path / "x.safetensors"
    with safe_open(out, framework="np") as found:
        note = json.loads(found.metadata()["repose"])
    assert note["paper"] == "simplebaseline" and note["skeleton"]["name"] == "coco17"
    assert note["config"]["model"]["backbone"]["name"] == "test_resnet"
    assert note["published"] == {
        "model": "tiny",
        "experiment": "baselines/simplebaseline-r50",
        "settings": ["scale=smoke"],
        "source": "x.pth",
        "source_sha256": sha256(file),
    }
    again = convert_file(file, "tiny", tmp_path / "y.safetensors")
    assert again.read_bytes() == out.read_bytes(), "the same file gives the same bytes"
    with pytest.raises(UserError, match="a file of repose already"):
        convert_file(out, "tiny", tmp_path / "z.safetensors")


def test_published_safetensors_are_read_too(tmp_path: Path, tiny: Published) -> None:
    file = tmp_path / "x.safetensors"
    save_file(published_names(tiny), file)
    out = convert_file(file, "tiny")
    assert out.name == "x-repose.safetensors" and len(load_file(out)) == len(load_file(file))
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match="damaged checkpoint"):
        convert_file(file, "tiny", tmp_path / "y.safetensors")


def test_init_and_checkpoint_take_it(
    tmp_path: Path, tiny: Published, synthetic_smoke: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`repose test EXPERIMENT checkpoint=`, `repose test checkpoint=` alone, and `init=`."""
    file = tmp_path / "x.pth"
    theirs = published_names(tiny)
    torch.save({"state_dict": theirs}, file)
    out = convert_file(file, "tiny")
    module = build_module(experiment_of(tiny))
    assert ckpt.init_from(module, out) == []
    assert torch.equal(module.net.last.weight, theirs["head.final_layer.weight"])

    data = [f"data.root={synthetic_smoke}", "data.synthetic=null", "log.progress=false"]
    named = [tiny.experiment, "scale=smoke", f"checkpoint={out}", f"log.dir={tmp_path / 'a'}", *data]
    assert main(["test", *named, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["evaluated"]["weights"] == "published" and result["evaluated"]["checkpoint"] == str(out)
    assert main(["test", f"checkpoint={out}", f"log.dir={tmp_path / 'b'}", *data, "--json"]) == 0
    alone = json.loads(capsys.readouterr().out)
    assert alone["metrics"] == result["metrics"] and alone["identity"] == result["identity"]


def test_a_missing_legacy_switch_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    loaded = experiment_of(TINY)
    note = {**ckpt.describe(loaded.cfg), "published": {"settings": ["decode.refine=none", "loss.sigma=2"]}}
    module = build_module(loaded)
    saved = {"state_dict": module.state_dict(), ckpt.KEY: note}
    ckpt.load_weights(module, saved, tmp_path / "x.safetensors")
    said = capfd.readouterr().err
    assert "trained with decode.refine=none; this experiment has decode.refine=parabola" in said
    assert "sigma" not in said


# --- a table's published row ---------------------------------------------------------------------------------------

TABLE = """\
title: Published
source: Table 9
experiment: baselines/simplebaseline-r50
protocol: {{data: coco-val2017, boxes: detections, flip: true}}
metrics: [AP]
rows:
  theirs: {{label: theirs, kind: published, paper: {{AP: 70.4}}, checkpoint: {file}, sha256: {sum}, source: their site}}
"""


def test_a_published_row_is_evaluated(
    tmp_path: Path, tiny: Published, synthetic_smoke: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from repose.tables.cells import cells, choose
    from repose.tables.plan import check_published, command_of
    from repose.tables.schema import load_table
    from repose.tables.state import changed_since, judge

    (tmp_path / "experiments").symlink_to(Path("experiments").resolve())
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "x.pth"
    torch.save({"state_dict": published_names(tiny)}, file)
    converted = convert_file(file, "tiny")
    path = tmp_path / "here" / "simplebaseline" / "tables" / "table-9.yaml"
    path.parent.mkdir(parents=True)
    data = [f"data.root={synthetic_smoke}", "data.synthetic=null", "log.progress=false"]
    choice = choose(["scale=smoke", *data])

    def cell_for(total: str):
        path.write_text(TABLE.format(file=converted, sum=total))
        found = cells(load_table(path), choice)["theirs"]
        check_published(found)
        return found[0]

    with pytest.raises(UserError, match=r"x\.safetensors: sha256"):
        cell_for("0" * 64)
    cell_for(sha256(converted))  # its own sum, or that of the published file
    cell = cell_for(sha256(file))
    assert judge(cell, changed_since()).status == "not run"
    assert main(command_of(cell)) == 0
    state = judge(cell, changed_since())
    assert state.status == "measured" and state.result is not None
    assert state.result["evaluated"]["checkpoint"] == str(converted)
    assert weights.sha256(converted) != weights.sha256(file)
