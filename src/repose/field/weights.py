"""Published checkpoints into ours: names mapped, every shape checked, saved as safetensors with metadata.

A published file is read with `torch.load(weights_only=True)`, so it cannot run code. Names on the right side of a rule
are those of mmpose 1.3.2 (PINet's: of its own release); older files differ by a prefix and are accepted too.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from repose import papers
from repose.config import Loaded, load, nearest
from repose.engine.checkpoint import KEY, describe, first_mismatch, read
from repose.engine.logging import say
from repose.engine.rundir import atomic
from repose.engine.setup import build_module
from repose.errors import UserError

COUNTER = "num_batches_tracked"
"""Batch norm's step counter: absent from old files, and of no consequence in a test."""


@dataclass(frozen=True)
class Rule:
    """One group of tensors.

    Attributes:
        ours: regular expression on our names.
        theirs: replacement that gives the published name.
        shape: how their tensor becomes ours: `same`; `squeeze` drops trailing sizes of 1 (a 1x1 convolution as a linear
            layer); `transpose` swaps a matrix's two sizes.
    """

    ours: str
    theirs: str
    shape: Literal["same", "squeeze", "transpose"] = "same"


@dataclass(frozen=True)
class Published:
    """A published model that can be converted.

    Attributes:
        experiment: ours that has its network and protocol.
        rules: the first that matches one of our names gives the published name.
        settings: legacy switches that its weights were trained with, as `key=value`.
        bare: whether files without the prefixes `backbone.` and `head.` (the method's own repository) are the same
            network on the same input; else why not.
        source: what its file is called, and where it is published.
    """

    experiment: str
    rules: tuple[Rule, ...]
    source: str
    settings: tuple[str, ...] = ()
    bare: Literal[True] | str = True


_HEATMAP = (
    Rule(r"net\.backbone\.body\.", "backbone."),
    Rule(r"net\.deconv\.", "head.deconv_layers."),
    Rule(r"net\.last\.", "head.final_layer."),
)
_PINET = (
    Rule(r"net\.backbone\.body\.", "backbone."),
    Rule(r"net\.ppg\.heat\.", "ppg.heatmap_head."),
    Rule(r"net\.ppg\.part\.", "ppg.detkptmap_head."),
    Rule(r"net\.ppg\.offset\.", "ppg.offset_head."),
    Rule(r"net\.pr\.graph_KK$", "pr.adj"),
    Rule(r"net\.pr\.first\.(weight|bias)$", r"pr.gconv_head.conv.\1"),
    Rule(r"net\.pr\.first\.bn\.", "pr.gconv_head.bn."),
    Rule(r"net\.pr\.blocks\.(\d+)\.unit(\d)\.(weight|bias)$", r"pr.gconv_layers.\1.gconv\2.conv.\3"),
    Rule(r"net\.pr\.blocks\.(\d+)\.unit(\d)\.bn\.", r"pr.gconv_layers.\1.gconv\2.bn."),
    Rule(r"net\.pr\.fc1\.", "pr.gconv_pred.0.", "squeeze"),
    Rule(r"net\.pr\.bn\.", "pr.gconv_pred.1."),
    Rule(r"net\.pr\.fc2\.", "pr.gconv_pred.3.", "squeeze"),
)
_RTMPOSE = (
    *(Rule(rf"net\.backbone\.body\.model\.stages\.{i}\.", f"backbone.stage{i + 1}.") for i in range(4)),
    Rule(r"net\.backbone\.body\.model\.", "backbone."),
    Rule(r"net\.head\.conv\.", "head.final_layer."),
    Rule(r"net\.head\.norm\.", "head.mlp.0."),
    Rule(r"net\.head\.fc\.", "head.mlp.1."),
    Rule(r"net\.head\.gau\.norm\.", "head.gau.ln."),
    Rule(r"net\.head\.gau\.out\.", "head.gau.o."),
    Rule(r"net\.head\.gau\.residual$", "head.gau.res_scale.scale"),
    Rule(r"net\.head\.gau\.", "head.gau."),
    Rule(r"net\.head\.([xy])\.", r"head.cls_\1."),
)
_PINET_SETTINGS = ("model.refine.legacy_grid_sample=true",)

