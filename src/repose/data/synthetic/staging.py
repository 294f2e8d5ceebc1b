"""Who stands where: people, their motion in a clip, and the camera that looks at them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from .labels import box_iou
from .parts import Array
from .pose import Build, Posed, forward_kinematics, gait, sample_build, sample_pose, settle
from .render import Camera

if TYPE_CHECKING:
    from repose.config import Synthetic

RATE = 25.0  # frames per second of a clip


@dataclass
class Actor:
    """A person on the ground of a scene."""

    build: Build
    posed: Posed
    pose_A: Array  # angles
    yaw: float  # degrees
    stance: str
    place_3: Array  # of the hips, metres
    seed: int  # of looks
    keep: bool = True  # False: too far away to be labelled

    @property
    def world_J3(self) -> Array:
        """The 23 joints in the world."""
        return self.posed.joint_J3 + self.place_3


def _lowest(posed: Posed, unit: float) -> float:
    """Height of the lowest point of a body whose hips are at 0, from its joints and their limbs' thickness."""
    toe_N3 = (
        posed.origin_B3[15:17]
        + posed.frame_B33[15:17, :, 2] * (0.17 * unit)
        - posed.frame_B33[15:17, :, 1] * (0.062 * unit)
    )
    heel_N3 = (
        posed.origin_B3[15:17]
        - posed.frame_B33[15:17, :, 2] * (0.05 * unit)
        - posed.frame_B33[15:17, :, 1] * (0.068 * unit)
    )
    hand_N3 = posed.origin_B3[9:11] - posed.frame_B33[9:11, :, 1] * (0.16 * unit)
    thick = unit * np.array([0.12, 0.12, 0.11, 0.05, 0.1, *[0.05] * 4, 0.03, 0.03, 0.1, 0.1, 0.055, 0.055, 0.04, 0.04])
    points = np.concatenate(
        [
            posed.origin_B3[:, 1] - thick,
            toe_N3[:, 1],
            heel_N3[:, 1],
            hand_N3[:, 1],
            posed.joint_J3[[17], 1] - 0.03 * unit,
        ]
    )
    return float(points.min())


def _actor(rng: np.random.Generator, yaw: float | None = None, stance: str | None = None) -> Actor:
    """Draw a person at the origin, feet on the ground."""
    build = sample_build(rng)
    stance, pose_A = sample_pose(rng, stance)
    yaw = float(rng.uniform(-180, 180) if rng.random() < 0.45 else rng.normal(0, 45)) if yaw is None else yaw
    pose_A, posed = settle(build, pose_A, yaw)
    place_3 = np.array((0.0, pose_A[2] - _lowest(posed, build.unit), 0.0))
    return Actor(build, posed, pose_A, yaw, stance, place_3, int(rng.integers(1 << 62)))


def move(actor: Actor, frame: int) -> Actor:
    """A person at a frame of a clip: walks or runs on, or sways between its pose and another of the same stance."""
    rng = np.random.default_rng([actor.seed, 1])
    second = frame / RATE
    build, yaw, pose_A = actor.build, actor.yaw, actor.pose_A
    step_3 = np.zeros(3)
    if actor.stance in ("walk", "run", "stand", "rest") and rng.random() < 0.75:
        run = actor.stance == "run"
        turn = float(rng.uniform(0, 6.28)) + second * 2 * np.pi * (1.4 if run else 0.9) / build.unit**0.5
        pose_A = gait(pose_A, turn, run)
        step_3 = actor.posed.frame_B33[0, :, 2] * (1, 0, 1) * ((2.9 if run else 1.25) * build.unit * (second - 1.2))
    else:
        _, goal_A = sample_pose(rng, actor.stance)
        goal_A, _ = settle(build, goal_A, yaw)
        pose_A = pose_A + (goal_A - pose_A) * (0.5 - 0.5 * np.cos(2 * np.pi * (second / rng.uniform(2.5, 5))))
    posed = forward_kinematics(build, pose_A, yaw)
    place_3 = actor.place_3 * (1, 0, 1) + step_3 + (0.0, pose_A[2] - _lowest(posed, build.unit), 0.0)
    return replace(actor, posed=posed, pose_A=pose_A, place_3=place_3)


