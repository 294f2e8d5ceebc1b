"""MaskAP against plain pycocotools, and the way of a mask from the input to the photograph."""

import contextlib
import copy
import io
import json
import math

import numpy as np
import pytest
import torch
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from repose.errors import UserError
from repose.geometry import crop_affine
from repose.metrics.mask_ap import NAMES, MaskAP, encoded, load_results, missing, run_lengths, score
from repose.types import Poses

FIRST = 900_100_433_000
WIDTH, HEIGHT = 200, 150


def ellipse(cx, cy, rx, ry):
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 <= 1


def people(images=10, each=3, seed=0):
    """Ellipses of all sizes as polygons, compressed and plain run lengths; some are crowds."""
    rng = np.random.default_rng(seed)
    annotations = []
    for i in range(images * each):
        cx, cy, rx, ry = rng.uniform(60, 140), rng.uniform(50, 100), rng.uniform(3, 75), rng.uniform(3, 70)
        mask = ellipse(cx, cy, rx, ry)
        code = rle.encode(np.asfortranarray(mask, dtype=np.uint8))
        outline = {"size": [HEIGHT, WIDTH], "counts": code["counts"].decode()}
        crowd = rng.random() < 0.1
        if crowd:
            flat = mask.ravel(order="F").astype(int)
            cuts = np.flatnonzero(np.diff(np.concatenate([[0], flat, [2]])))
            outline = {"size": [HEIGHT, WIDTH], "counts": np.diff(np.concatenate([[0], cuts])).tolist()}
        elif rng.random() < 0.4:
            t = np.linspace(0, 2 * np.pi, 24, endpoint=False)
            ring = np.stack([cx + rx * np.cos(t), cy + ry * np.sin(t)], axis=1).clip(0, [WIDTH, HEIGHT])
            outline = [ring.round(2).ravel().tolist()]
        annotations.append(
            {
                "id": i + 1, "image_id": FIRST + i // each, "category_id": 1, "iscrowd": int(crowd),
                "segmentation": outline, "area": float(mask.sum()), "bbox": [float(v) for v in rle.toBbox(code)],
                "num_keypoints": int(rng.random() < 0.7),
            }
        )  # fmt: skip
    return {
        "images": [{"id": FIRST + i, "width": WIDTH, "height": HEIGHT} for i in range(images)],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person"}],
    }


def whole(annotation):
    return rle.decode(encoded(annotation["segmentation"], HEIGHT, WIDTH))


def found_masks(truth, seed=1):
    """Per image: shifted masks, some of nobody, and their scores, with ties."""
    rng = np.random.default_rng(seed)
    found = {i["id"]: ([], []) for i in truth["images"]}
    for a in truth["annotations"]:
        for _ in range(int(rng.choice([0, 1, 1, 2]))):
            shift = rng.integers(-5, 6, 2) if rng.random() < 0.5 else (0, 0)
            masks, scores = found[a["image_id"]]
            masks.append(np.roll(whole(a), shift, (0, 1)))
            scores.append(round(float(rng.random()), 1))
    return found


def as_results(found):
    results = []
    for image, (masks, scores) in found.items():
        for mask, value in zip(masks, scores, strict=True):
            code = rle.encode(np.asfortranarray(mask, dtype=np.uint8))
            segmentation = {"size": code["size"], "counts": code["counts"].decode()}
            row = {"image_id": image, "category_id": 1, "segmentation": segmentation}
            results.append({**row, "score": float(np.float32(value))})
    return results


