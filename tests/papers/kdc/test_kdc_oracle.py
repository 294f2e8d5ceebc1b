"""Perfect maps of real photographs' annotations through the decoder: what the method can reach (spec 10)."""

import os
from pathlib import Path

import pytest
import torch
from kdc_kit import headless

from repose.data.datamodule import PoseDataModule
from repose.engine.module import to_photograph
from repose.metrics.keypoint_ap import KeypointAP
from repose.metrics.mask_ap import MaskAP

pytestmark = pytest.mark.data


@torch.no_grad()
def oracle(coco_lite: Path, monkeypatch, stride: int, images: int | None, *settings: str) -> dict[str, float]:
    """APs of the decoder on perfect maps of coco-lite's validation half."""
    monkeypatch.setitem(os.environ, "REPOSE_DATA", str(coco_lite.parent))
    masks = "full" if stride < 4 else "stride4"
    module = headless(
        "data=coco-lite", "data.workers=0", "data.cache=off", "test.batch=1", f"data.masks={masks}",
        *([] if images is None else [f"data.limit_val={images}"]), *settings,
    )  # fmt: skip
    data = PoseDataModule(module.cfg)
    data.setup("test")
    truth = data.ground_truth(masks=True)
    pose_ap, mask_ap = KeypointAP(module.cfg.joint_set(), truth, oks_nms=None), MaskAP(truth)
    labelled = MaskAP(truth, people="labelled")
    for batch in (views[0] for views in data.test_dataloader()):
        poses = to_photograph(module.decode(module.oracle(batch, stride)), batch)
        pose_ap.update(batch.image_id_B, batch.subject_id_B, poses, torch.ones(batch.b))
        for metric in (mask_ap, labelled):
            metric.update(batch.image_id_B, batch.subject_id_B, poses, batch.to_image_B23)
    found = {
        "AP": pose_ap.compute()["AP"],
        "mask_AP": mask_ap.compute()["mask_AP"],
        "mask_AP_labelled": labelled.compute()["mask_AP"],
    }
    print(f"stride {stride} {' '.join(settings)}:", {k: round(v, 3) for k, v in found.items()})
    return found


@pytest.mark.parametrize(("stride", "least"), [(8, 0.88), (16, 0.80)])
def test_a_dozen_photographs(coco_lite, monkeypatch, stride, least):
    assert oracle(coco_lite, monkeypatch, stride, 12)["AP"] >= least


@pytest.mark.slow
@pytest.mark.parametrize(("stride", "least"), [(1, 0.85), (4, 0.85), (8, 0.85), (16, 0.80)])
def test_the_validation_half(coco_lite, monkeypatch, stride, least):
    """Also prints the bound on mask AP at each stride."""
    assert oracle(coco_lite, monkeypatch, stride, None)["AP"] >= least


@pytest.mark.slow
def test_the_full_graph_beats_the_tree(coco_lite, monkeypatch):
    tree, strict = ("model.graph=tree",), ("model.graph=tree", "decode.strict=true")
    aps = [oracle(coco_lite, monkeypatch, 16, 80, *settings)["AP"] for settings in ((), tree, strict)]
    assert aps[0] > aps[1] > aps[2]
