"""What the recipes share: units, and frames of one molecule from arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase.units import Bohr, GPa, Hartree, kcal, mol

from lam.data.recipes.base import attempt
from lam.data.structure import (
    MAX_ATOMIC_NUMBER,
    MAX_COORDINATE,
    MAX_ENERGY_PER_ATOM,
    MAX_FORCE,
    MAX_STRESS,
    MIN_CELL_FRACTION,
    MIN_CELL_VECTOR,
    Structure,
)
from lam.errors import LamError

HARTREE = Hartree
"""eV"""
BOHR = Bohr
"""Angstrom"""
KCAL_MOL = kcal / mol
"""eV"""
KBAR = 0.1 * GPa
"""eV/Angstrom^3"""

NO_CELL = np.zeros((3, 3))
NO_PBC = np.zeros(3, dtype=bool)
ALL_PBC = np.ones(3, dtype=bool)


def singlet_if_even(numbers: np.ndarray, charge: float | None) -> float | None:
    """Return 1 for an even number of electrons, else ``None``: an odd number cannot be a singlet.

    Args:
        numbers: atomic numbers, (N,).
        charge: total charge in e; ``None`` counts as 0.
    """
    return 1.0 if (int(numbers.sum()) - round(charge or 0.0)) % 2 == 0 else None


def formula(numbers: np.ndarray) -> str:
    """Return the chemical formula in Hill order; empty with an unknown element, which is refused later and better."""
    if not len(numbers) or numbers.min() < 1 or numbers.max() > MAX_ATOMIC_NUMBER:
        return ""
    from ase.formula import Formula
    from ase.symbols import Symbols

    return Formula(str(Symbols(numbers))).format("hill")


def check_numbers(numbers: np.ndarray, where: str) -> np.ndarray:
    """Return atomic numbers as (N,) int64.

    Raises:
        LamError: if they are not whole numbers in one dimension.
    """
    numbers = np.asarray(numbers)
    if numbers.ndim != 1 or not len(numbers) or not np.issubdtype(numbers.dtype, np.number):
        raise LamError(f"{where}: the atomic numbers have shape {numbers.shape} instead of (atoms,).")
    if (numbers != np.rint(numbers)).any():
        raise LamError(f"{where}: the atomic numbers are not whole numbers.")
    return numbers.astype(np.int64)


def check_shape(values: np.ndarray, name: str, shape: tuple[int, ...], where: str) -> np.ndarray:
    """Return ``values`` if they have this shape; (n, 1) also counts as (n,).

    Raises:
        LamError: naming the array, its shape and the expected one.
    """
    if len(shape) == 1 and values.shape == (*shape, 1):
        values = values[:, 0]
    if values.shape != shape:
        raise LamError(f"{where}: '{name}' has shape {values.shape} instead of {shape}; the file is damaged.")
    return values


def molecule_frames(
    numbers: np.ndarray,
    positions: np.ndarray,
    energies: np.ndarray | None,
    forces: np.ndarray | None,
    *,
    name: str,
    group: str,
    start: int = 0,
    charge: float | None = None,
    multiplicity: float | None = None,
    nan_is_missing: bool = False,
) -> Iterator[Structure | LamError]:
    """Yield the frames of one molecule without a cell.

    Args:
        numbers: atomic numbers, (N,).
        positions: Angstrom, (F, N, 3).
        energies: eV, (F,).
        forces: eV/Angstrom, (F, N, 3).
        name: what comes before ``#number`` in the source of each frame.
        group: group of all frames.
        start: number of the first frame.
        charge: total charge, e.
        multiplicity: spin multiplicity 2S+1.
        nan_is_missing: NaN marks a label that was not computed; frames without any label are left out.
    """
    count = len(positions)
    has_energy = np.full(count, energies is not None)
    has_forces = np.full(count, forces is not None)
    if nan_is_missing:
        if energies is not None:
            has_energy = ~np.isnan(energies)
        if forces is not None:
            has_forces = ~np.isnan(forces).any(axis=(1, 2))
    block = Block(
        numbers=numbers,
        positions=positions,
        energies=energies,
        forces=forces,
        has_energy=has_energy,
        has_forces=has_forces,
        group=group,
        source=name,
        start=start,
        charge=charge,
        multiplicity=multiplicity,
    )
    wanted = np.flatnonzero(has_energy | has_forces) if nan_is_missing else range(count)
    yield from block.frames(wanted)


@dataclass(kw_only=True)
class Block:
    """Frames of the same atoms, in arrays: checked together, which is ten times faster than one by one.

    Shapes: F frames, N atoms. Units: eV, Angstrom.
    """

    numbers: np.ndarray
    """(N,)"""
    positions: np.ndarray
    """(F, N, 3)"""
    cells: np.ndarray | None = None
    """(F, 3, 3); periodic in three directions, if it is there."""
    energies: np.ndarray | None = None
    """(F,)"""
    forces: np.ndarray | None = None
    """(F, N, 3)"""
    stresses: np.ndarray | None = None
    """(F, 3, 3)"""
    has_energy: np.ndarray | None = None
    """Which frames have an energy, (F,); by default all, if there are energies."""
    has_forces: np.ndarray | None = None
    """Likewise."""
    group: str
    source: str
    """What comes before ``#number`` in the source of each frame."""
    start: int = 0
    """Number of the first frame."""
    charge: float | None = None
    multiplicity: float | None = None

    def frames(self, rows: Iterable[int]) -> Iterator[Structure | LamError]:
        """Yield some frames; one that is not acceptable is made by itself, for the message that says why."""
        self.positions = np.ascontiguousarray(self.positions, dtype=np.float64)
        if self.forces is not None:
            self.forces = np.ascontiguousarray(self.forces, dtype=np.float64)
        if self.stresses is not None:
            self.stresses = 0.5 * (self.stresses + self.stresses.transpose(0, 2, 1))
        good = self._acceptable().tolist()
        for row in rows:
            fields = self._fields(row)
            yield _trusted(fields) if good[row] else attempt(Structure, **fields)

    def _fields(self, row: int) -> dict[str, Any]:
        energy = self.energies is not None and (self.has_energy is None or self.has_energy[row])
        forces = self.forces is not None and (self.has_forces is None or self.has_forces[row])
        return {
            "numbers": self.numbers,
            "positions": self.positions[row],
            "cell": NO_CELL if self.cells is None else self.cells[row],
            "pbc": NO_PBC if self.cells is None else ALL_PBC,
            "total_charge": self.charge,
            "spin_multiplicity": self.multiplicity,
            "energy": float(self.energies[row]) if energy else None,
            "forces": self.forces[row] if forces else None,
            "stress": None if self.stresses is None else self.stresses[row],
            "group": self.group,
            "source": f"{self.source}#{self.start + row}",
        }

    def _acceptable(self) -> np.ndarray:
        """Return which frames pass all checks of :class:`Structure`, (F,) bool."""
        count, atoms = len(self.positions), len(self.numbers)
        if not atoms or self.numbers.min() < 1 or self.numbers.max() > MAX_ATOMIC_NUMBER:
            return np.zeros(count, dtype=bool)
        # NaN compares false with everything, and infinity is too large: both fail.
        good = _below(self.positions, MAX_COORDINATE)
        if self.energies is not None:
            good &= _below(self.energies, MAX_ENERGY_PER_ATOM * atoms) | ~_present(self.has_energy, count)
        if self.forces is not None:
            good &= _below(self.forces, MAX_FORCE) | ~_present(self.has_forces, count)
        if self.stresses is not None:
            good &= _below(self.stresses, MAX_STRESS)
        if self.cells is not None:
            lengths = np.linalg.norm(self.cells, axis=2)
            good &= (lengths > MIN_CELL_VECTOR).all(axis=1) & np.isfinite(self.cells).all(axis=(1, 2))
            volumes = np.abs(np.linalg.det(np.where(good[:, None, None], self.cells, np.eye(3))))
            good &= volumes > MIN_CELL_FRACTION * np.prod(lengths, axis=1) * 1.001  # the border is decided one by one
        return good


def _below(values: np.ndarray, limit: float) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return (np.abs(values) < limit).reshape(len(values), -1).all(axis=1)


def _present(mask: np.ndarray | None, count: int) -> np.ndarray:
    return np.ones(count, dtype=bool) if mask is None else mask


def _trusted(fields: dict[str, Any]) -> Structure:
    """Return a structure without checking it again."""
    structure = object.__new__(Structure)
    structure.__dict__.update(fields)
    return structure


def trajectory_name(path: Path) -> str:
    """Return the last three parts of a path: a group for calculations, whose files are all named alike."""
    return "/".join(path.absolute().parts[-3:]).lstrip("/")
