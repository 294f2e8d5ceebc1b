"""`repose bench latency`: what it times, keeps and prints; and the tables and the dashboard that print it."""

from __future__ import annotations

import dataclasses
import json
import re

import cv2
import pytest

from repose import papers
from repose.__main__ import main
from repose.commands import bench_latency as latency
from repose.commands.bench_latency import WATTS, Options, latency_options, pipeline_ms
from repose.config import load
from repose.errors import UserError
from repose.tables import speed, statistics
from repose.tables.cells import cell, choose
from repose.tables.schema import find_tables

WORDS = ["scale=smoke", "train.precision=32"]


@pytest.fixture
def here(tmp_path, root, monkeypatch):
    """An empty folder for runs; experiments are the checkout's."""
    (tmp_path / "experiments").symlink_to(root / "experiments")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_torch_and_files_are_timed_and_kept(here, capsys):
    pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    pytest.importorskip("onnxscript", reason="the extra `export` is not installed")
    assert main(["bench", "latency", "drpnet/m", *WORDS, "runs=3", "warm=1", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    rows = {(r["runtime"], r["threads"]): r for r in said["rows"] if r["device"] == "cpu"}
    assert {runtime for runtime, _ in rows} == {"torch", "onnx", "onnx-int8"} and ("torch", 1) in rows
    for row in rows.values():
        assert 0 < row["best_ms"] <= row["median_ms"] <= row["p90_ms"] and row["with_post_ms"] > 0
        assert row["fps"] == pytest.approx(1000 / row["median_ms"], rel=0.01)
        if not row["energy_measured"]:
            assert row["energy_mj"] == pytest.approx(WATTS * row["median_ms"], rel=0.01)
    assert rows["onnx-int8", 1]["file_mb"] < rows["onnx", 1]["file_mb"]
    assert said["weights"] == "random" and said["input_size"] == [96, 72] and said["processor"]
    cfg = load("drpnet/m", WORDS, find_paper=papers.get).cfg
    for runtime in ("torch", "onnx-int8"):
        mine = dataclasses.replace(cfg, test=dataclasses.replace(cfg.test, runtime=runtime))
        found, words = speed.latencies(("latency_ms", "energy_mJ"), mine)
        assert found["latency_ms"] == rows[runtime, 1]["median_ms"] and "energy_mJ" in found
        assert "one thread" in words
    print_of = latency.render(said)
    assert "onnx-int8" in print_of and "median ms" in print_of


def test_energy_is_read_from_the_counters(tmp_path, monkeypatch):
    """Two packages whose counters move by 3 and 4 J over ten runs, one of them past its end; psys holds both again."""
    for n, value in ((0, 5_000_000), (1, 9_000_000), (2, 0)):
        zone = tmp_path / f"intel-rapl:{n}"
        zone.mkdir()
        (zone / "name").write_text(f"package-{n}\n" if n < 2 else "psys\n")
        (zone / "energy_uj").write_text(str(value))
        (zone / "max_energy_range_uj").write_text("9999999")
    monkeypatch.setattr(latency, "_RAPL", tmp_path)
    calls = iter(range(100))

    def call():
        if next(calls) == 5:
            (tmp_path / "intel-rapl:0" / "energy_uj").write_text("8000000")
            (tmp_path / "intel-rapl:1" / "energy_uj").write_text("3000000")
            (tmp_path / "intel-rapl:2" / "energy_uj").write_text("7000000")

    times, joules = latency._timed(call, Options(runs=10, warm=0), None)
    assert joules == pytest.approx(7.0)
    energy = latency._energy(times, joules)
    assert energy == {"energy_mj": 700.0, "energy_measured": True}


def test_without_counters_energy_is_an_estimate(tmp_path, monkeypatch):
    monkeypatch.setattr(latency, "_RAPL", tmp_path / "none")
    _, joules = latency._timed(lambda: None, Options(runs=2, warm=0), None)
    assert joules is None
    times = latency.Times([0.02, 0.04, 0.03], [0.01] * 3)
    assert latency._energy(times, None) == {"energy_mj": round(30 * WATTS, 2), "energy_measured": False}


def test_a_pipeline_is_a_fifth_of_the_detector_and_each_persons_pose():
    assert pipeline_ms(10.0, 3.0) == 5.0
    assert pipeline_ms(10.0, 3.0, people=4, interval=1) == 22.0


def test_options():
    options, rest = latency_options(["runtimes=torch,onnx", "runs=7", "drpnet/m", "scale=smoke"])
    assert options.runtimes == ("torch", "onnx") and options.runs == 7 and rest == ["drpnet/m", "scale=smoke"]
    for word, said in (("runs=0", "runs from 1 on"), ("runtimes=tensorrt", "'tensorrt' is none of")):
        with pytest.raises(UserError, match=re.escape(said)):
            latency_options([word])


def test_a_detector_is_timed_and_a_wrong_name_is_one_line(here, capsys):
    words = ["bench", "latency", "drpnet/m", *WORDS, "runs=1", "warm=0", "runtimes=torch"]
    assert main([*words, "detector=ssdlite"]) == 2
    assert "ssdlite320_mobilenet_v3_large" in capsys.readouterr().err


def _kept(cfg, **row):
    """A measurement as `bench latency` keeps it."""
    base = {
        "runtime": "torch", "device": "cpu", "threads": 1, "precision": "32", "median_ms": 24.0, "best_ms": 23.0,
        "p90_ms": 25.0, "fps": 41.7, "with_post_ms": 26.0, "file_mb": None, "energy_mj": 300.0,
        "energy_measured": False,
    }  # fmt: skip
    int8 = {**base, "runtime": "onnx-int8", "precision": "int8", "median_ms": 12.0, "fps": 83.3, "energy_mj": 150.0}
    detector = [{**base, "runtime": "ssd", "median_ms": 50.0, "weights": "random"}]
    speed.keep(
        "latency",
        cfg,
        {
            "rows": [base, int8], "detector": detector, "interval": 5, "processor": "a processor", "hardware": "a host",
            "weights": "random", "input_size": [256, 192], **row,
        },
    )  # fmt: skip


def test_table_4_prints_the_hosts_latency_beside_the_phones(here, capsys):
    table = find_tables("drpnet/4")[0]
    for row in ("drpnet-m", "rtmpose-m-fp32"):
        _kept(cell(table, table.rows[row], choose([]), scale="paper").loaded.cfg)
    assert main(["table", "drpnet/4", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    rows = {r["id"]: r for r in said["rows"]}
    assert rows["drpnet-m"]["measured"]["latency_ms"] == 24.0
    assert rows["drpnet-m-int8"]["measured"]["latency_ms"] == 12.0 and rows["rtmpose-m"]["measured"]["energy_mJ"] == 150
    assert rows["movenet"]["paper"]["latency_ms"] == 18.2 and not rows["movenet"]["measured"]
    notes = " ".join(said["notes"])
    assert "energy estimated" in notes and "a processor, one thread" in notes and "proxy" in notes


def test_figure_5_adds_the_detector(here, capsys):
    table = find_tables("drpnet/fig-5")[0]
    _kept(cell(table, table.rows["m"], choose([]), scale="paper").loaded.cfg)
    assert main(["table", "drpnet/fig-5", "--json"]) == 0
    rows = {r["id"]: r for r in json.loads(capsys.readouterr().out)["rows"]}
    assert rows["m"]["measured"]["pipeline_ms"] == 50.0 / 5 + 26.0
    assert (here / "runs/tables/drpnet/figure-5-mini.png").is_file()


def test_figure_4_reads_what_bench_video_kept(here, capsys):
    assert main(["table", "drpnet/fig-4", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {r["status"] for r in rows} == {"no data"} and "repose bench video" in rows[0]["reason"]
    table = find_tables("drpnet/fig-4")[0]
    one = cell(table, table.rows["interval-5"], choose([]))
    kept = [
        {"interval": n, "ms": {"whole": ms}, "agreement": agree, "measured": {"AP": ap}}
        for n, ms, agree, ap in ((1, 40.0, 1.0, 0.5), (5, 26.0, 0.9, 0.49))
    ]
    speed.keep("video", one.loaded.cfg, {"rows": kept})
    assert statistics.computed(one, here) == {
        "frame_ms": 26.0,
        "agreement": 0.9,
        "AP": 0.49,
        "saved": pytest.approx(35.0),
    }
    with pytest.raises(UserError, match="interval 10 was not measured"):
        speed.video(one.loaded.cfg, 10)


def test_the_dashboard_names_the_source_of_every_number(here, capsys):
    """JSON, PNG and HTML; without a run the paper's numbers, what was counted and what was timed."""
    table = find_tables("drpnet/fig-7")[0]
    _kept(cell(table, table.rows["drpnet-m"], choose([]), scale="paper").loaded.cfg)
    assert main(["table", "drpnet/fig-7"]) == 0
    capsys.readouterr()
    base = here / "runs/tables/drpnet/figure-7-mini"
    facts = json.loads(base.with_suffix(".json").read_text())
    numbers = [n for key in ("accuracy", "complexity", "latency") for n in facts[key]]
    assert {n["source"] for n in numbers} == {"quoted", "counted", "measured"}
    counted = {n["name"]: n["value"] for n in facts["complexity"] if n["source"] == "counted"}
    assert counted["params"] == pytest.approx(15.0436, abs=1e-3) and counted["GFLOPs"] == pytest.approx(2.156, abs=0.01)
    times = {n["name"]: (n["value"], n["source"]) for n in facts["latency"]}
    assert times["CPU, 1 thread, ONNX int8"] == (12.0, "measured") and times["phone, int8"] == (13.9, "quoted")
    assert {p["name"] for p in facts["landscape"]} >= {"DRP-Net-M", "RTMPose-m", "OpenPose VGG-19 368x368"}
    image = cv2.imread(str(base.with_suffix(".png")))
    assert image is not None and image.shape[1] > 1500
    text = base.with_suffix(".html").read_text()
    assert "data:image/png;base64," in text and 'class="quoted"' in text and "no trained network of this code" in text
