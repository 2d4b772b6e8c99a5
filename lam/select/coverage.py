"""Coverage of atomic environments: whatever the pool has much of is to be near something that was chosen.

Farthest point looks at what is farthest only, so its first structures are the oddest. Here a structure is worth as much
as it brings the pool's atoms closer to the chosen ones of their element, in the mean of squared distances (the aim of
k-means, with structures as the centres). Common environments count as often as they occur, and odd ones by how far they
are.
"""

from __future__ import annotations

import numpy as np

from lam.data.references import WIDTH
from lam.select.farthest import atoms_of, squared_distances

LANDMARKS = 2048
"""Atoms that stand for the pool, of structures drawn at random."""
NOTHING = 4.0
"""Squared distance from nothing at all, over the variance of an element's environments (two of them are 2 apart)."""
_CHUNK = 128


class Coverage:
    """What structures are worth: how much closer they bring the pool's atoms, eV^2 in the mean (see the module).

    Args:
        first: first atom of each structure, (N + 1,).
        elements: atomic numbers, (A,) uint8.
        points: (A, D).
        drawn: structures whose atoms stand for the pool, in the order in which they are to be used.
    """

    def __init__(self, first: np.ndarray, elements: np.ndarray, points: np.ndarray, drawn: np.ndarray) -> None:
        self._first, self._elements, self._points = first, elements, points
        ends = np.cumsum(first[drawn + 1] - first[drawn])
        drawn = drawn[: int(np.searchsorted(ends, LANDMARKS)) + 1]
        atoms, _ = atoms_of(first, drawn)
        atoms = atoms[np.argsort(elements[atoms], kind="stable")]
        marks = points[atoms].astype(np.float32)
        starts = np.searchsorted(elements[atoms], np.arange(WIDTH + 1))
        self._marks = {z: marks[starts[z] : starts[z + 1]] for z in range(WIDTH) if starts[z] < starts[z + 1]}
        self._slices = {z: slice(starts[z], starts[z + 1]) for z in self._marks}
        variance = sum(float(((own - own.mean(axis=0)) ** 2).sum()) for own in self._marks.values()) / len(marks)
        self._left = np.full(len(marks), NOTHING * max(variance, 1e-12), dtype=np.float32)

    def __len__(self) -> int:
        return len(self._first) - 1

    @property
    def left(self) -> float:
        """Mean squared distance that is left, eV^2."""
        return float(self._left.mean(dtype=np.float64))

    def gains(self, rows: np.ndarray) -> np.ndarray:
        """Return what each of ``rows`` is worth now, (R,) float64."""
        found = np.zeros(len(rows))
        for start in range(0, len(rows), _CHUNK):
            some = rows[start : start + _CHUNK]
            atoms, starts = atoms_of(self._first, some)
            owner = np.repeat(np.arange(len(some)), np.diff(np.append(starts, len(atoms))))
            for z in np.unique(self._elements[atoms]).tolist():
                if z not in self._marks:
                    continue
                own = np.flatnonzero(self._elements[atoms] == z)
                distances = squared_distances(self._points[atoms[own]].astype(np.float32), self._marks[z])
                structures, begins = np.unique(owner[own], return_index=True)
                nearest = np.minimum.reduceat(distances, begins, axis=0)
                closer = np.maximum(self._left[self._slices[z]] - nearest, 0.0).sum(axis=1, dtype=np.float64)
                found[start + structures] += closer
        return found / len(self._left)

    def take(self, row: int) -> None:
        """Take a structure."""
        atoms = slice(self._first[row], self._first[row + 1])
        self.add(self._elements[atoms], self._points[atoms])

    def add(self, elements: np.ndarray, points: np.ndarray) -> None:
        """Take atoms that need not be in the pool: elements (n,) and points (n, D)."""
        for z in np.intersect1d(elements, list(self._marks)).tolist():
            own = points[elements == z].astype(np.float32)
            for start in range(0, len(own), 8192):
                nearest = squared_distances(self._marks[z], own[start : start + 8192]).min(axis=1)
                self._left[self._slices[z]] = np.minimum(self._left[self._slices[z]], nearest)
