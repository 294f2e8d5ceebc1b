"""Error kinds on poses made by hand."""

import json

import numpy as np
import pytest

from repose.metrics.errors import KINDS, analyse
from repose.skeleton import COCO17, Skeleton

# Four joints of k = 0.2; areas are 10000, so s k = 20: similarity exp(-d^2 / 800).
# good up to d = 11.4 (0.85), jitter up to d = 23.5 (0.5).
FOUR = Skeleton(
    name="four",
    joints=("nose", "left_hand", "right_hand", "tail"),
    flip_pairs=(("left_hand", "right_hand"),),
    limbs=(("nose", "tail"),),
    sigmas=(0.1,) * 4,
)
A = np.array([[100, 100], [50, 150], [150, 150], [100, 250]], dtype=float)
B = A + np.array([200, 0])  # hands at 250 and 350; A's right hand is 100 away from B's left one


def person(number, points, image=1, v=(2, 2, 2, 2), **more):
    joints = np.concatenate([points, np.array(v)[:, None]], axis=1)
    return {
        "id": number, "image_id": image, "category_id": 1, "area": 10000.0, "iscrowd": 0, "bbox": [0, 0, 100, 100],
        "num_keypoints": int((joints[:, 2] > 0).sum()), "keypoints": joints.reshape(-1).tolist(), **more,
    }  # fmt: skip


def pose(points, score=0.9, image=1):
    joints = np.concatenate([points, np.ones((len(points), 1))], axis=1)
    return {"image_id": image, "category_id": 1, "keypoints": joints.reshape(-1).tolist(), "score": score}


def truth(*people):
    images = sorted({p["image_id"] for p in people})
    return {"images": [{"id": i} for i in images], "annotations": list(people)}


def moved(joint, where):
    points = A.copy()
    points[FOUR.index(joint)] = where
    return points


@pytest.mark.parametrize(
    ("joint", "where", "kind"),
    [
        ("tail", (100, 250), "good"),
        ("tail", (100, 261), "good"),  # exp(-121 / 800) = 0.86
        ("tail", (100, 262), "jitter"),  # exp(-144 / 800) = 0.835
        ("tail", (100, 273), "jitter"),  # exp(-529 / 800) = 0.516
        ("tail", (100, 274), "miss"),  # exp(-576 / 800) = 0.487
        ("left_hand", (150, 150), "inversion"),
        ("left_hand", (160, 150), "inversion"),
        ("left_hand", (250, 150), "swap"),  # B's left hand
        ("left_hand", (350, 150), "swap"),  # B's right hand: another person's mirrored joint
        ("tail", (300, 250), "swap"),
        ("tail", (300, 100), "miss"),  # B's nose is another joint
        ("nose", (50, 150), "miss"),  # a hand of its own, but no mirror image of the nose
        ("left_hand", (1000, 1000), "miss"),
    ],
)
def test_one_joint(joint, where, kind):
    said = analyse([pose(moved(joint, where))], truth(person(1, A), person(2, B)), FOUR)
    assert said["people"] == 2 and said["matched"] == 1
    assert said["joints"][joint][kind] == 1, said["joints"][joint]
    assert sum(said["joints"][joint][k] for k in KINDS) == 1
    share = 1 if kind == "good" else 0.75
    assert said["kinds"]["good"] == share and said["kinds"][kind] == (1 if kind == "good" else 0.25)
    distance = np.hypot(*(np.array(where) - A[FOUR.index(joint)]))
    assert said["joints"][joint]["similarity"] == pytest.approx(np.exp(-(distance**2) / 800))


def test_an_unlabelled_joint_is_neither_counted_nor_compared_with():
    said = analyse([pose(moved("left_hand", (150, 150)))], truth(person(1, A, v=(2, 1, 0, 0))), FOUR)
    assert said["joints"]["left_hand"]["miss"] == 1  # nobody knows where the right hand is
    assert said["joints"]["tail"] == {"n": 0, "similarity": None, **dict.fromkeys(KINDS, 0.0)}
    assert said["kinds"] == {"good": 0.5, "jitter": 0, "inversion": 0, "swap": 0, "miss": 0.5}


def test_matching():
    # The better score takes A; the other one's best is A too, but B is all that is left, and it is like B by 0.
    near, far = A + np.array([3, 0]), A + np.array([12, 0])
    ground = truth(person(1, A), person(2, B), person(3, A, image=2), person(4, A, image=3, iscrowd=1))
    said = analyse([pose(far, 0.2), pose(near, 0.8), pose(A, 0.9, image=3)], ground, FOUR)
    assert said["people"] == 3 and said["matched"] == 1 and said["kinds"]["good"] == 1
    said = analyse([pose(far, 0.8), pose(near, 0.2)], ground, FOUR)
    assert said["matched"] == 1 and said["kinds"]["jitter"] == 1
    # beyond max_people a pose does not count, as in AP
    assert analyse([pose(B + 900, 0.8), pose(near, 0.2)], ground, FOUR, max_people=1)["matched"] == 0


def test_nothing_to_analyse():
    none = analyse([], truth(person(1, A)), FOUR)
    assert none["people"] == 1 and none["matched"] == 0 and set(none["kinds"].values()) == {0}
    assert analyse([pose(A)], {"images": [{"id": 1}], "annotations": []}, FOUR)["people"] == 0
    json.dumps(none, allow_nan=False)


def test_coco_skeleton_of_a_mirrored_person():
    rng = np.random.default_rng(0)
    points = rng.permutation(np.stack([np.arange(17) * 40.0, rng.uniform(0, 300, 17)], axis=1))
    ground = truth(person(1, points, v=(2,) * 17, area=400.0))
    said = analyse([pose(points[list(COCO17.flip_index)])], ground, COCO17)
    # the nose alone is right; its share of OKS, 1/17 = 0.06, is below the 0.1 that makes a pose a person's
    assert said["matched"] == 0
    half = points.copy()
    half[5:11] = points[list(COCO17.flip_index)][5:11]
    said = analyse([pose(half)], ground, COCO17)
    assert said["kinds"] == {"good": 11 / 17, "jitter": 0, "inversion": 6 / 17, "swap": 0, "miss": 0}
    assert said["joints"]["left_wrist"]["inversion"] == 1 and said["joints"]["nose"]["good"] == 1
