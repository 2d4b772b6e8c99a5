"""Crystals of single elements: each in the form in which it is known, where that is small, else in simple ones."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.data import chemical_symbols, reference_states, vdw_radii

from lam.corpus.context import Context, direction
from lam.corpus.elements import ALL
from lam.corpus.periodic import deformed, primitive
from lam.corpus.prototypes import PROTOTYPES, build
from lam.corpus.sample import Sample

CHAINS = {34: (4.366, 4.954, 0.225), 52: (4.457, 5.929, 0.263)}
"""Helical chains of selenium and tellurium: a, c (Angstrom), and the free coordinate."""
BONDS = {1: 0.74, 7: 1.10, 8: 1.21, 9: 1.42, 17: 1.99, 35: 2.28, 53: 2.67}
"""Angstrom, in the molecules of which these elements' crystals consist."""
BUILDABLE = ("fcc", "bcc", "hcp", "diamond", "sc", "bct", "rhombohedral")
SIMPLE = ("fcc", "bcc", "sc", "hcp", "diamond", "A7", "graphite")
OWN = 0.6
"""Share of structures that are the element's own crystal."""


def elemental(context: Context) -> Iterator[Sample]:
    """Yield crystals of the least covered element; the first of each is its own; deformed and displaced."""
    random = context.random
    seen: set[int] = set()
    while True:
        z = context.coverage.choose([ALL], random)[0]
        crystal, name = None, "known"
        if z not in seen or random.random() < OWN:
            crystal = known_crystal(z, random)
        if crystal is None or len(crystal) > context.max_atoms:
            crystal, name = _simple(z, context)
        seen.add(z)
        atoms, how = deformed(crystal, random)
        yield Sample(atoms, f"{name}/{how}", f"{name}-{chemical_symbols[z]}")


def known_crystal(z: int, random: np.random.Generator) -> Atoms | None:
    """Return the primitive cell of an element's crystal, at its measured lattice constants as ASE has them.

    Molecules are put at the points of a face-centred lattice at the distance of their van der Waals radii, all turned
    the same, random way.

    Returns:
        ``None`` where the crystal is not known or has a large cell.
    """
    if z in BONDS:
        return _molecular(z, BONDS[z], random)
    if z in CHAINS:
        a, c, x = CHAINS[z]
        places = [(x, 0, 1 / 3), (0, x, 2 / 3), (-x, -x, 0)]
        cell = [[a, 0, 0], [-a / 2, a * np.sqrt(3) / 2, 0], [0, 0, c]]
        return Atoms([z] * 3, scaled_positions=places, cell=cell, pbc=True)
    state = reference_states[z]
    if not state or state["symmetry"] not in BUILDABLE:
        return None
    crystal = bulk(chemical_symbols[z])
    return Atoms(crystal.numbers, crystal.positions, cell=crystal.cell, pbc=True)  # without moments


def _molecular(z: int, bond: float, random: np.random.Generator) -> Atoms:
    nearest = 2 * vdw_radii[z] + 0.5 * bond
    cell = nearest / np.sqrt(2) * (np.ones((3, 3)) - np.eye(3))
    half = 0.5 * bond * direction(random)
    return Atoms([z, z], [half, -half], cell=cell, pbc=True)


def _simple(z: int, context: Context) -> tuple[Atoms, str]:
    known = {prototype.name: prototype for prototype in PROTOTYPES}
    while True:
        name = str(context.random.choice(SIMPLE))
        crystal = primitive(build(known[name], [z]))
        if len(crystal) <= context.max_atoms:
            return crystal, name
