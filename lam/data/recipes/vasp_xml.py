"""The ionic steps of a vasprun.xml, one after another."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from typing import IO

import numpy as np
from ase.data import atomic_numbers as NUMBERS

from lam.data.recipes.vasp_outcar import Header, Step
from lam.errors import LamError


class Truncated(Exception):
    """The file ends in the middle: what was complete has been yielded."""


def read_vasprun(stream: IO[bytes], where: str) -> Iterator[tuple[Header, Step]]:
    """Yield the header and each complete ionic step.

    Args:
        stream: the file.
        where: what messages call it.

    Raises:
        LamError: if something is not as VASP writes it.
        Truncated: after the complete steps, if the file ends too early.
    """
    header, max_steps = Header(), 60  # NELM's default
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
                max_steps = _parameters(element, header, max_steps)
            elif element.tag == "calculation":
                yield header, _step(element, max_steps, where)
            if len(path) == 1:
                path[0].clear()  # flat memory
    except ElementTree.ParseError as error:
        raise Truncated(str(error)) from None


def _atoms(element: ElementTree.Element, header: Header, where: str) -> None:
    for row in element.iterfind("array[@name='atomtypes']/set/rc"):
        count, name, _, valence = [(column.text or "").strip() for column in row.iterfind("c")][:4]
        name = "Xe" if name == "X" else name  # VASP's name for xenon
        if name not in NUMBERS:
            raise LamError(f"{where}: '{name}' is no element.")
        header.elements.append(name)
        header.counts.append(int(count))
        header.valences.append(float(valence))


def _parameters(element: ElementTree.Element, header: Header, max_steps: int) -> int:
    values = {item.get("name"): (item.text or "").strip() for item in element.iter("i")}
    header.electrons = float(values["NELECT"]) if values.get("NELECT") else None
    header.fixed_unpaired = float(values["NUPDOWN"]) if values.get("NUPDOWN") else None
    return int(values.get("NELM") or max_steps)


def _step(element: ElementTree.Element, max_steps: int, where: str) -> Step:
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
        energy=_float(energy.text, where),
        stress=None if stress is None else _table(element, "varray[@name='stress']", where),
        converged=len(element.findall("scstep")) < max_steps,
    )


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
