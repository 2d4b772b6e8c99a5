"""MatPES: static calculations of structures from molecular dynamics, with PBE or r2SCAN."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from lam.data.recipes.base import Label, Part, Recipe, attempt, files_with
from lam.data.recipes.json_stream import SUFFIXES, open_json
from lam.data.recipes.pymatgen_json import read_structure
from lam.data.structure import Structure
from lam.errors import LamError

_KEYS = ("structure", "energy", "forces")


def parts(path: Path) -> Iterator[Part]:
    """Yield the file as one part: a compressed list cannot be entered in its middle."""
    yield Part(path)


def read(part: Part, *, functional: str | None = None) -> Iterator[Structure | LamError]:
    """Yield the structures of a file, which must all be of one functional.

    Args:
        part: the file.
        functional: the one it must be of; by default that of the first structure.
    """
    with open_json(part.path) as stream:
        for number, entry in enumerate(stream.elements()):
            source = f"{part.path.name}#{number}"
            stated = str(entry.get("functional") or "") if isinstance(entry, dict) else ""
            functional = functional or stated
            if stated and stated.lower() != functional.lower():
                yield LamError(
                    f"{source} was computed with {stated}, not {functional}: levels of theory must not be mixed."
                )
                continue
            yield attempt(_structure, entry, source)


def _structure(entry: Any, source: str) -> Structure:
    missing = [key for key in _KEYS if not isinstance(entry, dict) or key not in entry]
    if missing:
        raise LamError(f"{source} has no '{missing[0]}'; is this a file of MatPES?")
    return read_structure(
        entry["structure"],
        source=source,
        group=_group(entry, source),
        energy=entry["energy"],
        forces=entry["forces"],
        stress=entry.get("stress"),
    )


def _group(entry: dict[str, Any], source: str) -> str:
    """Return the material that the structure was sampled from."""
    origin = (entry.get("provenance") or {}).get("original_mp_id")
    if origin:
        return str(origin)
    name = str(entry.get("matpes_id") or "")  # matpes-20240214_999484_73: date, material, step
    words = name.split("_")
    return f"mp-{words[1]}" if len(words) == 3 else name or str(entry.get("formula_pretty") or source)


MATPES = Recipe(
    name="matpes",
    title="MatPES: static calculations along molecular dynamics at 300 K (4e5 structures)",
    level_of_theory="PBE or r2SCAN as the entries state (one file each), VASP, MatPESStaticSet",
    licence="BSD-3-Clause",
    doi="10.48550/arXiv.2503.04070",
    files="MatPES-PBE-2025.1.json.gz or MatPES-R2SCAN-2025.1.json.gz (or later, also as JSON lines) from matpes.ai.",
    labels=(
        Label("positions", "structure", "Angstrom", "pymatgen's Structure; fractional coordinates count"),
        Label("energy", "energy", "eV", "VASP's e_0_energy, extrapolated to zero smearing"),
        Label("forces", "forces", "eV/Angstrom"),
        Label("stress", "stress", "kbar", "Voigt xx, yy, zz, yz, xz, xy; VASP's sign, compressive positive"),
        Label("total_charge", "structure.charge", "e", "where it is stated"),
    ),
    find=files_with(*SUFFIXES),
    parts=parts,
    read=read,
    notes="The group is the Materials Project's structure that the dynamics began from. The energy is extrapolated to "
    "zero smearing and not the free energy that the forces derive from; the file has no other. Entries of a second "
    "functional in one file are refused. The licence is that of the repository; the files state none.",
)

MATPES_PBE = replace(MATPES, name="matpes-pbe", level_of_theory="PBE, VASP", read=partial(read, functional="PBE"))
MATPES_R2SCAN = replace(
    MATPES, name="matpes-r2scan", level_of_theory="r2SCAN, VASP", read=partial(read, functional="r2SCAN")
)

RECIPES = (MATPES, MATPES_PBE, MATPES_R2SCAN)
