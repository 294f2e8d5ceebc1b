"""`repose bench latency`: time of one input through a network, in torch and in exported files; and what it costs.

DRP-Net's Table 4 and Fig. 5 (specification 6): batch 1, 20 runs to warm up and 200 timed, median and 90 %. The network
alone, without the mirrored view; decoding is timed beside it. Random weights take the same time as trained ones where
the network always does the same work.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repose.commands.bench_decode import some_people
from repose.commands.bench_inference import exact_float32, synchronise
from repose.config import Loaded, parse_arguments, settings
from repose.errors import UserError

if TYPE_CHECKING:
    import torch

    from repose.engine.graph import Graph
    from repose.engine.module import PoseModule
    from repose.field.model import Opened
    from repose.types import Batch

RUNTIMES = ("torch", "onnx", "onnx-int8")
WARM, RUNS = 20, 200
"""Runs before the clock, and timed ones | DRP-Net spec. 6."""
WATTS = 12.5
"""[W] taken where energy cannot be measured: what Table 4's own rows imply (11.6 to 12.6) | DRP-Net spec. 6."""
FRAME = (480, 640)
"""[pixels] height and width of the pictures that a detector is timed on."""
INTERVAL = 5
"""[frames] the detector of a pipeline looks at every n-th frame | DRP-Net spec. 5."""
_P90 = 0.9
_CALIBRATION = 4
"""Inputs that int8 is calibrated with here: their values do not change the time."""
_RAPL = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Times:
    """Seconds of each run: on the clock, and of the processor (of all threads of this process)."""

    wall: list[float]
    cpu: list[float]


@dataclass(frozen=True)
class Options:
    """What `repose bench latency` takes beside the experiment's settings."""

    runs: int = RUNS
    """[runs] timed"""
    warm: int = WARM
    """[runs] before them"""
    runtimes: tuple[str, ...] = RUNTIMES
    """torch, onnx, onnx-int8"""
    detector: str | None = None
    """a detector of torchvision (random weights), or the .onnx file of an RTMDet: timed on pictures of 640x480"""

    def check(self) -> None:
        """Refuse what means nothing.

        Raises:
            UserError: names the first.
        """
        if self.runs < 1 or self.warm < 0:
            raise UserError(f"bench latency: runs={self.runs} warm={self.warm}: give runs from 1 on, warm from 0 on")
        for name in self.runtimes:
            if name not in RUNTIMES:
                raise UserError(f"bench latency: runtimes: {name!r} is none of {', '.join(RUNTIMES)}")


def latency_options(words: Sequence[str]) -> tuple[Options, list[str]]:
    """What is measured, and the other words.

    Raises:
        UserError: a value that means nothing.
    """
    mine = {f.name for f in dataclasses.fields(Options)}
    own = [w for w in words if w.partition("=")[0] in mine]
    listed = [f"runtimes=[{w.partition('=')[2].strip('[]')}]" if w.startswith("runtimes=") else w for w in own]
    layer, _ = parse_arguments(listed)
    options = settings(Options, layer)
    options.check()
    return options, [w for w in words if w not in own]


