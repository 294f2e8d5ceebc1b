"""`repose.load` and the predictor: exact geometry in every view, every kind of input, the evaluation's poses."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from field_kit import JOINT_NK2, JOINTS, dots, reader, untrained
from pycocotools import mask as rle

import repose
from repose import papers
from repose.config import load, load_saved
from repose.data.datamodule import PoseDataModule
from repose.engine import checkpoint as ckpt
from repose.engine import run
from repose.errors import UserError
from repose.field.detectors import BoxFile
from repose.field.model import open_checkpoint
from repose.field.sources import Broken, Picture

EXACT = 0.12
"""[pixels] what the dots' light loses to rounding and to the edges of colours."""
VIEWS = {
    "crop": {"input_size": (256, 192)},
    "crop-wide": {"input_size": (128, 320), "padding": 1.4},
    "long": {"view": "image", "base": "long", "centre": "image", "input_size": (192, 192)},
    "short": {"view": "image", "base": "short", "centre": "image", "input_size": (256, 256), "test_multiple": 64},
    "centre": {
        "view": "image",
        "base": "short",
        "centre": "image",
        "input_size": (160, 160),
        "test_place": "centre",
        "border": "black",
    },
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("size_wh", [(130, 131), (213, 140)])
def test_joints_come_back_where_they_are(view, size_wh):
    (poses,) = reader(**VIEWS[view])(dots(JOINT_NK2, size_wh))
    assert poses.n == 1
    np.testing.assert_allclose(poses.joint_NK3[0, :, :2], JOINT_NK2, atol=EXACT)


def test_boxes_of_several_people_and_boxes_that_leave_the_picture():
    predictor = reader(input_size=(256, 192))
    image = dots(JOINT_NK2, (130, 131))
    boxes = [[20, 10, 105, 120], [-80, -60, 110, 125, 0.5], [25, 15, 100, 118]]
    (poses,) = predictor(image, boxes=[np.array([b[:4] for b in boxes])])
    # three crops of one person: OKS-NMS leaves one
    assert poses.n == 1
    np.testing.assert_allclose(poses.joint_NK3[0, :, :2], JOINT_NK2, atol=EXACT)
    (alone,) = predictor(image, boxes=[np.array([boxes[1]])])
    np.testing.assert_allclose(alone.joint_NK3[0, :, :2], JOINT_NK2, atol=EXACT)
    np.testing.assert_allclose(alone.box_N4[0], np.array(boxes[1][:4]) - 0.5)  # edges in, joint coordinates inside
    assert float(alone.score_N) == pytest.approx(0.9 * 0.5)  # box score x mean joint score
    with pytest.raises(UserError, match="without extent"):
        predictor(image, boxes=[np.array([[5, 5, 5, 9]])])
    with pytest.raises(UserError, match="2 entries for 1 pictures"):
        predictor(image, boxes=[[], []])
    assert predictor(image, boxes=[[]])[0].n == 0


def test_paths_arrays_and_tensors_are_the_same_picture(tmp_path):
    predictor = reader(input_size=(256, 192))
    image = dots(JOINT_NK2, (130, 131))
    cv2.imwrite(str(tmp_path / "a.png"), image[..., ::-1])
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    (want,) = predictor(image)
    inputs = [
        tmp_path / "a.png",
        str(tmp_path),
        str(tmp_path / "*.png"),
        tensor,
        tensor.float() / 255,
        tensor[None],
        image[None],
        [image],
    ]
    for one in inputs:
        (got,) = predictor(one)
        torch.testing.assert_close(got.joint_NK3, want.joint_NK3)
    (got,) = predictor(np.ascontiguousarray(image[..., ::-1]), order="bgr")
    torch.testing.assert_close(got.joint_NK3, want.joint_NK3)
    mixed = predictor([image, tmp_path / "a.png", tensor[None].repeat(2, 1, 1, 1)])
    assert len(mixed) == 4
    assert [p.source for p in mixed[:2]] == ["array 0", str(tmp_path / "a.png")]


@pytest.mark.parametrize(
    ("image", "part"),
    [
        (np.zeros((5, 5, 4)), "not an RGB picture"),
        (np.zeros((0, 5, 3), np.uint8), "no pixels"),
        (3, "int: not a picture"),
        ("none.jpg", "no such file"),
        ("clip.mp4", "videos and webcams: predictor.video"),
    ],
)
def test_what_is_no_picture_is_said_in_one_line(image, part, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip.mp4").write_bytes(b"x")
    with pytest.raises(UserError, match=part):
        reader(input_size=(64, 64))(image)


def turned_photograph(folder):
    """150 x 130 as stored, shown turned by 90 degrees clockwise: EXIF orientation 6."""
    image = dots(JOINT_NK2, (150, 130))
    _, code = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])
    data = code.tobytes()
    tiff = b"II*\0\x08\0\0\0" + b"\x01\0" + b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0" + b"\0\0\0\0"
    body = b"Exif\0\0" + tiff
    turned = data[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + data[2:]
    (folder / "turned.jpg").write_bytes(turned)
    return folder / "turned.jpg"


def test_exif_orientation_is_honoured(tmp_path):
    file = turned_photograph(tmp_path)
    (poses,) = reader(view="image", base="long", centre="image", input_size=(150, 150))(file)
    assert poses.size_wh == (130, 150)
    want = np.stack([130 - 1 - JOINT_NK2[:, 1], JOINT_NK2[:, 0]], -1)
    np.testing.assert_allclose(poses.joint_NK3[0, :, :2], want, atol=0.3)  # JPEG's colours are blurred


@pytest.mark.parametrize("own", [False, True])
def test_boxes_of_a_data_set_are_of_the_photograph_as_stored(tmp_path, own):
    """`own`: results of `repose predict`, which saw it turned."""
    file = turned_photograph(tmp_path)
    box = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 130, 150] if own else [0, 0, 150, 130], "score": 1.0}
    image = {"id": 1, "file_name": "turned.jpg"}
    content = [{**box, "file_name": "turned.jpg"}] if own else {"images": [image], "annotations": [box]}
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    predictor = reader(BoxFile(tmp_path / "boxes.json"), input_size=(150, 150), padding=1.0)
    (poses,) = predictor(file)
    assert (poses.size_wh, poses.n) == ((130, 150) if own else (150, 130), 1)
    turned = np.stack([130 - 1 - JOINT_NK2[:, 1], JOINT_NK2[:, 0]], -1)
    np.testing.assert_allclose(poses.joint_NK3[0, :, :2], turned if own else JOINT_NK2, atol=0.3)


