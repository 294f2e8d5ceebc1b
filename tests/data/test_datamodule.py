"""The DataModule: the same batches whatever loads them, bad input, resume."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from coco_folder import with_data

from repose.config import Augment, Draw, ExperimentBase, HalfBody, Hole, SkeletonBlock, Synthetic
from repose.data import datamodule as datamodule_module
from repose.data import roots, synthetic
from repose.data.datamodule import PoseDataModule
from repose.data.roots import find_root
from repose.errors import UserError

STRONG = Augment(
    flip=0.5, scale=Draw(1.0, (0.6, 1.4), "truncnorm"), rotation=Draw(0.6, (-80, 80)), hole=Hole(p=1.0), blur=0.5
)
WEAK = Augment(flip=0.5)
IMAGE = {"view": "image", "base": "short", "centre": "person", "input_size": (64, 64)}


def _epoch(module):
    return [(b.image_B3HW, b.people.joint_NK3, b.seed_B, b.epoch_B, b.subject_id_B) for b in module.train_dataloader()]


def _same(one, other):
    return len(one) == len(other) and all(
        torch.equal(x, y) for a, b in zip(one, other, strict=True) for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("view", [{}, IMAGE], ids=["person", "image"])
def test_workers_change_nothing_and_epochs_differ(crowd_of, view):
    folder = crowd_of(6)
    one = folder.module(augment=STRONG, **view)
    first, second = _epoch(one), _epoch(one)
    assert not _same(first, second)
    assert _same(first, _epoch(folder.module(augment=STRONG, **view)))
    other = folder.module(augment=STRONG, workers=2, **view)
    loader = other.train_dataloader()
    for wanted in (first, second):  # persistent workers, two epochs
        got = [(b.image_B3HW, b.people.joint_NK3, b.seed_B, b.epoch_B, b.subject_id_B) for b in loader]
        assert _same(got, wanted)


def test_resume_is_exact_in_the_middle_and_at_the_end_of_an_epoch(crowd_of):
    folder = crowd_of(6)
    whole = folder.module(augment=STRONG)
    stream = _epoch(whole) + _epoch(whole)
    for done in (4, 12, 16):
        for workers in (0, 2):
            resumed = folder.module(augment=STRONG, workers=workers)
            resumed.resume_at(done)
            loader = resumed.train_dataloader()
            got = [
                (b.image_B3HW, b.people.joint_NK3, b.seed_B, b.epoch_B, b.subject_id_B)
                for _ in range(2)
                for b in loader
            ]
            assert _same(got[: len(stream) - done // 2], stream[done // 2 :])


def test_second_stage_begins_with_its_epoch_inside_persistent_workers(crowd_of):
    folder = crowd_of(4)
    shift = Augment(shift=Draw(1.0, (5.0, 5.0)))  # far outside: black
    module = folder.module(augment=shift, augment_final=WEAK, final_share=0.5, epochs=4, workers=1)
    loader = module.train_dataloader()
    black = [all(not b.image_B3HW.any() for b in loader) for _ in range(4)]
    assert black == [True, True, False, False]


def test_every_worker_has_one_opencv_thread(crowd_of, monkeypatch):
    calls, ignored = [], []
    monkeypatch.setattr(datamodule_module.cv2, "setNumThreads", calls.append)
    monkeypatch.setattr(datamodule_module.signal, "signal", lambda number, handler: ignored.append((number, handler)))
    datamodule_module._set_up_worker(0)
    assert calls == [0]
    assert (signal.SIGTERM, signal.SIG_IGN) in ignored  # tests/commands/test_group_signal.py says why
    assert crowd_of(2).module(workers=1).train_dataloader().worker_init_fn is datamodule_module._set_up_worker


FAILING = """
from torch.utils.data import DataLoader
from repose.data import datamodule

def fail(index):
    raise OSError("gone")

def main():
    loader = DataLoader(range(4), num_workers=1, worker_init_fn=datamodule._set_up_worker, collate_fn=fail)
    list(loader)

