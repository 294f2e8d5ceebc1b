"""`repose new NAME --from PAPER`: a method of one's own that starts as a copy of another and runs at once.

In a checkout it becomes a folder of `papers/` with its experiments, tests and contract facts, and one line in
`papers/__init__.py`; with `--package` an installable package that repose finds by its entry point.
"""

from __future__ import annotations

import ast
import inspect
import json
import keyword
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import repose
from repose import papers
from repose.commands import new_text
from repose.commands.renamed import Renaming, own_identifiers
from repose.config import (
    Loaded,
    Paper,
    experiment_files,
    experiments_file,
    experiments_root,
    find_experiment,
    leaves,
    load,
    read_yaml,
    to_dict,
)
from repose.engine import provenance
from repose.errors import UserError

_EXPERIMENT = "base"
"""Name of the new method's experiment."""
_HEADER = ("paper", "name", "title", "paper_value", "use")
"""Keys of an experiment that are no settings of its network."""


@dataclass(frozen=True)
class Source:
    """What is copied.

    Attributes:
        paper: the method.
        folder: its files.
        module: its package.
        stem: how its classes begin.
        experiment: the experiment that the new one starts from.
        short: its name on the command line.
    """

    paper: Paper
    folder: Path
    module: str
    stem: str
    experiment: Path
    short: str


@dataclass(frozen=True)
class Place:
    """Where the parts of the new method go.

    Attributes:
        root: the checkout or the package's folder.
        code: its Python files.
        module: its package.
        experiments: its YAMLs.
        tests: its tests.
        package: whether it is a package of its own.
    """

    root: Path
    code: Path
    module: str
    experiments: Path
    tests: Path
    package: bool


def new(words: list[str], source: str | None, package: str | None) -> int:
    """Make a method.

    Args:
        words: its name, and `class=Name` for how its classes begin.
        source: the paper, or an experiment of it, that it starts from.
        package: folder of a package of its own; None = in this checkout.
    """
    name, stem = _name(words)
    if not source:
        raise UserError(f"new: from which method? repose new {name} --from {'|'.join(papers.PAPERS)}")
    origin = _source(source)
    place = _in_package(name, Path(package)) if package else _in_checkout(name)
    for folder in (place.code, place.experiments, place.tests):
        if folder.exists() and any(folder.iterdir()):
            raise UserError(f"new: {folder} exists and is not empty; choose another name or move it away")
    made = _write(name, stem, origin, place)
    _tidy(made, place)
    for path in made:
        print(f"wrote {path}")
    print(new_text.next_steps(name, place.root if place.package else None, origin.short))
    return 0


# --- names -----------------------------------------------------------------------------------------------------------


def _name(words: list[str]) -> tuple[str, str]:
    """Name and class stem of the command line."""
    names = [w for w in words if "=" not in w]
    options = dict(w.split("=", 1) for w in words if "=" in w)
    if unknown := options.keys() - {"class"}:
        raise UserError(f"new: unknown key {sorted(unknown)[0]!r}; it takes class=Name")
    if len(names) != 1:
        raise UserError(f"new: give one name, not {len(names)}: repose new mymethod --from pinet")
    name = names[0]
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise UserError(f"new: {name!r} is no name of a Python package; small letters, digits and _, as in my_method")
    try:
        papers.get(name)
    except UserError:
        pass
    else:
        raise UserError(f"new: {name} is a method already; choose another name")
    stem = options.get("class") or "".join(part.capitalize() for part in name.split("_"))
    if not stem.isidentifier() or keyword.iskeyword(stem):
        raise UserError(f"new: class={stem}: not a name of a Python class, as in class=MyMethod")
    return name, stem


def _source(name: str) -> Source:
    """The method, or experiment, that `--from` names."""
    if "/" in name:
        file = find_experiment(name)
        values, _ = read_yaml(file)
        paper = papers.get(str(values.get("paper")))
    else:
        paper = papers.get(name)
        file = _main_experiment(paper)
    module = paper.schema.__module__.rpartition(".")[0]
    folder = Path(inspect.getfile(paper.schema)).parent
    return Source(paper, folder, module, _stem(paper, folder), file, f"{file.parent.name}/{file.stem}")


def _main_experiment(paper: Paper) -> Path:
    """The experiment that is closest to the method's defaults."""
    known = [p for p in experiment_files() if read_yaml(p)[0].get("paper") == paper.name]
    if not known:
        raise UserError(f"new: no experiment of {paper.name} below {experiments_root()}")
    defaults = dict(leaves(to_dict(paper.schema())))

    def distance(path: Path) -> tuple[int, str]:
        values = {k: v for k, v in read_yaml(path)[0].items() if k not in _HEADER}
        return sum(defaults.get(key) != value for key, value in leaves(values)), str(path)

    return min(known, key=distance)


