"""The README's map and switches are those of the code."""

import re
from importlib import import_module
from pathlib import Path

import pytest

from repose import papers
from repose.config import find_experiment, leaves, to_dict
from repose.tables.schema import find_tables

TEXT = (Path(papers.__file__).parent / "cganet" / "README.md").read_text(encoding="utf-8")
MAP = TEXT.split("## Where the paper is in the code")[1].split("\n## ")[0]
CHOICES = TEXT.split("## What the paper leaves open")[1].split("\n## ")[0]
ENTRIES = [row.split("|")[2].strip().strip("`") for row in MAP.splitlines() if row.startswith("| ") and "`" in row]


@pytest.mark.parametrize("name", ENTRIES)
def test_map_entry_resolves(name):
    module, *parts = name.split(".")
    found = import_module(f"repose.papers.cganet.{module}")
    for part in parts:
        found = getattr(found, part)
    assert found is not None


def test_map_names_every_equation():
    named = {int(n) for text in re.findall(r"Eq\. ([\d and]+)", MAP) for n in re.findall(r"\d+", text)}
    assert named == set(range(1, 9))


def test_switches_exist():
    known = {key for key, _ in leaves(to_dict(papers.get("cganet").schema()))}
    known |= {key.rsplit(".", n)[0] for key in known for n in range(1, key.count(".") + 1)}
    rows = [row.split("|") for row in CHOICES.splitlines() if row.startswith("| ")]
    named = [name for row in rows for name in re.findall(r"`([\w.]+)`", row[3])]
    assert len(named) > 40
    assert [name for name in named if name not in known] == []


def test_presets_and_tables_exist():
    outside = re.sub(r"<!-- results:.*?/results -->", "", TEXT, flags=re.DOTALL)
    tables = set(re.findall(r"table[ =](cganet/\w+)", outside))
    assert "cganet/4" in tables
    for name in tables:
        assert find_tables(name)
    presets = set(re.findall(r"cganet/[\w-]+", outside)) - tables
    assert presets >= {"cganet/coco", "cganet/masks", "cganet/separated"}
    for name in presets:
        assert find_experiment(name).is_file()
