"""Small layers that several papers use."""

from __future__ import annotations

from torch import nn


class ConvBN(nn.Sequential):
    """Convolution without bias, then batch norm; no activation. Keeps the size (odd kernels)."""

    def __init__(self, c_in: int, c_out: int, kernel: int = 1) -> None:
        super().__init__(
            nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(c_out),
        )


def init_relu_conv(conv: nn.Conv2d) -> None:
    """He's normal initialisation (fan-in) for a convolution that a ReLU follows; bias 0."""
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
