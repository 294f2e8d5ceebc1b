"""Drawing of people, boxes, regions and heatmaps, for notebooks, previews, reports and W&B.

Pictures go in and come out as RGB uint8 (H, W, 3); nothing is drawn in place. Coordinates: see `geometry.py` (pixel
centres at integers). Left is drawn in orange, right in blue, the middle in a pale cream: orange and blue stay apart in
every common kind of colour blindness (Okabe & Ito 2008), and thin dark outlines keep all three readable on any ground.
Joints with v = 2 are filled, with v = 1 (hidden) hollow, with v = 0 not drawn.

Shapes: N people, K joints, S side of a region in cells, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from repose.geometry import EDGE, PoseAffine, crop_affine
from repose.skeleton import Skeleton

Image = NDArray[np.uint8]
Colour = tuple[int, int, int]

DARK: Colour = (24, 24, 28)
PAPER: Colour = (255, 255, 255)
_FAMILIES: dict[str, tuple[Colour, Colour]] = {
    # (first limb, last limb): the shade runs over a family's limbs, so that neighbouring limbs can be told apart.
    "left": ((255, 190, 70), (213, 94, 0)),
    "right": ((120, 205, 255), (0, 105, 190)),
    "centre": ((255, 250, 225), (225, 215, 180)),
}
_PEOPLE: tuple[Colour, ...] = (
    (70, 225, 120), (255, 95, 205), (230, 255, 70), (60, 235, 215), (180, 130, 255), (235, 60, 70),
)  # fmt: skip
_SLACK = 0.01
"""How far a picture of floats may leave [0, 1]: resampling does by a little."""
_SHIFT = 4
"""OpenCV draws at 1 / 2^4 of a pixel."""


# --- inputs -----------------------------------------------------------------------------------------------------------


def as_image(image: Any) -> Image:
    """A copy as contiguous RGB uint8 (H, W, 3).

    Args:
        image: numpy array or torch tensor; (H, W, 3), (H, W) or (3, H, W); uint8, or floating point in [0, 1].

    Raises:
        ValueError: another shape, type or range.
    """
    array = image.detach().cpu().numpy() if isinstance(image, torch.Tensor) else np.asarray(image)
    if array.ndim == 3 and array.shape[0] == 3 and array.shape[2] != 3:
        array = array.transpose(1, 2, 0)
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=2)
    if array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(f"not an RGB picture: shape {array.shape}")
    if array.dtype != np.uint8:
        if not np.issubdtype(array.dtype, np.floating):
            raise ValueError(f"not a picture: values of type {array.dtype}")
        if array.size and not (array.min() >= -_SLACK and array.max() <= 1 + _SLACK):
            raise ValueError(f"not a picture: {array.dtype} from {array.min():g} to {array.max():g}, not in [0, 1]")
        array = np.clip(np.rint(array.astype(np.float64) * 255), 0, 255).astype(np.uint8)
    return np.array(array, order="C")


def _numbers(values: Any, columns: int) -> NDArray[np.float64]:
    """Numpy float64 of shape (N, ..., columns), from numpy, torch or lists; empty lists become N = 0."""
    array = values.detach().cpu().double().numpy() if isinstance(values, torch.Tensor) else np.asarray(values, float)
    return array.reshape(0, columns) if array.size == 0 and array.ndim < 2 else array


def side_of(skeleton: Skeleton, joint: int) -> Literal["left", "right", "centre"]:
    """Side of a joint, from the skeleton's flip pairs."""
    name = skeleton.joints[joint]
    for left, right in skeleton.flip_pairs:
        if name == left:
            return "left"
        if name == right:
            return "right"
    return "centre"


def limb_colours(skeleton: Skeleton) -> list[Colour]:
    """One colour per limb: left, right or centre (ends on different sides) family, shaded along the family."""
    sides = []
    for a, b in skeleton.limb_index:
        ends = {side_of(skeleton, a), side_of(skeleton, b)} - {"centre"}
        sides.append(ends.pop() if len(ends) == 1 else "centre")
    return _shaded(sides)


