"""The interface of a check, and what it sees of a structure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import covalent_radii

from lam.data.neighbors import find_pairs
from lam.data.structure import Structure

if TYPE_CHECKING:
    from ase import Atoms

    from lam.data.audit.finding import Finding
    from lam.data.audit.ledger import Ledger
    from lam.data.splits import Split

LEAST_RADIUS, MOST_RADIUS, RADII = 4.0, 6.5, 2.6
"""Angstrom, and times the mean covalent radius: within it the neighbours are known to every check."""

DENSEST = 1.0
"""Angstrom^3 per atom: no matter is denser, but a crystal in nm is, and would have a million neighbours."""


@dataclass
class View:
    """A structure with what several checks want to know of it, computed once and only if asked for."""

    structure: Structure
    row: int | None
    """Its row in the ledger; None if it is not kept there."""
    ledger: Ledger
    index: int = -1
    """Its place in the source, from 0."""
    atoms: Atoms | None = None
    """As it came from a file, if it did."""

    def put(self, **values: Any) -> None:
        """Set columns of the ledger."""
        if self.row is not None:
            for name, value in values.items():
                self.ledger.put(self.row, name, value)

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.structure.where

    @cached_property
    def radius(self) -> float:
        """Radius of :attr:`neighbours`, Angstrom; depends on the elements only, unless the cell is impossibly dense."""
        return search_radius(self.structure.numbers) * room(self.structure)

    @cached_property
    def neighbours(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Directed pairs within :attr:`radius`: (E, 2) centre and neighbour, (E, 3) shift, (E,) Angstrom."""
        s = self.structure
        return find_pairs(s.positions, s.cell, s.pbc, self.radius)

    @cached_property
    def bond_ratios(self) -> np.ndarray:
        """Distances of :attr:`neighbours` over the sums of covalent radii, (E,)."""
        pairs, _, distances = self.neighbours
        radii = covalent_radii[self.structure.numbers]
        return distances / (radii[pairs[:, 0]] + radii[pairs[:, 1]])


@dataclass
class Context:
    """What is known when all structures have been seen."""

    name: str = ""
    about: dict[str, Any] = field(default_factory=dict)
    """Level of theory, notes, defaults: what a shard or a manifest states."""
    split: Callable[[Ledger], Split] | None = None
    """Divides the structures of a ledger as a training would; by default as the settings' defaults do."""
    fetch: Callable[[int], Structure | None] = lambda index: None
    """Returns the structure at a place of the source, or None where it can no longer be had."""


def room(structure: Structure) -> float:
    """Return what radii are scaled by in impossibly dense cells, so that no atom has a million neighbours; else 1."""
    if not structure.pbc.all():
        return 1.0
    return min(1.0, float(np.cbrt(structure.volume / (DENSEST * len(structure)))))


def search_radius(numbers: np.ndarray) -> float:
    """Return the radius within which neighbours are looked at, Angstrom: large atoms are far apart."""
    return float(np.clip(RADII * covalent_radii[numbers].mean(), LEAST_RADIUS, MOST_RADIUS))


class Check:
    """Sees the structures one by one, then judges. Subclasses override what they need.

    ``columns`` are added to the ledger: name to (type, shape). Memory must stay flat in :meth:`see`; what grows
    with the number of structures belongs into the ledger, which is thinned when it is full.
    """

    columns: dict[str, tuple[str, tuple[int, ...]]] = {}

    def see(self, view: View) -> None:
        """Take a structure."""

    def judge(self, ledger: Ledger, context: Context) -> Iterator[Finding]:
        """Yield findings about what was seen."""
        yield from ()
