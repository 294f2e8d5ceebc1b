"""Perfect maps of real photographs' annotations through the decoder: what the method can reach (spec 10)."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from kdc_kit import batch_of, headless, person

from repose.data.datamodule import PoseDataModule
from repose.engine.module import to_photograph
from repose.metrics.keypoint_ap import KeypointAP
from repose.metrics.mask_ap import MaskAP
from repose.ops.grids import fitted_logits, resample
from repose.types import Batch, Poses

data = pytest.mark.data


def perfect_instances(batch: Batch, stride: int) -> Poses:
    """The best foreground of a stride, its pixels given to the nearest person: what resolution alone costs masks."""
    mask_NHW = batch.people.mask_NHW
    assert mask_NHW is not None and batch.b == 1
    union = mask_NHW.amax(0)[None, None].float()
    foreground_HW = resample(fitted_logits(union, stride), stride, 1, union.shape[-2:])[0, 0] > 0
    far_NHW = [cv2.distanceTransform(1 - m.numpy(), cv2.DIST_L2, 5) for m in mask_NHW]
    owner_HW = torch.from_numpy(np.argmin(far_NHW, 0))
    mine_NHW = (owner_HW == torch.arange(len(far_NHW))[:, None, None]) & foreground_HW
    return Poses(torch.zeros(len(far_NHW), 17, 3), torch.ones(len(far_NHW)), mask_NHW=mine_NHW.to(torch.uint8))


@torch.no_grad()
def oracle(coco_lite: Path, monkeypatch, stride: int, images: int | None, *settings: str) -> dict[str, float]:
    """APs of the decoder on perfect maps of coco-lite's validation half, and the bound of masks at the stride."""
    monkeypatch.setitem(os.environ, "REPOSE_DATA", str(coco_lite.parent))
    module = headless(
        "data=coco-lite", "data.workers=0", "data.cache=off", "test.batch=1", "data.masks=full",
        *([] if images is None else [f"data.limit_val={images}"]), *settings,
    )  # fmt: skip
    data = PoseDataModule(module.cfg)
    data.setup("test")
    truth = data.ground_truth(masks=True)
    pose_ap = KeypointAP(module.cfg.joint_set(), truth, oks_nms=None)
    decoded, bound = ({p: MaskAP(truth, people=p) for p in ("all", "labelled")} for _ in range(2))
    for batch in (views[0] for views in data.test_dataloader()):
        poses = to_photograph(module.decode(module.oracle(batch, stride)), batch)
        pose_ap.update(batch.image_id_B, batch.subject_id_B, poses, torch.ones(batch.b))
        best = to_photograph([perfect_instances(batch, stride)], batch)
        for metrics, found in ((decoded, poses), (bound, best)):
            for metric in metrics.values():
                metric.update(batch.image_id_B, batch.subject_id_B, found, batch.to_image_B23)
    found = {"AP": pose_ap.compute()["AP"]}
    found |= {f"mask_AP {p}": metric.compute()["mask_AP"] for p, metric in decoded.items()}
    found |= {f"mask bound {p}": metric.compute()["mask_AP"] for p, metric in bound.items()}
    print(f"stride {stride} {' '.join(settings)}:", {k: round(v, 3) for k, v in found.items()})
    return found


@torch.no_grad()
def test_logits_of_perfect_maps_are_fitted_to_the_finest_masks():
    batch = batch_of([person(120, 60, 300)], masks="full")
    assert batch.people.mask_NHW is not None
    maps = headless().oracle(batch, 16)
    found = resample(maps.outputs.seg_B1HW, 16, 1, (401, 401))[0, 0] > 0
    truth = batch.people.mask_NHW[0] > 0
    assert (found & truth).sum() / (found | truth).sum() > 0.97


@data
@pytest.mark.parametrize(("stride", "least"), [(8, 0.88), (16, 0.80)])
def test_a_dozen_photographs(coco_lite, monkeypatch, stride, least):
    found = oracle(coco_lite, monkeypatch, stride, 12)
    assert found["AP"] >= least
    assert found["mask_AP all"] <= found["mask bound all"] + 0.02


@data
@pytest.mark.slow
@pytest.mark.parametrize(("stride", "least"), [(1, 0.85), (4, 0.85), (8, 0.85), (16, 0.80)])
def test_the_validation_half(coco_lite, monkeypatch, stride, least):
    """Also prints the bound on mask AP at each stride."""
    assert oracle(coco_lite, monkeypatch, stride, None)["AP"] >= least


@data
@pytest.mark.slow
def test_the_full_graph_beats_the_tree(coco_lite, monkeypatch):
    tree, strict = ("model.graph=tree",), ("model.graph=tree", "decode.strict=true")
    aps = [oracle(coco_lite, monkeypatch, 16, 80, *settings)["AP"] for settings in ((), tree, strict)]
    assert aps[0] > aps[1] > aps[2]
