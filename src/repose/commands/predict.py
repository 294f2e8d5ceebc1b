"""`repose predict`: people in pictures, folders, videos and webcams."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from repose.config import nearest, parse_arguments, settings
from repose.errors import UserError
from repose.field.options import Options


def predict(words: list[str], as_json: bool, out: str | None, show: bool) -> int:
    """Predict, write the files, say in one line what was done.

    Args:
        words: SOURCE, then `checkpoint=FILE` and settings: those of `field.options.Options`, and the experiment's.
        as_json: print one JSON object on stdout and nothing else.
        out: folder of the files; None = predictions/<name of the source>.
        show: open a window.
    """
    source_text, options, experiment = parse(words)
    if options.checkpoint is None:
        raise UserError("predict: give checkpoint=FILE: a .ckpt, a run folder, a converted .safetensors, or an .onnx")
    from repose.engine.logging import say
    from repose.field.predict import predict as run
    from repose.field.predictor import describe, load
    from repose.field.sources import find_source

    source = find_source(source_text)
    predictor = load(
        options.checkpoint,
        *experiment,
        boxes=options.boxes,
        detector=options.detector,
        device=options.device,
        batch=options.batch,
        threads=options.threads,
    )
    say(describe(predictor))
    folder = Path(out) if out else Path("predictions") / source.name
    summary = run(predictor, source, options, folder, show)
    print(json.dumps(summary.to_json()) if as_json else summary.words(), flush=True)
    return 0


def parse(words: list[str], verb: str = "predict") -> tuple[str, Options, list[str]]:
    """The source, the settings of a prediction, and the words that are the experiment's.

    Raises:
        UserError: no source or more than one, or a setting that neither knows.
    """
    sources = [w for w in words if "=" not in w or Path(w).exists()]
    if not sources:
        raise UserError(f"{verb}: name an image, a folder, a 'glob*', a video, or a webcam's number first")
    if len(sources) > 1:
        raise UserError(f"{verb}: one source at a time, not {sources[0]!r} and {sources[1]!r}; quote a glob")
    mine = {f.name for f in dataclasses.fields(Options)}
    rest = [w for w in words if w not in sources]
    own = [w for w in rest if w.partition("=")[0].partition(".")[0] in mine]
    experiment = [w for w in rest if w not in own]
    for word in experiment:
        key = word.partition("=")[0]
        if "." not in key and (hint := nearest(key, mine, 1)):
            raise UserError(f"{verb}: unknown key {key!r}; did you mean {hint[0]!r}?")
    layer, _ = parse_arguments(own)
    options = settings(Options, layer)
    options.check()
    return sources[0], options, experiment
