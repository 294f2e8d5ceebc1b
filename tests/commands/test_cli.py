"""The command line: help, typos, JSON; verbs run in this process except where start-up itself is measured."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from repose.__main__ import VERBS, main


def _fails(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == "", "a mistake prints nothing on stdout"
    assert err.count("\n") == 1, "one line"
    assert err.startswith("repose: ")
    return err


def test_help_is_fast_and_imports_no_torch() -> None:
    code = (
        "import sys; from repose.__main__ import main; main(['--help']); main(['train', '--help']);"
        "sys.exit(any(m in sys.modules for m in ('torch', 'omegaconf', 'numpy')))"
    )
    best = 9.0
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        best = min(best, time.perf_counter() - start)
        assert done.returncode == 0, done.stderr
    assert best < 0.3
    assert all(name in done.stdout for name in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: repose {verb}")
    assert all(flag in text for flag in VERBS[verb].flags)


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        (["trian"], "did you mean 'train'?"),
        (["zzz"], "there are: train"),
        (["train"], "name an experiment first"),
        (["train", "model.roi.size=5"], "name an experiment first"),
        (["train", "drpnet/mm"], "did you mean 'drpnet/m'?"),
        (["train", "drpnet/m", "--dryrun"], "unknown option '--dryrun'"),
        (["train", "drpnet/m", "--model.roi.size=5"], "without dashes: model.roi.size=5"),
        (["show", "drpnet/m", "mdoel.roi.size=5"], "'model.roi.size'"),
        (["test"], "checkpoint=RUN"),
        (["test", "checkpoint=runs/none"], "no such file or folder"),
        (["data"], "name an action"),
        (["data", "chek"], "did you mean 'check'?"),
        (["bench"], "name what to measure"),
        (["doctor", "now"], "takes no settings"),
        (["demo", "now"], "takes no settings"),
        (["figures", "chekpoint=x"], "unknown key 'chekpoint'"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(argv: list[str], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert part in _fails(capsys, *argv)


def test_show_prints_value_unit_origin_and_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "drpnet/m", "model.roi.size=9", "--json"]) == 0
    rows = {row["key"]: row for row in json.loads(capsys.readouterr().out)["settings"]}
    assert rows["model.roi.size"] == {
        "key": "model.roi.size",
        "value": 9,
        "unit": "cells of F",
        "from": "command line",
        "text": "side S of the ROI",
        "source": "§2.3, Table 3",
    }
    assert rows["loss.sigma"]["from"] == "default"
    assert rows["data.root"]["from"].startswith("experiments/data/coco.yaml:")
    assert main(["show", "drpnet/m"]) == 0
    assert "model.roi.size" in capsys.readouterr().out


def test_cost_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", "drpnet/m", "--json"]) == 0
    counted = json.loads(capsys.readouterr().out)
    assert counted["params"] == 15_043_579
    assert counted["params_mi"] == pytest.approx(15_043_579 / 2**20)
    assert counted["macs"] == pytest.approx(2_155.79e6, rel=0.005)
    assert counted["input_size"] == [256, 192]
    assert counted["unsupported"] == []
    assert {"conv", "linear", "norm", "roi_align", "upsample"} <= set(counted["by_op"])
    assert counted["modules"]


def test_dry_run_touches_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], synthetic_smoke: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = ["train", "drpnet/m", "scale=smoke", "--dry-run", f"log.runs={tmp_path / 'runs'}"]
    assert main([*argv, f"data.root={synthetic_smoke}", "data.synthetic=None"]) == 0
    text = capsys.readouterr().out
    assert "M parameters" in text
    assert "steps per epoch" in text
    assert not (tmp_path / "runs").exists()


def test_doctor_lines(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["doctor", "--json"])
    report = json.loads(capsys.readouterr().out)
    states = {line["name"]: line["state"] for line in report["lines"]}
    assert states["decode"] == states["evaluation"] == states["cost"] == "ok"
    assert states["conflicts"] == "ok"
    assert (code == 0) == report["ok"]
