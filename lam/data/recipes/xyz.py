"""Extended XYZ with the names that are in use: plain (and REF_), MACE's, and NequIP's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lam.data.labels import ENERGY_KEYS, FORCE_KEYS, REFERENCE, STRESS_KEYS, VIRIAL_KEYS
from lam.data.readers import COMPRESSIONS, XYZ_SUFFIXES
from lam.data.recipes.base import Label, Part, Recipe, attempt, files_with
from lam.data.stream_xyz import read_xyz_atoms, read_xyz_part, xyz_parts
from lam.data.structure import Structure
from lam.errors import LamError

if TYPE_CHECKING:
    from ase import Atoms

_SUFFIXES = tuple(name + end for name in XYZ_SUFFIXES for end in ("", *COMPRESSIONS))
_WEIGHTS = {
    "config_energy_weight": ("REF_energy",),
    "config_forces_weight": ("REF_forces",),
    "config_stress_weight": ("REF_stress",),
    "config_virials_weight": ("REF_virials", "REF_virial"),
}
_NO_HEAD = "Default"

NEQUIP_KEYS = {"total_energy": "energy", "forces": "forces", "stress": "stress", "virial": "virial"}
"""Names that NequIP uses after its ``key_mapping`` -> ours."""


def read_mace(part: Part, *, only: str | None = None) -> Iterator[Structure | LamError]:
    """Yield the frames of MACE training data: only REF_ labels, as MACE reads it, and one head.

    Args:
        part: which frames.
        only: the head whose frames are read; by default that of the first frame, and others are errors.
    """
    head = _first_head(part.path) if only is None else only
    for number, atoms in read_xyz_atoms(part):
        if isinstance(atoms, LamError):
            yield atoms
            continue
        if only is not None and _head(atoms) != only:
            continue
        yield attempt(_mace_frame, atoms, f"{part.path.name}#{number}", head)


def _mace_frame(atoms: Atoms, source: str, head: str) -> Structure:
    stated = _head(atoms)
    if stated != head:
        raise LamError(
            f"{source} is of the head '{stated}', the file begins with '{head}': heads are levels of theory, "
            "convert one at a time (python data_prep/mace.py --head NAME)."
        )
    if _is_zero(atoms.info.get("config_weight")):
        raise LamError(f"{source} has config_weight = 0, so MACE does not train on it; it is left out.")
    labels = {key for key in (*atoms.info, *atoms.arrays) if key.startswith(REFERENCE)}
    if not labels:
        raise LamError(f"{source} has no REF_energy or REF_forces, the names that MACE reads; use the recipe extxyz.")
    for weight, keys in _WEIGHTS.items():
        if _is_zero(atoms.info.get(weight)):  # MACE's way to say that the label is not there
            for key in keys:
                atoms.info.pop(key, None)
                atoms.arrays.pop(key, None)
    # Plain names are another calculation's: MACE does not read them, and they must not fill a gap.
    atoms.calc = None
    for key in (*ENERGY_KEYS, *FORCE_KEYS, *STRESS_KEYS, *VIRIAL_KEYS):
        if not key.startswith(REFERENCE):
            atoms.info.pop(key, None)
            atoms.arrays.pop(key, None)
    return Structure.from_atoms(atoms, source=source)


def _first_head(path: Path) -> str:
    for _, atoms in read_xyz_atoms(Part(path, 0, 1)):
        return _NO_HEAD if isinstance(atoms, LamError) else _head(atoms)
    return _NO_HEAD


def _head(atoms: Atoms) -> str:
    return str(atoms.info.get("head", _NO_HEAD))


def _is_zero(weight: Any) -> bool:
    try:
        return weight is not None and float(weight) == 0.0
    except (TypeError, ValueError):
        return False


def read_nequip(part: Part, *, key_mapping: Mapping[str, str] | None = None) -> Iterator[Structure | LamError]:
    """Yield the frames of NequIP training data.

    Args:
        part: which frames.
        key_mapping: as in NequIP's ``ASEDataset``: name in the file -> NequIP's name (``total_energy``, ``forces``,
            ``stress``, ``virial``); by default, NequIP's own names and those that ASE reads.
    """
    for number, atoms in read_xyz_atoms(part):
        source = f"{part.path.name}#{number}"
        yield (atoms if isinstance(atoms, LamError) else attempt(_nequip_frame, atoms, source, dict(key_mapping or {})))


def _nequip_frame(atoms: Atoms, source: str, mapping: dict[str, str]) -> Structure:
    results = dict(atoms.calc.results) if atoms.calc is not None else {}
    atoms.calc = None
    found = {**results, **atoms.info, **atoms.arrays}
    mapping = {"total_energy": "total_energy", "virial": "virial"} | mapping
    for key, name in mapping.items():
        if name not in NEQUIP_KEYS:
            raise LamError(f"NequIP has no label '{name}'; map '{key}' to one of {', '.join(NEQUIP_KEYS)}.")
        if key in found:
            # Under the reference's name, which wins over everything else that the frame holds.
            wanted = REFERENCE + NEQUIP_KEYS[name]
            (atoms.arrays if name == "forces" else atoms.info)[wanted] = found[key]
        elif key not in NEQUIP_KEYS:
            raise LamError(f"{source} has no '{key}', which the key mapping names; it has {', '.join(sorted(found))}.")
    for key, value in results.items():
        if key in (*ENERGY_KEYS, *FORCE_KEYS, *STRESS_KEYS):
            (atoms.arrays if key == "forces" else atoms.info).setdefault(key, value)
    return Structure.from_atoms(atoms, source=source)


def mace_with(head: str) -> Recipe:
    """Return the recipe of MACE's files that reads the frames of one head."""
    return replace(MACE, read=partial(read_mace, only=head))


