"""`repose bench video`: what skipping the detector costs and saves, and what the filter does.

On a drawn clip everything is known (who is who, too); on a video of one's own there are times and agreement alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repose.config import Data, ExperimentBase, Synthetic, parse_arguments, settings
from repose.errors import UserError
from repose.field.options import Bench

if TYPE_CHECKING:
    import numpy as np

    from repose.data.coco import Annotations
    from repose.field.boxes import Boxes
    from repose.field.poses import PicturePoses
    from repose.field.predictor import Predictor
    from repose.field.sources import Frame
    from repose.field.video import Spent
    from repose.field.video_metrics import People
    from repose.skeleton import Skeleton

CLIP_RATE = 25.0
"""Frames per second of a drawn clip."""


def bench_video(words: list[str], as_json: bool) -> int:
    """Measure and print.

    Args:
        words: a video (none = a drawn clip), then `checkpoint=FILE` and settings: `Bench`'s, and the experiment's.
        as_json: print one JSON object on stdout and nothing else.
    """
    sources = [w for w in words if "=" not in w]
    if len(sources) > 1:
        raise UserError(f"bench video: one video at a time, not {sources[0]!r} and {sources[1]!r}")
    mine = {f.name for f in dataclasses.fields(Bench)}
    own = [w for w in words if "=" in w and w.partition("=")[0].partition(".")[0] in mine]
    cfg = settings(Bench, parse_arguments(own)[0])
    experiment = [w for w in words if "=" in w and w not in own]
    measured, of = measure(cfg, experiment, Path(sources[0]) if sources else None)
    if not sources:  # DRP-Net's Fig. 4 prints what the drawn clip gave
        from repose.tables import speed

        speed.keep("video", of, _without_nan(measured))
    if cfg.plot:
        measured["plot"] = str(draw(measured, Path(cfg.plot)))
    print(json.dumps(_without_nan(measured)) if as_json else render(measured), flush=True)
    return 0


def measure(cfg: Bench, experiment: Sequence[str], video: Path | None) -> tuple[dict[str, Any], ExperimentBase]:
    """Run all intervals.

    Returns:
        what was measured, as plain values: `rows`, one per interval, and what is the same for all of them; and the
        experiment that was measured.

    Raises:
        UserError: no checkpoint; a setting that means nothing; a video that cannot be opened.
    """
    if cfg.checkpoint is None:
        raise UserError("bench video: give checkpoint=FILE, a trained network")
    if not cfg.intervals or min(cfg.intervals) < 1 or len(set(cfg.intervals)) != len(cfg.intervals):
        raise UserError(f"intervals={list(cfg.intervals)}: give different whole numbers from 1 on, [1,2,5,10]")
    if cfg.frames < cfg.warm + 3:
        raise UserError(f"frames={cfg.frames}: give at least warm + 3 = {cfg.warm + 3}")
    import torch

    from repose.commands.bench_overhead import overhead
    from repose.engine.provenance import hardware
    from repose.field.predictor import load

    boxes = "full_frame" if video is None else ("full_frame" if cfg.boxes == "drawn" else cfg.boxes)
    detector = cfg.detector if boxes == "detector" else None
    predictor = load(
        cfg.checkpoint, *experiment, boxes=boxes, detector=detector, device=cfg.device, threads=cfg.threads
    )
    clip = _drawn_clip(cfg, predictor.skeleton) if video is None else _given_video(video, cfg.frames)
    if clip.annotations is not None and predictor.top_down:
        predictor.boxes = _ClipBoxes(clip, cfg)
    timed = None
    if predictor.top_down and cfg.time_detector and not cfg.detector.model and boxes == "full_frame":
        timed = cfg.time_detector
        predictor.boxes = _Timed(predictor.boxes, timed, predictor.device)
    runs = [_run(predictor, clip, cfg, n) for n in (cfg.intervals if predictor.top_down else (1,))]
    first = next((r for r in runs if r.interval == 1), runs[0])
    found = {
        "experiment": predictor.cfg.name,
        "paper": predictor.cfg.paper,
        "scale": predictor.cfg.scale,
        "checkpoint": str(cfg.checkpoint),
        "video": clip.name,
        "frames": len(clip.frames),
        "size": [clip.frames[0].image_HW3.shape[0], clip.frames[0].image_HW3.shape[1]],
        "fps": 1 / clip.frame_s,
        "device": str(predictor.device),
        "hardware": hardware(),
        "threads": torch.get_num_threads(),
        "top_down": predictor.top_down,
        "boxes": predictor.boxes.words if predictor.top_down else "none",
        "timed_detector": timed,
        "smooth": cfg.smooth.preset,
        "true_jitter": _true_jitter(clip),
        "rows": [_row(run, first, clip, cfg, predictor.skeleton) for run in runs],
        "overhead": overhead(predictor.skeleton, cfg.track, cfg.smooth),
    }
    return found, predictor.cfg


# --- what is looked at ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Clip:
    name: str
    frames: list[Frame]
    frame_s: float
    annotations: Annotations | None = None
    track_A: np.ndarray | None = None
    detections: Path | None = None


def clip_folder(cfg: Bench, skeleton: Skeleton) -> Path:
    """Where the drawn clip lies; each set of options and each drawing code has a folder of its own."""
    from repose.data.roots import candidates, drawing_code

    options = [cfg.people, cfg.size, cfg.seed, cfg.frames, skeleton.joints, drawing_code()]
    key = hashlib.sha256(json.dumps(options).encode()).hexdigest()[:10]
    return candidates(Data(name="synthetic-clip"))[0] / key


def _drawn_clip(cfg: Bench, skeleton: Skeleton) -> _Clip:
    import numpy as np

    from repose.data import coco
    from repose.data.images import decode
    from repose.data.synthetic import JOINTS, synthesize_clip
    from repose.engine.logging import say
    from repose.field.sources import Frame

    if missing := [j for j in skeleton.joints if j not in JOINTS]:
        raise UserError(f"bench video: drawn people have no {missing[0]!r}; give a video")
    folder = clip_folder(cfg, skeleton)
    if not folder.is_dir():
        say(f"drawing a clip of {cfg.frames} frames into {folder}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    options = Synthetic(people=cfg.people, size=cfg.size, seed=cfg.seed)
    try:
        synthesize_clip(folder, options, skeleton.joints, skeleton.limbs, cfg.frames, workers=1)
    except (ValueError, FileExistsError) as error:
        raise UserError(f"bench video: {error}") from None
    file = folder / "annotations" / "person_keypoints_val.json"
    annotations = coco.read(file, folder / "images" / "val", skeleton)
    tracks = {a["id"]: a["track_id"] for a in coco.load_json(file)["annotations"]}
    frames: list[Frame] = []
    for i in range(annotations.images):
        image = decode(annotations.path(i))
        if isinstance(image, str):
            raise UserError(f"{annotations.path(i)}: {image}; remove {folder}, it is drawn anew")
        frames.append(Frame(i, i / CLIP_RATE, image))
    track_A = np.array([tracks[int(a)] for a in annotations.ann_id_A], np.int64)
    detections = folder / "annotations" / "person_detections_val.json"
    name = f"drawn clip, {cfg.people[0]} to {cfg.people[1]} people, seed {cfg.seed}"
    return _Clip(name, frames, 1 / CLIP_RATE, annotations, track_A, detections)


def _given_video(path: Path, most: int) -> _Clip:
    from repose.field.sources import Video

    video = Video(path)
    frames: list[Frame] = []
    for frame in video:
        frames.append(frame)
        if len(frames) == most:
            break
    video.close()
    if len(frames) < 3:
        raise UserError(f"{path}: {len(frames)} frames could be read; a measurement needs more")
    return _Clip(path.name, frames, 1 / video.fps)


class _ClipBoxes:
    """Boxes of a drawn clip, true or as a detector might find them."""

    def __init__(self, clip: _Clip, cfg: Bench) -> None:
        import numpy as np

        from repose.data.boxes import ground_truth_boxes
        from repose.data.coco import load_json
        from repose.field.boxes import NONE, Boxes
        from repose.field.detectors import best_boxes

        assert clip.annotations is not None and clip.detections is not None
        if cfg.boxes not in ("drawn", "gt"):
            raise UserError(f"boxes={cfg.boxes}: a drawn clip has boxes=drawn or boxes=gt")
        self.words = "drawn clip's detections" if cfg.boxes == "drawn" else "drawn clip's ground truth"
        self._of: list[Boxes] = [NONE] * clip.annotations.images
        if cfg.boxes == "gt":
            truth = ground_truth_boxes(clip.annotations)
            for i in range(clip.annotations.images):
                mine = truth.image_M == i
                self._of[i] = Boxes(truth.box_M4[mine], truth.score_M[mine])
            return
        row = {int(image_id): i for i, image_id in enumerate(clip.annotations.image_id_I)}
        found: dict[int, list[list[float]]] = {}
        for result in load_json(clip.detections):
            x, y, w, h = result["bbox"]
            found.setdefault(row[result["image_id"]], []).append([x, y, x + w, y + h, result["score"]])
        for i, boxes in found.items():
            array = np.array(boxes)
            self._of[i] = best_boxes(array[:, :4], array[:, 4], cfg.detector)

    def __call__(self, image_HW3: np.ndarray, name: str, frame: int | None) -> Boxes:
        return self._of[frame or 0]


class _Timed:
    """Boxes from elsewhere, and a detector with random weights that runs for its time alone."""

    def __init__(self, boxes: Any, name: str, device: Any) -> None:
        from repose.field.detectors import build_torchvision

        self._boxes = boxes
        self._net = build_torchvision(name).eval().to(device)
        self._device = device
        self.words = f"{boxes.words}; the detector's time is {name}'s (random weights)"

    def __call__(self, image_HW3: np.ndarray, name: str, frame: int | None) -> Boxes:
        import torch

        image = torch.from_numpy(image_HW3).permute(2, 0, 1).to(self._device).float() / 255
        with torch.inference_mode():
            self._net([image])
        return self._boxes(image_HW3, name, frame)


# --- measuring ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Run:
    interval: int
    spent: list[Spent]
    looks: int
    found: list[PicturePoses]


def _run(predictor: Predictor, clip: _Clip, cfg: Bench, interval: int) -> _Run:
    from repose.field.video import Follower

    spent: list[Spent] = []
    found: list[PicturePoses] = []
    for frame in clip.frames[: cfg.warm]:
        Follower(predictor, cfg.track, cfg.smooth, clip.name)(frame, clip.frame_s)
    follower = Follower(predictor, replace(cfg.track, interval=interval), cfg.smooth, clip.name)
    for frame in clip.frames:
        found.append(follower(frame, clip.frame_s))
        spent.append(follower.spent)
    return _Run(interval, spent, sum(s.detector > 0 for s in spent), found)


def _people(poses: PicturePoses, measured: bool) -> People:
    import numpy as np

    from repose.field.tracking import box_area
    from repose.field.video import MEASURED
    from repose.field.video_metrics import People

    joint_NK3 = poses.joint_NK3.double().numpy().copy()
    if measured:
        assert poses.extra is not None
        joint_NK3[..., :2] = poses.extra[MEASURED].double().numpy()
    assert poses.box_N4 is not None and poses.track_N is not None
    return People(joint_NK3, box_area(poses.box_N4.double().numpy()), np.asarray(poses.track_N))


def _truth(clip: _Clip) -> Iterator[People]:
    import numpy as np

    from repose.field.video_metrics import People

    assert clip.annotations is not None and clip.track_A is not None
    for i in range(clip.annotations.images):
        rows = np.array([a for a in clip.annotations.rows(i) if not clip.annotations.crowd_A[a]], np.int64)
        yield People(clip.annotations.joint_AK3[rows], clip.annotations.area_A[rows], clip.track_A[rows])


def _true_jitter(clip: _Clip) -> float:
    from repose.field.video_metrics import jitter

    return jitter(list(_truth(clip)), clip.frame_s, 0.0) if clip.annotations is not None else math.nan


def _row(run: _Run, first: _Run, clip: _Clip, cfg: Bench, skeleton: Skeleton) -> dict[str, Any]:
    from repose.field.video_metrics import Identities, agreement, jitter
    from repose.metrics import keypoint_ap

    sigmas, threshold = skeleton.sigmas, cfg.track.keypoint_score
    measured, smoothed = ([_people(p, raw) for p in run.found] for raw in (True, False))
    parts = ("detector", "network", "crops", "tracks", "whole")
    timed = run.spent[cfg.warm :]
    row: dict[str, Any] = {
        "interval": run.interval,
        "looks": run.looks,
        "ms": {part: 1000 * statistics.fmean(getattr(s, part) for s in timed) for part in parts},
        "people": statistics.fmean(p.n for p in run.found),
        "agreement": agreement(measured, [_people(p, True) for p in first.found], sigmas),
        "measured": {"jitter": jitter(measured, clip.frame_s, threshold)},
        "filtered": {"jitter": jitter(smoothed, clip.frame_s, threshold)},
    }
    if clip.annotations is None:
        return row
    truth = clip.annotations.ground_truth()
    for name, people in (("measured", measured), ("filtered", smoothed)):
        identities = Identities(sigmas)
        for mine, theirs in zip(people, _truth(clip), strict=True):
            identities.add(mine, theirs)
        results = [
            {
                "image_id": int(clip.annotations.image_id_I[i]),
                "category_id": 1,
                "keypoints": joint_K3.ravel().tolist(),
                "score": float(score),
            }
            for i, (poses, mine) in enumerate(zip(run.found, people, strict=True))
            for joint_K3, score in zip(mine.joint_NK3, poses.score_N, strict=True)
        ]
        row[name] |= {
            "AP": keypoint_ap.score(results, truth, skeleton)["AP"],
            "error_px": identities.mean_error_px,
            "found": identities.recall,
            "switches": identities.switches,
        }
    return row


# --- showing --------------------------------------------------------------------------------------------------------


def render(measured: dict[str, Any]) -> str:
    """The measurement as a table."""
    height, width = measured["size"]
    seconds = measured["frames"] / measured["fps"]
    lines = [
        f"{measured['paper']} {measured['experiment']} (scale {measured['scale']}) on {measured['video']}: "
        f"{measured['frames']} frames of {width}x{height}, {seconds:.1f} s; {measured['device']}, "
        f"{measured['threads']} thread(s)",
        f"boxes: {measured['boxes']}" if measured["top_down"] else "whole pictures: the detector's interval is nothing",
        "",
        f"{'':>8}{'':>7}{'ms per frame':>50}{'':>10}{'measured':>22}{'filter: ' + measured['smooth']:>26}",
        f"{'interval':>8}{'looks':>7}{'detector':>10}{'network':>10}{'crops':>10}{'tracks':>10}{'whole':>10}"
        f"{'agree':>10}" + f"{'AP':>8}{'px':>6}{'switches':>9}{'jitter':>9}" * 2,
    ]
    for row in measured["rows"]:
        ms = "".join(f"{row['ms'][part]:>10.2f}" for part in ("detector", "network", "crops", "tracks", "whole"))
        cells = "".join(_cells(row[name]) for name in ("measured", "filtered"))
        lines.append(f"{row['interval']:>8}{row['looks']:>7}{ms}{_number(row['agreement'], 3):>10}{cells}")
    over = measured["overhead"]
    lines += [
        "",
        "agree: mean OKS with the poses of interval 1, no accuracy. AP and px (mean error of labelled joints) against "
        "the drawn truth, switches: a person found under another number.",
        f"jitter: mean acceleration of joints, px/s^2; the true joints have {_number(measured['true_jitter'], 0)}.",
        f"beside the networks, {over['people']} people on {over['size'][1]}x{over['size'][0]}, CPU time of one thread: "
        f"{over['tracks_ms']:.2f} ms for tracks, duplicates and filter, {over['crops_ms']:.2f} ms for the crops.",
    ]
    if measured.get("plot"):
        lines.append(f"plot: {measured['plot']}")
    return "\n".join(lines)


def _cells(values: dict[str, Any]) -> str:
    ap = _number(100 * values["AP"], 1) if "AP" in values else "-"
    return (
        f"{ap:>8}{_number(values.get('error_px', math.nan), 1):>6}{values.get('switches', '-'):>9}"
        f"{_number(values['jitter'], 0):>9}"
    )


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "-"


def _without_nan(value: Any) -> Any:
    from repose.engine.rundir import without_nan

    return without_nan(value)


def draw(measured: dict[str, Any], path: Path) -> Path:
    """The figure: time per frame by interval, accuracy by interval, jitter with and without the filter.

    Raises:
        UserError: it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from repose.field.writers import writing

    rows = measured["rows"]
    names = [str(row["interval"]) for row in rows]
    place = range(len(rows))
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3)
    below = [0.0] * len(rows)
    for part, colour in (("detector", "#d55e00"), ("network", "#0072b2"), ("crops", "#56b4e9"), ("tracks", "#009e73")):
        values = [row["ms"][part] for row in rows]
        left.bar(place, values, 0.6, bottom=below, color=colour, label=part)
        below = [a + b for a, b in zip(below, values, strict=True)]
    for x, top in zip(place, below, strict=True):
        left.annotate(f"{top:.1f}", (x, top), (0, 2), textcoords="offset points", ha="center", fontsize=8)
    left.set_ylim(0, 1.25 * max(below))
    left.set_ylabel("ms per frame")
    left.set_title("time", fontsize=10)
    middle.plot(place, [row["agreement"] for row in rows], "o-", color="#555555", label="agreement with interval 1")
    if "AP" in rows[0]["measured"]:
        middle.plot(place, [row["measured"]["AP"] for row in rows], "s-", color="#0072b2", label="AP, measured")
        middle.plot(place, [row["filtered"]["AP"] for row in rows], "^--", color="#d55e00", label="AP, filtered")
    middle.set_ylim(0, 1.05)
    middle.set_title("accuracy", fontsize=10)
    right.plot(place, [row["measured"]["jitter"] for row in rows], "s-", color="#0072b2", label="measured")
    right.plot(place, [row["filtered"]["jitter"] for row in rows], "^--", color="#d55e00", label="filtered")
    if math.isfinite(measured["true_jitter"]):
        right.axhline(measured["true_jitter"], color="#009e73", lw=1, label="true joints")
    right.set_ylim(0, None)
    right.set_ylabel("mean acceleration of joints [px/s²]")
    right.set_title("jitter", fontsize=10)
    for axes in (left, middle, right):
        axes.set_xticks(place, names)
        axes.set_xlabel("detector every n-th frame")
        axes.legend(fontsize=7)
        axes.grid(alpha=0.3, axis="y")
    title = f"{measured['paper']} {measured['experiment']}, scale {measured['scale']}, {measured['video']}"
    figure.suptitle(title, fontsize=10)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
    return path
