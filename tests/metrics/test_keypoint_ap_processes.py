"""KeypointAP over two processes: the numbers of one, also where a process saw nobody."""

import json
import os
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from repose.metrics.keypoint_ap import KeypointAP
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
            }
        )  # fmt: skip
    return {
        "images": [{"id": 3_000_000_000 + i} for i in range(_IMAGES)],
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


def one_process():
    """What a single process computes."""
    ground = truth()
    metric = KeypointAP(COCO17, ground, oks_nms=0.9)
    update(metric, ground["annotations"])
    return metric.compute(), metric.results()


def _work(rank: int, folder: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    ground = truth()
    metric = KeypointAP(COCO17, ground, oks_nms=0.9)
    people = ground["annotations"]
    first = people[0]["image_id"]
    # 7 images: 4 and 3, and the first one on both, as a padding sampler would; then all on one process, the other one
    # is never updated
    uneven = [a for a in people if (a["image_id"] - first) % 2 == rank or a["image_id"] == first]
    said = []
    for mine in (uneven, people if rank == 0 else []):
        update(metric, mine)
        said.append((metric.compute(), metric.results()))
        metric.reset()
    Path(folder, f"{rank}.json").write_text(json.dumps(said))
    dist.destroy_process_group()


def test_two_processes_give_the_numbers_of_one(tmp_path):
    """An odd number of images, then a process without people."""
    mp.spawn(_work, args=(str(tmp_path),), nprocs=2)
    wanted = json.loads(json.dumps(one_process()))
    assert 0.05 < wanted[0]["AP"] < 0.99
    for rank in (0, 1):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == [wanted, wanted]
