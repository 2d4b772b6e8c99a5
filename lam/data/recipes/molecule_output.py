"""What the outputs of programs for molecules have in common: steps with a geometry, an energy, maybe forces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TextIO

import numpy as np

from lam.data.recipes.base import Part, attempt
from lam.data.recipes.calculations import note_dropped, open_output, readable
from lam.data.recipes.common import BOHR, HARTREE, NO_CELL, NO_PBC, trajectory_name
from lam.data.structure import Structure
from lam.errors import LamError


@dataclass
class Step:
    """A geometry and what was computed for it, in the units of the program."""

    numbers: list[int]
    positions: np.ndarray
    """Angstrom, (N, 3)."""
    energy: float | None = None
    """Hartree; ``None`` as long as it was not found."""
    forces: np.ndarray | None = None
    """Hartree/Bohr, (N, 3)."""
    charge: float | None = None
    multiplicity: float | None = None
    converged: bool = True
    finished: bool = False
    """Does what follows belong to geometries that are not printed (of numerical derivatives, of dynamics)?"""
    damaged: bool = False
    """Does the file end in the middle of the step?"""


def read_steps(part: Part, steps: Callable[[TextIO, str], Iterator[Step]]) -> Iterator[Structure | LamError]:
    """Yield the converged steps of an output as structures; those that are not are counted in a warning.

    Args:
        part: the file.
        steps: reads the steps from ``(lines, name for messages)``.
    """
    name = trajectory_name(part.path)
    count = unconverged = 0
    with open_output(part.path) as lines:
        try:
            for step in readable(steps(lines, f"'{part.path}'"), f"'{part.path}'"):
                if step.energy is None or step.damaged:
                    continue
                number, count = count, count + 1
                if not step.converged:
                    unconverged += 1
                    continue
                yield attempt(_structure, step, f"{name}#{number}", name)
        except LamError as error:
            yield error
            return
    if not count:
        yield LamError(f"'{part.path}' holds no geometry with an energy; did the calculation fail?")
    note_dropped(part.path, unconverged, count)


def _structure(step: Step, source: str, group: str) -> Structure:
    return Structure(
        numbers=np.array(step.numbers),
        positions=step.positions,
        cell=NO_CELL,
        pbc=NO_PBC,
        energy=None if step.energy is None else step.energy * HARTREE,
        forces=None if step.forces is None else step.forces * (HARTREE / BOHR),
        total_charge=step.charge,
        spin_multiplicity=step.multiplicity,
        group=group,
        source=source,
    )
