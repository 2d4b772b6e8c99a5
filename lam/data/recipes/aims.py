"""FHI-aims: every converged step of an output, with the electronic free energy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TextIO

import numpy as np
from ase.data import atomic_numbers as NUMBERS

from lam.data.recipes.base import Label, Part, Recipe, attempt
from lam.data.recipes.calculations import each_file, note_dropped, open_output, outputs, readable
from lam.data.recipes.common import NO_CELL, trajectory_name
from lam.data.structure import Structure
from lam.errors import LamError

_USED = ("as used in the preceding time step", "that was used in the preceding time step of the wrapper")
_STRESS = ("Analytical stress tensor - Symmetrized", "Numerical stress tensor")
_ELECTRONS = re.compile(r"The structure contains\s+\d+\s+atoms,?\s+and a total of\s+([\d.]+)\s+electrons")
_FIXED_SPIN = re.compile(r"^\s*fixed_spin_moment\s+(-?[\d.]+)")


@dataclass
class Step:
    """One self-consistent calculation; eV, Angstrom, eV/Angstrom^3."""

    geometry: tuple[list[int], np.ndarray] | None
    """Atomic numbers and positions; dynamics says only after the step where the atoms were."""
    cell: np.ndarray | None
    energy: float | None = None
    forces: np.ndarray | None = None
    stress: np.ndarray | None = None
    converged: bool = True
    damaged: bool = False


@dataclass
class Reader:
    """A walk through an output; see :meth:`steps`."""

    lines: TextIO
    where: str
    geometry: tuple[list[int], np.ndarray] | None = None
    cell: np.ndarray | None = None
    electrons: float | None = None
    unpaired: float | None = None
    converged: bool = True
    stress: np.ndarray | None = field(default=None)

    def steps(self) -> Iterator[Step]:
        """Yield the complete steps, also those that did not converge.

        Raises:
            LamError: if a block is not as FHI-aims writes it.
        """
        step: Step | None = None
        for line in self.lines:
            if "Begin self-consistency loop" in line:
                if step is not None:
                    yield step
                step, self.converged = None, False
            elif "Energy and forces in a compact form" in line:
                if step is not None:
                    yield step
                step = Step(self.geometry, self.cell, stress=self.stress, converged=self.converged)
                self.stress = None  # a numerical stress is printed before the last loop, an analytical one in it
            elif "| Electronic free energy" in line and step is not None and step.energy is None:
                step.energy = float(line.split(":")[1].split()[0])
            elif "Total atomic forces" in line and step is not None:
                step.forces = self._forces(step)
                step.damaged = step.forces is None
            elif any(key in line for key in _STRESS):
                self.stress = self._tensor()
                if step is not None:
                    step.stress = self.stress
            elif any(key in line for key in _USED):
                geometry, cell = self._atoms()
                if step is not None:
                    step.geometry, step.cell = geometry, self.cell if cell is None else cell
                self.geometry = None  # of the next step, nothing is known yet
            elif "Updated atomic structure" in line:
                if step is not None:
                    yield step
                    step = None
                self.geometry, cell = self._atoms()
                self.cell = self.cell if cell is None else cell
            elif "Self-consistency cycle converged." in line:
                self.converged = True
            else:
                self._header(line)
        if step is not None:
            yield step

    def _header(self, line: str) -> None:
        if "| Unit cell:" in line:
            rows = [next(self.lines, "").replace("|", " ").split() for _ in range(3)]
            if all(len(row) >= 3 for row in rows):
                self.cell = np.array([[float(word) for word in row[:3]] for row in rows])
        elif "| Atomic structure:" in line:
            next(self.lines, "")
            self.geometry = self._table()
        elif found := _ELECTRONS.search(line):
            self.electrons = float(found[1])
        elif found := _FIXED_SPIN.match(line):
            self.unpaired = float(found[1])

    def _table(self) -> tuple[list[int], np.ndarray] | None:
        """Read ``|    1: Species O   0.0  0.0  0.0`` lines."""
        numbers, rows = [], []
        for line in self.lines:
            words = line.replace("|", " ").split()
            if len(words) < 6 or words[1] != "Species":
                break
            numbers.append(self._number(words[2]))
            rows.append([float(word) for word in words[3:6]])
        return (numbers, np.array(rows)) if rows else None

    def _atoms(self) -> tuple[tuple[list[int], np.ndarray] | None, np.ndarray | None]:
        """Read the lines of a geometry.in: lattice_vector, atom, velocity."""
        numbers, rows, cell = [], [], []
        for line in self.lines:
            words = line.split()
            if words and words[0] == "atom" and len(words) >= 5:
                numbers.append(self._number(words[4]))
                rows.append([float(word) for word in words[1:4]])
            elif words and words[0] == "lattice_vector":
                cell.append([float(word) for word in words[1:4]])
            elif rows and not (words and words[0] in ("velocity", "constrain_relaxation", "initial_moment")):
                break
        geometry = (numbers, np.array(rows)) if rows else None
        return geometry, np.array(cell) if len(cell) == 3 else None

    def _forces(self, step: Step) -> np.ndarray | None:
        known = step.geometry or self.geometry
        rows = []
        for line in self.lines:
            words = line.replace("|", " ").split()
            if len(words) != 4 or not line.endswith("\n"):
                break
            rows.append([float(word) for word in words[1:]])
            if known is not None and len(rows) == len(known[0]):
                break
        complete = bool(rows) and (known is None or len(rows) == len(known[0]))
        return np.array(rows) if complete else None

    def _tensor(self) -> np.ndarray | None:
        rows = []
        for line in self.lines:
            words = line.replace("|", " ").split()
            if len(words) >= 4 and words[0] in ("x", "y", "z") and words[1] not in ("y", "z"):
                rows.append([float(word) for word in words[1:4]])
            if len(rows) == 3:
                return np.array(rows)
            if "Pressure" in line:
                break
        return None

    def _number(self, name: str) -> int:
        element = re.match(r"[A-Z][a-z]?", name)
        if element is None or element[0] not in NUMBERS:
            raise LamError(f"{self.where}: the species '{name}' does not begin with an element.")
        return NUMBERS[element[0]]


def read(part: Part) -> Iterator[Structure | LamError]:
    """Yield the converged steps; those that are not are counted in a warning."""
    name = trajectory_name(part.path)
    count = unconverged = 0
    with open_output(part.path) as lines:
        reader = Reader(lines, f"'{part.path}'")
        try:
            for step in readable(reader.steps(), reader.where):
                if step.energy is None or step.damaged or step.geometry is None:
                    continue
                number, count = count, count + 1
                if not step.converged:
                    unconverged += 1
                    continue
                yield attempt(_structure, step, reader, f"{name}#{number}", name)
        except LamError as error:
            yield error
            return
    if not count:
        yield LamError(f"'{part.path}' holds no complete step of FHI-aims.")
    note_dropped(part.path, unconverged, count)


def _structure(step: Step, reader: Reader, source: str, group: str) -> Structure:
    numbers, positions = step.geometry  # type: ignore[misc] - steps without are left out
    charge = None if reader.electrons is None else round(sum(numbers) - reader.electrons, 3) + 0.0
    return Structure(
        numbers=np.array(numbers),
        positions=positions,
        cell=NO_CELL if step.cell is None else step.cell,
        pbc=step.cell is not None,
        energy=step.energy,
        forces=step.forces,
        stress=None if step.cell is None else step.stress,
        total_charge=charge,
        spin_multiplicity=None if reader.unpaired is None else abs(reader.unpaired) + 1.0,
        group=group,
        source=source,
    )


AIMS = Recipe(
    name="fhi-aims",
    title="FHI-aims: outputs of single points, relaxations and dynamics",
    level_of_theory="not stated",
    licence="not stated",
    doi="",
    files="what FHI-aims prints: aims.out, *.out, *.log, also .gz, .bz2, .xz, .zst.",
    labels=(
        Label("positions", "Atomic structure; atom", "Angstrom"),
        Label("energy", "Electronic free energy", "eV", "in compact form; not the energy 'corrected' to T = 0"),
        Label("forces", "Total atomic forces", "eV/Angstrom"),
        Label("stress", "Analytical (symmetrized) or numerical stress tensor", "eV/Angstrom^3", "tensile positive"),
        Label("total_charge", "a total of ... electrons", "e", "nuclear charges less these"),
        Label("spin_multiplicity", "fixed_spin_moment", "", "moment + 1 where it was fixed"),
    ),
    find=outputs("FHI-aims"),
    parts=each_file,
    read=read,
    notes="The group is the calculation. Steps that did not converge are left out with a message. In dynamics the "
    "atoms of a step are printed after it; a last step without them is left out. Where FHI-aims sets forces on "
    "constrained atoms to zero, they are read as they stand.",
)

RECIPES = (AIMS,)
