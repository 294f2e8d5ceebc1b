"""Tubes, materials and tables: the solid parts that people and objects are made of.

A part is a tube: a row of elliptic sections, each with its centre and two half axes in the frame of one bone (x to the
person's left, y up, z forward). Tubes carry a part (which decides what hides a joint) and materials (which decide the
colour). A person is one table of sections, made once; a pose only moves it.

Legend: T sections of all tubes, U tubes, M materials.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Image = NDArray[Any]  # uint8, RGB or grey: OpenCV's own annotations are no narrower

PELVIS, ABDOMEN, THORAX, NECK, HEAD = range(5)
# Parts: 0 is any object, limbs are the number of their bone + 1.
OBJECT, TRUNK, NECK_PART, HEAD_PART, HAIR, SKIRT = 0, 1, 4, 5, 18, 19

PATTERNS = (
    "plain",
    "rings",
    "columns",
    "plaid",
    "dots",
    "camouflage",
    "flowers",
    "denim",
    "pinstripe",
    "knit",
    "hair",
    "leaf",
)


@dataclass(frozen=True)
class Material:
    """Two colours mixed by a pattern; `fold` is the depth of the folds, `scale` the pattern's texels per metre."""

    first: Array  # RGB, 0 to 255
    second: Array
    pattern: str = "plain"
    fold: float = 0.12
    scale: float = 300.0
    around: float = 128.0  # texels once around the tube


@dataclass
class Sheet:
    """Tubes under construction: rows one after the other, what is common to a tube once."""

    rows: list[tuple[float, ...]] = field(default_factory=list)
    material: list[int] = field(default_factory=list)
    front: list[int] = field(default_factory=list)  # material of the strip at the front, -1 none
    bone: list[int] = field(default_factory=list)
    part: list[int] = field(default_factory=list)
    tube: list[tuple[float, ...]] = field(default_factory=list)  # rows, square, bias, unit

    def add(
        self,
        bone: int | Sequence[int],
        part: int | Sequence[int],
        material: int | Sequence[int],
        rows: Sequence[tuple[float, ...]],
        unit: float = 1.0,
        *,
        front: int | Sequence[int] = -1,
        square: float = 1.0,
        bias: float = 0.0,
    ) -> None:
        """Add one tube.

        Args:
            bone: Bone whose frame the rows use, or one per row.
            part: What the surface counts as, or one per row.
            material: Index, or one per row.
            rows: Per section the centre (x, y, z) and half axes (a along x, b along z), or centre and axes as vectors.
            unit: Factor on all lengths.
            front: Material of the strip at the front, -1 for none, or one per row.
            square: Exponent of the section: 1 is an ellipse, towards 0 a box.
            bias: Metres nearer in the painter's order (for what lies on a surface).
        """
        count = len(rows)
        self.rows.extend(rows)
        self.material.extend([material] * count if isinstance(material, int) else material)
        self.front.extend([front] * count if isinstance(front, int) else front)
        self.bone.extend([bone] * count if isinstance(bone, int) else bone)
        self.part.extend([part] * count if isinstance(part, int) else part)
        self.tube.append((count, square, bias, unit))

    def ball(
        self,
        bone: int,
        part: int,
        material: int,
        centre: Sequence[float],
        radii: Sequence[float],
        unit: float = 1.0,
        bias: float = 0.0,
    ) -> None:
        """Add an ellipsoid with half axes along the bone's x, y, z."""
        rows = [(centre[0], centre[1] + radii[1] * h, centre[2], radii[0] * r, radii[2] * r) for h, r in _BALL]
        self.add(bone, part, material, rows, unit, bias=bias)

    def disc(
        self,
        bone: int,
        material: int,
        centre: Sequence[float],
        half: tuple[float, float],
        unit: float,
        turn: float = 0.0,
    ) -> None:
        """Add a flat ellipse on the face; `turn` radians about the vertical follows the curve of the head."""
        x, y, z = centre
        cos, sin = float(np.cos(turn)), float(np.sin(turn))
        left, up = (half[0] * cos, 0.0, -half[0] * sin), (0.0, half[1], 0.0)
        tip = (x + 0.004 * sin, y, z + 0.004 * cos)
        rows = [(*tip, *(0.02 * v for v in left), *(0.02 * v for v in up)), (x, y, z, *left, *up)]
        self.add(bone, HEAD_PART, material, rows, unit, bias=0.012)


_BALL = [(float(-np.cos(t)), float(max(np.sin(t), 0.02))) for t in np.linspace(0, np.pi, 5)]

