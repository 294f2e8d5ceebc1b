"""The README's map, switches and experiments are those of the code."""

import re
from importlib import import_module
from pathlib import Path

import pytest

from repose import papers
from repose.config import find_experiment, leaves, to_dict

README = Path(papers.__file__).parent / "pinet" / "README.md"
TEXT = README.read_text(encoding="utf-8")
MAP = TEXT.split("## Where the paper is in the code")[1].split("\n## ")[0]
CHOICES = TEXT.split("## What the paper leaves open")[1].split("\n## ")[0]
ENTRIES = [row.split("|")[2].strip().strip("`") for row in MAP.splitlines() if row.startswith("| ") and "`" in row]


def resolve(name: str):
    """`model.PINet.forward` of this paper, or `repose.ops.grouping.group_poses`."""
    full = name if name.startswith("repose.") else f"repose.papers.pinet.{name}"
    parts = full.split(".")
    for cut in range(len(parts) - 1, 1, -1):
        try:
            found = import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return found
    raise AttributeError(full)


@pytest.mark.parametrize("name", ENTRIES)
def test_map_entry_resolves(name):
    assert resolve(name) is not None


def test_map_names_every_equation():
    named: set[int] = set()
    for first, word, last in re.findall(r"Eq\. (\d+)(?: (and|to) (\d+))?", MAP):
        named |= set(range(int(first), int(last) + 1)) if word == "to" else {int(n) for n in (first, last) if n}
    assert named == set(range(1, 13))


def test_switches_exist():
    known = {key for key, _ in leaves(to_dict(papers.get("pinet").schema()))}
    known |= {key.rsplit(".", n)[0] for key in known for n in range(1, key.count(".") + 1)}
    rows = [row.split("|") for row in CHOICES.splitlines() if row.startswith("| ")]
    named = [name for row in rows for name in re.findall(r"`([\w.]+)`", row[3])]
    assert len(named) > 20
    assert [name for name in named if name not in known] == []


def test_experiments_exist():
    names = set(re.findall(r"(?<=[ `])(pinet/[a-z]+)(?=[` ])", TEXT))
    assert "pinet/ochuman" in names
    for name in names - {"pinet/1"}:
        assert find_experiment(name).is_file()
