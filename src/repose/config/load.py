# OmegaConf and YAML hand over untyped values; they become typed dataclasses in this file.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportUnknownLambdaType=false
"""From layers to a frozen dataclass: defaults < experiment < scale < data < table row < command line.

Each layer is checked against the schema on its own, so that an error names its file and line.
OmegaConf lives and dies here.
"""

from __future__ import annotations

import ast
import copy
import dataclasses
import difflib
import hashlib
import inspect
import json
import os
import textwrap
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from repose.config.schema import LATER, NOT_IDENTITY, SCHEMA, ExperimentBase, Paper
from repose.config.yaml_text import parse_value, read_yaml
from repose.errors import UserError

T = typing.TypeVar("T")


@dataclass(frozen=True)
class Layer:
    """Settings from one place.

    Attributes:
        origin: file or "command line"; errors and `show` name it.
        values: nested settings.
        lines: line of each dotted key, where the origin is a file.
    """

    origin: str
    values: dict[str, Any]
    lines: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def where(self, key: str) -> str:
        """origin, with the line of the key where it is known."""
        line = self.lines.get(key)
        return f"{self.origin}:{line}" if line else self.origin


@dataclass(frozen=True)
class Loaded:
    """A resolved experiment.

    Attributes:
        cfg: the paper's frozen `Experiment`.
        paper: the paper it belongs to.
        origin: dotted leaf -> where its value came from ("default" where no layer set it).
    """

    cfg: ExperimentBase
    paper: Paper
    origin: dict[str, str]


@dataclass(frozen=True)
class Doc:
    """What a field's docstring says: `[unit] text | source`."""

    text: str = ""
    unit: str = ""
    source: str = ""


def nearest(word: str, known: Iterable[str], n: int = 2) -> list[str]:
    """Up to n known words that a typo may have meant, best first."""
    return difflib.get_close_matches(word, list(known), n=n, cutoff=0.6)


# --- places --------------------------------------------------------------------------------------------------------


def experiments_root() -> Path:
    """The `experiments/` folder: $REPOSE_EXPERIMENTS, the current folder's, else the one of this checkout."""
    if env := os.environ.get("REPOSE_EXPERIMENTS"):
        return Path(env)
    here = Path("experiments")
    if here.is_dir():
        return here
    return Path(__file__).resolve().parents[3] / "experiments"


def experiments_file(*parts: str) -> Path | None:
    """A file by its path below `experiments/`: one's own folder, else this checkout's, else an installed method's."""
    return next((root.joinpath(*parts) for root in _roots() if root.joinpath(*parts).is_file()), None)


def _roots() -> list[Path]:
    own, checkout = experiments_root(), Path(__file__).resolve().parents[3] / "experiments"
    return list(
        dict.fromkeys([own, *([] if own.exists() and own.samefile(checkout) else [checkout]), *_method_roots()])
    )


@cache
def _method_roots() -> tuple[Path, ...]:
    """`experiments/` in the packages of installed methods (entry points of the group `repose.papers`)."""
    found: list[Path] = []
    for point in entry_points(group="repose.papers"):
        spec = find_spec(point.module.partition(".")[0])  # of the top package: imports nothing
        folder = Path(spec.origin).parent / "experiments" if spec and spec.origin else None
        if folder and folder.is_dir():
            found.append(folder)
    return tuple(found)


def experiment_files() -> list[Path]:
    """Every experiment that can be named: one's own, this checkout's, those of installed methods."""
    return sorted(p for r in _roots() for p in r.glob("*/*.yaml") if p.parent.name not in ("data", "scales"))


def find_experiment(name: str) -> Path:
    """An experiment YAML by path (`experiments/drpnet/m.yaml`) or by name (`drpnet/m`).

    Raises:
        UserError: no such file; names the nearest one.
    """
    root = experiments_root()
    for candidate in (Path(name), *(path for r in _roots() for path in (r / name, r / f"{name}.yaml"))):
        if candidate.suffix in (".yaml", ".yml") and candidate.is_file():
            return candidate
    known = sorted({f"{p.parent.name}/{p.stem}" for p in experiment_files()})
    wanted = name.removeprefix(f"{root}/").removesuffix(".yaml")
    hint = nearest(wanted, known)
    fix = f"did you mean {hint[0]!r}?" if hint else f"there are: {', '.join(known)}"
    raise UserError(f"no experiment {name!r} (looked for a file and below {root}); {fix}")


