"""Synthetic people: deterministic, exactly labelled, written whole or not at all, fast."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from repose.config import Synthetic
from repose.data.synthetic import JOINTS, Scene, crowd_index, render, synthesize, synthesize_clip
from repose.data.synthetic.labels import box_iou
from repose.data.synthetic.scene import compose
from repose.data.synthetic.write import coco_annotations

COCO = tuple(JOINTS[:17])
LIMBS = (("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist"))
SMALL = Synthetic(train=6, val=6, size=(96, 128), people=(1, 2))
FULL = Synthetic(train=8, val=4)


def _digest(scene: Scene) -> str:
    parts = [scene.image_HW3.tobytes()]
    parts += [person.joint_K3.tobytes() + np.packbits(person.mask_HW).tobytes() for person in scene.people]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def _digest_of(index: int) -> str:
    return _digest(render(index, FULL, COCO))


def _tree(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def test_same_scene_in_any_order_state_and_process() -> None:
    forward = [_digest_of(i) for i in range(3)]
    np.random.seed(1)
    assert [_digest_of(i) for i in (2, 1, 0)] == forward[::-1]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(_digest_of, range(3)) == forward
    assert _digest(render(0, replace(FULL, seed=1), COCO)) != forward[0]


def test_splits_never_share_a_scene() -> None:
    seen = {_digest(render(i, SMALL, COCO, split)) for split in ("train", "val") for i in range(8)}
    assert len(seen) == 16


@pytest.mark.parametrize(
    "joint", ["nose", "left_shoulder", "right_wrist", "left_hip", "right_knee", "left_ankle", "head_top", "pelvis"]
)
def test_joint_lies_where_it_was_drawn(joint: str) -> None:
    """A ball drawn at the joint in the world is found at the label, to 0.6 pixels."""
    options = Synthetic(people=(1, 1))
    checked, k = 0, JOINTS.index(joint)
    for index in range(12):
        scene = compose(index, options, JOINTS, marker=joint, in_front=False)
        image = scene.image_HW3
        if not scene.people or scene.people[0].joint_K3[k, 2] == 0:
            continue
        x, y, _ = scene.people[0].joint_K3[k]
        if not (16 < x < 304 and 16 < y < 240):
            continue
        weight = np.clip(image[..., 1], 0, 90).astype(float)  # shading must not pull the centre
        assert weight.sum() > 0, f"nothing green in {index}"
        rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
        found = np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()
        assert np.abs(found - (x, y)).max() < 0.6, (index, found, (x, y))
        checked += 1
    assert checked >= 4


def test_visibility_follows_an_occluder() -> None:
    """Objects in front only ever hide joints; the picture's hidden joints are those behind something."""
    options = Synthetic(people=(1, 3), seed=3)
    hidden = 0
    for index in range(14):
        free, blocked = compose(index, options, COCO, in_front=False), compose(index, options, COCO)
        by_track = {person.track_id: person for person in free.people}
        for person in blocked.people:
            other = by_track[person.track_id]
            if not (person.labelled and other.labelled):
                continue
            assert np.array_equal(person.joint_K3[:, :2], other.joint_K3[:, :2])
            assert (person.mask_HW & ~other.mask_HW).sum() == 0
            assert ((person.joint_K3[:, 2] == 2) & (other.joint_K3[:, 2] == 1)).sum() == 0
            hidden += int(((person.joint_K3[:, 2] == 1) & (other.joint_K3[:, 2] == 2)).sum())
    assert hidden > 0


def test_face_is_hidden_from_behind_and_limbs_alone_are_seen() -> None:
    """A visible joint of a limb lies on the person's own mask; faces are seen only from the front half."""
    options = Synthetic(people=(1, 2), seed=4)
    nose, body = [], 0
    for index in range(30):
        for person in render(index, options, COCO).people:
            if not person.labelled:
                continue
            joint_K3 = person.joint_K3
            grown = cv2.dilate(person.mask_HW.astype(np.uint8), np.ones((5, 5), np.uint8))
            for x, y, v in joint_K3[5:]:
                if v == 2:
                    body += 1
                    assert grown[round(float(y)), round(float(x))]
            nose.append(joint_K3[0, 2])
    assert body > 150
    assert nose.count(2) > 5 and nose.count(1) > 5


