"""Trajectories of CP2K: positions in ``NAME-pos-1.xyz``, the rest in files beside it.

Forces come from ``NAME-frc-1.xyz``, else from the output; cells from ``NAME-1.cell``, else from the output; charge,
multiplicity, stress and what did not converge from the output, whose steps are found by their energies.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import numpy as np
from ase.data import atomic_numbers as NUMBERS

from lam.data.recipes.base import attempt
from lam.data.recipes.calculations import note_dropped, open_output, readable
from lam.data.recipes.common import BOHR, HARTREE, trajectory_name
from lam.data.recipes.cp2k import Frame, Settings, find_outputs, make_structure, steps_of
from lam.data.structure import Structure
from lam.errors import LamError

_COMMENT = re.compile(r"i\s*=\s*(\d+).*?E\s*=\s*(-?\d+\.\d+)")
_TOLERANCE = 1e-8 * HARTREE  # the xyz file has ten digits after the point


@dataclass
class Places:
    """A frame of an xyz file of CP2K: positions (Angstrom) or forces (Hartree/Bohr)."""

    step: int
    energy: float
    """eV"""
    symbols: list[str]
    values: np.ndarray


@dataclass
class Output:
    """The output beside a trajectory, if there is one."""

    path: Path | None
    settings: Settings = field(default_factory=Settings)
    unconverged: set[int] = field(default_factory=set)
    """Energies of steps that did not converge, in units of 1e-8 Hartree."""


def read_trajectory(path: Path) -> Iterator[Structure | LamError]:
    """Yield the frames of a trajectory whose SCF converged."""
    name = trajectory_name(path)
    count = unconverged = 0
    with ExitStack() as stack:
        try:
            output = next(readable(_output_beside(path), f"The output beside '{path}'"))
            for frame, cell in readable(_frames(path, output, stack), f"'{path}'"):
                number, count = count, count + 1
                if not frame.converged:
                    unconverged += 1
                    continue
                yield attempt(make_structure, frame, output.settings, cell, f"{name}#{number}", name)
        except LamError as error:
            yield error
    note_dropped(path, unconverged, count)


def _frames(path: Path, output: Output, stack: ExitStack) -> Iterator[tuple[Frame, np.ndarray | None]]:
    forces_file = path.with_name(path.name.replace("-pos-", "-frc-"))
    cell_file = path.with_name(path.name.replace("-pos-", "-")).with_suffix(".cell")
    separate = forces_file != path and forces_file.is_file()
    if not separate and output.path is None:
        raise LamError(f"'{path}' has no forces beside it, neither in '{forces_file.name}' nor in an output of CP2K.")
    forces = _xyz(stack.enter_context(open_output(forces_file)), forces_file) if separate else None
    cells = _cells(stack.enter_context(open_output(cell_file))) if cell_file.is_file() else None
    if cells is None and output.settings.vectors() is None and output.settings.pbc.any():
        raise LamError(f"'{path}' has no cell: put '{cell_file.name}' or the output of CP2K beside it.")
    if cells is None and output.settings.moving_cell:
        raise LamError(f"'{path}': the cell changes, as '{output.path}' says: put '{cell_file.name}' beside it.")
    steps = None
    if output.path is not None:
        steps = steps_of(stack.enter_context(open_output(output.path)), f"'{output.path}'")
    for number, place in enumerate(_xyz(stack.enter_context(open_output(path)), path)):
        where = f"{path.name}#{number}"
        frame = Frame(_numbers(place.symbols, where), place.values, place.energy)
        frame.converged = _digits(place.energy) not in output.unconverged
        step = None if steps is None else _with_energy(steps, place.energy)
        if forces is not None:
            frame.forces = _forces_of(place, next(forces, None), forces_file, where)
            if frame.forces is None:
                return
        elif step is not None and step.forces is not None:
            frame.forces = step.forces
        else:
            raise LamError(
                f"{where}: '{output.path}' has no forces with its energy; print them with MOTION/PRINT/FORCES."
            )
        frame.stress = None if step is None else step.stress
        cell = output.settings.vectors()
        if cells is not None:
            cell = next((vectors for number, vectors in cells if number == place.step), None)
            if cell is None:
                raise LamError(f"{where}: '{cell_file.name}' has no cell of step {place.step}.")
        yield frame, cell


def _forces_of(place: Places, forces: Places | None, file: Path, where: str) -> np.ndarray | None:
    """Return the forces of a frame in eV/Angstrom; ``None`` where a run that was stopped has not written them."""
    if forces is None:
        return None
    if forces.step != place.step or forces.values.shape != place.values.shape:
        raise LamError(f"{where}: '{file.name}' has step {forces.step} where step {place.step} should be.")
    return forces.values * HARTREE / BOHR


def _with_energy(steps: Iterator[Frame], energy: float) -> Frame | None:
    """Return the next step of this energy; steps between the frames that were written are passed over."""
    return next((step for step in steps if step.energy is not None and abs(step.energy - energy) < _TOLERANCE), None)


def _digits(energy: float) -> int:
    return round(energy / HARTREE * 1e8)


def _output_beside(path: Path) -> Iterator[Output]:
    found = [file for file in find_outputs(path.parent) if file.parent == path.parent]
    if len(found) > 1:
        stem = path.name.split("-pos-")[0]
        found = [file for file in found if file.name.startswith(stem)] or found
    if len(found) > 1:
        raise LamError(f"'{path}' has several outputs of CP2K beside it ({found[0].name}, {found[1].name}): leave one.")
    output = Output(found[0] if found else None)
    if output.path is not None:
        with open_output(output.path) as lines:
            for line in lines:
                output.settings.take(line)
        with open_output(output.path) as lines:
            for step in steps_of(lines, f"'{output.path}'"):
                if not step.converged and step.energy is not None:
                    output.unconverged.add(_digits(step.energy))
    yield output


def _xyz(lines: TextIO, path: Path) -> Iterator[Places]:
    for line in lines:
        if not line.strip():
            continue
        comment = next(lines, "")
        found = _COMMENT.search(comment)
        rows = [next(lines, "").split() for _ in range(int(line))] if line.strip().isdigit() else [[]]
        if found is None or any(len(row) < 4 for row in rows):
            raise LamError(f"'{path}' is cut off or not CP2K's at '{comment.strip()}'.")
        values = np.array([[float(word) for word in row[1:4]] for row in rows])
        yield Places(int(found[1]), float(found[2]) * HARTREE, [row[0] for row in rows], values)


def _cells(lines: TextIO) -> Iterator[tuple[int, np.ndarray]]:
    for line in lines:
        words = line.split()
        if len(words) >= 11 and not line.startswith("#"):
            yield int(words[0]), np.array([float(word) for word in words[2:11]]).reshape(3, 3)


def _numbers(symbols: list[str], where: str) -> list[int]:
    unknown = [symbol for symbol in symbols if symbol.capitalize() not in NUMBERS]
    if unknown:
        raise LamError(f"{where}: '{unknown[0]}' is no element; CP2K writes the names of kinds: name them by elements.")
    return [NUMBERS[symbol.capitalize()] for symbol in symbols]
