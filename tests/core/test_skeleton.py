"""Joint sets: mirrored pairs, sigmas, groups, and what is refused."""

from __future__ import annotations

import pytest

from repose.config import SkeletonBlock
from repose.errors import UserError
from repose.skeleton import COCO17, CROWDPOSE14, MPII16, SKELETONS, Skeleton


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=list(SKELETONS))
def test_mirroring_twice_is_no_change_and_swaps_by_name(skeleton: Skeleton) -> None:
    flip = skeleton.flip_index
    assert [flip[i] for i in flip] == list(range(skeleton.k))
    for i, joint in enumerate(skeleton.joints):
        mirrored = skeleton.joints[flip[i]]
        expected = joint.replace("left", "\0").replace("right", "left").replace("\0", "right")
        assert mirrored == expected


def test_coco_order_and_sigmas() -> None:
    assert COCO17.index("nose") == 0
    assert COCO17.index("right_ankle") == 16
    assert COCO17.sigmas[0] == 0.026
    assert COCO17.sigmas[COCO17.index("left_hip")] == 0.107
    assert COCO17.group("lower", "x") == (11, 12, 13, 14, 15, 16)


def test_crowdpose_and_mpii_order() -> None:
    assert CROWDPOSE14.joints[12:] == ("head", "neck")
    assert CROWDPOSE14.sigmas[12:] == (0.079, 0.079)
    assert MPII16.index("pelvis") == 6
    assert MPII16.sigmas[MPII16.index("left_knee")] == 0.087


def test_missing_group_and_joint_say_what_to_do() -> None:
    with pytest.raises(UserError, match=r"half body needs the joint group 'tail'.*groups: \{tail"):
        COCO17.group("tail", "half body")
    with pytest.raises(UserError, match="no joint 'head'"):
        COCO17.index("head")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sigmas": [0.1]}, "1 sigmas for 2 joints"),
        ({"sigmas": [0.1, 0.0]}, "above 0"),
        ({"joints": ["a", "a"]}, "listed twice"),
        ({"flip_pairs": [["a", "c"]]}, "names 'c'"),
        ({"flip_pairs": [["a", "b"], ["b", "a"]]}, "in two flip_pairs"),
        ({"limbs": [["a"]]}, "pairs of joint names"),
        ({"groups": {"upper": ["z"]}}, "groups.upper names 'z'"),
    ],
)
def test_a_block_that_contradicts_itself_is_refused(change: dict, message: str) -> None:
    block = {"name": "mine", "joints": ["a", "b"], "flip_pairs": [], "limbs": [], "sigmas": [0.1, 0.1], **change}
    with pytest.raises(UserError, match=message):
        SkeletonBlock(**block).build()


def test_known_skeleton_by_name_alone() -> None:
    assert SkeletonBlock("mpii16").build() is MPII16
    assert SkeletonBlock("coco17", sigmas=(0.05,) * 17).build().sigmas == (0.05,) * 17
