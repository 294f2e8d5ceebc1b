"""The Makefile, without installing anything: a copy of the root files, and a fake Python on PATH."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TARGETS = [
    "help",
    "setup",
    "doctor",
    "lock",
    "check",
    "format",
    "test",
    "test-all",
    "reproduce",
    "reproduce-all",
    "report",
    "reproduce-table-%",
    "reproduce-figure-%",
    "table-%",
    "sweep-%",
    "figures",
    "data",
    "demo",
    "clean",
    "distclean",
]

# A Python that answers the version check, writes what pip is asked, makes a "virtual environment" holding itself.
FAKE_PYTHON = """#!/bin/sh
case "$*" in
  *version_info*) exit ${FAKE_VERSION_EXIT:-0};;
  "-m venv "*) for last; do :; done; mkdir -p "$last/bin"; cp "$0" "$last/bin/python"; echo fake > "$last/pyvenv.cfg"
               echo "venv $*" >> "$FAKE_LOG";;
  "-m pip --version") ;;
  "-m pip install "*) echo "pip $*" >> "$FAKE_LOG"; exit ${FAKE_PIP_EXIT:-0};;
  *torchvision*) [ -n "$FAKE_TORCH" ] && echo "set-up: keeping torch";;
  *sys.prefix*) echo "$FAKE_PREFIX";;
  --version) echo "Python 3.12.0";;
  *) echo "ran $*" >> "$FAKE_LOG";;
