"""Do energies, forces and stresses belong together? Neighbouring frames of a trajectory tell.

Between two frames that differ little, the energy changes by

    dE = -F . dx + V sigma : strain

with F and V sigma averaged over both frames (trapezoid rule) and dx the displacement that is left when the
strain of the cell is taken away. A unit or sign error makes the slope of one side against the other differ
from 1 by a telling factor.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lam.data.structure import Structure

MAX_DISPLACEMENT = 0.3  # Angstrom: farther apart, the trapezoid rule says nothing
MAX_STRAIN = 0.06
MIN_STRAIN = 1e-4
MIN_PAIRS = 20
MIN_CORRELATION = 0.85

#: Slope of dE against -F.dx, and what mistake makes it.
FORCE_FACTORS = {
    -1.0: "the forces have the wrong sign (they are gradients)",
    27.2114: "the energies are in eV but the forces in Hartree/Angstrom",
    1 / 27.2114: "the energies are in Hartree but the forces in eV/Angstrom",
    51.4221: "the forces are in Hartree/Bohr",
    25.7110: "the forces are in Rydberg/Bohr",
    13.6057: "the forces are in Rydberg/Angstrom",
    1 / 13.6057: "the energies are in Rydberg but the forces in eV/Angstrom",
    1.8897: "the forces are in eV/Bohr, or the energies in Hartree and the forces in Hartree/Bohr",
    1 / 1.8897: "the positions are in Bohr",
    23.0605: "the energies are in kcal/mol but the forces in eV/Angstrom",
    1 / 23.0605: "the forces are in kcal/mol/Angstrom",
    96.4853: "the energies are in kJ/mol but the forces in eV/Angstrom",
    1 / 96.4853: "the forces are in kJ/mol/Angstrom",
    10.0: "the positions are in nm",
    0.1: "the forces are in eV/nm",
}
#: Slope of what forces leave of dE against V sigma : strain.
STRESS_FACTORS = {
    -1.0: "the stress has the wrong sign (a pressure or a VASP stress; tensile must be positive)",
    1 / 160.2177: "the stress is in GPa",
    -1 / 160.2177: "the stress is in GPa with the wrong sign",
    1 / 1602.177: "the stress is in kbar",
    -1 / 1602.177: "the stress is in kbar with the wrong sign, as VASP prints it",
    160.2177: "the stress was divided by 160.2 twice",
    10.0: "the stress was read as kbar but is in GPa",
    0.1: "the stress was read as GPa but is in kbar",
}


@dataclass
class PairCheck:
    """Collects neighbouring frames; :meth:`slope` compares the two sides."""

    work: list[float] = field(default_factory=list)
    change: list[float] = field(default_factory=list)

    def slope(self) -> tuple[float, float, int]:
        """Return ``(slope, correlation, pairs)``; the slope is through the origin, robust to a few outliers."""
        x, y = np.array(self.work), np.array(self.change)
        keep = np.abs(x) > 0.1 * np.median(np.abs(x)) if len(x) else np.zeros(0, dtype=bool)
        x, y = x[keep], y[keep]
        if len(x) < MIN_PAIRS:
            return float("nan"), 0.0, len(x)
        norm = float(np.sqrt((x**2).sum() * (y**2).sum()))
        correlation = float((x * y).sum() / norm) if norm else 0.0
        return float(np.median(y / x)), correlation, len(x)

    def explain(self, factors: dict[float, str], *, tolerance: float = 0.12) -> str | None:
        """Return which mistake the slope tells of, or None if there is no sign of one."""
        slope, correlation, pairs = self.slope()
        if pairs < MIN_PAIRS or abs(correlation) < MIN_CORRELATION or 0.6 < slope < 1.6:
            return None
        nearest = min(factors, key=lambda factor: abs(slope / factor - 1))
        return factors[nearest] if abs(slope / nearest - 1) < tolerance else "the units do not fit together"


class Consistency:
    """Checks frames as they come, each against the one before it."""

    def __init__(self) -> None:
        self.forces = PairCheck()
        self.stress = PairCheck()
        self._last: Structure | None = None

    def update(self, structure: Structure) -> None:
        """Take the next frame."""
        last, self._last = self._last, structure
        if last is None or last.energy is None or structure.energy is None:
            return
        if last.forces is None or structure.forces is None:
            return
        if not np.array_equal(last.numbers, structure.numbers) or not np.array_equal(last.pbc, structure.pbc):
            return
        self._compare(last, structure)

    def _compare(self, a: Structure, b: Structure) -> None:
        deformation = np.eye(3)
        if a.pbc.all():
            deformation = np.linalg.solve(a.cell, b.cell)
        elif not np.allclose(a.cell, b.cell):
            return
        strain = 0.5 * (deformation + deformation.T) - np.eye(3)
        size = np.abs(deformation - np.eye(3)).max()
        displacement = b.positions - a.positions @ deformation
        if a.pbc.all():  # frames may be wrapped differently
            displacement -= np.round(np.linalg.solve(b.cell.T, displacement.T).T) @ b.cell
        if size > MAX_STRAIN or np.abs(displacement).max() > MAX_DISPLACEMENT:
            return
        change = b.energy - a.energy
        force_work = -0.5 * float(((a.forces + b.forces) * displacement).sum())
        if size < 1e-8:
            if force_work:
                self.forces.work.append(force_work)
                self.forces.change.append(change)
        elif size > MIN_STRAIN and a.stress is not None and b.stress is not None:
            mean = 0.5 * (a.volume * a.stress + b.volume * b.stress)
            self.stress.work.append(float((mean * strain).sum()))
            self.stress.change.append(change - force_work)
