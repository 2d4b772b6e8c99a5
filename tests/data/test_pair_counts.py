"""Counted pairs are those of a neighbour list, in every kind of cell."""

import numpy as np
import pytest
from ase.data import covalent_radii

from lam.data import neighbors, pair_counts
from lam.data.pair_counts import count_pairs

RADII = (3.0, 4.0, 4.5, 6.0)


def _structure(seed):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 24))
    cell = np.eye(3) * rng.uniform(2.4, 9.0) + rng.normal(scale=0.9, size=(3, 3))
    pbc = (rng.random(3) < 0.6) if seed % 3 else np.full(3, seed % 2 == 0)
    return rng.integers(1, 100, count), rng.random((count, 3)) * 20.0 - 7.0, cell, pbc


def _check(structures, result):
    for row, (numbers, positions, cell, pbc) in enumerate(structures):
        pairs, _, distances = neighbors.find_pairs(positions, cell, pbc, RADII[-1])
        assert result.counts[row].tolist() == [np.count_nonzero(distances < radius) for radius in RADII]
        np.testing.assert_allclose(result.shortest[row], distances.min() if len(distances) else np.inf)
        if not len(distances):
            assert np.isinf(result.closeness[row]) and (result.closest[row] == -1).all()
            continue
        shares = distances / covalent_radii[numbers[pairs]].sum(axis=1)
        np.testing.assert_allclose(result.closeness[row], shares.min())
        closest = covalent_radii[numbers[result.closest[row]]].sum()
        np.testing.assert_allclose(result.closest_distance[row] / closest, shares.min())


def _count(structures):
    numbers, positions, cells, pbc = zip(*structures, strict=True)
    offset = np.concatenate([[0], np.cumsum([len(z) for z in numbers])])
    return count_pairs(
        np.concatenate(numbers), np.concatenate(positions), offset, np.array(cells), np.array(pbc), RADII
    )


def test_small_structures_of_every_periodicity():
    structures = [_structure(seed) for seed in range(200)]
    assert len({tuple(pbc.tolist()) for *_, pbc in structures}) == 8
    _check(structures, _count(structures))


def test_large_structures_use_a_neighbour_list(monkeypatch):
    monkeypatch.setattr(pair_counts, "LARGE", 8)
    structures = [_structure(seed) for seed in range(40)]
    _check(structures, _count(structures))


@pytest.mark.parametrize("shift", [0.0, 1e3])
def test_atoms_far_outside_of_the_cell(shift):
    numbers, positions, cell, _ = _structure(1)
    structures = [(numbers, positions + shift, cell, np.ones(3, dtype=bool))]
    _check(structures, _count(structures))


def test_both_ways_of_looking_at_pairs_call_the_same_overlap():
    assert pair_counts.OVERLAP == neighbors.OVERLAP
