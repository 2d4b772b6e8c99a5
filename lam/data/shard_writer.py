"""Write shards: structures are gathered, and turned into columns many at a time.

The layout is documented in ``docs/data-schema.md``; change both together, and raise
:data:`SCHEMA_VERSION` when an old reader would misunderstand a new file.
"""

from __future__ import annotations

import warnings
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from ase.data import chemical_symbols

from lam.atomic_write import atomic_file
from lam.data.pair_counts import OVERLAP, count_pairs
from lam.data.structure import Structure
from lam.errors import LamError, LamWarning

SCHEMA = "lam-structures"
SCHEMA_VERSION = 1
UNITS = "eV, Angstrom, eV/Angstrom, eV/Angstrom^3 (stress: tensile positive), elementary charges"
CHUNK_ROWS = 1024
CHUNK_BYTES = 4096
"""Chunks are no larger: a structure read alone brings in, and checks, a chunk of every column."""
FLUSH_ATOMS = 100_000

# Bits of the per-structure mask.
HAS_ENERGY, HAS_FORCES, HAS_STRESS, HAS_CHARGE, HAS_SPIN = 1, 2, 4, 8, 16

#: Directed pairs are counted within these distances (Angstrom), for the edge budget of batches.
PAIR_RADII = (3.0, 4.0, 4.5, 5.0, 5.5, 6.0)

