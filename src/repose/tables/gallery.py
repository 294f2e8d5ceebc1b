# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""What the notebooks call: settings, loading, and figures of the data, as PNG and vector PDF by matplotlib.

Pictures lie in the figures as pixels, skeletons and text as vectors, so a figure can go into a paper as it is.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import MaxNLocator

from repose import papers, viz
from repose.config import Augment, Loaded, Synthetic, load
from repose.data.coco import Annotations
from repose.data.datamodule import PoseDataModule
from repose.data.dataset import TrainSet
from repose.data.images import decode
from repose.data.synthetic import render
from repose.errors import UserError
from repose.skeleton import Skeleton
from repose.types import Batch

_DRAWN = ("data.synthetic.train=96", "data.synthetic.val=32", "data.workers=0")
DEMO_DATA = ("data=synthetic", *_DRAWN)
"""Embedded people for a notebook that is given no data set: drawn in seconds."""
DEMO_PAIRS = ("data=synthetic-pairs", *_DRAWN)
"""The same of two people who hug, dance or wrestle."""
GREY: viz.Colour = (150, 150, 150)
"""Poses that a picture is not about."""
DARK = (viz.DARK[0] / 255, viz.DARK[1] / 255, viz.DARK[2] / 255)


@dataclass(frozen=True)
class Settings:
    """What a notebook is about.

    Attributes:
        checkpoint: run folder or checkpoint; None trains a demo in seconds.
        data: name of a data set (experiments/data/<name>.yaml); None = the checkpoint's, else drawn people.
        ids: image ids to show; empty = some spread over the data set.
        figures: folder that figures are written to.
    """

    checkpoint: str | None
    data: str | None
    ids: tuple[int, ...]
    figures: Path

    @staticmethod
    def of(checkpoint: str = "", data: str = "", ids: str = "", figures: str = "figures") -> Settings:
        """Settings from the notebook's first cell; empty texts mean the defaults. `ids`: "785,1296".

        A notebook that is run in `notebooks/` works from the checkout's root, so that paths mean the same everywhere.
        """
        if Path.cwd().name == "notebooks" and Path("../experiments").is_dir():
            os.chdir("..")
        try:
            wanted = tuple(int(i) for i in ids.replace(",", " ").split())
        except ValueError:
            raise UserError(f"ids={ids!r}: image ids are whole numbers with commas between them") from None
        return Settings(checkpoint or None, data or None, wanted, Path(figures))


def experiment(settings: Settings, extra: Sequence[str] = ()) -> Loaded:
    """DRP-Net's experiment on the wanted data set: its view, input size and augmentation are what is shown."""
    demo = {None: DEMO_DATA, "synthetic": DEMO_DATA, "synthetic-pairs": DEMO_PAIRS}
    data = demo.get(settings.data, (f"data={settings.data}",))
    return load("drpnet/m", [*data, "scale=paper", *extra], find_paper=papers.get)


def open_data(settings: Settings) -> PoseDataModule:
    """The data set, read and ready."""
    return prepared(experiment(settings, ["data.cache=off"]))


def prepared(loaded: Loaded) -> PoseDataModule:
    """An experiment's data, drawn if need be, and read."""
    # One process draws: a hundred pictures take two seconds, and processes started in a notebook have no script.
    PoseDataModule(replace(loaded.cfg, data=replace(loaded.cfg.data, workers=1))).prepare_data()
    module = PoseDataModule(loaded.cfg)
    module.setup("fit")
    return module


# --- figures ----------------------------------------------------------------------------------------------------------


def save(figure: Figure, name: str, settings: Settings) -> None:
    """Write a figure as <figures>/<name>.png and .pdf; the notebook shows it too."""
    settings.figures.mkdir(parents=True, exist_ok=True)
    for kind in ("png", "pdf"):
        figure.savefig(settings.figures / f"{name}.{kind}", dpi=150)


