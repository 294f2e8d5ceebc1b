"""Fixtures that several folders of tests share."""

from __future__ import annotations

import os
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
