"""The command line: `repose VERB ...`, also `python -m repose VERB ...`.

Settings are `key=value` without dashes, so that a sweep's agent, a shell and a SLURM array write the same line.
Every verb imports what it needs when it runs: `--help` imports nothing heavy.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from repose.errors import UserError


@dataclass(frozen=True)
class Verb:
    """A word of the command line.

    Attributes:
        usage: what follows the word.
        text: one line for `--help`.
        flags: option strings with their help; a value is taken where the help starts with `=`.
        run: gets the positional words and the flags.
    """

    usage: str
    text: str
    flags: dict[str, str]
    run: Callable[[list[str], argparse.Namespace], int]


def _train(words: list[str], flags: argparse.Namespace) -> int:
    from repose.commands import runs

    return runs.train(words, dry_run=flags.dry_run)


def _test(words: list[str], flags: argparse.Namespace) -> int:
    from repose.commands import runs

    return runs.test(words, as_json=flags.json)


def _predict(words: list[str], flags: argparse.Namespace) -> int:
    from repose.commands import predict

    return predict.predict(words, as_json=flags.json, out=flags.out, show=flags.show)


def _show(words: list[str], flags: argparse.Namespace) -> int:
    from repose.commands import show

    return show.show(words, as_json=flags.json)


def _cost(words: list[str], flags: argparse.Namespace) -> int:
    from repose.commands import cost

    return cost.cost(words, as_json=flags.json)


def _data(words: list[str], flags: argparse.Namespace) -> int:
    from repose.commands import data

    return data.data(words, as_json=flags.json, out=flags.out, part=flags.part, yes=flags.yes)


def _bench(words: list[str], flags: argparse.Namespace) -> int:
    from repose.commands import bench

    return bench.bench(words, as_json=flags.json)


def _doctor(words: list[str], flags: argparse.Namespace) -> int:
    from repose.commands import doctor

    return doctor.doctor(words, as_json=flags.json)


def _export(words: list[str], flags: argparse.Namespace) -> int:
    from repose.commands import export

    return export.export(words, as_json=flags.json, out=flags.out)


def _table(words: list[str], flags: argparse.Namespace) -> int:
    from repose.tables import cli

    return cli.table(words, flags)


def _reproduce(words: list[str], flags: argparse.Namespace) -> int:
    from repose.tables import reproduce

    return reproduce.reproduce(words, flags)


def _report(words: list[str], flags: argparse.Namespace) -> int:
    from repose.tables import page

    return page.report(words, flags)


def _sweep(words: list[str], flags: argparse.Namespace) -> int:
    from repose.tables import cli

    return cli.sweep(words, flags)


def _runs(words: list[str], flags: argparse.Namespace) -> int:
    from repose.commands import runlist

    return runlist.runs(words, as_json=flags.json)


def _diff(words: list[str], flags: argparse.Namespace) -> int:
    from repose.commands import diff

    return diff.diff(words, as_json=flags.json, out=flags.out)


def _new(words: list[str], flags: argparse.Namespace) -> int:
    from repose.commands import new

    return new.new(words, source=getattr(flags, "from"), package=flags.package)


def _compare(words: list[str], flags: argparse.Namespace) -> int:
    from repose.commands import compare

    return compare.compare(words, images=flags.images, as_json=flags.json, out=flags.out)


def _weights(words: list[str], flags: argparse.Namespace) -> int:
    from repose.commands import weights

    return weights.weights(words, out=flags.out)


def _figures(words: list[str], flags: argparse.Namespace) -> int:
    from repose.commands import pictures

    return pictures.figures(words, out=flags.out)


def _demo(words: list[str], flags: argparse.Namespace) -> int:
    from repose.commands import pictures

    return pictures.demo(words, out=flags.out)


_JSON = {"--json": "print one JSON object on stdout and nothing else"}
_OUT = {"--out": "=FOLDER where the pictures go"}

VERBS: dict[str, Verb] = {
    "train": Verb(
        "EXPERIMENT [key=value ...]",
        "train an experiment and evaluate it",
        {"--dry-run": "resolve, build, print parameters, GMACs and steps; touch nothing"},
        _train,
    ),
    "test": Verb(
        "[EXPERIMENT] checkpoint=RUN | predictions=FILE [key=value ...]",
        "evaluate a run or score predictions",
        _JSON,
        _test,
    ),
    "predict": Verb(
        "SOURCE checkpoint=FILE [boxes=full_frame|detector|FILE track.interval=5 smooth.preset=seconds key=value ...]",
        "people in pictures, folders, globs, videos and webcams: annotated pictures or video, COCO JSON, CSV, masks",
        {
            **_JSON,
            "--out": "=FOLDER of the files; without it predictions/<name of SOURCE>",
            "--show": "open a window, where there is a display",
        },
        _predict,
    ),
    "export": Verb(
        "checkpoint=RUN [format=onnx|onnx-int8 crops=300 calibration=minmax ap=true key=value ...]",
        "the network as an ONNX file, compared with torch; int8 with its AP before and after",
        {**_JSON, "--out": "=FILE what to write, an .onnx; without it beside the checkpoint"},
        _export,
    ),
    "table": Verb(
        "[PAPER/TABLE] [scale=mini data=synthetic seeds=1 key=value ...]",
        "a table of a paper: the paper's numbers beside the measured ones",
        {
            **_JSON,
            "--run": "train and test what is missing",
            "--plan": "print rows, reuse, hours and missing data, run nothing",
            "--gpus": "=LIST one row per GPU, for example 0-3 or 0,2",
            "--jobs": "=N runs at a time (without it: one per core at mini, else one)",
            "--index": "=I run only the i-th training of the table (a SLURM array task)",
            "--add": "=KEY=VALUE,... train one more row of your own",
            "--publish": "append this machine's results to experiments/<paper>/results/",
        },
        _table,
    ),
    "reproduce": Verb(
        "[scale=mini data=synthetic seeds=1 key=value ...]",
        "the papers' headline tables: run what is missing, then README block and HTML page; stop and repeat it at will",
        {
            "--all": "every table and figure, not the headline tables alone",
            "--plan": "print what would run and how long it takes, run nothing",
            "--gpus": "=LIST one row per GPU, for example 0-3 or 0,2",
            "--jobs": "=N rows at a time on CPUs; without it one per core",
            "--publish": "append this machine's results to experiments/<paper>/results/",
            "--out": "=FILE of the page; without it runs/report.html",
        },
        _reproduce,
    ),
    "report": Verb(
        "[PAPER|PAPER/TABLE ...] [scale=mini data=synthetic seeds=1 key=value ...]",
        "every table as one HTML page that opens from disk: values, costs, plots, joints, curves, pictures, provenance",
        {
            "--out": "=FILE of the page; without it runs/report.html",
            "--picture": "=FILE draw one image through the headline networks, for the page and as a file",
            "--image": "=ID which image, of the validation set; without it one with many people",
        },
        _report,
    ),
    "sweep": Verb(
        "FILE [key=value ...]",
        "run a W&B sweep file locally, in W&B's order",
        {
            **_JSON,
            "--jobs": "=N runs at a time",
            "--index": "=I run only the i-th cell (a SLURM array task)",
            "--dry-run": "print the command lines",
        },
        _sweep,
    ),
    "runs": Verb(
        "[FOLDER] [paper=P experiment=E table=T state=S scale=S 'AP>0.3' key=value ... sort=-AP]",
        "the runs that exist, their state and numbers, filtered and sorted",
        _JSON,
        _runs,
    ),
    "diff": Verb(
        "RUN RUN [images=20 resamples=1000 runs=FOLDER]",
        "two runs: config, code, numbers with intervals, and the images that changed most",
        {**_JSON, **_OUT},
        _diff,
    ),
    "compare": Verb(
        "EXPERIMENT|RUN|CHECKPOINT ... --images FILES [data=NAME scale=S runs=FOLDER]",
        "the same photographs through several trained networks, side by side",
        {**_JSON, **_OUT, "--images": "=WHAT photographs, a folder, a 'glob*' or image ids (785,1296) of the data set"},
        _compare,
    ),
    "new": Verb(
        "NAME --from PAPER|EXPERIMENT [class=Name]",
        "a method of your own that starts as a copy of another: code, experiments, tests",
        {"--from": "=PAPER what it starts from", "--package": "=FOLDER make an installable package of its own there"},
        _new,
    ),
    "show": Verb(
        "EXPERIMENT [key=value ...]", "every setting with value, unit, origin and paper section", _JSON, _show
    ),
    "cost": Verb("EXPERIMENT [key=value ...]", "parameters and GMACs per module", _JSON, _cost),
    "data": Verb(
        "synthesize|check|preview|cache EXPERIMENT|data=NAME [key=value ...], fetch NAME, convert FILE",
        "draw, validate, look at, cache, download or convert a data set",
        {
            **_JSON,
            **_OUT,
            "--part": "=PART fetch only annotations, boxes, images (coco also: test-images)",
            "--yes": "fetch, after the plan with size and terms was read",
        },
        _data,
    ),
    "bench": Verb(
        "data [EXPERIMENT] | decode EXPERIMENT [people=30] | train EXPERIMENT|table=NAME [batch=64 steps=20 warm=5] | "
        "inference EXPERIMENT|table=NAME [images=100 warm=50 fixed=true] | latency EXPERIMENT|table=NAME "
        "[runs=200 warm=20 runtimes=torch,onnx,onnx-int8 detector=NAME] | "
        "video [VIDEO] checkpoint=FILE [intervals=[1,2,5,10] frames=100], and key=value ...",
        "speed of the data pipeline, from maps to people, of training steps, of inference in torch and ONNX, of video",
        _JSON,
        _bench,
    ),
    "doctor": Verb("", "versions, hardware and a self-test, each line ok or what to do", _JSON, _doctor),
    "weights": Verb(
        "FILE model=NAME",
        "convert a published checkpoint into ours; without words, list the models",
        {"--out": "=FILE what to write, a .safetensors"},
        _weights,
    ),
    "figures": Verb(
        "[NOTEBOOK ...] [checkpoint=RUN] [data=NAME] [ids=1,2]", "the notebooks' figures as PNG and PDF", _OUT, _figures
    ),
    "demo": Verb("", "a picture and a tiny table within a minute", _OUT, _demo),
}


def _overview() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {name:<{width}}  {verb.text}" for name, verb in VERBS.items())
    return f"""usage: repose VERB ...