def joint_colours(skeleton: Skeleton) -> list[Colour]:
    """One colour per joint, by its side."""
    return _shaded([side_of(skeleton, k) for k in range(skeleton.k)])


def person_colour(person: int) -> Colour:
    """A colour for one of several people; all keep away from the sides' orange and blue, and come again after six."""
    return _PEOPLE[person % len(_PEOPLE)]


def _shaded(sides: Sequence[str]) -> list[Colour]:
    colours = []
    for i, side in enumerate(sides):
        first, last = _FAMILIES[side]
        share = sides[:i].count(side) / max(sides.count(side) - 1, 1)
        colours.append(tuple(round(a + (b - a) * share) for a, b in zip(first, last, strict=True)))
    return colours


# --- one shape --------------------------------------------------------------------------------------------------------


def _blend(image: Image, outline_M2: NDArray[np.float64], colour: Colour, alpha: float) -> None:
    """Fill a convex polygon in place, anti-aliased, at sub-pixel positions."""
    height, width = image.shape[:2]
    low = np.maximum(np.floor(outline_M2.min(0)).astype(int) - 1, 0)
    high = np.minimum(np.ceil(outline_M2.max(0)).astype(int) + 2, (width, height))
    if alpha <= 0 or (low >= high).any():
        return
    patch = image[low[1] : high[1], low[0] : high[0]]
    painted = np.ascontiguousarray(patch)
    points = np.rint((outline_M2 - low) * 2**_SHIFT).astype(np.int32)
    cv2.fillConvexPoly(painted, points, colour, cv2.LINE_AA, _SHIFT)
    patch[:] = painted if alpha >= 1 else cv2.addWeighted(painted, alpha, np.ascontiguousarray(patch), 1 - alpha, 0)


