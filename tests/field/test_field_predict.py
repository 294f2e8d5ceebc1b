"""`repose predict`: the files it writes, and every mistake as one line that leaves what was written."""

from __future__ import annotations

import csv
import json

import cv2
import numpy as np
import pytest
from field_kit import JOINT_NK2, dots, reader, untrained

from repose.__main__ import main
from repose.errors import UserError
from repose.field import predict as module
from repose.field.detectors import BoxFile
from repose.field.options import Draw, Options
from repose.field.sources import find_source
from repose.field.writers import VideoFile


@pytest.fixture
def folder(tmp_path):
    """Two good pictures, a cut one, and a note."""
    root = tmp_path / "photos"
    (root / "sub").mkdir(parents=True)
    image = dots(JOINT_NK2, (130, 131))[..., ::-1]
    cv2.imwrite(str(root / "a.png"), image)
    cv2.imwrite(str(root / "sub" / "b.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 100])
    (root / "cut.png").write_bytes((root / "a.png").read_bytes()[:500])
    (root / "note.txt").write_text("x")
    return root


def images_of(out):
    content = json.loads((out / "images.json").read_text())
    assert content["categories"][0]["keypoints"][0] == "head"
    return content["images"]


def test_pictures(folder, tmp_path, capsys):
    out = tmp_path / "out"
    predictor = reader(view="image", base="long", centre="image", input_size=(131, 131))
    summary = module.predict(predictor, find_source(str(folder)), Options(), out)
    assert (summary.done, summary.people) == (2, 2)
    assert summary.skipped == ["cut.png: truncated"]
    assert "skipped cut.png: truncated" in capsys.readouterr().err
    images = images_of(out)
    assert [i["file_name"] for i in images] == ["a.png", "sub/b.jpg"]
    assert (images[0]["width"], images[0]["height"]) == (130, 131)
    results = json.loads((out / "predictions.json").read_text())
    assert [r["image_id"] for r in results] == [i["id"] for i in images]
    np.testing.assert_allclose(np.reshape(results[0]["keypoints"], (5, 3))[:, :2], JOINT_NK2, atol=0.2)
    assert len(json.loads((out / "masks.json").read_text())) == 2
    with (out / "poses.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [r["source"] for r in rows] == ["a.png", "sub/b.jpg"]
    assert float(rows[0]["left_hand_x"]) == pytest.approx(JOINT_NK2[1, 0], abs=0.2)
    for name in ("a.png", "sub/b.jpg"):
        drawn = cv2.imread(str(out / "pictures" / name))
        assert drawn.shape == (131, 130, 3)
    # its own file serves as boxes
    boxes = BoxFile(out / "predictions.json")
    assert boxes(np.zeros((131, 130, 3), np.uint8), "elsewhere/a.png", None).n == 1
    # an earlier run's masks do not stay beside a later run without them
    module.predict(reader(input_size=(131, 131)), find_source(str(folder)), Options(draw=Draw(write=False)), out)
    assert not (out / "masks.json").exists()


def test_ids_are_the_numbers_of_the_names_where_all_have_one():
    assert module.image_ids(["000000000785.jpg", "a/12.png"]) == [785, 12]
    assert module.image_ids(["785.jpg", "b.jpg"]) == [1, 2]
    assert module.image_ids(["1.jpg", "a/1.png"]) == [1, 2]


def test_nothing_that_can_be_read_is_a_mistake(folder, tmp_path):
    with pytest.raises(UserError, match=r"cut\.png: none of its pictures could be used: cut\.png: truncated"):
        module.predict(reader(input_size=(64, 64)), find_source(str(folder / "cut.png")), Options(), tmp_path / "out")


def test_a_picture_never_replaces_its_source(folder):
    (folder / "pictures").mkdir()
    (folder / "sub" / "b.jpg").rename(folder / "pictures" / "b.jpg")
    source = find_source(str(folder / "pictures"))
    with pytest.raises(UserError, match="would replace this one"):
        module.predict(reader(input_size=(64, 64)), source, Options(), folder)


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "clip.webm"
    with VideoFile(path, "vp8", 25, (160, 128)) as video:
        for i in range(20):
            video.add(dots(JOINT_NK2 * 0.9 + (2 * i, 0), (160, 128)))
    return path


def test_a_video(clip, tmp_path):
    out = tmp_path / "out"
    predictor = reader(view="image", base="long", centre="image", input_size=(160, 160))
    summary = module.predict(predictor, find_source(str(clip)), Options(draw=Draw(codec="mp4v")), out)
    assert (summary.unit, summary.done, summary.people, summary.skipped) == ("frames", 20, 20, [])
    results = json.loads((out / "predictions.json").read_text())
    assert [r["image_id"] for r in results] == list(range(20))
    assert {r["track_id"] for r in results} == {1}
    assert [i["frame_id"] for i in images_of(out)] == list(range(20))
    capture = cv2.VideoCapture(str(out / "clip.mp4"))
    assert round(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == 20
    with pytest.raises(UserError, match=r"clip\.webm: the annotated video would replace this one"):
        module.predict(predictor, find_source(str(clip)), Options(), clip.parent)


def test_what_was_written_before_a_failure_stays_usable(clip, tmp_path, monkeypatch):
    """The network fails at frame 9, as a full disk or a key press would."""
    out = tmp_path / "out"
    predictor = reader(view="image", base="long", centre="image", input_size=(160, 160))
    see = predictor.see

    def failing(seen, *args, **kwargs):
        if seen[0].source == "clip.webm#9":
            raise KeyboardInterrupt
        return see(seen, *args, **kwargs)

    monkeypatch.setattr(predictor, "see", failing)
    with pytest.raises(KeyboardInterrupt):
        module.predict(predictor, find_source(str(clip)), Options(), out)
    assert len(json.loads((out / "predictions.json").read_text())) == 9
    assert len(images_of(out)) == 9
    capture = cv2.VideoCapture(str(out / "clip.webm"))
    assert round(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == 9


def test_a_video_that_breaks_off(clip, tmp_path, capsys):
    data = clip.read_bytes()
    (tmp_path / "cut.webm").write_bytes(data[: int(len(data) * 0.7)])
    predictor = reader(view="image", base="long", centre="image", input_size=(160, 160))
    summary = module.predict(predictor, find_source(str(tmp_path / "cut.webm")), Options(), tmp_path / "out")
    assert 3 < summary.done < 20
    assert "ends early" in summary.skipped[0] and "ends early" in capsys.readouterr().err
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_text())) == summary.done


# --- the command line -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return str(untrained("drpnet/m", tmp_path_factory.mktemp("drpnet") / "x.ckpt"))


def test_the_command(folder, tmp_path, checkpoint, capsys):
    out = tmp_path / "out"
    words = [str(folder), f"checkpoint={checkpoint}", "device=cpu", "test.flip=false", "--out", str(out)]
    assert main(["predict", *words, "--json"]) == 0
    captured = capsys.readouterr()
    said = json.loads(captured.out)
    assert said["pictures"] == 2 and said["skipped"] == ["cut.png: truncated"]
    assert "DRP-Net" in captured.err and "17 joints of coco17" in captured.err and "full frame" in captured.err
    boxes = [{"image_id": 1, "category_id": 1, "bbox": [20, 10, 80, 110], "score": 0.5, "file_name": "a.png"}]
    boxes.append({**boxes[0], "bbox": [500, 10, 80, 110]})
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    assert main(["predict", *words, f"boxes={tmp_path / 'boxes.json'}"]) == 0
    assert "1 people in 2 pictures" in capsys.readouterr().out
    assert len(json.loads((out / "predictions.json").read_text())) == 1


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "name an image, a folder"),
        (["checkpoint=x"], "name an image, a folder"),
        (["{photos}"], "give checkpoint=FILE"),
        (["{photos}", "{photos}/a.png", "checkpoint={ckpt}"], "one source at a time"),
        (["{photos}", "checkpoint=none.ckpt"], "checkpoint=none.ckpt: no such file or folder"),
        (["{photos}/none.jpg", "checkpoint={ckpt}"], "no such file"),
        (["{photos}", "checkpiont={ckpt}"], "did you mean 'checkpoint'"),
        (["{photos}", "checkpoint={ckpt}", "track.intervall=3"], "did you mean 'track.interval'"),
        (["{photos}", "checkpoint={ckpt}", "track.interval=0"], "track.interval=0: give a whole number from 1 on"),
        (["{photos}", "checkpoint={ckpt}", "smooth.preset=second"], "smooth.preset"),
        (["{photos}", "checkpoint={ckpt}", "decode.pek=argmax"], "did you mean 'decode.peak'"),
        (["{photos}", "checkpoint={ckpt}", "boxes=detector"], "boxes=detector: name one"),
        (["{photos}", "checkpoint={ckpt}", "boxes=none.json"], "boxes=none.json: no such file"),
        (["{photos}", "checkpoint={ckpt}", "decode.centre=oracle_jitter"], "needs the ground truth"),
        (["{photos}/note.txt", "checkpoint={ckpt}"], "none of its pictures could be used"),
    ],
)
def test_mistakes_of_the_command_are_one_line(words, part, folder, checkpoint, capsys, tmp_path, monkeypatch):
    filled = [w.format(photos=folder, ckpt=checkpoint) for w in words]
    assert main(["predict", *filled, "--out", str(tmp_path / "out")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert part in err.splitlines()[-1]
    assert sum(line.startswith("repose: ") for line in err.splitlines()) == 1


def test_an_onnx_file_of_another_model_is_refused(tmp_path, folder, capsys):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    h, t = onnx.helper, onnx.TensorProto
    ports = [[h.make_tensor_value_info(name, t.FLOAT, [1, 3, 8, 8])] for name in ("x", "y")]
    graph = h.make_graph([h.make_node("Relu", ["x"], ["y"])], "g", *ports)
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=9), tmp_path / "other.onnx")
    assert main(["predict", str(folder), f"checkpoint={tmp_path / 'other.onnx'}"]) == 2
    assert "other.onnx: an ONNX file of another model" in capsys.readouterr().err


def test_an_exported_file_gives_the_checkpoints_poses(checkpoint, tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    import repose
    from repose.field.export import note, write_onnx
    from repose.field.model import open_checkpoint

    opened = open_checkpoint(checkpoint)
    write_onnx(opened.module, tmp_path / "x.onnx", {**note(opened), "format": "onnx"})
    image = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    boxes = [[[5, 5, 80, 85], [40, 0, 125, 90], [-10, 20, 60, 95]]]
    (want,) = repose.load(checkpoint, device="cpu")(image, boxes=boxes)
    (got,) = repose.load(tmp_path / "x.onnx", device="cpu", threads=1)(image, boxes=boxes)
    assert got.n == want.n > 1
    np.testing.assert_allclose(got.joint_NK3, want.joint_NK3, atol=2e-2)
    np.testing.assert_allclose(got.score_N, want.score_N, atol=1e-3)
