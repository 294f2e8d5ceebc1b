# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Figures of KDC for its notebook: disks, KeyCentroids, Hough maps, embeddings, masks and skeletons.

Everything is drawn on the network's input, in its pixels, by the network's maps or by perfect ones (the annotation
itself as maps), which the heading says.

Shapes: N annotated people of an image, G predicted ones, K joints, M peaks, A arrows, P pixels, H W input pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from matplotlib.patheffects import Normal, Stroke

from repose import viz
from repose.errors import UserError
from repose.geometry import EDGE
from repose.ops.grids import resample
from repose.ops.hough import smooth
from repose.ops.oks import oks
from repose.papers.kdc.config import Model
from repose.papers.kdc.decode import Maps, keypoint_peaks, pgo_sigmas, score_map
from repose.papers.kdc.frame import Frame
from repose.papers.kdc.module import KDCModule
from repose.papers.kdc.poseseg import Reader, centroids
from repose.papers.kdc.targets import encode, pixels
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
from repose.types import Batch, Poses

METHOD = Method(
    title="KDC",
    module=KDCModule,
    experiment="kdc/r101",
    demo_data=DEMO_PAIRS,
    words=("data.masks=full",),
)
_POINTS = 1500
"""Embeddings drawn per person."""
_SMALLEST = 8.0
"""[input pixels] least half side of a window on the Hough map."""


@dataclass(frozen=True)
class Scene:
    """One evaluated image. Points in input pixels.

    Attributes:
        image_HW3: the network's input, without its padding.
        image_id: of the photograph.
        truth_NK3: annotated people, x, y, v.
        member_NHW: pixels that are in one annotated mask alone.
        joint: the joint type whose maps are shown.
        radius: of its disks.
        disk_HW: whose disk a pixel is on, by the nearest keypoint; -1 = nobody's.
        heat_HW: p_k.
        arrow_A4: pixels on the disks, and the KeyCentroid there; none without that head.
        hough_SHW: score map before PGO, after it, and after it with sigma in cells.
        sigma_S: [input pixels] of the three.
        peak_M2: its peaks.
        embed_2HW: e(p), units of U.
        pose_GK3: people, x, y, score; those with a mask of score 0 have an empty one.
        score_G: of them.
        mask_GHW: their masks; None where the method gives none.
        centre_G2: MaskCentroids, units of U.
        reach_G: distance at which phi is 1/2, units of U.
        pose_N: which pose is whose; -1 = missed.
        oks_N: OKS of everybody's pose; 0 where missed, nan without labelled joints.
    """

    image_HW3: viz.Image
    image_id: int
    truth_NK3: np.ndarray
    member_NHW: np.ndarray
    joint: int
    radius: float
    disk_HW: np.ndarray
    heat_HW: np.ndarray
    arrow_A4: np.ndarray
    hough_SHW: np.ndarray
    sigma_S: tuple[float, ...]
    peak_M2: np.ndarray
    embed_2HW: np.ndarray
    pose_GK3: np.ndarray
    score_G: np.ndarray
    mask_GHW: np.ndarray | None
    centre_G2: np.ndarray
    reach_G: np.ndarray
    pose_N: np.ndarray
    oks_N: np.ndarray

    def colour(self, pose: int) -> viz.Colour:
        """Of a predicted person: their annotated person's, or grey."""
        mine = np.flatnonzero(self.pose_N == pose)
        return viz.person_colour(int(mine[0])) if len(mine) else GREY

    def shown(self) -> list[int]:
        """See `gallery_run.drawn`."""
        return drawn(self.score_G, self.pose_N)

    def mask_iou(self) -> float:
        """Mean IoU of everybody's own pixels with their pose's mask; 0 where missed; nan without masks."""
        if self.mask_GHW is None or not len(self.pose_N):
            return math.nan
        both = [
            (self.mask_GHW[g] > 0, truth_HW) if g >= 0 else (np.zeros_like(truth_HW), truth_HW)
            for g, truth_HW in zip(self.pose_N, self.member_NHW, strict=True)
        ]
        return float(np.mean([(a & b).sum() / max((a | b).sum(), 1) for a, b in both]))


