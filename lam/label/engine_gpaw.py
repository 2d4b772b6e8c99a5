"""Plane-wave density functional theory with GPAW, for crystals, surfaces and alloys."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from lam.config import Section
from lam.errors import LamError
from lam.label.engines import Engine, Labels, NotConverged, Refused, resolve_state

if TYPE_CHECKING:
    from ase import Atoms

    from lam.data.structure import Structure

MIN_CUTOFF = 600.0
"""eV; at 500 eV forces of oxides are still 0.03 to 0.1 eV/A off."""
STRESS_CUTOFF = 800.0
"""eV; below, the plane-wave basis changes with the cell enough to spoil the stress of oxides."""
VACUUM = 6.0
"""Angstrom around a molecule; the density is zero at the faces of its box."""
SYMMETRY: tuple[dict[str, Any], ...] = ({"tolerance": 1e-4}, {"tolerance": 1e-6}, {"point_group": False})
"""How symmetry is looked for, one after the other: files keep some decimals of a structure, which must not hide it."""
WITHOUT_SETUP = (43, 84, 85)  # Tc, Po, At
MAX_Z = 86
FERROMAGNETIC_START = {24: 3.0, 25: 4.0, 26: 3.0, 27: 2.0, 28: 1.0, **dict.fromkeys(range(58, 71), 4.0)}
"""Moments (in Bohr magnetons) that elements start with when ``spin: auto`` makes a calculation spin-polarised."""


class _Options(Section):
    xc: str = "PBE"
    """Exchange-correlation functional, as GPAW (or libxc) names it."""
    cutoff: float = Field(0.0, ge=0)
    """Plane-wave cut-off, eV, at least 600; 0 means 800 with stress and 600 without."""
    kpoint_density: float = Field(3.5, gt=0)
    """k-points per 1/Angstrom, Gamma-centred; 3.5 for metals, 2.5 is enough for insulators."""
    smearing: float = Field(0.1, gt=0)
    """Width of the Fermi-Dirac smearing, eV."""
    stress: bool = True
    """Calculate the stress of structures that are periodic in three directions?"""
    spin: Literal["auto", "none", "polarised"] = "auto"
    """Where no multiplicity is stated: spin-polarised with Cr to Ni and lanthanides (a ferromagnetic start), never, or
    always. A stated multiplicity fixes the moment."""
    max_iterations: int = Field(200, ge=1)
    """SCF iterations before the structure is given up."""


class GPAW(Engine):
    """GPAW with plane waves. The free energy is stored: forces and stress are its derivatives."""

    Options = _Options

    def __init__(self, name: str, options: dict[str, Any] | None = None) -> None:
        super().__init__(name, options)
        if self.options.cutoff and self.options.cutoff < MIN_CUTOFF:
            raise LamError(
                f"A cut-off of {self.options.cutoff:g} eV is too small: forces would be wrong by 0.03 to 2 eV/A; "
                f"give at least {MIN_CUTOFF:g} eV ({STRESS_CUTOFF:g} for stress)."
            )

    @property
    def cutoff(self) -> float:
        """Plane-wave cut-off, eV."""
        return self.options.cutoff or (STRESS_CUTOFF if self.options.stress else MIN_CUTOFF)

    def version(self) -> str:
        """Return the versions of GPAW and its setups."""
        try:
            setups = f" (setups {importlib.metadata.version('gpaw-data')})"
        except importlib.metadata.PackageNotFoundError:
            setups = ""
        return f"GPAW {importlib.metadata.version('gpaw')}{setups}"

    def level_of_theory(self) -> str:
        """Return functional, basis, k-points, smearing and program."""
        options = self.options
        return (
            f"{options.xc}, PAW, plane waves {self.cutoff:g} eV, {options.kpoint_density:g} k-points per 1/A, "
            f"Fermi-Dirac {options.smearing:g} eV (free energy), {self.version()}"
        )

    def check(self, structure: Structure) -> None:
        """Refuse elements without setup, charged molecules and impossible states."""
        missing = [int(z) for z in structure.numbers if z > MAX_Z or z in WITHOUT_SETUP]
        if missing:
            raise Refused(f"{structure.where}: GPAW has no setup for element {missing[0]}.")
        if structure.total_charge and not structure.pbc.all():
            raise Refused(
                f"{structure.where}: a charge of {structure.total_charge:g} e without periodicity in three directions; "
                "use the engine pyscf or gfn1 for charged molecules."
            )
        resolve_state(structure, int(structure.numbers.sum()))

    def prepare(self) -> None:
        """Import GPAW."""
        import gpaw  # noqa: F401

    def calculate(self, structure: Structure) -> Labels:
        """Label one structure."""
        import gpaw

        atoms, keywords = self._prepare(structure)
        try:
            energy = self._energy(atoms, keywords)
            forces = atoms.get_forces()
        except gpaw.KohnShamConvergenceError as error:
            text = " ".join(str(error).split())[:200]
            raise NotConverged(f"{text} (at most {self.options.max_iterations} iterations)") from None
        stress = atoms.get_stress(voigt=False) if self.options.stress and structure.pbc.all() else None
        return Labels(energy, forces, stress, structure.total_charge, structure.spin_multiplicity)

    @staticmethod
    def _energy(atoms: Atoms, keywords: dict[str, Any]) -> float:
        """Return the free energy; symmetry is looked for more strictly where GPAW finds a part of a group only."""
        import gpaw

        for symmetry in SYMMETRY:
            atoms.calc = gpaw.GPAW(**keywords, symmetry=symmetry, txt=None)
            try:
                return atoms.get_potential_energy(force_consistent=True)
            except Exception as error:
                # By name: the class has moved between versions of GPAW.
                if type(error).__name__ != "SymmetryAnalysisBug" or symmetry is SYMMETRY[-1]:
                    raise
        raise AssertionError  # not reached

    def _prepare(self, structure: Structure) -> tuple[Atoms, dict[str, Any]]:
        from ase import Atoms

        atoms = Atoms(structure.numbers, structure.positions, cell=structure.cell, pbc=structure.pbc)
        for axis in np.flatnonzero(~structure.pbc):
            atoms.center(vacuum=VACUUM, axis=int(axis))
        atoms.pbc = True  # plane waves; the vacuum keeps the images apart
        density = {"density": self.options.kpoint_density, "gamma": True}
        sizes = [None if periodic else 1 for periodic in structure.pbc]
        if any(sizes):
            from ase.calculators.calculator import kpts2sizeandoffsets

            found, _ = kpts2sizeandoffsets(**density, atoms=atoms)
            density = {"size": [one or int(many) for one, many in zip(sizes, found, strict=True)], "gamma": True}
        keywords: dict[str, Any] = {
            "mode": {"name": "pw", "ecut": self.cutoff},
            "xc": self.options.xc,
            "kpts": density,
            "occupations": {"name": "fermi-dirac", "width": self.options.smearing},
            "convergence": {"forces": 1e-3},
            "maxiter": self.options.max_iterations,
        }
        if structure.total_charge:
            keywords["charge"] = round(structure.total_charge)
        self._set_spin(structure, atoms, keywords)
        return atoms, keywords

    def _set_spin(self, structure: Structure, atoms: Atoms, keywords: dict[str, Any]) -> None:
        start = np.array([FERROMAGNETIC_START.get(int(z), 0.0) for z in structure.numbers])
        if structure.spin_multiplicity is not None:
            _, multiplicity = resolve_state(structure, int(structure.numbers.sum()))
            if multiplicity == 1:
                return
            weights = start if start.any() else np.ones(len(structure))
            start = weights / weights.sum() * (multiplicity - 1)
            keywords["occupations"]["fixmagmom"] = True
        elif self.options.spin == "polarised":
            start = np.where(start > 0, start, 0.5)
        elif self.options.spin == "none" or not start.any():
            return
        keywords["spinpol"] = True
        atoms.set_initial_magnetic_moments(start)
