"""Fixtures of the data tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from coco_folder import Folder


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """An empty data set."""
    (tmp_path / "set" / "images").mkdir(parents=True)
    return Folder(tmp_path / "set")


@pytest.fixture
def crowd_of(folder: Folder) -> Callable[[int], Folder]:
    """A function that fills the folder with n noisy images of two people each."""

    def fill(images: int, suffix: str = "png") -> Folder:
        for i in range(images):
            random = np.random.default_rng(i)
            number = folder.image(random.integers(0, 256, (80, 100, 3), np.uint8), f"{i + 1:06d}.{suffix}")
            for p in range(2):
                x, y = random.integers(5, 50, 2).tolist()
                joints = [(x + 5.0, y + 3.0, 2), (x + 2.0, y + 20.0, 2), (x + 12.0, y + 20.0, 1 + p)]
                folder.person(number, joints, [float(x), float(y), 15.0, 25.0])
        folder.write()
        return folder

    return fill
