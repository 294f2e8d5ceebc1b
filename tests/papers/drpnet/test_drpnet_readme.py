"""The README's map, switches and presets are those of the code."""

import re
from importlib import import_module
from pathlib import Path

import pytest

from repose import papers
from repose.config import find_experiment, leaves, to_dict
from repose.tables.publish import readme_blocks_current

README = Path(papers.__file__).parent / "drpnet" / "README.md"
TEXT = README.read_text(encoding="utf-8")
MAP = TEXT.split("## Where the paper is in the code")[1].split("\n## ")[0]
CHOICES = TEXT.split("## What the paper leaves open")[1].split("\n## ")[0]
ENTRIES = [row.split("|")[2].strip().strip("`") for row in MAP.splitlines() if row.startswith("| ") and "`" in row]


def resolve(name: str):
    """`model.DRPNet.coarse` of this paper, or `repose.ops.roi.roi_sample`."""
    full = name if name.startswith("repose.") else f"repose.papers.drpnet.{name}"
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
    """Equations 1 (the detector) and 13 (video) are not of this folder."""
    named = {int(n) for text in re.findall(r"Eq\. ([\d and]+)", MAP) for n in re.findall(r"\d+", text)}
    assert named == set(range(2, 13)) | {14}


def test_switches_exist():
    known = {key for key, _ in leaves(to_dict(papers.get("drpnet").schema()))}
    known |= {key.rsplit(".", n)[0] for key in known for n in range(1, key.count(".") + 1)}
    rows = [row.split("|") for row in CHOICES.splitlines() if row.startswith("| ")]
    named = [name for row in rows for name in re.findall(r"`([\w.]+)`", row[3])]
    assert len(named) > 20
    assert [name for name in named if name not in known] == []


def test_presets_exist():
    for name in set(re.findall(r"`(drpnet/[\w-]+)`", TEXT)):
        assert find_experiment(name).is_file()


def test_result_blocks_are_marked_and_current():
    blocks = re.findall(r"<!-- results:drpnet/(\S+) -->", TEXT)
    assert blocks == ["3:mini", "3:lite", "2:mini", "4:mini", "fig-5:mini", "fig-6:mini"]
    assert readme_blocks_current(README)
