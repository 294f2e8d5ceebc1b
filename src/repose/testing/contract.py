"""What every method must do, over COCO-17 and a custom skeleton of five joints (ARCHITECTURE, section 8).

`CHECKS` are functions of a method's `Facts` that assert; `tests/contract` runs them over this package's papers, and a
method of one's own runs them in its own tests:

    @pytest.mark.parametrize("check", CHECKS)
    def test_contract(check):
        CHECKS[check](FACTS)
"""

from __future__ import annotations

import dataclasses
import io
import typing
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final
from unittest.mock import patch

import torch

from repose import papers
from repose.config import Layer, docs, leaves, load, to_dict
from repose.engine.module import Evaluated, PoseModule
from repose.metrics.cost import count
from repose.metrics.keypoint_ap import KeypointAP
from repose.testing.drawn import FIVE, coco_ground_truth, drawn_batch, one_image, with_masks, without_people
from repose.types import Batch

SKELETONS: Final = ("coco17", "five")
ODD_SIZES: Final = ((100, 76), (97, 75))
"""[pixels] heights and widths that no stage halves exactly."""
_MACS = 0.005
"""[share] by which counted MACs may differ from the specification's."""


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
    alternatives: dict[str, list[dict[str, Any]]] = field(default_factory=dict[str, list[dict[str, Any]]])
    skip: dict[str, str] = field(default_factory=dict[str, str])
    overfit: dict[str, Any] = field(default_factory=dict[str, Any])
    steps: int = 80
    lr: float = 3e-3


def config(facts: Facts, skeleton: str = "coco17", settings: dict[str, Any] | None = None) -> Any:
    """A method's experiment at smoke, with further settings by dotted key."""
    values: dict[str, Any] = {}
    for key, value in (settings or {}).items():
        node = values
        *parents, last = key.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    row = [Layer("test", values)]
    if skeleton == "five":
        row.append(Layer("test", {"skeleton": FIVE}))
    return load(facts.experiment, ["scale=smoke"], find_paper=papers.get, row=row).cfg


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
    """Joints and scores of everybody."""
    return [t for p in e.poses for t in (p.joint_NK3, p.score_N)]


def sizes_are_the_specifications(facts: Facts) -> None:
    """Parameters are the specification's to the last one, MACs within half a percent, and nothing goes uncounted."""
    for experiment, (params, macs) in facts.sizes.items():
        cfg = load(experiment, find_paper=papers.get).cfg
        net = build(cfg).net.eval()
        found = sum(p.numel() for p in net.parameters())
        assert found == params, (experiment, found, params)
        cost = count(net, torch.zeros(1, 3, *cfg.data.input_size))
        assert cost.params == params
        assert abs(cost.macs - macs) <= _MACS * macs, (experiment, cost.macs, macs)
        assert not cost.unsupported, (experiment, cost.unsupported)


def every_parameter_gets_a_finite_gradient(facts: Facts, skeleton: str) -> None:
    """No parameter is dead or breaks; each loss is a finite float32 number with a weight."""
    cfg = config(facts, skeleton)
    m = build(cfg)
    found = train_losses(m, batch_for(cfg))
    assert found and all(v.ndim == 0 and torch.isfinite(v) and v.dtype == torch.float32 for v in found.values())
    assert found.keys() <= m.weights.keys()
    m.combine(found).backward()
    for name, p in m.net.named_parameters():
        assert p.grad is not None, f"{name} gets no gradient"
        assert torch.isfinite(p.grad).all(), name
    dead = [name for name, p in m.net.named_parameters() if not p.grad.any()]  # type: ignore[union-attr]
    assert not dead, dead


@torch.no_grad()
def a_batch_equals_its_images_one_by_one(facts: Facts, skeleton: str) -> None:
    """In eval mode nobody's pose depends on the batch."""
    cfg = config(facts, skeleton)
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


def checkpoint_round_trip_is_bit_equal(facts: Facts, skeleton: str) -> None:
    """Weights that were saved and loaded give the same people to the last bit."""
    cfg = config(facts, skeleton)
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


def odd_sizes(facts: Facts, hw: tuple[int, int]) -> None:
    """Sizes that no stage halves exactly; a width that is no multiple of the stride has no mirrored view."""
    cfg = config(facts, settings={"data.input_size": list(hw), "test.flip": hw[1] % 4 == 0})
    m = build(cfg)
    batch = batch_for(cfg)
    m.combine(train_losses(m, batch)).backward()
    with torch.no_grad():
        for t in tensors(m.eval().evaluate([batch])):
            assert torch.isfinite(t).all()


