# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""How well CGANet's networks read boxes that are off: curves and pictures for its notebook.

Shapes: N annotated people of an image, K joints, L sizes of a jitter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from repose import viz
from repose.engine.module import to_photograph
from repose.errors import UserError
from repose.metrics.keypoint_ap import KeypointAP
from repose.ops import draws
from repose.ops.boxes import box_centre, box_size, centre_box
from repose.papers.cganet.decode import joints, poses, see
from repose.papers.cganet.module import CGANetModule
from repose.tables import gallery_run
from repose.tables.gallery import grid, people_text, plot_pose, show_image
from repose.tables.gallery_cganet import draw_box, input_oks, label
from repose.tables.gallery_run import Run
from repose.types import Batch, Poses

JITTERS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3)
"""[share of the box's side] largest shift of a box and largest change of its sides."""
_JITTER = 11  # stream of the draws
_AVERAGED = 4
"""Jittered boxes per person and size."""
_LINES = ("#d55e00", "#0069be", "#009e73", "#555555")
"""Of the networks, in their order."""


@dataclass(frozen=True)
class Jitter:
    """How well a network reads boxes that are off.

    Attributes:
        name: of the network.
        heading: its run and data.
        size_L: largest shift and change of the sides, share of the box's side.
        AP_L: keypoint AP of the annotated people in their jittered boxes.
        oks_L: mean OKS of the same.
        images: looked at.
        people: in them.
    """

    name: str
    heading: str
    size_L: tuple[float, ...]
    AP_L: np.ndarray
    oks_L: np.ndarray
    images: int
    people: int


def jittered_boxes(batch: Batch, size_L: Sequence[float], number: int = 0) -> Tensor:
    """Annotated boxes, moved and stretched at random, input pixels, (L, N, 4): the same draws for every network.

    At size s the centre moves by up to s of the box's width and height, and both change by a factor of 1 - s to 1 + s.
    """
    people = batch.people
    slot_N = torch.arange(people.n)
    draw_N4 = 2 * draws.uniform(batch.seed_B[:1], (max(people.n, 1), 4), _JITTER + number)[0, slot_N] - 1
    centre_N2, size_N2 = box_centre(people.box_N4.float()), box_size(people.box_N4.float())
    return torch.stack(
        [centre_box(centre_N2 + s * draw_N4[:, :2] * size_N2, size_N2 * (1 + s * draw_N4[:, 2:])) for s in size_L]
    )


@torch.no_grad()
def read_boxes(run: Run[CGANetModule], batch: Batch, box_LN4: Tensor) -> Tensor:
    """Joints in given boxes, input pixels, (L, N, K, 3)."""
    module = run.module
    views = module.views([batch])
    scene = see(module.net, [v.image_BCHW for v in views], [v.mirrored for v in views])
    box_M4 = box_LN4.flatten(0, 1)
    owner_M = torch.zeros(len(box_M4), dtype=torch.int64)
    heat = poses(module.net, scene, box_M4, owner_M, run.skeleton.flip_index)
    return joints(heat, box_M4, module.cfg.decode).view(*box_LN4.shape[:2], -1, 3)


def jitter(run: Run[CGANetModule], size_L: tuple[float, ...] = JITTERS, most: int = 100) -> Jitter:
    """AP and OKS of annotated people read in jittered boxes, on at most `most` images.

    Everybody's box is jittered `_AVERAGED` times and the numbers are averaged. Scores are mean joint scores.
    """
    labelled: list[Batch] = []
    for s in gallery_run.samples(run.test_set, (), most):
        batch = run.test_set.sample(s)
        if batch.b and bool(batch.people.labelled_N.any()):
            labelled.append(batch)
    if not labelled:
        raise UserError(f"nobody with labelled joints to show in {run.test_set.annotations.file.name}")
    truth = _truth_of(run, {int(b.image_id_B[0]) for b in labelled})
    metrics = [[KeypointAP(run.skeleton, truth) for _ in size_L] for _ in range(_AVERAGED)]
    oks_LM: list[list[float]] = [[] for _ in size_L]
    for batch in labelled:
        mine_N = batch.people.labelled_N
        box_DLN4 = torch.stack([jittered_boxes(batch, size_L, n)[:, mine_N] for n in range(_AVERAGED)])
        found = read_boxes(run, batch, box_DLN4.flatten(0, 1)).unflatten(0, box_DLN4.shape[:2])
        for of_draw, joint_LNK3 in zip(metrics, found, strict=True):
            for at, (metric, joint_NK3) in enumerate(zip(of_draw, joint_LNK3, strict=True)):
                score_N = joint_NK3[..., 2].mean(-1)
                photograph = to_photograph([Poses(joint_NK3, score_N)], batch)
                metric.update(batch.image_id_B, batch.subject_id_B, photograph, [torch.ones(len(score_N))])
                own_N = input_oks(batch, joint_NK3, run.skeleton)[:, mine_N.numpy()].diagonal()
                oks_LM[at] += own_N.tolist()
    return Jitter(
        name=label(run),
        heading=run.heading,
        size_L=size_L,
        AP_L=np.array([[m.compute()["AP"] for m in of_draw] for of_draw in metrics]).mean(0),
        oks_L=np.array([np.mean(x) for x in oks_LM]),
        images=len(labelled),
        people=sum(int(b.people.labelled_N.sum()) for b in labelled),
    )


