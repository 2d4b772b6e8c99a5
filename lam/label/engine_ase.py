"""Any ASE calculator as an engine, by its import path: ``ase:module.Class`` with keyword options."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import tempfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from lam.errors import LamError
from lam.label.engines import ASE_PREFIX, Engine, Labels, NotConverged, Refused

if TYPE_CHECKING:
    from lam.data.structure import Structure

STATE = "state"
"""Option of lam itself: ``state=info`` says that the calculator reads charge and multiplicity from ``atoms.info``."""


class ASECalculator(Engine):
    """A calculator with its keywords. ``{charge}`` and ``{multiplicity}`` in an option stand for the structure's."""

    def __init__(self, name: str, options: Mapping[str, Any] | None = None) -> None:
        self.name = name
        self.options = dict(options or {})
        self._path = name.removeprefix(ASE_PREFIX)
        self._keywords = {key: value for key, value in self.options.items() if key != STATE}
        self._state = self.options.get(STATE)
        if self._state not in (None, "info", "ignore"):
            raise LamError(f"'{STATE}={self._state}' is not known: write info or ignore.")
        self._class = _load(self._path)
        self._made: tuple[tuple[int, int], Any] | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """The calculator's keywords as given."""
        return dict(self.options)

    def version(self) -> str:
        """Return the package that the class comes from, and its version."""
        package = self._path.partition(".")[0]
        names = importlib.metadata.packages_distributions().get(package, [package])
        try:
            return f"{names[0]} {importlib.metadata.version(names[0])}"
        except importlib.metadata.PackageNotFoundError:
            version = getattr(importlib.import_module(package), "__version__", "of unknown version")
            return f"{package} {version}"

    def level_of_theory(self) -> str:
        """Return class and keywords; state something better with ``--level-of-theory``."""
        keywords = ", ".join(f"{key}={value}" for key, value in sorted(self._keywords.items()))
        return f"{self._path}({keywords}), {self.version()}"

    def check(self, structure: Structure) -> None:
        """Refuse a charge or an open shell of which the calculator would not be told."""
        stated = {"charge": structure.total_charge or 0.0, "multiplicity": (structure.spin_multiplicity or 1.0) - 1}
        if self._state is None:
            for what, value in stated.items():
                if value and not _mentions(self._keywords, what):
                    raise Refused(
                        f"{structure.where}: {what} {value + (what == 'multiplicity'):g} is stated, but the calculator "
                        f"{self._path} is not told. Give it by an option, e.g. {what}={{{what}}}; or {STATE}=info "
                        f"if it reads atoms.info, {STATE}=ignore if it must not know."
                    )

    def calculate(self, structure: Structure) -> Labels:
        """Label one structure with a calculator whose memory of the one before is cleared."""
        from ase import Atoms

        charge, multiplicity = structure.total_charge or 0.0, structure.spin_multiplicity or 1.0
        atoms = Atoms(structure.numbers, structure.positions, cell=structure.cell, pbc=structure.pbc)
        if self._state == "info":
            atoms.info.update(total_charge=charge, charge=charge, spin_multiplicity=multiplicity, spin=multiplicity)
        atoms.calc = calculator = self._calculator(round(charge), round(multiplicity))
        with tempfile.TemporaryDirectory(prefix="lam-label-") as folder:
            if hasattr(calculator, "directory"):
                calculator.directory = folder  # input and output files of external programs
            energy, forces = _free_energy(atoms), atoms.get_forces()
            stress = _stress(atoms) if structure.pbc.all() else None
        if getattr(calculator, "converged", True) is False:
            raise NotConverged(f"{self._path} says that it did not converge")
        told = self._state != "ignore"
        return Labels(
            energy, forces, stress,
            structure.total_charge if told else None, structure.spin_multiplicity if told else None,
        )  # fmt: skip

    def _calculator(self, charge: int, multiplicity: int) -> Any:
        state = (charge, multiplicity)
        if self._made is None or self._made[0] != state:
            self._made = state, self._class(**_filled(self._keywords, charge, multiplicity))
        calculator = self._made[1]
        if hasattr(calculator, "reset"):
            calculator.reset()
        return calculator


def _load(path: str) -> Any:
    module, _, name = path.rpartition(".")
    if not module:
        raise LamError(f"'{ASE_PREFIX}{path}' names no calculator; write {ASE_PREFIX}module.Class.")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise LamError(f"Cannot import the calculator '{path}': {' '.join(str(error).split())}.") from None
    if not (inspect.isclass(found) or callable(found)):
        raise LamError(f"'{path}' is no calculator class, but a {type(found).__name__}.")
    return found


def _mentions(value: Any, what: str) -> bool:
    if isinstance(value, Mapping):
        return any(_mentions(each, what) for each in value.values())
    if isinstance(value, list):
        return any(_mentions(each, what) for each in value)
    return isinstance(value, str) and f"{{{what}}}" in value


def _filled(value: Any, charge: int, multiplicity: int) -> Any:
    """Return the options with the placeholders replaced; one that stands alone becomes a number."""
    if isinstance(value, Mapping):
        return {key: _filled(each, charge, multiplicity) for key, each in value.items()}
    if isinstance(value, list):
        return [_filled(each, charge, multiplicity) for each in value]
    if isinstance(value, str):
        for name, number in (("{charge}", charge), ("{multiplicity}", multiplicity)):
            if value == name:
                return number
            value = value.replace(name, str(number))
    return value


def _free_energy(atoms: Any) -> float:
    from ase.calculators.calculator import PropertyNotImplementedError

    try:
        return float(atoms.get_potential_energy(force_consistent=True))
    except PropertyNotImplementedError:
        energy = float(atoms.get_potential_energy())
        # It has one energy only, or does not list the free energy that it calculates.
        free_energy = getattr(atoms.calc, "results", {}).get("free_energy")
        return energy if free_energy is None else float(free_energy)


def _stress(atoms: Any) -> np.ndarray | None:
    from ase.calculators.calculator import PropertyNotImplementedError

    try:
        return atoms.get_stress(voigt=False)
    except (PropertyNotImplementedError, NotImplementedError):
        return None
