"""Objects: what stands about, what people sit on, what they hold."""

from __future__ import annotations

import numpy as np

from .parts import PATTERNS, SKIN, Array, Figure, Material, Sheet, cloth, figure, hsv
from .pose import HAND


def dull(rng: np.random.Generator, low: float = 0.2, high: float = 0.95) -> Array:
    """A colour of walls, floors, furniture: mostly whites, browns and greys, seldom strong."""
    hue = rng.uniform(0.04, 0.14) if rng.random() < 0.6 else rng.random()
    return hsv(hue, rng.uniform(0.0, 0.55) ** (1 if rng.random() < 0.15 else 1.9), rng.uniform(low, high))


def thing(rng: np.random.Generator, kind: str | None = None) -> Figure:
    """Draw an object that stands on the ground at the origin: box, pole, ball, bush, table, limb-like thing.

    Returns:
        A figure whose single bone is the world's frame.
    """
    names = ("box", "box", "pole", "ball", "bush", "table", "limb", "cone", "board", "sack")
    kind = kind or names[int(rng.integers(len(names)))]
    sheet = Sheet()
    materials = [cloth(rng, 0.6), cloth(rng, 0.8)]
    if rng.random() < 0.3:
        skin = SKIN[int(rng.integers(len(SKIN)))]
        materials = [Material(skin, skin * 0.9), Material(skin * 0.8, skin * 0.7)]
    w, h, d = rng.uniform(0.12, 0.7), rng.uniform(0.25, 1.3), rng.uniform(0.1, 0.6)

    def box(x: float, y: float, z: float, a: float, b: float, tall: float, square: float = 0.12) -> None:
        steps = np.linspace(0, 1, max(2, int(tall / 0.15)))
        rows = [
            (x, y, z, 0.01, 0.01),
            *[(x, y + tall * t, z, a, b) for t in steps],
            (x, y + tall, z, 0.5 * a, 0.5 * b),
            (x, y + tall, z, 0.01, 0.01),
        ]
        sheet.add(0, 0, 0, rows, square=square)

    if kind == "box":
        box(0, 0, 0, w, d, h)
    elif kind == "seat":
        box(0, 0, 0, 1, 1, 1)
    elif kind == "table":
        box(0, 0.66, 0, w + 0.35, d + 0.2, 0.06)
        for x in (-1, 1):
            box(x * (w + 0.25), 0, 0, 0.03, 0.03, 0.66)
    elif kind in ("pole", "limb"):
        r = rng.uniform(0.025, 0.07)
        lean = rng.normal(0, 0.05 if kind == "pole" else 0.6)
        tall = rng.uniform(1.2, 3.2) if kind == "pole" else rng.uniform(0.3, 0.9)
        up = 0.0 if kind == "pole" else rng.uniform(0, 0.8)
        rows = [
            (lean * tall * t, up + tall * t, 0, r * (1.1 - 0.4 * t), r * (1.1 - 0.4 * t)) for t in np.linspace(0, 1, 10)
        ]
        sheet.add(
            0,
            0,
            0,
            [(rows[0][0], rows[0][1] - 0.02, 0, 0.01, 0.01), *rows, (rows[-1][0], rows[-1][1] + 0.02, 0, 0.01, 0.01)],
        )
    elif kind in ("bush", "sack", "ball"):
        if kind == "bush":
            green = np.array((84, 122, 56.0)) * rng.uniform(0.5, 1.2, 3)
            materials = [Material(green * 0.35, green * 1.3, "leaf", 0.3, 160), materials[1]]
        for _ in range(int(rng.integers(1, 5)) if kind != "ball" else 1):
            r = rng.uniform(0.15, 0.45) * (1 if kind != "ball" else 0.5)
            x = rng.normal(0, 0.3) if kind != "ball" else 0.0
            y = r * rng.uniform(0.7, 2.0)
            rows = [
                (x, y - r * np.cos(t), 0, r * max(np.sin(t), 0.03), r * max(np.sin(t), 0.03))
                for t in np.linspace(0, np.pi, 8)
            ]
            sheet.add(0, 0, 0, rows)
    elif kind == "cone":
        sheet.add(0, 0, 0, [(0, h * t, 0, 0.25 * (1.02 - t), 0.25 * (1.02 - t)) for t in np.linspace(0, 1, 7)])
    else:  # board, sign, screen
        materials[0] = Material(dull(rng), dull(rng), PATTERNS[int(rng.integers(1, 10))], 0.05, rng.uniform(60, 400))
        box(0, rng.uniform(0.2, 1.2), 0, w, 0.02, h * 0.6)
    return figure(sheet, materials)


