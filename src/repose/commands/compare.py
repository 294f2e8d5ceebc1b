"""`repose compare MODEL ...`: the same photographs through several trained networks, drawn side by side.

Annotated photographs (of the data set that the models are tested on) have their annotation beside them and an AP and a
mean OKS of that photograph for each model, and top-down models look into the annotated boxes; other photographs have
neither, and top-down models look at the whole of them. Shapes: N people of one photograph, K joints.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from repose import papers, viz
from repose.commands.changed_images import clear, worth_drawing
from repose.commands.run_folders import RUNS, RunFolder, find_runs, open_run
from repose.config import find_experiment, load_saved, parse_arguments, read_yaml, to_dict
from repose.config.schema import SCHEMA
from repose.data.datamodule import PoseDataModule
from repose.data.images import decode
from repose.data.preview import write
from repose.engine import rundir
from repose.errors import UserError
from repose.field.boxes import Boxes
from repose.field.poses import PicturePoses
from repose.field.predictor import Predictor, load
from repose.field.sources import PICTURES, Broken, Picture, find_source, read_picture
from repose.metrics import keypoint_ap
from repose.metrics.errors import matches

_CELL = (440, 620)
"""[pixels] height and width that a panel fits into."""
_SHORT_SIDE = 360
"""[pixels] small photographs are enlarged to it, so that thin lines look good."""
_GOOD = 0.5
"""Of a photograph without annotation: people that score at least this share of the best one are drawn."""
_UNASKED = 6
"""Photographs that are drawn where none are named."""


@dataclass(frozen=True)
class Model:
    """A trained network.

    Attributes:
        label: for the captions.
        predictor: the network.
        run: what it was opened from.
    """

    label: str
    predictor: Predictor
    run: str


@dataclass(frozen=True)
class Photograph:
    """A photograph and, where it is annotated, its people.

    Attributes:
        picture: its pixels.
        name: for the title and the file.
        row: image row of the data set; None where it is not annotated.
    """

    picture: Picture
    name: str
    row: int | None = None


@dataclass(frozen=True)
class Score:
    """What a model makes of a photograph.

    Attributes:
        model: its label.
        people: how many are drawn.
        ap: AP of this photograph alone; None without annotation (or with nobody labelled).
        oks: mean OKS of the annotated people, 0 for those that were not found; None likewise.
    """

    model: str
    people: int
    ap: float | None = None
    oks: float | None = None

    def caption(self) -> str:
        """Below the panel."""
        if self.ap is None or self.oks is None:
            return f"{self.model}: {_people(self.people)}"
        return f"{self.model}: AP {100 * self.ap:.0f}, OKS {self.oks:.2f}"


def compare(words: list[str], images: str | None, as_json: bool, out: str | None) -> int:
    """Draw photographs through several models.

    Args:
        words: models (experiments, runs, checkpoints) and pictures; `data=NAME`, `scale=S`, `runs=FOLDER`.
        images: files, a folder, a glob, or image ids of the data set.
        as_json: print one JSON object.
        out: folder of the pictures; None = figures/compare.
    """
    named = [w for w in words if "=" not in w]
    line, overlays = parse_arguments(w for w in words if "=" in w)
    values = {**line.values, **overlays}
    if unknown := values.keys() - {"data", "scale", "runs"}:
        raise UserError(f"compare: unknown key {sorted(unknown)[0]!r}; it takes data=NAME, scale=S and runs=FOLDER")
    files = [w for w in named if Path(w).suffix.lower() in PICTURES]
    wanted = [*([images] if images else []), *files]
    models = _models([w for w in named if w not in files], Path(str(values.get("runs", RUNS))), values.get("scale"))
    people = annotated_people(models[0], values.get("data"))
    photographs, skipped = find_photographs(wanted, people)
    folder = Path(out) if out else Path("figures") / "compare"
    clear(folder)
    rows = []
    for number, photograph in enumerate(photographs, 1):
        scores, sheet = draw_photograph(photograph, models, people)
        path = write(folder / f"{number:02d}-{re.sub(r'[^A-Za-z0-9._-]+', '-', photograph.name)}.png", sheet)
        rows.append({"image": photograph.name, "picture": str(path), "models": [s.__dict__ for s in scores]})
        if not as_json:
            print(f"{path}: {'; '.join(s.caption() for s in scores)}")
    if as_json:
        found = {"models": [{"model": m.label, "run": m.run} for m in models], "images": rows, "skipped": skipped}
        print(json.dumps(rundir.without_nan(found)))
    elif skipped:
        print(f"skipped {len(skipped)}: {'; '.join(skipped)}")
    return 0


# --- models ----------------------------------------------------------------------------------------------------------


def _models(names: Sequence[str], root: Path, scale: Any) -> list[Model]:
    if not names:
        raise UserError(
            "compare: name the models: experiments (drpnet/m), runs or checkpoints, and photographs after --images"
        )
    opened = []
    for name in names:
        path = _checkpoint(name, root, scale)
        predictor = load(path)
        opened.append(Model(_label(predictor.cfg), predictor, path))
    labels = [m.label for m in opened]
    return [m if labels.count(m.label) == 1 else replace(m, label=f"{m.label} ({_folder_name(m.run)})") for m in opened]


def _label(cfg: Any) -> str:
    """A model's name; a table's run has its row's label as title, which says nothing alone ("9x9")."""
    if cfg.log.group:
        return f"{cfg.name}: {cfg.title}"
    return str(cfg.title or cfg.name)


