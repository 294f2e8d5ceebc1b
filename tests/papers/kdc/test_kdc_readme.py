"""The README's map, switches and presets are those of the code."""

import re
from importlib import import_module
from pathlib import Path

import pytest

from repose import papers
from repose.config import find_experiment, leaves, to_dict

README = Path(papers.__file__).parent / "kdc" / "README.md"
TEXT = README.read_text(encoding="utf-8")
MAP = TEXT.split("## Where the paper is in the code")[1].split("\n## ")[0]
CHOICES = TEXT.split("## What the paper leaves open")[1].split("\n## ")[0]
ENTRIES = [row.split("|")[2].strip().strip("`") for row in MAP.splitlines() if row.startswith("| ") and "`" in row]


@pytest.mark.parametrize("name", ENTRIES)
def test_map_entry_resolves(name):
    full = name if name.startswith("repose.") else f"repose.papers.kdc.{name}"
    module, *rest = full, *()
    while True:
        try:
            found = import_module(module)
            break
        except ModuleNotFoundError:
            module, _, last = module.rpartition(".")
            rest.insert(0, last)
    for part in rest:
        found = getattr(found, part)
    assert found is not None


def test_map_names_every_equation():
    named = {int(n) for text in re.findall(r"Eq\. ([\d and]+)", MAP) for n in re.findall(r"\d+", text)}
    assert named == set(range(1, 9))


def test_losses_are_named():
    from kdc_kit import headless

    assert all(f"`{name}`" in MAP for name in headless().weights)


def test_switches_exist_and_none_is_silent():
    known = {key for key, _ in leaves(to_dict(papers.get("kdc").schema()))}
    parents = {key.rsplit(".", n)[0] for key in known for n in range(1, key.count(".") + 1)}
    rows = [row.split("|") for row in CHOICES.splitlines() if row.startswith("| ")]
    named = {name for row in rows for name in re.findall(r"`([\w.]+)`", row[3])}
    assert named - known - parents == set()
    mine = {key for key in known if key.startswith(("loss.", "decode.", "model."))}
    given = {"model.radius", "model.backbone.name", "model.backbone.pretrained", "model.backbone.weights"}
    plain = {"model.backbone.width", "decode.refine_steps", "decode.masks"}  # not choices of the paper's reading
    assert mine - named - given - plain == set()


def test_presets_exist():
    for name in set(re.findall(r"`(kdc/[\w-]+)`", TEXT)):
        assert find_experiment(name).is_file()
