"""Which units of energies and forces explain what was measured: the slope of dE against work, and the bonds' ruler."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

HARTREE, RYDBERG, BOHR, KCAL, KJ = 27.211386, 13.605693, 0.529177, 23.060548, 96.485332
#: What an energy of 1 eV is in each unit.
ENERGY_UNITS = {"eV": 1.0, "Hartree": 1 / HARTREE, "Rydberg": 1 / RYDBERG, "kcal/mol": KCAL, "kJ/mol": KJ, "meV": 1e3}
#: What a force of 1 eV/Angstrom is in each unit.
FORCE_UNITS = {
    "eV/Angstrom": 1.0,
    "Hartree/Bohr": BOHR / HARTREE,
    "Hartree/Angstrom": 1 / HARTREE,
    "Rydberg/Bohr": BOHR / RYDBERG,
    "Rydberg/Angstrom": 1 / RYDBERG,
    "eV/Bohr": BOHR,
    "kcal/mol/Angstrom": KCAL,
    "kcal/mol/Bohr": KCAL * BOHR,
    "kJ/mol/Angstrom": KJ,
    "kJ/mol/nm": 10 * KJ,
    "meV/Angstrom": 1e3,
}
STRESS_UNITS = {
    "eV/Angstrom^3": 1.0,
    "GPa": 160.21766,
    "kbar": 1602.1766,
    "Hartree/Bohr^3": BOHR**3 / HARTREE,
    "Rydberg/Bohr^3": BOHR**3 / RYDBERG,
}
TYPICAL = 1.3
"""The ruler of right forces, in the median of many data sets; they have 0.5 to 4.2."""
WITHIN = 6.0
"""How far from it, as a factor, the ruler of right forces may be."""
OFF = 8.0
"""Beyond this factor the unit of the forces is wrong, whatever else is known."""
USUAL, RARE = ("Hartree/Bohr", "kcal/mol/Angstrom", "kJ/mol/Angstrom"), 0.5
"""Units that programs write, and by how much (of a logarithm) others must fit better."""
SLOPE_TOLERANCE = 0.2
"""Of the logarithm: frames far apart make the slope wrong by as much."""


@dataclass(frozen=True)
class Units:
    """Units that would explain what was measured."""

    energy: str
    forces: str
    energy_sign: int = 1
    force_sign: int = 1

    @property
    def slope(self) -> float:
        """What dE against -F.dx would have as its slope."""
        return self.energy_sign * self.force_sign * ENERGY_UNITS[self.energy] / FORCE_UNITS[self.forces]

    @property
    def right(self) -> bool:
        """Is nothing wrong?"""
        return self.energy_right and self.forces_right

    @property
    def energy_right(self) -> bool:
        """Are the energies in eV?"""
        return self.energy == "eV" and self.energy_sign == 1

    @property
    def forces_right(self) -> bool:
        """Are the forces in eV/Angstrom, with their sign?"""
        return self.forces == "eV/Angstrom" and self.force_sign == 1

    @property
    def mistakes(self) -> list[str]:
        """What is wrong, in words."""
        texts = []
        if self.energy != "eV":
            texts.append(f"the energies are in {self.energy}")
        if self.energy_sign < 0:
            texts.append("the energies have the wrong sign")
        if self.forces != "eV/Angstrom":
            gradients = " and are gradients (wrong sign)" if self.force_sign < 0 else ""
            texts.append(f"the forces are in {self.forces}{gradients}")
        elif self.force_sign < 0:
            texts.append("the forces have the wrong sign (they are gradients)")
        return texts

    @property
    def energy_factor(self) -> float:
        """What energies are multiplied by to be in eV."""
        return self.energy_sign / ENERGY_UNITS[self.energy]

    @property
    def force_factor(self) -> float:
        """What forces are multiplied by to be in eV/Angstrom."""
        return self.force_sign / FORCE_UNITS[self.forces]


def explain(slope: float, ruler: float, correlation: float) -> Units | None:
    """Return the units that explain both measurements best, or None if none do or several do equally.

    Args:
        slope: of dE against -F.dx.
        ruler: how many times too large the forces along bonds are; see :class:`lam.data.audit.bonds.Springs`.
        correlation: of the forces along bonds with their lengths: positive tells of the wrong sign.
    """
    if not (np.isfinite(slope) and np.isfinite(ruler)) or slope == 0 or ruler <= 0:
        return None
    force_sign = -1 if correlation > 0 else 1
    energy_sign = force_sign * int(np.sign(slope))
    found: list[tuple[float, Units]] = []
    for energy, e in ENERGY_UNITS.items():
        for forces, f in FORCE_UNITS.items():
            miss = abs(np.log(abs(slope) * f / e))
            far = abs(np.log(ruler / f / TYPICAL))
            if miss < SLOPE_TOLERANCE and far < np.log(WITHIN):
                # Energies and forces of one program have units of one family.
                family = 0.0 if "eV" in (energy, forces[:2]) or forces.startswith(energy) else 1.0
                cost = family + far / np.log(WITHIN) + 10 * miss
                found.append((cost, Units(energy, forces, energy_sign, force_sign)))
    return min(found, key=lambda item: item[0])[1] if found else None


def force_units_near(ruler: float, most: int = 2) -> list[str]:
    """Return the units of forces that explain the ruler, the likeliest first; none if it is as it should be."""
    if not np.isfinite(ruler) or ruler <= 0 or 1 / OFF < ruler / TYPICAL < OFF:
        return []
    common = [unit for unit in FORCE_UNITS if unit not in ("eV/Bohr", "Rydberg/Angstrom", "kcal/mol/Bohr")]
    distance = {unit: abs(np.log(ruler / FORCE_UNITS[unit] / TYPICAL)) for unit in common}
    likely = sorted(common, key=lambda unit: distance[unit] + (0.0 if unit in USUAL else RARE))
    return [unit for unit in likely[:most] if distance[unit] < np.log(WITHIN)]
