"""MD17 and revised MD17: molecular dynamics of single molecules, one .npz file each; MD22 reads as MD17."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from lam.data.recipes.base import Label, Part, Recipe, cut, files_with
from lam.data.recipes.common import (
    BOHR,
    HARTREE,
    KCAL_MOL,
    check_numbers,
    check_shape,
    molecule_frames,
    singlet_if_even,
)
from lam.data.recipes.npz import Npz, open_npz
from lam.data.structure import Structure
from lam.errors import LamError

_BLOCK = 2048  # frames in memory at once
_ENERGY_UNITS = {"kcal/mol": KCAL_MOL, "ev": 1.0, "hartree": HARTREE, "ha": HARTREE}
_LENGTH_UNITS = {"ang": 1.0, "angstrom": 1.0, "a": 1.0, "bohr": BOHR}

SGDML = {"numbers": "z", "positions": "R", "energy": "E", "forces": "F"}
"""Keys of MD17 and MD22, which are in the form of sGDML."""
RMD17 = {"numbers": "nuclear_charges", "positions": "coords", "energy": "energies", "forces": "forces"}
"""Keys of revised MD17."""


def parts(path: Path, *, keys: dict[str, str]) -> Iterator[Part]:
    """Cut a trajectory into parts; ``start`` and ``stop`` count frames."""
    with open_npz(path) as file:
        yield from cut(path, _frames(file, keys))


def read(part: Part, *, keys: dict[str, str], neutral: bool = True) -> Iterator[Structure | LamError]:
    """Yield some frames of a trajectory.

    Args:
        part: which frames.
        keys: names of the arrays.
        neutral: are all molecules neutral, and closed shells if their electrons are even?

    Raises:
        LamError: if the file is damaged, or an array is missing or of a wrong shape.
    """
    with open_npz(part.path) as file:
        frames = _frames(file, keys)
        numbers = check_numbers(file.array(keys["numbers"]), f"'{part.path}'")
        per_energy, per_length = _units(file)
        _check(file, keys, frames, len(numbers))
        stop = frames if part.stop is None else min(part.stop, frames)
        start = part.start
        columns = [file.blocks(keys[name], start, stop, _BLOCK) for name in ("positions", "energy", "forces")]
        for positions, energies, forces in zip(*columns, strict=True):
            yield from molecule_frames(
                numbers,
                positions * per_length,
                energies.reshape(-1) * per_energy,
                forces * (per_energy / per_length),
                name=part.path.name,
                group=part.path.stem,
                start=start,
                charge=0.0 if neutral else None,
                multiplicity=singlet_if_even(numbers, 0.0) if neutral else None,
            )
            start += len(positions)


def _frames(file: Npz, keys: dict[str, str]) -> int:
    shape = file.shape(keys["positions"])
    if len(shape) != 3 or shape[2] != 3:
        raise LamError(f"'{file.path}': '{keys['positions']}' has shape {shape} instead of (frames, atoms, 3).")
    return shape[0]


def _check(file: Npz, keys: dict[str, str], frames: int, atoms: int) -> None:
    if "lattice" in file.keys:
        raise LamError(f"'{file.path}' has a lattice: periodic data sets of sGDML are not read.")
    for name in ("positions", "forces"):
        shape = file.shape(keys[name])
        if shape != (frames, atoms, 3):
            raise LamError(f"'{file.path}': '{keys[name]}' has shape {shape} instead of {(frames, atoms, 3)}.")
    shape = file.shape(keys["energy"])
    if shape not in ((frames,), (frames, 1)):
        check_shape(np.empty(shape), keys["energy"], (frames,), f"'{file.path}'")


def _units(file: Npz) -> tuple[float, float]:
    """Return eV per unit of energy and Angstrom per unit of length: kcal/mol and Angstrom unless the file says else."""
    energy, length = file.text("e_unit").strip().lower(), file.text("r_unit").strip().lower()
    for unit, known in ((energy, _ENERGY_UNITS), (length, _LENGTH_UNITS)):
        if unit and unit not in known:
            raise LamError(f"'{file.path}' states the unit '{unit}'; known are {', '.join(known)}.")
    return _ENERGY_UNITS[energy or "kcal/mol"], _LENGTH_UNITS[length or "ang"]


def npz_recipe(keys: dict[str, str], *, neutral: bool = True, **about: str) -> Recipe:
    """Return the recipe of trajectories with these keys, in kcal/mol and Angstrom; ``neutral`` as in :func:`read`."""
    find: Callable[[Path], list[Path]] = files_with(".npz")
    labels = (
        Label("positions", keys["positions"], "Angstrom"),
        Label("energy", keys["energy"], "kcal/mol", "total energy"),
        Label("forces", keys["forces"], "kcal/mol/Angstrom", "forces, not gradients"),
    )
    state = (
        Label("total_charge", "", "e", "not in the file; all molecules are neutral"),
        Label("spin_multiplicity", "", "", "not in the file; singlets"),
    )
    return Recipe(
        labels=(*labels, *state) if neutral else labels,
        find=find,
        parts=partial(parts, keys=keys),
        read=partial(read, keys=keys, neutral=neutral),
        **about,
    )


MD17 = npz_recipe(
    SGDML,
    name="md17",
    title="MD17: molecular dynamics of ten small molecules",
    level_of_theory="PBE+TS, FHI-aims; CCSD or CCSD(T) where the name of the file says so",
    licence="not stated",
    doi="10.1126/sciadv.1603015",
    files="md17_aspirin.npz and the like (or *_dft.npz, *_ccsd*.npz) from sgdml.org.",
    notes="The group is the file: one trajectory. Units that the file states (e_unit, r_unit) are obeyed. The "
    "original PBE labels are noisy: prefer rmd17. CCSD and CCSD(T) files are other levels of theory: convert them "
    "apart.",
)

RMD17_RECIPE = npz_recipe(
    RMD17,
    name="rmd17",
    title="Revised MD17: ten small molecules, labels computed anew with tight settings (1e5 frames each)",
    level_of_theory="PBE/def2-SVP, ORCA, very tight SCF and grid",
    licence="CC0-1.0",
    doi="10.1088/2632-2153/abba6f",
    files="rmd17_aspirin.npz and the like, in the folder npz_data of rmd17.tar.bz2 on figshare, "
    "10.6084/m9.figshare.12672038.",
    notes="The group is the file: one trajectory, whose frames are not in order of time (old_indices). The authors "
    "warn against training on more than 1000 frames of one molecule: test frames are correlated.",
)

SGDML_RECIPE = npz_recipe(
    SGDML,
    neutral=False,
    name="sgdml",
    title="sGDML data sets, of any molecule",
    level_of_theory="not stated",
    licence="not stated",
    doi="",
    files="*.npz with the arrays R, z, E and F, as sgdml_dataset_from_extxyz.py and others write them.",
    notes="The group is the file. Units that the file states (e_unit, r_unit) are obeyed; else they are kcal/mol and "
    "Angstrom, which sGDML assumes. Charge and multiplicity are not stated: give them with --metadata. Periodic data "
    "sets (with the array lattice) are refused.",
)

RECIPES = (MD17, RMD17_RECIPE, SGDML_RECIPE)
