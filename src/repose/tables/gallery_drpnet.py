# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Figures of DRP-Net for its notebook: coarse points, ROIs, local heatmaps, refined points, errors, failures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, Stroke

from repose import papers, viz
from repose.config import Loaded, load, load_saved
from repose.data.datamodule import PoseDataModule
from repose.engine import checkpoint as ckpt
from repose.engine.module import to_photograph
from repose.engine.run import build_module, train
from repose.engine.rundir import BEST, read_result, run_dir
from repose.errors import UserError
from repose.ops.oks import oks
from repose.papers.drpnet.module import DRPNetModule
from repose.skeleton import Skeleton
from repose.tables.gallery import DARK, DEMO_DATA, Settings, grid, key_to_sides, plot_pose, prepared, rgb, show_image
from repose.types import Batch

DEMO_RUN = (
    "scale=mini",
    "name=notebook-demo",
    "train.epochs=3",
    "train.val_every=3",
    "optim.warmup_steps=5",
    "train.threads=1",
)
"""A training of seconds: enough to draw every figure, not to claim anything."""
BLUE, ORANGE = "#0069be", "#d55e00"


@dataclass(frozen=True)
class Run:
    """A trained DRP-Net and the people it is shown.

    Attributes:
        module: the network, ready for a test.
        data: the evaluated people (ground-truth boxes).
        heading: what figures are headed with: the run and its data, or "untrained demo".
    """

    module: DRPNetModule
    data: PoseDataModule
    heading: str

    @property
    def skeleton(self) -> Skeleton:
        """Joints of the data."""
        return self.data.skeleton


@dataclass(frozen=True)
class Seen:
    """One evaluated person. Points in input pixels.

    Attributes:
        image_HW3: the network's input.
        image_id: of the photograph.
        ann_id: of the annotation.
        truth_K3: x, y, v.
        coarse_K2: coarse points.
        centre_K2: centres of the ROIs.
        heatmap_KHW: local heatmaps, (K, 0, 0) without a refinement head.
        cell_K2: the annotated joints in cells of their heatmaps.
        final_K3: x, y, score.
        oks: object keypoint similarity with the annotation.
    """

    image_HW3: viz.Image
    image_id: int
    ann_id: int
    truth_K3: np.ndarray
    coarse_K2: np.ndarray
    centre_K2: np.ndarray
    heatmap_KHW: np.ndarray
    cell_K2: np.ndarray
    final_K3: np.ndarray
    oks: float

    @property
    def name(self) -> str:
        """Which person this is."""
        return f"person {self.ann_id}"

    def errors(self, point_K2: np.ndarray) -> np.ndarray:
        """Distance of points to the annotated joints, input pixels; nan where a joint is not labelled."""
        distance = np.hypot(*(point_K2 - self.truth_K3[:, :2]).T)
        return np.where(self.truth_K3[:, 2] > 0, distance, np.nan)


def open_run(settings: Settings) -> Run:
    """The checkpoint's network and the wanted data; without a checkpoint one is trained in seconds on drawn people.

    Raises:
        UserError: no such checkpoint, or one of another paper.
    """
    demo = settings.checkpoint is None
    path = _demo() if demo else ckpt.find(str(settings.checkpoint))
    words = ["data.boxes=gt", "data.test_scales=[1.0]", "decode.centre=pred"]
    if settings.data is not None:
        words += DEMO_DATA if demo and settings.data == "synthetic" else (f"data={settings.data}",)
    loaded = load_saved(ckpt.saved_config(path), str(path), words, find_paper=papers.get)
    title = f"{loaded.cfg.title or loaded.cfg.name}, {path.parent.parent.name}"
    return read_run(
        path, loaded, f"{'untrained demo (trained for seconds)' if demo else title}, on {loaded.cfg.data.name}"
    )


def read_run(path: Path, loaded: Loaded, heading: str) -> Run:
    """A checkpoint's network and an experiment's people.

    Raises:
        UserError: a checkpoint of another paper or shape.
    """
    module = build_module(loaded)
    if not isinstance(module, DRPNetModule):
        raise UserError(f"checkpoint={path}: a network of {loaded.paper.name}; this notebook shows DRP-Net")
    ckpt.load_weights(module, ckpt.load_checkpoint(path), path)
    return Run(module.eval(), prepared(loaded), heading)


def demo_experiment() -> Loaded:
    """What is trained where no checkpoint is given."""
    return load("drpnet/m", [*DEMO_DATA, *DEMO_RUN, "log.progress=false", "log.wandb=off"], find_paper=papers.get)


def _demo() -> Path:
    loaded = demo_experiment()
    folder = run_dir(loaded.cfg)
    result = read_result(folder)
    if result is None or result.get("status") != "done" or not (folder / BEST).is_file():
        train(loaded, prepared(loaded))
    return folder / BEST


