"""`repose bench inference`: images per second, one at a time, with and without post-processing.

CGANet's Table 3 and Fig. 1 (specification: 50 images to warm up, the clock around each image, the average of all).
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from repose.config import ExperimentBase, Loaded
from repose.errors import UserError

if TYPE_CHECKING:
    import torch

    from repose.engine.module import PoseModule
    from repose.types import Batch

WARM = {"cuda": 50, "mps": 50, "cpu": 3}
"""[images] before the clock starts, by device."""
MOST = {"cuda": 5000, "mps": 1000, "cpu": 30}
"""[images] measured at most."""
_SPREAD = (0.1, 0.9)


def bench_inference(
    loaded: Loaded, images: int | None = None, warm: int | None = None, fixed: bool = False
) -> dict[str, Any]:
    """Time a method on the evaluated images, at batch 1 and in float32.

    The network's time is that of normalisation, mirrored view (`test.flip`) and `PoseModule.infer`; post-processing is
    `decode` and the way back to the photograph. Reading, decoding and warping of images are not counted, nor NMS over
    people of different crops. Weights are those of `checkpoint`, else random: for methods that always look at the same
    number of people they cost the same.

    Args:
        loaded: an experiment.
        images: how many are measured; None = `MOST` of the device, at most as many as there are.
        warm: how many are run before.
        fixed: noise of `data.input_size` (a video's frames) instead of the evaluated images of their own sizes.

    Returns:
        `experiment`, `data`, `device`, `hardware`, `precision`, `threads`, `weights`, `flip`, `fixed`, `input_sizes`
        (smallest and largest), `warm`, `images`, `peak_memory_mb` (see `memory`), and `with_post`, `without_post`: each
        `images_per_s` (images over the sum of their times), `median_ms`, `p10_ms`, `p90_ms`.

    Raises:
        UserError: the data are not here, or the checkpoint does not fit.
    """
    import torch

    from repose.engine.provenance import hardware
    from repose.engine.setup import use_threads

    cfg = loaded.cfg
    use_threads(cfg)
    device = device_of(cfg)
    warm = WARM[device.type] if warm is None else warm
    images = MOST[device.type] if images is None else images
    with exact_float32():
        module = _module(loaded, device)
        batches = _noise(loaded, images + warm) if fixed else _evaluated(cfg, images + warm)
        start_memory(device)
        sizes: list[tuple[int, int]] = []
        network: list[float] = []
        whole: list[float] = []
        with torch.inference_mode():
            for i, batch in enumerate(batches):
                split, end = one_image(module, batch, device)
                if i >= warm:
                    sizes.append((batch[0].input_wh[1], batch[0].input_wh[0]))
                    network.append(split)
                    whole.append(end)
    if not whole:
        raise UserError(f"bench inference: no image is left after warm={warm}; there are {len(sizes) + warm} or fewer")
    return {
        "experiment": cfg.name,
        "scale": cfg.scale,
        "data": "noise" if fixed else cfg.data.name,
        "device": device.type,
        "hardware": hardware(),
        "precision": "32",
        "threads": torch.get_num_threads(),
        "weights": "random" if cfg.checkpoint is None else str(cfg.checkpoint),
        "flip": cfg.test.flip,
        "fixed": fixed,
        "input_sizes": [list(min(sizes)), list(max(sizes))],
        "warm": warm,
        "images": len(whole),
        "peak_memory_mb": memory(device)["allocated_mb"],
        "with_post": _summary(whole),
        "without_post": _summary(network),
    }


def device_of(cfg: ExperimentBase) -> torch.device:
    """The one device that a training or test of this experiment would use here.

    Raises:
        UserError: a GPU is asked for and absent.
    """
    import torch

    from repose.engine.layout import plan

    accelerator = plan(cfg.train, testing=True).accelerator
    return torch.device({"gpu": "cuda"}.get(accelerator, accelerator))


@contextmanager
def exact_float32() -> Generator[None]:
    """Float32 without TensorFloat-32, as the papers measured."""
    import torch

    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def synchronise(device: torch.device) -> None:
    """Wait for the device."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def start_memory(device: torch.device) -> None:
    """Forget the device's peaks."""
    import torch

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def memory(device: torch.device) -> dict[str, float | str]:
    """Peak memory in MiB: CUDA's allocated and reserved bytes, else the process's largest resident size."""
    import resource

    import torch

    if device.type == "cuda":
        found = torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device)
        return {"allocated_mb": round(found[0] / 2**20, 1), "reserved_mb": round(found[1] / 2**20, 1), "of": "device"}
    resident = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10, 1)
    return {"allocated_mb": resident, "reserved_mb": resident, "of": "process, resident"}


