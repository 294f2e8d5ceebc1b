"""Exact labels from what was painted: joints with visibility, masks, boxes, crowd index.

Legend: N people, K joints of the skeleton, J the 23 joints of a body, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .parts import HAIR, HEAD_PART, NECK_PART, SKIRT, TRUNK, Array
from .pose import FOOT, FOREARM, HAND, JOINTS, SHIN, THIGH, UPPER_ARM
from .render import SUPER, Camera, Painted


@dataclass
class Person:
    """Labels of one person.

    Attributes:
        joint_K3: x, y (pixels, centres at integers) and v: 2 visible, 1 hidden, 0 outside (then x = y = 0).
        mask_HW: Visible pixels.
        box_4: Tight box of the mask, x, y, w, h as pixel edges: column i spans [i, i + 1].
        area: Pixels of the mask.
        track_id: Number of the person in the scene, the same in every frame of a clip.
        labelled: False where an annotator would not mark joints (too small, too hidden); joints are then zero.
        crowd: Whether this is a group of distant people under one mask.
        max_iou: Largest box IoU with another person of the image.
    """

    joint_K3: NDArray[np.float32]
    mask_HW: NDArray[np.bool_]
    box_4: tuple[float, float, float, float]
    area: int
    track_id: int
    labelled: bool = True
    crowd: bool = False
    max_iou: float = 0.0


def _rules() -> dict[str, tuple[frozenset[int], float]]:
    """Which parts a joint may be seen on, and how far below their surface (metres of an adult) it may lie."""
    trunk = frozenset((TRUNK, TRUNK + 1, TRUNK + 2))
    head = frozenset((HEAD_PART,))
    crown, throat = head | {HAIR, NECK_PART}, trunk | {NECK_PART, HEAD_PART, HAIR}
    rules = {
        **{name: (head, 0.04) for name in ("nose", "left_eye", "right_eye")},
        **{name: (head, 0.045) for name in ("left_ear", "right_ear")},
        "head": (crown, 0.13),
        "head_top": (crown, 0.13),
        "neck": (throat, 0.15),
        "upper_neck": (throat, 0.15),
        "thorax": (throat, 0.17),
        "pelvis": (trunk | {THIGH + 1, THIGH + 2, SKIRT}, 0.21),
    }
    for k, side in enumerate(("left", "right")):
        own = {
            name: number + k + 1
            for name, number in (
                ("upper", UPPER_ARM),
                ("fore", FOREARM),
                ("hand", HAND),
                ("thigh", THIGH),
                ("shin", SHIN),
                ("foot", FOOT),
            )
        }
        rules[f"{side}_shoulder"] = (frozenset((own["upper"], TRUNK + 2)), 0.13)
        rules[f"{side}_elbow"] = (frozenset((own["upper"], own["fore"])), 0.1)
        rules[f"{side}_wrist"] = (frozenset((own["fore"], own["hand"])), 0.085)
        rules[f"{side}_hip"] = (trunk - {TRUNK + 2} | {own["thigh"], SKIRT}, 0.18)
        rules[f"{side}_knee"] = (frozenset((own["thigh"], own["shin"], SKIRT)), 0.13)
        rules[f"{side}_ankle"] = (frozenset((own["shin"], own["foot"], SKIRT)), 0.11)
    return rules


_RULES = _rules()
_PART_TABLE = np.array([[part in _RULES[name][0] for part in range(SKIRT + 1)] for name in JOINTS])


_AROUND = np.array([(dx, dy) for dy in (-1, 0, 1) for dx in (-1, 0, 1)])


def _visible(
    painted: Painted, owner: int, joints: Sequence[str], pixel_K2: Array, depth_K: Array, unit: float
) -> NDArray[np.bool_]:
    """Whether an annotator would see joints: a third of the sub-pixels around show its own limb, little in front."""
    high, wide = painted.facet_HW.shape
    at_K92 = np.rint((pixel_K2 + 0.5) * SUPER - 0.5).astype(int)[:, None] + _AROUND
    at_K92 = np.clip(at_K92, 0, (wide - 1, high - 1))
    owner_M, part_M, front_M = painted.at(at_K92[..., 0].ravel(), at_K92[..., 1].ravel())
    good_M = (owner_M == owner) & _PART_TABLE[[JOINTS.index(name) for name in joints]][
        np.repeat(np.arange(len(joints)), 9), part_M
    ]
    below_K = np.array([_RULES[name][1] for name in joints]) * unit
    good_M &= np.repeat(depth_K - below_K, 9) < front_M
    return good_M.reshape(-1, 9).sum(1) >= 3


def box_of(mask_HW: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """Tight box x, y, w, h of a mask as pixel edges; zeros for an empty mask."""
    x, y, w, h = cv2.boundingRect(mask_HW.astype(np.uint8))
    return float(x), float(y), float(w), float(h)


def box_iou(one_4: Sequence[float], other_4: Sequence[float]) -> float:
    """Intersection over union of two x, y, w, h boxes."""
    w = min(one_4[0] + one_4[2], other_4[0] + other_4[2]) - max(one_4[0], other_4[0])
    h = min(one_4[1] + one_4[3], other_4[1] + other_4[3]) - max(one_4[1], other_4[1])
    if w <= 0 or h <= 0:
        return 0.0
    return float(w * h / (one_4[2] * one_4[3] + other_4[2] * other_4[3] - w * h))


def crowd_index(joint_NK3: Sequence[NDArray[np.float32]], box_N4: Sequence[Sequence[float]]) -> float:
    """CrowdPose's crowd index (Li et al. 2019): mean over people of others' joints in my box over my joints in it.

    Args:
        joint_NK3: Joints of each person; those with v = 0 do not count.
        box_N4: Box x, y, w, h of each person, pixel edges.

    Returns:
        The index, 0 for nobody; people without a joint in their own box do not count.
    """
    ratios = []
    for i, (x, y, w, h) in enumerate(box_N4):

        def inside(joint_K3: NDArray[np.float32], x: float = x, y: float = y, w: float = w, h: float = h) -> int:
            at_K2 = joint_K3[:, :2] + 0.5  # pixel centres to edges
            within = (at_K2 >= (x, y)) & (at_K2 <= (x + w, y + h))
            return int((within.all(1) & (joint_K3[:, 2] > 0)).sum())

        counts = [inside(joint_K3) for joint_K3 in joint_NK3]
        if counts[i]:
            ratios.append((sum(counts) - counts[i]) / counts[i])
    return float(np.mean(ratios)) if ratios else 0.0


def label_people(
    painted: Painted,
    camera: Camera,
    world_NJ3: Sequence[Array],
    units: Sequence[float],
    joints: Sequence[str],
    keep: Sequence[bool],
    crowd: frozenset[int],
) -> list[Person]:
    """Read all labels of a painted scene.

    Args:
        painted: Facets per sub-pixel; owner n + 1 is person n, 0 an object.
        camera: The camera.
        world_NJ3: The 23 joints of each person in the world.
        units: Size of each person against an adult of 1.70 m.
        joints: Names of the skeleton's joints.
        keep: False for people that stay unlabelled.
        crowd: Numbers of the people that form one distant group.

    Returns:
        People with at least a dozen visible pixels, in order; the group, if any, is last.
    """
    missing = [name for name in joints if name not in _RULES]
    if missing:
        raise ValueError(f"synthetic people have no joint {', '.join(missing)}; they have {', '.join(JOINTS)}")
    owner_HW = np.concatenate([[0], painted.facets.owner_Q]).astype(np.uint8).take(painted.facet_HW)
    people: list[Person] = []
    group = np.zeros((camera.height, camera.width), bool)
    for n, world_J3 in enumerate(world_NJ3):
        own_HW = (owner_HW == n + 1).view(np.uint8) * np.uint8(255)
        share = cv2.resize(own_HW, (camera.width, camera.height), interpolation=cv2.INTER_AREA)
        mask_HW = share > 127  # two of four sub-pixels
        area = int(cv2.countNonZero(mask_HW.view(np.uint8)))
        if area < 12:
            continue
        if n in crowd:
            group |= mask_HW
            continue
        box = box_of(mask_HW)
        joint_K3 = np.zeros((len(joints), 3), np.float32)
        labelled = (
            keep[n] and area >= 0.0012 * mask_HW.size and max(box[2] / camera.width, box[3] / camera.height) >= 0.09
        )
        if labelled:
            seen_K3 = camera.see(world_J3[[JOINTS.index(name) for name in joints]])
            pixel_K2 = camera.project(seen_K3)
            depth_K = seen_K3[:, 2]
            inside_K = (depth_K > 0.12) & (
                (pixel_K2 >= -0.5) & (pixel_K2 < (camera.width - 0.5, camera.height - 0.5))
            ).all(1)
            joint_K3[inside_K, :2] = pixel_K2[inside_K]
            joint_K3[inside_K, 2] = (
                1
                + _visible(painted, n + 1, joints, np.where(inside_K[:, None], pixel_K2, 0), depth_K, units[n])[
                    inside_K
                ]
            )
            labelled = (joint_K3[:, 2] == 2).sum() >= min(2, len(joints))
            joint_K3 *= labelled
        people.append(Person(joint_K3, mask_HW, box, area, n + 1, bool(labelled)))
    for person in people:
        person.max_iou = max(
            (box_iou(person.box_4, other.box_4) for other in people if other is not person), default=0.0
        )
    if group.any():
        people.append(
            Person(
                np.zeros((len(joints), 3), np.float32),
                group,
                box_of(group),
                int(group.sum()),
                len(world_NJ3) + 1,
                False,
                True,
            )
        )
    return people