MODELS: dict[str, Published] = {
    "pinet-ochuman": Published(
        "pinet/ochuman",
        _PINET,
        "ochuman/checkpoint.pth.tar (PINet's release)",
        _PINET_SETTINGS,
        bare="not a file of PINet",
    ),
    "pinet-crowdpose": Published(
        "pinet/crowdpose",
        _PINET,
        "crowdpose/checkpoint.pth.tar (PINet's release)",
        _PINET_SETTINGS,
        bare="not a file of PINet",
    ),
    "hrnet-w32": Published(
        "baselines/hrnet-w32",
        _HEATMAP,
        "td-hm_hrnet-w32_8xb64-210e_coco-256x192-*.pth or hrnet_w32_coco_256x192-*.pth (mmpose), "
        "pose_hrnet_w32_256x192.pth (HRNet's authors)",
    ),
    "simplebaseline-r50": Published(
        "baselines/simplebaseline-r50",
        _HEATMAP,
        "td-hm_res50_8xb64-210e_coco-256x192-*.pth (mmpose)",
        bare="the authors' own ResNet files expect BGR pictures; use mmpose's file",
    ),
    **{
        f"rtmpose-{size}": Published(
            f"baselines/rtmpose-{size}",
            _RTMPOSE,
            f"rtmpose-{long}_simcc-*_420e-256x192-*.pth (mmpose)",
            bare="not a file of mmpose",
        )
        for size, long in {"t": "tiny", "s": "s", "m": "m", "l": "l"}.items()
    },
}
"""Name on the command line -> model."""


def model_named(name: str) -> Published:
    """The published model of that name.

    Raises:
        UserError: no such model; names the nearest.
    """
    if name in MODELS:
        return MODELS[name]
    hint = nearest(name, MODELS)
    raise UserError(
        f"model={name}: no such published model; "
        + (f"did you mean {hint[0]!r}?" if hint else f"there are: {', '.join(MODELS)}")
    )


def convert_file(path: Path, model: str, out: Path | None = None) -> Path:
    """Convert a published checkpoint and write it as safetensors.

    Args:
        path: the downloaded file (.pth, .pt, .tar, .safetensors).
        model: key of `MODELS`.
        out: file to write; None = the same name with the ending .safetensors, beside it.

    Returns:
        the file that was written.

    Raises:
        UserError: an unknown model, an unreadable file, or one that does not fit: names the first tensor and both
            shapes.
    """
    published = model_named(model)
    out = out or _default_out(path)
    if out.suffix != ".safetensors":
        raise UserError(f"--out {out}: weights are written as safetensors; name it {out.with_suffix('.safetensors')}")
    if out.resolve() == path.resolve():
        raise UserError(f"--out {out}: that is the published file itself; give another name")
    their_state = read_published(path)
    loaded = experiment_of(published)
    state = convert(their_state, published, loaded, str(path))
    from safetensors.torch import save_file

    note = {
        **describe(loaded.cfg),
        "epoch": 0,
        "step": 0,
        "samples": 0,
        "accumulate": 1,
        "world": 1,
        "metrics": {},
        "weights": "published",
        "published": {
            "model": model,
            "experiment": published.experiment,
            "settings": list(published.settings),
            "source": path.name,
            "source_sha256": sha256(path),
        },
    }
    with atomic(out) as part:
        save_file(state, part, metadata={KEY: json.dumps(note)})  # one entry: with more their order is random
    count = sum(t.numel() for n, t in state.items() if not re.search(r"running_(mean|var)$|" + COUNTER, n))
    say(f"{out}: {len(state)} tensors, {count / 1e6:.3f} M parameters of {model}, all fit {published.experiment}")
    return out


def _default_out(path: Path) -> Path:
    out = path.with_suffix(".safetensors")
    return path.with_name(f"{path.stem}-repose.safetensors") if out == path else out


def experiment_of(published: Published) -> Loaded:
    """Our experiment with the model's network, protocol and legacy switches."""
    return load(published.experiment, published.settings, find_paper=papers.get)


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- reading -------------------------------------------------------------------------------------------------------