def _overlay(kind: str, name: str, paper: str) -> list[Path]:
    """Files of `data=NAME` or `scale=NAME`: the common one, then the paper's own."""
    root = experiments_root()
    file = f"{name}.yaml"
    found = [p for p in (experiments_file(kind, file), experiments_file(paper, kind, file)) if p]
    if Path(name).suffix in (".yaml", ".yml"):
        found = [Path(name)] if Path(name).is_file() else []
    if not found:
        known = sorted({p.stem for r in _roots() for f in (r / kind, r / paper / kind) for p in f.glob("*.yaml")})
        hint = nearest(name, known)
        fix = f"did you mean {hint[0]!r}?" if hint else f"there are: {', '.join(known)}"
        raise UserError(f"no {kind.removesuffix('s')} overlay {name!r} below {root / kind}; {fix}")
    return found


# --- the command line ----------------------------------------------------------------------------------------------


def parse_arguments(tokens: Iterable[str], origin: str = "command line") -> tuple[Layer, dict[str, str]]:
    """`key=value` tokens into a layer, and the overlays (`data=NAME`, `scale=NAME`) apart.

    Raises:
        UserError: a token without `=`, an empty key, a key given twice, or a value that is not valid.
    """
    values: dict[str, Any] = {}
    overlays: dict[str, str] = {}
    seen: set[str] = set()
    for token in tokens:
        if token.startswith("-"):
            bare = token.lstrip("-")
            raise UserError(
                f"{origin}: unknown option {token!r}; settings are written without dashes: {bare or 'key'}=value"
            )
        key, equals, text = token.partition("=")
        if not equals or not key:
            raise UserError(f"{origin}: {token!r} is not a setting; write key=value (optim.base_lr=1e-3)")
        if key in seen:
            raise UserError(f"{origin}: {key!r} is given twice; remove one of them")
        seen.add(key)
        if key in ("data", "scale") and not text.startswith("{"):
            overlays[key] = text
            continue
        try:
            value = parse_value(text)
        except Exception:  # yaml.YAMLError has many faces; all mean the same to the user
            raise UserError(f"{origin}: the value of {token!r} is not valid; close its brackets and quotes") from None
        _put(values, key, value, origin)
    return Layer(origin, values), overlays


def _put(values: dict[str, Any], key: str, value: Any, origin: str) -> None:
    *parents, last = key.split(".")
    node = values
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise UserError(f"{origin}: {key!r} is set inside a value that was set before")
    if isinstance(node.get(last), dict) and isinstance(value, dict):
        node[last].update(value)
    else:
        node[last] = value


# --- schema knowledge ----------------------------------------------------------------------------------------------


