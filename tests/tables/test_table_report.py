import json
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from table_kit import FAKE, TABLE, Numbers, flags, same, smoke, work_in, write_table

from repose.config import ExperimentBase
from repose.errors import UserError
from repose.tables import claims, cli, evaluation, plan, publish, runner
from repose.tables.cells import Choice, cell, cells
from repose.tables.claims import Interval, judge_counted, judge_measured, over_seeds
from repose.tables.render import below, columns, csv_text, markdown, print_report, to_json
from repose.tables.report import Line, Report, build, protocol_differs, protocol_line
from repose.tables.runner import Jobs, run_tasks
from repose.tables.schema import ACROSS, Table, find_tables


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, root: Path) -> None:
    work_in(tmp_path, root, monkeypatch)
    monkeypatch.setattr(runner, "PROGRAM", FAKE)
    monkeypatch.setenv("FAKE_AP", json.dumps({"5": 0.40, "7": 0.45, "9": 0.44}))


def run_all(table: Table, choice: Choice) -> Report:
    run_tasks(plan.tasks([c for f in cells(table, choice).values() for c in f], same), Jobs(say=lambda line: None))
    return build(table, choice, same, Numbers(), publish.read_published(table, choice.scale))


@pytest.fixture
def experiments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An experiments folder with one table; configs still come from the repository."""
    import repose.tables.overview as overview
    import repose.tables.schema as schema

    for module in (schema, publish, overview, cli):
        monkeypatch.setattr(module, "experiments_root", lambda: tmp_path / "here")
    monkeypatch.setattr(cli, "changed_since", lambda: same)
    monkeypatch.setattr(cli, "Counted", lambda runs, count: Numbers())
    write_table(tmp_path)
    return tmp_path / "here"


def test_a_scaled_table(tmp_path: Path) -> None:
    report = run_all(write_table(tmp_path), smoke())
    lines = {x.row.id: x for x in report.lines}
    assert {i: x.status for i, x in lines.items()} == {
        "five": "measured", "seven": "measured", "again": "measured", "coarse": "measured",
        "big": "not run at smoke", "other": "quoted",
    }  # fmt: skip
    assert lines["five"].values["AP"] == pytest.approx(0.40)
    assert lines["seven"].values == lines["again"].values
    assert lines["five"].difference is None  # another scale is never subtracted
    notes = "\n".join(report.notes)
    assert "no difference to the paper is given: scale smoke is not the paper's" in notes
    assert "model.backbone.name cspnext_m -> cspnext_tiny" in notes
    assert "data.input_size 256x192 -> 96x72" in notes
    assert "roi_inside: 5x5 0.9, 7x7 0.9" in notes
    assert "does not show: the paper's AP" in notes
    assert "HRNet: quoted from its own paper" in notes
    assert report.protocol == [
        "data synthetic, boxes gt, flip yes, OKS area annotation, init scratch, input 96x72, scale smoke"
    ]
    assert [v.word for _, v in report.verdicts] == ["confirmed"]  # 0.45 - 0.40 = 0.05 +- 0.03


@pytest.mark.parametrize("width", [80, 140])
def test_it_fits_the_terminal(tmp_path: Path, width: int) -> None:
    report = run_all(write_table(tmp_path), smoke())
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    print_report(report, console)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    for part in ("5x5", "73.5", "40.0 [38.0, 42.0]", "measured", "quoted", "claim: 7x7 beats 5x5: confirmed", "2.16"):
        assert part in text
    assert ("ours AP50" in text) == (width == 140)


def test_files_and_json(tmp_path: Path) -> None:
    report = run_all(write_table(tmp_path), smoke())
    rows = csv_text(report).splitlines()
    assert rows[0].startswith("id,label,kind,status,paper_AP,paper_AP50,paper_GFLOPs,paper_params,AP,AP50,AP_low")
    assert rows[1].startswith("five,5x5,train,measured,73.5,,2.05,14.8,40.0,40.0,38.0,42.0,,2.16,14.9,1")
    assert "| 5x5 | 73.5 | 40.0 [38.0, 42.0] | – |" in markdown(report)
    one = json.loads(json.dumps(to_json(report)))
    assert one["table"] == "drpnet/9"
    five, *_, other = one["rows"]
    assert five["measured"]["AP"] == 40.0
    assert {"id", "label", "kind", "paper", "measured", "status"} <= five.keys()
    assert (other["kind"], other["measured"], other["status"]) == ("quoted", None, "quoted")
    assert one["claims"][0]["verdict"] == "confirmed"


def test_a_choice_among_evaluations_is_said() -> None:
    assert "evaluations" not in protocol_line({"evaluated": {"chosen_of": 1}}) + protocol_line({})
    assert protocol_line({"evaluated": {"chosen_of": 14}}).endswith("best of 14 evaluations on these data")


def test_difference_only_under_the_papers_protocol(tmp_path: Path) -> None:
    table = write_table(tmp_path)
    boxes = "detections: boxes.json"
    result = {"data": {"name": "coco-val2017"}, "box_source": boxes, "flip": True, "oks_area": "annotation"}
    paper = Choice("paper")
    assert protocol_differs(table, paper, result) == ""
    assert "scale mini is not the paper's" in protocol_differs(table, Choice("mini"), result)
    assert "boxes: gt" in protocol_differs(table, paper, {**result, "box_source": "gt"})
    assert "flip test no" in protocol_differs(table, paper, {**result, "flip": False})
    assert "coco-lite" in protocol_differs(table, paper, {**result, "data": {"name": "coco-lite"}})
    assert "OKS area box*0.53" in protocol_differs(table, paper, {**result, "oks_area": "box*0.53"})


def test_a_full_size_table_has_differences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_DATA", "coco-val2017")
    monkeypatch.setenv("FAKE_BOXES", "detections: a.json")
    monkeypatch.setenv("FAKE_AP", json.dumps({"5": 0.741}))
    choice = replace(smoke(), scale="paper")
    report = run_all(write_table(tmp_path), choice)
    lines = {x.row.id: x for x in report.lines}
    assert lines["five"].difference == pytest.approx(0.6)
    assert lines["big"].status == "measured"
    assert not any("scaled for" in n for n in report.notes)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["data.limit_val=5"], "evaluated on the first 5 images only"),
        (["data.limit_train=5"], "trained on the first 5 images only"),
        (["train.debug=overfit"], "a debugging run (train.debug=overfit)"),
        (["data.test_scales=[1.0, 0.5]"], "settings of the command line: data.test_scales=[1.0, 0.5]"),
        (["train.epochs=2", "optim.base_lr=0.1"], "settings of the command line: train.epochs=2, optim.base_lr=0.1"),
        (["data.workers=0", "seed=4", "test.batch=8", "train.precision=bf16"], ""),
    ],
)
def test_another_experiment_has_no_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], why: str
) -> None:
    monkeypatch.setenv("FAKE_DATA", "coco-val2017")
    monkeypatch.setenv("FAKE_BOXES", "detections: a.json")
    report = run_all(write_table(tmp_path), replace(smoke(*words), scale="paper"))
    assert (report.lines[0].difference is None) == bool(why)
    said = [n for n in report.notes if n.startswith("no difference to the paper")]
    assert said == ([f"no difference to the paper is given: {why}"] if why else [])


def test_seeds(tmp_path: Path) -> None:
    report = run_all(write_table(tmp_path), smoke("seeds=3"))
    five = report.lines[0]
    assert five.seeds == 3
    assert five.values["AP"] == pytest.approx(0.41)  # 0.40, 0.41, 0.42
    assert five.interval is not None
    # t(2) * 0.01 / sqrt(3) = 4.303 * 0.0057735 = 0.024843; with the bootstrap's 0.02: sqrt(...) = 0.031893
    assert five.interval.low == pytest.approx(0.41 - 0.031893, abs=1e-5)
    _, verdict = report.verdicts[0]
    assert verdict.reason.endswith("over 3 seeds")
    assert verdict.word == "confirmed"


def test_verdicts() -> None:
    assert judge_measured(Interval(0.02, 0.001, 0.04), (0.4, 0.38), 1).word == "confirmed"
    assert judge_measured(Interval(0.02, -0.001, 0.04), (0.4, 0.38), 1).word == "undecided"
    assert judge_measured(Interval(-0.02, -0.04, -0.001), (0.4, 0.42), 1).word == "refuted"
    floor = judge_measured(Interval(0.02, 0.01, 0.03), (0.04, 0.02), 1)
    assert (floor.word, "floor" in floor.reason) == ("undecided", True)
    assert judge_counted(1.332, 1.116, "G").word == "refuted"
    assert judge_counted(1.1, 1.3, "G").word == "confirmed"
    assert judge_counted(None, 1.3, "G").word == "undecided"
    one = Interval(0.5, 0.4, 0.6)
    assert over_seeds([one]) == one
    two = over_seeds([Interval(0.05, 0.04, 0.06), Interval(0.01, 0.0, 0.02)])
    assert two.low < 0 < two.high  # two seeds that disagree decide nothing
    assert claims.FLOOR == 0.05


@pytest.mark.parametrize(
    ("setting", "name", "why"),
    [
        ("test: {flip: false}", "flip", "flip test: yes against no"),
        ("data: {boxes: detections, detections: a.json}", "boxes", "boxes: gt against detections (a.json)"),
        ("data: {test_scales: [1.0, 0.5]}", "test_scales", "test scales: 1 against 1, 0.5"),
        ("data: {oks_area: box*0.53}", "", "OKS area: annotation against box*0.53"),
        ("data: {limit_val: 2}", "", "evaluated images: 8 against 2"),
        ("test: {max_people: 5}", "", "people per image: 20 against 5"),
        ("test: {subsets: crowd_index}", "", "subsets: none against crowd_index"),
        ("data: {name: another}", "", "data: synthetic against another"),
    ],
)
def test_a_claim_is_judged_within_one_protocol(tmp_path: Path, setting: str, name: str, why: str) -> None:
    """Save where the claim is about the difference, and says so."""
    text = TABLE.replace("set: {model: {roi: {size: 5}}}", f"set: {{model: {{roi: {{size: 5}}}}, {setting}}}")
    _, verdict = run_all(write_table(tmp_path, text), smoke()).verdicts[0]
    assert (verdict.word, verdict.difference) == ("undecided", None) and why in verdict.reason
    if name:
        text = text.replace("worse: five", f"worse: five, across: [{name}]")
        assert run_all(write_table(tmp_path, text), smoke()).verdicts[0][1].word == "confirmed"


def test_costs_are_compared_across_protocols(tmp_path: Path) -> None:
    text = TABLE.replace("roi: {size: 5}}}", "roi: {size: 5}}, test: {flip: false}}")
    text = text.replace("worse: five", "worse: five, metric: params")
    _, verdict = run_all(write_table(tmp_path, text), smoke()).verdicts[0]
    assert "counted" in verdict.reason


@pytest.mark.parametrize(
    ("name", "claim", "apart"),
    [
        ("cganet/3", "flip", ""),
        ("cganet/5", "separated-over-single", ""),
        ("pinet/4", "scales", ""),
        ("drpnet/2", "oracle-over-full", "boxes: gt against detections"),
    ],
)
def test_claims_of_the_papers_across_protocols(name: str, claim: str, apart: str) -> None:
    table = find_tables(name)[0]
    one = table.claims[claim]
    pair = [cell(table, table.rows[row], Choice("paper")) for row in (one.better, one.worse)]
    found = evaluation.differ(one, *pair)
    assert found.startswith(apart) and bool(found) == bool(apart)
    assert bool(evaluation.differ(replace(one, across=()), *pair))


def test_what_a_claim_may_be_across_is_part_of_every_evaluation() -> None:
    assert set(ACROSS) <= evaluation.evaluation(ExperimentBase()).keys()


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [(1, 12.7062), (2, 4.3027), (9, 2.2622), (10, 2.2281), (11, 2.2010), (12, 2.1788), (19, 2.0930), (29, 2.0452),
     (60, 2.0003), (1000, 1.9623)],
)  # fmt: skip
def test_students_t(freedom: int, quantile: float) -> None:
    assert claims.t975(freedom) == pytest.approx(quantile, abs=2e-4)


def test_twelve_seeds_have_eleven_degrees_of_freedom() -> None:
    values = [0.5 + 0.01 * (-1) ** i for i in range(12)]
    found = over_seeds([Interval(v, v, v) for v in values])
    assert found.high - found.value == pytest.approx(2.2010 * statistics.stdev(values) / 12**0.5, rel=1e-4)


def test_floor_is_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_AP", json.dumps({"5": 0.01, "7": 0.04}))
    report = run_all(write_table(tmp_path), smoke())
    assert report.lines[0].floor
    assert "floor" in dict(columns(report, "full"))["ours AP [95 %]"][0]
    assert report.verdicts[0][1].word == "undecided"
    assert any("floor" in text for text in below(report))


def test_masks_are_ranked_by_their_own_ap(tmp_path: Path) -> None:
    """A network that was taught no keypoints has no keypoint AP; its masks are not at the floor for that."""
    masks = write_table(tmp_path, TABLE.replace("metrics: [AP, AP50]", "metrics: [mask_AP, mask_AP50]"))
    assert masks.main == "mask_AP"
    assert write_table(tmp_path, TABLE.replace("metrics: [AP, AP50]", "metrics: [mask_AP, AP]")).main == "AP"
    assert write_table(tmp_path, TABLE.replace("metrics: [AP, AP50]", "metrics: [fps]")).main == "AP"
    row, ap = masks.rows["five"], {"AP": 0.0, "mask_AP": 0.26}
    assert Line(row, "measured", values=ap).floor and not Line(row, "measured", values=ap, main="mask_AP").floor
    assert Line(row, "measured", values={"mask_AP": 0.04}, main="mask_AP").floor
    published = {"AP": "0.0", "others": "mask_AP=26.5 mask_AP50=65.0", "commit": "abc1234def", "hardware": "a CPU"}
    line = Line(row, "measured", values=ap, published=[published], main=masks.main)
    report = Report(masks, smoke(), [line], [], [], [])
    assert dict(columns(report, "full"))["published"] == ["26.5 (abc1234, a CPU)"]


def test_published_rows_stand_apart_and_are_only_appended(tmp_path: Path, experiments: Path) -> None:
    table = write_table(tmp_path)
    choice = smoke()
    with pytest.raises(UserError, match="no row of drpnet/9 is measured at scale smoke"):
        publish.publish(build(table, choice, same, Numbers(), {}))
    report = run_all(table, choice)
    assert publish.publish(report) == ["5x5", "7x7", "the default", "coarse points"]
    file = experiments / "drpnet" / "results" / "table-9.csv"
    first = file.read_text()
    assert publish.publish(report) == []
    assert file.read_text() == first
    more = replace(report, lines=[replace(report.lines[0], values={"AP": 0.5})])
    assert publish.publish(more) == ["5x5"]
    assert file.read_text().startswith(first)
    elsewhere = build(table, smoke("log.runs=other"), same, Numbers(), publish.read_published(table, "smoke"))
    five = elsewhere.lines[0]
    assert (five.status, dict(five.values)) == ("not run", {})  # never stands in for a measurement
    assert [p["AP"] for p in five.published] == ["40.0", "50.0"]
    assert five.published[-1]["commit"] == "abc1234def"
    assert dict(columns(elsewhere, "full"))["published"][0] == "50.0 (abc1234, a fake machine)"
    assert publish.read_published(table, "mini") == {}
    file.write_text("date,row\n")
    with pytest.raises(UserError, match="restore the file"):
        publish.read_published(table, "smoke")


def test_a_published_row_names_every_seeds_commit_and_machine(tmp_path: Path, experiments: Path) -> None:
    report = run_all(write_table(tmp_path), smoke("seeds=3"))
    places = [{"commit": "a" * 40}, {"commit": "b" * 40, "dirty": True, "hardware": "another"}, {"commit": "a" * 40}]
    results = [{**r, **other} for r, other in zip(report.lines[0].results, places, strict=True)]
    publish.publish(replace(report, lines=[replace(report.lines[0], results=results)]))
    row = publish.read_published(report.table, "smoke")["five"][-1]
    assert row["commit"] == f"{12 * 'a'} and {12 * 'b'}+changes"
    assert row["hardware"] == "a fake machine and another"
    again = build(report.table, report.choice, same, Numbers(), publish.read_published(report.table, "smoke"))
    assert dict(columns(again, "full"))["published"][0].endswith("(aaaaaaa and bbbbbbb, a fake machine and another)")


def test_a_published_row_whose_settings_changed_since_says_so(tmp_path: Path, experiments: Path) -> None:
    publish.publish(run_all(write_table(tmp_path), smoke()))
    changed = write_table(tmp_path, TABLE.replace("model: {roi: {size: 5}}", "model: {roi: {size: 11}}"))
    published = publish.read_published(changed, "smoke")
    shown = dict(columns(build(changed, smoke("log.runs=other"), same, Numbers(), published), "full"))["published"]
    assert shown[:2] == ["40.0 (abc1234, a fake machine, other settings)", "45.0 (abc1234, a fake machine)"]
    block = publish.block("drpnet/9", "smoke")
    assert "| measured, other settings |" in block and "run it again" in block
    assert [line.split(" | ")[0] for line in block.splitlines() if line.endswith("other settings |")] == ["| 5x5"]
    write_table(tmp_path)
    assert "other settings" not in publish.block("drpnet/9", "smoke")


def test_readme_blocks(tmp_path: Path, experiments: Path) -> None:
    publish.publish(run_all(write_table(tmp_path), smoke()))
    readme = tmp_path / "README.md"
    readme.write_text("# A\n<!-- results:drpnet/9:smoke -->\nold\n<!-- /results -->\nB\n")
    assert not publish.readme_blocks_current(readme)
    assert publish.update_blocks(readme)
    assert publish.readme_blocks_current(readme)
    assert not publish.update_blocks(readme)
    text = readme.read_text()
    assert "| 5x5 | 73.5 | – | 40.0 [38.0, 42.0] | 2.05 / 2.160 | 14.8 / 14.900 | measured |" in text
    assert "commit abc1234def" in text
    assert text.startswith("# A\n")
    assert text.endswith("<!-- /results -->\nB\n")


def test_the_repositorys_readme_is_current(root: Path) -> None:
    readme = root / "README.md"
    if not readme.is_file():
        pytest.skip("no README.md yet")
    assert publish.readme_blocks_current(readme), "run `repose table --publish`, or restore the block"


def test_command_line(tmp_path: Path, experiments: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["drpnet/9", "scale=smoke"]
    assert cli.table(words, flags(plan=True)) == 0
    out = capsys.readouterr().out
    assert "drpnet/9 5x5: train (not run)" in out
    assert "drpnet/9 the default: nothing: the same run as 7x7" in out
    assert "drpnet/9 coarse points: test the checkpoint of 7x7 (not run)" in out
    assert "drpnet/9 9x9: nothing: no form of its own at this scale" in out
    assert "drpnet/9 HRNet: nothing: quoted" in out

    assert cli.table(words, flags(run=True)) == 0
    shown = capsys.readouterr()
    assert "drpnet/9 5x5: AP 40.0, 30.0 min" in shown.err  # as it finishes
    assert "40.0 [38.0, 42.0]" in shown.out
    assert f"a row of your own: repose table drpnet/9 --run {' '.join(words[1:])} --add model.roi.size=11" in shown.out
    base = tmp_path / "runs" / "tables" / "drpnet" / "table-9-smoke"
    assert base.with_suffix(".md").is_file()
    assert base.with_suffix(".csv").is_file()

    assert cli.table(words, flags(json=True, run=True, add="model.roi.size=9")) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert rows[-1]["id"] == "yours"
    assert (rows[-1]["label"], rows[-1]["measured"]["AP"]) == ("yours: model.roi.size=9", 44.0)

    with pytest.raises(UserError, match="--run needs a table"):
        cli.table([], flags(run=True))
    with pytest.raises(UserError, match="seeds=3"):
        cli.table([*words, "seeds=many"], flags())
    assert cli.table(["scale=smoke"], flags(json=True)) == 0
    listed = json.loads(capsys.readouterr().out)["rows"]
    assert listed[0]["name"] == "drpnet/9"
    assert (listed[0]["measured"], listed[0]["total"]) == (3, 3)
    assert listed[0]["rows"] == "5 own, 1 quoted"


def test_a_failed_row_sets_the_exit_code(
    tmp_path: Path, experiments: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_FAIL", "5")
    words = ["drpnet/9", "scale=smoke"]
    assert cli.table(words, flags(run=True, json=True)) == 1
    rows = {r["id"]: r["status"] for r in json.loads(capsys.readouterr().out)["rows"]}
    assert (rows["five"], rows["seven"]) == ("failed", "measured")


def test_figure(tmp_path: Path) -> None:
    from repose.tables.render import write_files

    table = write_table(tmp_path, TABLE.replace("metrics:", "plot: ap-gflops\nmetrics:"))
    files = write_files(run_all(table, smoke()), tmp_path / "runs")
    assert [f.suffix for f in files] == [".md", ".csv", ".png"]
    assert files[2].read_bytes()[:4] == b"\x89PNG"
    assert files[2].with_suffix(".pdf").read_bytes()[:4] == b"%PDF"
