"""What the tests of galleries share: figures without windows, and a network trained in seconds on drawn people."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib import pyplot as plt

from repose import papers
from repose.config import load
from repose.engine.run import train
from repose.tables import gallery


@pytest.fixture(scope="module", autouse=True)
def no_windows() -> Iterator[None]:
    """Figures are drawn without a display and closed after the file."""
    with mpl.rc_context({"backend": "agg", "figure.max_open_warning": 0}):
        plt.switch_backend("agg")
        yield
        plt.close("all")


def trained(folder: Path, root: Path, experiment: str, *words: str) -> str:
    """Train an experiment at smoke on the drawn people in `root`; returns the run folder."""
    run = str(folder / "run")
    quiet = ["log.wandb=off", "log.progress=false"]
    data = ["data=synthetic", f"data.root={root}", "data.synthetic=null"]
    train(load(experiment, ["scale=smoke", *data, *quiet, f"log.dir={run}", *words], find_paper=papers.get))
    return run


def settings(folder: Path, root: Path, experiment: str) -> gallery.Settings:
    """Settings of figures of a network trained so, which are saved in `folder`."""
    return gallery.Settings.of(trained(folder, root, experiment), figures=str(folder / "figures"))
