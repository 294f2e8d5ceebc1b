"""Mask R-CNN: sizes, agreement with torchvision's own pipeline, targets, flip, weights, masks."""

import re
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import test_contract_papers as contract
import torch
from drawn_batch import drawn_batch
from torchvision.models import resnet18
from torchvision.models.detection import KeypointRCNN_ResNet50_FPN_Weights, MaskRCNN_ResNet50_FPN_Weights
from torchvision.ops import FrozenBatchNorm2d, roi_align

from repose import papers
from repose.config import leaves, load, to_dict
from repose.errors import UserError
from repose.geometry import mirror
from repose.papers.baselines.maskrcnn import model as networks
from repose.papers.baselines.maskrcnn.config import Loss
from repose.papers.baselines.maskrcnn.decode import Outputs, decode, infer, mirror_boxes
from repose.papers.baselines.maskrcnn.model import RCNN, Boxes
from repose.papers.baselines.maskrcnn.targets import encode, sizes
from repose.skeleton import COCO17

README = Path(papers.__file__).parent / "baselines" / "maskrcnn" / "README.md"


def config(*settings: str, experiment: str = "baselines/maskrcnn", scale: str = "smoke") -> Any:
    return load(experiment, [f"scale={scale}", *settings], find_paper=papers.get).cfg


def build(cfg: Any, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return papers.get("maskrcnn").module()(cfg, cfg.joint_set())


# --- network -------------------------------------------------------------------------------------------------------


def test_keypoint_parameters_by_hand():
    """59,137,258 = 56.40 x 2^20, CGANet's 56.4 M: with frozen norms, without any mask head."""
    resnet50 = 25_557_032 - (2048 * 1000 + 1000) - 53_120  # torchvision's, without classifier and batch norms
    fpn = (256 + 512 + 1024 + 2048) * 256 + 4 * 256 + 4 * (9 * 256 * 256 + 256)
    rpn = (9 * 256 * 256 + 256) + (256 * 3 + 3) + (256 * 12 + 12)
    box = (256 * 49 * 1024 + 1024) + (1024 * 1024 + 1024) + (1024 * 2 + 2) + (1024 * 8 + 8)
    keypoint = (9 * 256 * 512 + 512) + 7 * (9 * 512 * 512 + 512) + (16 * 512 * 17 + 17)
    assert resnet50 + fpn + rpn + box + keypoint == 59_137_258
    assert KeypointRCNN_ResNet50_FPN_Weights.COCO_V1.meta["num_params"] == 59_137_258
    cfg = config(scale="paper")
    with torch.device("meta"):
        net = RCNN(cfg.model, cfg.loss, cfg.decode, 17)
    assert sum(p.numel() for p in net.parameters()) == 59_137_258
    assert sum(p.numel() for p in net.roi_heads.keypoint_predictor.parameters()) == 16 * 512 * 17 + 17


def test_mask_parameters_are_torchvisions():
    """44,401,393 = 42.34 x 2^20, CGANet's 42.3 M: COCO's 90 classes and background."""
    assert MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["num_params"] == 44_401_393
    cfg = config(experiment="baselines/maskrcnn-masks", scale="paper")
    with torch.device("meta"):
        net = RCNN(cfg.model, cfg.loss, cfg.decode, 17)
    assert sum(p.numel() for p in net.parameters()) == 44_401_393


@pytest.mark.parametrize(("trainable", "frozen"), [(0, 5), (3, 2), (4, 1), (5, 0)])
def test_trainable_stages(trainable, frozen):
    net = build(config(f"model.backbone.trainable={trainable}")).net
    still = {name.split(".")[0] for name, p in net.backbone.body.named_parameters() if not p.requires_grad}
    assert still - {"bn1"} == set(["conv1", "layer1", "layer2", "layer3", "layer4"][:frozen])
    assert ("bn1" in still) == (trainable < 5)
    assert all(p.requires_grad for p in net.backbone.fpn.parameters())


@pytest.fixture(params=["keypoints", "masks"])
def twin(request):
    """Ours, and torchvision's detector with the same weights, whose own resizing and normalisation do nothing."""
    experiment = "baselines/maskrcnn" if request.param == "keypoints" else "baselines/maskrcnn-masks"
    cfg = config("model.classes=3", "decode.top=150", experiment=experiment)  # class 2 is not people
    m = build(cfg)
    other = networks._detector(cfg.model, cfg.loss, cfg.decode, 17)
    other.load_state_dict(m.net.state_dict())
    other.transform.min_size, other.transform.max_size, other.transform._skip_resize = (96,), 96, True
    other.transform.image_mean, other.transform.image_std = [0.0] * 3, [1.0] * 3
    return m, other.to(memory_format=torch.channels_last), contract.batch_for(cfg, 2)


def test_losses_are_torchvisions(twin):
    m, other, batch = twin
    m.train()
    other.train()
    found = contract.train_losses(m, batch)
    targets = m.encode(batch)
    torch.manual_seed(int(batch.seed_B.sum()))
    expected = other(list(m.normalise(batch.image_B3HW)), targets.people)
    assert {f"loss_{name}" for name in found} == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, expected[f"loss_{name}"], msg=name)


