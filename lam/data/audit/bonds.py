"""Bonds as a ruler: what forces and stresses of independent structures must be, by sign and by size.

A stretched bond pulls and a compressed one pushes, whatever the method. In structures that are not relaxed, the forces
along bonds therefore fall with their length, and by how much is known: over 45 public data sets (metals, oxides,
organic molecules, water; PBE to MP2) the stiffness of bonds follows

    k = 60.6 d^-4.19 (c1 c2)^0.185    eV/Angstrom^2, d in Angstrom, c the numbers of bonds of both atoms,

within a factor of 4 in the median of a data set. No two structures need to be alike. The same springs predict how
the stress of structures of one composition differs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from ase.data import covalent_radii

from lam.data.audit.check import room
from lam.data.audit.ledger import grouped
from lam.data.neighbors import find_pairs
from lam.data.structure import Structure

BOND, SHELL, LEAST = 1.25, 1.15, 0.5
"""Bonds are below this times the covalent radii and this times the shortest of either atom; overlaps are left out."""
MOST_BONDS, MOST_NEIGHBOURS = 48, 12
"""Bonds of a structure that are used for the forces; coordination numbers from here on count alike."""
MIN_CLASS, MIN_BONDS, ALIKE = 12, 60, 4
"""Bonds of a kind and of all kinds that are judged; bonds of a kind in one structure whose mean is taken away."""
LEAST_SPREAD = 3e-3  # Angstrom, of the lengths of a kind of bond
STRONG, SIGNIFICANT = 0.5, 3.0
"""Rank correlation of force and length above which the slope is not washed out by different surroundings; and standard
deviations, so that it is not by chance."""
ORGANIC = (1, 6, 7, 8, 9)


def stiffness(lengths: np.ndarray, c1: np.ndarray, c2: np.ndarray) -> np.ndarray:
    """Return the expected stiffness of bonds, eV/Angstrom^2."""
    return 60.6 * lengths**-4.19 * (c1 * c2) ** 0.185


@dataclass
class Bonds:
    """Bonds of one structure."""

    kind: np.ndarray
    """(B,) int64: elements and coordination numbers."""
    length: np.ndarray
    """(B,) Angstrom."""
    direction: np.ndarray
    """(B, 3) unit vectors."""
    ends: np.ndarray
    """(B, 2) the two atoms."""
    forces: np.ndarray | None
    """(N, 3) stored forces of all atoms, eV/Angstrom."""
    numbers: np.ndarray
    """(N,) atomic numbers."""

    @property
    def pull(self) -> np.ndarray:
        """Half of the difference of the forces along each bond, (B,) eV/Angstrom; negative pulls together."""
        if self.forces is None:
            return np.full(len(self.kind), np.nan)
        return 0.5 * ((self.forces[self.ends[:, 1]] - self.forces[self.ends[:, 0]]) * self.direction).sum(axis=1)


def find_bonds(structure: Structure) -> Bonds:
    """Return the bonds to the first shell of neighbours."""
    s = structure
    radii = covalent_radii[s.numbers]
    pairs, shift, lengths = find_pairs(s.positions, s.cell, s.pbc, BOND * 2 * float(radii.max()) * room(s))
    ratio = lengths / radii[pairs].sum(axis=1)
    kept = (ratio < BOND) & (ratio > LEAST)
    pairs, shift, lengths, ratio = pairs[kept], shift[kept], lengths[kept], ratio[kept]
    nearest = np.full(len(s), np.inf)
    np.minimum.at(nearest, pairs[:, 0], ratio)
    kept = ratio < SHELL * nearest[pairs].max(axis=1)
    coordination = np.minimum(np.bincount(pairs[kept, 0], minlength=len(s)), MOST_NEIGHBOURS)
    kept &= pairs[:, 0] < pairs[:, 1]
    pairs, shift, lengths = pairs[kept], shift[kept], lengths[kept]
    direction = (s.positions[pairs[:, 1]] + shift @ s.cell - s.positions[pairs[:, 0]]) / lengths[:, None]
    sides = np.sort(s.numbers[pairs].astype(np.int64) * 16 + coordination[pairs], axis=1)
    return Bonds(sides[:, 0] * 4096 + sides[:, 1], lengths, direction, pairs, s.forces, s.numbers)


@dataclass(frozen=True)
class Kind:
    """A kind of bond: two elements with their coordination numbers."""

    count: int
    length: float
    """Median, Angstrom."""
    expected: float
    """Stiffness by the rule, eV/Angstrom^2."""
    slope: float
    """Stiffness that the forces say, eV/Angstrom^2; negative if stretched bonds push."""
    correlation: float
    """Of force and length by rank; -1 is a perfect spring. 0 without forces."""
    activity: float
    """Root mean square of the forces along the bonds over what the rule makes of their lengths."""
    organic: bool

    @property
    def strong(self) -> bool:
        """Do forces clearly depend on the length, either way, and not by chance?"""
        return abs(self.correlation) > STRONG and abs(self.correlation) * np.sqrt(self.count - 1) > SIGNIFICANT


@dataclass
class Springs:
    """What the bonds of a data set say of its forces."""

    kinds: dict[int, Kind] = field(default_factory=dict)
    of: dict[int, Bonds] = field(default_factory=dict)
    """Bonds of each structure that was looked at, by the caller's number."""

    def _weighted(self, kinds: list[Kind], name: str) -> float:
        counts = np.array([kind.count for kind in kinds], dtype=float)
        return float(np.average([getattr(kind, name) for kind in kinds], weights=counts)) if kinds else 0.0

    @property
    def moving(self) -> list[Kind]:
        """Kinds of bonds with forces."""
        return [kind for kind in self.kinds.values() if kind.activity > 0]

    @property
    def count(self) -> int:
        """Bonds that are judged."""
        return sum(kind.count for kind in self.moving)

    @property
    def correlation(self) -> float:
        """Mean rank correlation of force and length; right forces have -0.96 to 0."""
        return self._weighted(self.moving, "correlation")

    @property
    def strong(self) -> float:
        """Share of the bonds whose forces clearly depend on their length, either way."""
        count = sum(kind.count for kind in self.moving if kind.strong)
        return count / self.count if self.count else 0.0

    @property
    def ruler(self) -> float:
        """How many times too large the forces are, 0.5 to 4.2 in right data; NaN where this cannot be told."""
        kinds = [kind for kind in self.moving if kind.strong and kind.slope]
        if self.strong < 0.4 or self.count < MIN_BONDS:
            return float("nan")
        return weighted_median(
            np.array([abs(kind.slope) / kind.expected for kind in kinds]),
            np.array([kind.count * abs(kind.correlation) for kind in kinds]),
        )

    @property
    def activity(self) -> float:
        """Size of the forces over what the lengths let expect, whatever the sign or order; 0.02 if all are relaxed."""
        return self._weighted(self.moving, "activity")

    def organic(self) -> tuple[int, float, float]:
        """Return bonds between H, C, N, O, F: how many, their mean correlation and activity."""
        kinds = [kind for kind in self.moving if kind.organic]
        counted = sum(kind.count for kind in kinds)
        return counted, self._weighted(kinds, "correlation"), self._weighted(kinds, "activity")


