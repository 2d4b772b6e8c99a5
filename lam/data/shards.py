"""Read HDF5 shards: many structures in one file, random access, one handle per process.

The layout is documented in ``docs/data-schema.md``; shards are written by :mod:`lam.data.shard_writer`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from lam.data.shard_writer import (
    HAS_CHARGE,
    HAS_ENERGY,
    HAS_FORCES,
    HAS_SPIN,
    HAS_STRESS,
    PAIR_RADII,
    SCHEMA,
    SCHEMA_VERSION,
    ShardWriter,
)
from lam.data.structure import MAX_ATOMIC_NUMBER, Structure
from lam.errors import LamError

if TYPE_CHECKING:
    from lam.data.shard_folder import Shards

__all__ = [
    "HAS_CHARGE",
    "HAS_ENERGY",
    "HAS_FORCES",
    "HAS_SPIN",
    "HAS_STRESS",
    "PAIR_RADII",
    "SCHEMA_VERSION",
    "Shard",
    "ShardWriter",
    "is_shard",
    "open_shard",
]

SUFFIXES = (".h5", ".hdf5")
PARTS = "part-*.h5"
"""Names of the shards in a folder that is one data set."""
_LIGHT_CACHE = 64 * 1024  # bytes of chunks kept for each column of a light shard: rows asked for are far apart


def is_shard(path: str | Path) -> bool:
    """Does the path look like a shard (``.h5``) or a folder of shards (``part-*.h5``)?"""
    path = Path(path)
    if path.is_dir():
        return next(path.glob(PARTS), None) is not None
    return path.suffix.lower() in SUFFIXES


def open_shard(path: str | Path) -> Shard | Shards:
    """Open a shard, or a folder of shards as one.

    Raises:
        LamError: if it is missing, damaged, no shard, or of a newer version.
    """
    if Path(path).is_dir():
        from lam.data.shard_folder import Shards

        return Shards(path)
    return Shard(path)


class Shard:
    """Read a shard: ``shard[i]`` is a validated :class:`Structure`. Forks, pickles and spawns safely.

    Args:
        path: a file written by :class:`ShardWriter`.
        light: keep nothing of ``/structures`` in memory but the offsets: for the many shards of a large data set.
        allow_empty: open even a shard without structures: one of several, whose frames were all skipped.

    Raises:
        LamError: if the file is missing, damaged, no shard, or of a newer version.
    """

    def __init__(self, path: str | Path, *, light: bool = False, allow_empty: bool = False) -> None:
        self.path = Path(path)
        self.light = light
        self.allow_empty = allow_empty
        self._file: h5py.File | None = None
        self._pid = -1
        self._datasets: dict[str, h5py.Dataset] = {}
        self._columns: dict[str, np.ndarray] = {}
        self._tables: dict[str, np.ndarray] = {}
        self._offset = self.column("offset")
        if len(self._offset) < 2 and not allow_empty:
            raise LamError(f"'{self.path}' holds no structures; convert it again with --force.")

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "light": self.light, "allow_empty": self.allow_empty}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)

    def __len__(self) -> int:
        return len(self._offset) - 1

    def __getitem__(self, row: int) -> Structure:
        row = int(row)
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of '{self.path}', which has {len(self)} structures")
        start, stop = int(self._offset[row]), int(self._offset[row + 1])
        value = self._value
        try:
            mask = int(value("mask", row))
            return Structure(
                numbers=self._dataset("atoms/numbers")[start:stop],
                positions=self._dataset("atoms/positions")[start:stop],
                cell=value("cell", row),
                pbc=value("pbc", row),
                total_charge=float(value("total_charge", row)) if mask & HAS_CHARGE else None,
                spin_multiplicity=float(value("spin_multiplicity", row)) if mask & HAS_SPIN else None,
                energy=float(value("energy", row)) if mask & HAS_ENERGY else None,
                forces=self._dataset("atoms/forces")[start:stop] if mask & HAS_FORCES else None,
                stress=value("stress", row) if mask & HAS_STRESS else None,
                group=self._label("group", row),
                source=self.source_of(row),
            )
        except (OSError, KeyError, RuntimeError) as error:
            raise LamError(f"Cannot read {self._where(row)} from '{self.path}': {error}.") from None

    def __iter__(self) -> Iterator[Structure]:
        return (self[row] for row in range(len(self)))

    def pieces(self) -> Iterator[Shard]:
        """Yield the shard itself: for loops that also take a folder of shards, of which one is open at a time."""
        yield self

    def by_piece(self, rows: np.ndarray) -> Iterator[tuple[Shard, np.ndarray]]:
        """Yield the shard itself with ``rows``, as :meth:`pieces` does."""
        yield self, rows

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """What is stored about the whole file: level of theory, licence, source, checksums."""
        return {key: value.tolist() if hasattr(value, "tolist") else value for key, value in self._open().attrs.items()}

    @property
    def n_atoms(self) -> np.ndarray:
        """Atoms of each structure, (S,) int64."""
        return np.diff(self._offset)

    @property
    def energies(self) -> np.ndarray:
        """Energies, (S,) float64, eV; 0 where there is no label (see :attr:`masks`)."""
        return self._kept("energy")

    @property
    def masks(self) -> np.ndarray:
        """Which labels each structure has, (S,) uint8: bits HAS_ENERGY, HAS_FORCES, ... of this module."""
        return self._kept("mask")

    @property
    def groups(self) -> np.ndarray:
        """Group name of each structure, (S,) object."""
        return self.group_names[self.group_codes]

    @property
    def group_codes(self) -> np.ndarray:
        """Group of each structure as index into :attr:`group_names`, (S,) int32."""
        return self._kept("group")

    @property
    def group_names(self) -> np.ndarray:
        """Names of the groups, (G,) object."""
        return self._table("group")

    @property
    def periodic(self) -> np.ndarray:
        """Is each structure periodic in any direction? (S,) bool."""
        return self._kept("pbc").any(axis=1)

    @property
    def shortest_distances(self) -> np.ndarray:
        """Distance of each structure's nearest pair, (S,) float64, Angstrom; infinite beyond 6 Angstrom."""
        return self.column("shortest_distance")

    @property
    def stresses(self) -> np.ndarray:
        """Stress, (S, 3, 3) float64, eV/Angstrom^3; 0 where there is no label."""
        return self._kept("stress")

    @property
    def cells(self) -> np.ndarray:
        """Lattice vectors, (S, 3, 3) float64, Angstrom."""
        return self._kept("cell")

    @property
    def total_charges(self) -> np.ndarray:
        """Total charges, (S,) float64, e; 0 where not stated."""
        return self._kept("total_charge")

    @property
    def spin_multiplicities(self) -> np.ndarray:
        """Spin multiplicities, (S,) float64; 1 where not stated."""
        return self._kept("spin_multiplicity")

    def source_of(self, row: int) -> str:
        """Return the name of a structure in its original file, ``"file.extxyz.xz#12"``."""
        name, frame = self._label("source", row), int(self._value("frame", row))
        return name if frame < 0 else f"{name}#{frame}"

    def skipped(self) -> list[str]:
        """Return which frames of the source were left out: ``["source", "reason"]`` in JSON for each."""
        file = self._open()
        return file["skipped"].asstr()[:].tolist() if "skipped" in file else []

    def numbers(self) -> np.ndarray:
        """Return the atomic numbers of all structures, one after the other, (atoms,) uint8."""
        return self._open()["atoms/numbers"][:]

    def compositions(self) -> np.ndarray:
        """Return how many atoms of each element each structure has, (S, 119) int32, column = Z."""
        numbers = self.numbers().astype(np.int64)
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
        return interpolate_edges(self.column("pair_counts"), self.attributes["pair_radii"], cutoff)

    def close(self) -> None:
        """Close the file; it opens again when needed."""
        if self._file is not None and self._pid == os.getpid():
            self._file.close()
        self._file, self._datasets = None, {}

    def column(self, name: str) -> np.ndarray:
        """Return a column of ``/structures`` (see ``docs/data-schema.md``), read from the file."""
        try:
            return self._open()[f"structures/{name}"][:]
        except (OSError, KeyError, RuntimeError) as error:
            raise LamError(f"'{self.path}' is damaged ({error}); convert it again with --force.") from None

    def _kept(self, name: str) -> np.ndarray:
        """Return a column, and keep it."""
        if self.light:
            return self.column(name)
        if name not in self._columns:
            self._columns[name] = self.column(name)
        return self._columns[name]

    def _value(self, name: str, row: int) -> Any:
        return self._dataset(f"structures/{name}")[row] if self.light else self._kept(name)[row]

    def _table(self, table: str) -> np.ndarray:
        if table not in self._tables:
            self._tables[table] = np.array(self._open()[f"names/{table}"].asstr()[:], dtype=object)
        return self._tables[table]

    def _label(self, table: str, row: int) -> str:
        return str(self._table(table)[self._value(table, row)])

    def _where(self, row: int) -> str:
        try:
            return self.source_of(row)
        except (OSError, KeyError, RuntimeError, LamError):
            return f"row {row}"

    def _dataset(self, name: str) -> h5py.Dataset:
        # Looking a data set up by name costs more than reading a molecule: keep them with the handle.
        file = self._open()
        if name not in self._datasets:
            self._datasets[name] = file[name]
        return self._datasets[name]

    def _open(self) -> h5py.File:
        # A handle inherited through fork shares its file position and caches with the parent: open our own.
        if self._file is None or self._pid != os.getpid():
            self._file = _open_checked(self.path, self.light)
            self._pid = os.getpid()
            self._datasets = {}
        return self._file


def interpolate_edges(counts: np.ndarray, radii: np.ndarray, cutoff: float) -> np.ndarray:
    """Return the number of edges within ``cutoff`` from the pairs counted within ``radii``.

    Args:
        counts: (S, R) directed pairs.
        radii: (R,) rising, Angstrom.
        cutoff: Angstrom.
    """
    counts, radii = counts.astype(np.float64), np.asarray(radii)
    if cutoff >= radii[-1]:
        return counts[:, -1] * (cutoff / radii[-1]) ** 3
    volumes = np.concatenate([[0.0], radii**3])
    counts = np.concatenate([np.zeros((len(counts), 1)), counts], axis=1)
    upper = int(np.searchsorted(volumes, cutoff**3))
    share = (cutoff**3 - volumes[upper - 1]) / (volumes[upper] - volumes[upper - 1])
    return counts[:, upper - 1] * (1 - share) + counts[:, upper] * share


def _open_checked(path: Path, light: bool = False) -> h5py.File:
    if not path.is_file():
        raise LamError(f"There is no shard '{path}'. Make it with: lam data convert FILE -o FOLDER.")
    try:
        file = h5py.File(path, "r", **({"rdcc_nbytes": _LIGHT_CACHE} if light else {}))
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
