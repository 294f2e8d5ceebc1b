# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Figures of identity-vector grouping for its notebook: presence, vectors, clusters, recovered joints, near people.

Everything is drawn on the photograph, in its pixels, by the network or by perfect maps (the annotation itself as maps),
which the heading says. Limbs have the colour of a person; distances of vectors are in cells, root mean square over the
joints, as `decode.distance` is.

Shapes: N annotated people of an image, G predicted ones, K joints, M true keypoint cells, P active cells, H W cells.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from repose import viz
from repose.data.images import decode as read_image
from repose.engine.module import to_photograph
from repose.errors import UserError
from repose.geometry import EDGE, apply_affine
from repose.metrics.subsets import overlap
from repose.papers.idgroup import decode as grouping
from repose.papers.idgroup.decode import Active, decode, joint_types
from repose.papers.idgroup.module import IDGroupModule, Maps
from repose.papers.idgroup.targets import STRIDE, Targets, keypoint_cells, map_size, to_input, to_map
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
from repose.tables.gallery_run import PERFECT, Method, Run, assign, drawn
from repose.types import Batch

METHOD = Method(
    title="identity-vector grouping",
    module=IDGroupModule,
    experiment="idgroup/mobilenetv3",
    demo_data=DEMO_PAIRS,
    words=(),
)
DARK_GREY: viz.Colour = (70, 70, 78)
"""Poses beside the two people that they should be."""
_ROOM = 1.6
"""Side of what is shown of one person, in the longer side of their joints' box."""
_SMALLEST = 24.0
"""[photograph pixels] least side of it."""


@dataclass(frozen=True)
class Scene:
    """One evaluated image. Points in photograph pixels, cells by their centres.

    Attributes:
        image_HW3: the photograph.
        image_id: of it.
        overlap: largest box IoU of two of its people.
        cell: side of a cell.
        truth_NK3: people with labelled joints, x, y, v.
        heat_HW: presence.
        extent_4: where its outer edges lie, x1, y1, x2, y2.
        true_M2: keypoint cells of the annotation.
        owner_M: whose.
        joint_M: of which joint.
        asked_MK2: the vectors there, whether the cell is active or not.
        error_M: distance of those to the annotation, cells; over the labelled joints.
        active_P2: active cells.
        owner_P: whose keypoint cell each is; -1 = nobody's.
        joint_P: joint that its own vector names.
        vector_PK2: their vectors.
        label_P: cluster of each, which is the row of its pose.
        pose_GK3: x, y and the joint's score; 0 = recovered, without a cell of its own. By perfect maps x and y are nan
            where the annotation has no joint.
        score_G: of them.
        pose_N: which pose is whose; -1 = missed.
        oks_N: OKS of everybody's pose; 0 where missed.
    """

    image_HW3: viz.Image
    image_id: int
    overlap: float
    cell: float
    truth_NK3: np.ndarray
    heat_HW: np.ndarray
    extent_4: np.ndarray
    true_M2: np.ndarray
    owner_M: np.ndarray
    joint_M: np.ndarray
    asked_MK2: np.ndarray
    error_M: np.ndarray
    active_P2: np.ndarray
    owner_P: np.ndarray
    joint_P: np.ndarray
    vector_PK2: np.ndarray
    label_P: np.ndarray
    pose_GK3: np.ndarray
    score_G: np.ndarray
    pose_N: np.ndarray
    oks_N: np.ndarray

    def colours(self) -> list[viz.Colour]:
        """Of the poses: their annotated person's, grey for nobody's."""
        colour_G = [GREY] * len(self.score_G)
        for n, g in enumerate(self.pose_N):
            if g >= 0:
                colour_G[g] = viz.person_colour(n)
        return colour_G

    def shown(self) -> list[int]:
        """See `gallery_run.drawn`."""
        return drawn(self.score_G, self.pose_N)

    def distance_PP(self) -> np.ndarray:
        """Distance of all active cells' vectors to each other, cells."""
        vector_PD = torch.from_numpy(self.vector_PK2).flatten(1)
        return torch.cdist(vector_PD, vector_PD).numpy() / (self.cell * math.sqrt(self.vector_PK2.shape[1]))

    def nearest_pair(self) -> tuple[float, int, int]:
        """The two people whose vectors are nearest: distance in cells over the joints that both have; inf without."""
        best = (math.inf, 0, 0)
        for n in range(len(self.truth_NK3)):
            for m in range(n):
                both_K = (self.truth_NK3[[n, m], :, 2] > 0).all(0)
                step_K2 = (self.truth_NK3[n] - self.truth_NK3[m])[both_K, :2]
                apart = float(np.sqrt(np.square(step_K2).sum(1).mean())) / self.cell if both_K.any() else math.inf
                best = min(best, (apart, m, n))
        return best


