"""`repose bench video`, and the measures of tracks."""

from __future__ import annotations

import json

import numpy as np
import pytest
from field_kit import untrained

from repose.__main__ import main
from repose.commands import bench_video as module
from repose.commands.bench_overhead import PEOPLE, overhead, standing_people
from repose.field.options import Bench, Smooth, Track
from repose.field.sources import Frame
from repose.field.video import Follower
from repose.field.video_metrics import Identities, People, agreement, jitter
from repose.skeleton import COCO17

SIGMAS = (0.08, 0.08)


def people(points, numbers, v=1.0):
    points = np.asarray(points, float).reshape(-1, 2, 2)
    joints = np.concatenate([points, np.full((*points.shape[:2], 1), v)], -1)
    return People(joints, np.full(len(points), 400.0), np.array(numbers, np.int64))


A, B = [[0, 0], [10, 0]], [[100, 0], [110, 0]]


def test_identity_switches_are_counted_once_each():
    truth = people([A, B], [1, 2])
    identities = Identities(SIGMAS)
    for numbers in ([5, 6], [5, 6], [6, 5], [6, 5]):
        identities.add(people([A, B], numbers), truth)
    assert identities.switches == 2 and identities.recall == 1.0 and identities.mean_error_px == 0.0
    identities.add(people([[[500, 0], [510, 0]]], [9]), truth)  # nobody near
    assert identities.switches == 2 and identities.recall == 8 / 10
    identities.add(people([np.add(A, 1)], [6]), people([A, B], [1, 2], v=0.0))  # nobody is labelled
    assert identities.wanted == 10
    identities.add(people([np.add(A, (0.6, 0.8))], [6]), people([A], [1]))
    assert identities.mean_error_px == pytest.approx(1 * 2 / (8 * 2 + 2))


def test_agreement_is_1_with_itself_and_a_missing_person_counts_0():
    run = [people([A, B], [1, 2]), people([A, B], [1, 2])]
    assert agreement(run, run, SIGMAS) == pytest.approx(1.0)
    assert agreement([run[0], people([A], [1])], run, SIGMAS) == pytest.approx(0.75)
    assert np.isnan(agreement([people([], [])], [people([], [])], SIGMAS))


def test_jitter_is_the_mean_acceleration():
    steady = [people([np.add(A, (3.0 * t, 0))], [1]) for t in range(5)]
    assert jitter(steady, 0.1, 0.5) == pytest.approx(0.0, abs=1e-9)
    falling = [people([np.add(A, (0, 2.0 * t * t))], [1]) for t in range(5)]
    assert jitter(falling, 0.1, 0.5) == pytest.approx(4 / 0.01)
    assert np.isnan(jitter([people([A], [t]) for t in range(5)], 0.1, 0.5))  # nobody keeps a number
    assert np.isnan(jitter(steady, 0.1, 1.5))


def test_the_knowing_network_and_ten_people():
    predictor = standing_people(COCO17)
    follower = Follower(predictor, Track(), Smooth(), "x")
    image = np.zeros((720, 1280, 3), np.uint8)
    for n in range(6):
        found = follower(Frame(n, n / 25, image), 1 / 25)
    assert sorted(found.track_N.tolist()) == list(range(1, PEOPLE + 1))
    truth = predictor.module.truth_NK2.numpy()
    apart = np.linalg.norm(found.joint_NK3[:, None, :, :2].numpy() - truth[None], axis=-1).mean(-1).min(1)
    assert apart.max() < 3


def test_the_overhead_beside_the_networks():
    """Under 2 ms of CPU time for ten people; three times that here, where other tests share the core's caches."""
    measured = overhead(COCO17, Track(), Smooth(), frames=40)
    assert measured["people"] == 10
    assert 0 < measured["tracks_ms"] < 6


def test_other_drawing_code_draws_into_another_folder(tmp_path, monkeypatch):
    cfg = Bench(checkpoint="x.ckpt")
    before = module.clip_folder(cfg, COCO17)
    assert module.clip_folder(cfg, COCO17) == before
    monkeypatch.setattr("repose.data.roots._DRAWING", tmp_path)
    assert module.clip_folder(cfg, COCO17) != before


def test_the_command_on_a_drawn_clip(tmp_path, monkeypatch, capsys, root):
    monkeypatch.setenv("REPOSE_DATA", str(tmp_path / "data"))
    checkpoint = untrained("drpnet/m", tmp_path / "x.ckpt")
    words = ["bench", "video", f"checkpoint={checkpoint}", "frames=8", "intervals=[1,4]", "device=cpu", "boxes=gt"]
    words += [
        "time_detector=null",
        "test.flip=false",
        "track.min_score=0",
        "track.keypoint_score=0",
        f"plot={tmp_path / 'p' / 'video.png'}",
    ]
    assert main([*words, "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert [row["interval"] for row in measured["rows"]] == [1, 4]
    first = measured["rows"][0]
    assert first["agreement"] == pytest.approx(1.0)
    assert (first["looks"], measured["rows"][1]["looks"]) == (8, 2)
    assert first["ms"]["whole"] == pytest.approx(
        sum(first["ms"][p] for p in ("detector", "network", "crops", "tracks"))
    )
    assert {"AP", "switches", "jitter", "error_px", "found"} <= set(first["measured"]) & set(first["filtered"])
    assert measured["true_jitter"] > 0 and measured["boxes"] == "drawn clip's ground truth"
    assert (tmp_path / "p" / "video.png").read_bytes()[:4] == b"\x89PNG"
    text = module.render({**measured, "rows": [_nan(row) for row in measured["rows"]]})
    assert "no accuracy" in text and "interval" in text


def _nan(row):
    """JSON's null back to nan."""
    return {k: _nan(v) if isinstance(v, dict) else (float("nan") if v is None else v) for k, v in row.items()}


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "give checkpoint=FILE"),
        (["checkpoint=none.ckpt"], "no such file or folder"),
        (["a.mp4", "b.mp4"], "one video at a time"),
        (["checkpoint={ckpt}", "intervals=[0]"], "give different whole numbers from 1 on"),
        (["checkpoint={ckpt}", "frames=4"], "at least warm + 3"),
        (["checkpoint={ckpt}", "boxes=true"], "boxes=drawn or boxes=gt"),
        (["checkpoint={ckpt}", "trak.interval=3"], "unknown key"),
        (["none.mp4", "checkpoint={ckpt}"], "no such video"),
    ],
)
def test_mistakes_of_the_bench_are_one_line(words, part, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("REPOSE_DATA", str(tmp_path))
    checkpoint = untrained("drpnet/m", tmp_path / "x.ckpt") if "checkpoint={ckpt}" in words else ""
    short = ["frames=6"] if "frames=4" not in words else []
    assert main(["bench", "video", *(w.format(ckpt=checkpoint) for w in words), *short]) == 2
    assert part in capsys.readouterr().err.splitlines()[-1]


def test_the_defaults_are_the_specifications():
    bench, track, smooth = Bench(), Track(), Smooth()
    assert bench.intervals == (1, 2, 5, 10)
    assert (track.interval, track.keypoint_score, track.box_factor, track.merge_iou) == (5, 0.3, 1.25, 0.7)
    assert (track.oks_nms, track.match_oks, track.match_iou, track.max_missing) == (0.7, 0.3, 0.4, 10)
    assert (smooth.min_cutoff, smooth.beta, smooth.d_cutoff) == (1.0, 0.007, 1.0)
    assert (bench.detector.score, bench.detector.nms) == (0.5, 0.7)
