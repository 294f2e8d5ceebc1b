"""What made a number: code fingerprint, git commit and diff, hardware, library versions."""

from __future__ import annotations

import ast
import hashlib
import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from repose.config import ExperimentBase, experiments_file
from repose.engine.start import start_file

PACKAGE = Path(__file__).resolve().parents[1]
"""Folder of the package `repose`."""
_ALWAYS = ("engine.run", "data.datamodule", "metrics.keypoint_ap")
"""Modules that every run uses, whatever the paper imports."""
_RUNTIME = ("field.export",)
"""Modules that a test with another `test.runtime` than torch uses besides: they write and run its network's file."""
_NOT_COUNTED = ("engine/logging.py", "engine/provenance.py", "viz")
"""Files that cannot change a number: logs and drawings."""


def code_of(cfg: ExperimentBase) -> dict[str, str]:
    """Which code a run of these settings executes (see `code_fingerprint`)."""
    return code_fingerprint(cfg.paper, cfg.init, cfg.scale, cfg.test.runtime)


def code_fingerprint(paper: str, init: str | None = None, scale: str = "", runtime: str = "torch") -> dict[str, str]:
    """Which code a run of a paper executes: file -> first 12 hex digits of its sha256.

    The paper's folder, and what it imports from repose, directly or through others (found by reading the source, so
    an import inside a function counts too).

    Args:
        paper: name of a paper of this package, or of a plugin (then its own package's files count as well).
        init: `init` of the run; where it names an experiment, that file counts too, and the start's own settings.
        scale: of the run.
        runtime: `test.runtime` of the run; what exports the network and runs the file counts where it is not torch.
    """
    used = _ALWAYS if runtime == "torch" else (*_ALWAYS, *_RUNTIME)
    start = [f"repose.{name}" for name in used]
    files = {p for name in start if (p := _file_of(name))}
    own = _folder(paper)
    if own.is_dir():
        files |= set(own.glob("**/*.py"))
    else:
        files |= _plugin_files(paper)
    todo = list(files)
    while todo:
        for name in _imports(todo.pop()):
            path = _file_of(name)
            if path and path not in files and not _other_paper(path, paper):
                files.add(path)
                todo.append(path)
    named = {_label(path): path for path in files}
    if init and (first := start_file(init)):
        for path in (first, experiments_file(paper, "scales", f"{scale}-start.yaml")):
            if path:
                named[f"experiments/{path.relative_to(path.parents[1])}"] = path
    return {
        label: hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        for label, path in sorted(named.items())
        if not label.startswith(_NOT_COUNTED)
    }


def stale(result: dict[str, Any], now: dict[str, str]) -> list[str]:
    """Files whose code changed since a result was made (also added and removed ones); [] if it is up to date.

    Those that changed while it was made are among them for good: a run that was resumed with other code is nobody's.
    """
    within = {name for resumed in result.get("resumed_with") or [] for name in resumed["changed"]}
    return sorted(within.union(differing(result.get("code_fingerprint") or {}, now)))


def differing(then: dict[str, str], now: dict[str, str]) -> list[str]:
    """Files that two fingerprints do not share, or not with the same code."""
    return sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name))


def _label(path: Path) -> str:
    return str(path.relative_to(PACKAGE)) if path.is_relative_to(PACKAGE) else f"{path.parent.name}/{path.name}"


def _folder(paper: str) -> Path:
    """A paper's folder, or a baseline's."""
    papers = PACKAGE / "papers"
    baseline = papers / "baselines" / paper
    return baseline if baseline.is_dir() else papers / paper


def _other_paper(path: Path, paper: str) -> bool:
    return path.is_relative_to(PACKAGE / "papers") and path.parent != _folder(paper)


def _plugin_files(paper: str) -> set[Path]:
    from importlib.metadata import entry_points

    for point in entry_points(group="repose.papers"):
        if point.name == paper:
            spec = find_spec(point.module)
            if spec and spec.origin:
                return set(Path(spec.origin).parent.glob("**/*.py"))
    return set()


def _file_of(module: str) -> Path | None:
    base = PACKAGE.joinpath(*module.split(".")[1:])
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


@cache
def _parsed(path: Path, stamp: tuple[int, int]) -> tuple[str, ...]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
    return tuple(sorted(n for n in names if n == "repose" or n.startswith("repose.")))


def _imports(path: Path) -> tuple[str, ...]:
    stat = path.stat()
    return _parsed(path, (stat.st_mtime_ns, stat.st_size))


# --- git -----------------------------------------------------------------------------------------------------------


_NO_INPUT = (":(exclude)*.md", ":(exclude)experiments/*/results/*")
"""Tracked files that no run reads, as git's pathspecs."""


def _git(*words: str) -> str | None:
    try:
        # check=False: `git diff --no-index` exits 1 when files differ
        done = subprocess.run(["git", "-C", str(PACKAGE), *words], capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace") if done.returncode in (0, 1) else None


def commit() -> str | None:
    """The checkout's commit; outside git $REPOSE_COMMIT, which says what an exported tree is; else None."""
    head = (_git("rev-parse", "HEAD") or os.environ.get("REPOSE_COMMIT", "")).strip()
    return head or None


def diff() -> str:
    """What differs from the commit, as a patch; new files of src/ and experiments/ are in it. "" for a clean tree.

    Texts and published results are left out: no run reads them, and `--publish` writes them while others are trained.
    """
    top = (_git("rev-parse", "--show-toplevel") or "").strip()
    if not top or commit() is None:
        return ""
    patch = _git("-C", top, "diff", "HEAD", "--", ".", *_NO_INPUT) or ""
    new = _git("-C", top, "ls-files", "--others", "--exclude-standard", "--", "src", "experiments", *_NO_INPUT) or ""
    for name in new.splitlines():
        patch += _git("-C", top, "diff", "--no-index", "--", os.devnull, name) or ""
    return patch


# --- machine -------------------------------------------------------------------------------------------------------


def hardware() -> str:
    """The machine in words: GPUs, or processor and cores."""
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return ", ".join(f"{names.count(n)} x {n}" for n in dict.fromkeys(names))
    return f"CPU: {processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Versions of what can change a number."""
    found = {"python": platform.python_version()}
    for name in (
        "repose", "torch", "torchvision", "lightning", "torchmetrics", "timm", "numpy", "pycocotools",
        "opencv-python-headless", "albumentations", "fvcore",
    ):  # fmt: skip
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
