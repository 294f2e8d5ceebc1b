"""RTMPose: sizes by part, attention unit, labels, loss, decode, flip."""

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
from repose.papers.baselines.rtmpose.config import Backbone, Decode, Head, Loss, Model
from repose.papers.baselines.rtmpose.decode import decode, merge, peak
from repose.papers.baselines.rtmpose.losses import divergence, losses
from repose.papers.baselines.rtmpose.model import GatedAttention, Outputs, RTMPose, ScaleNorm, SimCCHead
from repose.papers.baselines.rtmpose.targets import Targets, encode
from repose.skeleton import COCO17
from repose.types import People

TINY = Model(Backbone("cspnext_tiny"))


def parameters(net):
    return sum(p.numel() for p in net.parameters())


# --- network -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [384, 768])
def test_head_parameters(channels):
    """833 C4 + 668 435 for 17 joints at 256x192."""
    assert parameters(SimCCHead(Head(), channels, 17, (256, 192))) == 833 * channels + 668_435


def test_tokens_of_a_size_that_does_not_halve():
    """192x144: 6 x 5 cells of the last stage, rounded up."""
    net = RTMPose(TINY, 17, (192, 144)).eval()
    assert net.head.fc.in_features == 30
    out = net(torch.zeros(2, 3, 192, 144))
    assert out.x_BKX.shape == (2, 17, 288) and out.y_BKY.shape == (2, 17, 384)


def test_macs_at_low_resolution():
    net = RTMPose(TINY, 17, (192, 144)).eval()
    assert count(net, torch.zeros(1, 3, 192, 144)).macs == pytest.approx(0.212e9, rel=0.005)


def test_scale_norm_by_hand():
    norm = ScaleNorm(4)
    torch.nn.init.constant_(norm.g, 2.0)
    x = torch.tensor([[3.0, 0.0, 4.0, 0.0], [0.0, 0.0, 0.0, 0.0]])  # root mean square 5 / 2
    assert norm(x).tolist() == [pytest.approx([2.4, 0.0, 3.2, 0.0]), [0.0, 0.0, 0.0, 0.0]]


def test_attention_unit_equals_a_loop_over_the_joints():
    torch.manual_seed(0)
    unit = GatedAttention(6, 12, 4)
    torch.nn.init.normal_(unit.residual)
    x = torch.randn(3, 6)  # 3 joints
    gate = torch.nn.functional.silu((x / x.norm(dim=-1, keepdim=True) * 6**0.5) @ unit.uv.weight.T)
    u, v, base = gate[:, :12], gate[:, 12:24], gate[:, 24:]
    q, k = base * unit.gamma[0] + unit.beta[0], base * unit.gamma[1] + unit.beta[1]
    wanted = torch.stack(
        [
            x[i] * unit.residual
            + unit.out.weight @ (u[i] * sum((q[i] @ k[j] / 2).clamp(min=0) ** 2 * v[j] for j in range(3)))
            for i in range(3)
        ]
    )
    torch.testing.assert_close(unit(x[None])[0], wanted, atol=1e-5, rtol=1e-5)


# --- labels and loss -----------------------------------------------------------------------------------------------


def test_labels_by_hand():
    batch = drawn_batch(COCO17, 1, (64, 48))
    joint = torch.zeros(1, 17, 3)
    joint[0, :3] = torch.tensor([[20.2, 33.0, 2.0], [10.0, 10.0, 0.0], [48.0, 8.0, 2.0]])
    targets = encode(replace(batch, people=replace(batch.people, joint_NK3=joint)), 17, Loss(), 2)
    assert targets.x_BKX.shape == (1, 17, 96) and targets.y_BKY.shape == (1, 17, 128)
    assert targets.weight_BK[0].tolist() == [1] + [0] * 16  # not labelled; outside the crop
    assert targets.x_BKX[0, 0, 40] == 1 and targets.y_BKY[0, 0, 66] == 1  # 2 x 20.2 rounds to 40
    # variance 48 / 8 = 6 and 64 / 8 = 8 bins^2
    assert targets.x_BKX[0, 0, 43] == pytest.approx(torch.exp(torch.tensor(-9 / 12)).item())
    assert targets.y_BKY[0, 0, 62] == pytest.approx(torch.exp(torch.tensor(-16 / 16)).item())


def test_sigma_is_that_of_the_released_configs():
    assert (192 * Loss().variance) ** 0.5 == pytest.approx(4.90, abs=0.005)
    assert (256 * Loss().variance) ** 0.5 == pytest.approx(5.66, abs=0.005)


def test_divergence_by_hand():
    """Two bins: label softmax(10 (1, 0)), logits equal: sum p ln(2 p) over 2 bins."""
    p = 1 / (1 + torch.exp(torch.tensor(-10.0)))
    wanted = (p * (2 * p).log() + (1 - p) * (2 * (1 - p)).log()) / 2
    got = divergence(torch.tensor([[[0.3, 0.3]]]), torch.tensor([[[1.0, 0.0]]]), 10.0)
    assert got.item() == pytest.approx(wanted.item(), rel=1e-4)
    same = torch.rand(2, 3, 8)
    assert divergence(same + 5, same, 10.0).abs().max() < 1e-6  # a shift of the logits means nothing


