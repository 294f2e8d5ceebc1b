"""`repose bench decode`: time from a network's maps to people, by how many people there are; without the network.

The maps are a perfect network's: the paper's own targets for drawn people (`PoseModule.oracle`).
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from repose.config import ExperimentBase, Loaded
from repose.errors import UserError

if TYPE_CHECKING:
    from repose.skeleton import Skeleton
    from repose.types import Batch

COUNTS = (1, 10, 30, 100)
"""[people per image] measured unless the command line says otherwise."""
_ROUNDS = 15
_WARM = 3


def bench_decode(loaded: Loaded, counts: tuple[int, ...] = COUNTS, rounds: int = _ROUNDS) -> dict[str, Any]:
    """Measure one image's decode on one CPU thread.

    Args:
        loaded: an experiment whose module has `oracle`.
        counts: people per image, increasing.
        rounds: measurements per count; the median counts.

    Returns:
        `experiment`, `input_size`, `threads`, `rounds`, `people`: a list of {people, found, decode_ms, wall_ms,
        network_ms}, and `growth`: decode time of the most people over that of the fewest. `decode_ms` and `network_ms`
        are CPU time of the one thread (other programs' load hardly moves it), `wall_ms` is the clock's. `network_ms`
        holds parts of the network that work on poses (`PoseModule.pose_networks`); they are not in the others.

    Raises:
        UserError: the method has no `oracle`, or works on one person's crop.
    """
    import torch

    cfg = loaded.cfg
    if cfg.data.view != "image":
        raise UserError(f"bench decode: {cfg.paper} works on crops of one person; name an experiment on whole images")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        module = loaded.paper.module()(cfg, cfg.joint_set()).eval()
        with torch.no_grad():
            measured = [_measure(module, cfg, people, rounds) for people in counts]
    finally:
        torch.set_num_threads(threads)
    return {
        "experiment": cfg.name,
        "input_size": list(cfg.data.input_size),
        "threads": 1,
        "rounds": rounds,
        "people": measured,
        "growth": round(measured[-1]["decode_ms"] / max(measured[0]["decode_ms"], 1e-9), 2),
    }


def _measure(module: Any, cfg: ExperimentBase, people: int, rounds: int) -> dict[str, Any]:
    maps = module.oracle(some_people(people, module.skeleton, cfg.data.input_size))
    found = module.people_of(maps)
    networks: dict[str, Callable[[], Any]] = module.pose_networks(maps)
    cpu, wall = _median_ms(lambda: module.people_of(maps), rounds)
    return {
        "people": people,
        "found": found[0].n,
        "decode_ms": cpu,
        "wall_ms": wall,
        "network_ms": {name: _median_ms(run, rounds)[0] for name, run in networks.items()},
    }


def _median_ms(run: Callable[[], Any], rounds: int) -> tuple[float, float]:
    """CPU and wall-clock milliseconds."""
    for _ in range(_WARM):
        run()
    cpu: list[float] = []
    wall: list[float] = []
    for _ in range(rounds):
        start, start_cpu = time.perf_counter(), time.thread_time()
        run()
        cpu.append(time.thread_time() - start_cpu)
        wall.append(time.perf_counter() - start)
    return round(1000 * statistics.median(cpu), 3), round(1000 * statistics.median(wall), 3)


def some_people(count: int, skeleton: Skeleton, input_hw: tuple[int, int], seed: int = 0) -> Batch:
    """A batch of one black image with people side by side, all joints labelled; the same for the same arguments.

    Args:
        count: people; they stand on a grid, so that their centres are apart, and reach into their neighbours.
        skeleton: their joints, drawn at random around each centre.
        input_hw: pixels.
        seed: of the draws.
    """
    import numpy as np
    import torch

    from repose.types import Batch, People

    rng = np.random.default_rng(seed)
    height, width = input_hw
    across = math.ceil(math.sqrt(count * width / height))
    down = math.ceil(count / across)
    cell_2 = np.array([width / across, height / down])
    place_N2 = np.stack([np.arange(count) % across, np.arange(count) // across], -1) + rng.uniform(0.4, 0.6, (count, 2))
    reach_2 = np.minimum(cell_2, np.array([width, height]) / 4)
    joint_NK2 = (place_N2 * cell_2)[:, None] + rng.normal(0, 0.25, (count, skeleton.k, 2)) * reach_2
    joint_NK2 = np.clip(joint_NK2, 1, np.array([width, height]) - 2)
    joint_NK3 = torch.tensor(np.concatenate([joint_NK2, np.full((count, skeleton.k, 1), 2.0)], -1), dtype=torch.float32)
    box_N4 = torch.cat([joint_NK3[..., :2].amin(1), joint_NK3[..., :2].amax(1)], -1)
    people = People(
        owner_N=torch.zeros(count, dtype=torch.int64),
        ann_id_N=torch.arange(1, count + 1),
        joint_NK3=joint_NK3,
        box_N4=box_N4,
        visible_fraction_N=torch.ones(count),
        box_img_N4=box_N4,
        area_N=(box_N4[:, 2:] - box_N4[:, :2]).prod(-1),
        labelled_N=torch.ones(count, dtype=torch.bool),
        given_NK=torch.ones(count, skeleton.k, dtype=torch.bool),
    )
    return Batch(
        image_B3HW=torch.zeros(1, 3, height, width, dtype=torch.uint8),
        valid_size_B2=torch.tensor([[width, height]]),
        to_image_B23=torch.tensor([[[1.0, 0, 0], [0, 1.0, 0]]], dtype=torch.float64),
        image_id_B=torch.ones(1, dtype=torch.int64),
        subject_id_B=torch.full((1,), -1),
        seed_B=torch.zeros(1, dtype=torch.int64),
        box_img_B4=torch.tensor([[0.0, 0.0, width, height]]),
        box_score_B=torch.ones(1),
        people=people,
    )


def render(measured: dict[str, Any]) -> str:
    """The measurement as a small table."""
    height, width = measured["input_size"]
    names = list(measured["people"][0]["network_ms"])
    lines = [
        f"decode of {measured['experiment']} at {height}x{width}, CPU time of one thread, medians of "
        f"{measured['rounds']}, maps of a perfect network",
        f"{'people':>8}{'found':>8}{'decode ms':>12}{'(clock ms)':>12}"
        + "".join(f"{f'{name} ms (network)':>20}" for name in names),
    ]
    for row in measured["people"]:
        network = "".join(f"{row['network_ms'][name]:>20.2f}" for name in names)
        lines.append(f"{row['people']:>8}{row['found']:>8}{row['decode_ms']:>12.2f}{row['wall_ms']:>12.2f}{network}")
    if len(measured["people"]) > 1:
        first, last = measured["people"][0]["people"], measured["people"][-1]["people"]
        lines.append(f"from {first} to {last} people: {measured['growth']} times the time")
    return "\n".join(lines)
