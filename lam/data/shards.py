"""HDF5 shards: many structures in one file, random access, one handle per process.

The layout is documented in ``docs/data-schema.md``; change both together, and raise
:data:`SCHEMA_VERSION` when an old reader would misunderstand a new file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np

from lam.atomic_write import atomic_file
from lam.data.neighbors import find_pairs, warn_if_overlapping
from lam.data.structure import MAX_ATOMIC_NUMBER, Structure
from lam.errors import LamError

SCHEMA = "lam-structures"
SCHEMA_VERSION = 1
UNITS = "eV, Angstrom, eV/Angstrom, eV/Angstrom^3 (stress: tensile positive), elementary charges"
CHUNK_ROWS = 1024
FLUSH_ATOMS = 100_000

# Bits of the per-structure mask.
HAS_ENERGY, HAS_FORCES, HAS_STRESS, HAS_CHARGE, HAS_SPIN = 1, 2, 4, 8, 16

#: Directed pairs are counted within these distances (Angstrom), for the edge budget of batches.
PAIR_RADII = (3.0, 4.0, 4.5, 5.0, 5.5, 6.0)

_PER_ATOM: dict[str, tuple[tuple[int, ...], str]] = {
    "numbers": ((), "u1"),
    "positions": ((3,), "f8"),
    "forces": ((3,), "f8"),
}
_PER_STRUCTURE: dict[str, tuple[tuple[int, ...], str]] = {
    "cell": ((3, 3), "f8"),
    "pbc": ((3,), "u1"),
    "energy": ((), "f8"),
    "stress": ((3, 3), "f8"),
    "total_charge": ((), "f8"),
    "spin_multiplicity": ((), "f8"),
    "mask": ((), "u1"),
    "group": ((), "i4"),
    "source": ((), "i4"),
    "frame": ((), "i8"),
    "pair_counts": ((len(PAIR_RADII),), "i8"),
    "shortest_distance": ((), "f8"),
}


class ShardWriter:
    """Write structures to a shard. The file appears, whole, when the ``with`` block ends well.

    Args:
        path: the file to write; an existing one is replaced.
        attributes: text and numbers stored with the file, such as ``level_of_theory``, ``licence``, ``source``.
    """

    def __init__(self, path: str | Path, **attributes: str | int | float) -> None:
        self.path = Path(path)
        self.attributes = {"level_of_theory": "not stated", "licence": "not stated", "source": "", **attributes}
        self._names: dict[str, dict[str, int]] = {"group": {}, "source": {}}
        self._atoms: list[dict[str, np.ndarray]] = []
        self._structures: list[dict[str, Any]] = []
        self._sizes: list[int] = []
        self._buffered = 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        temporary = self._stack.enter_context(atomic_file(self.path))
        self._file = self._stack.enter_context(h5py.File(temporary, "w"))
        for folder, fields in (("atoms", _PER_ATOM), ("structures", _PER_STRUCTURE)):
            for name, (shape, kind) in fields.items():
                self._file.create_dataset(
                    f"{folder}/{name}",
                    (0, *shape),
                    kind,
                    maxshape=(None, *shape),
                    chunks=(CHUNK_ROWS, *shape),
                    fletcher32=True,  # a checksum: flipped bits are an error, not a label
                )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._finish()
        except BaseException as failure:
            self._stack.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self._stack.__exit__(kind, error, trace)

    def append(self, structure: Structure) -> None:
        """Add one structure."""
        count = len(structure)
        file_name, frame = _split_source(structure.source)
        pairs, _, distances = find_pairs(structure.positions, structure.cell, structure.pbc, PAIR_RADII[-1])
        warn_if_overlapping(structure.numbers, pairs, distances, structure.where)
        labels = (structure.energy, structure.forces, structure.stress)
        state = (structure.total_charge, structure.spin_multiplicity)
        mask = sum(1 << bit for bit, value in enumerate((*labels, *state)) if value is not None)
        self._atoms.append(
            {
                "numbers": structure.numbers,
                "positions": structure.positions,
                "forces": np.zeros((count, 3)) if structure.forces is None else structure.forces,
            }
        )
        self._structures.append(
            {
                "cell": structure.cell,
                "pbc": structure.pbc,
                "energy": structure.energy or 0.0,
                "stress": np.zeros((3, 3)) if structure.stress is None else structure.stress,
                "total_charge": structure.total_charge or 0.0,
                "spin_multiplicity": structure.spin_multiplicity or 1.0,
                "mask": mask,
                "group": self._name("group", structure.group),
                "source": self._name("source", file_name),
                "frame": frame,
                "pair_counts": [np.count_nonzero(distances < radius) for radius in PAIR_RADII],
                "shortest_distance": distances.min() if len(distances) else np.inf,
            }
        )
        self._sizes.append(count)
        self._buffered += count
        if self._buffered >= FLUSH_ATOMS:
            self._flush()

    def _name(self, table: str, name: str) -> int:
        return self._names[table].setdefault(name, len(self._names[table]))

    def _flush(self) -> None:
        if not self._structures:
            return
        for name in _PER_ATOM:
            _extend(self._file[f"atoms/{name}"], np.concatenate([part[name] for part in self._atoms]))
        for name in _PER_STRUCTURE:
            _extend(self._file[f"structures/{name}"], np.array([part[name] for part in self._structures]))
        self._atoms.clear()
        self._structures.clear()
        self._buffered = 0

    def _finish(self) -> None:
        if not self._sizes:
            raise LamError(f"There are no structures to write to '{self.path}'.")
        self._flush()
        self._file["structures/offset"] = np.concatenate([[0], np.cumsum(self._sizes)]).astype(np.int64)
        text = h5py.string_dtype("utf-8")
        for table, names in self._names.items():
            self._file.create_dataset(f"names/{table}", data=np.array(list(names), dtype=object), dtype=text)
        attributes = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "units": UNITS, **self.attributes}
        attributes["pair_radii"] = np.array(PAIR_RADII)
        for key, value in attributes.items():
            self._file.attrs[key] = value


class Shard:
    """Read a shard: ``shard[i]`` is a validated :class:`Structure`. Forks, pickles and spawns safely.

    Args:
        path: a file written by :class:`ShardWriter`.

    Raises:
        LamError: if the file is missing, damaged, no shard, or of a newer version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file: h5py.File | None = None
        self._pid = -1
        self._datasets: dict[str, h5py.Dataset] | None = None
        self._offset = self._index("offset")
        if len(self._offset) < 2:
            raise LamError(f"'{self.path}' holds no structures; convert it again with --force.")

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])

    def __len__(self) -> int:
        return len(self._offset) - 1

    def __getitem__(self, row: int) -> Structure:
        row = int(row)
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of '{self.path}', which has {len(self)} structures")
        start, stop = int(self._offset[row]), int(self._offset[row + 1])
        mask = int(self.masks[row])
        try:
            atoms = self._per_atom()
            numbers, positions = atoms["numbers"][start:stop], atoms["positions"][start:stop]
            forces = atoms["forces"][start:stop] if mask & HAS_FORCES else None
        except (OSError, KeyError, RuntimeError) as error:
            raise LamError(f"Cannot read {self.source_of(row)} from '{self.path}': {error}.") from None
        fields = self._fields
        return Structure(
            numbers=numbers,
            positions=positions,
            cell=fields["cell"][row],
            pbc=fields["pbc"][row],
            total_charge=float(fields["total_charge"][row]) if mask & HAS_CHARGE else None,
            spin_multiplicity=float(fields["spin_multiplicity"][row]) if mask & HAS_SPIN else None,
            energy=float(self.energies[row]) if mask & HAS_ENERGY else None,
            forces=forces,
            stress=fields["stress"][row] if mask & HAS_STRESS else None,
            group=str(self.groups[row]),
            source=self.source_of(row),
        )

    def __iter__(self) -> Iterator[Structure]:
        return (self[row] for row in range(len(self)))

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """What is stored about the whole file: level of theory, licence, source, checksums."""
        return {key: value.tolist() if hasattr(value, "tolist") else value for key, value in self._open().attrs.items()}

    @property
    def n_atoms(self) -> np.ndarray:
        """Atoms of each structure, (S,) int64."""
        return np.diff(self._offset)

    @cached_property
    def energies(self) -> np.ndarray:
        """Energies, (S,) float64, eV; 0 where there is no label (see :attr:`masks`)."""
        return self._index("energy")

    @cached_property
    def masks(self) -> np.ndarray:
        """Which labels each structure has, (S,) uint8: bits HAS_ENERGY, HAS_FORCES, ... of this module."""
        return self._index("mask")

    @cached_property
    def groups(self) -> np.ndarray:
        """Group name of each structure, (S,) object."""
        return self._names("group")[self._index("group")]

    @property
    def periodic(self) -> np.ndarray:
        """Is each structure periodic in any direction? (S,) bool."""
        return self._fields["pbc"].any(axis=1)

    @property
    def shortest_distances(self) -> np.ndarray:
        """Distance of each structure's nearest pair, (S,) float64, Angstrom; infinite beyond 6 Angstrom."""
        return self._index("shortest_distance")

    @property
    def stresses(self) -> np.ndarray:
        """Stress, (S, 3, 3) float64, eV/Angstrom^3; 0 where there is no label."""
        return self._fields["stress"]

    @property
    def cells(self) -> np.ndarray:
        """Lattice vectors, (S, 3, 3) float64, Angstrom."""
        return self._fields["cell"]

    @property
    def total_charges(self) -> np.ndarray:
        """Total charges, (S,) float64, e; 0 where not stated."""
        return self._fields["total_charge"]

    @property
    def spin_multiplicities(self) -> np.ndarray:
        """Spin multiplicities, (S,) float64; 1 where not stated."""
        return self._fields["spin_multiplicity"]

    def source_of(self, row: int) -> str:
        """Return the name of a structure in its original file, ``"file.extxyz.xz#12"``."""
        frame = int(self._frames[row])
        name = str(self._sources[row])
        return name if frame < 0 else f"{name}#{frame}"

    def compositions(self) -> np.ndarray:
        """Return how many atoms of each element each structure has, (S, 119) int32, column = Z."""
        numbers = self._open()["atoms/numbers"][:].astype(np.int64)
        width = MAX_ATOMIC_NUMBER + 1
        owner = np.repeat(np.arange(len(self)), self.n_atoms)
        return np.bincount(owner * width + numbers, minlength=len(self) * width).reshape(-1, width).astype(np.int32)

    def read_forces(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Return the forces of ``rows`` (default: all that have force labels), (atoms, 3), eV/Angstrom."""
        labelled = (self.masks & HAS_FORCES) > 0
        chosen = labelled if rows is None else labelled & np.isin(np.arange(len(self)), rows)
        return self._open()["atoms/forces"][:][np.repeat(chosen, self.n_atoms)]

    def estimate_edges(self, cutoff: float) -> np.ndarray:
        """Return the number of directed edges of each structure, (S,) float64.

        Exact at the radii of :data:`PAIR_RADII`; between them interpolated in the sphere's volume,
        beyond them scaled with it.
        """
        counts = self._index("pair_counts").astype(np.float64)
        radii = np.asarray(self.attributes["pair_radii"])
        if cutoff >= radii[-1]:
            return counts[:, -1] * (cutoff / radii[-1]) ** 3
        volumes = np.concatenate([[0.0], radii**3])
        counts = np.concatenate([np.zeros((len(self), 1)), counts], axis=1)
        upper = int(np.searchsorted(volumes, cutoff**3))
        share = (cutoff**3 - volumes[upper - 1]) / (volumes[upper] - volumes[upper - 1])
        return counts[:, upper - 1] * (1 - share) + counts[:, upper] * share

    def close(self) -> None:
        """Close the file; it opens again when needed."""
        if self._file is not None and self._pid == os.getpid():
            self._file.close()
        self._file = self._datasets = None

    @cached_property
    def _fields(self) -> dict[str, np.ndarray]:
        return {name: self._index(name) for name in ("cell", "pbc", "stress", "total_charge", "spin_multiplicity")}

    @cached_property
    def _frames(self) -> np.ndarray:
        return self._index("frame")

    @cached_property
    def _sources(self) -> np.ndarray:
        return self._names("source")[self._index("source")]

    def _index(self, name: str) -> np.ndarray:
        try:
            return self._open()[f"structures/{name}"][:]
        except (OSError, KeyError, RuntimeError) as error:
            raise LamError(f"'{self.path}' is damaged ({error}); convert it again with --force.") from None

    def _names(self, table: str) -> np.ndarray:
        return np.array(self._open()[f"names/{table}"].asstr()[:], dtype=object)

    def _per_atom(self) -> dict[str, h5py.Dataset]:
        # Looking a data set up by name costs more than reading a molecule: keep them with the handle.
        file = self._open()
        if self._datasets is None:
            self._datasets = {name: file[f"atoms/{name}"] for name in _PER_ATOM}
        return self._datasets

    def _open(self) -> h5py.File:
        # A handle inherited through fork shares its file position and caches with the parent: open our own.
        if self._file is None or self._pid != os.getpid():
            self._file = _open_checked(self.path)
            self._pid = os.getpid()
            self._datasets = None
        return self._file


def _open_checked(path: Path) -> h5py.File:
    if not path.is_file():
        raise LamError(f"There is no shard '{path}'. Make it with: lam data convert FILE -o FOLDER.")
    try:
        file = h5py.File(path, "r")
        schema, version = file.attrs.get("schema"), file.attrs.get("schema_version")
    except (OSError, RuntimeError) as error:
        raise LamError(f"'{path}' is damaged, truncated or no HDF5 file ({error}); convert it again.") from None
    if schema != SCHEMA:
        file.close()
        raise LamError(f"'{path}' is an HDF5 file, but no shard of lam. Make one with: lam data convert.")
    if int(version) > SCHEMA_VERSION:
        file.close()
        raise LamError(
            f"'{path}' has schema version {version}, and this lam reads up to {SCHEMA_VERSION}; use a newer lam."
        )
    return file


def _extend(dataset: h5py.Dataset, values: np.ndarray) -> None:
    start = dataset.shape[0]
    dataset.resize(start + len(values), axis=0)
    dataset[start:] = values


def _split_source(source: str) -> tuple[str, int]:
    name, sign, frame = source.rpartition("#")
    return (name, int(frame)) if sign and frame.isdecimal() else (source, -1)