def look(run: Run, ids: Sequence[int] = (), most: int = 300) -> list[Seen]:
    """Evaluate people one by one: those of the wanted image ids, else at most `most`, spread over the data set.

    Raises:
        UserError: an image id without people.
    """
    test_set = run.data.val_set
    assert test_set is not None  # `prepared` set it up
    image_S = test_set.annotations.image_id_I[test_set.image_S]
    if ids:
        wanted = [int(s) for i in ids for s in np.flatnonzero(image_S == i)]
        if missing := [i for i in ids if i not in image_S]:
            raise UserError(f"ids: nobody to show in image {missing[0]} of {test_set.annotations.file.name}")
    else:
        wanted = np.unique(np.linspace(0, len(image_S) - 1, min(most, len(image_S))).astype(int)).tolist()
    return [seen for s in wanted if (seen := _see(run, test_set.sample(s))) is not None]


def _see(run: Run, batch: Batch) -> Seen | None:
    module, people = run.module, batch.people
    if batch.b == 0 or people.n == 0:
        return None
    with torch.no_grad():
        outputs = module.infer(module.views([batch]))
        pose = module.decode(outputs)[0]
        cell_BK2 = module.canvas.from_input(people.joint_NK3[..., :2], outputs.centre_BK2)
    row = int(np.flatnonzero(run.data.val_annotations.ann_id_A == int(people.ann_id_N[0]))[0])
    truth_img = torch.from_numpy(run.data.val_annotations.joint_AK3[row : row + 1]).float()
    final_img = to_photograph([pose], batch)[0].joint_NK3
    value = oks(final_img[..., :2], truth_img, people.area_N[:1], run.skeleton.sigmas)
    return Seen(
        image_HW3=viz.as_image(batch.image_B3HW[0]),
        image_id=int(batch.image_id_B[0]),
        ann_id=int(people.ann_id_N[0]),
        truth_K3=people.joint_NK3[0].double().numpy(),
        coarse_K2=outputs.coarse_BK2[0].double().numpy(),
        centre_K2=outputs.centre_BK2[0].double().numpy(),
        heatmap_KHW=outputs.heatmap_BKHW[0].double().numpy(),
        cell_K2=cell_BK2[0].double().numpy(),
        final_K3=pose.joint_NK3[0].double().numpy(),
        oks=float(value[0, 0]),
    )


def well_labelled(people: Sequence[Seen], count: int) -> list[Seen]:
    """The first `count` people, those with most of their joints labelled before the others."""
    order = sorted(range(len(people)), key=lambda i: (people[i].truth_K3[:, 2] > 0).mean() < 0.7)
    return [people[i] for i in order[:count]]


# --- figures ----------------------------------------------------------------------------------------------------------


def stages(run: Run, people: Sequence[Seen]) -> Figure:
    """A row per person: annotation, coarse points, ROIs, local heatmaps, refined pose."""
    side = float(run.module.canvas.stride * run.module.canvas.size)
    titles = ("annotation", "coarse points", f"ROIs, {side:g} pixels wide", "local heatmaps", "refined")
    figure, panels = grid(len(people) * len(titles), len(titles), (2.0, 2.75), run.heading)
    for n, seen in enumerate(people):
        line = panels[n * len(titles) : (n + 1) * len(titles)]
        pictures = [seen.image_HW3] * 3 + [_heat(seen, side), seen.image_HW3]
        captions = [seen.name, *titles[1:4], f"refined, OKS {seen.oks:.2f}"]
        for panel, picture, caption in zip(line, pictures, captions, strict=True):
            show_image(panel, picture, caption)
        plot_pose(line[0], seen.truth_K3, run.skeleton)
        plot_points(line[1], seen.coarse_K2, run.skeleton)
        for (x, y), colour in zip(seen.centre_K2, viz.joint_colours(run.skeleton), strict=True):
            corner = (x - side / 2, y - side / 2)
            line[2].add_patch(Rectangle(corner, side, side, fill=False, linewidth=1.0, edgecolor=rgb(colour)))
        plot_pose(line[4], seen.final_K3, run.skeleton, "score", 0.0)
    key_to_sides(figure)
    return figure


def plot_points(axes: Axes, point_K2: np.ndarray, skeleton: Skeleton) -> None:
    """Points as crosses in their joints' colours."""
    edge = [Stroke(linewidth=2.6, foreground=DARK), Normal()]
    for (x, y), colour in zip(point_K2, viz.joint_colours(skeleton), strict=True):
        axes.plot(x, y, "x", color=rgb(colour), markersize=5, markeredgewidth=1.3, path_effects=edge)


def _heat(seen: Seen, side: float) -> viz.Image:
    """All local heatmaps on the (darkened) input; where ROIs overlap the higher value counts."""
    height, width = seen.image_HW3.shape[:2]
    top = np.zeros((height, width, 3))
    for heatmap_HW, (x, y) in zip(seen.heatmap_KHW, seen.centre_K2, strict=True):
        box_4 = (x - side / 2, y - side / 2, x + side / 2, y + side / 2)
        # scaled by 1, the target's peak, so that a weak answer looks weak
        top = np.maximum(top, viz.draw_heatmap(np.zeros((height, width, 3), np.uint8), heatmap_HW, box_4, 1.0, 1.0))
    return np.clip(seen.image_HW3 * (1 - top.max(axis=2, keepdims=True) / 255) * 0.6 + top, 0, 255).astype(np.uint8)


