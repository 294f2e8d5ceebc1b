"""Crops of people (`data.view: person`), the run that tests what the paper's AP is of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from idgroup_kit import batch_of, config, module, person

from repose.data.datamodule import PoseDataModule
from repose.engine.module import to_photograph
from repose.errors import UserError
from repose.metrics.keypoint_ap import KeypointAP
from repose.papers.idgroup.decode import surest
from repose.papers.idgroup.module import IDGroupModule
from repose.types import Poses

CROPS = ("data.view=person", "data.base=box", "data.centre=box")


def test_a_crop_keeps_its_surest_person():
    batch = batch_of([person(20, 20, 80), person(160, 30, 150)], [])
    maps = module().oracle(batch)
    nose_x_BHW = maps.vector_BHWK2[..., 0, 0]
    presence = torch.where((nose_x_BHW > 0) & (nose_x_BHW < 32), 0.85, maps.presence_BHW)  # of the one on the left
    maps = maps._replace(presence_BHW=presence)
    whole = module("decode.threshold=0.8").people_of(maps)
    crop = module("decode.threshold=0.8", *CROPS).people_of(maps)
    assert [p.n for p in whole] == [2, 0] and [p.n for p in crop] == [1, 0]
    assert crop[0].joint_NK3[0, :, 0].min() > 150 and crop[0].score_N[0] == whole[0].score_N.max() > 0.9
    assert crop[0].extra is not None and whole[0].extra is not None
    assert crop[0].extra["cells_N"].tolist() == [whole[0].extra["cells_N"][whole[0].score_N.argmax()].item()]


def test_surest_of_nobody_is_nobody():
    none = Poses(joint_NK3=torch.zeros(0, 17, 3), score_N=torch.zeros(0))
    assert surest(none).n == 0
    two = replace(none, joint_NK3=torch.arange(2 * 51.0).view(2, 17, 3), score_N=torch.tensor([0.2, 0.7]))
    assert torch.equal(surest(two).joint_NK3, two.joint_NK3[1:]) and surest(two).score_N.tolist() == [
        pytest.approx(0.7)
    ]


@pytest.mark.parametrize("settings", [CROPS[:1], CROPS[:2], (CROPS[0], CROPS[2])])
def test_crops_need_boxes(settings):
    with pytest.raises(UserError, match=r"also need data\.base=box and data\.centre=box"):
        config(*settings)
    config(*CROPS)


@pytest.mark.parametrize(("crops", "least"), [(False, 0.95), (True, 0.9)])
@torch.no_grad()
def test_the_truth_through_the_decoder(synthetic_smoke: Path, crops, least):
    """Drawn people's boxes hold what is seen of them: of two in 14, hidden joints lie outside the crop."""
    cfg = config(
        f"data.root={synthetic_smoke}", "data.synthetic=null", "data.input_size=[128,128]", "data.test_multiple=128",
        "decode.distance=1.5", *(CROPS if crops else ()),
    )  # fmt: skip
    paper = IDGroupModule(cfg, cfg.joint_set()).eval()
    data = PoseDataModule(cfg)
    data.setup("test")
    metric = KeypointAP(cfg.joint_set(), data.ground_truth(), oks_nms=None)
    for batch in (views[0] for views in data.test_dataloader()):
        assert not crops or batch.people.n == batch.b  # one person each
        poses = paper.people_of(paper.oracle(batch))
        assert not crops or max(p.n for p in poses) == 1
        metric.update(batch.image_id_B, batch.subject_id_B, to_photograph(poses, batch), torch.ones(batch.b))
    assert metric.compute()["AP"] >= least


def test_a_step_and_an_evaluation_on_crops(synthetic_smoke: Path):
    cfg = config(f"data.root={synthetic_smoke}", "data.synthetic=null", *CROPS)
    torch.manual_seed(0)
    paper = IDGroupModule(cfg, cfg.joint_set())
    data = PoseDataModule(cfg)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    targets = paper.encode(batch)
    found = paper.losses(paper.forward_train(batch.image_B3HW.float() / 255, batch, targets), targets)
    total = paper.combine(found)
    total.backward()
    assert torch.isfinite(total) and len(targets.person_M.unique()) == batch.b
    paper.eval()
    with torch.no_grad():
        evaluated = paper.evaluate(next(iter(data.val_dataloader())))
    assert all(p.n <= 1 for p in evaluated.poses_img) and sum(p.n for p in evaluated.poses_img) > 0
    assert evaluated.sums["people"][0] <= evaluated.sums["people"][1]
    for own, given in zip(evaluated.poses, evaluated.poses_img, strict=True):  # true boxes score 1
        assert torch.equal(own.score_N, given.score_N)
        torch.testing.assert_close(own.score_N, own.joint_NK3[..., 2].mean(-1))
