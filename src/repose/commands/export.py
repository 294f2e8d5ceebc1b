"""`repose export`: a checkpoint's network as an ONNX file, in float32 or int8."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from repose.config import nearest, parse_arguments, settings
from repose.errors import UserError
from repose.field.export_options import ExportOptions

if TYPE_CHECKING:
    from repose.field.export import Report


def export(words: list[str], as_json: bool, out: str | None) -> int:
    """Export a network and say how equal it is.

    Args:
        words: `checkpoint=FILE`, settings of `ExportOptions`, and the experiment's.
        as_json: print one JSON object on stdout and nothing else.
        out: the file.

    Returns:
        0; 1 where the file's outputs differ from torch's.
    """
    options, experiment = parse(words)
    from repose.field.export import export_checkpoint

    report = export_checkpoint(options, experiment, Path(out) if out else None)
    print(json.dumps(report.to_json()) if as_json else render(report))
    return 0 if report.equal else 1


def parse(words: list[str]) -> tuple[ExportOptions, list[str]]:
    """The settings of the export, and the words that are the experiment's.

    Raises:
        UserError: no checkpoint, or a setting that neither knows.
    """
    mine = {f.name for f in dataclasses.fields(ExportOptions)}
    if bare := [w for w in words if "=" not in w]:
        raise UserError(f"export: settings are key=value, not {bare[0]!r}; give checkpoint={bare[0]}")
    own = [w for w in words if w.partition("=")[0] in mine]
    experiment = [w for w in words if w not in own]
    for word in experiment:
        key = word.partition("=")[0]
        if "." not in key and key != "data" and (hint := nearest(key, mine, 1)):
            raise UserError(f"export: unknown key {key!r}; did you mean {hint[0]!r}?")
    layer, _ = parse_arguments(own)
    options = settings(ExportOptions, layer)
    options.check()
    if options.checkpoint is None:
        raise UserError("export: give checkpoint=FILE (a run folder, a .ckpt, or a converted .safetensors)")
    return options, experiment


def render(report: Report) -> str:
    """The report for people."""
    from repose.field.export import OPSET, TOLERANCE

    parity = ", ".join(f"{difference:.1e} at batch {b}" for b, difference in report.parity.items())
    verdict = "equal" if report.equal else "NOT EQUAL"
    lines = [
        f"{report.path}: {report.form}, {report.size_mb:.1f} MB, ONNX opset {OPSET}",
        f"float32 file against torch: largest difference {parity}: {verdict} (limit {TOLERANCE:g})",
    ]
    if report.crops:
        smaller = report.size_fp32_mb / report.size_mb
        lines.append(
            f"int8: convolutions, per channel, calibrated with {report.crops} training samples; "
            f"{report.size_fp32_mb:.1f} -> {report.size_mb:.1f} MB ({smaller:.1f} times smaller)"
        )
    if report.ap:
        before, after = report.ap["torch"], report.ap[report.form]
        each = ", ".join(f"{name} {100 * ap:.1f}" for name, ap in report.ap.items())
        lines.append(f"AP on {report.data}: {each}; int8 changes it by {100 * (after - before):+.1f}")
    lines.append(f"use it: repose predict SOURCE checkpoint={report.path}")
    return "\n".join(lines)
