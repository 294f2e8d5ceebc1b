# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""What the notebooks of all methods share: a checkpoint or a demo trained in seconds, its data, pairs of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from matplotlib.figure import Figure

from repose import papers, viz
from repose.config import Loaded, load, load_saved
from repose.data.coco import Annotations
from repose.data.datamodule import PoseDataModule
from repose.data.dataset import TestSet
from repose.engine import checkpoint as ckpt
from repose.engine.module import PoseModule
from repose.engine.run import build_module, train
from repose.engine.rundir import BEST, read_result, run_dir
from repose.errors import UserError
from repose.ops.oks import oks
from repose.skeleton import Skeleton
from repose.tables.gallery import GREY, Settings, grid, key_to_sides, plot_pose, prepared, show_image

DEMO_RUN = (
    "scale=mini",
    "init=null",
    "name=notebook-demo",
    "train.epochs=3",
    "train.val_every=3",
    "optim.warmup_steps=5",
    "train.threads=1",
    "log.progress=false",
    "log.wandb=off",
)
"""A training of seconds: enough to draw every figure, not to claim anything."""
PERFECT = "perfect maps (the annotation itself, no network)"
"""Heading of figures that no network had a part in."""
_MATCH = 0.1
"""OKS that a pose needs to belong to a person at all | Ronchi & Perona, ICCV 2017."""

M = TypeVar("M", bound=PoseModule)


@dataclass(frozen=True)
class Method(Generic[M]):
    """A method that has a notebook.

    Attributes:
        title: its name.
        module: its class.
        experiment: whose settings the demo is trained with.
        demo_data: settings of a small drawn data set, its name first.
        words: settings of the evaluation that is shown.
    """

    title: str
    module: type[M]
    experiment: str
    demo_data: tuple[str, ...]
    words: tuple[str, ...]


@dataclass(frozen=True)
class Run(Generic[M]):
    """A trained network and the people it is shown.

    Attributes:
        module: the network, ready for a test.
        data: the evaluated people.
        heading: what figures are headed with: the run and its data, or "untrained demo".
    """

    module: M
    data: PoseDataModule
    heading: str

    @property
    def skeleton(self) -> Skeleton:
        """Joints of the data."""
        return self.data.skeleton

    @property
    def test_set(self) -> TestSet:
        """The evaluated samples."""
        test_set = self.data.val_set
        assert test_set is not None  # `prepared` set it up
        return test_set


def open_run(settings: Settings, method: Method[M]) -> Run[M]:
    """The checkpoint's network and the wanted data; without a checkpoint one is trained in seconds on drawn people.

    Raises:
        UserError: no such checkpoint, or one of another method.
    """
    demo = settings.checkpoint is None
    path = _demo(method) if demo else ckpt.find(str(settings.checkpoint))
    words = [*method.words]
    if settings.data is not None:
        drawn = demo and method.demo_data[0] == f"data={settings.data}"
        words += method.demo_data if drawn else (f"data={settings.data}",)
    loaded = load_saved(ckpt.saved_config(path), str(path), words, find_paper=papers.get)
    title = f"{loaded.cfg.title or loaded.cfg.name}, {path.parent.parent.name}"
    heading = f"{'untrained demo (trained for seconds)' if demo else title}, on {loaded.cfg.data.name}"
    return read_run(path, loaded, heading, method)


def read_run(path: Path, loaded: Loaded, heading: str, method: Method[M]) -> Run[M]:
    """A checkpoint's network and an experiment's people.

    Raises:
        UserError: a checkpoint of another method or shape.
    """
    module = build_module(loaded)
    if not isinstance(module, method.module):
        raise UserError(f"checkpoint={path}: a network of {loaded.paper.name}; this notebook shows {method.title}")
    ckpt.load_weights(module, ckpt.load_checkpoint(path), path)
    module.eval()
    return Run(module, prepared(loaded), heading)


def demo_experiment(method: Method[M]) -> Loaded:
    """What is trained where no checkpoint is given."""
    return load(method.experiment, [*method.demo_data, *DEMO_RUN], find_paper=papers.get)


def _demo(method: Method[M]) -> Path:
    loaded = demo_experiment(method)
    folder = run_dir(loaded.cfg)
    result = read_result(folder)
    if result is None or result.get("status") != "done" or not (folder / BEST).is_file():
        train(loaded, prepared(loaded))
    return folder / BEST


