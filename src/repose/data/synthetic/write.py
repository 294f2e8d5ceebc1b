"""Synthetic data sets on disk: COCO folders, written whole or not at all, the same whatever the number of workers."""

from __future__ import annotations

import gc
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .scene import Scene, generator, render

if TYPE_CHECKING:
    from repose.config import Synthetic

Progress = Callable[[int, int], None]
Json = dict[str, Any]
Job = tuple[str, int, int | None, str, int]  # split, index, frame, file name, image id
_FIRST_ID = {"train": 0, "val": 1_000_000_000}
_README = (
    "repose: synthetic people, drawn by `repose data synthesize` ({options}). "
    "Labels are exact; v=1 joints are hidden. person_detections_val.json is a SIMULATED detector: "
    "true boxes jittered, some missed, some false ones added, invented scores.\n"
)


def _rle(mask_HW: NDArray[np.bool_], crowd: bool) -> Json:
    """COCO run lengths of a mask: compressed for people, plain counts for a crowd as COCO has them."""
    from pycocotools import mask as codec

    if not crowd:
        code = codec.encode(np.asfortranarray(mask_HW, dtype=np.uint8))
        counts = code["counts"]
        text = counts.decode("ascii") if isinstance(counts, bytes) else counts
        return {"size": [int(n) for n in code["size"]], "counts": text}
    flat = mask_HW.ravel(order="F").astype(np.int8)
    change = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], change, [flat.size]])).tolist()
    return {"size": list(mask_HW.shape), "counts": [0, *runs] if flat[0] else runs}


def _head_size(joint_K3: NDArray[np.float32], joints: Sequence[str]) -> Json:
    """The unit of PCKh where the skeleton has MPII's head: from the neck to the top of it, if both are in the picture.

    Differs from MPII: that has 0.6 of the diagonal of a drawn box around the head.
    """
    if not {"head_top", "upper_neck"} <= set(joints):
        return {}
    top_3, neck_3 = (joint_K3[list(joints).index(name)].astype(float) for name in ("head_top", "upper_neck"))
    size = float(np.hypot(*(top_3[:2] - neck_3[:2])))
    return {"head_size": round(size, 2)} if top_3[2] > 0 and neck_3[2] > 0 and size > 0 else {}


def coco_annotations(scene: Scene, image_id: int, joints: Sequence[str] = ()) -> list[Json]:
    """COCO annotations of a scene; their ids are `image_id` * 100 + 1, 2, ... and so unique over splits.

    Args:
        scene: what was drawn.
        image_id: its number.
        joints: names of its joints, for `head_size`.
    """
    out = []
    for n, person in enumerate(scene.people):
        joint_K3 = person.joint_K3
        keypoints = [value for x, y, v in joint_K3.astype(float) for value in (round(x, 2), round(y, 2), int(v))]
        out.append(
            {
                "id": image_id * 100 + n + 1,
                "image_id": image_id,
                "category_id": 1,
                "iscrowd": int(person.crowd),
                "num_keypoints": int((joint_K3[:, 2] > 0).sum()),
                "keypoints": keypoints,
                "bbox": list(person.box_4),
                "area": person.area,
                "segmentation": _rle(person.mask_HW, person.crowd),
                "track_id": person.track_id,
                "max_iou": round(person.max_iou, 4),
                **_head_size(joint_K3, joints),
            }
        )
    return out


