# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Figures of PINet for its notebook: part centres, poses of PPG, PR and PF, the learnt graph, failures.

Everything is drawn on the photograph, in its pixels. Limbs have the colour of a person, joints that of their side.

Shapes: N annotated people of an image, G predicted ones, P parts, M peaks, K joints, H W cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, Stroke
from torch import Tensor

from repose import viz
from repose.data.images import decode as read_image
from repose.engine.module import to_photograph
from repose.errors import UserError
from repose.geometry import EDGE, apply_affine
from repose.metrics.subsets import overlap
from repose.nn.graph import skeleton_graph
from repose.papers.pinet.decode import Candidates, averaged, candidates, decode
from repose.papers.pinet.model import graph_edges
from repose.papers.pinet.module import PINetModule
from repose.papers.pinet.targets import STRIDE, part_centres
from repose.skeleton import Skeleton
from repose.tables import gallery_run
from repose.tables.gallery import (
    DARK,
    DEMO_PAIRS,
    GREY,
    Settings,
    grid,
    line_scale,
    people_text,
    plot_pose,
    rgb,
    show_image,
)
from repose.tables.gallery_run import Method, Pair, Run, assign, nobodys
from repose.types import Batch, Poses

METHOD = Method(
    title="PINet",
    module=PINetModule,
    experiment="pinet/ochuman",
    demo_data=DEMO_PAIRS,
    words=("data.test_scales=[1.0]",),
)
STAGES = {"initial": "PPG", "refined": "PPG + PR", "fused": "PPG + PR + PF"}
"""How the paper calls the poses of its stages; without PR the second is left out."""
_ROOM = 1.3
"""Side of what is shown, in sides of the people's common box."""
_SMALLEST = 16.0
"""[photograph pixels] least side of what is shown."""


@dataclass(frozen=True)
class Scene:
    """One evaluated image. Points in photograph pixels.

    Attributes:
        image_HW3: the photograph.
        image_id: of it.
        overlap: largest box IoU of two of its people.
        ann_id_N: annotations with labelled joints.
        truth_NK3: their joints, x, y, v.
        box_N4: their boxes.
        centre_NP2: their part centres; nan where a person has no labelled joint of that part.
        heat_PHW: heatmaps of part centres.
        extent_4: where the maps' outer edges lie, x1, y1, x2, y2.
        peak_M4: x, y, part and height.
        pose_SGK3: poses of each stage, by the names of `STAGES`: x, y, score; the same people in the same order.
        score_G: of the fused poses.
        pose_N: which pose is whose; -1 = missed.
        oks_SN: OKS of everybody's pose at each stage; 0 where missed.
    """

    image_HW3: viz.Image
    image_id: int
    overlap: float
    ann_id_N: np.ndarray
    truth_NK3: np.ndarray
    box_N4: np.ndarray
    centre_NP2: np.ndarray
    heat_PHW: np.ndarray
    extent_4: np.ndarray
    peak_M4: np.ndarray
    pose_SGK3: dict[str, np.ndarray]
    score_G: np.ndarray
    pose_N: np.ndarray
    oks_SN: dict[str, np.ndarray]

    def window_4(self, people: slice = slice(None)) -> np.ndarray:
        """What is shown: these people with some room, as square as the photograph allows; x1, y1, x2, y2."""
        size = np.array(self.image_HW3.shape[1::-1], np.float64)
        truth_K3 = self.truth_NK3[people].reshape(-1, 3)
        joint_M2 = truth_K3[truth_K3[:, 2] > 0, :2]
        corner_M2 = np.concatenate([self.box_N4[people].reshape(-1, 2), joint_M2]).clip(-EDGE, size - EDGE)
        low, high = corner_M2.min(0), corner_M2.max(0)
        room = np.minimum(max(_ROOM * float((high - low).max()), _SMALLEST), size)
        low = np.clip((low + high - room) / 2, -EDGE, size - EDGE - room)
        return np.concatenate([low, low + room])

    def line_scale(self, joint_K3: np.ndarray) -> float:
        """Line width of a person in the window."""
        x1, y1, x2, y2 = self.window_4()
        return line_scale(joint_K3, (round(y2 - y1), round(x2 - x1)))

    def extra(self) -> np.ndarray:
        """See `gallery_run.nobodys`."""
        return nobodys(self.score_G, self.pose_N)


