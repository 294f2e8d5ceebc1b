"""`repose diff`: what differs, numbers with intervals, pictures; and when nothing is subtracted."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import cv2
import pytest
from run_kit import make_run

from repose.__main__ import main
from repose.engine.provenance import code_fingerprint


@pytest.fixture(scope="module")
def runs(synthetic_smoke: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run, a better one with other code and settings, and ones that are not of the same thing."""
    root = tmp_path_factory.mktemp("runs")
    code = code_fingerprint("drpnet")
    changed = {**code, "papers/drpnet/losses.py": "0", "papers/drpnet/new.py": "1"}
    return {
        "root": root,
        "worse": make_run(root, synthetic_smoke, "model.roi.size=5", off=4.0, worst=3),
        "better": make_run(
            root, synthetic_smoke, off=2.0, code_fingerprint=changed, commit="f" * 40, versions={"torch": "2.12"}
        ),
        "no flip": make_run(root, synthetic_smoke, "test.flip=false"),
        "fewer": make_run(root, synthetic_smoke, "data.limit_val=5"),
        "stopped": make_run(root, synthetic_smoke, "seed=2", status="running", metrics={}),
        "another method": make_run(root, synthetic_smoke, experiment="baselines/rtmpose-t", off=3.0),
        "not its own": make_run(root, synthetic_smoke, "seed=5", metrics={"AP": 0.5}),
    }


def compared(
    runs: dict[str, Path], a: str, b: str, folder: Path, capsys: pytest.CaptureFixture[str], *words: str
) -> dict[str, Any]:
    names = [str(runs[n].relative_to(runs["root"])) for n in (a, b)]
    argv = ["diff", *names, f"runs={runs['root']}", "resamples=100", *words, "--out", str(folder), "--json"]
    assert main(argv) == 0
    return json.loads(capsys.readouterr().out)


