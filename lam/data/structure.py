"""One labelled atomic structure, validated. Everything that `lam` reads becomes one of these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lam.errors import LamError

if TYPE_CHECKING:
    from ase import Atoms

MAX_ATOMIC_NUMBER = 118
ISOLATED_ATOM = "IsolatedAtom"  # the `config_type` by which the field marks isolated-atom frames

# Beyond these a label cannot be meant: it is a unit error or a failed calculation.
MAX_ENERGY_PER_ATOM = 1e6  # eV; all-electron uranium is -7.6e5
MAX_FORCE = 1e4  # eV/A
MAX_STRESS = 1e3  # eV/A^3, 160 TPa
MAX_COORDINATE = 1e7  # A
MIN_CELL_VECTOR = 0.1  # A
MIN_CELL_FRACTION = 1e-3  # of the volume that orthogonal vectors of the same lengths would span


@dataclass(frozen=True, kw_only=True, eq=False)
class Structure:
    """Atoms, periodicity, state and labels of one structure; invalid ones cannot be made.

    A label that is ``None`` is missing. Units: eV, Angstrom; stress is tensile positive.
    Arrays are converted to the types below and must not be changed in place.

    Raises:
        LamError: if a shape is wrong, a value is not finite or absurd, or a periodic direction has
            no lattice vector. The message names :attr:`source`.
    """

    numbers: np.ndarray
    """Atomic numbers, (N,) int64."""
    positions: np.ndarray
    """Cartesian positions, (N, 3) float64, Angstrom."""
    cell: np.ndarray
    """Lattice vectors as rows, (3, 3) float64, Angstrom; zeros where there is none."""
    pbc: np.ndarray
    """Periodic along each lattice vector? (3,) bool."""
    total_charge: float | None = None
    """Total charge in e; ``None`` if not stated (then it counts as 0)."""
    spin_multiplicity: float | None = None
    """Spin multiplicity 2S+1; ``None`` if not stated (then it counts as 1)."""
    energy: float | None = None
    """Total energy, eV."""
    forces: np.ndarray | None = None
    """Forces, (N, 3) float64, eV/Angstrom."""
    stress: np.ndarray | None = None
    """Stress, (3, 3) float64, symmetric, eV/Angstrom^3."""
    group: str = ""
    """Trajectory or composition; splits never divide a group."""
    source: str = ""
    """Name for messages: ``"file.extxyz.xz#12"``, frames counted from 0."""

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        put("numbers", np.ascontiguousarray(self.numbers, dtype=np.int64))
        put("positions", self._array("positions", self.positions, (len(self.numbers), 3)))
        put("cell", self._array("cell", self.cell, (3, 3)))
        put("pbc", np.array(np.broadcast_to(self.pbc, 3), dtype=bool))
        for name in ("total_charge", "spin_multiplicity", "energy"):
            if getattr(self, name) is not None:
                put(name, float(getattr(self, name)))
        if self.forces is not None:
            put("forces", self._array("forces", self.forces, (len(self.numbers), 3)))
        if self.stress is not None:
            stress = self._array("stress", self.stress, (3, 3))
            put("stress", 0.5 * (stress + stress.T))
        self._check_atoms()
        self._check_cell()
        self._check_labels()

    def __len__(self) -> int:
        """Return the number of atoms."""
        return len(self.numbers)

    def __repr__(self) -> str:
        return f"Structure({self.where}: {self.formula}, pbc {''.join('FT'[int(p)] for p in self.pbc)})"

    @property
    def where(self) -> str:
        """What messages call this structure."""
        return self.source or "the structure"

    @property
    def formula(self) -> str:
        """Chemical formula in Hill order, as ASE writes it."""
        from ase.formula import Formula
        from ase.symbols import Symbols

        return Formula(str(Symbols(self.numbers))).format("hill")

    @property
    def isolated_atom(self) -> bool:
        """Is this one atom in vacuum, whose energy is an isolated-atom reference?"""
        return len(self) == 1 and (not self.pbc.any() or self.group == ISOLATED_ATOM)

    @property
    def volume(self) -> float:
        """Volume of the cell, Angstrom^3."""
        return float(abs(np.linalg.det(self.cell)))

    @classmethod
    def from_atoms(cls, atoms: Atoms, *, source: str = "", group: str | None = None) -> Structure:
        """Make a structure from ASE atoms, with every label found on them (see `lam.data.labels`).

        Args:
            atoms: the atoms; they are not changed.
            source: name for messages.
            group: group for the split; by default ``info["group"]``, else ``config_type``, else the formula.

        Raises:
            LamError: see the class.
        """
        from lam.data.labels import read_labels

        return read_labels(atoms, source=source, group=group)

    def to_atoms(self, *, prefix: str | None = None) -> Atoms:
        """Return ASE atoms with the labels, charge, multiplicity and group.

        Args:
            prefix: ``None`` puts the labels on a ``SinglePointCalculator``, as engines do;
                a text such as ``"REF_"`` writes them to ``info`` and ``arrays`` under prefixed names.
        """
        from ase import Atoms
        from ase.calculators.singlepoint import SinglePointCalculator
        from ase.stress import full_3x3_to_voigt_6_stress

        atoms = Atoms(numbers=self.numbers, positions=self.positions, cell=self.cell, pbc=self.pbc)
        for key in ("total_charge", "spin_multiplicity"):
            if getattr(self, key) is not None:
                atoms.info[key] = getattr(self, key)
        if self.group:
            atoms.info["group"] = self.group
        labels = {"energy": self.energy, "forces": self.forces}
        labels["stress"] = None if self.stress is None else full_3x3_to_voigt_6_stress(self.stress)
        labels = {key: value for key, value in labels.items() if value is not None}
        if prefix is None:
            if labels:
                atoms.calc = SinglePointCalculator(atoms, **labels)
            return atoms
        for key, value in labels.items():
            (atoms.arrays if key == "forces" else atoms.info)[prefix + key] = value
        return atoms

    def _array(self, name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
        try:
            array = np.ascontiguousarray(value, dtype=np.float64)
        except (TypeError, ValueError):
            raise LamError(f"{self.where}: the {name} are not numbers.") from None
        if array.shape != shape:
            raise LamError(
                f"{self.where}: the {name} have shape {array.shape} instead of {shape} "
                f"for {len(self.numbers)} atoms; correct or remove them."
            )
        if not np.isfinite(array).all():
            raise LamError(f"{self.where}: NaN or infinite values in the {name}; remove the frame or the label.")
        return array

    def _check_atoms(self) -> None:
        if self.numbers.ndim != 1 or not len(self.numbers):
            raise LamError(f"{self.where} has no atoms; remove the empty frame.")
        low, high = int(self.numbers.min()), int(self.numbers.max())
        if low < 1 or high > MAX_ATOMIC_NUMBER:
            bad = low if low < 1 else high
            raise LamError(
                f"{self.where}: atomic number {bad} (an unknown element or a dummy atom 'X'); "
                f"elements 1 to {MAX_ATOMIC_NUMBER} are possible."
            )
        if np.abs(self.positions).max() > MAX_COORDINATE:
            raise LamError(f"{self.where}: a coordinate exceeds {MAX_COORDINATE:g} Angstrom; check the units.")

    def _check_cell(self) -> None:
        if not self.pbc.any():
            return
        rows = self.cell[self.pbc]
        lengths = np.linalg.norm(rows, axis=1)
        if lengths.min() < MIN_CELL_VECTOR:
            raise LamError(
                f"{self.where} is periodic (pbc = {self.pbc.tolist()}) along a lattice vector of zero length; "
                "give a cell or set pbc to false."
            )
        units = rows / lengths[:, None]
        if np.linalg.det(units @ units.T) < MIN_CELL_FRACTION**2:
            raise LamError(f"{self.where}: the lattice vectors are (almost) linearly dependent; correct the cell.")

    def _check_labels(self) -> None:
        if self.energy is not None:
            if not np.isfinite(self.energy):
                raise LamError(f"{self.where}: the energy is {self.energy}; remove the frame or the label.")
            if abs(self.energy) > MAX_ENERGY_PER_ATOM * len(self):
                raise LamError(
                    f"{self.where}: an energy of {self.energy / len(self):.3g} eV per atom is absurd; check the units."
                )
        if self.forces is not None and np.abs(self.forces).max() > MAX_FORCE:
            raise LamError(
                f"{self.where}: a force of {np.abs(self.forces).max():.3g} eV/Angstrom is absurd; check the units."
            )
        if self.stress is not None and np.abs(self.stress).max() > MAX_STRESS:
            raise LamError(
                f"{self.where}: a stress of {np.abs(self.stress).max():.3g} eV/Angstrom^3 is absurd; check the units "
                "(1 eV/Angstrom^3 = 160.2 GPa)."
            )
