"""The ASE calculator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from lam.calculators.predictor import Predictor
from lam.data.dialects import read_charge_and_spin
from lam.data.structure import Structure
from lam.errors import LamError

if TYPE_CHECKING:
    import torch

    from lam.model.potential import Potential


class LAMCalculator(Calculator):
    """ASE calculator of a pretrained or fine-tuned potential.

    Gives ``energy``, ``free_energy`` (the same), ``energies`` (eV), ``forces`` (eV/Angstrom) and, where the
    structure is periodic in three directions, ``stress`` (eV/Angstrom^3, tensile positive, Voigt).

    Total charge and spin multiplicity come from ``atoms.info``: ``charge``/``spin``,
    ``total_charge``/``spin_multiplicity`` or ``total_charge``/``total_spin``; a change of them recomputes.
    Not stated means neutral and singlet. ``atoms`` are never changed.

    Example:
        >>> atoms.calc = LAMCalculator("lam-nano")
        >>> atoms.get_potential_energy()

    Args:
        model: name of a shipped model, path of a checkpoint, or a potential (which is copied).
        head: head (level of theory) to use; ``None`` takes the first of the model's default heads that
            covers the elements; ``head_used`` says which.
        device: ``"auto"`` (a GPU if there is one), or a PyTorch device.
        dtype: ``"float32"``, or ``"float64"`` for tight relaxations, phonons and finite differences.
        kernels: what computes: ``"auto"`` (the fastest that works here), ``"numba"`` (CPUs), ``"triton"`` (NVIDIA
            GPUs) or ``"torch"`` (plain PyTorch, anywhere); ``kernels_used`` says which it was.

    Attributes:
        model: the potential used; its weights must not be changed.
        head_used: name of the head of the last calculation, ``None`` before the first.

    Raises:
        LamError: unknown model, head or device; when calculating: no atoms, NaN positions, periodic
            directions without a cell, an element that the head does not cover.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "energies", "forces", "stress"]
    # Not inputs of the model: changing them must not recompute.
    ignored_changes: ClassVar[set[str]] = {"initial_charges", "initial_magmoms"}

    def __init__(
        self,
        model: str | Path | Potential,
        *,
        head: str | None = None,
        device: str | torch.device = "auto",
        dtype: str = "float32",
        kernels: str = "auto",
    ) -> None:
        super().__init__()
        self._predictor = Predictor(model, head=head, device=device, dtype=dtype, kernels=kernels)
        self.head_used: str | None = None

    @property
    def model(self) -> Potential:
        """The potential in use, on its device."""
        return self._predictor.model

    @property
    def kernels_used(self) -> str | None:
        """What computed the last calculation: ``"numba"``, ``"triton"`` or ``"torch"``; ``None`` before the first."""
        return self._predictor.kernels_used

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Return what changed since the last calculation: ASE's list, and charge or spin in ``info``."""
        if self.atoms is None or tol > 1e-15:
            changes = list(super().check_state(atoms, tol=tol))
        else:  # the same for what the model depends on, without the time of an evaluation of a small molecule
            names = ("positions", "numbers", "cell", "pbc")
            changes = [name for name in names if not np.array_equal(getattr(atoms, name), getattr(self.atoms, name))]
        if self.atoms is not None and read_charge_and_spin(self.atoms.info) != read_charge_and_spin(atoms.info):
            changes.append("info")
        return changes

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Compute everything the model gives, whatever is asked for: it costs one evaluation.

        Raises:
            LamError: if the structure cannot be used.
            PropertyNotImplementedError: if stress is asked for and the structure is not 3D-periodic.
        """
        atoms = self.atoms if atoms is None else atoms
        if atoms is None:
            raise LamError("There is nothing to calculate: give the calculator atoms.")
        self.reset()  # a failure must leave neither old results nor atoms to compare the next ones with
        charge, multiplicity = read_charge_and_spin(atoms.info)
        structure = Structure(
            numbers=atoms.numbers,
            positions=atoms.positions,
            cell=atoms.cell.array,
            pbc=atoms.pbc,
            total_charge=charge,
            spin_multiplicity=multiplicity,
        )
        prediction = self._predictor.predict([structure])[0]
        super().calculate(atoms, properties, system_changes)
        self.head_used = prediction.head
        self.results = {
            "energy": prediction.energy,
            "free_energy": prediction.energy,
            "energies": prediction.atom_energies,
            "forces": prediction.forces,
        }
        if prediction.stress is not None:
            self.results["stress"] = full_3x3_to_voigt_6_stress(prediction.stress)
        elif "stress" in properties:
            raise PropertyNotImplementedError(
                f"Stress needs a structure that is periodic in three directions; this one has pbc = {self.atoms.pbc}."
            )

    def todict(self) -> dict[str, Any]:
        """Return a description for ASE's databases and trajectories."""
        metadata = getattr(self.model, "metadata", None)
        return {"model": metadata.name if metadata else "unsaved", "head": self.head_used or self._predictor.head or ""}


def bare(atoms: Atoms) -> Atoms:
    """Return ``atoms`` with nothing that could be taken for a label: what a prediction may depend on."""
    charge, multiplicity = read_charge_and_spin(atoms.info)
    stated = {"total_charge": charge, "spin_multiplicity": multiplicity}
    return Atoms(
        numbers=atoms.numbers,
        positions=np.asarray(atoms.positions),
        cell=atoms.cell,
        pbc=atoms.pbc,
        info={key: value for key, value in stated.items() if value is not None},
    )
