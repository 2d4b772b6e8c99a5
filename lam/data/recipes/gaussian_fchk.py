"""Gaussian's formatted checkpoint files (``.fchk``): the last geometry, its energy, and its gradient if any."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TextIO

import numpy as np

from lam.data.recipes.common import BOHR
from lam.data.recipes.molecule_output import Step
from lam.errors import LamError

_ENTRY = re.compile(r"^(\S.*?)\s+([IR])\s+(N=)?\s*(\S+)\s*$")
_WANTED = (
    "Charge",
    "Multiplicity",
    "Atomic numbers",
    "Current cartesian coordinates",
    "Total Energy",
    "Cartesian Gradient",
    "Number of translation vectors",
)


def fchk_steps(lines: TextIO, where: str) -> Iterator[Step]:
    """Yield the one step of a file.

    Raises:
        LamError: if the file is not as Gaussian writes it or ends too early, or the system is periodic.
    """
    found = dict(_entries(lines, where))
    if found.get("Number of translation vectors", [0])[0]:
        raise LamError(f"{where} has translation vectors: periodic calculations of Gaussian are not read.")
    energy = found.get("Total Energy")
    numbers, positions = found.get("Atomic numbers"), found.get("Current cartesian coordinates")
    if numbers is None or positions is None or energy is None:
        missing = "energy" if numbers is not None and positions is not None else "geometry"
        raise LamError(f"{where} has no {missing}: it is cut off or no .fchk file of Gaussian.")
    shape = (len(numbers), 3)
    gradient = found.get("Cartesian Gradient")
    if len(positions) != 3 * len(numbers) or (gradient is not None and len(gradient) != 3 * len(numbers)):
        raise LamError(f"{where} has coordinates or a gradient of another number of atoms than {len(numbers)}.")
    yield Step(
        [int(number) for number in numbers],
        np.array(positions).reshape(shape) * BOHR,
        energy[0],
        None if gradient is None else -np.array(gradient).reshape(shape),
        charge=found.get("Charge", [None])[0],
        multiplicity=found.get("Multiplicity", [None])[0],
    )


def _entries(lines: TextIO, where: str) -> Iterator[tuple[str, list[float]]]:
    for line in lines:
        entry = _ENTRY.match(line)
        if entry is None or entry[1] not in _WANTED:
            continue
        try:
            if entry[3] is None:
                yield entry[1], [_float(entry[4])]
                continue
            values: list[float] = []
            while len(values) < int(entry[4]):
                following = next(lines, "")
                if not following.endswith("\n"):
                    raise LamError(f"{where} is cut off in '{entry[1]}'.")
                values += [_float(word) for word in following.split()]
        except ValueError:
            raise LamError(f"{where}: '{entry[1]}' does not hold numbers.") from None
        yield entry[1], values


def _float(word: str) -> float:
    return float(word.replace("D", "E"))
