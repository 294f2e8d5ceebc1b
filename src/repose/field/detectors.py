"""Where the boxes of a top-down method come from: the whole picture, a COCO file, or a person detector.

`open_boxes` is the one way in. Boxes are (x1, y1, x2, y2) in joint coordinates (`geometry.py`): what files and
detectors give as edges is shifted by `EDGE` here. Shape: N boxes.
"""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Any, Protocol, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import nms

from repose.config import nearest
from repose.data.coco import is_finite_box, load_json, result_box
from repose.engine.checkpoint import first_mismatch, read
from repose.errors import UserError
from repose.field.boxes import NONE, Boxes
from repose.field.onnx_session import Session, open_session
from repose.field.options import Detect
from repose.geometry import EDGE, crop_affine, edges_to_box

Array = NDArray[np.float64]


class BoxSource(Protocol):
    """Gives the boxes of a picture."""

    @property
    def words(self) -> str:
        """What it is, for the first line of a run."""
        ...

    def __call__(self, image_HW3: np.ndarray, name: str, frame: int | None) -> Boxes:
        """Boxes of a picture (RGB uint8) of this name; of a video: of this frame."""
        ...


def open_boxes(boxes: str, detector: Detect, device: torch.device, threads: int | None = None) -> BoxSource:
    """The boxes of `boxes=full_frame`, `boxes=detector` or `boxes=FILE`.

    Args:
        boxes: which.
        detector: settings of the detector.
        device: where it runs.
        threads: of onnxruntime.

    Raises:
        UserError: no such source or file; a detector without weights (says where to get them), or with wrong ones.
    """
    if boxes == "full_frame":
        if detector != Detect():
            raise UserError("detector settings are given, but boxes=full_frame needs none; add boxes=detector")
        return FullFrame()
    if boxes == "detector":
        if not detector.model:
            raise UserError(
                "boxes=detector: name one: detector.model=fasterrcnn_mobilenet_v3_large_fpn detector.weights=FILE, or "
                "detector.model=FILE.onnx (an RTMDet)"
            )
        if PurePath(detector.model).suffix.lower() == ".onnx":
            kind = "cuda" if device.type == "cuda" else "cpu"
            return RTMDet(open_session(Path(detector.model).expanduser(), kind, threads), detector)
        return TorchvisionDetector(detector, device)
    if Path(boxes).expanduser().is_file():
        return BoxFile(Path(boxes).expanduser())
    hint = nearest(boxes, ("full_frame", "detector"), 1)
    fix = f"did you mean {hint[0]!r}?" if hint else "give full_frame, detector, or a COCO file with boxes"
    raise UserError(f"boxes={boxes}: no such file; {fix}")


# --- without a network ----------------------------------------------------------------------------------------------


class FullFrame:
    """One person who fills the picture."""

    @property
    def words(self) -> str:
        """What it is."""
        return "the full frame (one person per picture; boxes=detector finds people)"

    def __call__(self, image_HW3: np.ndarray, name: str, frame: int | None) -> Boxes:
        """The whole picture."""
        return whole_picture(image_HW3)


def whole_picture(image_HW3: np.ndarray) -> Boxes:
    """The picture's edges as a box of score 1."""
    height, width = image_HW3.shape[:2]
    return Boxes(np.array([[-EDGE, -EDGE, width - EDGE, height - EDGE]]), np.ones(1))