def grid(
    count: int, columns: int, cell: tuple[float, float] = (2.2, 2.4), title: str = ""
) -> tuple[Figure, list[Axes]]:
    """A figure of `count` empty panels without axes. `cell`: width and height of a panel, inches."""
    columns = min(columns, count)
    rows = -(-count // columns)
    size = (columns * cell[0], rows * cell[1] + (0.35 if title else 0))
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    panels: list[Axes] = list(axes.flat)
    for panel in panels:
        panel.set_axis_off()
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure, panels[:count]


def show_image(axes: Axes, image: Any, title: str = "") -> None:
    """A picture with a small title; its axes are then in its pixels and keep its extent."""
    pixels = viz.as_image(image)
    axes.imshow(pixels, interpolation="lanczos")
    axes.set_xlim(-0.5, pixels.shape[1] - 0.5)
    axes.set_ylim(pixels.shape[0] - 0.5, -0.5)
    axes.set_anchor("NW")
    axes.set_title(title, fontsize=7.5, loc="left", pad=3)


def plot_pose(
    axes: Axes,
    joint_K3: np.ndarray,
    skeleton: Skeleton,
    third: Literal["visibility", "score"] = "visibility",
    threshold: float = 0.2,
    scale: float = 1.0,
    colour: viz.Colour | None = None,
) -> None:
    """One person as vector lines, in the colours and with the rules of `viz.draw_poses`.

    Args:
        axes: where.
        joint_K3: x, y and visibility or score.
        skeleton: gives limbs and colours.
        third: see `viz.draw_poses`.
        threshold: see there.
        scale: of the line width.
        colour: of all limbs, where people must be told apart; joints keep the colours of their sides.
    """
    value = joint_K3[:, 2]
    shown = (value > 0 if third == "visibility" else value > threshold) & np.isfinite(joint_K3).all(1)
    hidden = shown & (value <= 1) if third == "visibility" else np.zeros(len(value), bool)
    alpha = np.where(hidden, 0.6, 1.0) if third == "visibility" else np.clip(0.35 + value, 0, 1)
    wide = 1.9 * scale
    edge = [Stroke(linewidth=wide + 1.1 * scale, foreground=DARK), Normal()]
    limbs = viz.limb_colours(skeleton) if colour is None else [colour] * len(skeleton.limbs)
    for (a, b), limb in zip(skeleton.limb_index, limbs, strict=True):
        if shown[a] and shown[b]:
            axes.plot(
                joint_K3[[a, b], 0], joint_K3[[a, b], 1], color=rgb(limb), linewidth=wide, path_effects=edge,
                solid_capstyle="round", alpha=float(min(alpha[a], alpha[b])),
            )  # fmt: skip
    for k, dot in enumerate(viz.joint_colours(skeleton)):
        if shown[k]:
            axes.plot(
                joint_K3[k, 0], joint_K3[k, 1], "o", markersize=(3.4 if hidden[k] else 2.9) * scale,
                markerfacecolor="none" if hidden[k] else rgb(dot),
                markeredgewidth=(0.9 if hidden[k] else 0.5) * scale,
                markeredgecolor=rgb(dot) if hidden[k] else DARK, alpha=float(alpha[k]),
            )  # fmt: skip


def rgb(colour: viz.Colour) -> tuple[float, float, float]:
    """A colour for matplotlib."""
    return (colour[0] / 255, colour[1] / 255, colour[2] / 255)


def key_to_sides(figure: Figure) -> None:
    """The key to the colours below a figure: the person's own left and right."""
    names = {"their left": (255, 150, 30), "their right": (50, 150, 225), "middle": (225, 215, 180)}
    lines = [Line2D([], [], color=rgb(c), linewidth=3, label=name) for name, c in names.items()]
    for name, fill in (("seen", rgb((255, 150, 30))), ("hidden", "none")):
        edge = DARK if fill != "none" else rgb((255, 150, 30))
        dot = Line2D([], [], marker="o", linestyle="", markersize=5, markerfacecolor=fill, label=name)
        dot.set_markeredgecolor(edge)
        lines.append(dot)
    figure.legend(handles=lines, loc="outside lower left", ncols=5, fontsize=7, frameon=False)


# --- the data ---------------------------------------------------------------------------------------------------------


def image_rows(annotations: Annotations, ids: Sequence[int], count: int) -> list[int]:
    """Rows of the wanted image ids; without any, `count` images with labelled people, spread over the file.

    Raises:
        UserError: an id that the file does not have.
    """
    if not ids:
        peopled = np.unique(annotations.image_A[(annotations.labelled_A > 0) & ~annotations.crowd_A])
        return peopled[np.unique(np.linspace(0, len(peopled) - 1, min(count, len(peopled))).astype(int))].tolist()
    row = {int(i): n for n, i in enumerate(annotations.image_id_I)}
    for i in ids:
        if i not in row:
            raise UserError(f"ids: image {i} is not in {annotations.file.name}; it begins with {list(row)[:5]}")
    return [row[i] for i in ids]


def annotated(data: PoseDataModule, ids: Sequence[int] = (), count: int = 8) -> Figure:
    """Photographs of the evaluated split with their annotations."""
    annotations, skeleton = data.val_annotations, data.skeleton
    rows = image_rows(annotations, ids, count)
    figure, panels = grid(len(rows), 4, (2.6, 2.4), f"{data.cfg.data.name}: annotated people")
    for panel, image in zip(panels, rows, strict=True):
        pixels = decode(annotations.path(image))
        if isinstance(pixels, str):
            raise UserError(f"{annotations.path(image)}: {pixels}")
        people = [a for a in annotations.rows(image) if not annotations.crowd_A[a]]
        show_image(panel, pixels, f"image {annotations.image_id_I[image]}, {people_text(len(people))}")
        for a in people:
            joint_K3 = annotations.joint_AK3[a]
            plot_pose(panel, joint_K3, skeleton, scale=line_scale(joint_K3, pixels.shape))
    key_to_sides(figure)
    return figure


def people_text(people: int) -> str:
    """A number of people in words."""
    return f"{people} {'person' if people == 1 else 'people'}"


def line_scale(joint_K3: np.ndarray, shape: tuple[int, ...]) -> float:
    """Line width for a person in a picture: small people get thin lines."""
    shown = joint_K3[joint_K3[:, 2] > 0, :2]
    share = float(np.hypot(*np.ptp(shown, axis=0))) / max(shape[:2]) if len(shown) else 0.0
    return float(np.clip(1.6 * share, 0.35, 1.0))


def statistics(data: PoseDataModule) -> Figure:
    """People per image, labelled joints per person, sizes, and how often each joint is seen, hidden or unlabelled."""
    annotations, skeleton = data.val_annotations, data.skeleton
    people = (annotations.labelled_A > 0) & ~annotations.crowd_A
    v_NK = annotations.joint_AK3[people, :, 2]
    blue, orange, grey = "#0069be", "#d55e00", "#c8c8c8"
    figure, axes = plt.subplots(2, 2, figsize=(10, 7), layout="constrained")
    figure.suptitle(
        f"{data.cfg.data.name}: {annotations.images} images, {len(v_NK)} people with joints",
        x=0.01, ha="left", fontsize=11, fontweight="bold",
    )  # fmt: skip
    per_image = np.bincount(annotations.image_A[people], minlength=annotations.images)
    _bars(axes[0, 0], np.bincount(per_image), blue, "people per image", "images")
    seen, hidden = (v_NK == 2).sum(1), (v_NK == 1).sum(1)
    _bars(
        axes[0, 1], np.bincount(seen + hidden, minlength=skeleton.k + 1), blue, "labelled joints of a person", "people"
    )
    box_N4 = annotations.box_A4[people]
    side = np.sqrt(np.maximum((box_N4[:, 2] - box_N4[:, 0]) * (box_N4[:, 3] - box_N4[:, 1]), 1))
    axes[1, 0].hist(side, bins=np.geomspace(side.min() * 0.99, side.max() * 1.01, 30), color=blue)
    axes[1, 0].set_xscale("log")
    # COCO's limits are for the person's area, which is about half the box's
    for limit, name in ((32, "small | medium"), (96, "medium | large")):
        axes[1, 0].axvline(limit, color=orange, linewidth=1)
        axes[1, 0].annotate(
            name, (limit, 0.97), xycoords=("data", "axes fraction"), fontsize=7, rotation=90, va="top", ha="right"
        )
    ticks = [t for t in (8, 16, 32, 64, 96, 128, 256, 512) if side.min() <= t <= side.max()]
    axes[1, 0].set_xticks(ticks, [str(t) for t in ticks])
    axes[1, 0].minorticks_off()
    axes[1, 0].set_xlabel("size: square root of the box's area [pixels]")
    axes[1, 0].set_ylabel("people")
    y, left = np.arange(skeleton.k), np.zeros(skeleton.k)
    for name, value, colour in (("seen", 2, blue), ("hidden", 1, orange), ("not labelled", 0, grey)):
        share = (v_NK == value).mean(0)
        axes[1, 1].barh(y, share, left=left, color=colour, label=name)
        left += share
    axes[1, 1].set_yticks(y, [j.replace("_", " ") for j in skeleton.joints], fontsize=7)
    axes[1, 1].invert_yaxis()
    axes[1, 1].set_xlim(0, 1)
    axes[1, 1].set_xlabel("share of people")
    axes[1, 1].legend(fontsize=7, ncols=3, loc="upper center", bbox_to_anchor=(0.5, 1.1), frameon=False)
    for panel in axes.flat:
        panel.spines[["top", "right"]].set_visible(False)
    return figure


def _bars(axes: Axes, count: np.ndarray, colour: str, x: str, y: str) -> None:
    axes.bar(np.arange(len(count)), count, color=colour)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def synthetic_people(skeleton: Skeleton, columns: int = 4) -> Figure:
    """Drawn people at the three kinds of crowding, with their exact labels."""
    kinds: tuple[Literal["sparse", "crowded", "pairs"], ...] = ("sparse", "crowded", "pairs")
    figure, panels = grid(len(kinds) * columns, columns, (2.6, 2.3), "drawn people: sparse, crowded, pairs")
    for n, panel in enumerate(panels):
        kind = kinds[n // columns]
        scene = render(n % columns, Synthetic(crowding=kind), skeleton.joints)
        title = f"{kind} {n % columns}, crowd index {scene.crowd_index:.2f}"
        if kind != "sparse":
            title += f", max IoU {max((p.max_iou for p in scene.people), default=0):.2f}"
        show_image(panel, scene.image_HW3, title)
        for person in scene.people[: 99 if n % 2 else 0]:  # every second one without lines: the people themselves
            joint_K3 = np.asarray(person.joint_K3, np.float64)
            plot_pose(panel, joint_K3, skeleton, scale=line_scale(joint_K3, scene.image_HW3.shape))
    return figure


def augmentation(data: PoseDataModule, people: int = 4, draws: int = 4) -> Figure:
    """A row per person: the input as it is, augmented inputs, and the mirrored one with left and right swapped."""
    train = data.train_set
    assert train is not None  # open_data set it up
    cfg = data.cfg
    flipping = replace(cfg.data, augment=Augment(flip=1.0), augment_final=None)
    images = np.unique(train.annotations.image_A)
    mirrored = TrainSet(train.photographs, flipping, data.skeleton, cfg.seed, cfg.train.epochs, images)
    rows = [int(i) for i in np.unique(np.linspace(0, len(train) - 1, min(people, len(train))).astype(int))]
    # Samples are numbered alike in both sets only if both use the same images; the annotation id tells.
    twin = {int(a): i for i, a in enumerate(mirrored.sample_S)}
    figure, panels = grid(len(rows) * (draws + 2), draws + 2, (1.5, 2.1), "augmentation, and the mirrored input")
    for r, index in enumerate(rows):
        line = panels[r * (draws + 2) : (r + 1) * (draws + 2)]
        samples = [train.sample(index, augment=False), *(train.sample(index, epoch) for epoch in range(draws))]
        samples.append(mirrored.sample(twin[int(train.sample_S[index])]))
        titles = ["input", *(f"draw {d + 1}" for d in range(draws)), "mirrored"]
        for panel, batch, title in zip(line, samples, titles, strict=True):
            _sample(panel, batch, data.skeleton, title)
    key_to_sides(figure)
    return figure


def _sample(axes: Axes, batch: Batch, skeleton: Skeleton, title: str) -> None:
    show_image(axes, batch.image_B3HW[0], title)
    for joint_K3 in batch.people.joint_NK3.double().numpy():
        plot_pose(axes, joint_K3, skeleton, scale=0.9)