@dataclass(frozen=True)
class Look:
    """Images and what a figure of them is headed with."""

    heading: str
    scenes: Sequence[Scene]
    skeleton: Skeleton


def open_run(settings: Settings) -> Run[KDCModule]:
    """See `gallery_run.open_run`."""
    return gallery_run.open_run(settings, METHOD)


def look(run: Run[KDCModule], ids: Sequence[int] = (), most: int = 4, perfect: bool = False) -> Look:
    """Evaluate images: the wanted ones, else those of `most` whose people overlap most.

    Args:
        run: network and data.
        ids: image ids.
        most: images.
        perfect: with perfect maps instead of the network's.

    Raises:
        UserError: an image id that is not there; nobody to show.
    """
    batches = [run.test_set.sample(s) for s in gallery_run.samples(run.test_set, ids, most if ids else 8 * most)]
    batches = [b for b in batches if b.b and bool(b.people.labelled_N.any())]
    if not batches:
        raise UserError(f"nobody with labelled joints to show in {run.test_set.annotations.file.name}")
    if not ids:
        batches = sorted(batches, key=lambda b: (-_overlap(b), int(b.image_id_B[0])))[:most]
    heading = f"{PERFECT}, on {run.data.cfg.data.name}" if perfect else run.heading
    return Look(heading, [_see(run, b, perfect) for b in batches], run.skeleton)


def _overlap(batch: Batch) -> float:
    """Largest box IoU of two labelled people."""
    box_N4 = batch.people.box_N4[batch.people.labelled_N]
    low = torch.maximum(box_N4[:, None, :2], box_N4[None, :, :2])
    high = torch.minimum(box_N4[:, None, 2:], box_N4[None, :, 2:])
    both_NN = (high - low).clamp(min=0).prod(-1)
    area_N = (box_N4[:, 2:] - box_N4[:, :2]).prod(-1)
    iou_NN = both_NN / (area_N[:, None] + area_N - both_NN).clamp(min=1e-6)
    return float(iou_NN.fill_diagonal_(0).max())


@torch.no_grad()
def _see(run: Run[KDCModule], batch: Batch, perfect: bool) -> Scene:
    module, frame = run.module, run.module.frame
    model, decode = module.cfg.model, module.cfg.decode
    maps = module.oracle(batch) if perfect else module.infer(module.views([batch]))
    pose = module.decode(maps)[0]
    wide, high = (int(v) for v in batch.valid_size_B2[0])
    k = _joint(batch, frame)
    targets = encode(batch, frame, model, 1)
    disk_HW = _whose(batch, k, frame.radius)
    before_KHW = score_map(maps, 0, frame, model, decode)
    cells = replace(decode, pgo=replace(decode.pgo, unit="cell"))
    sigma_S = (0.0, *(pgo_sigmas(frame, maps.stride, d)[k] for d in (decode, cells)))
    channel_M, peak_M2, _ = keypoint_peaks(maps, 0, frame, model, decode)
    centre_G2, reach_G = _centres(maps, pose, frame, model)
    pose_N, oks_N = _matched(batch, pose, run.skeleton)
    return Scene(
        image_HW3=viz.as_image(batch.image_B3HW[0])[:high, :wide],
        image_id=int(batch.image_id_B[0]),
        truth_NK3=batch.people.joint_NK3.double().numpy(),
        member_NHW=targets.member_NHW[:, :high, :wide].numpy(),
        joint=k,
        radius=frame.radius,
        disk_HW=disk_HW[:high, :wide],
        heat_HW=_dense(maps, maps.outputs.heatmap_BKHW)[k].sigmoid()[:high, :wide].numpy(),
        arrow_A4=_arrows(maps, k, frame, disk_HW[:high, :wide]),
        hough_SHW=torch.cat([smooth(before_KHW[k : k + 1], (sigma,)) for sigma in sigma_S])[:, :high, :wide].numpy(),
        sigma_S=sigma_S,
        peak_M2=peak_M2[channel_M == k].double().numpy(),
        embed_2HW=_embedding(maps, frame)[:, :high, :wide],
        pose_GK3=pose.joint_NK3.double().numpy(),
        score_G=pose.score_N.double().numpy(),
        mask_GHW=None if pose.mask_NHW is None else (pose.mask_NHW[:, :high, :wide] >= 0.5).numpy(),
        centre_G2=centre_G2,
        reach_G=reach_G,
        pose_N=pose_N,
        oks_N=oks_N,
    )