def _module(loaded: Loaded, device: torch.device) -> PoseModule:
    from repose.engine import checkpoint as ckpt
    from repose.engine.setup import build_module

    module = build_module(loaded)
    if loaded.cfg.checkpoint:
        path = ckpt.find(loaded.cfg.checkpoint)
        ckpt.load_weights(module, ckpt.load_checkpoint(path), path)
    return module.to(device).eval()


def _evaluated(cfg: ExperimentBase, count: int) -> Iterable[list[Batch]]:
    """Test batches of one image (or crop) each; from the beginning again where there are too few."""
    from repose.data.datamodule import PoseDataModule

    one = dataclasses.replace(cfg, test=dataclasses.replace(cfg.test, batch=1))
    data = PoseDataModule(dataclasses.replace(one, data=dataclasses.replace(cfg.data, workers=0)))
    data.prepare_data()
    data.setup("test")
    given = 0
    while given < count:
        before = given
        for batch in data.test_dataloader():
            if given == count:
                return
            if batch[0].b:
                given += 1
                yield batch
        if given == before:
            return


def _noise(loaded: Loaded, count: int) -> Iterable[list[Batch]]:
    """The same image of noise, of the training input's size."""
    import torch

    from repose.commands.bench_decode import some_people

    cfg = loaded.cfg
    if len(cfg.data.test_scales) > 1:
        raise UserError("bench inference: fixed=true has one size; set data.test_scales=[1.0]")
    batch = some_people(1, cfg.joint_set(), cfg.data.input_size)
    draws = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, batch.image_B3HW.shape, generator=draws, dtype=torch.uint8)
    for _ in range(count):
        yield [dataclasses.replace(batch, image_B3HW=image)]


def one_image(module: PoseModule, batches: list[Batch], device: torch.device) -> tuple[float, float]:
    """Seconds of one image: until the network is done, and until its people are in the photograph."""
    from repose.engine.module import person_scores, to_photograph

    moved = module.transfer_batch_to_device(batches, device, 0)
    synchronise(device)
    begin = time.perf_counter()
    outputs = module.infer(module.views(moved))
    synchronise(device)
    split = time.perf_counter()
    poses = module.decode(outputs)
    if module.cfg.data.view == "person":
        poses = person_scores(poses, moved[0], module.score_threshold)
    for pose in to_photograph(poses, moved[0]):
        pose.joint_NK3.cpu()
    synchronise(device)
    return split - begin, time.perf_counter() - begin


def _summary(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    low, high = (ordered[min(int(p * len(ordered)), len(ordered) - 1)] for p in _SPREAD)
    return {
        "images_per_s": round(len(seconds) / sum(seconds), 3),
        "median_ms": round(1000 * statistics.median(seconds), 3),
        "p10_ms": round(1000 * low, 3),
        "p90_ms": round(1000 * high, 3),
    }


def render(measured: dict[str, Any]) -> str:
    """The measurement for people."""
    smallest, largest = ("x".join(map(str, size)) for size in measured["input_sizes"])
    lines = [
        f"{measured['experiment']}, scale {measured['scale']}: one image at a time, {measured['images']} of "
        f"{measured['data']} ({smallest}{'' if smallest == largest else f' to {largest}'}) after {measured['warm']} to "
        f"warm up, flip test {'yes' if measured['flip'] else 'no'}, weights {measured['weights']}",
        f"{measured['hardware']}; {measured['device']}, float32, {measured['threads']} threads; peak memory "
        f"{measured['peak_memory_mb']:.0f} MiB",
        f"{'':<26}{'images/s':>10}{'median ms':>12}{'10 to 90 %':>20}",
    ]
    for label, key in (("network alone", "without_post"), ("with post-processing", "with_post")):
        row = measured[key]
        spread = f"{row['p10_ms']:.1f} to {row['p90_ms']:.1f}"
        lines.append(f"{label:<26}{row['images_per_s']:>10.2f}{row['median_ms']:>12.1f}{spread:>20}")
    return "\n".join(lines)
