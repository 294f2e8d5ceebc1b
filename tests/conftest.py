"""Fixtures that several folders of tests share."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytest.register_assert_rewrite("repose.testing.contract")  # its asserts say what they compared


@pytest.fixture(scope="session", autouse=True)
def _quiet_machine() -> None:
    """One torch thread and no W&B: tests measure correctness, and two of them may run beside each other."""
    import torch

    torch.set_num_threads(1)
    os.environ["WANDB_MODE"] = "offline"
    os.environ["WANDB_SILENT"] = "true"
    os.environ.pop("WANDB_API_KEY", None)


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests find `experiments/` as a user in the checkout does."""
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def best_ms() -> Callable[[Callable[[], object]], float]:
    """Milliseconds of the fastest of 200 calls, on one core of a machine that adds 80 numbers 100 times in 0.5 ms.

    Where those additions, timed between the calls, take longer (a slow or shared machine), the figure shrinks alike.
    """
    import torch

    numbers = torch.zeros(20, 4)

    def additions() -> None:
        total = numbers
        for _ in range(100):
            total = total + 1

    def seconds(call: Callable[[], object]) -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    def measured(call: Callable[[], object]) -> float:
        rounds = [(seconds(additions), seconds(call)) for _ in range(200)]
        pace_s, call_s = (min(column) for column in zip(*rounds, strict=True))
        return 1000 * call_s / max(1.0, pace_s / 0.0005)

    return measured


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real photographs beside the checkout, or a skip with its reason."""
    folder = Path(os.environ.get("REPOSE_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no photographs: {folder.name} is not beside the checkout (set REPOSE_SHARED_DATA)")
    return folder


@pytest.fixture(scope="session")
def coco_lite(shared_data: Path) -> Path:
    """The COCO-format folder of photographs."""
    folder = shared_data / "coco-lite"
    if not folder.is_dir():
        pytest.skip("no photographs: coco-lite is not in the shared data")
    return folder


@pytest.fixture(scope="session")
def shared_weights() -> Path:
    """The parity fixtures of published checkpoints beside the checkout, or a skip with its reason."""
    folder = Path(os.environ.get("REPOSE_SHARED_WEIGHTS", ROOT.parent / "shared" / "weights"))
    if not folder.is_dir():
        pytest.skip(f"no parity fixtures: {folder.name} is not beside the checkout (set REPOSE_SHARED_WEIGHTS)")
    return folder


@pytest.fixture(scope="session")
def synthetic_smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn data set of 12 training and 8 validation images, COCO-17."""
    from repose.config import Synthetic
    from repose.data.synthetic import synthesize
    from repose.skeleton import COCO17

    folder = tmp_path_factory.mktemp("synthetic") / "smoke"
    return synthesize(folder, Synthetic(train=12, val=8), COCO17.joints, COCO17.limbs, workers=1)