def _joint(batch: Batch, frame: Frame) -> int:
    """The high-variance joint that most people have labelled, of those the one whose keypoints are nearest."""
    joint_NK3 = batch.people.joint_NK3
    count_K = (joint_NK3[..., 2] > 0).sum(0)
    high_K = torch.tensor(frame.high_variance_K)
    best = count_K[high_K].max() if bool(high_K.any()) and int(count_K[high_K].max()) else count_K.max()
    spread = [float(torch.pdist(p[p[:, 2] > 0, :2]).amin()) if c > 1 else 0.0
              for p, c in zip(joint_NK3.transpose(0, 1), count_K, strict=True)]  # fmt: skip
    usable = [k for k in range(frame.k) if count_K[k] == best and (frame.high_variance_K[k] or best == count_K.max())]
    return min(usable, key=lambda k: (not frame.high_variance_K[k], spread[k]))


def _whose(batch: Batch, joint: int, radius: float) -> np.ndarray:
    """Whose disk of a joint type each input pixel is on, by the nearest keypoint; -1 = nobody's."""
    wide, high = batch.input_wh
    point_N3 = batch.people.joint_NK3[:, joint].numpy()
    y, x = np.mgrid[:high, :wide]
    distance_NHW = np.hypot(x - point_N3[:, 0, None, None], y - point_N3[:, 1, None, None])
    distance_NHW[point_N3[:, 2] == 0] = np.inf
    return np.where(distance_NHW.min(0) <= radius, distance_NHW.argmin(0), -1)


def _dense(maps: Maps, map_BCHW: torch.Tensor) -> torch.Tensor:
    return resample(map_BCHW[:1].float(), maps.stride, 1, maps.input_hw)[0]


def _arrows(maps: Maps, joint: int, frame: Frame, disk_HW: np.ndarray) -> np.ndarray:
    """KeyCentroids at some pixels of the disks, (A, 4)."""
    if not maps.outputs.keycentroid_BJHW.shape[1]:
        return np.zeros((0, 4))
    step = max(2, round(frame.radius / 5))
    y, x = (v * step for v in np.nonzero(disk_HW[::step, ::step] >= 0))
    vector_2HW = _dense(maps, maps.outputs.keycentroid_BJHW)[2 * joint : 2 * joint + 2].numpy() * frame.radius
    return np.column_stack([x, y, *vector_2HW[:, y, x]])


def _embedding(maps: Maps, frame: Frame) -> np.ndarray:
    e_2HW = _dense(maps, maps.outputs.embed_B2HW) + pixels(maps.input_hw, 1, torch.device("cpu")) / frame.span
    return e_2HW.numpy()


def _centres(maps: Maps, pose: Poses, frame: Frame, model: Model) -> tuple[np.ndarray, np.ndarray]:
    """MaskCentroids, and how far phi reaches 1/2 around them, units of U."""
    if not pose.n:
        return np.zeros((0, 2)), np.zeros(0)
    reader = Reader(maps.outputs, 0, maps.stride)
    centre_G2, beta_G = centroids(pose.joint_NK3.double().numpy(), reader, frame, model)
    return centre_G2, np.sqrt(math.log(2) / beta_G)


