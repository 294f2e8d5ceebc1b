"""Rows that are counted, computed from annotations, or spread over data sets; files named by the user; estimates."""

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from table_kit import FAKE, Numbers, flags, same, smoke, work_in, write_table

from repose.errors import UserError
from repose.metrics.cost import BY_OP
from repose.tables import cli, costs, plan, publish, runner
from repose.tables.cells import Cell, Choice, cells, with_files
from repose.tables.claims import Interval
from repose.tables.costs import RowCost
from repose.tables.render import columns, markdown, pivot, print_report, to_json
from repose.tables.report import Report, build, protocol_differs
from repose.tables.runner import Jobs, run_tasks
from repose.tables.schema import OPERATIONS, Row, Table
from repose.tables.state import State

COLUMNS = """\
title: Two data sets
source: Table 5
experiment: drpnet/m
data: coco
data_smoke: synthetic
protocol: {data: coco-val2017}
columns:
  coco: {label: COCO val}
  dev: {label: COCO test-dev, kind: server-only}
  lite: {label: Photographs, name: coco-lite, data: coco-lite, data_smoke: synthetic, set: {test: {flip: false}}}
  big: {label: Big, at: [paper], data: coco}
rows:
  other: {label: HGG, kind: quoted, paper: {coco: 60.4, lite: 35.6}, source: its paper}
  ours: {label: Ours, paper: {coco: 67.4, dev: 66.7, lite: 38.3}, source: our server, hours: {smoke: 0.5}}
claims:
  lite: {text: x, better: ours@lite, worse: ours, across: [flip]}
"""

KINDS = """\
title: Kinds
source: Table 3
experiment: drpnet/m
statistic: occlusion
metrics: [occluded_M1]
rows:
  count: {label: Counted, kind: counted, paper: {GFLOPs: 2.1, params: 14.8}, rule: [conv, norm]}
  share: {label: Share, kind: statistic}
  file: {label: Their file, kind: published, paper: {AP: 59.8}, source: their page}
claims: {}
"""


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, root: Path) -> None:
    work_in(tmp_path, root, monkeypatch)
    monkeypatch.setattr(runner, "PROGRAM", FAKE)


class More(Numbers):
    """With statistics, and a claim's metric."""

    def statistic(self, cell: Cell) -> dict[str, float]:
        if cell.choice.data == "coco":
            raise UserError("no coco here")
        return {"occluded_M1": 0.25, "people": 8.0}

    def paired(self, better: Cell, worse: Cell, metric: str = "AP") -> Interval | None:
        return super().paired(better, worse) if metric == "AP" else Interval(0.1, 0.05, 0.15)


def report(table: Table, choice: Choice) -> Report:
    return build(table, choice, same, More(), {})  # type: ignore[arg-type]


def run_all(table: Table, choice: Choice) -> Report:
    run_tasks(plan.tasks([c for f in cells(table, choice).values() for c in f], same), Jobs(say=lambda line: None))
    return report(table, choice)


