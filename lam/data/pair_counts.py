"""Count the pairs of many structures at once: what a shard stores about distances, without neighbour lists.

A neighbour list of each small structure costs more than all else in writing a shard. Here the pairs are only
counted, within several radii in one pass, by a compiled loop over a batch of structures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from ase.data import covalent_radii

OVERLAP = 0.3
"""Atoms closer than this times the sum of their covalent radii cannot be meant; as in :mod:`lam.data.neighbors`."""
LARGE = 2000
"""Above this number of atoms a neighbour list, which bins atoms into boxes, is faster than trying all pairs."""


@dataclass(frozen=True)
class PairCounts:
    """About the distances of S structures; the counts are those of a full neighbour list."""

    counts: np.ndarray
    """Directed pairs closer than each radius, images included, (S, R) int64."""
    shortest: np.ndarray
    """Shortest distance, (S,) float64, Angstrom; infinite beyond the largest radius."""
    closeness: np.ndarray
    """Least distance over the sum of covalent radii, (S,) float64; infinite beyond the largest radius."""
    closest: np.ndarray
    """The two atoms of which :attr:`closeness` tells, (S, 2) int64; -1 without pairs."""
    closest_distance: np.ndarray
    """Their distance, (S,) float64, Angstrom."""


def count_pairs(
    numbers: np.ndarray,
    positions: np.ndarray,
    offset: np.ndarray,
    cells: np.ndarray,
    pbc: np.ndarray,
    radii: tuple[float, ...],
) -> PairCounts:
    """Count the pairs of a batch of structures.

    Args:
        numbers: (A,) atomic numbers of all atoms.
        positions: (A, 3) float64, Angstrom.
        offset: (S+1,) int64; structure ``s`` has the atoms ``offset[s]`` to ``offset[s+1]``.
        cells: (S, 3, 3) float64, rows are lattice vectors, Angstrom.
        pbc: (S, 3) bool.
        radii: rising, Angstrom.
    """
    count = len(offset) - 1
    pbc = np.asarray(pbc, dtype=np.bool_)
    complete = np.array(cells, dtype=np.float64)
    complete[~pbc.any(axis=1)] = np.eye(3)
    for row in np.flatnonzero(pbc.any(axis=1) & ~pbc.all(axis=1)):
        complete[row] = _complete_cell(complete[row], pbc[row])
    result = PairCounts(
        counts=np.zeros((count, len(radii)), dtype=np.int64),
        shortest=np.full(count, np.inf),
        closeness=np.full(count, np.inf),
        closest=np.full((count, 2), -1, dtype=np.int64),
        closest_distance=np.full(count, np.inf),
    )
    small = np.diff(offset) <= LARGE
    _count_small(
        np.ascontiguousarray(covalent_radii[numbers]),
        np.ascontiguousarray(positions, dtype=np.float64),
        np.ascontiguousarray(offset, dtype=np.int64),
        complete,
        np.linalg.inv(complete),
        pbc,
        small,
        np.asarray(radii, dtype=np.float64),
        result.counts,
        result.shortest,
        result.closeness,
        result.closest,
        result.closest_distance,
    )
    for row in np.flatnonzero(~small):
        atoms = slice(offset[row], offset[row + 1])
        _count_large(row, numbers[atoms], positions[atoms], cells[row], pbc[row], radii, result)
    return result


def _complete_cell(cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    from lam.data.neighbors import complete_cell

    return complete_cell(cell, pbc)


def _count_large(
    row: int,
    numbers: np.ndarray,
    positions: np.ndarray,
    cell: np.ndarray,
    pbc: np.ndarray,
    radii: tuple[float, ...],
    result: PairCounts,
) -> None:
    from lam.data.neighbors import find_pairs  # imports PyTorch, which no process of a conversion needs

    pairs, _, distances = find_pairs(positions, cell, pbc, radii[-1])
    if not len(distances):
        return
    result.counts[row] = [np.count_nonzero(distances < radius) for radius in radii]
    result.shortest[row] = distances.min()
    shares = distances / covalent_radii[numbers[pairs]].sum(axis=1)
    worst = int(shares.argmin())
    result.closeness[row], result.closest[row] = shares[worst], pairs[worst]
    result.closest_distance[row] = distances[worst]


def _compiled(function: object) -> object:
    options = {"nogil": True, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        return numba.njit(**options)(function)


@_compiled
def _count_small(
    sizes: np.ndarray,
    positions: np.ndarray,
    offset: np.ndarray,
    cells: np.ndarray,
    inverses: np.ndarray,
    pbc: np.ndarray,
    small: np.ndarray,
    radii: np.ndarray,
    counts: np.ndarray,
    shortest: np.ndarray,
    closeness: np.ndarray,
    closest: np.ndarray,
    closest_distance: np.ndarray,
) -> None:
    """Try every pair with every image that the largest radius can reach; fills the last five arguments."""
    last = len(radii) - 1
    reach = radii[last]
    squares = radii * radii
    low, high = np.zeros(3, np.int64), np.zeros(3, np.int64)
    margin = np.zeros(3)
    shells = np.zeros(last + 1, np.int64)
    for s in range(len(offset) - 1):
        if not small[s]:
            continue
        inverse, cell = inverses[s], cells[s]
        shells[:] = 0
        nearest, relative, first, second, found = np.inf, np.inf, -1, -1, np.inf
        for k in range(3):  # how far the radius reaches, in units of the distance between lattice planes
            margin[k] = reach * np.sqrt(inverse[0, k] ** 2 + inverse[1, k] ** 2 + inverse[2, k] ** 2)
        for i in range(offset[s], offset[s + 1]):
            for j in range(i, offset[s + 1]):
                x = positions[j, 0] - positions[i, 0]
                y = positions[j, 1] - positions[i, 1]
                z = positions[j, 2] - positions[i, 2]
                for k in range(3):
                    low[k] = high[k] = 0
                    if pbc[s, k]:
                        place = x * inverse[0, k] + y * inverse[1, k] + z * inverse[2, k]
                        low[k] = np.int64(np.ceil(-margin[k] - place))
                        high[k] = np.int64(np.floor(margin[k] - place))
                weight = 1 if i == j else 2  # the images of an atom itself are met in both directions
                per_size = 1.0 / (sizes[i] + sizes[j]) ** 2
                for a in range(low[0], high[0] + 1):
                    for b in range(low[1], high[1] + 1):
                        u0 = x + a * cell[0, 0] + b * cell[1, 0]
                        v0 = y + a * cell[0, 1] + b * cell[1, 1]
                        w0 = z + a * cell[0, 2] + b * cell[1, 2]
                        for c in range(low[2], high[2] + 1):
                            u, v, w = u0 + c * cell[2, 0], v0 + c * cell[2, 1], w0 + c * cell[2, 2]
                            square = u * u + v * v + w * w
                            if square >= squares[last] or (i == j and a == 0 and b == 0 and c == 0):
                                continue
                            shell = last
                            while shell > 0 and square < squares[shell - 1]:
                                shell -= 1
                            shells[shell] += weight
                            nearest = min(nearest, square)
                            if square * per_size < relative:
                                relative, first, second, found = square * per_size, i, j, square
        counts[s, 0] = shells[0]
        for r in range(1, last + 1):
            counts[s, r] = counts[s, r - 1] + shells[r]
        shortest[s], closeness[s], closest_distance[s] = np.sqrt(nearest), np.sqrt(relative), np.sqrt(found)
        if first >= 0:
            closest[s, 0], closest[s, 1] = first - offset[s], second - offset[s]