def read_published(path: Path) -> dict[str, Tensor]:
    """Tensors of a published checkpoint, by its names.

    Raises:
        UserError: missing, damaged, already converted, or holding Python objects besides tensors and plain values.
    """
    # mmpose's files hold their data set's description, with numpy arrays in it: plain values, but refused by default
    with torch.serialization.safe_globals(_numpy_names()):
        found = read(path)
    if KEY in found:
        raise UserError(f"{path}: a file of repose already; use it as checkpoint={path} or init={path}")
    inner = found.get("state_dict", found.get("model", found))
    state = {n: t for n, t in inner.items() if isinstance(t, Tensor)} if isinstance(inner, Mapping) else {}
    if not state:
        raise UserError(f"{path}: holds no tensors (its keys: {', '.join(map(str, list(found)[:5])) or 'none'})")
    return state


def _numpy_names() -> list[Any]:
    """What pickled numpy arrays and numbers name; old files name numpy's modules of version 1."""
    dtypes: list[Any] = [type(np.dtype(t)) for t in ("f4", "f8", "i4", "i8", "u1", "?", "U1", "O")]
    core: Any = np.ndarray((1,), np.float32).__reduce__()[0]
    scalar: Any = np.float64(0).__reduce__()[0]
    old = [(core, "numpy.core.multiarray._reconstruct"), (scalar, "numpy.core.multiarray.scalar")]
    return [np.ndarray, np.dtype, core, scalar, *old, *dtypes]


# --- converting ----------------------------------------------------------------------------------------------------


def convert(theirs: Mapping[str, Tensor], published: Published, loaded: Loaded, path: str) -> dict[str, Tensor]:
    """A published state dict with our names and shapes.

    Args:
        theirs: published name -> tensor.
        published: the model.
        loaded: `experiment_of(published)`.
        path: of the file, for errors.

    Raises:
        UserError: the first name and shape that differ.
    """
    with torch.device("meta"):
        here = build_module(loaded).state_dict()
    there = _full_names(theirs, published, path)
    wanted: dict[str, tuple[str, Rule, Tensor]] = {}  # published name -> our name, rule, and a tensor of their shape
    for name, tensor in here.items():
        rule = next((r for r in published.rules if re.match(r.ours, name)), None)
        if rule is None:
            raise KeyError(f"no rule of {published.experiment} names {name}")
        wanted[re.sub(rule.ours, rule.theirs, name, count=1)] = (name, rule, tensor)
    for name, (_, _, tensor) in wanted.items():
        if name.endswith(COUNTER):
            there.setdefault(name, torch.zeros((), dtype=tensor.dtype))
    fitting = {n: _as_ours(there[n], rule) if n in there else None for n, (_, rule, _) in wanted.items()}
    compared = {n: t for n, t in fitting.items() if t is not None} | {n: t for n, t in there.items() if n not in wanted}
    if wrong := first_mismatch({n: t for n, (_, _, t) in wanted.items()}, compared):
        raise UserError(
            f"{path}: not the model that was named: {wrong} (here = {published.experiment}, there = the file)"
        )
    return {ours: fitting[n].to(t.dtype).contiguous().clone() for n, (ours, _, t) in wanted.items()}  # type: ignore[union-attr]


def _as_ours(tensor: Tensor, rule: Rule) -> Tensor:
    if rule.shape == "transpose" and tensor.ndim == 2:
        return tensor.T
    if rule.shape == "squeeze":
        while tensor.ndim > 1 and tensor.shape[-1] == 1:
            tensor = tensor.squeeze(-1)
    return tensor


def _full_names(theirs: Mapping[str, Tensor], published: Published, path: str) -> dict[str, Tensor]:
    """Published names as mmpose 1.3.2 writes them, whichever code base saved the file."""
    # DataParallel's prefix; mmpose 0.x's name of the head; buffers of mmpose's input normalisation
    there = {re.sub(r"^module\.", "", n): t for n, t in theirs.items() if not n.startswith("data_preprocessor.")}
    there = {re.sub(r"^keypoint_head\.", "head.", n): t for n, t in there.items()}
    if any(n.startswith("backbone.") for n in there) or not any(n.startswith("layer1.") for n in there):
        return there
    if published.bare is not True:
        raise UserError(f"{path}: {published.bare}")
    head = ("final_layer.", "deconv_layers.")
    return {f"head.{n}" if n.startswith(head) else f"backbone.{n}": t for n, t in there.items()}
