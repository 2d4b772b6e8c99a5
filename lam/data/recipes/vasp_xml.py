"""The ionic steps of a vasprun.xml, one after another."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np
from ase.data import atomic_numbers as NUMBERS

from lam.data.recipes.common import KBAR
from lam.data.recipes.vasp_outcar import Header, Step
from lam.errors import LamError

_ODD_NAMES = {"X": "Xe", "r": "Zr"}
"""How VASP writes some elements."""


class Truncated(Exception):
    """The file ends in the middle: what was complete has been yielded."""


@dataclass
class Settings:
    """What stands before the steps and decides how they are read."""

    max_steps: int = 60
    """NELM: an ionic step that took so many electronic steps did not converge."""
    pressure: float = 0.0
    """PSTRESS, eV/Angstrom^3."""
    learned: bool = False
    """ML_LMLFF: steps without electronic steps are of a machine-learned force field."""


def read_vasprun(stream: IO[bytes], where: str) -> Iterator[tuple[Header, Step]]:
    """Yield the header and each complete ionic step.

    Args:
        stream: the file.
        where: what messages call it.

    Raises:
        LamError: if something is not as VASP writes it.
        Truncated: after the complete steps, if the file ends too early.
    """
    header, settings = Header(), Settings()
    path: list[ElementTree.Element] = []
    try:
        for event, element in ElementTree.iterparse(stream, events=("start", "end")):
            if event == "start":
                path.append(element)
                continue
            path.pop()
            if element.tag == "atominfo":
                _atoms(element, header, where)
            elif element.tag == "parameters":
                _parameters(element, header, settings)
            elif element.tag == "incar":
                settings.learned = _is_true(element.findtext("i[@name='ML_LMLFF']"))
            elif element.tag == "calculation" and not (settings.learned and element.find("scstep") is None):
                yield header, _step(element, settings, where)
            if len(path) == 1:
                path[0].clear()  # flat memory
    except ElementTree.ParseError as error:
        raise Truncated(str(error)) from None


def _atoms(element: ElementTree.Element, header: Header, where: str) -> None:
    for row in element.iterfind("array[@name='atomtypes']/set/rc"):
        count, name, _, valence = [(column.text or "").strip() for column in row.iterfind("c")][:4]
        name = _ODD_NAMES.get(name, name)
        if name not in NUMBERS:
            raise LamError(f"{where}: '{name}' is no element.")
        header.elements.append(name)
        header.counts.append(int(count))
        header.valences.append(float(valence))


def _parameters(element: ElementTree.Element, header: Header, settings: Settings) -> None:
    values = {item.get("name"): (item.text or "").strip() for item in element.iter("i")}
    header.electrons = float(values["NELECT"]) if values.get("NELECT") else None
    header.fixed_unpaired = float(values["NUPDOWN"]) if values.get("NUPDOWN") else None
    header.isif = int(values["ISIF"]) if values.get("ISIF") else None
    header.icharg = int(values["ICHARG"]) if values.get("ICHARG") else None
    settings.max_steps = int(values.get("NELM") or settings.max_steps)
    settings.pressure = KBAR * float(values.get("PSTRESS") or 0.0)
    settings.learned = settings.learned or _is_true(values.get("ML_LMLFF"))


def _is_true(value: str | None) -> bool:
    return (value or "").strip().strip(".").upper().startswith("T")


def _step(element: ElementTree.Element, settings: Settings, where: str) -> Step:
    cell = _table(element, "structure/crystal/varray[@name='basis']", where)
    scaled = _table(element, "structure/varray[@name='positions']", where)
    forces = _table(element, "varray[@name='forces']", where)
    stress = element.find("varray[@name='stress']")
    energy = element.find("energy/i[@name='e_fr_energy']")
    if cell is None or scaled is None or energy is None or forces is None:
        missing = "structure" if cell is None or scaled is None else "forces" if forces is None else "e_fr_energy"
        raise LamError(f"{where}: an ionic step has no {missing}.")
    return Step(
        positions=scaled @ cell,
        forces=forces,
        cell=cell,
        energy=_energy(element, _float(energy.text, where), cell, settings, where),
        stress=None if stress is None else _table(element, "varray[@name='stress']", where),
        converged=len(element.findall("scstep")) < settings.max_steps,
    )


def _energy(element: ElementTree.Element, energy: float, cell: np.ndarray, settings: Settings, where: str) -> float:
    """Return the free energy: with PSTRESS, VASP adds P V to the energy of the ionic step (only)."""
    enthalpy = settings.pressure * abs(np.linalg.det(cell))
    if not enthalpy:
        return energy
    last = element.findall("scstep/energy/i[@name='e_fr_energy']")
    added = not last or abs(energy - _float(last[-1].text, where)) > 0.5 * abs(enthalpy)
    return energy - enthalpy if added else energy


def _table(element: ElementTree.Element, path: str, where: str) -> np.ndarray | None:
    found = element.find(path)
    if found is None:
        return None
    return np.array([[_float(word, where) for word in (row.text or "").split()] for row in found.iterfind("v")])


def _float(text: str | None, where: str) -> float:
    try:
        return float(text or "")
    except ValueError:
        raise LamError(f"{where}: '{text}' should be a number; leave out this calculation.") from None