def test_outside_is_zero_boxes_tight_area_exact() -> None:
    for index in range(12):
        for person in render(index, FULL, COCO, "val").people:
            joint_K3 = person.joint_K3
            assert not joint_K3[joint_K3[:, 2] == 0].any()
            inside = joint_K3[joint_K3[:, 2] > 0]
            assert (inside[:, :2] >= -0.5).all() and (inside[:, 0] < 319.5).all() and (inside[:, 1] < 255.5).all()
            rows, columns = np.flatnonzero(person.mask_HW.any(1)), np.flatnonzero(person.mask_HW.any(0))
            assert person.box_4 == (columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1)
            assert person.area == person.mask_HW.sum()


def test_pairs_overlap_over_the_range_of_ochuman() -> None:
    options = Synthetic(size=(128, 160), people=(2, 2), crowding="pairs")
    iou = [max((p.max_iou for p in render(i, options, COCO).people), default=0.0) for i in range(30)]
    assert np.mean(np.array(iou) > 0.25) > 0.7
    assert np.percentile(iou, 85) > 0.6 and np.percentile(iou, 20) < 0.5
    assert max(len(render(i, replace(options, people=(4, 4)), COCO).people) for i in range(4)) > 2
    crowd = [render(i, replace(options, people=(5, 7), crowding="crowded"), COCO).crowd_index for i in range(8)]
    sparse = [render(i, replace(options, people=(1, 3), crowding="sparse"), COCO).crowd_index for i in range(8)]
    assert np.mean(crowd) > 0.3 > np.mean(sparse)


def test_any_skeleton_by_name_and_unknown_names() -> None:
    names = ("head_top", "pelvis", "right_wrist")
    all_ = render(1, FULL, JOINTS).people[0].joint_K3
    few = render(1, FULL, names).people[0].joint_K3
    assert np.array_equal(few, all_[[JOINTS.index(name) for name in names]])
    with pytest.raises(ValueError, match="left_toe"):
        render(0, FULL, ("nose", "left_toe"))


def test_crowd_index_by_hand() -> None:
    """A has 2 joints in its box and 1 of B's; B has 2 in its box and none of A's: (1/2 + 0/2) / 2."""
    a = np.array([(1, 1, 2), (3, 3, 1), (0, 0, 0)], np.float32)
    b = np.array([(4, 4, 2), (9, 9, 2), (0, 0, 0)], np.float32)
    assert crowd_index([a, b], [(0, 0, 6, 6), (4, 4, 7, 7)]) == pytest.approx(0.25)
    assert crowd_index([], []) == 0.0
    assert box_iou((0, 0, 2, 2), (1, 0, 2, 2)) == pytest.approx(1 / 3)


def test_folder_is_coco_and_masks_decode_exactly(tmp_path: Path) -> None:
    from pycocotools.coco import COCO as Reader

    folder = synthesize(tmp_path / "people", FULL, COCO, LIMBS, workers=1)
    ids: set[int] = set()
    for split, count in (("train", 8), ("val", 4)):
        reader = Reader(str(folder / "annotations" / f"person_keypoints_{split}.json"))
        assert len(reader.imgs) == count and not ids & set(reader.imgs)
        ids |= set(reader.imgs)
        assert reader.cats[1]["keypoints"] == list(COCO) and reader.cats[1]["skeleton"] == [[6, 8], [8, 10]]
        for index, image in enumerate(reader.imgs.values()):
            assert cv2.imread(str(folder / "images" / split / image["file_name"])).shape == (256, 320, 3)
            scene = render(index, FULL, COCO, split)
            assert image["crowdIndex"] == pytest.approx(scene.crowd_index, abs=1e-4)
            for person, row in zip(scene.people, reader.imgToAnns[image["id"]], strict=True):
                assert np.array_equal(reader.annToMask(row).astype(bool), person.mask_HW)
                assert row["area"] == person.area and row["bbox"] == list(person.box_4)
                assert np.allclose(np.reshape(row["keypoints"], (-1, 3)), person.joint_K3, atol=0.0051)
                assert (
                    row["num_keypoints"] == (person.joint_K3[:, 2] > 0).sum()
                    and (row["num_keypoints"] > 0) == person.labelled
                )
    boxes = json.loads((folder / "annotations" / "person_detections_val.json").read_text())
    assert boxes and all(0 < row["score"] <= 1 and row["image_id"] in ids for row in boxes)
    assert "SIMULATED" in (folder / "README.txt").read_text()