esac
"""


class Clone:
    """A copy of the root files with a fake Python first on PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "clone"
        self.log = folder / "log"
        self.bin = folder / "bin"
        self.folder.mkdir()
        self.bin.mkdir()
        (folder / "prefix").mkdir()
        for name in ("Makefile", "pyproject.toml", "requirements.lock"):
            shutil.copy(ROOT / name, self.folder / name)
        for name in ("python3", "python"):
            (self.bin / name).write_text(FAKE_PYTHON)
            (self.bin / name).chmod(0o755)
        # A clean environment: `make test VENV=none` must not leak its variables into these makes.
        self.env = {
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "HOME": str(folder),
            "FAKE_LOG": str(self.log),
            "FAKE_PREFIX": str(folder / "prefix"),
        }

    def make(self, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["make", *args],
            cwd=self.folder,
            env=self.env | env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def is_set_up(self, *args: str) -> bool:
        """Whether another set-up says nothing and does nothing."""
        out = self.make("setup", *args)
        return out.returncode == 0 and out.stdout == out.stderr == "" and not self.calls()

    def calls(self) -> list[str]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return lines


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def entries(lock: str) -> dict[str, str]:
    """Package name -> its whole entry."""
    return {re.split(r"[=;\[]", part)[0]: part for part in re.split(r"\n(?=\w)", lock.strip())}


def test_help_is_the_default_and_lists_every_target(clone: Clone) -> None:
    out = clone.make().stdout
    assert out == clone.make("help").stdout
    listed = re.findall(r"^  (\S+)  +\S", out, re.MULTILINE)
    assert sorted(listed) == sorted(TARGETS)
    assert not clone.calls()


@pytest.mark.parametrize(
    ("args", "command"),
    [
        (["reproduce-table-3"], "table drpnet/3 --run scale=mini"),
        (["reproduce-table-1", "PAPER=pinet"], "table pinet/1 --run scale=mini"),
        (
            ["reproduce-table-1a", "PAPER=pinet", "SCALE=lite", "DATA=coco-lite", "ARGS=seeds=3"],
            "table pinet/1a --run scale=lite data=coco-lite seeds=3",
        ),
        (["reproduce-figure-8", "PAPER=kdc"], "table kdc/fig-8 --run scale=mini"),
        (["reproduce"], "reproduce scale=mini"),
        (["reproduce", "SCALE=smoke", "ARGS=seeds=2 --publish"], "reproduce scale=smoke seeds=2 --publish"),
        (["reproduce-all", "DATA=coco-lite", "SCALE=lite"], "reproduce --all scale=lite data=coco-lite"),
        (["report"], "report scale=mini"),
        (["table-2"], "table drpnet/2"),
        (["sweep-drpnet-sigma"], "sweep sweeps/drpnet-sigma.yaml"),
        (["data"], "data synthesize"),
        (["demo"], "demo"),
        (["doctor"], "doctor"),
    ],
)
def test_targets_are_repose_commands(clone: Clone, args: list[str], command: str) -> None:
    out = clone.make("-n", *args)
    assert out.returncode == 0, out.stderr
    assert out.stdout.splitlines()[-1].strip() == f".venv/bin/python -m repose {command}"
    assert not clone.calls(), "make -n must run nothing"


def test_shell_variables_do_not_choose_the_table(clone: Clone) -> None:
    out = clone.make("-n", "reproduce-table-3", DATA="/scratch", PAPER="x").stdout
    assert "table drpnet/3 --run scale=mini\n" in out


def test_first_command_sets_up_and_the_second_does_not(clone: Clone) -> None:
    first = clone.make("reproduce-table-3")
    assert first.returncode == 0, first.stderr
    said, did = first.stdout, clone.calls()
    assert "downloads about" in said
    assert did[0] == "venv -m venv .venv"
    installs = [line for line in did if line.startswith("pip")]
    assert "--require-hashes" in installs[1] and installs[1].endswith("-r requirements.lock")
    assert installs[2].endswith("--no-deps --no-build-isolation -e .")
    assert did[-1] == "ran -m repose table drpnet/3 --run scale=mini"

    second = clone.make("reproduce-table-3")
    assert "set-up" not in second.stdout
    assert clone.calls() == ["ran -m repose table drpnet/3 --run scale=mini"]
    assert clone.is_set_up()

    (clone.folder / "requirements.lock").touch()  # a checkout changes times, not contents
    assert clone.is_set_up()
    with (clone.folder / "pyproject.toml").open("a") as file:
        file.write("\n# changed\n")
    assert "downloads" not in clone.make("setup").stdout
    assert any(line.startswith("pip") for line in clone.calls())
    assert len(list((clone.folder / ".venv").glob(".repose-[0-9]*"))) == 1


def test_a_failed_installation_is_repaired(clone: Clone) -> None:
    assert clone.make("test", FAKE_PIP_EXIT="1").returncode != 0
    assert not list((clone.folder / ".venv").glob(".repose-[0-9]*"))
    assert not any(line.startswith("ran") for line in clone.calls())
    assert clone.make("test").returncode == 0
    did = clone.calls()
    assert not any(line.startswith("venv") for line in did), "a working .venv is kept"
    assert did[-1].startswith("ran -m pytest -q -n auto") and "-m not slow" in did[-1]
    (clone.folder / ".venv/bin/python").unlink()
    next((clone.folder / ".venv").glob(".repose-[0-9]*")).unlink()
    assert clone.make("setup").returncode == 0
    assert clone.calls()[0] == "venv -m venv --clear .venv"


def test_unsupported_python_is_one_line(clone: Clone) -> None:
    out = clone.make("setup", "PYTHON=python3", FAKE_VERSION_EXIT="1")
    assert out.returncode != 0
    assert out.stdout.splitlines() == [
        "set-up: repose needs Python 3.11, 3.12 or 3.13, and python3 is none; name one with PYTHON=/path/to/python3.12"
    ]


def test_system_torch_is_kept_and_remembered(clone: Clone) -> None:
    out = clone.make("setup", "TORCH=system")
    assert out.returncode != 0 and "has no torch" in out.stdout
    clone.calls()
    shutil.rmtree(clone.folder / ".venv")
    assert clone.make("setup", "TORCH=system", FAKE_TORCH="1").returncode == 0
    did = clone.calls()
    assert did[0] == "venv -m venv --system-site-packages .venv"
    assert did[2].endswith("--no-deps -r .venv/.repose-lock")
    with (clone.folder / "pyproject.toml").open("a") as file:
        file.write("\n# changed\n")
    assert clone.make("setup", FAKE_TORCH="1").returncode == 0
    assert any(line.endswith("-r .venv/.repose-lock") for line in clone.calls())


def test_venv_none_uses_the_active_environment(clone: Clone) -> None:
    for args in (["VENV=none"], ["VENV=none", "TORCH=system"]):
        assert clone.make("setup", *args, FAKE_TORCH="1").returncode == 0
        assert not any(line.startswith("venv") for line in clone.calls())
        assert not (clone.folder / ".venv").exists()
        assert clone.is_set_up(*args)
    assert clone.make("-n", "test", "VENV=none").stdout.startswith("python3 -m pytest -q -n auto")
    assert "stays" in clone.make("distclean", "VENV=none").stdout


def test_lock_without_torch_drops_exactly_torch(clone: Clone) -> None:
    whole = entries((ROOT / "requirements.lock").read_text())
    out = clone.make("-s", "lock-without-torch").stdout
    kept = entries(out)
    dropped = whole.keys() - kept.keys()
    assert {"torch", "torchvision", "triton"} <= dropped
    assert all(re.match(r"(nvidia|cuda)-", name) for name in dropped - {"torch", "torchvision", "triton"})
    assert "torchmetrics" in kept
    assert all(kept[name] == whole[name] for name in kept), "an entry is kept whole, with its hashes"


def test_lock_is_pinned_hashed_and_names_no_host() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert not re.search(r"https?://|file:|index-url|find-links|/home/|/opt/", text)
    for name, entry in entries(text).items():
        assert re.match(r"[\w.-]+==[\w.+!-]+( ;|\s|$)", entry), name
        assert "--hash=sha256:" in entry, name


def test_lock_covers_the_dependencies() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = {re.sub(r"[-_.]+", "-", name).lower() for name in entries((ROOT / "requirements.lock").read_text())}
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    names = {re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", want)[0]).lower() for want in wanted}
    assert names <= locked
    assert "setuptools" in locked, "the package is installed without build isolation"


def test_clean_keeps_results(clone: Clone) -> None:
    for name in ("runs/a", "figures", ".ruff_cache", "src/repose/__pycache__", "tests"):
        (clone.folder / name).mkdir(parents=True)
    assert clone.make("clean").returncode == 0
    assert sorted(path.name for path in clone.folder.iterdir() if path.is_dir()) == ["runs", "src", "tests"]
    assert not (clone.folder / "src/repose/__pycache__").exists()
    assert not clone.calls()


def test_no_machine_path_or_registry_in_the_root_files() -> None:
    for name in ("Makefile", "pyproject.toml", ".pre-commit-config.yaml", ".ci/run", "CONTRIBUTING.md"):
        assert not re.search(r"pypi[.]|pythonho[s]ted|/root/|/home/|/wor[k]/", (ROOT / name).read_text()), name
    assert os.access(ROOT / ".ci/run", os.X_OK)