def _matched(batch: Batch, pose: Poses, skeleton: Skeleton) -> tuple[np.ndarray, np.ndarray]:
    """Which pose is whose, and everybody's OKS."""
    people = batch.people
    linear = batch.to_image_B23[0, :, :2]
    area_N = people.area_N / float(linear[0, 0] * linear[1, 1] - linear[0, 1] * linear[1, 0])
    oks_GN = oks(pose.joint_NK3[..., :2], people.joint_NK3, area_N, skeleton.sigmas).double().nan_to_num(0).numpy()
    pose_N = assign(oks_GN)
    mine_N = oks_GN[pose_N, np.arange(people.n)] if len(oks_GN) else np.zeros(people.n)
    labelled_N = people.labelled_N.numpy()
    return pose_N, np.where(labelled_N, np.where(pose_N >= 0, mine_N, 0.0), np.nan)


def has_masks(run: Run[KDCModule]) -> bool:
    """Whether the method gives masks here (on CrowdPose it has none)."""
    return run.module.cfg.decode.masks


def summary(seen: Look) -> str:
    """Mean OKS and mask IoU of the people that are shown."""
    oks_N = np.concatenate([s.oks_N for s in seen.scenes])
    text = f"{len(seen.scenes)} images, {people_text(len(oks_N))}; mean OKS {np.nanmean(oks_N):.3f} (0 = missed)"
    iou = [s.mask_iou() for s in seen.scenes]
    return text + ("" if np.isnan(iou).all() else f", mean mask IoU {np.nanmean(iou):.3f}")


# --- figures ----------------------------------------------------------------------------------------------------------


def disks(seen: Look) -> Figure:
    """A row per image: annotation, disks of a joint type, its heatmap, its KeyCentroids."""
    return _rows(seen, [_annotated, _disks, _heat, _keycentroids])


def hough(seen: Look) -> Figure:
    """A row per image: where a window on the votes lies, the votes before and after PGO, and PGO in cells."""
    return _rows(seen, [_window, *(partial(_votes, stage=stage) for stage in range(3))])


def embeddings(seen: Look) -> Figure:
    """A row per image: annotated masks, where their pixels' embeddings lie, and the masks that come of it."""
    return _rows(seen, [_instances, _embedded, _predicted])


def people(seen: Look) -> Figure:
    """Annotated and predicted masks with skeletons, two images a row."""
    return _rows(seen, [_annotated_people, _predicted], 2)


Panel = Callable[[Axes, Scene, Skeleton], None]


def _rows(seen: Look, panels: Sequence[Panel], images: int = 1, wide: float = 2.7) -> Figure:
    """Panels of every scene, `images` scenes a row."""
    ratio = max(s.image_HW3.shape[0] / s.image_HW3.shape[1] for s in seen.scenes)
    cell = (wide, wide * float(np.clip(ratio, 0.6, 1.5)) + 0.25)
    figure, axes = grid(len(seen.scenes) * len(panels), images * len(panels), cell, seen.heading)
    for n, scene in enumerate(seen.scenes):
        for panel, draw in zip(axes[n * len(panels) : (n + 1) * len(panels)], panels, strict=True):
            draw(panel, scene, seen.skeleton)
    handles = [Line2D([], [], color=rgb(viz.person_colour(n)), lw=3, label=f"person {n + 1}") for n in range(2)]
    handles.append(Line2D([], [], color=rgb(GREY), lw=3, label="nobody's"))
    figure.legend(handles=handles, loc="outside lower left", ncols=3, fontsize=7, frameon=False)
    return figure


def _annotated(axes: Axes, scene: Scene, skeleton: Skeleton) -> None:
    show_image(axes, scene.image_HW3, f"image {scene.image_id}, annotation")
    for n, joint_K3 in enumerate(scene.truth_NK3):
        scale = line_scale(joint_K3, scene.image_HW3.shape)
        plot_pose(axes, joint_K3, skeleton, scale=scale, colour=viz.person_colour(n))


def _dim(scene: Scene, share: float = 0.55) -> viz.Image:
    return (scene.image_HW3 * share).astype(np.uint8)


def _tinted(image_HW3: viz.Image, mask_NHW: np.ndarray, colours: Sequence[viz.Colour], share: float) -> viz.Image:
    tinted = image_HW3.astype(np.float32)
    for mask_HW, colour in zip(mask_NHW, colours, strict=True):
        inside = mask_HW > 0
        tinted[inside] = (1 - share) * tinted[inside] + share * np.array(colour, np.float32)
    return np.rint(tinted).astype(np.uint8)


