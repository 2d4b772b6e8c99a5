"""Small structures on which a potential is tested: one of every kind that breaks something."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule

DEFAULT_ELEMENTS = ("O", "H", "C")


def molecule_like(elements: Sequence[str] = DEFAULT_ELEMENTS, *, seed: int = 0) -> Atoms:
    """Return nine atoms with the geometry of a shaken ethanol molecule, 1.0-1.5 A between neighbours."""
    atoms = molecule("CH3CH2OH")
    atoms.set_chemical_symbols(list(islice(cycle(elements), len(atoms))))
    return _shaken(atoms, 0.05, seed)


def skewed_crystal(elements: Sequence[str] = DEFAULT_ELEMENTS, *, seed: int = 1) -> Atoms:
    """Return two atoms in a strained, skewed primitive cell, far smaller than any cutoff."""
    atoms = bulk("Si", "diamond", a=4.8)
    atoms.set_chemical_symbols(list(islice(cycle(elements), len(atoms))))
    strain = np.eye(3) + np.array([[0.03, 0.06, 0.0], [0.0, -0.02, 0.09], [-0.04, 0.0, 0.05]])
    atoms.set_cell(atoms.cell @ strain, scale_atoms=True)
    return _shaken(atoms, 0.08, seed)


def slab(elements: Sequence[str] = DEFAULT_ELEMENTS, *, seed: int = 2) -> Atoms:
    """Return a few layers, periodic in two directions, without a cell vector in the third."""
    atoms = bulk("Cu", "fcc", a=3.9, cubic=True)
    atoms.set_chemical_symbols(list(islice(cycle(elements), len(atoms))))
    atoms.set_cell([atoms.cell[0], atoms.cell[1], [0.0, 0.0, 0.0]])
    atoms.set_pbc([True, True, False])
    return _shaken(atoms, 0.1, seed)


def chain(elements: Sequence[str] = DEFAULT_ELEMENTS, *, seed: int = 3) -> Atoms:
    """Return a chain, periodic along its second lattice vector only."""
    symbols = list(islice(cycle(elements), 3))
    positions = [[0.0, 0.0, 0.0], [0.6, 1.3, 0.2], [-0.3, 2.6, 0.1]]
    atoms = Atoms(symbols, positions=positions, cell=[[0, 0, 0], [0.3, 4.0, 0.0], [0, 0, 0]], pbc=[False, True, False])
    return _shaken(atoms, 0.05, seed)


def disordered(elements: Sequence[str] = DEFAULT_ELEMENTS, *, n_atoms: int = 10, seed: int = 4) -> Atoms:
    """Return atoms at random places of a triclinic cell, at least 1.1 A apart, with images."""
    random = np.random.default_rng(seed)
    cell = np.array([[5.0, 0.0, 0.0], [1.1, 4.8, 0.0], [-0.7, 0.9, 5.2]])
    symbols = list(islice(cycle(elements), n_atoms))
    atoms = Atoms(cell=cell, pbc=True)
    while len(atoms) < n_atoms:
        trial = atoms + Atoms(symbols[len(atoms)], positions=[random.random(3) @ cell])
        if len(atoms) == 0 or trial.get_distances(-1, range(len(atoms)), mic=True).min() > 1.1:
            atoms = trial
    return atoms


def isolated_atom(element: str = DEFAULT_ELEMENTS[0]) -> Atoms:
    """Return one atom in empty space."""
    return Atoms(element, positions=[[0.3, -0.2, 0.1]])


def sample_structures(elements: Sequence[str] = DEFAULT_ELEMENTS) -> dict[str, Atoms]:
    """Return one structure of every kind, by name, made of ``elements``; none at rest, none symmetric."""
    return {
        "molecule": molecule_like(elements),
        "skewed crystal": skewed_crystal(elements),
        "slab": slab(elements),
        "chain": chain(elements),
        "disordered": disordered(elements),
        "isolated atom": isolated_atom(elements[0]),
    }


def dimer(first: str, second: str, distance: float) -> Atoms:
    """Return two atoms ``distance`` (A) apart along an odd direction."""
    direction = np.array([0.36, -0.48, 0.8])
    return Atoms([first, second], positions=[np.zeros(3), distance * direction])


def _shaken(atoms: Atoms, size: float, seed: int) -> Atoms:
    atoms.positions += np.random.default_rng(seed).normal(scale=size, size=atoms.positions.shape)
    return atoms