def _stem(paper: Paper, folder: Path) -> str:
    """How a method's classes begin: its module's class without `Module` (PINetModule: PINet)."""
    text = (folder / "module.py").read_text(encoding="utf-8")
    names = [n.name.removesuffix("Module") for n in ast.parse(text).body if isinstance(n, ast.ClassDef)]
    return next((n for n in names if n.lower() == paper.name.replace("_", "")), names[-1])


def _in_checkout(name: str) -> Place:
    root = Path(repose.__file__).resolve().parents[2]
    if not (root / "tests" / "contract").is_dir() or not (root / "experiments").is_dir():
        raise UserError(
            "new: repose is installed here without its checkout; add --package FOLDER for a package of its own"
        )
    return Place(
        root,
        root / "src" / "repose" / "papers" / name,
        f"repose.papers.{name}",
        root / "experiments" / name,
        root / "tests" / "papers" / name,
        package=False,
    )


def _in_package(name: str, folder: Path) -> Place:
    if find_spec(name) is not None:
        raise UserError(f"new: Python has a package {name} already; a package of your own needs another name")
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"new: {folder} exists and is not empty; name a new folder")
    code = folder / "src" / name
    return Place(folder, code, name, code / "experiments" / name, folder / "tests", package=True)


# --- writing ---------------------------------------------------------------------------------------------------------


def _write(name: str, stem: str, origin: Source, place: Place) -> list[Path]:
    files = {p.relative_to(origin.folder): p.read_text(encoding="utf-8") for p in sorted(origin.folder.glob("**/*.py"))}
    own = own_identifiers(files.values(), origin.paper.name, origin.stem)
    renaming = Renaming(origin.paper.name, name, origin.stem, stem, origin.module, place.module, own)
    code = {path: renaming.python(text) for path, text in files.items()}
    code[Path("__init__.py")] = _titled(code[Path("__init__.py")], f"{stem}, started from {origin.short}")
    readme = new_text.readme(name, stem, origin.short, origin.paper.title, provenance.commit(), _map(code))
    texts: dict[Path, str] = {place.code / path: text for path, text in code.items()}
    readme_file = (place.root if place.package else place.code) / "README.md"
    texts[readme_file] = readme
    texts |= {place.experiments / path: text for path, text in _yamls(name, stem, origin, renaming).items()}
    facts = _facts(name, origin)
    texts |= {
        place.tests / file: text
        for file, text in new_text.tests(name, stem, origin.short, place.module, facts, place.package).items()
    }
    if place.package:
        texts[place.root / "pyproject.toml"] = new_text.pyproject(name, stem)
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    made = list(texts)
    if not place.package:
        made.append(_add_line(name, place.code.parent / "__init__.py"))
    return made


def _titled(text: str, title: str) -> str:
    """`__init__.py` with another title in its Paper(...)."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.keyword) and node.arg == "title" and isinstance(node.value, ast.Constant):
            old = ast.get_source_segment(text, node.value)
            assert old is not None
            return text.replace(old, json.dumps(title))
    return text


def _map(code: dict[Path, str]) -> list[tuple[str, str]]:
    """(first line of its docstring, `file.name`) of every public class and function."""
    found: list[tuple[str, str]] = []
    for path, text in code.items():
        for node in ast.parse(text).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                what = (ast.get_docstring(node) or node.name).splitlines()[0]
                found.append((what, ".".join([*path.with_suffix("").parts, node.name])))
    return found


def _add_line(name: str, path: Path) -> Path:
    """The one line that makes the method known."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    start = next(i for i, line in enumerate(lines) if line.startswith("PAPERS"))
    end = next(i for i, line in enumerate(lines) if i > start and line.startswith("}"))
    lines.insert(end, f'    "{name}": lambda: _own("{name}"),\n')
    path.write_text("".join(lines), encoding="utf-8")
    return path


def _tidy(made: list[Path], place: Place) -> None:
    """Sort imports and wrap lines as `make format` does: other names have other lengths. Nothing without ruff."""
    files = [str(p.resolve()) for p in made if p.suffix == ".py"]
    if find_spec("ruff") is None:
        return
    for command in (["check", "--quiet", "--select", "I", "--fix"], ["format", "--quiet"]):
        subprocess.run([sys.executable, "-m", "ruff", *command, *files], cwd=place.root, check=False)


