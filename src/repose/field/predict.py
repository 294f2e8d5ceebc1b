"""`repose predict`: pictures or a video in, annotated ones and files out.

`predictions.json` is a COCO result list, `images.json` says which picture an id is, `poses.csv` has one row per person,
`masks.json` the masks where the method has them; annotated pictures lie below `pictures/`, a video beside the files.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from repose.errors import UserError
from repose.field.detectors import BoxFile
from repose.field.options import Options
from repose.field.poses import PicturePoses, row_names, rows
from repose.field.predictor import Predictor
from repose.field.progress import Progress
from repose.field.sources import Broken, Picture, Source, Video, common_names, read_picture
from repose.field.video import follow
from repose.field.window import Window
from repose.field.writers import CODECS, CsvFile, JsonList, VideoFile, write_picture

RESULTS, IMAGES, CSV, MASKS, DRAWN = "predictions.json", "images.json", "poses.csv", "masks.json", "pictures"
_SAME = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
"""Endings that an annotated picture keeps; others become PNG."""


@dataclass
class Summary:
    """What a prediction did.

    Attributes:
        source: what it looked at.
        out: folder of the files.
        unit: pictures or frames.
        done: how many.
        people: found in them.
        skipped: broken pictures and frames, one line each.
        seconds: it took.
        files: what was written.
    """

    source: str
    out: Path
    unit: str
    done: int = 0
    people: int = 0
    skipped: list[str] = field(default_factory=list)
    seconds: float = 0.0
    files: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        rate = self.done / self.seconds if self.seconds > 0 else 0.0
        return {
            "source": self.source,
            "out": str(self.out),
            self.unit: self.done,
            "people": self.people,
            "skipped": self.skipped,
            "seconds": round(self.seconds, 3),
            f"{self.unit}_per_s": round(rate, 2),
            "files": self.files,
        }

    def words(self) -> str:
        """One line."""
        rate = f", {self.done / self.seconds:.1f} per second" if self.seconds > 0 else ""
        left_out = f"; {len(self.skipped)} broken, skipped" if self.skipped else ""
        return f"{self.people} people in {self.done} {self.unit}{rate}{left_out}; written to {self.out}"


class _Files:
    """The files of a prediction, open until its end."""

    def __init__(self, stack: ExitStack, out: Path, predictor: Predictor, masks: bool, summary: Summary) -> None:
        self.summary = summary
        self.out = out
        self._stack = stack
        skeleton = predictor.skeleton
        category = {
            "id": 1,
            "name": "person",
            "keypoints": list(skeleton.joints),
            "skeleton": [[a + 1, b + 1] for a, b in skeleton.limb_index],
        }
        foot = f'],"categories":{json.dumps([category])}}}'
        self._results = self._opened(JsonList(out / RESULTS))
        self._images = self._opened(JsonList(out / IMAGES, '{"images":[', foot))
        self._csv = self._opened(CsvFile(out / CSV, row_names(skeleton)))
        self._masks: JsonList | None = None
        self._wants_masks = masks
        (out / MASKS).unlink(missing_ok=True)  # of an earlier run

    def _opened(self, file: Any) -> Any:
        self._stack.enter_context(file)
        self.summary.files.append(str(file.path))
        return file

    def add(self, poses: PicturePoses, image_id: int, name: str) -> None:
        width, height = poses.size_wh
        image: dict[str, Any] = {"id": image_id, "file_name": name, "width": width, "height": height}
        if poses.frame is not None:
            image |= {"frame_id": poses.frame, "second": round(poses.second or 0.0, 4)}
        self._images.add([image])
        named = {} if poses.frame is not None else {"file_name": name}
        self._results.add({**result, **named} for result in poses.to_coco(image_id))
        self._csv.add(rows(poses))
        if self._wants_masks and poses.mask_NHW is not None:
            if self._masks is None:
                self._masks = self._opened(JsonList(self.out / MASKS))
            assert self._masks is not None
            self._masks.add(poses.to_coco(image_id, masks=True))
        self.summary.done += 1
        self.summary.people += poses.n


def predict(
    predictor: Predictor, source: Source, options: Options, out: Path, show: bool = False, bar: bool = True
) -> Summary:
    """Predict everything that a source has.

    Args:
        predictor: the network.
        source: pictures, a video or a webcam.
        options: settings.
        out: folder of the files.
        show: open a window.
        bar: show a progress bar.

    Raises:
        UserError: nothing could be read, a video cannot be opened, or a file cannot be written.
    """
    begin = time.monotonic()
    window = Window(f"repose: {source.name}") if show else None
    run = _pictures if source.kind == "pictures" else _video
    summary = run(predictor, source, options, out, window, bar)
    if isinstance(predictor.boxes, BoxFile):
        summary.skipped += predictor.boxes.complaints()
    summary.seconds = time.monotonic() - begin
    if not summary.done:
        first = f": {summary.skipped[0]}" if summary.skipped else ""
        raise UserError(f"{summary.source}: none of its {summary.unit} could be used{first}")
    return summary


def image_ids(names: Iterable[str]) -> list[int]:
    """Ids of pictures: the numbers in their names (COCO's way) if all have different ones, else from 1 on."""
    stems = [PurePath(name).stem for name in names]
    numbers = [int(stem) for stem in stems if stem.isdecimal()]
    return numbers if len(numbers) == len(stems) == len(set(numbers)) else list(range(1, len(stems) + 1))


def _pictures(
    predictor: Predictor, source: Source, options: Options, out: Path, window: Window | None, bar: bool
) -> Summary:
    names = common_names(source.files, source.folder)
    ids = dict(zip(names, image_ids(names), strict=True))
    text = str(source.files[0]) if len(source.files) == 1 else str(source.folder)
    summary = Summary(text, out, "pictures")
    targets = {name: _target(out / DRAWN / name) for name in names}
    if options.draw.write:
        originals = {path.resolve() for path in source.files}
        if hit := next((t for t in targets.values() if t.resolve() in originals), None):
            raise UserError(f"{hit}: the annotated picture would replace this one; choose another folder with --out")
    with ExitStack() as stack, Progress(len(names), "pictures", bar) as progress:
        files = _Files(stack, out, predictor, options.masks, summary)

        def skip(broken: Broken) -> None:
            summary.skipped.append(f"{broken.source}: {broken.reason}")
            progress.say(f"skipped {broken.source}: {broken.reason}")
            progress.step()

        def read() -> Iterator[Picture | Broken]:
            for path, name in zip(source.files, names, strict=True):
                yield read_picture(path, name, predictor.stored)

        for poses in predictor.stream(read(), skip, options.masks):
            files.add(poses, ids[poses.source], poses.source)
            if options.draw.write or window is not None:
                drawn = poses.draw(options.draw.joints, options.draw.score, options.draw.boxes)
                if options.draw.write:
                    write_picture(targets[poses.source], drawn)
                if window is not None:
                    window.show(drawn)
            progress.step()
            if window is not None and window.closed:
                break
    if options.draw.write and summary.done:
        summary.files.append(str(out / DRAWN))
    if window is not None:
        window.wait()
    return summary


def _target(path: Path) -> Path:
    return path if path.suffix.lower() in _SAME else path.with_name(f"{path.name}.png")


def _video(
    predictor: Predictor, source: Source, options: Options, out: Path, window: Window | None, bar: bool
) -> Summary:
    video = Video(source.camera if source.kind == "webcam" else source.files[0])
    summary = Summary(str(source.files[0]) if source.files else video.name, out, "frames")
    draw = options.draw
    total = min((n for n in (video.frames, options.frames) if n is not None), default=None)
    path = out / f"{source.name}{CODECS[draw.codec][1]}"
    if draw.write and source.files and path.resolve() == source.files[0].resolve():
        raise UserError(f"{path}: the annotated video would replace this one; choose another folder with --out")
    try:
        with ExitStack() as stack, Progress(total, "frames", bar) as progress:
            files = _Files(stack, out, predictor, options.masks, summary)
            written: VideoFile | None = None
            for poses in follow(predictor, video, options.track, options.smooth, options.frames):
                assert poses.frame is not None
                files.add(poses, poses.frame, poses.source)
                if draw.write or window is not None:
                    drawn = poses.draw(draw.joints, draw.score, draw.boxes, fast=True)
                    if draw.write and written is None:
                        written = stack.enter_context(VideoFile(path, draw.codec, video.fps, poses.size_wh))
                        summary.files.append(str(path))
                    if written is not None:
                        written.add(drawn)
                    if window is not None:
                        window.show(drawn)
                progress.step()
                if window is not None and window.closed:
                    break
    finally:
        video.close()
    for line in video.problems():
        summary.skipped.append(line)
        progress.say(line)
    return summary
