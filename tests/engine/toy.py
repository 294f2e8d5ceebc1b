# ruff: noqa: RUF009, RUF012 - plain defaults of frozen dataclasses and of test classes
"""A tiny method and an in-memory data set, so that the engine's tests need no paper and no files.

Also a program for tests that need a process of their own: `python toy.py key=value ...` trains.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from repose.config import (
    Data,
    ExperimentBase,
    Layer,
    Loaded,
    Log,
    Optim,
    Paper,
    SkeletonBlock,
    Test,
    Train,
    parse_arguments,
    resolve,
)
from repose.engine.module import PoseModule, View
from repose.errors import UserError
from repose.types import Batch, People, Poses

JOINTS = ("head", "left_hand", "right_hand", "left_foot", "right_foot")
BLOCK = SkeletonBlock(
    name="toy5",
    joints=JOINTS,
    flip_pairs=(("left_hand", "right_hand"), ("left_foot", "right_foot")),
    limbs=(("head", "left_hand"), ("head", "right_hand")),
    sigmas=(0.3,) * 5,  # generous: a dozen steps are enough for an AP above 0
)
COLOURS = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [0, 255, 255]], dtype=torch.uint8)


@dataclass(frozen=True)
class Model:
    """Width of the toy."""

    width: int = 8


@dataclass(frozen=True)
class Loss:
    """Weights."""

    heat: float = 1.0
    break_at: int = -1
    """[step] the loss is NaN there"""


@dataclass(frozen=True)
class ToyLog(Log):
    """No part of a run's identity: the run that is stopped and the one that goes on are the same."""

    signal_at: int = -1
    """[step] the process sends itself `signal` there"""
    signal: int = 15
    signal_in_test: bool = False
    """send it in the first evaluation"""


@dataclass(frozen=True)
class ToyExperiment(ExperimentBase):
    """The toy's settings."""

    paper: str = "toy"
    name: str = "toy"
    model: Model = Model()
    loss: Loss = Loss()
    skeleton: SkeletonBlock = BLOCK
    data: Data = Data(name="dots", input_size=(32, 24), limit_train=24, limit_val=7, workers=0)
    optim: Optim = Optim(name="adamw", base_lr=3e-2, base_batch=8, weight_decay=0.01)
    train: Train = Train(epochs=2, batch=8, precision="32", accelerator="cpu", threads=1)
    test: Test = Test(batch=4, flip=False, save_pictures=1)
    log: ToyLog = ToyLog(every=1, progress=False, wandb="off")


class Net(nn.Module):
    """Convolutions with batch norm (buffers) and dropout (random draws)."""

    def __init__(self, k: int, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(0.1))
        self.head = nn.Conv2d(width, k, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.body(image))


