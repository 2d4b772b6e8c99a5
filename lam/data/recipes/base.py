"""What a recipe is: everything known about a public data set or file format, and how to read it.

A recipe is a value of :class:`Recipe` in a module of this package. The module lists its recipes in a tuple
``RECIPES``, and :data:`lam.data.recipes.MODULES` says which module holds which name. Reading is cut into parts, so
that many processes can share a large file and a conversion that was killed goes on where it stopped; a reader
converts units and signs on the way.

A frame that cannot be used does not have to end the reading: a reader should *yield* the LamError (see
:func:`attempt`) and go on with the next frame. Whoever converts decides whether it stops there (the default) or
skips the frame and records why. An error that is *raised* says that nothing more can be read of the part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lam.data.structure import Structure
from lam.errors import LamError

PART_STRUCTURES = 5_000
"""About how many structures a part has, where the format allows to choose: a second of work or two."""


@dataclass(frozen=True)
class Part:
    """A piece of a source that one process reads; finished parts are not read again.

    ``start`` and ``stop`` count whatever the format counts (rows, frames, groups); ``None`` is the end.
    ``path`` is a file, or a folder for formats that are folders.
    """

    path: Path
    start: int = 0
    stop: int | None = None


@dataclass(frozen=True)
class Label:
    """How one quantity is stored in the source."""

    name: str
    """What it becomes: ``energy``, ``forces``, ``stress``, ``total_charge``, ``spin_multiplicity``, ``positions``."""
    key: str
    """Its name in the source."""
    unit: str
    """Its unit there, e.g. ``"Hartree"``."""
    sign: str = ""
    """What must be known of its sign or meaning, e.g. ``"VASP stress: compressive positive; the sign is turned"``."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A public data set or format: its source, what its labels mean, and how to read it."""

    name: str
    """Short name, as in ``lam data convert --recipe NAME``."""
    title: str
    """One line for people."""
    level_of_theory: str
    """Functional, basis and code; ``"not stated"`` for formats that hold any."""
    licence: str
    """Licence of the data as its authors state it."""
    doi: str
    """DOI of the paper or the data, without a resolver; empty for formats."""
    files: str
    """What the user downloads or has, in one sentence: names of files, where they are published."""
    labels: tuple[Label, ...]
    """Key, unit and sign of every label."""
    find: Callable[[Path], list[Path]]
    """Sources in a file or folder that the user names, sorted; empty if there are none of this format."""
    parts: Callable[[Path], Iterator[Part]]
    """Cuts one source into parts, cheaply: without reading the labels."""
    read: Callable[[Part], Iterator[Structure | LamError]]
    """Reads a part: structures in eV, Angstrom, with ``group`` and ``source`` ("file#number") set; and, in place
    of each frame that cannot be used, the error that says why."""
    notes: str = ""
    """What a user should know: known faults, what is left out."""


def attempt(make: Callable[..., Structure], *args: object, **fields: object) -> Structure | LamError:
    """Return what ``make(*args, **fields)`` makes, or the LamError that it raises, for readers to yield.

    >>> from lam.data.structure import Structure
    >>> attempt(Structure, numbers=[], positions=[], cell=[[0] * 3] * 3, pbc=False, source="a.h5#7")
    LamError('a.h5#7: the positions have shape (0,) instead of (0, 3) for 0 atoms; correct or remove them.')
    """
    try:
        return make(*args, **fields)
    except LamError as error:
        return error


def cut(path: Path, count: int, size: int = PART_STRUCTURES) -> Iterator[Part]:
    """Yield parts of at most ``size`` rows of a source with ``count`` of them."""
    for start in range(0, count, size):
        yield Part(path, start, min(start + size, count))


def check_unpacked(path: Path) -> None:
    """Refuse an archive or a compressed file where only what is in it can be read.

    Raises:
        LamError: with the command that unpacks it.
    """
    name = path.name.lower()
    for endings, command in _PACKED:
        if name.endswith(endings):
            raise LamError(f"'{path}' is packed: unpack it first ({command} {path.name}).")


_PACKED = (
    ((".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"), "tar xf"),
    ((".xz",), "unxz"),
    ((".gz",), "gunzip"),
    ((".bz2",), "bunzip2"),
    ((".zst",), "unzstd"),
)


def files_with(*suffixes: str) -> Callable[[Path], list[Path]]:
    """Return a ``find`` for formats that are files with one of these endings, in a folder and those below it."""

    def find(path: Path) -> list[Path]:
        if path.is_file():
            return [path]
        return sorted(file for file in path.rglob("*") if file.is_file() and file.name.endswith(suffixes))

    return find
