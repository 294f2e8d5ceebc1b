"""`repose show`: every setting of an experiment with its unit, where it came from, and the paper's section."""

from __future__ import annotations

import json
from typing import Any

from repose import papers
from repose.config import Loaded, docs, identity, leaves, load, to_dict
from repose.errors import UserError


def one_experiment(words: list[str], verb: str) -> Loaded:
    """The experiment that a command line names first, with the settings that follow it.

    Raises:
        UserError: no experiment was named.
    """
    if not words or "=" in words[0]:
        raise UserError(
            f"{verb}: name an experiment first, for example: repose {verb} drpnet/m {' '.join(words)}".rstrip()
        )
    return load(words[0], words[1:], find_paper=papers.get)


def show(words: list[str], as_json: bool) -> int:
    """Print every leaf."""
    loaded = one_experiment(words, "show")
    rows = _rows(loaded)
    if as_json:
        print(json.dumps({"paper": loaded.paper.name, "identity": identity(loaded.cfg), "settings": rows}))
        return 0
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    console.print(f"{words[0]}: {loaded.paper.title}")
    for row in rows:
        line = Text.assemble(
            (row["key"], "" if row["from"] == "default" else "bold"),
            f" = {_shown(row['value'])}",
            (f"  [{row['unit']}]" if row["unit"] else "", "cyan"),
            (f"  {row['from']}", "dim"),
        )
        meaning = " | ".join(part for part in (row["text"], row["source"]) if part)
        console.print(line, soft_wrap=True)
        if meaning:
            console.print(Text(f"    {meaning}", "dim"), soft_wrap=True)
    console.print(f"identity {identity(loaded.cfg)}")
    return 0


def _rows(loaded: Loaded) -> list[dict[str, Any]]:
    known = docs(loaded.paper.schema)
    rows = []
    for key, value in leaves(to_dict(loaded.cfg)):
        doc = known.get(key) or known.get(key.rpartition(".")[0])
        rows.append(
            {
                "key": key,
                "value": value,
                "unit": doc.unit if doc else "",
                "from": loaded.origin[key],
                "text": doc.text if doc else "",
                "source": doc.source if doc else "",
            }
        )
    return rows


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)