class BoxFile:
    """Boxes of a COCO file: results (a list), or annotations (a dict; its people).

    A picture's boxes are those of its `file_name` (or of a shorter end of its path), where the file names files, else
    of the `image_id` that is the number in the picture's name (000000000785.jpg is 785); of a video those whose
    `image_id` is the frame's number, from 0. That is how `repose predict` writes its own files.

    Attributes:
        file: the file.
        stored: its boxes are of pictures as they are stored, without EXIF turns, as annotations are; the results that
            `repose predict` wrote, which name their files, are of turned ones.
        skipped: boxes that were left out: of other categories, without extent, or wholly outside their picture.
        elsewhere: pictures without boxes whose name the file has in another folder, and that name.
    """

    def __init__(self, file: Path) -> None:
        """Args: file: JSON.

        Raises:
            UserError: not a COCO file with boxes.
        """
        self.file = file
        self.skipped = 0
        self.elsewhere: dict[str, str] = {}
        self._by_id: dict[int, list[tuple[list[float], float]]] = {}
        self._by_name: dict[str, dict[PurePath, list[tuple[list[float], float]]]] = {}
        content = load_json(file)
        names: dict[Any, str] = {}
        if isinstance(content, dict) and "annotations" in content:
            names = {i["id"]: i["file_name"] for i in content.get("images", []) if "file_name" in i}
            content = [a for a in content["annotations"] if not a.get("iscrowd", 0)]
        if not isinstance(content, list) or not all(isinstance(r, dict) and "image_id" in r for r in content):
            raise UserError(f"boxes={file}: not a COCO file with boxes (a list of {{image_id, bbox, score}})")
        self.stored = not all("file_name" in result for result in content)
        for number, result in enumerate(content):
            try:
                self._add(result, result.get("file_name") or names.get(result["image_id"]))
            except (TypeError, ValueError, KeyError, IndexError):
                raise UserError(f"boxes={file}: entry {number} has no image_id and box that can be used") from None

    def _add(self, result: dict[str, Any], name: str | None) -> None:
        box = result_box(result)
        if box is None:
            raise ValueError("no box")
        if result.get("category_id", 1) != 1 or not is_finite_box(box):
            self.skipped += 1
            return
        entry = (box, float(result.get("score", 1.0)))
        if name is not None:
            path = PurePath(name)
            self._by_name.setdefault(path.name, {}).setdefault(path, []).append(entry)
        self._by_id.setdefault(int(result["image_id"]), []).append(entry)

    @property
    def words(self) -> str:
        """What it is."""
        return f"{self.file.name}"

    def complaints(self) -> list[str]:
        """What of the file could not be used, a line each."""
        found: list[str] = []
        if self.skipped:
            found.append(
                f"{self.file}: {self.skipped} boxes are not people, have no extent, or lie outside their picture"
            )
        if self.elsewhere:
            here, there = next(iter(self.elsewhere.items()))
            found.append(
                f"{self.file}: no boxes of {len(self.elsewhere)} pictures that it has in other folders ({there}, not "
                f"{here})"
            )
        return found

    def __call__(self, image_HW3: np.ndarray, name: str, frame: int | None) -> Boxes:
        """The file's boxes of a picture."""
        if frame is not None:
            found = self._by_id.get(frame, [])
        else:
            path = PurePath(name)
            found = self._named(path)
            if found is None:
                found = self._by_id.get(int(path.stem), []) if path.stem.isdecimal() else []
        if not found:
            return NONE
        box_N4 = edges_to_box(np.array([box for box, _ in found]))
        height, width = image_HW3.shape[:2]
        inside_N = (box_N4[:, :2] < (width - EDGE, height - EDGE)).all(1) & (box_N4[:, 2:] > -EDGE).all(1)
        self.skipped += int((~inside_N).sum())
        return Boxes(box_N4[inside_N], np.array([score for _, score in found])[inside_N])

    def _named(self, picture: PurePath) -> list[tuple[list[float], float]] | None:
        """Boxes of the file name that is the end of the picture's path, or has it as its end; None without one.

        Raises:
            UserError: the names of several files end so.
        """
        names = self._by_name.get(picture.name, {})
        if picture in names:
            return names[picture]
        ends = [name for name in names if _same_end(name, picture)]
        if len(ends) > 1:
            raise UserError(
                f"boxes={self.file}: {ends[0]} and {ends[1]} could both be {picture}; predict the folder of both"
            )
        if names and not ends:
            self.elsewhere[str(picture)] = str(next(iter(names)))
        return names[ends[0]] if ends else None