def test_the_result_has_names_scores_masks_files_and_drawings():
    image = dots(JOINT_NK2, (130, 131))
    (poses,) = reader(view="image", base="long", centre="image", input_size=(262, 262))(image)
    assert poses.names == JOINTS
    assert poses.scores.shape == (1,)
    np.testing.assert_allclose(poses.joint("left_hand")[0, :2], JOINT_NK2[1], atol=EXACT)
    with pytest.raises(UserError, match="no joint 'nose'"):
        poses.joint("nose")
    assert poses.masks.dtype == torch.bool and poses.masks.shape == (1, 131, 130)
    lit = torch.from_numpy(np.linalg.norm(image.astype(float), axis=2) > 60)
    assert (poses.masks[0] ^ lit).float().mean() < 0.01
    (result,) = poses.to_coco(7)
    assert result["image_id"] == 7 and len(result["keypoints"]) == 15
    (mask,) = poses.to_coco(7, masks=True)
    counts = {"size": mask["segmentation"]["size"], "counts": mask["segmentation"]["counts"].encode()}
    assert (rle.decode(counts) == poses.masks[0].numpy()).all()
    drawn = poses.draw()
    assert drawn.shape == image.shape and (drawn != image).any()
    assert (poses.image_HW3 == image).all()  # the picture itself is left alone
    assert (poses.draw(fast=True) != image).any()
    assert poses.above(0.95).n == 0 and (poses.above(0.95).draw() == image).all()
    assert poses.to("cpu").names == JOINTS


