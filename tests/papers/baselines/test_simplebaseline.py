"""SimpleBaseline and HRNet: sizes, targets, loss, decode, flip."""

import re
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch
from drawn_batch import drawn_batch

from repose import papers
from repose.config import leaves, load, to_dict
from repose.errors import UserError
from repose.geometry import mirror
from repose.metrics.cost import count
from repose.ops.crops import CropHeatmaps, crop_heatmaps, merge_heatmaps
from repose.papers.baselines.simplebaseline.config import Backbone, Decode, Head, Loss, Model
from repose.papers.baselines.simplebaseline.decode import decode
from repose.papers.baselines.simplebaseline.losses import losses
from repose.papers.baselines.simplebaseline.model import HeatmapNet, Outputs
from repose.skeleton import COCO17
from repose.types import People

README = Path(papers.__file__).parent / "baselines" / "simplebaseline" / "README.md"


def one_person(joint_K3, hw=(64, 48)):
    """A crop whose person has these joints."""
    batch = drawn_batch(COCO17, 1, hw)
    joint = torch.zeros(1, 17, 3)
    joint[0, : len(joint_K3)] = torch.tensor(joint_K3, dtype=torch.float32)
    return replace(batch, people=replace(batch.people, joint_NK3=joint))


# --- network -------------------------------------------------------------------------------------------------------


def test_parameters_by_part():
    """Weights and norms of three transposed convolutions, the last 1x1, ResNet-50 without its classifier."""
    net = HeatmapNet(Model(), 17)
    assert sum(p.numel() for p in net.deconv.parameters()) == 2048 * 256 * 16 + 2 * 256 * 256 * 16 + 3 * 512
    assert sum(p.numel() for p in net.last.parameters()) == 256 * 17 + 17
    assert sum(p.numel() for p in net.backbone.parameters()) == 23_508_032


def test_hrnet_has_no_layer_that_nobody_reads():
    """The last fusion keeps its first row: 28 536 113 in all, of the backbone 769 984 fewer than with four outputs."""
    with torch.device("meta"):
        net = HeatmapNet(Model(backbone=Backbone("hrnet_w32"), head=Head(deconvs=0)), 17)
    assert sum(p.numel() for p in net.parameters()) == 28_536_113
    assert 29_305_536 - sum(p.numel() for p in net.backbone.parameters()) == 769_984
    assert len(net.backbone.body.stage4[-1].fuse_layers) == 1


