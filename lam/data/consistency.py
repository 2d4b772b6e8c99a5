"""Do energies, forces and stresses belong together? Pairs of similar structures tell.

Between two structures that differ little, the energy changes by

    dE = -F . dx + V sigma : strain

with F and V sigma averaged over both (trapezoid rule) and dx the displacement that is left when the strain of the cell
is taken away; molecules are turned onto each other first. A unit or sign error makes the slope of one side against
the other differ from 1 by a telling factor.
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
MOST_AGREE = 0.6  # share of the pairs within 30% of their median slope
MOST_PAIRS = 100_000
IDENTITY = np.eye(3)
CURVED = 0.2
"""A pair counts if its work is more than this share of how much the work changes along the way; ..."""
MORE_CURVED = 0.02
"""... if too few do, this share: in thermal motion the curvature cancels nearly."""

#: Slope of dE against -F.dx, and what mistake makes it.
FORCE_FACTORS = {
    -1.0: "the forces have the wrong sign (they are gradients)",
    27.2114: "the energies are in eV but the forces in Hartree/Angstrom",
    1 / 27.2114: "the energies are in Hartree but the forces in eV/Angstrom",
    51.4221: "the forces are in Hartree/Bohr",
    -51.4221: "the forces are gradients in Hartree/Bohr: wrong sign and unit",
    25.7110: "the forces are in Rydberg/Bohr",
    13.6057: "the forces are in Rydberg/Angstrom",
    1 / 13.6057: "the energies are in Rydberg but the forces in eV/Angstrom",
    1.8897: "the forces are in eV/Bohr, or the energies in Hartree and the forces in Hartree/Bohr",
    -1.8897: "energies in Hartree, forces gradients in Hartree/Bohr: wrong sign and unit",
    1 / 1.8897: "the positions are in Bohr",
    1 / 51.4221: "the energies are in Hartree and the positions in Bohr but the forces in eV/Angstrom",
    23.0605: "the energies are in kcal/mol but the forces in eV/Angstrom",
    1 / 23.0605: "the forces are in kcal/mol/Angstrom",
    -1 / 23.0605: "the forces are gradients in kcal/mol/Angstrom: wrong sign and unit",
    96.4853: "the energies are in kJ/mol but the forces in eV/Angstrom",
    1 / 96.4853: "the forces are in kJ/mol/Angstrom",
    1 / 964.853: "the forces are in kJ/mol/nm",
    627.5095: "the energies are in kcal/mol but the forces in Hartree/Angstrom",
    1185.8209: "the energies are in kcal/mol but the forces in Hartree/Bohr",
    10.0: "the positions are in nm",
    0.1: "the forces are in eV/nm",
    1000.0: "the energies are in meV but the forces in eV/Angstrom",
    1 / 1000.0: "the forces are in meV/Angstrom",
}
#: Slope of what forces leave of dE against V sigma : strain.
STRESS_FACTORS = {
    -1.0: "the stress has the wrong sign (a pressure or a VASP stress; tensile must be positive)",
    1 / 160.2177: "the stress is in GPa",
    -1 / 160.2177: "the stress is in GPa with the wrong sign",
    1 / 1602.177: "the stress is in kbar",
    -1 / 1602.177: "the stress is in kbar with the wrong sign, as VASP prints it",
    160.2177: "the stress was divided by 160.2 twice",
    -160.2177: "the stress was divided by 160.2 twice and has the wrong sign",
    10.0: "the stress was read as kbar but is in GPa",
    -10.0: "the stress was read as kbar but is in GPa, with the wrong sign",
    0.1: "the stress was read as GPa but is in kbar",
    -0.1: "the stress was read as GPa but is in kbar, with the wrong sign",
    1000.0: "the stress was read as bar but is in kbar",
    183.6315: "the stress is in Hartree/Bohr^3",
    -183.6315: "the stress is in Hartree/Bohr^3 with the wrong sign",
    91.8158: "the stress is in Rydberg/Bohr^3",
    -91.8158: "the stress is in Rydberg/Bohr^3 with the wrong sign",
    1 / 27.2114: "the energies are in Hartree but the stress in eV/Angstrom^3",
    1 / 13.6057: "the energies are in Rydberg but the stress in eV/Angstrom^3",
    23.0605: "the energies are in kcal/mol but the stress in eV/Angstrom^3",
    96.4853: "the energies are in kJ/mol but the stress in eV/Angstrom^3",
    0.148185: "the cells are in Bohr",
}
#: The same, if the label is multiplied by the strain only: it is a virial, not a stress.
VIRIAL_FACTORS = {
    1.0: "the stress is a virial with the sign of a stress: it was not divided by the volume",
    -1.0: "the stress is a virial: it was not divided by the volume, and its sign is the opposite",
}


@dataclass(frozen=True)
class Comparison:
    """Two similar structures: how their energies differ, and what forces and stresses say to it; all in eV."""

    change: float
    """Energy of the second less that of the first."""
    force_work: float
    """-F . dx, without the part that is strain."""
    strain_work: float
    """V sigma : strain; 0 if the cells are equal."""
    virial_work: float
    """sigma : strain, as if sigma were V sigma already."""
    curvature: float
    """How much the forces' work changes from one end to the other."""
    strain_curvature: float
    """The same of the work of the stress."""
    strain: float
    """Largest component of the strain; 0 where cells are equal."""


