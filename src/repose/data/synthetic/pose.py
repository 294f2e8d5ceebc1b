"""Joint angles of a person and where they put the bones and the joints.

Body frame, right-handed: x to the person's own left, y up, z forward; metres and degrees. A pose is one vector of
29 numbers (see `ROOT` to `LEG`), so that poses can be mixed, limited and interpolated without naming every joint.

Legend: A angles (29), J named joints (23), T table rows; L = 2 is left, right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

ROOT, SPINE, NECK = slice(0, 3), slice(3, 6), slice(6, 9)
"""Root: pitch (forward +), roll (to the left -), lift in metres. Spine and neck: flexion, side bend, twist."""
ARM = (slice(9, 14), slice(14, 19))
"""Left, right: flexion, abduction, internal rotation, elbow, wrist."""
LEG = (slice(19, 24), slice(24, 29))
"""Left, right: flexion, abduction, external rotation, knee, ankle measured from a level sole."""

JOINTS = (
    *("nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow"),
    *("right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle"),
    *("right_ankle", "head", "neck", "pelvis", "thorax", "upper_neck", "head_top"),
)
"""Every joint that a rendered body has; any skeleton is a list of these names."""

BONES = ("pelvis", "abdomen", "thorax", "neck", "head")
"""The trunk's frames; limbs follow as (left, right) pairs, from the numbers below."""
UPPER_ARM, FOREARM, HAND, THIGH, SHIN, FOOT = 5, 7, 9, 11, 13, 15

_ARM_LOW, _ARM_HIGH = (-50, -8, -85, 0, -50), (178, 150, 85, 148, 60)
_LEG_LOW, _LEG_HIGH = (-30, -14, -25, 0, -70), (125, 62, 62, 145, 40)
LOW_A: Array = np.array([-200, -200, 0, -25, -28, -40, -45, -30, -72, *_ARM_LOW * 2, *_LEG_LOW * 2], float)
HIGH_A: Array = np.array([200, 200, 3, 62, 28, 40, 48, 30, 72, *_ARM_HIGH * 2, *_LEG_HIGH * 2], float)

# Arms: flexion, abduction, internal rotation, elbow, wrist.
_ARMS: dict[str, tuple[float, ...]] = {
    "down": (0, 9, 5, 10, 0),
    "loose": (6, 13, 20, 30, 5),
    "hip": (-18, 42, 68, 98, 20),
    "crossed": (32, 6, 66, 108, 0),
    "up": (162, 12, 0, 18, 0),
    "wave": (8, 88, -72, 88, 0),
    "phone": (52, 16, 22, 136, 10),
    "forward": (78, 6, 5, 16, 0),
    "side": (5, 86, 0, 10, 0),
    "behind": (-34, 12, 40, 42, 0),
    "throw": (-10, 96, -60, 92, 0),
    "reach": (25, 128, 0, 16, 0),
    "nape": (62, 92, -45, 136, 0),
    "carry": (20, 10, 24, 86, 0),
    "lap": (26, 8, 26, 52, 0),
    "bat": (58, 6, 52, 50, 0),
    "swing_front": (32, 8, 8, 42, 0),
    "swing_back": (-30, 10, 0, 26, 0),
    "drink": (40, 22, 40, 122, 0),
    "low": (42, 8, 5, 12, 0),
}
_FREE_ARMS = (
    "down",
    "loose",
    "hip",
    "up",
    "wave",
    "phone",
    "forward",
    "side",
    "behind",
    "throw",
    "reach",
    "nape",
    "carry",
    "drink",
    "low",
)
_FREE_WEIGHT = np.cumsum([5, 5, 3, 2, 2, 2, 2, 1.2, 1, 1.5, 1.5, 1, 4, 2, 1.5])


@dataclass(frozen=True)
class _Stance:
    """One prior of the lower body: chance, pitch and roll of the root, spine flexion, both legs, arms that suit it."""

    weight: float
    legs: tuple[tuple[float, ...], tuple[float, ...]]
    root: tuple[float, float, float] = (0, 0, 0)
    spine: float = 4
    arms: tuple[str, ...] = ()
    noise: float = 6
    ground: bool = True  # False: the person is in the air, or lies, and the ankle is free


