"""DRP-Net's tables and sweeps: they load, resolve at every scale, hold the paper's numbers, and agree."""

import re
from pathlib import Path

import pytest

from repose import papers
from repose.config import experiments_root, identity, load
from repose.tables.schema import all_tables, find_tables, load_table
from repose.tables.sweep import load_sweep

TABLES = [p for p in all_tables() if p.parent.parent.name == "drpnet"]
SWEEPS = sorted(Path("sweeps").glob("drpnet-*.yaml"))


def row_identities(table, scale: str) -> dict[str, str]:
    return {
        row.id: identity(
            load(table.experiment_of(row), [f"scale={scale}"], find_paper=papers.get, row=table.layers(row, scale)).cfg
        )
        for row in table.rows.values()
        if row.runs and (not row.at or scale in row.at)
    }


def test_all_are_there():
    assert {p.stem for p in TABLES} == {
        "table-1", "table-2", "table-3", "table-4", "figure-3", "figure-4", "figure-5", "figure-6", "figure-7",
        "ablation-loss-weights", "ablation-sigma", "low-resolution",
    }  # fmt: skip
    assert {p.stem for p in SWEEPS} == {"drpnet-roi-size", "drpnet-loss-weights", "drpnet-sigma"}


@pytest.mark.parametrize("path", TABLES, ids=lambda p: p.stem)
@pytest.mark.parametrize("scale", ["smoke", "mini", "lite", "paper"])
def test_rows_resolve_and_differ(path, scale):
    """A row that has no distinct form at a scale is not run there."""
    table = load_table(path)
    found = row_identities(table, scale)
    assert len(set(found.values())) == len(found), found


def test_rows_of_one_training_share_it():
    """The main model is trained once for all tables; at mini the losses weigh 1 and 10, so (1, 1) is another run."""
    for scale in ("mini", "paper"):
        main = {
            row_identities(find_tables(f"drpnet/{name}")[0], scale)[row]
            for name, row in (
                ("1", "drpnet-m"), ("2", "full"), ("3", "roi-7"), ("ablation-loss-weights", "c1-f1"),
                ("ablation-sigma", "sigma-2"), ("low-resolution", "m-256"),
            )
            if (scale, row) != ("mini", "c1-f1")
        }  # fmt: skip
        assert len(main) == 1


@pytest.mark.parametrize("path", SWEEPS, ids=lambda p: p.stem)
def test_sweep_is_its_table(path):
    sweep = load_sweep(path)
    (table,) = find_tables(sweep.table)
    cells = []
    for cell in sweep.cells:
        verb, experiment, *arguments = sweep.repose_words(cell)
        assert verb == "train"
        cells.append(identity(load(experiment, arguments, find_paper=papers.get).cfg))
    assert cells == list(row_identities(table, "mini").values())


def test_numbers_of_the_paper():
    one = find_tables("drpnet/1")[0].rows
    columns = ("GFLOPs", "params", "AP", "AP50", "AP75")
    paper = {
        "fastpose": (5.91, 34.5, 71.2, 89.1, 78.5),
        "lite-hrnet": (1.10, 5.3, 68.9, 88.0, 75.4),
        "vitpose-b": (9.80, 87.1, 76.3, 91.5, 83.1),
        "rtmpose-s": (0.68, 6.2, 69.6, 88.5, 76.8),
        "rtmpose-m": (1.93, 13.6, 73.6, 90.1, 80.5),
        "drpnet-s": (0.85, 7.1, 71.5, 89.4, 78.6),
        "drpnet-m": (2.15, 14.8, 74.1, 90.5, 81.2),
        "drpnet-l": (4.60, 28.5, 75.9, 91.1, 82.5),
        "openpose": (160.3, 25.9, 61.8, 84.9, 67.5),
        "higherhrnet": (54.4, 28.5, 67.1, 87.0, 73.0),
    }
    assert {i: tuple(row.paper[c] for c in columns) for i, row in one.items()} == paper
    two = find_tables("drpnet/2")[0].rows
    assert [r.paper["AP"] for r in two.values() if r.paper] == [74.1, 69.2, 75.5]
    three = find_tables("drpnet/3")[0].rows
    assert [(r.paper["GFLOPs"], r.paper["AP"]) for r in three.values()] == [(2.05, 73.5), (2.15, 74.1), (2.28, 74.0)]


def test_experiment_files_say_what_to_expect():
    for path in sorted((experiments_root() / "drpnet").glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 30
        header = "".join(line for line in text.splitlines() if line.startswith("#"))
        assert f"repose train drpnet/{path.stem}" in header
        assert re.search(r"AP:? \d\d\.\d", header) and re.search(r"\d+ h on 8 A100", header), path
