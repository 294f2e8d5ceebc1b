"""A test on a set without public labels writes a submission instead of an AP."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from repose.__main__ import main
from repose.commands.runs import _SPLITS


def test_a_set_without_labels_gives_a_submission(
    synthetic_smoke: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = "annotations/person_keypoints_val.json"
    whole = json.loads((synthetic_smoke / names).read_text())
    bare = tmp_path / "image_info_test.json"
    bare.write_text(json.dumps({"images": whole["images"], "categories": whole["categories"]}))
    data = [f"data.root={synthetic_smoke}", "data.synthetic=None", "scale=smoke"]
    assert main(["train", "drpnet/m", *data, f"log.dir={tmp_path / 'run'}"]) == 0
    capsys.readouterr()
    unlabelled = [f"data.val_json={bare}", "data.val_labelled=false", "data.boxes=detections", f"log.dir={tmp_path}/t"]
    assert main(["test", "drpnet/m", *data, f"checkpoint={tmp_path / 'run'}", *unlabelled]) == 0
    out = capsys.readouterr().out
    (zipped,) = (tmp_path / "t").glob("*.zip")
    assert str(zipped) in out and "AP " not in out.replace("no AP here", "")
    with zipfile.ZipFile(zipped) as archive:
        (name,) = archive.namelist()
        rows = json.loads(archive.read(name))
    assert name == f"{zipped.stem}.json"
    assert name == "person_keypoints_test-dev2017_DRP-Net-M_results.json"
    results = json.loads((tmp_path / "t" / "predictions.json").read_text())
    assert [r["score"] for r in rows] == [r["score"] for r in results]
    result = json.loads((tmp_path / "t" / "result.json").read_text())
    assert result["metrics"] == {} and result["submission"] == str(zipped)


def test_splits_are_overlays_that_exist(root: Path) -> None:
    for overlay in _SPLITS.values():
        assert (root / "experiments" / "data" / f"{overlay.removeprefix('data=')}.yaml").is_file()
