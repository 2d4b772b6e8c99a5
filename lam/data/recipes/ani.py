"""ANI-1x at its two levels of theory, ANI-1ccx and ANI-2x: small organic molecules from active learning."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from lam.data.recipes.base import Label, Part, Recipe, cut, files_with
from lam.data.recipes.common import HARTREE, check_numbers, formula, molecule_frames, singlet_if_even
from lam.data.recipes.hdf5 import SUFFIXES, dataset, group_parts, named_groups, open_hdf5, whole
from lam.data.recipes.hdf5 import read as read_array
from lam.data.structure import Structure
from lam.errors import LamError, LamWarning

_OTHER_LEVELS = ("energy-corrections", "scf-energies")
"""Arrays that files of ANI-2x at other levels of theory have beside the energies."""
_BLOCK = 4096  # conformers in memory at once


def read_1x(part: Part, *, energy: str, forces: str | None) -> Iterator[Structure | LamError]:
    """Yield the conformers of some formulas that have a label at one level of theory.

    Args:
        part: which formulas.
        energy: key of the energies, Hartree.
        forces: key of the forces, Hartree/Angstrom; ``None`` if there are none.
    """
    with open_hdf5(part.path) as file:
        for name, group, where in named_groups(file, part):
            try:
                yield from _formula_1x(name, group, where, energy, forces)
            except LamError as error:
                yield error


def _formula_1x(
    name: str, group: h5py.Group, where: str, energy: str, forces: str | None
) -> Iterator[Structure | LamError]:
    numbers = check_numbers(whole(dataset(group, "atomic_numbers", where)), where)
    total = dataset(group, "coordinates", where).shape[0]
    for first in range(0, total, _BLOCK):
        rows = slice(first, min(first + _BLOCK, total))
        shape = (total, len(numbers), 3)
        yield from molecule_frames(
            numbers,
            read_array(group, "coordinates", shape, where, rows),
            read_array(group, energy, (total,), where, rows) * HARTREE,
            None if forces is None else read_array(group, forces, shape, where, rows) * HARTREE,
            name=where,
            group=name,
            start=first,
            charge=0.0,
            multiplicity=singlet_if_even(numbers, 0.0),
            nan_is_missing=True,
        )


def parts_2x(path: Path) -> Iterator[Part]:
    """Cut an ANI-2x file into parts; ``start`` and ``stop`` count conformers through all sizes."""
    with open_hdf5(path) as file:
        yield from cut(path, sum(count for _, _, count in _sizes(file, path)))


def read_2x(part: Part) -> Iterator[Structure | LamError]:
    """Yield some conformers; the file has one group for each number of atoms."""
    with open_hdf5(part.path) as file:
        passed = 0
        for group, where, count in _sizes(file, part.path):
            if not passed and not part.start and (other := [key for key in group if key.endswith(_OTHER_LEVELS)]):
                warnings.warn(
                    f"'{part.path}' holds {other[0]}: it is not at wB97X/6-31G(d); state its level of theory with "
                    "--metadata.",
                    LamWarning,
                    stacklevel=2,
                )
            start = max(part.start - passed, 0)
            stop = min((part.stop if part.stop is not None else passed + count) - passed, count)
            for first in range(start, stop, _BLOCK):
                rows = slice(first, min(first + _BLOCK, stop))
                try:
                    yield from _rows_2x(group, where, rows, part.path.name, passed)
                except LamError as error:
                    yield error
            passed += count


def _sizes(file: h5py.File, path: Path) -> Iterator[tuple[h5py.Group, str, int]]:
    for _, group, where in named_groups(file, Part(path)):
        yield group, where, dataset(group, "coordinates", where).shape[0]


def _rows_2x(group: h5py.Group, where: str, rows: slice, name: str, passed: int) -> Iterator[Structure | LamError]:
    count = rows.stop - rows.start
    total, atoms = (*dataset(group, "coordinates", where).shape, 0, 0)[:2]
    shape = (total, atoms, 3)
    positions = read_array(group, "coordinates", shape, where, rows)
    species = read_array(group, "species", (total, atoms), where, rows)
    energies = read_array(group, "energies", (total,), where, rows) * HARTREE
    forces = read_array(group, "forces", shape, where, rows) * HARTREE if "forces" in group else None
    # Neighbouring rows mostly are the same molecule: handled together.
    ends = [*(np.flatnonzero((np.diff(species, axis=0) != 0).any(axis=1)) + 1).tolist(), count]
    first = 0
    for end in ends:
        numbers = check_numbers(species[first], f"{where} row {rows.start + first}")
        yield from molecule_frames(
            numbers,
            positions[first:end],
            energies[first:end],
            None if forces is None else forces[first:end],
            name=name,
            group=formula(numbers),
            start=passed + rows.start + first,
            charge=0.0,
            multiplicity=singlet_if_even(numbers, 0.0),
        )
        first = end


_STATE = (
    Label("total_charge", "", "e", "not in the file; all molecules are neutral"),
    Label("spin_multiplicity", "", "", "not in the file; singlets"),
)

ANI1X = Recipe(
    name="ani1x",
    title="ANI-1x: H, C, N, O molecules from active learning (5.0e6 conformers)",
    level_of_theory="wB97X/6-31G(d), Gaussian 09",
    licence="CC0-1.0",
    doi="10.1038/s41597-020-0473-z",
    files="ani1x-release.h5 from figshare, 10.6084/m9.figshare.c.4712477.",
    labels=(
        Label("positions", "coordinates", "Angstrom"),
        Label("energy", "wb97x_dz.energy", "Hartree", "NaN: not computed"),
        Label("forces", "wb97x_dz.forces", "Hartree/Angstrom", "forces, not gradients; NaN: not computed"),
        *_STATE,
    ),
    find=files_with(*SUFFIXES),
    parts=group_parts("coordinates"),
    read=partial(read_1x, energy="wb97x_dz.energy", forces="wb97x_dz.forces"),
    notes="The group of a structure is its formula. Conformers that have no label at this level are left out. The same "
    "file holds ani1x-tz and ani1ccx, which are other levels of theory: convert each to a data set of its own. "
    "That all molecules are neutral singlets is not stated in the file.",
)

ANI1X_TZ = replace(
    ANI1X,
    name="ani1x-tz",
    title="ANI-1x at wB97X/def2-TZVPP (4.6e6 conformers)",
    level_of_theory="wB97X/def2-TZVPP, ORCA",
    labels=(
        ANI1X.labels[0],
        Label("energy", "wb97x_tz.energy", "Hartree", "NaN: not computed"),
        Label("forces", "wb97x_tz.forces", "Hartree/Angstrom", "forces, not gradients; NaN: not computed"),
        *_STATE,
    ),
    read=partial(read_1x, energy="wb97x_tz.energy", forces="wb97x_tz.forces"),
)

ANI1CCX = replace(
    ANI1X,
    name="ani1ccx",
    title="ANI-1ccx: coupled-cluster energies of 5e5 conformers of ANI-1x",
    level_of_theory="CCSD(T)*/CBS, ORCA",
    labels=(
        ANI1X.labels[0],
        Label("energy", "ccsd(t)_cbs.energy", "Hartree", "NaN: not computed; there are no forces"),
        *_STATE,
    ),
    read=partial(read_1x, energy="ccsd(t)_cbs.energy", forces=None),
)

ANI2X = Recipe(
    name="ani2x",
    title="ANI-2x: H, C, N, O, F, S, Cl molecules from active learning (9.7e6 conformers)",
    level_of_theory="wB97X/6-31G(d), Gaussian 09",
    licence="CC-BY-4.0",
    doi="10.1021/acs.jctc.0c00121",
    files="final_h5/ANI-2x-wB97X-631Gd.h5 (in a .tar.gz) from Zenodo, 10.5281/zenodo.10108942.",
    labels=(
        Label("positions", "coordinates", "Angstrom"),
        Label("energy", "energies", "Hartree"),
        Label("forces", "forces", "Hartree/Angstrom", "forces, not gradients"),
        *_STATE,
    ),
    find=files_with(*SUFFIXES),
    parts=parts_2x,
    read=read_2x,
    notes="One group of the file for each number of atoms; the group of a structure is its formula. Files of the same "
    "release at other levels of theory (wB97M, B97-3c) have the same form: convert them to data sets of their own; "
    "whether their energies hold the D3 or VV10 corrections, which stand beside them, is not confirmed. That all "
    "molecules are neutral singlets is not stated in the file.",
)

RECIPES = (ANI1X, ANI1X_TZ, ANI1CCX, ANI2X)