@dataclass(frozen=True)
class Look:
    """Images, what a figure of them is headed with, and what grouped them."""

    heading: str
    scenes: Sequence[Scene]
    skeleton: Skeleton
    threshold: float
    distance: float


def open_run(settings: Settings) -> Run[IDGroupModule]:
    """See `gallery_run.open_run`."""
    return gallery_run.open_run(settings, METHOD)


def look(
    run: Run[IDGroupModule], ids: Sequence[int] = (), most: int = 40, perfect: bool = False, hide: bool = False
) -> Look:
    """Evaluate images: the wanted ones, else at most `most`, spread over the data set; those with labelled people.

    Of a crop of one person (`data.view: person`) all groups are shown, not the surest alone.

    Args:
        run: network and data.
        ids: image ids.
        most: images.
        perfect: with perfect maps instead of the network's.
        hide: perfect maps without presence at hidden joints (v = 1), whose cells then do not vote.

    Raises:
        UserError: an image id that is not there; nobody to show.
    """
    share = overlap(run.data.ground_truth(), "max")
    found = [
        _see(run, run.test_set.sample(s), share, perfect, hide) for s in gallery_run.samples(run.test_set, ids, most)
    ]
    scenes = [scene for scene in found if scene is not None]
    if not scenes:
        raise UserError(f"nobody with labelled joints to show in {run.test_set.annotations.file.name}")
    without = ", hidden joints' cells removed" if hide else ""
    heading = f"{PERFECT}{without}, on {run.data.cfg.data.name}" if perfect else run.heading
    cfg = run.module.cfg.decode
    return Look(heading, scenes, run.skeleton, cfg.threshold, cfg.distance)


@torch.no_grad()
def _see(run: Run[IDGroupModule], batch: Batch, share: dict[int, float], perfect: bool, hide: bool) -> Scene | None:
    module, annotations = run.module, run.data.val_annotations
    people = batch.people
    if batch.b == 0 or not bool((people.joint_NK3[..., 2] > 0).any()):
        return None
    image_id = int(batch.image_id_B[0])
    image = int(np.flatnonzero(annotations.image_id_I == image_id)[0])
    targets, size_hw = module.encode(batch), map_size(batch)
    if perfect:
        maps = module.oracle(batch)
        maps = _without_hidden(maps, targets) if hide else maps
        presence_BHW, active = maps.presence_BHW, module.active(maps)
        asked_MK2 = maps.vector_BHWK2[targets.owner_M, targets.cell_M2[:, 1], targets.cell_M2[:, 0]]
    else:
        seen = module.see(module.views([batch]))
        presence_BHW, active = module.presence(seen), module.ask(seen, batch)
        asked_MK2 = module.vectors(seen, targets.owner_M, targets.cell_M2, size_hw)
    mine_N = (people.joint_NK3[..., 2] > 0).any(1)
    row_N = np.array([int(np.flatnonzero(annotations.ann_id_A == int(a))[0]) for a in people.ann_id_N[mine_N]])
    index_N = mine_N.long().cumsum(0) - 1
    pose = to_photograph(decode(active, module.cfg.decode), batch)[0]
    oks_GN = gallery_run.annotation_oks(pose.joint_NK3[..., :2], annotations, row_N, run.skeleton)
    pose_N = assign(oks_GN)
    truth_NK3, pose_GK3 = annotations.joint_AK3[row_N], pose.joint_NK3.double().numpy()
    for n, g in enumerate(pose_N if perfect else ()):
        if g >= 0:
            pose_GK3[g, truth_NK3[n, :, 2] == 0, :2] = np.nan
    whose_HW = torch.full(size_hw, -1)
    whose_HW[targets.cell_M2[:, 1], targets.cell_M2[:, 0]] = index_N[targets.person_M]
    step = batch.to_image_B23[0, :, :2].double()
    return Scene(
        image_HW3=viz.as_image(read_image(annotations.path(image))),
        image_id=image_id,
        overlap=share[image_id],
        cell=STRIDE * math.sqrt(abs(float(torch.linalg.det(step)))),
        truth_NK3=truth_NK3,
        heat_HW=presence_BHW[0].double().numpy(),
        extent_4=_photograph_points(torch.tensor([[0.0, 0.0], [size_hw[1], size_hw[0]]]), batch).reshape(4),
        true_M2=_photograph_points(targets.cell_M2 + EDGE, batch),
        owner_M=index_N[targets.person_M].numpy(),
        joint_M=targets.joint_M.numpy(),
        asked_MK2=_photograph_points(asked_MK2, batch),
        error_M=_errors(asked_MK2, targets),
        active_P2=_photograph_points(active.cell_P2 + EDGE, batch),
        owner_P=whose_HW[active.cell_P2[:, 1], active.cell_P2[:, 0]].numpy(),
        joint_P=joint_types(active.vector_PK2, active.cell_P2).numpy(),
        vector_PK2=_photograph_points(active.vector_PK2, batch),
        label_P=grouping.clusters(active.vector_PK2, module.cfg.decode.distance).numpy(),
        pose_GK3=pose_GK3,
        score_G=pose.score_N.double().numpy(),
        pose_N=pose_N,
        oks_N=np.where(pose_N >= 0, oks_GN[pose_N, np.arange(len(row_N))], 0.0)
        if len(oks_GN)
        else np.zeros(len(row_N)),
    )


