"""Occlusion of partition strategies (PINet Fig. 3b): both readings by hand, and on CrowdPose's people."""

import json
import math

import numpy as np
import pytest
from pycocotools import mask as rle

from repose.errors import UserError
from repose.metrics.occlusion import occlusion, part_centres, visible_by_joints

PARTS = {"all": [[0, 1, 2]], "two": [[0, 1], [2]], "each": [[0], [1], [2]]}


def person(n, *joints, image=1, mask=None, **fields):
    """Joints as (x, y, v)."""
    found = {"id": n, "image_id": image, "iscrowd": 0, "keypoints": [v for j in joints for v in j], **fields}
    return found | ({"segmentation": mask} if mask else {})


def square(x, y, side):
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


def test_joints_by_hand():
    seen, hidden, absent = (1, 1, 2), (2, 2, 1), (0, 0, 0)
    truth = {
        "images": [{"id": 1, "width": 9, "height": 9}],
        "annotations": [
            person(1, seen, seen, seen),  # visible to all
            person(2, seen, seen, hidden),  # not as one part
            person(3, seen, hidden, absent),  # by single joints alone
            person(4, hidden, absent, absent),  # to none
            person(5, absent, absent, seen),  # its only labelled joint is visible: to all
            person(6, absent, absent, absent),  # not counted
            person(7, hidden, hidden, hidden, iscrowd=1),  # not counted
        ],
    }
    found = occlusion(truth, PARTS)
    assert found["people"] == 5 and found["M2"] is None
    assert found["M1"] == pytest.approx({"all": 3 / 5, "two": 2 / 5, "each": 1 / 5})
    # of the people who have joint 0 labelled
    assert occlusion(truth, PARTS, joints=[0])["M1"] == pytest.approx({"all": 3 / 4, "two": 2 / 4, "each": 1 / 4})


def test_masks_by_hand():
    # Two overlapping squares, 0 to 10 and 6 to 16: a centre at 8 lies in both, one at 3 in the first alone. A third
    # person without joints covers (12, 12); a crowd region covers everything and hides nobody.
    third = {"segmentation": square(11, 11, 3), "id": 3, "image_id": 1, "iscrowd": 0, "keypoints": [0] * 9}
    height = width = 20
    code = rle.encode(np.asfortranarray(np.ones((height, width), np.uint8)))
    crowd = {**third, "id": 4, "iscrowd": 1, "segmentation": {"size": [20, 20], "counts": code["counts"].decode()}}
    people = [
        person(1, (3, 3, 1), (8, 8, 2), (8, 8, 2), mask=square(0, 0, 10)),
        person(2, (8, 8, 2), (12, 12, 2), (12, 12, 2), mask=square(6, 6, 10)),
    ]
    truth = {"images": [{"id": 1, "width": width, "height": height}], "annotations": [*people, third, crowd]}
    found = occlusion(truth, PARTS)
    # Person 1: all joints' mean (6.33, 6.33) lies in both squares; (5.5, 5.5) rounds to 6, which is in both too; joint
    # 0 is alone. Person 2: the mean (10.67, 10.67) rounds to 11: the third person's; (10, 10) is its own alone.
    assert found["M2"] == pytest.approx({"all": 1.0, "two": 1 / 2, "each": 1 / 2})
    clear = {**truth, "annotations": [people[0], crowd]}
    assert occlusion(clear, PARTS)["M2"] == {"all": 0.0, "two": 0.0, "each": 0.0}
    outside = person(1, (-5, 3, 2), (-5, 3, 2), (-9, 3, 2), mask=square(0, 0, 10))
    assert occlusion({**truth, "annotations": [outside]}, PARTS)["M2"] == {"all": 1.0, "two": 1.0, "each": 1.0}
    compressed = [{**p, "segmentation": rle.merge(rle.frPyObjects(p["segmentation"], 20, 20))} for p in people]
    assert occlusion({**truth, "annotations": [*compressed, third, crowd]}, PARTS) == found
    del people[1]["segmentation"]
    assert occlusion(truth, PARTS)["M2"] is None


def test_centres_are_means_of_labelled_joints():
    joint_NK3 = np.array([[[0, 0, 2], [4, 2, 1], [9, 9, 0]], [[9, 9, 0], [9, 9, 0], [1, 5, 1]]], dtype=float)
    member_PK = np.array([[1, 1, 1], [1, 0, 0]], dtype=bool)
    centre, there = part_centres(joint_NK3, member_PK)
    assert centre[there].tolist() == [[2, 1], [0, 0], [1, 5]]
    assert there.tolist() == [[True, True], [True, False]]
    assert visible_by_joints(joint_NK3[..., 2], member_PK).tolist() == [[False, True], [False, False]]


def test_nobody_and_unknown_joints():
    nobody = {"images": [], "annotations": []}
    found = occlusion(nobody, PARTS)
    assert found["people"] == 0 and all(math.isnan(v) for v in [*found["M1"].values(), *found["M2"].values()])
    one = {"images": [{"id": 1}], "annotations": [person(1, (0, 0, 2))]}
    with pytest.raises(UserError, match=r"parts name joints 0 to 2, the people have 1 joints \(0 to 0\)"):
        occlusion(one, PARTS)


@pytest.mark.data
def test_limbs_of_crowdpose_val(shared_data):
    """Section 11 of the specification: the order that the paper claims, on other people."""
    content = json.loads((shared_data / "crowdpose_val.json").read_text())
    limbs = list(range(12))
    parts = {
        "center": [limbs],
        "part-large": [[0, 1, 6, 7], [6, 7, 8, 9, 10, 11]],
        "part-small": [[0, 1, 6, 7], [0, 2, 4], [1, 3, 5], [6, 8, 10], [7, 9, 11]],
        "keypoint": [[joint] for joint in limbs],
    }
    found = occlusion(content, parts, joints=limbs)
    assert found["people"] == 7074 and found["M2"] is None
    expected = {"center": 0.776, "part-large": 0.626, "part-small": 0.444, "keypoint": 0.409}
    assert found["M1"] == pytest.approx(expected, abs=5e-4)