def _capsule(a: NDArray[np.float64], b: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    """Outline of a line with round ends; a circle where the ends coincide."""
    along = b - a
    angle = np.arctan2(along[1], along[0])
    turn = np.linspace(np.pi / 2, 3 * np.pi / 2, 12)
    return np.concatenate([end + radius * _unit(angle + start + turn) for end, start in ((a, 0.0), (b, np.pi))])


def _unit(angle: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def _ring(image: Image, behind: Image, centre: NDArray[np.float64], radius: float, colour: Colour, edge: float) -> None:
    """A hollow joint: dark edge, coloured ring, and inside it what was there before the limbs were drawn."""
    _blend(image, _capsule(centre, centre, radius + edge), DARK, 1)
    _blend(image, _capsule(centre, centre, radius), colour, 1)
    inner = max(radius * 0.5, 0.6)
    _blend(image, _capsule(centre, centre, inner + edge * 0.7), DARK, 1)
    hole = np.zeros(image.shape[:2], np.uint8)
    cv2.fillConvexPoly(
        hole, np.rint(_capsule(centre, centre, inner) * 2**_SHIFT).astype(np.int32), 255, cv2.LINE_AA, _SHIFT
    )
    share = hole[..., None] / np.float32(255)
    image[:] = np.rint(behind * share + image * (1 - share)).astype(np.uint8)


# --- people -----------------------------------------------------------------------------------------------------------


def draw_poses(
    image: Any,
    joint_NK3: Any,
    skeleton: Skeleton,
    third: Literal["visibility", "score"] = "visibility",
    threshold: float = 0.2,
    width: float | None = None,
) -> Image:
    """Draw people as limbs and joints.

    Args:
        image: the picture (see `as_image`).
        joint_NK3: x, y in its pixels, and visibility or score; N may be 0.
        skeleton: names, sides and limbs.
        third: `visibility`: v = 0 is left out, v = 1 hollow and its limbs pale; `score`: joints at or below `threshold`
            are left out, the others fade with their score.
        threshold: see `third`.
        width: limb width in pixels; None scales it to each person.

    Returns:
        A new picture.
    """
    canvas = as_image(image)
    limbs, joints = limb_colours(skeleton), joint_colours(skeleton)
    for joint_K3 in _numbers(joint_NK3, 3):
        point, value = joint_K3[:, :2], joint_K3[:, 2]
        shown = (value > 0 if third == "visibility" else value > threshold) & np.isfinite(point).all(1)
        if not shown.any():
            continue
        alpha = np.where(value > 1, 1.0, 0.55) if third == "visibility" else np.clip(0.35 + value, 0, 1)
        hollow = (value <= 1) if third == "visibility" else np.zeros(len(value), bool)
        thick = limb_width(point[shown]) if width is None else width
        edge = max(0.28 * thick, 0.6)
        behind = canvas.copy()
        for (a, b), colour in zip(skeleton.limb_index, limbs, strict=True):
            if shown[a] and shown[b]:
                # Short limbs (a face's) are thinner, or they would cover what they describe.
                half = float(np.clip(0.15 * np.hypot(*(point[a] - point[b])), 0.25 * thick, 0.5 * thick))
                strength = float(min(alpha[a], alpha[b]))
                _blend(canvas, _capsule(point[a], point[b], half + edge), DARK, strength)
                _blend(canvas, _capsule(point[a], point[b], half), colour, strength)
        for k in np.flatnonzero(shown):
            apart = np.hypot(*(point[shown] - point[k]).T)
            nearest = float(apart[apart > 0].min(initial=np.inf))
            radius = float(np.clip(0.4 * nearest - edge, 0.4 * thick, 0.8 * thick))
            if hollow[k]:
                _ring(canvas, behind, point[k], radius * 1.15, joints[k], edge)
            else:
                _blend(canvas, _capsule(point[k], point[k], radius + edge), DARK, float(alpha[k]))
                _blend(canvas, _capsule(point[k], point[k], radius), joints[k], float(alpha[k]))
    return canvas


def sketch_poses(image: Any, joint_NK3: Any, skeleton: Skeleton, threshold: float = 0.2) -> Image:
    """Draw people fast, for video: plain lines and dots in `draw_poses`' colours, a tenth of its time.

    Args:
        image: the picture (see `as_image`).
        joint_NK3: x, y in its pixels, and score; N may be 0.
        skeleton: names, sides and limbs.
        threshold: joints with scores at or below it are left out.

    Returns:
        A new picture.
    """
    canvas = as_image(image)
    limbs, joints = limb_colours(skeleton), joint_colours(skeleton)
    reach = 1e4  # OpenCV's fixed point overflows beyond
    for joint_K3 in _numbers(joint_NK3, 3):
        point = joint_K3[:, :2]
        shown = (joint_K3[:, 2] > threshold) & (np.abs(point) < reach).all(1)
        if not shown.any():
            continue
        thick = max(1, round(0.8 * limb_width(point[shown])))
        where = [(int(x), int(y)) for x, y in np.rint(np.where(shown[:, None], point, 0) * 2**_SHIFT)]
        drawn = [
            (where[a], where[b], c)
            for (a, b), c in zip(skeleton.limb_index, limbs, strict=True)
            if shown[a] and shown[b]
        ]
        for a, b, _ in drawn:
            cv2.line(canvas, a, b, DARK, thick + 2, cv2.LINE_AA, _SHIFT)
        for a, b, colour in drawn:
            cv2.line(canvas, a, b, colour, thick, cv2.LINE_AA, _SHIFT)
        for k in np.flatnonzero(shown):
            cv2.circle(canvas, where[k], (thick + 1) << _SHIFT, DARK, -1, cv2.LINE_AA, _SHIFT)
            cv2.circle(canvas, where[k], thick << _SHIFT, joints[k], -1, cv2.LINE_AA, _SHIFT)
    return canvas


def draw_masks(image: Any, mask_NHW: Any, colours: Sequence[Colour] | None = None, alpha: float = 0.4) -> Image:
    """Tint people's masks and line their outlines.

    Args:
        image: the picture.
        mask_NHW: masks of its size, 0/1 or bool.
        colours: N colours; None = one after the other of `person_colour`.
        alpha: opacity of the tint.
    """
    canvas = as_image(image)
    masks = mask_NHW.detach().cpu().numpy() if isinstance(mask_NHW, torch.Tensor) else np.asarray(mask_NHW)
    thick = max(1, round(min(canvas.shape[:2]) / 300))
    for n, mask_HW in enumerate(masks.astype(np.uint8)):
        colour = person_colour(n) if colours is None else colours[n]
        inside = mask_HW > 0
        if inside.any():
            canvas[inside] = np.rint(canvas[inside] * (1 - alpha) + np.array(colour) * alpha).astype(np.uint8)
            outlines, _ = cv2.findContours(mask_HW, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(canvas, outlines, -1, colour, thick, cv2.LINE_AA)
    return canvas


def limb_width(point_M2: NDArray[np.float64]) -> float:
    """Limb width in pixels for a person whose shown joints are given: 2.2 % of the diagonal, 1.2 to 14."""
    return float(np.clip(0.022 * np.hypot(*np.ptp(point_M2, axis=0)), 1.2, 14))


def draw_points(image: Any, point_NK2: Any, skeleton: Skeleton, size: float = 6.0, to_NK2: Any | None = None) -> Image:
    """Draw points (a coarse stage's, say) as crosses in their joints' colours.

    Args:
        image: the picture.
        point_NK2: x, y in its pixels.
        skeleton: gives the colours.
        size: length of the cross's arms from end to end, pixels.
        to_NK2: where thin lines lead from each cross (the refined points, say), or None.
    """
    canvas, colours = as_image(image), joint_colours(skeleton)
    points = _numbers(point_NK2, 2).reshape(-1, skeleton.k, 2)
    ends = points if to_NK2 is None else _numbers(to_NK2, 2).reshape(-1, skeleton.k, 2)
    thin = max(size / 10, 0.5)
    arms = [np.array(arm) * size / 2 / np.sqrt(2) for arm in ((1.0, 1.0), (1.0, -1.0))]
    for point_K2, end_K2 in zip(points, ends, strict=True):
        for k in np.flatnonzero(np.isfinite(point_K2).all(1)):
            strokes = [(point_K2[k] - arm, point_K2[k] + arm) for arm in arms]
            if to_NK2 is not None and np.isfinite(end_K2[k]).all():
                strokes.insert(0, (point_K2[k], end_K2[k]))
            for a, b in strokes:
                _blend(canvas, _capsule(a, b, 2.2 * thin), DARK, 1)
            for a, b in strokes:
                _blend(canvas, _capsule(a, b, thin), colours[k], 1)
    return canvas


# --- boxes, regions, heatmaps -----------------------------------------------------------------------------------------


def draw_boxes(
    image: Any,
    box_N4: Any,
    labels: Sequence[str] | None = None,
    colours: Sequence[Colour] | None = None,
    width: float | None = None,
) -> Image:
    """Draw boxes (x1, y1, x2, y2; joint coordinates) with labels above them.

    Args:
        image: the picture.
        box_N4: boxes.
        labels: N texts, or None.
        colours: N colours; None = yellow.
        width: line width in pixels; None scales it to the picture.
    """
    canvas = as_image(image)
    thick = max(1.0, min(canvas.shape[:2]) / 220) if width is None else width
    boxes = _numbers(box_N4, 4)
    for n, (x1, y1, x2, y2) in enumerate(boxes):
        colour = (255, 225, 60) if colours is None else colours[n]
        corner = [np.array(p) for p in ((x1, y1), (x2, y1), (x2, y2), (x1, y2))]
        edges = list(zip(corner, corner[1:] + corner[:1], strict=True))
        for a, b in edges:
            _blend(canvas, _capsule(a, b, thick / 2 + max(0.4 * thick, 0.6)), DARK, 1)
        for a, b in edges:
            _blend(canvas, _capsule(a, b, thick / 2), colour, 1)
        if labels is not None and labels[n]:
            _label(canvas, labels[n], int(x1), int(y1), max(10, round(min(canvas.shape[:2]) / 22)))
    return canvas


def draw_rois(image: Any, centre_K2: Any, side: float, skeleton: Skeleton, width: float | None = None) -> Image:
    """Draw a square region around each joint's centre, in that joint's colour.

    Args:
        image: the picture.
        centre_K2: region centres, pixels.
        side: side of the squares, pixels.
        skeleton: gives the colours.
        width: line width in pixels.
    """
    centre = _numbers(centre_K2, 2)
    box = np.concatenate([centre - side / 2, centre + side / 2], axis=1)
    return draw_boxes(image, box, colours=joint_colours(skeleton), width=width)


def heat_colours(heatmap_HW: Any, top: float | None = None) -> Image:
    """A heatmap in colours, black (0) over red to pale yellow (`top`; None = its maximum); negative values are 0."""
    heat = np.clip(_numbers(heatmap_HW, 1), 0, None)
    top = max(float(heat.max(initial=0)), 1e-12) if top is None else top
    grey = np.rint(np.clip(heat / top, 0, 1) * 255).astype(np.uint8)
    return as_image(cv2.cvtColor(cv2.applyColorMap(grey, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB))


def draw_heatmap(
    image: Any, heatmap_HW: Any, box_4: Any | None = None, alpha: float = 0.75, top: float | None = None
) -> Image:
    """Lay a heatmap over a picture; where it is low the picture shows through.

    Args:
        image: the picture.
        heatmap_HW: values, 0 and up.
        box_4: where the map's outer edges lie (x1, y1, x2, y2; joint coordinates); None = over the whole picture.
        alpha: opacity at the top.
        top: value drawn with full strength; None = the map's maximum.
    """
    canvas = as_image(image)
    heat = np.clip(_numbers(heatmap_HW, 1), 0, None).astype(np.float32)
    height, width = canvas.shape[:2]
    top = max(float(heat.max(initial=0)), 1e-12) if top is None else top
    x1, y1, x2, y2 = (-EDGE, -EDGE, width - EDGE, height - EDGE) if box_4 is None else (float(v) for v in box_4)
    place = crop_affine(
        ((heat.shape[1] - 1) / 2, (heat.shape[0] - 1) / 2), (heat.shape[1], heat.shape[0]), (1, 1)
    ).matrix_23
    # The map's cells go to the unit square around 0, then to the box.
    place = np.array([[x2 - x1], [y2 - y1]]) * place + np.array([[0, 0, (x1 + x2) / 2], [0, 0, (y1 + y2) / 2]])
    size = (width, height)
    share = cv2.warpAffine(np.clip(heat / top, 0, 1), place, size, flags=cv2.INTER_LINEAR)
    colour = heat_colours(share, 1.0)
    weight = (alpha * np.sqrt(share))[..., None]
    return np.rint(canvas * (1 - weight) + colour * weight).astype(np.uint8)


# --- arranging --------------------------------------------------------------------------------------------------------


def enlarge(image: Any, short_side: int = 480) -> tuple[Image, PoseAffine]:
    """Enlarge a small picture, so that thin lines look good on it; large ones stay as they are.

    Returns:
        The picture and the map from its old pixels to its new ones (`map.points(joint[..., :2])`).
    """
    source = as_image(image)
    height, width = source.shape[:2]
    factor = max(1.0, short_side / min(height, width))
    out = (round(width * factor), round(height * factor))
    affine = crop_affine(((width - 1) / 2, (height - 1) / 2), (width, height), out)
    if out == (width, height):
        return source, affine
    return as_image(cv2.resize(source, out, interpolation=cv2.INTER_CUBIC)), affine


def move(joint_NK3: Any, affine: PoseAffine) -> NDArray[np.float64]:
    """Joints (x, y, v or score) under a map; the third column stays. Shape: (N, K, 3)."""
    joint = _numbers(joint_NK3, 3)
    return np.concatenate([affine.points(joint[..., :2]), joint[..., 2:]], axis=-1)


def beside(
    image: Any,
    truth_NK3: Any,
    predicted_NK3: Any,
    skeleton: Skeleton,
    captions: tuple[str, str] = ("ground truth", "prediction"),
    threshold: float = 0.2,
    short_side: int = 480,
) -> Image:
    """Ground truth beside prediction on one picture. Arguments as `draw_poses`, visibilities and scores as thirds."""
    large, affine = enlarge(image, short_side)
    left = draw_poses(large, move(truth_NK3, affine), skeleton)
    right = draw_poses(large, move(predicted_NK3, affine), skeleton, "score", threshold)
    return sheet([left, right], 2, captions)


def sheet(
    images: Sequence[Any],
    columns: int,
    captions: Sequence[str] | None = None,
    title: str = "",
    cell: tuple[int, int] | None = None,
    foot: Image | None = None,
) -> Image:
    """Arrange pictures in rows, each in the middle of its cell, with a caption below it.

    Args:
        images: pictures; a column is as wide as its widest one.
        columns: pictures per row.
        captions: one text per picture, or None.
        title: a line above all.
        cell: height, width that every picture is scaled to fit; None = as they are.
        foot: a picture below all, at the left (a legend, say).
    """
    pictures = [as_image(i) for i in images]
    if not pictures:
        raise ValueError("a sheet needs a picture")
    if captions is not None and len(captions) != len(pictures):
        raise ValueError(f"{len(captions)} captions for {len(pictures)} pictures")
    columns = min(columns, len(pictures))
    if cell:
        pictures = [_fit(p, *cell) for p in pictures]
    wide_C = [max(p.shape[1] for p in pictures[c::columns]) for c in range(columns)]
    size = int(np.clip(max(wide_C) / 20, 11, 18))
    gap, line, head = max(6, size // 2), (round(1.9 * size) if captions else 0), (round(3.0 * size) if title else 0)
    rows = [range(r, min(r + columns, len(pictures))) for r in range(0, len(pictures), columns)]
    high_R = [max(pictures[n].shape[0] for n in row) for row in rows]
    total_w = sum(wide_C) + (columns + 1) * gap
    body_h = head + sum(high_R) + len(rows) * (line + gap) + gap
    out = np.full((body_h, total_w, 3), PAPER, np.uint8)
    if title:
        _text(out, title, gap, gap + round(1.6 * size), round(1.35 * size), total_w - 2 * gap, bold=True)
    y = head + gap
    for row, high in zip(rows, high_R, strict=True):
        x = gap
        for n, wide in zip(row, wide_C, strict=False):
            picture = pictures[n]
            inset = (wide - picture.shape[1]) // 2
            top = y + (high - picture.shape[0]) // 2
            out[top : top + picture.shape[0], x + inset : x + inset + picture.shape[1]] = picture
            if captions:
                # below the picture's left edge, unless the text needs more room than it has there
                needs = _text_width(captions[n], size, False)
                start = x + inset if needs <= wide - inset else x
                _text(out, captions[n], start, y + high + round(1.25 * size), size, wide - (start - x))
            x += wide + gap
        y += high + line + gap
    if foot is None:
        return out
    under = np.full((foot.shape[0] + gap, max(total_w, foot.shape[1]), 3), PAPER, np.uint8)
    under[: foot.shape[0], : foot.shape[1]] = foot
    wider = np.full((body_h, under.shape[1], 3), PAPER, np.uint8)
    wider[:, :total_w] = out
    return np.concatenate([wider, under])


def _fit(picture: Image, high: int, wide: int) -> Image:
    factor = min(high / picture.shape[0], wide / picture.shape[1])
    size = (max(1, round(picture.shape[1] * factor)), max(1, round(picture.shape[0] * factor)))
    if size == picture.shape[1::-1]:
        return picture
    return as_image(cv2.resize(picture, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC))


def legend(size: int = 14) -> Image:
    """The key to the colours: the PERSON's left and right, the middle, seen and hidden joints."""
    out = np.full((round(2.4 * size), 38 * size, 3), PAPER, np.uint8)
    y, x, radius = 1.2 * size, float(size), 0.42 * size
    for text, side in (("their left", "left"), ("their right", "right"), ("middle", "centre")):
        (a, b), (first, last) = (np.array([x, y]), np.array([x + 1.6 * size, y])), _FAMILIES[side]
        _blend(out, _capsule(a, b, 0.24 * size + 1), DARK, 1)
        _blend(out, _capsule(a, b, 0.24 * size), first, 1)
        _blend(out, _capsule((a + b) / 2, b, 0.24 * size), last, 1)
        x = _text(out, text, round(x + 2.2 * size), round(y + 0.35 * size), size) + 1.4 * size
    for text, hollow in (("seen", False), ("hidden", True)):
        centre = np.array([x, y])
        if hollow:
            _ring(out, out.copy(), centre, radius * 1.15, _FAMILIES["left"][1], 1)
        else:
            _blend(out, _capsule(centre, centre, radius + 1), DARK, 1)
            _blend(out, _capsule(centre, centre, radius), _FAMILIES["left"][1], 1)
        x = _text(out, text, round(x + 0.9 * size), round(y + 0.35 * size), size) + 1.4 * size
    return np.ascontiguousarray(out[:, : round(x)])


# --- text -------------------------------------------------------------------------------------------------------------


def _text_width(text: str, size: int, bold: bool) -> int:
    if hasattr(cv2, "FontFace"):  # OpenCV 5: an outline font; before it, the stroke font
        return int(cv2.getTextSize((0, 0), text, (0, 0), cv2.FontFace("sans"), size, 600 if bold else 400)[2])  # pyright: ignore
    return int(cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size / 30, 2 if bold else 1)[0][0])


def _text(
    image: Image,
    text: str,
    x: int,
    y: int,
    size: int,
    room: int | None = None,
    bold: bool = False,
    colour: Colour = (40, 40, 44),
) -> int:
    """Write a line in place, base at y; shrunk (to 9 pixels), then cut, to fit `room`. Returns: the x of its end."""
    while room is not None and size > 9 and _text_width(text, size, bold) > room:
        size -= 1
    if room is not None and _text_width(text, size, bold) > room:
        while text and _text_width(text + "…", size, bold) > room:
            text = text[:-1]
        text = text.rstrip() + "…"
    if hasattr(cv2, "FontFace"):
        cv2.putText(image, text, (x, y), colour, cv2.FontFace("sans"), size, 600 if bold else 400)  # pyright: ignore
    else:
        cv2.putText(image, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size / 30, colour, 2 if bold else 1, cv2.LINE_AA)
    return x + _text_width(text, size, bold)


def _label(image: Image, text: str, x: int, y: int, size: int) -> None:
    """Text on a dark plate above a box's upper left corner, kept inside the picture."""
    wide, high = _text_width(text, size, False) + size // 2, round(1.35 * size)
    x = int(np.clip(x, 0, max(image.shape[1] - wide, 0)))
    y = int(np.clip(y - high, 0, max(image.shape[0] - high, 0)))
    image[y : y + high, x : x + wide] = DARK
    _text(image, text, x + size // 4, y + round(1.02 * size), size, colour=(255, 255, 255))