def nobody_trains_and_tests(facts: Facts, skeleton: str) -> None:
    """Images without people have finite losses and gradients."""
    cfg = config(facts, skeleton)
    m = build(cfg)
    batch = without_people(batch_for(cfg), cfg.joint_set().k)
    total = m.combine(train_losses(m, batch))
    assert torch.isfinite(total)
    total.backward()
    assert all(torch.isfinite(p.grad).all() for p in m.parameters() if p.grad is not None)
    with torch.no_grad():
        e = m.eval().evaluate([batch])
    assert len(e.poses) == batch.b and all(torch.isfinite(t).all() for t in tensors(e))


def overfits_a_batch_to_ap_95(facts: Facts, skeleton: str) -> None:
    """One batch learnt by heart, decoded, scored by COCO's evaluation: nothing between target and metric is off."""
    cfg = config(facts, skeleton, {"test.flip": False} | facts.overfit)
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
    assert first is not None and last is not None and last.item() < 0.3 * first, (first, last)
    with torch.no_grad():
        e = m.eval().evaluate([batch])
    metric = KeypointAP(cfg.joint_set(), coco_ground_truth(batch, cfg.joint_set()), oks_nms=cfg.test.oks_nms)
    metric.update(batch.image_id_B, batch.subject_id_B, e.poses_img, e.area_B)
    found = metric.compute()
    assert found["AP"] >= 0.95, found


def other_values(facts: Facts, cfg: Any) -> dict[str, list[dict[str, Any]]]:
    """Each switch of model, loss and decode with settings that change it."""
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
            raise AssertionError(f"{key}={value!r}: name other values for it in the facts' `alternatives`")
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


def every_switch_changes_the_graph_or_the_decode(facts: Facts) -> None:
    """A switch that changes neither a freshly initialised network, nor its losses, nor its people, is idle."""
    with patch.object(PoseModule, "progress", property(lambda self: 0.01)):  # where schedules of a training differ
        cfg = config(facts)
        start = signature(cfg)
        assert signature(cfg) == start
        idle = [
            (key, settings)
            for key, alternatives in other_values(facts, cfg).items()
            for settings in alternatives
            if signature(config(facts, settings=settings)) == start
        ]
    assert not idle, idle


def every_setting_is_documented(facts: Facts) -> None:
    """`repose show` prints unit, text and source of a paper's own settings."""
    schema = papers.get(config(facts).paper).schema
    known = docs(schema)
    own = [key for key, _ in leaves(to_dict(config(facts))) if key.split(".")[0] in ("model", "loss", "decode")]
    silent = [key for key in own if not known[key].text]
    assert not silent, silent


def bfloat16_trains(facts: Facts) -> None:
    """Autocast as on a GPU: the losses stay float32 and finite."""
    cfg = config(facts)
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


def inputs_are_left_alone(facts: Facts) -> None:
    """A batch is frozen data: training and testing on it change none of its tensors."""
    cfg = config(facts)
    m = build(cfg)
    batch = batch_for(cfg, 2)
    kept = replace(batch, image_B3HW=batch.image_B3HW.clone())
    joints = batch.people.joint_NK3.clone()
    train_losses(m, batch)
    with torch.no_grad():
        m.eval().evaluate([batch])
    assert torch.equal(kept.image_B3HW, batch.image_B3HW) and torch.equal(joints, batch.people.joint_NK3)


def _checks() -> dict[str, Callable[[Facts], None]]:
    found: dict[str, Callable[[Facts], None]] = {}
    for check in (
        every_parameter_gets_a_finite_gradient,
        a_batch_equals_its_images_one_by_one,
        checkpoint_round_trip_is_bit_equal,
        nobody_trains_and_tests,
        overfits_a_batch_to_ap_95,
    ):
        found |= {f"{check.__name__}-{skeleton}": partial(check, skeleton=skeleton) for skeleton in SKELETONS}
    found |= {f"odd_sizes-{h}x{w}": partial(odd_sizes, hw=(h, w)) for h, w in ODD_SIZES}
    for check in (
        sizes_are_the_specifications,
        every_switch_changes_the_graph_or_the_decode,
        every_setting_is_documented,
        bfloat16_trains,
        inputs_are_left_alone,
    ):
        found[check.__name__] = check
    return found


CHECKS: Final = _checks()
"""Every check by name, for one parametrised test."""