def plain(truth, results):
    """The six APs of pycocotools, used as its own demo does."""
    with contextlib.redirect_stdout(io.StringIO()):
        ground = COCO()
        ground.dataset = copy.deepcopy(truth)
        ground.createIndex()
        evaluation = COCOeval(ground, ground.loadRes(copy.deepcopy(results)), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[:6]


def feed(metric, found, images=None, matrix=None):
    for image in images or found:
        masks, scores = found[image]
        n = len(masks)
        mask_NHW = torch.from_numpy(np.array(masks, dtype=np.uint8)) if n else torch.zeros(0, HEIGHT, WIDTH)
        poses = Poses(torch.zeros(n, 1, 3), torch.tensor(scores), mask_NHW=mask_NHW)
        matrix_123 = torch.eye(2, 3, dtype=torch.float64)[None] if matrix is None else torch.from_numpy(matrix)[None]
        metric.update(torch.tensor([image]), torch.tensor([-1]), [poses], matrix_123)


def same(ours, stats):
    assert list(ours) == list(NAMES)
    np.testing.assert_allclose(list(ours.values()), [math.nan if v < 0 else v for v in stats], rtol=0, atol=1e-9)


def test_equals_pycocotools(capsys):
    truth = people()
    found = found_masks(truth)
    results = as_results(found)
    before = copy.deepcopy((truth, results))
    stats = plain(truth, results)
    assert 0.1 < stats[0] < 0.9 and (stats > 0).all()
    assert any(a["iscrowd"] for a in truth["annotations"])
    same(score(results, truth), stats)
    metric = MaskAP(truth)
    feed(metric, found)
    same(metric.compute(), stats)
    assert [r["segmentation"] for r in metric.results()] == [r["segmentation"] for r in results]
    assert (truth, results) == before and capsys.readouterr() == ("", "")


@pytest.mark.data
def test_photographs_equal_pycocotools(coco_lite):
    """40 of coco-lite's val images through the reader, whose polygons keep the file's decimals."""
    from repose.data.coco import read
    from repose.skeleton import COCO17

    file = coco_lite / "annotations" / "person_keypoints_val.json"
    raw = json.loads(file.read_text())
    raw["images"] = raw["images"][:40]
    kept = {i["id"] for i in raw["images"]}
    raw["annotations"] = [a for a in raw["annotations"] if a["image_id"] in kept]
    truth = read(file, coco_lite, COCO17, limit=40).ground_truth(masks=True)
    assert [a["segmentation"] for a in truth["annotations"]] == [
        a["segmentation"] for i in raw["images"] for a in raw["annotations"] if a["image_id"] == i["id"]
    ]
    size = {i["id"]: (i["height"], i["width"]) for i in raw["images"]}
    rng = np.random.default_rng(0)
    results = []
    for a in raw["annotations"]:
        mask = rle.decode(encoded(a["segmentation"], *size[a["image_id"]]))
        mask = np.asfortranarray(np.roll(mask, rng.integers(-4, 5, 2), (0, 1)))
        code = rle.encode(mask)
        code["counts"] = code["counts"].decode()
        results.append({"image_id": a["image_id"], "category_id": 1, "segmentation": code, "score": rng.random()})
    stats = plain(raw, results)
    assert 0.2 < stats[0] < 0.95
    same(score(results, truth), stats)


def test_saved_results_score_the_same(tmp_path):
    truth = people()
    metric = MaskAP(truth)
    feed(metric, found_masks(truth))
    found = metric.compute()
    path = tmp_path / "masks.json"
    path.write_text(json.dumps(metric.results()))
    again = load_results(path, truth)
    assert score(again, truth) == found
    same(found, plain(truth, again))  # an ordinary COCO result file


def test_max_people_and_labelled_people():
    truth = people(images=1, each=1)
    assert not truth["annotations"][0]["iscrowd"]
    right, wrong = whole(truth["annotations"][0]), np.zeros((HEIGHT, WIDTH), np.uint8)
    wrong[:3, :3] = 1
    found = {FIRST: ([wrong, right], [0.9, 0.1])}
    for most, expected in ((2, 0.5), (1, 0.0)):
        metric = MaskAP(truth, max_people=most)
        feed(metric, found)
        assert metric.compute()["mask_AP"] == pytest.approx(expected)
    # somebody without labelled joints is an ignored region for `labelled`: neither missed nor wrongly found
    other = {**truth["annotations"][0], "id": 7, "num_keypoints": 0, "segmentation": [[0, 0, 30, 0, 30, 9, 0, 9]]}
    truth["annotations"][0]["num_keypoints"] = 3
    two = {**truth, "annotations": [*truth["annotations"], other]}
    results = as_results(found)
    assert score(results, two)["mask_AP"] == pytest.approx(0.5 * 51 / 101)
    assert score(results, two, people="labelled")["mask_AP"] == pytest.approx(1.0)


def test_duplicates_nobody_and_reset():
    truth = people()
    found = found_masks(truth)
    once, twice = MaskAP(truth), MaskAP(truth)
    feed(once, found)
    feed(twice, found)
    feed(twice, found, [FIRST, FIRST + 3])
    assert once.compute() == twice.compute() and once.results() == twice.results()
    twice.reset()
    assert set(twice.compute().values()) == {0.0} and twice.results() == []
    nobody = {**truth, "annotations": []}
    assert all(map(math.isnan, score(as_results(found), nobody).values()))
    with pytest.raises(ValueError, match="2 poses without masks"):
        once.update(
            torch.tensor([FIRST]),
            torch.tensor([-1]),
            [Poses(torch.zeros(2, 1, 3), torch.zeros(2))],
            torch.eye(2, 3)[None],
        )


def test_people_without_masks():
    truth = people()
    assert missing(truth) == ""
    named = [a for a in truth["annotations"] if not a["iscrowd"]]
    del named[2]["segmentation"]
    said = f"mask AP is not evaluated: 1 of the {len(named)} evaluated people have no mask in the annotations"
    assert missing(truth) == said
    with pytest.raises(UserError, match="1 of the"):
        score([], truth)
    crowd = people()
    for a in crowd["annotations"]:
        if a["iscrowd"]:
            del a["segmentation"]  # its box stands for it
    assert missing(crowd) == "" and score(as_results(found_masks(people())), crowd)["mask_AP"] > 0.1


def test_masks_land_where_they_were():
    """An input made by crop_affine; its mask warped back covers the same pixels of the photograph."""
    import cv2

    mask_HW = ellipse(60, 45, 20, 30).astype(np.uint8)
    for factor, inside in ((1.0, 1.0), (2.0, 0.995), (0.5, 0.95)):
        affine = crop_affine((59.5, 44.5), (80.0, 80.0), (int(80 * factor), int(80 * factor)))
        soft_HW = cv2.warpAffine(mask_HW.astype(np.float32), affine.matrix_23, (int(80 * factor),) * 2)
        input_HW = (soft_HW >= 0.5).astype(np.uint8)
        for given in (input_HW, input_HW.astype(bool), input_HW.astype(np.float32)):
            (code,) = run_lengths(given[None], affine.inverse_23(), (WIDTH, HEIGHT))
            back = rle.decode({"size": [HEIGHT, WIDTH], "counts": code})
            iou = (back & mask_HW).sum() / (back | mask_HW).sum()
            assert iou >= inside, (factor, iou)
    # a probability of one half is in, less is out; pixels are shifted by whole numbers
    soft = np.array([[[0.49, 0.5], [0.51, 1.0]]], dtype=np.float32)
    (code,) = run_lengths(soft, np.array([[1.0, 0, 3], [0, 1, 1]]), (6, 4))
    back = rle.decode({"size": [4, 6], "counts": code})
    assert np.argwhere(back).tolist() == [[1, 4], [2, 3], [2, 4]]
    assert run_lengths(np.zeros((0, 5, 5), np.uint8), affine.inverse_23(), (6, 4)) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r[0].pop("score"), r"result 0 has no `score`; each needs image_id, segmentation, score"),
        (lambda r: r[1].__setitem__("score", math.nan), r"result 1 \(image \d+\) has a score that is not a finite"),
        (lambda r: r[1].__setitem__("segmentation", [[1, 2, 3, 4, 5, 6]]), "result 1 .*no compressed run lengths"),
        (lambda r: r[2]["segmentation"].__setitem__("size", [200, 150]), r"result 2 has a mask of .*\[200, 150\]"),
        (lambda r: r[2].__setitem__("image_id", 17), "result 2 is of image 17, which is not among the 10 evaluated"),
        (lambda r: r.__setitem__(0, [1]), ".*a list of results, each an object"),
    ],
)
def test_bad_result_files(tmp_path, change, message):
    truth = people()
    results = as_results(found_masks(truth))
    change(results)
    path = tmp_path / "masks.json"
    path.write_text(json.dumps(results))
    with pytest.raises(UserError, match=f"masks.json: {message}"):
        load_results(path, truth)
    with pytest.raises(UserError, match="no such file"):
        load_results(tmp_path / "none.json", truth)
