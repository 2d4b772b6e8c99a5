"""ABACUS: the ionic steps of a running_*.log, and of dynamics those of MD_dump beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import numpy as np
from ase.data import atomic_numbers as NUMBERS

from lam.data.recipes.base import Label, Part, Recipe, attempt
from lam.data.recipes.calculations import each_file, note_dropped, open_output, readable
from lam.data.recipes.common import BOHR, KBAR, trajectory_name
from lam.data.structure import Structure
from lam.errors import LamError

_LABELLED = re.compile(r"^\s*(?:tau[cd]_)?([A-Za-z]\S*)\s+(\S+)\s+(\S+)\s+(\S+)")
_MD_STEP = re.compile(r"STEP OF MOLECULAR DYNAMICS\s*:?\s*(\d+)")
_DONE = ("final etot is", "#TOTAL ENERGY#")
_ONE_ANGSTROM = 5e-6
"""The lattice constant is printed with six digits, and in most inputs it is one Angstrom: 1.88973 Bohr."""
_FAILED = ("convergence has not been achieved", "convergence has NOT been achieved", "SCF IS NOT CONVERGED")


@dataclass
class Step:
    """One self-consistent calculation; eV, Angstrom, kbar with ABACUS's sign (compressive positive)."""

    numbers: list[int]
    positions: np.ndarray
    cell: np.ndarray
    energy: float
    forces: np.ndarray | None = None
    stress: np.ndarray | None = None


@dataclass
class Reader:
    """A walk through a log; see :meth:`steps`."""

    lines: TextIO
    where: str
    constant: float = 0.0  # Angstrom
    cell: np.ndarray | None = None
    species: list[str] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    raw: tuple[bool, np.ndarray] | None = None
    """Are the coordinates fractional? And these, as written."""
    unconverged: int = 0
    neutral: float = 0.0
    """Valence electrons of the neutral system, as far as they are stated."""

    def steps(self) -> Iterator[Step]:
        """Yield the converged steps.

        Raises:
            LamError: if a block is not as ABACUS writes it.
        """
        step: Step | None = None
        failed = used = False
        forces = stress = None  # of a log that has its only energy at the end
        for line in self.lines:
            if "!FINAL_ETOT_IS" in line and not used and not failed:
                step = self._begin(float(line.split()[-2]))
                step.forces, step.stress = forces, stress
                used = True
            elif any(key in line for key in _FAILED):
                failed = True
                self.unconverged += 1
            elif any(key in line for key in _DONE):
                if step is not None:
                    yield step
                step = None
                if not failed and used:
                    raise LamError(
                        f"{self.where} has an energy without coordinates of its own: its optimiser does not print them "
                        "(use relax_method cg, or convert the STRU_ION files)."
                    )
                if not failed:
                    step = self._begin(float(line.split()[-2]))
                failed, used = False, True
            elif "TOTAL-FORCE" in line and "Ry" not in line:  # version 2 prints them in Ry/Bohr before
                forces = self._table(sum(self.counts), labelled=True)
                if step is not None:
                    step.forces = forces
            elif "TOTAL-STRESS" in line:
                stress = self._table(3, labelled=False)
                if stress is not None and "gpa" in line.lower():
                    stress = 10.0 * stress
                if step is not None:
                    step.stress = stress
            elif line.startswith((" DIRECT COORDINATES", " CARTESIAN COORDINATES")):
                if step is not None:
                    yield step
                    step = None
                self._coordinates(line)
                used = failed = False
            else:
                self._header(line)
        if step is not None:
            yield step

    def _begin(self, energy: float) -> Step:
        if self.raw is None or self.cell is None or not self.constant:
            raise LamError(
                f"{self.where} has no coordinates or cell before its first energy: its beginning is missing."
            )
        direct, values = self.raw
        positions = values @ self.cell if direct else values * self.constant
        return Step(self.numbers(), positions, self.cell, energy)

    def numbers(self) -> list[int]:
        """Return the atomic numbers.

        Raises:
            LamError: if a species is no element.
        """
        found: list[int] = []
        for name, count in zip(self.species, self.counts, strict=False):
            element = re.match(r"[A-Z][a-z]?", name)
            if element is None or element[0] not in NUMBERS:
                raise LamError(f"{self.where}: the species '{name}' does not begin with an element.")
            found += [NUMBERS[element[0]]] * count
        return found

    def _header(self, line: str) -> None:
        value = line.rsplit("=", 1)[-1].split("#")[0].strip()
        if "lattice constant (Bohr)" in line:
            self.constant = float(value) * BOHR
            if abs(self.constant - 1.0) < _ONE_ANGSTROM:
                self.constant = 1.0
        elif line.startswith(" Lattice vectors: (Cartesian coordinate: in unit of a_0)"):
            rows = [next(self.lines, "").split()[:3] for _ in range(3)]
            if all(len(row) == 3 for row in rows):
                self.cell = np.array([[float(word) for word in row] for row in rows]) * self.constant
        elif "atom label =" in line:
            self.species.append(value)
        elif "number of atom for this type =" in line:
            self.counts.append(int(value))
        elif "total electron number of element" in line:
            self.neutral += float(value)

    def _coordinates(self, line: str) -> None:
        rows = []
        for row in self.lines:
            found = _LABELLED.match(row)
            if found is None or found[1] == "atom":
                if rows:
                    break
                if not row.strip() or found is not None:
                    continue
                break
            rows.append([float(word) for word in found.groups()[1:]])
            if len(rows) == sum(self.counts):
                break
        self.raw = (line.split()[0] == "DIRECT", np.array(rows)) if len(rows) == sum(self.counts) else None

    def _table(self, count: int, *, labelled: bool) -> np.ndarray | None:
        rows: list[list[float]] = []
        for line in self.lines:
            words = line.split()
            values = words[1:4] if labelled and words and words[0][0].isalpha() else [] if labelled else words[:3]
            if len(values) == 3 and all(_is_number(word) for word in values):
                rows.append([float(word) for word in values])
            elif rows:
                break
            if len(rows) == count:
                return np.array(rows)
        return None