def _same_end(a: PurePath, b: PurePath) -> bool:
    shorter = min(len(a.parts), len(b.parts))
    return a.parts[-shorter:] == b.parts[-shorter:]


# --- networks -------------------------------------------------------------------------------------------------------


def best_boxes(edges_N4: Array, score_N: Array, cfg: Detect) -> Boxes:
    """A detector's boxes (x1, y1, x2, y2; edges) above the score, large enough, without duplicates; best first."""
    large_N = (edges_N4[:, 2:] - edges_N4[:, :2] > cfg.min_side).all(1) & np.isfinite(edges_N4).all(1)
    good_N = large_N & (score_N >= cfg.score)
    box, score = torch.from_numpy(edges_N4[good_N]), torch.from_numpy(score_N[good_N])
    kept = nms(box, score, cfg.nms).numpy()
    return Boxes(box.numpy()[kept] - EDGE, score.numpy()[kept])


class TorchvisionDetector:
    """A detector of torchvision with COCO's weights from a local file; label 1 is a person.

    Attributes:
        net: the network.
    """

    PERSON = 1

    def __init__(self, cfg: Detect, device: torch.device) -> None:
        """Build the network and read its weights.

        Raises:
            UserError: no such detector; no weights (says where to get them); weights of another network.
        """
        self.cfg = cfg
        self.device = device
        self.net = build_torchvision(cfg.model)
        path = _weight_file(cfg)
        state = read(path)
        state = state.get("model", state)  # training checkpoints of torchvision's references have it
        if wrong := first_mismatch(self.net.state_dict(), state):
            raise UserError(f"detector.weights={path}: not the weights of {cfg.model}: {wrong}")
        self.net.load_state_dict(state)
        self.net.eval().to(device)

    @property
    def words(self) -> str:
        """What it is."""
        return f"{self.cfg.model} (torchvision), score from {self.cfg.score:g}"

    def __call__(self, image_HW3: np.ndarray, name: str, frame: int | None) -> Boxes:
        """People of a picture."""
        image = torch.from_numpy(np.ascontiguousarray(image_HW3)).permute(2, 0, 1).to(self.device).float() / 255
        with torch.inference_mode():
            found = self.net([image])[0]
        person = found["labels"] == self.PERSON
        box_N4, score_N = (found[key][person].double().cpu().numpy() for key in ("boxes", "scores"))
        return best_boxes(box_N4, score_N, self.cfg)


def torchvision_detectors() -> list[str]:
    """Names of torchvision's detectors of COCO's classes."""
    from torchvision.models import detection, list_models

    return [name for name in list_models(detection) if not name.startswith(("keypoint", "mask"))]


def build_torchvision(name: str) -> torch.nn.Module:
    """A detector of torchvision without weights.

    Raises:
        UserError: there is none of that name.
    """
    from torchvision.models import get_model

    known = torchvision_detectors()
    if name not in known:
        hint = nearest(name, known, 1)
        fix = f"did you mean {hint[0]!r}?" if hint else f"torchvision has {', '.join(known)}; or give an .onnx file"
        raise UserError(f"detector.model={name}: no such detector; {fix}")
    return get_model(name, weights=None, weights_backbone=None)


def _weight_file(cfg: Detect) -> Path:
    from torchvision.models import get_model_weights

    weights: Any = cast("Any", get_model_weights(cfg.model)).DEFAULT
    published = PurePath(weights.url).name
    where = f"get {weights.url} once and give detector.weights=FILE"
    if cfg.weights is not None:
        path = Path(cfg.weights).expanduser()
        if not path.is_file():
            raise UserError(f"detector.weights={cfg.weights}: no such file; {where}")
        return path
    kept = Path(torch.hub.get_dir()) / "checkpoints" / published
    if not kept.is_file():
        raise UserError(f"detector.model={cfg.model}: no weights here ({kept} is not there); {where}")
    return kept