# --- experiments -----------------------------------------------------------------------------------------------------


def _yamls(name: str, stem: str, origin: Source, renaming: Renaming) -> dict[Path, str]:
    """The experiment, and what the method and the experiment set at each scale."""
    found = {Path(f"{_EXPERIMENT}.yaml"): _experiment(name, stem, origin)}
    paper = origin.paper.name
    for scale in _scales():
        for kind in (scale, f"{scale}-start"):
            if file := experiments_file(paper, "scales", f"{kind}.yaml"):
                found[Path("scales") / f"{kind}.yaml"] = _scale(file, name, origin, renaming)
        own = origin.experiment.parent / "scales" / f"{origin.experiment.stem}-{scale}.yaml"
        if own.is_file():
            found[Path("scales") / f"{_EXPERIMENT}-{scale}.yaml"] = _scale(own, name, origin, renaming)
    return found


def _scales() -> list[str]:
    root = Path(__file__).resolve().parents[3] / "experiments"
    return sorted({p.stem for r in (experiments_root(), root) for p in (r / "scales").glob("*.yaml")})


def _experiment(name: str, stem: str, origin: Source) -> str:
    """The experiment with another name, without its paper's values and header."""
    lines = origin.experiment.read_text(encoding="utf-8").splitlines()
    while lines and lines[0].startswith("#"):
        lines.pop(0)
    values, _ = read_yaml(origin.experiment)
    wanted = {"paper": name, "name": f"{name}-{_EXPERIMENT}", "title": stem}
    kept: list[str] = []
    skipping = False
    for line in lines:
        key = re.match(r"([\w.]+):", line)
        if key:
            skipping = key[1] in (*wanted, "paper_value")
        if not skipping:
            kept.append(line)
    data = (values.get("use") or {}).get("data", "coco")
    head = [
        f"# {stem}, started from {origin.short}.",
        f"# repose train {name}/{_EXPERIMENT} data={data}          # or scale=smoke: seconds",
        *(f"{key}: {value}" for key, value in wanted.items()),
    ]
    return "\n".join([*head, *kept]) + "\n"


def _scale(file: Path, name: str, origin: Source, renaming: Renaming) -> str:
    """A scale file; a shared start is the new method's own."""
    text = renaming.text(file.read_text(encoding="utf-8"))
    starts = rf"^init: {re.escape(origin.experiment.parent.name)}/\S+"
    return re.sub(starts, f"init: {name}/{_EXPERIMENT}", text, flags=re.MULTILINE)


# --- contract facts --------------------------------------------------------------------------------------------------


def _facts(name: str, origin: Source) -> new_text.Facts:
    """What the contract tests must know: the source's facts, its sizes counted here."""
    from repose.commands.cost import count_experiment

    loaded: Loaded = load(origin.experiment, find_paper=papers.get)
    counted = count_experiment(loaded)
    constants, entry = _entry(origin.paper.name)
    rest: dict[str, str] = {}
    if entry is not None:
        node, text = entry
        for argument in node.keywords:
            if argument.arg and argument.arg not in ("experiment", "sizes"):
                rest[argument.arg] = ast.get_source_segment(text, argument.value) or ""
    return new_text.Facts(f"{name}/{_EXPERIMENT}", int(counted.params), float(counted.macs), rest, constants)


def _entry(paper: str) -> tuple[dict[str, str], tuple[ast.Call, str] | None]:
    """A paper's entry in the contract tests' FACTS, and the constants that it uses; None outside a checkout."""
    folder = Path(repose.__file__).resolve().parents[2] / "tests"
    files = [folder / "contract" / "test_contract_papers.py", *sorted(folder.glob("papers/*/*_facts.py"))]
    for file in files:
        if not file.is_file():
            continue
        text = file.read_text(encoding="utf-8")
        values = _assigned(ast.parse(text).body)
        facts = values.get("FACTS")
        if not isinstance(facts, ast.Dict):
            continue
        for key, value in zip(facts.keys, facts.values, strict=True):
            if isinstance(key, ast.Constant) and key.value == paper and isinstance(value, ast.Call):
                used = {n.id for n in ast.walk(value) if isinstance(n, ast.Name)}
                constants = {n: ast.get_source_segment(text, v) or "" for n, v in values.items() if n in used}
                return constants, (value, text)
    return {}, None


def _assigned(body: list[ast.stmt]) -> dict[str, ast.expr]:
    """What a module's statements assign, by name."""
    found: dict[str, ast.expr] = {}
    for node in body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(target, ast.Name) and node.value is not None:
            found[target.id] = node.value
    return found
