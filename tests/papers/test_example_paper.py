"""A sixth paper: the example of `tests/papers/example` inside `papers/` by one line, and as a package of its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from checkout_copy import changed_lines, copied, good, installed, run

from repose import papers
from repose.errors import UserError

EXAMPLE = Path(__file__).with_name("example")
SMOKE = ("scale=smoke", "data=synthetic", "data.synthetic=null", "log.wandb=off", "log.progress=false")
CONTRACT = """
from example_facts import FACTS
from repose.testing import CHECKS
for check in CHECKS.values():
    check(FACTS["example"])
print(len(CHECKS), "checks")
"""


def trained(folder: Path) -> dict:
    result = json.loads((folder / "result.json").read_text())
    assert result["status"] == "done" and result["paper"] == "example" and 0 <= result["metrics"]["AP"] <= 1
    return result


def test_the_example_is_not_known_here():
    with pytest.raises(UserError, match="no paper 'example'"):
        papers.get("example")


def test_one_line_adds_a_paper(root: Path, synthetic_smoke: Path, tmp_path: Path):
    """New files, one line in `papers/__init__.py`, nothing else; then everything that papers have is there."""
    tree = copied(root, tmp_path / "tree")
    own = tree / "src" / "repose" / "papers"
    shutil.copytree(EXAMPLE / "src" / "example", own / "example", ignore=shutil.ignore_patterns("experiments"))
    shutil.copytree(EXAMPLE / "src" / "example" / "experiments" / "example", tree / "experiments" / "example")
    init = own / "__init__.py"
    text = init.read_text()
    last = '    "maskrcnn": lambda: _own("baselines.maskrcnn"),\n'
    assert last in text
    init.write_text(text.replace(last, f'{last}    "example": lambda: _own("example"),\n'))
    assert changed_lines(root, tree) == {"src/repose/papers/__init__.py": ['+    "example": lambda: _own("example"),']}
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/contract", "-k", "example or is_in_facts"]
    assert "18 passed" in good(run(words, tree, tree / "src"))
    words = ["-m", "repose", "train", "example/tiny", *SMOKE, f"data.root={synthetic_smoke}", "log.dir=run"]
    good(run(words, tree, tree / "src"))
    code = trained(tree / "run")["code_fingerprint"]
    assert "papers/example/losses.py" in code and not any("papers/drpnet" in name for name in code)


@pytest.mark.slow  # builds and installs a package: most of a minute
def test_an_installed_package_is_found_by_its_entry_point(synthetic_smoke: Path, tmp_path: Path):
    """Installed beside repose, used from a folder without `experiments/`: the package brings its own."""
    source, site, work = tmp_path / "source", tmp_path / "site", tmp_path / "work"
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
    work.mkdir()
    installed(source, site)
    words = ["-m", "repose", "train", "example/tiny", *SMOKE, f"data.root={synthetic_smoke}", "log.dir=run"]
    good(run(words, work, site))
    code = trained(work / "run")["code_fingerprint"]
    assert "example/losses.py" in code and "engine/run.py" in code
    good(run(["-m", "repose", "test", "checkpoint=run", "log.progress=false"], work, site))
    typo = run(["-m", "repose", "train", "example/tinny"], work, site)
    assert typo.returncode == 2 and "did you mean 'example/tiny'?" in typo.stderr
    shutil.copy(EXAMPLE / "example_facts.py", work)
    assert "17 checks" in good(run(["-c", CONTRACT], work, site))