def _slab(
    sheet: Sheet, centre: tuple[float, float, float], half: tuple[float, float, float], material: int = 0
) -> None:
    """Add a box by its centre and half sizes."""
    x, y, z = centre
    a, tall, b = half
    steps = np.linspace(-1, 1, max(2, int(tall / 0.06)))
    rows = [
        (x, y - tall, z, 0.01, 0.01),
        *[(x, y + tall * t, z, a, b) for t in steps],
        (x, y + tall, z, 0.5 * a, 0.5 * b),
        (x, y + tall, z, 0.01, 0.01),
    ]
    sheet.add(0, 0, material, rows, square=0.12)


def seat(rng: np.random.Generator, top: float, unit: float) -> Figure:
    """A stool, chair or bench whose top is `top` metres high, its sitter facing +z."""
    sheet = Sheet()
    wide = unit * rng.uniform(0.2, 0.3) if rng.random() < 0.7 else rng.uniform(0.5, 1.1)
    if rng.random() < 0.5:
        _slab(sheet, (0, top / 2, 0), (wide, top / 2, 0.22 * unit))
    else:
        _slab(sheet, (0, top - 0.03, 0), (wide, 0.03, 0.22 * unit))
        for x in (-1, 1):
            for z in (-1, 1):
                _slab(sheet, (0.9 * x * wide, top / 2, 0.19 * z * unit), (0.02, top / 2, 0.02))
    if rng.random() < 0.5:
        _slab(sheet, (0, top + 0.25 * unit, -0.24 * unit), (wide, rng.uniform(0.12, 0.25) * unit, 0.02))
    return figure(sheet, [cloth(rng, 0.8)])


def held(rng: np.random.Generator) -> Figure:
    """Something in one hand: a stick, racket, bag, ball or telephone."""
    sheet = Sheet()
    bone = HAND + int(rng.integers(2))
    kind = int(rng.integers(5))

    def rod(start: float, end: float, r: float) -> None:
        steps = np.linspace(start, end, 9)
        rows = [(0, -0.08, z, r, 0, 0, 0, r, 0) for z in steps]
        sheet.add(
            bone, 0, 0, [(*rows[0][:3], 0.002, 0, 0, 0, 0.002, 0), *rows, (*rows[-1][:3], 0.002, 0, 0, 0, 0.002, 0)]
        )

    if kind == 0:
        rod(-0.15, rng.uniform(0.4, 0.95), rng.uniform(0.012, 0.032))
    elif kind == 1:
        rod(-0.1, 0.4, 0.014)
        sheet.ball(bone, 0, 1, (0, -0.08, 0.52), (0.012, 0.11, 0.15))
    elif kind == 2:
        rows = [
            (0, y, 0, a, a * 1.6) for y, a in ((-0.1, 0.01), (-0.14, 0.05), (-0.25, 0.09), (-0.42, 0.1), (-0.43, 0.01))
        ]
        sheet.add(bone, 0, 0, rows, square=0.5)
    elif kind == 3:
        r = rng.uniform(0.05, 0.13)
        sheet.ball(bone, 0, 0, (-0.02, -0.09 - r, 0.02), (r, r, r))
    else:
        sheet.add(
            bone,
            0,
            0,
            [
                (0, -0.04, 0.03, 0.002, 0.002),
                (0, -0.04, 0.03, 0.008, 0.04),
                (0, -0.18, 0.03, 0.008, 0.04),
                (0, -0.18, 0.03, 0.002, 0.002),
            ],
            square=0.2,
        )
    return figure(sheet, [cloth(rng, 0.7), cloth(rng, 0.3)])
