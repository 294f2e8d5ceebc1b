"""From sections in the world to pixels: camera, facets, painter's order, shading and cloth.

Facets are sorted by depth and their numbers painted back to front into one integer image at twice the resolution;
colour, depth, owner and part of a pixel then come from the facet's tables in one gather. So hidden surfaces, instance
masks and the visibility of joints agree by construction.

Legend: T sections, R corners of a section, Q facets, N pixels; x right, y down, pixel centres at integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from .parts import PATTERNS, Image, Material, Solid

Array = NDArray[np.float64]
SUPER = 2  # sub-pixels per pixel and axis
_TEXTURE = 128
_PIECE = 8192


@dataclass(frozen=True)
class Camera:
    """A pinhole camera in the world (x right, y up, z to the viewer), looking along -z when not turned."""

    focal: float  # pixels
    position_3: Array  # metres
    rotation_33: Array  # rows: right, down, forward
    height: int  # pixels
    width: int

    @staticmethod
    def aim(focal: float, position_3: Array, pitch: float, pan: float, roll: float, size: tuple[int, int]) -> Camera:
        """Build a camera; pitch up, pan to the right and roll clockwise are radians, size (height, width) pixels."""
        cp, sp, cy, sy, cr, sr = np.cos(pitch), np.sin(pitch), np.cos(pan), np.sin(pan), np.cos(roll), np.sin(roll)
        forward = np.array((cp * sy, sp, -cp * cy))
        right = np.array((cy, 0.0, sy))
        down = np.cross(forward, right)
        return Camera(focal, position_3, np.stack([cr * right + sr * down, -sr * right + cr * down, forward]), *size)

    def see(self, point_N3: Array) -> Array:
        """World to camera axes (right, down, forward), metres."""
        return (point_N3 - self.position_3) @ self.rotation_33.T

    def project(self, seen_N3: NDArray[np.floating]) -> NDArray[np.floating]:
        """Camera axes to pixels (..., 2), pixel centres at integers; points behind the camera are held at 5 cm."""
        scale = self.focal / np.maximum(seen_N3[..., 2:], 0.05)
        return seen_N3[..., :2] * scale + np.array(((self.width - 1) / 2, (self.height - 1) / 2), seen_N3.dtype)


@dataclass
class Facets:
    """Facets ready to be painted; coordinates are sub-pixels."""

    corner_Q42: NDArray[np.int32]  # 4 fractional bits
    key_Q: NDArray[np.floating]  # painter's depth, metres
    plane_Q12: NDArray[np.float32]  # (value, d/dx, d/dy) of shade, texture u, texture v, depth
    colour_Q6: NDArray[np.float32]  # first colour, second minus first
    fold_Q: NDArray[np.float32]  # depth of folds
    pattern_Q: NDArray[np.int32]
    owner_Q: NDArray[np.int32]
    part_Q: NDArray[np.int32]


@lru_cache(maxsize=16)
def _ring(corners: int) -> tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.floating]]:
    angle = (np.arange(corners) + 0.5) * (2 * np.pi / corners)
    return angle, np.cos(angle), np.sin(angle)


@lru_cache(maxsize=1)
def pattern_bank() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Textures of `PATTERNS` in 0..1, flattened (P * 128 * 128,), and folds in -1..1, (128 * 128,)."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[0:_TEXTURE, 0:_TEXTURE]

    def noise(sigma_x: float, sigma_y: float) -> NDArray[np.float32]:
        wide = np.tile(rng.normal(size=(_TEXTURE, _TEXTURE)).astype(np.float32), (3, 3))
        soft = cv2.GaussianBlur(wide, (0, 0), sigmaX=sigma_x, sigmaY=sigma_y)[
            _TEXTURE : 2 * _TEXTURE, _TEXTURE : 2 * _TEXTURE
        ]
        return (soft - soft.mean()) / soft.std()

    def spots(count: int, low: int, high: int) -> NDArray[np.float32]:
        out = np.zeros((_TEXTURE, _TEXTURE), np.float32)
        for _ in range(count):
            centre, size, turn = rng.integers(0, _TEXTURE, 2), rng.integers(low, high, 2), float(rng.uniform(0, 180))
            for dx in (-_TEXTURE, 0, _TEXTURE):
                for dy in (-_TEXTURE, 0, _TEXTURE):
                    cv2.ellipse(
                        out,
                        (int(centre[0] + dx), int(centre[1] + dy)),
                        (int(size[0]), int(size[1])),
                        turn,
                        0,
                        360,
                        float(rng.uniform(0.5, 1)),
                        -1,
                    )
        return out

    fine = noise(1, 1)
    bank = {
        "plain": np.clip(0.3 + 0.25 * noise(6, 6), 0, 1),
        "rings": (y % 32 < 15) * 1.0,
        "columns": (x % 32 < 12) * 1.0,
        "plaid": 0.5 * ((y % 32 < 14) * 1.0 + (x % 32 < 14)),
        "dots": (np.hypot(x % 16 - 8, y % 16 - 8) < 4.2) * 1.0,
        "camouflage": (noise(7, 7) > 0.2) * 0.8 + (noise(4, 4) > 0.9) * 0.2,
        "flowers": spots(60, 3, 9),
        "denim": np.clip(0.4 + 0.3 * noise(2, 14) + 0.12 * fine, 0, 1),
        "pinstripe": (x % 16 < 3) * 0.8,
        "knit": np.clip(0.35 + 0.2 * noise(3, 3) + 0.1 * fine, 0, 1),
        "hair": np.clip(0.45 + 0.4 * noise(1.2, 14), 0, 1),
        "leaf": np.clip(spots(500, 2, 7) * 0.9 + 0.1 * fine, 0, 1),
    }
    folds = np.clip(0.55 * noise(6, 14) + 0.35 * noise(14, 5), -1.6, 1.6)
    flat = np.concatenate(
        [cv2.GaussianBlur(np.asarray(bank[name], np.float32), (0, 0), 0.7).ravel() for name in PATTERNS]
    )
    return flat.astype(np.float32), folds.astype(np.float32).ravel()


def facets(camera: Camera, solids: Sequence[Solid], light_3: Array, ambient: float, corners: int) -> Facets:
    """Cut solids into facets, drop those that face away, and tabulate what a pixel needs.

    Args:
        camera: The camera.
        solids: What to draw with this many corners.
        light_3: Unit vector towards the light, world axes.
        ambient: Share of light from everywhere, 0..1.
        corners: Corners of a section.

    Returns:
        The visible facets.
    """
    centre_T3, a_T3, b_T3 = (
        np.concatenate([getattr(solid, name) for solid in solids]) for name in ("centre_T3", "a_T3", "b_T3")
    )
    materials: list[Material] = []
    tube_, material_, front_ = [], [], []
    tubes = 0
    for solid in solids:
        look = solid.look
        tube_.append(look.tube_T + tubes)
        material_.append(look.material_T + len(materials))
        front_.append(np.where(look.front_T < 0, -1, look.front_T + len(materials)))
        materials += look.materials
        tubes += int(look.tube_T[-1]) + 1
    tube_T, material_T, front_T = np.concatenate(tube_), np.concatenate(material_), np.concatenate(front_)
    part_T, square_T, along_T, bias_T = (
        np.concatenate([getattr(solid.look, name) for solid in solids])
        for name in ("part_T", "square_T", "along_T", "bias_T")
    )
    owner_T = np.repeat([solid.owner for solid in solids], [len(solid.centre_T3) for solid in solids])
    angle_R, cos_R, sin_R = _ring(corners)
    cos_TR = np.sign(cos_R) * np.abs(cos_R) ** square_T[:, None]
    sin_TR = np.sign(sin_R) * np.abs(sin_R) ** square_T[:, None]
    offset_TR3 = cos_TR[..., None] * a_T3[:, None] + sin_TR[..., None] * b_T3[:, None]
    seen_TR3 = camera.see(centre_T3[:, None] + offset_TR3).astype(np.float32)
    pixel_TR2 = (camera.project(seen_TR3) + 0.5) * SUPER - 0.5

    inside_T = np.zeros(len(tube_T), bool)  # a facet row starts here
    inside_T[:-1] = tube_T[1:] == tube_T[:-1]
    start_I = np.flatnonzero(inside_T)
    # Sections run either way along their tube: the sign makes every normal point outwards.
    first_T = np.searchsorted(tube_T, tube_T, "left")
    last_T = np.searchsorted(tube_T, tube_T, "right") - 1
    run_T3 = centre_T3[last_T] - centre_T3[first_T]
    middle_T = (first_T + last_T + 1) // 2
    axis_T3 = np.cross(a_T3[middle_T], b_T3[middle_T])
    sign_T = np.where((axis_T3 * run_T3).sum(1) < 0, -1.0, 1.0)

    p_IR3, q_IR3 = seen_TR3[start_I], seen_TR3[start_I + 1]
    p2_IR3, q2_IR3 = np.roll(p_IR3, -1, 1), np.roll(q_IR3, -1, 1)
    normal_IR3 = np.cross(q2_IR3 - p_IR3, q_IR3 - p2_IR3) * sign_T[start_I, None, None].astype(np.float32)
    mean_IR3 = (p_IR3 + p2_IR3 + q_IR3 + q2_IR3) / 4
    facing_IR = np.einsum("irc,irc->ir", normal_IR3, mean_IR3)
    near_IR = np.minimum(np.minimum(p_IR3[..., 2], q_IR3[..., 2]), np.minimum(p2_IR3[..., 2], q2_IR3[..., 2]))
    # Corner normals, smoothed over the four facets that meet.
    smooth_TR3 = np.zeros_like(seen_TR3)
    smooth_TR3[start_I] += normal_IR3
    smooth_TR3[start_I + 1] += normal_IR3
    smooth_TR3 += np.roll(smooth_TR3, 1, 1)
    smooth_TR3 /= np.sqrt(np.einsum("trc,trc->tr", smooth_TR3, smooth_TR3) + 1e-18)[..., None]
    turn_33 = camera.rotation_33.astype(np.float32)
    light_c = turn_33 @ light_3.astype(np.float32)
    diffuse_TR = smooth_TR3 @ light_c
    sky_TR = smooth_TR3 @ turn_33[:, 1]
    rim_TR = -np.einsum("trc,trc->tr", smooth_TR3, seen_TR3) / np.sqrt(
        np.einsum("trc,trc->tr", seen_TR3, seen_TR3) + 1e-9
    )
    shade_TR = ambient * (0.86 - 0.14 * sky_TR) + (1 - ambient) * np.clip(0.42 + 0.86 * diffuse_TR, 0.0, 1.25)
    shade_TR *= 0.8 + 0.25 * np.clip(rim_TR, 0, 1)

    x_IR, y_IR = (pixel_TR2[start_I] + pixel_TR2[start_I + 1]).transpose(2, 0, 1) / (2 * SUPER)
    keep_IR = (
        (facing_IR < 0)
        & (near_IR > 0.12)
        & (x_IR > -64)
        & (x_IR < camera.width + 64)
        & (y_IR > -64)
        & (y_IR < camera.height + 64)
    )
    i_Q, r_Q = np.nonzero(keep_IR)
    t_Q, s_Q = start_I[i_Q], (r_Q + 1) % corners
    at_Q4 = np.stack(
        [t_Q * corners + r_Q, t_Q * corners + s_Q, (t_Q + 1) * corners + s_Q, (t_Q + 1) * corners + r_Q], 1
    )

    material_Q = material_T[t_Q]
    front_Q = front_T[t_Q]
    strip_Q = (front_Q >= 0) & (np.abs(angle_R[r_Q] + np.pi / corners - np.pi / 2) < np.pi / 5.5)
    material_Q = np.where(strip_Q, front_Q, material_Q)
    scale_M = np.array([m.scale for m in materials])
    around_M = np.array([m.around for m in materials])
    du_Q = around_M[material_Q] / corners
    v0_Q = along_T[t_Q] * scale_M[material_Q]
    dv_Q = along_T[t_Q + 1] * scale_M[material_Q] - v0_Q
    xy_Q42 = pixel_TR2.reshape(-1, 2)[at_Q4]
    some_Q42 = np.stack([shade_TR.ravel(), seen_TR3[..., 2].ravel()], 1)[at_Q4]
    # Each quantity is a plane over its facet, from its change around the ring (1) and along the tube (2); the ridge
    # keeps slivers from extrapolating.
    one_Q2, two_Q2, middle_Q2 = _sides(xy_Q42)
    change_1, change_2, mean_Q2 = _sides(some_Q42)
    zero_Q = np.zeros(len(t_Q))
    change_1 = np.stack([change_1[:, 0], du_Q, zero_Q, change_1[:, 1]], 1)
    change_2 = np.stack([change_2[:, 0], zero_Q, dv_Q, change_2[:, 1]], 1)
    mean_Q4 = np.stack([mean_Q2[:, 0], (r_Q + 0.5) * du_Q, v0_Q + dv_Q / 2, mean_Q2[:, 1]], 1)
    (x1, y1), (x2, y2) = one_Q2.T[..., None], two_Q2.T[..., None]
    xx, yy, xy = x1 * x1 + x2 * x2 + 1.0, y1 * y1 + y2 * y2 + 1.0, x1 * y1 + x2 * y2
    mx, my = x1 * change_1 + x2 * change_2, y1 * change_1 + y2 * change_2
    det = xx * yy - xy * xy
    gx, gy = (yy * mx - xy * my) / det, (xx * my - xy * mx) / det
    flat = mean_Q4 - gx * middle_Q2[:, :1] - gy * middle_Q2[:, 1:]
    first_M3 = np.array([m.first for m in materials])
    second_M3 = np.array([m.second for m in materials])
    return Facets(
        np.rint(xy_Q42 * 16).astype(np.int32),
        mean_Q4[:, 3] - bias_T[t_Q],
        np.stack([flat, gx, gy], 2).reshape(-1, 12).astype(np.float32),
        np.concatenate([first_M3, second_M3 - first_M3], 1)[material_Q].astype(np.float32),
        np.array([m.fold for m in materials], np.float32)[material_Q],
        np.array([PATTERNS.index(m.pattern) for m in materials], np.int32)[material_Q],
        owner_T[t_Q].astype(np.int32),
        part_T[t_Q].astype(np.int32),
    )


def _sides(value_Q4C: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.floating]]:
    """Change around the ring, change along the tube, and mean of a quantity at the four corners of facets."""
    p, q, r, s = value_Q4C.transpose(1, 0, 2)
    pr, qs = p + r, q + s
    return (q + r - p - s) / 2, (r + s - p - q) / 2, (pr + qs) / 4


@dataclass(frozen=True)
class Painted:
    """The facet of every sub-pixel, and the facets' tables."""

    facet_HW: NDArray[np.int32]  # sub-pixels; 0 background, else facet + 1
    facets: Facets

    def at(
        self, x_N: NDArray[np.int64], y_N: NDArray[np.int64]
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
        """Owner, part and depth (metres) of the front-most surface at sub-pixels; owner -1 for the background."""
        q_N = self.facet_HW[y_N, x_N] - 1
        plane_N3 = self.facets.plane_Q12[q_N, 9:12]
        depth_N = plane_N3[:, 0] + plane_N3[:, 1] * x_N + plane_N3[:, 2] * y_N
        owner_N = np.where(q_N < 0, -1, self.facets.owner_Q[q_N]).astype(np.int32)
        return owner_N, self.facets.part_Q[q_N], depth_N.astype(np.float32)


def _nothing() -> Facets:
    none, number = np.zeros(0), np.zeros(0, np.int32)
    plane, colours = np.zeros((0, 12), np.float32), np.zeros((0, 6), np.float32)
    return Facets(np.zeros((0, 4, 2), np.int32), none, plane, colours, none.astype(np.float32), number, number, number)


def paint(groups: Sequence[Facets], size: tuple[int, int]) -> Painted:
    """Paint all facets back to front; size (height, width) in pixels."""
    groups = groups or [_nothing()]
    whole = Facets(
        *(
            np.concatenate([getattr(g, name) for g in groups])
            for name in ("corner_Q42", "key_Q", "plane_Q12", "colour_Q6", "fold_Q", "pattern_Q", "owner_Q", "part_Q")
        )
    )
    image = np.zeros((size[0] * SUPER, size[1] * SUPER), np.int32)
    fill = cv2.fillConvexPoly
    order = np.argsort(-whole.key_Q, kind="stable")
    for corner, number in zip(whole.corner_Q42[order], (order + 1).tolist(), strict=True):
        fill(image, corner, number, 8, 4)
    return Painted(image, whole)


def colour(painted: Painted, canvas_HW3: Image) -> None:
    """Draw what was painted over a picture at the resolution of pixels, in place.

    A pixel within one part of one owner is coloured once, at its centre; one on an edge is the mean of its sub-pixels.
    """
    table = painted.facets
    code_Q = np.concatenate([[0], table.owner_Q * 32 + table.part_Q + 1]).astype(np.int16)
    high, wide = canvas_HW3.shape[:2]
    facet_P, row = painted.facet_HW.ravel(), wide * SUPER
    code_HSWS = code_Q.take(painted.facet_HW).reshape(high, SUPER, wide, SUPER)
    first_HW = code_HSWS[:, 0, :, 0]
    same_HW = np.ones((high, wide), bool)
    for i, j in _SUB[1:]:
        same_HW &= code_HSWS[:, i, :, j] == first_HW
    picture_P3 = canvas_HW3.reshape(-1, 3)
    inner_N = np.flatnonzero((same_HW & (first_HW > 0)).ravel())
    if len(inner_N):
        y_N = inner_N // wide
        x_N = inner_N - y_N * wide
        middle = (SUPER - 1) / 2
        picture_P3[inner_N] = _colour(
            table, facet_P.take((y_N * row + x_N) * SUPER) - 1, x_N * SUPER + middle, y_N * SUPER + middle
        )
    edge_N = np.flatnonzero(~same_HW.ravel())
    if len(edge_N):
        y_N = edge_N // wide
        x_N = edge_N - y_N * wide
        sum_N3 = np.zeros((len(edge_N), 3), np.float32)
        for i, j in _SUB:
            q_N = facet_P.take((y_N * row + x_N) * SUPER + i * row + j) - 1
            sub_N3 = _colour(table, np.maximum(q_N, 0), x_N * float(SUPER) + j, y_N * float(SUPER) + i)
            sum_N3 += np.where((q_N < 0)[:, None], picture_P3[edge_N], sub_N3)
        picture_P3[edge_N] = sum_N3 / len(_SUB)


_SUB = tuple((i, j) for i in range(SUPER) for j in range(SUPER))


def _colour(table: Facets, facet_N: NDArray[np.int32], sx_N: Array, sy_N: Array) -> NDArray[np.float32]:
    """RGB (N, 3) of facets at sub-pixel positions."""
    bank, folds = pattern_bank()
    out_N3 = np.empty((len(facet_N), 3), np.float32)
    shift_Q = table.pattern_Q * (_TEXTURE * _TEXTURE)
    # In pieces that stay in the cache: three times faster than whole images.
    for start in range(0, len(facet_N), _PIECE):
        piece = slice(start, start + _PIECE)
        q_N = facet_N[piece]
        x_N, y_N = sx_N[piece].astype(np.float32), sy_N[piece].astype(np.float32)
        p_N12 = table.plane_Q12.take(q_N, 0).T
        shade_N = p_N12[0] + p_N12[1] * x_N + p_N12[2] * y_N
        u_N = (p_N12[3] + p_N12[4] * x_N + p_N12[5] * y_N).astype(np.int32) & 127
        v_N = (p_N12[6] + p_N12[7] * x_N + p_N12[8] * y_N).astype(np.int32) & 127
        texel_N = (v_N << 7) + u_N
        shade_N *= 1 + table.fold_Q.take(q_N) * folds.take(texel_N)
        mix_N = bank.take(shift_Q.take(q_N) + texel_N)
        colour_N6 = table.colour_Q6.take(q_N, 0)
        rgb_N3 = (colour_N6[:, :3] + colour_N6[:, 3:] * mix_N[:, None]) * shade_N[:, None]
        np.minimum(rgb_N3, 255, out=out_N3[piece])
    return out_N3