def _guess(camera: Camera, actor: Actor, shift_3: Array) -> tuple[tuple[float, float, float, float], float]:
    """Rough box of an actor moved by `shift_3`, clipped to the image, and the share of joints that are in the image."""
    seen_J3 = camera.see(actor.world_J3 + shift_3)
    pixel_J2 = camera.project(seen_J3)
    inside_J = ((pixel_J2 >= 0) & (pixel_J2 < (camera.width, camera.height))).all(1) & (seen_J3[:, 2] > 0.5)
    pad = 0.07 * camera.focal * actor.build.unit / max(float(seen_J3[:, 2].mean()), 0.5)
    low = np.clip(pixel_J2.min(0) - pad, 0, (camera.width, camera.height))
    high = np.clip(pixel_J2.max(0) + pad, 0, (camera.width, camera.height))
    return (float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1])), float(inside_J.mean())


def _shoot(rng: np.random.Generator, size: tuple[int, int], actor: Actor, share: float) -> tuple[Camera, float]:
    """Point a camera at the first actor so that it fills `share` of the picture's height.

    Returns:
        The camera and the actor's distance, metres.
    """
    height, width = size
    focal = width * rng.uniform(0.85, 1.9)
    tall = max(float(np.ptp(actor.world_J3[:, 1])), 0.45 * actor.build.height) * 1.08
    distance = max(focal * tall / (share * height), 1.1)
    high = rng.random()
    eye = (
        rng.uniform(0.9, 1.9)
        if high < 0.65
        else (rng.uniform(0.3, 0.9) if high < 0.8 else rng.uniform(1.9, 1.9 + 0.35 * distance))
    )
    middle = actor.world_J3[:, 1].min() + tall / 2
    row = height * (rng.uniform(0.42, 0.62) if share < 0.9 else rng.uniform(0.35, 0.85))
    pitch = np.arctan2(middle - eye, distance) + np.arctan2(row - (height - 1) / 2, focal)
    roll = np.deg2rad(rng.normal(0, 2.2)) if rng.random() < 0.6 else 0.0
    return Camera.aim(focal, np.array((0.0, eye, 0.0)), float(pitch), 0.0, float(roll), size), distance


def sideways(camera: Camera, depth: float, column: float) -> float:
    """World x at which a person at a depth stands in an image column (before panning)."""
    return (column - camera.width / 2) / camera.focal * depth


