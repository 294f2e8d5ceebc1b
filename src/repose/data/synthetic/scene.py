"""One picture: who stands where, the photograph's flaws, and exact labels.

Legend: N people, K joints of the skeleton, J the 23 joints of a body, T sections, H and W pixels.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

from .backdrop import backdrop
from .body import dress, wear_skirt
from .labels import Person, crowd_index, label_people
from .parts import OBJECT, Array, Figure, Image, Material, Sheet, Solid, figure, place
from .pose import JOINTS
from .render import Camera, colour, facets, paint
from .staging import RATE, Actor, add_far, cast, move, sideways
from .things import held, seat, thing

if TYPE_CHECKING:
    from repose.config import Synthetic


@dataclass
class Scene:
    """A picture and its labels."""

    image_HW3: Image  # RGB
    people: list[Person]
    crowd_index: float
    jpeg_quality: int  # at which the writer stores the picture


def _marker() -> Figure:
    """A green ball of 6 cm painted in front of everything, for tests."""
    sheet, green = Sheet(), np.array((0.0, 255.0, 0.0))
    sheet.ball(0, OBJECT, 0, (0, 0, 0), (0.03, 0.03, 0.03), bias=1e3)
    return figure(sheet, [Material(green, green, fold=0)])


_MARKER, _MARKED = _marker(), 255


Groups = dict[int, list[Solid]]  # by the number of corners of a section


def _add_person(groups: Groups, camera: Camera, actor: Actor, owner: int) -> Array:
    """Add a person and what it holds; returns points whose shadow falls on the ground, (T, 3)."""
    depth = float(camera.see(actor.place_3)[2])
    tall = camera.focal * actor.build.height / max(depth, 0.4)
    detail = int(tall >= 60)
    corners = 8 if tall < 110 else (10 if tall < 210 else 12)
    rng = np.random.default_rng(actor.seed)
    look = dress(rng, actor.build, detail)
    solid = place(look, actor.posed.frame_B33, actor.posed.origin_B3, actor.place_3, owner)
    groups.setdefault(corners, []).append(wear_skirt(solid, actor.build, actor.posed, actor.place_3))
    if rng.random() < 0.14 and depth < 30:
        groups.setdefault(12, []).append(
            place(held(rng), actor.posed.frame_B33, actor.posed.origin_B3, actor.place_3, OBJECT)
        )
    return solid.centre_T3[::4]


def _shadow(canvas: Image, camera: Camera, points: Sequence[Array], light_3: Array, strength: float) -> Image:
    """Darken the ground where it lies in the people's shadow; half resolution is enough for a soft shadow."""
    height, width = canvas.shape[:2]
    dark = np.zeros((height // 2, width // 2), np.uint8)
    for point_T3 in points:
        fall_T3 = point_T3 - light_3 * (point_T3[:, 1:2] / max(light_3[1], 0.35))
        seen_T3 = camera.see(fall_T3)
        for (x, y), depth in zip(camera.project(seen_T3) / 2, seen_T3[:, 2], strict=True):
            if depth > 0.3 and -50 < x < width and -50 < y < height:
                radius = min(0.095 * camera.focal / depth / 2, 40)
                cv2.ellipse(
                    dark, (int(x), int(y)), (max(int(radius), 1), max(int(radius * 0.45), 1)), 0, 0, 360, 255, -1
                )
    dark = cv2.resize(cv2.blur(dark, (5, 5)), (width, height))
    shade = cv2.convertScaleAbs(dark, alpha=-strength, beta=0)
    return cv2.multiply(canvas, cv2.cvtColor(255 - shade, cv2.COLOR_GRAY2RGB), scale=1 / 255)


@lru_cache(maxsize=1)
def _noise() -> Image:
    return np.clip(np.random.default_rng(5).normal(128, 32, (640, 640, 3)), 0, 255).astype(np.uint8)


def _photograph(rng: np.random.Generator, grain: np.random.Generator, image: Image) -> Image:
    """Add a photograph's flaws: blur, motion, low resolution, exposure, white balance; noise comes from `grain`."""
    height, width = image.shape[:2]
    size = height / 256
    if rng.random() < 0.08:
        length = int(rng.integers(3, 3 + int(7 * size)))
        kernel = np.zeros((length, length), np.float32)
        angle = rng.uniform(0, np.pi)
        half = (length - 1) / 2
        start = (round(half - half * np.cos(angle)), round(half - half * np.sin(angle)))
        cv2.line(kernel, start, (round(half + half * np.cos(angle)), round(half + half * np.sin(angle))), 1.0)
        image = cv2.filter2D(image, -1, kernel / kernel.sum())
    if rng.random() < 0.12:
        share = rng.uniform(0.4, 0.8)
        image = cv2.resize(
            cv2.resize(image, (int(width * share), int(height * share)), interpolation=cv2.INTER_AREA), (width, height)
        )
    elif rng.random() < 0.6:
        image = cv2.GaussianBlur(image, (3, 3), float(rng.uniform(0.35, 0.8)))
    level = np.arange(256, dtype=np.float64)[:, None] / 255
    gain_3 = np.exp(rng.normal(0, 0.06, 3) + rng.normal(0.04, 0.1))
    curve = np.clip(level * gain_3, 0, 1) ** np.exp(rng.normal(-0.08, 0.14))
    curve = np.clip((curve - 0.5) * np.exp(rng.normal(0.0, 0.12)) + 0.5 + rng.normal(0.01, 0.03), 0, 1)
    image = cv2.LUT(image, (255 * curve).astype(np.uint8)[:, None])
    if rng.random() < 0.05:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    amount = float(abs(rng.normal(0, 4.5))) / 32
    bank = _noise()
    if height > bank.shape[0] or width > bank.shape[1]:
        bank = np.tile(bank, (height // 640 + 2, width // 640 + 2, 1))
    y, x = int(grain.integers(bank.shape[0] - height + 1)), int(grain.integers(bank.shape[1] - width + 1))
    return cv2.addWeighted(image, 1.0, bank[y : y + height, x : x + width], amount, -128 * amount)


def generator(options: Synthetic, split: str, index: int, stream: int = 0) -> np.random.Generator:
    """The generator of a picture: a function of seed, split and index alone."""
    return np.random.default_rng(np.random.SeedSequence([options.seed, zlib.crc32(split.encode()), index, stream]))


def render(
    index: int, options: Synthetic, joints: tuple[str, ...], split: str = "train", frame: int | None = None
) -> Scene:
    """Draw one picture of synthetic people and its labels.

    Args:
        index: Number of the picture in its split, from 0.
        options: Size, people, crowding, seed.
        joints: Names of the joints to label (any of `JOINTS`).
        split: Another split is another set of scenes.
        frame: Frame of a moving clip; None for a still.

    Returns:
        The scene, the same for the same arguments in any process.

    Raises:
        ValueError: If a joint's name is unknown.
    """
    return compose(index, options, joints, split, frame)


def compose(
    index: int,
    options: Synthetic,
    joints: tuple[str, ...],
    split: str = "train",
    frame: int | None = None,
    marker: str | None = None,
    in_front: bool = True,
) -> Scene:
    """`render` with two hooks for tests.

    Args:
        index: See `render`.
        options: See `render`.
        joints: See `render`.
        split: See `render`.
        frame: See `render`.
        marker: Name of a joint at which a green ball is drawn on the first person; nothing else is green.
        in_front: False leaves out all objects.

    Returns:
        The scene.
    """
    rng = generator(options, split, index)
    still, actors = cast(rng, options)
    crowd: frozenset[int] = frozenset()
    if options.crowding == "sparse" and rng.random() < 0.03:
        column, first = options.size[1] * rng.uniform(0.1, 0.9), len(actors)
        for _ in range(int(rng.integers(4, 8))):
            add_far(rng, still, actors, 4.0, column + options.size[1] * rng.normal(0, 0.05))
        crowd = frozenset(range(first, len(actors)))
    camera = still
    sway = rng.uniform(0, 6)
    if frame is not None:
        pan = 0.06 * np.sin(2 * np.pi * frame / RATE / 6 + sway)
        turn_33 = np.array([[np.cos(pan), 0, np.sin(pan)], [0, 1, 0], [-np.sin(pan), 0, np.cos(pan)]])
        camera = replace(still, rotation_33=still.rotation_33 @ turn_33)
    canvas, wall = backdrop(rng, still, camera)
    if marker is not None:
        canvas[:] = 0
    light_3 = np.array((rng.normal(0, 0.6), rng.uniform(0.35, 1.2), rng.normal(0.35, 0.6)))
    light_3 /= np.linalg.norm(light_3)
    light = (light_3, float(rng.uniform(0.4, 0.75)))
    groups: Groups = {}
    if in_front:
        _furniture(rng, groups, still, actors, wall)
    dark = float(rng.uniform(0.25, 0.75)) if rng.random() < 0.8 else 0.0
    if frame is not None:
        actors = [move(actor, frame) for actor in actors]
    shadows = [_add_person(groups, camera, actor, n + 1) for n, actor in enumerate(actors)]
    if marker is not None:
        spot = actors[0].world_J3[JOINTS.index(marker)]
        groups.setdefault(12, []).append(place(_MARKER, np.eye(3)[None], np.zeros((1, 3)), spot, _MARKED))
    if dark:
        canvas = _shadow(canvas, camera, shadows, light_3, dark)
    painted = paint([facets(camera, solids, *light, corners) for corners, solids in groups.items()], options.size)
    if marker is not None:
        painted.facets.colour_Q6[painted.facets.owner_Q != _MARKED, 1::3] = 0.0
    colour(painted, canvas)
    quality = int(rng.integers(42, 96))
    grain = generator(options, split, index, 1 if frame is None else 2 + frame)
    image = canvas if marker is not None else _photograph(rng, grain, canvas)
    people = label_people(
        painted,
        camera,
        [a.world_J3 for a in actors],
        [a.build.unit for a in actors],
        joints,
        [a.keep for a in actors],
        crowd,
    )
    named = [person for person in people if person.labelled]
    return Scene(image, people, crowd_index([p.joint_K3 for p in named], [p.box_4 for p in named]), quality)


def _furniture(rng: np.random.Generator, groups: Groups, camera: Camera, actors: list[Actor], wall: float) -> None:
    """Seats under sitting people, things behind and, less often, in front of people."""

    def put(look: Figure, place_3: Array, yaw: float) -> None:
        cos, sin = np.cos(yaw), np.sin(yaw)
        frame_133 = np.array([[[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]]])
        groups.setdefault(12, []).append(place(look, frame_133, np.zeros((1, 3)), place_3, OBJECT))

    for actor in actors:
        if actor.stance in ("sit", "ride") and rng.random() < 0.85:
            top = actor.place_3[1] - 0.1 * actor.build.unit
            back_3 = actor.posed.frame_B33[0, :, 2] * (1, 0, 1)
            put(
                seat(rng, max(float(top), 0.12), actor.build.unit),
                (actor.place_3 + 0.03 * back_3) * (1, 0, 1),
                np.deg2rad(actor.yaw),
            )
    focus = actors[0].place_3 if actors else np.array((0.0, 0.0, -4.0))
    distance = -focus[2]
    for _ in range(int(rng.integers(0, 6))):
        depth = min(distance * rng.uniform(1.1, 3.0), 0.95 * wall)
        place_3 = np.array((sideways(camera, depth, camera.width * rng.uniform(-0.1, 1.1)), 0.0, -depth))
        put(thing(rng), place_3, rng.uniform(0, np.pi))
    if rng.random() < 0.3 and actors:
        for _ in range(int(rng.integers(1, 3))):
            actor = actors[int(rng.integers(len(actors)))]
            depth = -actor.place_3[2] - rng.uniform(0.45, 1.0)
            if depth > 0.9:
                column = float(camera.project(camera.see(actor.place_3))[0]) + camera.focal / depth * rng.normal(
                    0, 0.35
                )
                put(thing(rng), np.array((sideways(camera, depth, column), 0.0, -depth)), rng.uniform(0, np.pi))