def find(path: Path) -> list[Path]:
    """Return the logs in a folder and those below it."""
    if path.is_file():
        return [path]
    return sorted(file for file in path.rglob("running_*.log*") if file.is_file())


def read(part: Part) -> Iterator[Structure | LamError]:
    """Yield the converged steps of a log; of dynamics, with the atoms of MD_dump."""
    name = trajectory_name(part.path)
    settings = _input(part.path.parent)
    count = 0
    with open_output(part.path) as lines:
        reader = Reader(lines, f"'{part.path}'")
        try:
            steps = _dynamics(part.path, reader) if "running_md" in part.path.name else reader.steps()
            for step in readable(steps, reader.where):
                yield attempt(_structure, step, settings, reader.neutral, f"{name}#{count}", name)
                count += 1
        except LamError as error:
            yield error
            return
    if not count:
        yield LamError(f"'{part.path}' holds no converged step of ABACUS.")
    note_dropped(part.path, reader.unconverged, count + reader.unconverged)


def _structure(step: Step, settings: dict[str, float], neutral: float, source: str, group: str) -> Structure:
    added, unpaired, electrons = settings.get("nelec_delta"), settings.get("nupdown"), settings.get("nelec")
    if electrons:  # 0 means that ABACUS counts them
        added = (added or 0.0) + electrons - neutral if neutral else None
    return Structure(
        numbers=np.array(step.numbers),
        positions=step.positions,
        cell=step.cell,
        pbc=True,
        energy=step.energy,
        forces=step.forces,
        stress=None if step.stress is None else -KBAR * step.stress,
        total_charge=None if added is None else -added + 0.0,
        spin_multiplicity=None if not unpaired else unpaired + 1.0,
        group=group,
        source=source,
    )


def _input(folder: Path) -> dict[str, float]:
    """Return the numbers that the INPUT beside the log (a copy that ABACUS writes), or above it, sets."""
    for file in (folder / "INPUT", folder.parent / "INPUT"):
        if file.is_file():
            found = {}
            for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
                words = line.split("#")[0].split()
                if len(words) >= 2 and _is_number(words[1]):
                    found[words[0]] = float(words[1])
            return found
    return {}