def open_run(settings: Settings) -> Run[PINetModule]:
    """See `gallery_run.open_run`."""
    return gallery_run.open_run(settings, METHOD)


def look(run: Run[PINetModule], ids: Sequence[int] = (), most: int = 60) -> list[Scene]:
    """Evaluate images: the wanted ones, else at most `most`, spread over the data set; those with labelled people.

    Raises:
        UserError: an image id that is not there; nobody to show.
    """
    test_set = run.test_set
    share = overlap(run.data.ground_truth(), "max")
    chosen = gallery_run.samples(test_set, ids, most)
    scenes = [scene for s in chosen if (scene := _see(run, test_set.sample(s), share)) is not None]
    if not scenes:
        raise UserError(f"nobody with labelled joints to show in {test_set.annotations.file.name}")
    return scenes


def _see(run: Run[PINetModule], batch: Batch, share: dict[int, float]) -> Scene | None:
    module, annotations = run.module, run.data.val_annotations
    if batch.b == 0:
        return None
    image_id = int(batch.image_id_B[0])
    image = int(np.flatnonzero(annotations.image_id_I == image_id)[0])
    row_N = np.array([a for a in annotations.rows(image) if annotations.labelled_A[a] and not annotations.crowd_A[a]])
    if not len(row_N):
        return None
    with torch.no_grad():
        scales = module.scales(module.views([batch]))
        found = candidates(scales, module.net.pr, module.swap, module.cfg.decode)
        _, part_BPHW = averaged(scales[0], module.swap)
    pose_SGK3, score_G = _stages(run, found, batch)
    oks_SGN = {
        name: gallery_run.annotation_oks(torch.from_numpy(pose_GK3[..., :2]), annotations, row_N, run.skeleton)
        for name, pose_GK3 in pose_SGK3.items()
    }
    pose_N = assign(oks_SGN["fused"])
    everybody = np.arange(len(pose_N))
    return Scene(
        image_HW3=viz.as_image(read_image(annotations.path(image))),
        image_id=image_id,
        overlap=share[image_id],
        ann_id_N=annotations.ann_id_A[row_N],
        truth_NK3=annotations.joint_AK3[row_N],
        box_N4=annotations.box_A4[row_N],
        centre_NP2=_centres(run, batch, annotations.ann_id_A[row_N]),
        heat_PHW=part_BPHW[0].double().numpy(),
        extent_4=_extent(part_BPHW, batch),
        peak_M4=_peaks(found, part_BPHW, batch),
        pose_SGK3=pose_SGK3,
        score_G=score_G,
        pose_N=pose_N,
        oks_SN={
            name: np.where(pose_N >= 0, oks_GN[pose_N, everybody], 0.0) if len(oks_GN) else np.zeros(len(pose_N))
            for name, oks_GN in oks_SGN.items()
        },
    )


def _stages(run: Run[PINetModule], found: Candidates, batch: Batch) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Poses of each stage on the photograph, and the fused ones' scores."""
    sigmas, cfg = run.skeleton.sigmas, run.module.cfg.decode
    refined, fused = (decode(found, sigmas, replace(cfg, fuse=fuse))[0] for fuse in (False, True))
    assert refined.extra is not None
    initial_NK3 = torch.cat([refined.extra["initial_NK2"], refined.joint_NK3[..., 2:]], dim=-1)
    poses = {"initial": Poses(initial_NK3, refined.score_N), "refined": refined, "fused": fused}
    if run.module.net.pr is None:
        del poses["refined"]
    moved = to_photograph(
        list(poses.values()), replace(batch, to_image_B23=batch.to_image_B23.expand(len(poses), 2, 3))
    )
    points = {name: pose.joint_NK3.double().numpy() for name, pose in zip(poses, moved, strict=True)}
    return points, fused.score_N.double().numpy()


def _on_photograph(point_M2: Tensor, batch: Batch) -> np.ndarray:
    return apply_affine(point_M2[None], batch.to_image_B23)[0].double().numpy()


