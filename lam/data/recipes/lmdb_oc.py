"""Open Catalyst: OC20 as ASE LMDB or as published for S2EF (``0.extxyz.xz`` with ``0.txt.xz``), OC22 as ASE LMDB."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lam.data.readers import COMPRESSIONS, open_text
from lam.data.recipes.base import Label, Part, Recipe, attempt
from lam.data.recipes.lmdb_ase import SUFFIX, lmdb_parts, read_lmdb
from lam.data.stream_xyz import is_xyz, read_xyz_atoms
from lam.data.structure import Structure
from lam.errors import LamError

if TYPE_CHECKING:
    from ase import Atoms

_LMDB = (SUFFIX, ".lmdb")
_SYSTEM = ("sid", "system_id", "group")


def _find(path: Path) -> list[Path]:
    """ASE LMDB files and extxyz files; pickled LMDB files too, to say why they are refused."""
    if path.is_file():
        return [path]
    return sorted(file for file in path.rglob("*") if file.is_file() and (file.suffix in _LMDB or is_xyz(file)))


def _parts(path: Path) -> Iterator[Part]:
    if path.suffix in _LMDB:
        yield from lmdb_parts(path)
    else:
        yield Part(path)  # 5000 frames in the published files


def _read(part: Part, *, referenced: bool = False) -> Iterator[Structure | LamError]:
    if part.path.suffix in _LMDB:
        if referenced:
            raise LamError(
                f"'{part.path}' states no reference energies; those of OC20 are in the .txt files of S2EF. Use 'oc20'."
            )
        yield from read_lmdb(part, groups=_SYSTEM)
        return
    notes = _notes_of(part.path)
    if notes is None and referenced:
        raise LamError(f"Beside '{part.path}' there is no .txt file with reference energies; use the recipe 'oc20'.")
    lines = open_text(notes) if notes is not None else iter(())
    missing = object()
    frames = zip_longest(read_xyz_atoms(part), (line for line in lines if line.strip()), fillvalue=missing)
    for frame, line in frames:
        if frame is missing or (line is missing and notes is not None):
            raise LamError(f"'{part.path}' and '{notes}' are of different lengths: they do not belong together.")
        number, atoms = frame
        where = f"{part.path.name}#{number}"
        if isinstance(atoms, LamError):
            yield atoms
            continue
        if notes is None:
            yield attempt(Structure.from_atoms, atoms, source=where)
            continue
        yield attempt(_structure, atoms, line, where, referenced)


def _structure(atoms: Atoms, line: str, where: str, referenced: bool) -> Structure:
    fields = line.strip().split(",")
    structure = Structure.from_atoms(atoms, source=where, group=fields[0])
    if not referenced:
        return structure
    try:
        reference = float(fields[2])
    except (IndexError, ValueError):
        raise LamError(f"{where}: '{line.strip()}' is no line 'system,frame,reference energy'.") from None
    # The references are of energies extrapolated to zero smearing: the frame's 'energy', not its 'free_energy'.
    energy = atoms.info.get("energy", None if atoms.calc is None else atoms.calc.results.get("energy"))
    if not isinstance(energy, float | int | np.number):
        raise LamError(f"{where} has no energy to take the reference energy from.")
    return replace(structure, energy=float(energy) - reference)


def _notes_of(path: Path) -> Path | None:
    """Return the text file of an extxyz file: lines ``random1331084,frame3,-123.4``."""
    plain = path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path
    text = plain.with_suffix(".txt")
    return next(
        (file for file in (text, *(text.with_name(text.name + c) for c in COMPRESSIONS)) if file.is_file()), None
    )


_EXTXYZ = (
    Label("energy", "free_energy, else energy", "eV", "total energy"),
    Label("forces", "forces", "eV/Angstrom", "also of atoms that were held fixed"),
)
OC20 = Recipe(
    name="oc20",
    title="Open Catalyst 2020: 1.3e8 steps of relaxations of adsorbates on surfaces",
    level_of_theory="RPBE, VASP",
    licence="CC-BY-4.0",
    doi="10.1021/acscatal.0c04525",
    files="s2ef_train_*.tar or s2ef_val_*.tar (0.extxyz.xz with 0.txt.xz, ...), as they are; or *.aselmdb",
    labels=_EXTXYZ,
    find=_find,
    parts=_parts,
    read=_read,
    notes="Total energies; 'oc20-adsorption' subtracts the reference energy of each system. All frames of a system are "
    "one group. The LMDB files made by fairchem's preprocess_ef.py hold pickled objects and are refused.",
)
RECIPES = (
    OC20,
    replace(
        OC20,
        name="oc20-adsorption",
        title="Open Catalyst 2020 with adsorption energies: less the reference energy in the .txt file",
        labels=(
            Label("energy", "energy, less the third field of the .txt file", "eV", "adsorption energy"),
            _EXTXYZ[1],
        ),
        read=partial(_read, referenced=True),
        notes="The reference is that of the clean surface and gas-phase molecules; as in fairchem, it is taken off the "
        "energy extrapolated to zero smearing, some meV off the free energy of the forces. Only for the S2EF extxyz "
        "files.",
    ),
    replace(
        OC20,
        name="oc22",
        title="Open Catalyst 2022: relaxations of oxide surfaces with adsorbates",
        level_of_theory="PBE+U, spin-polarised, VASP",
        doi="10.1021/acscatal.2c05426",
        files="*.aselmdb, or the trajectories as extxyz",
        labels=_EXTXYZ,
        notes="Total energies. The LMDB files of the first release (s2ef_total_train_val_test_lmdbs.tar.gz) hold "
        "pickled objects and are refused.",
    ),
)
