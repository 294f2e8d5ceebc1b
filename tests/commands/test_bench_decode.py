"""`repose bench decode`: the maps are a perfect network's, the people come back, mistakes are one line."""

import json

import pytest
import torch

from repose import papers
from repose.__main__ import main
from repose.commands.bench_decode import bench_decode, some_people
from repose.config import load
from repose.papers.pinet.decode import averaged
from repose.papers.pinet.module import PINetModule
from repose.skeleton import COCO17, CROWDPOSE14


def module(*words: str) -> PINetModule:
    cfg = load("pinet/ochuman", ["scale=smoke", "data.input_size=[256,256]", *words], find_paper=papers.get).cfg
    return PINetModule(cfg, cfg.joint_set()).eval()


@pytest.mark.parametrize("skeleton", [COCO17, CROWDPOSE14])
def test_some_people_fit_the_image_and_repeat(skeleton) -> None:
    batch = some_people(7, skeleton, (128, 192))
    joint = batch.people.joint_NK3
    assert joint.shape == (7, skeleton.k, 3)
    assert joint[..., 0].min() >= 1 and joint[..., 0].max() <= 190 and joint[..., 1].max() <= 126
    assert torch.equal(joint, some_people(7, skeleton, (128, 192)).people.joint_NK3)


def test_a_perfect_network_gives_the_people_back() -> None:
    one = module("data=synthetic-pairs")
    batch = some_people(4, one.skeleton, (256, 256))
    (found,) = one.people_of(one.oracle(batch))
    assert found.n == 4
    apart = torch.cdist(found.joint_NK3[..., :2].flatten(1), batch.people.joint_NK3[..., :2].flatten(1))
    nearest, who = apart.min(1)
    assert sorted(who.tolist()) == [0, 1, 2, 3]
    assert nearest.max() < 1e-2  # pixels, over all joints


@pytest.mark.parametrize("partition", ["part_large", "part_small"])
def test_the_mirrored_oracle_is_the_mirror_image(partition: str) -> None:
    """Turned back, its heatmaps are the plain view's: left and right joints and parts trade places."""
    one = module(f"model.partition={partition}")
    (scale,) = one.oracle(some_people(3, one.skeleton, (256, 256)))
    heat, part = averaged(scale, one.swap)
    assert (heat - scale.plain.heat_BKHW).abs().max() < 1e-4
    assert (part - scale.plain.part_BPHW).abs().max() < 1e-4


def test_the_measurement() -> None:
    loaded = load("pinet/ochuman", ["scale=smoke"], find_paper=papers.get)
    threads = torch.get_num_threads()
    measured = bench_decode(loaded, counts=(1, 4), rounds=2)
    assert torch.get_num_threads() == threads
    one, four = measured["people"]
    assert (one["people"], one["found"], four["people"]) == (1, 1, 4)
    assert one["decode_ms"] > 0 and one["wall_ms"] > 0 and set(one["network_ms"]) == {"PR"}
    assert measured["growth"] == round(four["decode_ms"] / one["decode_ms"], 2)
    plain = load("pinet/ochuman", ["scale=smoke", "model.refine.enabled=false"], find_paper=papers.get)
    assert bench_decode(plain, counts=(1,), rounds=1)["people"][0]["network_ms"] == {}


def test_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "decode", "pinet/ochuman", "scale=smoke", "people=2", "--json"]) == 0
    assert [row["people"] for row in json.loads(capsys.readouterr().out)["people"]] == [2]
    assert main(["bench", "decode", "drpnet/m"]) == 2
    assert "drpnet works on crops of one person" in capsys.readouterr().err
    assert main(["bench", "decode", "pinet/ochuman", "people=some"]) == 2
    assert "give one whole number above 0, people=30" in capsys.readouterr().err
    assert main(["bench", "decode"]) == 2
    assert "name an experiment first" in capsys.readouterr().err