def nequip_with(key_mapping: Mapping[str, str]) -> Recipe:
    """Return the recipe of NequIP's files with the ``key_mapping`` of its configuration."""
    return replace(NEQUIP, read=partial(read_nequip, key_mapping=dict(key_mapping)))


_CHARGE = Label("total_charge", "total_charge, charge", "e", "contradictions are errors")

EXTXYZ = Recipe(
    name="extxyz",
    title="Extended XYZ with plain or REF_ names",
    level_of_theory="not stated",
    licence="not stated",
    doi="",
    files="*.extxyz, *.xyz, *.exyz, also .gz, .xz, .zst.",
    labels=(
        Label("positions", "pos", "Angstrom"),
        Label("energy", "REF_energy, free_energy, energy", "eV", "the first that is there; free before extrapolated"),
        Label("forces", "REF_forces, forces", "eV/Angstrom"),
        Label("stress", "REF_stress, stress", "eV/Angstrom^3", "tensile positive, as in ASE"),
        Label("stress", "REF_virials, REF_virial, virials, virial", "eV", "divided by -volume"),
        _CHARGE,
        Label("spin_multiplicity", "spin_multiplicity, spin, total_spin", "", "2S+1; 0 is not stated"),
    ),
    find=files_with(*_SUFFIXES),
    parts=xyz_parts,
    read=read_xyz_part,
    notes="Units are not converted: what is not in eV and Angstrom must be before. The group is 'group', else "
    "'config_type', else the formula.",
)

MACE = Recipe(
    name="mace",
    title="MACE training data: extended XYZ with REF_ names",
    level_of_theory="not stated",
    licence="not stated",
    doi="",
    files="*.xyz, *.extxyz, also .gz, .xz, .zst.",
    labels=(
        Label("positions", "pos", "Angstrom"),
        Label("energy", "REF_energy", "eV", "missing where config_energy_weight = 0"),
        Label("forces", "REF_forces", "eV/Angstrom", "missing where config_forces_weight = 0"),
        Label("stress", "REF_stress", "eV/Angstrom^3", "tensile positive; missing where config_stress_weight = 0"),
        Label("stress", "REF_virials", "eV", "divided by -volume; missing where config_virials_weight = 0"),
        _CHARGE,
        Label("spin_multiplicity", "total_spin, spin_multiplicity, spin", "", "2S+1; 0 is not stated"),
    ),
    find=files_with(*_SUFFIXES),
    parts=xyz_parts,
    read=read_mace,
    notes="Plain energy, forces and stress are not read, as MACE does not read them by default. Frames of a second "
    "'head' are refused, because heads are levels of theory: choose one with python data_prep/mace.py --head. Frames "
    "with config_weight = 0 are left out; other weights are not kept. config_type=IsolatedAtom marks isolated atoms.",
)

NEQUIP = Recipe(
    name="nequip",
    title="NequIP and Allegro training data: extended XYZ",
    level_of_theory="not stated",
    licence="not stated",
    doi="",
    files="*.xyz, *.extxyz, also .gz, .xz, .zst.",
    labels=(
        Label("positions", "pos", "Angstrom"),
        Label("energy", "total_energy, free_energy, energy", "eV"),
        Label("forces", "forces", "eV/Angstrom"),
        Label("stress", "stress", "eV/Angstrom^3", "tensile positive, as in ASE"),
        Label("stress", "virial", "eV", "divided by -volume"),
        _CHARGE,
        Label("spin_multiplicity", "spin_multiplicity, spin, total_spin", "", "2S+1; 0 is not stated"),
    ),
    find=files_with(*_SUFFIXES),
    parts=xyz_parts,
    read=read_nequip,
    notes="Other names, as in NequIP's key_mapping: python data_prep/nequip.py --key NAME=total_energy. NequIP trains "
    "on ASE's 'energy' where a frame also has 'free_energy'; here the free energy is read, because forces are its "
    "derivatives.",
)

RECIPES = (EXTXYZ, MACE, NEQUIP)
