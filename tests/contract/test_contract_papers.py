"""What every paper must do, over COCO-17 and a custom skeleton of 5 joints (ARCHITECTURE, section 8).

A new paper adds one entry to FACTS; everything else is found by itself.
"""

from __future__ import annotations

import dataclasses
import io
import typing
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from drawn_batch import FIVE, coco_ground_truth, drawn_batch, one_image, with_masks, without_people

from repose import papers
from repose.config import Layer, docs, leaves, load, to_dict
from repose.engine.module import Evaluated, PoseModule
from repose.metrics.cost import count
from repose.metrics.keypoint_ap import KeypointAP
from repose.types import Batch


@dataclass(frozen=True)
class Facts:
    """What the tests must know about a paper.

    Attributes:
        experiment: what the tests build, at scale smoke.
        sizes: experiment -> (parameters, MACs) of its specification; MACs within 0.5 %.
        alternatives: switches whose other values cannot be derived from their type, and what goes with them.
        skip: switches with a test of their own, and why.
        overfit: settings of the overfit test alone, where a paper's training draws what its test does not see.
        steps: of the overfit test.
        lr: of the overfit test.
    """

    experiment: str
    sizes: dict[str, tuple[int, float]]
    alternatives: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    skip: dict[str, str] = field(default_factory=dict)
    overfit: dict[str, Any] = field(default_factory=dict)
    steps: int = 80
    lr: float = 3e-3


