"""Neighbour lists against brute force: every periodicity, small, skewed and absent cells."""

import itertools

import numpy as np
import pytest

from lam.data.neighbors import _KEPT_POINTER_TYPES, close_gaps, complete_cell, find_pairs, neighbor_list, wrap

CELLS = {
    "large": np.diag([9.0, 10.0, 11.0]),
    "smaller than the cutoff": np.diag([1.9, 2.3, 2.1]),
    "skewed": np.array([[4.0, 0.0, 0.0], [3.5, 3.0, 0.0], [-2.5, 2.0, 3.5]]),
    "left-handed": np.array([[0.0, 4.0, 0.1], [4.0, 0.0, 0.0], [0.0, 0.3, 4.0]]),
    "needle": np.diag([1.2, 14.0, 1.3]),
}


def _brute_force(positions, cell, pbc, cutoff):
    """Return the set of (centre, neighbour, shift) and the distances, by trying images until none can be near."""
    reach = []
    spread = np.ptp(positions, axis=0).sum() + cutoff
    for axis in range(3):
        normal = np.cross(cell[(axis + 1) % 3], cell[(axis + 2) % 3])
        height = abs(cell[axis] @ normal) / np.linalg.norm(normal)
        reach.append(int(np.ceil(spread / height)) if pbc[axis] else 0)
    found = {}
    for shift in itertools.product(*(range(-r, r + 1) for r in reach)):
        vectors = positions[None] + np.array(shift) @ cell - positions[:, None]
        distances = np.linalg.norm(vectors, axis=2)
        for i, j in np.argwhere(distances < cutoff):
            if i != j or any(shift):
                found[int(i), int(j), *shift] = distances[i, j]
    return found


@pytest.mark.parametrize("pbc", list(itertools.product([False, True], repeat=3)))
@pytest.mark.parametrize("name", CELLS)
def test_equal_to_brute_force(name, pbc):
    cell, pbc, cutoff = CELLS[name], np.array(pbc), 3.1
    rng = np.random.default_rng(len(name))
    positions = rng.random((5, 3)) @ cell * 1.5 - 1.0  # some lie outside of the cell
    expected = _brute_force(positions, cell, pbc, cutoff)
    edges, shift = neighbor_list(positions, cell, pbc, cutoff)
    assert edges.dtype == np.int64 and shift.dtype == np.float64
    found = [(int(i), int(j), *map(int, s)) for (j, i), s in zip(edges.T, shift, strict=True)]
    assert len(found) == len(set(found))
    assert set(found) == set(expected)
    assert (np.diff(edges[1]) >= 0).all(), "edges are sorted by centre"
    vectors = positions[edges[0]] + shift @ cell - positions[edges[1]]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [expected[key] for key in found])


@pytest.mark.parametrize("pbc", [(False, False, False), (True, True, False), (False, True, False)])
def test_absent_vectors_along_directions_that_are_not_periodic(pbc):
    pbc = np.array(pbc)
    cell = CELLS["skewed"]
    positions = np.random.default_rng(1).random((6, 3)) * 4
    whole = neighbor_list(positions, cell, pbc, 3.0)
    bare = neighbor_list(positions, cell * pbc[:, None], pbc, 3.0)
    key = [{(*e, *s) for e, s in zip(edges.T, shift, strict=True)} for edges, shift in (whole, bare)]
    assert key[0] == key[1]


def test_one_atom_alone_and_with_its_images():
    one = np.zeros((1, 3))
    edges, shift = neighbor_list(one, np.zeros((3, 3)), np.zeros(3, bool), 5.0)
    assert edges.shape == (2, 0) and shift.shape == (0, 3)
    edges, shift = neighbor_list(one, np.eye(3) * 2.0, np.ones(3, bool), 2.5)
    assert edges.shape == (2, 6)


def test_moving_an_atom_by_a_lattice_vector_changes_no_distance():
    cell, pbc = CELLS["skewed"], np.ones(3, bool)
    positions = np.random.default_rng(2).random((4, 3)) @ cell
    far = positions + np.array([[0, 0, 0], [7, -3, 2], [0, 11, 0], [-40, 0, 1]]) @ cell
    a, b = (np.sort(find_pairs(p, cell, pbc, 3.0)[2]) for p in (positions, far))
    np.testing.assert_allclose(a, b, atol=1e-10)