def compare(a: Structure, b: Structure) -> Comparison | None:
    """Compare two structures with energies and forces; None if they are too different, or their atoms differ."""
    if a.energy is None or b.energy is None or a.forces is None or b.forces is None:
        return None
    if not np.array_equal(a.numbers, b.numbers) or not np.array_equal(a.pbc, b.pbc):
        return None
    start, first, forces = a.positions, a.forces, b.forces
    deformation = IDENTITY
    if a.pbc.all():
        deformation = np.linalg.solve(a.cell, b.cell)
        displacement = b.positions - start @ deformation
        # Frames may be wrapped differently.
        displacement -= np.round(np.linalg.solve(b.cell.T, displacement.T).T) @ b.cell
    elif a.pbc.any():
        if not np.allclose(a.cell, b.cell):
            return None
        displacement = b.positions - start
    else:
        displacement, forces = _turned(a, b)
    size = float(np.abs(deformation - IDENTITY).max())
    if size > MAX_STRAIN or np.abs(displacement).max() > MAX_DISPLACEMENT:
        return None
    per_atom = 0.5 * ((first + forces) * displacement).sum(axis=1)
    curvature = float(np.abs(((forces - first) * displacement).sum()))
    strain = 0.5 * (deformation + deformation.T) - IDENTITY
    strain_work = virial_work = strain_curvature = 0.0
    if size > MIN_STRAIN and a.stress is not None and b.stress is not None:
        strain_work = float((0.5 * (a.volume * a.stress + b.volume * b.stress) * strain).sum())
        virial_work = float((0.5 * (a.stress + b.stress) * strain).sum())
        strain_curvature = float(np.abs(((b.volume * b.stress - a.volume * a.stress) * strain).sum()))
    force_work = -float(per_atom.sum())
    return Comparison(b.energy - a.energy, force_work, strain_work, virial_work, curvature, strain_curvature, size)


def _turned(a: Structure, b: Structure) -> tuple[np.ndarray, np.ndarray]:
    """Return displacement and forces of the second, brought onto the first by translation and rotation."""
    displacement = b.positions - a.positions
    if np.abs(displacement).max() < 0.5 * MAX_DISPLACEMENT or len(a) < 3:
        return displacement, b.forces  # a trajectory in one frame of reference
    first, second = a.positions - a.positions.mean(axis=0), b.positions - b.positions.mean(axis=0)
    # No rotation changes the distance from the centre: most pairs that are too different are told by it.
    if np.abs(np.linalg.norm(first, axis=1) - np.linalg.norm(second, axis=1)).max() > 2 * MAX_DISPLACEMENT:
        return displacement, b.forces
    left, _, right = np.linalg.svd(second.T @ first)
    left[:, -1] *= np.sign(np.linalg.det(left @ right)) or 1.0
    turn = left @ right
    return second @ turn - first, b.forces @ turn