def _without_hidden(maps: Maps, targets: Targets) -> Maps:
    """Perfect maps that do not find hidden joints."""
    v_M = maps.batch.people.joint_NK3[targets.person_M, targets.joint_M, 2]
    gone = v_M == 1
    presence_BHW = maps.presence_BHW.clone()
    x_M, y_M = targets.cell_M2[gone].unbind(-1)
    presence_BHW[targets.owner_M[gone], y_M, x_M] = 0
    return maps._replace(presence_BHW=presence_BHW)


def _photograph_points(point_g: Tensor, batch: Batch) -> np.ndarray:
    """Positions on the map, (..., 2), to the photograph."""
    flat_M2 = to_input(point_g.double()).reshape(-1, 2)
    return apply_affine(flat_M2[None], batch.to_image_B23.double())[0].reshape(point_g.shape).numpy()


def _errors(vector_MK2: Tensor, targets: Targets) -> np.ndarray:
    """Distance of vectors to the annotation over its labelled joints, cells; root mean square."""
    square_MK = (vector_MK2 - targets.vector_MK2).square().sum(-1) * targets.weight_MK
    return (square_MK.sum(1) / targets.weight_MK.sum(1).clamp(min=1)).sqrt().double().numpy()


def overlapping(seen: Look, count: int) -> list[Scene]:
    """The `count` images whose people overlap most, most first."""
    return sorted(seen.scenes, key=lambda s: (-s.overlap, s.image_id))[:count]


def summary(seen: Look) -> str:
    """How well vectors and poses fit the annotation."""
    scenes = seen.scenes
    oks_N, error_M = (np.concatenate([getattr(s, name) for s in scenes]) for name in ("oks_N", "error_M"))
    cells = sum(len(s.label_P) for s in scenes) / len(scenes)
    people = sum(len(s.score_G) for s in scenes) / len(scenes)
    return (
        f"{len(scenes)} images, {people_text(len(oks_N))}; an image has {cells:.1f} active cells in {people:.1f} "
        f"clusters; vectors at keypoint cells are {error_M.mean():.2f} cells off (T = {seen.distance:g}); "
        f"mean OKS {oks_N.mean():.3f} (0 = missed)"
    )


# --- figures ----------------------------------------------------------------------------------------------------------


def presence(seen: Look, count: int = 6) -> Figure:
    """Annotated keypoint cells, presence, and active cells with whose they are; two images a row."""
    return _rows(seen, overlapping(seen, count), [_keypoint_cells, _presence, _active], 2, poses=False)


