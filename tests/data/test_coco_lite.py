"""Real photographs: all of coco-lite through both views, and the speed of the pipeline beside the bare work."""

import numpy as np
import pytest
import torch

from repose.config import Augment, Data, Draw, ExperimentBase, Train
from repose.config import Test as Evaluation
from repose.data.bench import bench_data, render
from repose.data.check import check
from repose.data.datamodule import PoseDataModule

pytestmark = pytest.mark.data
PERSON = {"view": "person", "input_size": (128, 96)}
IMAGE = {"view": "image", "input_size": (128, 128), "base": "short", "centre": "image"}


def _cfg(folder, **data):
    settings = {
        "name": "coco-lite",
        "root": str(folder),
        "train_json": "annotations/person_keypoints_train.json",
        "train_images": "images/train",
        "val_json": "annotations/person_keypoints_val.json",
        "val_images": "images/val",
        "detections": "annotations/person_detections_val.json",
        "workers": 0,
        "cache": "off",
        "augment": Augment(flip=0.5, scale=Draw(1.0, (0.75, 1.25)), rotation=Draw(0.6, (-40, 40))),
    }
    return ExperimentBase(data=Data(**{**settings, **data}), train=Train(batch=1), test=Evaluation(batch=16))


def _plausible(batch, wh):
    assert batch.image_B3HW.dtype == torch.uint8
    joint = batch.people.joint_NK3
    seen = joint[joint[..., 2] > 0]
    assert torch.isfinite(joint).all() and (seen[:, :2] >= -0.5).all()
    assert (seen[:, :2] <= torch.tensor(wh) - 0.5).all()
    assert (batch.people.box_N4[:, 2:] >= batch.people.box_N4[:, :2]).all()
    return batch.image_B3HW.float().flatten(1).std(dim=1) > 1  # no black crops


@pytest.mark.slow
def test_every_photograph_through_both_views(coco_lite):
    for view in (PERSON, IMAGE):
        module = PoseDataModule(_cfg(coco_lite, **view))
        module.setup("fit")
        assert module.problems == []
        train = module.train_set
        image_S = train.annotations.image_A[train.sample_S] if view is PERSON else train.sample_S
        first = np.unique(image_S, return_index=True)[1].tolist()  # one sample of every photograph
        assert len(first) == 1181
        for start in range(0, 1181, 32):
            batch = train.__getitems__([(0, i) for i in first[start : start + 32]])
            assert _plausible(batch, batch.input_wh).float().mean() > 0.95
        tested = []
        for (batch,) in module.val_dataloader():
            assert _plausible(batch, batch.input_wh).all()
            tested += batch.image_id_B.tolist()
        assert len(set(tested)) == 204
        assert len(tested) == (612 if view is PERSON else 204)


def test_annotations_and_boxes(coco_lite):
    assert check(_cfg(coco_lite, **PERSON), decode_images=False) == []
    module = PoseDataModule(_cfg(coco_lite, **PERSON, boxes="detections"))
    module.setup("test")
    assert module.box_source == "detections: person_detections_val.json"
    assert len(module.val_set) == 5652
    truth = module.ground_truth()
    assert len(truth["images"]) == 204 and len(truth["annotations"]) == 960


def test_masks_of_real_people_overlap_their_boxes(coco_lite):
    module = PoseDataModule(_cfg(coco_lite, **IMAGE, masks="stride4", limit_val=24))
    module.setup("test")
    shares = []
    for (batch,) in module.val_dataloader():
        people = batch.people
        for box, mask in zip(people.box_N4.tolist(), people.mask_NHW, strict=True):
            where = torch.nonzero(mask).flip(1) * 4
            if len(where):
                low, high = torch.tensor(box[:2]) - 2.5, torch.tensor(box[2:]) + 2.5
                shares.append(((where >= low) & (where <= high)).all().item())
        assert batch.crowd_B1HW is not None
    assert len(shares) > 40 and np.mean(shares) == 1


def test_bench_measures_both_views(coco_lite):
    measured = bench_data(_cfg(coco_lite, **PERSON), seconds=0.05, samples=32)
    for view in ("person", "image"):
        for cache in ("uncached", "cached"):
            row = measured[view][cache]
            assert row["samples_per_s"] > 0 and 0.5 < row["ratio"] < 20
    assert "times bare" in render(measured)
