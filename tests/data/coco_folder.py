"""Small COCO-format folders, written on the spot (used by the tests of this folder)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from repose.config import Augment, Data, ExperimentBase, SkeletonBlock, Train
from repose.config import Test as Evaluation
from repose.data.datamodule import PoseDataModule

K3 = SkeletonBlock(
    name="k3",
    joints=("nose", "left_hand", "right_hand"),
    flip_pairs=(("left_hand", "right_hand"),),
    limbs=(("nose", "left_hand"), ("nose", "right_hand")),
    sigmas=(0.05, 0.06, 0.07),
)


@dataclass
class Folder:
    """A data set on disk: `images[name]` and `annotations`, the same for train and val unless told otherwise."""

    root: Path
    joints: tuple[str, ...] = K3.joints
    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)

    def image(self, pixels: np.ndarray, name: str | None = None, **fields: Any) -> int:
        """Add a photograph (RGB) and give its id."""
        number = len(self.images) + 1
        name = name or f"{number:06d}.png"
        (self.root / "images").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(self.root / "images" / name), pixels[..., ::-1] if pixels.ndim == 3 else pixels)
        height, width = pixels.shape[:2]
        self.images.append({"id": number, "file_name": name, "width": width, "height": height, **fields})
        return number

    def person(self, image: int, joints: list[tuple[float, float, int]], box: list[float], **fields: Any) -> int:
        """Add an annotation and give its id; a field of None is left out."""
        number = 900_100_000_000 + len(self.annotations)
        entry = {
            "id": number,
            "image_id": image,
            "category_id": 1,
            "keypoints": [v for joint in joints for v in joint],
            "num_keypoints": sum(j[2] > 0 for j in joints),
            "bbox": box,
            "area": box[2] * box[3] / 2,
            "iscrowd": 0,
            **fields,
        }
        self.annotations.append({k: v for k, v in entry.items() if v is not None})
        return number

    def write(self, name: str = "people.json") -> Path:
        """Write the annotation file."""
        file = self.root / name
        category = {"id": 1, "name": "person", "keypoints": list(self.joints), "skeleton": []}
        content = {"images": self.images, "annotations": self.annotations, "categories": [category]}
        file.write_text(json.dumps(content))
        return file

    def cfg(
        self, skeleton: SkeletonBlock = K3, batch: int = 2, seed: int = 21, epochs: int = 4, **data: Any
    ) -> ExperimentBase:
        """An experiment on this folder."""
        settings: dict[str, Any] = {
            "name": "tiny",
            "root": str(self.root),
            "train_json": "people.json",
            "train_images": "images",
            "val_json": "people.json",
            "val_images": "images",
            "input_size": (128, 96),
            "workers": 0,
            "cache": "off",
            "augment": Augment(),
        }
        return ExperimentBase(
            seed=seed,
            skeleton=skeleton,
            data=Data(**{**settings, **data}),
            train=Train(epochs=epochs, batch=batch),
            test=Evaluation(batch=2),
        )

    def module(self, stage: str = "fit", **settings: Any) -> PoseDataModule:
        """A DataModule on this folder, set up."""
        module = PoseDataModule(self.cfg(**settings))
        module.setup(stage)
        return module


def with_data(cfg: ExperimentBase, **changes: Any) -> ExperimentBase:
    """The experiment with some data keys changed."""
    return replace(cfg, data=replace(cfg.data, **changes))