def _detections(scene: Scene, image_id: int, options: Synthetic, split: str, index: int) -> list[Json]:
    """Boxes as a detector might find them: jittered, some missed, some false."""
    rng = generator(options, split, index, 1 << 20)
    height, width = options.size
    found: list[tuple[NDArray[np.float64], float]] = []
    for person in scene.people:
        x, y, w, h = person.box_4
        big = np.sqrt(person.area / (height * width))
        miss = 0.03 + 0.35 * np.exp(-big * 22) + 0.12 * person.max_iou**2
        if rng.random() < miss or person.crowd:
            continue
        spread = rng.normal(0, 0.035, 4) * (w, h, w, h)
        score = float(
            np.clip(rng.beta(9, 1.1) - 0.25 * np.abs(spread / (w, h, w, h)).mean() * 8 * rng.random(), 0.05, 0.9999)
        )
        found.append((np.array((x, y, x + w, y + h)) + spread, score))
        if rng.random() < 0.08:  # a second, worse box of the same person
            found.append(
                (
                    np.array((x, y, x + w, y + h * rng.uniform(0.45, 0.8))) + rng.normal(0, 0.06, 4) * (w, h, w, h),
                    0.6 * score * rng.random(),
                )
            )
    for _ in range(int(rng.poisson(0.6))):
        h = height * rng.uniform(0.15, 0.7)
        w = h * rng.uniform(0.25, 0.8)
        x, y = rng.uniform(-0.2 * w, width - 0.6 * w), rng.uniform(-0.1 * h, height - 0.6 * h)
        found.append((np.array((x, y, x + w, y + h)), float(rng.beta(1.2, 6))))
    out = []
    for box, score in found:
        x0, y0 = max(box[0], 0.0), max(box[1], 0.0)
        w, h = min(box[2], width) - x0, min(box[3], height) - y0
        if w > 2 and h > 2:
            out.append(
                {
                    "image_id": image_id,
                    "category_id": 1,
                    "bbox": [round(float(v), 2) for v in (x0, y0, w, h)],
                    "score": round(score, 4),
                }
            )
    return sorted(out, key=lambda row: -row["score"])


def _one(folder: str, options: Synthetic, joints: tuple[str, ...], job: Job) -> tuple[Json, list[Json], list[Json]]:
    """Draw, write and describe one picture; runs in a worker."""
    split, index, frame, name, image_id = job
    scene = render(index, options, joints, split, frame)
    flags = [cv2.IMWRITE_JPEG_QUALITY, scene.jpeg_quality]
    good, code = cv2.imencode(".jpg", cv2.cvtColor(scene.image_HW3, cv2.COLOR_RGB2BGR), flags)
    if not good:
        raise RuntimeError(f"could not encode {name}")
    (Path(folder) / "images" / split / name).write_bytes(code.tobytes())
    image: Json = {"id": image_id, "file_name": name, "height": options.size[0], "width": options.size[1]}
    image["crowdIndex"] = round(scene.crowd_index, 4)
    image["max_iou"] = round(max((p.max_iou for p in scene.people if p.labelled), default=0.0), 4)
    if frame is not None:
        image |= {"video_id": index + 1, "frame_id": frame}
    boxes = _detections(scene, image_id, options, split, index + 1000 * (frame or 0)) if split == "val" else []
    return image, coco_annotations(scene, image_id, joints), boxes


def _start() -> None:
    cv2.setNumThreads(1)  # one process per core: threads on top would only fight
    gc.set_threshold(100_000)  # thousands of small tuples per picture and no cycles: collecting often costs a tenth