@pytest.mark.parametrize(("deconvs", "stride"), [(0, 4), (1, 16), (2, 8), (3, 4)])
def test_stride_and_size(deconvs, stride):
    model = Model(Backbone("test_resnet"), Head(deconvs=deconvs, width=8))
    net = HeatmapNet(model, 5).eval()
    assert model.stride == net.stride == stride
    for hw in ((64, 48), (97, 75)):
        out = net(torch.zeros(2, 3, *hw)).heatmap_BKHW
        assert out.shape == (2, 5, -(-hw[0] // stride), -(-hw[1] // stride))


def test_transposed_convolutions_are_counted_by_their_work():
    """The paper's 8.9 GFLOPs count each at its output's size, 4 times 1.41 G: 4.02 + 5.64 is even above it."""
    cost = count(HeatmapNet(Model(), 17).eval(), torch.zeros(1, 3, 256, 192))
    layer = 8 * 6 * 2048 * 256 * 16, 16 * 12 * 256 * 256 * 16, 32 * 24 * 256 * 256 * 16
    assert cost.by_op["deconv"] == sum(layer)


# --- targets and loss ----------------------------------------------------------------------------------------------


def test_target_is_a_gaussian_at_the_nearest_cell():
    batch = one_person([[21.0, 33.0, 2.0], [22.5, 10.0, 1.0], [8.0, 8.0, 0.0], [48.0, 8.0, 2.0]])
    targets = crop_heatmaps(batch, 17, 4, Loss().sigma)
    assert targets.heatmap_BKHW.shape == (1, 17, 16, 12)
    assert targets.weight_BK[0].tolist() == [1, 1, 0, 0] + [0] * 13  # not labelled; outside the crop
    first = targets.heatmap_BKHW[0, 0]
    assert first[8, 5] == 1  # (21, 33) / 4 = (5.25, 8.25)
    assert first[8, 6] == pytest.approx(torch.exp(torch.tensor(-1 / 8)).item())
    assert first[10, 6] == pytest.approx(torch.exp(torch.tensor(-5 / 8)).item())
    assert targets.heatmap_BKHW[0, 1].argmax() == 2 * 12 + 6  # (22.5, 10) / 4 = (5.625, 2.5): halves go to the even
    assert not targets.heatmap_BKHW[0, 2:].any()
    edge = crop_heatmaps(one_person([[47.5, 63.5, 2.0]]), 17, 4, 2.0).heatmap_BKHW[0, 0]
    assert edge.argmax() == 15 * 12 + 11 and edge.max() == 1  # (11.875, 15.875): the last cell is the nearest one
    exact = crop_heatmaps(batch, 17, 4, Loss().sigma, "exact").heatmap_BKHW[0, 0]
    assert exact[8, 5] == pytest.approx(torch.exp(torch.tensor(-2 * 0.25**2 / 8)).item())


def test_nobody_gives_no_weight():
    batch = drawn_batch(COCO17, 2, (64, 48))
    targets = crop_heatmaps(replace(batch, people=People.empty(17)), 17, 4, Loss().sigma)
    assert not targets.weight_BK.any() and not targets.heatmap_BKHW.any()


def test_loss_by_hand():
    """Two joints of 2x2 cells, one without weight: the mean is over all 8 cells."""
    target = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]], [[5.0, 5.0], [5.0, 5.0]]]])
    weight = torch.tensor([[1.0, 0.0]])
    heatmap = torch.tensor([[[[0.5, 0.0], [1.0, 0.0]], [[1.0, 2.0], [3.0, 4.0]]]], requires_grad=True)
    found = losses(Outputs(heatmap), CropHeatmaps(target, weight))["heatmap"]
    assert found.item() == pytest.approx((0.25 + 1) / 8)
    found.backward()
    assert heatmap.grad is not None and not heatmap.grad[0, 1].any()
    assert heatmap.grad[0, 0].tolist() == [[-2 * 0.5 / 8, 0.0], [2 / 8, 0.0]]
    assert losses(Outputs(target), CropHeatmaps(target, torch.ones(1, 2)))["heatmap"] == 0


# --- decode --------------------------------------------------------------------------------------------------------


def heatmap(peaks, hw=(8, 6)):
    """Maps with the given (x, y, value) cells, one list per joint."""
    found = torch.zeros(1, len(peaks), *hw)
    for k, cells in enumerate(peaks):
        for x, y, value in cells:
            found[0, k, y, x] = value
    return found


def test_quarter_offset_by_hand():
    maps = heatmap(
        [
            [(2, 3, 0.8), (3, 3, 0.5), (1, 3, 0.2), (2, 2, 0.4)],  # right, up
            [(2, 3, 0.8)],  # no slope
            [(0, 3, 0.8), (1, 3, 0.5), (0, 4, 0.5)],  # in the first column: stays, on both axes
            [(2, 7, 0.8), (3, 7, 0.5)],  # in the last row
            [(1, 3, 0.8), (2, 3, 0.5), (1, 4, 0.5)],  # in the second column: stays too, as in the official code
        ]
    )
    pose = decode(Outputs(maps), Decode(), 4)[0]
    assert pose.joint_NK3[0, :, :2].tolist() == [[9, 11], [8, 12], [0, 12], [8, 28], [4, 12]]
    assert pose.joint_NK3[0, :, 2].tolist() == pytest.approx([0.8] * 5)
    plain = decode(Outputs(maps), Decode("none"), 4)[0]
    assert plain.joint_NK3[0, :, :2].tolist() == [[8, 12], [8, 12], [0, 12], [8, 28], [4, 12]]


def test_scores_are_cut_to_one_and_zero():
    pose = decode(Outputs(torch.stack([torch.full((1, 4, 4), -0.5), torch.full((1, 4, 4), 1.5)], dim=1)), Decode(), 4)[
        0
    ]
    assert pose.joint_NK3[0, :, 2].tolist() == [0, 1] and pose.score_N.item() == 0.5


