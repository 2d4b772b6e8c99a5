"""Alexandria: relaxed crystals as computed entries, and its relaxation trajectories (geo_opt_paths)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lam.data.recipes.base import Label, Part, Recipe, attempt, files_with
from lam.data.recipes.json_stream import SUFFIXES, JsonStream, open_json
from lam.data.recipes.matpes import parts
from lam.data.recipes.pymatgen_json import read_structure, site_vectors
from lam.data.structure import Structure
from lam.errors import LamError


def read(part: Part) -> Iterator[Structure | LamError]:
    """Yield the structures of a file in either form."""
    with open_json(part.path) as stream:
        if stream.peek() == "[":
            yield from _entries(stream, part.path)
            return
        for key in stream.keys():  # noqa: SIM118 - not a dictionary
            if key == "entries" and stream.peek() == "[":
                yield from _entries(stream, part.path)
            else:
                yield from _trajectories(part.path, key, stream.value())


def _entries(stream: JsonStream, path: Path) -> Iterator[Structure | LamError]:
    for number, entry in enumerate(stream.elements()):
        yield attempt(_entry, entry, f"{path.name}#{number}")


def _entry(entry: Any, source: str) -> Structure:
    if not isinstance(entry, dict) or not isinstance(entry.get("structure"), dict):
        raise LamError(f"{source} has no 'structure'; is this a file of ComputedStructureEntry?")
    data = entry.get("data") or {}
    energy = data.get("energy_total", entry.get("energy"))
    if energy is None:
        raise LamError(f"{source} has no 'energy'.")
    structure = entry["structure"]
    forces = site_vectors(structure, "forces")
    return read_structure(
        structure,
        source=source,
        group=str(data.get("mat_id") or entry.get("entry_id") or source),
        energy=energy,
        forces=data.get("forces") if forces is None else forces,
        stress=data.get("stress"),
    )


def _trajectories(path: Path, name: str, runs: Any) -> Iterator[Structure | LamError]:
    if name.startswith("@"):
        return
    if not isinstance(runs, list) or not all(isinstance(run, dict) and "steps" in run for run in runs):
        raise LamError(f"'{path}': '{name}' is neither a list of entries nor of relaxations with 'steps'.")
    number = 0
    for run in runs:
        for step in run["steps"]:
            yield attempt(_step, step, f"{path.name}/{name}#{number}", name)
            number += 1


def _step(step: Any, source: str, group: str) -> Structure:
    missing = [key for key in ("structure", "energy", "forces") if not isinstance(step, dict) or key not in step]
    if missing:
        raise LamError(f"{source} has no '{missing[0]}'.")
    return read_structure(
        step["structure"],
        source=source,
        group=group,
        energy=step["energy"],
        forces=step["forces"],
        stress=step.get("stress"),
    )


ALEXANDRIA = Recipe(
    name="alexandria",
    title="Alexandria: relaxed crystals (5e6) and their relaxation trajectories",
    level_of_theory="PBE, PBEsol or SCAN as the folder of the download says, VASP; +U as in the Materials Project",
    licence="CC-BY-4.0",
    doi="10.1016/j.mtphys.2024.101560",
    files="alexandria_000.json.bz2 and the like, or geo_opt_paths/*.json.bz2, from alexandria.icams.rub.de.",
    labels=(
        Label("positions", "structure", "Angstrom", "pymatgen's Structure; fractional coordinates count"),
        Label("energy", "data.energy_total, else energy", "eV", "without corrections"),
        Label("forces", "forces of the sites, or of the step", "eV/Angstrom"),
        Label("stress", "data.stress, or of the step", "kbar", "VASP's sign, compressive positive: times -0.1 GPa"),
        Label("total_charge", "structure.charge", "e", "where it is stated"),
    ),
    find=files_with(*SUFFIXES),
    parts=parts,
    read=read,
    notes="The group is the material (mat_id). One functional for each folder of the download: convert them apart. "
    "1D and 2D structures are periodic with vacuum. Keys, unit and sign in the trajectories are those that MACE's and "
    "other scripts read; that the unit of the stress is the same in the entries is not confirmed. sAlexandria (sAlex) "
    "comes as ASE LMDB: recipe salex.",
)

RECIPES = (ALEXANDRIA,)
