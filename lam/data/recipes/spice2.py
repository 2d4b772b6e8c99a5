"""SPICE 2: drug-like molecules, peptides, dimers, ions and water at wB97M-D3(BJ)/def2-TZVPPD."""

from __future__ import annotations

import re
from collections.abc import Iterator

import h5py
import numpy as np

from lam.data.recipes.base import Label, Part, Recipe, files_with
from lam.data.recipes.common import BOHR, HARTREE, check_numbers, molecule_frames, singlet_if_even
from lam.data.recipes.hdf5 import (
    SUFFIXES,
    dataset,
    group_parts,
    named_groups,
    numbers_of,
    open_hdf5,
    text,
    unit_of,
    whole,
)
from lam.data.structure import Structure
from lam.errors import LamError

_BLOCK = 4096  # conformations in memory at once
_BRACKET = re.compile(r"\[([^\]]*)\]")
_CHARGE = re.compile(r"(\++|-+)(\d*)$")
_STORED_CHARGE = ("total_charge", "charge", "molecular_charge")
_UNITS = {
    "conformations": {"": BOHR, "bohr": BOHR, "angstrom": 1.0},
    "dft_total_energy": {"": HARTREE, "hartree": HARTREE, "ev": 1.0},
    "dft_total_gradient": {"": HARTREE / BOHR, "hartree/bohr": HARTREE / BOHR, "ev/angstrom": 1.0},
}


def smiles_charge(smiles: str) -> int:
    """Return the sum of the formal charges in a SMILES; they stand in brackets: ``[N+:3]``, ``[Mg+2]``, ``[O--]``."""
    total = 0
    for atom in _BRACKET.findall(smiles):
        found = _CHARGE.search(atom.split(":")[0])
        if found:
            signs, digits = found.groups()
            total += (1 if signs[0] == "+" else -1) * (int(digits) if digits else len(signs))
    return total


def read(part: Part) -> Iterator[Structure | LamError]:
    """Yield the conformations of some molecules."""
    with open_hdf5(part.path) as file:
        for name, group, where in named_groups(file, part):
            try:
                yield from _molecule(name, group, where)
            except LamError as error:
                yield error


def _molecule(name: str, group: h5py.Group, where: str) -> Iterator[Structure | LamError]:
    keys = set(group)  # once: every look into a group costs, and there are 1e5 groups
    numbers = check_numbers(whole(dataset(group, "atomic_numbers", where)), where)
    names = ["conformations", "dft_total_energy"]
    if "dft_total_gradient" in keys:  # absent where it was not computed for the molecule
        names.append("dft_total_gradient")
    data = {key: dataset(group, key, where) for key in names}
    total = data["conformations"].shape[0]
    shapes = {key: (total,) if key == "dft_total_energy" else (total, len(numbers), 3) for key in names}
    charge = _charge(group, keys, where)
    for first in range(0, total, _BLOCK):
        rows = slice(first, min(first + _BLOCK, total))
        values = [_convert(data[key], key, shapes[key], where, rows) for key in names]
        yield from molecule_frames(
            numbers,
            values[0],
            values[1],
            -values[2] if len(values) == 3 else None,
            name=where,
            group=name,
            start=first,
            charge=charge,
            multiplicity=None if charge is None else singlet_if_even(numbers, charge),
        )


def _convert(data: h5py.h5d.DatasetID, key: str, shape: tuple[int, ...], where: str, rows: slice) -> np.ndarray:
    unit = unit_of(data)
    if unit not in _UNITS[key]:
        raise LamError(f"{where}: '{key}' is in '{unit}'; known units are {', '.join(filter(None, _UNITS[key]))}.")
    return numbers_of(data, key, shape, where, rows) * _UNITS[key][unit]


def _charge(group: h5py.Group, keys: set[str], where: str) -> float | None:
    smiles = text(group, "smiles", where) if "smiles" in keys else ""
    stated = float(smiles_charge(smiles)) if smiles else None
    for key in keys.intersection(_STORED_CHARGE):
        values = np.unique(np.asarray(group[key][()], dtype=np.float64))
        if len(values) != 1 or (stated is not None and values[0] != stated):
            raise LamError(f"{where}: '{key}' = {values.tolist()} contradicts the charge {stated} of the SMILES.")
        return float(values[0])
    return stated


SPICE2 = Recipe(
    name="spice2",
    title="SPICE 2: molecules, peptides, dimers, ions, water clusters (2.0e6 conformations, 17 elements)",
    level_of_theory="wB97M-D3(BJ)/def2-TZVPPD, Psi4",
    licence="CC0-1.0",
    doi="10.1021/acs.jctc.4c00794",
    files="SPICE-2.0.1.hdf5 (or any SPICE release) from Zenodo, 10.5281/zenodo.10975225.",
    labels=(
        Label("positions", "conformations", "Bohr"),
        Label("energy", "dft_total_energy", "Hartree", "total energy; formation_energy is not read"),
        Label("forces", "dft_total_gradient", "Hartree/Bohr", "gradient: the sign is turned"),
        Label("total_charge", "smiles", "e", "sum of the formal charges of the SMILES, or a stored charge"),
        Label("spin_multiplicity", "", "", "1: all were computed as singlets; not stated for odd electron numbers"),
    ),
    find=files_with(*SUFFIXES),
    parts=group_parts("conformations"),
    read=read,
    notes="The group of a structure is its molecule. Units are checked where the data sets state them. "
    "One level of theory through all subsets. That all were computed as singlets is not stated in the file.",
)

RECIPES = (SPICE2,)
