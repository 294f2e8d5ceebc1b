"""Grouping vectors by distance: greedy leader clustering.

Shapes: P vectors of D numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor


def leader_clusters(vector_PD: Tensor, radius: float) -> Tensor:
    """Cluster of each vector, numbered in the order in which they were found (identity vectors, spec 5.3).

    The first free vector leads: the mean of the free vectors nearer than `radius` to it becomes the centre, and the
    free vectors nearer than that to the centre, and the leader itself, are the cluster (one mean-shift step).

    The search goes from cluster to cluster, each step a handful of operations over all vectors; it runs on the CPU,
    where a few hundred vectors are at home and no step waits for a device.

    Args:
        vector_PD: vectors, those that lead first.
        radius: Euclidean distance.

    Returns:
        (P,) int64.
    """
    vector = vector_PD.detach().float().cpu()
    label_P = torch.full((len(vector),), -1, dtype=torch.int64)
    free_P = label_P < 0
    square = radius * radius
    cluster = 0
    leader = 0
    while leader < len(vector):
        near_P = free_P & (_square_distance(vector, vector[leader]) < square)
        near_P[leader] = True  # a radius of 0 still ends
        centre_D = near_P.float() @ vector / near_P.sum()
        member_P = free_P & (_square_distance(vector, centre_D) < square)
        member_P[leader] = True
        label_P.masked_fill_(member_P, cluster)
        free_P &= ~member_P
        cluster += 1
        if not bool(free_P.any()):
            break
        leader = int(free_P.byte().argmax())
    return label_P.to(vector_PD.device)


def _square_distance(vector_PD: Tensor, point_D: Tensor) -> Tensor:
    return (vector_PD - point_D).square_().sum(1)
