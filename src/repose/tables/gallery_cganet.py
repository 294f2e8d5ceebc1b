# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Figures of CGANet for its notebook: centre and line maps, extended boxes, masks, the paper's Figure 5.

Everything but the top row of Figure 5 is drawn on the network's input, in its pixels. A figure shows what the network
found, or what perfect maps give (the annotation itself as maps), which its heading says.

Shapes: N annotated people of an image, G detected ones, K joints, H W input pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, Stroke
from torch import Tensor

from repose import viz
from repose.config import leaves
from repose.data.images import decode as read_image
from repose.engine import checkpoint as ckpt
from repose.engine.rundir import BEST, read_result
from repose.errors import UserError
from repose.geometry import EDGE
from repose.ops.boxes import box_centre, box_size, centre_box
from repose.ops.oks import oks
from repose.papers.cganet.decode import (
    Detections,
    alleviated,
    detect,
    extend,
    joints,
    paste,
    poses,
    see,
)
from repose.papers.cganet.model import Maps
from repose.papers.cganet.module import CGANetModule, SeparatedModule
from repose.papers.cganet.targets import STRIDE, encode
from repose.skeleton import Skeleton
from repose.tables import gallery_run
from repose.tables.cells import Choice, as_argument, at_scale, cell
from repose.tables.gallery import (
    DARK,
    DEMO_DATA,
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
from repose.tables.schema import find_tables
from repose.types import Batch

Role = Literal["single", "masks", "separated", "pooler", "guider"]
ROWS: dict[Role, tuple[str, str]] = {
    "single": ("cganet/1", "f"),
    "masks": ("cganet/6", "ours-512"),
    "separated": ("cganet/4", "ours"),
    "pooler": ("cganet/1", "a"),
    "guider": ("cganet/1", "b"),
}
"""Table and row that trains each network of the notebook."""
CUT = 0.08
"""[share of the box's side] by which every side of the perfect maps' boxes is drawn in: defective boxes."""


_FULL = 0.5
"""Probability that is drawn with full strength, where a map has no higher one."""


def method(role: Role) -> Method[Any]:
    """The network that a role is played by; its demo is the table row's, at mini."""
    table, row_id = ROWS[role]
    row = find_tables(table)[0].rows[row_id]
    given = {word.partition("=")[0] for word in gallery_run.DEMO_RUN}  # of every demo
    changed = {k: v for k, v in [*leaves(row.set), *leaves(row.set_at.get("mini", {}))] if k not in given}
    experiment = {"masks": "cganet/masks", "separated": "cganet/separated"}.get(role, "cganet/coco")
    return Method(
        title="CGANet",
        module=SeparatedModule if role == "separated" else CGANetModule,
        experiment=experiment,
        demo_data=(*DEMO_DATA, *(as_argument(key, value) for key, value in changed.items())),
        words=("data.masks=full",) if role == "masks" else (),
    )


def open_run(settings: Settings, role: Role = "single") -> Run[Any]:
    """A role's network: the given checkpoint if it plays this role, else its table row's run, else a demo.

    Only a run of the checkpoint's scale counts; without a checkpoint every role has its demo.

    Raises:
        UserError: see `gallery_run.open_run`.
    """
    given = settings.checkpoint
    if given is None:
        return gallery_run.open_run(settings, method(role))
    saved: Any = ckpt.saved_config(ckpt.find(given))
    mine = given if _role_of(saved) == role else _of_table(role, str(saved.get("scale")), saved)
    return gallery_run.open_run(replace(settings, checkpoint=mine), method(role))


def _role_of(saved: dict[str, Any]) -> Role:
    if saved.get("paper") != "cganet":
        return "single"  # which says that it is none
    if saved["model"]["kind"] == "separated":
        return "separated"
    return "masks" if saved["model"]["task"] == "masks" else "single"


def _of_table(role: Role, scale: str, saved: dict[str, Any]) -> str | None:
    """Folder of the finished run of a role's table row, None where there is none."""
    table_name, row_id = ROWS[role]
    (table,) = find_tables(table_name)
    row = table.rows[row_id]
    if not at_scale(row, scale):
        return None
    folder = cell(table, row, Choice(scale, settings=(f"log.runs={saved['log']['runs']}",))).folder
    result = read_result(folder)
    return str(folder) if result and result.get("status") == "done" and (folder / BEST).is_file() else None


def label(run: Run[CGANetModule]) -> str:
    """A network in words."""
    model = run.module.cfg.model
    pyramid = "FPN" if model.backbone.kind == "fpn" else "TNet"
    many = f" x{model.roi.stages}" if model.roi.stages > 1 else ""
    return f"{pyramid} + " + ("ROIPooler" if model.roi.kind == "pooler" else f"ROIGuider{many}")


# --- what is shown ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scene:
    """One evaluated image. Points and boxes in input pixels.

    Attributes:
        image_HW3: the network's input.
        image_id: of the photograph.
        window_4: the part that the photograph covers, x1, y1, x2, y2.
        truth_NK3: annotated people with labelled joints (masks: with a mask), x, y, v.
        box_N4: their boxes.
        mask_NHW: their masks; None where there are none to compare with.
        map_HW: maps of the detection branch by their symbols; M_x and M_y where the network has centre lines.
        extent_4: where the maps' outer edges lie.
        coarse_G4: detected boxes, best first.
        extended_G4: the same, extended.
        score_G: their detection scores.
        pose_SGK3: joints in the `coarse` and in the `extended` boxes, x, y, score; {} where nothing reads joints.
        mask_GHW: masks in the extended boxes; None where the network has none.
        mine_N: which detection is whose; -1 = missed.
        quality_SN: OKS of everybody's pose (of the mask network: IoU of everybody's mask) before and after the
            extension; 0 where missed. Perfect maps: the share of a person's box that the detected one holds.
    """

    image_HW3: viz.Image
    image_id: int
    window_4: np.ndarray
    truth_NK3: np.ndarray
    box_N4: np.ndarray
    mask_NHW: np.ndarray | None
    map_HW: dict[str, np.ndarray]
    extent_4: np.ndarray
    coarse_G4: np.ndarray
    extended_G4: np.ndarray
    score_G: np.ndarray
    pose_SGK3: dict[str, np.ndarray]
    mask_GHW: np.ndarray | None
    mine_N: np.ndarray
    quality_SN: dict[str, np.ndarray]

    def colour(self, detection: int) -> viz.Colour:
        """Of a detection: its annotated person's, or grey."""
        mine = np.flatnonzero(self.mine_N == detection)
        return viz.person_colour(int(mine[0])) if len(mine) else GREY

    def shown(self) -> list[int]:
        """See `gallery_run.drawn`."""
        return drawn(self.score_G, self.mine_N)


@dataclass(frozen=True)
class Look:
    """Images and what a figure of them is headed with.

    Attributes:
        heading: of the figure.
        scenes: the images.
        skeleton: joints.
        quality: what `Scene.quality_SN` is.
    """

    heading: str
    scenes: Sequence[Scene]
    skeleton: Skeleton
    quality: str


def look(run: Run[CGANetModule], ids: Sequence[int] = (), most: int = 4, perfect: bool = False) -> Look:
    """Evaluate images: the wanted ones, else `most` of those with the most people.

    Args:
        run: network and data.
        ids: image ids.
        most: images.
        perfect: with perfect maps and boxes drawn in by `CUT` on every side, instead of the network's.

    Raises:
        UserError: an image id that is not there; nobody to show.
    """
    batches = [run.test_set.sample(s) for s in gallery_run.samples(run.test_set, ids, most if ids else 8 * most)]
    batches = [b for b in batches if b.b and bool(_shown_people(run.module, b).any())]
    if not batches:
        raise UserError(f"nobody to show in {run.test_set.annotations.file.name}")
    if not ids:
        batches = sorted(batches, key=lambda b: (-int(_shown_people(run.module, b).sum()), int(b.image_id_B[0])))[:most]
    heading = f"{PERFECT}, on {run.data.cfg.data.name}" if perfect else run.heading
    quality = "held" if perfect else ("mask IoU" if run.module.masks else "OKS")
    return Look(heading, [_perfect(run, b) if perfect else _see(run, b) for b in batches], run.skeleton, quality)


def _shown_people(module: CGANetModule, batch: Batch) -> Tensor:
    people = batch.people
    if module.masks and people.mask_NHW is not None:
        return (people.mask_NHW > 0).flatten(1).any(1)
    return people.labelled_N


@torch.no_grad()
def _see(run: Run[CGANetModule], batch: Batch) -> Scene:
    module, cfg = run.module, run.module.cfg.decode
    views = module.views([batch])
    scene = see(module.net, [v.image_BCHW for v in views], [v.mirrored for v in views])
    found = detect(scene.maps, cfg)
    boxes = {"coarse": found.box_cell_N4 * STRIDE, "extended": extend(found, scene.maps, cfg)}
    heat = {s: poses(module.net, scene, b, found.owner_N, run.skeleton.flip_index) for s, b in boxes.items()}
    pose_SGK3: dict[str, Tensor] = {}
    mask_GHW = truth_NHW = None
    shown_N = _shown_people(module, batch)
    if module.masks:
        masks = {s: paste(heat[s], boxes[s], scene.input_wh) for s in boxes}
        mask_GHW = masks["extended"].numpy()
        assert batch.people.mask_NHW is not None
        truth_NHW = batch.people.mask_NHW[shown_N].numpy()
        likeness = {s: mask_iou(m.numpy(), truth_NHW) for s, m in masks.items()}
    else:
        pose_SGK3 = {s: joints(heat[s], boxes[s], cfg) for s in boxes}
        likeness = {s: input_oks(batch, p, run.skeleton)[:, shown_N.numpy()] for s, p in pose_SGK3.items()}
    mine_N = assign(likeness["extended"])
    everybody = np.arange(len(mine_N))
    return _scene(
        batch, shown_N, scene.maps, found, boxes["extended"],
        pose_SGK3={s: p.double().numpy() for s, p in pose_SGK3.items()}, mask_GHW=mask_GHW, mask_NHW=truth_NHW,
        alleviated_HW=alleviated(scene.maps, cfg.alpha, cfg.beta) if module.cfg.model.centre_lines else None,
        mine_N=mine_N,
        quality_SN={
            s: np.where(mine_N >= 0, x[mine_N, everybody], 0.0) if len(x) else np.zeros(len(mine_N))
            for s, x in likeness.items()
        },
    )  # fmt: skip


@torch.no_grad()
def _perfect(run: Run[CGANetModule], batch: Batch) -> Scene:
    """The annotation as maps; everybody's box is drawn in on every side, then extended along the perfect lines."""
    module, cfg = run.module, run.module.cfg.decode
    targets = encode(batch, module.cfg.loss, masks=False)
    nothing = torch.zeros_like(targets.hm_B1HW).expand(-1, 2, -1, -1)
    maps = Maps(targets.hm_B1HW, nothing, nothing, targets.line_x_B1HW, targets.line_y_B1HW)
    shown_N = batch.people.labelled_N
    box_N4 = batch.people.box_N4[shown_N].float()
    defective_N4 = centre_box(box_centre(box_N4), box_size(box_N4) * (1 - 2 * CUT)) / STRIDE
    n = len(box_N4)
    found = Detections(defective_N4, torch.zeros(n, dtype=torch.int64), torch.ones(n))
    extended_N4 = extend(found, maps, replace(cfg, extend="dichotomy"))
    held = {s: _held(b, box_N4) for s, b in (("coarse", defective_N4 * STRIDE), ("extended", extended_N4))}
    return _scene(
        batch, shown_N, maps, found, extended_N4,
        pose_SGK3={}, mask_GHW=None, mask_NHW=None, alleviated_HW=alleviated(maps, cfg.alpha, cfg.beta),
        mine_N=np.arange(n), quality_SN=held,
    )  # fmt: skip


def _held(inner_N4: Tensor, outer_N4: Tensor) -> np.ndarray:
    """Share of each outer box that the inner one of the same row covers, (N,)."""
    low = torch.maximum(inner_N4[:, :2], outer_N4[:, :2])
    high = torch.minimum(inner_N4[:, 2:], outer_N4[:, 2:])
    return ((high - low).clamp(min=0).prod(-1) / box_size(outer_N4).prod(-1).clamp(min=1e-6)).double().numpy()


def _scene(
    batch: Batch,
    shown_N: Tensor,
    maps: Maps,
    found: Detections,
    extended_N4: Tensor,
    *,
    pose_SGK3: dict[str, np.ndarray],
    mask_GHW: np.ndarray | None,
    mask_NHW: np.ndarray | None,
    alleviated_HW: Tensor | None,
    mine_N: np.ndarray,
    quality_SN: dict[str, np.ndarray],
) -> Scene:
    map_HW = {"H": maps.hm_B1HW}
    if alleviated_HW is not None:
        map_HW |= {"H'": alleviated_HW, "M_y": maps.line_y_B1HW, "M_x": maps.line_x_B1HW}
    high, wide = maps.hm_B1HW.shape[-2:]
    low_2 = np.zeros(2) if batch.valid_origin_B2 is None else batch.valid_origin_B2[0].double().numpy()
    people = batch.people
    return Scene(
        image_HW3=viz.as_image(batch.image_B3HW[0]),
        image_id=int(batch.image_id_B[0]),
        window_4=np.concatenate([low_2, low_2 + batch.valid_size_B2[0].double().numpy()]) - EDGE,
        truth_NK3=people.joint_NK3[shown_N].double().numpy(),
        box_N4=people.box_N4[shown_N].double().numpy(),
        mask_NHW=mask_NHW,
        map_HW={name: m[0, 0].double().numpy() for name, m in map_HW.items()},
        extent_4=np.array([-EDGE, -EDGE, wide - EDGE, high - EDGE]) * STRIDE,
        coarse_G4=(found.box_cell_N4 * STRIDE).double().numpy(),
        extended_G4=extended_N4.double().numpy(),
        score_G=found.score_N.double().numpy(),
        pose_SGK3=pose_SGK3,
        mask_GHW=mask_GHW,
        mine_N=mine_N,
        quality_SN=quality_SN,
    )


def input_oks(batch: Batch, joint_GK3: Tensor, skeleton: Skeleton) -> np.ndarray:
    """OKS of poses with everybody of an image, in input pixels, (G, N)."""
    people = batch.people
    linear = batch.to_image_B23[0, :, :2]
    area_N = people.area_N / float(linear[0, 0] * linear[1, 1] - linear[0, 1] * linear[1, 0])
    return oks(joint_GK3[..., :2], people.joint_NK3, area_N, skeleton.sigmas).double().nan_to_num(0).numpy()


def mask_iou(mask_GHW: np.ndarray, truth_NHW: np.ndarray) -> np.ndarray:
    """IoU of every pair of masks, (G, N)."""
    a_GP, b_NP = (m.reshape(len(m), int(np.prod(m.shape[1:]))) > 0 for m in (mask_GHW, truth_NHW))
    both_GN = a_GP.astype(np.float32) @ b_NP.astype(np.float32).T
    union_GN = a_GP.sum(1)[:, None] + b_NP.sum(1) - both_GN
    return both_GN / np.maximum(union_GN, 1)


def summary(seen: Look) -> str:
    """Means over the people that are shown, before and after the extension."""
    each = {s: np.concatenate([scene.quality_SN[s] for scene in seen.scenes]) for s in ("coarse", "extended")}
    name = "share of the person's box that is held" if seen.quality == "held" else f"mean {seen.quality} (0 = missed)"
    people = people_text(len(each["coarse"]))
    return f"{len(seen.scenes)} images, {people}; {name}: {each['coarse'].mean():.3f} in coarse boxes, " + (
        f"{each['extended'].mean():.3f} in extended ones"
    )


# --- figures ----------------------------------------------------------------------------------------------------------

Panel = Callable[[Axes, Scene, Look], None]


def maps(seen: Look) -> Figure:
    """A row per image: annotation, H, H' = H^alpha (M_x M_y)^beta, and the centre-line maps."""
    names = list(seen.scenes[0].map_HW)
    return _rows(seen, [_annotated, *(partial(_map, name=name) for name in names)])


def boxes(seen: Look) -> Figure:
    """Coarse boxes with the joints read in them, and the same extended, two images a row."""
    return _rows(seen, [partial(_boxes, stage="coarse"), partial(_boxes, stage="extended")], 2)


def masks(seen: Look) -> Figure:
    """Annotated and predicted masks, two images a row."""
    return _rows(seen, [partial(_masks, annotated=True), partial(_masks, annotated=False)], 2)


def _rows(seen: Look, panels: Sequence[Panel], images: int = 1, wide: float = 2.7) -> Figure:
    ratio = max((s.window_4[3] - s.window_4[1]) / (s.window_4[2] - s.window_4[0]) for s in seen.scenes)
    cell_size = (wide, wide * float(np.clip(ratio, 0.6, 1.5)) + 0.25)
    figure, axes = grid(len(seen.scenes) * len(panels), images * len(panels), cell_size, seen.heading)
    for n, scene in enumerate(seen.scenes):
        for panel, draw in zip(axes[n * len(panels) : (n + 1) * len(panels)], panels, strict=True):
            draw(panel, scene, seen)
    handles = [Line2D([], [], color=rgb(viz.person_colour(n)), lw=3, label=f"person {n + 1}") for n in range(2)]
    handles.append(Line2D([], [], color=rgb(GREY), lw=3, label="nobody's"))
    styles = {"coarse box": "--", "extended box": "-"} | ({"annotated box": ":"} if seen.quality == "held" else {})
    for name, style in styles.items():
        handles.append(Line2D([], [], color="black", lw=1.2, ls=style, label=name))
    figure.legend(handles=handles, loc="outside lower left", ncols=6, fontsize=7, frameon=False)
    return figure


def _photograph(axes: Axes, scene: Scene, image: viz.Image, title: str) -> None:
    """The input without its padding."""
    show_image(axes, image, title)
    axes.set_xlim(scene.window_4[0], scene.window_4[2])
    axes.set_ylim(scene.window_4[3], scene.window_4[1])


def _dim(scene: Scene) -> viz.Image:
    return (scene.image_HW3 * 0.55).astype(np.uint8)


def _edge(width: float) -> list[Stroke | Normal]:
    return [Stroke(linewidth=width, foreground=DARK), Normal()]


def draw_box(axes: Axes, box_4: np.ndarray, colour: viz.Colour, style: str) -> None:
    """A box x1, y1, x2, y2 in a line style of matplotlib."""
    x1, y1, x2, y2 = box_4
    axes.add_patch(
        Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec=rgb(colour), lw=1.3, ls=style, path_effects=_edge(2.2))
    )


