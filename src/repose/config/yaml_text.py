# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""YAML as W&B and people write it: 1:2 is no 62, `on` is no boolean, no key twice, and every key has its line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from repose.errors import UserError


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2's scalars (YAML 1.1 reads 1:2 as sixty-two and `on` as a boolean)."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"^(?:~|null|Null|NULL|None|)$", "~nN\0"),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", r"^(?:[-+]?[0-9]+|0x[0-9a-fA-F]+)$", "-+0123456789"),
    (
        "float",
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        "-+.0123456789",
    ),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), ["" if c == "\0" else c for c in _first]
    )


def _int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    return int(text, 16) if text.lower().startswith("0x") else int(text)


_Loader.add_constructor("tag:yaml.org,2002:int", _int)


def _float(loader: _Loader, node: yaml.ScalarNode) -> float:
    text = loader.construct_scalar(node).lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


_Loader.add_constructor("tag:yaml.org,2002:float", _float)


def parse_value(text: str) -> Any:
    """Value of a `key=value` argument, as W&B prints it: 1e-3, None, True, [256, 192], {'k': 1}, 1:2 (a string).

    Raises:
        yaml.YAMLError: the text opens a bracket or quote that it does not close.
    """
    return yaml.load(text, _Loader)


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """A YAML file's mapping, and the line of each dotted key.

    Raises:
        UserError: missing, not YAML, not a mapping, or with a key twice; names file and line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return {}, {}
        if not isinstance(node, yaml.MappingNode):
            raise UserError(f"{path}: must hold `key: value` lines, not a list or a single value")
        lines: dict[str, int] = {}
        _walk(path, node, "", lines)
        return loader.construct_document(node), lines
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}" if mark else ""
        raise UserError(f"{path}{where}: not valid YAML: {getattr(error, 'problem', error)}") from None
    finally:
        loader.dispose()


def _walk(path: Path, node: yaml.MappingNode, prefix: str, lines: dict[str, int]) -> None:
    for key_node, value_node in node.value:
        key = f"{prefix}{key_node.value}"
        line = key_node.start_mark.line + 1
        if key in lines:
            raise UserError(f"{path}:{line}: key {key!r} is already set in line {lines[key]}; remove one of them")
        lines[key] = line
        if isinstance(value_node, yaml.MappingNode):
            _walk(path, value_node, key + ".", lines)
