"""Read JSON larger than memory: one entry of the outer object or list at a time, also from compressed files."""

from __future__ import annotations

import bz2
import json
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from lam.data.readers import open_text
from lam.errors import LamError

_CHUNK = 1 << 20
_MAX_VALUE = 1 << 30  # characters of one value; a longer one is a damaged file, and must not fill the memory
_SPACE = " \t\r\n"
_DAMAGED = (OSError, EOFError, lzma.LZMAError, zlib.error, UnicodeDecodeError)
SUFFIXES = tuple(f".json{end}" for end in ("", "l", ".gz", "l.gz", ".bz2", ".xz", ".zst"))


class JsonStream:
    """A position in a JSON text, which is read piece by piece.

    Args:
        stream: the text.
        path: its file, for messages.
    """

    def __init__(self, stream: TextIO, path: Path) -> None:
        self._stream = stream
        self._path = path
        self._decoder = json.JSONDecoder()
        self._text = ""
        self._at = 0
        self._ended = False

    def peek(self) -> str:
        """Return the next character that is no space; empty at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _SPACE:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._fill():
                return ""

    def value(self) -> Any:
        """Return the value that stands here, whole.

        Raises:
            LamError: if the text ends in it, or it is no JSON.
        """
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._fill():
                    continue
                raise self._error(error.msg) from None
            # A number may go on in the next piece.
            if end == len(self._text) and not isinstance(value, str | list | dict) and self._fill():
                continue
            self._at = end
            return value

    def keys(self) -> Iterator[str]:
        """Yield the keys of the object that stands here; after each, its value must be taken from the stream.

        Raises:
            LamError: if no object stands here or the text ends in it.
        """
        for _ in self._separated("{", "}"):
            key = self.value()
            if not isinstance(key, str):
                raise self._error("a key is no text")
            self._take(":")
            yield key

    def elements(self) -> Iterator[Any]:
        """Yield the elements of the list that stands here, each whole; or one value after another (JSON lines).

        Raises:
            LamError: if neither stands here, or the text ends in it.
        """
        if self.peek() == "{":
            while self.peek():
                yield self.value()
            return
        for _ in self._separated("[", "]"):
            yield self.value()

    def _separated(self, opening: str, closing: str) -> Iterator[None]:
        self._take(opening)
        if self.peek() == closing:
            self._take(closing)
            return
        while True:
            yield
            if self.peek() == closing:
                self._take(closing)
                return
            self._take(",")

    def _take(self, character: str) -> None:
        found = self.peek()
        if found != character:
            raise self._error(f"{found!r} stands where '{character}' should" if found else "it ends too early")
        self._at += 1

    def _fill(self) -> bool:
        held = len(self._text) - self._at
        if self._ended or held > _MAX_VALUE:
            return False
        piece = self._stream.read(max(_CHUNK, held))  # doubling, so that a long value is not parsed many times
        self._ended = not piece
        self._text = self._text[self._at :] + piece
        self._at = 0
        return bool(piece)

    def _error(self, reason: str) -> LamError:
        return LamError(f"'{self._path}' is truncated or no JSON of the expected form ({reason}).")


@contextmanager
def open_json(path: Path) -> Iterator[JsonStream]:
    """Open a JSON file, plain or compressed (.gz, .bz2, .xz, .zst).

    Raises:
        LamError: if it is missing or damaged.
    """
    if not path.is_file():
        raise LamError(f"There is no file '{path}'.")
    try:
        with bz2.open(path, "rt", encoding="utf-8") if path.suffix == ".bz2" else open_text(path) as stream:
            yield JsonStream(stream, path)
    except _DAMAGED as error:
        raise LamError(f"'{path}' is damaged or truncated ({error}).") from None