POOLER: dict[str, Any] = {
    "model.roi.kind": "pooler",
    "model.roi.pooler_width": 16,
    "model.backbone.kind": "fpn",
    "model.backbone.name": "resnet18",
}
FACTS = {
    "drpnet": Facts(
        experiment="drpnet/m",
        sizes={
            "drpnet/s": (7_027_459, 858.94e6),
            "drpnet/m": (15_043_579, 2155.79e6),
            "drpnet/l": (29_048_787, 4449.36e6),
        },
        alternatives={
            "model.backbone.name": [{"model.backbone.name": "resnet18"}],
            "model.neck.width": [{"model.neck.width": 20}],
            "model.neck.levels": [{"model.neck.levels": [1, 2, 3]}, {"model.neck.levels": [3, 4]}],
            "model.neck.stride": [{"model.neck.stride": 8, "model.neck.levels": [2, 3, 4]}],
        },
        skip={
            "model.backbone.pretrained": "needs the network; tests/nn/test_backbones.py",
            "model.backbone.weights": "needs a file; tests/nn/test_backbones.py",
        },
    ),
    "dekr": Facts(
        experiment="baselines/dekr",
        sizes={"baselines/dekr": (29_561_182, 45_660.82e6)},
        alternatives={
            "model.backbone.name": [{"model.backbone.name": "resnet18"}],
            "loss.min_area": [{"loss.min_area": 96.0**2}],
            "decode.candidates": [{"decode.candidates": 3}],
            "decode.max_people": [{"decode.max_people": 3}],
        },
        skip={
            "model.backbone.pretrained": "needs the network; tests/nn/test_backbones.py",
            "model.backbone.weights": "needs a file; tests/nn/test_backbones.py",
            "loss.legacy_centre_sigma": "needs fewer joints; tests/papers/baselines/test_dekr_targets.py",
            "loss.mask": "needs a batch with regions; tests/papers/baselines/test_dekr_targets.py",
            "decode.decrease": "needs several scales; tests/papers/baselines/test_dekr_decode.py",
            "decode.distance": "untrained poses have no extent; tests/papers/baselines/test_dekr_decode.py",
            "decode.distance_multi": "needs several scales; tests/papers/baselines/test_dekr_decode.py",
            "decode.same_joints": "untrained poses have no extent; tests/papers/baselines/test_dekr_decode.py",
            "decode.oks": "untrained poses have no extent; tests/papers/baselines/test_dekr_decode.py",
            "decode.rescore": "needs a file; tests/papers/baselines/test_dekr_rescore.py",
        },
        steps=100,
        lr=2e-2,
    ),
    "pinet": Facts(
        experiment="pinet/ochuman",
        sizes={
            "pinet/ochuman": (31_696_381, 42_435.95e6),
            "pinet/crowdpose": (31_683_301, 42_270.80e6),
            "pinet/coco": (31_232_701, 42_435.95e6),
        },
        alternatives={
            "model.backbone.name": [{"model.backbone.name": "resnet18"}],
            "model.parts": [{"model.parts": {"top": ["head"], "rest": ["torso", "legs"]}}],
            "loss.normaliser": [{"loss.normaliser": "area"}],
            "loss.min_area": [{"loss.min_area": 96.0**2}],
            "decode.threshold": [{"decode.threshold": -1.0}],
        },
        skip={
            "model.backbone.pretrained": "needs the network; tests/nn/test_backbones.py",
            "model.backbone.weights": "needs a file; tests/nn/test_backbones.py",
            "loss.mask": "needs a batch with regions; tests/papers/pinet/test_pinet_targets.py",
            "loss.legacy_flip": "needs a mirrored batch; tests/papers/pinet/test_pinet_targets.py",
            "decode.candidates": "an untrained network has no peaks; tests/papers/pinet/test_pinet_decode.py",
            "decode.decrease": "needs several scales; tests/papers/pinet/test_pinet_decode.py",
            "decode.fuse": "untrained poses never overlap; tests/papers/pinet/test_pinet_decode.py",
            "decode.oks": "untrained poses never overlap; tests/papers/pinet/test_pinet_decode.py",
        },
        lr=5e-3,
    ),
    "maskrcnn": Facts(
        experiment="baselines/maskrcnn",
        sizes={
            "baselines/maskrcnn": (59_137_258, 120_240.66e6),  # 1000 proposals, 20 people
            "baselines/maskrcnn-masks": (44_401_393, 104_053.71e6),  # 1000 proposals, 100 people
        },
        alternatives={
            "model.backbone.name": [{"model.backbone.name": "resnet34"}],
            "model.anchors": [{"model.anchors": [8.0, 16.0, 32.0, 64.0, 128.0]}],
            "loss.positive": [{"loss.positive": 0.02}],
        },
        skip={
            "model.task": "needs masks; tests/papers/baselines/test_maskrcnn.py",
            "model.mask_width": "likewise",
            "model.mask_convs": "likewise",
            "loss.mask": "likewise",
            "model.backbone.trainable": "changes gradients alone; tests/papers/baselines/test_maskrcnn.py",
            "model.backbone.weights": "needs a file; tests/papers/baselines/test_maskrcnn.py",
            "model.weights": "needs a file; tests/papers/baselines/test_maskrcnn.py",
            "loss.min_side": "needs people cut to slivers; tests/papers/baselines/test_maskrcnn.py",
            "decode.threshold": "untrained scores are near one half; tests/papers/baselines/test_maskrcnn.py",
        },
        overfit={"loss.samples": 32},
        steps=90,
        lr=6e-3,
    ),
    "rtmpose": Facts(
        experiment="baselines/rtmpose-m",
        sizes={
            "baselines/rtmpose-t": (3_337_007, 358.5e6),
            "baselines/rtmpose-s": (5_473_251, 681.8e6),
            "baselines/rtmpose-m": (13_587_611, 1928.1e6),
            "baselines/rtmpose-l": (27_660_339, 4159.3e6),
        },
        alternatives={"model.backbone.name": [{"model.backbone.name": "resnet18"}]},
        skip={
            "model.backbone.pretrained": "needs the network; tests/nn/test_backbones.py",
            "model.backbone.weights": "needs a file; tests/nn/test_backbones.py",
        },
    ),
    "simplebaseline": Facts(
        experiment="baselines/simplebaseline-r50",
        sizes={
            "baselines/simplebaseline-r50": (33_999_697, 5450.22e6),
            "baselines/hrnet-w32": (28_536_113, 7685.34e6),
            "baselines/hourglass-8": (25_437_960, 20_698.50e6),  # 20.59 G of convolutions
        },
        alternatives={
            "model.kind": [
                {"model.kind": "hourglass", "model.hourglass.stacks": 1, "model.hourglass.width": 16},
            ],
            "model.backbone.name": [{"model.backbone.name": "cspnext_tiny"}],
            "model.head.deconvs": [{"model.head.deconvs": 0}, {"model.head.deconvs": 2}],
        },
        skip={
            "model.hourglass.stacks": "the hourglass's; tests/papers/baselines/test_hourglass.py",
            "model.hourglass.width": "likewise",
            "model.hourglass.depth": "likewise",
            "model.backbone.pretrained": "needs the network; tests/nn/test_backbones.py",
            "model.backbone.weights": "needs a file; tests/nn/test_backbones.py",
        },
    ),
    "cganet": Facts(
        experiment="cganet/coco",
        sizes={
            "cganet/coco": (28_257_163, 37_813.55e6),  # 20 boxes
            "cganet/masks": (21_148_875, 27_240e6),
            "cganet/separated": (25_747_793, 7_230.24e6),
        },
        alternatives={
            "model.kind": [
                {
                    "model.kind": "separated",
                    "data.view": "person",
                    "data.base": "box",
                    "data.centre": "box",
                }
            ],
            "model.backbone.kind": [{"model.backbone.kind": "fpn", "model.backbone.name": "resnet18"}],
            "model.backbone.width": [{"model.backbone.width": 12}],
            "model.backbone.name": [{"model.backbone.kind": "fpn", "model.backbone.name": "resnet18"}],
            "model.backbone.fpn_width": [
                {"model.backbone.kind": "fpn", "model.backbone.name": "resnet18", "model.backbone.fpn_width": 16}
            ],
            "model.centre_lines": [
                {"model.centre_lines": False, "decode.ambiguity": False, "decode.extend": "none"},
            ],
            "model.roi.kind": [POOLER],
            "model.roi.size": [{"model.roi.size": 8}],
            "model.roi.pooler_width": [POOLER | {"model.roi.pooler_width": 8}],
            "model.roi.pooler_convs": [POOLER | {"model.roi.pooler_convs": 2}],
            "loss.min_overlap": [{"loss.min_overlap": 0.3}],
            "loss.line_iou": [{"loss.line_iou": 0.05}],
            "loss.roi_source": [{"loss.roi_source": "gt"}],
            "loss.roi_scale": [{"loss.roi_scale": [1.0, 1.0]}],
            "loss.roi_max": [{"loss.roi_max": 1}],
            "decode.fixed": [{"decode.extend": "fixed", "decode.fixed": 0.2}],
        },
        skip={
            "model.backbone.pretrained": "needs the network; tests/nn/test_backbones.py",
            "model.backbone.weights": "needs a file; tests/nn/test_backbones.py",
            "model.task": "needs masks; tests/papers/cganet/test_cganet_module.py",
            "loss.mask": "likewise",
            "loss.heatmap": "the separated model's; tests/papers/cganet/test_cganet_separated.py",
            "loss.separated": "likewise",
            "loss.separated_sigma": "likewise",
            "loss.line_detach": "changes a gradient alone; tests/papers/cganet/test_cganet_losses.py",
            "loss.roi_pred_from": "needs a detector that finds people; tests/papers/cganet/test_cganet_targets.py",
        },
        # one batch draws the same jitter at every step: other boxes than those of a test would be all it learns
        overfit={
            "loss.roi_source": "gt",
            "decode.extend": "none",
            "model.roi.stages": 1,
            "model.backbone.width": 24,
        },
        steps=120,
        lr=1e-2,
    ),
    "kdc": Facts(
        experiment="kdc/r101",
        sizes={"kdc/r101": (42_776_775, 113.21e9)},  # the others: tests/papers/kdc/test_kdc_model.py
        alternatives={
            "model.backbone.name": [{"model.backbone.name": "resnet34"}],
            "loss.stride": [{"loss.stride": 8}, {"loss.stride": 2, "data.masks": "full"}],
            "loss.min_pixels": [{"loss.min_pixels": 10_000}],
        },
        skip={
            "model.backbone.pretrained": "needs the network; tests/nn/test_backbones.py",
            "model.backbone.weights": "needs a file; tests/papers/kdc/test_kdc_model.py",
            "model.backbone.freeze_bn": "needs weights; tests/papers/kdc/test_kdc_model.py",
            "model.backbone.lr_factor": "of the optimiser; tests/papers/kdc/test_kdc_model.py",
            "model.eval_stride": "untrained maps have no peak; tests/papers/kdc/test_kdc_model.py",
        }
        | {
            f"decode.{name}": "untrained maps have no peak; tests/papers/kdc/test_kdc_decode.py"
            for name in (
                *("vote_threshold", "tau", "nms_radius", "match_radius", "refine_radius", "refine_steps", "strict"),
                *("max_people", "min_score", "masks", "seg_threshold", "mask_threshold", "min_mask"),
                *("pgo.sigma_hvk", "pgo.sigma_lvk", "pgo.unit", "igo.sigma", "igo.mode"),
            )
        },
        steps=100,
        lr=5e-3,
    ),
    "idgroup": Facts(
        experiment="idgroup/mobilenetv3",
        # with batch norm and upsampling; the specification's 7.14 and 11.24 G are without:
        # tests/papers/idgroup/test_idgroup_model.py
        sizes={"idgroup/mobilenetv3": (8_563_092, 7_191e6), "idgroup/maxvit": (19_204_232, 11_323e6)},
        alternatives={
            "model.backbone.name": [{"model.backbone.name": "resnet18"}],
            "model.transformer.width": [{"model.transformer.width": 48}],
            "model.transformer.heads": [{"model.transformer.heads": 2}],
            "decode.threshold": [{"decode.threshold": 0.9}],
            "decode.top": [{"decode.top": 9}],
        },
        skip={
            "model.backbone.pretrained": "needs the network; tests/nn/test_backbones.py",
            "model.backbone.weights": "needs a file; tests/nn/test_backbones.py",
            "model.backbone.lr_factor": "of the optimiser; tests/papers/idgroup/test_idgroup_module.py",
            "loss.unlabelled": "needs joints without label; tests/papers/idgroup/test_idgroup_targets.py",
        },
        steps=150,
        lr=5e-3,
    ),
}
VARIANTS = {  # methods that are settings of a paper, whose own switches FACTS has
    "spm": Facts(experiment="baselines/spm", sizes={"baselines/spm": (29_330_548, 41_890e6)}, steps=160, lr=5e-3),
}
METHODS = {**FACTS, **VARIANTS}
SKELETONS = ("coco17", "five")


