"""`repose export`: a trained network as one ONNX file that carries its experiment; and the network of such a file.

The file holds what the method's network computes (`engine.graph.Graph`) and a note under the key `repose`: the config,
the joints, the protocol and how pictures are normalised. Views, flip test and decoding stay in torch, so
`open_exported` gives a module that is used like any other. Differs from the paper: DRP-Net names no tool for INT8;
this is ONNX Runtime's static quantisation of convolutions (QDQ, per channel), calibrated with the checkpoint's own
training data.
"""

# onnx and onnxruntime have no types.
# pyright: reportMissingTypeStubs=false, reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from repose.commands.bench_decode import some_people
from repose.config import Loaded, identity, leaves, to_dict
from repose.data.datamodule import PoseDataModule
from repose.engine import checkpoint as ckpt
from repose.engine.evaluation import Evaluator, Scores
from repose.engine.graph import IMAGE, Graph, Stage
from repose.engine.layout import plan
from repose.engine.logging import say
from repose.engine.module import MEAN, STD, PoseModule
from repose.engine.rundir import atomic
from repose.engine.setup import build_data, build_module, build_trainer
from repose.errors import UserError
from repose.field.export_options import ExportOptions
from repose.field.model import Opened, open_checkpoint, saved_experiment
from repose.field.onnx_session import Device, Session, open_session, require_onnxruntime
from repose.types import Batch

OPSET = 20
"""ONNX operators: 20 has deformable convolution (DEKR's) and is read by onnxruntime from 1.17 on."""
TOLERANCE = 1e-3
"""Largest difference between the file's outputs and torch's that counts as equal (DRP-Net spec. 9)."""
BATCHES = (1, 5)
"""Batch sizes at which they are compared."""
_CONVOLUTIONS = ["Conv"]
"""What int8 quantises: coordinates would lose up to 0.2 cells in 8 bits, for a millisecond (DRP-Net spec. 6)."""


@dataclass(frozen=True)
class Report:
    """What an export did.

    Attributes:
        path: the file.
        form: onnx or onnx-int8.
        size_mb: of the file, 1e6 bytes.
        parity: batch size -> largest difference of the float32 file's outputs from torch's.
        crops: int8 was calibrated with so many; 0 for float32.
        ap: `torch`, `onnx` and `onnx-int8` -> AP on the same data; {} where it was not evaluated.
        data: name and number of evaluated images.
        size_fp32_mb: of the float32 file.
    """

    path: Path
    form: str
    size_mb: float
    parity: dict[int, float]
    crops: int
    ap: dict[str, float]
    data: str
    size_fp32_mb: float

    @property
    def equal(self) -> bool:
        """Whether the float32 file computes what torch does."""
        return max(self.parity.values()) <= TOLERANCE

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            **dataclasses.asdict(self),
            "path": str(self.path),
            "parity": {str(b): difference for b, difference in self.parity.items()},
            "tolerance": TOLERANCE,
            "equal": self.equal,
        }


# --- writing -------------------------------------------------------------------------------------------------------


def export(opened: Opened, options: ExportOptions, out: Path | None = None) -> Report:
    """Write a checkpoint's network as ONNX, compare it with torch, and for int8 evaluate both.

    Args:
        opened: the checkpoint.
        options: format and calibration.
        out: the file; None = beside the checkpoint.

    Raises:
        UserError: the method's network is not one graph; packages or data are missing.
    """
    if opened.path.suffix == ".onnx":
        raise UserError(f"checkpoint={opened.path}: exported already; give the checkpoint it was made of")
    require_packages()
    int8 = options.format == "onnx-int8"
    out = out or opened.path.with_name(f"{opened.path.stem}{'-int8' if int8 else ''}.onnx")
    if out.suffix != ".onnx":
        raise UserError(f"--out {out}: an ONNX file's name ends in .onnx")
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.onnx"
        write_onnx(opened.module, plain, {**note(opened), "format": "onnx"})
        parity = compare(opened.module, plain)
        size_fp32 = plain.stat().st_size
        made, used, ap, data = plain, 0, {}, ""
        if int8:
            made = Path(folder) / "int8.onnx"
            batches = list(calibration(opened.loaded, options.crops))
            used = len(batches)
            quantise(opened.module, plain, made, batches, options.calibration)
            if options.ap:
                ap, data = _accuracy(opened, {"onnx": plain, "onnx-int8": made})
        with atomic(out) as part:
            part.write_bytes(made.read_bytes())
    return Report(out, options.format, out.stat().st_size / 1e6, parity, used, ap, data, size_fp32 / 1e6)


