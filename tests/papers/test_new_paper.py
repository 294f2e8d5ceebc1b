"""`repose new`: what it makes is lint-free, keeps the contract, trains, and computes what it was copied from."""

from __future__ import annotations

import ast
import shutil
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
from checkout_copy import changed_lines, copied, good, installed, run

from repose import papers
from repose.__main__ import main
from repose.commands import cost, new
from repose.commands.renamed import Renaming
from repose.config import read_yaml

LINT = (["ruff", "check", "--no-cache"], ["ruff", "format", "--check", "--no-cache"])


def lint(tree: Path, *places: str) -> None:
    for command in LINT:
        good(run(["-m", *command, *places], tree, tree / "src"))


@pytest.fixture(scope="module")
def tree(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which `repose new mymethod --from baselines/rtmpose-t` was called."""
    tree = copied(root, tmp_path_factory.mktemp("new") / "tree")
    words = ["-m", "repose", "new", "mymethod", "--from", "baselines/rtmpose-t", "class=MyMethod"]
    said = good(run(words, tree, tree / "src"))
    assert "repose train mymethod/base scale=smoke" in said
    return tree


def test_a_method_in_the_checkout_is_new_files_and_one_line(root: Path, tree: Path):
    assert changed_lines(root, tree) == {
        "src/repose/papers/__init__.py": ['+    "mymethod": lambda: _own("mymethod"),']
    }
    lint(tree, "src/repose/papers", "tests/papers/mymethod")
    code = (tree / "src/repose/papers/mymethod/module.py").read_text()
    assert "class MyMethodModule(PoseModule)" in code and "repose.papers.baselines" not in code
    values, _ = read_yaml(tree / "experiments/mymethod/base.yaml")
    source, _ = read_yaml(root / "experiments/baselines/rtmpose-t.yaml")
    assert values.pop("paper") == "mymethod" and values.pop("name") == "mymethod-base"
    assert values.pop("title") == "MyMethod" and "paper_value" not in values
    assert values == {k: v for k, v in source.items() if k not in ("paper", "name", "title", "paper_value")}


@pytest.mark.slow  # a training and a pytest of its own
def test_its_tests_pass(tree: Path):
    """They train it at smoke, test the run, compare every loss with the source's, and resolve the README's map."""
    said = good(run(["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/papers/mymethod"], tree, tree / "src"))
    assert "3 passed" in said


@pytest.mark.slow
def test_the_contract_runs_over_it(tree: Path):
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/contract", "-k", "mymethod or is_in_facts"]
    assert "18 passed" in good(run(words, tree, tree / "src"))


@pytest.mark.slow  # makes a package and runs its tests: half a minute
def test_a_package_of_its_own(tmp_path: Path):
    """Installed without any network; its tests pass, the contract's checks among them."""
    package, site = tmp_path / "package", tmp_path / "site"
    assert main(["new", "my_pose", "--from", "drpnet/s", "--package", str(package)]) == 0
    project = tomllib.loads((package / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["repose.papers"] == {"my_pose": "my_pose:PAPER"}
    for command in LINT:
        good(run(["-m", *command, "."], package, package))
    installed(package, site)
    work = tmp_path / "work"
    shutil.copytree(package / "tests", work / "tests")
    shutil.copy(package / "README.md", work)
    few = "trains or copied_from or readme or finite_gradient or nobody"
    said = good(run(["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", "-k", few], work, site))
    assert "8 passed" in said


@pytest.mark.slow
@pytest.mark.parametrize("source", ["pinet", "cganet", "kdc", "idgroup"])
def test_every_paper_can_be_the_start_of_a_package(source: str, tmp_path: Path):
    package, site = tmp_path / "package", tmp_path / "site"
    assert main(["new", "my_pose", "--from", source, "--package", str(package)]) == 0
    for command in LINT:
        good(run(["-m", *command, "."], package, package))
    installed(package, site)
    good(run(["-m", "pytest", "-q", "-p", "no:cacheprovider", str(package / "tests")], package, site))


@pytest.mark.parametrize("name", list(papers.PAPERS))
def test_every_method_is_renamed_whole(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """No class keeps the old name, no library's class gets the new one, and every file is still Python."""
    counted = SimpleNamespace(params=1, macs=1.0)
    monkeypatch.setattr(cost, "count_experiment", lambda loaded: counted)  # seconds, and tested above
    package = tmp_path / "package"
    assert main(["new", "my_pose", "--from", name, "class=Mine", "--package", str(package)]) == 0
    source = new._source(name)
    assert source.paper.name == name and source.stem.lower() == name
    own, defined = set(), set()
    for file in (package / "src" / "my_pose").glob("*.py"):
        tree = ast.parse(file.read_text())
        own |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
        defined |= {n.name for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef)}
    assert not any(m.startswith("repose.papers") for m in own) and any(m.startswith("my_pose.") for m in own)
    assert not any(source.stem in name for name in defined) and any("Mine" in name for name in defined)
    yamls = {p.name for p in (package / "src/my_pose/experiments/my_pose").rglob("*.yaml")}
    assert {"base.yaml", "smoke.yaml"} <= yamls
    for file in (package / "src/my_pose/experiments/my_pose").rglob("*.yaml"):
        start = read_yaml(file)[0].get("init")
        assert start in (None, "my_pose/base"), file


def test_renaming_leaves_citations_strings_and_libraries_alone():
    renaming = Renaming(
        "net", "my_net", "Net", "MyNet", "repose.papers.net", "repose.papers.my_net", frozenset({"Net", "net_module"})
    )
    source = '''"""Net §2, Eq. 3."""
from lib import NetHead
from repose.papers.net.config import Model

GROUP = "net_joints"
NAME: str = "net"


class Net(NetHead):
    """Net, §3."""

    def fail(self) -> str:
        return f"Net {self!r} fails"  # as Net does


def net_module() -> Net:
    return Net()
'''
    assert renaming.python(source) == (
        source.replace("repose.papers.net.", "repose.papers.my_net.")
        .replace('= "net"', '= "my_net"')
        .replace("class Net(", "class MyNet(")
        .replace('f"Net {', 'f"MyNet {')
        .replace("def net_module() -> Net:\n    return Net()", "def my_net_module() -> MyNet:\n    return MyNet()")
    )


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        (["mymethod"], "from which method? repose new mymethod --from drpnet|"),
        (["mymethod", "--from", "pinnet"], "did you mean 'pinet'?"),
        (["mymethod", "--from", "pinet/ochumann"], "did you mean 'pinet/ochuman'?"),
        (["--from", "pinet"], "give one name, not 0"),
        (["My-Method", "--from", "pinet"], "is no name of a Python package"),
        (["class", "--from", "pinet"], "is no name of a Python package"),
        (["pinet", "--from", "drpnet"], "pinet is a method already"),
        (["mymethod", "class=1x", "--from", "pinet"], "not a name of a Python class"),
        (["mymethod", "klass=X", "--from", "pinet"], "unknown key 'klass'"),
        (["json", "--from", "pinet", "--package", "x"], "Python has a package json already"),
        (["mymethod", "--from", "pinet", "--package", "src"], "src exists and is not empty"),
    ],
)
def test_mistakes(argv: list[str], part: str, capsys: pytest.CaptureFixture[str]):
    assert main(["new", *argv]) == 2
    out, err = capsys.readouterr()
    assert part in err and err.count("\n") == 1 and out == ""


def test_the_checkout_stays_clean(root: Path):
    """The tests above wrote into copies alone."""
    assert not (root / "src/repose/papers/mymethod").exists() and not (root / "experiments/my_pose").exists()
    assert "mymethod" not in (root / "src/repose/papers/__init__.py").read_text()
