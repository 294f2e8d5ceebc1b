"""Networks without error for the tests of this folder, and checkpoints that nobody trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from repose import papers
from repose.config import Data, ExperimentBase, Loaded, Paper, SkeletonBlock, load
from repose.config import Test as Evaluation
from repose.engine import checkpoint as ckpt
from repose.engine.module import MEAN, STD, PoseModule, View
from repose.engine.setup import build_module
from repose.field.detectors import BoxSource, FullFrame
from repose.field.predictor import Predictor
from repose.types import Batch, Poses

JOINTS = ("head", "left_hand", "right_hand", "left_foot", "right_foot")
BLOCK = SkeletonBlock(
    name="dots5",
    joints=JOINTS,
    flip_pairs=(("left_hand", "right_hand"), ("left_foot", "right_foot")),
    limbs=(("head", "left_hand"), ("head", "right_hand"), ("head", "left_foot"), ("head", "right_foot")),
    sigmas=(0.08,) * 5,
)
COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [0, 255, 255]], np.float64)
JOINT_NK2 = np.array([[60.25, 20.5], [30.75, 60.0], [95.0, 55.5], [45.25, 110.0], [80.5, 108.25]])


def dots(point_K2: np.ndarray, size_wh: tuple[int, int], sigma: float = 3.0) -> np.ndarray:
    """A black picture with a soft dot of its own colour at every joint, RGB."""
    y, x = np.mgrid[0 : size_wh[1], 0 : size_wh[0]]
    image = np.zeros((size_wh[1], size_wh[0], 3))
    for point, colour in zip(point_K2, COLOURS, strict=True):
        image += np.exp(-((x - point[0]) ** 2 + (y - point[1]) ** 2) / (2 * sigma**2))[..., None] * colour
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


class Reader(PoseModule):
    """Reads the dots of a picture: every joint is the centre of its colour's light. Finds one person, with a mask."""

    def build(self) -> nn.Module:
        return nn.Identity()

    @property
    def stride(self) -> int:
        return 1

    @property
    def weights(self) -> dict[str, float]:
        return {}

    def encode(self, batch: Batch) -> None: ...

    def losses(self, outputs: Any, targets: Any) -> dict[str, Tensor]:
        return {}

    def infer(self, views: list[View]) -> Tensor:
        mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
        return views[0].image_BCHW * std + mean

    def decode(self, outputs: Tensor) -> list[Poses]:
        colour_K3 = torch.tensor(COLOURS, dtype=torch.float32)
        direction_K3 = colour_K3 / colour_K3.norm(dim=1, keepdim=True)
        y, x = torch.meshgrid(*(torch.arange(s, dtype=torch.float32) for s in outputs.shape[-2:]), indexing="ij")
        found = []
        for image in outputs.float():
            bright = image.norm(dim=0).clamp(min=1e-6)
            like = torch.einsum("kc,chw->khw", direction_K3, image) / bright
            light = torch.where((like > 0.97) & (bright > 40), bright, 0.0)
            total = light.flatten(1).sum(1).clamp(min=1e-6)
            point = torch.stack([(light * x).flatten(1).sum(1) / total, (light * y).flatten(1).sum(1) / total], -1)
            score = (total > 1).float()[:, None] * 0.9
            mask = (bright > 60).to(torch.uint8)[None] if self.cfg.data.view == "image" else None
            found.append(Poses(torch.cat([point, score], -1)[None], score.mean()[None], mask_NHW=mask))
        return found


def reader(boxes: BoxSource | None = None, **data: Any) -> Predictor:
    """A predictor that reads dots; `data` are settings of `Data`."""
    cfg = ExperimentBase(
        paper="reader", name="reader", skeleton=BLOCK, data=Data(**data), test=Evaluation(flip=False, batch=4)
    )
    module = Reader(cfg, cfg.joint_set())
    loaded = Loaded(cfg, Paper("reader", "reads dots", ExperimentBase, lambda: Reader), {})
    return Predictor(loaded, module, boxes or FullFrame(), torch.device("cpu"))


def untrained(experiment: str, path: Path, words: Sequence[str] = ()) -> Path:
    """A checkpoint of an experiment at smoke scale with the weights it starts from."""
    loaded = load(experiment, ["scale=smoke", *words], find_paper=papers.get)
    module = build_module(loaded)
    note = {**ckpt.describe(loaded.cfg), "epoch": 0, "step": 0, "weights": "raw"}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": module.state_dict(), ckpt.KEY: note}, path)
    return path
