"""OKS against pycocotools, and NMS by hand."""

import json

import numpy as np
import pytest
import torch
from pycocotools.cocoeval import COCOeval

from repose.ops.oks import keypoint_similarity, oks, oks_nms, pose_oks
from repose.skeleton import COCO17, CROWDPOSE14


def theirs(poses_NK3, annotations, sigmas):
    """pycocotools' computeOks of the poses with the annotations (of one image), in the order of both."""
    evaluation = COCOeval.__new__(COCOeval)
    evaluation._gts = {(1, 1): annotations}
    scores = np.linspace(1, 0.5, len(poses_NK3))
    evaluation._dts = {
        (1, 1): [{"keypoints": p.reshape(-1).tolist(), "score": s} for p, s in zip(poses_NK3, scores, strict=True)]
    }
    evaluation.params = type("P", (), {"maxDets": [1000], "kpt_oks_sigmas": np.array(sigmas)})()
    return torch.tensor(np.asarray(evaluation.computeOks(1, 1)))


def ours(poses_NK3, annotations, sigmas):
    k = len(sigmas)
    box = torch.tensor([a["bbox"] for a in annotations], dtype=torch.float64)
    return oks(
        torch.from_numpy(poses_NK3)[..., :2],
        torch.tensor([a["keypoints"] for a in annotations], dtype=torch.float64).view(-1, k, 3),
        torch.tensor([a["area"] for a in annotations], dtype=torch.float64),
        sigmas,
        torch.cat([box[:, :2], box[:, :2] + box[:, 2:]], dim=1),
    )


@pytest.mark.parametrize("skeleton", [COCO17, CROWDPOSE14])
def test_random_cases_equal_pycocotools(skeleton):
    rng = np.random.default_rng(0)
    for case in range(20):
        annotations = []
        for _ in range(4):
            joints = np.concatenate([rng.uniform(0, 100, (skeleton.k, 2)), rng.integers(0, 3, (skeleton.k, 1))], axis=1)
            joints[:, 2] *= rng.random() > 0.3  # some people have no labelled joint: measured by their box
            box = [*rng.uniform(0, 40, 2), *rng.uniform(5, 60, 2)]
            area = 0.0 if case == 0 else float(rng.uniform(10, 9000))
            annotations.append({"keypoints": joints.reshape(-1).tolist(), "bbox": box, "area": area})
        poses = rng.uniform(-50, 150, (5, skeleton.k, 3))
        poses[0, :, :2] = np.array(annotations[0]["keypoints"]).reshape(-1, 3)[:, :2]
        poses[1] = poses[0] + rng.normal(0, 3, poses[0].shape)
        got, wanted = ours(poses, annotations, skeleton.sigmas), theirs(poses, annotations, skeleton.sigmas)
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-9)


@pytest.mark.data
def test_photographs_equal_pycocotools(coco_lite):
    truth = json.loads((coco_lite / "annotations" / "person_keypoints_val.json").read_text())
    by_image = {}
    for annotation in truth["annotations"]:
        by_image.setdefault(annotation["image_id"], []).append(annotation)
    rng = np.random.default_rng(1)
    for annotations in by_image.values():
        poses = np.array([a["keypoints"] for a in annotations], dtype=float).reshape(-1, 17, 3)
        poses[..., :2] += rng.normal(0, 5, poses[..., :2].shape)
        torch.testing.assert_close(
            ours(poses, annotations, COCO17.sigmas), theirs(poses, annotations, COCO17.sigmas), rtol=0, atol=1e-9
        )


def test_by_hand():
    # k = 2 sigma = 0.2, s^2 = 100: d = 2 gives exp(-4 / (2 * 0.04 * 100)) = exp(-0.5); the second joint is unlabelled
    sigmas = (0.1, 0.1)
    gt = torch.tensor([[[10.0, 10.0, 2.0], [0.0, 0.0, 0.0]]])
    pose = torch.tensor([[[12.0, 10.0], [99.0, 99.0]]])
    assert oks(pose, gt, torch.tensor([100.0]), sigmas).item() == pytest.approx(np.exp(-0.5), abs=1e-12)
    similar = keypoint_similarity(pose, gt[..., :2], torch.tensor([100.0]), sigmas)
    assert similar[0, 0].item() == pytest.approx(np.exp(-0.5), abs=1e-12) and similar[0, 1] < 1e-100
    # nobody labelled and no box: similar to nothing
    assert oks(pose, gt * torch.tensor([1.0, 1.0, 0.0]), torch.tensor([100.0]), sigmas).item() == 0
    # predictions with one another: all joints, mean area (50 + 150) / 2 = 100
    two = torch.stack([pose[0], pose[0] + torch.tensor([2.0, 0.0])])
    area = torch.tensor([50.0, 150.0])
    expected = torch.tensor([[1, np.exp(-0.5)], [np.exp(-0.5), 1]], dtype=torch.float64)
    torch.testing.assert_close(pose_oks(two, area, sigmas), expected)


def test_nobody():
    sigmas = COCO17.sigmas
    assert oks(torch.zeros(0, 17, 2), torch.zeros(3, 17, 3), torch.ones(3), sigmas).shape == (0, 3)
    assert oks(torch.zeros(2, 17, 2), torch.zeros(0, 17, 3), torch.ones(0), sigmas).shape == (2, 0)
    assert oks_nms(torch.zeros(0, 17, 3), torch.zeros(0), torch.zeros(0), sigmas, 0.9).tolist() == []


def test_nms_by_hand():
    # One joint, k = 0.2, s^2 = 100: neighbours 2 px apart have OKS exp(-0.5) = 0.607, 4 px apart exp(-2) = 0.135.
    joint = torch.tensor([[[0.0, 0.0, 1.0]], [[2.0, 0.0, 1.0]], [[4.0, 0.0, 1.0]], [[50.0, 0.0, 1.0]]])
    area = torch.full((4,), 100.0)
    # 1 is best and drops 0 and 2; by 0.7 nothing is close
    assert oks_nms(joint, torch.tensor([0.5, 0.9, 0.6, 0.1]), area, (0.1,), 0.6).tolist() == [1, 3]
    assert oks_nms(joint, torch.tensor([0.5, 0.9, 0.6, 0.1]), area, (0.1,), 0.7).tolist() == [1, 2, 0, 3]
    # 0 is best and drops 1, which may then drop nobody: 2 stays
    assert oks_nms(joint, torch.tensor([0.9, 0.6, 0.5, 0.1]), area, (0.1,), 0.6).tolist() == [0, 2, 3]
    # equal scores: the earlier one stays, also of exact copies
    same = joint[[0, 0, 0]]
    assert oks_nms(same, torch.tensor([0.5, 0.5, 0.5]), area[:3], (0.1,), 0.9).tolist() == [0]
