"""`repose weights`: published checkpoints into ours."""

from __future__ import annotations

from pathlib import Path

from repose.config import parse_arguments
from repose.errors import UserError


def weights(words: list[str], out: str | None) -> int:
    """Convert a published checkpoint; without words list the models that can be.

    Args:
        words: FILE and `model=NAME`.
        out: file to write.

    Raises:
        UserError: no file or model, or the file does not fit.
    """
    from repose.field.weights import MODELS, convert_file

    if not words:
        for name, published in MODELS.items():
            print(f"{name:<20} {published.source}")
        return 0
    files = [w for w in words if "=" not in w]
    line, overlays = parse_arguments([w for w in words if "=" in w])
    model = line.values.pop("model", None)
    if unknown := [*line.values, *overlays]:
        raise UserError(f"weights: unknown setting {unknown[0]!r}; give a FILE and model=NAME")
    if len(files) != 1:
        raise UserError("weights: give one FILE and model=NAME; `repose weights` lists the models")
    if not isinstance(model, str):
        raise UserError(f"weights: which model is {files[0]}? give model={'|'.join(MODELS)}")
    written = convert_file(Path(files[0]), model, Path(out) if out else None)
    published = MODELS[model]
    print("evaluate it:", " ".join(["repose test", published.experiment, *published.settings, f"checkpoint={written}"]))
    return 0