class ToyModule(PoseModule):
    """Heatmaps at stride 2, argmax."""

    ap_read_outs = {"coarse_AP": "coarse_NK2"}

    def build(self) -> nn.Module:
        return Net(self.skeleton.k, self.cfg.model.width)

    @property
    def stride(self) -> int:
        return 2

    @property
    def weights(self) -> dict[str, float]:
        return {"heat": self.cfg.loss.heat}

    def encode(self, batch: Batch) -> Tensor:
        width, height = batch.input_wh
        y, x = torch.meshgrid(torch.arange(height // 2), torch.arange(width // 2), indexing="ij")
        cell_NK2 = batch.people.joint_NK3[..., :2] / 2
        square = (x - cell_NK2[..., 0, None, None]) ** 2 + (y - cell_NK2[..., 1, None, None]) ** 2
        return torch.exp(-square / 2)

    def losses(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        loss = (outputs - targets).square().mean()
        if self._trainer is not None and self.global_step == self.cfg.loss.break_at:
            loss = loss * torch.nan
        if self._trainer is not None and self.global_step == self.cfg.log.signal_at:
            os.kill(os.getpid(), self.cfg.log.signal)
        return {"heat": loss}

    def infer(self, views: list[View]) -> Tensor:
        if self.cfg.log.signal_in_test:
            os.kill(os.getpid(), self.cfg.log.signal)
        outputs = [self.net(view.image_BCHW) for view in views]
        merged = [
            out.flip(-1)[:, list(self.skeleton.flip_index)] if view.mirrored else out
            for view, out in zip(views, outputs, strict=True)
        ]
        return torch.stack(merged).mean(0)

    def decode(self, outputs: Tensor) -> list[Poses]:
        width = outputs.shape[-1]
        score_BK, at_BK = outputs.flatten(2).max(-1)
        joint = torch.stack([at_BK % width * 2.0, at_BK // width * 2.0, score_BK.clamp(0, 1)], -1)
        return [
            Poses(j[None], j[None, :, 2].mean(-1), extra={"coarse_NK2": j[None, :, :2] + 100.0}) for j in joint.unbind()
        ]

    def read_outs(self, outputs: Tensor, batch: Batch, poses: list[Poses]) -> dict[str, tuple[Tensor, Tensor]]:
        return {"mean_id": (batch.image_id_B.sum(), torch.tensor(batch.b))}


def _paper(cfg_type: type[ExperimentBase] = ToyExperiment) -> Paper:
    return Paper("toy", "Toy", cfg_type, lambda: ToyModule)


PAPER = _paper()


def loaded(folder: Path | str, *arguments: str) -> Loaded:
    """The toy experiment, with its run folder at `folder`."""
    line, _ = parse_arguments(arguments)
    return resolve(PAPER, [Layer("test", {"log": {"dir": str(folder)}}), line])


class Dots(Dataset):
    """Image i has one coloured dot per joint; photograph = input scaled by 2 and moved by (10, 20)."""

    def __init__(self, cfg: Any, n: int, first_id: int) -> None:
        self.height, self.width = cfg.data.input_size
        self.seed, self.n, self.first_id = cfg.seed, n, first_id

    def __len__(self) -> int:
        return self.n

    def joints(self, i: int) -> np.ndarray:
        rng = np.random.default_rng([99, self.first_id + i])
        return np.stack([rng.integers(1, self.width // 2 - 1, 5) * 2, rng.integers(1, self.height // 2 - 1, 5) * 2], -1)

    def __getitem__(self, key: tuple[int, int]) -> tuple[int, int]:
        return key


def collate(data: Dots, keys: list[tuple[int, int]]) -> Batch:
    """A batch of (epoch, index) keys."""
    b = len(keys)
    images = torch.zeros(b, 3, data.height, data.width, dtype=torch.uint8)
    joints = torch.zeros(b, 5, 3)
    for n, (epoch, i) in enumerate(keys):
        noise = np.random.default_rng([data.seed, epoch, i]).integers(0, 40, (3, data.height, data.width))
        images[n] = torch.from_numpy(noise.astype(np.uint8))
        for k, (x, y) in enumerate(data.joints(i)):
            images[n, :, y : y + 2, x : x + 2] = COLOURS[k][:, None, None]
            joints[n, k] = torch.tensor([float(x), float(y), 2.0])
    ids = torch.tensor([data.first_id + i for _, i in keys], dtype=torch.int64)
    matrix = torch.tensor([[2.0, 0, 10], [0, 2, 20]], dtype=torch.float64).expand(b, 2, 3).contiguous()
    box = torch.tensor([9.0, 19, 9 + 2 * data.width, 19 + 2 * data.height]).expand(b, 4).contiguous()
    people = People(
        owner_N=torch.arange(b),
        ann_id_N=ids,
        joint_NK3=joints,
        box_N4=box,
        visible_fraction_N=torch.ones(b),
        box_img_N4=box,
        area_N=torch.full((b,), 4.0 * data.width * data.height),
        labelled_N=torch.ones(b, dtype=torch.bool),
    )
    return Batch(
        image_B3HW=images,
        valid_size_B2=torch.tensor([data.width, data.height]).expand(b, 2).contiguous(),
        to_image_B23=matrix,
        image_id_B=ids,
        subject_id_B=ids,
        seed_B=ids,
        box_img_B4=box,
        box_score_B=torch.ones(b),
        people=people,
    )


class Order(Sampler):
    """(epoch, index) from any position on; processes take turns."""

    def __init__(self, n: int, batch: int, seed: int) -> None:
        self.n, self.seed = n, seed
        self.length = n // batch * batch
        self.done = 0
        self.rank, self.world = 0, 1

    def __len__(self) -> int:
        return self.length // self.world

    def __iter__(self):
        epoch, skip = divmod(self.done, self.length)
        self.done = (epoch + 1) * self.length
        order = np.random.default_rng([self.seed, epoch]).permutation(self.n)[: self.length]
        return iter([(epoch, int(i)) for i in order[skip + self.rank :: self.world]])


class ToyData(LightningDataModule):
    """PoseDataModule's interface over `Dots`."""

    box_source = "gt"
    problems: list[str] = []

    def __init__(self, cfg: Any, device_batch: int | None = None) -> None:
        super().__init__()
        self.cfg = cfg
        self.device_batch = device_batch or cfg.train.device_batch or cfg.train.batch
        self.train_set = Dots(cfg, cfg.data.limit_train, 1)
        self.val_set = Dots(cfg, cfg.data.limit_val, 5001)
        self.train_samples = len(self.train_set)
        self.order = Order(len(self.train_set), cfg.train.batch, cfg.seed)
        self.seen: list[tuple[int, int]] = []

    def resume_at(self, samples_done_in_all: int) -> None:
        self.order.done = samples_done_in_all

    def fingerprint(self) -> str:
        return "dots"

    def train_dataloader(self) -> DataLoader:
        if self.trainer is not None:
            self.order.rank, self.order.world = self.trainer.global_rank, self.trainer.world_size

        def make(keys: list[tuple[int, int]]) -> Batch:
            self.seen += keys
            return collate(self.train_set, keys)

        return DataLoader(self.train_set, self.device_batch, sampler=self.order, collate_fn=make)

    def val_dataloader(self) -> DataLoader:
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        keys = [(0, i) for i in range(rank, len(self.val_set), world)]
        size = self.cfg.test.batch
        batches = [keys[i : i + size] for i in range(0, len(keys), size)] or [[]]  # as PoseDataModule: one empty batch
        return DataLoader(self.val_set, batch_sampler=batches, collate_fn=lambda k: [collate(self.val_set, k)])

    test_dataloader = val_dataloader

    def ground_truth(self) -> dict[str, Any]:
        images, annotations = [], []
        for i in range(len(self.val_set)):
            image_id = self.val_set.first_id + i
            xy = self.val_set.joints(i) * 2.0 + [10, 20]
            keypoints = [v for x, y in xy for v in (float(x), float(y), 2)]
            width, height = 2.0 * self.val_set.width, 2.0 * self.val_set.height
            images.append({"id": image_id, "width": 200, "height": 200, "file_name": f"{image_id}.jpg"})
            annotations.append(
                {
                    "id": image_id,
                    "image_id": image_id,
                    "category_id": 1,
                    "keypoints": keypoints,
                    "num_keypoints": 5,
                    "area": width * height,
                    "iscrowd": 0,
                    "bbox": [9.5, 19.5, width, height],
                }
            )
        category = {"id": 1, "name": "person", "keypoints": list(JOINTS), "skeleton": []}
        return {"images": images, "annotations": annotations, "categories": [category]}


def main(arguments: list[str]) -> int:
    """`folder key=value ...`: train, print the AP."""
    from repose.engine import run
    from repose.engine.layout import plan

    experiment = loaded(arguments[0], *arguments[1:])
    try:
        if experiment.cfg.checkpoint:
            result = run.test(experiment, ToyData(experiment.cfg))
        else:
            result = run.train(experiment, ToyData(experiment.cfg, plan(experiment.cfg.train).device_batch))
    except UserError as error:
        print(f"repose: {error}", file=sys.stderr)
        return 2
    print(f"AP {result['metrics']['AP']}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