@dataclass
class PairCheck:
    """Collects pairs; :meth:`slope` compares the two sides."""

    work: list[float] = field(default_factory=list)
    change: list[float] = field(default_factory=list)
    curvature: list[float] = field(default_factory=list)
    explained: list[float] = field(default_factory=list)
    """What other labels explain of the change; it is taken away."""
    tag: list[int] = field(default_factory=list)
    """Whatever the caller counts pairs by: the row of the later structure."""
    by_change: bool = False
    """Is the curvature of another label than the work, so that only the change can be compared with it?"""
    share: float = 1.0
    """Factor on ``explained``: 1 unless those labels have a mistake of their own."""

    def add(self, work: float, change: float, curvature: float = 0.0, explained: float = 0.0, tag: int = -1) -> None:
        """Take a pair."""
        if len(self.work) < MOST_PAIRS:
            self.work.append(work)
            self.change.append(change)
            self.curvature.append(curvature)
            self.explained.append(explained)
            self.tag.append(tag)

    def sides(self, rows: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return work and change of the reliable pairs (or of ``rows``), eV."""
        rows = self.reliable() if rows is None else rows
        change = np.array(self.change) - self.share * np.array(self.explained)
        return np.array(self.work)[rows], change[rows]

    def reliable(self) -> np.ndarray:
        """Return the pairs that can tell something: enough work, and not curved too much."""
        x, curvature = np.abs(np.array(self.work)), np.array(self.curvature)
        if not len(x):
            return np.zeros(0, dtype=np.int64)
        enough = x
        if self.by_change:
            enough = np.abs(np.array(self.change) - self.share * np.array(self.explained))
            curvature = np.abs(self.share) * curvature
        useful = (x > 0.1 * np.median(x)) & (x > 0)
        for curved in (CURVED, MORE_CURVED):
            rows = np.flatnonzero(useful & (enough > curved * curvature))
            if len(rows) >= MIN_PAIRS:
                break
        return rows

    def slope(self, rows: np.ndarray | None = None) -> tuple[float, float, int]:
        """Return ``(slope, correlation, pairs)``; the slope is through the origin, robust to a few outliers."""
        x, y = self.sides(rows)
        if len(x) < MIN_PAIRS:
            return float("nan"), 0.0, len(x)
        ratios = y / x
        slope = float(np.median(ratios))
        # Pairs far off (jumps to another electronic state) must not decide over the correlation of all others.
        far = np.abs(y - slope * x)
        kept = far <= np.quantile(far, 0.98)
        x, y = x[kept], y[kept]
        norm = float(np.sqrt((x**2).sum() * (y**2).sum()))
        return slope, float((x * y).sum() / norm) if norm else 0.0, len(ratios)

    def agreement(self, factor: float, tolerance: float = 0.3) -> float:
        """Return the share of reliable pairs whose slope is within ``tolerance`` of a factor."""
        work, change = self.sides()
        return float((np.abs(change / work / factor - 1) < tolerance).mean()) if len(work) else 0.0

    def telling(self) -> bool:
        """Do the pairs agree on their slope: all in all, or most of them one by one?"""
        slope, correlation, pairs = self.slope()
        return pairs >= MIN_PAIRS and (abs(correlation) >= MIN_CORRELATION or self.agreement(slope) >= MOST_AGREE)

    def factor(self, factors: dict[float, str], *, tolerance: float = 0.12) -> float | None:
        """Return the factor of a mistake that the slope fits; NaN if it is off but fits none; None if it is right."""
        slope, _, _ = self.slope()
        if not self.telling() or 0.6 < slope < 1.6:
            return None
        nearest = min(factors, key=lambda factor: abs(slope / factor - 1))
        return nearest if abs(slope / nearest - 1) < tolerance else float("nan")


class Consistency:
    """Checks frames as they come, each against the one before it, and pairs that it is given."""

    def __init__(self) -> None:
        self.forces = PairCheck()
        self.stress = PairCheck(by_change=True)
        self.virial = PairCheck(by_change=True)
        self.steps = PairCheck()
        """All of them, the work of forces as ``work`` and that of strain as ``explained``."""
        self.followed = 0
        """How many of :attr:`steps`, from the first on, are of frames that follow each other."""
        self.sizes: list[int] = []
        """Atoms of each of :attr:`steps`."""
        self._last: Structure | None = None

    def update(self, structure: Structure, tag: int = -1) -> None:
        """Take the next frame."""
        last, self._last = self._last, structure
        if last is not None:
            self.add(last, structure, tag)
            self.followed = len(self.steps.work)

    def add(self, a: Structure, b: Structure, tag: int = -1) -> bool:
        """Take a pair; return whether it could be compared."""
        found = compare(a, b)
        if found is None:
            return False
        if found.strain < 1e-8 or found.strain_work:
            curvature = found.curvature + found.strain_curvature
            self.steps.add(found.force_work, found.change, curvature, found.strain_work, tag)
            self.sizes.append(len(b))
        if found.strain < 1e-8:
            if found.force_work:
                self.forces.add(found.force_work, found.change, found.curvature, tag=tag)
        elif found.strain_work:
            rest = (found.change, found.curvature, found.force_work, tag)
            self.stress.add(found.strain_work, *rest)
            self.virial.add(found.virial_work, *rest)
        return True
