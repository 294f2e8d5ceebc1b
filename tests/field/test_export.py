"""Exported networks: equal to torch, the same poses through the same code, int8, the note, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("onnx", reason="the extra `export` is not installed")
pytest.importorskip("onnxscript", reason="the extra `export` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")

from repose import papers
from repose.__main__ import main
from repose.config import load
from repose.engine.checkpoint import KEY, describe
from repose.engine.setup import build_module
from repose.errors import UserError
from repose.field import export as exporting
from repose.field.export import TOLERANCE, cut, open_exported, read_note
from repose.field.export_options import ExportOptions
from repose.field.model import open_checkpoint
from repose.field.onnx_session import open_session

sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))
from drawn_batch import drawn_batch

SEEN = {  # settings with which an untrained network finds people
    "pinet": ["decode.threshold=-1.0"],
}
FAST = ["drpnet/m", "baselines/simplebaseline-r50", "kdc/r101"]
SLOW = [
    "baselines/rtmpose-m",
    "pinet/ochuman",
    "baselines/dekr",
    "cganet/coco",
    "cganet/separated",
    "idgroup/mobilenetv3",
    "baselines/hrnet-w32",
]
REFUSED = {"baselines/maskrcnn": "Mask R-CNN is no ONNX graph here"}
WORDS = ["scale=smoke", "train.precision=32"]


def write_checkpoint(experiment: str, folder: Path, *words: str) -> Path:
    """A checkpoint of random weights whose maps have some contrast."""
    loaded = load(experiment, [*WORDS, *words], find_paper=papers.get)
    module = build_module(loaded)
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in module.parameters():  # heads start near zero; a tie would be decided by rounding
            if p.ndim > 1:
                p.add_(0.05 * p.std().nan_to_num(0.0).clamp(min=0.02) * torch.randn(p.shape, generator=draws))
    note = {**describe(loaded.cfg), "epoch": 0, "step": 0, "samples": 0, "accumulate": 1, "world": 1, "metrics": {}}
    path = folder / "best.ckpt"
    torch.save({"state_dict": module.state_dict(), KEY: {**note, "weights": "raw"}}, path)
    return path


def test_every_method_is_tried():
    tried = {load(e, ["scale=smoke"], find_paper=papers.get).cfg.paper for e in [*FAST, *SLOW, *REFUSED]}
    assert tried == set(papers.PAPERS)


@pytest.mark.parametrize("experiment", [*FAST, *(pytest.param(e, marks=pytest.mark.slow) for e in SLOW)])
def test_the_file_gives_the_checkpoints_poses(experiment, tmp_path):
    """Parity at batch 1 and 5, then infer and decode with both views: the same people."""
    path = write_checkpoint(experiment, tmp_path, "test.flip=true")
    paper = load(experiment, ["scale=smoke"], find_paper=papers.get).cfg.paper
    opened = open_checkpoint(path, SEEN.get(paper, []))
    report = exporting.export(opened, ExportOptions())
    assert report.path == tmp_path / "best.onnx" and set(report.parity) == {1, 5}
    assert max(report.parity.values()) <= TOLERANCE and report.equal
    again = open_exported(report.path)
    assert again.loaded.cfg == opened.loaded.cfg
    cfg, skeleton = opened.loaded.cfg, opened.module.skeleton
    assert cfg.test.flip
    batch = drawn_batch(skeleton, 3, cfg.data.input_size, 1 if cfg.data.view == "person" else 2)
    with torch.no_grad():
        maps = [m.infer(m.views([batch])) for m in (opened.module, again.module)]
        wanted, given = opened.module.evaluate([batch]), again.module.evaluate([batch])
    if paper == "idgroup":  # rounding decides the order of an untrained network's cells, and so its clusters
        cells = [sorted(zip(m.owner_P.tolist(), *m.cell_P2.T.tolist(), strict=True)) for m in maps]
        assert cells[0] == cells[1] and cells[0]
        return
    people = 0
    for a, b in zip(*map(_tensors, maps), strict=True):
        torch.testing.assert_close(b, a, atol=TOLERANCE, rtol=1e-4)
    for a, b in zip(wanted.poses_img, given.poses_img, strict=True):
        assert a.n == b.n
        people += a.n
        np.testing.assert_allclose(b.joint_NK3.numpy(), a.joint_NK3.numpy(), atol=0.02)
        np.testing.assert_allclose(b.score_N.numpy(), a.score_N.numpy(), atol=1e-3)
    assert people or paper == "kdc"  # whose untrained maps are below every threshold


def _tensors(value):
    """Every tensor of what `infer` returned; integers (which cells are peaks) too."""
    if isinstance(value, torch.Tensor):
        return [value]
    if dataclasses.is_dataclass(value):
        value = [getattr(value, f.name) for f in dataclasses.fields(value)]
    return [t for v in value for t in _tensors(v)] if isinstance(value, list | tuple) else []


@pytest.mark.parametrize(("experiment", "reason"), REFUSED.items())
def test_what_is_no_graph_says_why_in_one_line(experiment, reason, tmp_path, capsys):
    path = write_checkpoint(experiment, tmp_path)
    assert main(["export", f"checkpoint={path}"]) == 2
    error = capsys.readouterr().err
    assert reason in error and error.count("\n") == 1
    assert not (tmp_path / "best.onnx").exists()


@pytest.fixture(scope="module")
def drp(tmp_path_factory):
    """A small DRP-Net checkpoint, its float32 file and its int8 file, as the command line writes them."""
    folder = tmp_path_factory.mktemp("export")
    path = write_checkpoint("drpnet/m", folder, "data.limit_val=4")
    return path


def test_int8_from_the_command_line(drp, capsys):
    """The file is written, smaller, loads, and both APs are of the same data; --json prints one object."""
    pytest.importorskip("onnxruntime.quantization")
    assert main(["export", f"checkpoint={drp}", "format=onnx-int8", "crops=6", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["form"] == "onnx-int8" and said["crops"] == 6 and said["equal"] is True
    assert said["size_mb"] < 0.6 * said["size_fp32_mb"]
    assert set(said["ap"]) == {"torch", "onnx", "onnx-int8"} and said["ap"]["onnx"] == said["ap"]["torch"]
    assert said["data"] == "synthetic, first 4 images"
    file = drp.with_name("best-int8.onnx")
    session = open_session(file, "cpu")
    note = read_note(session)
    assert note["format"] == "onnx-int8" and note["source"] == "best.ckpt" and note["skeleton"]["name"] == "coco17"
    assert note["protocol"]["mean_rgb"] == [123.675, 116.28, 103.53] and note["protocol"]["flip"] is True
    opened = open_exported(file)
    batch = drawn_batch(opened.module.skeleton, 2, opened.loaded.cfg.data.input_size)
    with torch.no_grad():
        poses = opened.module.evaluate([batch]).poses_img
    assert [p.n for p in poses] == [1, 1] and all(torch.isfinite(p.joint_NK3).all() for p in poses)
    kinds = _operators(file)
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds


def test_int8_leaves_coordinates_in_float32(drp, tmp_path):
    """Only what feeds a convolution is quantised: no pooling, no linear layer, no region."""
    import onnx

    opened = open_checkpoint(drp)
    report = exporting.export(
        opened, dataclasses.replace(ExportOptions(), format="onnx-int8", crops=2, ap=False), tmp_path / "x.onnx"
    )
    assert report.ap == {}
    graph = onnx.load(report.path).graph
    maker = {name: node for node in graph.node for name in node.output}
    readers: dict[str, set[str]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, set()).add(node.op_type)
    weights = {tensor.name for tensor in graph.initializer}
    quantised = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    assert quantised
    for node in quantised:  # what a convolution gives, or what one takes
        source = maker[node.input[0]].op_type if node.input[0] in maker else "input"
        after = {op for n in graph.node if n.input and n.input[0] == node.output[0] for op in readers[n.output[0]]}
        assert source == "Conv" or "Conv" in after, (node.name, source, after)
    linear = [node for node in graph.node if node.op_type in ("Gemm", "MatMul")]
    regions = [node for node in graph.node if node.op_type == "RoiAlign"]
    assert linear and all(node.input[1] in weights for node in linear)
    assert regions and all(maker[name].op_type != "DequantizeLinear" for n in regions for name in n.input[1:])


def _operators(path: Path) -> set[str]:
    import onnx

    return {node.op_type for node in onnx.load(path).graph.node}


def test_another_models_file_is_refused(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    node = helper.make_node("Relu", ["x"], ["y"])
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3]) for n in ("x", "y")]
    graph = helper.make_graph([node], "other", ports[:1], ports[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    file = tmp_path / "other.onnx"
    onnx.save(model, file)
    with pytest.raises(UserError, match="an ONNX file of another model"):
        open_exported(file)
    entry = onnx.StringStringEntryProto(key=KEY, value=json.dumps({"config": {"paper": "nobody"}, "schema": 1}))
    model.metadata_props.append(entry)
    onnx.save(model, file)
    with pytest.raises(UserError, match="nobody"):
        open_exported(file)


def test_settings_that_change_the_network_are_refused(drp, capsys):
    file = exporting.export(open_checkpoint(drp), ExportOptions(), drp.with_name("plain.onnx")).path
    with pytest.raises(UserError, match=r"its network has model\.head\.enabled=True, not False"):
        open_exported(file, ["model.head.enabled=false"])
    with pytest.raises(UserError, match=r"its network has model\.roi\.size=7, not 9"):
        open_exported(file, ["model.roi.size=9"])
    with pytest.raises(UserError, match="made for inputs of 96x72"):
        open_exported(file, ["data.input_size=[128,96]"])
    with pytest.raises(UserError, match="exported already"):
        exporting.export(dataclasses.replace(open_checkpoint(drp), path=file), ExportOptions())
    assert main(["test", f"checkpoint={file}"]) == 2
    assert "test.runtime=onnx" in capsys.readouterr().err
    # a setting of the test alone is fine
    assert not open_exported(file, ["test.flip=false"]).loaded.cfg.test.flip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give checkpoint=FILE"),
        (["runs/x"], "settings are key=value, not 'runs/x'; give checkpoint=runs/x"),
        (["checkpoint=x", "formt=onnx"], "did you mean 'format'?"),
        (["checkpoint=x", "format=trt"], "format"),
        (["checkpoint=x", "crops=0"], "crops=0: give a whole number from 1 on"),
        (["checkpoint=nowhere"], "checkpoint=nowhere: no such file or folder"),
    ],
)
def test_mistakes_on_the_command_line(words, said, capsys):
    assert main(["export", *words]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_a_part_of_a_file_that_needs_more_is_refused(drp, tmp_path):
    from repose.engine.graph import Stage

    file = drp.with_name("plain.onnx")
    if not file.is_file():
        exporting.export(open_checkpoint(drp), ExportOptions(), file)
    with pytest.raises(UserError, match="cannot be computed from"):
        cut(file, tmp_path / "part.onnx", Stage(("centre_BK2",), ("heatmap_BKHW",)))


def test_a_test_runs_the_exported_network(drp, tmp_path, capsys):
    """`test.runtime` exports the network first, and gives torch's AP; a test in torch keeps its identity."""
    from repose.config import identity

    base = load("drpnet/m", WORDS, find_paper=papers.get).cfg
    onnx_cfg = load("drpnet/m", [*WORDS, "test.runtime=onnx"], find_paper=papers.get).cfg
    assert identity(base) != identity(onnx_cfg)
    results = {}
    for runtime in ("torch", "onnx"):
        out = tmp_path / runtime
        assert main(["test", f"checkpoint={drp}", f"test.runtime={runtime}", f"log.dir={out}", "--json"]) == 0
        results[runtime] = json.loads(capsys.readouterr().out)
    assert results["onnx"]["metrics"]["AP"] == results["torch"]["metrics"]["AP"]
    assert results["onnx"]["params"] == results["torch"]["params"]
    assert results["onnx"]["evaluated"]["runtime"] == "onnx" and (tmp_path / "onnx" / "network.onnx").is_file()