def _annotated(axes: Axes, scene: Scene, seen: Look) -> None:
    _photograph(axes, scene, scene.image_HW3, f"image {scene.image_id}, annotation")
    for n, (joint_K3, box_4) in enumerate(zip(scene.truth_NK3, scene.box_N4, strict=True)):
        colour = viz.person_colour(n)
        draw_box(axes, box_4, colour, "solid")
        plot_pose(axes, joint_K3, seen.skeleton, scale=line_scale(joint_K3, scene.image_HW3.shape), colour=colour)


def _map(axes: Axes, scene: Scene, seen: Look, name: str) -> None:
    value_HW = scene.map_HW[name]
    top = float(value_HW.max())
    heat = viz.draw_heatmap(_dim(scene), value_HW, scene.extent_4, 0.9, max(top, _FULL))
    what = {"H": "centres H", "H'": "alleviated H'", "M_y": "vertical lines M_y", "M_x": "horizontal lines M_x"}[name]
    _photograph(axes, scene, heat, f"{what}, highest {top:.2f}")
    for n, box_4 in enumerate(scene.box_N4):
        x, y = (box_4[:2] + box_4[2:]) / 2
        axes.plot(x, y, "o", ms=7, mfc="none", mec=rgb(viz.person_colour(n)), mew=1.4, path_effects=_edge(2.4))


