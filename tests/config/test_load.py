"""Layers, typos, traps of YAML and of W&B's command lines."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from repose import papers
from repose.config import docs, dump, identity, leaves, load, load_saved, parse_value, read_yaml, to_dict
from repose.errors import UserError


def _load(*tokens: str, experiment: str = "drpnet/m") -> object:
    return load(experiment, tokens, find_paper=papers.get).cfg


def _refused(*tokens: str, experiment: str = "drpnet/m") -> str:
    with pytest.raises(UserError) as error:
        _load(*tokens, experiment=experiment)
    text = str(error.value)
    assert "\n" not in text, "an error is one line"
    return text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("None", None),
        ("null", None),
        ("", None),
        ("1:2", "1:2"),
        ("190:20:30", "190:20:30"),
        ("on", "on"),
        ("no", "no"),
        ("True", True),
        ("false", False),
        ("1e-3", 0.001),
        ("1e-05", 1e-05),
        ("1.", 1.0),
        ("08", 8),
        ("-3", -3),
        ("[256, 192]", [256, 192]),
        ("['a', 'b']", ["a", "b"]),
        ("[1, None]", [1, None]),
        ("{'k': 1, 'n': None}", {"k": 1, "n": None}),
        ("a=b=c", "a=b=c"),
        ("x/y-1.yaml", "x/y-1.yaml"),
    ],
)
def test_values_are_read_as_wandb_prints_them(text: str, value: object) -> None:
    assert parse_value(text) == value


def test_a_number_that_is_a_name_of_the_setting() -> None:
    assert _load("train.precision=32").train.precision == "32"
    assert "'33'" in _refused("train.precision=33")


def test_value_with_equals_sign_and_lists_reach_the_config() -> None:
    cfg = _load("name=a=b", "log.tags=['x=1', 'y']", "data.input_size=[128, 96]", "optim.base_lr=1e-05")
    assert (cfg.name, cfg.log.tags, cfg.data.input_size, cfg.optim.base_lr) == ("a=b", ("x=1", "y"), (128, 96), 1e-05)


def test_none_is_null() -> None:
    assert _load("data.root=None").data.root is None
    assert "float" in _refused("optim.base_lr=None")


@pytest.mark.parametrize(
    ("token", "suggestion"),
    [
        ("data.roi.size=5", "'model.roi.size'"),
        ("mdoel.roi.size=5", "'model.roi.size'"),
        ("model.roi.sizes=5", "'model.roi.size'"),
        ("optim.weight_deacy=0.1", "'optim.weight_decay'"),
        ("weight_deacy=0.1", "'optim.weight_decay'"),
        ("trian.epochs=3", "'train.epochs'"),
        ("loss.fien=1", "'loss.fine'"),
    ],
)
def test_typo_names_the_nearest_key_anywhere(token: str, suggestion: str) -> None:
    text = _refused(token)
    assert text.startswith("command line: unknown key")
    assert suggestion in text


def test_typo_in_a_file_names_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("paper: drpnet\nname: mine\nmodel:\n  roi: {sise: 5}\n")
    text = _refused(experiment=str(file))
    assert f"{file}:4" in text
    assert "'model.roi.size'" in text


@pytest.mark.parametrize(
    ("tokens", "part"),
    [
        (["--model.roi.size=5"], "without dashes: model.roi.size=5"),
        (["model.roi.size"], "key=value"),
        (["=5"], "key=value"),
        (["seed=1", "seed=2"], "given twice"),
        (["data.input_size=[1, 2"], "close its brackets"),
        (["data.input_size=[1,2,3]"], "length 3"),
        (["model.head.share=none_such"], "expected one of"),
        (["model.roi.size=four"], "int"),
        (["seed=1:2"], "int"),
        (["model.roi.size=4"], "odd"),
        (["data=cooc"], "did you mean 'coco'?"),
        (["scale=mni"], "did you mean 'mini'?"),
        (["skeleton.name=coco18"], "not one of"),
        (["skeleton.sigmas=[0.1,0.2]"], "2 sigmas for 17 joints"),
        (["model.backbone=resnet"], "Backbone"),
    ],
)
def test_bad_tokens_are_one_line_with_the_fix(tokens: list[str], part: str) -> None:
    assert part in _refused(*tokens)


def test_missing_file_and_experiment_typo() -> None:
    assert "did you mean 'drpnet/m'?" in _refused(experiment="drpnet/mm")
    assert "no experiment" in _refused(experiment="nowhere/none.yaml")


def test_duplicate_key_names_both_lines(tmp_path: Path) -> None:
    file = tmp_path / "twice.yaml"
    file.write_text("paper: drpnet\nseed: 1\nname: x\nseed: 2\n")
    with pytest.raises(UserError, match=rf"{file}:4: key 'seed' is already set in line 2"):
        read_yaml(file)


def test_broken_yaml_names_the_line(tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text("paper: drpnet\ndata: [1, 2\nname: x\n")
    with pytest.raises(UserError, match=rf"{file}:\d: not valid YAML"):
        read_yaml(file)


def test_overlay_with_a_key_of_another_paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overlay = tmp_path / "crowd.yaml"
    overlay.write_text("data: {name: crowd}\nmodel: {parts: 3}\n")
    text = _refused(f"data={overlay}")
    assert f"{overlay}:2" in text
    assert "unknown key 'model.parts'" in text


def test_layers_later_wins_and_origin_says_where() -> None:
    loaded = load("drpnet/m", ["scale=smoke", "train.batch=4"], find_paper=papers.get)
    assert loaded.cfg.train.batch == 4
    assert loaded.origin["train.batch"] == "command line"
    assert loaded.origin["train.epochs"].startswith("experiments/")
    assert loaded.origin["loss.sigma"] == "default"
    assert loaded.cfg.scale == "smoke"
    assert loaded.cfg.data.name == "synthetic", "the scale chooses its data set"
    assert load("drpnet/m", ["scale=smoke", "data=coco-lite"], find_paper=papers.get).cfg.data.name == "coco-lite"


def test_identity_ignores_where_but_not_what() -> None:
    base = identity(_load())
    assert identity(_load("log.runs=elsewhere", "data.workers=3", "data.root=/x", "train.device_batch=16")) == base
    assert identity(_load("model.roi.size=5")) != base
    assert identity(_load("train.batch=512")) != base
    assert identity(_load("seed=1")) != base


def test_saved_config_comes_back_equal(tmp_path: Path) -> None:
    cfg = _load("model.roi.size=9", "loss.coarse=0.1")
    dump(cfg, tmp_path / "config.yaml")
    values, _ = read_yaml(tmp_path / "config.yaml")
    assert load_saved(values, "config.yaml", find_paper=papers.get).cfg == cfg
    with pytest.raises(UserError, match="schema 99"):
        load_saved({**values, "schema": 99}, "config.yaml", find_paper=papers.get)


def test_config_is_frozen_all_the_way_down() -> None:
    cfg = _load()
    with pytest.raises(dataclasses.FrozenInstanceError):
        cfg.model.roi.size = 5


def test_every_field_of_a_paper_is_documented() -> None:
    for name in papers.PAPERS:
        paper = papers.get(name)
        known = docs(paper.schema)
        undocumented = [
            key
            for key, _ in leaves(to_dict(paper.schema()))
            if key.startswith(("model.", "loss.", "decode.")) and not known[key].text
        ]
        assert not undocumented, f"{name}: no docstring under {undocumented}"


def test_every_yaml_in_experiments_loads(root: Path) -> None:
    folder = root / "experiments"
    files = [p for p in folder.glob("*/*.yaml") if p.parent.name not in ("data", "scales")]
    files = [p for p in files if p.name != "captions.yaml"]
    assert files
    for file in files:
        for scale in ("paper", "smoke", "mini", "lite"):
            load(file, [f"scale={scale}"], find_paper=papers.get)
    for data in (folder / "data").glob("*.yaml"):
        load("drpnet/m", [f"data={data.stem}"], find_paper=papers.get)


def test_unknown_paper_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'drpnet'"):
        papers.get("drpnt")


def test_configuration_imports_no_torch() -> None:
    code = (
        "import sys; from repose import papers; from repose.config import load; "
        "load('drpnet/m', [], find_paper=papers.get); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