def require_packages() -> None:
    """Refuse where the optional packages are not installed."""
    require_onnxruntime()
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"export needs onnx and onnxscript ({error.name} is missing); install them with: "
            "pip install 'repose[export]'"
        ) from None
    del onnx


def note(opened: Opened) -> dict[str, Any]:
    """What the file says of itself: a checkpoint's note, the protocol, and the checkpoint it was made of."""
    cfg = opened.loaded.cfg
    graph = opened.module.graph()
    with opened.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        **ckpt.describe(cfg),
        "protocol": {
            "input_size": list(cfg.data.input_size),
            "view": cfg.data.view,
            "flip": cfg.test.flip,
            "data": cfg.data.name,
            "mean_rgb": list(MEAN),
            "std_rgb": list(STD),
            "colours": "RGB, 0 to 255, minus mean_rgb, over std_rgb",
        },
        "network": {"inputs": list(graph.inputs), "outputs": list(graph.outputs)},
        "source": opened.path.name,
        "source_sha256": digest,
        "identity": identity(cfg),
    }


def write_onnx(module: PoseModule, path: Path, about: Mapping[str, Any]) -> None:
    """Write a network's graph; batch (and in the image view height and width) stay free.

    Args:
        module: in evaluation mode.
        path: the file.
        about: the note.

    Raises:
        UserError: it is not one graph, or torch cannot translate it.
    """
    import onnx

    graph = module.graph().eval()
    needed = [p for p in graph.parameters() if p.requires_grad]
    inputs = sample_inputs(module, graph, 2)
    shapes = {name: _free(module, graph, name) for name in graph.inputs}
    with torch.no_grad(), _quiet(), _frozen(needed):
        try:
            program = torch.onnx.export(
                graph,
                tuple(inputs.values()),
                dynamo=True,
                opset_version=OPSET,
                external_data=False,  # onnxruntime's quantisation cannot read a second file
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                dynamic_shapes=shapes,
                verbose=False,
            )
        except Exception as error:  # the exporter's errors share no base class
            raise UserError(f"{module.cfg.paper}: torch cannot export this network: {_reason(error)}") from error
    assert program is not None
    proto = program.model_proto
    proto.metadata_props.append(onnx.StringStringEntryProto(key=ckpt.KEY, value=json.dumps(dict(about))))
    onnx.save(proto, path)


def _free(module: PoseModule, graph: Graph, name: str) -> dict[int, Any]:
    dim = torch.export.Dim
    if name != IMAGE:
        return {axis: dim(word) for axis, word in graph.lists[name].items()}
    if module.cfg.data.view == "person":
        return {0: dim("batch")}
    return {0: dim("batch"), 2: dim.AUTO, 3: dim.AUTO}


@contextmanager
def _frozen(parameters: Sequence[Tensor]) -> Iterator[None]:
    """Without gradients: some operations have another form for training, which ONNX lacks."""
    for p in parameters:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in parameters:
            p.requires_grad_(True)


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter talks of its own operators and of renamed dimensions."""
    noisy = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    before = [logger.level for logger in noisy]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in noisy:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(noisy, before, strict=True):
                logger.setLevel(level)


def _reason(error: BaseException) -> str:
    """The innermost cause in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {ckpt.first_line(error)}"


