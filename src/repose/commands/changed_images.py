"""The images on which two runs differ most, drawn: annotation, A and B beside each other.

Shapes: M labelled people of an image, N poses, K joints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from repose import viz
from repose.commands.run_folders import RunFolder
from repose.metrics.errors import Matched

_SHORT_SIDE = 400
"""[pixels] of a panel, at least."""
_GOOD = 0.5
"""Poses of nobody are drawn where they score at least this share of the image's best one: an AP counts them."""


@dataclass(frozen=True)
class Change:
    """What two runs make of an image.

    Attributes:
        image_id: of the image.
        file: its name.
        people: labelled people.
        a: mean OKS of A's poses with them, 0 for people that it did not find.
        b: the same of B.
        change: sum over the people of |OKS of B - OKS of A|, what images are ordered by.
        picture: file that it was drawn into; "" if it could not be.
        matched: how A and B found them.
    """

    image_id: int
    people: int
    a: float
    b: float
    change: float
    file: str = ""
    picture: str = ""
    matched: tuple[Matched, ...] = field(default=(), repr=False)

    def line(self) -> str:
        """One line for people."""
        who = "1 person" if self.people == 1 else f"{self.people} people"
        return f"image {self.image_id}, {who}: OKS {self.a:.2f} -> {self.b:.2f}"

    def to_json(self) -> dict[str, Any]:
        """Without the poses."""
        keys = ("image_id", "file", "people", "a", "b", "change", "picture")
        return {key: getattr(self, key) for key in keys}


def changed_most(a: Sequence[Matched], b: Sequence[Matched], most: int) -> list[Change]:
    """The images whose people's OKS changed most, the largest change first; images without a change are none.

    Args:
        a: A's matches, image by image.
        b: B's, of the same images in the same order.
        most: how many.
    """
    found: list[Change] = []
    for one, two in zip(a, b, strict=True):
        before_M, after_M = one.oks_M(), two.oks_M()
        change = float((after_M - before_M).abs().sum())
        if change > 0:
            people = len(before_M)
            means = float(before_M.mean()), float(after_M.mean())
            found.append(Change(one.image_id, people, *means, change, matched=(one, two)))
    return sorted(found, key=lambda c: (-c.change, c.image_id))[:most]


def draw(changes: Sequence[Change], runs: tuple[RunFolder, RunFolder], data: Any, folder: Path) -> list[Change]:
    """Draw each change as <folder>/<rank>-<image id>.png, annotation, A and B beside each other.

    Args:
        changes: what `changed_most` found.
        runs: A and B, for the captions.
        data: the DataModule of the evaluated people.
        folder: gets the pictures; what a former call drew there is replaced.

    Returns:
        the changes with their files' names and pictures; a photograph that cannot be read has no picture.

    Raises:
        UserError: the folder cannot be written.
    """
    from repose.data.images import decode
    from repose.data.preview import write

    annotations, skeleton = data.val_annotations, data.skeleton
    row_of = {int(i): row for row, i in enumerate(annotations.image_id_I)}
    clear(folder)
    drawn: list[Change] = []
    for rank, change in enumerate(changes, 1):
        row = row_of[change.image_id]
        named = replace(change, file=annotations.image_name_I[row])
        pixels = decode(annotations.path(row))
        if not isinstance(pixels, str):
            path = write(folder / f"{rank:02d}-{change.image_id}.png", _sheet(named, runs, pixels, skeleton))
            named = replace(named, picture=str(path))
        drawn.append(named)
    return drawn


def clear(folder: Path) -> None:
    """Remove the pictures of a former call, which may have had more of them."""
    for old in folder.glob("[0-9][0-9]-*.png"):
        old.unlink()


def _sheet(change: Change, runs: tuple[RunFolder, RunFolder], pixels: NDArray[np.uint8], skeleton: Any) -> viz.Image:
    large, affine = viz.enlarge(pixels, _SHORT_SIDE)
    truth_MK3 = change.matched[0].gt_MK3.numpy()
    panels = [viz.draw_poses(large, viz.move(truth_MK3, affine), skeleton)]
    captions = [f"annotated: {'1 person' if change.people == 1 else f'{change.people} people'}"]
    for letter, run, found, mean in zip("AB", runs, change.matched, (change.a, change.b), strict=True):
        shown_NK3 = found.pose_NK3[worth_drawing(found)].numpy()
        panels.append(viz.draw_poses(large, viz.move(shown_NK3, affine), skeleton, "score", 0.0))
        captions.append(f"{letter}: {run.title}, OKS {mean:.2f}")
    title = f"image {change.image_id}: OKS {change.a:.2f} in A, {change.b:.2f} in B"
    return viz.sheet(panels, 3, captions, title, foot=viz.legend())


def worth_drawing(found: Matched) -> list[int]:
    """Poses that are somebody's, and good ones that are nobody's."""
    own = {n for n, _ in found.pairs}
    best = float(found.score_N.max()) if len(found.score_N) else 0.0
    return [n for n, score in enumerate(found.score_N.tolist()) if n in own or score >= _GOOD * best]
