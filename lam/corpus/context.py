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


AXES = ((0, 0, 1), (0, 0, 1), (1, 1, 1), (1, 1, 0), (1, 0, 0))
"""Cartesian directions that are symmetry axes of most prototypes."""


def stretched(atoms: Atoms, size: float, sigma: float, random: np.random.Generator, *, volume: float = 1.0) -> Atoms:
    """Return a crystal whose lattice is strained and whose atoms are moved along one common axis of symmetry.

    Stress and forces do not vanish, but symmetry is left: with k-points that makes a calculation several times cheaper.

    Args:
        atoms: a crystal.
        size: standard deviation of the strain along the axis.
        sigma: standard deviation of the displacements along it, Angstrom; a single atom is not moved.
        random: random numbers.
        volume: scales the volume first.
    """
    # In hexagonal lattices any other axis would leave nothing.
    axes = AXES[:1] if abs(np.cos(np.radians(atoms.cell.angles()[2])) + 0.5) < 1e-3 else AXES
    axis = np.array(axes[random.integers(len(axes))], dtype=float)
    axis /= np.linalg.norm(axis)
    matrix = volume ** (1 / 3) * (np.eye(3) + (np.exp(random.normal(scale=size)) - 1) * np.outer(axis, axis))
    copy = atoms.copy()
    copy.set_cell(atoms.cell.array @ matrix, scale_atoms=True)
    moves = random.normal(scale=sigma, size=len(copy))
    if len(copy) > 1:
        copy.positions += moves[:, None] * axis
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
