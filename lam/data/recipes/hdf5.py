"""Read HDF5 files that hold a group for each molecule; messages name the file, the group and the data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from lam.data.recipes.base import PART_STRUCTURES, Part, check_unpacked
from lam.errors import LamError

SUFFIXES = (".hdf5", ".h5")


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading; whatever h5py cannot read in it becomes a sentence.

    Raises:
        LamError: if the file is missing, no HDF5 file, truncated or damaged.
    """
    if not path.is_file():
        raise LamError(f"There is no file '{path}'.")
    check_unpacked(path)
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError, ValueError) as error:  # depending on what is damaged
        reason = " ".join(str(error).split()).rstrip(".")
        raise LamError(f"Cannot read '{path}': it is damaged, truncated or no HDF5 file ({reason}).") from None


def dataset(group: h5py.Group, key: str, where: str) -> h5py.h5d.DatasetID:
    """Return the data set ``key`` of a group; by the low-level interface, as there may be 1e6 of them.

    Raises:
        LamError: if it is not there; the message lists what is.
    """
    try:
        return h5py.h5d.open(group.id, key.encode())
    except (KeyError, TypeError, ValueError):
        parent, _, name = key.rpartition("/")
        owner = group.get(parent) if parent else group
        listed = ", ".join(list(owner)[:12]) if isinstance(owner, h5py.Group) else ""
        raise LamError(
            f"{where} has no data set '{name}' (it has {listed or 'nothing'}); is this the right recipe?"
        ) from None


def whole(data: h5py.h5d.DatasetID) -> np.ndarray:
    """Return all values of a data set as stored."""
    values = np.empty(data.shape, data.dtype)
    data.read(h5py.h5s.ALL, h5py.h5s.ALL, values)
    return values


def read(group: h5py.Group, key: str, shape: tuple[int, ...], where: str, rows: slice | None = None) -> np.ndarray:
    """Return a data set, or some rows of it, as float64 of the given shape.

    Args:
        group: where it is.
        key: its name.
        shape: expected shape of the whole data set.
        where: what messages call the group.
        rows: which rows; all by default.

    Raises:
        LamError: if it is missing, of another shape, or not numbers.
    """
    return numbers_of(dataset(group, key, where), key, shape, where, rows)


def numbers_of(
    data: h5py.h5d.DatasetID, key: str, shape: tuple[int, ...], where: str, rows: slice | None = None
) -> np.ndarray:
    """Return an open data set, or some rows of it, as float64; see :func:`read`."""
    # The whole shape is checked: a column that is longer than the others belongs to other frames.
    stored = data.shape[:1] if data.shape == (*shape, 1) and len(shape) == 1 else data.shape
    if stored != shape:
        raise LamError(f"{where}: '{key}' has shape {data.shape} instead of {shape}; the file is damaged.")
    # All of a small data set at once, through the low-level interface; h5py selects the rows of a large one.
    everything = rows is None or rows == slice(0, shape[0])
    values = whole(data) if everything else h5py.Dataset(data)[rows]
    if not np.issubdtype(values.dtype, np.number):
        raise LamError(f"{where}: '{key}' does not hold numbers.")
    return np.asarray(values, dtype=np.float64).reshape(len(values), *shape[1:])


def unit_of(data: h5py.h5d.DatasetID) -> str:
    """Return the data set's attribute ``units`` in lower case; empty if there is none."""
    if not h5py.h5a.exists(data, b"units"):
        return ""
    attribute = h5py.h5a.open(data, b"units")
    value = np.empty(attribute.shape, attribute.dtype)
    attribute.read(value)
    return _text(value).strip().lower()


def text(group: h5py.Group, key: str, where: str) -> str:
    """Return the first string of a data set of text.

    Raises:
        LamError: if it is not there.
    """
    return _text(whole(dataset(group, key, where)))


def _text(values: np.ndarray) -> str:
    first = values.reshape(-1)[0] if values.size else ""
    return first.decode() if isinstance(first, bytes) else str(first)


def cut_groups(path: Path, sizes: Iterator[int], size: int = PART_STRUCTURES) -> Iterator[Part]:
    """Yield parts of whole groups with about ``size`` structures; ``start`` and ``stop`` count groups.

    Args:
        path: the file.
        sizes: structures in each group, in order.
        size: structures in a part.
    """
    start, held, number = 0, 0, 0
    for number, count in enumerate(sizes, 1):
        held += count
        if held >= size:
            yield Part(path, start, number)
            start, held = number, 0
    if start < number:
        yield Part(path, start, number)


def group_parts(key: str) -> Callable[[Path], Iterator[Part]]:
    """Return a ``parts`` for files whose groups have the structures along the first axis of ``key``."""

    def parts(path: Path) -> Iterator[Part]:
        with open_hdf5(path) as file:
            yield from cut_groups(path, (_length(file, name, key) for name in file))

    return parts


def _length(file: h5py.File, name: str, key: str) -> int:
    # Through the low-level interface: a file may have 1e5 groups. What is missing is said when it is read.
    try:
        return h5py.h5d.open(file.id, f"{name}/{key}".encode()).shape[0]
    except (KeyError, IndexError):
        return 1


def named_groups(file: h5py.File, part: Part) -> Iterator[tuple[str, h5py.Group, str]]:
    """Yield ``(name, group, "file/name")`` of the groups that ``part`` counts.

    Raises:
        LamError: if something else than a group is among them.
    """
    for name in list(file)[part.start : part.stop]:
        group = file[name]
        where = f"{part.path.name}/{name}"
        if not isinstance(group, h5py.Group):
            raise LamError(f"{where} is no group of a molecule; is this the right recipe?")
        yield name, group, where