def clusters(seen: Look, count: int = 4) -> Figure:
    """A row per image: whose cells are, which cluster they went to, the distances between them, and the poses."""
    figure = _rows(seen, overlapping(seen, count), [_active, _clustered, _distances, _poses])
    pictures = [axes.images[0] for axes in figure.axes if axes.images and axes.images[0].get_cmap().name == "RdBu_r"]
    if pictures:
        bar = figure.colorbar(pictures[0], ax=figure.axes, shrink=0.3, pad=0.01, location="right")
        bar.set_label(f"distance [cells]; white: T = {seen.distance:g}", fontsize=7)
        bar.ax.tick_params(labelsize=6)
    return figure


def figure_3(seen: Look, count: int = 8) -> Figure:
    """Figure 3 of the paper: images with their people."""
    return _rows(seen, overlapping(seen, count), [_poses], 4)


def vectors(seen: Look, count: int = 4) -> Figure:
    """What every keypoint cell of one person says: annotation, all vectors as skeletons, their mean; two a row."""
    chosen = [(s, _most_cells(s)) for s in overlapping(seen, count)]
    figure, panels = grid(3 * len(chosen), 6, (2.2, 2.45), seen.heading)
    for i, (scene, n) in enumerate(chosen):
        mine_M = scene.owner_M == n
        window_4 = _window(scene, scene.truth_NK3[n])
        marked, said, mean = panels[3 * i : 3 * i + 3]
        _person(marked, scene, n, seen, f"image {scene.image_id}: {int(mine_M.sum())} keypoint cells")
        _cells(marked, scene, scene.true_M2[mine_M], _joint_colours(seen.skeleton, scene.joint_M[mine_M]))
        show_image(said, _dim(scene), f"their vectors: {scene.error_M[mine_M].mean():.2f} cells off")
        _skeletons(said, scene.asked_MK2[mine_M], scene.joint_M[mine_M], seen.skeleton)
        mean_K2 = scene.asked_MK2[mine_M].mean(0)
        truth_K3 = scene.truth_NK3[n]
        has_K = truth_K3[:, 2] > 0
        off = float(np.sqrt(np.square(mean_K2 - truth_K3[:, :2]).sum(1)[has_K].mean())) / scene.cell
        show_image(mean, _dim(scene), f"their mean: {off:.2f} cells off")
        _pose(mean, scene, np.column_stack([mean_K2, np.full(len(mean_K2), 2.0)]), seen.skeleton, viz.person_colour(n))
        for panel in (marked, said, mean):
            _cut(panel, window_4)
    _legend(figure, "cell and its vector: their ")
    return figure


def recovered(seen: Look, count: int = 6) -> Figure:
    """People with hidden joints: annotation, the cells that voted, and the pose, its recovered joints hollow."""
    people = [
        (s, n, int((s.truth_NK3[n, :, 2] == 1).sum())) for s in seen.scenes for n, g in enumerate(s.pose_N) if g >= 0
    ]
    found = sorted((p for p in people if p[2]), key=lambda p: (-p[2], p[0].image_id))[:count]
    figure, panels = grid(3 * max(len(found), 1), 6, (2.2, 2.45), seen.heading)
    if not found:
        panels[0].set_title("nobody with hidden joints was found", fontsize=8, loc="left")
    for i, (scene, n, hidden) in enumerate(found):
        joint_K3 = _by_cells(scene.pose_GK3[scene.pose_N[n]])
        mine_P = scene.label_P == scene.pose_N[n]
        window_4 = _window(scene, scene.truth_NK3[n])
        marked, voted, pose = panels[3 * i : 3 * i + 3]
        _person(marked, scene, n, seen, f"image {scene.image_id}: {hidden} joints hidden")
        show_image(voted, _dim(scene), f"{int(mine_P.sum())} cells voted")
        _cells(voted, scene, scene.active_P2[mine_P], _joint_colours(seen.skeleton, scene.joint_P[mine_P]))
        show_image(
            pose, scene.image_HW3, f"{int((joint_K3[:, 2] == 1).sum())} joints recovered, OKS {scene.oks_N[n]:.2f}"
        )
        _pose(pose, scene, joint_K3, seen.skeleton, viz.person_colour(n))
        for panel in (marked, voted, pose):
            _cut(panel, window_4)
    _legend(figure, "cell: their ")
    return figure


