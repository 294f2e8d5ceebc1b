"""Which samples come when: resumable, the same for any number of workers and ranks, nothing twice, nothing lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from repose.errors import UserError


class TrainSampler(Sampler[tuple[int, int]]):
    """Yields (epoch, index): each epoch is a permutation, a function of (seed, epoch), cut into whole global batches.

    The incomplete last global batch of an epoch is dropped. Within a global batch, rank r takes every world-th sample
    from r on, so a global batch holds the same samples whatever the number of ranks. Each `__iter__` is one epoch, and
    the next one goes on; nothing needs to call `set_epoch` (Lightning's call comes after workers have prefetched).
    """

    def __init__(self, samples: int, global_batch: int, seed: int, rank: int = 0, world: int = 1) -> None:
        """Plan the epochs.

        Args:
            samples: number of training samples.
            global_batch: samples per optimiser step over all ranks.
            seed: of the run.
            rank: of this process.
            world: number of processes.

        Raises:
            UserError: fewer samples than a global batch, or a global batch that the ranks cannot share evenly.
        """
        if global_batch % world:
            raise UserError(
                f"train.batch={global_batch} cannot be shared by {world} devices; choose a multiple of {world}"
            )
        if samples < global_batch:
            raise UserError(
                f"train.batch={global_batch}, but there are only {samples} training samples; "
                f"use train.batch={max(samples, 1)} or less"
            )
        self.samples = samples
        self.global_batch = global_batch
        self.seed = seed
        self.rank = rank
        self.world = world
        self._epoch = 0
        self._skip = 0

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps per epoch."""
        return self.samples // self.global_batch

    def resume_at(self, samples_done: int) -> None:
        """Let the next `__iter__` start where a run stopped.

        Args:
            samples_done: samples that all ranks together have trained on since the run's beginning.
        """
        self._epoch, done = divmod(samples_done, self.steps_per_epoch * self.global_batch)
        self._skip = done // self.world

    def indices(self, epoch: int) -> np.ndarray:
        """This rank's sample indices of an epoch, in order."""
        order = np.random.default_rng([self.seed, epoch]).permutation(self.samples)
        return order[: self.steps_per_epoch * self.global_batch][self.rank :: self.world]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch, skip = self._epoch, self._skip
        self._epoch, self._skip = epoch + 1, 0
        return iter([(epoch, index) for index in self.indices(epoch)[skip:].tolist()])

    def __len__(self) -> int:
        """Samples per epoch of this rank (a resumed epoch counts in full: progress goes on where it was)."""
        return self.steps_per_epoch * self.global_batch // self.world


class TestBatches(Sampler[list[tuple[int, int]]]):
    """Batches of (0, index) for an evaluation: every sample once over all ranks, none twice, no padding.

    Ranks take whole images, so a photograph is decoded by one rank only; their number of batches may differ. A rank
    without samples yields one empty batch, because Lightning runs no evaluation at all for an empty loader.
    """

    __test__ = False

    def __init__(
        self, image_S: np.ndarray, batch: int, groups: Sequence[object] | None = None, rank: int = 0, world: int = 1
    ) -> None:
        """Plan the batches.

        Args:
            image_S: image row of each sample.
            batch: most samples per batch.
            groups: per sample; only equal ones share a batch.
            rank: of this process.
            world: number of processes.
        """
        images = np.unique(image_S)
        mine = np.flatnonzero(np.isin(image_S, images[rank::world])).tolist()
        by_group: dict[object, list[int]] = {}
        for index in mine:
            by_group.setdefault(groups[index] if groups is not None else None, []).append(index)
        self.batches: list[list[tuple[int, int]]] = [
            [(0, index) for index in members[first : first + batch]]
            for members in by_group.values()
            for first in range(0, len(members), batch)
        ] or [[]]

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def device_batch(global_batch: int, world: int, most: int | None) -> tuple[int, int]:
    """Samples per device and accumulation steps that make up the global batch exactly.

    Args:
        global_batch: samples per optimiser step over all devices.
        world: number of devices.
        most: samples that one device takes at once (`train.device_batch`), None = no limit.

    Returns:
        (samples per device and step, accumulation steps); the first is the largest divisor that fits.

    Raises:
        UserError: the global batch is no multiple of the number of devices.
    """
    if global_batch % world:
        raise UserError(f"train.batch={global_batch} cannot be shared by {world} devices; choose a multiple of {world}")
    share = global_batch // world
    size = share if most is None else max(1, min(most, share))
    while share % size:
        size -= 1
    return size, share // size
