"""The walk of PoseSeg on the CPU: peaks in falling order start people, who are followed along the graph (KDC §3.4).

A few hundred tiny steps whose order matters: Python and numpy on the host, on copies of the raw maps that are read at
single points. Positions are (x, y) in input pixels.

Shapes: N people, K joints, M directed edges, C channels, H W cells.
"""

from __future__ import annotations

from heapq import heappop, heappush

import numpy as np
import torch
from torch import Tensor

from repose.ops.readers import MapReader
from repose.papers.kdc.config import Decode, Model
from repose.papers.kdc.frame import Frame
from repose.papers.kdc.model import Outputs

_HALF = 0.5
"""Share of the best confidence from which a keypoint is high-confidence, and phi above which embeddings agree."""


class Peaks:
    """Peaks of one joint type, and whether a person has taken them.

    Attributes:
        position_P2: input pixels.
        height_P: in the Hough map.
        value_PC: the maps at their places.
        free_P: not taken yet.
    """

    def __init__(self, position_P2: np.ndarray, height_P: np.ndarray, value_PC: np.ndarray) -> None:
        self.position_P2, self.height_P, self.value_PC = position_P2, height_P, value_PC
        self.free_P = np.ones(len(height_P), bool)
        self._place_P = position_P2[:, 0] + 1j * position_P2[:, 1]  # moved to infinity when taken

    def take(self, p: int) -> None:
        """Peak p belongs to somebody now."""
        self.free_P[p] = False
        self._place_P[p] = np.inf

    def nearest(self, x: float, y: float, reach: float) -> int | None:
        """The nearest free peak within reach; None without one."""
        if not len(self._place_P):
            return None
        distance = np.abs(self._place_P - complex(x, y))
        best = int(distance.argmin())
        return best if distance[best] <= reach else None


class Reader(MapReader):
    """The raw maps of one image, and which channels are whose.

    Channels: K heatmap logits, 2 K KeyCentroid, 2 M mid-range, 2 embedding, 1 bandwidth.

    Attributes:
        kc: first channel of the KeyCentroids; equal to `mid` without that head.
        mid: of the mid-range vectors.
        embed: of the embedding.
        bandwidth: of log beta.
        attention_K: a_k of `center_mode=keypoint`.
    """

    def __init__(self, outputs: Outputs, image: int, stride: int) -> None:
        maps = [outputs.heatmap_BKHW, outputs.keycentroid_BJHW, outputs.midrange_BEHW]
        maps += [outputs.embed_B2HW, outputs.bandwidth_B1HW]
        super().__init__(torch.cat([m[image].float() for m in maps]), stride)
        starts = np.cumsum([0, *(m.shape[1] for m in maps)]).tolist()
        self.kc, self.mid, self.embed, self.bandwidth = starts[1:5]
        self.attention_K: np.ndarray = outputs.attention_K.detach().double().cpu().numpy()


def sigmoid(logit: np.ndarray) -> np.ndarray:
    """Probability of a logit, without overflow."""
    return np.exp(-np.logaddexp(0, -logit))


def group(
    channel_P: Tensor, position_P2: Tensor, height_P: Tensor, reader: Reader, frame: Frame, model: Model, cfg: Decode
) -> np.ndarray:
    """People from peaks.

    Args:
        channel_P: joint type of each peak.
        position_P2: its place.
        height_P: its height in the Hough map: the queue's order.
        reader: of the image's maps.
        frame: lengths and graph.
        model: `grouping`, `use_kc`.
        cfg: settings.

    Returns:
        (N, K, 3) x, y, confidence; in the order they were found.
    """
    channel = channel_P.cpu().numpy()
    position = position_P2.double().cpu().numpy()
    height = height_P.double().cpu().numpy()
    value = reader.many(position)
    members = [np.flatnonzero(channel == k) for k in range(frame.k)]
    queue = [Peaks(position[m], height[m], value[m]) for m in members]
    place = np.zeros(len(channel), np.int64)
    for m in members:
        place[m] = np.arange(len(m))
    reach = cfg.nms_radius * frame.unit
    walk = (
        _Midrange(queue, reader, frame, model, cfg)
        if model.grouping == "midrange"
        else _Embedding(queue, reader, frame)
    )
    people = np.zeros((0, frame.k, 3))
    for p in np.argsort(-height, kind="stable").tolist():
        k, own = int(channel[p]), int(place[p])
        if not queue[k].free_P[own]:
            continue
        near_N = ((people[:, k, :2] - position[p]) ** 2).sum(-1) <= reach * reach
        if (near_N & (people[:, k, 2] > 0)).any():  # a joint that was not found lies anywhere
            continue
        queue[k].take(own)
        people = np.concatenate([people, walk(k, own)[None]])
    return people