main()
"""


def test_a_process_that_fails_does_not_wait_for_its_workers():
    """They ignore the SIGTERM that Python sends them at its end; the traceback keeps their loader alive until then."""
    done = subprocess.run([sys.executable, "-c", FAILING], capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 1 and "OSError: gone" in done.stderr


def test_default_workers_are_one_per_core_at_most_eight(crowd_of, monkeypatch):
    module = crowd_of(2).module(workers=None)
    monkeypatch.setattr(datamodule_module.os, "sched_getaffinity", lambda _: range(64), raising=False)
    assert module.train_dataloader().num_workers == 8


def test_counts_and_batches(crowd_of):
    module = crowd_of(5).module(batch=4)
    assert module.train_samples == 10 and module.steps_per_epoch == 2 and module.device_batch == (4, 1)
    assert [b.b for b in module.train_dataloader()] == [4, 4]
    assert [b.b for (b,) in module.val_dataloader()] == [2] * 5
    assert crowd_of(1) is not None


def test_image_batches_of_a_test_have_equal_canvases(folder):
    for width, height in ((100, 80), (80, 100), (100, 80), (50, 40), (90, 80)):
        folder.person(folder.image(np.zeros((height, width, 3), np.uint8)), [(5, 5, 2)] * 3, [0, 0, 20, 20])
    folder.write()
    module = folder.module("test", **{**IMAGE, "input_size": (64, 64)}, test_scales=(1.0, 0.5), test_multiple=16)
    seen, sizes = [], []
    for batches in module.val_dataloader():
        assert torch.equal(batches[0].image_id_B, batches[1].image_id_B)
        seen += batches[0].image_id_B.tolist()
        sizes.append((batches[0].input_wh, batches[1].input_wh))
    assert sorted(seen) == [1, 2, 3, 4, 5]
    assert sizes == [((80, 64), (48, 32)), ((80, 64), (48, 32)), ((64, 80), (32, 48))]


def test_ground_truth_and_fingerprint(crowd_of):
    folder = crowd_of(3)
    module = PoseDataModule(folder.cfg(limit_val=2))  # no setup, no photograph is touched
    truth = module.ground_truth()
    assert [i["id"] for i in truth["images"]] == [1, 2] and len(truth["annotations"]) == 4
    assert truth["categories"][0]["keypoints"] == list(module.skeleton.joints)
    before = module.fingerprint()
    folder.annotations[0]["area"] += 1
    folder.write()
    after = PoseDataModule(folder.cfg()).fingerprint()
    assert len(before) == 16 and before != after
    (folder.root / "boxes.json").write_text("[]")
    assert PoseDataModule(folder.cfg(boxes="boxes.json")).fingerprint() != after


# --- bad images ------------------------------------------------------------------------------------------------------


def _break(folder):
    (folder.root / "images" / "000001.jpg").unlink()
    file = folder.root / "images" / "000003.jpg"
    file.write_bytes(file.read_bytes()[:-300])


def test_missing_and_truncated_images_are_named_and_training_goes_on(crowd_of, capsys):
    folder = crowd_of(5, "jpg")
    _break(folder)
    module = folder.module()
    assert "data: 2 images in" in capsys.readouterr().err
    assert module.problems == ["000001.jpg: missing", "000003.jpg: truncated"] * 2  # val and train read the same folder
    assert module.train_samples == 6
    ids = [i for b in module.train_dataloader() for i in b.image_id_B.tolist()]
    assert len(ids) == 6 and set(ids) == {2, 4, 5}
    tested = [i for (b,) in module.val_dataloader() for i in b.image_id_B.tolist()]
    assert sorted(tested) == [2, 2, 4, 4, 5, 5]
    assert len(module.ground_truth()["annotations"]) == 10  # its people stay, and are missed


@pytest.mark.parametrize("workers", [0, 2])
def test_images_that_break_while_training_are_replaced_by_the_same_others(crowd_of, workers):
    folder = crowd_of(5, "jpg")
    runs = []
    for count in (workers, 0):
        module = folder.module(workers=count)
        pristine = {n: (folder.root / "images" / n).read_bytes() for n in ("000001.jpg", "000003.jpg")}
        _break(folder)
        runs.append(_epoch(module))
        assert [p.split(":")[0] for p in module.problems] == ["000001.jpg", "000003.jpg"]
        for name, content in pristine.items():
            (folder.root / "images" / name).write_bytes(content)
    assert len(runs[0]) == 5 and _same(*runs)


def test_garbage_inside_a_whole_file_is_skipped_in_an_evaluation(crowd_of):
    folder = crowd_of(2, "png")
    file = folder.root / "images" / "000001.png"
    content = bytearray(file.read_bytes())
    content[40:60] = bytes(20)
    file.write_bytes(bytes(content))
    module = folder.module("test")
    batches = [b for (b,) in module.val_dataloader()]
    if len(module.problems) == 1:  # OpenCV refused it
        assert [b.b for b in batches] == [0, 2]


def test_check_refuses_at_start(crowd_of):
    folder = crowd_of(3, "jpg")
    _break(folder)
    with pytest.raises(
        UserError, match=r"data\.check: \d problem\(s\), the first: train: image 1: 000001\.jpg is missing"
    ):
        folder.module(check=True)


def test_a_size_that_differs_from_the_json(crowd_of):
    folder = crowd_of(2)
    folder.images[1]["width"], folder.images[1]["height"] = 80, 100
    folder.write()
    with pytest.raises(UserError, match=r"000002\.png: is 100x80, the json says 80x100 \(turned; EXIF"):
        folder.module()


def test_exif_orientation_is_ignored_and_hinted_at(folder):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    folder.person(folder.image(pixels, "turned.jpg"), [(5, 5, 2)] * 3, [0, 0, 20, 20])
    exif = Image.Exif()
    exif[0x0112] = 6
    file = folder.root / "images" / "turned.jpg"
    Image.fromarray(pixels).save(file, exif=exif)
    folder.write()
    assert cv2.imread(str(file)).shape == (60, 40, 3)
    assert folder.module(batch=1).train_set.photographs.read(0).shape == (40, 60, 3)
    folder.images[0].update(width=40, height=60)
    folder.write()
    with pytest.raises(UserError, match="its EXIF orientation turns it"):
        folder.module()


def test_missing_places_say_what_goes_where(crowd_of, monkeypatch, tmp_path):
    folder = crowd_of(2)
    cfg = folder.cfg(download="val2017.zip")
    monkeypatch.setenv("REPOSE_DATA", str(tmp_path))
    with pytest.raises(
        UserError, match=rf"data\.root=nowhere: no such folder {tmp_path}/nowhere or .*needed there: val2017\.zip"
    ):
        PoseDataModule(with_data(cfg, root="nowhere")).setup("fit")
    with pytest.raises(UserError, match=r"data\.val_json: no file .*other\.json; needed in .*val2017\.zip"):
        PoseDataModule(with_data(cfg, val_json="other.json")).setup("fit")
    with pytest.raises(UserError, match=r"pictures: no such folder; needed there: val2017\.zip"):
        PoseDataModule(with_data(cfg, val_images="pictures")).setup("fit")
    assert PoseDataModule(with_data(cfg, root="set")).root == folder.root  # below $REPOSE_DATA


def test_nobody_to_train_on(folder):
    folder.person(folder.image(np.zeros((40, 60, 3), np.uint8)), [], [0, 0, 20, 20])
    folder.write()
    with pytest.raises(UserError, match=r"nobody with at least data\.min_keypoints=1"):
        folder.module()
    (batches,) = list(folder.module("test").val_dataloader())
    assert batches[0].b == 0


def test_an_image_with_nobody_is_tested_in_the_image_view(folder):
    folder.image(np.zeros((40, 60, 3), np.uint8))
    folder.write()
    (batches,) = list(folder.module("test", **IMAGE).val_dataloader())
    assert batches[0].b == 1 and batches[0].people.n == 0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"view": "image"}, "set data.base to short or long"),
        ({"base": "short"}, "data.view=person crops boxes"),
        ({"augment": Augment(half_body=HalfBody(p=0.3, min_labelled=2))}, "needs the joint group 'upper'"),
    ],
)
def test_settings_that_contradict_each_other(crowd_of, data, message):
    with pytest.raises(UserError, match=message):
        crowd_of(2).module(**data)


def test_a_small_skeleton_needs_no_halves(crowd_of):
    assert crowd_of(2).module(augment=Augment(half_body=HalfBody(p=0.3))).train_set is not None


def test_five_joints_of_ones_own(folder):
    block = SkeletonBlock("five", ("a", "b", "c", "d", "e"), (("a", "b"),), (("a", "b"),), (0.1,) * 5)
    folder.joints = block.joints
    folder.person(folder.image(np.zeros((40, 60, 3), np.uint8)), [(5, 5, 2)] * 5, [0, 0, 20, 20])
    folder.write()
    assert folder.module(skeleton=block, batch=1).train_set[(0, 0)].people.joint_NK3.shape == (1, 5, 3)


def test_batch_survives_the_trip_through_a_spawned_worker(crowd_of):
    import pickle

    train = crowd_of(2).module(augment=STRONG).train_set
    again = pickle.loads(pickle.dumps(train))
    assert torch.equal(train[(0, 1)].image_B3HW, again[(0, 1)].image_B3HW)


# --- drawn data ------------------------------------------------------------------------------------------------------


def test_drawn_people_are_made_once_per_set_of_options_and_code(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    few = Synthetic(train=2, val=1, size=(96, 128))
    cfg = with_data(
        ExperimentBase(),
        name="synthetic",
        root="synthetic",
        train_json="annotations/person_keypoints_train.json",
        train_images="images/train",
        val_json="annotations/person_keypoints_val.json",
        val_images="images/val",
        synthetic=few,
        workers=1,
        cache="off",
    )
    module = PoseDataModule(cfg)
    module.prepare_data()
    assert "drawing 2 + 1 synthetic images" in capsys.readouterr().err
    module.prepare_data()
    assert capsys.readouterr().err == ""
    module.setup("test")
    assert len(json.loads((module.root / cfg.data.val_json).read_text())["images"]) == 1
    other = with_data(cfg, synthetic=Synthetic(train=3, val=1, size=(96, 128)))
    assert find_root(other.data) != module.root
    before = module.root, module.fingerprint()
    drawing = tmp_path / "drawing"
    shutil.copytree(Path(synthetic.__file__).parent, drawing)
    monkeypatch.setattr(roots, "_DRAWING", drawing)
    assert find_root(cfg.data) == before[0]  # the same code, wherever it lies
    with (drawing / "scene.py").open("a") as code:
        code.write("\n# other textures\n")
    assert (module.root, module.fingerprint()) == before  # a run that has begun stays with its pictures
    edited = PoseDataModule(cfg)
    assert edited.root != before[0]
    edited.prepare_data()
    assert "drawing 2 + 1 synthetic images" in capsys.readouterr().err
    assert edited.fingerprint() != before[1]  # the annotations are the same, the pictures may not be
    assert (before[0] / cfg.data.val_json).is_file()
    direct = with_data(
        cfg, root=str(module.root.absolute()), synthetic=Synthetic()
    )  # a folder that holds a data set is taken as it is
    assert PoseDataModule(direct).root == module.root.absolute()
