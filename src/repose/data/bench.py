"""`repose bench data`: samples/s of the data pipeline in one process, beside the bare work it cannot avoid."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from repose.config import Augment, Data, ExperimentBase
from repose.data.cache import open_cache
from repose.data.datamodule import PoseDataModule
from repose.data.dataset import Key, TrainSet
from repose.data.images import FLAGS

_BATCH = 32
_ROUNDS = 5
IMAGE_SIDE = 512
"""Input side of the image view's measurement."""


def bench_data(cfg: ExperimentBase, seconds: float = 1.0, samples: int = 512) -> dict[str, Any]:
    """Measure both views, with and without the decoded-image cache, one process and one OpenCV thread.

    The bare work is `cv2.imread` + `cv2.warpAffine` of the same samples with the same matrices (without cache), or the
    warp alone of cached photographs; pipeline and bare work take turns, and the median of 5 rounds counts.

    Args:
        cfg: an experiment; its data set, input size, augmentation and (person view) first stage are what is measured.
        seconds: about how long each round lasts.
        samples: how many different samples take turns.

    Returns:
        `data`, `threads`, and per view (`person`, `image`) and cache (`uncached`, `cached`): `samples_per_s`,
        `bare_per_s` (wall clock), `ratio` (how many times the bare work's CPU time the pipeline takes: other programs'
        load slows both rates, but hardly moves the ratio).
    """
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        person = replace(
            cfg.data, view="person", base="box", centre="box", augment_final=None, cache="off", masks="none"
        )
        image = replace(
            cfg.data,
            view="image",
            base="short",
            centre="image",
            input_size=(IMAGE_SIDE, IMAGE_SIDE),
            augment=_geometry_only(cfg.data.augment),
            augment_final=None,
            cache="off",
            masks="none",
        )
        result: dict[str, Any] = {"data": cfg.data.name, "threads": 1, "batch": _BATCH, "rounds": _ROUNDS}
        for view, data in (("person", person), ("image", image)):
            result[view] = {"input_size": list(data.input_size), **_bench_view(_plain(cfg, data), seconds, samples)}
        return result
    finally:
        cv2.setNumThreads(before)


def _plain(cfg: ExperimentBase, data: Data) -> ExperimentBase:
    # Without the paper's own rules: a top-down method refuses the image view, and no method is measured here.
    return ExperimentBase(name=cfg.name, seed=cfg.seed, skeleton=cfg.skeleton, data=data, train=cfg.train)


def _geometry_only(augment: Augment) -> Augment:
    return Augment(flip=augment.flip, scale=augment.scale, rotation=augment.rotation, shift=augment.shift)


def _bench_view(cfg: ExperimentBase, seconds: float, most: int) -> dict[str, Any]:
    module = PoseDataModule(cfg)
    module.prepare_data()
    module.setup("fit")
    samples = module.train_set
    assert samples is not None
    keys = _keys(samples, most)
    out = {"uncached": _measure(samples, keys, seconds, cached=False)}
    photographs = samples.photographs
    images = np.unique([samples.cut(key).image for key in keys])
    # A cache of its own, of the measured photographs: neither disk nor an existing cache is to change the result.
    with tempfile.TemporaryDirectory() as folder:
        data = replace(cfg.data, cache="on", cache_dir=folder)
        photographs.use(open_cache(data, module.root, photographs.annotations, images))
        out["cached"] = _measure(samples, keys, seconds, cached=True)
    return out


def _keys(samples: TrainSet, most: int) -> list[Key]:
    order = np.random.default_rng(0).permutation(len(samples))[:most]
    return [(0, index) for index in order.tolist()]


def _measure(samples: TrainSet, keys: list[Key], seconds: float, cached: bool) -> dict[str, float]:
    wh = samples.out_wh
    cuts = [samples.cut(key) for key in keys]
    work = [(str(samples.annotations.path(c.image)), c.image, c.crop.affine(wh).matrix_23) for c in cuts]
    cache = samples.photographs.cache

    def bare(first: int) -> None:
        for file, image, matrix_23 in work[first : first + _BATCH]:
            pixels = cache.read(image) if cached and cache is not None else cv2.imread(file, FLAGS)
            assert pixels is not None
            cv2.warpAffine(pixels, matrix_23, wh, flags=cv2.INTER_LINEAR)

    def pipeline(first: int) -> None:
        samples.__getitems__(keys[first : first + _BATCH])

    for step in (bare, pipeline):  # files into the disk cache, checksums tested, code paths warm
        for first in range(0, len(keys), _BATCH):
            step(first)
    rounds = [_turns(pipeline, bare, len(keys), seconds) for _ in range(_ROUNDS)]
    ours, theirs = (statistics.median(r[0][i] for r in rounds) for i in (0, 1))
    return {
        "samples_per_s": round(1 / ours, 1),
        "bare_per_s": round(1 / theirs, 1),
        "ratio": round(statistics.median(r[1][0] / r[1][1] for r in rounds), 3),
    }


def _turns(
    ours: Callable[[int], None], bare: Callable[[int], None], count: int, seconds: float
) -> tuple[list[float], list[float]]:
    # Wall and CPU seconds per sample of both; batch by batch in turns, so that another program's load meets both alike.
    wall, cpu = [0.0, 0.0], [0.0, 0.0]
    done = first = 0
    while done == 0 or sum(wall) < seconds:
        for which, step in enumerate((ours, bare)):
            start, start_cpu = time.perf_counter(), time.thread_time()
            step(first)
            wall[which] += time.perf_counter() - start
            cpu[which] += time.thread_time() - start_cpu
        done += min(_BATCH, count - first)
        first = first + _BATCH if first + _BATCH < count else 0
    return [w / done for w in wall], [c / done for c in cpu]


def render(measured: dict[str, Any]) -> str:
    """The measurement as a small table."""
    lines = [
        f"data {measured['data']}, one process, {measured['threads']} OpenCV thread, medians of {measured['rounds']}",
        f"{'view':<8}{'input':<10}{'cache':<10}{'samples/s':>10}{'bare/s':>10}{'times bare':>12}",
    ]
    for view in ("person", "image"):
        height, width = measured[view]["input_size"]
        for cache in ("uncached", "cached"):
            row = measured[view][cache]
            lines.append(
                f"{view:<8}{f'{height}x{width}':<10}{cache:<10}"
                f"{row['samples_per_s']:>10.0f}{row['bare_per_s']:>10.0f}{row['ratio']:>12.2f}"
            )
    return "\n".join(lines)
