"""Neck, skull, face, hair and hats. One unit of length is the head of an adult; y is up from the base of the skull."""

from __future__ import annotations

import numpy as np

from .parts import HAIR, HEAD, HEAD_PART, NECK, NECK_PART, Sheet
from .pose import Build

HAIR_COLOURS = np.array(
    [
        (34, 28, 26),
        (58, 40, 30),
        (92, 62, 40),
        (140, 100, 58),
        (196, 158, 98),
        (150, 72, 36),
        (150, 146, 142),
        (214, 210, 204),
    ],
    float,
)


def add_head(rng: np.random.Generator, sheet: Sheet, build: Build, detail: int, kinds: tuple[int, ...]) -> None:
    """Add neck, skull, face, ears, hair and hats; one unit of length is an adult's head."""
    skin, locks, _, _, _, accent, brow, blush = kinds
    h = build.head
    adult_man = build.woman == 0 and build.height > 1.45
    neck = 0.05 + 0.012 * (build.woman == 0)
    sheet.add(
        NECK,
        NECK_PART,
        skin,
        [
            (0, -0.03, -0.004, neck * 1.2, neck * 1.1),
            (0, 0.01, 0, neck, neck),
            (0, 0.06, 0.01, neck, neck),
            (0, 0.11, 0.02, 0.045, 0.05),
        ],
        h,
    )
    jaw = rng.uniform(0.9, 1.08)
    skull = [
        (0, -0.014, 0.064, 0.01, 0.012),
        (0, -0.004, 0.052, 0.03 * jaw, 0.032),
        (0, 0.022, 0.03, 0.05 * jaw, 0.06),
        (0, 0.055, 0.013, 0.063, 0.078),
        (0, 0.09, 0.003, 0.071, 0.088),
        (0, 0.125, -0.004, 0.074, 0.094),
        (0, 0.16, -0.008, 0.068, 0.087),
        (0, 0.188, -0.01, 0.05, 0.064),
        (0, 0.204, -0.01, 0.026, 0.034),
        (0, 0.209, -0.01, 0.003, 0.003),
    ]
    beard = adult_man and rng.random() < 0.25
    sheet.add(HEAD, HEAD_PART, skin, skull, h, front=[brow] * 3 + [-1] * 7 if beard else -1)
    sheet.add(
        HEAD,
        HEAD_PART,
        skin,
        [
            (0, 0.1, 0.086, 0.006, 0.004),
            (0, 0.075, 0.1, 0.01, 0.01),
            (0, 0.06, 0.1, 0.017, 0.016),
            (0, 0.05, 0.09, 0.008, 0.008),
        ],
        h,
        bias=0.006,
    )
    for side in (1.0, -1.0):
        sheet.ball(HEAD, HEAD_PART, blush, (side * 0.075, 0.083, -0.008), (0.011, 0.031, 0.019), h, 0.004)
    _marks(np.random.default_rng(int(rng.integers(1 << 62))), sheet, h, detail, kinds)
    style = rng.random()
    cover = rng.random() < 0.22
    if style < 0.07 and adult_man and not cover:
        return
    bulk = 1.0 + (0.0 if rng.random() < 0.6 else rng.uniform(0.02, 0.14)) + (0.2 if rng.random() < 0.04 else 0)
    shell = [
        (0, 0.03, -0.06, 0.03, 0.02),
        (0, 0.055, -0.046, 0.056, 0.047),
        (0, 0.085, -0.032, 0.07 * bulk, 0.064 * bulk),
        (0, 0.12, -0.02, 0.0785 * bulk, 0.083 * bulk),
        (0, 0.155, -0.011, 0.0765 * bulk, 0.0925 * bulk),
        (0, 0.185, -0.008, 0.064 * bulk, 0.079 * bulk),
        (0, 0.207 * bulk**0.3, -0.008, 0.043, 0.053),
        (0, 0.219 * bulk**0.3, -0.008, 0.006, 0.006),
    ]
    if cover:
        kind = int(rng.integers(4))
        if kind == 3:  # hood or scarf around the whole head
            hood = [
                (0, -0.06, -0.02, 0.085, 0.06),
                (0, 0.0, -0.02, 0.088, 0.075),
                (0, 0.09, -0.022, 0.09, 0.09),
                *[(x, y, z, a * 1.12, b * 1.08) for x, y, z, a, b in shell[3:]],
            ]
            sheet.add(HEAD, HAIR, accent, hood, h)
            return
        cap = [
            (0, 0.118, -0.008, 0.08, 0.096),
            (0, 0.15, -0.009, 0.082, 0.099),
            (0, 0.185, -0.008, 0.07, 0.084),
            (0, 0.212, -0.008, 0.045, 0.055),
            (0, 0.222, -0.008, 0.005, 0.005),
        ]
        sheet.add(HEAD, HAIR, accent, cap, h, bias=0.004)
        if kind == 0:  # visor
            sheet.add(
                HEAD,
                HAIR,
                accent,
                [(0, 0.134, 0.05, 0.07, 0.06), (0, 0.126, 0.085, 0.072, 0.075), (0, 0.122, 0.085, 0.07, 0.073)],
                h,
            )
        elif kind == 1:  # brim
            brim = float(rng.uniform(0.12, 0.17))
            sheet.add(
                HEAD,
                HAIR,
                accent,
                [
                    (0, 0.15, -0.005, 0.08, 0.095),
                    (0, 0.138, -0.005, brim, brim + 0.02),
                    (0, 0.133, -0.005, brim, brim + 0.02),
                    (0, 0.135, -0.005, 0.05, 0.05),
                ],
                h,
            )
        shell = [*shell[:4], (0, 0.13, -0.018, 0.06, 0.07)]
    sheet.add(HEAD, HAIR, locks, shell, h)
    long = rng.random()
    if build.woman > 0 or (build.height < 1.45 and rng.random() < 0.5):
        if long < 0.5:  # falls over neck and shoulders
            end = -rng.uniform(0.02, 0.2)
            curtain = [
                (0, end - 0.02, -0.066, 0.05, 0.012),
                (0, end, -0.062, 0.075, 0.03),
                (0, 0.0, -0.05, 0.08, 0.042),
                (0, 0.07, -0.036, 0.079, 0.058),
                (0, 0.13, -0.02, 0.076, 0.078),
                (0, 0.17, -0.02, 0.05, 0.05),
            ]
            sheet.add(HEAD, HAIR, locks, curtain, h)
        elif long < 0.7:  # tail
            tail = [
                (0, 0.14, -0.1, 0.012, 0.012),
                (0, 0.135, -0.13, 0.026, 0.024),
                (0, 0.06, -0.15, 0.032, 0.026),
                (0, -0.04, -0.14, 0.024, 0.02),
                (0, -0.09, -0.13, 0.006, 0.006),
            ]
            sheet.add(HEAD, HAIR, locks, tail, h)
        elif long < 0.82:  # bun
            sheet.ball(HEAD, HAIR, locks, (0, 0.19, -0.075), (0.04, 0.038, 0.038), h)


