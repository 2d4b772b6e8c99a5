"""Read rows of the arrays of an .npz file without holding whole arrays in memory."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from lam.data.recipes.base import check_unpacked
from lam.errors import LamError


class Npz:
    """An open .npz file; arrays are looked at and read by rows.

    Args:
        file: the open archive.
        path: its path, for messages.
    """

    def __init__(self, file: zipfile.ZipFile, path: Path) -> None:
        self._file = file
        self.path = path
        self.keys = {name.removesuffix(".npy") for name in file.namelist() if name.endswith(".npy")}

    def shape(self, key: str) -> tuple[int, ...]:
        """Return the shape of an array, from its header.

        Raises:
            LamError: if it is not there; the message lists what is.
        """
        with self._open(key) as stream:
            return _header(stream, key, self.path)[0]

    def array(self, key: str) -> np.ndarray:
        """Return a whole (small) array.

        Raises:
            LamError: if it is not there or does not hold numbers or text.
        """
        with self._open(key) as stream:
            try:
                return npy.read_array(stream, allow_pickle=False)
            except ValueError:
                raise LamError(f"'{self.path}': '{key}' holds Python objects, which are not read.") from None

    def text(self, key: str) -> str:
        """Return an array of one text; empty if it is not there."""
        if key not in self.keys:
            return ""
        value = self.array(key).reshape(-1)
        item = value[0] if len(value) else ""
        return item.decode() if isinstance(item, bytes) else str(item)

    def blocks(self, key: str, start: int, stop: int, size: int) -> Iterator[np.ndarray]:
        """Yield rows ``start`` to ``stop`` as float64, at most ``size`` at once.

        Raises:
            LamError: if they are not there or no numbers.
        """
        with self._open(key) as stream:
            shape, fortran, dtype = _header(stream, key, self.path)
            if not np.issubdtype(dtype, np.number) or (fortran and len(shape) > 1):
                raise LamError(f"'{self.path}': '{key}' does not hold numbers, row by row.")
            row = int(np.prod(shape[1:], dtype=np.int64))
            _skip(stream, start * row * dtype.itemsize)
            for first in range(start, stop, size):
                count = min(size, stop - first)
                data = stream.read(count * row * dtype.itemsize)
                if len(data) < count * row * dtype.itemsize:
                    raise LamError(f"'{self.path}' is truncated in '{key}' at row {first}.")
                yield np.frombuffer(data, dtype).reshape(count, *shape[1:]).astype(np.float64)

    @contextmanager
    def _open(self, key: str) -> Iterator[IO[bytes]]:
        if key not in self.keys:
            listed = ", ".join(sorted(self.keys)) or "nothing"
            raise LamError(f"'{self.path}' has no array '{key}' (it has {listed}); is this the right recipe?")
        with self._file.open(f"{key}.npy") as stream:
            yield stream


@contextmanager
def open_npz(path: Path) -> Iterator[Npz]:
    """Open an .npz file.

    Raises:
        LamError: if it is missing, truncated, damaged or no .npz file.
    """
    if not path.is_file():
        raise LamError(f"There is no file '{path}'.")
    check_unpacked(path)
    try:
        with zipfile.ZipFile(path) as file:
            yield Npz(file, path)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError) as error:
        raise LamError(f"Cannot read '{path}': it is truncated, damaged or no .npz file ({error}).") from None


def _header(stream: IO[bytes], key: str, path: Path) -> tuple[tuple[int, ...], bool, Any]:
    try:
        version = npy.read_magic(stream)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        return read(stream)
    except ValueError as error:
        raise LamError(f"'{path}': '{key}' is no array of NumPy ({error}).") from None


def _skip(stream: IO[bytes], count: int) -> None:
    # Compressed members cannot be sought: read through, in pieces.
    while count > 0:
        piece = stream.read(min(count, 1 << 24))
        if not piece:
            return
        count -= len(piece)
