"""The ionic steps of an OUTCAR, one after another, as VASP 5 and 6 write them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TextIO

import numpy as np
from ase.data import atomic_numbers as NUMBERS

from lam.errors import LamError

_ITERATION = re.compile(r"Iteration\s+\d+\(\s*(\d+)\)")
_NELM = re.compile(r"\bNELM\s*=\s*(\d+)")
_NUMBER = r"[-+]?\d*\.?\d+(?:[EeDd][-+]?\d+)?"


@dataclass
class Step:
    """An ionic step as it is written; eV, Angstrom, kbar."""

    positions: np.ndarray
    forces: np.ndarray
    cell: np.ndarray
    energy: float
    """TOTEN, the free energy that the forces derive from."""
    stress: np.ndarray | None
    """kbar, VASP's sign (compressive positive), (3, 3)."""
    converged: bool
    """Did the electronic steps reach EDIFF?"""


@dataclass
class Header:
    """What stands before the steps."""

    elements: list[str] = field(default_factory=list)
    """Element of each species, by VRHFIN."""
    titles: list[str] = field(default_factory=list)
    """Likewise by the potentials' titles, for files without VRHFIN."""
    counts: list[int] = field(default_factory=list)
    """Atoms of each species."""
    valences: list[float] = field(default_factory=list)
    """Valence electrons of each species."""
    electrons: float | None = None
    """NELECT."""
    fixed_unpaired: float | None = None
    """NUPDOWN, if it was set."""
    max_steps: int | None = None
    """NELM: an ionic step that took so many electronic steps did not converge."""
    isif: int | None = None
    """ISIF: with 0 there is no stress, with 1 only its trace is right."""
    icharg: int | None = None
    """ICHARG: from 10 on, the charge density is not that of the structure's ground state."""

    def numbers(self, where: str) -> np.ndarray:
        """Return the atomic numbers, (N,).

        Raises:
            LamError: if the species are not stated or do not fit each other.
        """
        species = len(self.counts)
        for names in (self.elements, self.titles[:species]):
            if species and len(names) == species:
                return np.repeat([NUMBERS[name] for name in names], self.counts)
        raise LamError(
            f"{where} states the elements {self.elements or self.titles} and the atoms of each species {self.counts}, "
            "which do not fit: its beginning is missing."
        )

    def charge(self) -> float | None:
        """Return the total charge: valence electrons less NELECT; ``None`` where one of them is not stated."""
        if self.electrons is None or not self.valences or len(self.valences) != len(self.counts):
            return None
        charge = float(np.dot(self.valences, self.counts)) - self.electrons
        return 0.0 if abs(charge) < 1e-3 else round(charge, 4)

    def multiplicity(self) -> float | None:
        """Return 2S+1 where the number of unpaired electrons was fixed."""
        return None if self.fixed_unpaired is None or self.fixed_unpaired < 0 else self.fixed_unpaired + 1.0


def read_outcar(lines: TextIO, where: str) -> Iterator[tuple[Header, Step]]:
    """Yield the header and each complete ionic step; one that is cut off is not yielded.

    Args:
        lines: the file.
        where: what messages call it.

    Raises:
        LamError: if a block is not as VASP writes it.
    """
    header = Header()
    cell = stress = positions = None
    reached, taken = True, 0
    for line in lines:
        if "TOTEN" in line and "free  energy" in line:  # two spaces: of the ionic step, not of an electronic one
            # "free  energy ML TOTEN" is a step of the machine-learned force field, not of DFT.
            if positions is not None and cell is not None and "ML" not in line:
                energy = _floats(line.split("=")[1], where)[0]
                # VASP 5 says that EDIFF is reached after NELM steps, too: their number decides.
                converged = reached and not (header.max_steps and taken >= header.max_steps)
                yield header, Step(positions[0], positions[1], cell, energy, stress, converged)
            positions = stress = None
            reached, taken = True, 0
        elif found := _ITERATION.search(line):
            taken = int(found[1])
        elif "TOTAL-FORCE (eV/Angst)" in line:
            block = _rows(lines, int(sum(header.counts)), where, skip=1)
            positions = None if block is None else (block[:, :3], block[:, 3:6])
        elif "direct lattice vectors" in line:
            block = _rows(lines, 3, where)
            cell = None if block is None else block[:, :3]
        elif line.startswith("  in kB"):
            stress = _stress(line, where)
        elif "aborting loop" in line:
            reached = "EDIFF is reached" in line  # or "EDIFF was not reached (unconverged)"
        else:
            _header_line(line, header, where)


def _header_line(line: str, header: Header, where: str) -> None:
    if "VRHFIN" in line:
        name = line.split("=")[1].split(":")[0].strip()
        if name in NUMBERS:  # otherwise the titles count
            header.elements.append(name)
    elif line.startswith(" POTCAR:") or "TITEL" in line:
        _title(line, header)
    elif "ions per type" in line:
        header.counts = [int(value) for value in line.split("=")[1].split()]
    elif "ZVAL" in line and "POMASS" in line:
        header.valences.append(_after("ZVAL", line, where))
    elif header.max_steps is None and (found := _NELM.search(line)):
        header.max_steps = int(found[1])
    elif "ISIF" in line:
        header.isif = _whole("ISIF", line, header.isif)
    elif "ICHARG" in line:
        header.icharg = _whole("ICHARG", line, header.icharg)
    elif "NELECT" in line:
        header.electrons = _after("NELECT", line, where)
    elif "NUPDOWN" in line:
        header.fixed_unpaired = _after("NUPDOWN", line, where)


def _title(line: str, header: Header) -> None:
    """Take the element of ``POTCAR:    PAW_PBE Ti_pv 07Sep2000``; the list of them is printed more than once."""
    words = line.replace("=", " ").replace(":", " ").split()
    name = words[2].split("_")[0].split(".")[0] if len(words) > 2 else ""
    if name in NUMBERS:
        header.titles.append(name)


def _whole(key: str, line: str, default: int | None) -> int | None:
    found = re.search(rf"\b{key}\s*=\s*(\d+)", line)
    return int(found[1]) if found else default


def _after(key: str, line: str, where: str) -> float:
    found = re.search(rf"{key}\s*=\s*({_NUMBER})", line)
    if found is None:
        raise LamError(f"{where}: no number after {key} in '{line.strip()}'.")
    return float(found[1])


def _rows(lines: TextIO, count: int, where: str, *, skip: int = 0) -> np.ndarray | None:
    """Read a table of six columns; ``None`` if the file ends in it.

    Raises:
        LamError: if a line of it does not hold six numbers.
    """
    for _ in range(skip):
        next(lines, None)
    rows = []
    for _ in range(count):
        line = next(lines, "")
        if not line.endswith("\n"):
            return None
        rows.append(_floats(line, where))
        if len(rows[-1]) != 6:
            raise LamError(f"{where}: '{line.strip()}' should hold six numbers; is the file damaged?")
    return np.array(rows) if rows else None


def _floats(text: str, where: str) -> list[float]:
    if "*" in text:
        raise LamError(f"{where}: '{text.strip()}' has numbers too large for VASP's columns; leave out this step.")
    return [float(value.replace("D", "E")) for value in re.findall(_NUMBER, text)]


def _stress(line: str, where: str) -> np.ndarray | None:
    values = _floats(line.replace("in kB", ""), where) if "*" not in line else []
    if len(values) != 6:
        return None
    xx, yy, zz, xy, yz, zx = values  # VASP's order, which is not Voigt's
    return np.array([[xx, xy, zx], [xy, yy, yz], [zx, yz, zz]])
