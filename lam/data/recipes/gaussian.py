"""Gaussian: every geometry of a log with its energy, and its forces in the axes that they are given in.

Forces are printed in the axes of the input. A log that shows only the standard orientation has its atoms in other
axes: then the Cartesian coordinates of the input are taken, which it echoes, or the forces are not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import numpy as np

from lam.data.recipes.base import Label, Part, Recipe
from lam.data.recipes.calculations import COMPRESSED, each_file, outputs
from lam.data.recipes.gaussian_fchk import fchk_steps
from lam.data.recipes.molecule_output import Step, read_steps
from lam.data.structure import Structure
from lam.errors import LamError

_NUMBER = r"(-?\d*\.\d+(?:[DEde][-+]?\d+)?)"
_SCF = re.compile(rf"SCF Done:\s+E\([^)]*\)\s*=\s*{_NUMBER}")
# Energies beyond SCF, whose gradients are the forces: MP2, double hybrids, coupled cluster, excited states.
_BEYOND = re.compile(
    r"(?:EUMP2\s*=|E\(CORR\)=|CCSD\(T\)=|E\(TD-HF/TD-DFT\)\s*=|E2\([^)]*\)\s*=.*E\([^)]*\)\s*=)\s*" + _NUMBER
)
_STATE = re.compile(r"Charge\s*=\s*(-?\d+)\s+Multiplicity\s*=\s*(\d+)")
_COORDINATE = r"[\s,]+(-?\d+\.\d*|-?\.\d+)"
_ATOM = re.compile(rf"^ [A-Za-z]{{1,2}}(?:,\d+)?{_COORDINATE}{_COORDINATE}{_COORDINATE}\s*$")
_COMPOSITE = ("ONIOM:", "Counterpoise:", "Counterpoise corrected energy")
_SAME_AXES = ("Input orientation:", "Z-Matrix orientation:")


def steps(lines: TextIO, where: str) -> Iterator[Step]:
    """Yield the geometries of a log with what was computed for each.

    Raises:
        LamError: if a block is not as Gaussian writes it, or the system is periodic.
    """
    step: Step | None = None
    charge = multiplicity = None
    symmetry, own_axes = True, False
    echo: list[tuple[float, ...]] = []  # Cartesian coordinates of the input, for the first geometry
    echoing = False
    for line in lines:
        if echoing:
            if found := _ATOM.match(line):
                echo.append(tuple(map(float, found.groups())))
                continue
            echoing = False
        if "orientation:" in line:
            in_input_axes = line.strip() in _SAME_AXES
            if step is not None and step.energy is not None:
                yield step
                step = None
            geometry = _geometry(lines, where)
            # The standard orientation follows the input's, and is not taken instead of it.
            if geometry is not None and (step is None or in_input_axes or not own_axes):
                step = Step(*geometry, charge=charge, multiplicity=multiplicity)
                own_axes = in_input_axes
                if not own_axes and len(echo) == len(step.numbers):
                    step.positions, own_axes = np.array(echo), True
            echo = []
        elif line.lstrip().startswith("#") and "nosymm" in line.lower():
            symmetry = False
        elif any(mark in line for mark in _COMPOSITE):
            raise LamError(f"{where} is of ONIOM or a counterpoise correction, whose energies are not read.")
        elif found := _STATE.search(line):
            charge, multiplicity = float(found[1]), float(found[2])
            echo, echoing = [], True
        elif step is None or step.finished:
            continue
        elif "Convergence failure" in line or "Convergence criterion not met" in line:
            step.converged = False
        elif found := _SCF.search(line) or _BEYOND.search(line):
            step.energy = float(found[1].replace("D", "E").replace("d", "e"))
        elif "Forces (Hartrees/Bohr)" in line and step.energy is not None:
            forces = _forces(lines, len(step.numbers))
            step.damaged = forces is None
            step.finished = True  # energies that follow are of displaced geometries, which are not printed
            if own_axes or not symmetry:
                step.forces = forces
    if step is not None:
        yield step


_outputs = outputs("Entering Gaussian System")
_FCHK = tuple(f"{kind}{end}" for kind in (".fchk", ".fch") for end in ("", *COMPRESSED))


def find(path: Path) -> list[Path]:
    """Return the logs in a folder and those below it, and .fchk files of folders that hold no log."""
    found = _outputs(path)
    if path.is_file():
        return found
    folders = {file.parent for file in found}
    files = (file for file in path.rglob("*.fch*") if file.is_file() and file.name.endswith(_FCHK))
    return sorted([*found, *(file for file in files if file.parent not in folders)])


def read(part: Part) -> Iterator[Structure | LamError]:
    """Yield the converged geometries; those that are not are counted in a warning."""
    return read_steps(part, fchk_steps if part.path.name.endswith(_FCHK) else steps)


def _geometry(lines: TextIO, where: str) -> tuple[list[int], np.ndarray] | None:
    rows = _table(lines, skip=4)
    if not rows:
        return None
    numbers = [int(row[1]) for row in rows]
    if min(numbers) < 0:
        raise LamError(f"{where} has translation vectors: periodic calculations of Gaussian are not read.")
    return numbers, np.array([[float(value) for value in row[-3:]] for row in rows])


def _forces(lines: TextIO, count: int) -> np.ndarray | None:
    rows = _table(lines, skip=2)
    if rows is None or len(rows) != count:
        return None
    return np.array([[float(value) for value in row[2:5]] for row in rows])


def _table(lines: TextIO, *, skip: int) -> list[list[str]] | None:
    """Read the rows up to a line of dashes; ``None`` if the file ends before it."""
    for _ in range(skip):
        next(lines, "")
    rows = []
    for line in lines:
        if line.strip().startswith("---"):
            return rows
        rows.append(line.split())
        if len(rows[-1]) < 5:
            return None
    return None


GAUSSIAN = Recipe(
    name="gaussian",
    title="Gaussian: logs of single points, force calculations and optimisations",
    level_of_theory="not stated",
    licence="not stated",
    doi="",
    files="what Gaussian prints (*.log, *.out), or *.fchk; also .gz, .bz2, .xz, .zst.",
    labels=(
        Label("positions", "Input orientation; Standard orientation", "Angstrom; Bohr in .fchk"),
        Label(
            "energy",
            "SCF Done; EUMP2, CCSD(T), E(CORR); Total Energy",
            "Hartree",
            "the last of them: that of the forces",
        ),
        Label(
            "forces",
            "Forces (Hartrees/Bohr); Cartesian Gradient",
            "Hartree/Bohr",
            "forces; the gradient of .fchk is turned",
        ),
        Label("total_charge", "Charge", "e"),
        Label("spin_multiplicity", "Multiplicity", "", "2S+1"),
    ),
    find=find,
    parts=each_file,
    read=read,
    notes="The group is the calculation. Where only the standard orientation is printed, the forces are in other axes "
    "than the atoms: then the Cartesian coordinates of the input are taken, or, if the log does not echo them and "
    "symmetry was not off (nosymm), the forces are left out. A .fchk file holds the last geometry only; of a folder "
    "that holds both, the logs are read. Geometries whose SCF did not converge are left out with a message.",
)

RECIPES = (GAUSSIAN,)