def config(paper: str, skeleton: str = "coco17", **settings: Any) -> Any:
    """A paper's experiment at smoke."""
    values: dict[str, Any] = {}
    for key, value in settings.items():
        node = values
        *parents, last = key.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    row = [Layer("test", values)]
    if skeleton == "five":
        row.append(Layer("test", {"skeleton": FIVE}))
    return load(METHODS[paper].experiment, ["scale=smoke"], find_paper=papers.get, row=row).cfg


def build(cfg: Any, seed: int = 0) -> PoseModule:
    """The paper's module, initialised from a seed."""
    torch.manual_seed(seed)
    return papers.get(cfg.paper).module()(cfg, cfg.joint_set())


def batch_for(cfg: Any, images: int = 4, seed: int = 0, hw: tuple[int, int] | None = None) -> Batch:
    """A drawn batch of the view that the paper wants."""
    people = 1 if cfg.data.view == "person" else 2
    batch = drawn_batch(cfg.joint_set(), images, hw or tuple(cfg.data.input_size), people, seed)
    return batch if cfg.data.masks == "none" else with_masks(batch, cfg.data.masks)


def train_losses(m: PoseModule, batch: Batch) -> dict[str, torch.Tensor]:
    """What `training_step` computes, without a trainer."""
    targets = m.encode(batch)
    return m.losses(m.forward_train(m.normalise(batch.image_B3HW), batch, targets), targets)