def measure(structures: Iterable[tuple[int, Structure]]) -> Springs:
    """Look at the bonds of structures, given with a number each."""
    springs = Springs()
    rng = np.random.default_rng(0)
    kinds, lengths, pulls = [], [], []
    for number, structure in structures:
        bonds = find_bonds(structure)
        springs.of[number] = bonds
        chosen = rng.permutation(len(bonds.kind))[:MOST_BONDS]
        kinds.append(bonds.kind[chosen])
        lengths.append(bonds.length[chosen])
        pulls.append(bonds.pull[chosen])
    if kinds:
        kind, length, pull = np.concatenate(kinds), np.concatenate(lengths), np.concatenate(pulls)
        for members in grouped(kind):
            if len(members) >= MIN_CLASS and (known := _kind(int(kind[members[0]]), length[members], pull[members])):
                springs.kinds[int(kind[members[0]])] = known
    return springs


def _kind(code: int, length: np.ndarray, pull: np.ndarray) -> Kind | None:
    if length.std() < LEAST_SPREAD:
        return None
    (z1, c1), (z2, c2) = divmod(code // 4096, 16), divmod(code % 4096, 16)
    middle = float(np.median(length))
    expected = float(stiffness(np.array(middle), np.array(c1), np.array(c2)))
    known = np.isfinite(pull)
    x, y = length[known], pull[known]
    slope = correlation = activity = 0.0
    if len(y) >= MIN_CLASS and y.std() > 1e-9:
        low, high = np.quantile(x, (0.3, 0.7))
        below, above = x <= low, x >= high
        apart = float(np.median(x[above]) - np.median(x[below]))
        slope = -float(np.median(y[above]) - np.median(y[below])) / apart if apart > 0 else 0.0
        correlation = rank_correlation(x, y)
        activity = float(np.sqrt((y**2).mean())) / (expected * float(x.std()))
    organic = z1 in ORGANIC and z2 in ORGANIC
    return Kind(len(length), middle, expected, slope, correlation, activity, organic)


def own_springs(bonds: Bonds, kinds: dict[int, Kind]) -> tuple[int, float, float]:
    """Return how the forces of one structure fit its bonds: number of bonds, correlation, size over the expected.

    Expected are springs of the rule (or as stiff as the data say, where these are clear) about the median lengths.
    """
    model, pull = np.full(len(bonds.kind), np.nan), bonds.pull
    for code in np.unique(bonds.kind):
        kind = kinds.get(int(code))
        if kind is not None:
            here = bonds.kind == code
            stiff = abs(kind.slope) if kind.strong and kind.slope else kind.expected
            model[here] = -stiff * (bonds.length[here] - kind.length)
            if here.sum() >= ALIKE:  # what all share is strain of the cell, which makes no forces
                model[here] -= model[here].mean()
                pull[here] -= pull[here].mean()
    known = np.isfinite(model) & np.isfinite(pull)
    x, y = model[known], pull[known]
    norms = float(np.sqrt((x**2).sum())), float(np.sqrt((y**2).sum()))
    if len(x) < 3 or not all(norms):
        return len(x), 0.0, 0.0
    return len(x), float((x * y).sum()) / (norms[0] * norms[1]), norms[1] / norms[0]


@dataclass
class Modelled:
    """What springs of the rule make of one structure; what its surroundings add is left out."""

    stress: np.ndarray
    """V times the stress, (3, 3), eV, tensile positive."""
    forces: np.ndarray
    """(N, 3) eV/Angstrom."""
    energy: float
    """eV, 0 where all bonds have their median length."""
    stiffness: float
    """Mean stiffness that an atom feels, eV/Angstrom^2; 0 without bonds."""


def modelled(bonds: Bonds, kinds: dict[int, Kind]) -> Modelled:
    """Return energy, forces and stress of springs as long as bonds of their kind are in the median."""
    codes, place = np.unique(bonds.kind, return_inverse=True)
    known = np.array([int(code) in kinds for code in codes], dtype=bool)
    stiff = np.array([kinds[int(code)].expected if ok else 0.0 for code, ok in zip(codes, known, strict=True)])
    middle = np.array([kinds[int(code)].length if ok else 0.0 for code, ok in zip(codes, known, strict=True)])
    forces = np.zeros((len(bonds.numbers), 3))
    if not len(codes):
        return Modelled(np.zeros((3, 3)), forces, 0.0, 0.0)
    k, stretch = stiff[place], (bonds.length - middle[place]) * known[place]
    pull = (k * stretch)[:, None] * bonds.direction
    np.add.at(forces, bonds.ends[:, 0], pull)
    np.add.at(forces, bonds.ends[:, 1], -pull)
    stress = (bonds.direction * bonds.length[:, None]).T @ pull
    energy = 0.5 * float((k * stretch**2).sum())
    return Modelled(stress, forces, energy, 2 * float(k.sum()) / (3 * len(bonds.numbers)))


def weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    """Return the value below which half of the weight is."""
    order = np.argsort(values)
    heavy = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(heavy, 0.5 * heavy[-1])]) if len(values) else float("nan")


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Return Spearman's rank correlation; 0 where one side is constant."""
    ranks = [np.argsort(np.argsort(values, kind="stable"), kind="stable").astype(float) for values in (x, y)]
    if len(x) < 3 or x.std() == 0 or y.std() == 0:
        return 0.0
    return float(np.corrcoef(*ranks)[0, 1])
