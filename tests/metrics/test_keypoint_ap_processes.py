"""KeypointAP, CrowdAP and MaskAP over two processes: the numbers of one, also where a process saw nobody."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from repose.metrics.crowd_ap import CrowdAP
from repose.metrics.keypoint_ap import KeypointAP
from repose.metrics.mask_ap import MaskAP
from repose.skeleton import COCO17
from repose.types import Poses

_IMAGES = 7


def truth():
    """Seven images of two people each."""
    rng = np.random.default_rng(0)
    annotations = []
    for i in range(2 * _IMAGES):
        joints = np.concatenate([rng.uniform(0, 200, (17, 2)), np.full((17, 1), 2)], axis=1)
        annotations.append(
            {
                "id": i + 1, "image_id": 3_000_000_000 + i // 2, "category_id": 1, "iscrowd": 0, "area": 8000.0,
                "bbox": [0, 0, 200, 200], "num_keypoints": 17, "keypoints": joints.reshape(-1).tolist(),
                "segmentation": [[5 * (i % 2), 0, 30, 0, 30, 20 + i, 0, 20 + i]],
            }
        )  # fmt: skip
    return {
        "images": [
            {"id": 3_000_000_000 + i, "width": 48, "height": 40, "crowdIndex": 0.3 * (i % 4)} for i in range(_IMAGES)
        ],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person"}],
    }


def update(metric, annotations):
    """One crop per person."""
    for a in annotations:
        noise = np.random.default_rng(a["id"]).normal(0, 6, (1, 17, 3))
        joints = torch.tensor(a["keypoints"], dtype=torch.float64).view(1, 17, 3) + torch.from_numpy(noise)
        poses = Poses(joints.float(), torch.tensor([0.5 + 0.01 * a["id"]]))
        metric.update(torch.tensor([a["image_id"]]), torch.tensor([a["id"]]), [poses], torch.tensor([8000.0]))


def update_masks(metric, annotations):
    """One mask per person: a rectangle of a 24 x 20 input at twice its size."""
    matrix_123 = torch.tensor([[[2.0, 0, 0.5], [0, 2.0, 0.5]]], dtype=torch.float64)
    for a in annotations:
        mask_NHW = torch.zeros(1, 20, 24, dtype=torch.uint8)
        mask_NHW[:, : 9 + a["id"] // 2, : 16 - a["id"] % 3] = 1
        poses = Poses(torch.zeros(1, 17, 3), torch.tensor([0.5 + 0.01 * a["id"]]), mask_NHW=mask_NHW)
        metric.update(torch.tensor([a["image_id"]]), torch.tensor([a["id"]]), [poses], matrix_123)


def metrics(ground):
    """Each metric with what feeds it."""
    return (
        (KeypointAP(COCO17, ground, oks_nms=0.9), update),
        (CrowdAP(COCO17, ground, oks_nms=0.9), update),
        (MaskAP(ground), update_masks),
    )


def one_process():
    """What a single process computes."""
    ground = truth()
    said = []
    for metric, feed in metrics(ground):
        feed(metric, ground["annotations"])
        said.append((metric.compute(), metric.results()))
    return said


def _work(rank: int, folder: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    ground = truth()
    people = ground["annotations"]
    first = people[0]["image_id"]
    # 7 images: 4 and 3, and the first one on both, as a padding sampler would; then all on one process, the other one
    # is never updated
    uneven = [a for a in people if (a["image_id"] - first) % 2 == rank or a["image_id"] == first]
    said = []
    for metric, feed in metrics(ground):
        for mine in (uneven, people if rank == 0 else [], []):
            feed(metric, mine)
            said.append((metric.compute(), metric.results()))
            metric.reset()
    Path(folder, f"{rank}.json").write_text(json.dumps(said))
    dist.destroy_process_group()


def test_two_processes_give_the_numbers_of_one(tmp_path):
    """An odd number of images, then a process without people, then nobody at all."""
    mp.spawn(_work, args=(str(tmp_path),), nprocs=2)
    wanted = one_process()
    for (found, _), names in zip(
        wanted, (["AP"], ["AP", "AP_E", "AP_M", "AP_H"], ["mask_AP", "mask_AP_M"]), strict=True
    ):
        assert all(0.05 < found[name] < 0.99 for name in names), found
    for rank in (0, 1):
        said = json.loads((tmp_path / f"{rank}.json").read_text())
        for (found, results), whole in zip(wanted, (said[0:3], said[3:6], said[6:9]), strict=True):
            for once in whole[:2]:
                assert once[0] == pytest.approx(found, abs=0, nan_ok=True) and once[1] == results
            numbers = np.array(list(whole[2][0].values()))
            assert whole[2][1] == [] and not numbers[np.isfinite(numbers)].any() and np.isfinite(numbers).any()