# Legs: flexion, abduction, external rotation, knee, ankle from level.
_STANCES: dict[str, _Stance] = {
    "stand": _Stance(9, ((0, 4, 8, 3, 0), (0, 4, 8, 3, 0)), noise=4),
    "rest": _Stance(6, ((-2, 5, 6, 0, 0), (14, 9, 14, 24, 0)), noise=5),
    "wide": _Stance(3, ((4, 19, 14, 8, 0), (4, 19, 14, 8, 0))),
    "walk": _Stance(7, ((26, 2, 5, 8, 8), (-17, 2, 5, 24, -18)), arms=("swing_back", "swing_front"), spine=5),
    "run": _Stance(5, ((62, 3, 2, 72, 0), (-14, 3, 2, 62, -35)), (10, 0, 0.06), 10, ("swing_back", "carry"), 10, False),
    "lunge": _Stance(3, ((72, 7, 4, 84, 0), (-14, 7, 4, 18, -25)), (8, 0, 0), 10, noise=8),
    "sit": _Stance(8, ((86, 9, 8, 86, 0), (86, 9, 8, 86, 0)), (-4, 0, 0), 14, ("lap", "lap", "carry", "low"), 8),
    "ride": _Stance(3, ((66, 20, 8, 76, 0), (66, 20, 8, 76, 0)), (16, 0, 0), 18, ("forward", "low"), 7),
    "ground": _Stance(2.5, ((104, 40, 42, 126, 0), (104, 40, 42, 126, 0)), (-8, 0, 0), 26, ("lap", "carry"), 7),
    "long": _Stance(2, ((82, 8, 10, 14, 0), (88, 8, 10, 40, 0)), (-12, 0, 0), 16, ("behind", "lap"), 9),
    "squat": _Stance(
        3.5, ((112, 17, 12, 128, 12), (108, 17, 12, 130, 12)), (20, 0, 0), 18, ("carry", "low", "forward"), 8
    ),
    "kneel": _Stance(2, ((92, 8, 5, 92, 0), (2, 5, 2, 98, -40)), (2, 0, 0), 10, ("carry", "low")),
    "kick": _Stance(3, ((78, 6, 4, 18, -20), (2, 5, 8, 10, 0)), (-10, 0, 0), 4, ("side", "behind", "loose"), 9),
    "tree": _Stance(1.2, ((52, 42, 48, 118, 0), (0, 3, 5, 2, 0)), arms=("up", "side", "hip"), noise=8),
    "jump": _Stance(3, ((34, 11, 5, 58, -30), (14, 9, 5, 42, -35)), (4, 0, 0.35), 5, ("up", "side", "wave"), 13, False),
    "swing": _Stance(4, ((22, 18, 12, 30, 0), (12, 20, 14, 26, 0)), (14, 0, 0), 10, ("bat", "bat", "throw"), 7),
    "bend": _Stance(3, ((58, 8, 6, 16, 0), (52, 8, 6, 12, 0)), (48, 0, 0), 30, ("low", "forward", "carry"), 8),
    "surf": _Stance(3, ((52, 26, 16, 66, 0), (46, 26, 16, 62, 0)), (16, 0, 0), 14, ("side", "loose", "forward"), 9),
    "back": _Stance(1.3, ((14, 8, 12, 20, 0), (30, 8, 12, 46, 0)), (-88, 0, 0), 4, ("nape", "down", "loose"), 9, False),
    "front": _Stance(1, ((2, 9, 10, 6, -30), (6, 9, 10, 26, -30)), (86, 0, 0), -4, ("nape", "forward", "up"), 9, False),
    "flank": _Stance(
        1, ((40, 4, 4, 50, -10), (24, 4, 4, 40, -10)), (0, 86, 0), 14, ("carry", "forward", "phone"), 10, False
    ),
    "flip": _Stance(0.6, ((10, 18, 5, 20, -40), (0, 18, 5, 20, -40)), (176, 0, 0), -2, ("up",), 9, False),
}
_STANCE_WEIGHT = np.cumsum([stance.weight for stance in _STANCES.values()])


@dataclass(frozen=True)
class Build:
    """Proportions of one person, metres."""

    height: float
    head: float  # size of the head against an adult's of 1.70 m
    shoulder: float  # half the distance of the shoulder joints
    hip: float  # half the distance of the hip joints
    arm: float  # length against the mean of this height
    leg: float
    girth: float  # thickness of limbs and trunk against the mean
    belly: float
    woman: float  # 0 to 1: bust, waist, hips

    @property
    def unit(self) -> float:
        """Size against an adult of 1.70 m, in which every length of the tables is written."""
        return self.height / 1.7


