"""A copy of the checkout, to add a method to, and processes that run in it."""

from __future__ import annotations

import difflib
import os
import shutil
import subprocess
import sys
from pathlib import Path

PARTS = ("src", "tests", "experiments")


def copied(root: Path, target: Path) -> Path:
    """The checkout's code, tests and experiments in a folder of their own."""
    for part in PARTS:
        shutil.copytree(root / part, target / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(root / "pyproject.toml", target)
    return target


def changed_lines(root: Path, copy: Path) -> dict[str, list[str]]:
    """File of the checkout -> lines that differ in its copy (`+` added, `-` removed); new files are none."""
    found = {}
    for part in PARTS:
        for file in sorted(p for p in (root / part).rglob("*") if p.is_file() and "__pycache__" not in p.parts):
            name = file.relative_to(root)
            old, new = file.read_bytes(), (copy / name).read_bytes() if (copy / name).is_file() else b""
            if old != new:
                lines = difflib.unified_diff(old.decode().splitlines(), new.decode().splitlines(), lineterm="", n=0)
                found[str(name)] = [line for line in lines if line[0] in "+-" and line[:3] not in ("+++", "---")]
    return found


def run(argv: list[str], cwd: Path, path: Path, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """A Python process that imports from `path` first."""
    env = {**os.environ, "PYTHONPATH": str(path), "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}
    env.pop("REPOSE_EXPERIMENTS", None)
    return subprocess.run(
        [sys.executable, *argv], cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout, check=False
    )


def good(done: subprocess.CompletedProcess[str]) -> str:
    """What a process printed, which must have ended well."""
    assert done.returncode == 0, f"{done.args}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def installed(source: Path, site: Path) -> None:
    """Install a package's folder into a folder of packages, without any network."""
    flags = ["--no-deps", "--no-build-isolation", "--no-index", "-q"]
    good(run(["-m", "pip", "install", *flags, "--target", str(site), "."], source, source))
