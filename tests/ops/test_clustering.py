"""Leader clustering: by hand, against a plain loop, and fast."""

import pytest
import torch

from repose.ops.clustering import leader_clusters


def plain(vectors: list[list[float]], radius: float) -> list[int]:
    """The specification's words, one vector at a time."""
    v = torch.tensor(vectors, dtype=torch.float64)
    free = list(range(len(v)))
    label = [-1] * len(v)
    cluster = 0
    while free:
        leader = free[0]
        near = [i for i in free if (v[i] - v[leader]).norm() < radius]
        centre = v[near].mean(0)
        members = {i for i in free if (v[i] - centre).norm() < radius} | {leader}
        for i in members:
            label[i] = cluster
        free = [i for i in free if i not in members]
        cluster += 1
    return label


def test_the_mean_shift_step():
    """Leader 0 collects 0 and 2; around their mean 1 lies -1.5 too, which the leader alone would not reach."""
    assert leader_clusters(torch.tensor([[0.0], [2.0], [-1.5], [3.5]]), 2.4).tolist() == [0, 0, 0, 1]
    # leader 0 with 2.3: mean 1.15; 3.4 is nearer than 2.4 to that, and joins
    assert leader_clusters(torch.tensor([[0.0], [2.3], [3.4]]), 2.4).tolist() == [0, 0, 0]
    # no chaining: one step, not many
    assert leader_clusters(torch.arange(6.0)[:, None], 1.5).tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("radius", [0.0, 0.3, 1.0, 3.0])
def test_equals_a_plain_loop(radius):
    generator = torch.Generator().manual_seed(1)
    v = torch.randn(60, 3, generator=generator)
    assert leader_clusters(v, radius).tolist() == plain(v.tolist(), radius)


def test_nothing_and_one():
    assert leader_clusters(torch.zeros(0, 4), 1.0).tolist() == []
    assert leader_clusters(torch.zeros(1, 4), 1.0).tolist() == [0]


def test_four_hundred_vectors_of_ten_people_take_under_2_ms(best_ms):
    generator = torch.Generator().manual_seed(0)
    people = torch.rand(10, 34, generator=generator) * 64
    v = people[torch.randint(10, (400,), generator=generator)] + 0.5 * torch.randn(400, 34, generator=generator)
    assert int(leader_clusters(v, 12.4).max()) == 9
    assert best_ms(lambda: leader_clusters(v, 12.4)) < 2
