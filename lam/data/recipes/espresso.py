"""Quantum ESPRESSO: every converged step of what pw.x prints (the energy begins with '!'), or of its XML file."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import numpy as np
from ase.data import atomic_numbers as NUMBERS
from ase.units import Ry

from lam.data.recipes.base import Label, Part, Recipe, attempt
from lam.data.recipes.calculations import COMPRESSED, each_file, note_dropped, open_output, outputs, readable
from lam.data.recipes.common import BOHR, trajectory_name
from lam.data.recipes.espresso_xml import MARK, XmlStep, read_xml
from lam.data.structure import Structure
from lam.errors import LamError, LamWarning

_TOTAL = re.compile(r"^!+\s+total energy\s+=\s*(\S+)\s+Ry")
_UP_DOWN = re.compile(r"\(up:\s*([\d.]+),\s*down:\s*([\d.]+)\)")
_FLOAT = re.compile(r"[-+]?\d*\.?\d+(?:[EeDd][-+]?\d+)?")
_UNIT = re.compile(r"alat\s*=\s*([\d.]+)")


@dataclass
class Step:
    """What is known of one self-consistent calculation; eV, Angstrom, eV/Angstrom^3 with ASE's sign."""

    labels: list[str]
    positions: np.ndarray
    cell: np.ndarray
    energy: float
    forces: np.ndarray | None = None
    stress: np.ndarray | None = None
    complete: bool = True


