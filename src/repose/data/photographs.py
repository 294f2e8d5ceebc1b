"""The photographs of an annotation file: from the cache or from disk, with bad ones remembered by name."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from repose.data.cache import DecodedCache, size_problem
from repose.data.coco import Annotations
from repose.data.images import decode, exif_turns, probe
from repose.errors import UserError

_FINE, _BAD = 0, 1
PROBE_ALL = 10_000
"""Up to this many files are all looked at when a run starts; of more, an even sample of a fifth of it."""


class Photographs:
    """Reads image rows of an annotation file.

    Attributes:
        annotations: names and sizes.
        cache: decoded photographs, or None.
        known: what is wrong with bad images, by row, as far as this process has seen it.
    """

    def __init__(self, annotations: Annotations) -> None:
        self.annotations = annotations
        self.cache: DecodedCache | None = None
        self.known: dict[int, str] = {}
        # Shared memory: what a worker process finds is seen by the process that started it.
        self._state_I = torch.zeros(annotations.images, dtype=torch.uint8).share_memory_()
        self._last: tuple[int, np.ndarray] | None = None

    def use(self, cache: DecodedCache | None) -> None:
        """Read from a cache."""
        self.cache = cache
        if cache is not None:
            for image, what in cache.bad.items():
                self.mark(image, what)

    def mark(self, image: int, what: str) -> None:
        """Remember that an image is bad."""
        self.known[image] = what
        self._state_I[image] = _BAD

    def is_bad(self, image: int) -> bool:
        """Whether an image is known to be bad, by any process of this run's data loading."""
        return int(self._state_I[image]) == _BAD

    def read(self, image: int) -> np.ndarray | None:
        """(H, W, 3) uint8 RGB, not to be written to; None if the file is bad (it is remembered and named)."""
        if self._last is not None and self._last[0] == image:  # crops of one photograph follow each other in a test
            return self._last[1]
        if self.is_bad(image):
            return None
        got = self.cache.read(image) if self.cache is not None else None
        if got is None:
            decoded = decode(self.annotations.path(image))
            if not isinstance(decoded, str):
                stated = self.annotations.image_wh_I2[image].tolist()
                found = decoded.shape[1], decoded.shape[0]
                if list(found) != stated:
                    decoded = size_problem(found, (stated[0], stated[1]))
            if isinstance(decoded, str):
                self.mark(image, decoded)
                return None
            got = decoded
        self._last = (image, got)
        return got

    def look(self, images: np.ndarray, unswap: bool = False) -> int:
        """Look at the headers and ends of files; missing and truncated ones are marked.

        Args:
            images: image rows.
            unswap: where the json has width and height swapped, the photograph's size replaces it (in
                `annotations.image_wh_I2`); all files are looked at then.

        Returns:
            number of images whose size was replaced.

        Raises:
            UserError: an image's size is not what the json states, so its labels cannot be right.
        """
        chosen = images if unswap or len(images) <= PROBE_ALL else images[:: max(1, 5 * len(images) // PROBE_ALL)]
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda i: probe(self.annotations.path(i)), chosen.tolist()))
        differing, swapped = [], 0
        for image, got in zip(chosen.tolist(), found, strict=True):
            stated = self.annotations.image_wh_I2[image].tolist()
            if isinstance(got, str):
                self.mark(image, got)
            elif unswap and list(got) == stated[::-1] != stated:
                self.annotations.image_wh_I2[image] = got
                swapped += 1
            elif list(got) != stated:
                differing.append((image, size_problem(got, (stated[0], stated[1]))))
        if differing:
            image, what = differing[0]
            hint = ""
            if exif_turns(self.annotations.path(image)):
                hint = "; its EXIF orientation turns it: annotate the pixels as stored, or turn the file"
            raise UserError(
                f"{self.annotations.path(image)}: {what}{hint}; {len(differing)} of the {len(chosen)} images looked at "
                f"differ, so these images do not belong to {self.annotations.file.name}{_swap_hint(differing)}"
            )
        return swapped

    def bad(self) -> list[str]:
        """Names of the bad images and what is wrong with each, in file order."""
        rows = torch.nonzero(self._state_I == _BAD).flatten().tolist()
        lines = []
        for image in rows:
            if image not in self.known:  # found by a worker process: look again for the words
                decoded = decode(self.annotations.path(image))
                self.known[image] = decoded if isinstance(decoded, str) else "is not readable or differs from the json"
            lines.append(f"{self.annotations.image_name_I[image]}: {self.known[image]}")
        return lines


def _swap_hint(differing: list[tuple[int, str]]) -> str:
    if not all("turned" in what for _, what in differing):
        return ""
    return "; or the json has width and height swapped (early CrowdPose files): data.swapped_size=photograph"