def _centres(run: Run[PINetModule], batch: Batch, ann_id_N: np.ndarray) -> np.ndarray:
    people = batch.people
    centre_NP2, has_NP = part_centres(people, people.joint_NK3[..., :2], run.module.parts)
    where_N = [people.ann_id_N.tolist().index(i) for i in ann_id_N.tolist()]
    point = _on_photograph(centre_NP2[where_N].flatten(0, 1), batch).reshape(len(where_N), -1, 2)
    return np.where(has_NP[where_N].numpy()[..., None], point, np.nan)


def _extent(part_BPHW: Tensor, batch: Batch) -> np.ndarray:
    height, width = part_BPHW.shape[-2:]
    edge = torch.tensor([[-EDGE, -EDGE], [width - EDGE, height - EDGE]]) * STRIDE
    return _on_photograph(edge, batch).reshape(4)


def _peaks(found: Candidates, part_BPHW: Tensor, batch: Batch) -> np.ndarray:
    x, y = (found.centre_N2 / STRIDE).round().long().unbind(-1)
    height_M = part_BPHW[0, found.part_N, y, x]
    point_M2 = _on_photograph(found.centre_N2, batch)
    return np.column_stack([point_M2, found.part_N.numpy(), height_M.double().numpy()])


def overlapping(scenes: Sequence[Scene], count: int) -> list[Scene]:
    """The `count` images whose people overlap most, most first."""
    return sorted(scenes, key=lambda s: (-s.overlap, s.image_id))[:count]


def summary(scenes: Sequence[Scene]) -> str:
    """Mean OKS of all people at each stage."""
    people = sum(len(s.ann_id_N) for s in scenes)
    means = (f"{STAGES[s]} {np.concatenate([c.oks_SN[s] for c in scenes]).mean():.3f}" for s in scenes[0].oks_SN)
    return f"{len(scenes)} images, {people_text(people)}; mean OKS (0 = missed): {', '.join(means)}"


# --- figures ----------------------------------------------------------------------------------------------------------


