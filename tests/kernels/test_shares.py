"""Centres are shared out by what they cost."""

import numpy as np

from lam.model.kernels.shares import shares


def test_ranges_cover_all_centres_and_cost_about_the_same():
    degrees = np.arange(400) % 50
    starts = np.concatenate([[0], np.cumsum(degrees)])
    parts = shares(starts, 3, edges_of_an_atom=10, worth_a_thread=100)
    assert [first for first, _ in parts] == [0, *(last for _, last in parts[:-1])] and parts[-1][1] == 400
    costs = [int(degrees[first:last].sum()) + 10 * (last - first) for first, last in parts]
    assert len(parts) == 3 and max(costs) - min(costs) <= 2 * (49 + 10)


def test_as_many_threads_as_are_worth_it():
    starts = np.arange(0, 1001, 10)  # 100 atoms of 10 edges

    def count(threads: int, **costs: int) -> int:
        return len(shares(starts, threads, **costs))

    assert count(8, edges_of_an_atom=0, worth_a_thread=1001) == 1
    assert count(8, edges_of_an_atom=0, worth_a_thread=500) == 2
    assert count(8, edges_of_an_atom=10, worth_a_thread=500) == 4
    assert count(3, edges_of_an_atom=10, worth_a_thread=500) == 3
    assert shares(np.zeros(1, dtype=np.int64), 4) == [(0, 0)]
    assert shares(np.array([0, 9000]), 4) == [(0, 1)]
