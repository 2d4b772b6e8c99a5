"""From structures to predictions: checks, graphs, batches, and the model's own units back.

The one way in which the ASE calculator and the command line ask a model for numbers.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from lam import keys
from lam.calculators.fast import FastPath
from lam.calculators.head_choice import HeadChoice
from lam.checkpoint import load
from lam.data.graph import build_graph, collate
from lam.errors import LamError, unknown_name
from lam.model.kernels import BACKENDS, backend_for, use

if TYPE_CHECKING:
    from lam.data.structure import Structure
    from lam.model.potential import Potential

_DTYPES: Final = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a model says of one structure.

    Attributes:
        head: name of the head that predicted.
        energy: total energy, eV.
        atom_energies: energy of each atom, eV, (N,).
        forces: eV/Angstrom, (N, 3).
        stress: eV/Angstrom^3, tensile positive, (3, 3); ``None`` unless periodic in three directions.
    """

    head: str
    energy: float
    atom_energies: np.ndarray
    forces: np.ndarray
    stress: np.ndarray | None


class Predictor:
    """A model on a device, ready to predict structures.

    Args:
        model: name of a shipped model, path of a checkpoint, or a potential. A potential is copied: what
            happens to it later, and what this does with it, do not affect each other.
        head: head to use; ``None`` lets the model choose for each structure.
        device: ``"auto"`` (a GPU if there is one), or a PyTorch device such as ``"cpu"`` or ``"cuda:1"``.
        dtype: ``"float32"`` or ``"float64"``.
        kernels: what computes: ``"auto"`` (the fastest that works here; the environment variable
            ``LAM_KERNELS`` may say otherwise), ``"numba"`` (CPUs), ``"triton"`` (NVIDIA GPUs) or ``"torch"``
            (plain PyTorch, anywhere).

    Attributes:
        kernels_used: what computed the last prediction: ``"numba"``, ``"triton"`` or ``"torch"``; ``None`` before.

    Raises:
        LamError: unknown model, head, device, dtype or kernels; damaged checkpoint. When predicting: kernels that
            were asked for by name and cannot be used on the device.
    """

    def __init__(
        self,
        model: str | Path | Potential,
        *,
        head: str | None = None,
        device: str | torch.device = "auto",
        dtype: str = "float32",
        kernels: str = "auto",
    ) -> None:
        if dtype not in _DTYPES:
            raise LamError(f"dtype must be 'float32' or 'float64', not {dtype!r}.")
        if kernels not in BACKENDS:
            raise unknown_name("kernels", kernels, BACKENDS)
        self.kernels = kernels
        self.kernels_used: str | None = None
        self._fast: FastPath | None = None
        self.dtype = _DTYPES[dtype]
        self.device = _device(device)
        own = load(model) if isinstance(model, (str, Path)) else copy.deepcopy(model)
        self.model = own.to(device=self.device, dtype=self.dtype).eval().requires_grad_(False)
        self.head = head
        self._choose_head = HeadChoice(self.model, head)

    def predict(self, structures: Sequence[Structure]) -> list[Prediction]:
        """Predict all ``structures`` in one batch.

        Raises:
            LamError: an element that no head covers, or an answer that is not finite.
        """
        if not structures:
            return []
        tasks = [self._choose_head(structure) for structure in structures]
        with nullcontext() if self.kernels == "auto" else use(self.kernels):
            self.kernels_used = backend_for(self.device, self.dtype, self.model.config.radial_functions)
            if self.device.type == "cpu" and self.kernels_used == "numba":
                return self._evaluate_fast(structures, tasks)
            return self._evaluate(structures, tasks)

    def predict_stream(
        self, structures: Iterable[Structure], *, batch_atoms: int
    ) -> Iterator[tuple[Structure, Prediction]]:
        """Predict a stream, in batches of up to ``batch_atoms`` atoms (or one larger structure), in order."""
        waiting: list[Structure] = []
        atoms = 0
        for structure in structures:
            if waiting and atoms + len(structure) > batch_atoms:
                yield from zip(waiting, self.predict(waiting), strict=True)
                waiting, atoms = [], 0
            waiting.append(structure)
            atoms += len(structure)
        if waiting:
            yield from zip(waiting, self.predict(waiting), strict=True)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for copies and other processes: without what is made again at the first prediction."""
        return self.__dict__ | {"_fast": None}

    def _evaluate_fast(self, structures: Sequence[Structure], tasks: Sequence[int]) -> list[Prediction]:
        """Predict with the inference engine for CPUs."""
        if self._fast is None:
            self._fast = FastPath(self.model)
        energies, forces, virials = self._fast(structures, tasks)
        predictions, start = [], 0
        for structure, task, virial in zip(structures, tasks, virials, strict=True):
            atoms = slice(start, start + len(structure))
            start += len(structure)
            stress = virial / structure.volume if structure.pbc.all() else None
            predictions.append(self._prediction(structure, task, energies[atoms], forces[atoms], stress))
        return predictions

    def _evaluate(self, structures: Sequence[Structure], tasks: Sequence[int]) -> list[Prediction]:
        """Predict with the model itself, as it is trained."""
        graphs = [
            build_graph(structure, cutoff=self.model.cutoff, task=task, dtype=self.dtype)
            for structure, task in zip(structures, tasks, strict=True)
        ]
        batch = {name: tensor.to(self.device) for name, tensor in collate(graphs).items()}
        periodic = [bool(structure.pbc.all()) for structure in structures]
        output = self.model(batch, forces=True, stress=any(periodic))
        arrays = {name: tensor.detach().cpu().numpy().astype(np.float64) for name, tensor in output.items()}
        predictions, start = [], 0
        for i, (structure, task) in enumerate(zip(structures, tasks, strict=True)):
            atoms = slice(start, start + len(structure))
            start += len(structure)
            stress = arrays[keys.STRESS][i] if periodic[i] else None
            energies, forces = arrays[keys.ATOM_ENERGIES][atoms], arrays[keys.FORCES][atoms]
            predictions.append(self._prediction(structure, task, energies, forces, stress))
        return predictions

    def _prediction(
        self, structure: Structure, task: int, energies: np.ndarray, forces: np.ndarray, stress: np.ndarray | None
    ) -> Prediction:
        energy = float(energies.sum())
        if not (np.isfinite(energy) and np.isfinite(forces).all()):
            raise LamError(f"The model's energy or forces of {structure.where} are not finite numbers.")
        head = self.model.head_names[task]
        return Prediction(head=head, energy=energy, atom_energies=energies, forces=forces, stress=stress)


def _device(device: str | torch.device) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch built without CUDA
        reason = str(error).splitlines()[0].rstrip(".")
        raise LamError(f"The device '{device}' cannot be used here: {reason}.") from None
    return chosen