def heatmap_tiles(run: Run, seen: Seen, columns: int = 6) -> Figure:
    """The K local heatmaps of a person, and where the annotated joint and the refined point lie in them.

    Raises:
        UserError: a coarse-only network has none.
    """
    if seen.heatmap_KHW.shape[-1] == 0:
        raise UserError("this network is coarse-only (model.head.enabled=false): it has no local heatmaps")
    size = seen.heatmap_KHW.shape[-1]
    k = run.skeleton.k
    final = torch.from_numpy(seen.final_K3[None, :, :2]).float()
    cell_K2 = run.module.canvas.from_input(final, torch.from_numpy(seen.centre_K2[None]).float())[0].numpy()
    figure, panels = grid(k, columns, (1.45, 1.65), f"{run.heading}: {seen.name}")
    for j, panel in enumerate(panels):
        panel.imshow(seen.heatmap_KHW[j], cmap="inferno", vmin=0, vmax=1, interpolation="nearest")
        x, y, v = *seen.cell_K2[j], seen.truth_K3[j, 2]
        note = "not labelled" if v == 0 else ""
        if v > 0:
            inside = bool(np.abs(seen.cell_K2[j] - (size - 1) / 2).max() <= size / 2)
            note = "" if inside else "joint outside"
            if inside:
                panel.plot(
                    x, y, "o", markersize=9, markerfacecolor="none", markeredgecolor="#5fd0ff", markeredgewidth=1.6
                )
        panel.plot(*cell_K2[j], "+", color="white", markersize=9, markeredgewidth=1.6)
        panel.set_xlim(-0.5, size - 0.5)
        panel.set_ylim(size - 0.5, -0.5)
        joint = run.skeleton.joints[j].replace("_", " ")
        panel.set_title(f"{joint}  {seen.final_K3[j, 2]:.2f}" + (f"\n{note}" if note else ""), fontsize=7, loc="left")
    figure.supxlabel("ring: annotated joint    +: refined point    number: score", x=0.01, ha="left", fontsize=8)
    return figure


def coarse_against_refined(run: Run, people: Sequence[Seen]) -> Figure:
    """Median error per joint, and the share of joints within a distance, for the coarse and the refined points."""
    coarse_NK = np.array([s.errors(s.coarse_K2) for s in people])
    final_NK = np.array([s.errors(s.final_K3[:, :2]) for s in people])
    reach = run.module.canvas.stride * run.module.canvas.size / 2
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
    figure.suptitle(f"{run.heading}: {len(people)} people", x=0.01, ha="left", fontsize=11, fontweight="bold")
    y = np.arange(run.skeleton.k)
    labelled = np.isfinite(coarse_NK).any(0)
    for error_NK, colour, name in ((coarse_NK, ORANGE, "coarse"), (final_NK, BLUE, "refined")):
        median = np.full(run.skeleton.k, np.nan)
        median[labelled] = np.nanmedian(error_NK[:, labelled], axis=0)
        left.plot(median, y, "o", color=colour, label=name)
        every = np.sort(error_NK[np.isfinite(error_NK)])
        right.plot(every, np.arange(1, len(every) + 1) / max(len(every), 1), color=colour, label=name)
        left.hlines(y, 0, median, color=colour, alpha=0.25, linewidth=1)
    left.set_yticks(y, [j.replace("_", " ") for j in run.skeleton.joints], fontsize=7)
    left.invert_yaxis()
    left.set_xlim(left=0)
    left.set_xlabel("median error [input pixels]")
    left.legend(fontsize=8, frameon=False)
    right.axvline(reach, color="#888888", linewidth=1, linestyle="--")
    right.annotate("half the ROI's side", (reach, 0.03), xytext=(3, 0), textcoords="offset points", fontsize=7)
    right.set_xlim(0, 3 * reach)
    right.set_ylim(0, 1)
    right.set_xlabel("error [input pixels]")
    right.set_ylabel("share of joints within it")
    right.legend(fontsize=8, frameon=False, loc="lower right")
    for panel in (left, right):
        panel.spines[["top", "right"]].set_visible(False)
    return figure


def failures(run: Run, people: Sequence[Seen], count: int = 8) -> Figure:
    """The people with the lowest OKS, worst first: annotation beside prediction."""
    worst = sorted((s for s in people if (s.truth_K3[:, 2] > 0).any()), key=lambda s: (s.oks, s.ann_id))[:count]
    if not worst:
        raise UserError("nobody with labelled joints to show")
    figure, panels = grid(2 * len(worst), 8, (1.5, 2.2), f"{run.heading}: lowest OKS first")
    for n, seen in enumerate(worst):
        show_image(panels[2 * n], seen.image_HW3, f"{n + 1}. {seen.name}")
        plot_pose(panels[2 * n], seen.truth_K3, run.skeleton, scale=0.8)
        show_image(panels[2 * n + 1], seen.image_HW3, f"OKS {seen.oks:.2f}")
        plot_pose(panels[2 * n + 1], seen.final_K3, run.skeleton, "score", 0.0, scale=0.8)
    key_to_sides(figure)
    return figure