def test_one_pixel_and_a_thin_strip():
    for view in ("crop", "long"):
        (poses,) = reader(**VIEWS[view])(np.full((1, 1, 3), 255, np.uint8))
        assert torch.isfinite(poses.joint_NK3).all()
    thin = np.zeros((2, 4000, 3), np.uint8)
    predictor = reader(**VIEWS["short"])
    with pytest.raises(UserError, match=r"array 0: so thin \(4000x2\)"):
        predictor(thin)
    broken: list[Broken] = []
    pictures = [Picture(thin, "thin.png"), Picture(dots(JOINT_NK2, (130, 131)), "fine.png"), Broken("cut.jpg", "cut")]
    found = list(predictor.stream(pictures, broken.append))
    assert [p.source for p in found] == ["fine.png"]
    assert [b.source for b in broken] == ["thin.png", "cut.jpg"]


# --- the evaluation's poses -----------------------------------------------------------------------------------------


def _tested(checkpoint, folder, words):
    """`repose test` of a checkpoint: result folder."""
    loaded = load_saved(
        ckpt.saved_config(checkpoint),
        str(checkpoint),
        [f"checkpoint={checkpoint}", f"data.root={folder}", "data.synthetic=null", "log.progress=false", *words],
        find_paper=papers.get,
    )
    return run.test(loaded)["dir"]


@pytest.mark.parametrize("experiment", ["drpnet/m", "pinet/coco", "cganet/masks", "idgroup/mobilenetv3"])
def test_a_data_sets_image_gives_what_repose_test_writes(experiment, synthetic_smoke, tmp_path):
    checkpoint = untrained(experiment, tmp_path / "x.ckpt")
    boxes = synthetic_smoke / "annotations" / "person_detections_val.json"
    top_down = experiment == "drpnet/m"
    words = [f"data.boxes={boxes}"] if top_down else []
    folder = _tested(checkpoint, synthetic_smoke, words)
    want = json.loads((tmp_path / folder / "predictions.json").read_text())
    ids = {
        i["file_name"]: i["id"]
        for i in json.loads((synthetic_smoke / "annotations" / "person_keypoints_val.json").read_text())["images"]
    }
    predictor = repose.load(checkpoint, device="cpu")
    if top_down:
        by_id: dict[int, list] = {}
        for row in json.loads(boxes.read_text()):
            x, y, w, h = row["bbox"]
            by_id.setdefault(row["image_id"], []).append([x, y, x + w, y + h, row["score"]])
    got, masks = [], []
    for name, image_id in sorted(ids.items(), key=lambda item: item[1]):
        path = synthetic_smoke / "images" / "val" / name
        given = [np.array(by_id.get(image_id, []))] if top_down else None
        (poses,) = predictor(path, boxes=given)
        got += poses.to_coco(image_id)
        masks += poses.to_coco(image_id, masks=True)
    assert len(got) == len(want) > 8
    key = lambda r: (r["image_id"], -r["score"], r["keypoints"])  # noqa: E731
    for a, b in zip(sorted(got, key=key), sorted(want, key=key), strict=True):
        assert a["image_id"] == b["image_id"]
        assert a["score"] == pytest.approx(b["score"], abs=1e-4)
        np.testing.assert_allclose(a["keypoints"], b["keypoints"], atol=2e-2)
    if experiment == "cganet/masks":
        written = json.loads((tmp_path / folder / "masks.json").read_text())
        there = {(m["image_id"], m["segmentation"]["counts"]) for m in written}
        same = [(m["image_id"], m["segmentation"]["counts"]) in there for m in masks]
        assert len(masks) == len(got)
        assert np.mean(same) > 0.95  # a probability of one half may fall to either side in batches of another size


# --- opening --------------------------------------------------------------------------------------------------------


def test_a_checkpoint_needs_no_file_that_its_training_started_from(tmp_path):
    path = untrained("drpnet/m", tmp_path / "x.ckpt")
    saved = torch.load(path, weights_only=True)
    saved[ckpt.KEY]["config"]["model"]["backbone"] |= {"weights": "/nowhere/imagenet.pth", "pretrained": True}
    torch.save(saved, path)
    opened = open_checkpoint(path)
    assert opened.loaded.cfg.model.backbone.weights is None
    assert not opened.module.training