@torch.no_grad()
def test_people_are_torchvisions(twin):
    m, other, batch = twin
    found = m.eval().evaluate([batch]).poses
    expected = other.eval()(list(m.normalise(batch.image_B3HW)))
    assert sum(pose.n for pose in found) > 5
    assert any((person["labels"] == 2).any() for person in expected)
    for pose, person in zip(found, expected, strict=True):
        mine = person["labels"] == 1
        torch.testing.assert_close(pose.box_N4 + 0.5, person["boxes"][mine], atol=1e-3, rtol=1e-5)
        torch.testing.assert_close(pose.score_N, person["scores"][mine])
        if "keypoints" in person:
            point_NK2 = person["keypoints"][mine][..., :2]
            torch.testing.assert_close(pose.joint_NK3[..., :2] + 0.5, point_NK2, atol=1e-3, rtol=1e-5)
        else:
            torch.testing.assert_close(pose.mask_NHW, person["masks"][mine][:, 0], atol=1e-4, rtol=1e-4)


def test_draws_come_from_the_batch_alone():
    cfg = config("loss.samples=8", "loss.rpn_samples=8")  # fewer than there are, so that a draw decides
    m = build(cfg)
    m.train()
    batch = contract.batch_for(cfg, 2)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = contract.train_losses(m, batch)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    again = contract.train_losses(m, batch)
    assert all(torch.equal(first[name], again[name]) for name in first)
    other = contract.train_losses(m, replace(batch, seed_B=batch.seed_B + 1))
    assert first["classifier"] != other["classifier"]


# --- targets and decode --------------------------------------------------------------------------------------------


def test_targets_by_hand():
    """Edges at whole numbers, pixel centres at halves; slivers are left out, people without joints are not."""
    batch = drawn_batch(COCO17, 2, (96, 96), 2)
    box = torch.tensor([[-0.5, -0.5, 9.5, 19.5], [10.0, 5.0, 10.6, 30.0], [3.0, 4.0, 5.0, 6.0], [1.0, 1.0, 2.0, 9.0]])
    joint = batch.people.joint_NK3.clone()
    joint[0, 0] = torch.tensor([0.0, 7.0, 1.0])
    joint[2] = 0
    people = replace(batch.people, box_N4=box, joint_NK3=joint, labelled_N=torch.tensor([True, True, False, True]))
    found = encode(replace(batch, people=people, valid_size_B2=torch.tensor([[90, 80], [96, 96]])), Loss())
    assert found.size_hw == [(80, 90), (96, 96)]
    assert found.people[0]["boxes"].tolist() == [[0, 0, 10, 20]]
    assert found.people[0]["keypoints"][0, 0].tolist() == [0.5, 7.5, 1.0]
    assert found.people[1]["boxes"].tolist() == [[3.5, 4.5, 5.5, 6.5], [1.5, 1.5, 2.5, 9.5]]
    assert not found.people[1]["keypoints"][0, :, 2].any()
    assert [p["labels"].tolist() for p in found.people] == [[1], [1, 1]]
    wide = encode(replace(batch, people=people), Loss(min_side=0.5)).people[0]["boxes"]
    torch.testing.assert_close(wide, torch.tensor([[0, 0, 10, 20], [10.5, 5.5, 11.1, 30.5]]))


def test_sizes_of_centred_photographs():
    """Where a photograph lies in the middle of its canvas, its boxes end at its last row and column."""
    batch = drawn_batch(COCO17, 1, (96, 96))
    middle = replace(batch, valid_size_B2=torch.tensor([[60, 40]]), valid_origin_B2=torch.tensor([[18, 28]]))
    assert sizes(middle) == [(68, 78)]


def test_joints_of_one_cell_are_its_middle():
    """56 cells over a box of 28x112 pixels: cell (10, 20) is half a pixel wide and two high."""
    logit = torch.zeros(1, 2, 56, 56)
    logit[0, 0, 20, 10] = 9
    logit[0, 1, 0, 55] = 9
    box = torch.tensor([[4.0, 8.0, 32.0, 120.0]])
    pose = decode(Outputs(Boxes([box], [torch.tensor([0.7])]), [logit], (128, 128)), 2, masks=False)[0]
    middle = torch.tensor([[4 + 10.5 / 2, 8 + 20.5 * 2], [4 + 55.5 / 2, 8 + 0.5 * 2]]) - 0.5
    assert ((pose.joint_NK3[0, :, :2] - middle).abs() <= torch.tensor([0.5, 1.0])).all()  # the highest whole pixel
    peak = torch.tensor(9.0).exp()
    torch.testing.assert_close(pose.joint_NK3[0, :, 2], (peak / (peak + 56 * 56 - 1)).expand(2))
    assert pose.box_N4 is not None and pose.box_N4.tolist() == [[3.5, 7.5, 31.5, 119.5]]
    assert pose.score_N.tolist() == pytest.approx([0.7])


