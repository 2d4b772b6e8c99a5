"""Density functional theory for molecules with PySCF."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from lam.config import Section
from lam.label.engines import Engine, Labels, NotConverged, Refused, resolve_state

if TYPE_CHECKING:
    from lam.data.structure import Structure

FIRST_ECP = 37
"""The def2 bases have effective core potentials from rubidium on."""


class _Options(Section):
    functional: str = "pbe0"
    """Functional, as PySCF names it; ``hf`` is Hartree-Fock."""
    basis: str = "def2-svp"
    """Basis, as PySCF names it."""
    density_fit: bool = True
    """Fit the density (resolution of the identity)? Much faster, and errors of some 1e-5 Hartree per atom."""
    grid: int = Field(4, ge=0, le=9)
    """Level of the integration grid."""
    dispersion: str | None = None
    """``d3bj``, ``d4``, ... (needs the package pyscf-dispersion)."""
    max_iterations: int = Field(100, ge=1)
    """SCF iterations before second-order convergence is tried, once."""
    convergence: float = Field(1e-9, gt=0)
    """Of the energy, Hartree."""


class PySCF(Engine):
    """Kohn-Sham DFT of molecules: restricted for singlets, unrestricted otherwise."""

    Options = _Options

    def version(self) -> str:
        """Return the version of PySCF."""
        return f"PySCF {importlib.metadata.version('pyscf')}"

    def level_of_theory(self) -> str:
        """Return functional, basis and program."""
        options = self.options
        functional = options.functional + (f"-{options.dispersion}" if options.dispersion else "")
        return f"{functional}/{options.basis}{', density fitting' if options.density_fit else ''}, {self.version()}"

    def check(self, structure: Structure) -> None:
        """Refuse periodic structures and impossible states."""
        if structure.pbc.any():
            raise Refused(
                f"{structure.where} is periodic, and the engine '{self.name}' is for molecules; use gpaw for crystals."
            )
        resolve_state(structure, int(structure.numbers.sum()))

    def prepare(self) -> None:
        """Import PySCF."""
        from pyscf import dft, gto  # noqa: F401

    def calculate(self, structure: Structure) -> Labels:
        """Label one molecule."""
        from ase.units import Bohr, Hartree

        charge, multiplicity = resolve_state(structure, int(structure.numbers.sum()))
        field = self._field(structure, charge, multiplicity)
        energy = field.kernel()
        if not field.converged:
            second_order = field.newton()
            second_order.kernel(field.mo_coeff, field.mo_occ)
            energy = field.kernel(dm0=second_order.make_rdm1())
        if not field.converged:
            raise NotConverged(f"the SCF did not converge in {self.options.max_iterations} iterations")
        gradient = field.nuc_grad_method()
        gradient.grid_response = True  # without it forces miss the motion of the grid with the atoms
        forces = -np.asarray(gradient.kernel()) * Hartree / Bohr
        return Labels(float(energy) * Hartree, forces, None, float(charge), float(multiplicity))

    def _field(self, structure: Structure, charge: int, multiplicity: int) -> Any:
        from ase.data import chemical_symbols
        from ase.units import Bohr
        from pyscf import dft, gto

        options = self.options
        symbols = [chemical_symbols[z] for z in structure.numbers]
        heavy = {chemical_symbols[z] for z in structure.numbers if z >= FIRST_ECP}
        core = dict.fromkeys(heavy, options.basis) if options.basis.lower().startswith("def2") else {}
        molecule = gto.M(
            # In Bohr by ASE's constant, with which the result is turned back.
            atom=list(zip(symbols, (structure.positions / Bohr).tolist(), strict=True)),
            unit="Bohr",
            basis=options.basis,
            ecp=core,
            charge=charge,
            spin=multiplicity - 1,
            verbose=0,
        )
        field = dft.RKS(molecule) if multiplicity == 1 else dft.UKS(molecule)
        if options.density_fit:
            field = field.density_fit()
        field.xc = options.functional
        if options.dispersion:
            field.disp = options.dispersion
        field.grids.level = options.grid
        field.conv_tol, field.max_cycle = options.convergence, options.max_iterations
        return field
