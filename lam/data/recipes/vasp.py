"""VASP: every converged ionic step of a vasprun.xml or an OUTCAR, with the free energy that the forces derive from."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from lam.data.recipes.base import Label, Part, Recipe, attempt
from lam.data.recipes.calculations import COMPRESSED, each_file, note_dropped, open_output, readable
from lam.data.recipes.common import KBAR, trajectory_name
from lam.data.recipes.vasp_outcar import Header, Step, read_outcar
from lam.data.recipes.vasp_xml import Truncated, read_vasprun
from lam.data.structure import Structure
from lam.errors import LamError, LamWarning

_FIXED_CHARGE = 10
"""From here on, ICHARG means that the charge density is kept."""


def find(path: Path) -> list[Path]:
    """Return the calculations in a folder and those below it; of one folder, vasprun.xml goes before OUTCAR."""
    if path.is_file():
        return [path]
    named = (file for file in path.rglob("*") if "vasprun" in file.name.lower() or "OUTCAR" in file.name.upper())
    names = [file for file in named if file.is_file() and _kind(file)]
    with_xml = {file.parent for file in names if _kind(file) == "xml"}
    return sorted(file for file in names if _kind(file) == "xml" or file.parent not in with_xml)


def read(part: Part) -> Iterator[Structure | LamError]:
    """Yield the converged ionic steps; those that are not are counted in a warning."""
    path = part.path
    name = trajectory_name(path)
    unconverged, steps, numbers = 0, 0, None
    try:
        for header, step in readable(_steps(path), f"'{path}'"):
            if header.icharg is not None and header.icharg >= _FIXED_CHARGE:
                _note_fixed(path, header.icharg)
                return
            number, steps = steps, steps + 1
            if not step.converged:
                unconverged += 1
                continue
            if numbers is None:
                numbers = header.numbers(f"'{path}'")
            yield attempt(_structure, header, step, numbers, f"{name}#{number}", name)
    except LamError as error:
        yield error  # what came before stays
        return
    if not steps:
        yield LamError(f"'{path}' holds no complete ionic step.")
    note_dropped(path, unconverged, steps)


def _note_fixed(path: Path, icharg: int) -> None:
    warnings.warn(
        f"'{path}' is left out: with ICHARG = {icharg} the charge density is fixed (a band structure or density of "
        "states), and its energy is not that of the structure.",
        LamWarning,
        stacklevel=2,
    )


def _structure(header: Header, step: Step, numbers: np.ndarray, source: str, group: str) -> Structure:
    return Structure(
        numbers=numbers,
        positions=step.positions,
        cell=step.cell,
        pbc=True,
        energy=step.energy,
        forces=step.forces,
        stress=None if step.stress is None or header.isif in (0, 1) else -KBAR * step.stress,
        total_charge=header.charge(),
        spin_multiplicity=header.multiplicity(),
        group=group,
        source=source,
    )


def _steps(path: Path) -> Iterator[tuple[Header, Step]]:
    if _kind(path) != "xml":
        with open_output(path) as lines:
            yield from read_outcar(lines, f"'{path}'")
        return
    try:
        with _open_binary(path) as stream:
            yield from read_vasprun(stream, f"'{path}'")
    except Truncated as error:
        warnings.warn(f"'{path}' ends too early ({error}); the steps before are read.", LamWarning, stacklevel=2)


@contextmanager
def _open_binary(path: Path) -> Iterator[IO[bytes] | Any]:
    with open_output(path, whole_lines=False) as stream:
        yield stream.buffer


def _kind(path: Path) -> str:
    """Return ``xml``, ``outcar`` or nothing by the name: vasprun.xml, vasprun.xml.relax1, OUTCAR.gz, 3_OUTCAR ..."""
    name = path.name.lower()
    for ending in COMPRESSED:
        name = name.removesuffix(ending)
    if name.endswith(".xml") or "vasprun.xml" in name:
        return "xml"
    return "outcar" if "outcar" in name else ""


VASP = Recipe(
    name="vasp",
    title="VASP: vasprun.xml or OUTCAR of relaxations, dynamics and single points",
    level_of_theory="not stated",
    licence="not stated",
    doi="",
    files="vasprun.xml or OUTCAR, also .gz, .bz2, .xz, .zst; of both in one folder the xml, which has more digits.",
    labels=(
        Label("positions", "positions", "fractional in vasprun.xml, Angstrom in OUTCAR"),
        Label(
            "energy",
            "e_fr_energy; free energy TOTEN",
            "eV",
            "free energy, not energy(sigma->0); without the P V of PSTRESS",
        ),
        Label("forces", "forces; TOTAL-FORCE", "eV/Angstrom"),
        Label("stress", "stress; in kB", "kbar", "compressive positive: the sign is turned; OUTCAR's order xy, yz, zx"),
        Label("total_charge", "NELECT", "e", "valence electrons of the potentials less NELECT"),
        Label("spin_multiplicity", "NUPDOWN", "", "NUPDOWN + 1 where it was fixed"),
    ),
    find=find,
    parts=each_file,
    read=read,
    notes="The group is the calculation. Ionic steps whose electronic steps did not converge are left out with a "
    "message: those that took NELM steps (VASP 5 says 'EDIFF is reached' of them, too), and those of which VASP 6 says "
    "so. Steps of a machine-learned force field (ML_LMLFF) are left out. A step that is cut off at the end of the file "
    "is left out. The energy of dynamics is without the kinetic energy. With PSTRESS, vasprun.xml holds the enthalpy: "
    "P V is subtracted; the stress is without PSTRESS. Stresses are left out with ISIF = 0 or 1, and calculations with "
    "fixed charge density (ICHARG >= 10), with a message.",
)

RECIPES = (VASP,)