def leaves(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted leaf keys and values of a nested mapping (an empty mapping is a leaf)."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@cache
def _schema_fields(cls: type) -> dict[str, tuple[type, str, Any]]:
    """Dotted key -> (owning class, field name, type hint), for every field at every depth."""
    found: dict[str, tuple[type, str, Any]] = {}

    def walk(owner: type, prefix: str) -> None:
        resolved = typing.get_type_hints(owner)
        for f in dataclasses.fields(owner):
            key = f"{prefix}{f.name}"
            hint = resolved[f.name]
            found[key] = (owner, f.name, hint)
            inner = _dataclass_in(hint)
            if inner is not None:
                walk(inner, key + ".")

    walk(cls, "")
    return found


def _dataclass_in(hint: Any) -> type | None:
    for candidate in (hint, *typing.get_args(hint)):
        if isinstance(candidate, type) and dataclasses.is_dataclass(candidate):
            return candidate
    return None


def _is_open(key: str, fields: Mapping[str, tuple[type, str, Any]]) -> bool:
    """True if the key lies inside a free mapping (dict field), whose keys the schema does not list."""
    parts = key.split(".")
    for i in range(1, len(parts)):
        known = fields.get(".".join(parts[:i]))
        if known and typing.get_origin(known[2]) is dict:
            return True
    return False


def _suggest(key: str, known: Iterable[str]) -> str:
    """Nearest keys in the tree: same last part elsewhere, then alike in the same group, then alike anywhere."""
    known = list(known)
    parent, _, last = key.rpartition(".")
    same_last = [k for k in known if k.rpartition(".")[2] == last]
    in_group = [k for k in known if k.rpartition(".")[0] == parent]
    alike_group = [f"{parent}.{m}" if parent else m for m in nearest(last, [k.rpartition(".")[2] for k in in_group])]
    ends = {k.rpartition(".")[2] for k in known}
    alike_any = nearest(key, known) + [k for m in nearest(last, ends) for k in known if k.rpartition(".")[2] == m]
    same_last.sort(key=lambda k: -difflib.SequenceMatcher(None, k, key).ratio())
    ranked = list(dict.fromkeys([*same_last, *alike_group, *alike_any]))[:2]
    return " or ".join(repr(k) for k in ranked)


def _check_keys(layer: Layer, schema: type) -> None:
    fields = _schema_fields(schema)
    for key, _ in leaves(layer.values):
        parts = key.split(".")
        for i in range(1, len(parts) + 1):
            part = ".".join(parts[:i])
            if part in fields:
                continue
            if _is_open(part, fields):
                break
            hint = _suggest(key, fields)
            fix = f"; did you mean {hint}?" if hint else "; `repose show` lists every key"
            raise UserError(f"{layer.where(part)}: unknown key {key!r}{fix}")


@cache
def _defaults(schema: type) -> Any:
    """The schema as an OmegaConf node, to be copied: making it anew takes several times as long."""
    return OmegaConf.structured(schema)


def _merge(base: Any, layer: Layer, schema: type) -> Any:
    """Merge a layer into an OmegaConf node, which changes; an error names the key, its place and what is allowed."""
    _check_keys(layer, schema)
    values = _named(_tuples_as_lists(layer.values), schema)
    try:
        return OmegaConf.unsafe_merge(base, OmegaConf.create(values, flags={"allow_objects": True}))
    except (OmegaConfBaseException, ValueError, TypeError):
        pass
    for key, value in leaves(values):  # find the leaf that is to blame
        nested: dict[str, Any] = {}
        _put(nested, key, value, layer.origin)
        try:
            OmegaConf.merge(base, nested)
        except (OmegaConfBaseException, ValueError, TypeError) as error:
            fields = _schema_fields(schema)
            hint = fields[key][2] if key in fields else None
            expected = f" (expected {_type_name(hint)})" if hint is not None else ""
            reason = str(error).splitlines()[0]
            raise UserError(f"{layer.where(key)}: {key}={value!r}: {reason}{expected}") from None
    raise UserError(f"{layer.origin}: these settings do not fit together")


def _named(values: Any, schema: type) -> Any:
    """Numbers that are one of a setting's names are taken as the name: `train.precision=32` is "32"."""
    fields = _schema_fields(schema)

    def walk(value: Any, key: str) -> Any:
        if isinstance(value, dict):
            return {k: walk(v, f"{key}.{k}" if key else str(k)) for k, v in value.items()}
        names = typing.get_args(fields[key][2]) if key in fields else ()
        return str(value) if type(value) in (int, float) and value not in names and str(value) in names else value

    return walk(values, "")


def _tuples_as_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _tuples_as_lists(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_tuples_as_lists(v) for v in value]
    return value


def _type_name(hint: Any) -> str:
    name = hint.__name__ if isinstance(hint, type) and not hasattr(hint, "__args__") else str(hint)
    return name.replace("typing.", "").replace("Literal", "one of ").replace("NoneType", "null").replace("None", "null")


# --- loading -------------------------------------------------------------------------------------------------------


def load(
    experiment: str | Path,
    arguments: Iterable[str] = (),
    *,
    find_paper: Any,
    row: Iterable[Layer] = (),
    origin: str = "command line",
) -> Loaded:
    """Resolve an experiment.

    Args:
        experiment: YAML path or name (`drpnet/m`).
        arguments: `key=value` tokens; `data=NAME` and `scale=NAME` choose overlays.
        find_paper: function from a paper's name to its `Paper` (`repose.papers.get`; papers are a higher layer).
        row: layers between the data overlay and the command line (a table row's `set`, then its `set_<scale>`).
        origin: what errors call the arguments.

    Raises:
        UserError: anything unknown, of the wrong type or missing; one line that names the place and the fix.
    """
    path = find_experiment(str(experiment))
    values, lines = read_yaml(path)
    line, overlays = parse_arguments(arguments, origin)
    name = values.get("paper")
    if not isinstance(name, str):
        raise UserError(f"{path}: the first line must be `paper: <name>`")
    paper: Paper = find_paper(name)
    use = values.pop("use", {}) or {}
    layers = [Layer(str(path), values, lines)]
    scale: str = overlays.get("scale") or use.get("scale") or "paper"
    data = overlays.get("data")
    scale_layers: list[Layer] = []
    own = path.parent / "scales" / f"{path.stem}-{scale}.yaml"  # what this experiment alone sets at the scale
    for file in [*_overlay("scales", scale, name), *([own] if own.is_file() else [])]:
        v, ls = read_yaml(file)
        scale_use = v.pop("use", {}) or {}
        data = data or scale_use.get("data")
        scale_layers.append(Layer(str(file), v, ls))
    layers += [*scale_layers, Layer(f"scale={scale}", {"scale": scale})]
    data = data or use.get("data")
    if data:
        for file in _overlay("data", data, name):
            v, ls = read_yaml(file)
            layers.append(Layer(str(file), v, ls))
    layers += [*row, line]
    return resolve(paper, layers)


def load_saved(
    values: dict[str, Any], saved: str, arguments: Iterable[str] = (), *, find_paper: Any, origin: str = "command line"
) -> Loaded:
    """Resolve a saved config (a run's config.yaml, or the dict in a checkpoint) with further settings on top.

    Args:
        values: what `dump` wrote.
        saved: where it came from, for errors.
        arguments: `key=value` tokens; `data=NAME` changes the data set.
        find_paper: function from a paper's name to its `Paper`.
        origin: what errors call the arguments.

    Raises:
        UserError: another schema, an unknown paper, or a bad argument.
    """
    values = dict(values)
    schema = values.pop("schema", None)
    if schema != SCHEMA:
        raise UserError(f"{saved}: written with schema {schema}; this version reads schema {SCHEMA}")
    if not isinstance(values.get("paper"), str):
        raise UserError(f"{saved}: names no paper; it is not a config that repose wrote")
    paper: Paper = find_paper(values["paper"])
    line, overlays = parse_arguments(arguments, origin)
    if "scale" in overlays:
        raise UserError(
            f"{origin}: scale= cannot be changed for a trained model; it was trained at {values.get('scale')}"
        )
    layers = [Layer(saved, values)]
    if "data" in overlays:
        for file in _overlay("data", overlays["data"], paper.name):
            layers.append(Layer(str(file), *read_yaml(file)))
    return resolve(paper, [*layers, line])


def resolve(paper: Paper, layers: Iterable[Layer]) -> Loaded:
    """Merge layers over the paper's defaults into its frozen dataclass."""
    node = copy.deepcopy(_defaults(paper.schema))
    origin: dict[str, str] = {}
    for layer in layers:
        node = _merge(node, layer, paper.schema)
        for key, _ in leaves(layer.values):
            for stale in [k for k in origin if k.startswith(key + ".")]:
                del origin[stale]
            origin[key] = layer.where(key)
    cfg = OmegaConf.to_object(node)
    assert isinstance(cfg, ExperimentBase)
    cfg.joint_set()  # a skeleton that contradicts itself is refused here, with its one line
    every = {key: origin.get(key) or _parent_origin(key, origin) for key, _ in leaves(to_dict(cfg))}
    return Loaded(cfg, paper, every)


def settings(schema: type[T], layer: Layer) -> T:
    """The settings of a verb that is no experiment (`predict`), checked as an experiment's are.

    Args:
        schema: their dataclass.
        layer: what the command line says.

    Raises:
        UserError: unknown, or of the wrong type.
    """
    return typing.cast("T", OmegaConf.to_object(_merge(copy.deepcopy(_defaults(schema)), layer, schema)))


def _parent_origin(key: str, origin: Mapping[str, str]) -> str:
    while "." in key:
        key = key.rpartition(".")[0]
        if key in origin:
            return origin[key]
    return "default"


def to_dict(cfg: Any) -> dict[str, Any]:
    """A config dataclass as plain dicts and lists: what goes into YAML, checkpoints and hashes."""
    return _tuples_as_lists(dataclasses.asdict(cfg))


def dump(cfg: ExperimentBase, path: Path) -> None:
    """Write the resolved config as YAML, with the schema number."""
    path.write_text(OmegaConf.to_yaml(OmegaConf.create({"schema": SCHEMA, **to_dict(cfg)})), encoding="utf-8")


def identity(cfg: ExperimentBase) -> str:
    """12 hex digits naming what a run computes: the resolved config without paths, logging, devices and workers."""
    values = {
        key: value
        for key, value in leaves(to_dict(cfg))
        if not any(key == out or key.startswith(out + ".") for out in NOT_IDENTITY)
        and not (key in LATER and value == LATER[key])
    }
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


# --- field documentation -------------------------------------------------------------------------------------------


def docs(schema: type) -> dict[str, Doc]:
    """Dotted key -> what its attribute docstring says, for every leaf of a schema."""
    return {key: _field_doc(owner, name) for key, (owner, name, _) in _schema_fields(schema).items()}


@cache
def _class_docs(cls: type) -> dict[str, Doc]:
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(body, ast.ClassDef)
    found: dict[str, Doc] = {}
    for field_node, doc_node in zip(body.body, body.body[1:], strict=False):
        if not (isinstance(field_node, ast.AnnAssign) and isinstance(field_node.target, ast.Name)):
            continue
        if (
            isinstance(doc_node, ast.Expr)
            and isinstance(doc_node.value, ast.Constant)
            and isinstance(doc_node.value.value, str)
        ):
            text = " ".join(doc_node.value.value.split())
            unit = ""
            if text.startswith("["):
                unit, _, text = text[1:].partition("]")
            text, _, source = text.partition(" | ")
            found[field_node.target.id] = Doc(text.strip(), unit.strip(), source.strip())
    return found


def _field_doc(owner: type, name: str) -> Doc:
    for cls in owner.__mro__:
        if dataclasses.is_dataclass(cls) and name in (found := _class_docs(cls)):
            return found[name]
    return Doc()
