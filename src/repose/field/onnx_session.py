"""The door to onnxruntime: an ONNX file opened as a session, with one clear line for everything that can be wrong.

onnxruntime is optional (`pip install 'repose[export]'`) and imported when a file is opened.
"""

# onnxruntime has no types.
# pyright: reportMissingTypeStubs=false, reportMissingImports=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from repose.errors import UserError

Device = Literal["auto", "cpu", "cuda"]
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


@dataclass(frozen=True)
class Port:
    """An input or output of a network.

    Attributes:
        name: as in the file.
        shape: sizes; None where it is free.
        dtype: onnxruntime's word, `tensor(float)` say.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str

    def words(self) -> str:
        """`images (n, 3, 256, 192)`."""
        return f"{self.name} ({', '.join('n' if size is None else str(size) for size in self.shape)})"


class Session:
    """An opened ONNX file.

    Attributes:
        path: the file.
        inputs: what it takes, in order.
        outputs: what it gives, in order.
        metadata: the file's own notes.
        device: `cpu` or `cuda`: where it runs.
    """

    def __init__(self, path: Path, session: Any, device: str) -> None:
        """Args: see `open_session`, which makes it."""
        self.path = path
        self.device = device
        self._session = session
        self.inputs = _ports(session.get_inputs())
        self.outputs = _ports(session.get_outputs())
        self.metadata: dict[str, str] = dict(session.get_modelmeta().custom_metadata_map)

    def run(self, inputs: np.ndarray | Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """All outputs, in the file's order.

        Args:
            inputs: one array for a network of one input, else arrays by name.

        Raises:
            UserError: onnxruntime refuses them (a shape that the file does not take).
        """
        feed = {self.inputs[0].name: inputs} if isinstance(inputs, np.ndarray) else dict(inputs)
        try:
            return self._session.run(None, feed)
        except Exception as error:  # onnxruntime's exceptions share no base class of its own
            given = ", ".join(f"{name} {array.shape}" for name, array in feed.items())
            takes = ", ".join(port.words() for port in self.inputs)
            raise UserError(f"{self.path}: cannot run on {given}; it takes {takes} ({_first_line(error)})") from None


def open_session(path: Path, device: Device = "auto", threads: int | None = None) -> Session:
    """Open an ONNX file.

    Args:
        path: the file.
        device: auto = CUDA where this onnxruntime has it.
        threads: of the CPU; None = onnxruntime's choice.

    Raises:
        UserError: onnxruntime is missing, there is no such file, it is damaged or of a newer ONNX than onnxruntime
            reads, or CUDA is asked for and absent.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such ONNX file")
    runtime = require_onnxruntime()
    there = runtime.get_available_providers()
    if device == "auto":
        device = "cuda" if _PROVIDERS["cuda"] in there else "cpu"
    if _PROVIDERS[device] not in there:
        raise UserError(
            f"device={device}: this onnxruntime has {_shown(there)}; install onnxruntime-gpu in its place, "
            "or use device=cpu"
        )
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors alone; its warnings are about optimisations
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    wanted = [_PROVIDERS[device]] + ([_PROVIDERS["cpu"]] if device != "cpu" else [])
    try:
        session = runtime.InferenceSession(str(path), options, providers=wanted)
    except Exception as error:  # as above
        raise UserError(f"{path}: not an ONNX file that onnxruntime can open ({_first_line(error)})") from None
    if _PROVIDERS[device] not in session.get_providers():  # it falls back to the CPU where CUDA's libraries are absent
        raise UserError(
            f"device={device}: onnxruntime could not start it (missing CUDA or cuDNN libraries?); use device=cpu"
        )
    return Session(path, session, device)


def require_onnxruntime() -> Any:
    """The module `onnxruntime`.

    Raises:
        UserError: it is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(
            f"ONNX files need onnxruntime ({error.name} is missing); install it with: pip install 'repose[export]'"
        ) from None
    return onnxruntime


def _ports(arguments: Sequence[Any]) -> tuple[Port, ...]:
    return tuple(
        Port(a.name, tuple(size if isinstance(size, int) else None for size in a.shape), a.type) for a in arguments
    )


def _shown(providers: Sequence[str]) -> str:
    return ", ".join(name.removesuffix("ExecutionProvider") for name in providers)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
