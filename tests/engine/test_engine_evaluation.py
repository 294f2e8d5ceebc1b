"""What an evaluation reports beyond AP: subsets of crowded scenes, mask AP, OKS-NMS areas of each pose."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from toy import ToyData, ToyExperiment, ToyModule

from repose.config import Layer, Paper, parse_arguments, resolve
from repose.engine import evaluation, run
from repose.engine.module import crop_area, pose_area
from repose.errors import UserError
from repose.metrics import mask_ap
from repose.types import Poses


class MaskedToy(ToyModule):
    """The toy with a mask per pose: the left half of the input."""

    def decode(self, outputs):
        height, width = 2 * outputs.shape[-2], 2 * outputs.shape[-1]
        mask_NHW = torch.zeros(1, height, width, dtype=torch.uint8)
        mask_NHW[..., : width // 2] = 1
        return [replace(pose, mask_NHW=mask_NHW) for pose in super().decode(outputs)]


class CrowdedData(ToyData):
    """The toy's people with a crowd index, a MaxIoU and the mask that `MaskedToy` gives (but for one pixel column)."""

    lacking = ""

    def ground_truth(self, masks=False):
        truth = super().ground_truth()
        for i, (image, person) in enumerate(zip(truth["images"], truth["annotations"], strict=True)):
            if self.lacking != "crowdIndex" or i != 4:
                image["crowdIndex"] = 0.3 * (i % 4)
            person["max_iou"] = round(0.4 + 0.1 * i, 1)
            if masks and (self.lacking != "masks" or i != 4):
                # input columns 0 to 11 are photograph columns 10 to 33 (about: edges are cut in half), rows 20 to 83
                person["segmentation"] = [[10, 20, 34, 20, 34, 84, 10, 84]]
        return truth


class WithoutIndex(CrowdedData):
    lacking = "crowdIndex"


class WithoutMasks(CrowdedData):
    lacking = "masks"


def experiment(folder, *arguments, module=MaskedToy):
    line, _ = parse_arguments(arguments)
    paper = Paper("toy", "Toy", ToyExperiment, lambda: module)
    return resolve(paper, [Layer("test", {"log": {"dir": str(folder)}}), line])


def train(folder, *arguments, data=CrowdedData, module=MaskedToy):
    loaded = experiment(folder, "train.epochs=2", *arguments, module=module)
    return run.train(loaded, data(loaded.cfg))


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crowded") / "run"
    return folder, train(folder, "test.subsets=crowd_index", "data.view=image", "test.oks_nms=0.7")


def test_subsets_and_masks_stand_beside_the_ap(crowded):
    folder, result = crowded
    metrics = result["metrics"]
    assert list(metrics)[:9] == ["AP", "AP50", "AP75", "AR", "AR50", "AR75", "AP_E", "AP_M", "AP_H"]
    assert set(mask_ap.NAMES) < set(metrics) and "coarse_AP" in metrics
    assert metrics["AP"] > 0 and 0.5 < metrics["mask_AP"] <= 1  # the drawn rectangle, but for its edges
    assert result["subsets"] == {
        "AP_E": {"images": 2, "people": 2}, "AP_M": {"images": 4, "people": 4}, "AP_H": {"images": 1, "people": 1}
    }  # fmt: skip
    masks = json.loads((folder / "masks.json").read_text())
    assert len(masks) == 7 and set(masks[0]) == {"image_id", "category_id", "segmentation", "score"}
    poses = json.loads((folder / "predictions.json").read_text())
    assert set(poses[0]) == {"image_id", "category_id", "keypoints", "score"}


