"""Notebooks: stored without outputs, executed on drawn people, with one clear line for a user's mistake."""

import json
import os
import subprocess
import sys

import pytest

from repose.__main__ import main
from repose.errors import UserError
from repose.tables import figures as module
from repose.tables import gallery

BY_NOTEBOOK = {
    "00-data": ["annotated", "augmentation", "drawn", "statistics"],
    "drpnet": ["errors", "failures", "heatmaps", "stages"],
    "pinet": ["centres", "failures", "figure-4", "graph", "stages"],
    "cganet": ["boxes", "boxes-perfect", "figure-5", "jitter", "jittered", "maps", "maps-perfect", "masks"],
    "kdc": [f"{name}{by}" for name in ("disks", "embeddings", "hough", "people") for by in ("", "-perfect")],
    "idgroup": ["clusters", "clusters-perfect", "figure-3", "near", "presence", "recovered", "recovered-perfect",
                "vectors"],
    "90-predict": ["filter", "frames", "pictures"],
}  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    """Kernels share the machine with other tests; without this, torch's threads wait for one another."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def names(notebook):
    return sorted(f"{notebook}-{name}.{kind}" for name in BY_NOTEBOOK[notebook] for kind in ("pdf", "png"))


def test_every_notebook_is_executed_by_make_figures(root):
    assert sorted(p.stem for p in (root / "notebooks").glob("*.ipynb")) == sorted(module.NOTEBOOKS)


@pytest.mark.parametrize("name", module.NOTEBOOKS)
def test_notebooks_are_stored_without_outputs(root, name):
    path = root / "notebooks" / f"{name}.ipynb"
    done = subprocess.run([sys.executable, "-m", "nbstripout", "--verify", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
    assert all(not c["outputs"] and c["execution_count"] is None for c in cells)
    assert max(len(c["source"]) for c in cells) <= 8  # the code lives in src


@pytest.mark.slow  # most of a minute
def test_the_data_notebook_draws_its_figures(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    module.execute(root / "notebooks" / "00-data.ipynb", {"REPOSE_FIGURES": str(out)}, tmp_path)
    assert sorted(p.name for p in out.iterdir()) == names("00-data")
    assert all((out / n).read_bytes()[:4] == (b"%PDF" if n.endswith("pdf") else b"\x89PNG") for n in names("00-data"))


@pytest.mark.slow  # trains its demos: a minute on an idle core
def test_figures_executes_all_notebooks_and_names_what_they_wrote(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "older.png").write_bytes(b"")
    os.utime(tmp_path / "out" / "older.png", (1, 1))
    written = module.figures(None, None, None, tmp_path / "out")
    assert [p.name for p in written] == sorted(n for notebook in BY_NOTEBOOK for n in names(notebook))
    assert all((tmp_path / "runs" / paper).is_dir() for paper in module.METHODS)  # used again by the next call


@pytest.fixture
def executed(monkeypatch):
    """Which notebooks `figures` executes, and with what, without executing them."""
    calls = []
    monkeypatch.setattr(module, "execute", lambda path, variables, _: calls.append((path.stem, variables)))
    return calls


def test_notebooks_are_chosen_by_name(executed, tmp_path):
    module.figures(None, "synthetic-pairs", [3, 4], tmp_path, ["pinet"])
    assert [name for name, _ in executed] == ["pinet"]
    assert (executed[0][1]["REPOSE_NB_DATA"], executed[0][1]["REPOSE_NB_IDS"]) == ("synthetic-pairs", "3,4")
    with pytest.raises(UserError, match="no notebook 'pinett'; did you mean 'pinet'"):
        module.figures(None, None, None, tmp_path, ["pinett"])


def test_a_checkpoint_is_shown_by_its_own_method(executed, tmp_path, monkeypatch):
    saved = {"paper": "pinet"}
    monkeypatch.setattr("repose.engine.checkpoint.find", lambda name: tmp_path / name)
    monkeypatch.setattr("repose.engine.checkpoint.saved_config", lambda _: saved)
    module.figures("run", None, None, tmp_path)
    module.figures("run", "coco-lite", None, tmp_path)
    assert [name for name, _ in executed] == ["pinet", "00-data", "pinet"]
    saved["paper"] = "spm"
    with pytest.raises(UserError, match="checkpoint=run: spm has no notebook; there are drpnet, pinet, "):
        module.figures("run", None, None, tmp_path)


def test_the_command_takes_notebooks_and_refuses_what_it_does_not_know(executed, tmp_path):
    assert main(["figures", "pinet", "data=coco-lite", "ids=[7]", "--out", str(tmp_path)]) == 0
    assert [(name, v["REPOSE_NB_DATA"], v["REPOSE_NB_IDS"]) for name, v in executed] == [("pinet", "coco-lite", "7")]
    assert main(["figures", "pinet", "scale=mini"]) == 2
    assert main(["figures", "name=7"]) == 2


@pytest.mark.slow  # a kernel
def test_a_wrong_id_is_one_line_that_names_it(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"00-data\.ipynb: ids: image 77777 is not in person_keypoints_val\.json"):
        module.execute(
            root / "notebooks" / "00-data.ipynb",
            {"REPOSE_FIGURES": str(tmp_path), "REPOSE_NB_IDS": "77777"},
            tmp_path,
        )


def test_settings_read_ids_and_defaults(tmp_path):
    settings = gallery.Settings.of("", "", "785, 1296", str(tmp_path))
    assert (settings.checkpoint, settings.data, settings.ids, settings.figures) == (None, None, (785, 1296), tmp_path)
    with pytest.raises(UserError, match="image ids are whole numbers"):
        gallery.Settings.of(ids="a,b")


def test_a_notebook_in_its_folder_works_from_the_root(tmp_path, monkeypatch):
    (tmp_path / "experiments").mkdir()
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    gallery.Settings.of()
    assert os.getcwd() == str(tmp_path)


def test_without_notebooks_the_error_says_which(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"00-data\.ipynb: no such notebook"):
        module.figures(None, None, None, tmp_path / "out")


def test_notebooks_are_found_from_anywhere(root, tmp_path, monkeypatch):
    assert module.notebooks_folder() == root / "notebooks"
    monkeypatch.chdir(tmp_path)
    assert module.notebooks_folder() == root / "notebooks"
