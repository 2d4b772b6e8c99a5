"""Fingerprints that do not change under translation, rotation, reflection, permutation and choice of the cell.

:func:`fingerprint` is a short vector for searching; :func:`mismatch` compares two structures atom by atom.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist

from lam.data.audit.check import room, search_radius
from lam.data.neighbors import find_pairs
from lam.data.references import WIDTH
from lam.data.structure import Structure

CHANNELS = 8
SIZE = 2 * CHANNELS + 4
PROBE = 0.01
"""Angstrom: random displacement per coordinate whose effect on the fingerprint sets the scale for searching."""
COMPARE_RADIUS = 6.0
NEAREST = 12
"""Neighbours of each element that are compared."""
LARGEST_CLUSTER = 60
"""Atoms up to which all distances of a molecule are compared."""
_CENTRES = np.linspace(0.7, 3.7, CHANNELS)
_SHARPNESS = 1 / (2 * 0.25**2)
# Fixed pseudo-random weights tell the elements apart: of neighbours, and twice of centres.
_NEIGHBOUR, _CENTRE, _CENTRE_SQUARE = np.random.default_rng(5).normal(size=(3, WIDTH, CHANNELS))


def fingerprint(structure: Structure, pairs: np.ndarray, distances: np.ndarray, radius: float) -> np.ndarray:
    """Return the fingerprint, (SIZE,) float32; intensive, so that supercells have the same.

    Args:
        structure: the structure.
        pairs: (E, 2) directed pairs within the radius, sorted by centre.
        distances: (E,) their distances, Angstrom.
        radius: `lam.data.audit.check.search_radius` of the elements, Angstrom.
    """
    result = np.zeros(SIZE)
    numbers = structure.numbers
    if len(distances):
        damping = 0.5 * (np.cos(np.pi * distances / radius) + 1)
        basis = np.exp(-_SHARPNESS * ((4.0 / radius) * distances[:, None] - _CENTRES) ** 2) * damping[:, None]
        basis *= _NEIGHBOUR[numbers[pairs[:, 1]]]
        centres, starts = np.unique(pairs[:, 0], return_index=True)
        sums = np.add.reduceat(basis, starts, axis=0)
        of_centres = numbers[centres]
        result[:CHANNELS] = (_CENTRE[of_centres] * sums).sum(axis=0) / len(numbers)
        result[CHANNELS : 2 * CHANNELS] = (_CENTRE_SQUARE[of_centres] * sums**2).sum(axis=0) / len(numbers)
    if structure.pbc.all():
        result[-4] = np.cbrt(structure.volume / len(numbers))
    elif not structure.pbc.any():
        # What lies beyond the radius: parts of a molecule, far from each other.
        arm = structure.positions - structure.positions.mean(axis=0)
        result[-4] = np.sqrt((arm**2).sum(axis=1).mean())
        result[-3:] = np.sqrt(np.maximum(np.linalg.eigvalsh(arm.T @ (arm * numbers[:, None]) / numbers.sum()), 0))
    return result.astype(np.float32)


def sensitivity(structure: Structure) -> float:
    """Return how far the fingerprint moves (root mean square of a few tries) if all atoms do by :data:`PROBE`."""
    rng = np.random.default_rng(1)
    radius = search_radius(structure.numbers) * room(structure)
    prints = []
    for size in (0.0, PROBE, PROBE, PROBE):  # one try could by chance move along what the fingerprint does not see
        moved = structure.positions + size * rng.normal(size=structure.positions.shape)
        pairs, _, distances = find_pairs(moved, structure.cell, structure.pbc, radius)
        prints.append(fingerprint(_Moved(structure, moved), pairs, distances, radius))  # type: ignore[arg-type]
    return float(np.sqrt(np.mean(np.sum(np.square(np.array(prints[1:]) - prints[0]), axis=1))))


class _Moved:
    """Another structure's atoms at other places, without its checks and labels."""

    def __init__(self, structure: Structure, positions: np.ndarray) -> None:
        self.numbers, self.pbc, self.volume = structure.numbers, structure.pbc, structure.volume
        self.positions = positions


