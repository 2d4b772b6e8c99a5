"""Structures as pymatgen writes them to JSON, with VASP's labels, read without pymatgen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ase.data import atomic_numbers as NUMBERS

from lam.data.recipes.common import KBAR
from lam.data.structure import Structure
from lam.errors import LamError


def read_structure(
    stored: Mapping[str, Any], *, source: str, group: str, energy: Any, forces: Any, stress: Any
) -> Structure:
    """Return the structure with its labels; ``None`` is a missing label.

    Args:
        stored: the structure, as pymatgen's ``Structure.as_dict()``.
        source: what messages call it.
        group: its group.
        energy: eV.
        forces: eV/Angstrom, (N, 3).
        stress: kbar, VASP's sign (compressive positive), (3, 3) or Voigt (6,): xx, yy, zz, yz, xz, xy.

    Raises:
        LamError: if something is missing or of a wrong shape, or a site holds more than one element.
    """
    numbers, positions, cell, pbc = _atoms(stored, source)
    charge = stored.get("charge")
    return Structure(
        numbers=numbers,
        positions=positions,
        cell=cell,
        pbc=pbc,
        energy=None if energy is None else _number(energy, "energy", source),
        forces=forces,
        stress=None if stress is None or not pbc.all() else -KBAR * _tensor(stress, source),
        total_charge=None if charge is None else _number(charge, "charge", source),
        group=group,
        source=source,
    )


def site_vectors(stored: Mapping[str, Any], key: str) -> list[Any] | None:
    """Return a property of all sites; ``None`` if a site does not have it."""
    values = [(site.get("properties") or {}).get(key) for site in stored.get("sites", [])]
    return None if not values or any(value is None for value in values) else values


def _atoms(stored: Mapping[str, Any], where: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    try:
        lattice = stored["lattice"]
        cell = np.array(lattice["matrix"], dtype=np.float64).reshape(3, 3)
        pbc = np.array(lattice.get("pbc", (True, True, True)), dtype=bool)
        sites = stored["sites"]
        numbers = [_element(site["species"], where) for site in sites]
        # As pymatgen does: the fractional coordinates count, where they are there.
        if all("abc" in site for site in sites):
            positions = np.array([site["abc"] for site in sites], dtype=np.float64) @ cell
        else:
            positions = np.array([site["xyz"] for site in sites], dtype=np.float64)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise LamError(f"{where}: the structure is not in pymatgen's form ({error!r}).") from None
    return np.array(numbers, dtype=np.int64), positions, cell, pbc


def _element(species: list[dict[str, Any]], where: str) -> int:
    if len(species) != 1 or float(species[0].get("occu", 1)) != 1.0:
        raise LamError(f"{where} is disordered: a site holds {species}; leave it out.")
    name = species[0]["element"]
    if name not in NUMBERS:
        raise LamError(f"{where}: '{name}' is no element.")
    return NUMBERS[name]


def _number(value: Any, name: str, where: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise LamError(f"{where}: the {name} {value!r} is not a number.") from None


def _tensor(value: Any, where: str) -> np.ndarray:
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise LamError(f"{where}: the stress does not hold numbers.") from None
    if array.shape == (6,):
        xx, yy, zz, yz, xz, xy = array
        return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    if array.shape != (3, 3):
        raise LamError(f"{where}: the stress has shape {array.shape} instead of (3, 3) or (6,).")
    return array
