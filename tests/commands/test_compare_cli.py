"""`repose compare`: which models and photographs are meant, what a photograph scores, what is drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from run_kit import make_run, with_weights, words

from repose import papers
from repose.__main__ import main
from repose.config import load
from repose.data.datamodule import PoseDataModule
from repose.metrics.keypoint_ap import score


@pytest.fixture(scope="module")
def runs(synthetic_smoke: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of DRP-Net and one of PINet, untrained."""
    root = tmp_path_factory.mktemp("runs")
    with_weights(make_run(root, synthetic_smoke, "title=older", finished="2026-01-01T00:00:00+00:00"))
    with_weights(make_run(root, synthetic_smoke, "seed=5", "title=newer", finished="2026-01-02T00:00:00+00:00"))
    with_weights(make_run(root, synthetic_smoke, experiment="pinet/ochuman"))
    make_run(root, synthetic_smoke, "seed=7", status="running", finished="2026-01-03T00:00:00+00:00")
    return root


def compared(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    assert main(["compare", *argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_image_ids_with_their_scores(
    runs: Path, synthetic_smoke: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The newest finished run of an experiment; a photograph's AP is what `repose test` gives for it alone."""
    cfg = load("drpnet/m", words(synthetic_smoke), find_paper=papers.get).cfg
    truth = PoseDataModule(cfg).ground_truth()
    ids = [image["id"] for image in truth["images"][:2]]
    wanted = ",".join(map(str, ids))
    found = compared(capsys, "drpnet/m", "pinet/ochuman", f"runs={runs}", "--images", wanted, "--out", str(tmp_path))
    assert [m["model"] for m in found["models"]] == ["newer", "PINet"]
    assert [i["image"] for i in found["images"]] == [f"image {i}" for i in ids]
    run = next(p for p in runs.glob("drpnet/*") if "seed: 5\n" in (p / "config.yaml").read_text())
    assert main(["test", f"checkpoint={run}", "log.progress=false"]) == 0
    predictions = json.loads(next(run.glob("tests/*/predictions.json")).read_text())
    for image_id, image in zip(ids, found["images"], strict=True):
        mine = [p for p in predictions if p["image_id"] == image_id]
        one = {
            **truth,
            "images": [i for i in truth["images"] if i["id"] == image_id],
            "annotations": [a for a in truth["annotations"] if a["image_id"] == image_id],
        }
        assert image["models"][0]["ap"] == pytest.approx(score(mine, one, cfg.joint_set())["AP"], abs=1e-6)
        assert 0 <= image["models"][1]["oks"] <= 1
        picture = cv2.imread(image["picture"])
        assert picture is not None and picture.shape[1] > 900, "annotation and two models beside each other"


def test_photographs_of_ones_own(
    runs: Path, synthetic_smoke: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without annotation: no score; top-down models look at the whole. A file of the data set is annotated."""
    own, broken = tmp_path / "own.png", tmp_path / "broken.jpg"
    cv2.imwrite(str(own), np.random.default_rng(0).integers(0, 255, (120, 90, 3), dtype=np.uint8))
    broken.write_bytes(b"no picture")
    known = next((synthetic_smoke / "images" / "val").iterdir())
    argv = ["older", f"runs={runs}", "--images", str(own), str(known), str(broken), "--out", str(tmp_path / "out")]
    run = next(p for p in runs.glob("drpnet/*") if "title: older" in (p / "config.yaml").read_text())
    found = compared(capsys, str(run), *argv[1:])
    own_image, known_image = found["images"]
    assert own_image["image"] == "own" and known_image["image"].startswith("image ")
    assert own_image["models"] == [{"model": "older", "people": 1, "ap": None, "oks": None}]
    assert known_image["models"][0]["oks"] is not None
    assert len(found["skipped"]) == 1 and "broken.jpg" in found["skipped"][0]
    assert main(["compare", str(run), *argv[1:]]) == 0
    text = capsys.readouterr().out
    assert "older: 1 person" in text and "skipped 1" in text


def test_without_images_some_of_the_data_set(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = compared(capsys, "pinet", f"runs={runs}", "--out", str(tmp_path))
    assert len(found["images"]) == 6 and len(list(tmp_path.glob("*.png"))) == 6


def test_equal_titles_get_the_folders_name(
    runs: Path, synthetic_smoke: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = (with_weights(make_run(tmp_path, synthetic_smoke, f"seed={s}")) for s in (1, 2))
    found = compared(capsys, str(a), str(b / "checkpoints" / "best.ckpt"), "--out", str(tmp_path / "out"))
    assert [m["model"] for m in found["models"]] == [f"DRP-Net-M ({p.name})" for p in (a, b)]


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        ([], "name the models"),
        (["drpnet/l", "runs=RUNS"], "no finished run of drpnet/l below"),
        (["drpnet/m", "scale=mini", "runs=RUNS"], "repose train drpnet/m scale=mini"),
        (["drpnet/mm", "runs=RUNS"], "no run 'drpnet/mm' below"),
        (["drpnet/m", "runs=RUNS", "--images", "1,2"], "no image 1 in"),
        (["drpnet/m", "runs=RUNS", "--images", "nowhere.jpg"], "no such file or folder"),
        (["drpnet/m", "runs=RUNS", "colour=red"], "unknown key 'colour'"),
        (["pyproject.toml"], "pyproject.toml"),
    ],
)
def test_mistakes(runs: Path, capsys: pytest.CaptureFixture[str], argv: list[str], part: str) -> None:
    assert main(["compare", *(word.replace("RUNS", str(runs)) for word in argv)]) == 2
    out, err = capsys.readouterr()
    assert part in err and err.count("\n") == 1 and out == ""