{verbs}

Settings are key=value without dashes: repose train drpnet/m data=coco-lite scale=lite optim.base_lr=1e-3
`repose VERB --help` says more; `repose show drpnet/m` lists every key."""


def _verb_help(name: str, verb: Verb) -> str:
    rows = [
        (f"{flag} {text[1:].split()[0] if text.startswith('=') else ''}".strip(), text)
        for flag, text in verb.flags.items()
    ]
    width = max((len(flag) for flag, _ in rows), default=0)
    lines = [f"  {flag:<{width}}  {' '.join(t.split()[1:]) if t.startswith('=') else t}" for flag, t in rows]
    return "\n".join([f"usage: repose {name} {verb.usage}".rstrip(), "", verb.text, "", *lines]).rstrip()


def _split(name: str, verb: Verb, argv: Sequence[str]) -> tuple[list[str], argparse.Namespace]:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for flag, text in verb.flags.items():
        if text.startswith("="):
            parser.add_argument(flag, default=None)
        else:
            parser.add_argument(flag, action="store_true")
    try:
        flags, rest = parser.parse_known_args(list(argv))
    except argparse.ArgumentError as error:
        raise UserError(f"{name}: {error}") from None
    for word in rest:
        if word.startswith("-"):
            known = ", ".join(verb.flags) or "none"
            fix = f"settings are written without dashes: {word.lstrip('-')}" if "=" in word else f"its options: {known}"
            raise UserError(f"{name}: unknown option {word!r}; {fix}")
    return rest, flags


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line.

    Args:
        argv: words after `repose`; None takes the process's own.

    Returns:
        exit status: 0 done, 1 something failed (a row, a doctor's line), 2 a mistake in the input, 130 interrupted.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        if not argv or argv[0] in ("-h", "--help", "help"):
            print(_overview())
            return 0
        if argv[0] == "--version":
            from repose import __version__

            print(f"repose {__version__}")
            return 0
        name, *rest = argv
        if name not in VERBS:
            import difflib

            hint = difflib.get_close_matches(name, VERBS, n=1)
            raise UserError(
                f"unknown verb {name!r}; "
                + (f"did you mean {hint[0]!r}?" if hint else f"there are: {', '.join(VERBS)}")
            )
        verb = VERBS[name]
        if "-h" in rest or "--help" in rest:
            print(_verb_help(name, verb))
            return 0
        return verb.run(*_split(name, verb, rest))
    except UserError as error:
        print(f"repose: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("repose: interrupted; what was finished is kept", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0


if __name__ == "__main__":
    sys.exit(main())