def test_workers_do_not_change_files(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    one = synthesize(tmp_path / "one", SMALL, COCO, LIMBS, workers=1)
    two = synthesize(
        tmp_path / "two", SMALL, COCO, LIMBS, workers=2, progress=lambda done, total: seen.append((done, total))
    )
    assert _tree(one) == _tree(two)
    assert seen[-1] == (12, 12) and len(seen) == 12
    assert synthesize(tmp_path / "two", SMALL, COCO, LIMBS) == two and len(seen) == 12


def test_a_kill_leaves_no_half_data_set(tmp_path: Path) -> None:
    def die(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesize(tmp_path / "people", SMALL, COCO, LIMBS, workers=1, progress=die)
    assert not (tmp_path / "people").exists()
    (tmp_path / ".people.part-killed" / "images").mkdir(parents=True)  # what kill -9 leaves
    folder = synthesize(tmp_path / "people", SMALL, COCO, LIMBS, workers=1)
    assert len(list((folder / "images" / "train").iterdir())) == 6
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("keep")
    with pytest.raises(FileExistsError):
        synthesize(tmp_path / "other", SMALL, COCO, LIMBS)
    with pytest.raises(FileExistsError, match="other options"):
        synthesize(folder, replace(SMALL, seed=9), COCO, LIMBS)


def test_second_writer_of_a_folder_gives_way(tmp_path: Path) -> None:
    folder = tmp_path / "people"

    def overtake(done: int, total: int) -> None:
        if done == 1:
            synthesize(folder, SMALL, COCO, LIMBS, workers=1)

    assert synthesize(folder, SMALL, COCO, LIMBS, workers=1, progress=overtake) == folder
    assert [p.name for p in tmp_path.iterdir()] == ["people"]


def test_clip_moves_smoothly(tmp_path: Path) -> None:
    folder = synthesize_clip(tmp_path / "clip", SMALL, COCO, LIMBS, frames=6, clips=2, workers=1)
    data = json.loads((folder / "annotations" / "person_keypoints_val.json").read_text())
    assert len(data["images"]) == 12 and {image["video_id"] for image in data["images"]} == {1, 2}
    frames = {image["id"]: (image["video_id"], image["frame_id"]) for image in data["images"]}
    tracks = {
        (*frames[row["image_id"]], row["track_id"]): np.reshape(row["keypoints"], (-1, 3))
        for row in data["annotations"]
        if row["num_keypoints"]
    }
    steps = []
    for (video, frame, track), joint_K3 in tracks.items():
        after = tracks.get((video, frame + 1, track))
        if after is not None:
            both = (joint_K3[:, 2] > 0) & (after[:, 2] > 0)
            steps += np.linalg.norm(joint_K3[both, :2] - after[both, :2], axis=1).tolist()
    assert 0 < np.mean(steps) < 4 and max(steps) < 12


@pytest.mark.parametrize("size", [(64, 48), (97, 131)])
def test_odd_sizes_and_nobody(size: tuple[int, int]) -> None:
    scene = render(0, Synthetic(size=size, people=(0, 0)), COCO)
    assert (
        scene.image_HW3.shape == (*size, 3) and not [p for p in scene.people if p.labelled] and scene.crowd_index == 0
    )
    assert not compose(0, Synthetic(size=size, people=(0, 0), seed=2), COCO, in_front=False).crowd_index
    assert render(1, Synthetic(size=size), COCO).image_HW3.shape == (*size, 3)


def test_annotation_ids_are_unique_and_small() -> None:
    rows = [row for i in range(3) for row in coco_annotations(render(i, SMALL, COCO), 1_000_000_000 + i)]
    assert len({row["id"] for row in rows}) == len(rows) and all(row["id"] < 2**53 for row in rows)


def test_speed() -> None:
    render(0, FULL, COCO)
    start = time.process_time()
    for index in range(20):
        scene = render(index, FULL, COCO)
        cv2.imencode(".jpg", scene.image_HW3, [cv2.IMWRITE_JPEG_QUALITY, scene.jpeg_quality])
    assert 20 / (time.process_time() - start) >= 15
