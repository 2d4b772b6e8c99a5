"""The structures that every code is timed on, and how they move; NumPy and ASE only.

Everything is made here from a seed, so that each code sees the same coordinates without a file.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.spacegroup import crystal

WATER_DENSITY = 1.0
"""g/cm^3."""
_GRAMS_PER_DALTON_AND_CUBIC_ANGSTROM = 1.66053906660
_WATER_MASS = 18.015
_OH, _ANGLE = 0.9572, np.deg2rad(104.52)


def water_box(molecules_per_side: int = 4, seed: int = 0) -> Atoms:
    """Return a periodic cube of ``molecules_per_side**3`` water molecules at 1 g/cm^3.

    Molecules sit on a jittered grid; each is turned, in a few sweeps, to the best of some random orientations:
    that with the weakest repulsion between atoms of different molecules. Not a liquid in equilibrium, but with its
    density and its numbers of neighbours, and without overlaps.
    """
    random = np.random.default_rng(seed)
    count = molecules_per_side**3
    volume = count * _WATER_MASS * _GRAMS_PER_DALTON_AND_CUBIC_ANGSTROM / WATER_DENSITY
    side = volume ** (1 / 3)
    grid = np.stack(np.meshgrid(*3 * [np.arange(molecules_per_side)], indexing="ij"), axis=-1).reshape(-1, 3)
    centers = (grid + 0.5) * (side / molecules_per_side) + random.uniform(-0.2, 0.2, size=(count, 3))
    half = _ANGLE / 2
    shape = np.array([[0.0, 0.0, 0.0], [np.sin(half), np.cos(half), 0.0], [-np.sin(half), np.cos(half), 0.0]]) * _OH
    positions = np.stack([center + shape @ _rotation(random) for center in centers])
    for _ in range(3):
        for molecule in range(count):
            others = np.delete(positions, molecule, axis=0).reshape(-1, 3)
            trials = [positions[molecule], *(centers[molecule] + shape @ _rotation(random) for _ in range(15))]
            positions[molecule] = min(trials, key=lambda trial: _repulsion(trial, others, side))
    return Atoms("OH2" * count, positions=positions.reshape(-1, 3), cell=3 * [side], pbc=True)


def repeated_water(n_atoms: int, seed: int = 0, displacement: float = 0.05) -> Atoms:
    """Return about ``n_atoms`` atoms of water: copies of a box of 192 atoms, each atom displaced at random.

    The numbers of copies along the axes differ as little as possible: 192, 1536, 12288, 98304 give cubes.

    Args:
        n_atoms: number of atoms wanted; rounded to a whole number of boxes.
        seed: of the displacements.
        displacement: their standard deviation, Angstrom.
    """
    box = water_box()
    boxes = box.repeat(copies_along_axes(round(n_atoms / len(box))))
    boxes.positions += np.random.default_rng(seed).normal(scale=displacement, size=boxes.positions.shape)
    return boxes


def copies_along_axes(copies: int) -> tuple[int, int, int]:
    """Return three factors of about ``copies`` that are as equal as possible (exactly ``copies`` if it is a cube)."""
    copies = max(1, copies)
    first = max(1, round(copies ** (1 / 3)))
    second = max(1, round((copies / first) ** 0.5))
    return first, second, max(1, round(copies / (first * second)))


def copper(repeats: int = 4, seed: int = 0) -> Atoms:
    """Return fcc copper, ``4 * repeats**3`` atoms, each displaced by 0.05 Angstrom."""
    atoms = bulk("Cu", "fcc", a=3.615, cubic=True).repeat(repeats)
    atoms.rattle(0.05, seed=seed)
    return atoms


def rutile(seed: int = 0) -> Atoms:
    """Return rutile, TiO2, 216 atoms, each displaced by 0.05 Angstrom."""
    cell = crystal(
        ["Ti", "O"], [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=[4.594, 4.594, 2.959, 90, 90, 90]
    )
    atoms = Atoms(cell.numbers, positions=cell.positions, cell=cell.cell, pbc=True).repeat((3, 3, 4))
    atoms.rattle(0.05, seed=seed)
    return atoms


def octane(seed: int = 0) -> Atoms:
    """Return n-octane, C8H18, 26 atoms, not periodic, each displaced by 0.05 Angstrom."""
    carbons, bond, half = 8, 1.53, np.deg2rad(112.0) / 2
    chain = np.array([[i * bond * np.sin(half), (i % 2) * bond * np.cos(half), 0.0] for i in range(carbons)])
    symbols, positions = ["C"] * carbons, list(chain)
    for i, carbon in enumerate(chain):
        outwards = 1.0 if i % 2 else -1.0
        for side in (1.0, -1.0):
            direction = np.array([0.0, outwards * np.cos(0.95), side * np.sin(0.95)])
            positions.append(carbon + 1.09 * direction)
    for end, sign in ((0, -1.0), (carbons - 1, 1.0)):
        inwards = -1.0 if end % 2 else 1.0
        positions.append(chain[end] + 1.09 * np.array([sign * np.sin(half), inwards * np.cos(half), 0.0]))
    atoms = Atoms(symbols + ["H"] * (len(positions) - carbons), positions=np.array(positions))
    atoms.rattle(0.05, seed=seed)
    return atoms


SYSTEMS: dict[str, Callable[[], Atoms]] = {
    "water": water_box,
    "copper": copper,
    "rutile": rutile,
    "octane": octane,
}
"""Name of each structure of the comparison -> what makes it."""


def moved(start: np.ndarray, cell: np.ndarray, step: int) -> np.ndarray:
    """Return positions as dynamics would give them at a step: all atoms have moved, none by much.

    A slow swell that fits the cell (0.25 Angstrom, 120 steps, neighbours nearly together) and on it a fast vibration
    of each atom (0.02 Angstrom). After a dozen steps some atom is 0.25 Angstrom, half a usual skin, from where it
    was, so a neighbour list with a skin is renewed about as often as in room-temperature water with steps of 1 fs.

    Args:
        start: positions at rest, Angstrom, (N, 3).
        cell: rows are vectors, Angstrom, (3, 3); zeros for a molecule.
        step: number of the step.
    """
    along = start @ np.linalg.inv(cell)[:, 0] if np.linalg.det(cell) else start[:, 0] / 25.0
    phase = 2.0 * np.pi * (step / 120.0 + along)
    swell = 0.25 * np.stack([np.sin(phase), np.cos(phase), np.sin(phase + 1.0)], axis=1)
    own = np.arange(len(start))[:, None] * np.array([1.0, 2.3, 3.7])
    return start + swell + 0.02 * np.sin(own + 0.9 * step)


def training_cells(count: int, seed: int = 0) -> list[Atoms]:
    """Return ``count`` cells of 32 copper atoms, each displaced by 0.1 Angstrom."""
    cells = []
    for number in range(count):
        atoms = bulk("Cu", "fcc", a=3.615, cubic=True).repeat(2)
        atoms.rattle(0.1, seed=seed + number)
        cells.append(atoms)
    return cells


def _rotation(random: np.random.Generator) -> np.ndarray:
    """Return a random rotation matrix, (3, 3)."""
    matrix, upper = np.linalg.qr(random.normal(size=(3, 3)))
    matrix = matrix * np.sign(np.diag(upper))
    return matrix if np.linalg.det(matrix) > 0 else -matrix


def _repulsion(molecule: np.ndarray, others: np.ndarray, side: float) -> float:
    """Return a sum of ``r^-8`` between the atoms (3, 3) of a molecule and others (K, 3) in a periodic cube."""
    apart = molecule[:, None] - others[None]
    apart -= side * np.round(apart / side)
    return float(((apart**2).sum(-1) ** -4).sum())
