"""Journals: one line per finished structure, appended and flushed at once, one file per writing process.

A process may be killed at any moment, also in the middle of a line: each line carries a checksum, and a line that
does not fit it is as if it had never been written. No two processes write to one file.
"""

from __future__ import annotations

import json
import os
import socket
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

SUFFIX = ".jsonl"


class Place(NamedTuple):
    """Where a line is."""

    path: Path
    offset: int


class Journal:
    """Appends records to a file of its own in ``folder``; the file is made with the first record.

    Every record reaches the operating system before :meth:`append` returns, so that killing the process loses
    nothing; :meth:`sync` makes it outlast a power failure.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}{SUFFIX}"
        self._file: IO[bytes] | None = None

    def append(self, record: dict[str, Any]) -> None:
        """Write one record."""
        if self._file is None:
            self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115 (stays open until close)
        body = json.dumps(record).encode()
        line = memoryview(b"%08x %b\n" % (zlib.crc32(body), body))
        while line:
            line = line[self._file.write(line) :]

    def sync(self) -> None:
        """Have the file written to the disk."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def read_journals(folder: Path) -> Iterator[tuple[dict[str, Any], Place]]:
    """Yield all whole records of all journals in ``folder``, with their places, file by file."""
    for path in sorted(folder.glob(f"*{SUFFIX}"), key=lambda path: (path.stat().st_mtime_ns, path.name)):
        offset = 0
        with open(path, "rb") as file:
            for line in file:
                record = _parse(line)
                if record is not None:
                    yield record, Place(path, offset)
                offset += len(line)


def read_record(place: Place) -> dict[str, Any]:
    """Return the record at a place that :func:`read_journals` gave."""
    with open(place.path, "rb") as file:
        file.seek(place.offset)
        record = _parse(file.readline())
    if record is None:
        raise OSError(0, "changed while it was read", str(place.path))
    return record


def _parse(line: bytes) -> dict[str, Any] | None:
    check, _, body = line.partition(b" ")
    try:
        if not line.endswith(b"\n") or int(check, 16) != zlib.crc32(body[:-1]):
            return None
        return json.loads(body)
    except ValueError:
        return None