class RTMDet:
    """An RTMDet that somebody exported to ONNX (mmdeploy's form: boxes with scores, and labels), label 0 is a person.

    The picture is scaled to fit the input, laid into its upper left corner on grey (114), and normalised in BGR order.
    Source: mmdetection's RTMDet (test pipeline: Resize keep_ratio, Pad 114, BGR mean and standard deviation).
    """

    PERSON = 0
    GREY = 114
    MEAN_BGR = (103.53, 116.28, 123.675)
    STD_BGR = (57.375, 57.12, 58.395)
    SIDE = 640

    def __init__(self, session: Session, cfg: Detect) -> None:
        """Args: session: the opened file; cfg: settings.

        Raises:
            UserError: a network with other inputs or outputs.
        """
        self.session = session
        self.cfg = cfg
        takes, gives = session.inputs, session.outputs
        shape = takes[0].shape if takes else ()
        if len(takes) != 1 or len(shape) != 4 or shape[1] not in (3, None) or takes[0].dtype != "tensor(float)":
            raise self._refused(f"its input is {', '.join(p.words() for p in takes)}")
        if len(gives) != 2 or len(gives[0].shape) != 3 or gives[0].shape[2] not in (5, None):
            raise self._refused(f"its outputs are {', '.join(p.words() for p in gives)}")
        self.input_hw = (shape[2] or cfg.size or self.SIDE, shape[3] or cfg.size or self.SIDE)
        if cfg.size is not None and cfg.size != max(self.input_hw):
            raise UserError(
                f"detector.size={cfg.size}: {session.path.name} takes {self.input_hw[0]}x{self.input_hw[1]} only"
            )

    def _refused(self, what: str) -> UserError:
        return UserError(
            f"detector.model={self.session.path}: not an exported RTMDet: {what}; expected one image (n, 3, h, w) in, "
            "boxes with scores (n, m, 5) and labels (n, m) out, as mmdeploy exports it and the RTMPose project "
            "publishes it (rtmdet_nano, rtmdet_m)"
        )

    @property
    def words(self) -> str:
        """What it is."""
        height, width = self.input_hw
        return f"{self.session.path.name} (onnxruntime, {height}x{width}), score from {self.cfg.score:g}"

    def __call__(self, image_HW3: np.ndarray, name: str, frame: int | None) -> Boxes:
        """People of a picture."""
        picture, scale = letterbox(image_HW3, self.input_hw, self.GREY)
        bgr_HW3 = (picture[..., ::-1].astype(np.float32) - self.MEAN_BGR) / np.array(self.STD_BGR)
        batch = np.ascontiguousarray(bgr_HW3.transpose(2, 0, 1)[None], np.float32)
        found, label = self.session.run(batch)
        if found.ndim != 3 or found.shape[2] != 5 or label.shape != found.shape[:2]:
            raise self._refused(f"it gave {found.shape} and {label.shape}")
        person = found[0][label[0] == self.PERSON].astype(np.float64)
        edges_N4 = person[:, :4] / scale
        height, width = image_HW3.shape[:2]
        edges_N4 = np.clip(edges_N4, 0, (width, height, width, height))
        return best_boxes(edges_N4, person[:, 4], self.cfg)


def letterbox(image_HW3: np.ndarray, out_hw: tuple[int, int], grey: int) -> tuple[np.ndarray, float]:
    """A picture scaled to fit the input's upper left corner, edges on edges, the rest grey; and the factor."""
    height, width = image_HW3.shape[:2]
    scale = min(out_hw[0] / height, out_hw[1] / width)
    size_wh = out_hw[1] / scale, out_hw[0] / scale
    matrix = crop_affine((size_wh[0] / 2 - EDGE, size_wh[1] / 2 - EDGE), size_wh, (out_hw[1], out_hw[0])).matrix_23
    # The picture's last pixels go on, as in a resize; what lies beyond is painted afterwards.
    placed = cv2.warpAffine(image_HW3, matrix, out_hw[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    placed[round(height * scale) :] = grey
    placed[:, round(width * scale) :] = grey
    return placed, scale