def tensors(e: Evaluated) -> list[torch.Tensor]:
    return [t for p in e.poses for t in (p.joint_NK3, p.score_N)]


every_paper = pytest.mark.parametrize("paper", list(papers.PAPERS))
every_method = pytest.mark.parametrize("paper", list(METHODS))
every_skeleton = pytest.mark.parametrize("skeleton", SKELETONS)


def test_every_paper_is_in_facts():
    assert FACTS.keys() == papers.PAPERS.keys()


@every_method
def test_sizes_are_the_specifications(paper):
    for experiment, (params, macs) in METHODS[paper].sizes.items():
        cfg = load(experiment, find_paper=papers.get).cfg
        net = build(cfg).net.eval()
        assert sum(p.numel() for p in net.parameters()) == params, experiment
        cost = count(net, torch.zeros(1, 3, *cfg.data.input_size))
        assert cost.params == params
        assert cost.macs == pytest.approx(macs, rel=0.005), experiment
        assert not cost.unsupported, experiment


@every_method
@every_skeleton
def test_every_parameter_gets_a_finite_gradient(paper, skeleton):
    cfg = config(paper, skeleton)
    m = build(cfg)
    found = train_losses(m, batch_for(cfg))
    assert found and all(v.ndim == 0 and torch.isfinite(v) and v.dtype == torch.float32 for v in found.values())
    assert found.keys() <= m.weights.keys()
    m.combine(found).backward()
    for name, p in m.net.named_parameters():
        assert p.grad is not None, f"{name} gets no gradient"
        assert torch.isfinite(p.grad).all(), name
    dead = [name for name, p in m.net.named_parameters() if not p.grad.any()]  # type: ignore[union-attr]
    assert not dead


