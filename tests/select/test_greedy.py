"""Lazy choice is exact; criteria are what they say."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from lam.select.coverage import Coverage
from lam.select.farthest import NEW_ELEMENT, Environments, Farthest, thinned
from lam.select.greedy import choose
from lam.select.information import Information


def cloud(random, count=700, width=5):
    """Return environments of structures of 1 to 4 atoms of two elements."""
    sizes = random.integers(1, 5, count)
    environments = Environments()
    for some in np.array_split(sizes, 7):
        environments.append(some, random.integers(6, 8, some.sum()), random.normal(size=(some.sum(), width)))
    return environments.finish()


def test_lazy_farthest_point_is_that_of_looking_at_everything():
    random = np.random.default_rng(0)
    first, elements, points = cloud(random)
    keys = random.permutation(len(first) - 1).astype(np.uint64)
    order, worth, rest = choose(Farthest(first, elements, points), keys, 40)

    nearest, known = np.full(len(elements), np.inf), set()
    for row, value in zip(order.tolist(), worth, strict=True):
        gains = []
        for start, stop in pairwise(first):
            own = [np.sqrt(nearest[i]) if elements[i] in known else 0.0 for i in range(start, stop)]
            gains.append(max(own) + NEW_ELEMENT * len(set(elements[start:stop].tolist()) - known))
        gains = np.array(gains)
        assert gains[row] == pytest.approx(gains.max(), rel=1e-5)
        assert value == pytest.approx(gains[row], rel=1e-5, abs=1e-3)
        for i in range(first[row], first[row + 1]):
            same = elements == elements[i]
            nearest[same] = np.minimum(nearest[same], ((points[same] - points[i]) ** 2).sum(axis=1))
            known.add(elements[i])
    assert 0 < rest <= worth[-1]


def test_lazy_coverage_is_that_of_looking_at_everything():
    random = np.random.default_rng(3)
    first, elements, points = cloud(random, count=60)
    every = np.arange(60)
    criterion = Coverage(first, elements, points, every)
    start = criterion.left
    order, worth, _ = choose(criterion, every.astype(np.uint64), 12)
    assert start - worth.sum() == pytest.approx(criterion.left, rel=1e-5)

    left = np.full(len(elements), start)
    for row, value in zip(order.tolist(), worth, strict=True):
        after = [closer(left, first, elements, points, other) for other in every.tolist()]
        gains = np.array([(left - each).mean() for each in after])
        assert gains.max() == pytest.approx(value, rel=1e-4)
        assert gains[row] == pytest.approx(value, rel=1e-4)
        left = after[row]


def closer(left, first, elements, points, row):
    """Return what is left of the squared distances when a structure is taken."""
    left = left.copy()
    for i in range(first[row], first[row + 1]):
        same = elements == elements[i]
        left[same] = np.minimum(left[same], ((points[same] - points[i]) ** 2).sum(axis=1))
    return left


def test_coverage_looks_at_a_sample_of_large_pools():
    random = np.random.default_rng(4)
    first, elements, points = cloud(random, count=6000)
    drawn = random.permutation(6000)
    some = choose(Coverage(first, elements, points, drawn), np.arange(6000), 5)[0]
    again = choose(Coverage(first, elements, points, drawn), np.arange(6000), 5)[0]
    assert some.tolist() == again.tolist()
    assert len(Coverage(first, elements, points, drawn)._left) < 2100


def test_lazy_information_is_that_of_looking_at_everything():
    random = np.random.default_rng(1)
    features = random.normal(size=(900, 3, 6)).astype(np.float32)
    order, worth, _ = choose(Information(features), np.arange(900), 30)
    criterion, left = Information(features), np.ones(900, dtype=bool)
    for row, value in zip(order.tolist(), worth, strict=True):
        gains = criterion.gains(np.arange(900))
        assert gains[left].max() == pytest.approx(value)
        assert gains[row] == pytest.approx(value)
        criterion.take(row)
        left[row] = False


def test_information_of_a_copy_is_small_and_adds_up():
    random = np.random.default_rng(2)
    features = random.normal(size=(3, 2, 4)).astype(np.float32)
    features[1] = features[0]
    criterion = Information(features, scale=1.0)
    before = criterion.gains(np.arange(3))
    criterion.take(0)
    after = criterion.gains(np.arange(3))
    assert after[1] < 0.2 * before[1]
    assert after[2] > after[1]
    both = Information(np.concatenate([features[:1], features[2:]], axis=1), scale=1.0).gains(np.arange(1))
    assert before[0] + after[2] == pytest.approx(both[0])  # the chain rule of information


def test_equals_are_decided_by_their_keys():
    features = np.ones((4, 1, 2), dtype=np.float32)
    order, _, rest = choose(Information(features), np.array([7, 3, 9, 5], dtype=np.uint64), 3)
    assert order.tolist() == [1, 3, 0]
    assert rest > 0


def test_thousands_of_equals_come_to_an_end():
    features = np.ones((10_000, 1, 1), dtype=np.float32)
    order, worth, _ = choose(Information(features), np.arange(10_000)[::-1], 3)
    assert order.tolist() == [9999, 9998, 9997]
    assert worth[0] > worth[1] > worth[2]


def test_only_candidates_are_chosen_and_all_of_them_may_be():
    features = np.random.default_rng(0).normal(size=(6, 1, 2)).astype(np.float32)
    order, _, rest = choose(Information(features), np.arange(6), 3, candidates=np.array([0, 2, 5]))
    assert sorted(order.tolist()) == [0, 2, 5]
    assert rest == 0.0


def test_thinning_keeps_each_element_and_what_differs_most():
    elements = np.array([1, 1, 1, 1, 8, 1])
    points = np.array([[0.0], [0.1], [0.2], [9.0], [0.0], [5.0]])
    assert thinned(elements, points, 4).tolist() == [0, 3, 4, 5]
    assert thinned(elements, points, 1).tolist() == [0, 4]
    assert thinned(elements, points, 6).tolist() == list(range(6))
    assert thinned(np.ones(5), np.zeros((5, 2)), 3).tolist() == [0]  # copies add nothing
