"""The network of PINet: sizes, graph, gradients, PR."""

from __future__ import annotations

import pytest
import torch
from drawn_batch import FIVE, drawn_batch
from torch import nn

from repose import papers
from repose.config import load
from repose.config.schema import SkeletonBlock
from repose.metrics.cost import count
from repose.nn.graph import skeleton_graph
from repose.papers.pinet.config import Backbone, Model, Refine
from repose.papers.pinet.losses import forward_train, losses
from repose.papers.pinet.model import PR, PINet, graph_edges
from repose.papers.pinet.module import PINetModule
from repose.papers.pinet.parts import partition
from repose.skeleton import COCO17, CROWDPOSE14, MPII16


def config(*settings: str):
    return load("pinet/ochuman", ["scale=smoke", *settings], find_paper=papers.get).cfg


def module(*settings: str, seed: int = 0) -> PINetModule:
    torch.manual_seed(seed)
    return PINetModule(config(*settings), COCO17)


# --- sizes (specification 0, 2, 9; acceptance 1) ----------------------------------------------------------------------


def test_heads_by_partition():
    """Millions of parameters of backbone and heads, by number of parts."""
    backbone = 29_305_536
    for parts, wanted in ((1, 29.331), (3, 29.364), (5, 29.398), (6, 29.415), (13, 29.533)):
        heads = 481 * (17 + parts + 2 * 17 * parts)
        assert round((backbone + heads) / 1e6, 3) == pytest.approx(wanted, abs=0.0011)
    net = PINet(Model(backbone=Backbone(name="test_resnet"), partition="keypoint"), COCO17, 13)
    channels = sum(net.backbone.channels)
    assert sum(p.numel() for p in net.ppg.parameters()) == (channels + 1) * (17 + 13 + 442)


@pytest.mark.parametrize(
    ("refine", "params"),
    [
        (Refine(), 2_332_163),
        (Refine(blocks=2), 1_868_483),
        (Refine(graph="none"), 708_994),
        (Refine(graph="static"), 2_332_163 - 289),
    ],
)
def test_parameters_of_pr(refine, params):
    assert sum(p.numel() for p in PR(refine, 480, COCO17).parameters()) == params


class OnePose(nn.Module):
    """PR for one pose, as a network of one tensor, so that it can be counted."""

    def __init__(self, pr: PR) -> None:
        super().__init__()
        self.pr = pr

    def forward(self, feature_BCHW: torch.Tensor) -> torch.Tensor:
        zero = torch.zeros(1, dtype=torch.int64)
        return self.pr(feature_BCHW, zero, torch.zeros(1, 2, dtype=torch.int64), torch.zeros(1, 17, 2))


@pytest.mark.parametrize("refine", [Refine(), Refine(blocks=2), Refine(graph="none")])
def test_cost_of_a_pose(refine):
    """29.10 M multiply-accumulates; what our counter finds in the trace is the same."""
    pr = PR(refine, 480, COCO17)
    counted = count(OnePose(pr), torch.zeros(1, 480, 8, 8), strict=False)
    assert counted.by_op["linear"] == pr.macs_per_pose
    if refine == Refine():
        assert pr.macs_per_pose == pytest.approx(29.10e6, rel=1e-3)


# --- graph (specification 4; acceptance 2) ----------------------------------------------------------------------------


def test_graph_of_coco_and_crowdpose():
    for skeleton, edges, degrees, total, first in (
        (COCO17, 17, [3, 4, 4, 2, 2, 4, 4, 3, 3, 2, 2, 4, 4, 3, 3, 2, 2], 16.810968, 1 / 3),
        (CROWDPOSE14, 15, [5, 5, 3, 3, 2, 2, 4, 4, 3, 3, 2, 2, 2, 4], 13.832777, 0.2),
    ):
        found = graph_edges(Refine(), skeleton)
        assert len(found) == edges
        graph = skeleton_graph(skeleton.k, found)
        assert (graph > 0).sum(1).tolist() == degrees
        assert graph.sum().item() == pytest.approx(total, abs=1e-5)
        assert graph[0, 0].item() == pytest.approx(first)
        assert torch.linalg.eigvalsh(graph).max().item() == pytest.approx(1, abs=1e-5)
    coco = {frozenset(e) for e in graph_edges(Refine(), COCO17)}
    assert frozenset((1, 2)) in coco and frozenset((3, 5)) not in coco  # eye to eye; ear to shoulder was left out


def test_other_graphs():
    assert graph_edges(Refine(edges="limbs"), COCO17) == list(COCO17.limb_index)
    assert graph_edges(Refine(), MPII16) == list(MPII16.limb_index)
    assert graph_edges(Refine(edges="self"), COCO17) == []
    assert graph_edges(Refine(), SkeletonBlock(**FIVE).build()) == [(0, 3), (3, 4), (1, 3), (2, 3)]
    assert isinstance(PR(Refine(), 8, COCO17).graph_KK, nn.Parameter)
    static = PR(Refine(graph="static"), 8, COCO17)
    assert "graph_KK" in dict(static.named_buffers()) and "graph_KK" not in dict(static.named_parameters())


# --- gradients (acceptance 2) -----------------------------------------------------------------------------------------