def near(run: Run[IDGroupModule], seen: Look, pairs: int = 4) -> Figure:
    """People nearer than T merge: a person and a moved copy, then the nearest pairs of the images that were seen.

    Args:
        run: gives the grouping and the map's size.
        seen: images by perfect maps.
        pairs: how many; two a row.
    """
    scenes = sorted((s for s in seen.scenes if math.isfinite(s.nearest_pair()[0])), key=lambda s: s.nearest_pair()[0])
    scenes = scenes[:pairs]
    figure, panels = grid(4 + 2 * len(scenes), 4, (2.6, 2.5), f"{seen.heading}; T = {seen.distance:g} cells")
    truth_K3, cell = max(
        ((t_K3, s.cell) for s in seen.scenes for t_K3 in s.truth_NK3),
        key=lambda p: ((p[0][:, 2] > 0).sum(), float(np.ptp(p[0][p[0][:, 2] > 0, 1])) / p[1]),
    )
    for panel, share in zip(panels, (1 / 3, 2 / 3, 4 / 3, 2), strict=False):
        _copy(panel, run, seen, truth_K3, cell, share * seen.distance)
    for i, scene in enumerate(scenes):
        apart, *both = scene.nearest_pair()
        truth, pose = panels[4 + 2 * i : 6 + 2 * i]
        window_4 = _window(scene, scene.truth_NK3[both])
        show_image(truth, scene.image_HW3, f"image {scene.image_id}: two people, {apart:.1f} cells apart")
        for n in both:
            _pose(truth, scene, scene.truth_NK3[n], seen.skeleton, viz.person_colour(n))
        groups = [set(scene.label_P[scene.owner_P == n].tolist()) for n in both]
        text = "merged: cells of both in one cluster" if groups[0] & groups[1] else "kept apart"
        _poses(pose, scene, seen, text)
        for panel in (truth, pose):
            _cut(panel, window_4)
    _legend(figure)
    return figure


Panel = Callable[[Axes, Scene, Look], None]


def _rows(seen: Look, scenes: Sequence[Scene], panels: Sequence[Panel], images: int = 1, poses: bool = True) -> Figure:
    """Panels of every scene, `images` scenes a row."""
    ratio = max(s.image_HW3.shape[0] / s.image_HW3.shape[1] for s in scenes)
    wide = min(2.7, 14 / (images * len(panels)))
    cell = (wide, wide * float(np.clip(ratio, 0.6, 1.5)) + 0.25)
    figure, axes = grid(len(scenes) * len(panels), images * len(panels), cell, seen.heading)
    for n, scene in enumerate(scenes):
        for panel, draw in zip(axes[n * len(panels) : (n + 1) * len(panels)], panels, strict=True):
            draw(panel, scene, seen)
    _legend(figure, poses=poses)
    return figure


def _dim(scene: Scene, share: float = 0.55) -> viz.Image:
    return (scene.image_HW3 * share).astype(np.uint8)


def _keypoint_cells(axes: Axes, scene: Scene, seen: Look) -> None:
    show_image(axes, _dim(scene, 0.75), f"image {scene.image_id}: {len(scene.owner_M)} keypoint cells")
    _cells(axes, scene, scene.true_M2, [viz.person_colour(int(n)) for n in scene.owner_M])


def _presence(axes: Axes, scene: Scene, seen: Look) -> None:
    heat = viz.draw_heatmap(_dim(scene), scene.heat_HW, scene.extent_4, 0.9, 1.0)
    show_image(axes, heat, f"presence, highest {scene.heat_HW.max():.2f}")


def _active(axes: Axes, scene: Scene, seen: Look) -> None:
    right = int((scene.owner_P >= 0).sum())
    text = f"{len(scene.owner_P)} cells from {seen.threshold:g} on, {right} of them right"
    show_image(axes, _dim(scene, 0.75), text if len(scene.owner_P) else f"no cell reaches {seen.threshold:g}")
    _cells(axes, scene, scene.active_P2, [viz.person_colour(int(n)) if n >= 0 else GREY for n in scene.owner_P])


