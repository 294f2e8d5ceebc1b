from pathlib import Path

import pytest
from table_kit import TABLE, write_table

from repose.errors import UserError
from repose.tables.schema import all_tables, find_tables, load_table, settings


def test_rows_and_layers(tmp_path: Path) -> None:
    table = write_table(tmp_path)
    assert table.name == "drpnet/9"
    assert list(table.rows) == ["five", "seven", "again", "coarse", "big", "other"]
    assert table.rows["five"].paper == {"AP": 73.5, "GFLOPs": 2.05, "params": 14.8}
    assert [r.role for r in table.rows.values()].count("quoted") == 1
    assert settings(table.layers(table.rows["coarse"], "paper")) == {
        "model.roi.size": 7,
        "data.boxes": "detections",
        "decode.read_out": "coarse",
    }
    assert settings(table.layers(table.rows["seven"], "mini")) == {"model.roi.size": 7}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("metrics:", "metric:", "table-9.yaml:6: unknown key 'metric'; did you mean 'metrics'?"),
        ("label: 5x5", "lable: 5x5", "table-9.yaml:9: unknown key 'rows.five.lable'; did you mean 'label'?"),
        ("worse: five", "worse: fiv", "table-9.yaml:16: no row 'fiv' in this table; did you mean 'five'?"),
        (
            "worse: five",
            "worse: five, across: [flop]",
            "table-9.yaml:16: no claim may be across 'flop'; there are: boxes",
        ),
        ("worse: five", "worse: five, across: [oks_area]", "no claim may be across 'oks_area'"),
        ("AP: 73.5", "AP: high", "table-9.yaml:9: rows.five.paper.AP='high' must be float"),
        ("kind: eval", "kind: evil", "rows.coarse.kind='evil' must be one of 'train', 'eval'"),
        ("reuse: seven, ", "", "`kind: eval` and `reuse: <row>` belong together"),
        ("reuse: seven", "reuse: other", "row 'other' is not trained"),
        ("set_paper", "set_papr", "table-9.yaml:10: there is no scale 'papr'"),
        ("flip: true", "flip: maybe", "protocol.flip='maybe' must be bool"),
        ("at: [lite, paper]", "at: [light]", "there is no scale 'light'"),
        ("kind: quoted", "kind: quoted, set: {seed: 1}", "it is never run and takes no `set`"),
        ("  five:", "  fi.ve:", "id 'fi.ve': use letters"),
        ("experiment: drpnet/m\n", "", "row 'five' needs an `experiment`"),
    ],
)
def test_mistakes_name_line_and_fix(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in TABLE
    with pytest.raises(UserError) as error:
        write_table(tmp_path, TABLE.replace(old, new))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_setting_of_a_row_is_checked_with_its_line(tmp_path: Path) -> None:
    from repose.tables.cells import cells, choose

    table = write_table(tmp_path, TABLE.replace("{roi: {size: 5}}", "{roi: {sise: 5}}"))
    with pytest.raises(UserError, match=r"table-9.yaml:9: unknown key 'model.roi.sise'; did you mean 'model.roi.size'"):
        cells(table, choose(["scale=smoke"]))


def test_rows_from_another_table(tmp_path: Path) -> None:
    write_table(tmp_path)
    figure = write_table(tmp_path, "title: F\nrows_from: table-9\nplot: ap-gflops\n", "figure-2")
    assert figure.name == "drpnet/fig-2"
    assert list(figure.rows) == ["five", "seven", "again", "coarse", "big", "other"]
    assert figure.protocol.data == "coco-val2017"


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import repose.tables.schema as schema

    monkeypatch.setattr(schema, "experiments_root", lambda: tmp_path / "here")
    for name in ("table-9", "table-1a", "table-1b", "figure-2", "ablation-x"):
        write_table(tmp_path, name=name)
    for name in ("drpnet/9", "drpnet/table-9"):
        assert [t.name for t in find_tables(name)] == ["drpnet/9"]
    assert [t.name for t in find_tables("drpnet/1")] == ["drpnet/1a", "drpnet/1b"]
    assert [t.name for t in find_tables("drpnet/figure-2")] == ["drpnet/fig-2"]
    assert [t.name for t in find_tables("drpnet/ablation-x")] == ["drpnet/ablation-x"]
    assert [p.stem for p in all_tables()] == ["table-1a", "table-1b", "table-9", "figure-2", "ablation-x"]
    with pytest.raises(UserError, match="did you mean 'drpnet/9'"):
        find_tables("drpnet/8")


def test_every_table_of_the_repository_loads() -> None:
    from repose.tables.cells import cells, choose

    paths = all_tables()
    assert paths
    for table in map(load_table, paths):
        if not Path(__file__).with_name(f"test_tables_{table.paper}.py").is_file():  # those resolve their paper's rows
            for scale in ("mini", "paper"):
                cells(table, choose([f"scale={scale}"]))