def bench_latency(loaded: Loaded, options: Options) -> dict[str, Any]:
    """Time a network at batch 1.

    Args:
        loaded: an experiment; its `checkpoint`'s weights, else random ones.
        options: what is measured.

    Returns:
        `experiment`, `scale`, `input_size`, `params`, `hardware`, `processor`, `weights`, `warm`, `runs`, `detector`
        (None without one), and `rows`: `runtime`, `device`, `threads`, `precision`, `median_ms`, `best_ms`,
        `cpu_ms` (processor time of a run, median: what a busy machine's clock hides), `p90_ms`, `fps`
        (1000 / median), `with_post_ms` (with normalisation, decoding and the way to the photograph), `file_mb`,
        `energy_mj` and `energy_measured` (CPU rows).

    Raises:
        UserError: the checkpoint does not fit, or packages of a runtime are missing.
    """
    import torch

    from repose.engine.provenance import hardware, processor

    opened = _opened(loaded)
    cfg = opened.loaded.cfg
    before = torch.get_num_threads()
    rows: list[dict[str, Any]] = []
    detector: list[dict[str, Any]] = []
    with exact_float32(), tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        files = _files(opened, options.runtimes, Path(folder))
        try:
            for threads in dict.fromkeys((1, _cores())):
                torch.set_num_threads(threads)
                for runtime in options.runtimes:
                    rows.append(_on_cpu(opened, runtime, files, threads, options))
                if options.detector:
                    detector.append(_detector(options, threads, "cpu"))
        finally:
            torch.set_num_threads(before)
        if torch.cuda.is_available():
            if "torch" in options.runtimes:
                rows += [_torch_row(opened.module, "cuda", p, None, options) for p in ("32", "16")]
            if options.detector:
                detector.append(_detector(options, None, "cuda"))
    return {
        "experiment": cfg.name,
        "scale": cfg.scale,
        "input_size": list(cfg.data.input_size),
        "params": sum(p.numel() for p in opened.module.net.parameters()),
        "hardware": hardware(),
        "processor": processor(),
        "weights": "random" if cfg.checkpoint is None else str(cfg.checkpoint),
        "warm": options.warm,
        "runs": options.runs,
        "rows": rows,
        "detector": detector or None,
        "interval": INTERVAL,
    }


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def _opened(loaded: Loaded) -> Opened:
    """The network without mirrored view, with the checkpoint's weights or random ones."""
    from repose.engine import checkpoint as ckpt
    from repose.engine.setup import build_module
    from repose.field.model import Opened, without_start

    cfg = without_start(loaded.cfg)
    scales = dataclasses.replace(cfg.data, test_scales=(1.0,))
    cfg = dataclasses.replace(cfg, test=dataclasses.replace(cfg.test, flip=False), data=scales)
    loaded = dataclasses.replace(loaded, cfg=cfg)
    module = build_module(loaded)
    path = Path("random")
    if cfg.checkpoint:
        path = ckpt.find(cfg.checkpoint)
        ckpt.load_weights(module, ckpt.load_checkpoint(path), path)
    return Opened(path, loaded, module.eval())


def _files(opened: Opened, runtimes: Sequence[str], folder: Path) -> dict[str, Path]:
    """The ONNX files of the runtimes that want one."""
    if not {"onnx", "onnx-int8"} & set(runtimes):
        return {}
    from repose.engine.checkpoint import describe
    from repose.field import export

    export.require_packages()
    module = opened.module
    found = {"onnx": folder / "plain.onnx"}
    export.write_onnx(module, found["onnx"], describe(opened.loaded.cfg))
    if "onnx-int8" in runtimes:
        found["onnx-int8"] = folder / "int8.onnx"
        batches = [_input(module, seed) for seed in range(_CALIBRATION)]
        export.quantise(module, found["onnx"], found["onnx-int8"], batches)
    return found


def _input(module: PoseModule, seed: int = 0) -> Batch:
    """One image of noise with a person."""
    import torch

    plain = some_people(1, module.skeleton, module.cfg.data.input_size, seed)
    draws = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, plain.image_B3HW.shape, generator=draws, dtype=torch.uint8)
    return dataclasses.replace(plain, image_B3HW=image)


# --- rows ----------------------------------------------------------------------------------------------------------


def _on_cpu(opened: Opened, runtime: str, files: dict[str, Path], threads: int, options: Options) -> dict[str, Any]:
    if runtime == "torch":
        return _torch_row(opened.module, "cpu", "32", threads, options)
    from repose.field.export import graph_inputs, open_exported
    from repose.field.onnx_session import open_session

    exported = open_exported(files[runtime], threads=threads).module
    module = opened.module
    session = open_session(files[runtime], "cpu", threads)
    given = {k: v.contiguous().numpy() for k, v in graph_inputs(module, module.graph(), _input(module)).items()}
    times, energy = _timed(lambda: session.run(given), options, None)
    size = files[runtime].stat().st_size / 1e6
    return {
        **_row(runtime, "cpu", threads, "int8" if runtime == "onnx-int8" else "32", times),
        "with_post_ms": _with_post(exported, None, options),
        "file_mb": round(size, 2),
        **_energy(times, energy),
    }