def _edge(width: float = 2.6) -> list[Stroke | Normal]:
    return [Stroke(linewidth=width, foreground=DARK), Normal()]


def _keypoints(axes: Axes, scene: Scene) -> None:
    """The annotated keypoints of the shown joint type."""
    for n, (x, y, v) in enumerate(scene.truth_NK3[:, scene.joint]):
        if v > 0:
            axes.plot(x, y, "o", ms=5, mfc="none", mec=rgb(viz.person_colour(n)), mew=1.4, path_effects=_edge(2.4))


def _name(scene: Scene, skeleton: Skeleton) -> str:
    return skeleton.joints[scene.joint].replace("_", " ")


def _people_masks(scene: Scene, share: float) -> viz.Image:
    colours = [viz.person_colour(n) for n in range(len(scene.member_NHW))]
    return _tinted(_dim(scene), scene.member_NHW, colours, share)


def _disks(axes: Axes, scene: Scene, skeleton: Skeleton) -> None:
    n = len(scene.truth_NK3)
    mask_NHW = scene.disk_HW == np.arange(n)[:, None, None]
    image = _tinted(_dim(scene), mask_NHW, [viz.person_colour(i) for i in range(n)], 0.6)
    show_image(axes, image, f"{_name(scene, skeleton)}: disks, R = {scene.radius:.1f} pixels")
    _keypoints(axes, scene)


def _heat(axes: Axes, scene: Scene, skeleton: Skeleton) -> None:
    top = float(scene.heat_HW.max())
    show_image(
        axes, viz.draw_heatmap(_dim(scene), scene.heat_HW, alpha=0.9, top=max(top, 1e-6)), f"p, highest {top:.2f}"
    )
    _keypoints(axes, scene)


def _keycentroids(axes: Axes, scene: Scene, skeleton: Skeleton) -> None:
    title = "KeyCentroids on the disks (enlarged)" if len(scene.arrow_A4) else "no KeyCentroids"
    show_image(axes, _dim(scene), title)
    if len(scene.arrow_A4):
        x, y, dx, dy = scene.arrow_A4.T
        whose = scene.disk_HW[y.astype(int), x.astype(int)]
        axes.quiver(
            x, y, dx, dy, angles="xy", scale_units="xy", scale=1, width=0.006,
            color=[rgb(viz.person_colour(int(n))) for n in whose],
        )  # fmt: skip
    _keypoints(axes, scene)
    y, x = np.nonzero(scene.disk_HW >= 0)
    if len(x):
        half = (max(np.ptp(x), np.ptp(y)) + scene.radius) / 2
        low_2 = np.array([x.min() + x.max(), y.min() + y.max()]) / 2 - half
        low_2 = low_2.clip(-EDGE, np.maximum(np.array(scene.image_HW3.shape[1::-1]) - EDGE - 2 * half, -EDGE))
        axes.set_xlim(low_2[0], low_2[0] + 2 * half)
        axes.set_ylim(low_2[1] + 2 * half, low_2[1])


def window_4(scene: Scene) -> np.ndarray:
    """The window on the Hough map: around the first labelled keypoint of the joint, x1, y1, x2, y2."""
    point_N3 = scene.truth_NK3[:, scene.joint]
    x, y = np.rint(point_N3[point_N3[:, 2] > 0][0, :2])
    half = max(_SMALLEST, scene.radius)
    high, wide = scene.image_HW3.shape[:2]
    return np.array([max(x - half, 0), max(y - half, 0), min(x + half, wide - 1), min(y + half, high - 1)])


def _window(axes: Axes, scene: Scene, skeleton: Skeleton) -> None:
    show_image(axes, scene.image_HW3, f"image {scene.image_id}, {_name(scene, skeleton)}: window")
    x1, y1, x2, y2 = window_4(scene)
    axes.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], color="white", lw=1.2, path_effects=_edge())
    _keypoints(axes, scene)


