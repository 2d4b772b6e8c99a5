"""Farthest point over atomic environments: a structure is as new as its newest atom.

Of structures as wholes, farthest point finds what is small and odd, because what is rare in a large structure is
averaged away. So atoms are compared with atoms of the same element, and a structure is worth the largest distance of
one of its atoms from all environments that were taken. Elements that were not taken at all come first.
"""

from __future__ import annotations

import numpy as np

from lam.data.references import WIDTH

NEW_ELEMENT = 1e9
"""What an element that was not taken yet adds to what a structure is worth: more than any distance."""
_CHUNK = 128
"""Structures that are compared together: of about equal age, so that little is compared twice."""
_TAKEN_CHUNK = 8192


class Environments:
    """Atoms of many structures as an element and a point each, in the order of the structures."""

    def __init__(self) -> None:
        self._blocks: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def append(self, sizes: np.ndarray, elements: np.ndarray, points: np.ndarray) -> None:
        """Add structures of ``sizes`` (S,) atoms with ``elements`` (A,) and ``points`` (A, D)."""
        self._blocks.append((sizes.astype(np.int64), elements.astype(np.uint8), points))

    def finish(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the first atom of each structure (N + 1,), elements (A,) and points (A, D); empties itself."""
        sizes = np.concatenate([block[0] for block in self._blocks])
        elements = np.concatenate([block[1] for block in self._blocks])
        points = np.empty((len(elements), self._blocks[0][2].shape[1]), dtype=self._blocks[0][2].dtype)
        place = 0
        self._blocks.reverse()
        while self._blocks:  # emptied on the way: both never lie in memory whole
            block = self._blocks.pop()[2]
            points[place : place + len(block)] = block
            place += len(block)
        return np.concatenate([[0], np.cumsum(sizes)]), elements, points


class Farthest:
    """What structures are worth: new elements first, then the distance of their newest atom (see the module).

    Args:
        first: first atom of each structure, (N + 1,).
        elements: atomic numbers, (A,) uint8.
        points: (A, D), of any precision; distances between those of one element count.
    """

    def __init__(self, first: np.ndarray, elements: np.ndarray, points: np.ndarray) -> None:
        self._first, self._elements, self._points = first, elements, points
        self._nearest = np.full(len(elements), np.inf, dtype=np.float32)  # squared, among those taken
        self._compared = np.zeros(len(first) - 1, dtype=np.int64)  # with so many of those taken
        self._taken_elements = np.empty(0, dtype=np.uint8)
        self._taken_points = np.empty((0, points.shape[1]), dtype=np.float32)
        self._count = 0
        self._known = np.zeros(WIDTH, dtype=bool)

    def __len__(self) -> int:
        return len(self._first) - 1

    def gains(self, rows: np.ndarray) -> np.ndarray:
        """Return what each of ``rows`` is worth now, (R,) float64."""
        by_age = rows[np.argsort(self._compared[rows], kind="stable")]
        for start in range(0, len(by_age), _CHUNK):
            self._compare(by_age[start : start + _CHUNK])
        atoms, starts = atoms_of(self._first, rows)
        elements, nearest = self._elements[atoms], self._nearest[atoms]
        known = self._known[elements]
        distances = np.sqrt(np.where(known, nearest, 0.0), dtype=np.float64)
        owner = np.repeat(np.arange(len(rows)), np.diff(np.append(starts, len(atoms))))
        missing = np.unique(owner[~known] * WIDTH + elements[~known]) // WIDTH
        return np.maximum.reduceat(distances, starts) + NEW_ELEMENT * np.bincount(missing, minlength=len(rows))

    def take(self, row: int) -> None:
        """Take a structure."""
        atoms = slice(self._first[row], self._first[row + 1])
        self.add(self._elements[atoms], self._points[atoms])

    def add(self, elements: np.ndarray, points: np.ndarray) -> None:
        """Take atoms that are no part of the pool: elements (n,) and points (n, D)."""
        end = self._count + len(elements)
        if end > len(self._taken_elements):
            room = max(2 * len(self._taken_elements), end, 1024)
            self._taken_elements = np.resize(self._taken_elements, room)
            grown = np.empty((room, self._taken_points.shape[1]), dtype=np.float32)
            grown[: self._count] = self._taken_points[: self._count]
            self._taken_points = grown
        self._taken_elements[self._count : end] = elements
        self._taken_points[self._count : end] = points
        self._count = end
        self._known[elements] = True

    def _compare(self, rows: np.ndarray) -> None:
        """Bring the distances of the atoms of ``rows`` up to date."""
        since = int(self._compared[rows].min())
        atoms, _ = atoms_of(self._first, rows)
        elements = self._elements[atoms]
        for start in range(since, self._count, _TAKEN_CHUNK):
            stop = min(start + _TAKEN_CHUNK, self._count)
            taken = self._taken_elements[start:stop]
            for z in np.intersect1d(elements, taken):
                own = atoms[elements == z]
                points = self._points[own].astype(np.float32)
                found = squared_distances(points, self._taken_points[start:stop][taken == z]).min(axis=1)
                self._nearest[own] = np.minimum(self._nearest[own], found)
        self._compared[rows] = self._count


def atoms_of(first: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the atoms of structures, and where those of each begin among them.

    Args:
        first: first atom of each structure, (N + 1,).
        rows: which structures.
    """
    sizes = first[rows + 1] - first[rows]
    starts = np.cumsum(sizes) - sizes
    return np.repeat(first[rows] - starts, sizes) + np.arange(sizes.sum()), starts


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the squared distances of points (A, D) and (B, D), (A, B), never negative."""
    products = a @ b.T
    return np.maximum((a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1)[None] - 2 * products, 0.0)


def thinned(elements: np.ndarray, points: np.ndarray, most: int) -> np.ndarray:
    """Return which atoms of a structure represent it: at most ``most``, by farthest point, each element at least once.

    Args:
        elements: atomic numbers, (n,).
        points: (n, D).
        most: how many; more where there are more elements.

    Returns:
        Their numbers, rising, (m,) int64.
    """
    count = len(elements)
    if count <= most:
        return np.arange(count)
    kinds, first = np.unique(elements, return_index=True)
    nearest = np.full(count, np.inf)
    chosen: list[int] = []
    for number in range(max(most, len(kinds))):
        row = int(first[number]) if number < len(kinds) else int(np.argmax(nearest))
        if number >= len(kinds) and nearest[row] <= 0:
            break
        chosen.append(row)
        same = elements == elements[row]
        nearest[same] = np.minimum(nearest[same], ((points[same] - points[row]) ** 2).sum(axis=1))
        nearest[row] = 0.0
    return np.sort(chosen)
