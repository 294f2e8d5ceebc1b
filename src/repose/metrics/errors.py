"""Where the error lies: per-joint similarity, and its kinds after Ronchi and Perona (ICCV 2017).

Each labelled joint of a matched person is the first of these that holds: good (keypoint similarity at least 0.85 to its
own joint), jitter (at least 0.5), inversion (at least 0.5 to the mirrored joint of the same person), swap (at least 0.5
to that joint, or its mirror, of another person), miss. Shapes: N poses, M people of one image, K joints.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from repose.metrics.keypoint_ap import complete
from repose.ops.oks import keypoint_similarity, oks
from repose.skeleton import Skeleton

KINDS: Final = ("good", "jitter", "inversion", "swap", "miss")
_GOOD: Final = 0.85
_NEAR: Final = 0.5
"""Keypoint similarity of Ronchi and Perona's classes."""
_MATCH: Final = 0.1
"""OKS that a pose needs to belong to a person at all (theirs)."""


class Matched(NamedTuple):
    """The people of an image and the poses that are theirs.

    Attributes:
        image_id: of the image.
        pose_NK3: poses that count, best score first.
        score_N: their scores.
        gt_MK3: labelled people, no crowd.
        area_M: their OKS areas, pixels^2.
        oks_NM: similarity of each pose with each person.
        pairs: (pose, person) that belong together.
    """

    image_id: int
    pose_NK3: Tensor
    score_N: Tensor
    gt_MK3: Tensor
    area_M: Tensor
    oks_NM: Tensor
    pairs: list[tuple[int, int]]

    def oks_M(self) -> Tensor:
        """OKS of each person's pose, (M,); 0 for people without one."""
        found_M = torch.zeros(len(self.area_M), dtype=torch.float64)
        for n, m in self.pairs:
            found_M[m] = self.oks_NM[n, m]
        return found_M

    def similarity_MK(self, sigmas: tuple[float, ...]) -> Tensor:
        """Similarity of each labelled joint to its person's pose, (M, K); 0 for joints without label or pose."""
        found_MK = torch.zeros(self.gt_MK3.shape[:2], dtype=torch.float64)
        for n, m in self.pairs:
            gt_1K3 = self.gt_MK3[m : m + 1]
            own_1K = keypoint_similarity(self.pose_NK3[n, :, :2], gt_1K3[..., :2], self.area_M[m : m + 1], sigmas)
            found_MK[m] = own_1K[0] * (gt_1K3[0, :, 2] > 0)
        return found_MK


def matches(
    results: Sequence[Mapping[str, Any]], ground_truth: Mapping[str, Any], skeleton: Skeleton, max_people: int = 20
) -> Iterator[Matched]:
    """Each image with labelled people: every pose, best score first, takes the free person it is most similar to.

    Args: as in `analyse`.
    """
    truth: dict[int, list[Mapping[str, Any]]] = {}
    for number, bare in enumerate(ground_truth["annotations"], 1):
        annotation = complete(bare, number, skeleton.k)
        if annotation["num_keypoints"] and not annotation["iscrowd"]:
            truth.setdefault(int(annotation["image_id"]), []).append(annotation)
    poses: dict[int, list[Mapping[str, Any]]] = {}
    for result in sorted(results, key=lambda r: -float(r["score"])):
        poses.setdefault(int(result["image_id"]), []).append(result)
    for image, people in truth.items():
        found = poses.get(image, [])[:max_people]
        pose_NK3, gt_MK3 = _joints(found, skeleton.k), _joints(people, skeleton.k)
        score_N = torch.tensor([float(r["score"]) for r in found], dtype=torch.float64)
        area_M = torch.tensor([float(p["area"]) for p in people], dtype=torch.float64)
        oks_NM = oks(pose_NK3[..., :2], gt_MK3, area_M, skeleton.sigmas)
        yield Matched(image, pose_NK3, score_N, gt_MK3, area_M, oks_NM, _match(oks_NM))


