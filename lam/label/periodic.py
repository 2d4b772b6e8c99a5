"""Is a periodic cell large enough for an engine that knows only the Gamma point?

At one k-point the energy per atom of a small cell depends on which cell of the same crystal was chosen: with
GFN1-xTB by 6.5 eV per atom between 2 and 54 atoms of silicon. No potential can learn such labels. Cells below
:data:`MIN_WIDTH` are refused; from there to :data:`SAFE_WIDTH` the cell is compared with a larger one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from lam.data.structure import Structure
from lam.errors import LamError
from lam.label.engines import Labels, Refused

CheckMode = Literal["auto", "always", "never"]
CHECK_MODES: tuple[CheckMode, ...] = ("auto", "always", "never")

MIN_WIDTH = 8.0
"""Angstrom between opposite faces of the cell; below, nothing is calculated."""
SAFE_WIDTH = 22.0
"""Angstrom; the Gamma point of such a cell is as dense as 3.5 k-points per 1/Angstrom, enough for metals."""
MIN_VACUUM = 8.0
"""Angstrom of vacuum along directions that are not periodic, where another one is."""
MORE_VACUUM = 10.0
"""Angstrom that are added to the vacuum for comparison."""
ENERGY_TOLERANCE = 0.005
"""eV per atom."""
FORCE_TOLERANCE = 0.1
"""eV/Angstrom, of any component."""


class NotExtensive(LamError):
    """A larger cell of the same atoms got another energy per atom or other forces."""


@dataclass(frozen=True)
class Extensivity:
    """How a cell compares with larger ones of the same atoms."""

    energy: float
    """Largest difference, eV per atom."""
    force: float
    """Largest difference of a component, eV/Angstrom."""
    cells: int
    """Larger cells that were calculated."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {"energy_per_atom": self.energy, "force": self.force, "cells": self.cells}


def widths(cell: np.ndarray) -> np.ndarray:
    """Return the distances between opposite faces of the cell, (3,), Angstrom; 0 for a cell without volume."""
    volume = abs(np.linalg.det(cell))
    faces = [np.linalg.norm(np.cross(cell[(axis + 1) % 3], cell[(axis + 2) % 3])) for axis in range(3)]
    return np.array([volume / face if face > 0 else 0.0 for face in faces])


def refuse_small_cell(structure: Structure, engine: str) -> None:
    """Refuse periodic cells for which the Gamma point cannot be enough.

    Raises:
        Refused: naming the direction, the reason and what to do.
    """
    if not structure.pbc.any():
        return
    across = widths(structure.cell)
    for axis, (width, periodic) in enumerate(zip(across, structure.pbc, strict=True)):
        if periodic and 0 < width < MIN_WIDTH:
            raise Refused(
                f"{structure.where}: the cell of {len(structure)} atoms is only {width:.1f} A wide along lattice "
                f"vector {axis + 1}. '{engine}' knows only the Gamma point, and in a cell this small its energy per "
                "atom depends on the choice of the cell, by up to some eV, so that no potential could learn it. Use "
                f"a supercell of at least {MIN_WIDTH:g} A each way, or an engine with k-points (gpaw)."
            )
    vacuum = _vacuum(structure, across)
    if vacuum is not None and vacuum < MIN_VACUUM:
        raise Refused(
            f"{structure.where}: periodic in {int(structure.pbc.sum())} of 3 directions with {vacuum:.1f} A of vacuum "
            f"in the others. '{engine}' repeats the cell in all three: give lattice vectors that leave at least "
            f"{MIN_VACUUM:g} A of vacuum."
        )