def samples(test_set: TestSet, ids: Sequence[int], most: int) -> list[int]:
    """Test samples of the wanted image ids, in their order; without any, at most `most`, spread over the data set.

    Raises:
        UserError: an image id without a sample.
    """
    image_S = test_set.annotations.image_id_I[test_set.image_S]
    for i in ids:
        if i not in image_S:
            raise UserError(f"ids: nobody to show in image {i} of {test_set.annotations.file.name}")
    if ids:
        return [int(s) for i in ids for s in np.flatnonzero(image_S == i)]
    return np.unique(np.linspace(0, len(image_S) - 1, min(most, len(image_S))).astype(int)).tolist()


def annotation_oks(
    pose_img_GK2: torch.Tensor, annotations: Annotations, row_N: np.ndarray, skeleton: Skeleton
) -> np.ndarray:
    """OKS of poses (photograph pixels) with annotated people as the metric counts it, (G, N)."""
    truth = torch.from_numpy(annotations.joint_AK3[row_N])
    area = torch.from_numpy(annotations.area_A[row_N])
    return oks(pose_img_GK2, truth, area, skeleton.sigmas).numpy()


def assign(oks_GN: np.ndarray) -> np.ndarray:
    """Which pose is whose: the most similar pair first, each pose and person once, (N,); -1 below an OKS of 0.1."""
    left = oks_GN.copy()
    pose_N = np.full(oks_GN.shape[1], -1)
    while left.size and left.max() >= _MATCH:
        g, n = np.unravel_index(left.argmax(), left.shape)
        pose_N[n] = g
        left[g], left[:, n] = -1, -1
    return pose_N


def nobodys(score_G: np.ndarray, pose_N: np.ndarray) -> np.ndarray:
    """Poses that are nobody's and yet score at least half of the best one: what counts against precision.

    The best ones, as many as there are people. `pose_N`: which pose is whose (`assign`).
    """
    good_G = score_G >= 0.5 * score_G.max(initial=0)
    good_G[pose_N[pose_N >= 0]] = False
    others = np.flatnonzero(good_G)
    return others[np.argsort(-score_G[others], kind="stable")][: len(pose_N)]


def drawn(score_G: np.ndarray, pose_N: np.ndarray) -> list[int]:
    """Poses to draw, in this order: `nobodys`, then everybody's."""
    return [*nobodys(score_G, pose_N).tolist(), *(int(g) for g in pose_N if g >= 0)]


@dataclass(frozen=True)
class Pair:
    """An annotated person beside its prediction, on one picture.

    Attributes:
        image_HW3: the picture.
        truth_K3: x, y in its pixels, v.
        pose_K3: x, y and score; None draws nobody.
        titles: above the two.
        others_GK3: further predicted poses, drawn behind in grey; None = none.
    """

    image_HW3: viz.Image
    truth_K3: np.ndarray
    pose_K3: np.ndarray | None
    titles: tuple[str, str]
    others_GK3: np.ndarray | None = None


def beside(heading: str, pairs: Sequence[Pair], skeleton: Skeleton) -> Figure:
    """Four pairs a row: annotation, prediction.

    Raises:
        UserError: there is no pair.
    """
    if not pairs:
        raise UserError("nobody with labelled joints to show")
    tallest = max(p.image_HW3.shape[0] / p.image_HW3.shape[1] for p in pairs)
    cell = (1.5, 1.5 * float(np.clip(tallest, 0.6, 1.35)) + 0.2)
    figure, panels = grid(2 * len(pairs), 8, cell, heading)
    for n, pair in enumerate(pairs):
        left, right = panels[2 * n : 2 * n + 2]
        show_image(left, pair.image_HW3, pair.titles[0])
        plot_pose(left, pair.truth_K3, skeleton, scale=0.8)
        show_image(right, pair.image_HW3, pair.titles[1])
        for other_K3 in () if pair.others_GK3 is None else pair.others_GK3:
            plot_pose(right, other_K3, skeleton, "score", 0.0, scale=0.5, colour=GREY)
        if pair.pose_K3 is not None:
            plot_pose(right, pair.pose_K3, skeleton, "score", 0.0, scale=0.8)
    key_to_sides(figure)
    return figure
