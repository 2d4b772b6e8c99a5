"""What the recipes of calculations share: one part for each output file, and messages about steps left out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from lam.data.readers import open_text
from lam.data.recipes.base import Part
from lam.errors import LamError, LamWarning

OUTPUT_SUFFIXES = (".out", ".log", ".pwo", ".txt", ".output")
_COMPRESSED = (".gz", ".xz", ".zst")
_HEAD = 1 << 16


def outputs(mark: str, suffixes: tuple[str, ...] = OUTPUT_SUFFIXES) -> Callable[[Path], list[Path]]:
    """Return a ``find`` for outputs, whose beginning has a text that only this program prints.

    Args:
        mark: that text.
        suffixes: endings of names; those of compressed files are added.
    """
    endings = tuple(suffix + end for suffix in suffixes for end in ("", *_COMPRESSED))

    def find(path: Path) -> list[Path]:
        if path.is_file():
            return [path]
        named = (file for file in path.rglob("*") if file.name.endswith(endings) and file.is_file())
        return sorted(file for file in named if mark in _beginning(file))

    return find


def _beginning(path: Path) -> str:
    try:
        with open_text(path) as lines:
            return lines.read(_HEAD)
    except (OSError, EOFError, UnicodeDecodeError, LamError):
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


def note_dropped(path: Path, unconverged: int, steps: int) -> None:
    """Warn that steps were left out because their electronic steps did not converge."""
    if unconverged:
        warnings.warn(
            f"'{path}': {unconverged} of {steps} steps left out, whose electronic steps did not converge.",
            LamWarning,
            stacklevel=2,
        )