def mismatch(a: Structure, b: Structure) -> float:
    """Return how much the surroundings of the atoms of two structures differ, Angstrom.

    The surroundings of an atom are its sorted distances to the nearest atoms of each element, up to COMPARE_RADIUS (in
    small molecules: to all atoms). Every atom of one structure must have a partner of its element in the other; the
    result is the largest, over the atoms of both, of the root mean square difference to the best partner. Zero for the
    same structure moved, turned, mirrored, renumbered or described by another cell; infinite if elements differ.
    """
    elements = np.unique(a.numbers)
    if not np.array_equal(elements, np.unique(b.numbers)):
        return float("inf")
    whole = not a.pbc.any() and not b.pbc.any() and max(len(a), len(b)) <= LARGEST_CLUSTER
    radius = 1e3 if whole else COMPARE_RADIUS * min(room(a), room(b))
    nearest = LARGEST_CLUSTER if whole else NEAREST
    around_a, around_b = _surroundings(a, elements, radius, nearest), _surroundings(b, elements, radius, nearest)
    worst = 0.0
    for z in elements:
        mine, other = around_a[a.numbers == z], around_b[b.numbers == z]
        used = (mine < radius).any(axis=0) | (other < radius).any(axis=0)
        if not used.any():
            continue
        costs = cdist(mine[:, used], other[:, used]) / np.sqrt(used.sum())
        worst = max(worst, float(costs.min(axis=0).max()), float(costs.min(axis=1).max()))
    return worst


def _surroundings(structure: Structure, elements: np.ndarray, radius: float, nearest: int) -> np.ndarray:
    """Return sorted distances to each element, (N, elements * nearest), filled up with the radius."""
    count = len(structure)
    result = np.full((count, len(elements), nearest), radius)
    if structure.pbc.any() or radius < 1e3:
        pairs, _, distances = find_pairs(structure.positions, structure.cell, structure.pbc, radius)
    else:
        matrix = cdist(structure.positions, structure.positions)
        pairs = np.argwhere(~np.eye(count, dtype=bool))
        distances = matrix[pairs[:, 0], pairs[:, 1]]
    kinds = np.searchsorted(elements, structure.numbers[pairs[:, 1]])
    order = np.lexsort((distances, kinds, pairs[:, 0]))
    centre, kind, distances = pairs[order, 0], kinds[order], distances[order]
    place = np.arange(len(order))
    new = np.ones(len(order), dtype=bool)
    new[1:] = (centre[1:] != centre[:-1]) | (kind[1:] != kind[:-1])
    rank = place - np.maximum.accumulate(np.where(new, place, 0))
    kept = rank < nearest
    result[centre[kept], kind[kept], rank[kept]] = distances[kept]
    return result.reshape(count, -1)


def displacement(a: Structure, b: Structure) -> float:
    """Return the largest displacement between structures whose atoms are in the same order, Angstrom; else infinite.

    Common translation is taken away, and, of molecules, rotation; periodic images are respected.
    """
    if not np.array_equal(a.numbers, b.numbers) or not np.array_equal(a.pbc, b.pbc):
        return float("inf")
    if a.pbc.any():
        if not np.allclose(a.cell, b.cell, atol=0.05):
            return float("inf")
        moved = b.positions - a.positions
        for _ in range(2):  # images first, then the common translation may change what is nearest
            whole = np.round(np.linalg.lstsq(b.cell.T, moved.T, rcond=None)[0].T) * b.pbc
            moved = moved - whole @ b.cell
            moved = moved - np.median(moved, axis=0)
        return float(np.linalg.norm(moved, axis=1).max())
    first, second = a.positions - a.positions.mean(axis=0), b.positions - b.positions.mean(axis=0)
    return float(np.linalg.norm(second @ rotation(first, second) - first, axis=1).max())


def rotation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the rotation R, (3, 3), that brings ``b @ R`` nearest to ``a``; both (N, 3) and centred."""
    left, _, right = np.linalg.svd(b.T @ a)
    left[:, -1] *= np.sign(np.linalg.det(left @ right)) or 1.0
    return left @ right
