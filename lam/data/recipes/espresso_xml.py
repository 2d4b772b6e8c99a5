"""The ionic steps of the XML file of pw.x: ``prefix.xml`` and ``prefix.save/data-file-schema.xml`` are the same."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np

from lam.data.recipes.common import BOHR, HARTREE
from lam.errors import LamError

MARK = "qes:espresso"
"""The root of the file, which no other format has."""


@dataclass
class XmlStep:
    """One self-consistent calculation; eV, Angstrom, eV/Angstrom^3 with ASE's sign."""

    labels: list[str]
    positions: np.ndarray
    cell: np.ndarray
    energy: float
    forces: np.ndarray | None
    stress: np.ndarray | None
    converged: bool
    charge: float | None = None
    unpaired: float | None = None
    """Unpaired electrons, where they were fixed."""


def read_xml(stream: IO[bytes], where: str) -> Iterator[XmlStep]:
    """Yield the steps, also those that did not converge.

    The section ``output`` repeats the last step, or, after dynamics, holds atoms that have moved on; of several steps
    it counts only where it has an energy of its own: the last calculation of a vc-relax.

    Args:
        stream: the file.
        where: what messages call it.

    Raises:
        LamError: if something is not as pw.x writes it, or the file ends too early.
    """
    charge = unpaired = None
    energies: set[float] = set()
    path: list[ElementTree.Element] = []
    try:
        for event, element in ElementTree.iterparse(stream, events=("start", "end")):
            if event == "start":
                path.append(element)
                continue
            path.pop()
            if len(path) != 1:
                continue
            if element.tag == "input":
                charge = _number(element.findtext("bands/tot_charge"))
                unpaired = _number(element.findtext("bands/tot_magnetization"))
            elif element.tag in ("step", "output") and element.find("total_energy/etot") is not None:
                step = _step(element, where)
                if element.tag == "step" or step.energy not in energies:
                    step.charge, step.unpaired = charge, None if unpaired is None or unpaired < 0 else unpaired
                    yield step
                energies.add(step.energy)
            path[0].clear()  # flat memory
    except ElementTree.ParseError as error:
        raise LamError(f"{where} ends too early or is no XML ({error}).") from None


def _step(element: ElementTree.Element, where: str) -> XmlStep:
    structure = element.find("atomic_structure")
    atoms = [] if structure is None else structure.findall("atomic_positions/atom")
    axes = [] if structure is None else [structure.findtext(f"cell/a{axis}") for axis in (1, 2, 3)]
    if not atoms or any(axis is None for axis in axes):
        raise LamError(f"{where}: a step has no atomic_structure with atomic_positions and a cell.")
    forces, stress = element.findtext("forces"), element.findtext("stress")
    achieved = element.findtext(".//scf_conv/convergence_achieved")
    return XmlStep(
        labels=[atom.get("name", "") for atom in atoms],
        positions=_table("".join(f"{atom.text} " for atom in atoms), len(atoms), where) * BOHR,
        cell=_table(" ".join(map(str, axes)), 3, where) * BOHR,
        energy=float(_table(element.findtext("total_energy/etot"), 1, where, columns=1)[0, 0]) * HARTREE,
        forces=None if forces is None else _table(forces, len(atoms), where) * (HARTREE / BOHR),
        # Positive under compression, as pw.x prints it.
        stress=None if stress is None else -_table(stress, 3, where) * (HARTREE / BOHR**3),
        converged=achieved is None or achieved.strip().lower() == "true",
    )


def _table(text: str | None, rows: int, where: str, columns: int = 3) -> np.ndarray:
    try:
        return np.array([float(word) for word in (text or "").split()]).reshape(rows, columns)
    except ValueError:
        raise LamError(f"{where}: '{(text or '').strip()[:40]}' should hold {rows * columns} numbers.") from None


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