@dataclass
class Reader:
    """A walk through an output; see :meth:`steps`."""

    lines: TextIO
    where: str
    labels: list[str] = field(default_factory=list)
    positions: np.ndarray | None = None
    cell: np.ndarray | None = None
    alat: float = 0.0  # Angstrom
    valence: dict[str, float] = field(default_factory=dict)
    electrons: float | None = None
    unpaired: float | None = None
    unconverged: int = 0
    fixed: bool = False
    """Were bands of a fixed potential calculated (nscf, bands)?"""

    def steps(self) -> Iterator[Step]:
        """Yield the complete converged steps.

        Raises:
            LamError: if a block is not as pw.x writes it.
        """
        step: Step | None = None
        for line in self.lines:
            found = _TOTAL.match(line)
            if found:
                if step is not None and step.complete and step.positions is not self.positions:
                    yield step
                step = self._begin(found[1])
            elif "convergence NOT achieved" in line:
                if step is not None and step.positions is not self.positions:
                    yield step
                step, self.unconverged = None, self.unconverged + 1
            elif "Forces acting on atoms" in line and step is not None and step.forces is None:
                step.forces = self._forces(len(step.positions))
                step.complete = step.forces is not None
            elif "total   stress" in line and step is not None:
                rows = [self._numbers(next(self.lines, ""))[:3] for _ in range(3)]
                step.complete &= all(len(row) == 3 for row in rows)
                # Positive under compression in pw.x.
                step.stress = -np.array(rows) * Ry / BOHR**3 if step.complete else None
            else:
                self._geometry(line)
        if step is not None and step.complete:
            yield step

    def _begin(self, energy: str) -> Step:
        if self.positions is None or self.cell is None:
            raise LamError(f"{self.where} has no positions or cell before its first energy: its beginning is missing.")
        return Step(self.labels, self.positions, self.cell, float(energy) * Ry)

    def _geometry(self, line: str) -> None:
        if "celldm(1)=" in line:
            self.alat = float(line.split("celldm(1)=")[1].split()[0]) * BOHR
        elif "End of band structure calculation" in line:
            self.fixed = True
        elif "lattice parameter (alat)" in line and not self.alat:
            self.alat = self._numbers(line.split("=")[1])[0] * BOHR
        elif "crystal axes: (cart. coord. in units of " in line:  # alat, a_0 before version 5
            self.cell = self._rows(3, after="=") * self.alat
        elif line.startswith("CELL_PARAMETERS"):
            self.cell = self._rows(3) * self._length(line)
        elif "positions (alat units)" in line or "positions (a_0 units)" in line:
            self._sites()
        elif line.startswith("ATOMIC_POSITIONS"):
            self._atomic_positions(line)
        elif "number of electrons" in line:
            self.electrons = self._numbers(line.split("=")[1])[0]
            spins = _UP_DOWN.search(line)
            self.unpaired = abs(float(spins[1]) - float(spins[2])) if spins else None
        elif "atomic species   valence" in line:
            for row in self.lines:
                words = row.split()
                if len(words) < 3:
                    break
                self.valence[words[0]] = float(words[1])

    def _sites(self) -> None:
        labels, rows = [], []
        for line in self.lines:
            if "tau(" not in line:
                break
            labels.append(line.split("tau(")[0].split()[1])
            rows.append(self._numbers(line.split("= (")[1])[:3])
        self.labels, self.positions = labels, np.array(rows) * self.alat

    def _atomic_positions(self, line: str) -> None:
        labels, rows = [], []
        for _ in self.labels:
            words = next(self.lines, "").split()
            if len(words) < 4:
                return  # cut off: nothing is computed with it
            labels.append(words[0])
            rows.append([float(word) for word in words[1:4]])
        positions = np.array(rows)
        if "crystal" in line:
            positions = positions @ self.cell
        else:
            positions = positions * self._length(line)
        self.labels, self.positions = labels, positions

    def _length(self, line: str) -> float:
        """Return Angstrom per unit of a card: (angstrom), (bohr), (alat), (alat= 10.2)."""
        if "angstrom" in line.lower():
            return 1.0
        if "bohr" in line.lower():
            return BOHR
        found = _UNIT.search(line)
        if found:
            self.alat = float(found[1]) * BOHR
        return self.alat

    def _rows(self, count: int, after: str = "") -> np.ndarray:
        lines = [next(self.lines, "") for _ in range(count)]
        rows = [self._numbers(line.split(after, 1)[-1] if after else line)[:3] for line in lines]
        if any(len(row) != 3 for row in rows):
            raise LamError(f"{self.where}: '{lines[0].strip()}' should hold three numbers; is the file damaged?")
        return np.array(rows)

    def _forces(self, count: int) -> np.ndarray | None:
        rows: list[list[float]] = []
        for line in self.lines:
            if "force =" in line:
                rows.append(self._numbers(line.split("force =")[1])[:3])
            elif line.strip():
                break
            if len(rows) == count:
                break
        complete = len(rows) == count and all(len(row) == 3 for row in rows)
        return np.array(rows) * Ry / BOHR if complete else None

    def _numbers(self, text: str) -> list[float]:
        if "**" in text:
            raise LamError(f"{self.where}: '{text.strip()}' has numbers too large for their columns.")
        return [float(word.replace("D", "E").replace("d", "e")) for word in _FLOAT.findall(text)]

    def charge(self) -> float | None:
        """Return the valence electrons of the atoms less those that are there."""
        if self.electrons is None or not all(label in self.valence for label in self.labels):
            return None
        charge = sum(self.valence[label] for label in self.labels) - self.electrons
        return 0.0 if abs(charge) < 0.006 else round(charge, 2)  # electrons are printed with two digits


_outputs = outputs("Program PWSCF")
_xml_files = outputs(MARK, (".xml",))


def find(path: Path) -> list[Path]:
    """Return what pw.x printed in a folder and those below it, or, where there is nothing, its XML files."""
    found = _outputs(path)
    if found or path.is_file():
        return found
    files = _xml_files(path)
    # prefix.save/data-file-schema.xml is a copy of prefix.xml beside the folder.
    copied = {file.with_name(_stem(file) + ".save") for file in files}
    return [file for file in files if file.parent not in copied]


def _stem(path: Path) -> str:
    return path.name[: path.name.index(".xml")]


def _is_xml(path: Path) -> bool:
    name = path.name.lower()
    return name.endswith(tuple(f".xml{end}" for end in ("", *COMPRESSED)))