def sample_build(rng: np.random.Generator) -> Build:
    """Draw a body: adults of both sexes, one in seven a child."""
    child = rng.random() < 0.14
    woman = float(rng.random() < 0.5) * rng.uniform(0.6, 1.0)
    height = (
        rng.uniform(1.0, 1.42) if child else float(np.clip(rng.normal(1.76 - 0.12 * (woman > 0), 0.075), 1.48, 2.02))
    )
    unit = height / 1.7
    heavy = float(np.clip(rng.normal(0, 1), -1.6, 2.2))
    return Build(
        height=height,
        head=unit * (rng.uniform(1.22, 1.42) if child else rng.uniform(0.95, 1.08)),
        shoulder=unit * (0.168 if child else 0.182 - 0.018 * (woman > 0)) * rng.uniform(0.94, 1.07),
        hip=unit * (0.086 + 0.008 * woman) * rng.uniform(0.94, 1.08),
        arm=rng.uniform(0.94, 1.06),
        leg=rng.uniform(0.94, 1.06) * (0.93 if child else 1.0),
        girth=1.0 + 0.1 * heavy,
        belly=max(0.0, heavy - 0.3) * rng.uniform(0.1, 0.5),
        woman=0.0 if child else woman,
    )


def _pick(rng: np.random.Generator, cumulative: NDArray[np.float64]) -> int:
    return int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))


def sample_pose(rng: np.random.Generator, stance: str | None = None) -> tuple[str, Array]:
    """Draw a pose: a stance for the lower body, arms that suit it or free ones, noise, anatomical limits.

    Args:
        rng: Source of chance.
        stance: Name of the prior, None to draw it.

    Returns:
        The prior's name and the angles, shape (29,).
    """
    name = stance or tuple(_STANCES)[_pick(rng, _STANCE_WEIGHT)]
    prior = _STANCES[name]
    pose_A = rng.normal(0.0, 1.0, 29)
    noise = prior.noise * rng.uniform(0.5, 1.6)
    pose_A[:3] *= (0.5 * noise, 0.35 * noise, 0.02)
    pose_A[3:6] *= (7, 5, 8)
    pose_A[6:9] *= (9, 6, 20)
    pose_A[19:29] *= noise * np.array((1, 0.5, 0.8, 1.1, 0.6) * 2)
    pose_A[ROOT] += prior.root
    pose_A[2] = max(pose_A[2], 0.0) if prior.root[2] else 0.0
    pose_A[3] += prior.spine
    # A leaning person still looks ahead: the neck undoes part of the trunk's pitch.
    pose_A[6] -= 0.3 * np.clip(prior.root[0] + prior.spine - 5, -40, 60) - 4
    pose_A[LEG[0]] += prior.legs[0]
    pose_A[LEG[1]] += prior.legs[1]
    both = rng.random() < 0.35
    free = rng.random() < (0.85 if not prior.arms else 0.3)
    names = [_FREE_ARMS[_pick(rng, _FREE_WEIGHT)] for _ in ARM]
    if prior.arms and not free:
        names = [prior.arms[int(rng.integers(len(prior.arms)))] for _ in ARM]
        if name in ("walk", "run"):
            names = list(prior.arms)
        both = both or name == "swing"
    elif not prior.arms and not free and rng.random() < 0.4:
        names, both = ["crossed", "crossed"], True
    if both and name not in ("walk", "run"):
        names[1] = names[0]
    for side, arm in zip(ARM, names, strict=True):
        pose_A[side] *= 1.6 * np.array((8, 6, 10, 10, 10))
        pose_A[side] += _ARMS[arm]
    if not prior.ground:
        pose_A[[23, 28]] += rng.uniform(-20, 5, 2)
    if rng.random() < 0.5:
        pose_A = mirror(pose_A)
    return name, np.clip(pose_A, LOW_A, HIGH_A)


