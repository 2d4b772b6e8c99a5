"""ORCA's ``.engrad`` files: energy, gradient and geometry of one calculation, without charge and multiplicity.

These are taken from the line ``* xyz 0 1`` of the input of the same name beside it, where there is one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import numpy as np

from lam.data.recipes.common import BOHR
from lam.data.recipes.molecule_output import Step
from lam.errors import LamError

_STATE = re.compile(r"^\s*\*\s*(?:xyz|xyzfile|int|internal|gzmt)\s+(-?\d+)\s+(\d+)", re.IGNORECASE | re.MULTILINE)


def engrad_steps(lines: TextIO, where: str, path: Path) -> Iterator[Step]:
    """Yield the one step of a file.

    Args:
        lines: the file.
        where: what messages call it.
        path: its path, beside which the input is looked for.

    Raises:
        LamError: if the file is not as ORCA writes it, or ends too early.
    """
    sections: list[tuple[str, list[list[str]]]] = []
    comment = True
    for line in lines:
        if line.lstrip().startswith("#"):
            if not comment or not sections:
                sections.append(("", []))
            comment = True
            sections[-1] = (sections[-1][0] + line.strip(" #\n"), [])
        elif line.strip() and sections:
            sections[-1][1].append(line.split())
            comment = False
    try:
        count = int(_rows(sections, "Number of atoms")[0][0])
        energy = float(_rows(sections, "total energy")[0][0])
        gradient = np.array([float(row[0]) for row in _rows(sections, "gradient")]).reshape(count, 3)
        atoms = [row for row in _rows(sections, "atomic numbers") if len(row) == 4]
        positions = np.array([[float(word) for word in row[1:]] for row in atoms]).reshape(count, 3)
    except (ValueError, IndexError):
        raise LamError(f"{where} is cut off or no .engrad file of ORCA.") from None
    charge, multiplicity = _state(path)
    numbers = [int(row[0]) for row in atoms]
    yield Step(numbers, positions * BOHR, energy, -gradient, charge=charge, multiplicity=multiplicity)


def _rows(sections: list[tuple[str, list[list[str]]]], title: str) -> list[list[str]]:
    return next((rows for name, rows in sections if title.lower() in name.lower()), [])


def _state(path: Path) -> tuple[float | None, float | None]:
    source = path.with_name(path.name.split(".engrad")[0] + ".inp")
    if not source.is_file():
        return None, None
    found = _STATE.search(source.read_text(encoding="utf-8", errors="replace"))
    return (None, None) if found is None else (float(found[1]), float(found[2]))
