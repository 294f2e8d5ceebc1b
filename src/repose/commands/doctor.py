"""`repose doctor`: versions, hardware, a self-test of what an installation can break; each line ok or what to do."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from repose.errors import UserError

_SHOWN = (
    "torch",
    "torchvision",
    "lightning",
    "torchmetrics",
    "timm",
    "numpy",
    "opencv-python-headless",
    "albumentations",
    "pycocotools",
    "omegaconf",
    "fvcore",
    "wandb",
)
# Packages that break ours when they are installed beside it, and why.
_CONFLICTS = {
    "albumentationsx": "it replaces the MIT `albumentations` by an AGPL one of the same name",
    "xtcocotools": "its wheels break on numpy 2; repose evaluates with pycocotools",
    "hydra-core": "it pins omegaconf below 2.4, which repose needs",
    "opencv-python": "it shares files with opencv-python-headless, and removing either breaks both",
    "opencv-contrib-python": "it shares files with opencv-python-headless, and removing either breaks both",
}


@dataclass(frozen=True)
class Line:
    """One finding: `ok`, `note` (fine, but worth knowing) or `bad` (with what to do)."""

    state: str
    name: str
    text: str


def doctor(words: list[str], as_json: bool) -> int:
    """Print the findings; exit status 1 if one is bad."""
    if words:
        raise UserError(f"doctor: takes no settings, not {words[0]!r}")
    lines: list[Line] = []
    for check in _CHECKS:
        found = _run(check)
        lines += found
        if not as_json:
            for line in found:
                print(f"{line.state:<4}  {line.name:<12} {line.text}", flush=True)
    bad = [line for line in lines if line.state == "bad"]
    if as_json:
        print(json.dumps({"ok": not bad, "lines": [asdict(line) for line in lines]}))
    else:
        print(f"{len(bad)} problem(s)" if bad else "everything works")
    return 1 if bad else 0


def _run(check: Callable[[], list[Line]]) -> list[Line]:
    try:
        return check()
    except Exception as error:  # a broken installation fails in any way it likes; the point is to say where
        name = check.__name__.strip("_")
        return [
            Line(
                "bad",
                name,
                f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}; `make setup` reinstalls",
            )
        ]


def _versions() -> list[Line]:
    shown = []
    for name in _SHOWN:
        try:
            shown.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            if name == "wandb":
                shown.append("wandb absent (only log.wandb needs it)")
                continue
            return [Line("bad", "versions", f"{name} is not installed; `make setup` installs the lock file")]
    return [
        Line("ok", "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        Line("ok", "versions", ", ".join(shown)),
    ]


def _conflicts() -> list[Line]:
    installed = {(d.metadata["Name"] or "").lower() for d in metadata.distributions()}
    found = [
        Line("bad", "conflict", f"{name}: {why}; pip uninstall {name}, then make setup")
        for name, why in _CONFLICTS.items()
        if name in installed
    ]
    return found or [Line("ok", "conflicts", "none of " + ", ".join(_CONFLICTS))]


def _hardware() -> list[Line]:
    import torch

    lines = [Line("ok", "cpu", f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads")]
    free = shutil.disk_usage(".").free / 1e9
    lines.append(
        Line(
            "ok" if free > 5 else "bad",
            "disk",
            f"{free:.0f} GB free here" + ("" if free > 5 else "; checkpoints need room"),
        )
    )
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            gpu = torch.cuda.get_device_properties(i)
            bf16 = "bf16" if torch.cuda.is_bf16_supported() else "no bf16"
            lines.append(Line("ok", "gpu", f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, {bf16}"))
    else:
        lines.append(Line("note", "gpu", "none that torch can use; the mini scale runs on the CPU"))
    return [*lines, _driver()]


def _driver() -> Line:
    """Compare the NVIDIA driver with the CUDA version that the torch wheel was built for."""
    import torch

    wheel = torch.version.cuda
    if not shutil.which("nvidia-smi"):
        return Line(
            "note", "driver", f"no NVIDIA driver; torch was built for {'CUDA ' + wheel if wheel else 'the CPU'}"
        )
    text = subprocess.run(["nvidia-smi"], capture_output=True, text=True, check=False, timeout=20).stdout
    found = re.search(r"CUDA Version:\s*([\d.]+)", text)
    if not wheel:
        return Line(
            "bad", "driver", "there is an NVIDIA driver, but torch is a CPU build; reinstall torch, or use TORCH=system"
        )
    if not found:
        return Line(
            "note", "driver", f"nvidia-smi does not say which CUDA it supports; torch was built for CUDA {wheel}"
        )
    if int(found[1].split(".")[0]) < int(wheel.split(".")[0]):
        return Line(
            "bad",
            "driver",
            f"supports CUDA {found[1]}, torch needs {wheel}; update the driver, or TORCH=system make setup",
        )
    return Line("ok", "driver", f"supports CUDA {found[1]}, torch was built for {wheel}")


def _decode() -> list[Line]:
    import cv2
    import numpy as np

    from repose.geometry import crop_affine

    image = np.zeros((48, 64, 3), np.uint8)
    image[20:28, 30:38] = 255
    done, data = cv2.imencode(".jpg", image)
    read = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION) if done else None
    if read is None or read.shape != image.shape:
        return [
            Line("bad", "decode", "OpenCV cannot read a JPEG; pip install --force-reinstall opencv-python-headless")
        ]
    affine = crop_affine((33.5, 23.5), (16, 16), (32, 32))
    crop = cv2.warpAffine(read, affine.matrix_23, (32, 32), flags=cv2.INTER_LINEAR)
    ok = crop[16, 16].min() > 200 and crop[2, 2].max() < 60
    return [
        Line(
            "ok" if ok else "bad",
            "decode",
            "JPEG and warp" if ok else "the warp is off; reinstall opencv-python-headless",
        )
    ]


def _evaluation() -> list[Line]:
    from repose.metrics.keypoint_ap import score
    from repose.skeleton import COCO17

    joints = [c for i in range(17) for c in (10.0 * i + 5, 7.0 * i + 3, 2)]
    truth = {
        "images": [{"id": 1, "width": 200, "height": 150}],
        "annotations": [
            {
                "id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 8000.0, "bbox": [0, 0, 180, 130],
                "num_keypoints": 17, "keypoints": joints,
            }
        ],
        "categories": [{"id": 1, "name": "person"}],
    }  # fmt: skip
    ap = score([{"image_id": 1, "category_id": 1, "keypoints": joints, "score": 1.0}], truth, COCO17)["AP"]
    return [Line("ok" if abs(ap - 1) < 1e-9 else "bad", "evaluation", f"AP of the ground truth is {ap:.3f}")]


def _cost() -> list[Line]:
    import torch
    from torch import nn

    from repose.metrics.cost import count

    macs = count(nn.Conv2d(3, 8, 3, padding=1, bias=False), torch.zeros(1, 3, 16, 16)).macs
    wanted = 3 * 8 * 9 * 16 * 16
    return [Line("ok" if macs == wanted else "bad", "cost", f"a 3x3 convolution counts {macs:.0f} MACs of {wanted}")]


def _wandb() -> list[Line]:
    try:
        metadata.version("wandb")
    except metadata.PackageNotFoundError:
        return [Line("note", "wandb", "absent; runs still write metrics.jsonl and result.json")]
    with tempfile.TemporaryDirectory() as folder:
        code = "import wandb; r = wandb.init(project='doctor', mode='offline'); r.log({'x': 1}); r.finish()"
        environment = {**os.environ, "WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DIR": folder}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        written = list(Path(folder).rglob("*.wandb"))
    if done.returncode or not written:
        last = (done.stderr.strip().splitlines() or ["no file was written"])[-1]
        return [Line("bad", "wandb", f"offline logging fails: {last}; log.wandb=off trains without it")]
    return [Line("ok", "wandb", "offline logging works")]


_CHECKS = (_versions, _conflicts, _hardware, _decode, _evaluation, _cost, _wandb)