def _truth_of(run: Run[CGANetModule], image_ids: set[int]) -> dict[str, Any]:
    truth = run.data.ground_truth()
    return {
        **truth,
        "images": [i for i in truth["images"] if i["id"] in image_ids],
        "annotations": [a for a in truth["annotations"] if a["image_id"] in image_ids],
    }


def jitter_curves(found: Sequence[Jitter]) -> Figure:
    """AP and mean OKS against the size of the jitter, a line per network."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    first = found[0]
    figure.suptitle(
        f"Annotated boxes, jittered: {first.images} images, {people_text(first.people)}",
        x=0.01, ha="left", fontsize=11, fontweight="bold",
    )  # fmt: skip
    for n, one in enumerate(found):
        style: dict[str, Any] = {"color": _LINES[n % len(_LINES)], "marker": "os^D"[n % 4], "ms": 5, "lw": 1.8}
        left.plot(one.size_L, one.AP_L, label=f"{one.name}: {one.heading}", **style)
        right.plot(one.size_L, one.oks_L, **style)
    for axes, name in ((left, "AP"), (right, "mean OKS")):
        axes.set_xlabel("jitter: largest shift and stretch [share of the box's side]", fontsize=9)
        axes.set_ylabel(name, fontsize=9)
        axes.set_ylim(bottom=0)
        axes.set_xlim(left=0)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", lw=0.4, color="#dddddd")
    figure.legend(loc="outside lower left", ncols=1, fontsize=8, frameon=False)
    return figure


@dataclass(frozen=True)
class Readings:
    """One person in jittered boxes, read by a network.

    Attributes:
        name: of the network.
        joint_LK3: x, y, score, input pixels.
        oks_L: of them.
    """

    name: str
    joint_LK3: np.ndarray
    oks_L: np.ndarray


def jittered(
    runs: Sequence[Run[CGANetModule]], ids: Sequence[int] = (), size_L: Sequence[float] = (0, 0.1, 0.2, 0.3)
) -> Figure:
    """A row per network: the largest person of an image in the same jittered boxes, and the pose read in each.

    Raises:
        UserError: the networks see different inputs; nobody to show.
    """
    first = runs[0]
    chosen = gallery_run.samples(first.test_set, ids, 1 if ids else 8)
    batches = [b for b in (first.test_set.sample(s) for s in chosen) if b.b and bool(b.people.labelled_N.any())]
    if not batches:
        raise UserError(f"nobody with labelled joints to show in {first.test_set.annotations.file.name}")

    def side(batch: Batch) -> Tensor:
        """Sizes of the people with joints; those whose jittered boxes leave the picture count least."""
        box_LN4 = jittered_boxes(batch, size_L)
        inside_LN2 = (box_LN4[..., :2] >= 0) & (box_LN4[..., 2:] <= batch.valid_size_B2[0])
        return box_size(batch.people.box_N4).prod(-1) * batch.people.labelled_N * (inside_LN2.all(-1).all(0) + 1e-6)

    batch = batches[0] if ids else max(batches, key=lambda b: float(side(b).max()))
    n = int(side(batch).argmax())
    box_LN4 = jittered_boxes(batch, size_L)
    rows: list[Readings] = []
    for run in runs:
        if run.module.cfg.data.input_size != first.module.cfg.data.input_size:
            raise UserError("the networks see inputs of different sizes; give checkpoints of one scale")
        joint_LK3 = read_boxes(run, batch, box_LN4[:, n : n + 1])[:, 0]
        rows.append(Readings(label(run), joint_LK3.double().numpy(), input_oks(batch, joint_LK3, run.skeleton)[:, n]))
    union_4 = np.concatenate([box_LN4[:, n, :2].amin(0).numpy(), box_LN4[:, n, 2:].amax(0).numpy()])
    ratio = (union_4[3] - union_4[1]) / max(union_4[2] - union_4[0], 1)
    cell_size = (2.2, 2.2 * float(np.clip(ratio, 0.6, 2.2)) + 0.25)
    figure, panels = grid(len(rows) * len(size_L), len(size_L), cell_size)
    lines = [f"image {int(batch.image_id_B[0])}", *(f"{label(run)}: {run.heading}" for run in runs)]
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=8)
    image = viz.as_image(batch.image_B3HW[0])
    for panel, (row, at) in zip(panels, ((r, at) for r in rows for at in range(len(size_L))), strict=True):
        show_image(panel, image, f"{row.name}, {size_L[at]:g}: OKS {row.oks_L[at]:.2f}")
        draw_box(panel, box_LN4[at, n].numpy(), (255, 255, 255), "solid")
        joint_K3 = row.joint_LK3[at].copy()
        joint_K3[:, 2] = 2  # not faded: the position is the point
        plot_pose(panel, joint_K3, first.skeleton, scale=0.8, colour=viz.person_colour(0))
        room = 0.06 * (union_4[3] - union_4[1])
        panel.set_xlim(union_4[0] - room, union_4[2] + room)
        panel.set_ylim(union_4[3] + room, union_4[1] - room)
    return figure
