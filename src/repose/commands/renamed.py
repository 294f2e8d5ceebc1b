"""The source of a paper under another name: identifiers, module paths and texts are renamed, docstrings are left.

Docstrings and comments cite the paper that the code comes from ("PINet §3.2, Eq. 7"), and go on doing so.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterable
from dataclasses import dataclass

_PLACE = "module_path_of_the_new_method"
"""Stands for the new package while names are replaced, so that a name that holds the old one is not replaced twice."""
_TEXT = {tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", -1)}


@dataclass(frozen=True)
class Renaming:
    """From one method to another.

    Attributes:
        name: of the method that is copied (`pinet`).
        new_name: (`mymethod`).
        stem: how its classes begin (`PINet`).
        new_stem: (`MyMethod`).
        module: its package (`repose.papers.pinet`).
        new_module: the new one.
        identifiers: classes and functions that get new names; a library's class may begin like the method's.
    """

    name: str
    new_name: str
    stem: str
    new_stem: str
    module: str
    new_module: str
    identifiers: frozenset[str]

    def text(self, text: str) -> str:
        """A text for people: the method's name, as its classes begin."""
        return text.replace(self.stem, self.new_stem)

    def _token(self, token: tokenize.TokenInfo) -> str:
        if token.type != tokenize.NAME:
            whole = token.string.strip("\"'") == self.name
            return token.string.replace(self.name, self.new_name) if whole else self.text(token.string)
        if token.string in self.identifiers:
            return re.sub(rf"{self.stem}|{self.name}", lambda m: self._new(m[0]), token.string)
        return token.string

    def _new(self, old: str) -> str:
        return self.new_stem if old == self.stem else self.new_name

    def python(self, source: str) -> str:
        """A Python file."""
        source = re.sub(rf"\b{re.escape(self.module)}\b", _PLACE, source)
        quiet = _docstrings(source)
        lines = source.splitlines(keepends=True)
        found: list[tuple[tuple[int, int], tuple[int, int], str]] = []
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.NAME or (token.type in _TEXT and token.start not in quiet):
                new = self._token(token)
                if new != token.string:
                    found.append((token.start, token.end, new))
        for (row, column), (last_row, last_column), new in reversed(found):
            rest = lines[last_row - 1][last_column:]
            lines[row - 1 : last_row] = [lines[row - 1][:column] + new + rest]
        return "".join(lines).replace(_PLACE, self.new_module)


def own_identifiers(sources: Iterable[str], name: str, stem: str) -> frozenset[str]:
    """Top-level classes and functions of a method's files that carry its name."""
    return frozenset(
        node.name
        for source in sources
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and (stem in node.name or name in node.name)
    )


def _docstrings(source: str) -> set[tuple[int, int]]:
    """Where strings that are statements begin: docstrings, of fields too."""
    return {
        (node.value.lineno, node.value.col_offset)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    }
