"""A signal to the whole process group (SLURM's, a shell's) reaches the data workers too: training still saves."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch


def test_a_signal_to_the_group_saves(tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ["scale=smoke", "data.workers=1", "train.epochs=100000", "train.val_every=100000", "log.every=1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "repose", "train", "drpnet/m", *words, f"log.dir={run}"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "REPOSE_DATA": str(tmp_path / "data")},
    )
    end = time.monotonic() + 150
    while not (run / "metrics.jsonl").exists() or not (run / "metrics.jsonl").stat().st_size:
        assert process.poll() is None and time.monotonic() < end, process.communicate()[1]
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert "SIGTERM: saving" in errors and "cannot be written" not in errors and "Traceback" not in errors
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] > 0
