"""What an engine is, and which there are.

An engine labels one structure at a time, in eV and Angstrom, with an energy whose derivatives are its forces:
the free energy, where electrons are smeared. Each is a class in a module of its own, imported when it is used.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from lam.config import Section
from lam.errors import LamError, unknown_name

if TYPE_CHECKING:
    from lam.data.structure import Structure

ASE_PREFIX = "ase:"


class Refused(LamError):
    """The engine is not sound for this structure; nothing was calculated."""


class NotConverged(LamError):
    """The calculation ended without a converged result."""


@dataclass(frozen=True, eq=False)
class Labels:
    """What an engine says about one structure, in eV and Angstrom."""

    energy: float
    """Total energy of which the forces are minus the gradient (the free energy under smearing), eV."""
    forces: np.ndarray
    """(N, 3), eV/Angstrom."""
    stress: np.ndarray | None = None
    """(3, 3), tensile positive, eV/Angstrom^3; only for structures periodic in three directions."""
    total_charge: float | None = None
    """Charge that was calculated, e; ``None`` if the engine knows no charge."""
    spin_multiplicity: float | None = None
    """Multiplicity that was calculated; ``None`` if the engine does not fix it."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and lists, without rounding."""
        return {
            "energy": float(self.energy),
            "forces": np.asarray(self.forces, dtype=float).tolist(),
            "stress": None if self.stress is None else np.asarray(self.stress, dtype=float).tolist(),
            "total_charge": self.total_charge,
            "spin_multiplicity": self.spin_multiplicity,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Labels:
        """Turn the values of :meth:`to_dict` back into labels."""
        stress = values["stress"]
        return cls(
            energy=values["energy"],
            forces=np.array(values["forces"], dtype=np.float64).reshape(-1, 3),
            stress=None if stress is None else np.array(stress, dtype=np.float64),
            total_charge=values["total_charge"],
            spin_multiplicity=values["spin_multiplicity"],
        )


class Engine(ABC):
    """A reference method with its settings; :meth:`calculate` labels one structure.

    Args:
        options: settings by name, validated by :attr:`Options`.

    Raises:
        LamError: for an unknown or wrong option, or if the engine is not installed.
    """

    Options: ClassVar[type[Section]] = Section
    """The settings the engine knows."""
    gamma_only: ClassVar[bool] = False
    """Does it sample periodic cells at the Gamma point only? Then their size is checked."""

    def __init__(self, name: str, options: Mapping[str, Any] | None = None) -> None:
        self.name = name
        self.options = self.Options.parse(dict(options or {}), where=f"the options of the engine '{name}'")

    @property
    def settings(self) -> dict[str, Any]:
        """All settings, defaults included, as plain values."""
        return self.options.to_dict()

    @abstractmethod
    def version(self) -> str:
        """Return name and version of the program, e.g. ``"tblite 0.8.0"``."""

    @abstractmethod
    def level_of_theory(self) -> str:
        """Return what a paper would state: method, basis, smearing, program."""

    @abstractmethod
    def check(self, structure: Structure) -> None:
        """Look whether the engine is sound for the structure, without calculating.

        Raises:
            Refused: with the reason.
        """

    def prepare(self) -> None:  # noqa: B027 (nothing to do is a fine default)
        """Import what calculating needs; called once, in the process that calculates."""

    @abstractmethod
    def calculate(self, structure: Structure) -> Labels:
        """Label one structure.

        Raises:
            NotConverged: if there is no converged result.
        """


@dataclass(frozen=True)
class EngineInfo:
    """One line of ``lam label --engines``: an engine, without importing it."""

    name: str
    module: str
    kind: str
    """Class in ``module``."""
    package: str
    """Distribution it needs."""
    extra: str
    """What to install, as written after ``pip install``."""
    sound_for: str
    periodic: str
    state: str
    """How charge and spin multiplicity enter."""

    @property
    def installed(self) -> str | None:
        """Version of the package, or ``None``."""
        try:
            return importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:
            return None


_XTB_PERIODIC = "Gamma point only: large cells (8 A and more each way), checked for extensivity"
ENGINES: tuple[EngineInfo, ...] = (
    EngineInfo(
        "gfn1", "lam.label.engine_tblite", "GFN1", "tblite", "'lam[label]'",
        "anything finite of Z = 1-86: molecules, clusters; liquids and solids in large cells", _XTB_PERIODIC, "both",
    ),
    EngineInfo(
        "gfn2", "lam.label.engine_tblite", "GFN2", "tblite", "'lam[label]'",
        "molecules and their clusters, Z = 1-86; often fails for metals", _XTB_PERIODIC, "both",
    ),
    EngineInfo(
        "gpaw", "lam.label.engine_gpaw", "GPAW", "gpaw", "gpaw gpaw-data",
        "crystals, surfaces, alloys: plane-wave DFT, Z = 1-86 without Tc, Po, At", "k-points, 3D stress",
        "charge in 3D cells; fixed moment",
    ),
    EngineInfo(
        "pyscf", "lam.label.engine_pyscf", "PySCF", "pyscf", "'lam[label-dft]'",
        "molecules: DFT in Gaussian bases", "no", "both",
    ),
)  # fmt: skip
ASE_INFO = EngineInfo(
    "ase:module.Class", "lam.label.engine_ase", "ASECalculator", "ase", "the calculator's package",
    "whatever the calculator is sound for", "as the calculator", "by placeholders in its options",
)  # fmt: skip


def engine_info(name: str) -> EngineInfo:
    """Return what is known about an engine by its name.

    Raises:
        LamError: for an unknown name.
    """
    if name.startswith(ASE_PREFIX):
        return ASE_INFO
    for info in ENGINES:
        if info.name == name:
            return info
    raise unknown_name("engine", name, [*(info.name for info in ENGINES), ASE_INFO.name])


def make_engine(name: str, options: Mapping[str, Any] | None = None) -> Engine:
    """Return an engine with its settings, ready to calculate.

    Args:
        name: a name of :data:`ENGINES`, or ``"ase:module.Class"`` for any ASE calculator.
        options: settings of the engine, or keywords of the calculator.

    Raises:
        LamError: for an unknown engine or option, or if its package is not installed.
    """
    info = engine_info(name)
    if info is not ASE_INFO and importlib.util.find_spec(info.package) is None:
        raise LamError(
            f"The engine '{name}' needs the package {info.package}; install it with: pip install {info.extra}."
        )
    return getattr(importlib.import_module(info.module), info.kind)(name, options)


def resolve_state(structure: Structure, electrons: int) -> tuple[int, int]:
    """Return total charge and spin multiplicity to calculate; not stated means 0 and the lowest possible.

    Args:
        structure: the structure with what it states.
        electrons: electrons of the neutral structure that the engine treats.

    Raises:
        Refused: if the charge is no whole number or the multiplicity impossible for the number of electrons.
    """
    charge = 0.0 if structure.total_charge is None else structure.total_charge
    if charge != round(charge):
        raise Refused(f"{structure.where}: a total charge of {charge:g} e is no whole number.")
    left = electrons - round(charge)
    if left < 0:
        raise Refused(f"{structure.where}: a total charge of {charge:g} e exceeds its {electrons} electrons.")
    if structure.spin_multiplicity is None:
        return round(charge), 1 + left % 2
    multiplicity = structure.spin_multiplicity
    unpaired = multiplicity - 1
    if unpaired != round(unpaired) or unpaired > left or (left - round(unpaired)) % 2:
        raise Refused(
            f"{structure.where}: a spin multiplicity of {multiplicity:g} is impossible with {left} electrons "
            f"(total charge {charge:g}); state 2S+1, odd for an even number of electrons."
        )
    return round(charge), round(multiplicity)
