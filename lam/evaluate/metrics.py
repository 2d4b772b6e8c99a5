"""Error sums: energy per atom, force components and stress, per data set and per element.

Everything is collected batch by batch. Forces and stress are reduced at once; of the energies one
number per structure is kept, because the per-element offset is fitted after the last of them.
Reported units: meV/atom, meV/Angstrom, meV/Angstrom^3. Inside: eV, Angstrom.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

N_ELEMENTS = 119  # index = atomic number; 0 unused

ENERGY_UNIT = "meV/atom"
FORCE_UNIT = "meV/A"
STRESS_UNIT = "meV/A^3"

VOIGT = (np.array([0, 1, 2, 1, 0, 0]), np.array([0, 1, 2, 2, 2, 1]))
"""Rows and columns of the six independent components xx, yy, zz, yz, xz, xy."""


@dataclass
class ErrorSum:
    """Count, sum of absolute and sum of squared errors of a stream of numbers."""

    count: int = 0
    absolute: float = 0.0
    squared: float = 0.0

    def add(self, errors: np.ndarray) -> None:
        """Add errors of any shape, in eV-based units."""
        errors = np.asarray(errors, dtype=np.float64)
        self.count += errors.size
        self.absolute += float(np.abs(errors).sum())
        self.squared += float(np.square(errors).sum())

    def merge(self, other: ErrorSum) -> None:
        """Add what ``other`` has collected."""
        self.count += other.count
        self.absolute += other.absolute
        self.squared += other.squared

    @property
    def mae(self) -> float | None:
        """Mean absolute error times 1000 (milli-units); ``None`` without data."""
        return 1000.0 * self.absolute / self.count if self.count else None

    @property
    def rmse(self) -> float | None:
        """Root mean squared error times 1000 (milli-units); ``None`` without data."""
        return 1000.0 * float(np.sqrt(self.squared / self.count)) if self.count else None


@dataclass
class ElementSums:
    """Error sums of many elements at once; every array has shape (119,), index = atomic number."""

    count: np.ndarray = field(default_factory=lambda: np.zeros(N_ELEMENTS, dtype=np.int64))
    absolute: np.ndarray = field(default_factory=lambda: np.zeros(N_ELEMENTS))
    squared: np.ndarray = field(default_factory=lambda: np.zeros(N_ELEMENTS))

    def add(self, numbers: np.ndarray, errors: np.ndarray) -> None:
        """Add ``errors`` (K,) or (K, 3), the row k of which belongs to the element ``numbers[k]``."""
        errors = np.asarray(errors, dtype=np.float64).reshape(len(numbers), -1)
        self.count += np.bincount(numbers, minlength=N_ELEMENTS) * errors.shape[1]
        self.absolute += np.bincount(numbers, np.abs(errors).sum(axis=1), minlength=N_ELEMENTS)
        self.squared += np.bincount(numbers, np.square(errors).sum(axis=1), minlength=N_ELEMENTS)

    def merge(self, other: ElementSums) -> None:
        """Add what ``other`` has collected."""
        self.count += other.count
        self.absolute += other.absolute
        self.squared += other.squared

    def of(self, number: int) -> ErrorSum:
        """Return the sums of one element."""
        return ErrorSum(int(self.count[number]), float(self.absolute[number]), float(self.squared[number]))


class Sample:
    """A uniform random sample of at most ``size`` pairs out of a stream (for the parity plots)."""

    def __init__(self, size: int = 20_000, seed: int = 0) -> None:
        self.size = size
        self.offered = 0
        self._random = np.random.default_rng(seed)
        self._keys = np.empty(0)
        self._pairs = np.empty((0, 2))

    def add(self, reference: np.ndarray, predicted: np.ndarray) -> None:
        """Offer pairs of equal shape; each of all pairs ever offered is kept with equal chance."""
        pairs = np.stack([np.ravel(reference), np.ravel(predicted)], axis=1)
        self.offered += len(pairs)
        keys = np.concatenate([self._keys, self._random.random(len(pairs))])
        pairs = np.concatenate([self._pairs, pairs])
        if len(keys) > self.size:
            keep = np.argpartition(keys, self.size)[: self.size]
            keys, pairs = keys[keep], pairs[keep]
        self._keys, self._pairs = keys, pairs

    @property
    def reference(self) -> np.ndarray:
        """Reference values of the sampled pairs, (K,)."""
        return self._pairs[:, 0]

    @property
    def predicted(self) -> np.ndarray:
        """Predicted values of the sampled pairs, (K,)."""
        return self._pairs[:, 1]


@dataclass
class EnergyPairs:
    """Reference and predicted total energies of structures with their compositions."""

    compositions: list[np.ndarray] = field(default_factory=list)
    reference: list[float] = field(default_factory=list)
    predicted: list[float] = field(default_factory=list)

    def add(self, numbers: np.ndarray, reference: float, predicted: float) -> None:
        """Add one structure: atomic numbers (N,), energies in eV."""
        self.compositions.append(np.bincount(numbers, minlength=N_ELEMENTS).astype(np.int32))
        self.reference.append(float(reference))
        self.predicted.append(float(predicted))

    def __len__(self) -> int:
        return len(self.reference)

    @property
    def composition(self) -> np.ndarray:
        """Number of atoms of each element, (S, 119)."""
        return np.array(self.compositions, dtype=np.float64).reshape(-1, N_ELEMENTS)

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Reference and predicted energies, eV, (S,) each."""
        return np.array(self.reference, dtype=np.float64), np.array(self.predicted, dtype=np.float64)


@dataclass(frozen=True)
class OffsetFit:
    """A per-element energy offset found by least squares."""

    offsets: np.ndarray
    """eV per atom, (119,), index = atomic number; zero for elements without data."""
    rank: int
    """Rank of the problem; below the number of elements, only combinations of offsets are fixed."""
    n_structures: int
    """Number of structures that it was fitted to."""

    def apply(self, composition: np.ndarray) -> np.ndarray:
        """Return the offset energy of each row of ``composition`` (S, 119), eV, (S,)."""
        return composition @ self.offsets


def fit_offsets(composition: np.ndarray, energies: np.ndarray) -> OffsetFit:
    """Fit ``energies`` (S,) in eV by a sum of per-element energies of ``composition`` (S, 119).

    The squared error *per atom* is minimised, so that large structures count no more than small
    ones; where the data leave combinations free (all of one formula), the smallest solution is taken.
    """
    offsets = np.zeros(N_ELEMENTS)
    present = np.flatnonzero(composition.sum(axis=0))
    if len(present) == 0:
        return OffsetFit(offsets, 0, 0)
    sizes = composition.sum(axis=1)
    solution, _, rank, _ = np.linalg.lstsq(composition[:, present] / sizes[:, None], energies / sizes, rcond=1e-10)
    offsets[present] = solution
    return OffsetFit(offsets, int(rank), len(energies))


def ratio(model: float | None, baseline: float | None) -> float | None:
    """Return ``model / baseline``, or ``None`` where that says nothing."""
    if model is None or not baseline:
        return None
    return model / baseline