def _many(function: Callable[[Any], Any], jobs: Sequence[Any], workers: int | None) -> Iterator[Any]:
    """Map in order over processes; in this process for one worker."""
    workers = min(os.cpu_count() or 1, 16) if workers is None else workers
    if workers <= 1 or len(jobs) < 8:
        before = cv2.getNumThreads()
        cv2.setNumThreads(1)
        try:
            yield from map(function, jobs)
        finally:
            cv2.setNumThreads(before)
        return
    # spawn: a fork of a process that already runs CUDA or OpenCV threads may hang.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start) as pool:
        yield from pool.map(function, jobs, chunksize=max(1, min(16, len(jobs) // (4 * workers))))


def _category(joints: Sequence[str], limbs: Iterable[tuple[str, str]]) -> Json:
    at = {name: k + 1 for k, name in enumerate(joints)}
    return {
        "id": 1,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(joints),
        "skeleton": [[at[a], at[b]] for a, b in limbs],
    }


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A sibling to write into, renamed to `folder` at the end; whoever comes second drops its copy.

    A kill leaves only the sibling, whose name begins with a dot and which no reader takes for a data set.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.part-", dir=folder.parent))
    try:
        yield part
        part.chmod(0o755)
        try:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
            part.rename(folder)
        except OSError:
            if not (folder / "README.txt").is_file():
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _describe(options: Synthetic, joints: Sequence[str], more: str = "") -> str:
    """The one line of README.txt, which also tells whether a folder is the one that is asked for."""
    fields = ", ".join(f"{key}={value}" for key, value in vars(options).items())
    return _README.format(options=f"{more}{fields}, joints={' '.join(joints)}")


def _write(
    part: Path,
    options: Synthetic,
    joints: tuple[str, ...],
    limbs: tuple[tuple[str, str], ...],
    jobs: Sequence[Job],
    workers: int | None,
    progress: Progress | None,
    readme: str,
) -> None:
    """Write pictures and annotations of all jobs into an empty folder."""
    for split in {job[0] for job in jobs}:
        (part / "images" / split).mkdir(parents=True)
    (part / "annotations").mkdir()
    rows: dict[str, tuple[list[Json], list[Json], list[Json]]] = {job[0]: ([], [], []) for job in jobs}
    for done, (job, made) in enumerate(
        zip(jobs, _many(partial(_one, str(part), options, joints), jobs, workers), strict=True), 1
    ):
        images, people, boxes = rows[job[0]]
        images.append(made[0])
        people += made[1]
        boxes += made[2]
        if progress is not None:
            progress(done, len(jobs))
    category = _category(joints, limbs)
    for split, (images, people, boxes) in rows.items():
        info = {"description": readme.strip(), "version": "1"}
        data = {"info": info, "images": images, "annotations": people, "categories": [category]}
        (part / "annotations" / f"person_keypoints_{split}.json").write_text(json.dumps(data, separators=(",", ":")))
        if split == "val":
            (part / "annotations" / "person_detections_val.json").write_text(json.dumps(boxes, separators=(",", ":")))
    (part / "README.txt").write_text(readme)


def synthesize(
    folder: Path,
    options: Synthetic,
    joints: tuple[str, ...],
    limbs: tuple[tuple[str, str], ...],
    workers: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write a COCO-format folder of synthetic people, unless it is there already.

    Args:
        folder: Where; made in one step at the end, so it is either whole or absent.
        options: How many pictures, size, people, crowding, seed.
        joints: Names of the joints (any of `JOINTS`).
        limbs: Pairs of names, the category's skeleton.
        workers: Processes; None for one per core. The files do not depend on it.
        progress: Called with (pictures done, pictures in all).

    Returns:
        The folder.

    Raises:
        ValueError: If a joint's name is unknown.
        FileExistsError: If anything else lies at `folder`, people of other options included.
    """
    folder = Path(folder)
    readme = _describe(options, joints)
    if _there(folder, readme):
        return folder
    jobs = [
        (split, i, None, f"{i + 1:06d}.jpg", _FIRST_ID[split] + i + 1)
        for split, count in (("train", options.train), ("val", options.val))
        for i in range(count)
    ]
    with _whole(folder) as part:
        _write(part, options, joints, limbs, jobs, workers, progress, readme)
    return folder


def synthesize_clip(
    folder: Path,
    options: Synthetic,
    joints: tuple[str, ...],
    limbs: tuple[tuple[str, str], ...],
    frames: int = 60,
    clips: int = 1,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write moving clips at 25 frames/s as `images/val/<clip>_<frame>.jpg` with a `track_id` per annotation.

    Images also carry `video_id` (from 1) and `frame_id` (from 0); the rest is as in `synthesize`.

    Args:
        folder: Where; made in one step at the end.
        options: Size, people, crowding, seed; the numbers of pictures are not used.
        joints: Names of the joints.
        limbs: Pairs of names, the category's skeleton.
        frames: Frames of a clip.
        clips: Number of clips.
        workers: Processes; None for one per core.
        progress: Called with (frames done, frames in all).

    Returns:
        The folder.
    """
    folder = Path(folder)
    readme = _describe(options, joints, f"clips={clips}, frames={frames}, ")
    if _there(folder, readme):
        return folder
    jobs = [
        ("val", clip, frame, f"{clip + 1:03d}_{frame + 1:06d}.jpg", _FIRST_ID["val"] + clip * 100_000 + frame + 1)
        for clip in range(clips)
        for frame in range(frames)
    ]
    with _whole(folder) as part:
        _write(
            part,
            options,
            joints,
            limbs,
            jobs,
            workers,
            progress,
            readme,
        )
    return folder


def _there(folder: Path, readme: str) -> bool:
    """Whether the data set that is asked for lies at a folder; an error if anything else does."""
    note = folder / "README.txt"
    if note.is_file() and (folder / "annotations").is_dir():
        if note.read_text() == readme:
            return True
        raise FileExistsError(f"{folder} holds synthetic people of other options; remove it or choose another folder")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} exists and is not a synthetic data set; remove it or choose another folder")
    return False
