"""Graph convolution over joints.

Shapes: N poses, K joints, C channels.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def skeleton_graph(k: int, edges: Iterable[tuple[int, int]]) -> Tensor:
    """Normalised adjacency D^-1/2 A D^-1/2 with A = I + edges in both directions, (K, K); largest eigenvalue 1."""
    adjacency_KK = torch.eye(k)
    for i, j in edges:
        adjacency_KK[i, j] = adjacency_KK[j, i] = 1
    root_K = adjacency_KK.sum(1).rsqrt()
    return root_K[:, None] * adjacency_KK * root_K


class GraphUnit(nn.Module):
    """ReLU(BN(G X W + b)), with batch norm over poses and joints (PINet §3.3, Eq. 9; the release's layer)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, width))
        self.bias = nn.Parameter(torch.empty(width))
        self.bn = nn.BatchNorm1d(width)
        nn.init.xavier_uniform_(self.weight, gain=2**0.5)
        nn.init.uniform_(self.bias, -(width**-0.5), width**-0.5)

    def forward(self, x_NKC: Tensor, graph_KK: Tensor) -> Tensor:
        """Same shape."""
        n, k, c = x_NKC.shape
        mixed_KNC = (graph_KK @ x_NKC.transpose(0, 1).reshape(k, n * c)).view(k, n, c)  # one product for all poses
        y_NKC = mixed_KNC.transpose(0, 1) @ self.weight + self.bias
        return F.relu(self.bn(y_NKC.flatten(0, 1))).view_as(x_NKC)