def _folder_name(checkpoint: str) -> str:
    path = Path(checkpoint)
    folder = path if path.is_dir() else path.parent.parent if path.parent.name == "checkpoints" else path
    return folder.name


def _checkpoint(name: str, root: Path, scale: Any) -> str:
    """The file or run folder that a word means: itself, the newest finished run of an experiment, or a run's name.

    Raises:
        UserError: nothing of that name; names the nearest run, or how to train the experiment.
    """
    if Path(name).exists() and Path(name).suffix not in (".yaml", ".yml"):
        return name
    try:
        file = find_experiment(name)
    except UserError:
        return str(open_run(name, root).path)
    values, _ = read_yaml(file)
    runs = find_runs(root) if root.is_dir() else []
    fits = [r for r in runs if _is_of(r, values) and scale in (None, r.settings.get("scale"))]
    if not fits:
        at = f" at scale {scale}" if scale else ""
        word = f" scale={scale}" if scale else ""
        raise UserError(f"compare: no finished run of {name}{at} below {root}; repose train {name}{word}")
    return str(max(fits, key=lambda r: str(r.result.get("finished") or "")).path)


def _is_of(run: RunFolder, values: dict[str, Any]) -> bool:
    same = run.settings.get("paper") == values.get("paper") and run.settings.get("name") == values.get("name")
    has_weights = (run.path / rundir.BEST).is_file() or (run.path / rundir.LAST).is_file()
    return same and not run.is_test and run.result.get("status") == "done" and has_weights


# --- photographs -----------------------------------------------------------------------------------------------------


def annotated_people(first: Model, name: Any) -> PoseDataModule | None:
    """The annotated people: of `data=NAME`, else of the first model's own data; None where those are not here."""
    cfg = first.predictor.cfg
    saved = {"schema": SCHEMA, **to_dict(cfg)}
    loaded = load_saved(saved, first.run, [f"data={name}"] if name else [], find_paper=papers.get)
    data = PoseDataModule(loaded.cfg)
    try:
        data.prepare_data()
        data.val_annotations  # noqa: B018 - read now, so that a data set that is not here is known now
    except UserError:
        if name:
            raise
        return None
    return data


def find_photographs(wanted: Sequence[str], data: PoseDataModule | None) -> tuple[list[Photograph], list[str]]:
    """What is drawn, and which pictures cannot be read."""
    if not wanted:
        if data is None:
            raise UserError("compare: which photographs? --images FILES, or data=NAME of a data set that is here")
        found = [_annotated(data, row) for row in _crowded(data)]
    elif re.fullmatch(r"\d+(,\d+)*", wanted[0]) and not Path(wanted[0]).exists():
        found = [_annotated(data, row) for row in _rows(wanted[0], data)]
        found += _files(wanted[1:], data)
    else:
        found = _files([part for w in wanted for part in ([w] if Path(w).exists() else w.split(","))], data)
    broken = [f"{p.source}: {p.reason}" for p in found if isinstance(p, Broken)]
    good = [p for p in found if isinstance(p, Photograph)]
    if not good:
        raise UserError(f"compare: none of the photographs can be read: {'; '.join(broken)}")
    return good, broken


def _crowded(data: PoseDataModule) -> list[int]:
    """Some images spread over the data set, each the one with most people among its neighbours."""
    annotations = data.val_annotations
    people_I = np.bincount(
        annotations.image_A[(annotations.num_keypoints_A > 0) & ~annotations.crowd_A], minlength=annotations.images
    )
    parts = np.array_split(np.arange(annotations.images), min(_UNASKED, annotations.images))
    return [int(part[np.argmax(people_I[part])]) for part in parts]


def _rows(ids: str, data: PoseDataModule | None) -> list[int]:
    if data is None:
        raise UserError(f"compare: --images {ids}: image ids need a data set that is here; add data=NAME")
    annotations = data.val_annotations
    row_of = {int(i): row for row, i in enumerate(annotations.image_id_I)}
    missing = [i for i in ids.split(",") if int(i) not in row_of]
    if missing:
        near = sorted(row_of)[:3]
        raise UserError(f"compare: --images: no image {missing[0]} in {annotations.file}; it has {near[0]}, ... (ids)")
    return [row_of[int(i)] for i in ids.split(",")]