def _dynamics(log: Path, reader: Reader) -> Iterator[Step]:
    """Yield the frames of MD_dump with the energies of the log.

    Raises:
        LamError: if MD_dump is missing, or the log has no energy of one of its steps.
    """
    dump = log.parent / "MD_dump"
    if not dump.is_file():
        raise LamError(f"{reader.where} is of dynamics, and has no MD_dump beside it.")
    energies: dict[int, float | None] = {}
    failed, step, numbered = False, 0, False
    for line in reader.lines:
        if found := _MD_STEP.search(line):
            step, numbered, failed = int(found[1]), True, False
        elif any(key in line for key in _FAILED):
            failed = True
            reader.unconverged += 1
        elif any(key in line for key in _DONE):
            energies[step] = None if failed else float(line.split()[-2])
            failed, step = False, step + 1
        else:
            reader._header(line)
    first = True
    with open_output(dump) as lines:
        for number, positions, cell, forces, virial in _dump_frames(lines, dump):
            if number not in energies:
                raise LamError(f"'{dump}' has step {number}, of which the log has no energy.")
            if first and number and not numbered:
                raise LamError(
                    f"'{dump}' begins with step {number}; the log does not say which of its energies is that."
                )
            first, energy = False, energies[number]
            if energy is not None:
                yield Step(reader.numbers(), positions, cell, energy, forces, virial)


def _dump_frames(
    lines: TextIO, path: Path
) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]]:
    number, constant, old, cell, virial = -1, 1.0, False, None, None
    line = next(lines, "")
    while line:
        words = line.split()
        if words[:1] == ["MDSTEP:"]:
            number, virial = int(words[1]), None
        elif words[:1] == ["LATTICE_CONSTANT:"]:
            old = "Angstrom" not in line  # before 3.1.4: Bohr, and positions in units of it
            constant = float(words[1]) * (BOHR if old else 1.0)
        elif words[:1] == ["LATTICE_VECTORS"]:
            cell = _matrix(lines, path) * constant
        elif words[:1] == ["VIRIAL"]:
            virial = _matrix(lines, path)
        elif words[:1] == ["INDEX"]:
            rows = []
            with_forces = "FORCE" in line
            for line in lines:
                words = line.split()
                if len(words) < 5 or not words[0].isdigit():
                    break
                rows.append([float(word) for word in words[2:8]])
            else:
                line = ""
            if cell is None or not rows or len({len(row) for row in rows}) != 1:
                raise LamError(f"'{path}' is cut off or damaged at step {number}.")
            table = np.array(rows)
            positions = table[:, :3] * (constant if old else 1.0)
            yield number, positions, cell, table[:, 3:6] if with_forces else None, virial
            continue
        line = next(lines, "")


def _matrix(lines: TextIO, path: Path) -> np.ndarray:
    rows = [next(lines, "").split()[:3] for _ in range(3)]
    if any(len(row) != 3 for row in rows):
        raise LamError(f"'{path}' is cut off.")
    return np.array([[float(word) for word in row] for row in rows])


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


ABACUS = Recipe(
    name="abacus",
    title="ABACUS: running_scf.log, running_relax.log, running_cell-relax.log, running_md.log with MD_dump",
    level_of_theory="not stated",
    licence="not stated",
    doi="",
    files="the folder OUT.* of a calculation; of dynamics also MD_dump in it.",
    labels=(
        Label("positions", "COORDINATES; MD_dump", "fractional, lattice constants or Angstrom, as stated there"),
        Label(
            "energy",
            "final etot is; #TOTAL ENERGY#; !FINAL_ETOT_IS",
            "eV",
            "with smearing the free energy",
        ),
        Label("forces", "TOTAL-FORCE", "eV/Angstrom"),
        Label("stress", "TOTAL-STRESS; VIRIAL of MD_dump", "kbar", "positive under compression: the sign is turned"),
        Label("total_charge", "nelec_delta, nelec of INPUT", "e", "minus the electrons added, where one is set"),
        Label("spin_multiplicity", "nupdown of INPUT", "", "nupdown + 1 where it is set"),
    ),
    find=find,
    parts=each_file,
    read=read,
    notes="The group is the calculation. Steps that did not converge are left out with a message. The form of the log "
    "is the one that dpdata reads; the sign of the stress is that of the pressure printed below it. The steps of "
    "MD_dump are found in the log by their numbers.",
)

RECIPES = (ABACUS,)