@pytest.mark.parametrize(
    ("centre", "refine", "error"), [("exact", "parabola", 0.02), ("exact", "quarter", 1.0), ("rounded", "none", 2.0)]
)
def test_decode_of_the_targets_is_the_joints(centre, refine, error):
    """Per axis: a rounded target is off by half a cell (2 px), a quarter offset by a quarter (1 px)."""
    batch = drawn_batch(COCO17, 4, (256, 192))
    targets = crop_heatmaps(batch, 17, 4, Loss().sigma, centre)
    poses = decode(Outputs(targets.heatmap_BKHW), Decode(refine), 4)
    got = torch.cat([p.joint_NK3[..., :2] for p in poses])
    wrong = (got - batch.people.joint_NK3[..., :2]).abs().max()
    assert error / 2 < wrong <= error + 1e-3 or (refine == "parabola" and wrong <= error)


def test_mirrored_views_agree_exactly():
    """A network that reads cell i at pixel 4 i: the mirrored view, merged back, is the plain one."""
    swap = COCO17.flip_index
    image = torch.rand(2, 17, 32, 24)

    def network(view):  # each joint's map is the channel of its own name; a mirrored person's left is a right
        return view[..., ::4, ::4]

    flipped = mirror(image, 4)[:, list(swap)]
    merged = merge_heatmaps([network(image), network(flipped)], [False, True], swap)
    torch.testing.assert_close(merged, network(image))


# --- settings ------------------------------------------------------------------------------------------------------


def test_recipes_of_the_papers():
    r50 = load("baselines/simplebaseline-r50", find_paper=papers.get).cfg
    hrnet = load("baselines/hrnet-w32", find_paper=papers.get).cfg
    for cfg, epochs, steps in ((r50, 140, (90, 120)), (hrnet, 210, (170, 200))):
        assert (cfg.optim.name, cfg.optim.base_lr, cfg.optim.base_batch, cfg.train.batch) == ("adam", 1e-3, 128, 128)
        assert cfg.train.epochs == epochs
        assert [m * epochs for m in cfg.optim.milestones] == pytest.approx(steps, abs=1e-3)
    assert (r50.data.augment.half_body.p, hrnet.data.augment.half_body.p) == (0.0, 0.3)
    assert (r50.data.augment.rotation.range, hrnet.data.augment.rotation.range) == ((-80, 80), (-90, 90))
    for augment in (r50.data.augment, hrnet.data.augment):
        assert (augment.scale.distribution, augment.rotation.distribution) == ("clipnorm1", "clipnorm2")


@pytest.mark.parametrize("scale", ["smoke", "mini", "lite"])
def test_hrnet_stays_an_hrnet_at_every_scale(scale):
    cfg = load("baselines/hrnet-w32", [f"scale={scale}"], find_paper=papers.get).cfg
    assert cfg.model.backbone.name.startswith("hrnet") and cfg.model.head.deconvs == 0


@pytest.mark.parametrize(
    ("setting", "part"),
    [
        ("data.view=image", "one crop per person"),
        ("data.input_size=[256,190]", "multiple of the heatmaps' stride, 4"),
        ("loss.sigma=0", "must be above 0"),
        ("model.head.deconvs=4", "model.head.deconvs"),
    ],
)
def test_mistakes(setting, part):
    with pytest.raises(UserError, match=re.escape(part)):
        load("baselines/simplebaseline-r50", [setting], find_paper=papers.get)


# --- README --------------------------------------------------------------------------------------------------------

TEXT = README.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", re.findall(r"\| `([\w.]+)` \|\n", TEXT.split("## Where")[1].split("\n## ")[0]))
def test_map_entry_resolves(name):
    parts = (name if name.startswith("repose.") else f"repose.papers.baselines.simplebaseline.{name}").split(".")
    cut = 3 if name.startswith("repose.") else 5
    found = import_module(".".join(parts[:cut]))
    for part in parts[cut:]:
        found = getattr(found, part)


def test_switches_exist():
    known = {key for key, _ in leaves(to_dict(papers.get("simplebaseline").schema()))}
    known |= {key.rsplit(".", n)[0] for key in known for n in range(1, key.count(".") + 1)}
    rows = [row.split("|") for row in TEXT.split("## What")[1].split("\n## ")[0].splitlines() if row.startswith("| ")]
    named = [name for row in rows for name in re.findall(r"`([\w.]+)`", row[3])]
    assert len(named) > 6 and [name for name in named if name not in known] == []