def test_atoms_on_top_of_each_other_are_pairs_at_distance_zero():
    distances = find_pairs(np.zeros((2, 3)), np.zeros((3, 3)), np.zeros(3, bool), 3.0)[2]
    assert distances.tolist() == [0.0, 0.0]


def test_wrap_moves_only_far_atoms_and_only_along_periodic_directions():
    cell = CELLS["skewed"]
    near = np.array([[-0.5, 0.2, 0.1], [1.5, 0.0, 0.9]]) @ cell
    assert wrap(near, cell, np.ones(3, bool)) is near
    far = np.array([[12.3, 5.2, -7.1], [0.1, 0.2, 0.3]]) @ cell
    moves = np.linalg.solve(cell.T, (wrap(far, cell, np.array([True, False, True])) - far).T).T
    np.testing.assert_allclose(moves, np.round(moves), atol=1e-9)  # whole lattice vectors
    assert moves[0, 0] and moves[0, 2] and not moves[:, 1].any() and not moves[1].any()
    inside = np.linalg.solve(cell.T, wrap(far, cell, np.ones(3, bool)).T).T
    np.testing.assert_allclose(inside, [[0.3, 0.2, 0.9], [0.1, 0.2, 0.3]], atol=1e-9)
    bare = np.array([[100.0, 0, 0]])
    assert wrap(bare, np.zeros((3, 3)), np.zeros(3, bool)) is bare


def test_no_types_pile_up_in_ctypes():
    import ctypes

    cache = getattr(ctypes, "_pointer_type_cache", None)
    if not isinstance(cache, dict):
        pytest.skip("this Python keeps no such cache")
    rng = np.random.default_rng(0)
    for count in range(2, 2 + 2 * _KEPT_POINTER_TYPES):
        find_pairs(rng.random((count % 60 + 2, 3)) * 4, np.eye(3) * 4, np.ones(3, bool), 2.0 + count / 1000)
    assert len(cache) < 2 * _KEPT_POINTER_TYPES


def _rows(pairs, shift, distances):
    """Return sorted rows: centre, neighbour, shift, distance."""
    rows = np.column_stack([pairs, shift, distances])
    return rows[np.lexsort(rows.T[::-1])]


@pytest.mark.parametrize("pbc", [(True, True, False), (False, True, False)])
def test_a_far_atom_beside_a_slab_or_a_chain_changes_nothing(pbc):
    cell, pbc = np.diag([3.0, 3.1, 0.0]) * np.array(pbc)[:, None], np.array(pbc)
    near = np.array([[0.0, 0.0, 0.0], [0.3, 0.2, 1.5]])
    expected = _rows(*find_pairs(near, cell, pbc, 4.0))
    for far in (4e3, 9e6, -9e6):
        # Close to each other far away, one between: a pair, and one that has only its own images.
        others = near[:1] + np.array([[0, 0, far], [0, 0, far / 2], [0, 0, far + 1.0]])
        found = _rows(*find_pairs(np.concatenate([near, others]), cell, pbc, 4.0))
        np.testing.assert_allclose(found[found[:, 0] < 2], expected, atol=1e-8)
        np.testing.assert_allclose(found[(found[:, :5] == [2, 4, 0, 0, 0]).all(axis=1), 5], [1.0], atol=1e-8)
        assert (found[found[:, 0] == 3, 1] == 3).all()


@pytest.mark.parametrize("pbc", [(True, True, False), (False, True, False), (True, False, True), (False, False, True)])
def test_closing_gaps_keeps_pairs_and_distances(pbc):
    pbc, rng = np.array(pbc), np.random.default_rng(3)
    for _ in range(6):
        cell = np.diag(rng.uniform(3, 6, 3)) + rng.normal(scale=0.5, size=(3, 3))
        positions = rng.uniform(-1, 1, (12, 3)) * rng.choice([4.0, 20.0])
        expected = _brute_force(positions, cell, pbc, 3.0)
        complete = complete_cell(cell, pbc)
        found = _brute_force(close_gaps(positions, complete, pbc, 3.0), cell, pbc, 3.0)
        assert found.keys() == expected.keys()
        np.testing.assert_allclose([found[key] for key in expected], list(expected.values()), atol=1e-10)
    assert np.ptp(close_gaps(positions * 1e5, complete, pbc, 3.0) @ complete[~pbc].T, axis=0).max() < 12 * 4.6
