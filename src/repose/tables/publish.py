"""Published rows: `experiments/<paper>/results/<table>.csv`, append-only, committed; and the README's blocks from them.

A published row says what was measured somewhere, with commit and hardware. It never stands in for a measurement here.
"""

from __future__ import annotations

import csv
import datetime
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from repose.config import experiments_root
from repose.engine import provenance, rundir
from repose.errors import UserError
from repose.tables.cells import Choice, at_scale, cell
from repose.tables.claims import FLOOR
from repose.tables.render import markdown_table, measured
from repose.tables.report import OTHER_SETTINGS, Line, Report, further, protocol_line, set_otherwise, shown
from repose.tables.schema import COSTS, Row, Table, find_tables, headline_tables, inner

HEADS = (
    "date", "row", "label", "scale", "seeds", "AP", "AP_low", "AP_high", "AP50", "AP75", "params_M", "GMACs", "data",
    "boxes", "flip", "oks_area", "init", "protocol", "commit", "hardware", "hours", "identity", "others",
)  # fmt: skip
"""Columns of a results file, for good: rows of years ago stay readable. New ones come last, empty in older rows."""
_FIRST_HEADS = HEADS[:-1]
"""The columns before `others`, which holds the table's further metrics and mechanism: `mask_AP=12.3 found=0.41`."""


def results_file(table: Table) -> Path:
    """Where a table's published rows stand."""
    return experiments_root() / table.paper / "results" / f"{table.path.stem}.csv"


def read_published(table: Table, scale: str) -> dict[str, list[dict[str, str]]]:
    """Row id -> published rows at a scale, oldest first, each with its columns and, where it holds, `OTHER_SETTINGS`.

    Raises:
        UserError: the file's columns are not those of this version.
    """
    path = results_file(table)
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) not in (HEADS, _FIRST_HEADS):
            raise UserError(f"{path}:1: its columns are not those `repose table --publish` writes; restore the file")
        found: dict[str, list[dict[str, str]]] = {}
        for row in reader:
            if row["scale"] == scale:
                state = {OTHER_SETTINGS: "yes"} if _has_other_settings(table, row) else {}
                found.setdefault(row["row"], []).append({"others": "", **row, **state})
    return found


def _has_other_settings(table: Table, published: Mapping[str, str]) -> bool:
    """Whether the row would be another run today: its recipe changed, or it was measured with settings of one's own."""
    row = table.rows.get(published["row"])
    if row is None or not row.runs or not published["identity"] or not at_scale(row, published["scale"]):
        return False
    now, then = cell(table, row, Choice(published["scale"])).key, published["identity"]
    if row.kind == "published":  # the file's sum comes first, and its user names the file
        return now.rpartition("/")[2] != then.rpartition("/")[2]
    return now != then


def publish(report: Report) -> list[str]:
    """Append the measured and counted rows of a report that are not there yet.

    Returns:
        labels of the rows added.

    Raises:
        UserError: nothing in the table is measured or counted.
    """
    path = results_file(report.table)
    lines = [x for x in report.lines if x.row.id != "yours" and (x.status == "measured" or _is_counted(x))]
    if not lines:
        raise UserError(
            f"--publish: no row of {report.table.name} is measured at scale {report.choice.scale}; add --run"
        )
    before = read_published(report.table, report.choice.scale)
    new = [row for x in lines if not _known(row := _published_row(report, x), before.get(x.row.id, []))]
    if not new:
        return []
    old = _with_heads(path.read_text(encoding="utf-8")) if path.is_file() else ""
    out = io.StringIO()
    writer: csv.DictWriter[str] = csv.DictWriter(out, list(HEADS), lineterminator="\n", restval="")
    if not old:
        writer.writeheader()
    writer.writerows(new)
    rundir.write_text(path, old + ("" if not old or old.endswith("\n") else "\n") + out.getvalue())
    return [row["label"] for row in new]


def _with_heads(text: str) -> str:
    """A file with today's columns: its rows stay, those of before get empty last ones."""
    first, _, rest = text.partition("\n")
    if first != ",".join(_FIRST_HEADS):
        return text
    return ",".join(HEADS) + "\n" + "".join(f"{line},\n" for line in rest.splitlines())


def _known(row: Mapping[str, str], before: Sequence[Mapping[str, str]]) -> bool:
    same = [k for k in HEADS if k != "date"]
    return any(all(row.get(k, "") == b[k] for k in same) for b in before)


def _is_counted(line: Line) -> bool:
    return line.status == "counted" and line.cost.gmacs is not None


