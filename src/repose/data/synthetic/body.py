"""What a person looks like: trunk and limbs, clothes, shoes, skirt or coat.

Legend: T sections of all tubes, S sections of a skirt, L = 2 left and right.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .head import HAIR_COLOURS, add_head
from .parts import (
    ABDOMEN,
    PELVIS,
    SKIN,
    SKIRT,
    THORAX,
    TRUNK,
    Array,
    Figure,
    Material,
    Sheet,
    Solid,
    cloth,
    cloth_colour,
    figure,
)
from .pose import FOOT, FOREARM, HAND, SHIN, THIGH, UPPER_ARM, Build, Posed


def _limb(
    sheet: Sheet,
    bone: int,
    profile: Sequence[tuple[float, float]],
    length: float,
    unit: float,
    girth: float,
    cover: float,
    cloth_at: int,
    skin_at: int,
    ease: tuple[float, float],
    part: int,
) -> None:
    """Add a limb down the bone's -y: skin, covered by cloth from the trunk's end to the fraction `cover`."""
    rows, kinds = [], []
    hem = cover > 0
    thick = unit * girth

    def radius(t: float, covered: bool, r: float) -> float:
        loose = ease[0] + (ease[1] - ease[0]) * min(max(t, 0.0), 1.0)
        return r * thick + covered * unit * loose * min(1.0, r / 0.03)  # a cap stays closed

    for (t, r), after in zip(profile, [*profile[1:], (9.0, 0.0)], strict=True):
        covered = t <= cover and cover > 0
        rows.append((0.0, -t * length, 0.0, radius(t, covered, r), radius(t, covered, r) * 1.04))
        kinds.append(cloth_at if covered else skin_at)
        if hem and t <= cover < after[0] and cover < 1:
            mix = r + (after[1] - r) * (cover - t) / (after[0] - t)
            for kind, on in ((cloth_at, True), (skin_at, False)):
                value = radius(cover, on, mix)
                rows.append((0.0, -(cover + 0.004 * (not on)) * length, 0.0, value, value))
                kinds.append(kind)
            hem = False
    sheet.add(bone, part, kinds, rows)


_UPPER_ARM = (
    (-0.175, 0.003),
    (-0.16, 0.026),
    (-0.1, 0.045),
    (0.03, 0.053),
    (0.32, 0.048),
    (0.7, 0.041),
    (1.0, 0.037),
    (1.1, 0.012),
)
_FOREARM = ((-0.12, 0.018), (-0.02, 0.036), (0.22, 0.041), (0.55, 0.034), (1.0, 0.024), (1.06, 0.012))
_THIGH = (
    (-0.15, 0.004),
    (-0.135, 0.04),
    (-0.07, 0.074),
    (0.1, 0.086),
    (0.4, 0.078),
    (0.75, 0.06),
    (1.0, 0.052),
    (1.07, 0.02),
)
_SHIN = ((-0.09, 0.024), (-0.01, 0.05), (0.24, 0.056), (0.5, 0.047), (0.84, 0.034), (1.04, 0.031))


def dress(rng: np.random.Generator, build: Build, detail: int) -> Figure:
    """Draw how a person looks and build the table.

    Args:
        rng: Source of chance.
        build: Proportions.
        detail: 0 far away (no face marks, thumbs), else 1.

    Returns:
        The person's sections and materials.
    """
    unit, girth, woman = build.unit, build.girth, build.woman
    tone = np.clip(SKIN[int(rng.integers(len(SKIN)))] * rng.uniform(0.9, 1.06) + rng.normal(0, 5, 3), 10, 255)
    hair = np.clip(
        HAIR_COLOURS[int(min(rng.integers(len(HAIR_COLOURS)), rng.integers(len(HAIR_COLOURS))))]
        * rng.uniform(0.75, 1.2),
        8,
        250,
    )
    shirt, trousers = cloth(rng), cloth(rng, 0.7)
    if rng.random() < 0.3:
        trousers = Material(np.array((70, 92, 132.0)) * rng.uniform(0.5, 1.3), np.array((40, 54, 84.0)), "denim", 0.16)
    if rng.random() < 0.09:
        trousers = shirt  # overall, suit, sports dress
    shoe = Material(cloth_colour(rng), cloth_colour(rng), "plain", 0.05)
    skin = Material(tone, tone * (0.94, 0.88, 0.86), "knit", 0.04, 120)
    locks = Material(hair, hair * 0.62, "hair", 0.1, 40, 256)
    white, dark = np.array((236, 232, 226.0)), np.array((40, 28, 22.0))
    materials = [skin, shirt, trousers, shoe, locks, Material(white, white, fold=0), Material(dark, dark, fold=0)]
    materials += [
        Material(tone * (0.78, 0.5, 0.46), tone * 0.5, fold=0),
        Material(cloth_colour(rng), cloth_colour(rng), "plain", 0.1),
        cloth(rng),
    ]
    materials += [Material(hair * 0.7, hair * 0.6, fold=0), Material(tone * (0.93, 0.84, 0.8), tone, fold=0)]
    SKIN_, SHIRT, TROUSERS, SHOE, LOCKS, WHITE, DARK, LIP, ACCENT, LAYER, BROW, BLUSH = range(12)

    bare = rng.random() < 0.05 and woman == 0
    top = SKIN_ if bare else SHIRT
    sleeve = 0.0 if bare else (0.0, 0.35, 0.55, 0.75, 1.5, 2.0, 2.0, 2.0, 0.5)[int(rng.integers(9))]
    leg = (0.2, 0.45, 0.7, 0.95, 1.5, 2.0, 2.0, 2.0, 2.0, 2.0)[int(rng.integers(10))]
    skirt = None
    jacket = not bare and rng.random() < 0.22
    if woman > 0 and rng.random() < 0.4:
        dressed = rng.random() < 0.5
        skirt = (rng.uniform(0.45, 1.35), SHIRT if dressed else TROUSERS, rng.uniform(0.01, 0.09))
        leg = 0.0
        if rng.random() < 0.4:  # tights
            leg, materials[TROUSERS if dressed else LAYER] = 2.0, Material(cloth_colour(rng) * 0.4, dark, "plain", 0.03)
    elif jacket and rng.random() < 0.4:
        skirt = (rng.uniform(0.3, 0.9), SHIRT, rng.uniform(0.0, 0.04))  # coat
    leg_cloth = LAYER if skirt and skirt[1] == TROUSERS and leg else TROUSERS
    loose_arm = rng.uniform(0.004, 0.016) * (1.6 if jacket else 1)
    loose_leg = rng.uniform(0.0, 0.03) * (leg > 0.3)

    sheet = Sheet()
    sheet_add, s = sheet.add, unit
    # The trunk is one tube over three bones, so that clothes pass over a bent waist without a seam.
    waist, hips, belly = 1 - 0.1 * woman, 1 + 0.05 * woman, build.belly * 0.1
    tuck = rng.random() < 0.45 and not jacket
    wide = 0.0 if tuck else 0.006 + 0.01 * jacket
    low = top if not tuck else TROUSERS
    hip = build.hip / 0.09 / s
    broad = build.shoulder / 0.182 / s
    front = LAYER if jacket else (ACCENT if rng.random() < 0.05 else -1)
    a, b, deep = girth * hip * hips, girth, girth * (1 - 0.06 * woman)
    pelvis = [
        (0, -0.1, 0.0, 0.04, 0.05),
        (0, -0.085, 0.0, 0.1 * a, 0.08 * b),
        (0, -0.04, -0.006, 0.152 * a, 0.105 * b),
        (0, -0.035, -0.005, 0.153 * a + wide, 0.106 * b + wide),
        (0, 0.03, 0.0, 0.15 * a + wide, 0.104 * b + wide),
        (0, 0.08, 0.002 + belly / 3, 0.138 * a * waist + wide, 0.096 * b + wide + belly * 0.7),
    ]
    middle = [
        (0, 0.02, belly / 2, 0.132 * girth * waist + wide, 0.092 * girth + belly + wide),
        (0, 0.07, belly / 2, 0.132 * girth * waist + wide, 0.092 * girth + belly + wide),
        (0, 0.13, belly / 3, 0.14 * girth * waist**0.5 + wide, 0.098 * girth + wide + belly / 2),
    ]
    chest = [
        (0, 0.02, 0, 0.15 * girth + wide, 0.106 * deep + wide),
        (0, 0.08, 0.004, 0.16 * broad * girth**0.6 + wide, 0.112 * deep + wide),
        (0, 0.14, 0.002, 0.168 * broad + wide, 0.104 * deep + wide),
        (0, 0.186, -0.004, 0.162 * broad + wide, 0.08 * deep + wide),
        (0, 0.214, -0.008, 0.115 * broad, 0.062 * deep),
        (0, 0.232, -0.01, 0.066, 0.052),
        (0, 0.25, -0.008, 0.04, 0.04),
    ]
    collar = SKIN_ if sleeve < 1.5 and rng.random() < 0.6 else top
    belt = DARK if tuck and not bare and rng.random() < 0.4 else low
    kinds = [TROUSERS, TROUSERS, TROUSERS, low, low, belt, *[top] * 7, collar, SKIN_, SKIN_]
    strip = [front if kind == top and not bare else -1 for kind in kinds]
    trunk = [*[PELVIS] * 6, *[ABDOMEN] * 3, *[THORAX] * 7]
    sheet_add(trunk, [TRUNK + bone for bone in trunk], kinds, [*pelvis, *middle, *chest], s, front=strip, square=0.86)
    for side in (1, -1):
        sheet.ball(
            PELVIS,
            TRUNK,
            low if tuck else TROUSERS,
            (side * 0.07 * hip, -0.045, -0.052 * b),
            (0.082 * a, 0.085, 0.075 * b),
            s,
        )
        if woman > 0:
            sheet.ball(THORAX, TRUNK + 2, top, (side * 0.07, 0.075, 0.07), (0.062, 0.066, 0.045 + 0.03 * woman), s)

    barefoot = leg < 1.5 and rng.random() < 0.3
    mitten = rng.random() < 0.6  # open hand or fist
    for k, side in ((0, 1.0), (1, -1.0)):
        ease = (loose_arm, loose_arm * rng.uniform(0.8, 1.6))
        _limb(
            sheet,
            UPPER_ARM + k,
            _UPPER_ARM,
            0.292 * s * build.arm,
            s,
            girth,
            min(sleeve, 1.2),
            top,
            SKIN_,
            ease,
            UPPER_ARM + k + 1,
        )
        _limb(
            sheet,
            FOREARM + k,
            _FOREARM,
            0.25 * s * build.arm,
            s,
            girth**0.7,
            min(sleeve - 1, 0.96),
            top,
            SKIN_,
            (ease[1], ease[1]),
            FOREARM + k + 1,
        )
        palm = [
            (0, 0.01, 0, 0.018, 0.02),
            (0, -0.02, 0, 0.017, 0.03),
            (0, -0.06, 0, 0.016, 0.041),
            (0, -0.1, 0.0, 0.015, 0.04),
        ]
        palm += (
            [(0, -0.15, 0, 0.011, 0.032), (0, -0.178, 0, 0.006, 0.014)]
            if mitten
            else [(-0.016 * side, -0.105, 0, 0.03, 0.038), (-0.02 * side, -0.122, 0, 0.01, 0.02)]
        )
        sheet_add(HAND + k, HAND + k + 1, SKIN_, palm, s)
        if detail:
            thumb = [(0, -0.02, 0.025, 0.01, 0.012), (0, -0.055, 0.05, 0.011, 0.011), (0, -0.095, 0.06, 0.007, 0.007)]
            sheet_add(HAND + k, HAND + k + 1, SKIN_, thumb, s)
        long = 0.418 * s * build.leg
        _limb(
            sheet,
            THIGH + k,
            _THIGH,
            long,
            s,
            girth,
            min(leg, 1.2),
            leg_cloth,
            SKIN_,
            (0.004, 0.004 + loose_leg),
            THIGH + k + 1,
        )
        _limb(
            sheet,
            SHIN + k,
            _SHIN,
            long,
            s,
            girth**0.8,
            min(leg - 1, 0.97),
            leg_cloth,
            SKIN_,
            (loose_leg, loose_leg * 1.2),
            SHIN + k + 1,
        )
        sole = [
            (0, -0.042, -0.07, 0.012, 0.0, 0.0, 0.0, 0.018, 0.0),
            (0, -0.034, -0.05, 0.034, 0, 0, 0, 0.036, 0),
            (0, -0.02, -0.01, 0.038, 0, 0, 0, 0.05, 0),
            (0, -0.032, 0.05, 0.041, 0, 0, 0, 0.04, 0),
            (0, -0.044, 0.115, 0.047, 0, 0, 0, 0.028, 0),
            (0, -0.05, 0.165, 0.041, 0, 0, 0, 0.021, 0),
            (0, -0.054, 0.195, 0.016, 0, 0, 0, 0.012, 0),
        ]
        sheet_add(FOOT + k, FOOT + k + 1, SKIN_ if barefoot else SHOE, sole, s)
    add_head(rng, sheet, build, detail, (SKIN_, LOCKS, WHITE, DARK, LIP, ACCENT, BROW, BLUSH))
    return figure(sheet, materials, skirt)


def wear_skirt(solid: Solid, build: Build, posed: Posed, shift_3: Array) -> Solid:
    """Add the skirt or coat of a person, which no single bone carries, to its solid."""
    made = _skirt_sections(solid.look, build, posed)
    if made is None or solid.look.skirt is None:
        return solid
    centre_S3, a_S3, b_S3 = made
    old, count = solid.look, len(centre_S3)
    look = Figure(
        np.concatenate([old.bone_T, np.zeros(count, int)]),
        np.concatenate([old.section_T9, np.zeros((count, 9))]),
        np.concatenate([old.tube_T, np.full(count, old.tube_T[-1] + 1)]),
        np.concatenate([old.part_T, np.full(count, SKIRT)]),
        np.concatenate([old.material_T, np.full(count, solid.look.skirt[1])]),
        np.concatenate([old.front_T, np.full(count, -1)]),
        np.concatenate([old.square_T, np.ones(count)]),
        np.concatenate([old.along_T, np.linspace(0, 0.6 * build.unit, count)]),
        np.concatenate([old.bias_T, np.zeros(count)]),
        old.materials,
        old.skirt,
    )
    return Solid(
        np.concatenate([solid.centre_T3, centre_S3 + shift_3]),
        np.concatenate([solid.a_T3, a_S3]),
        np.concatenate([solid.b_T3, b_S3]),
        look,
        solid.owner,
    )


def _skirt_sections(person: Figure, build: Build, posed: Posed) -> tuple[Array, Array, Array] | None:
    """Sections of a skirt or coat around both legs, which no single bone carries; (S, 3) centres and half axes."""
    if person.skirt is None:
        return None
    down, _, flare = person.skirt
    unit, girth = build.unit, build.girth
    pelvis = posed.frame_B33[PELVIS]
    rows = []
    for share in (-0.12, 0.0, 0.3, 0.65, 1.0):
        t = share * down
        at_L3 = np.stack([_along_leg(posed, k, t, unit * build.leg) for k in (0, 1)])
        centre = at_L3.mean(0) if t > 0 else pelvis[:, 1] * (-t * 1.0 * unit)
        down_3 = (
            (posed.origin_B3[SHIN : SHIN + 2] - posed.origin_B3[THIGH : THIGH + 2]).sum(0)
            if t < 1
            else (posed.origin_B3[FOOT : FOOT + 2] - posed.origin_B3[SHIN : SHIN + 2]).sum(0)
        )
        axis = down_3 / max(float(np.linalg.norm(down_3)), 1e-6) if t > 0 else -pelvis[:, 1]
        left = pelvis[:, 0] - axis * (pelvis[:, 0] @ axis)
        left /= max(float(np.linalg.norm(left)), 1e-6)
        fore = np.cross(left, -axis)
        spread = at_L3 - centre
        round_ = unit * ((0.092 - 0.03 * max(share, 0) * min(down, 1)) * girth + 0.008 + flare * max(share, 0))
        a = max(np.abs(spread @ left).max() if t > 0 else 0.06 * unit, 0.04 * unit) + round_
        b = (np.abs(spread @ fore).max() if t > 0 else 0.012 * unit) + round_
        rows.append((centre, left * a, fore * b))
    return np.stack([r[0] for r in rows]), np.stack([r[1] for r in rows]), np.stack([r[2] for r in rows])


def _along_leg(posed: Posed, side: int, t: float, unit: float) -> Array:
    """Point of a leg: t in 0..1 on the thigh, 1..2 on the shin."""
    bone, share = (THIGH, t) if t < 1 else (SHIN, t - 1)
    return posed.origin_B3[bone + side] - posed.frame_B33[bone + side, :, 1] * (0.418 * unit * share)