SKIN = np.array(
    [
        (246, 214, 190),
        (238, 196, 166),
        (224, 176, 142),
        (204, 152, 116),
        (176, 122, 86),
        (140, 94, 64),
        (104, 68, 46),
        (76, 50, 36),
    ],
    float,
)
_CLOTH = np.array(
    [
        (238, 238, 236),
        (36, 37, 42),
        (112, 114, 118),
        (34, 46, 84),
        (52, 84, 132),
        (150, 34, 38),
        (196, 176, 142),
        (92, 76, 58),
        (60, 84, 60),
        (204, 204, 206),
    ],
    float,
)


def hsv(hue: float, saturation: float, value: float) -> Array:
    """RGB colour, 0 to 255."""
    k = (np.array((5.0, 3.0, 1.0)) + 6 * hue) % 6
    return 255 * value * (1 - saturation * np.maximum(np.minimum(np.minimum(k, 4 - k), 1), 0))


def cloth_colour(rng: np.random.Generator) -> Array:
    """Draw a colour of clothes: half of them whites, greys, blues and browns."""
    if rng.random() < 0.5:
        return np.minimum(_CLOTH[int(rng.integers(len(_CLOTH)))] * rng.uniform(0.8, 1.1, 3), 250)
    return hsv(rng.random(), rng.uniform(0.25, 0.95), rng.uniform(0.25, 0.95))


def cloth(rng: np.random.Generator, plain: float = 0.55) -> Material:
    """Draw a cloth: colours, pattern, folds."""
    first = cloth_colour(rng)
    if rng.random() < plain:
        return Material(first, first * 0.86, "knit" if rng.random() < 0.4 else "plain", rng.uniform(0.06, 0.24))
    pattern = PATTERNS[int(rng.integers(1, 10))]
    return Material(
        first,
        cloth_colour(rng),
        pattern,
        rng.uniform(0.05, 0.18),
        rng.uniform(180, 480),
        128.0 * int(rng.integers(1, 4)),
    )


@dataclass(frozen=True)
class Figure:
    """The table of one person: arrays over its sections, and the materials."""

    bone_T: NDArray[np.int64]
    section_T9: Array
    tube_T: NDArray[np.int64]
    part_T: NDArray[np.int64]
    material_T: NDArray[np.int64]
    front_T: NDArray[np.int64]
    square_T: Array
    along_T: Array
    bias_T: Array
    materials: tuple[Material, ...]
    skirt: tuple[float, int, float] | None = None  # how far down the legs, material, flare


def figure(sheet: Sheet, materials: Sequence[Material], skirt: tuple[float, int, float] | None = None) -> Figure:
    """Freeze a sheet."""
    section_T9 = np.array([r if len(r) == 9 else (*r[:4], 0.0, 0.0, 0.0, 0.0, r[4]) for r in sheet.rows])
    tube_U4 = np.array(sheet.tube)
    count_U = tube_U4[:, 0].astype(int)
    whole_T3 = np.repeat(tube_U4[:, 1:], count_U, 0)
    section_T9 *= whole_T3[:, 2:]
    bone_T = np.array(sheet.bone)
    step_T = np.zeros(len(section_T9))
    # Where a tube passes from one bone to the next the local coordinates jump; 5 cm is near enough for a texture.
    step_T[1:] = np.where(np.diff(bone_T) == 0, np.abs(np.diff(section_T9[:, :3], axis=0)).sum(1), 0.05)
    run_T = np.cumsum(step_T)
    start_U = np.cumsum(count_U) - count_U
    return Figure(
        bone_T,
        section_T9,
        np.repeat(np.arange(len(count_U)), count_U),
        np.array(sheet.part),
        np.array(sheet.material),
        np.array(sheet.front),
        whole_T3[:, 0],
        run_T - np.repeat(run_T[start_U], count_U),
        whole_T3[:, 1],
        tuple(materials),
        skirt,
    )


@dataclass(frozen=True)
class Solid:
    """A figure in the world: what the renderer draws."""

    centre_T3: Array
    a_T3: Array
    b_T3: Array
    look: Figure
    owner: int  # 0 an object, n + 1 person n


def place(look: Figure, frame_B33: Array, origin_B3: Array, shift_3: Array, owner: int) -> Solid:
    """Move a table into the world.

    Args:
        look: The table.
        frame_B33: Frames of its bones.
        origin_B3: Origins of its bones, metres.
        shift_3: Added to everything, metres.
        owner: Number that the pixels get.

    Returns:
        The solid.
    """
    moved_T33 = look.section_T9.reshape(-1, 3, 3) @ frame_B33[look.bone_T].transpose(0, 2, 1)
    return Solid(moved_T33[:, 0] + origin_B3[look.bone_T] + shift_3, moved_T33[:, 1], moved_T33[:, 2], look, owner)