def _published_row(report: Report, line: Line) -> dict[str, str]:
    if _is_counted(line):
        return _counted_row(report, line)
    first: Mapping[str, Any] = line.results[0]
    values = measured(line)
    hours = sum(float(r.get("hours") or 0) for r in line.results)
    one = cell(report.table, line.row, report.choice)
    numbers = {k: values.get(k) for k in ("AP", "AP_low", "AP_high", "AP50", "AP75")}
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "row": line.row.id,
        "label": line.row.label,
        "scale": report.choice.scale,
        "seeds": str(line.seeds),
        **{k: "" if v is None else f"{v:.1f}" for k, v in numbers.items()},
        "params_M": "" if line.cost.params is None else f"{line.cost.params:.3f}",
        "GMACs": "" if line.cost.gmacs is None else f"{line.cost.gmacs:.3f}",
        "data": str(inner(first, "data").get("name")),
        "boxes": str(first.get("box_source")),
        "flip": "yes" if first.get("flip") else "no",
        "oks_area": str(first.get("oks_area")),
        "init": str(first.get("init")),
        "protocol": _each(protocol_line(r) for r in line.results),
        "commit": _each(_commit(r) for r in line.results),
        "hardware": _each(str(r.get("hardware")) for r in line.results),
        "hours": f"{hours:.2f}",
        "identity": one.key,
        "others": others(report.table, line),
    }


def _commit(result: Mapping[str, Any]) -> str:
    return f"{str(result.get('commit') or 'no commit')[:12]}{'+changes' if result.get('dirty') else ''}"


def _each(values: Iterable[str]) -> str:
    """What the seeds' runs do not have alike, each once: no seed passes for another's commit or machine."""
    return " and ".join(dict.fromkeys(values))


def others(table: Table, line: Line) -> str:
    """The table's metrics and mechanism that have no column of their own, as people read them: `mask_AP=12.3`."""
    names = [m for m in dict.fromkeys([*table.metrics, *table.mechanism]) if m not in (*COSTS, *HEADS)]
    return " ".join(f"{m}={shown(m, line.values[m])}" for m in names if m in line.values)


def _counted_row(report: Report, line: Line) -> dict[str, str]:
    """A count has no data, protocol, seeds or hardware."""
    return {
        **dict.fromkeys(HEADS, ""),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "row": line.row.id,
        "label": line.row.label,
        "scale": report.choice.scale,
        "params_M": f"{line.cost.params:.3f}",
        "GMACs": f"{line.cost.gmacs:.3f}",
        "protocol": f"counted {' + '.join(line.row.rule) or 'everything'} at {line.cost.size}",
        "commit": f"{str(provenance.commit() or 'no commit')[:12]}{'+changes' if provenance.diff() else ''}",
    }


# --- README blocks -------------------------------------------------------------------------------------------------

HEADLINE = "headline"
"""Name of the block with one row per paper."""
_BLOCK = re.compile(r"(<!-- results:([\w/.-]+):(\w+) -->\n)(.*?)(<!-- /results -->)", re.DOTALL)


def block(name: str, scale: str) -> str:
    """Markdown of a table's published rows at a scale, beside the paper's values; `headline`: one row per paper."""
    if name == HEADLINE:
        return _headline_block(scale)
    parts: list[str] = []
    for table in find_tables(name):
        published = read_published(table, scale)
        metrics = [m for m in table.metrics if m not in COSTS]
        every = [last for found in published.values() for last in found[-1:]]
        # AP first and always; others where a row has them
        ours = [m for m in metrics if m == "AP" or any(m in further(x) for x in every)]
        ours = sorted(ours, key=lambda m: m != "AP")
        rows: list[list[str]] = []
        for row in table.rows.values():
            last = (published.get(row.id) or [{}])[-1]
            paper = row.paper
            more = further(last)
            rows.append(
                [
                    row.label,
                    *(f"{paper[m]:.1f}" if m in paper else "–" for m in metrics),
                    *(_published_ap(last) if m == "AP" else more.get(m, "–") for m in ours),
                    *_published_costs(table, row, last),
                    _state(row, last, scale),
                ]
            )
        heads = ["row", *(f"paper {m}" for m in metrics)]
        heads += [f"ours AP [95 %], scale {scale}" if m == "AP" else f"ours {m}" for m in ours]
        heads += ["GFLOPs paper / ours", "params M paper / ours", "status"]
        parts.append(markdown_table(heads, rows))
        parts += _sources(every)
        if scale != "paper" and any(r["seeds"] for r in every):
            parts.append(f"Scale {scale} is scaled down: its AP is not comparable with the paper's.")
        if any(_at_floor(r, table.main) for r in every):
            parts.append(_FLOOR_SAYS)
        parts += _settings_say(every)
    return "\n\n".join(parts) + "\n"