def cast(rng: np.random.Generator, options: Synthetic) -> tuple[Camera, list[Actor]]:
    """Draw camera and people, placed as `options.crowding` asks."""
    size = options.size
    count = int(rng.integers(options.people[0], options.people[1] + 1))
    mode = options.crowding
    if mode == "pairs":
        return _pair(rng, size, max(count, 2))
    most = 0.95 if mode == "crowded" else 1.15
    share = float(
        rng.uniform(0.42 if mode == "sparse" else 0.5, most) if rng.random() < 0.85 else rng.uniform(0.22, 0.4)
    )
    lead = _actor(rng)
    camera, distance = _shoot(rng, size, lead, share * (0.85 if count > 2 else 1))
    actors: list[Actor] = []
    boxes: list[tuple[float, float, float, float]] = []
    middle = size[1] * rng.uniform(0.25, 0.75)
    for n in range(count):
        actor = lead if n == 0 else _actor(rng)
        best: tuple[float, Array, tuple[float, float, float, float]] | None = None
        for _ in range(10):
            depth = distance * (
                1.0
                if n == 0
                else float(np.exp(rng.uniform(-0.25, 0.65) if mode == "sparse" else rng.uniform(-0.15, 0.3)))
            )
            column = size[1] * rng.uniform(0.08, 0.92)
            if mode == "crowded" and n:
                column = middle + size[1] * rng.normal(0, 0.26 * min(1.0, share + 0.15))
            elif n == 0:
                column = middle if mode == "crowded" else size[1] * rng.uniform(0.2, 0.8)
            shift_3 = np.array((sideways(camera, depth, column), 0.0, -depth))
            box, inside = _guess(camera, actor, shift_3)
            close = min((float(np.hypot(*(shift_3 - other.place_3)[[0, 2]])) for other in actors), default=9.0)
            overlap = max((box_iou(box, other) for other in boxes), default=0.0)
            cost = max(0.0, 0.6 - inside) * 2 + max(0.0, 0.42 - close) * 3
            cost += max(0.0, overlap - 0.18) if mode == "sparse" else 0.25 * abs(overlap - 0.35)
            if best is None or cost < best[0]:
                best = cost, shift_3, box
            if cost < (1e-6 if mode == "sparse" else 0.02):
                break
        assert best is not None
        actor.place_3 = actor.place_3 + best[1]
        actors.append(actor)
        boxes.append(best[2])
    if mode == "sparse" and rng.random() < 0.12:
        for _ in range(int(rng.integers(1, 3))):
            add_far(rng, camera, actors, distance, size[1] * rng.uniform(0, 1))
    return camera, actors


def add_far(rng: np.random.Generator, camera: Camera, actors: list[Actor], distance: float, column: float) -> None:
    """Add somebody too far away to be labelled."""
    depth = max(distance * 2, camera.focal * 1.7 / (camera.height * rng.uniform(0.05, 0.085)))
    actor = _actor(rng, None, ("stand", "rest", "walk")[int(rng.integers(3))])
    actor.place_3 = actor.place_3 + np.array((sideways(camera, depth, column), 0.0, -depth))
    actor.keep = False
    actors.append(actor)


def _pair(rng: np.random.Generator, size: tuple[int, int], count: int) -> tuple[Camera, list[Actor]]:
    """Two people who hug, dance or wrestle (OCHuman-like), their box overlap drawn from 0.3 to 0.9, and bystanders."""
    lead = _actor(rng)
    camera, distance = _shoot(rng, size, lead, float(rng.uniform(0.45, 0.95)))
    lead.place_3 = lead.place_3 + np.array(
        (sideways(camera, distance, size[1] * rng.uniform(0.3, 0.7)), 0.0, -distance)
    )
    box, _ = _guess(camera, lead, np.zeros(3))
    goal = rng.uniform(0.3, 0.9)
    best: tuple[float, Actor] | None = None
    for _ in range(14):
        facing = lead.yaw + (180 if rng.random() < 0.6 else 0) + rng.normal(0, 35)
        stance = lead.stance if rng.random() < 0.6 else None
        other = _actor(rng, float(facing), stance)
        for _ in range(3):
            angle, gap = rng.uniform(0, 2 * np.pi), rng.uniform(0.26, 0.55)
            shift_3 = lead.place_3 * (1, 0, 1) + (gap * np.cos(angle), 0.0, gap * np.sin(angle))
            iou = box_iou(_guess(camera, other, shift_3)[0], box)
            if best is None or abs(iou - goal) < best[0]:
                place_3 = other.place_3 + shift_3
                best = abs(iou - goal), replace(other, place_3=place_3)
        if best is not None and best[0] < 0.04:
            break
    assert best is not None
    actors = [lead, best[1]]
    for _ in range(count - 2):
        bystander = _actor(rng)
        depth = distance * rng.uniform(1.1, 1.8)
        column = size[1] * rng.uniform(0.05, 0.95)
        bystander.place_3 = bystander.place_3 + np.array((sideways(camera, depth, column), 0.0, -depth))
        actors.append(bystander)
    return camera, actors