def check_extensivity(
    structure: Structure,
    labels: Labels,
    calculate: Callable[[Structure], Labels],
    *,
    mode: CheckMode = "auto",
    tolerance: float = ENERGY_TOLERANCE,
) -> Extensivity | None:
    """Compare the labels of a cell with those of larger cells: doubled, or with more vacuum, along each direction.

    Args:
        structure: a periodic cell.
        labels: its labels.
        calculate: labels another structure.
        mode: ``"auto"`` looks along directions narrower than :data:`SAFE_WIDTH`, ``"always"`` along all.
        tolerance: eV per atom.

    Returns:
        The largest differences, or ``None`` if there was nothing to compare.

    Raises:
        NotExtensive: as soon as one larger cell differs by more than the tolerance.
    """
    energy, force, count = 0.0, 0.0, 0
    for axis in doubtful_directions(structure, mode):
        larger, factor = enlarged(structure, axis)
        other = calculate(larger)
        energy = max(energy, abs(other.energy / factor - labels.energy) / len(structure))
        force = max(force, float(np.abs(other.forces[: len(structure)] - labels.forces).max()))
        count += 1
        if energy > tolerance or force > FORCE_TOLERANCE:
            how = "doubled" if factor == 2 else f"with {MORE_VACUUM:g} A more vacuum"
            raise NotExtensive(
                f"{structure.where}: {how} along lattice vector {axis + 1}, the cell gets an energy per atom that "
                f"differs by {1000 * energy:.1f} meV and forces by {force:.2f} eV/A (allowed: {1000 * tolerance:g} "
                f"meV, {FORCE_TOLERANCE:g} eV/A). It is too small for the Gamma point: use a larger "
                "supercell, or an engine with k-points (gpaw)."
            )
    return Extensivity(energy, force, count) if count else None


def doubtful_directions(structure: Structure, mode: CheckMode) -> list[int]:
    """Return the axes along which the size of the cell must be checked, the narrowest first."""
    if mode == "never" or not structure.pbc.any():
        return []
    across = widths(structure.cell)
    axes = [axis for axis in range(3) if not structure.pbc[axis] or mode == "always" or across[axis] < SAFE_WIDTH]
    return sorted(axes, key=lambda axis: (not structure.pbc[axis], across[axis]))


def enlarged(structure: Structure, axis: int) -> tuple[Structure, int]:
    """Return a larger cell of the same atoms, which come first, and how often it holds them."""
    step = structure.cell[axis]
    cell = structure.cell.copy()
    if not structure.pbc[axis]:
        cell[axis] *= 1 + MORE_VACUUM / np.linalg.norm(step)
        return replace(structure, cell=cell, energy=None, forces=None, stress=None), 1
    cell[axis] *= 2
    charge, multiplicity = structure.total_charge, structure.spin_multiplicity
    return Structure(
        numbers=np.concatenate([structure.numbers] * 2),
        positions=np.concatenate([structure.positions, structure.positions + step]),
        cell=cell,
        pbc=structure.pbc,
        total_charge=None if charge is None else 2 * charge,
        spin_multiplicity=None if multiplicity is None else 2 * multiplicity - 1,
        group=structure.group,
        source=structure.source,
    ), 2


def family(structure: Structure) -> str | None:
    """Return a name that is common to cells of one kind, or ``None`` for finite systems.

    Frames of one group with equal composition and cell (within some percent) are as extensive as each other: one of
    them is checked for all.
    """
    if not structure.pbc.any():
        return None
    metric = structure.cell @ structure.cell.T
    lengths = np.sqrt(np.maximum(np.diag(metric), 1e-12))
    shape = np.round(np.log(lengths) / 0.03).astype(int).tolist()
    angles = np.round((metric / np.outer(lengths, lengths))[np.triu_indices(3, 1)] / 0.05).astype(int).tolist()
    return f"{structure.group}|{structure.formula}|{structure.pbc.astype(int).tolist()}|{shape}|{angles}"


def _vacuum(structure: Structure, across: np.ndarray) -> float | None:
    """Return the least vacuum along directions that are not periodic, or ``None`` if there is no such direction."""
    if structure.pbc.all():
        return None
    if not across.all():
        return 0.0
    normals = np.linalg.inv(structure.cell).T
    normals /= np.linalg.norm(normals, axis=1)[:, None]
    heights = structure.positions @ normals.T
    gaps = across - (heights.max(axis=0) - heights.min(axis=0))
    return float(gaps[~structure.pbc].min())
