"""CP2K: single points from an output, and trajectories from the -pos- and -frc- files beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import numpy as np
from ase.geometry import cellpar_to_cell
from ase.units import GPa

from lam.data.recipes.base import Label, Part, Recipe, attempt
from lam.data.recipes.calculations import each_file, note_dropped, open_output, outputs, readable
from lam.data.recipes.common import BOHR, HARTREE, NO_CELL, trajectory_name
from lam.data.structure import Structure
from lam.errors import LamError

_ENERGY = re.compile(r"ENERGY\| Total FORCE_EVAL.*energy\s*\[([^\]]*)\]:?\s+(-?\d+\.\d+(?:E[-+]\d+)?)")
_UNIT = re.compile(r"\[([^\]]*)\]")
_STRESS_UNITS = {"gpa": GPa, "bar": GPa * 1e-4, "kbar": GPa * 0.1, "a.u.": HARTREE / BOHR**3}
_ROUNDED = 1e-3
"""Vectors of the cell are printed with three decimals; Angstrom."""
_ATOMIC_UNITS = ("a.u.", "hartree", "hartree/bohr")
_KIND_OF_RUN = (" GLOBAL| Run type", " MD| Ensemble", " MD_PAR| Ensemble")
_MOVING = ("CELL_OPT", "NPT", "NPE", "NPH", "MSST", "HYDROSTATICSHOCK")
"""Runs and ensembles in which the cell changes."""
find_outputs = outputs("CP2K|")


@dataclass
class Settings:
    """What an output says of the whole calculation."""

    cell: dict[str, list[float]] = field(default_factory=dict)
    """Vectors by name, with three decimals."""
    exact: dict[str, float | None] = field(default_factory=dict)
    """Lengths a, b, c and angles alpha, beta, gamma, where they are printed with more decimals."""
    pbc: np.ndarray = field(default_factory=lambda: np.ones(3, dtype=bool))
    charge: float | None = None
    multiplicity: float | None = None
    unconverged: int = 0
    moving_cell: bool = False
    """Does the cell change from step to step?"""

    def take(self, line: str) -> None:
        """Look for a setting in a line of the output."""
        if line.startswith(" CELL| Vector"):
            words = line.split(":")[1].split()
            x, y, z = (float(word) for word in words[:3])
            self.cell[line.split()[2]] = [x, y, z]
            self.exact[line.split()[2]] = _exact(words[-1]) if "=" in words else None
        elif line.startswith(" CELL| Angle"):
            self.exact[line.split()[3]] = _exact(line.split()[-1])
        elif line.startswith((" CELL| Periodic", " POISSON| Periodicity")):
            axes = line.split()[-1]
            self.pbc = np.array([axis in axes for axis in "XYZ"]) if set(axes) <= set("XYZ") else np.zeros(3, bool)
        elif line.startswith(" DFT| Charge"):
            self.charge = float(line.split()[-1])
        elif line.startswith(" DFT| Multiplicity"):
            self.multiplicity = float(line.split()[-1])
        elif line.startswith(_KIND_OF_RUN):
            self.moving_cell |= line.split()[-1].upper().startswith(_MOVING)
        elif "SCF run NOT converged" in line or "outer SCF loop FAILED to converge" in line:
            self.unconverged += 1

    def vectors(self) -> np.ndarray | None:
        """Return the cell, (3, 3) in Angstrom, if all of it was stated."""
        if not set(self.cell) >= set("abc"):
            return None
        cell = np.array([self.cell[key] for key in "abc"])
        parameters = [self.exact.get(key) for key in ("a", "b", "c", "alpha", "beta", "gamma")]
        if None not in parameters:
            # In CP2K's usual orientation (a along x, b in the xy plane), these say more than the rounded vectors.
            better = cellpar_to_cell(parameters)
            if np.abs(better - cell).max() < _ROUNDED:
                return better
        return cell


@dataclass
class Frame:
    """One geometry with its labels; eV, Angstrom."""

    numbers: list[int]
    positions: np.ndarray
    energy: float | None = None
    forces: np.ndarray | None = None
    stress: np.ndarray | None = None
    converged: bool = True


def _exact(word: str) -> float | None:
    """Return a number that is printed with more than three decimals, else ``None``."""
    return float(word) if len(word.partition(".")[2]) > 3 else None


def steps_of(lines: TextIO, where: str) -> Iterator[Frame]:
    """Yield energy, forces and stress of every step of an output, without its atoms.

    Raises:
        LamError: if a block is not as CP2K writes it.
    """
    frame: Frame | None = None
    settings = Settings()
    for line in lines:
        settings.take(line)
        if _ENERGY.search(line):
            if frame is not None:
                yield frame
            frame = Frame([], NO_CELL)
        if frame is not None:
            _label(line, lines, frame, settings, where)
    if frame is not None:
        yield frame


def find(path: Path) -> list[Path]:
    """Return trajectories (``*-pos-*.xyz``) in a folder, and the outputs of folders that have none."""
    if path.is_file():
        return [path]
    trajectories = sorted(file for file in path.rglob("*-pos-*.xyz") if file.is_file())
    folders = {file.parent for file in trajectories}
    return sorted([*trajectories, *(file for file in find_outputs(path) if file.parent not in folders)])


def read(part: Part) -> Iterator[Structure | LamError]:
    """Yield the frames of a trajectory or an output."""
    if part.path.suffix == ".xyz":
        from lam.data.recipes.cp2k_trajectory import read_trajectory

        yield from read_trajectory(part.path)
        return
    name = trajectory_name(part.path)
    settings, count, unconverged, where = Settings(), 0, 0, f"'{part.path}'"
    with open_output(part.path) as lines:
        try:
            for frame in readable(_frames(lines, settings, where), where):
                number, count = count, count + 1
                if not frame.converged:
                    unconverged += 1
                    continue
                yield attempt(make_structure, frame, settings, settings.vectors(), f"{name}#{number}", name)
        except LamError as error:
            yield error
            return
    if not count:
        yield LamError(f"'{part.path}' holds no coordinates with an energy; for dynamics name the *-pos-1.xyz file.")
    note_dropped(part.path, unconverged, count)


def _frames(lines: TextIO, settings: Settings, where: str) -> Iterator[Frame]:
    frame: Frame | None = None
    for line in lines:
        if "ATOMIC COORDINATES IN" in line.upper() and "MODULE" in line:
            if frame is not None and frame.energy is not None:
                yield frame
            frame = _coordinates(lines, line, where)
            continue
        settings.take(line)
        if frame is None:
            continue
        if frame.energy is not None and _ENERGY.search(line):
            yield frame
            frame = None  # the next is of a geometry that is not printed: a step of dynamics or relaxation
        else:
            _label(line, lines, frame, settings, where)
    if frame is not None and frame.energy is not None:
        yield frame


def _label(line: str, lines: TextIO, frame: Frame, settings: Settings, where: str) -> None:
    """Take an energy, forces or a stress, if one begins in this line."""
    if found := _ENERGY.search(line):
        _check_unit(found[1], where)
        frame.energy = float(found[2]) * HARTREE
        frame.converged, settings.unconverged = not settings.unconverged, 0  # said before the energy
    elif "ATOMIC FORCES in" in line or "FORCES| Atomic forces" in line:
        _check_unit(_UNIT.search(line)[1], where)  # type: ignore[index]
        frame.forces = _forces(lines, len(frame.numbers), where)
    elif line.startswith((" STRESS TENSOR [", " STRESS| Analytical", " STRESS| Numerical")):
        unit = _STRESS_UNITS.get(_UNIT.search(line)[1].lower())  # type: ignore[index]
        tensor = _tensor(lines)
        # Positive under compression in CP2K.
        frame.stress = None if unit is None or tensor is None else -unit * tensor


def _coordinates(lines: TextIO, header: str, where: str) -> Frame | None:
    factor = 1.0 if "angstrom" in header.lower() else BOHR
    numbers, rows = [], []
    for line in lines:
        words = line.split()
        if len(words) >= 7 and words[0].isdigit():
            numbers.append(int(words[3]))
            rows.append([float(word) * factor for word in words[4:7]])
        elif rows:
            break
    return Frame(numbers, np.array(rows)) if rows else None


def _forces(lines: TextIO, count: int, where: str) -> np.ndarray:
    rows: list[list[float]] = []
    for line in lines:
        words = line.removeprefix(" FORCES|").split()
        if words and words[0].isdigit():
            # Old: atom, kind, element, x, y, z. New: atom, x, y, z, norm.
            rows.append([float(word) for word in (words[1:4] if "FORCES|" in line else words[3:6])])
        if (count and len(rows) == count) or "SUM OF" in line or "FORCES| Sum" in line:
            break
    else:
        raise LamError(f"{where} has forces on {len(rows)} of {count or 'its'} atoms: the file is cut off.")
    if (count and len(rows) != count) or any(len(row) != 3 for row in rows):
        raise LamError(f"{where} has forces on {len(rows)} of {count} atoms: the file is damaged.")
    return np.array(rows) * HARTREE / BOHR


def _tensor(lines: TextIO) -> np.ndarray | None:
    rows = []
    for line in lines:
        words = line.replace("STRESS|", "").split()
        if len(words) == 4 and words[0].lower() in ("x", "y", "z"):
            rows.append([float(word) for word in words[1:]])
        if len(rows) == 3:
            return np.array(rows)
        if "Trace" in line:
            return None
    return None


def _check_unit(unit: str, where: str) -> None:
    if unit.lower() not in _ATOMIC_UNITS:
        raise LamError(f"{where} gives energies or forces in '{unit}'; only atomic units are read.")


def make_structure(frame: Frame, settings: Settings, cell: np.ndarray | None, source: str, group: str) -> Structure:
    """Return the structure of a frame; without a cell it is not periodic."""
    periodic = cell is not None and settings.pbc.any()
    return Structure(
        numbers=np.array(frame.numbers),
        positions=frame.positions,
        cell=cell if periodic else NO_CELL,
        pbc=settings.pbc if periodic else False,
        energy=frame.energy,
        forces=frame.forces,
        stress=frame.stress if periodic and settings.pbc.all() else None,
        total_charge=settings.charge,
        spin_multiplicity=settings.multiplicity or None,
        group=group,
        source=source,
    )


CP2K = Recipe(
    name="cp2k",
    title="CP2K: outputs of single points, and -pos-/-frc- trajectories of dynamics and relaxations",
    level_of_theory="not stated",
    licence="not stated",
    doi="",
    files="what CP2K prints (*.out, *.log), or NAME-pos-1.xyz with NAME-frc-1.xyz and NAME-1.cell, or with the output.",
    labels=(
        Label("positions", "ATOMIC COORDINATES; NAME-pos-1.xyz", "Angstrom (or Bohr, as the heading says)"),
        Label("energy", "ENERGY| Total FORCE_EVAL; E =", "Hartree", "total, with the electronic entropy"),
        Label("forces", "ATOMIC FORCES; FORCES|; NAME-frc-1.xyz", "Hartree/Bohr"),
        Label("stress", "STRESS TENSOR; STRESS|", "GPa or bar", "positive under compression: the sign is turned"),
        Label("total_charge", "DFT| Charge", "e"),
        Label("spin_multiplicity", "DFT| Multiplicity", "", "2S+1; 0 is not stated"),
    ),
    find=find,
    parts=each_file,
    read=read,
    notes="The group is the calculation. An output gives only geometries that it prints: for dynamics, use the "
    "trajectory, with NAME-frc-1.xyz or forces in the output beside it; the steps of both are matched by their "
    "energies. That these are free energies with smearing is not confirmed. Steps whose SCF did not converge, as the "
    "output says, are left out with a message. Outputs give cells with three decimals, NAME-1.cell with more; where "
    "the cell changes, it is needed. The .stress file is not read.",
)

RECIPES = (CP2K,)
