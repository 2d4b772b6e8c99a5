"""A folder of shards as one data set: read like a single shard, with a small index in memory.

The shards ``part-*.h5`` are counted through in the order of their names. What training must know about all
structures at once (sizes, groups, labels, pairs) is gathered once in ``index.h5``, 17 bytes for each structure
and 4 for each of the pair radii; everything else is read from the shards when it is asked for.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lam.atomic_write import atomic_file
from lam.data.shards import PARTS, Shard, interpolate_edges
from lam.data.structure import MAX_ATOMIC_NUMBER, Structure
from lam.errors import LamError

INDEX = "index.h5"
INDEX_SCHEMA = "lam-index"
INDEX_VERSION = 1
UNFINISHED = "unfinished"
"""A file of this name says that shards are still being written: a data set with losses must not be trained on."""
MAX_OPEN = 512
"""Shards whose files are open at a time in each process, 0.2 MiB each; fewer where the system allows less."""
OF_ONE_PART = ("part", "file", "file_sha256")
"""Attributes that tell of one shard, not of the data set."""
_WIDTH = MAX_ATOMIC_NUMBER + 1
_BLOCK = 100_000


@dataclass(frozen=True)
class GroupElements:
    """In how many structures of each group each element occurs: only pairs that occur are stored."""

    group: np.ndarray
    """(K,) int64, index of the group."""
    element: np.ndarray
    """(K,) int64, atomic number."""
    count: np.ndarray
    """(K,) int64, number of structures."""


class Shards:
    """Many shards behind the interface of :class:`~lam.data.shards.Shard`. Forks, pickles and spawns safely.

    Args:
        path: a folder with ``part-*.h5``, as ``lam data convert`` writes it. The index is made when it is missing
            or older than a shard, and stored where the folder can be written.

    Raises:
        LamError: if there are no shards, or one is damaged, no shard, or of a newer version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._files = sorted(self.path.glob(PARTS))
        if not self._files:
            raise LamError(f"The folder '{self.path}' holds no shards '{PARTS}'. Make them with: lam data convert.")
        if (self.path / UNFINISHED).exists():
            raise LamError(
                f"The conversion to '{self.path}' was not finished: run the same 'lam data convert' again, which goes "
                "on where it stopped."
            )
        self._shards: OrderedDict[int, Shard] = OrderedDict()
        self._index = _load_index(self.path, self._files)
        self._first = self._index["first"]

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])

    def __len__(self) -> int:
        return int(self._first[-1])

    def __getitem__(self, row: int) -> Structure:
        shard, row = self._locate(row)
        return self._shard(shard)[row]

    def __iter__(self) -> Iterator[Structure]:
        for shard in self.pieces():
            yield from shard

    def pieces(self) -> Iterator[Shard]:
        """Yield the shards one after the other; each is closed before the next is opened."""
        for path in self._files:
            shard = Shard(path, allow_empty=True)
            yield shard
            shard.close()

    @property
    def files(self) -> list[Path]:
        """The shards, in order."""
        return list(self._files)

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """What is stored about the data set: level of theory, licence, source."""
        stored = self._shard(0).attributes
        return {key: value for key, value in stored.items() if key not in OF_ONE_PART}

    @property
    def n_atoms(self) -> np.ndarray:
        """Atoms of each structure, (S,) int32."""
        return self._index["n_atoms"]

    @property
    def masks(self) -> np.ndarray:
        """Which labels each structure has, (S,) uint8; see :attr:`Shard.masks`."""
        return self._index["mask"]

    @property
    def group_codes(self) -> np.ndarray:
        """Group of each structure as index into :attr:`group_names`, (S,) int32."""
        return self._index["group"]

    @cached_property
    def group_names(self) -> np.ndarray:
        """Names of the groups, (G,) object."""
        if "group_names" in self._index:
            return self._index["group_names"]
        with h5py.File(self.path / INDEX, "r") as file:
            return np.array(file["group_names"].asstr()[:], dtype=object)

    @property
    def groups(self) -> np.ndarray:
        """Group name of each structure, (S,) object."""
        return self.group_names[self.group_codes]

    @property
    def energies(self) -> np.ndarray:
        """Energies, (S,) float64, eV; 0 where there is no label. Read from all shards, as the columns below."""
        return self._gather(lambda shard: shard.energies)

    @property
    def periodic(self) -> np.ndarray:
        """Is each structure periodic in any direction? (S,) bool."""
        return self._gather(lambda shard: shard.periodic)

    @property
    def shortest_distances(self) -> np.ndarray:
        """Distance of each structure's nearest pair, (S,) float64, Angstrom; infinite beyond 6 Angstrom."""
        return self._gather(lambda shard: shard.shortest_distances)

    @property
    def stresses(self) -> np.ndarray:
        """Stress, (S, 3, 3) float64, eV/Angstrom^3; 0 where there is no label."""
        return self._gather(lambda shard: shard.stresses)

    @property
    def cells(self) -> np.ndarray:
        """Lattice vectors, (S, 3, 3) float64, Angstrom."""
        return self._gather(lambda shard: shard.cells)

    @property
    def total_charges(self) -> np.ndarray:
        """Total charges, (S,) float64, e; 0 where not stated."""
        return self._gather(lambda shard: shard.total_charges)

    @property
    def spin_multiplicities(self) -> np.ndarray:
        """Spin multiplicities, (S,) float64; 1 where not stated."""
        return self._gather(lambda shard: shard.spin_multiplicities)

    def source_of(self, row: int) -> str:
        """Return the name of a structure in its original file, ``"file.extxyz.xz#12"``."""
        shard, row = self._locate(row)
        return self._shard(shard).source_of(row)

    def compositions(self) -> np.ndarray:
        """Return how many atoms of each element each structure has, (S, 119) int32: 476 bytes for each structure."""
        return self._gather(lambda shard: shard.compositions())

    def group_elements(self) -> GroupElements:
        """Return which elements occur in which groups: what a split must know, without a row for each structure."""
        keys, counts = self._index.get("element_keys"), self._index.get("element_counts")
        if keys is None:
            with h5py.File(self.path / INDEX, "r") as file:
                keys, counts = file["element_keys"][:], file["element_counts"][:]
        return GroupElements(keys // _WIDTH, keys % _WIDTH, counts)

    def elements_of(self, rows: np.ndarray) -> np.ndarray:
        """Return which elements the structures of ``rows`` (rising) have, (119,) bool."""
        found = np.zeros(_WIDTH, dtype=bool)
        for shard, own in self.by_piece(rows):
            chosen = np.zeros(len(shard), dtype=bool)
            chosen[own] = True
            found[shard.numbers()[np.repeat(chosen, shard.n_atoms)]] = True
        return found

    def read_forces(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Return the forces of ``rows`` (default: all that have force labels), (atoms, 3), eV/Angstrom."""
        chosen = np.arange(len(self)) if rows is None else np.unique(rows)
        parts = [shard.read_forces(own) for shard, own in self.by_piece(chosen)]
        return np.concatenate(parts) if parts else np.empty((0, 3))

    def estimate_edges(self, cutoff: float) -> np.ndarray:
        """Return the number of directed edges of each structure, (S,) float32; see :meth:`Shard.estimate_edges`."""
        radii = self.attributes["pair_radii"]
        edges = np.empty(len(self), dtype=np.float32)
        if "pair_counts" in self._index:
            edges[:] = interpolate_edges(self._index["pair_counts"], radii, cutoff)
            return edges
        with h5py.File(self.path / INDEX, "r") as file:
            for start in range(0, len(self), _BLOCK):
                counts = file["pair_counts"][start : start + _BLOCK]
                edges[start : start + _BLOCK] = interpolate_edges(counts, radii, cutoff)
        return edges

    def close(self) -> None:
        """Close all files; they open again when needed."""
        while self._shards:
            self._shards.popitem()[1].close()

    def _locate(self, row: int) -> tuple[int, int]:
        row = int(row)
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of '{self.path}', which has {len(self)} structures")
        shard = int(np.searchsorted(self._first, row, side="right")) - 1
        return shard, row - int(self._first[shard])

    def _shard(self, number: int) -> Shard:
        if number in self._shards:
            self._shards.move_to_end(number)
        else:
            if len(self._shards) >= min(MAX_OPEN, _allowed_files() // 2):
                self._shards.popitem(last=False)[1].close()
            self._shards[number] = Shard(self._files[number], light=True, allow_empty=True)
        return self._shards[number]

    def by_piece(self, rows: np.ndarray) -> Iterator[tuple[Shard, np.ndarray]]:
        """Yield each shard that has some of ``rows`` (rising), with its own numbers of them."""
        for number, path in enumerate(self._files):
            low, high = np.searchsorted(rows, self._first[number : number + 2])
            if low < high:
                shard = Shard(path, light=True, allow_empty=True)
                yield shard, rows[low:high] - self._first[number]
                shard.close()

    def _gather(self, read: Callable[[Shard], np.ndarray]) -> np.ndarray:
        return np.concatenate([read(shard) for shard in self.pieces()])


@cache
def _allowed_files() -> int:
    """Return how many files this process may have open."""
    try:
        import resource

        return max(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 8)
    except ImportError:  # not on Windows
        return 512


def write_index(folder: str | Path) -> None:
    """Write the index of a folder of shards, if it has none that is up to date.

    Raises:
        LamError: if a shard cannot be read.
    """
    folder = Path(folder)
    files = sorted(folder.glob(PARTS))
    if _stored_index(folder, files) is None:
        _store(folder, _build_index(files))


def _load_index(folder: Path, files: list[Path]) -> dict[str, np.ndarray]:
    index = _stored_index(folder, files)
    if index is None:
        index = _build_index(files)
        try:
            _store(folder, index)
        except OSError:  # a folder that cannot be written: the index stays in memory
            return index
        index = _stored_index(folder, files) or index
    return index


def _fingerprint(files: list[Path]) -> str:
    """Names, sizes and times of change: what an index must agree with."""
    return "\n".join(f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files)


def _stored_index(folder: Path, files: list[Path]) -> dict[str, np.ndarray] | None:
    """Return the columns that stay in memory; the others are read from the file when needed."""
    path = folder / INDEX
    try:
        with h5py.File(path, "r") as file:
            known = file.attrs.get("schema") == INDEX_SCHEMA and int(file.attrs["schema_version"]) == INDEX_VERSION
            if not known or file["shards"].asstr()[()] != _fingerprint(files):
                return None
            return {name: file[name][:] for name in ("first", "n_atoms", "mask", "group")}
    except (OSError, KeyError, RuntimeError):
        return None


def _build_index(files: list[Path]) -> dict[str, np.ndarray]:
    codes: dict[str, int] = {}
    columns: dict[str, list[np.ndarray]] = {name: [] for name in ("n_atoms", "mask", "group", "pair_counts")}
    keys, counts, radii = [], [], None
    for path in files:
        shard = Shard(path, light=True, allow_empty=True)
        if radii is not None and shard.attributes["pair_radii"] != radii:
            raise LamError(f"'{path}' counts pairs within other radii than '{files[0]}'; convert both again.")
        radii = shard.attributes["pair_radii"]
        local = np.array([codes.setdefault(str(name), len(codes)) for name in shard.group_names], dtype=np.int32)
        group = local[shard.group_codes]
        columns["n_atoms"].append(shard.n_atoms.astype(np.int32))
        columns["mask"].append(shard.masks)
        columns["group"].append(group)
        columns["pair_counts"].append(shard.column("pair_counts").astype(np.int32))
        # The elements of each structure once, then the structures of each group that have them.
        owner = np.repeat(np.arange(len(shard)), shard.n_atoms)
        present = np.unique(owner * _WIDTH + shard.numbers())
        found, number = np.unique(group[present // _WIDTH] * np.int64(_WIDTH) + present % _WIDTH, return_counts=True)
        keys.append(found)
        counts.append(number)
        shard.close()
    unique, place = np.unique(np.concatenate(keys), return_inverse=True)
    index = {name: np.concatenate(parts) for name, parts in columns.items()}
    sizes = [len(part) for part in columns["mask"]]
    return index | {
        "first": np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        "group_names": np.array(list(codes), dtype=object),
        "element_keys": unique,
        "element_counts": np.bincount(place, weights=np.concatenate(counts)).astype(np.int64),
        "shards": np.array(_fingerprint(files), dtype=object),
    }


def _store(folder: Path, index: dict[str, np.ndarray]) -> None:
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"'{folder}' cannot be written")
    with atomic_file(folder / INDEX) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["schema"], file.attrs["schema_version"] = INDEX_SCHEMA, INDEX_VERSION
        for name, values in index.items():
            text = {"dtype": h5py.string_dtype("utf-8")} if values.dtype == object else {}
            checked = {} if values.ndim == 0 else {"fletcher32": True, "chunks": True}
            file.create_dataset(name, data=values, **text, **({} if text else checked))
