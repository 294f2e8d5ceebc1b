"""The repository's own files: licence, citation, contracts, markers."""

from __future__ import annotations

import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
TOOL = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]


def test_licence_is_the_whole_apache_2() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_citation_names_five_papers() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation["license"] == "Apache-2.0"
    papers = [reference["notes"].split(";")[0] for reference in citation["references"]]
    assert sorted(papers) == [f"papers/{name}" for name in ("cganet", "drpnet", "idgroup", "kdc", "pinet")]
    assert all(reference["title"] and reference["authors"] for reference in citation["references"])


def test_every_top_level_module_has_a_layer() -> None:
    layers = TOOL["importlinter"]["contracts"][0]["layers"]
    known = {name.strip("() ") for layer in layers for part in layer.split("|") for name in part.split(":")}
    there = {
        path.stem
        for path in (ROOT / "src/repose").iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").exists()) and path.stem != "__init__"
    }
    assert there <= known


def test_markers_are_strict_and_known() -> None:
    options = TOOL["pytest"]["ini_options"]
    assert "--strict-markers" in options["addopts"]
    assert {marker.split(":")[0] for marker in options["markers"]} >= {"slow", "data", "gpu"}


def test_lint_rules_are_those_of_the_architecture() -> None:
    assert {"E", "F", "W", "I", "UP", "B", "D", "ANN", "RUF", "SIM"} <= set(TOOL["ruff"]["lint"]["select"])
    strict = {Path(path).stem for path in TOOL["pyright"]["strict"]}
    assert strict == {"config", "types", "metrics", "tables"}
