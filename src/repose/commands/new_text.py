"""The texts that `repose new` writes besides the renamed source: README, tests, contract facts, pyproject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Facts:
    """What the contract tests must know, as Python source.

    Attributes:
        experiment: of the new method.
        params: parameters at the paper's size, counted.
        macs: multiply-accumulates there, counted.
        rest: further arguments of the source's facts, by name.
        constants: what those use, by name.
    """

    experiment: str
    params: int
    macs: float
    rest: Mapping[str, str]
    constants: Mapping[str, str]

    def expression(self) -> str:
        """`Facts(...)`."""
        size = f'{{"{self.experiment}": ({self.params:_}, {self.macs / 1e6:_.2f}e6)}}'
        rest = "".join(f"    {name}={text},\n" for name, text in self.rest.items())
        return f'Facts(\n    experiment="{self.experiment}",\n    sizes={size},\n{rest})'

    def assigned(self) -> str:
        """The constants, one assignment each."""
        return "".join(f"{name} = {text}\n" for name, text in self.constants.items())


def readme(
    name: str, stem: str, source: str, paper: str, commit: str | None, entries: Sequence[tuple[str, str]]
) -> str:
    """README of the method; the tests resolve every entry of its map."""
    rows = "\n".join(f"| {what} | `{where}` |" for what, where in entries)
    at = f", commit {commit[:7]}" if commit else ""
    return f"""# {stem}

Made by `repose new {name} --from {source}`{at}. Docstrings and comments still cite the paper it comes from:
{paper}.

## What is different

Nothing yet.

## Where it is in the code

| what | where |
|---|---|
{rows}
"""


def tests(name: str, stem: str, source: str, module: str, facts: Facts, package: bool) -> dict[str, str]:
    """File name -> text of the tests.

    Args:
        name: of the method.
        stem: how its classes begin.
        source: the experiment that it was copied from.
        module: its package.
        facts: for the contract.
        package: a package of its own: its tests hold the contract too.
    """
    found = {f"test_{name}.py": _OWN_TESTS.format(name=name, stem=stem, source=source, module=module, up=_up(package))}
    assigned = f"\n{facts.assigned()}" if facts.constants else ""
    if package:
        found["conftest.py"] = _CONFTEST
        found[f"test_{name}_contract.py"] = _CONTRACT.format(stem=stem, facts=facts.expression(), constants=assigned)
    else:
        found[f"{name}_facts.py"] = _FACTS.format(stem=stem, name=name, facts=facts.expression(), constants=assigned)
    return found


def _up(package: bool) -> str:
    """Where the README with the map lies, seen from the tests."""
    return "Path(__file__).parents[1]" if package else "Path(method.__file__).parent"


_OWN_TESTS = '''"""{stem}: it trains, it is what it was copied from until it is changed, its README's map is true."""

import json
import re
from importlib import import_module
from pathlib import Path

import pytest
import {module} as method

from repose.__main__ import main

WORDS = ("scale=smoke", "data=synthetic", "data.synthetic=null", "log.wandb=off", "log.progress=false", "log.every=1")


@pytest.fixture(scope="module")
def run(synthetic_smoke: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few steps."""
    return train("{name}/base", synthetic_smoke, tmp_path_factory.mktemp("{name}") / "run")


def train(experiment: str, data: Path, folder: Path) -> Path:
    assert main(["train", experiment, *WORDS, f"data.root={{data}}", f"log.dir={{folder}}"]) == 0
    return folder


def losses(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{{k: v for k, v in line.items() if "loss" in k}} for line in lines if line["kind"] == "train"]


def test_trains_and_tests_at_smoke(run: Path):
    result = json.loads((run / "result.json").read_text())
    assert result["status"] == "done" and result["paper"] == "{name}" and 0 <= result["metrics"]["AP"] <= 1
    assert losses(run)
    assert main(["test", f"checkpoint={{run}}", "log.progress=false"]) == 0
    again = next((run / "tests").glob("*/result.json"))
    assert json.loads(again.read_text())["metrics"]["AP"] == pytest.approx(result["metrics"]["AP"], abs=1e-6)


def test_computes_what_it_was_copied_from(run: Path, synthetic_smoke: Path, tmp_path: Path):
    """To the last bit: the copy lost nothing. Delete this test with your first change."""
    assert losses(run) == losses(train("{source}", synthetic_smoke, tmp_path / "source"))


def test_the_map_of_the_readme_resolves():
    text = ({up} / "README.md").read_text(encoding="utf-8")
    entries = re.findall(r"\\| `([\\w.]+)` \\|$", text, re.MULTILINE)
    assert entries
    for entry in entries:
        file, _, what = entry.rpartition(".")
        assert hasattr(import_module(f"{{method.__name__}}.{{file}}"), what), entry
'''

_FACTS = '''"""What the contract tests (tests/contract) must know about {stem}."""

from repose.testing import Facts
{constants}
FACTS = {{"{name}": {facts}}}
'''

_CONTRACT = '''"""{stem} keeps the contract of every method of repose: gradients, batches, odd sizes, overfitting ..."""

import pytest

from repose.testing import CHECKS, Facts
{constants}
FACTS = {facts}


@pytest.mark.parametrize("check", CHECKS)
def test_contract(check: str):
    CHECKS[check](FACTS)
'''

_CONFTEST = '''"""Drawn people for the tests."""

from pathlib import Path

import pytest

from repose.config import Synthetic
from repose.data.synthetic import synthesize
from repose.skeleton import COCO17


@pytest.fixture(scope="session")
def synthetic_smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 training and 8 validation images."""
    folder = tmp_path_factory.mktemp("synthetic") / "smoke"
    return synthesize(folder, Synthetic(train=12, val=8), COCO17.joints, COCO17.limbs, workers=1)
'''


def pyproject(name: str, stem: str) -> str:
    """pyproject.toml of a package of its own."""
    return f'''[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "{name.replace("_", "-")}"
version = "0.1.0"
description = "{stem}, a method for repose."
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["repose"]

# repose finds the method, and its experiments, by this line.
[project.entry-points."repose.papers"]
{name} = "{name}:PAPER"

[tool.setuptools.packages.find]
where = ["src"]

[tool.setuptools.package-data]
{name} = ["experiments/**/*.yaml"]

[tool.ruff]
line-length = 120
target-version = "py311"

[tool.ruff.lint]
select = ["E", "F", "W", "I", "UP", "B", "D", "ANN", "RUF", "SIM"]
ignore = ["ANN401", "D105", "D107", "RUF001", "RUF002", "RUF003"]
[tool.ruff.lint.per-file-ignores]
"tests/**" = ["ANN", "D"]
[tool.ruff.lint.pydocstyle]
convention = "google"

[tool.pytest.ini_options]
testpaths = ["tests"]
'''


def next_steps(name: str, package: Path | None, source: str) -> str:
    """What to do now."""
    if package is None:
        return (
            f"train it: repose train {name}/base scale=smoke\n"
            f"test it: python -m pytest tests/papers/{name}, and over the contract: "
            f"python -m pytest tests/contract -k {name}\n"
            f"it computes what {source} computes; `repose diff` shows what your changes do"
        )
    return (
        f"install it: pip install -e {package}\n"
        f"train it: repose train {name}/base scale=smoke\n"
        f"test it, the contract of all methods too: python -m pytest {package}\n"
        f"it computes what {source} computes; `repose diff` shows what your changes do"
    )