def _clustered(axes: Axes, scene: Scene, seen: Look) -> None:
    groups = len(scene.score_G)
    show_image(axes, _dim(scene, 0.75), f"{groups} cluster{'' if groups == 1 else 's'}")
    colour_G = scene.colours()
    _cells(axes, scene, scene.active_P2, [colour_G[g] for g in scene.label_P])


def _distances(axes: Axes, scene: Scene, seen: Look) -> None:
    """Distances between active cells, cluster after cluster."""
    axes.set_title("distances of the vectors" if len(scene.label_P) else "no vectors", fontsize=7.5, loc="left", pad=3)
    if not len(scene.label_P):
        return
    order_P = np.argsort(scene.label_P, kind="stable")
    norm = TwoSlopeNorm(seen.distance, 0, 3 * seen.distance)
    axes.imshow(scene.distance_PP()[np.ix_(order_P, order_P)], cmap="RdBu_r", norm=norm, interpolation="nearest")
    axes.set_anchor("NW")
    for edge in np.flatnonzero(np.diff(scene.label_P[order_P])) + EDGE:
        axes.axhline(edge, color=DARK, lw=0.6)
        axes.axvline(edge, color=DARK, lw=0.6)


def _poses(axes: Axes, scene: Scene, seen: Look, text: str = "") -> None:
    text = text or f"image {scene.image_id}, OKS {scene.oks_N.mean():.2f}"
    show_image(axes, scene.image_HW3, text if len(scene.score_G) else f"image {scene.image_id}: nobody found")
    colour_G = scene.colours()
    for g in scene.shown():
        _pose(axes, scene, _by_cells(scene.pose_GK3[g]), seen.skeleton, colour_G[g])


def _by_cells(pose_K3: np.ndarray) -> np.ndarray:
    """A pose to draw: joints with a cell of their own filled, recovered ones hollow, those that nobody knows not."""
    known_K = np.isfinite(pose_K3).all(1)
    return np.column_stack([pose_K3[:, :2], np.where(known_K, np.where(pose_K3[:, 2] > 0, 2, 1), 0)])


def _person(axes: Axes, scene: Scene, n: int, seen: Look, title: str) -> None:
    show_image(axes, scene.image_HW3, title)
    _pose(axes, scene, scene.truth_NK3[n], seen.skeleton, viz.person_colour(n))


def _pose(axes: Axes, scene: Scene, joint_K3: np.ndarray, skeleton: Skeleton, colour: viz.Colour) -> None:
    plot_pose(axes, joint_K3, skeleton, scale=line_scale(joint_K3, scene.image_HW3.shape), colour=colour)


def _cells(axes: Axes, scene: Scene, centre_M2: np.ndarray, colours: Sequence[viz.Colour]) -> None:
    """Cells as squares, tinted and framed."""
    half = 0.46 * scene.cell
    corner_42 = half * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    faces = [(*rgb(c), 0.55) for c in colours]
    squares = PolyCollection(
        list(centre_M2[:, None] + corner_42), facecolors=faces, edgecolors=[rgb(c) for c in colours], linewidths=0.7
    )
    axes.add_collection(squares, autolim=False)


def _skeletons(axes: Axes, vector_MK2: np.ndarray, joint_M: np.ndarray, skeleton: Skeleton) -> None:
    """Vectors as thin skeletons, each in the colour of the joint whose cell says it."""
    limb_L2 = np.array(skeleton.limb_index)
    colours = np.array([rgb(c) for c in _joint_colours(skeleton, joint_M)])
    lines = vector_MK2[:, limb_L2].reshape(-1, 2, 2)
    axes.add_collection(
        LineCollection(list(lines), colors=np.repeat(colours, len(limb_L2), axis=0), linewidths=0.6, alpha=0.5),
        autolim=False,
    )


def _joint_colours(skeleton: Skeleton, joint_M: np.ndarray) -> list[viz.Colour]:
    colour_K = viz.joint_colours(skeleton)
    return [colour_K[int(k)] for k in joint_M]


def _most_cells(scene: Scene) -> int:
    """The person with the most keypoint cells."""
    return int(np.bincount(scene.owner_M, minlength=len(scene.truth_NK3)).argmax())