def _marks(rng: np.random.Generator, sheet: Sheet, h: float, detail: int, kinds: tuple[int, ...]) -> None:
    """Add eyes, brows, mouth, glasses; by a generator of its own, so that the same person looks the same from afar."""
    if not detail:
        return
    _, _, white, dark, lip, _, brow, _ = kinds
    glasses = rng.random() < 0.12
    wide = rng.uniform(0.9, 1.15)
    for side in (1.0, -1.0):
        turn = side * 0.42
        if glasses:
            sheet.disc(HEAD, dark, (side * 0.033, 0.096, 0.09), (0.024, 0.017), h, turn)
            continue
        sheet.disc(HEAD, white, (side * 0.032, 0.096, 0.084), (0.0155 * wide, 0.0078), h, turn)
        sheet.disc(HEAD, dark, (side * 0.0315, 0.096, 0.0865), (0.0075, 0.0078), h, turn)
        sheet.disc(HEAD, brow, (side * 0.033, 0.116, 0.086), (0.019, 0.0045), h, turn)
    sheet.disc(HEAD, lip, (0, 0.028, 0.092), (0.025, rng.uniform(0.006, 0.011)), h)
    if rng.random() < 0.3:
        sheet.disc(HEAD, white, (0, 0.0285, 0.0945), (0.018, 0.0045), h)
