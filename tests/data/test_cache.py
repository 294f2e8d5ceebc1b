"""The decoded-image cache: right pixels, several processes, damage, room."""

import json
import multiprocessing
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from repose.data import cache as cache_module
from repose.data.cache import open_cache
from repose.data.coco import read
from repose.data.images import decode
from repose.errors import UserError


def _open(folder, **data):
    cfg = folder.cfg(**{"cache": "on", **data})
    annotations = read(folder.root / "people.json", folder.root / "images", cfg.joint_set())
    return annotations, open_cache(cfg.data, folder.root, annotations, np.arange(annotations.images))


def _build_in_process(folder, start, out):
    start.wait()
    _, opened = _open(folder)
    out.put((os.getpid(), [int(opened.read(i).sum()) for i in range(len(opened.offset_I))]))


def test_cached_pixels_are_the_decoded_ones(crowd_of, capsys):
    folder = crowd_of(5, "jpg")
    annotations, opened = _open(folder)
    assert "cache: 5 photographs decoded into" in capsys.readouterr().err
    for i in range(5):
        np.testing.assert_array_equal(opened.read(i), decode(annotations.path(i)))
        assert not opened.read(i).flags.writeable
    assert opened.damaged() == []
    again = _open(folder)[1]
    assert "is ready" in capsys.readouterr().err and again.file == opened.file  # nothing is built twice
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(opened)).read(2), opened.read(2))
    assert len(pickle.dumps(opened)) < 5000  # a worker gets the file's name, not its content


def test_batches_are_the_same_with_and_without(crowd_of):
    folder = crowd_of(4, "jpg")
    plain, cached = folder.module(), folder.module(cache="on")
    assert cached.train_set.photographs.cache is not None
    keys = [(0, i) for i in range(8)]
    a, b = plain.train_set.__getitems__(keys), cached.train_set.__getitems__(keys)
    assert (a.image_B3HW == b.image_B3HW).all() and (a.people.joint_NK3 == b.people.joint_NK3).all()


def test_processes_that_start_at_once_build_it_once(crowd_of):
    folder = crowd_of(12)
    context = multiprocessing.get_context("fork")
    start, out = context.Event(), context.Queue()
    processes = [context.Process(target=_build_in_process, args=(folder, start, out)) for _ in range(3)]
    for process in processes:
        process.start()
    start.set()
    got = [out.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert got[0][1] == got[1][1] == got[2][1]
    files = sorted(p.suffix for p in (folder.root / ".cache").iterdir())
    assert files == [".json", ".lock", ".rgb"]  # one cache, no leftovers


def test_damage_is_noticed_and_decoded_around(crowd_of):
    folder = crowd_of(3)
    annotations, opened = _open(folder)
    with opened.file.open("r+b") as stream:
        stream.seek(int(opened.offset_I[1]) + 100)
        stream.write(b"\x00\x01\x02")
    fresh = _open(folder)[1]
    assert fresh.damaged() == [1]
    module = folder.module(cache="on")
    assert (module.train_set.photographs.read(1) == decode(annotations.path(1))).all()


def test_a_torn_index_or_a_changed_photograph_rebuilds(crowd_of, capsys):
    folder = crowd_of(3)
    _, opened = _open(folder)
    index = opened.file.with_suffix(".json")
    index.write_text(index.read_text()[:-3])
    capsys.readouterr()
    assert _open(folder)[1].damaged() == []
    assert "3 photographs decoded" in capsys.readouterr().err
    file = folder.root / "images" / "000001.png"
    os.utime(file, ns=(1, 1))
    assert _open(folder)[1].file != opened.file


def test_an_error_that_passes_is_not_kept(crowd_of, monkeypatch):
    folder = crowd_of(3)
    real = cache_module.decode
    failing = sorted((folder.root / "images").iterdir())[1].name
    broken = "unreadable (Input/output error)"
    monkeypatch.setattr(cache_module, "decode", lambda file: broken if file.name == failing else real(file))
    _, opened = _open(folder)
    assert opened.bad == {} and (opened.offset_I < 0).sum() == 1
    monkeypatch.setattr(cache_module, "decode", real)
    module = folder.module(cache="on")
    assert module.train_set.photographs.read(1) is not None and not module.train_set.photographs.bad()


def test_corrected_sizes_are_judged_anew(crowd_of):
    folder = crowd_of(2)
    file = folder.root / "people.json"
    right = file.read_text()
    stated = json.loads(right)
    stated["images"][0]["width"] += 1
    file.write_text(json.dumps(stated))
    assert list(_open(folder)[1].bad) == [0]
    file.write_text(right)
    assert _open(folder)[1].bad == {}


def test_bad_images_are_left_out_and_named(crowd_of):
    folder = crowd_of(3, "jpg")
    file = folder.root / "images" / "000002.jpg"
    file.write_bytes(file.read_bytes()[:-200])
    _, opened = _open(folder)
    assert opened.bad == {1: "truncated"} and opened.read(1) is None and opened.read(2) is not None


def test_auto_says_why_it_is_off(crowd_of, capsys, monkeypatch):
    folder = crowd_of(2)
    assert _open(folder, cache="auto", cache_gb=1e-6)[1] is None
    assert "cache: off (0.0 GB of decoded photographs, data.cache_gb=1e-06)" in capsys.readouterr().err
    usage = type("Usage", (), {"free": 1000})()
    monkeypatch.setattr(cache_module.shutil, "disk_usage", lambda _: usage)
    assert _open(folder, cache="auto")[1] is None
    assert "free in" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"data\.cache=on: .*data\.cache=off"):
        _open(folder)
    assert _open(folder, cache="off")[1] is None


def test_read_only_data_sets_are_cached_elsewhere(crowd_of, monkeypatch, tmp_path):
    folder = crowd_of(2)
    monkeypatch.chdir(tmp_path)
    folder.root.chmod(0o555)  # an administrator could write all the same, and must not
    opened = _open(folder)[1]
    folder.root.chmod(0o755)
    assert opened.file.parent == Path("data/.cache/tiny")
    assert opened.read(0) is not None