def test_config_and_code(runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = compared(runs, "worse", "better", tmp_path, capsys, "images=0")
    assert found["config"] == [{"key": "model.roi.size", "a": 5, "b": 7}]
    code = found["code"]
    assert (code["changed"], code["only_a"], code["only_b"]) == (
        ["papers/drpnet/losses.py"],
        [],
        ["papers/drpnet/new.py"],
    )
    assert code["commits"] == ["0123456", "fffffff"] and code["versions"] == ["torch 2.11 -> 2.12"]
    assert found["changed_most"] == [] and not list(tmp_path.iterdir())


def test_numbers_have_paired_intervals(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = compared(runs, "worse", "better", tmp_path, capsys)
    a, b = (json.loads((runs[n] / "result.json").read_text())["metrics"] for n in ("worse", "better"))
    rows = {row["name"]: row for row in found["metrics"]}
    assert found["subtracted"] and rows.keys() == a.keys()
    for name in ("AP", "AP75", "AR", "AP_M"):
        row = rows[name]
        assert (row["a"], row["b"]) == (a[name], b[name])
        gap = row["difference"]
        assert gap["value"] == pytest.approx(b[name] - a[name], abs=1e-9)
        assert gap["low"] <= gap["value"] <= gap["high"] and gap["low"] < gap["high"]
    assert rows["AP"]["difference"]["low"] > 0 and rows["AP"]["p"] == pytest.approx(2 / 101)
    read_out = rows["coarse_error_px"]
    assert read_out["difference"]["value"] == -2 and read_out["difference"]["low"] is None and read_out["p"] is None
    joints = {row["name"]: row for row in found["joints"]}
    assert len(joints) == 17 and all(row["difference"]["value"] > 0 for row in joints.values() if row["a"] is not None)
    # every joint is off by as much, so those with a larger sigma are more similar
    assert joints["left_hip"]["a"] > joints["nose"]["a"]


def test_the_images_that_changed_most(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = compared(runs, "worse", "better", tmp_path, capsys, "images=3")["changed_most"]
    assert len(found) == 3
    changes = [c["change"] for c in found]
    assert changes == sorted(changes, reverse=True)
    for rank, change in enumerate(found, 1):
        assert Path(change["picture"]) == tmp_path / f"{rank:02d}-{change['image_id']}.png"
        picture = cv2.imread(change["picture"])
        third = picture.shape[1] // 3
        assert picture.shape[1] > 1000 and (picture[:, :third] != picture[:, third : 2 * third]).any()
        assert change["b"] > change["a"] and math.isclose(
            change["change"], (change["b"] - change["a"]) * change["people"]
        )
    again = compared(runs, "better", "worse", tmp_path, capsys, "images=1")["changed_most"]
    assert again[0]["image_id"] == found[0]["image_id"]
    assert [p.name for p in tmp_path.iterdir()] == [f"01-{found[0]['image_id']}.png"], "the former pictures are gone"


def test_for_people(runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", str(runs["worse"]), str(runs["better"]), "resamples=100", "--out", str(tmp_path)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "1 setting differs" in text and "git diff 0123456 fffffff -- src/repose/papers/drpnet/losses.py" in text
    assert "AP: B is better: +" in text and "over the same 8 images, one seed each" in text and "left_wrist" in text
    assert main(["diff", str(runs["better"]), str(runs["worse"]), "resamples=100", "--out", str(tmp_path)]) == 0
    assert "AP: A is better: -" in " ".join(capsys.readouterr().out.split())


def test_another_method_on_the_same_people_is_compared(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = compared(runs, "another method", "better", tmp_path, capsys, "images=1")
    assert found["subtracted"] and {"key": "model.roi.size", "a": "absent", "b": 7} in found["config"]
    assert any(f.startswith("papers/baselines/rtmpose/") for f in found["code"]["only_a"])


@pytest.mark.parametrize(
    ("a", "b", "why"),
    [
        ("better", "no flip", "flip: yes in A, no in B"),
        ("better", "fewer", "data: evaluated on person_keypoints_val.json"),
        ("stopped", "better", "has no result: it is stopped"),
        ("better", "not its own", "scores AP"),
    ],
)
def test_not_subtracted(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], a: str, b: str, why: str
) -> None:
    found = compared(runs, a, b, tmp_path, capsys)
    assert not found["subtracted"] and len(found["why_not"]) == 1 and why in found["why_not"][0]
    assert all(row["difference"] is None for row in found["metrics"])
    assert found["joints"] == [] and not list(tmp_path.iterdir())
    assert main(["diff", str(runs[a]), str(runs[b]), "--out", str(tmp_path)]) == 0
    assert "not subtracted from each other" in capsys.readouterr().out


MASKS = {"AP": 0.5, "mask_AP": 0.7}
BINS = "test.subsets=iou_bins"


@pytest.mark.parametrize(
    ("words", "metrics", "why"),
    [
        ([[], ["test.subsets=crowd_index"]], None, "subsets: none in A, crowd_index in B"),
        ([[BINS], [BINS, "test.iou_reduce=max"]], None, "overlap of an image: mean in A, max in B"),
        ([[BINS], [BINS, "test.iou_edges=[0.5, 1.0]"]], None, "0.5, 0.6, 0.7, 0.8, 0.9, 1 in A, 0.5, 1 in B"),
        ([[], ["test.mask_people=labelled"]], MASKS, "people of mask AP: all in A, labelled in B"),
        ([[], ["test.max_masks=20"]], MASKS, "masks per image: 100 in A, 20 in B"),
    ],
)
def test_other_evaluations_are_not_subtracted(
    synthetic_smoke: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[list[str]],
    metrics: dict[str, float] | None,
    why: str,
) -> None:
    given = {"metrics": metrics} if metrics else {}
    runs = {n: make_run(tmp_path / "runs", synthetic_smoke, *w, **given) for n, w in zip("ab", words, strict=True)}
    found = compared({**runs, "root": tmp_path / "runs"}, "a", "b", tmp_path / "out", capsys)
    assert not found["subtracted"] and len(found["why_not"]) == 1 and why in found["why_not"][0]
    assert all(row["difference"] is None for row in found["metrics"])


def test_settings_of_what_neither_run_has_do_not_matter(
    synthetic_smoke: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Edges without subsets, people of masks without masks."""
    words = ["test.iou_edges=[0.5, 1.0]", "test.iou_reduce=max", "test.mask_people=labelled", "test.max_masks=20"]
    root = tmp_path / "runs"
    runs = {"root": root, "a": make_run(root, synthetic_smoke), "b": make_run(root, synthetic_smoke, *words)}
    assert compared(runs, "a", "b", tmp_path / "out", capsys)["subtracted"]


def test_other_data(runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Trained and tested on files that were others then: nothing today can say that they were the same people."""
    other = tmp_path / "other"
    other.mkdir()
    for file in ("config.yaml", "predictions.json"):
        (other / file).write_text((runs["better"] / file).read_text())
    result = json.loads((runs["better"] / "result.json").read_text())
    (other / "result.json").write_text(json.dumps({**result, "data": {"name": "synthetic", "fingerprint": "0" * 16}}))
    assert main(["diff", str(runs["worse"]), str(other), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["why_not"] == ["data: synthetic had other annotation or box files in A than in B"]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "name two runs, not 0"),
        (["nowhere", "elsewhere", "runs=nowhere"], "nowhere: no such folder"),
        (["drpnet-m-12", "elsewhere", "runs=ROOT"], "no run 'drpnet-m-12'"),
        (["drpnet", "rtmpose", "runs=ROOT"], "means 6 runs"),
        (["BETTER", "BETTER"], "are the same run"),
        (["BETTER", "ROOT/drpnet"], "is no run folder"),
        (["BETTER", "BETTER/result.json"], "is a file"),
        (["BETTER", "WORSE", "images=many"], "give a whole number"),
        (["BETTER", "WORSE", "top=3"], "unknown key 'top'"),
    ],
)
def test_mistakes(runs: dict[str, Path], capsys: pytest.CaptureFixture[str], words: list[str], part: str) -> None:
    places = {"ROOT": runs["root"], "BETTER": runs["better"], "WORSE": runs["worse"]}
    for name, path in places.items():
        words = [w.replace(name, str(path)) for w in words]
    assert main(["diff", *words]) == 2
    out, err = capsys.readouterr()
    assert part in err and err.count("\n") == 1 and out == ""


def test_a_damaged_result_and_a_nearest_name(
    runs: dict[str, Path], synthetic_smoke: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (make_run(tmp_path, synthetic_smoke, "seed=9") / "result.json").write_text("{")
    damaged = next(tmp_path.glob("drpnet/*"))
    assert main(["diff", str(damaged), str(runs["better"])]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "has no result: it is unreadable" in text and "not valid JSON" in text
    typo = runs["better"].name[:-1] + "x"
    assert main(["diff", typo, str(runs["worse"]), f"runs={runs['root']}"]) == 2
    assert f"did you mean 'drpnet/{runs['better'].name}'" in capsys.readouterr().err