def test_columns_become_rows(tmp_path: Path) -> None:
    table = write_table(tmp_path, COLUMNS)
    assert {i: (r.kind, r.paper.get("AP")) for i, r in table.rows.items()} == {
        "other@coco": ("quoted", 60.4), "other@lite": ("quoted", 35.6),
        "ours": ("train", 67.4), "ours@dev": ("server-only", 66.7), "ours@lite": ("eval", 38.3),
        "ours@big": ("eval", None),
    }  # fmt: skip
    lite = table.rows["ours@lite"]
    assert (lite.reuse, lite.label, table.evaluated_on(lite)) == ("ours", "Ours, Photographs", "coco-lite")
    assert (table.data_of(lite, "paper"), table.data_of(table.rows["ours"], "paper")) == ("coco-lite", "coco")
    found = cells(table, smoke())
    assert [len(found[i]) for i in table.rows] == [0, 0, 1, 0, 1, 0]  # the big data set has no form at smoke
    assert found["ours@lite"][0].parent is not None
    assert found["ours@lite"][0].loaded.cfg.test.flip is False
    result = {"data": {"name": "coco-lite"}, "oks_area": "annotation"}
    assert protocol_differs(table, Choice("paper"), result, lite) == ""
    assert "the paper on coco-val2017" in protocol_differs(table, Choice("paper"), result, table.rows["ours"])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("lite: 35.6", "light: 35.6", "no column 'light'; there are: coco, dev, lite, big"),
        ("kind: server-only", "kind: server", "columns.dev.kind='server' must be one of"),
        ("label: Big", "lable: Big", "unknown key 'columns.big.lable'; did you mean 'label'?"),
        ("data_smoke: synthetic\nprotocol", "data_smok: synthetic\nprotocol", "there is no scale 'smok'"),
        ("hours: {smoke: 0.5}}", "kind: eval, reuse: other}", "a row over `columns` is trained, published or quoted"),
    ],
)
def test_mistakes_in_columns(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in COLUMNS
    with pytest.raises(UserError) as error:
        write_table(tmp_path, COLUMNS.replace(old, new))
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_pivot_shows_a_method_per_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_AP", json.dumps({"7": 0.45}))
    done = run_all(write_table(tmp_path, COLUMNS), smoke())
    found = dict(pivot(done, intervals=False))
    assert found["row"] == ["HGG", "Ours"]
    assert found["COCO val\npaper / ours"] == ["60.4", "67.4 / 45.0"]
    assert found["COCO test-dev\npaper / ours"] == ["–", "66.7"]
    assert found["Photographs\npaper / ours"] == ["35.6", "38.3 / 45.0"]
    assert found["status"] == ["quoted", "measured, server only, not run at smoke"]
    for width in (80, 160):
        console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
        print_report(done, console)
        text = console.export_text()
        assert max(map(len, text.splitlines())) <= width
        assert ("67.4 / 45.0 [43.0, 47.0]" in text) == (width == 160)
    assert "| Ours, Photographs | 38.3 | 45.0 [43.0, 47.0] |" in markdown(done)
    row = next(r for r in to_json(done)["rows"] if r["id"] == "ours@lite")
    assert (row["method"], row["column"], row["measured"]["AP"]) == ("ours", "lite", 45.0)


def test_six_metrics_fit_or_give_way(tmp_path: Path) -> None:
    text = COLUMNS[: COLUMNS.index("columns:")] + (
        "metrics: [AP, AP50, AP75, AP_E, AP_M, AP_H]\nrows:\n"
        "  ours: {label: Ours, paper: {AP: 68.9, AP50: 88.7, AP75: 74.7, AP_E: 75.4, AP_M: 69.6, AP_H: 61.5}}\n"
    )
    done = report(write_table(tmp_path, text), smoke())
    for width, shown, hidden in ((80, "paper AP", "AP_H"), (120, "61.5/–", "paper AP_H"), (200, "paper AP_H", "–/–")):
        console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
        print_report(done, console)
        lines = console.export_text().split("scaled for")[0]
        assert max(map(len, lines.splitlines())) <= width
        assert shown in lines and hidden not in lines, width
        assert "Ours" in lines and "68.9" in lines


def test_counted_statistic_and_nameless_file(tmp_path: Path) -> None:
    table = write_table(tmp_path, KINDS)
    assert [r.role for r in table.rows.values()] == ["own", "own", "baseline"]
    assert not any(cells(table, smoke()).values())
    done = report(table, smoke())
    lines = {x.row.id: x for x in done.lines}
    assert {i: x.status for i, x in lines.items()} == {
        "count": "counted", "share": "computed", "file": "needs its file",
    }  # fmt: skip
    assert lines["share"].values["occluded_M1"] == 0.25
    notes = "\n".join(done.notes)
    assert "checkpoint.file=FILE; their page" in notes
    table = dict(columns(done, "full"))
    assert table["ours occluded_M1"] == ["–", "0.25", "–"]
    assert "paper occluded_M1" not in table
    missing = report(done.table, smoke("data=coco"))
    assert {x.row.id: x.status for x in missing.lines}["share"] == "no data"
    assert "Share: no data: no coco here" in missing.notes


def test_a_rule_names_operations() -> None:
    assert OPERATIONS == BY_OP


def test_a_wrong_rule_and_a_missing_statistic(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"rule|no operation 'convs'"):
        write_table(tmp_path, KINDS.replace("[conv, norm]", "[convs]"))
    with pytest.raises(UserError, match="row 'share' needs the table's `statistic`"):
        write_table(tmp_path, KINDS.replace("statistic: occlusion\n", ""))


def test_gmacs_follow_the_rows_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import repose.metrics.cost as cost

    class Count:
        params = 14_800_000
        by_op = {"conv": 2.0e9, "norm": 0.1e9, "upsample": 0.05e9}  # noqa: RUF012

    asked: list[Any] = []
    monkeypatch.setattr(cost, "count", lambda net, example: asked.append(example.shape) or Count())
    table = write_table(tmp_path, KINDS)
    found = costs.cost_of(table, table.rows["count"], smoke(), tmp_path / "runs")
    assert (found.params, found.gmacs, found.size) == (14.8, pytest.approx(2.1), "256x192")  # the paper's size
    every = Row(id="count", kind="counted")
    again = costs.cost_of(table, every, smoke(), tmp_path / "runs")
    assert again.gmacs == pytest.approx(2.15)
    assert len(asked) == 1  # looked up the second time


def test_a_file_is_named_on_the_line(tmp_path: Path) -> None:
    table = write_table(tmp_path, KINDS)
    file = tmp_path / "their.pth"
    file.write_bytes(b"abc")
    choice = smoke(f"checkpoint.file={file}")
    assert choice.words[-1] == f"checkpoint.file={file}"
    (named,) = with_files([table], choice)
    # sha256 of b"abc", FIPS 180-2's first example
    assert named.rows["file"].sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    (one,) = cells(named, choice)["file"]
    assert one.folder.parts[-3] == "published-ba7816bf8f01"
    assert plan.command_of(one)[-2:] == [f"checkpoint={file}", f"log.dir={one.folder}"]
    plan.check_published([one])
    with pytest.raises(UserError, match=r"checkpoint.fil: no published row of that id; there are: file"):
        with_files([table], smoke(f"checkpoint.fil={file}"))
    with pytest.raises(UserError, match="no such file"):
        with_files([table], smoke("checkpoint.file=nowhere.pth"))
    known = write_table(tmp_path, KINDS.replace("source: their page", f"sha256: {'0' * 64}"))
    (wrong,) = with_files([known], choice)
    with pytest.raises(UserError, match="sha256 ba7816bf8f01"):
        plan.check_published(cells(wrong, choice)["file"])


def test_estimate_counts_a_shared_run_once(tmp_path: Path) -> None:
    one = write_table(tmp_path, COLUMNS, "table-1a")
    two = write_table(tmp_path, COLUMNS.replace("hours: {smoke: 0.5}", "hours: {}"), "table-1b")
    wanted = [c for t in (one, two) for f in cells(t, smoke()).values() for c in f]
    states = {c.key: State("not run") for c in wanted}
    left = plan.estimate(wanted, states)
    assert (left.trainings, left.tests, left.hours, left.unknown) == (1, 1, 0.5, 0)
    assert str(left).startswith("1 training and 1 test to run, about 30 min")
    only_two = [c for c in wanted if c.table.name == "drpnet/1b"]
    assert plan.estimate(only_two, states).unknown == 1
    done = {c.key: State("not run") if c.parent else State("measured", "", {"hours": 0.2}) for c in wanted}
    assert str(plan.estimate(wanted, done)) == "1 test to run"


def test_estimate_names_what_rows_start_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = write_table(tmp_path, COLUMNS, "table-1a")
    wanted = [c for f in cells(table, smoke("init=drpnet/m")).values() for c in f]
    said = plan.starts(wanted, {c.key: State("not run") for c in wanted})
    assert said == "and before them the trainings that rows start from, about 30 min by their epochs: drpnet/m"
    assert plan.starts(wanted, {c.key: State("measured") for c in wanted}) == ""
    alone = [c for f in cells(table, smoke()).values() for c in f]
    assert plan.starts(alone, {c.key: State("not run") for c in alone}) == ""


def test_parts_run_together_with_one_estimate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import repose.tables.schema as schema

    for module in (schema, publish, cli):
        monkeypatch.setattr(module, "experiments_root", lambda: tmp_path / "here")
    monkeypatch.setattr(cli, "changed_since", lambda: same)
    monkeypatch.setattr(cli, "Counted", lambda runs, count: More())
    monkeypatch.setenv("FAKE_COUNT", str(tmp_path / "count"))
    for name in ("table-1a", "table-1b"):
        write_table(tmp_path, COLUMNS, name)
    assert cli.table(["drpnet/1", "scale=smoke"], flags(run=True)) == 0
    err = capsys.readouterr().err
    assert err.splitlines()[0].startswith("drpnet/1 (drpnet/1a, drpnet/1b): 1 training and 1 test to run, about 30 min")
    assert [line.split()[0] for line in (tmp_path / "count").read_text().splitlines()] == ["train", "test"]
    assert cli.table(["drpnet/1", "scale=smoke"], flags(plan=True)) == 0
    assert "in all about 0 h" in capsys.readouterr().out


def test_counted_rows_are_published_without_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import repose.tables.schema as schema

    for module in (schema, publish):
        monkeypatch.setattr(module, "experiments_root", lambda: tmp_path / "here")
    table = write_table(tmp_path, KINDS.replace("metrics: [occluded_M1]", "metrics: [GFLOPs, params]"), "table-3")

    class Costs(More):
        def cost(self, table: Table, row: Row, choice: Choice) -> RowCost:
            return RowCost(14.9, 2.16, "256x192") if row.has_network else RowCost()

    assert publish.publish(build(table, smoke(), same, Costs(), {})) == ["Counted"]  # type: ignore[arg-type]
    text = publish.block("drpnet/3", "smoke")
    assert "| Counted | 2.10 / 2.160 | 14.8 / 14.900 | counted |" in text
    assert "Counted conv + norm at 256x192; commit" in text
    assert "not comparable" not in text


def test_rows_measured_otherwise_than_others_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import repose.tables.schema as schema

    for module in (schema, publish):
        monkeypatch.setattr(module, "experiments_root", lambda: tmp_path / "here")
    done = run_all(write_table(tmp_path, COLUMNS, "table-3"), smoke())
    labels = publish.publish(done)
    assert len(labels) > 1
    assert "Measured with data synthetic" in publish.block("drpnet/3", "smoke")
    path = publish.results_file(done.table)
    head, *rows = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([head, rows[0].replace("abc1234def", "fed4321cba"), *rows[1:]]) + "\n", encoding="utf-8")
    text = publish.block("drpnet/3", "smoke")
    named = {line.partition(": measured with ")[0]: line for line in text.splitlines() if ": measured with " in line}
    assert sorted(named) == sorted([labels[0], "; ".join(labels[1:])])
    assert "commit fed4321cba" in named[labels[0]]
    assert all("commit abc1234def" in line for label, line in named.items() if label != labels[0])
    assert "Measured with" not in text


def test_a_claim_on_a_subset_is_judged(tmp_path: Path) -> None:
    text = COLUMNS.replace("worse: ours,", "worse: ours, metric: AP50,")
    done = run_all(write_table(tmp_path, text), smoke())
    assert done.verdicts[0][1].word == "confirmed"  # 0.1 +- 0.05
