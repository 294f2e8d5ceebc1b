"""The frame that lengths are stated in, and the graph of joints: what targets and decoding share.

Shapes: K joints, M directed edges.
"""

from __future__ import annotations

from dataclasses import dataclass

from repose.errors import UserError
from repose.papers.kdc.config import Model
from repose.skeleton import Skeleton

SIDE = 400.0
"""[px] U: extent of the 401x401 frame, and unit of the embedding."""


@dataclass(frozen=True)
class Frame:
    """Lengths in input pixels, and the graph.

    Attributes:
        unit: input pixels per px of the 401x401 frame.
        radius: R, input pixels.
        k: number of joints.
        edge_M2: directed edges (from, to); edge e + M / 2 is edge e the other way.
        high_variance_K: which joints PGO calls HVK.
        flip_K: joint of the mirrored person.
    """

    unit: float
    radius: float
    k: int
    edge_M2: tuple[tuple[int, int], ...]
    high_variance_K: tuple[bool, ...]
    flip_K: tuple[int, ...]

    @staticmethod
    def of(model: Model, input_size: tuple[int, int], skeleton: Skeleton) -> Frame:
        """The frame of an experiment.

        Args:
            model: radius and graph.
            input_size: height and width of the network input, pixels.
            skeleton: joints, and the groups `kdc_full`, `kdc_tree` (pairs of joints in a row) and `kdc_high_variance`.

        Raises:
            UserError: the skeleton has no edges, or lacks `kdc_tree`.
        """
        unit = (max(input_size) - 1) / SIDE
        pairs = edges(model, skeleton)
        high = {skeleton.index(j) for j in skeleton.groups.get("kdc_high_variance", [])}
        return Frame(
            unit=unit,
            radius=model.radius * unit,
            k=skeleton.k,
            edge_M2=(*pairs, *((b, a) for a, b in pairs)),
            high_variance_K=tuple(k in high for k in range(skeleton.k)),
            flip_K=skeleton.flip_index,
        )

    @property
    def m(self) -> int:
        """Number of directed edges."""
        return len(self.edge_M2)

    @property
    def span(self) -> float:
        """U in input pixels: embeddings are in units of it."""
        return SIDE * self.unit

    def flip_M(self) -> tuple[int, ...]:
        """Directed edge of the mirrored person.

        Raises:
            UserError: the graph is not its own mirror image.
        """
        place = {edge: e for e, edge in enumerate(self.edge_M2)}
        mirrored = [(self.flip_K[a], self.flip_K[b]) for a, b in self.edge_M2]
        if any(edge not in place for edge in mirrored):
            raise UserError("test.flip: the skeleton's edges are not left-right symmetric; set test.flip=false")
        return tuple(place[edge] for edge in mirrored)


def edges(model: Model, skeleton: Skeleton) -> tuple[tuple[int, int], ...]:
    """Undirected edges of the graph (KDC §3.4 "pose kinematic graph").

    Differs from the paper: it gives none. `full` has COCO's tree of PersonLab and four cross edges, so that a joint
    that is missing does not split the person.
    """
    if model.graph == "limbs" or (model.graph == "full" and "kdc_full" not in skeleton.groups):
        pairs = skeleton.limb_index
    else:
        joints = skeleton.group(f"kdc_{model.graph}", "model.graph=" + model.graph)
        pairs = tuple(zip(joints[::2], joints[1::2], strict=True))
    if not pairs:
        raise UserError(f"skeleton {skeleton.name!r} has no limbs: KDC follows them from joint to joint; list `limbs`")
    return pairs
