"""ORCA: every geometry of an output with its final single-point energy, and its gradient where there is one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TextIO

import numpy as np
from ase.data import atomic_numbers as NUMBERS

from lam.data.recipes.base import Label, Part, Recipe
from lam.data.recipes.calculations import COMPRESSED, each_file, outputs
from lam.data.recipes.molecule_output import Step, read_steps
from lam.data.recipes.orca_engrad import engrad_steps
from lam.data.structure import Structure
from lam.errors import LamError

_ENERGY = "FINAL SINGLE POINT ENERGY"
_GRADIENTS = ("CARTESIAN GRADIENT", "The cartesian gradient", "The final MP2 gradient")
_NUMBER = re.compile(r"-?\d+\.\d+")
_GRADIENT_ROW = re.compile(r"^\s*\d+\s*[A-Za-z]*\s*:\s*(\S+)\s+(\S+)\s+(\S+)\s*$")


def steps(lines: TextIO, where: str) -> Iterator[Step]:
    """Yield the geometries of an output with what was computed for each.

    Raises:
        LamError: if a block is not as ORCA writes it.
    """
    step: Step | None = None
    charge = multiplicity = None
    for line in lines:
        if "CARTESIAN COORDINATES (ANGSTROEM)" in line:
            geometry = _geometry(lines, where)
            if geometry is None:
                continue
            if step is not None:
                yield step
            step = Step(*geometry, charge=charge, multiplicity=multiplicity)
        elif line.startswith(" Total Charge") and "...." in line:
            charge = _last(line, where)
            if step is not None:  # the settings are printed after the geometry
                step.charge = charge
        elif line.startswith(" Multiplicity") and "...." in line:
            multiplicity = _last(line, where)
            if step is not None:
                step.multiplicity = multiplicity
        elif step is None or step.finished:
            continue
        elif "SCF NOT CONVERGED" in line and step.energy is None:
            step.converged = False
        elif line.startswith(_ENERGY):
            found = _NUMBER.search(line)
            step.finished = step.energy is not None  # a second energy: of a geometry that is not printed
            if not step.finished:
                step.energy = float(found[0]) if found else None
                step.converged &= "not fully converged" not in line
        elif line.strip().startswith(_GRADIENTS):  # before the energy, or after it
            if step.energy is not None and step.forces is not None and "MP2" not in line:
                step.finished = True
                continue
            gradient = _gradient(lines, len(step.numbers))
            step.damaged = gradient is None
            step.forces = None if gradient is None else -gradient
    if step is not None:
        yield step


def find(path: Path) -> list[Path]:
    """Return the outputs in a folder and those below it, and .engrad files of folders that hold no output."""
    found = _outputs(path)
    if path.is_file():
        return found
    folders = {file.parent for file in found}
    files = (file for file in path.rglob("*.engrad*") if file.is_file() and _is_engrad(file))
    return sorted([*found, *(file for file in files if file.parent not in folders)])


_outputs = outputs("* O   R   C   A *")


def _is_engrad(path: Path) -> bool:
    return path.name.endswith(tuple(f".engrad{end}" for end in ("", *COMPRESSED)))


def read(part: Part) -> Iterator[Structure | LamError]:
    """Yield the converged geometries; those that are not are counted in a warning."""
    if _is_engrad(part.path):
        return read_steps(part, partial(engrad_steps, path=part.path))
    return read_steps(part, steps)


def _geometry(lines: TextIO, where: str) -> tuple[list[int], np.ndarray] | None:
    next(lines, "")  # a line of dashes
    numbers, rows = [], []
    for line in lines:
        words = line.split()
        if len(words) != 4:
            break
        name = words[0].rstrip(":")
        if name not in NUMBERS or words[0] != name:
            raise LamError(f"{where}: '{line.strip()}' is no atom (ghost atoms and dummies cannot be read).")
        numbers.append(NUMBERS[name])
        rows.append([float(word) for word in words[1:]])
    return (numbers, np.array(rows)) if rows else None


def _gradient(lines: TextIO, count: int) -> np.ndarray | None:
    rows: list[list[float]] = []
    for line in lines:
        found = _GRADIENT_ROW.match(line)
        if found:
            rows.append([float(value) for value in found.groups()])
        elif rows:
            break
        if len(rows) == count:
            return np.array(rows) if line.endswith("\n") else None
    return None


def _last(line: str, where: str) -> float:
    try:
        return float(line.split()[-1])
    except ValueError:
        raise LamError(f"{where}: '{line.strip()}' should end with a number.") from None


ORCA = Recipe(
    name="orca",
    title="ORCA: outputs of single points and optimisations",
    level_of_theory="not stated",
    licence="not stated",
    doi="",
    files="what ORCA prints (*.out, *.log), or *.engrad; also .gz, .bz2, .xz, .zst.",
    labels=(
        Label("positions", "CARTESIAN COORDINATES (ANGSTROEM)", "Angstrom; Bohr in .engrad"),
        Label("energy", _ENERGY, "Hartree", "with dispersion and other corrections, as the gradient has them"),
        Label("forces", "CARTESIAN GRADIENT", "Hartree/Bohr", "gradient: the sign is turned"),
        Label("total_charge", "Total Charge", "e"),
        Label("spin_multiplicity", "Multiplicity", "", "2S+1"),
    ),
    find=find,
    parts=each_file,
    read=read,
    notes="The group is the calculation. Geometries without an energy are left out, and those whose SCF did not "
    "converge, with a message. Of a folder that holds both, the printed outputs are read; charge and multiplicity of "
    "an .engrad file are those of the .inp file of its name. Not read through cclib, whose energy leaves out the "
    "dispersion correction.",
)

RECIPES = (ORCA,)
