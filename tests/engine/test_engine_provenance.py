import subprocess
from pathlib import Path

import pytest

from repose import papers
from repose.config import load
from repose.engine import provenance


def test_fingerprint_follows_imports_and_leaves_other_papers_out():
    now = provenance.code_fingerprint("drpnet")
    assert {"papers/drpnet/config.py", "config/schema.py", "engine/module.py", "geometry.py"} <= now.keys()
    assert "engine/logging.py" not in now and not any(name.startswith("tables/") for name in now)
    assert all(name.startswith("papers/drpnet/") for name in now if name.startswith("papers/"))


def test_a_test_in_another_runtime_counts_what_exports_and_runs_its_network():
    torch = provenance.code_fingerprint("drpnet")
    int8 = provenance.code_fingerprint("drpnet", runtime="onnx-int8")
    assert torch.items() <= int8.items()
    assert not any(name.startswith("field/") for name in torch)
    assert {"field/export.py", "field/onnx_session.py", "field/model.py"} <= int8.keys()
    cfg = load("drpnet/m", ["scale=smoke", "test.runtime=onnx-int8"], find_paper=papers.get).cfg
    assert provenance.code_of(cfg) == int8


def test_stale_names_changed_added_and_removed_files():
    then = {"code_fingerprint": {"a.py": "1", "b.py": "2", "c.py": "3"}}
    assert provenance.stale(then, {"a.py": "1", "b.py": "9", "d.py": "4"}) == ["b.py", "c.py", "d.py"]
    assert provenance.stale(then, then["code_fingerprint"]) == []


def test_machine_and_versions_in_words():
    assert provenance.hardware() and provenance.versions()["torch"]


def test_diff_has_code_and_settings_but_no_texts_and_no_published_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "src" / "repose"
    results = tmp_path / "experiments" / "drpnet" / "results"
    for folder in (package, results):
        folder.mkdir(parents=True)
    code, text, published = package / "code.py", tmp_path / "README.md", results / "table-3.csv"
    for file in (code, text, published):
        file.write_text("before\n")
    for words in ("init -q", "add .", "-c user.name=a -c user.email=a@b commit -qm first"):
        subprocess.run(["git", *words.split()], cwd=tmp_path, check=True)
    monkeypatch.setattr(provenance, "PACKAGE", package)
    text.write_text("after\n")
    published.write_text("after\n")
    (results / "table-4.csv").write_text("new\n")
    assert provenance.diff() == ""
    code.write_text("after\n")
    (tmp_path / "experiments" / "new.yaml").write_text("new: 1\n")
    patch = provenance.diff()
    assert "code.py" in patch and "new.yaml" in patch and "README" not in patch and "results" not in patch
