"""Settings of `repose export`. Each field's docstring reads `[unit] text | source`. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from repose.errors import UserError


@dataclass(frozen=True)
class ExportOptions:
    """`repose export`."""

    checkpoint: str | None = None
    """[file or run folder] a checkpoint of any method, or converted published weights"""
    format: Literal["onnx", "onnx-int8"] = "onnx"
    """onnx = float32; onnx-int8 = its convolutions in 8 bits, by ONNX Runtime | DRP-Net §3.4, Table 4"""
    crops: int = 300
    """[crops or images] of the checkpoint's training data that int8 is calibrated with | DRP-Net spec. 6: 300 to 500"""
    calibration: Literal["minmax", "percentile"] = "minmax"
    """range of activations: of all values, or of 99.999 % of them | DRP-Net spec. 6"""
    ap: bool = True
    """int8: evaluate the network and its file on the same data (data.limit_val=100 takes a hundred images)"""

    def check(self) -> None:
        """Refuse numbers that mean nothing.

        Raises:
            UserError: names the first.
        """
        if self.crops < 1:
            raise UserError(f"crops={self.crops}: give a whole number from 1 on")