@torch.no_grad()
def test_a_high_threshold_finds_nobody():
    m = build(config("decode.threshold=0.999", experiment="baselines/maskrcnn-masks")).eval()
    batch = contract.batch_for(m.cfg, 2)
    for pose in m.evaluate([batch]).poses:
        assert pose.n == 0 and pose.joint_NK3.shape == (0, 17, 3)
        assert pose.mask_NHW is not None and pose.mask_NHW.shape == (0, 96, 96)


def test_mirrored_views_agree_exactly():
    """A network whose maps are the picture in the box: the mirrored view, merged back, is the plain one."""
    swap = [0, 2, 1]
    image = torch.rand(2, 3, 40, 48)
    box = [torch.tensor([[4.0, 8.0, 16.0, 20.0], [30.0, 0.0, 42.0, 36.0]]), torch.tensor([[12.0, 12.0, 36.0, 24.0]])]

    class Picture:
        cfg = SimpleNamespace(task="keypoints")

        def detect(self, image, size_hw):
            return Boxes(box, [torch.ones(2), torch.ones(1)]), image

        def backbone(self, image):
            return image

        def maps(self, features, box_N4, size_hw):
            return roi_align(features, box_N4, (12, 12), aligned=True, sampling_ratio=1)

    net: Any = Picture()
    views = [image, mirror(image, 1)[:, swap]]
    plain = infer(net, views[:1], [False], [(40, 48)] * 2, swap)
    both = infer(net, views, [False, True], [(40, 48)] * 2, swap)
    assert [len(m) for m in both.map_NKUU] == [2, 1]
    for a, b in zip(plain.map_NKUU, both.map_NKUU, strict=True):
        torch.testing.assert_close(a, b)
    assert mirror_boxes(box[1], 48).tolist() == [[12, 12, 36, 24]]
    assert mirror_boxes(box[0], 48).tolist() == [[32, 8, 44, 20], [6, 0, 18, 36]]


# --- masks ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def masks(monkeypatch):
    """The contract builds the network of masks."""
    facts = replace(contract.FACTS["maskrcnn"], experiment="baselines/maskrcnn-masks")
    monkeypatch.setitem(contract.FACTS, "maskrcnn", facts)


@pytest.mark.usefixtures("masks")
@pytest.mark.parametrize(
    "clause",
    [
        contract.test_every_parameter_gets_a_finite_gradient,
        contract.test_a_batch_equals_its_images_one_by_one,
        contract.test_nobody_trains_and_tests,
    ],
)
def test_contract_of_masks(clause):
    clause("maskrcnn", "five")


@pytest.mark.usefixtures("masks")
def test_contract_of_masks_at_odd_sizes():
    contract.test_odd_sizes("maskrcnn", (97, 75))


@pytest.mark.usefixtures("masks")
def test_bfloat16_of_masks():
    contract.test_bfloat16_trains("maskrcnn")


def test_weights_of_losses_follow_the_task():
    first = {"objectness", "rpn_box_reg", "classifier", "box_reg"}
    assert build(config()).weights.keys() == first | {"keypoint"}
    m = build(config("loss.mask=2.5", experiment="baselines/maskrcnn-masks"))
    assert m.weights.keys() == first | {"mask"} and m.weights["mask"] == 2.5


@pytest.mark.parametrize("setting", ["model.mask_width=40", "model.mask_convs=3"])
def test_mask_head_switches(setting):
    plain, other = (build(config(*s, experiment="baselines/maskrcnn-masks")).net for s in ((), (setting,)))
    assert sum(p.numel() for p in plain.parameters()) != sum(p.numel() for p in other.parameters())