class _Midrange:
    """Follows the mid-range vectors from a peak, most certain joint first; match or propose.

    A proposal takes the nearest free peak, and stands as it is where there is none (`strict` drops it).
    """

    def __init__(self, queue: list[Peaks], reader: Reader, frame: Frame, model: Model, cfg: Decode) -> None:
        self.queue, self.reader, self.frame, self.cfg = queue, reader, frame, cfg
        self.steps = cfg.refine_steps if model.use_kc else 0
        self.match = cfg.match_radius * frame.unit * (2 if cfg.strict else 1)
        self.edges: list[list[tuple[int, int]]] = [[] for _ in range(frame.k)]
        for e, (a, b) in enumerate(frame.edge_M2):
            self.edges[a].append((reader.mid + 2 * e, b))

    def __call__(self, seed: int, own: int) -> np.ndarray:
        """The person of the seed's peak, (K, 3)."""
        person = np.full((self.frame.k, 3), np.nan)
        read: dict[int, np.ndarray] = {}
        heap: list[tuple[float, int]] = []

        def settle(v: int, x: float, y: float, value_C: np.ndarray) -> None:
            read[v] = value_C
            confidence = float(sigmoid(value_C[v]))
            person[v] = x, y, confidence
            heappush(heap, (-confidence, v))

        peaks = self.queue[seed]
        settle(seed, peaks.position_P2[own, 0], peaks.position_P2[own, 1], peaks.value_PC[own])
        radius, reader = self.frame.radius, self.reader
        while heap:
            _, u = heappop(heap)
            for at, v in self.edges[u]:
                if v in read:
                    continue
                x = float(person[u, 0] + radius * read[u][at])
                y = float(person[u, 1] + radius * read[u][at + 1])
                for _ in range(self.steps):
                    logit, dx, dy = reader.pick(x, y, (v, reader.kc + 2 * v, reader.kc + 2 * v + 1))
                    if logit <= 0:  # p_v at most 1/2: not on a disk
                        break
                    x, y = x + radius * dx, y + radius * dy
                peaks = self.queue[v]
                found = peaks.nearest(x, y, self.match)
                if found is not None:
                    peaks.take(found)
                    settle(v, peaks.position_P2[found, 0], peaks.position_P2[found, 1], peaks.value_PC[found])
                elif not self.cfg.strict:
                    settle(v, x, y, reader.at(x, y))
        return _filled(person)


class _Embedding:
    """In the graph's order, takes the free peak of each type that fits best (highest H * phi, phi > 1/2)."""

    def __init__(self, queue: list[Peaks], reader: Reader, frame: Frame) -> None:
        self.queue, self.reader, self.frame = queue, reader, frame

    def __call__(self, seed: int, own: int) -> np.ndarray:
        """The person of the seed's peak, (K, 3)."""
        person = np.full((self.frame.k, 3), np.nan)
        peaks = self.queue[seed]
        value = peaks.value_PC[own]
        person[seed] = *peaks.position_P2[own], sigmoid(value[seed])
        centre = _embedded(peaks.position_P2[own : own + 1], value[None], self.reader, self.frame)[0]
        beta, weight = np.exp(value[self.reader.bandwidth]), person[seed, 2]
        for v in _order(seed, self.frame):
            peaks = self.queue[v]
            if not peaks.free_P.any():
                continue
            e = _embedded(peaks.position_P2, peaks.value_PC, self.reader, self.frame)
            phi = np.exp(-beta * ((e - centre) ** 2).sum(-1)) * peaks.free_P
            best = int(np.where(phi > _HALF, peaks.height_P * phi, -1.0).argmax())
            if phi[best] <= _HALF:
                continue
            peaks.take(best)
            person[v] = *peaks.position_P2[best], sigmoid(peaks.value_PC[best, v])
            centre = (centre * weight + e[best] * person[v, 2]) / (weight + person[v, 2])
            weight += person[v, 2]
        return _filled(person)