@every_method
@every_skeleton
@torch.no_grad()
def test_a_batch_equals_its_images_one_by_one(paper, skeleton):
    cfg = config(paper, skeleton)
    m = build(cfg).eval()
    batch = batch_for(cfg, 3)
    together = m.evaluate([batch])
    for i in range(batch.b):
        alone = m.evaluate([one_image(batch, i)])
        for a, b in zip(
            (together.poses[i].joint_NK3, together.poses[i].score_N),
            (alone.poses[0].joint_NK3, alone.poses[0].score_N),
            strict=True,
        ):
            # 1e-5 of the input's height, the unit of the coordinates' round-off
            torch.testing.assert_close(a, b, atol=1e-5 * cfg.data.input_size[0], rtol=1e-5)


@every_method
@every_skeleton
def test_checkpoint_round_trip_is_bit_equal(paper, skeleton):
    cfg = config(paper, skeleton)
    m = build(cfg, seed=1)
    m.train()
    batch = batch_for(cfg)
    train_losses(m, batch)  # moves the batch norms
    file = io.BytesIO()
    torch.save(m.state_dict(), file)
    file.seek(0)
    other = build(cfg, seed=2)
    other.load_state_dict(torch.load(file, weights_only=True))
    with torch.no_grad():
        a, b = tensors(m.eval().evaluate([batch])), tensors(other.eval().evaluate([batch]))
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@every_method
@pytest.mark.parametrize("hw", [(100, 76), (97, 75)])
def test_odd_sizes(paper, hw):
    """Sizes that no stage halves exactly; a width that is no multiple of the stride has no mirrored view."""
    cfg = config(paper, **{"data.input_size": list(hw), "test.flip": hw[1] % 4 == 0})
    m = build(cfg)
    batch = batch_for(cfg)
    m.combine(train_losses(m, batch)).backward()
    with torch.no_grad():
        for t in tensors(m.eval().evaluate([batch])):
            assert torch.isfinite(t).all()


@every_method
@every_skeleton
def test_nobody_trains_and_tests(paper, skeleton):
    cfg = config(paper, skeleton)
    m = build(cfg)
    batch = without_people(batch_for(cfg), cfg.joint_set().k)
    total = m.combine(train_losses(m, batch))
    assert torch.isfinite(total)
    total.backward()
    assert all(torch.isfinite(p.grad).all() for p in m.parameters() if p.grad is not None)
    with torch.no_grad():
        e = m.eval().evaluate([batch])
    assert len(e.poses) == batch.b and all(torch.isfinite(t).all() for t in tensors(e))


@every_method
@every_skeleton
def test_overfits_a_batch_to_ap_95(paper, skeleton):
    """One batch learnt by heart, decoded, scored by COCO's evaluation: nothing between target and metric is off."""
    facts = METHODS[paper]
    cfg = config(paper, skeleton, **({"test.flip": False} | facts.overfit))
    m = build(cfg, seed=3)
    m.train()
    batch = batch_for(cfg, seed=5)
    optimizer = torch.optim.AdamW(m.parameters(), lr=facts.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, facts.lr, total_steps=facts.steps, pct_start=0.1)
    first = last = None
    for _ in range(facts.steps):
        last = m.combine(train_losses(m, batch))
        first = last.item() if first is None else first
        optimizer.zero_grad()
        last.backward()
        optimizer.step()
        m.after_step()
        schedule.step()
    assert first is not None and last is not None and last.item() < 0.3 * first
    with torch.no_grad():
        e = m.eval().evaluate([batch])
    metric = KeypointAP(cfg.joint_set(), coco_ground_truth(batch, cfg.joint_set()), oks_nms=cfg.test.oks_nms)
    metric.update(batch.image_id_B, batch.subject_id_B, e.poses_img, e.area_B)
    found = metric.compute()
    assert found["AP"] >= 0.95, found