def _torch_row(
    module: PoseModule, device: str, precision: str, threads: int | None, options: Options
) -> dict[str, Any]:
    import torch

    where = torch.device(device)
    moved = module.to(where)
    graph: Graph = moved.graph()
    batch = moved.transfer_batch_to_device(_input(module), where, 0)
    from repose.field.export import graph_inputs

    given = list(graph_inputs(moved, graph, batch).values())
    cast = torch.autocast(device, dtype=torch.float16) if precision == "16" else nullcontext()
    with cast:
        times, energy = _timed(lambda: graph(*given), options, where)
        post = _with_post(moved, where, options)
    module.to("cpu")
    row = {**_row("torch", device, threads, precision, times), "with_post_ms": post, "file_mb": None}
    return {**row, **_energy(times, energy)} if device == "cpu" else row


def _row(runtime: str, device: str, threads: int | None, precision: str, times: Times) -> dict[str, Any]:
    seconds = times.wall
    median = 1000 * statistics.median(seconds)
    return {
        "runtime": runtime,
        "device": device,
        "threads": threads,
        "precision": precision,
        "median_ms": round(median, 3),
        "best_ms": round(1000 * min(seconds), 3),
        "cpu_ms": round(1000 * statistics.median(times.cpu), 3),
        "p90_ms": round(1000 * sorted(seconds)[min(int(_P90 * len(seconds)), len(seconds) - 1)], 3),
        "fps": round(1000 / median, 4),
    }


def _with_post(module: PoseModule, device: torch.device | None, options: Options) -> float:
    """Median ms from the crop's bytes to joints in the photograph."""
    import torch

    from repose.commands.bench_inference import one_image

    where = device or torch.device("cpu")
    batch = [_input(module)]
    times, _ = _timed(lambda: one_image(module, batch, where), options, device)
    return round(1000 * statistics.median(times.wall), 3)


def _timed(call: Callable[[], Any], options: Options, device: torch.device | None) -> tuple[Times, float | None]:
    """Times of each run, and joules of all of them where the machine counts them."""
    for _ in range(options.warm):
        call()
    times = Times([], [])
    with _joules() as spent:
        for _ in range(options.runs):
            if device is not None:
                synchronise(device)
            begin, own = time.perf_counter(), time.process_time()
            call()
            if device is not None:
                synchronise(device)
            times.wall.append(time.perf_counter() - begin)
            times.cpu.append(time.process_time() - own)
    return times, spent[0] if spent else None


# --- energy --------------------------------------------------------------------------------------------------------


@contextmanager
def _joules() -> Iterator[list[float]]:
    """Joules that the processor packages took, by RAPL; the list stays empty where it cannot be read."""
    first, found = _counters(), list[float]()
    yield found
    last = _counters()
    if first and len(first) == len(last):
        found.append(sum((b - a) % most for (a, most), (b, _) in zip(first, last, strict=True)) / 1e6)


def _counters() -> list[tuple[int, int]]:
    """Microjoules of each package and where its counter wraps; [] where they cannot be read (often root's alone)."""
    try:
        return [
            (int((zone / "energy_uj").read_text()), int((zone / "max_energy_range_uj").read_text()) + 1)
            for zone in sorted(_RAPL.glob("*-rapl:[0-9]"))
            if (zone / "name").read_text().startswith("package")  # psys counts them once more
        ]
    except (OSError, ValueError):
        return []