def mirror(pose_A: Array) -> Array:
    """Swap left and right of a pose, shape (29,)."""
    other_A = pose_A.copy()
    other_A[[1, 4, 5, 7, 8]] *= -1
    other_A[ARM[0]], other_A[ARM[1]] = pose_A[ARM[1]], pose_A[ARM[0]]
    other_A[LEG[0]], other_A[LEG[1]] = pose_A[LEG[1]], pose_A[LEG[0]]
    return other_A


def gait(pose_A: Array, phase: float, run: bool) -> Array:
    """Replace arms and legs of a pose by those of a walk or run at a phase of the cycle (radians)."""
    moved_A = pose_A.copy()
    for side in (0, 1):
        turn = phase + np.pi * side
        swing, lift = np.sin(turn), max(0.0, np.cos(turn))
        leg, arm = LEG[side].start, ARM[side].start
        moved_A[leg] = (18 if run else 5) + (38 if run else 23) * swing
        moved_A[leg + 3] = (22 if run else 8) + (75 if run else 45) * lift
        moved_A[leg + 4] = -24 * max(0.0, -swing)
        moved_A[arm] = 2 - (36 if run else 22) * swing
        moved_A[arm + 3] = (85 if run else 22) - 14 * swing
    moved_A[2] = (0.05 if run else 0.0) * abs(np.sin(phase))
    return np.clip(moved_A, LOW_A, HIGH_A)


def _turn(axis: int, degree_N: Array) -> Array:
    """Rotation matrices about one axis, (N, 3, 3)."""
    angle_N = degree_N * (np.pi / 180)
    out_N33 = np.zeros((len(angle_N), 3, 3))
    i, j = (axis + 1) % 3, (axis + 2) % 3
    out_N33[:, axis, axis] = 1
    out_N33[:, i, i] = out_N33[:, j, j] = np.cos(angle_N)
    out_N33[:, j, i] = np.sin(angle_N)
    out_N33[:, i, j] = -out_N33[:, j, i]
    return out_N33


@dataclass(frozen=True)
class Posed:
    """Bones and joints of a posed body; the midpoint of the hips is the origin."""

    frame_B33: Array  # columns: left, up, forward of each bone
    origin_B3: Array  # the joint nearest the trunk
    joint_J3: Array  # in the order of JOINTS


_SIDE = np.array([1.0, -1.0])