@pytest.mark.slow
def test_masks_learn_a_batch_by_heart():
    cfg = config("test.flip=false", "model.classes=2", "loss.samples=32", experiment="baselines/maskrcnn-masks")
    m = build(cfg, seed=3).train()
    batch = contract.batch_for(cfg, seed=5)
    optimizer = torch.optim.AdamW(m.parameters(), lr=3e-3)
    for _ in range(80):
        loss = m.combine(contract.train_losses(m, batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        poses = m.eval().evaluate([batch]).poses
    truth = batch.people.mask_NHW
    assert truth is not None
    for n, owner in enumerate(batch.people.owner_N.tolist()):
        found = poses[owner].mask_NHW > 0.5
        union = (found | (truth[n] > 0)).sum((1, 2))
        assert ((found & (truth[n] > 0)).sum((1, 2)) / union).max() > 0.75


# --- settings and files ----------------------------------------------------------------------------------------------


def test_weights_of_a_whole_detector(tmp_path):
    """torchvision's file names, every tensor, and eps 0 in the frozen norms."""
    cfg = config("model.backbone.norm=frozen")
    other = networks._detector(cfg.model, cfg.loss, cfg.decode, 17)
    file = tmp_path / "keypointrcnn.pth"
    torch.save(other.state_dict(), file)
    net = build(config("model.backbone.norm=frozen", f"model.weights={file}"), seed=9).net
    assert net.state_dict().keys() == other.state_dict().keys()
    assert all(torch.equal(a, other.state_dict()[name]) for name, a in net.state_dict().items())
    norms = [m for m in net.modules() if isinstance(m, FrozenBatchNorm2d)]
    assert len(norms) == 20 and {m.eps for m in norms} == {0.0}
    assert {m.eps for m in build(cfg).net.modules() if isinstance(m, FrozenBatchNorm2d)} == {1e-5}
    with pytest.raises(UserError, match=r"has 4 of another shape, first 'roi_heads.box_pred"):
        build(config("model.backbone.norm=frozen", "model.classes=3", f"model.weights={file}"))


def test_weights_of_the_backbone(tmp_path):
    torch.manual_seed(4)
    other = resnet18(weights=None)
    file = tmp_path / "resnet18.pth"
    torch.save(other.state_dict(), file)
    for norm in ("frozen", "batch"):
        body = build(config(f"model.backbone.norm={norm}", f"model.backbone.weights={file}")).net.backbone.body
        assert torch.equal(body.layer4[1].conv2.weight, other.layer4[1].conv2.weight)
        assert torch.equal(body.bn1.running_var, other.bn1.running_var)
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("no weights")
    for name, part in (
        ("none", "no such file"),
        ("other", "is it a file of another model"),
        ("text", "not a readable"),
    ):
        with pytest.raises(UserError, match=part):
            build(config(f"model.backbone.weights={tmp_path / name}.pth"))


def test_frozen_norms_without_weights_are_refused():
    with pytest.raises(UserError, match="norm=frozen needs weights"):
        build(config("model.backbone.norm=frozen")).on_fit_start()
    build(config()).on_fit_start()  # smoke learns its norms


@pytest.mark.parametrize(
    ("setting", "part"),
    [
        ("data.view=person", "sees whole images"),
        ("model.task=masks", "set data.masks=full"),
        ("model.anchors=[8,16]", "one side per pyramid level, 5"),
        ("model.backbone.trainable=6", "0 to 5 stages"),
        ("model.classes=1", "background and people are 2"),
        ("loss.min_side=0", "above 0"),
        ("model.backbone.name=resnet51", "model.backbone.name"),
    ],
)
def test_mistakes(setting, part):
    with pytest.raises(UserError, match=re.escape(part)):
        config(setting)


def test_one_scale_only():
    cfg = config("data.test_scales=[1.0,2.0]", "test.flip=false")
    batch = contract.batch_for(cfg, 1)
    with pytest.raises(UserError, match=r"give one, \[1.0\]"):
        build(cfg).eval().evaluate([batch, batch])


@pytest.mark.parametrize("experiment", ["baselines/maskrcnn", "baselines/maskrcnn-masks"])
@pytest.mark.parametrize("scale", ["mini", "lite"])
def test_scales_from_scratch_learn_their_norms(experiment, scale):
    cfg = config(experiment=experiment, scale=scale)
    assert (cfg.model.backbone.norm, cfg.model.backbone.trainable) == ("batch", 5)
    assert cfg.data.masks == ("full" if cfg.model.task == "masks" else "none")


# --- README --------------------------------------------------------------------------------------------------------


TEXT = README.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", re.findall(r"\| `([\w.]+)` \|\n", TEXT.split("## Where")[1].split("\n## ")[0]))
def test_map_entry_resolves(name):
    parts = (name if name.startswith("repose.") else f"repose.papers.baselines.maskrcnn.{name}").split(".")
    cut = 3 if name.startswith("repose.") else 5
    found = import_module(".".join(parts[:cut]))
    for part in parts[cut:]:
        found = getattr(found, part)


def test_readme_switches_exist():
    known = {key for key, _ in leaves(to_dict(papers.get("maskrcnn").schema()))}
    known |= {key.rsplit(".", n)[0] for key in known for n in range(1, key.count(".") + 1)}
    rows = [row.split("|") for row in TEXT.split("## What")[1].split("\n## ")[0].splitlines() if row.startswith("| ")]
    named = [name for row in rows for name in re.findall(r"`([\w.]+)`", row[3])]
    assert len(named) > 6 and [name for name in named if name not in known] == []
