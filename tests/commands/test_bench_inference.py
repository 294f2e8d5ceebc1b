"""`repose bench inference`: what is timed, on what, and how it is said."""

import json
from pathlib import Path

import pytest
import torch

from repose import papers
from repose.__main__ import main
from repose.commands import bench_inference as bench
from repose.config import load
from repose.tables import speed


@pytest.fixture
def smoke(synthetic_smoke: Path, tmp_path: Path) -> list[str]:
    return [
        "scale=smoke", f"data.root={synthetic_smoke}", "data.limit_val=3", f"log.runs={tmp_path}",
        "train.accelerator=cpu", "model.roi.stages=1",
    ]  # fmt: skip


def test_images_are_timed_one_by_one(smoke: list[str]) -> None:
    loaded = load("cganet/coco", smoke, find_paper=papers.get)
    tf32 = torch.backends.cudnn.allow_tf32
    measured = bench.bench_inference(loaded, images=4, warm=1)  # 5 of 3 images: from the beginning again
    assert torch.backends.cudnn.allow_tf32 == tf32
    assert (measured["images"], measured["warm"], measured["device"], measured["weights"]) == (4, 1, "cpu", "random")
    assert measured["input_sizes"] == [[128, 192], [128, 192]]  # 256x320 with a short side of 128, to multiples of 64
    for row in (measured["with_post"], measured["without_post"]):
        assert 0 < row["p10_ms"] <= row["median_ms"] <= row["p90_ms"] and row["images_per_s"] > 0
    assert measured["with_post"]["median_ms"] > measured["without_post"]["median_ms"]
    assert measured["peak_memory_mb"] > 0


def test_fixed_size_is_the_inputs(smoke: list[str]) -> None:
    loaded = load("cganet/coco", [*smoke, "test.flip=true"], find_paper=papers.get)
    measured = bench.bench_inference(loaded, images=2, warm=0, fixed=True)
    assert measured["input_sizes"] == [[128, 128], [128, 128]] and measured["data"] == "noise" and measured["flip"]


def test_the_summary_by_hand() -> None:
    """Ten images of 1 to 10 ms: 10 / 55 ms = 181.818 per second."""
    assert bench._summary([i / 1000 for i in range(10, 0, -1)]) == {
        "images_per_s": 181.818, "median_ms": 5.5, "p10_ms": 2.0, "p90_ms": 10.0,
    }  # fmt: skip


def test_command_line(smoke: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "inference", "cganet/coco", *smoke, "images=2", "warm=0"]
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 2
    cfg = load("cganet/coco", smoke, find_paper=papers.get).cfg
    assert set(speed.speeds(("fps",), cfg)[0]) == {"fps"}  # the tables print it
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "network alone" in said and "with post-processing" in said and "flip test no" in said
    kept = len(list((tmp_path / speed.FOLDER).iterdir()))
    assert main([*words, "fixed=true"]) == 0
    assert len(list((tmp_path / speed.FOLDER).iterdir())) == kept == 1
    for wrong, message in (
        (["cganet/coco", "images=0"], "images=0: give one whole number from 1 on"),
        ([], "name an experiment first"),
        (["table=cganet/5", "scale=smoke"], "no row of cganet/5 has a form at scale smoke"),
        (["cganet/coco", "scale=smoke", "checkpoint=nowhere"], "no such file or folder"),
    ):
        assert main(["bench", "inference", *wrong]) == 2
        assert message in capsys.readouterr().err
    assert main(["bench", "inferense"]) == 2
    assert "did you mean 'inference'?" in capsys.readouterr().err


def test_all_rows_of_a_table(smoke: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    settings = [w for w in smoke if not w.startswith("model.")]
    words = ["bench", "inference", "table=cganet/ablation-cascade", *settings, "images=1", "warm=0", "--json"]
    assert main(words) == 0
    assert [row["row"] for row in json.loads(capsys.readouterr().out)["rows"]] == ["one", "two", "three"]
