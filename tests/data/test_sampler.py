"""Which samples come when: permutations, ranks, resume."""

import numpy as np
import pytest

from repose.data.sampler import TestBatches as Batches
from repose.data.sampler import TrainSampler, device_batch
from repose.errors import UserError


def _stream(sampler, epochs):
    return [key for _ in range(epochs) for key in sampler]


def test_an_epoch_is_a_permutation_without_its_incomplete_batch():
    sampler = TrainSampler(103, 10, seed=21)
    first, second = list(sampler), list(sampler)
    assert len(first) == len(sampler) == 100 and sampler.steps_per_epoch == 10
    assert {e for e, _ in first} == {0} and {e for e, _ in second} == {1}
    assert len({i for _, i in first}) == 100 and max(i for _, i in first) < 103
    assert [i for _, i in first] != [i for _, i in second]
    assert list(TrainSampler(103, 10, seed=21)) == first
    assert list(TrainSampler(103, 10, seed=22)) != first


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_share_each_global_batch(world):
    whole = list(TrainSampler(50, 8, seed=3))
    ranks = [list(TrainSampler(50, 8, seed=3, rank=r, world=world)) for r in range(world)]
    assert {len(r) for r in ranks} == {48 // world}
    for step in range(6):
        share = 8 // world
        got = [key for r in ranks for key in r[step * share : (step + 1) * share]]
        assert sorted(got) == sorted(whole[step * 8 : (step + 1) * 8])


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("done", [0, 8, 24, 40, 48, 56, 96, 104])
def test_resume_goes_on_exactly(world, done):
    for rank in range(world):
        whole = _stream(TrainSampler(50, 8, seed=3, rank=rank, world=world), 4)
        resumed = TrainSampler(50, 8, seed=3, rank=rank, world=world)
        resumed.resume_at(done)
        assert len(resumed) == 48 // world
        rest = _stream(resumed, 4)[: len(whole) - done // world]
        assert rest == whole[done // world :]


def test_global_batches_that_cannot_be():
    with pytest.raises(UserError, match=r"train\.batch=8, but there are only 5 training samples; use train\.batch=5"):
        TrainSampler(5, 8, seed=0)
    with pytest.raises(UserError, match="cannot be shared by 3 devices"):
        TrainSampler(50, 8, seed=0, world=3)


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_evaluation_neither_repeats_nor_drops(world):
    images = np.array([0, 0, 0, 2, 3, 3, 4, 9, 9, 11, 12])
    ranks = [Batches(images, 2, rank=r, world=world) for r in range(world)]
    indices = [i for r in ranks for batch in r for _, i in batch]
    assert sorted(indices) == list(range(11))
    assert all(len(b) <= 2 for r in ranks for b in r)
    owners = [{int(images[i]) for batch in r for _, i in batch} for r in ranks]
    assert sum(len(o) for o in owners) == 7  # no image on two ranks
    assert [len(r) for r in ranks] == [len(list(r)) for r in ranks]


def test_a_rank_without_images_gets_one_empty_batch():
    assert list(Batches(np.array([5]), 2, rank=1, world=2)) == [[]]
    assert list(Batches(np.zeros(0, np.int64), 2)) == [[]]


def test_only_equal_groups_share_a_batch():
    groups = ["a", "b", "a", "a", "b"]
    got = [[i for _, i in batch] for batch in Batches(np.arange(5), 2, groups)]
    assert got == [[0, 2], [3], [1, 4]]


@pytest.mark.parametrize(
    ("args", "wanted"),
    [((1024, 8, None), (128, 1)), ((1024, 8, 48), (32, 4)), ((32, 1, 100), (32, 1)), ((30, 2, 4), (3, 5))],
)
def test_device_batches_make_up_the_global_one(args, wanted):
    assert device_batch(*args) == wanted
    assert wanted[0] * wanted[1] * args[1] == args[0]


def test_device_batch_of_an_odd_world():
    with pytest.raises(UserError, match="multiple of 3"):
        device_batch(10, 3, None)