def _boxes(axes: Axes, scene: Scene, seen: Look, stage: str) -> None:
    shown = scene.shown()
    quality = float(scene.quality_SN[stage].mean())
    title = f"{'coarse' if stage == 'coarse' else 'extended'} boxes, {seen.quality} {quality:.2f}"
    if stage == "extended" and shown:
        moved = np.abs(scene.extended_G4[shown] - scene.coarse_G4[shown]).mean()
        title += f", {moved:.1f} px a side"
    _photograph(axes, scene, scene.image_HW3, f"image {scene.image_id}, {title}" if stage == "coarse" else title)
    if seen.quality == "held":
        for n, box_4 in enumerate(scene.box_N4):
            plot_pose(axes, scene.truth_NK3[n], seen.skeleton, scale=0.5, colour=viz.person_colour(n))
            draw_box(axes, box_4, (255, 255, 255), "dotted")
    for g in shown:
        draw_box(axes, scene.coarse_G4[g], scene.colour(g), "dashed")
        if stage == "extended":
            draw_box(axes, scene.extended_G4[g], scene.colour(g), "solid")
        if scene.pose_SGK3:
            _pose(axes, scene.pose_SGK3[stage][g], scene, seen.skeleton, scene.colour(g))


def _pose(axes: Axes, joint_K3: np.ndarray, scene: Scene, skeleton: Skeleton, colour: viz.Colour) -> None:
    whole_K3 = np.column_stack(
        [joint_K3[:, :2], np.full(len(joint_K3), 2.0)]
    )  # heights of heatmaps are too low to fade by
    plot_pose(axes, whole_K3, skeleton, scale=line_scale(whole_K3, scene.image_HW3.shape), colour=colour)


