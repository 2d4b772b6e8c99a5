"""Read structure files, one frame at a time, with messages that name the frame.

Extended XYZ is cut into frames here and each is parsed by ASE: in this way compressed files stream,
and what is wrong is said with the frame it is wrong in. Every other format goes to ASE as a whole.
"""

from __future__ import annotations

import gzip
import io
import itertools
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from lam.data.structure import Structure
from lam.errors import LamError

if TYPE_CHECKING:
    from ase import Atoms

COMPRESSIONS = (".xz", ".gz", ".zst")
XYZ_SUFFIXES = (".extxyz", ".xyz", ".exyz")
_DAMAGED = (OSError, EOFError, lzma.LZMAError, zlib.error, UnicodeDecodeError)


def stem(path: str | Path) -> str:
    """Return the file's name without the endings of format and compression."""
    path = Path(path)
    name = path.name
    if path.suffix.lower() in COMPRESSIONS:
        name = path.stem
    return Path(name).stem


def read_structures(path: str | Path, *, index: str | int | slice = ":") -> Iterator[Structure]:
    """Yield the structures of a file: any format that ASE reads; extxyz also as .xz, .gz, .zst.

    Args:
        path: the file.
        index: which frames, as in ASE: a number, a slice or its text, e.g. ``"0:100:10"`` or ``-1``.

    Raises:
        LamError: if the file is missing, empty, unreadable or truncated, or a frame is wrong.
    """
    name = Path(path).name
    for number, atoms in read_atoms(path, index=index):
        yield Structure.from_atoms(atoms, source=f"{name}#{number}")


def read_atoms(path: str | Path, *, index: str | int | slice = ":") -> Iterator[tuple[int, Atoms]]:
    """Yield ``(frame number, atoms)`` of a file without looking at the labels.

    Raises:
        LamError: as for :func:`read_structures`.
    """
    path = Path(path)
    if not path.exists():
        raise LamError(f"There is no file '{path}'.")
    if path.is_dir():
        raise LamError(f"'{path}' is a folder; name a file.")
    if path.stat().st_size == 0:
        raise LamError(f"'{path}' is empty.")
    frames = _xyz_frames(path) if _is_xyz(path) else _ase_frames(path)
    empty = True
    for item in _select(frames, index):
        empty = False
        yield item
    if empty:
        raise LamError(f"'{path}' holds no structures" + ("." if index == ":" else f" at index {index}."))


def open_text(path: str | Path) -> TextIO:
    """Open a text file that may be compressed (.xz, .gz, .zst).

    Raises:
        LamError: if the file cannot be opened, or zstandard is needed and not installed.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    try:
        if suffix == ".xz":
            return lzma.open(path, "rt", encoding="utf-8")
        if suffix == ".gz":
            return gzip.open(path, "rt", encoding="utf-8")
        if suffix == ".zst":
            return io.TextIOWrapper(io.BufferedReader(_open_zst(path)), encoding="utf-8")
        return open(path, encoding="utf-8")
    except OSError as error:
        raise LamError(f"Cannot open '{path}': {error.strerror or error}.") from None


def _open_zst(path: Path) -> Any:
    try:
        import zstandard
    except ImportError:
        raise LamError(
            f"Reading '{path}' needs the package zstandard; install it with: pip install 'lam[zstd]'."
        ) from None
    return zstandard.ZstdDecompressor().stream_reader(open(path, "rb"), closefd=True)


def _is_xyz(path: Path) -> bool:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return bool(suffixes) and suffixes[-1] in XYZ_SUFFIXES


def _select(frames: Iterator[tuple[int, Atoms]], index: str | int | slice) -> Iterator[tuple[int, Atoms]]:
    from ase.io.formats import string2index

    try:
        wanted = string2index(index) if isinstance(index, str) else index
    except ValueError:
        raise LamError(f"'{index}' selects no frames; write a number or start:stop:step.") from None
    if isinstance(wanted, int):
        wanted = slice(wanted, wanted + 1 or None)
    values = (wanted.start, wanted.stop, wanted.step)
    if all(value is None or value >= 0 for value in values):
        return itertools.islice(frames, *values)
    return iter(list(frames)[wanted])  # counted from the end: all of it must be read


def _xyz_frames(path: Path) -> Iterator[tuple[int, Atoms]]:
    """Cut an (extended) XYZ file into frames and let ASE parse each."""
    from ase.io.extxyz import read_xyz

    with open_text(path) as lines:
        for number in itertools.count():
            where = f"{path.name}#{number}"
            text = next_frame(lines, path, where)
            if text is None:
                return
            try:
                atoms = next(iter(read_xyz(io.StringIO(text), 0)))
            except Exception as error:
                raise LamError(f"Cannot understand {where}: {one_line(error)}.") from None
            yield number, atoms


def next_frame(lines: TextIO, path: Path, where: str) -> str | None:
    """Return the text of the next frame of an XYZ file, or ``None`` at its end.

    Raises:
        LamError: if the file is damaged, or does not go on with a frame; ``where`` names it.
    """
    zst_errors = _zstd_errors(path)
    try:
        line = next((line for line in lines if line.strip()), None)
        if line is None:
            return None
        try:
            count = int(line)
        except ValueError:
            raise LamError(
                f"{where} begins with {line.strip()[:40]!r} instead of a number of atoms; "
                f"'{path}' is no XYZ file, or the frame before has too many lines."
            ) from None
        if count < 1:
            raise LamError(f"{where} has no atoms; remove the empty frame.")
        body = list(itertools.islice(lines, count + 1))
    except (*_DAMAGED, *zst_errors) as error:
        raise LamError(f"'{path}' is damaged or truncated at frame {where}: {one_line(error)}.") from None
    if len(body) < count + 1:
        there = max(len(body) - 1, 0)
        raise LamError(f"'{path}' is truncated: {where} should have {count} atoms, and {there} are there.")
    return f"{count}\n" + "".join(body)


def _zstd_errors(path: Path) -> tuple[type[Exception], ...]:
    if path.suffix.lower() != ".zst":
        return ()
    import zstandard

    return (zstandard.ZstdError,)


def _ase_frames(path: Path) -> Iterator[tuple[int, Atoms]]:
    import ase.io

    frames = enumerate(_guarded(path, lambda: iter(ase.io.iread(str(path), index=":"))))
    yield from frames


def _guarded(path: Path, start: Any) -> Iterator[Atoms]:
    try:
        yield from start()
    except Exception as error:  # ASE's readers raise every kind of exception on bad files
        raise LamError(f"ASE cannot read '{path}': {one_line(error)}. Is its ending right?") from None


def one_line(error: BaseException) -> str:
    """Return what an exception says as one line without a full stop."""
    return (" ".join(str(error).split()) or type(error).__name__).rstrip(".")