def analyse(
    results: Sequence[Mapping[str, Any]],
    ground_truth: Mapping[str, Any],
    skeleton: Skeleton,
    max_people: int = 20,
) -> dict[str, Any]:
    """Match poses to people (best score first, by OKS) and classify each labelled joint.

    Args:
        results: COCO keypoint results.
        ground_truth: COCO-format dict of the evaluated images.
        skeleton: joints of both.
        max_people: poses per image that count, best first, as in AP.

    Returns:
        `people` (labelled, not crowd), `matched`, `kinds` (share of labelled joints of matched people), `joints`:
        name -> `n`, `similarity` (mean keypoint similarity, the joint's part of OKS; None where n is 0) and the shares
        of that joint; ready for result.json.
    """
    counts_KC = torch.zeros(skeleton.k, len(KINDS), dtype=torch.int64)
    similarity_K = torch.zeros(skeleton.k, dtype=torch.float64)
    people = matched = 0
    for seen in matches(results, ground_truth, skeleton, max_people):
        people += len(seen.area_M)
        for n, m in seen.pairs:
            matched += 1
            kind_K, similar_K = _classify(seen.pose_NK3[n, :, :2], m, seen.gt_MK3, seen.area_M, skeleton)
            labelled = seen.gt_MK3[m, :, 2] > 0
            counts_KC[labelled] += torch.nn.functional.one_hot(kind_K, len(KINDS))[labelled]
            similarity_K[labelled] += similar_K[labelled]

    n_K = counts_KC.sum(1)
    return {
        "people": people,
        "matched": matched,
        "kinds": _shares(counts_KC.sum(0)),
        "joints": {
            name: {
                "n": int(n_K[i]),
                "similarity": float(similarity_K[i] / n_K[i]) if n_K[i] else None,
                **_shares(counts_KC[i]),
            }
            for i, name in enumerate(skeleton.joints)
        },
    }


def _joints(rows: Sequence[Mapping[str, Any]], k: int) -> Tensor:
    return torch.tensor([r["keypoints"] for r in rows], dtype=torch.float64).view(len(rows), k, 3)


def _match(oks_NM: Tensor) -> list[tuple[int, int]]:
    """Each pose, best score first, takes the free person it is most similar to."""
    pairs: list[tuple[int, int]] = []
    left = oks_NM.clone()
    for n in range(left.shape[0]):
        best, m = left[n].max(0)
        if best >= _MATCH:
            pairs.append((n, int(m)))
            left[:, m] = -1
    return pairs


def _classify(pose_K2: Tensor, m: int, gt_MK3: Tensor, area_M: Tensor, skeleton: Skeleton) -> tuple[Tensor, Tensor]:
    """Kind of each joint of one pose matched to person m, and its similarity to its own joint; (K,) each."""
    flip = torch.tensor(skeleton.flip_index)
    point_1K2 = pose_K2[None]
    scale = area_M[m].expand(len(area_M))  # the matched person's scale, also for distances to others
    own_MK = keypoint_similarity(point_1K2, gt_MK3[..., :2], scale, skeleton.sigmas) * (gt_MK3[..., 2] > 0)
    mirrored = gt_MK3[:, flip]
    mirror_MK = keypoint_similarity(point_1K2, mirrored[..., :2], scale, skeleton.sigmas) * (mirrored[..., 2] > 0)
    mirror_MK = mirror_MK * (flip != torch.arange(skeleton.k))  # the nose has no mirror image to be taken for
    others = torch.arange(len(area_M)) != m
    another_K = torch.cat([own_MK[others], mirror_MK[others]]).amax(0) if others.any() else torch.zeros(skeleton.k)
    own_K = own_MK[m]
    kind_K = torch.full((skeleton.k,), KINDS.index("miss"))
    kind_K[another_K >= _NEAR] = KINDS.index("swap")
    kind_K[mirror_MK[m] >= _NEAR] = KINDS.index("inversion")
    kind_K[own_K >= _NEAR] = KINDS.index("jitter")
    kind_K[own_K >= _GOOD] = KINDS.index("good")
    return kind_K, own_K


def _shares(counts_C: Tensor) -> dict[str, float]:
    total = max(int(counts_C.sum()), 1)
    return {kind: int(counts_C[i]) / total for i, kind in enumerate(KINDS)}