def _energy(times: Times, joules: float | None) -> dict[str, Any]:
    """Millijoules per run: measured (whole package, idle power too), else `WATTS` times the median."""
    measured = joules is not None and joules > 0
    mj = 1000 * joules / len(times.wall) if measured and joules else 1000 * WATTS * statistics.median(times.wall)
    return {"energy_mj": round(mj, 2), "energy_measured": bool(measured)}


# --- detector ------------------------------------------------------------------------------------------------------


def _detector(options: Options, threads: int | None, device: str) -> dict[str, Any]:
    """Time a detector on pictures of noise."""
    import numpy as np
    import torch

    from repose.field.detectors import RTMDet, build_torchvision
    from repose.field.onnx_session import open_session
    from repose.field.options import Detect

    name = str(options.detector)
    picture = np.random.default_rng(0).integers(0, 256, (*FRAME, 3), dtype=np.uint8)
    where = torch.device(device)
    if name.endswith(".onnx"):
        kind = "cuda" if device == "cuda" else "cpu"
        detector = RTMDet(open_session(Path(name), kind, threads), Detect(model=name))

        def call() -> Any:
            return detector(picture, "noise", None)
    else:
        net = build_torchvision(name).eval().to(where)

        def call() -> Any:
            image = torch.from_numpy(picture).permute(2, 0, 1).to(where).float() / 255
            return net([image])

    fewer = dataclasses.replace(options, runs=max(options.runs // 4, 1), warm=max(options.warm // 4, 1))
    times, _ = _timed(call, fewer, where if device == "cuda" else None)
    weights = "the file's" if name.endswith(".onnx") else "random"
    return {**_row(Path(name).name, device, threads, "32", times), "weights": weights}


def pipeline_ms(detector_ms: float, pose_ms: float, people: int = 1, interval: int = INTERVAL) -> float:
    """Mean time per frame: the detector on every n-th, the pose network for each person (DRP-Net spec. 5)."""
    return detector_ms / interval + people * pose_ms


# --- printing ------------------------------------------------------------------------------------------------------


def render(measured: dict[str, Any]) -> str:
    """The measurement for people."""
    size = "x".join(map(str, measured["input_size"]))
    lines = [
        f"{measured['experiment']}, scale {measured['scale']}: batch 1 at {size}, {measured['params'] / 1e6:.2f} M "
        f"parameters, {measured['weights']} weights; median of {measured['runs']} after {measured['warm']} to warm up",
        f"{measured['hardware']}; CPU rows: {measured['processor']}",
        f"{'runtime':<11}{'device':<8}{'threads':>8}{'bits':>6}{'median ms':>11}{'best':>8}{'p90':>8}"
        f"{'CPU ms':>9}{'fps':>8}{'+ decode ms':>13}{'MB':>8}{'mJ':>10}",
    ]
    estimated = False
    for row in measured["rows"]:
        threads = "-" if row["threads"] is None else row["threads"]
        energy = "-"
        if "energy_mj" in row:
            estimated |= not row["energy_measured"]
            energy = f"{row['energy_mj']:.0f}{'' if row['energy_measured'] else '*'}"
        size_mb = "-" if row["file_mb"] is None else f"{row['file_mb']:.1f}"
        lines.append(
            f"{row['runtime']:<11}{row['device']:<8}{threads:>8}{row['precision']:>6}{row['median_ms']:>11.2f}"
            f"{row['best_ms']:>8.2f}{row['p90_ms']:>8.2f}{row['cpu_ms']:>9.2f}{row['fps']:>8.1f}{row['with_post_ms']:>13.2f}{size_mb:>8}"
            f"{energy:>10}"
        )
    for row in measured["detector"] or []:
        threads = "-" if row["threads"] is None else row["threads"]
        lines.append(
            f"detector {row['runtime']} ({row['weights']} weights, {FRAME[1]}x{FRAME[0]}), {row['device']}, "
            f"{threads} threads: {row['median_ms']:.1f} ms"
        )
    if estimated:
        lines.append(f"* estimated: {WATTS} W times the median; this machine's RAPL counters cannot be read")
    return "\n".join(lines)
