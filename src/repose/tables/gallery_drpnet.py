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

from repose import viz
from repose.config import Loaded
from repose.engine.module import to_photograph
from repose.errors import UserError
from repose.papers.drpnet.module import DRPNetModule
from repose.skeleton import Skeleton
from repose.tables import gallery_run
from repose.tables.gallery import DARK, DEMO_DATA, Settings, grid, key_to_sides, plot_pose, rgb, show_image
from repose.tables.gallery_run import Method, Pair, Run
from repose.types import Batch

BLUE, ORANGE = "#0069be", "#d55e00"


METHOD = Method(
    title="DRP-Net",
    module=DRPNetModule,
    experiment="drpnet/m",
    demo_data=DEMO_DATA,
    words=("data.boxes=gt", "data.test_scales=[1.0]", "decode.centre=pred"),
)


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


def open_run(settings: Settings) -> Run[DRPNetModule]:
    """See `gallery_run.open_run`."""
    return gallery_run.open_run(settings, METHOD)


def read_run(path: Path, loaded: Loaded, heading: str) -> Run[DRPNetModule]:
    """See `gallery_run.read_run`."""
    return gallery_run.read_run(path, loaded, heading, METHOD)


def look(run: Run[DRPNetModule], ids: Sequence[int] = (), most: int = 300) -> list[Seen]:
    """Evaluate people one by one: those of the wanted image ids, else at most `most`, spread over the data set.

    Raises:
        UserError: an image id without people.
    """
    test_set = run.test_set
    chosen = gallery_run.samples(test_set, ids, most)
    return [seen for s in chosen if (seen := _see(run, test_set.sample(s))) is not None]


def _see(run: Run[DRPNetModule], batch: Batch) -> Seen | None:
    module, people = run.module, batch.people
    if batch.b == 0 or people.n == 0:
        return None
    with torch.no_grad():
        outputs = module.infer(module.views([batch]))
        pose = module.decode(outputs)[0]
        cell_BK2 = module.canvas.from_input(people.joint_NK3[..., :2], outputs.centre_BK2)
    annotations = run.data.val_annotations
    row_N = np.flatnonzero(annotations.ann_id_A == int(people.ann_id_N[0]))
    final_img = to_photograph([pose], batch)[0].joint_NK3[..., :2]
    value = gallery_run.annotation_oks(final_img, annotations, row_N, run.skeleton)
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


def stages(run: Run[DRPNetModule], people: Sequence[Seen]) -> Figure:
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


def heatmap_tiles(run: Run[DRPNetModule], seen: Seen, columns: int = 6) -> Figure:
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


def coarse_against_refined(run: Run[DRPNetModule], people: Sequence[Seen]) -> Figure:
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


def failures(run: Run[DRPNetModule], people: Sequence[Seen], count: int = 8) -> Figure:
    """The people with the lowest OKS, worst first: annotation beside prediction."""
    worst = sorted((s for s in people if (s.truth_K3[:, 2] > 0).any()), key=lambda s: (s.oks, s.ann_id))[:count]
    pairs = [
        Pair(s.image_HW3, s.truth_K3, s.final_K3, (f"{n}. {s.name}", f"OKS {s.oks:.2f}"))
        for n, s in enumerate(worst, 1)
    ]
    return gallery_run.beside(f"{run.heading}: lowest OKS first", pairs, run.skeleton)