def test_pr_teaches_graph_and_features_but_not_the_offsets():
    m = module()
    batch = drawn_batch(COCO17, 2, (96, 96), 2)
    targets = m.encode(batch)
    outputs = forward_train(m.net, m.normalise(batch.image_B3HW), targets)
    losses(outputs, targets, m.cfg.loss)["refine"].backward()
    assert m.net.pr.graph_KK.grad.abs().sum() > 0
    assert next(m.net.backbone.parameters()).grad.abs().sum() > 0
    for head in (m.net.ppg.offset, m.net.ppg.heat, m.net.ppg.part):
        assert head.weight.grad is None or not head.weight.grad.any()


def test_one_proposal_does_not_break_batch_norm():
    pr = PR(Refine(blocks=1), 16, COCO17)
    zero = torch.zeros(1, dtype=torch.int64)
    delta = pr(torch.randn(1, 16, 8, 8), zero, torch.zeros(1, 2, dtype=torch.int64), torch.zeros(1, 17, 2))
    assert not delta.any()
    delta.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in pr.parameters())
    assert pr.eval()(torch.randn(1, 16, 8, 8), zero, torch.zeros(1, 2, dtype=torch.int64), torch.zeros(1, 17, 2)).any()


# --- what PR reads ----------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_pr_by_hand_without_graph():
    """No graph: mean, maximum and the part's feature, through the two linear layers."""
    torch.manual_seed(0)
    pr = PR(Refine(graph="none"), 4, COCO17).eval()
    feature = torch.randn(2, 4, 6, 7)
    owner, cell = torch.tensor([1, 0]), torch.tensor([[3, 2], [6, 5]])
    pose = torch.stack([torch.stack([torch.arange(17) % 7, torch.arange(17) % 6], -1)] * 2).float()
    found = pr(feature, owner, cell, pose)
    for n in range(2):
        joints = torch.stack([feature[owner[n], :, k % 6, k % 7] for k in range(17)])
        pooled = torch.cat([joints.mean(0), joints.amax(0), feature[owner[n], :, cell[n, 1], cell[n, 0]]])
        want = pr.fc2(torch.relu(pr.bn(pr.fc1(pooled[None]))))
        torch.testing.assert_close(found[n].flatten(), want[0], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_graph_layers_by_hand():
    torch.manual_seed(0)
    pr = PR(Refine(blocks=1), 4, COCO17).eval()
    x = torch.randn(3, 17, 4)

    def unit(u, x):
        mixed = torch.einsum("kj,njc->nkc", pr.graph_KK, x) @ u.weight + u.bias
        return torch.relu(mixed / (1 + u.bn.eps) ** 0.5)

    first = unit(pr.first, x)
    want = first + unit(pr.blocks[0].unit2, unit(pr.blocks[0].unit1, first))
    torch.testing.assert_close(pr.blocks[0](pr.first(x, pr.graph_KK), pr.graph_KK), want, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_legacy_grid_sample_is_the_releases():
    """Normalised for corner cells at -1 and 1, read with corner edges there: half a cell off at the border."""
    torch.manual_seed(0)
    feature = torch.randn(1, 4, 6, 8)
    pose = torch.rand(1, 17, 2) * torch.tensor([7.0, 5.0])
    zero, cell = torch.zeros(1, dtype=torch.int64), torch.zeros(1, 2, dtype=torch.int64)
    pr = PR(Refine(graph="none", legacy_grid_sample=True), 4, COCO17).eval()
    grid = pose / torch.tensor([7.0, 5.0]) * 2 - 1
    joints = nn.functional.grid_sample(feature, grid[None], align_corners=False)[0, :, 0].T
    pooled = torch.cat([joints.mean(0), joints.amax(0), feature[0, :, 0, 0]])
    want = pr.fc2(torch.relu(pr.bn(pr.fc1(pooled[None]))))
    torch.testing.assert_close(pr(feature, zero, cell, pose).flatten(1), want, atol=1e-4, rtol=1e-4)


# --- precision --------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_heads_and_pr_are_float32_under_autocast():
    m = module().eval()
    image = m.normalise(drawn_batch(COCO17, 1, (96, 96)).image_B3HW)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        maps = m.net(image)
        zero = torch.zeros(1, dtype=torch.int64)
        delta = m.net.pr(maps.feature_BCHW, zero, torch.zeros(1, 2, dtype=torch.int64), torch.zeros(1, 17, 2))
    assert {maps.heat_BKHW.dtype, maps.part_BPHW.dtype, maps.offset_BPDHW.dtype, delta.dtype} == {torch.float32}


def test_offsets_are_part_by_part_joint_by_joint_x_first():
    """Channel p 2K + 2k + {0: x, 1: y} of the convolution (the release's layout)."""
    net = PINet(Model(backbone=Backbone(name="test_resnet")), COCO17, partition(Model(), COCO17).p).eval()
    with torch.no_grad():
        net.ppg.offset.weight.zero_()
        net.ppg.offset.bias.copy_(torch.arange(102.0))
        maps = net(torch.zeros(1, 3, 64, 64))
        zero = torch.zeros(1, dtype=torch.int64)
        pose = maps.poses(zero, zero + 2, torch.tensor([[5, 7]]))
    assert pose[0, 3].tolist() == [5 - (2 * 34 + 6), 7 - (2 * 34 + 7)]  # joint = cell - offset