def forward_kinematics(build: Build, pose_A: Array, yaw: float) -> Posed:
    """Place the 17 bones and 23 joints.

    Args:
        build: Proportions.
        pose_A: Angles, shape (29,).
        yaw: Where the person faces, degrees: 0 to the viewer (+z), 90 to the image's right.

    Returns:
        Frames, origins and joints in metres, world axes (x right, y up, z to the viewer).
    """
    unit = build.unit
    arm_L5, leg_L5 = pose_A[9:19].reshape(2, 5), pose_A[19:29].reshape(2, 5)
    level_L = leg_L5[:, 0] - leg_L5[:, 3] - pose_A[0]
    # All rotations about one axis at once: a call costs more than its arithmetic.
    x_N33 = _turn(
        0,
        np.concatenate(
            [
                pose_A[:1],
                pose_A[[3, 6]] / 2,
                -arm_L5[:, 0],
                -arm_L5[:, 3],
                -leg_L5[:, 0],
                leg_L5[:, 3],
                np.clip(level_L - leg_L5[:, 4], -22, 52),
            ]
        ),
    )
    y_N33 = _turn(1, np.concatenate([(yaw,), pose_A[[5, 8]] / 2, -_SIDE * arm_L5[:, 2], _SIDE * leg_L5[:, 2]]))
    z_N33 = _turn(
        2,
        np.concatenate(
            [pose_A[1:2], pose_A[[4, 7]] / 2, _SIDE * arm_L5[:, 1], -_SIDE * arm_L5[:, 4], _SIDE * leg_L5[:, 1]]
        ),
    )
    half = x_N33[1:3] @ z_N33[1:3] @ y_N33[1:3]
    pelvis = y_N33[0] @ x_N33[0] @ z_N33[0]
    abdomen = pelvis @ half[0]
    thorax = abdomen @ half[0]
    neck = thorax @ half[1]
    head = neck @ half[1]
    upper = thorax @ z_N33[3:5] @ x_N33[3:5] @ y_N33[3:5]
    fore = upper @ x_N33[5:7]
    hand = fore @ z_N33[5:7]
    thigh = pelvis @ z_N33[7:9] @ x_N33[7:9] @ y_N33[5:7]
    shin = thigh @ x_N33[9:11]
    foot = shin @ x_N33[11:13]

    waist = pelvis[:, 1] * 0.102 * unit
    chest = waist + abdomen[:, 1] * 0.165 * unit
    base = chest + thorax[:, 1] * 0.232 * unit
    skull = base + neck[:, 1] * 0.068 * unit + neck[:, 2] * 0.018 * unit
    # Raising an arm lifts the collar bone and carries the shoulder joint up and in.
    raise_L = np.clip((np.hypot(arm_L5[:, 0], arm_L5[:, 1]) - 60) / 100, 0, 1)
    reach_L3 = np.stack(
        [_SIDE * (build.shoulder - 0.03 * unit * raise_L), (0.188 + 0.055 * raise_L) * unit, 0 * raise_L], 1
    )
    shoulder_L3 = chest + reach_L3 @ thorax.T
    elbow_L3 = shoulder_L3 - upper[:, :, 1] * (0.292 * unit * build.arm)
    wrist_L3 = elbow_L3 - fore[:, :, 1] * (0.25 * unit * build.arm)
    hip_L3 = _SIDE[:, None] * pelvis[:, 0] * build.hip
    knee_L3 = hip_L3 - thigh[:, :, 1] * (0.418 * unit * build.leg)
    ankle_L3 = knee_L3 - shin[:, :, 1] * (0.418 * unit * build.leg)

    size = build.head
    face_N3 = size * np.array(
        [
            *((0, 0.062, 0.113), (0.032, 0.096, 0.083), (-0.032, 0.096, 0.083), (0.077, 0.083, -0.006)),
            *((-0.077, 0.083, -0.006), (0, 0.2, 0.0), (0, -0.005, 0.0)),
        ]
    )
    face_N3 = skull + face_N3 @ head.T
    joint_J3 = np.concatenate(
        [
            face_N3[:5],
            shoulder_L3,
            elbow_L3,
            wrist_L3,
            hip_L3,
            knee_L3,
            ankle_L3,
            [
                face_N3[5],
                base + neck[:, 1] * 0.02 * unit,
                np.zeros(3),
                base - thorax[:, 1] * 0.03 * unit,
                face_N3[6],
                face_N3[5],
            ],
        ]
    )
    frame_B33 = np.concatenate([[pelvis, abdomen, thorax, neck, head], upper, fore, hand, thigh, shin, foot])
    origin_B3 = np.concatenate(
        [[np.zeros(3), waist, chest, base, skull], shoulder_L3, elbow_L3, wrist_L3, hip_L3, knee_L3, ankle_L3]
    )
    return Posed(frame_B33, origin_B3, joint_J3)


def settle(build: Build, pose_A: Array, yaw: float) -> tuple[Array, Posed]:
    """Pose a body, lifting arms out of the trunk and hands out of the head.

    Returns:
        The angles that were used, shape (29,), and the posed body.
    """
    pose_A = pose_A.copy()
    for _ in range(4):
        posed = forward_kinematics(build, pose_A, yaw)
        thorax = posed.frame_B33[2]
        hand_N3 = np.concatenate(
            [posed.origin_B3[9:11] - posed.frame_B33[9:11, :, 1] * 0.1 * build.unit, posed.origin_B3[7:11]]
        )
        local_N3 = (hand_N3 - posed.origin_B3[2]) @ thorax / build.unit
        thick = build.girth + 0.3 * build.belly
        deep_N = np.hypot(local_N3[:, 0] / (0.18 * thick), local_N3[:, 2] / (0.15 * thick)) < 1
        deep_N &= (local_N3[:, 1] > -0.4) & (local_N3[:, 1] < 0.2)
        skull = posed.origin_B3[4] + posed.frame_B33[4, :, 1] * 0.1 * build.head
        deep_N |= np.linalg.norm(hand_N3 - skull, axis=1) < 0.125 * build.head
        deep_L = deep_N.reshape(3, 2).any(0)
        if not deep_L.any():
            break
        for side in np.flatnonzero(deep_L):
            arm = ARM[side].start
            pose_A[arm + 1] += 13
            pose_A[arm + 2] -= 12
            pose_A[arm + 3] -= 6
        pose_A = np.clip(pose_A, LOW_A, HIGH_A)
    return pose_A, posed