def _state(row: Row, last: Mapping[str, str], scale: str) -> str:
    if not row.has_network:
        return row.kind.replace("-", " ")
    if last:
        return "counted" if row.kind == "counted" else ", ".join(["measured", *set_otherwise(last)])
    return "not published" if at_scale(row, scale) else f"not run at {scale}"


def _sources(published: Sequence[Mapping[str, str]]) -> list[str]:
    """How rows were measured, one line for those that agree; where there are several, each names its rows."""
    rows: dict[str, list[str]] = {}
    for r in published:
        how = f"measured with {r['protocol']}; {r['hardware']}" if r["seeds"] else r["protocol"]
        seeds = f"; seeds: {r['seeds']}" if r["seeds"] else ""
        rows.setdefault(f"{how}; commit {r['commit']}{seeds}.", []).append(r["label"])
    if len(rows) == 1:
        return [how[0].upper() + how[1:] for how in rows]
    return [f"{'; '.join(labels)}: {how}" for how, labels in rows.items()]


def _published_ap(last: Mapping[str, str]) -> str:
    if not last.get("AP"):
        return "–"
    return f"{last['AP']} [{last['AP_low']}, {last['AP_high']}]" + (" floor" if _at_floor(last) else "")


def _at_floor(last: Mapping[str, str], main: str = "AP") -> bool:
    """Whether a published AP is too low to rank anything."""
    value = {**further(last), "AP": last.get("AP", "")}.get(main)
    return bool(value) and float(value) < 100 * FLOOR


_FLOOR_SAYS = f"floor: an AP below {100 * FLOOR:.0f} is too low to rank rows."


def _settings_say(published: Iterable[Mapping[str, str]]) -> list[str]:
    if not any(OTHER_SETTINGS in row for row in published):
        return []
    return [f"{OTHER_SETTINGS}: measured with settings that are not the row's today; run it again for today's figure."]


def _published_costs(table: Table, row: Row, last: Mapping[str, str]) -> tuple[str, str]:
    """GFLOPs and params, paper / ours; parameters in the paper's unit, which is named where it is not a million."""
    gflops = f"{row.paper['GFLOPs']:.2f}" if "GFLOPs" in row.paper else "–"
    params = f"{row.paper['params']:.1f}" if "params" in row.paper else "–"
    ours = last.get("params_M") or "–"
    if table.params_unit == "2^20" and ours != "–":
        ours = f"{float(ours) * 1e6 / 2**20:.3f} x 2^20"
    return f"{gflops} / {last.get('GMACs') or '–'}", f"{params} / {ours}"


def _headline_block(scale: str) -> str:
    """One row per paper, from the newest published row at a scale."""
    rows: list[list[str]] = []
    how: list[str] = []
    measured_rows: list[Mapping[str, str]] = []
    for table in headline_tables():
        assert table.headline is not None
        row = table.rows[table.headline.row]
        last = (read_published(table, scale).get(row.id) or [{}])[-1]
        gflops, params = _published_costs(table, row, last)
        rows.append(
            [
                table.headline.method,
                f"{row.label}, {table.source}",
                f"{row.paper['AP']:.1f}" if "AP" in row.paper else "–",
                _published_ap(last),
                params,
                gflops,
                _state(row, last, scale),
            ]
        )
        if last:
            measured_rows.append(last)
            seeds = "1 seed" if last["seeds"] == "1" else f"{last['seeds']} seeds"
            how.append(
                f"- {table.headline.method}: {last['protocol']}; {last['hardware']}; {last['hours']} h; {seeds}; "
                f"commit {last['commit']}"
            )
    heads = ["method", "row", "paper AP", f"ours AP [95 %], scale {scale}", "params M paper / ours"]
    parts = [markdown_table([*heads, "GFLOPs paper / ours", "status"], rows)]
    if how:
        parts.append("\n".join(how))
        if scale != "paper":
            text = f"Scale {scale} is scaled down: its AP is comparable neither with the paper's nor between methods"
            parts.append(f"{text}. Parameters and GFLOPs are counted at the paper's size.")
        if any(_at_floor(last) for last in measured_rows):
            parts.append(_FLOOR_SAYS)
        parts += _settings_say(measured_rows)
    return "\n\n".join(parts) + "\n"


def updated(text: str) -> str:
    """README text with every results block made anew."""
    return _BLOCK.sub(lambda m: m[1] + block(m[2], m[3]) + m[5], text)


def update_blocks(readme: Path) -> bool:
    """Rewrite the results blocks of a README from the published rows.

    Returns:
        whether anything changed.
    """
    before = readme.read_text(encoding="utf-8")
    after = updated(before)
    if after != before:
        rundir.write_text(readme, after)
    return after != before


def readme_blocks_current(readme: Path) -> bool:
    """Whether a README's results blocks are what the published rows give."""
    text = readme.read_text(encoding="utf-8")
    return updated(text) == text
