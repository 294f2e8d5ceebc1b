"""`repose bench train`: real steps on real samples, in the numbers that a table needs."""

import json
from pathlib import Path

import pytest
import torch

from repose import papers
from repose.__main__ import main
from repose.commands.bench_train import bench_train, training_batch
from repose.config import load
from repose.tables import speed


def words(data: Path, runs: Path) -> list[str]:
    return ["scale=smoke", f"data.root={data}", f"log.runs={runs}", "train.accelerator=cpu"]


def test_the_batch_is_the_devices(synthetic_smoke: Path, tmp_path: Path) -> None:
    cfg = load("cganet/coco", words(synthetic_smoke, tmp_path), find_paper=papers.get).cfg
    batch = training_batch(cfg, 15)  # 12 images: three of them twice
    assert batch.b == 15 and batch.image_B3HW.shape[-2:] == (128, 128)
    assert batch.image_id_B[12:].tolist() == batch.image_id_B[:3].tolist()
    assert batch.image_id_B[:12].unique().numel() == 12


@pytest.mark.parametrize("experiment", ["cganet/coco", "drpnet/m"])
def test_steps_train(experiment: str, synthetic_smoke: Path, tmp_path: Path) -> None:
    """The loss of a batch that is used again falls: the steps are real ones."""
    more = ["optim.name=adamw", "optim.base_lr=1e-3", "optim.base_batch=4", "optim.warmup_steps=0"]
    loaded = load(experiment, [*words(synthetic_smoke, tmp_path), *more], find_paper=papers.get)
    torch.manual_seed(0)
    first = bench_train(loaded, batch=4, steps=1, warm=0)
    later = bench_train(loaded, batch=4, steps=1, warm=7)
    assert later["loss"] < first["loss"]
    assert (first["batch"], first["steps"], first["precision"]) == (4, 1, "32-true")
    assert first["samples_per_s"] == pytest.approx(4000 / first["step_ms"]["median"], rel=0.01)
    assert first["peak_memory_mb"] > 0 and first["memory_of"] == "process, resident"


def test_command_line(synthetic_smoke: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = words(synthetic_smoke, tmp_path)
    line = ["bench", "train", "cganet/coco", *own, "model.roi.stages=1", "batch=2", "steps=1", "warm=0"]
    assert main([*line, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["batch"] == 2
    cfg = load("cganet/coco", [*own, "model.roi.stages=1"], find_paper=papers.get).cfg
    assert set(speed.speeds(("sps", "memory_MB"), cfg)[0]) == {"sps"}  # the process's memory is nobody's peak
    assert main(line) == 0
    said = capsys.readouterr().out
    assert "training steps of 2 samples at 128x128" in said and "samples/s" in said and "data pipeline not" in said
    assert main(["bench", "train", "cganet/coco", "steps=some"]) == 2
    assert "steps=some: give one whole number from 1 on, steps=20" in capsys.readouterr().err


def test_threads_are_the_experiments(synthetic_smoke: Path, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        loaded = load("drpnet/m", [*words(synthetic_smoke, tmp_path), "train.threads=2"], find_paper=papers.get)
        assert bench_train(loaded, batch=2, steps=1, warm=0)["threads"] == 2
    finally:
        torch.set_num_threads(before)