PER_ATOM: dict[str, tuple[tuple[int, ...], str]] = {
    "numbers": ((), "u1"),
    "positions": ((3,), "f8"),
    "forces": ((3,), "f8"),
}
PER_STRUCTURE: dict[str, tuple[tuple[int, ...], str]] = {
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
_NO_STRESS = np.zeros((3, 3))


class ShardWriter:
    """Write structures to a shard. The file appears, whole, when the ``with`` block ends well.

    Atoms that overlap give a :class:`~lam.errors.LamWarning` that names the structure, when its batch is written.

    Args:
        path: the file to write; an existing one is replaced.
        allow_empty: write a shard even if it has no structures: one of several, whose frames were all skipped.
        attributes: text and numbers stored with the file, such as ``level_of_theory``, ``licence``, ``source``.
    """

    def __init__(self, path: str | Path, *, allow_empty: bool = False, **attributes: str | int | float) -> None:
        self.path = Path(path)
        self.allow_empty = allow_empty
        self.skipped: list[str] = []
        """Frames that were left out, as ``["source", "reason"]`` in JSON; stored with the shard."""
        self.attributes = {"level_of_theory": "not stated", "licence": "not stated", "source": "", **attributes}
        self._names: dict[str, dict[str, int]] = {"group": {}, "source": {}}
        self._waiting: list[Structure] = []
        self._waiting_atoms = 0
        self._sizes: list[np.ndarray] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        temporary = self._stack.enter_context(atomic_file(self.path))
        self._file = self._stack.enter_context(h5py.File(temporary, "w"))
        for folder, fields in (("atoms", PER_ATOM), ("structures", PER_STRUCTURE)):
            for name, (shape, kind) in fields.items():
                row = np.dtype(kind).itemsize * int(np.prod(shape, dtype=int))
                self._file.create_dataset(
                    f"{folder}/{name}",
                    (0, *shape),
                    kind,
                    maxshape=(None, *shape),
                    chunks=(min(CHUNK_ROWS, CHUNK_BYTES // row), *shape),
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
        self._waiting.append(structure)
        self._waiting_atoms += len(structure)
        if self._waiting_atoms >= FLUSH_ATOMS:
            self._flush()

    def _flush(self) -> None:
        batch, self._waiting, self._waiting_atoms = self._waiting, [], 0
        if not batch:
            return
        sizes = np.array([len(structure) for structure in batch])
        self._sizes.append(sizes)
        atoms = {
            "numbers": np.concatenate([s.numbers for s in batch]),
            "positions": np.concatenate([s.positions for s in batch]),
            "forces": np.concatenate(
                [np.zeros((size, 3)) if s.forces is None else s.forces for s, size in zip(batch, sizes, strict=True)]
            ),
        }
        columns = self._columns(batch)
        offset = np.concatenate([[0], np.cumsum(sizes)])
        pairs = count_pairs(atoms["numbers"], atoms["positions"], offset, columns["cell"], columns["pbc"], PAIR_RADII)
        columns |= {"pair_counts": pairs.counts, "shortest_distance": pairs.shortest}
        for row in np.flatnonzero(pairs.closeness < OVERLAP):
            _warn_of_overlap(batch[row], pairs.closest[row], float(pairs.closest_distance[row]))
        for name in PER_ATOM:
            _extend(self._file[f"atoms/{name}"], atoms[name])
        for name in PER_STRUCTURE:
            _extend(self._file[f"structures/{name}"], columns[name])

    def _columns(self, batch: list[Structure]) -> dict[str, np.ndarray]:
        """Return the columns of a batch but those about pairs."""
        origins = [split_source(structure.source) for structure in batch]
        return {
            "cell": np.array([s.cell for s in batch]),
            "pbc": np.array([s.pbc for s in batch]),
            "energy": np.array([s.energy or 0.0 for s in batch]),
            "stress": np.array([_NO_STRESS if s.stress is None else s.stress for s in batch]),
            "total_charge": np.array([s.total_charge or 0.0 for s in batch]),
            "spin_multiplicity": np.array([s.spin_multiplicity or 1.0 for s in batch]),
            "mask": np.array([_mask(s) for s in batch]),
            "group": np.array([self._name("group", s.group) for s in batch]),
            "source": np.array([self._name("source", name) for name, _ in origins]),
            "frame": np.array([frame for _, frame in origins]),
        }

    def _name(self, table: str, name: str) -> int:
        return self._names[table].setdefault(name, len(self._names[table]))

    def _finish(self) -> None:
        self._flush()
        if not (self._sizes or self.allow_empty):
            raise LamError(f"There are no structures to write to '{self.path}'.")
        sizes = np.concatenate([np.zeros(1, dtype=np.int64), *self._sizes])
        self._file["structures/offset"] = np.cumsum(sizes)
        text = h5py.string_dtype("utf-8")
        if self.skipped:
            self._file.create_dataset("skipped", data=np.array(self.skipped, dtype=object), dtype=text)
        for table, names in self._names.items():
            self._file.create_dataset(f"names/{table}", data=np.array(list(names), dtype=object), dtype=text)
        attributes: dict[str, Any] = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "units": UNITS}
        attributes |= self.attributes | {"pair_radii": np.array(PAIR_RADII)}
        for key, value in attributes.items():
            self._file.attrs[key] = value


def split_source(source: str) -> tuple[str, int]:
    """Return file and frame of ``"file.extxyz#12"``; the frame is -1 if there is none."""
    name, sign, frame = source.rpartition("#")
    return (name, int(frame)) if sign and frame.isdecimal() else (source, -1)


def _mask(structure: Structure) -> int:
    return (
        HAS_ENERGY * (structure.energy is not None)
        | HAS_FORCES * (structure.forces is not None)
        | HAS_STRESS * (structure.stress is not None)
        | HAS_CHARGE * (structure.total_charge is not None)
        | HAS_SPIN * (structure.spin_multiplicity is not None)
    )


def _warn_of_overlap(structure: Structure, pair: np.ndarray, distance: float) -> None:
    first, second = (chemical_symbols[z] for z in structure.numbers[pair])
    warnings.warn(
        f"{structure.where}: {first} and {second} atoms overlap ({distance:.2f} Angstrom apart); "
        "its energy and forces mean nothing. Check the positions.",
        LamWarning,
        stacklevel=3,
    )


def _extend(dataset: h5py.Dataset, values: np.ndarray) -> None:
    start = dataset.shape[0]
    dataset.resize(start + len(values), axis=0)
    dataset[start:] = values
