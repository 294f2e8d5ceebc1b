"""`repose runs`: states, filters, order, and what is wrong said in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from run_kit import make_run

from repose import papers
from repose.__main__ import main
from repose.config import identity, load
from repose.engine import locks
from repose.engine.provenance import code_fingerprint


@pytest.fixture(scope="module")
def folder(synthetic_smoke: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven runs: two that are done, one of another method, and one of each other state."""
    root = tmp_path_factory.mktemp("runs")
    cell = load("drpnet/m", ["scale=smoke", "model.roi.size=5"], find_paper=papers.get).cfg  # a row of Table 3
    make_run(root, synthetic_smoke, "model.roi.size=5", off=4.0, identity=identity(cell))
    make_run(root, synthetic_smoke, "model.roi.size=7", "log.group=drpnet/3")
    make_run(root, synthetic_smoke, "log.group=pinet/1a", experiment="pinet/ochuman")
    old = {**code_fingerprint("drpnet"), "papers/drpnet/losses.py": "0"}
    make_run(root, synthetic_smoke, "seed=1", code_fingerprint=old)
    make_run(root, synthetic_smoke, "seed=2", status="running", metrics={})
    make_run(root, synthetic_smoke, "seed=3", status="failed", metrics={}, error="RuntimeError: power failure")
    (make_run(root, synthetic_smoke, "seed=4") / "result.json").write_text('{"status": "do')
    return root


def listed(folder: Path, capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    assert main(["runs", str(folder), *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)["runs"]


def test_states(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = {r["config"]["seed"] if r["config"] else None: r for r in listed(folder, capsys) if r["paper"] == "drpnet"}
    assert {seed: r["state"] for seed, r in found.items()} == {
        21: "done", 1: "stale", 2: "stopped", 3: "failed", 4: "unreadable",
    }  # fmt: skip
    assert found[1]["reason"] == "losses.py changed"
    assert found[2]["reason"] == "go on with resume=auto"
    assert found[3]["reason"] == "RuntimeError: power failure"
    assert "result.json: not valid JSON" in found[4]["reason"]


def test_a_test_in_another_runtime_is_judged_by_its_code(
    synthetic_smoke: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = code_fingerprint("drpnet", runtime="onnx-int8")
    onnx = "test.runtime=onnx-int8"
    make_run(tmp_path, synthetic_smoke, onnx, code_fingerprint=now)
    make_run(tmp_path, synthetic_smoke, onnx, "seed=2", code_fingerprint={**now, "field/export.py": "0"})
    found = {r["config"]["seed"]: (r["state"], r["reason"]) for r in listed(tmp_path, capsys)}
    assert found[21][0] == "done" and found[2] == ("stale", "export.py changed")


def test_other_annotations_and_a_method_that_is_gone(
    synthetic_smoke: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = make_run(tmp_path, synthetic_smoke) / "result.json"
    then = {**json.loads(result.read_text()), "data": {"name": "synthetic", "fingerprint": "0" * 16}}
    result.write_text(json.dumps(then))
    config = make_run(tmp_path, synthetic_smoke, "seed=2") / "config.yaml"
    config.write_text(config.read_text().replace("paper: drpnet", "paper: drpnett"))
    found = {r["config"]["paper"]: r for r in listed(tmp_path, capsys)}
    assert (found["drpnet"]["state"], found["drpnet"]["reason"]) == (
        "stale",
        "the annotations or boxes of synthetic changed",
    )
    assert found["drpnett"]["state"] == "unreadable" and "did you mean 'drpnet'?" in found["drpnett"]["reason"]


def test_a_run_that_is_held_is_running(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = next(r for r in listed(folder, capsys) if r["config"].get("seed") == 2)
    with locks.claim(Path(run["folder"])):
        assert [r["state"] for r in listed(folder, capsys, "seed=2")] == ["running"]
    assert [r["state"] for r in listed(folder, capsys, "seed=2")] == ["stopped"]


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["paper=pinet"], 1),
        (["experiment=drpnet/m", "state=done"], 2),
        (["model.roi.size=5"], 1),
        (["model.roi.size!=5", "state=done", "paper=drpnet"], 1),
        (["model.roi.size>5", "state=done"], 1),
        (["data.input_size=[96, 72]", "state=done"], 2),
        (["scale=smoke", "data=synthetic"], 7),
        (["scale=mini"], 0),
        (["params<5e6", "state=done"], 3),
        (["coarse_error_px>=4"], 1),
        (["AP>0.3", "AP<=1", "state=done"], 3),
        (["table=drpnet/3"], 2),  # the one is the same run as a row, the other was started by the table
        (["table=pinet/1a"], 1),
        (["log.group=null", "state=done"], 1),
    ],
)
def test_filters(folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], count: int) -> None:
    assert len(listed(folder, capsys, *words)) == count


def test_order(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    newest = listed(folder, capsys)
    finished = [r["finished"] for r in newest if r["finished"]]
    assert finished == sorted(finished, reverse=True) and newest[-1]["state"] == "unreadable"
    up, down = (listed(folder, capsys, "paper=drpnet", f"sort={sign}AP") for sign in ("", "-"))
    ap = [r["metrics"]["AP"] for r in up if r["metrics"]]
    assert ap == sorted(ap) and ap[0] < ap[-1]
    assert [r["metrics"]["AP"] for r in down if r["metrics"]] == ap[::-1]
    assert not up[-1]["metrics"] and not down[-1]["metrics"], "runs without an AP come last"


def test_for_people(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(folder), "model.roi.size=5", "'AP'>0".replace("'", "")]) == 0
    text = capsys.readouterr().out
    assert "model.roi.size" in text and "1.00 M" in text and "30 min" in text
    assert "1 of 7 runs and tests" in text and "do not rank" not in text
    assert main(["runs", str(folder), "state=done"]) == 0
    assert "these APs are of 2 protocols and do not rank one another; they differ in: boxes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["nowhere/at/all"], "no such folder; runs are made by `repose train EXPERIMENT`"),
        (["runs=nowhere"], "no such folder"),
        (["AP"], "the shell takes a bare > for itself"),
        (["AP>30"], "write 'AP>0.3'"),
        (["model.roi.sise=5"], "did you mean 'model.roi.size'"),
        (["sort=APP"], "did you mean 'AP'"),
        (["experiment=drpnet/mm"], "did you mean 'drpnet/m'?"),
        (["table=drpnet/33"], "no table 'drpnet/33'"),
        (["AP>high"], "> needs a number"),
        (["table>drpnet/3"], "table takes = alone"),
    ],
)
def test_mistakes(folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], part: str) -> None:
    own = [] if "nowhere" in words[0] else [str(folder)]
    assert main(["runs", *own, *words]) == 2
    out, err = capsys.readouterr()
    assert part in err and err.count("\n") == 1 and out == ""


def test_an_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(tmp_path)]) == 2
    assert "no run in it" in capsys.readouterr().err
