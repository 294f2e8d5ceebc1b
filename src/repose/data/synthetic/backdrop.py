"""Procedural places: ground in perspective, walls, sky, trees, houses, and the things that stand about.

Legend: H, W pixels of the image; colours RGB.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from .parts import Array, Image
from .render import Camera
from .things import dull

_SIZE = 256
_KINDS = (
    "cloud",
    "grain",
    "planks",
    "tiles",
    "bricks",
    "grass",
    "leaves",
    "stones",
    "stripes",
    "clutter",
    "water",
    "print",
)


@lru_cache(maxsize=1)
def texture_bank() -> dict[str, Image]:
    """Grey 256 x 256 textures by name, tileable or nearly so."""
    rng = np.random.default_rng(11)
    y, x = np.mgrid[0:_SIZE, 0:_SIZE].astype(np.float32)

    def noise(sx: float, sy: float) -> NDArray[np.float32]:
        wide = np.tile(rng.normal(size=(_SIZE, _SIZE)).astype(np.float32), (3, 3))
        soft = cv2.GaussianBlur(wide, (0, 0), sigmaX=sx, sigmaY=sy)[_SIZE : 2 * _SIZE, _SIZE : 2 * _SIZE]
        return (soft - soft.mean()) / soft.std()

    cloud = noise(40, 26) * 0.6 + noise(16, 11) * 0.3 + noise(6, 4) * 0.15
    grain = noise(1, 1) * 0.5 + noise(3, 3) * 0.4 + noise(20, 20) * 0.5
    plank = np.floor(x / 32)
    planks = rng.normal(size=8)[plank.astype(int)] * 0.6 + noise(1.2, 24) * 0.5 - 2.2 * (x % 32 < 1.5)
    cell = rng.normal(size=(8, 8))[(y // 32).astype(int), (x // 32).astype(int)]
    tiles = cell * 0.3 + noise(2, 2) * 0.2 - 2.0 * ((x % 32 < 2) | (y % 32 < 2))
    shift = (x + 16 * (np.floor(y / 16) % 2)) % _SIZE
    brick = rng.normal(size=(16, 8))[(y // 16).astype(int), (shift // 32).astype(int)]
    bricks = brick * 0.5 + noise(1, 1) * 0.25 + 1.6 * ((shift % 32 < 2) | (y % 16 < 2))
    grass = noise(0.8, 2.5) * 0.8 + noise(12, 12) * 0.5
    leaves = np.zeros((_SIZE, _SIZE), np.float32)
    for i in range(1500):
        at, size = rng.integers(0, _SIZE, 2), rng.integers(2, 10, 2)
        cv2.ellipse(
            leaves,
            (int(at[0]), int(at[1])),
            (int(size[0]), int(size[1])),
            float(rng.uniform(0, 180)),
            0,
            360,
            float(rng.normal() + i / 900 - 1),
            -1,
        )
    point = rng.random((90, 2)) * _SIZE
    far = np.min([np.hypot((x - px + 128) % _SIZE - 128, (y - py + 128) % _SIZE - 128) for px, py in point], 0)
    stones = np.clip(far / 10 - 0.8, -1.5, 1) * -1 + noise(2, 2) * 0.3
    stripes = np.sin(x * 2 * np.pi / 32) + 0.2 * noise(2, 2)
    clutter = np.zeros((_SIZE, _SIZE), np.float32)
    for _ in range(130):
        at, size = rng.integers(-20, _SIZE, 2), rng.integers(4, 50, 2)
        cv2.rectangle(
            clutter, (int(at[0]), int(at[1])), (int(at[0] + size[0]), int(at[1] + size[1])), float(rng.normal()), -1
        )
    water = np.sin(y * 2 * np.pi / 16 + 2 * noise(14, 8)) * 0.7 + noise(8, 2) * 0.5
    letters = cv2.resize(
        (rng.random((32, 64)) < 0.5).astype(np.float32), (_SIZE, _SIZE), interpolation=cv2.INTER_NEAREST
    )
    letters *= (y % 32 < 20) * 2.4
    made = dict(
        zip(
            _KINDS,
            (cloud, grain, planks, tiles, bricks, grass, leaves, stones, stripes, clutter, water, letters),
            strict=True,
        )
    )
    return {name: np.clip(128 + 46 * value, 0, 255).astype(np.uint8) for name, value in made.items()}


@lru_cache(maxsize=1)
def _tiled() -> dict[str, Image]:
    return {name: np.tile(texture, (4, 4)) for name, texture in texture_bank().items()}


def _tint(grey: Image, colour_3: Array, contrast: float) -> Image:
    """A grey texture as RGB around a colour."""
    level = np.arange(256)[:, None]
    lut = np.clip(colour_3 * (1 + contrast * (level - 128) / 90.0), 0, 255).astype(np.uint8)
    return cv2.LUT(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), lut[:, None, :].copy())


def _crop(rng: np.random.Generator, name: str, height: int, width: int, zoom: float) -> Image:
    """A random crop of a grey texture, `zoom` texels per pixel; a resize is ten times faster than a warp."""
    tiled = _tiled()[name]
    x, y = int(rng.integers(_SIZE)), int(rng.integers(_SIZE))
    w, h = min(int(width * zoom) + 1, tiled.shape[1] - _SIZE), min(int(height * zoom) + 1, tiled.shape[0] - _SIZE)
    return cv2.resize(tiled[y : y + h, x : x + w], (width, height))


def _rectangles(rng: np.random.Generator, image: Image, base: int, count: int) -> None:
    """Pictures, windows, doors, shelves, screens on a wall whose foot is at row `base`."""
    height, width = image.shape[:2]
    for _ in range(count):
        w, h = int(width * rng.uniform(0.05, 0.4)), int(height * rng.uniform(0.06, 0.5))
        x, y = int(rng.uniform(-0.1, 1) * width), int(rng.uniform(-0.2, 0.8) * max(base, 1))
        if rng.random() < 0.35:
            y = base - h  # stands on the floor
        frame = dull(rng)
        cv2.rectangle(image, (x, y), (x + w, y + h), frame.tolist(), -1)
        edge = int(rng.integers(1, 6))
        x0, y0, x1, y1 = max(x + edge, 0), max(y + edge, 0), min(x + w - edge, width), min(y + h - edge, height)
        if x1 - x0 > 2 and y1 - y0 > 2:
            kind = _KINDS[int(rng.integers(len(_KINDS)))]
            image[y0:y1, x0:x1] = _tint(
                _crop(rng, kind, y1 - y0, x1 - x0, rng.uniform(0.5, 2.5)), dull(rng), rng.uniform(0.1, 1)
            )
            if rng.random() < 0.3:
                for k in range(1, int(rng.integers(2, 6))):
                    at = y + h * k // 5
                    cv2.line(image, (x, at), (x + w, at), (frame * 0.5).tolist(), 1 + edge // 3)


def _upper(rng: np.random.Generator, height: int, width: int, base: int, outdoor: bool) -> Image:
    """What stands behind the ground: a wall, or sky with trees and houses."""
    if not outdoor:
        kind = ("cloud", "cloud", "grain", "bricks", "planks", "stripes", "tiles", "clutter")[int(rng.integers(8))]
        contrast = rng.uniform(0.02, 0.25) if kind != "clutter" else rng.uniform(0.2, 0.9)
        image = _tint(_crop(rng, kind, height, width, rng.uniform(0.4, 1.6)), dull(rng, 0.15), contrast)
        _rectangles(rng, image, base, int(rng.integers(0, 9)))
        return image
    top = np.array(((96, 150, 220), (150, 186, 226), (206, 212, 218), (236, 190, 150))[int(rng.integers(4))], float)
    image = _tint(
        _crop(rng, "cloud", height, width, rng.uniform(0.4, 1.0)), top * rng.uniform(0.75, 1.1), rng.uniform(0.02, 0.3)
    )
    for _ in range(int(rng.integers(0, 5))):  # houses
        w, h = int(width * rng.uniform(0.1, 0.5)), int(height * rng.uniform(0.1, 0.9))
        x = int(rng.uniform(-0.2, 1) * width)
        x0, x1, y0, y1 = max(x, 0), min(x + w, width), max(base - h, 0), min(max(base + 2, 0), height)
        if x1 - x0 < 4 or y1 - y0 < 4:
            continue
        kind = ("bricks", "clutter", "tiles", "print", "planks")[int(rng.integers(5))]
        image[y0:y1, x0:x1] = _tint(
            _crop(rng, kind, y1 - y0, x1 - x0, rng.uniform(0.4, 2)), dull(rng, 0.2), rng.uniform(0.1, 0.8)
        )
    for _ in range(int(rng.choice((0, 0, 1, 1, 2)))):  # rows of trees, hedges
        line = base - height * rng.uniform(0.03, 0.8)
        rough = cv2.resize(
            rng.normal(0, height * 0.07, (1, int(rng.integers(5, 30)))).astype(np.float32),
            (width, 1),
            interpolation=cv2.INTER_CUBIC,
        )[0]
        kind = ("leaves", "leaves", "grass", "stones", "cloud")[int(rng.integers(5))]
        foliage = _tint(
            _crop(rng, kind, height, width, rng.uniform(0.6, 2.8)),
            np.array((76, 98, 56.0)) * rng.uniform(0.85, 1.15, 3) * rng.uniform(0.4, 1.2),
            rng.uniform(0.4, 1),
        )
        row = np.arange(height)[:, None]
        foliage = cv2.GaussianBlur(foliage, (5, 5), float(rng.uniform(0.4, 2)))
        cv2.copyTo(foliage, ((row > line + rough) & (row < base + 3)).astype(np.uint8), image)
    return image


def backdrop(rng: np.random.Generator, still: Camera, camera: Camera) -> tuple[Image, float]:
    """Draw the empty place.

    Args:
        rng: Source of chance.
        still: The camera before panning.
        camera: The camera, at the same place; the ground lies at y = 0.

    Returns:
        RGB image (H, W, 3) and the distance of the wall or horizon in metres.
    """
    height, width = camera.height, camera.width
    outdoor = rng.random() < 0.55
    wall = rng.uniform(25, 120) if outdoor else rng.uniform(5.0, 14)
    foot_N2 = still.project(still.see(np.array([(-3.0 * wall, 0, -wall), (3.0 * wall, 0, -wall)])))
    base = int(np.clip(foot_N2[:, 1].mean(), -height, 2 * height))
    image = _upper(rng, height, width, base, outdoor)
    shift = float(
        (
            camera.project(camera.see(np.array((0.0, 1.0, -wall))))
            - still.project(still.see(np.array((0.0, 1.0, -wall))))
        )[0]
    )
    if shift:
        image = cv2.warpAffine(
            image, np.array([[1, 0, shift], [0, 1, 0]]), (width, height), borderMode=cv2.BORDER_REFLECT
        )
    if base < height + abs(foot_N2[0, 1] - foot_N2[1, 1]):
        if outdoor:
            kind = ("grass", "grass", "grain", "stones", "tiles", "water", "cloud")[int(rng.integers(7))]
            green = np.array((112, 134, 74.0)) * rng.uniform(0.9, 1.12, 3) * rng.uniform(0.6, 1.25)
            tint = (
                green if kind == "grass" else (np.array((70, 120, 140.0)) if kind == "water" else dull(rng, 0.3, 0.8))
            )
        else:
            kind = ("planks", "tiles", "grain", "stripes", "cloud", "stones")[int(rng.integers(6))]
            tint = dull(rng, 0.15, 0.9)
        texel = rng.uniform(25, 130)  # per metre
        turn = rng.uniform(0, np.pi)
        # Pixel -> ray -> point on y = 0 -> texel, as one homography.
        ray = camera.rotation_33.T @ np.array(
            [
                [1 / camera.focal, 0, -(width - 1) / 2 / camera.focal],
                [0, 1 / camera.focal, -(height - 1) / 2 / camera.focal],
                [0, 0, 1],
            ]
        )
        plane = np.stack([ray[0] * camera.position_3[1], ray[2] * camera.position_3[1], -ray[1]])
        spin = np.array([[np.cos(turn), -np.sin(turn), 500], [np.sin(turn), np.cos(turn), 500], [0, 0, 1 / texel]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        slope = (foot_N2[1, 1] - foot_N2[0, 1]) / (foot_N2[1, 0] - foot_N2[0, 0] + 1e-9)
        left, right = foot_N2[0, 1] - slope * foot_N2[0, 0], foot_N2[0, 1] + slope * (width - foot_N2[0, 0])
        top = int(np.clip(min(left, right), 0, height - 1))
        # At half the resolution: four times faster, and the ground is seldom in focus.
        below = spin @ plane @ np.array([[2, 0, 0.5], [0, 2, top + 0.5], [0, 0, 1]])
        half = (width + 1) // 2, (height - top + 1) // 2
        ground = cv2.warpPerspective(texture_bank()[kind], below, half, flags=flags, borderMode=cv2.BORDER_WRAP)
        mask = np.zeros((height, width), np.uint8)
        edge = np.array([(0, left), (width, right), (width, 4 * height), (0, 4 * height)])
        cv2.fillConvexPoly(mask, np.clip(edge, -9999, 9999).astype(np.int32), 1)
        # The far ground loses its texture, as in a photograph: fade to its mean towards the wall.
        fade = np.clip((np.arange(top, height, 2) - base) / (0.16 * height), 0.12, 1).astype(np.float32)[:, None]
        grey = cv2.resize((128 + (ground - np.float32(128)) * fade).astype(np.uint8), (width, height - top))
        mixed = _tint(grey, tint, rng.uniform(0.08, 0.6))
        cv2.copyTo(mixed, mask[top:], image[top:])
    blur = rng.random()
    if blur < 0.42:
        image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.5, 1.3)) * height / 256)
    elif blur < 0.62:  # shallow focus, at half the resolution for speed
        small = cv2.GaussianBlur(
            cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_AREA),
            (0, 0),
            float(rng.uniform(0.7, 2.2)) * height / 256,
        )
        image = cv2.resize(small, (width, height))
    light = _crop(rng, "cloud", height, width, rng.uniform(0.1, 0.4))
    return cv2.multiply(
        image, cv2.cvtColor(cv2.convertScaleAbs(light, alpha=0.35, beta=76), cv2.COLOR_GRAY2BGR), scale=1 / 122
    ), float(wall)
