"""The way to the inference engine: structures to its tables and neighbours, kept from one call to the next."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lam.calculators.engine import Atoms, Engine
from lam.calculators.verlet import Neighbors, VerletList

if TYPE_CHECKING:
    from lam.data.structure import Structure
    from lam.model.potential import Potential


class FastPath:
    """Evaluates structures on the CPU; dynamics of one structure at a time is what it is fastest at.

    Args:
        model: the potential, whose weights must not change.

    Attributes:
        verlet: neighbours of the structure that is followed.
    """

    def __init__(self, model: Potential) -> None:
        self._engine = Engine(model)
        self.verlet = VerletList(model.cutoff, self._engine.number)
        self._alone = VerletList(model.cutoff, self._engine.number, skin=0.0)
        self._atoms: tuple[tuple[int, float, float], Atoms] | None = None
        self._lock = threading.Lock()  # buffers are shared by all calls

    def __call__(
        self, structures: Sequence[Structure], tasks: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return energies of all atoms (N,), forces (N, 3), and dE/d(strain) of the structures (G, 3, 3), float64."""
        with self._lock:
            if len(structures) == 1:
                return self._engine(self._same_atoms(structures[0], tasks[0]), self.verlet(structures[0]))
            return self._engine(self._tables(structures, tasks), self._joined(structures))

    def _same_atoms(self, structure: Structure, task: int) -> Atoms:
        """Return the tables of a structure: those of the last call, if it had the same atoms and state."""
        state = (task, *_state(structure))
        if self._atoms is None or self._atoms[0] != state or not np.array_equal(
            self._atoms[1].numbers, structure.numbers
        ):  # fmt: skip
            self._atoms = (state, self._tables([structure], [task]))
        return self._atoms[1]

    def _tables(self, structures: Sequence[Structure], tasks: Sequence[int]) -> Atoms:
        charges, multiplicities = np.array([_state(structure) for structure in structures]).T
        return self._engine.atoms(
            np.concatenate([structure.numbers for structure in structures]),
            np.array([len(structure) for structure in structures]),
            np.array(tasks),
            charges,
            multiplicities,
        )

    def _joined(self, structures: Sequence[Structure]) -> Neighbors:
        starts, neighbors, vectors = [np.zeros(1, dtype=np.int64)], [], []
        atoms = edges = 0
        for structure in structures:
            found = self._alone(structure)
            starts.append(found.starts[1:] + edges)
            neighbors.append(found.neighbors + atoms)
            vectors.append(found.vectors.copy())
            atoms, edges = atoms + len(structure), edges + len(found.neighbors)
        return Neighbors(np.concatenate(starts), np.concatenate(neighbors), np.concatenate(vectors))


def _state(structure: Structure) -> tuple[float, float]:
    """Return charge and multiplicity, neutral and singlet where they are not stated."""
    charge, multiplicity = structure.total_charge, structure.spin_multiplicity
    return 0.0 if charge is None else charge, 1.0 if multiplicity is None else multiplicity