def _order(seed: int, frame: Frame) -> list[int]:
    """Joints breadth-first from the seed along the graph; unreachable ones last."""
    found = [seed]
    for u in found:
        found += sorted({b for a, b in frame.edge_M2 if a == u} - set(found))
    return found[1:] + [k for k in range(frame.k) if k not in found]


def _embedded(point_N2: np.ndarray, value_NC: np.ndarray, reader: Reader, frame: Frame) -> np.ndarray:
    """Embeddings e = p / U + v at points, (N, 2)."""
    return point_N2 / frame.span + value_NC[:, reader.embed : reader.embed + 2]


def _filled(person_K3: np.ndarray) -> np.ndarray:
    """Joints that were not found lie at the mean of the others, with confidence 0."""
    lost = np.isnan(person_K3[:, 2])
    person_K3[lost] = 0.0
    person_K3[lost, :2] = person_K3[~lost, :2].mean(0)
    return person_K3


def score(people_NK3: np.ndarray, frame: Frame, cfg: Decode) -> tuple[np.ndarray, np.ndarray]:
    """People best first, and their scores: mean confidence of the joints that no better person has (PersonLab).

    Better is a higher mean confidence; two people have a joint in common within `nms_radius`.
    """
    people = people_NK3[np.argsort(-people_NK3[..., 2].mean(1), kind="stable")]
    reach = cfg.nms_radius * frame.unit
    square_NNK = ((people[:, None, :, :2] - people[None, :, :, :2]) ** 2).sum(-1)
    better_NN = np.tri(len(people), k=-1, dtype=bool)
    found_NK = people[..., 2] > 0  # the others lie anywhere
    taken_NK = ((square_NNK <= reach * reach) & better_NN[..., None] & found_NK).any(1)
    score_N = (people[..., 2] * ~taken_NK).mean(1)
    order = np.argsort(-score_N, kind="stable")[: cfg.max_people]
    order = order[score_N[order] >= cfg.min_score]
    return people[order], score_N[order]


def centroids(people_NK3: np.ndarray, reader: Reader, frame: Frame, model: Model) -> tuple[np.ndarray, np.ndarray]:
    """MaskCentroids from high-confidence keypoints: Eq. 7 on their embeddings (KDC §3.3, "keypoints as centroids").

    The high-confidence keypoint whose embedding most others share is the medoid; those within its phi > 1/2 give the
    centre and the bandwidth, weighted by confidence. With `center_mode=keypoint` the centre is, as in training, the
    mean of the keypoints themselves, weighted by softmax(a_k + log p_k).

    Returns:
        (N, 2) centres in units of U, and (N,) beta = 1 / (2 sigma^2).
    """
    n, k = people_NK3.shape[:2]
    point = people_NK3[..., :2].reshape(-1, 2)
    value = reader.many(point)
    b_NK = value[:, reader.bandwidth].reshape(n, k)
    c_NK = people_NK3[..., 2]
    if model.center_mode == "keypoint":
        e_NK2, weight_NK = people_NK3[..., :2] / frame.span, c_NK * np.exp(reader.attention_K)
    else:
        e_NK2 = _embedded(point, value, reader, frame).reshape(n, k, 2)
        c_NK = c_NK * (c_NK >= _HALF * c_NK.max(1, keepdims=True))
        square_NKK = ((e_NK2[:, :, None] - e_NK2[:, None]) ** 2).sum(-1)
        phi_NKK = np.exp(-np.exp(b_NK)[..., None] * square_NKK)
        medoid_N = (c_NK * (c_NK[:, None] * phi_NKK).sum(-1)).argmax(1)
        weight_NK = c_NK * (phi_NKK[np.arange(n), medoid_N] > _HALF)
    weight_NK = weight_NK / np.maximum(weight_NK.sum(1, keepdims=True), 1e-12)
    return (weight_NK[..., None] * e_NK2).sum(1), np.exp((weight_NK * b_NK).sum(1))