def _masks(axes: Axes, scene: Scene, seen: Look, annotated: bool) -> None:
    if annotated:
        order = list(range(len(scene.box_N4)))
        mask_NHW, colours = scene.mask_NHW, [viz.person_colour(n) for n in order]
        title = f"image {scene.image_id}, annotation"
    else:
        order = scene.shown()
        mask_NHW, colours = scene.mask_GHW, [scene.colour(g) for g in order]
        title = f"predicted, {seen.quality} {scene.quality_SN['extended'].mean():.2f}"
    assert mask_NHW is not None
    _photograph(axes, scene, viz.draw_masks(_dim(scene), mask_NHW[order], colours, 0.5), title)
    if not annotated:
        for g, colour in zip(order, colours, strict=True):
            draw_box(axes, scene.extended_G4[g], colour, "solid")


# --- Figure 5 of the paper --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Photo:
    """A photograph with the poses of the separated model, photograph pixels.

    Attributes:
        image_HW3: the photograph.
        image_id: of it.
        pose_GK3: x, y, score of everybody whose box was cropped.
    """

    image_HW3: viz.Image
    image_id: int
    pose_GK3: np.ndarray = field(repr=False)


@torch.no_grad()
def photos(run: Run[SeparatedModule], ids: Sequence[int] = (), most: int = 4) -> list[Photo]:
    """The separated model on the wanted images, else on `most` of those with the most people."""
    test_set = run.test_set
    image_S = test_set.image_S
    if ids:
        rows = [int(test_set.image_S[s]) for s in gallery_run.samples(test_set, ids, most)]
        images = list(dict.fromkeys(rows))
    else:
        count_I = np.bincount(image_S)
        images = np.argsort(-count_I, kind="stable")[:most].tolist()
    found: list[Photo] = []
    for image in images:
        crops = [test_set[(0, int(s))] for s in np.flatnonzero(image_S == image)]
        joint_GK3 = [run.module.evaluate(c).poses_img[0].joint_NK3[0].double().numpy() for c in crops if c[0].b]
        if joint_GK3:
            path = test_set.annotations.path(image)
            image_id = int(test_set.annotations.image_id_I[image])
            found.append(Photo(viz.as_image(read_image(path)), image_id, np.stack(joint_GK3)))
    if not found:
        raise UserError(f"nobody to show in {test_set.annotations.file.name}")
    return found