def read(part: Part) -> Iterator[Structure | LamError]:
    """Yield the converged steps; those that are not are counted in a warning."""
    name = trajectory_name(part.path)
    with open_output(part.path, whole_lines=not _is_xml(part.path)) as lines:
        reader = Reader(lines, f"'{part.path}'")
        count = 0
        steps = _of_xml(reader) if _is_xml(part.path) else _of_output(reader)
        try:
            for step, charge, unpaired in readable(steps, reader.where):
                yield attempt(_structure, step, charge, unpaired, f"{name}#{count}", name)
                count += 1
        except LamError as error:
            yield error
            return
    if not count and reader.fixed:
        warnings.warn(f"'{part.path}' is left out: a band structure, without a total energy.", LamWarning, stacklevel=2)
    elif not count:
        yield LamError(f"'{part.path}' holds no converged and complete step of pw.x.")
    note_dropped(part.path, reader.unconverged, count + reader.unconverged)


def _of_output(reader: Reader) -> Iterator[tuple[Step, float | None, float | None]]:
    for step in reader.steps():
        yield step, reader.charge(), reader.unpaired


def _of_xml(reader: Reader) -> Iterator[tuple[XmlStep, float | None, float | None]]:
    for step in read_xml(reader.lines.buffer, reader.where):  # type: ignore[attr-defined] - opened from bytes
        if step.converged:
            yield step, step.charge, step.unpaired
        else:
            reader.unconverged += 1


def _structure(
    step: Step | XmlStep, charge: float | None, unpaired: float | None, source: str, group: str
) -> Structure:
    return Structure(
        numbers=np.array([_number(label, source) for label in step.labels]),
        positions=step.positions,
        cell=step.cell,
        pbc=True,
        energy=step.energy,
        forces=step.forces,
        stress=step.stress,
        total_charge=charge,
        spin_multiplicity=None if unpaired is None else unpaired + 1.0,
        group=group,
        source=source,
    )


def _number(label: str, where: str) -> int:
    """Return the atomic number of a species: its label begins with the element, as in Fe1, Fe_up, fe."""
    letters = re.match(r"[A-Za-z]*", label)[0]  # type: ignore[index]
    for length in (2, 1):
        name = letters[:length].capitalize()
        if len(name) == length and name in NUMBERS and (length == len(letters) or not letters[length:].islower()):
            return NUMBERS[name]
    raise LamError(f"{where}: the species '{label}' does not begin with an element.")


ESPRESSO = Recipe(
    name="espresso",
    title="Quantum ESPRESSO: outputs and XML files of pw.x (scf, relax, vc-relax, md)",
    level_of_theory="not stated",
    licence="not stated",
    doi="",
    files="what pw.x prints (*.out, *.pwo, *.log), or prefix.xml (data-file-schema.xml); also .gz, .bz2, .xz, .zst.",
    labels=(
        Label("positions", "site list, ATOMIC_POSITIONS; atomic_structure", "as stated there; Bohr in XML"),
        Label("energy", "! total energy; etot", "Ry; Hartree in XML", "with smearing the free energy F = E - TS"),
        Label("forces", "Forces acting on atoms; forces", "Ry/Bohr; Hartree/Bohr in XML", "the first block: the total"),
        Label(
            "stress",
            "total stress; stress",
            "Ry/Bohr^3; Hartree/Bohr^3 in XML",
            "positive under compression: the sign is turned",
        ),
        Label("total_charge", "number of electrons; tot_charge", "e", "valence electrons of the atoms less these"),
        Label("spin_multiplicity", "(up: , down: ); tot_magnetization", "", "difference + 1, where it was fixed"),
    ),
    find=find,
    parts=each_file,
    read=read,
    notes="The group is the calculation. Steps whose convergence was not achieved are left out with a message; so are "
    "outputs of nscf and bands, and a step that is cut off at the end of the file. Of a folder that holds both, the "
    "printed outputs are read.",
)

RECIPES = (ESPRESSO,)
