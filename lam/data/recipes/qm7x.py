"""QM7-X: equilibrium and displaced structures of molecules of up to seven heavy atoms at PBE0+MBD."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from lam.data.recipes.base import Label, Part, Recipe, files_with
from lam.data.recipes.common import check_numbers, check_shape, molecule_frames, singlet_if_even
from lam.data.recipes.hdf5 import SUFFIXES, cut_groups, dataset, named_groups, open_hdf5, whole
from lam.data.structure import Structure
from lam.errors import LamError

_DUPLICATES = "DupMols.dat"
_EQUILIBRIUM = re.compile(r"(Geom-m\d+-i\d+-c\d+)")


def parts(path: Path) -> Iterator[Part]:
    """Cut a file into parts; ``start`` and ``stop`` count molecules."""
    with open_hdf5(path) as file:
        yield from cut_groups(path, (len(file[name]) for name in file))


def read(part: Part) -> Iterator[Structure | LamError]:
    """Yield the structures of some molecules, but not those that the authors list as duplicates."""
    duplicates = _duplicates(part.path.parent / _DUPLICATES)
    with open_hdf5(part.path) as file:
        for name, group, where in named_groups(file, part):
            run = _Run(where, f"qm7x-{name}")
            for number, configuration in enumerate(group):
                if _equilibrium(configuration) in duplicates:
                    continue
                try:
                    arrays = _arrays(group, configuration, f"{where}#{number} ({configuration})")
                except LamError as error:
                    yield from run.frames()
                    yield error
                    continue
                if not run.takes(number, arrays[0]):
                    yield from run.frames()
                run.add(number, *arrays)
            yield from run.frames()


def _arrays(group: h5py.Group, name: str, where: str) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
    """Return atomic numbers, positions, energy and forces of a configuration."""
    # By their full names: to open the group of each configuration, too, would take a fifth longer.
    numbers = check_numbers(whole(dataset(group, f"{name}/atNUM", where)), where)
    shape = (len(numbers), 3)
    positions = check_shape(whole(dataset(group, f"{name}/atXYZ", where)), "atXYZ", shape, where)
    energy = check_shape(whole(dataset(group, f"{name}/ePBE0+MBD", where)).reshape(-1), "ePBE0+MBD", (1,), where)
    forces = check_shape(whole(dataset(group, f"{name}/totFOR", where)), "totFOR", shape, where)
    return numbers, positions, energy[0], forces


class _Run:
    """Configurations one after another that have the same atoms: made into structures together.

    Args:
        where: name of the molecule in messages and sources.
        molecule: group of the structures.
    """

    def __init__(self, where: str, molecule: str) -> None:
        self._where, self._molecule = where, molecule
        self._numbers = np.zeros(0, dtype=np.int64)
        self._start = 0
        self._rows: list[tuple[np.ndarray, float, np.ndarray]] = []

    def takes(self, number: int, numbers: np.ndarray) -> bool:
        """Is this configuration the next one, of the same atoms?"""
        return number == self._start + len(self._rows) and np.array_equal(numbers, self._numbers)

    def add(self, number: int, numbers: np.ndarray, positions: np.ndarray, energy: float, forces: np.ndarray) -> None:
        """Add a configuration."""
        if not self._rows:
            self._start, self._numbers = number, numbers
        self._rows.append((positions, energy, forces))

    def frames(self) -> Iterator[Structure | LamError]:
        """Yield the structures and forget them."""
        rows, self._rows = self._rows, []
        if rows:
            positions, energies, forces = (np.array(column) for column in zip(*rows, strict=True))
            yield from molecule_frames(
                self._numbers,
                positions,
                energies,
                forces,
                name=self._where,
                start=self._start,
                group=self._molecule,
                charge=0.0,
                multiplicity=singlet_if_even(self._numbers, 0.0),
            )


def _equilibrium(name: str) -> str:
    """Return the equilibrium structure that a configuration belongs to: ``Geom-m1-i1-c1-50`` -> ``Geom-m1-i1-c1``."""
    found = _EQUILIBRIUM.match(name)
    return found[1] if found else name


def _duplicates(path: Path) -> set[str]:
    if not path.is_file():
        return set()
    return set(_EQUILIBRIUM.findall(path.read_text(encoding="utf-8")))


QM7X = Recipe(
    name="qm7x",
    title="QM7-X: 6950 molecules of up to seven heavy atoms, 4.2e6 structures (H, C, N, O, S, Cl)",
    level_of_theory="PBE0+MBD, FHI-aims, tight",
    licence="CC-BY-4.0",
    doi="10.1038/s41597-021-00812-2",
    files="1000.hdf5 to 8000.hdf5 (unpacked from 1000.xz to 8000.xz) from Zenodo, 10.5281/zenodo.4288677; DupMols.dat "
    "beside them, if it is there, says which equilibrium structures are duplicates.",
    labels=(
        Label("positions", "atXYZ", "Angstrom"),
        Label("energy", "ePBE0+MBD", "eV", "total energy; eAT is not read"),
        Label("forces", "totFOR", "eV/Angstrom", "PBE0+MBD, net force and torque removed by the authors"),
        Label("total_charge", "", "e", "not in the file; all molecules are neutral"),
        Label("spin_multiplicity", "", "", "not in the file; singlets"),
    ),
    find=files_with(*SUFFIXES),
    parts=parts,
    read=read,
    notes="The group is the molecule (idmol), with all its isomers and conformers. Duplicates that DupMols.dat lists "
    "are left out with their displaced structures. That all molecules are neutral singlets is not stated in the file.",
)

RECIPES = (QM7X,)
