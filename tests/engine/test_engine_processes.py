"""What needs processes of its own: a real kill, two gloo processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

TOY = Path(__file__).with_name("toy.py")


def _start(*arguments):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "LOCAL_", "WORLD_"))}
    return subprocess.Popen(
        [sys.executable, str(TOY), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        text=True,
    )


def _wait_for(path, process, seconds=60):
    end = time.monotonic() + seconds
    while not path.exists() or path.stat().st_size == 0:
        assert process.poll() is None and time.monotonic() < end, process.communicate()[1]
        time.sleep(0.02)


def test_sigterm_from_outside_saves_and_exits_with_143(tmp_path):
    process = _start(tmp_path / "run", "train.epochs=100000", "train.val_every=100000")
    _wait_for(tmp_path / "run" / "metrics.jsonl", process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert "SIGTERM: saving" in errors and "resume=auto" in errors and "Traceback" not in errors
    saved = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["repose"]["step"] == saved["global_step"] > 0
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "running"


def _finish(*arguments):
    process = _start(*arguments)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert out.count("AP ") == 1 and "Traceback" not in errors
    return json.loads((Path(arguments[0]) / "result.json").read_text())


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A run trained by two gloo processes, evaluated on 7 images."""
    folder = tmp_path_factory.mktemp("two") / "run"
    return folder, _finish(folder, "train.epochs=2", "train.devices=2")


def _results(folder):
    rows = json.loads((folder / "predictions.json").read_text())
    return sorted(rows, key=lambda r: r["image_id"])


def test_two_processes_give_the_numbers_of_one(two, tmp_path):
    folder, result = two
    assert result["layout"]["devices"] == 2 and result["layout"]["device_batch"] == 4 and result["steps"] == 6
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 3, 4, 5, 6, 6]  # one process writes
    one = _finish(tmp_path / "one", f"checkpoint={folder}")
    assert one["metrics"] == pytest.approx(result["metrics"], abs=1e-12)
    assert [r["image_id"] for r in _results(folder)] == list(range(5001, 5008))
    assert _results(folder) == _results(tmp_path / "one")


@pytest.mark.slow
def test_a_process_without_images_changes_nothing(two, tmp_path):
    folder, _ = two
    results = [
        _finish(tmp_path / str(n), f"checkpoint={folder}", "data.limit_val=1", f"train.devices={n}") for n in (1, 2)
    ]
    assert results[0]["metrics"] == results[1]["metrics"]
    assert _results(tmp_path / "1") == _results(tmp_path / "2")
