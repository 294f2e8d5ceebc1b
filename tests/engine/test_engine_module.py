import pytest
import torch
from toy import ToyData, ToyModule, loaded

from repose.engine.module import crop_area, person_scores, to_photograph
from repose.geometry import mirror
from repose.types import Poses


@pytest.fixture
def module(tmp_path):
    return _module(tmp_path)


def _module(folder, *arguments):
    experiment = loaded(folder, *arguments)
    torch.manual_seed(0)
    return ToyModule(experiment.cfg, experiment.cfg.joint_set())


def _batch(module):
    return next(iter(ToyData(module.cfg).val_dataloader()))


def test_normalise_gives_zero_at_the_mean_and_one_at_a_standard_deviation_above(module):
    image = torch.tensor([123.675 + 58.395, 116.28, 103.53]).view(1, 3, 1, 1)
    assert module.normalise(image).flatten().tolist() == pytest.approx([1, 0, 0], abs=1e-6)


def test_views_are_each_scale_and_its_mirror(tmp_path):
    module = _module(tmp_path, "test.flip=true", "data.test_scales=[1.0,0.5]")
    (batch,) = _batch(module)
    views = module.views([batch, batch])
    assert [(v.scale, v.mirrored) for v in views] == [(1.0, False), (1.0, True), (0.5, False), (0.5, True)]
    assert torch.equal(views[1].image_BCHW, mirror(views[0].image_BCHW, 2))


def test_person_score_is_box_score_times_mean_of_confident_joints(module):
    (batch,) = _batch(module)
    joint = torch.tensor([[[0, 0, 0.9], [0, 0, 0.7], [0, 0, 0.2], [0, 0, 0.1], [0, 0, 0.0]]])
    batch.box_score_B[0] = 0.5
    scored = person_scores([Poses(joint, torch.zeros(1))] * batch.b, batch, 0.2)
    assert scored[0].score_N.item() == pytest.approx(0.5 * 0.8)  # 0.2 is not above the threshold
    assert person_scores([Poses(joint * 0.1, torch.zeros(1))] * batch.b, batch, 0.2)[0].score_N.item() == 0
    own = person_scores([Poses(joint, torch.tensor([0.6]))] * batch.b, batch, None)
    assert own[0].score_N.item() == pytest.approx(0.5 * 0.6)


def test_poses_boxes_and_extras_go_to_the_photograph(module):
    (batch,) = _batch(module)  # photograph = 2 x input + (10, 20)
    pose = Poses(
        torch.tensor([[[1.0, 2.0, 0.5]]]),
        torch.ones(1),
        box_N4=torch.tensor([[0.0, 0.0, 3.0, 4.0]]),
        extra={"coarse_NK2": torch.tensor([[[5.0, 6.0]]]), "kept": torch.tensor([7.0])},
    )
    mapped = to_photograph([pose] * batch.b, batch)[0]
    assert mapped.joint_NK3.tolist() == [[[12.0, 24.0, 0.5]]]
    assert mapped.box_N4.tolist() == [[10.0, 20.0, 16.0, 28.0]]
    assert mapped.extra["coarse_NK2"].tolist() == [[[20.0, 32.0]]] and mapped.extra["kept"].tolist() == [7.0]
    assert crop_area(batch)[0].item() == 4 * 24 * 32


def test_combine_is_the_weighted_sum_and_refuses_an_unknown_loss(tmp_path):
    module = _module(tmp_path, "loss.heat=3")
    assert module.combine({"heat": torch.tensor(2.0)}).item() == 6
    with pytest.raises(KeyError, match="other"):
        module.combine({"other": torch.tensor(1.0)})


def test_evaluate_adds_read_outs(module):
    batches = _batch(module)
    module.eval()
    with torch.inference_mode():
        seen = module.evaluate(batches)
    assert seen.sums["mean_id"][0].item() == sum(range(5001, 5005)) and seen.sums["mean_id"][1].item() == 4
    assert len(seen.poses_img) == 4