def test_loss_skips_joints_without_weight_and_nobody():
    torch.manual_seed(0)
    x, y = torch.randn(2, 3, 8, requires_grad=True), torch.randn(2, 3, 6)
    weight = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    targets = Targets(torch.rand(2, 3, 8), torch.rand(2, 3, 6), weight)
    found = losses(Outputs(x, y), targets, Loss())["simcc"]
    each = divergence(x, targets.x_BKX, 10.0) + divergence(y, targets.y_BKY, 10.0)
    assert found.item() == pytest.approx(((each[0, 0] + each[0, 2]) / 3).item())
    found.backward()
    assert x.grad is not None and not x.grad[1].any() and not x.grad[0, 1].any() and x.grad[0, 0].any()
    batch = replace(drawn_batch(COCO17, 2, (64, 48)), people=People.empty(17))
    nobody = encode(batch, 17, Loss(), 2)
    assert losses(Outputs(torch.zeros(2, 17, 96), torch.zeros(2, 17, 128)), nobody, Loss())["simcc"] == 0


# --- decode --------------------------------------------------------------------------------------------------------


def test_peak_by_hand():
    line = torch.tensor([[[0.0, 1.0, 3.0, 2.0, 0.0], [4.0, 1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0, 1.0]]])
    assert peak(line, False)[0].tolist() == [[2, 0, 0]] and peak(line, True)[1].tolist() == [[3, 4, 1]]
    vertex = (2 - 1) / (2 * (6 - 1 - 2))
    assert peak(line, True)[0].tolist() == [pytest.approx([2 + vertex, 0, 0])]


@pytest.mark.parametrize(("refine", "error"), [(False, 0.25), (True, 0.25)])
def test_decode_of_the_labels_is_the_joints(refine, error):
    """Bins of half a pixel: at most a quarter of a pixel off; the labels stand on bins, so refining changes nothing."""
    batch = drawn_batch(COCO17, 4, (256, 192))
    targets = encode(batch, 17, Loss(), 2)
    poses = decode(Outputs(targets.x_BKX, targets.y_BKY), Decode(refine), 2)
    got = torch.cat([p.joint_NK3[..., :2] for p in poses])
    wrong = (got - batch.people.joint_NK3[..., :2]).abs().max()
    assert 0.1 < wrong <= error + 1e-4


def test_score_is_the_smaller_maximum():
    x, y = torch.tensor([[[0.1, 0.9], [2.0, 0.0], [-1.0, -2.0]]]), torch.tensor([[[0.3, 0.2], [1.5, 0.0], [0.5, 0.4]]])
    pose = decode(Outputs(x, y), Decode(), 2)[0]
    assert pose.joint_NK3[0].flatten().tolist() == pytest.approx([0.5, 0, 0.3, 0, 0, 1.5, 0, 0, 0])


@pytest.mark.parametrize("split", [1, 2, 3])
def test_mirrored_views_agree_exactly(split):
    """A network that reads bin i at pixel i / split, linearly: the mirrored view, merged, is the plain one."""
    swap = list(COCO17.flip_index)
    image = torch.rand(2, 17, 1, 24)

    def network(view):
        at = torch.arange(24 * split) / split
        low = at.floor().long().clamp(max=22)
        share = (at - low).clamp(max=1)
        line = view[:, :, 0]
        return Outputs(line[..., low] * (1 - share) + line[..., low + 1] * share, line)

    plain = network(image)
    merged = merge([plain, network(mirror(image, 1)[:, swap])], [False, True], swap, split)
    torch.testing.assert_close(merged.x_BKX, plain.x_BKX)


# --- settings and README -------------------------------------------------------------------------------------------


def test_recipes():
    for size, decay, ema in (("t", 0.0, None), ("s", 0.0, 0.9998), ("m", 0.05, 0.9998), ("l", 0.05, 0.9998)):
        cfg = load(f"baselines/rtmpose-{size}", find_paper=papers.get).cfg
        assert (cfg.optim.weight_decay, cfg.optim.ema.decay) == (decay, ema)
        assert (cfg.train.epochs, cfg.train.batch, cfg.optim.base_lr, cfg.data.input_size) == (
            420,
            1024,
            4e-3,
            (256, 192),
        )


@pytest.mark.parametrize(
    ("setting", "part"), [("data.view=image", "one crop per person"), ("model.head.kernel=6", "must be odd")]
)
def test_mistakes(setting, part):
    with pytest.raises(UserError, match=re.escape(part)):
        load("baselines/rtmpose-m", [setting], find_paper=papers.get)


TEXT = (Path(papers.__file__).parent / "baselines" / "rtmpose" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", re.findall(r"\| `([\w.]+)` \|\n", TEXT.split("## Where")[1].split("\n## ")[0]))
def test_map_entry_resolves(name):
    parts = (name if name.startswith("repose.") else f"repose.papers.baselines.rtmpose.{name}").split(".")
    cut = 3 if name.startswith("repose.") else 5
    found = import_module(".".join(parts[:cut]))
    for part in parts[cut:]:
        found = getattr(found, part)


def test_switches_exist():
    known = {key for key, _ in leaves(to_dict(papers.get("rtmpose").schema()))}
    known |= {key.rsplit(".", n)[0] for key in known for n in range(1, key.count(".") + 1)}
    rows = [row.split("|") for row in TEXT.split("## What")[1].split("\n## ")[0].splitlines() if row.startswith("| ")]
    named = [name for row in rows for name in re.findall(r"`([\w.]+)`", row[3])]
    assert len(named) > 6 and [name for name in named if name not in known] == []
