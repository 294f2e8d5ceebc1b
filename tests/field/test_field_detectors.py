"""Where boxes come from: the full frame, COCO files, torchvision's detectors, an RTMDet in ONNX."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from repose.errors import UserError
from repose.field.detectors import (
    BoxFile,
    RTMDet,
    best_boxes,
    build_torchvision,
    letterbox,
    open_boxes,
    torchvision_detectors,
)
from repose.field.onnx_session import Port
from repose.field.options import Detect

CPU = torch.device("cpu")
BLACK = np.zeros((100, 200, 3), np.uint8)
SMALL = "fasterrcnn_mobilenet_v3_large_320_fpn"


def test_the_full_frame_is_one_box_to_the_edges():
    boxes = open_boxes("full_frame", Detect(), CPU)(BLACK, "a.jpg", None)
    assert boxes.box_N4.tolist() == [[-0.5, -0.5, 199.5, 99.5]] and boxes.score_N.tolist() == [1]
    with pytest.raises(UserError, match="add boxes=detector"):
        open_boxes("full_frame", Detect(model="x"), CPU)
    with pytest.raises(UserError, match="did you mean 'detector'"):
        open_boxes("detecter", Detect(), CPU)
    with pytest.raises(UserError, match="boxes=detector: name one"):
        open_boxes("detector", Detect(), CPU)


def test_a_file_names_pictures_by_number_by_name_or_by_frame(tmp_path):
    rows = [
        {"image_id": 785, "category_id": 1, "bbox": [10, 20, 30, 40], "score": 0.5},
        {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.7, "file_name": "sub/b.jpg"},
        {"image_id": 785, "category_id": 3, "bbox": [10, 20, 30, 40]},
        {"image_id": 785, "category_id": 1, "bbox": [300, 20, 30, 40]},  # beside the picture
        {"image_id": 785, "category_id": 1, "bbox": [10, 20, 0, 40]},
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(rows))
    boxes = open_boxes(str(tmp_path / "boxes.json"), Detect(), CPU)
    assert isinstance(boxes, BoxFile)
    found = boxes(BLACK, "folder/000000000785.jpg", None)
    assert found.box_N4.tolist() == [[9.5, 19.5, 39.5, 59.5]] and found.score_N.tolist() == [0.5]
    assert boxes.skipped == 3
    assert boxes(BLACK, "photos/sub/b.jpg", None).score_N.tolist() == [0.7]
    assert boxes(BLACK, "b.jpg", None).score_N.tolist() == [0.7]
    assert boxes(BLACK, "other/b.jpg", None).n == 0 and boxes.elsewhere == {"other/b.jpg": "sub/b.jpg"}
    assert boxes(BLACK, "clip.mp4#1", 1).score_N.tolist() == [0.7]
    assert boxes(BLACK, "clip.mp4#2", 2).n == 0
    assert boxes(BLACK, "nobody.jpg", None).n == 0
    annotations = {
        "images": [{"id": 5, "file_name": "x.png"}],
        "annotations": [
            {"image_id": 5, "category_id": 1, "bbox": [0, 0, 9, 9], "iscrowd": 0},
            {"image_id": 5, "category_id": 1, "bbox": [0, 0, 99, 99], "iscrowd": 1},
        ],
    }
    (tmp_path / "people.json").write_text(json.dumps(annotations))
    assert BoxFile(tmp_path / "people.json")(BLACK, "x.png", None).box_N4.tolist() == [[-0.5, -0.5, 8.5, 8.5]]
    assert BoxFile(tmp_path / "people.json").stored and boxes.stored
    for content, part in ((3, "not a COCO file with boxes"), ([{"image_id": 1}], "entry 0 has no image_id and box")):
        (tmp_path / "bad.json").write_text(json.dumps(content))
        with pytest.raises(UserError, match=part):
            BoxFile(tmp_path / "bad.json")


def test_pictures_of_one_name_keep_their_own_boxes(tmp_path):
    rows = [
        {"image_id": n, "category_id": 1, "bbox": [n, 0, 9, 9], "score": 1.0, "file_name": f"{folder}/frame.jpg"}
        for n, folder in enumerate("ab")
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(rows))
    boxes = BoxFile(tmp_path / "boxes.json")
    assert not boxes.stored
    assert [boxes(BLACK, f"{folder}/frame.jpg", None).box_N4[:, 0].tolist() for folder in "abc"] == [[-0.5], [0.5], []]
    with pytest.raises(UserError, match=r"a/frame\.jpg and b/frame\.jpg could both be frame\.jpg"):
        boxes(BLACK, "frame.jpg", None)


def test_weak_small_and_double_boxes_are_left_out():
    edges = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [50, 0, 60, 10], [80, 0, 82, 10], [0, 50, np.nan, 60]], float)
    score = np.array([0.8, 0.9, 0.4, 0.9, 0.9])
    found = best_boxes(edges, score, Detect(min_side=3))
    assert found.box_N4.tolist() == [[-0.5, -0.5, 9.5, 8.5]]  # edges to joint coordinates
    assert best_boxes(edges[:0], score[:0], Detect()).n == 0


def test_torchvisions_detectors_read_weights_from_a_file(tmp_path):
    torch.manual_seed(0)
    net = build_torchvision(SMALL)
    torch.save(net.state_dict(), tmp_path / "w.pth")
    detect = Detect(model=SMALL, weights=str(tmp_path / "w.pth"), score=0.0)
    source = open_boxes("detector", detect, CPU)
    assert SMALL in source.words
    image = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    found = source(image, "a", None)
    # the same network called by hand
    with torch.inference_mode():
        direct = net.eval()([torch.from_numpy(image).permute(2, 0, 1).float() / 255])[0]
    person = direct["labels"] == 1
    assert found.n <= int(person.sum())
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=f"not the weights of {SMALL}: "):
        open_boxes("detector", Detect(model=SMALL, weights=str(tmp_path / "other.pth")), CPU)


def test_a_detector_without_weights_says_where_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UserError, match=r"no weights here.*get https://download.pytorch.org/\S+ once and give"):
        open_boxes("detector", Detect(model=SMALL), CPU)
    with pytest.raises(UserError, match=r"detector.weights=none.pth: no such file; get https://"):
        open_boxes("detector", Detect(model=SMALL, weights="none.pth"), CPU)
    with pytest.raises(UserError, match="did you mean 'fcos_resnet50_fpn'"):
        open_boxes("detector", Detect(model="fcos_resnet50"), CPU)
    assert "keypointrcnn_resnet50_fpn" not in torchvision_detectors()


# --- RTMDet ---------------------------------------------------------------------------------------------------------


class FakeSession:
    """A session whose network finds what it is told to."""

    def __init__(self, found, label, shape=(None, 3, 64, 64), out=(None, None, 5)):
        self.path = __import__("pathlib").Path("rtmdet.onnx")
        self.inputs = (Port("input", shape, "tensor(float)"),)
        self.outputs = (Port("dets", out, "tensor(float)"), Port("labels", (None, None), "tensor(int64)"))
        self.found, self.label, self.seen = found, label, []

    def run(self, batch):
        self.seen.append(batch)
        return [np.array(self.found, np.float32)[None], np.array(self.label)[None]]


def test_rtmdet_boxes_come_back_in_the_pictures_pixels():
    # 200x100 into 64x64: scale 0.32
    found = [[3.2, 6.4, 16, 25.6, 0.9], [0, 0, 64, 64, 0.8], [0, 0, 9, 9, 0.9], [0, 0, 9, 9, 0.3]]
    session = FakeSession(found, [0, 0, 5, 0])
    detector = RTMDet(session, Detect())
    boxes = detector(BLACK, "a", None)
    np.testing.assert_allclose(boxes.box_N4, [[9.5, 19.5, 49.5, 79.5], [-0.5, -0.5, 199.5, 99.5]], atol=1e-4)
    np.testing.assert_allclose(boxes.score_N, [0.9, 0.8], atol=1e-6)


def test_rtmdet_gets_what_it_was_trained_on():
    image = np.zeros((32, 64, 3), np.uint8)
    image[...] = (10, 20, 30)
    session = FakeSession(np.zeros((0, 5)), np.zeros(0, int))
    RTMDet(session, Detect())(image, "a", None)
    (batch,) = session.seen
    assert batch.shape == (1, 3, 64, 64) and batch.dtype == np.float32
    bgr = [(v - m) / s for v, m, s in zip((30, 20, 10), RTMDet.MEAN_BGR, RTMDet.STD_BGR, strict=True)]
    np.testing.assert_allclose(batch[0, :, 10, 10], bgr, rtol=1e-5)
    grey = [(114 - m) / s for m, s in zip(RTMDet.MEAN_BGR, RTMDet.STD_BGR, strict=True)]
    np.testing.assert_allclose(batch[0, :, 50, 10], grey, rtol=1e-5)


def test_letterbox_lays_edges_on_edges():
    image = np.zeros((10, 20, 3), np.uint8)
    image[:, 10:] = 200
    placed, scale = letterbox(image, (40, 40), 114)
    assert scale == 2.0 and placed.shape == (40, 40, 3)
    assert (placed[5, :19] == 0).all() and (placed[5, 21:] == 200).all()
    assert (placed[:20, 0] == 0).all() and (placed[20:] == 114).all()


@pytest.mark.parametrize(("shape", "out"), [((None, 1, 64, 64), (None, None, 5)), ((None, 3, 64, 64), (None, 17, 384))])
def test_another_network_is_refused(shape, out):
    with pytest.raises(UserError, match=r"rtmdet.onnx: not an exported RTMDet: .*mmdeploy"):
        RTMDet(FakeSession([], [], shape, out), Detect())
    with pytest.raises(UserError, match=r"detector\.size=320: rtmdet\.onnx takes 64x64 only"):
        RTMDet(FakeSession([], []), Detect(size=320))
    assert RTMDet(FakeSession([], [], (None, 3, None, None)), Detect(size=320)).input_hw == (320, 320)


def test_a_real_onnx_file_goes_through_onnxruntime(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    h, t = onnx.helper, onnx.TensorProto
    dets = h.make_tensor("d", t.FLOAT, [1, 2, 5], [8, 8, 24, 40, 0.9, 0, 0, 4, 4, 0.1])
    labels = h.make_tensor("l", t.INT64, [1, 2], [0, 0])
    nodes = [
        h.make_node("ReduceMean", ["input"], ["mean"], keepdims=0),
        h.make_node("Constant", [], ["zero"], value=h.make_tensor("z", t.FLOAT, [], [0.0])),
        h.make_node("Mul", ["mean", "zero"], ["nothing"]),
        h.make_node("Constant", [], ["boxes"], value=dets),
        h.make_node("Add", ["boxes", "nothing"], ["dets"]),
        h.make_node("Constant", [], ["labels"], value=labels),
    ]
    graph = h.make_graph(
        nodes,
        "g",
        [h.make_tensor_value_info("input", t.FLOAT, [1, 3, 64, 64])],
        [h.make_tensor_value_info("dets", t.FLOAT, [1, 2, 5]), h.make_tensor_value_info("labels", t.INT64, [1, 2])],
    )
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "det.onnx")
    source = open_boxes("detector", Detect(model=str(tmp_path / "det.onnx")), CPU, threads=1)
    assert "64x64" in source.words
    np.testing.assert_allclose(source(np.zeros((64, 64, 3), np.uint8), "a", None).box_N4, [[7.5, 7.5, 23.5, 39.5]])
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    with pytest.raises(UserError, match=r"junk\.onnx: not an ONNX file that onnxruntime can open"):
        open_boxes("detector", Detect(model=str(tmp_path / "junk.onnx")), CPU)
    with pytest.raises(UserError, match=r"none\.onnx: no such ONNX file"):
        open_boxes("detector", Detect(model=str(tmp_path / "none.onnx")), CPU)


def test_without_onnxruntime_the_line_says_how_to_install_it(tmp_path, monkeypatch):
    import sys

    (tmp_path / "x.onnx").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"pip install 'repose\[export\]'"):
        open_boxes("detector", Detect(model=str(tmp_path / "x.onnx")), CPU)
