# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""What `notebooks/90-predict.ipynb` calls: a checkpoint (or a demo trained in seconds), pictures, a clip, figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from repose import papers
from repose.config import Data, Layer, Loaded, Synthetic, load, resolve, to_dict
from repose.data.coco import load_json
from repose.data.images import decode
from repose.data.roots import candidates
from repose.data.synthetic import synthesize_clip
from repose.engine.checkpoint import find
from repose.engine.run import train
from repose.engine.rundir import BEST, read_result, run_dir
from repose.field.model import open_checkpoint
from repose.field.poses import PicturePoses
from repose.field.video import MEASURED
from repose.field.writers import VideoFile
from repose.skeleton import COCO17
from repose.tables.demo import WORDS
from repose.tables.gallery import (
    Settings,
    grid,
    image_rows,
    key_to_sides,
    plot_pose,
    prepared,
    show_image,
)

CLIP = Synthetic(people=(1, 2), size=(256, 320), seed=3)
"""The drawn clip's options."""
FRAMES, RATE = 50, 25.0


@dataclass(frozen=True)
class Field:
    """What there is to predict, all as files.

    Attributes:
        checkpoint: a trained network.
        pictures: some of a data set.
        boxes: the data set's annotations: boxes for methods that need them.
        clip: a drawn video.
        clip_boxes: boxes of its people by frame.
        heading: what figures are headed with.
    """

    checkpoint: str
    pictures: list[Path]
    boxes: str
    clip: Path
    clip_boxes: str
    heading: str


def open_field(settings: Settings, most: int = 4) -> Field:
    """The checkpoint, pictures of its data set (or of `settings.data`), and a clip.

    Without a checkpoint a demo learns the frames of that very clip by heart, in seconds.

    Raises:
        UserError: no such checkpoint or data set.
    """
    demo = settings.checkpoint is None
    folder, clip, boxes = _clip()
    checkpoint = _demo(folder) if demo else find(str(settings.checkpoint))
    opened = open_checkpoint(checkpoint)
    cfg = opened.loaded.cfg
    if settings.data is not None:
        shown = load("drpnet/m", (f"data={settings.data}",), find_paper=papers.get).cfg.data
        values = {**to_dict(cfg), "data": to_dict(shown)}
        cfg = resolve(opened.loaded.paper, [Layer(str(checkpoint), values)]).cfg
    annotations = prepared(Loaded(cfg, opened.loaded.paper, {})).val_annotations
    rows = image_rows(annotations, settings.ids, most)
    name = "demo (learnt this clip by heart, in seconds)" if demo else f"{cfg.title or cfg.name}, on {cfg.data.name}"
    return Field(str(checkpoint), [annotations.path(i) for i in rows], str(annotations.file), clip, str(boxes), name)


def _demo(folder: Path) -> Path:
    kept = [word for word in WORDS if not word.startswith(("name=", "data.synthetic"))]
    own = [
        "name=predict-demo",
        "log.progress=false",
        "data.synthetic=null",
        f"data.root={folder.resolve()}",
        "data.train_json=annotations/person_keypoints_val.json",
        "data.train_images=images/val",
    ]
    loaded = load("drpnet/m", [*kept, *own], find_paper=papers.get)
    run = run_dir(loaded.cfg)
    result = read_result(run)
    if result is None or result.get("status") != "done" or not (run / BEST).is_file():
        train(loaded, prepared(loaded))
    return run / BEST


def _clip() -> tuple[Path, Path, Path]:
    """A drawn clip: its folder of frames, the same as a video file, and its people's boxes by frame."""
    folder = candidates(Data(name="synthetic-clip"))[0] / f"notebook-{CLIP.seed}-{FRAMES}"
    path, boxes = folder.with_suffix(".webm"), folder.with_suffix(".json")
    if path.is_file() and boxes.is_file():
        return folder, path, boxes
    folder.parent.mkdir(parents=True, exist_ok=True)
    synthesize_clip(folder, CLIP, COCO17.joints, COCO17.limbs, FRAMES, workers=1)
    content = load_json(folder / "annotations" / "person_keypoints_val.json")
    frame = {image["id"]: image["frame_id"] for image in content["images"]}
    rows = [
        {"image_id": frame[a["image_id"]], "category_id": 1, "bbox": a["bbox"], "score": 1.0}
        for a in content["annotations"]
        if not a["iscrowd"]
    ]
    with VideoFile(path, "vp8", RATE, (CLIP.size[1], CLIP.size[0])) as video:
        for image in content["images"]:
            pixels = decode(folder / "images" / "val" / image["file_name"])
            assert not isinstance(pixels, str)
            video.add(pixels)
    boxes.write_text(json.dumps(rows))
    return folder, path, boxes


def people(found: Sequence[PicturePoses], heading: str, columns: int = 4) -> Figure:
    """Pictures with the people found in them."""
    shape = max(p.image_HW3.shape[0] / p.image_HW3.shape[1] for p in found)
    figure, panels = grid(len(found), columns, (2.6, 2.6 * float(np.clip(shape, 0.5, 1.4)) + 0.2), heading)
    for panel, poses in zip(panels, found, strict=True):
        picture = poses.draw(threshold=2.0) if poses.masks is not None else poses.image_HW3  # masks alone
        name = f"frame {poses.frame}" if poses.frame is not None else Path(poses.source).name
        show_image(panel, picture, f"{name}: {poses.n}")
        for joint_K3 in poses.joint_NK3.numpy():
            plot_pose(panel, joint_K3, poses.skeleton, "score", 0.05, scale=0.8)
    key_to_sides(figure)
    return figure


def one_joint(frames: Sequence[PicturePoses], joint: str, heading: str) -> Figure:
    """A joint's path over time, as measured and after the OneEuro filter, of whoever is in most frames."""
    numbers = [int(n) for poses in frames for n in (poses.track_N if poses.track_N is not None else [])]
    figure, axes = plt.subplots(figsize=(8, 2.6), layout="constrained")
    axes.set_title(f"{heading}: x of the {joint.replace('_', ' ')}", fontsize=9, loc="left")
    axes.set_xlabel("seconds")
    axes.set_ylabel("x [px]")
    if numbers:
        who = max(sorted(set(numbers)), key=numbers.count)
        seconds: list[float] = []
        measured: list[float] = []
        filtered: list[float] = []
        for poses in frames:
            assert poses.track_N is not None and poses.extra is not None
            for n in np.flatnonzero(poses.track_N.numpy() == who):
                k = poses.skeleton.index(joint)
                seconds.append(poses.second or 0.0)
                measured.append(float(poses.extra[MEASURED][n, k, 0]))
                filtered.append(float(poses.joint_NK3[n, k, 0]))
        axes.plot(seconds, measured, ".-", lw=0.8, color="#0072b2", label="measured")
        axes.plot(seconds, filtered, "-", lw=1.8, color="#d55e00", label="filtered")
        axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    return figure
