"""What the recipes of calculations share: one part for each output file, and messages about steps left out."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TextIO, TypeVar

from lam.data.readers import open_text
from lam.data.recipes.base import Part
from lam.errors import LamError, LamWarning

_T = TypeVar("_T")
OUTPUT_SUFFIXES = (".out", ".log", ".pwo", ".txt", ".output")
COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
"""Endings of compressed outputs."""
_OPENERS = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_HEAD = 1 << 16
_BUFFER = 1 << 17


class _Checked(io.RawIOBase):
    """Bytes of a file, in which what a damaged compression raises becomes a sentence.

    Args:
        stream: the file.
        path: its path, for messages.
        whole_lines: leave out a last line without an end: what a program that was killed had not written yet.
    """

    def __init__(self, stream: IO[bytes], path: Path, whole_lines: bool) -> None:
        self._stream = stream
        self._path = path
        self._whole_lines = whole_lines
        self._held = b""
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._ready:
            try:
                piece = self._stream.read(_BUFFER)
            except Exception as error:  # OSError, EOFError, and what each compression calls its own
                raise LamError(f"'{self._path}' is damaged or truncated ({error}).") from None
            if not piece:
                return 0
            data = self._held + piece
            end = data.rfind(b"\n") + 1 if self._whole_lines else len(data)
            if not end and len(data) >= _BUFFER:  # no text of lines, which must not fill the memory
                end = len(data)
            self._ready, self._held = memoryview(data)[:end], data[end:]
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def close(self) -> None:
        self._stream.close()
        super().close()


def open_output(path: Path, *, whole_lines: bool = True) -> TextIO:
    """Open what a program printed, plain or compressed (.gz, .bz2, .xz, .zst).

    Bytes that are no UTF-8 do not matter: programs print titles and names of people as they were typed.

    Args:
        path: the file.
        whole_lines: leave out a last line that does not end: the program was killed while it wrote it.

    Raises:
        LamError: if the file cannot be opened; on reading, if its compression is damaged.
    """
    suffix = path.suffix.lower()
    try:
        stream = open_text(path).buffer if suffix == ".zst" else _OPENERS.get(suffix, open)(path, "rb")
    except OSError as error:
        raise LamError(f"Cannot open '{path}': {error.strerror or error}.") from None
    raw = _Checked(stream, path, whole_lines)
    return io.TextIOWrapper(io.BufferedReader(raw, _BUFFER), encoding="utf-8", errors="replace")


def outputs(mark: str, suffixes: tuple[str, ...] = OUTPUT_SUFFIXES) -> Callable[[Path], list[Path]]:
    """Return a ``find`` for outputs, whose beginning has a text that only this program prints.

    Args:
        mark: that text.
        suffixes: endings of names; those of compressed files are added.
    """
    endings = tuple(suffix + end for suffix in suffixes for end in ("", *COMPRESSED))

    def find(path: Path) -> list[Path]:
        if path.is_file():
            return [path]
        named = (file for file in path.rglob("*") if file.name.endswith(endings) and file.is_file())
        return sorted(file for file in named if mark in _beginning(file))

    return find


def _beginning(path: Path) -> str:
    try:
        with open_output(path, whole_lines=False) as lines:
            return lines.read(_HEAD)
    except LamError:
        return ""


def each_file(path: Path) -> Iterator[Part]:
    """Yield the file as one part.

    Raises:
        LamError: if it is not there or empty.
    """
    if not path.is_file():
        raise LamError(f"There is no file '{path}'.")
    if path.stat().st_size == 0:
        raise LamError(f"'{path}' is empty.")
    yield Part(path)


def readable(steps: Iterator[_T], where: str) -> Iterator[_T]:
    """Yield the steps; what a line that is damaged raises becomes a sentence.

    Args:
        steps: of an output, read one after another.
        where: what messages call it.

    Raises:
        LamError: for a line that is not as the program writes it: asterisks of a number that is too large, a gap.
    """
    try:
        yield from steps
    except (ValueError, IndexError, TypeError) as error:
        raise LamError(f"{where} has a line that its program does not write ({error}); is it damaged?") from None


def note_dropped(path: Path, unconverged: int, steps: int) -> None:
    """Warn that steps were left out because their electronic steps did not converge."""
    if unconverged:
        warnings.warn(
            f"'{path}': {unconverged} of {steps} steps left out, whose electronic steps did not converge.",
            LamWarning,
            stacklevel=2,
        )