def _annotated(data: PoseDataModule | None, row: int) -> Photograph | Broken:
    assert data is not None
    annotations = data.val_annotations
    path, name = annotations.path(row), f"image {annotations.image_id_I[row]}"
    pixels = decode(path)
    return Broken(str(path), pixels) if isinstance(pixels, str) else Photograph(Picture(pixels, str(path)), name, row)


def _files(names: Sequence[str], data: PoseDataModule | None) -> list[Photograph | Broken]:
    """Files, folders and globs; a file of the data set is annotated."""
    row_of = {}
    if data is not None and data.val_annotations.folder.is_dir():
        row_of = {data.val_annotations.path(row).resolve(): row for row in range(data.val_annotations.images)}
    found: list[Photograph | Broken] = []
    for name in names:
        source = find_source(name)
        if source.kind != "pictures":
            raise UserError(f"compare: {name} is no photograph; `repose predict` takes videos and webcams")
        for file in source.files:
            row = row_of.get(file.resolve())
            if row is not None:
                found.append(_annotated(data, row))
                continue
            picture = read_picture(file)
            found.append(picture if isinstance(picture, Broken) else Photograph(picture, file.stem))
    return found


# --- drawing ---------------------------------------------------------------------------------------------------------


def draw_photograph(
    photograph: Photograph, models: Sequence[Model], data: PoseDataModule | None
) -> tuple[list[Score], viz.Image]:
    """A photograph with its annotation, and through each model; scores and the sheet."""
    pixels = photograph.picture.image_HW3
    large, affine = viz.enlarge(pixels, _SHORT_SIDE)
    panels: list[viz.Image] = []
    captions: list[str] = []
    title = f"{photograph.name}, {pixels.shape[1]} x {pixels.shape[0]}"
    if photograph.row is not None and data is not None:
        truth = data.val_annotations.ground_truth([photograph.row])
        joint_NK3 = data.val_annotations.joint_AK3[_tested(photograph.row, data)]
        panels.append(viz.draw_poses(large, viz.move(joint_NK3, affine), data.skeleton))
        captions.append(f"annotated: {_people(len(joint_NK3))}")
    else:
        truth = None
        panels.append(large)
        captions.append("photograph")
    scores: list[Score] = []
    for model in models:
        found = _look(model, photograph, data)
        score, shown_NK3 = _judge(model, found, truth, data)
        panels.append(viz.draw_poses(large, viz.move(shown_NK3, affine), model.predictor.skeleton, "score", 0.0))
        scores.append(score)
        captions.append(score.caption())
    if any(m.predictor.top_down for m in models):
        where = "the annotated boxes" if photograph.row is not None else "the whole photograph"
        title += f"; top-down methods look into {where}"
    columns = {4: 2, 5: 3, 6: 3}.get(len(panels), min(len(panels), 4))
    return scores, viz.sheet(panels, columns, captions, title, _CELL, viz.legend())


def _people(n: int) -> str:
    return "1 person" if n == 1 else f"{n} people"


def _tested(image: int, data: PoseDataModule) -> np.ndarray:
    """Annotation rows of the people that an evaluation counts: not a crowd, with labelled joints."""
    annotations = data.val_annotations
    rows = np.arange(*annotations.first_I[[image, image + 1]])
    return rows[~annotations.crowd_A[rows] & (annotations.num_keypoints_A[rows] > 0)]


def _look(model: Model, photograph: Photograph, data: PoseDataModule | None) -> PicturePoses:
    """A model's people of a photograph."""
    boxes = None
    if model.predictor.top_down and photograph.row is not None and data is not None:
        rows = _tested(photograph.row, data)
        boxes = [Boxes(data.val_annotations.box_A4[rows].astype(np.float64), np.ones(len(rows)))]
    return model.predictor.see([photograph.picture], boxes, masks=False)[0]


def _judge(
    model: Model, found: PicturePoses, truth: dict[str, Any] | None, data: PoseDataModule | None
) -> tuple[Score, np.ndarray]:
    """AP and OKS of a photograph, and the poses that are drawn."""
    if truth is None or data is None or model.predictor.skeleton.joints != data.skeleton.joints:
        best = float(found.score_N.max()) if found.n else math.inf
        kept = found.above(_GOOD * best)
        return Score(model.label, kept.n), kept.joint_NK3.numpy()
    results = found.to_coco(int(truth["images"][0]["id"]))
    people = model.predictor.cfg.test.max_people
    matched = next(iter(matches(results, truth, data.skeleton, people)), None)
    if matched is None:  # nobody with labelled joints
        return Score(model.label, found.n), found.joint_NK3.numpy()
    ap = keypoint_ap.score(results, truth, data.skeleton, people)["AP"]
    shown = worth_drawing(matched)
    return Score(model.label, len(shown), ap, float(matched.oks_M().mean())), matched.pose_NK3[shown].numpy()