def sample_inputs(module: PoseModule, graph: Graph, b: int, seed: int = 0) -> dict[str, Tensor]:
    """Inputs of a graph for images of noise with two people each."""
    plain = some_people(2 * b, module.skeleton, module.cfg.data.input_size, seed)
    draws = torch.Generator().manual_seed(seed)
    size = (b, *plain.image_B3HW.shape[1:])
    people = dataclasses.replace(plain.people, owner_N=torch.arange(2 * b) // 2)
    image = torch.randint(0, 256, size, generator=draws, dtype=torch.uint8)
    return graph_inputs(module, graph, dataclasses.replace(plain, image_B3HW=image, people=people))


def graph_inputs(module: PoseModule, graph: Graph, batch: Batch) -> dict[str, Tensor]:
    """Inputs of a graph for a batch."""
    return {IMAGE: module.normalise(batch.image_B3HW), **graph.further(batch)}


def compare(module: PoseModule, path: Path) -> dict[int, float]:
    """Largest difference of a file's outputs from torch's, by batch size (`BATCHES`)."""
    graph, session = module.graph().eval(), open_session(path, "cpu")
    found: dict[int, float] = {}
    for b in BATCHES:
        inputs = sample_inputs(module, graph, b, seed=b)
        with torch.no_grad():
            wanted = graph(*inputs.values())
        given = session.run({name: _array(value) for name, value in inputs.items()})
        worst = [float(np.abs(a - w.numpy()).max()) for a, w in zip(given, wanted, strict=True) if a.size]
        found[b] = max(worst)
    return found


def _array(value: Tensor) -> np.ndarray:
    return value.detach().cpu().contiguous().numpy()


# --- int8 ----------------------------------------------------------------------------------------------------------


def calibration(loaded: Loaded, crops: int) -> Iterator[Batch]:
    """Training samples without augmentation, spread over the training data.

    Raises:
        UserError: the data are not here.
    """
    cfg = loaded.cfg
    data = PoseDataModule(dataclasses.replace(cfg, data=dataclasses.replace(cfg.data, workers=0)))
    data.prepare_data()
    data.setup("fit")
    train = data.train_set
    assert train is not None
    for i in np.unique(np.linspace(0, len(train) - 1, min(crops, len(train))).round().astype(int)).tolist():
        yield train.sample(i, augment=False)


def quantise(module: PoseModule, plain: Path, out: Path, batches: Iterable[Batch], how: str = "minmax") -> None:
    """Convolutions in 8 bits: weights per channel (int8), activations by what calibration sees (uint8).

    Args:
        module: the network, for the graph's inputs.
        plain: its float32 file.
        out: the int8 file; it gets the note of `plain`.
        batches: to calibrate with.
        how: minmax or percentile.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType
    from onnxruntime.quantization import quantize_static as static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    graph = module.graph().eval()

    class Reader(CalibrationDataReader):
        """Hands out the batches one by one."""

        def __init__(self) -> None:
            self.left = iter(batches)

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.left, None)
            if batch is None:
                return None
            return {name: _array(value) for name, value in graph_inputs(module, graph, batch).items()}

    with _quiet(), _root_quiet():
        prepared = out.with_name("prepared.onnx")
        quant_pre_process(str(plain), str(prepared), skip_symbolic_shape=True)
        static(
            str(prepared),
            str(out),
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=_CONVOLUTIONS,
            calibrate_method=CalibrationMethod.Percentile if how == "percentile" else CalibrationMethod.MinMax,
        )
    proto = onnx.load(out)
    about = {**read_note(open_session(plain, "cpu")), "format": "onnx-int8"}
    del proto.metadata_props[:]
    proto.metadata_props.append(onnx.StringStringEntryProto(key=ckpt.KEY, value=json.dumps(about)))
    onnx.save(proto, out)


@contextmanager
def _root_quiet() -> Iterator[None]:
    """Quantisation advises on its own preprocessing by the root logger."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)


# --- accuracy ------------------------------------------------------------------------------------------------------


def _accuracy(opened: Opened, files: Mapping[str, Path]) -> tuple[dict[str, float], str]:
    """AP of torch and of files on the evaluated images, and which they are."""
    scores = {"torch": evaluate(opened.loaded, opened.module)}
    for name, path in files.items():
        scores[name] = evaluate(opened.loaded, open_exported(path, device=torch.device("cpu")).module)
    cfg = opened.loaded.cfg
    limit = f", first {cfg.data.limit_val} images" if cfg.data.limit_val else ""
    return {name: s.metrics["AP"] for name, s in scores.items()}, f"{cfg.data.name}{limit}"


def evaluate(loaded: Loaded, module: PoseModule) -> Scores:
    """The evaluation of `repose test`, on the CPU in float32."""
    cfg = loaded.cfg
    train = dataclasses.replace(cfg.train, accelerator="cpu", devices=1, nodes=1, precision="32")
    cfg = dataclasses.replace(cfg, train=train)
    layout = plan(cfg.train, testing=True)
    data = build_data(cfg, layout)
    evaluator = Evaluator(cfg, cfg.joint_set())
    data.prepare_data()
    with tempfile.TemporaryDirectory() as folder:
        build_trainer(cfg, layout, Path(folder), [evaluator]).test(module, datamodule=data, verbose=False)
    assert evaluator.scores is not None
    return evaluator.scores


# --- reading -------------------------------------------------------------------------------------------------------


def open_exported(
    name: str | Path,
    words: Iterable[str] = (),
    device: torch.device | None = None,
    threads: int | None = None,
) -> Opened:
    """The network of an exported file, ready for a test: its experiment, with the file in the network's place.

    Args:
        name: a file of `repose export`.
        words: `key=value` settings on top (`test.flip=false`); none that change the network.
        device: where the rest runs; None = CPU. onnxruntime follows it where it has CUDA.
        threads: of onnxruntime on the CPU; None = its choice.

    Raises:
        UserError: another model's file, an unknown method or skeleton, a setting that the file does not fit.
    """
    path = Path(name)
    session = open_session(path, _device(device), threads)
    about = read_note(session)
    loaded = saved_experiment(about, path, words)
    _refuse_other_network(saved_experiment(about, path), loaded, path)
    with torch.device("meta"):  # its weights are in the file
        module = build_module(loaded)
    graph = module.graph().eval()
    here, there = (
        [list(graph.inputs), list(graph.outputs)],
        [[p.name for p in s] for s in (session.inputs, session.outputs)],
    )
    if here != there:
        raise UserError(f"{path}: holds outputs {', '.join(there[1])}, these settings need {', '.join(here[1])}")
    _refuse_other_size(session, loaded, path)
    module.net = graph.stand_in(File(session, graph.stages, threads))
    module.to_empty(device="cpu")
    for buffer, values in (("mean_133", MEAN), ("std_133", STD)):
        module.register_buffer(buffer, torch.tensor(values).view(3, 1, 1), persistent=False)
    module.to("cpu")  # Lightning notes the device in `to` alone
    return Opened(path, loaded, module.eval())


def read_note(session: Session) -> dict[str, Any]:
    """What an exported file says of itself.

    Raises:
        UserError: it is another model's.
    """
    try:
        about = json.loads(session.metadata[ckpt.KEY])
    except (KeyError, ValueError):
        takes = ", ".join(p.words() for p in session.inputs)
        raise UserError(
            f"{session.path}: an ONNX file of another model (no note of repose; it takes {takes}); "
            "`repose export checkpoint=FILE` writes ours"
        ) from None
    if not isinstance(about, dict) or "config" not in about:
        raise UserError(f"{session.path}: its note of repose is damaged; export it again")
    return about


def _refuse_other_network(saved: Loaded, wanted: Loaded, path: Path) -> None:
    there, here = (dict(leaves(to_dict(loaded.cfg.model))) for loaded in (saved, wanted))
    for key in here.keys() | there.keys():
        if here.get(key) != there.get(key):
            raise UserError(
                f"{path}: its network has model.{key}={there.get(key)}, not {here.get(key)}; export such a checkpoint"
            )


def _refuse_other_size(session: Session, loaded: Loaded, path: Path) -> None:
    height, width = loaded.cfg.data.input_size
    fixed = session.inputs[0].shape[2:]
    if any(size is not None and size != wanted for size, wanted in zip(fixed, (height, width), strict=True)):
        has = "x".join(map(str, fixed))
        raise UserError(f"{path}: made for inputs of {has}, not data.input_size={height}x{width}; export it anew")


def _device(device: torch.device | None) -> Device:
    if device is None or device.type != "cuda":
        return "cpu"
    if "CUDAExecutionProvider" not in require_onnxruntime().get_available_providers():
        say("this onnxruntime has no CUDA: the network runs on the CPU (onnxruntime-gpu would use the GPU)")
        return "cpu"
    return "cuda"


class File:
    """Runs the stages of an exported file on tensors (`engine.graph.Run`)."""

    def __init__(self, session: Session, stages: Mapping[str, Stage], threads: int | None) -> None:
        """Args: session: the whole file; stages: its parts, cut out when first used."""
        self._session, self._stages, self._threads = session, stages, threads
        self._opened: dict[str, Session] = {}

    def __call__(self, stage: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Outputs of a stage, on the inputs' device."""
        session = self._opened.get(stage) or self._open(stage)
        device = next(iter(inputs.values())).device
        found = session.run({port.name: _array(inputs[port.name]) for port in session.inputs})
        return {p.name: torch.from_numpy(a).to(device) for p, a in zip(session.outputs, found, strict=True)}

    def _open(self, name: str) -> Session:
        stage, whole = self._stages[name], self._session
        if stage.inputs == tuple(p.name for p in whole.inputs) and stage.outputs == tuple(
            p.name for p in whole.outputs
        ):
            session = whole
        else:
            with tempfile.TemporaryDirectory() as folder:
                part = Path(folder) / f"{name}.onnx"
                cut(whole.path, part, stage)
                session = open_session(part, "cuda" if whole.device == "cuda" else "cpu", self._threads)
        self._opened[name] = session
        return session


def cut(path: Path, out: Path, stage: Stage) -> None:
    """Write the part of a file that leads from some of its tensors to others.

    Args:
        path: an exported file, whose inputs and outputs name the tensors.
        out: what to write.
        stage: the part; inputs that it does not need are left out.

    Raises:
        UserError: onnx is not installed; the outputs need more than these inputs.
    """
    try:
        import onnx
    except ImportError:
        raise UserError(
            f"{path}: this method's file is run in parts, which needs onnx; pip install 'repose[export]'"
        ) from None
    model = onnx.load(path)
    graph = model.graph
    made_by = {name: node for node in graph.node for name in node.output}
    constants = {tensor.name for tensor in graph.initializer}
    ports = {port.name: port for port in (*graph.input, *graph.output)}
    todo, needed, used = list(stage.outputs), set[str](), set[str]()
    while todo:
        name = todo.pop()
        if name in needed or not name:
            continue
        needed.add(name)
        if name in stage.inputs or name in constants:
            used.add(name)
            continue
        if name not in made_by:
            raise UserError(f"{path}: {', '.join(stage.outputs)} cannot be computed from {', '.join(stage.inputs)}")
        todo += _reads(made_by[name])
    nodes = [n for n in graph.node if any(o in needed and o not in stage.inputs for o in n.output)]
    part = onnx.helper.make_graph(
        nodes,
        graph.name,
        [ports[name] for name in stage.inputs if name in used],
        [ports[name] for name in stage.outputs],
        [tensor for tensor in graph.initializer if tensor.name in used],
    )
    made = onnx.helper.make_model(part, opset_imports=model.opset_import, functions=model.functions)
    made.ir_version = model.ir_version
    onnx.save(made, out)


def _reads(node: Any) -> list[str]:
    """Names that a node reads, those of its inner graphs too."""
    names = list(node.input)
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs):
            made = {name for n in inner.node for name in n.output} | {t.name for t in inner.initializer}
            names += [name for n in inner.node for name in _reads(n) if name not in made]
    return names


# --- a network in another form -------------------------------------------------------------------------------------


def deployed(loaded: Loaded) -> Callable[[PoseModule, Path], PoseModule]:
    """What `test.runtime` asks for: from the trained module to the one whose network is the file `network.onnx`.

    Args:
        loaded: the experiment; int8 is calibrated with its training data.
    """
    runtime = loaded.cfg.test.runtime

    def make(module: PoseModule, folder: Path) -> PoseModule:
        require_packages()
        about = {**ckpt.describe(loaded.cfg), "format": runtime}
        path = folder / "network.onnx"
        with tempfile.TemporaryDirectory() as temporary:
            plain, int8 = Path(temporary) / "plain.onnx", Path(temporary) / "int8.onnx"
            write_onnx(module.eval(), plain, about)
            if runtime == "onnx-int8":
                quantise(module, plain, int8, list(calibration(loaded, ExportOptions().crops)))
            with atomic(path) as part:
                part.write_bytes((int8 if runtime == "onnx-int8" else plain).read_bytes())
        return open_exported(path).module

    return make


def export_checkpoint(options: ExportOptions, words: Sequence[str], out: Path | None) -> Report:
    """Export by the command line's words."""
    assert options.checkpoint is not None
    return export(open_checkpoint(options.checkpoint, words), options, out)