def test_a_test_and_its_predictions_give_the_same_numbers(crowded, tmp_path):
    folder, result = crowded
    settings = ("test.subsets=crowd_index", "data.view=image", "test.oks_nms=0.7", "train.epochs=2")
    tested = experiment(tmp_path / "tested", f"checkpoint={folder}", *settings)
    again = run.test(tested, CrowdedData(tested.cfg))
    assert again["metrics"] == pytest.approx(result["metrics"], abs=1e-12)
    assert (tmp_path / "tested" / "masks.json").read_text() == (folder / "masks.json").read_text()
    scored = experiment(tmp_path / "scored", f"predictions={folder}/predictions.json", *settings)
    file = run.test(scored, CrowdedData(scored.cfg))
    own = {"coarse_AP", "mean_id"}  # read-outs of a network
    assert file["metrics"] == {k: v for k, v in again["metrics"].items() if k not in own}
    assert file["subsets"] == result["subsets"]
    # the same predictions by another split
    bins = experiment(tmp_path / "bins", f"predictions={folder}/predictions.json", "test.subsets=iou_bins")
    said = run.test(bins, CrowdedData(bins.cfg))
    assert said["subsets"]["AP_IoU50_60"]["images"] == 1 and said["subsets"]["AP_IoU90_100"]["images"] == 2
    assert said["metrics"]["AP_IoU50_up"] >= 0 and "AP_L" in said["metrics"] and "AP_E" not in said["metrics"]


def test_without_subsets_and_masks_nothing_changes(tmp_path):
    result = train(tmp_path, data=CrowdedData, module=ToyModule)
    assert "subsets" not in result and not (tmp_path / "masks.json").exists()
    assert set(result["metrics"]) == {
        "AP", "AP50", "AP75", "AP_M", "AP_L", "AR", "AR50", "AR75", "AR_M", "AR_L", "coarse_AP", "mean_id"
    }  # fmt: skip


def test_data_without_masks_say_so_and_keypoints_go_on(tmp_path, capsys):
    result = train(tmp_path, data=WithoutMasks)
    assert result["metrics"]["AP"] > 0 and not any(name.startswith("mask") for name in result["metrics"])
    said = capsys.readouterr().err
    line = "mask AP is not evaluated: 1 of the 7 evaluated people have no mask in the annotations"
    assert said.count(line) == 1  # not after every evaluation
    assert not (tmp_path / "masks.json").exists()


def test_a_missing_crowd_index_is_refused_before_training(tmp_path):
    with pytest.raises(UserError, match=r"1 of 7 images have no `crowdIndex` \(the first: image 5005\)"):
        train(tmp_path, "test.subsets=crowd_index", data=WithoutIndex)
    assert not (tmp_path / "checkpoints" / "last.ckpt").exists()
    record = tmp_path / "metrics.jsonl"
    assert not record.exists() or '"train"' not in record.read_text()


def test_a_process_without_masks_joins_those_that_have_some(tmp_path, monkeypatch):
    loaded = experiment(tmp_path)
    data = CrowdedData(loaded.cfg)
    masks = evaluation._Masks(loaded.cfg)
    masks.truth = lambda: data.ground_truth(masks=True)
    masks.reset(torch.device("cpu"))
    assert masks.compute(1) == ({}, None, "")  # nobody saw a mask
    monkeypatch.setattr(evaluation, "_gather", lambda value, world: [value, True])
    metrics, results, said = masks.compute(2)
    assert results == [] and said == "" and metrics["mask_AP"] == 0


def test_areas_of_the_two_views(tmp_path):
    torch.manual_seed(0)
    for view in ("person", "image"):
        loaded = experiment(tmp_path, f"data.view={view}")
        module = MaskedToy(loaded.cfg, loaded.cfg.joint_set()).eval()
        (batch,) = next(iter(CrowdedData(loaded.cfg).val_dataloader()))
        with torch.inference_mode():
            seen = module.evaluate([batch])
        if view == "person":
            assert torch.equal(seen.area_B, crop_area(batch))
            continue
        assert len(seen.area_B) == batch.b
        point = seen.poses_img[0].joint_NK3[0, :, :2].numpy()
        assert seen.area_B[0].tolist() == pytest.approx([float(np.prod(np.ptp(point, axis=0)))])


def test_pose_area_is_the_box_or_the_extent():
    joint = torch.tensor([[[1.0, 2.0, 0.5], [4.0, 9.0, 0.5]], [[3.0, 3.0, 0.1], [3.0, 8.0, 0.1]]])
    assert pose_area(Poses(joint, torch.ones(2))).tolist() == [21.0, 0.0]
    boxed = Poses(joint, torch.ones(2), box_N4=torch.tensor([[0.0, 0, 10, 5], [5, 5, 4, 9]]))
    assert pose_area(boxed).tolist() == [50.0, 0.0]
    assert pose_area(Poses(torch.zeros(0, 2, 3), torch.zeros(0))).tolist() == []
