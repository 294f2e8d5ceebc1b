"""Sizes and costs of the specification; shapes; sparse decoding equals dense decoding."""

from __future__ import annotations

import pytest
import torch
from idgroup_kit import config

from repose import papers
from repose.config import load
from repose.metrics.cost import count
from repose.papers.idgroup.model import IDGroup

# hourglass, transformer -> parameters and GMACs of Table 2's rows (specification 2)
ROWS = {
    ("mobilenetv3", True, True): (8_563_092, 7.14),
    ("mobilenetv3", False, False): (6_017_205, 0.75),
    ("mobilenetv3", False, True): (6_971_155, 5.49),
    ("mobilenetv3", True, False): (7_609_142, 2.39),
    ("maxvit", True, True): (19_204_232, 11.24),
    ("maxvit", False, False): (16_658_345, 4.85),
    ("maxvit", False, True): (17_612_295, 9.60),
    ("maxvit", True, False): (18_250_282, 6.49),
}


def paper_net(name: str, *settings: str) -> IDGroup:
    """An experiment's network at its full size."""
    cfg = load(f"idgroup/{name}", list(settings), find_paper=papers.get).cfg
    return IDGroup(cfg.model, 17).eval()


@pytest.mark.parametrize(("name", "hourglass", "transformer"), ROWS)
def test_sizes_and_macs(name, hourglass, transformer):
    params, gmacs = ROWS[name, hourglass, transformer]
    net = paper_net(
        name,
        f"model.hourglass.enabled={str(hourglass).lower()}",
        f"model.transformer.enabled={str(transformer).lower()}",
    )
    cost = count(net, torch.zeros(1, 3, 256, 256))
    assert cost.params == params
    # the specification counts products alone: no batch norm, no upsampling
    found = sum(cost.by_op[op] for op in ("conv", "deconv", "linear", "attention")) / 1e9
    assert found == pytest.approx(gmacs, rel=0.005, abs=0.005)


@pytest.mark.parametrize(
    ("patch", "self_attention", "params", "gmacs"),
    [(1, False, 864_034, 20.69), (2, True, 1_095_330, 13.91), (4, False, 1_357_474, 2.32), (4, True, 1_490_082, 11.44)],
)
def test_token_schemes(patch, self_attention, params, gmacs):
    """Specification 2, the other rows of its table of transformers."""
    net = paper_net(
        "mobilenetv3",
        f"model.transformer.patch={patch}",
        f"model.transformer.decoder_self_attn={str(self_attention).lower()}",
    )
    cost = count(net, torch.zeros(1, 3, 256, 256))
    mine = [cost.modules[name] for name in ("transformer", "head")]
    assert sum(m["params"] for m in mine) == params
    assert sum(m["macs"] for m in mine) / 1e9 == pytest.approx(gmacs, rel=0.005)


def test_parts():
    """Specification 2: where the parameters are."""
    net = paper_net("mobilenetv3")
    size = {name: sum(p.numel() for p in child.parameters()) for name, child in net.named_children()}
    assert size["backbone"] == 2_971_952 and size["neck"] == 3_036_224 and size["hourglass"] == 1_592_194
    assert size["transformer"] + size["head"] == 962_722


@torch.no_grad()
def test_shapes():
    torch.manual_seed(0)
    net = paper_net("mobilenetv3")
    image = torch.randn(1, 3, 256, 256)
    assert net.neck(net.backbone(image)).shape == (1, 256, 64, 64)
    features = net.features(image)
    assert features.logit_SBHW.shape == (2, 1, 64, 64)
    assert features.joined_BCHW.shape == (1, 257, 64, 64)
    assert features.memory_BTC.shape == (1, 1024, 128)
    torch.testing.assert_close(features.joined_BCHW[:, -1], features.presence_BHW)
    logits, vectors = net(image)
    assert logits.shape == (2, 1, 64, 64) and vectors.shape == (1, 64, 64, 17, 2)


SPARSE = [
    (),
    ("model.vector_param=offset",),
    ("model.transformer.enabled=false",),
    ("model.hourglass.enabled=false",),
    ("model.transformer.decoder_self_attn=true",),
    ("model.transformer.patch=1",),
]


@pytest.mark.parametrize("settings", SPARSE)
@torch.no_grad()
def test_sparse_equals_dense(settings):
    """A cell's vector is that of the dense decoder, whatever other cells are asked for; one image has none."""
    torch.manual_seed(0)
    net = IDGroup(config(*settings).model, 17).eval()
    features = net.features(torch.randn(3, 3, 96, 80))
    dense = net.dense(features)
    owner = torch.tensor([2, 0, 0, 2, 2])
    cell = torch.tensor([[0, 0], [19, 23], [3, 7], [7, 3], [0, 0]])
    found = net.vectors(features, owner, cell)
    torch.testing.assert_close(found, dense[owner, cell[:, 1], cell[:, 0]], atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(net.vectors(features, owner[1:2], cell[1:2]), found[1:2], atol=1e-4, rtol=1e-5)
    assert net.vectors(features, owner[:0], cell[:0]).shape == (0, 17, 2)
    assert (found[0] - found[3]).abs().max() > 1e-3


@torch.no_grad()
def test_where_vectors_start():
    """Absolute vectors in the middle of the map, offsets at their cell."""
    for kind, wanted in (("absolute", [12.0, 12.0]), ("offset", [3.5, 7.5])):
        net = IDGroup(config(f"model.vector_param={kind}").model, 17).eval()
        net.head.weight.zero_()
        features = net.features(torch.zeros(1, 3, 96, 96))
        found = net.vectors(features, torch.zeros(1, dtype=torch.int64), torch.tensor([[3, 7]]))
        assert found[0].tolist() == [wanted] * 17


def test_vectors_teach_presence():
    """The concatenation is not detached: the hourglass learns from the vectors too."""
    torch.manual_seed(0)
    net = IDGroup(config().model, 17)
    features = net.features(torch.randn(2, 3, 96, 96))
    net.vectors(features, torch.tensor([0, 1]), torch.tensor([[1, 2], [3, 4]])).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.hourglass.head[-1].parameters())


@torch.no_grad()
def test_odd_images():
    net = IDGroup(config().model, 5).eval()
    logits, vectors = net(torch.randn(1, 3, 97, 75))
    assert logits.shape == (2, 1, 25, 19) and vectors.shape == (1, 25, 19, 5, 2)
    assert torch.isfinite(vectors).all()
