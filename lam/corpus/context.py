"""What every generator is given, and what they share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms

from lam.corpus.coverage import Coverage


@dataclass
class Context:
    """Random numbers of one family, and what is covered so far."""

    random: np.random.Generator
    coverage: Coverage
    """Grows with every structure that is taken."""
    max_atoms: int = 60
    copies: int = 3
    """Up to so many conformers, distances or strains of one composition."""


def rattled(atoms: Atoms, sigma: float, random: np.random.Generator) -> Atoms:
    """Return a copy with normally distributed displacements of ``sigma`` Angstrom."""
    copy = atoms.copy()
    copy.positions += random.normal(scale=sigma, size=copy.positions.shape)
    return copy


def strained(atoms: Atoms, size: float, random: np.random.Generator, *, volume: float = 1.0) -> Atoms:
    """Return a copy under a random strain of ``size`` (standard deviation), its volume first scaled by ``volume``."""
    copy = atoms.copy()
    strain = random.normal(scale=size, size=(3, 3))
    matrix = volume ** (1 / 3) * (np.eye(3) + 0.5 * (strain + strain.T))
    if atoms.pbc.any():
        copy.set_cell(atoms.cell.array @ matrix, scale_atoms=True)
    else:
        copy.positions = atoms.positions @ matrix
    return copy


def rotation(random: np.random.Generator) -> np.ndarray:
    """Return a random rotation, (3, 3), uniform over all."""
    q = random.normal(size=4)
    w, x, y, z = q / np.linalg.norm(q)
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ])  # fmt: skip


def direction(random: np.random.Generator) -> np.ndarray:
    """Return a random unit vector."""
    vector = random.normal(size=3)
    return vector / np.linalg.norm(vector)