def _votes(axes: Axes, scene: Scene, skeleton: Skeleton, stage: int) -> None:
    x1, y1, x2, y2 = window_4(scene).astype(int)
    part_HW = scene.hough_SHW[stage, y1 : y2 + 1, x1 : x2 + 1]
    top = float(part_HW.max())
    # its own pixels, not interpolated: the smoothing is less than a pixel wide
    axes.imshow(
        part_HW, cmap="inferno", vmin=0, vmax=max(top, 1e-9), interpolation="nearest",
        extent=(x1 - EDGE, x2 + EDGE, y2 + EDGE, y1 - EDGE),
    )  # fmt: skip
    name = ("votes", "after PGO", "PGO in cells")[stage] + (f", {scene.sigma_S[stage]:.2f} pixels" if stage else "")
    axes.set_title(f"{name}: {f'highest {top:.3f}' if top else 'none'}", fontsize=7.5, loc="left", pad=3)
    axes.set_anchor("NW")
    _keypoints(axes, scene)
    for x, y in scene.peak_M2 if stage == 1 else ():
        axes.plot(x, y, "+", ms=8, mew=1.5, color="white", path_effects=_edge())
    axes.set_xlim(x1 - EDGE, x2 + EDGE)
    axes.set_ylim(y2 + EDGE, y1 - EDGE)


def _instances(axes: Axes, scene: Scene, skeleton: Skeleton) -> None:
    show_image(axes, _people_masks(scene, 0.75), f"image {scene.image_id}, annotated masks")


def _embedded(axes: Axes, scene: Scene, skeleton: Skeleton) -> None:
    axes.set_axis_on()
    for n, member_HW in enumerate(scene.member_NHW):
        e_2P = scene.embed_2HW[:, member_HW]
        e_2P = e_2P[:, :: max(1, e_2P.shape[1] // _POINTS)]
        axes.plot(*e_2P, ".", ms=1.5, alpha=0.5, color=rgb(viz.person_colour(n)), rasterized=True)
    for g in scene.shown():
        colour = rgb(scene.colour(g))
        x, y = scene.centre_G2[g]
        axes.add_patch(Circle((x, y), scene.reach_G[g], fill=False, ec=colour, lw=1.2, path_effects=_edge(2.2)))
        axes.plot(x, y, "+", ms=8, mew=1.6, color=colour, path_effects=_edge())
    axes.set_aspect("equal", adjustable="datalim")
    axes.invert_yaxis()
    axes.set_anchor("NW")
    axes.tick_params(labelsize=6)
    axes.set_title("embeddings [U]; + centroid, circle phi = 1/2", fontsize=7.5, loc="left", pad=3)


def _annotated_people(axes: Axes, scene: Scene, skeleton: Skeleton) -> None:
    show_image(axes, _people_masks(scene, 0.5), f"image {scene.image_id}, annotation")
    for n, joint_K3 in enumerate(scene.truth_NK3):
        scale = line_scale(joint_K3, scene.image_HW3.shape)
        plot_pose(axes, joint_K3, skeleton, scale=scale, colour=viz.person_colour(n))


def _predicted(axes: Axes, scene: Scene, skeleton: Skeleton) -> None:
    order, iou = scene.shown(), scene.mask_iou()
    title = f"predicted, OKS {np.nanmean(scene.oks_N):.2f}" + ("" if math.isnan(iou) else f", mask IoU {iou:.2f}")
    image = _dim(scene)
    if scene.mask_GHW is not None:
        image = _tinted(image, scene.mask_GHW[order], [scene.colour(g) for g in order], 0.5)
    show_image(axes, image, title if len(scene.score_G) else "nobody predicted")
    for g in order:
        joint_K3 = scene.pose_GK3[g].copy()
        scale = line_scale(np.column_stack([joint_K3[:, :2], np.ones(len(joint_K3))]), scene.image_HW3.shape)
        joint_K3[:, 2] = np.clip(2 * joint_K3[:, 2], 0, 1)
        plot_pose(axes, joint_K3, skeleton, "score", 0.0, scale=scale, colour=scene.colour(g))