def _window(scene: Scene, truth_NK3: np.ndarray) -> np.ndarray:
    """What is shown of some people: a square with room around them, inside the photograph; x1, y1, x2, y2."""
    size_2 = np.array(scene.image_HW3.shape[1::-1], np.float64)
    joint_M3 = truth_NK3.reshape(-1, 3)
    point_M2 = joint_M3[joint_M3[:, 2] > 0, :2].clip(-EDGE, size_2 - EDGE)
    low_2, high_2 = point_M2.min(0), point_M2.max(0)
    side = min(max(_ROOM * float((high_2 - low_2).max()), _SMALLEST), float(size_2.min()))
    low_2 = ((low_2 + high_2 - side) / 2).clip(-EDGE, size_2 - EDGE - side)
    return np.concatenate([low_2, low_2 + side])


def _cut(axes: Axes, window_4: np.ndarray) -> None:
    axes.set_xlim(window_4[0], window_4[2])
    axes.set_ylim(window_4[3], window_4[1])


def _copy(axes: Axes, run: Run[IDGroupModule], seen: Look, truth_K3: np.ndarray, cell: float, apart: float) -> None:
    """A person and a copy beside them, and who is found of perfect maps; in cells, on no photograph."""
    has_K = truth_K3[:, 2] > 0
    height, width = run.module.cfg.data.input_size
    size_hw = (height // STRIDE, width // STRIDE)
    point_K2 = truth_K3[:, :2] / cell
    middle_2 = (point_K2[has_K].min(0) + point_K2[has_K].max(0) + np.array([apart, 0])) / 2
    point_K2 = point_K2 - middle_2 + np.array(size_hw[::-1]) / 2
    both_NK2 = torch.from_numpy(np.stack([point_K2, point_K2 + np.array([apart, 0])])).float()
    labelled_NK = torch.from_numpy(np.stack([has_K, has_K]))
    radius = run.module.cfg.loss.presence_radius
    owner_M, cell_M2, person_M, _ = keypoint_cells(both_NK2, labelled_NK, torch.zeros(2).long(), size_hw, radius)
    active = Active(owner_M, cell_M2, torch.ones(len(owner_M)), both_NK2[person_M], 1)
    pose = decode(active, run.module.cfg.decode)[0]
    for n, point in enumerate(both_NK2.double().numpy()):
        joint_K3 = np.column_stack([point, has_K])
        plot_pose(axes, joint_K3, seen.skeleton, scale=0.6, colour=viz.person_colour(n))
    for joint_K3 in pose.joint_NK3:
        point = np.column_stack([to_map(joint_K3[:, :2]).double().numpy(), 2 * has_K])
        plot_pose(axes, point, seen.skeleton, scale=0.9, colour=DARK_GREY)
    axes.set_title(f"{apart:.1f} cells apart: {people_text(pose.n)} found (dark)", fontsize=7.5, loc="left", pad=3)
    reach = 0.6 * float(np.ptp(both_NK2.numpy()[:, has_K], axis=(0, 1)).max())
    axes.set_aspect("equal")
    axes.set_anchor("NW")
    _cut(
        axes, np.array([size_hw[1] / 2 - reach, size_hw[0] / 2 - reach, size_hw[1] / 2 + reach, size_hw[0] / 2 + reach])
    )


def _legend(figure: Figure, cells: str = "", poses: bool = True) -> None:
    """The key: people's colours, or those of joints' sides where cells have them."""
    handles = [
        Line2D([], [], color=rgb(viz.person_colour(0)), linewidth=3, label="one colour per annotated person"),
        Line2D([], [], color=rgb(GREY), linewidth=3, label="nobody's"),
    ]
    if cells:
        sides = {"left": (255, 150, 30), "right": (50, 150, 225), "middle": (225, 215, 180)}
        handles = [
            Line2D([], [], marker="s", linestyle="", markersize=6, color=rgb(colour), label=f"{cells}{side}")
            for side, colour in sides.items()
        ]
    fills = {"joint, seen or with a cell of its own": DARK, "hidden, or recovered without one": "none"}
    for name, fill in fills.items() if poses else ():
        dot = Line2D([], [], marker="o", linestyle="", markersize=5, markerfacecolor=fill, label=name)
        dot.set_markeredgecolor(DARK)
        handles.append(dot)
    figure.legend(handles=handles, loc="outside lower left", ncols=len(handles), fontsize=7, frameon=False)
