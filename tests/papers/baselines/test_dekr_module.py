"""DEKR as a whole: recipe, presets, refusals, the README's map."""

import re
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch
from drawn_batch import drawn_batch

from repose import papers
from repose.config import find_experiment, leaves, load, to_dict
from repose.engine.optim import Schedule, scaled_lr
from repose.errors import UserError
from repose.geometry import mirror
from repose.papers.baselines.dekr.module import DEKRModule
from repose.skeleton import COCO17

README = Path(import_module("repose.papers.baselines.dekr").__file__ or "").parent / "README.md"
TEXT = README.read_text(encoding="utf-8")
MAP = TEXT.split("## Where the method is in the code")[1].split("\n## ")[0]
CHOICES = TEXT.split("## What is open")[1].split("\n## ")[0]
ENTRIES = [row.split("|")[2].strip().strip("`") for row in MAP.splitlines() if row.startswith("| ") and "`" in row]


def config(*settings: str, experiment: str = "baselines/dekr"):
    return load(experiment, list(settings), find_paper=papers.get).cfg


def test_recipe():
    cfg = config()
    schedule = Schedule(cfg.optim, 14_000)
    base = scaled_lr(cfg.optim, cfg.train.batch)
    rates = [base * schedule(step) for step in (0, 8_999, 9_001, 11_999, 12_001)]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4, 1e-5])  # 140 epochs of 100: divided by 10 at 90 and 120
    assert (cfg.optim.name, cfg.optim.weight_decay, cfg.optim.warmup_steps, cfg.optim.ema.decay) == ("adam", 0, 0, None)
    assert cfg.train.keep == "last"
    augment = cfg.data.augment
    assert augment.scale.range == (0.75, 1.5) and augment.rotation.range == (-30, 30)
    assert augment.shift.range == (-0.2, 0.2) and augment.shift_unit == "base" and augment.flip == 0.5


def test_crowdpose_preset():
    cfg = config(experiment="baselines/dekr-crowdpose")
    assert cfg.skeleton.name == "crowdpose14"
    assert (cfg.decode.decrease, cfg.decode.same_joints, cfg.loss.min_area) == (0.8, 7, 0)
    assert cfg.loss.legacy_centre_sigma and cfg.loss.mask == "photograph"
    schedule = Schedule(cfg.optim, 30_000)
    assert [schedule(step) for step in (19_999, 20_001, 26_001)] == pytest.approx([1, 0.1, 0.01])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["data.view=person"], "data.view=image"),
        (["test.oks_nms=0.9"], "test.oks_nms=null"),
        (["data.test_multiple=48"], "multiples of 32"),
        (["data.input_size=[500, 512]"], "multiples of 32"),
        (["loss.radius=0"], "radius at least 1"),
    ],
)
def test_refusals(settings, message):
    with pytest.raises(UserError, match=message):
        config(*settings)


@torch.no_grad()
def test_mirrored_image_gives_mirrored_people():
    """With the flip test the network sees the same two views of an image and of its mirror."""
    torch.manual_seed(0)
    m = DEKRModule(config("scale=smoke"), COCO17)
    last = m.net.heat[-1]
    torch.nn.init.normal_(last.weight, std=0.3)  # type: ignore[union-attr]
    torch.nn.init.normal_(m.net.offset.weight, std=2.0)
    batch = drawn_batch(COCO17, 2, (96, 96), people_per_image=2)
    for module in m.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0  # one pass sets the statistics, so that maps vary over the image
    m.train()
    m.net(m.normalise(batch.image_B3HW))
    m.eval()
    wide = batch.image_B3HW.clone()
    wide[..., :3], wide[..., -3:] = wide[..., 3:4], wide[..., -4:-3]  # what `mirror` pushes out and repeats
    plain = m.evaluate([replace(batch, image_B3HW=wide)]).poses
    turned = m.evaluate([replace(batch, image_B3HW=mirror(wide, 4))]).poses
    swap = list(COCO17.flip_index)
    for a, b in zip(plain, turned, strict=True):
        assert a.n == b.n > 1 and a.joint_NK3[..., :2].std() > 5
        back = torch.stack([96 - 4 - b.joint_NK3[..., 0], b.joint_NK3[..., 1]], -1)[:, swap]
        distance = (a.joint_NK3[:, None, :, :2] - back[None]).abs().amax((-1, -2))
        assert distance.min(1).values.max() < 1e-2
        assert a.extra is None


@pytest.mark.parametrize("name", ENTRIES)
def test_map_entry_resolves(name):
    full = name if name.startswith("repose.") else f"repose.papers.baselines.dekr.{name}"
    parts = full.split(".")
    for cut in range(len(parts) - 1, 1, -1):
        try:
            found = import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return
    pytest.fail(full)


def test_switches_and_presets_exist():
    known = {key for key, _ in leaves(to_dict(papers.get("dekr").schema()))}
    rows = [row.split("|") for row in CHOICES.splitlines() if row.startswith("| ")]
    named = [name for row in rows for name in re.findall(r"`([\w.]+)`", row[3])]
    assert len(named) > 8 and [name for name in named if name not in known] == []
    for name in set(re.findall(r"baselines/[\w-]+", TEXT)):
        assert find_experiment(name).is_file(), name