def test_settings_go_on_top(tmp_path):
    path = untrained("drpnet/m", tmp_path / "x.ckpt")
    assert repose.load(path, "test.flip=false", device="cpu").cfg.test.flip is False
    with pytest.raises(UserError, match=r"unknown key 'test.flipp'; did you mean 'test.flip'"):
        repose.load(path, "test.flipp=false")


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"config": {"paper": "drpnett"}}, "no paper 'drpnett'; did you mean 'drpnet'"),
        ({"config": {"skeleton": {"name": "coco18"}}}, "skeleton.name='coco18' is not one of"),
        ({"schema": 0}, "written with schema 0"),
    ],
)
def test_an_unknown_method_or_skeleton_is_one_line_that_names_the_file(change, part, tmp_path):
    path = untrained("drpnet/m", tmp_path / "x.ckpt")
    saved = torch.load(path, weights_only=True)
    note = saved[ckpt.KEY]
    for key, value in change.items():
        if isinstance(value, dict):
            for inner, v in value.items():
                note[key][inner] = {**note[key][inner], **v} if isinstance(v, dict) else v
        else:
            note[key] = value
    torch.save(saved, path)
    with pytest.raises(UserError, match=part) as error:
        repose.load(path)
    assert str(error.value).startswith(str(path))


def test_other_files_and_devices_are_refused(tmp_path):
    with pytest.raises(UserError, match="no such file or folder"):
        repose.load(tmp_path / "none.ckpt")
    (tmp_path / "x.ckpt").write_bytes(b"junk")
    with pytest.raises(UserError, match=r"x\.ckpt: "):
        repose.load(tmp_path / "x.ckpt")
    path = untrained("drpnet/m", tmp_path / "y.ckpt")
    with pytest.raises(UserError, match="device=gpu: no device of that name"):
        repose.load(path, device="gpu")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="device=cuda: torch sees no such GPU here"):
            repose.load(path, device="cuda")


def test_import_repose_stays_light():
    import subprocess
    import sys

    code = "import repose, sys; sys.exit('torch' in sys.modules or not callable(repose.load))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        repose.lod  # noqa: B018


def test_the_experiment_of_the_file_is_what_loads(tmp_path, capsys):
    path = untrained("pinet/coco", tmp_path / "x.ckpt")
    assert repose.load(path, boxes="none.json").cfg.paper == load("pinet/coco", find_paper=papers.get).cfg.paper
    assert "boxes are not used: pinet looks at whole pictures" in capsys.readouterr().err


@pytest.mark.parametrize("experiment", ["pinet/coco", "kdc/r101", "idgroup/mobilenetv3"])
def test_a_network_without_error_finds_the_annotated_people(experiment, synthetic_smoke, tmp_path, monkeypatch):
    """The paper's own targets in the network's place, its decoding, and the way back to the photograph."""
    words = [f"data.root={synthetic_smoke}", "data.synthetic=null", "test.flip=false"]
    predictor = repose.load(untrained(experiment, tmp_path / "x.ckpt", words), device="cpu")
    data = PoseDataModule(predictor.cfg)
    data.setup("test")
    module = predictor.module
    found = wanted = 0
    for index in range(4):
        truth = data.val_set.sample(index)
        perfect = module.people_of(module.oracle(truth))
        with monkeypatch.context() as patch:
            patch.setattr(module, "infer", lambda views: None)
            patch.setattr(module, "decode", lambda outputs, perfect=perfect: perfect)
            (poses,) = predictor(data.val_annotations.path(index))
        for row in data.val_annotations.rows(index):
            joint_K3 = data.val_annotations.joint_AK3[row]
            seen_K = joint_K3[:, 2] > 0
            if seen_K.sum() < 8 or data.val_annotations.crowd_A[row]:
                continue
            wanted += 1
            apart_NK = np.linalg.norm(poses.joint_NK3[..., :2].numpy() - joint_K3[None, :, :2], axis=-1)
            size = np.sqrt(data.val_annotations.area_A[row])
            found += bool(poses.n and (np.median(apart_NK[:, seen_K], axis=1).min() < 0.1 * size))
        if poses.masks is not None and poses.n:
            assert poses.masks.any() and poses.masks.shape[1:] == poses.image_HW3.shape[:2]
    assert wanted >= 3
    assert found >= 0.7 * wanted
