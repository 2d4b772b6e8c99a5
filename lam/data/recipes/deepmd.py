"""DeePMD systems: folders of .npy files, plain or of mixed type, and HDF5 files that hold many (as in OpenLAM).

A system has ``type.raw`` (index of the element of each atom), ``type_map.raw`` (the elements), maybe ``nopbc``, and
sets ``set.*`` with ``coord``, ``box``, ``energy``, ``force`` and ``virial``. In mixed type the elements stand in
``real_atom_types`` for each frame, and -1 is no atom.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from ase.data import atomic_numbers as NUMBERS

from lam.data.recipes.base import Label, Part, Recipe, cut, files_with
from lam.data.recipes.common import Block, formula, trajectory_name
from lam.data.recipes.hdf5 import SUFFIXES, open_hdf5
from lam.data.structure import Structure
from lam.errors import LamError, LamWarning

_BLOCK = 1024  # frames in memory at once
_SPINS = "spin.npy"
_ARRAYS = ("coord", "box", "energy", "force", "virial", "real_atom_types", "charge_spin")


@dataclass(frozen=True)
class System:
    """A DeePMD system that is open for reading."""

    where: str
    """What messages call it."""
    source: str
    """What the source of its frames begins with."""
    group: str
    """Group of its frames, unless they are of mixed type."""
    types: np.ndarray
    """Index of the element of each atom, (N,)."""
    elements: np.ndarray
    """Atomic numbers that the types index, (T,)."""
    periodic: bool
    """Is there a cell?"""
    sets: list[dict[str, Any]]
    """Arrays of each set by name, not yet read: NumPy memory maps or HDF5 data sets."""
    spins: bool = False
    """Are there magnetic moments of atoms, which are not read?"""

    @property
    def frames(self) -> list[int]:
        """Frames in each set."""
        return [len(one["coord"]) for one in self.sets]


def find_folders(path: Path) -> list[Path]:
    """Return the folders of systems in (or at) ``path``."""
    return sorted(raw.parent for raw in path.rglob("type.raw") if any(raw.parent.glob("set.*")))


def parts_of_folder(path: Path) -> Iterator[Part]:
    """Cut a system into parts; ``start`` and ``stop`` count frames through its sets."""
    yield from cut(path, sum(open_folder(path).frames))


def read_folder(part: Part) -> Iterator[Structure | LamError]:
    """Yield some frames of a system."""
    system = open_folder(part.path)
    yield from _frames(system, part.start, sum(system.frames) if part.stop is None else part.stop)


def open_folder(path: Path) -> System:
    """Open a folder; its arrays are mapped, not read.

    Raises:
        LamError: if a file is missing, damaged or of a wrong shape.
    """
    where = f"'{path}'"
    if not (path / "type.raw").is_file():
        raise LamError(f"{where} is no DeePMD system: it has no type.raw.")
    folders = sorted(folder for folder in path.glob("set.*") if folder.is_dir())
    map_file = path / "type_map.raw"
    names = map_file.read_text(encoding="utf-8", errors="replace").split() if map_file.is_file() else None
    name = trajectory_name(path)
    return _system(
        where=where,
        source=name,
        group=name,
        spins=any((folder / _SPINS).is_file() for folder in folders),
        types=_integers((path / "type.raw").read_text(encoding="utf-8", errors="replace").split(), where),
        names=names,
        periodic=not (path / "nopbc").exists(),
        sets={
            folder.name: {key: _mapped(folder / f"{key}.npy") for key in _ARRAYS if (folder / f"{key}.npy").is_file()}
            for folder in folders
        },
    )


def parts_of_hdf5(path: Path) -> Iterator[Part]:
    """Cut a file into parts; ``start`` and ``stop`` count frames through all its systems."""
    with open_systems(path) as systems:
        yield from cut(path, sum(sum(system.frames) for system in systems))


def read_hdf5(part: Part) -> Iterator[Structure | LamError]:
    """Yield some frames of the systems of a file."""
    with open_systems(part.path) as systems:
        passed = 0
        for system in systems:
            count = sum(system.frames)
            stop = passed + count if part.stop is None else part.stop
            yield from _frames(system, max(part.start - passed, 0), min(stop - passed, count))
            passed += count


@contextmanager
def open_systems(path: Path) -> Iterator[list[System]]:
    """Open the systems of an HDF5 file, in the order of their names.

    Raises:
        LamError: if the file is damaged, holds no system, or one of them is wrong.
    """
    with ExitStack() as stack:
        file = stack.enter_context(open_hdf5(path))
        groups: list[h5py.Group] = [file] if _is_system(file) else []
        file.visititems(lambda _, item: groups.append(item) if _is_system(item) else None)
        if not groups:
            raise LamError(f"'{path}' holds no DeePMD system (no group with type.raw).")
        yield [_open_group(group, path) for group in groups]


def _is_system(item: Any) -> bool:
    return isinstance(item, h5py.Group) and isinstance(item.get("type.raw"), h5py.Dataset)


def _open_group(group: h5py.Group, path: Path) -> System:
    name = f"{path.name}{group.name}".rstrip("/")
    raw = group["type_map.raw"][()] if "type_map.raw" in group else None
    sets = {}
    for key in sorted(key for key in group if key.startswith("set.")):
        sets[key] = {one: group[key][f"{one}.npy"] for one in _ARRAYS if f"{one}.npy" in group[key]}
    return _system(
        where=f"'{name}'",
        source=name,
        group=name,
        spins=any(_SPINS in group[key] for key in sets),
        types=_integers(group["type.raw"][()].reshape(-1), name),
        names=None if raw is None else [one.decode() if isinstance(one, bytes) else str(one) for one in raw],
        periodic="nopbc" not in group,
        sets=sets,
    )


def _system(
    *,
    where: str,
    source: str,
    group: str,
    types: np.ndarray,
    names: list[str] | None,
    periodic: bool,
    sets: dict[str, dict[str, Any]],
    spins: bool,
) -> System:
    """Check what the folder and the HDF5 form have in common."""
    if names is None:
        raise LamError(f"{where} has no type_map.raw; write the elements of its types into it, one per line.")
    unknown = [name for name in names if name not in NUMBERS]
    if unknown:
        raise LamError(f"{where}: '{unknown[0]}' in type_map.raw is no element.")
    if not sets:
        raise LamError(f"{where} has no sets (set.000, ...).")
    if not len(types) or types.min() < 0 or types.max() >= len(names):
        raise LamError(f"{where}: type.raw has types outside of type_map.raw, which names {len(names)} elements.")
    elements = np.array([NUMBERS[name] for name in names])
    atoms = len(types)
    for name, arrays in sets.items():
        for key in ("coord", "box") if periodic else ("coord",):
            if key not in arrays:
                hint = "; put an empty file 'nopbc' beside type.raw if there is no cell" if key == "box" else ""
                raise LamError(f"{where}: {name} has no {key}.npy{hint}.")
        frames = len(arrays["coord"])
        widths = {"coord": 3 * atoms, "force": 3 * atoms, "box": 9, "virial": 9, "energy": 1}
        widths |= {"real_atom_types": atoms, "charge_spin": 2}
        for key, data in arrays.items():
            size = int(np.prod(data.shape))
            if len(data) != frames or size != frames * widths[key]:
                raise LamError(
                    f"{where}: {name}/{key}.npy has shape {tuple(data.shape)} instead of {(frames, widths[key])} "
                    f"({atoms} atoms in type.raw)."
                )
    return System(where, source, group, types, elements, periodic, list(sets.values()), spins)


def _frames(system: System, start: int, stop: int) -> Iterator[Structure | LamError]:
    if system.spins:
        warnings.warn(
            f"{system.where} has the moments of atoms ({_SPINS}), which are not read.", LamWarning, stacklevel=2
        )
    passed = 0
    for arrays, count in zip(system.sets, system.frames, strict=True):
        for first in range(max(start - passed, 0), min(stop - passed, count), _BLOCK):
            rows = slice(first, min(first + _BLOCK, stop - passed, count))
            block = {key: np.asarray(data[rows]) for key, data in arrays.items()}
            yield from _block(system, block, passed + first)
        passed += count


def _block(system: System, arrays: dict[str, np.ndarray], start: int) -> Iterator[Structure | LamError]:
    count, atoms = len(arrays["coord"]), len(system.types)
    arrays = {key: values.astype(np.float64) for key, values in arrays.items()}
    block = Block(
        numbers=system.elements[system.types],
        positions=arrays["coord"].reshape(count, atoms, 3),
        cells=arrays["box"].reshape(count, 3, 3) if system.periodic else None,
        energies=arrays["energy"].reshape(count) if "energy" in arrays else None,
        forces=arrays["force"].reshape(count, atoms, 3) if "force" in arrays else None,
        group=system.group,
        source=system.source,
        start=start,
    )
    if block.cells is not None and "virial" in arrays:
        volumes = np.abs(np.linalg.det(block.cells))
        volumes[volumes == 0] = np.nan  # refused by its cell, with a better message
        block.stresses = -arrays["virial"].reshape(count, 3, 3) / volumes[:, None, None]
    if "real_atom_types" in arrays:
        yield from _mixed(system, block, arrays)
    elif "charge_spin" in arrays:
        for row, state in enumerate(arrays["charge_spin"].reshape(count, 2)):
            yield from _one(block, row, np.arange(atoms), state)
    else:
        yield from block.frames(range(count))


def _mixed(system: System, block: Block, arrays: dict[str, np.ndarray]) -> Iterator[Structure | LamError]:
    """Yield frames whose elements differ; type -1 is no atom."""
    count, atoms = block.positions.shape[:2]
    types = arrays["real_atom_types"].reshape(count, atoms).astype(np.int64)
    states = arrays["charge_spin"].reshape(count, 2) if "charge_spin" in arrays else [None] * count
    for row in range(count):
        if types[row].min() < -1 or types[row].max() >= len(system.elements):
            yield LamError(f"{block.source}#{block.start + row}: real_atom_types has types outside of type_map.raw.")
            continue
        there = np.flatnonzero(types[row] >= 0)
        block.numbers = system.elements[types[row]]
        block.group = formula(block.numbers[there])
        yield from _one(block, row, there, states[row])


def _one(block: Block, row: int, atoms: np.ndarray, state: np.ndarray | None) -> Iterator[Structure | LamError]:
    """Yield one frame with some of its atoms; ``state`` is charge and multiplicity."""
    charge, multiplicity = (None, None) if state is None else state.tolist()
    part = slice(row, row + 1)
    yield from Block(
        numbers=block.numbers[atoms],
        positions=block.positions[part, atoms],
        cells=None if block.cells is None else block.cells[part],
        energies=None if block.energies is None else block.energies[part],
        forces=None if block.forces is None else block.forces[part, atoms],
        stresses=None if block.stresses is None else block.stresses[part],
        group=block.group,
        source=block.source,
        start=block.start + row,
        charge=charge,
        multiplicity=multiplicity or None,
    ).frames(range(1))


def _mapped(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # of a damaged header, NumPy raises what its parser does
        raise LamError(f"Cannot read '{path}': it is truncated, damaged or no .npy file ({error}).") from None


def _integers(values: Any, where: str) -> np.ndarray:
    try:
        return np.array(values, dtype=np.float64).astype(np.int64)
    except ValueError:
        raise LamError(f"{where}: type.raw does not hold whole numbers.") from None


DEEPMD = Recipe(
    name="deepmd",
    title="DeePMD systems as folders of .npy files, plain or of mixed type",
    level_of_theory="not stated",
    licence="not stated",
    doi="",
    files="folders with type.raw, type_map.raw and set.*/*.npy, as deepmd-kit and dpdata write them.",
    labels=(
        Label("positions", "coord.npy", "Angstrom"),
        Label("energy", "energy.npy", "eV"),
        Label("forces", "force.npy", "eV/Angstrom"),
        Label("stress", "virial.npy", "eV", "virial, compressive positive: divided by -volume"),
        Label("total_charge", "charge_spin.npy", "e", "first column, where the file is there"),
        Label("spin_multiplicity", "charge_spin.npy", "", "second column, 2S+1; 0 is not stated"),
    ),
    find=find_folders,
    parts=parts_of_folder,
    read=read_folder,
    notes="The group is the folder; for mixed type it is the formula. Frame parameters (fparam.npy) have no common "
    "meaning and are not read: a charge that stands there is lost; so are the moments of atoms (spin.npy, "
    "force_mag.npy), with a message. Data in single precision carry errors of up to "
    "1e-7 of the total energy.",
)

DEEPMD_HDF5 = replace(
    DEEPMD,
    name="deepmd-hdf5",
    title="DeePMD systems in HDF5 files (OpenLAM)",
    files="HDF5 files with a group for each system, as dpdata's deepmd/hdf5 writes them.",
    find=files_with(*SUFFIXES),
    parts=parts_of_hdf5,
    read=read_hdf5,
)

RECIPES = (DEEPMD, DEEPMD_HDF5)
