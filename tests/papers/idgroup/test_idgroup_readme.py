"""The README's map, switches and experiments are those of the code."""

import re
from importlib import import_module
from pathlib import Path

import pytest

from repose import papers
from repose.config import find_experiment, leaves, to_dict
from repose.tables.schema import find_tables

README = Path(papers.__file__).parent / "idgroup" / "README.md"
TEXT = README.read_text(encoding="utf-8")
MAP = TEXT.split("## Where the paper is in the code")[1].split("\n## ")[0]
CHOICES = TEXT.split("## What the paper leaves open")[1].split("\n## ")[0]
ENTRIES = [row.split("|")[2].strip().strip("`") for row in MAP.splitlines() if row.startswith("| ") and "`" in row]


def resolve(name: str):
    """`model.IDGroup.forward` of this paper, or `repose.ops.chamfer.soft_chamfer`."""
    full = name if name.startswith("repose.") else f"repose.papers.idgroup.{name}"
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
    assert {int(n) for n in re.findall(r"Eq\. (\d+)", MAP)} == {1, 2, 3, 4, 5}


def test_switches_exist():
    known = {key for key, _ in leaves(to_dict(papers.get("idgroup").schema()))}
    known |= {key.rsplit(".", n)[0] for key in known for n in range(1, key.count(".") + 1)}
    rows = [row.split("|") for row in CHOICES.splitlines() if row.startswith("| ")]
    named = [name for row in rows for name in re.findall(r"`([\w.]+)`", row[3])]
    assert len(named) > 15
    assert [name for name in named if name not in known] == []


def test_experiments_and_tables_exist():
    names = set(re.findall(r"(?<=[ `])(idgroup/[a-z0-9-]+)(?=[` ])", TEXT))
    tables = set(re.findall(r"repose table (idgroup/[a-z0-9-]+)", TEXT))
    assert names >= {"idgroup/mobilenetv3", "idgroup/maxvit"} and tables >= {"idgroup/2", "idgroup/ablation-crops"}
    for name in names - tables:
        assert find_experiment(name).is_file()
    for name in tables:
        assert find_tables(name)
