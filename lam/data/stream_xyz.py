"""Read extended XYZ in parts: large files by several processes, broken frames skipped one by one.

A frame says by its first line how many lines it has, so that frames are found without understanding them. Plain
files are scanned once in each process, and read from the nearest known frame; compressed files are one part.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import lru_cache
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING

from lam.data.readers import COMPRESSIONS, XYZ_SUFFIXES, next_frame, one_line, open_text
from lam.data.recipes.base import PART_STRUCTURES, Part, attempt, cut
from lam.data.structure import Structure
from lam.errors import LamError

if TYPE_CHECKING:
    from ase import Atoms

KNOWN_EVERY = 1000
"""The place of every so many frames is remembered."""
SMALL_BYTES = 16 * 1024 * 1024
"""Smaller files are one part, without a scan."""


def is_xyz(path: Path) -> bool:
    """Is the file named as (extended) XYZ, perhaps compressed?"""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return bool(suffixes) and suffixes[-1] in XYZ_SUFFIXES


def xyz_parts(path: Path) -> Iterator[Part]:
    """Cut a plain file by frames; a compressed or small one is one part."""
    if path.suffix.lower() in COMPRESSIONS or path.stat().st_size < SMALL_BYTES:
        yield Part(path)
        return
    stat = path.stat()
    frames, _ = _places(path, stat.st_size, stat.st_mtime_ns)
    yield from cut(path, frames, PART_STRUCTURES)


def read_xyz_part(part: Part) -> Iterator[Structure | LamError]:
    """Yield the structures of a part, and an error in place of every frame that cannot be used.

    Raises:
        LamError: if the file is missing, empty, damaged, or a frame has too few or too many lines: then nothing is
            known of where the next one begins.
    """
    for number, atoms in read_xyz_atoms(part):
        where = f"{part.path.name}#{number}"
        yield atoms if isinstance(atoms, LamError) else attempt(Structure.from_atoms, atoms, source=where)


def read_xyz_atoms(part: Part) -> Iterator[tuple[int, Atoms | LamError]]:
    """Yield number and atoms (or an error) of the frames of a part, without looking at labels.

    Raises:
        LamError: see :func:`read_xyz_part`.
    """
    from ase.io.extxyz import read_xyz

    path = part.path
    if not path.is_file():
        raise LamError(f"There is no file '{path}'.")
    with open_text(path) as lines:
        first = _go_to(lines, part)
        for number in count(first) if part.stop is None else range(first, part.stop):
            where = f"{path.name}#{number}"
            text = next_frame(lines, path, where)
            if text is None:
                if number == 0:
                    raise LamError(f"'{path}' holds no structures.")
                return
            if number < part.start:
                continue
            try:
                yield number, next(iter(read_xyz(io.StringIO(text), 0)))
            except Exception as error:
                yield number, LamError(f"Cannot understand {where}: {one_line(error)}.")


def _go_to(lines: io.TextIOBase, part: Part) -> int:
    """Go to a known frame at or before the first of a part; return its number."""
    if part.start == 0 or part.path.suffix.lower() in COMPRESSIONS:
        return 0
    stat = part.path.stat()
    _, places = _places(part.path, stat.st_size, stat.st_mtime_ns)
    known = part.start // KNOWN_EVERY
    lines.seek(places[known])
    return known * KNOWN_EVERY


@lru_cache(maxsize=16)
def _places(path: Path, size: int, changed: int) -> tuple[int, tuple[int, ...]]:
    """Return how many frames a plain file has, and where every :data:`KNOWN_EVERY`-th of them begins, in bytes."""
    places: list[int] = []
    with open(path, "rb") as file:
        place = 0
        for number in count():
            line = file.readline()
            while line and not line.strip():
                place += len(line)
                line = file.readline()
            if not line:
                return number, tuple(places)
            try:
                atoms = int(line)
            except ValueError:
                raise LamError(
                    f"{path.name}#{number} begins with {line.strip()[:40].decode(errors='replace')!r} instead of a "
                    f"number of atoms; '{path}' is no XYZ file, or the frame before has too many lines."
                ) from None
            if number % KNOWN_EVERY == 0:
                places.append(place)
            place += len(line) + sum(map(len, islice(file, max(atoms, 0) + 1)))
    raise AssertionError  # count() has no end
