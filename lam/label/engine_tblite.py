"""GFN1-xTB and GFN2-xTB through tblite, for finite systems and large cells."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from lam.config import Section
from lam.errors import LamError
from lam.label.engines import Engine, Labels, NotConverged, Refused, resolve_state

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

    from lam.data.structure import Structure

MAX_Z = 86
LANTHANIDES = range(57, 72)
VALENCE_OF_LANTHANIDES = 3
"""The GFN methods keep the 4f electrons in the core; every lanthanide has three valence electrons."""


def tblite_calculator(method: str, *, extra: str = "label", **settings: object) -> Calculator:
    """Return an ASE calculator of the extended tight-binding method.

    Args:
        method: as tblite names it, e.g. ``"GFN2-xTB"``.
        extra: optional dependency of lam to name when tblite is missing.
        settings: further keywords of tblite's calculator.

    Raises:
        LamError: if tblite is not installed.
    """
    try:
        from tblite.ase import TBLite
    except ImportError:
        raise LamError(f"{method} is calculated by tblite; install it with: pip install 'lam[{extra}]'.") from None
    return TBLite(method=method, verbosity=0, **settings)


class _Options(Section):
    temperature: float = Field(1500.0, gt=0)
    """Electronic temperature of the Fermi smearing, K."""
    accuracy: float = Field(0.1, gt=0)
    """Convergence of the SCF, as tblite counts it (1 is its default; 0.1 leaves 1e-6 eV/A of noise in forces)."""
    max_iterations: int = Field(250, ge=1)
    """SCF iterations before the structure is given up."""


class _GFN2Options(_Options):
    temperature: float = Field(300.0, gt=0)
    """Electronic temperature of the Fermi smearing, K."""


class GFN1(Engine):
    """GFN1-xTB: the more robust of the two; 1500 K of smearing converge most clusters of metals."""

    Options = _Options
    method: ClassVar[str] = "GFN1-xTB"
    gamma_only = True

    def version(self) -> str:
        """Return the version of tblite."""
        return f"tblite {importlib.metadata.version('tblite')}"

    def level_of_theory(self) -> str:
        """Return method, smearing and program."""
        return f"{self.method}, {self.options.temperature:g} K electronic temperature, {self.version()}"

    def check(self, structure: Structure) -> None:
        """Refuse elements beyond radon and impossible charges or multiplicities."""
        heaviest = int(structure.numbers.max())
        if heaviest > MAX_Z:
            raise Refused(f"{structure.where}: {self.method} has no parameters for element {heaviest} (1 to {MAX_Z}).")
        self._state(structure)

    def prepare(self) -> None:
        """Import tblite."""
        tblite_calculator(self.method)

    def calculate(self, structure: Structure) -> Labels:
        """Label one structure from a fresh start, so that labels do not depend on their order."""
        from ase import Atoms
        from ase.calculators.calculator import CalculationFailed

        charge, multiplicity = self._state(structure)
        # New atoms: moments and charges that an ASE builder set would become an impossible state in tblite.
        # Those periodic in one or two directions are calculated periodic in three, which is what tblite does anyway.
        periodic = bool(structure.pbc.any())
        atoms = Atoms(structure.numbers, structure.positions, cell=structure.cell if periodic else None, pbc=periodic)
        atoms.calc = tblite_calculator(
            self.method,
            charge=charge,
            multiplicity=multiplicity,
            electronic_temperature=self.options.temperature,
            accuracy=self.options.accuracy,
            max_iterations=self.options.max_iterations,
        )
        try:
            energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        except CalculationFailed as error:
            text = " ".join(str(error).split())
            if "converge" in text.lower():
                raise NotConverged(f"{text} (at most {self.options.max_iterations} iterations)") from None
            raise
        stress = atoms.get_stress(voigt=False) if structure.pbc.all() else None
        stated = structure.spin_multiplicity is not None or not self._has_lanthanides(structure)
        return Labels(energy, forces, stress, float(charge), float(multiplicity) if stated else None)

    def _state(self, structure: Structure) -> tuple[int, int]:
        numbers = structure.numbers
        in_core = np.isin(numbers, LANTHANIDES)
        electrons = int(np.where(in_core, VALENCE_OF_LANTHANIDES, numbers).sum())
        try:
            return resolve_state(structure, electrons)
        except Refused as error:
            if not in_core.any():
                raise
            raise Refused(
                f"{str(error).rstrip('.')}; {self.method} keeps the 4f electrons of lanthanides in the core, so the "
                "multiplicity counts their three valence electrons only: leave it out."
            ) from None

    @staticmethod
    def _has_lanthanides(structure: Structure) -> bool:
        return bool(np.isin(structure.numbers, LANTHANIDES).any())


class GFN2(GFN1):
    """GFN2-xTB: better for molecules, and often without a converged SCF for metals."""

    Options = _GFN2Options
    method = "GFN2-xTB"