def centres(run: Run[PINetModule], scenes: Sequence[Scene]) -> Figure:
    """A row per image: annotation, then each part's heatmap, its peaks, and where the annotated centres lie.

    Partitions of many parts take several rows for one image.
    """
    parts = run.module.parts
    columns = parts.p + 1 if parts.p <= 6 else 5
    shown = scenes[: max(1, 16 // (parts.p + 1))]
    figure, panels = grid(len(shown) * (parts.p + 1), columns, (2.6, _high(shown, 2.6)), run.heading)
    for n, scene in enumerate(shown):
        first, *rest = panels[n * (parts.p + 1) : (n + 1) * (parts.p + 1)]
        _annotation(first, scene, run.skeleton)
        for p, panel in enumerate(rest):
            _centre_map(panel, scene, p, parts.names[p])
    handles = [
        _mark("o", "none", viz.person_colour(0), "annotated centre"),
        _mark("+", "white", (255, 255, 255), "peak"),
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=2, fontsize=7, frameon=False)
    return figure


def _centre_map(axes: Axes, scene: Scene, part: int, name: str) -> None:
    heat_HW = scene.heat_PHW[part]
    top = float(heat_HW.max())
    dim = (scene.image_HW3 * 0.55).astype(np.uint8)
    heat = viz.draw_heatmap(dim, heat_HW, scene.extent_4, 0.9, max(top, 1e-6))
    _photograph(axes, scene, heat, f"{name}, highest {top:.2f}")
    edge = [Stroke(linewidth=2.6, foreground=DARK), Normal()]
    for n, (x, y) in enumerate(scene.centre_NP2[:, part]):
        if np.isfinite(x):
            colour = rgb(viz.person_colour(n))
            axes.plot(x, y, "o", ms=10, mfc="none", mec=colour, mew=1.5, path_effects=edge)
    for x, y, _, height in scene.peak_M4[scene.peak_M4[:, 2] == part]:
        if height >= 0.3 * top:  # lower ones are many, and never win a group
            axes.plot(x, y, "+", ms=7, mew=1.4, color="white", path_effects=edge)


def _mark(marker: str, face: str, edge: viz.Colour, label: str) -> Line2D:
    line = Line2D([], [], marker=marker, linestyle="", markersize=7, markerfacecolor=face, label=label)
    line.set_markeredgecolor(rgb(edge))
    line.set_markeredgewidth(1.5)
    line.set_path_effects([Stroke(linewidth=2.4, foreground=DARK), Normal()])
    return line


def _photograph(axes: Axes, scene: Scene, image: viz.Image, title: str) -> None:
    """A scene's picture, cut to the window around its people."""
    show_image(axes, image, title)
    x1, y1, x2, y2 = scene.window_4()
    axes.set_xlim(x1, x2)
    axes.set_ylim(y2, y1)


def _annotation(axes: Axes, scene: Scene, skeleton: Skeleton) -> None:
    _photograph(axes, scene, scene.image_HW3, f"image {scene.image_id}, IoU {scene.overlap:.2f}")
    for n, joint_K3 in enumerate(scene.truth_NK3):
        plot_pose(axes, joint_K3, skeleton, scale=scene.line_scale(joint_K3), colour=viz.person_colour(n))


def _predicted(axes: Axes, scene: Scene, stage: str, skeleton: Skeleton, before: str = "") -> None:
    _photograph(axes, scene, scene.image_HW3, f"{before}{STAGES[stage]}, OKS {scene.oks_SN[stage].mean():.2f}")
    people = [(g, GREY) for g in scene.extra()]
    people += [(g, viz.person_colour(n)) for n, g in enumerate(scene.pose_N) if g >= 0]
    for g, colour in people:
        joint_K3 = scene.pose_SGK3[stage][g].copy()
        joint_K3[:, 2] = 2  # joint scores, products of two heatmaps, are too low to fade by
        plot_pose(axes, joint_K3, skeleton, scale=scene.line_scale(joint_K3), colour=colour)


def stages(run: Run[PINetModule], scenes: Sequence[Scene]) -> Figure:
    """A row per image: annotation, and the poses of PPG, PR and PF."""
    names = list(scenes[0].pose_SGK3)
    figure, panels = grid(len(scenes) * (len(names) + 1), len(names) + 1, (2.6, _high(scenes, 2.6)), run.heading)
    for n, scene in enumerate(scenes):
        first, *rest = panels[n * (len(names) + 1) : (n + 1) * (len(names) + 1)]
        _annotation(first, scene, run.skeleton)
        for panel, stage in zip(rest, names, strict=True):
            _predicted(panel, scene, stage, run.skeleton)
    _key(figure)
    return figure


def figure_4(run: Run[PINetModule], scenes: Sequence[Scene]) -> Figure:
    """Figure 4 of the paper: images side by side, each with the poses of PPG, PR and PF."""
    names = list(scenes[0].pose_SGK3)
    figure, panels = grid(len(scenes) * len(names), 2 * len(names), (1.9, _high(scenes, 1.9)), run.heading)
    for n, scene in enumerate(scenes):
        for panel, stage in zip(panels[n * len(names) : (n + 1) * len(names)], names, strict=True):
            _predicted(panel, scene, stage, run.skeleton, f"{scene.image_id}: " if stage == names[0] else "")
    _key(figure)
    return figure


def _high(scenes: Sequence[Scene], wide: float) -> float:
    """[inches] of a panel, title included."""
    sizes = [s.window_4()[2:] - s.window_4()[:2] for s in scenes]
    return wide * float(np.clip(max(h / w for w, h in sizes), 0.6, 1.5)) + 0.2


def _key(figure: Figure) -> None:
    handles = [
        Line2D([], [], color=rgb(viz.person_colour(0)), linewidth=3, label="limbs: one colour per person"),
        Line2D([], [], color=rgb(GREY), linewidth=3, label="belongs to no annotated person"),
    ]
    for name, colour in (("joints: their left", (255, 150, 30)), ("their right", (50, 150, 225))):
        dot = Line2D([], [], marker="o", linestyle="", markersize=5, markerfacecolor=rgb(colour), label=name)
        dot.set_markeredgecolor(DARK)
        handles.append(dot)
    figure.legend(handles=handles, loc="outside lower left", ncols=4, fontsize=7, frameon=False)


def has_graph(run: Run[PINetModule]) -> bool:
    """Whether the network has a graph to show."""
    return run.module.net.pr is not None and run.module.net.pr.first is not None


def graph(run: Run[PINetModule]) -> Figure:
    """The graph of PR at the start of the training, now, and their difference.

    Raises:
        UserError: this network has none.
    """
    pr = run.module.net.pr
    if pr is None or pr.first is None:
        raise UserError("this network has no graph (model.refine.enabled or model.refine.graph says so)")
    start_KK = skeleton_graph(run.skeleton.k, graph_edges(pr.cfg, run.skeleton)).double().numpy()
    now_KK = pr.graph_KK.detach().double().numpy()
    figure, axes = plt.subplots(1, 3, figsize=(16, 5.7), layout="constrained")
    figure.suptitle(run.heading, x=0.01, ha="left", fontsize=11, fontweight="bold")
    change_KK = now_KK - start_KK
    high = float(np.abs([start_KK, now_KK]).max())
    drawn = [
        (start_KK, high, "at the start: the skeleton"),
        (now_KK, high, "learnt" if pr.cfg.graph == "dynamic" else "after training (static: it stays)"),
        (change_KK, max(float(np.abs(change_KK).max()), 1e-6), "difference"),
    ]
    names = [j.replace("_", " ") for j in run.skeleton.joints]
    pictures = []
    for panel, (value_KK, top, title) in zip(axes, drawn, strict=True):
        pictures.append(panel.imshow(value_KK, cmap="RdBu_r", vmin=-top, vmax=top, interpolation="nearest"))
        panel.set_title(title, fontsize=9, loc="left")
        panel.set_xticks(range(len(names)), names, rotation=90, fontsize=7.5)
        panel.set_yticks(range(len(names)), names, fontsize=7.5)
        panel.tick_params(length=0)
        panel.set_xlabel("joint that is read", fontsize=8)
    axes[0].set_ylabel("joint that is updated", fontsize=8)
    for picture, panels in ((pictures[1], list(axes[:2])), (pictures[2], [axes[2]])):
        bar = figure.colorbar(picture, ax=panels, shrink=0.75, pad=0.01 if len(panels) == 2 else 0.02)
        bar.ax.tick_params(labelsize=7.5)
    return figure


def failures(run: Run[PINetModule], scenes: Sequence[Scene], count: int = 12) -> Figure:
    """The people with the lowest OKS, worst first: annotation beside the fused pose, cut from the photograph."""
    people = [(float(s.oks_SN["fused"][n]), int(s.ann_id_N[n]), s, n) for s in scenes for n in range(len(s.ann_id_N))]
    worst = sorted(people, key=lambda p: p[:2])[:count]
    pairs = [_pair(rank, scene, n, value) for rank, (value, _, scene, n) in enumerate(worst, 1)]
    return gallery_run.beside(f"{run.heading}: lowest OKS first (grey: other poses)", pairs, run.skeleton)


def _pair(rank: int, scene: Scene, n: int, value: float) -> Pair:
    x1, y1, x2, y2 = np.rint(scene.window_4(slice(n, n + 1)) + EDGE).astype(int)
    fused_GK3 = scene.pose_SGK3["fused"] - [x1, y1, 0]
    fused_GK3[..., 2] = fused_GK3[..., 2] > 0  # not faded by score, see `_predicted`; 0 is outside the photograph
    mine = scene.pose_N[n]
    others = [g for g in (*scene.extra(), *scene.pose_N) if g not in (mine, -1)]
    return Pair(
        image_HW3=np.ascontiguousarray(scene.image_HW3[y1:y2, x1:x2]),
        truth_K3=scene.truth_NK3[n] - [x1, y1, 0],
        pose_K3=fused_GK3[mine] if mine >= 0 else None,
        titles=(f"{rank}. image {scene.image_id}", f"OKS {value:.2f}" if mine >= 0 else "missed"),
        others_GK3=fused_GK3[others],
    )