def other_values(paper: str, cfg: Any) -> dict[str, list[dict[str, Any]]]:
    """Each switch of model, loss and decode with settings that change it."""
    facts = FACTS[paper]
    hints = {}
    for key, (owner, name) in _owners(type(cfg)).items():
        hints[key] = typing.get_type_hints(owner)[name]
    found: dict[str, list[dict[str, Any]]] = {}
    for key, value in leaves(to_dict(cfg)):
        if key.split(".")[0] not in ("model", "loss", "decode") or key in facts.skip:
            continue
        if key in facts.alternatives:
            found[key] = facts.alternatives[key]
        elif typing.get_origin(hints[key]) is typing.Literal:
            found[key] = [{key: v} for v in typing.get_args(hints[key]) if v != value]
        elif isinstance(value, bool):
            found[key] = [{key: not value}]
        elif isinstance(value, int):
            found[key] = [{key: value + 2}]
        elif isinstance(value, float):
            found[key] = [{key: value * 1.5 + 0.05}]
        else:
            pytest.fail(f"{key}={value!r}: name other values for it in FACTS")
    return found


def _owners(cls: type, prefix: str = "") -> dict[str, tuple[type, str]]:
    found: dict[str, tuple[type, str]] = {}
    hints = typing.get_type_hints(cls)
    for f in dataclasses.fields(cls):
        found[f"{prefix}{f.name}"] = (cls, f.name)
        if dataclasses.is_dataclass(hints[f.name]):
            found |= _owners(hints[f.name], f"{prefix}{f.name}.")
    return found


def signature(cfg: Any) -> list[float]:
    """Parameters, losses and decoded people of a freshly initialised network: what a switch must change."""
    m = build(cfg)
    batch = batch_for(cfg, 2)
    m.train()
    found = train_losses(m, batch)
    total = m.combine(found)
    with torch.no_grad():
        people = tensors(m.eval().evaluate([batch]))
    numbers = [
        float(sum(p.numel() for p in m.parameters())),
        float(total.detach()),
        *(float(v.detach()) for v in found.values()),
    ]
    return numbers + [float(v) for t in people for v in t.flatten()]


@every_paper
def test_every_switch_changes_the_graph_or_the_decode(paper, monkeypatch):
    monkeypatch.setattr(PoseModule, "progress", property(lambda self: 0.01))  # where schedules of a training differ
    cfg = config(paper)
    start = signature(cfg)
    assert signature(cfg) == start
    idle = []
    for key, alternatives in other_values(paper, cfg).items():
        for settings in alternatives:
            if signature(config(paper, **settings)) == start:
                idle.append((key, settings))
    assert not idle


@every_paper
def test_every_setting_is_documented(paper):
    """`repose show` prints unit, text and source of a paper's own settings."""
    schema = papers.get(paper).schema
    known = docs(schema)
    own = [key for key, _ in leaves(to_dict(config(paper))) if key.split(".")[0] in ("model", "loss", "decode")]
    silent = [key for key in own if not known[key].text]
    assert not silent


@every_paper
def test_bfloat16_trains(paper):
    """Autocast as on a GPU: the losses stay float32 and finite."""
    cfg = config(paper)
    m = build(cfg)
    batch = batch_for(cfg, 2)
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        targets = m.encode(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = m.losses(m.forward_train(m.normalise(batch.image_B3HW), batch, targets), targets)
        total = m.combine(found)
    assert all(v.dtype == torch.float32 for v in found.values())
    total.backward()
    assert all(torch.isfinite(p.grad).all() for p in m.parameters() if p.grad is not None)


@every_paper
def test_inputs_are_left_alone(paper):
    """A batch is frozen data: training and testing on it change none of its tensors."""
    cfg = config(paper)
    m = build(cfg)
    batch = batch_for(cfg, 2)
    kept = replace(batch, image_B3HW=batch.image_B3HW.clone())
    joints = batch.people.joint_NK3.clone()
    train_losses(m, batch)
    with torch.no_grad():
        m.eval().evaluate([batch])
    assert torch.equal(kept.image_B3HW, batch.image_B3HW) and torch.equal(joints, batch.people.joint_NK3)