def figure_5(separated: Sequence[Photo], heading: str, single: Look, mask: Look) -> Figure:
    """Figure 5 of the paper: the separated model, the single model, and masks, a row each."""
    columns = max(len(separated), len(single.scenes), len(mask.scenes))
    sizes = [p.image_HW3.shape[:2] for p in separated]
    sizes += [(s.window_4[3] - s.window_4[1], s.window_4[2] - s.window_4[0]) for s in (*single.scenes, *mask.scenes)]
    ratio = float(np.clip(max(h / w for h, w in sizes), 0.6, 1.5))
    figure, axes = grid(3 * columns, columns, (2.6, 2.6 * ratio + 0.25))
    for panel, photo in zip(axes, separated, strict=False):
        show_image(panel, photo.image_HW3, f"separated, image {photo.image_id}")
        for n, joint_K3 in enumerate(photo.pose_GK3):
            whole_K3 = np.column_stack([joint_K3[:, :2], np.full(len(joint_K3), 2.0)])
            scale = line_scale(whole_K3, photo.image_HW3.shape)
            plot_pose(panel, whole_K3, single.skeleton, scale=scale, colour=viz.person_colour(n))
    for panel, scene in zip(axes[columns:], single.scenes, strict=False):
        _photograph(panel, scene, scene.image_HW3, f"single, image {scene.image_id}")
        for g in scene.shown():
            _pose(panel, scene.pose_SGK3["extended"][g], scene, single.skeleton, scene.colour(g))
    for panel, scene in zip(axes[2 * columns :], mask.scenes, strict=False):
        _masks(panel, scene, mask, annotated=False)
        panel.set_title(f"masks, image {scene.image_id}", fontsize=7.5, loc="left", pad=3)
    lines = [f"separated: {heading}", f"single: {single.heading}", f"masks: {mask.heading}"]
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=8)
    return figure
