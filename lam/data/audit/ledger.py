"""A table of facts about the structures seen, bounded in memory: what checks judge at the end.

Every structure is one row. When the table is full, every second block of rows is dropped and the stream is
thinned accordingly, so that what is kept stays spread evenly over the data and neighbouring frames stay together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ase.formula import Formula
from ase.symbols import Symbols

from lam.data.references import WIDTH
from lam.data.structure import Structure

LIMIT = 500_000
"""Rows at most, some 250 bytes each."""
BLOCK = 64
"""Rows that are kept or dropped together."""
_BASE = {
    "index": ("i8", ()),
    "energy": ("f8", ()),
    "n_atoms": ("i4", ()),
    "composition": ("i4", ()),
    "group": ("i4", ()),
    "file": ("i4", ()),
    "frame": ("i8", ()),
    "charge": ("f4", ()),
    "multiplicity": ("f4", ()),
    "periodic": ("i1", ()),  # number of periodic directions
}


class Names(dict[str, int]):
    """Gives every new text the next number."""

    def number(self, name: str) -> int:
        """Return the number of a text."""
        return self.setdefault(name, len(self))

    def table(self) -> np.ndarray:
        """Return the texts by number."""
        return np.array(list(self), dtype=object)


class Ledger:
    """Grows row by row; ``ledger["energy"]`` is a column of what is kept."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = max(limit, 2 * BLOCK)
        self.size = 0
        self.seen = 0
        """Structures offered, whether kept or not."""
        self.stride = 1
        """Of this many blocks one is kept."""
        self.groups, self.files, self._compositions = Names(), Names(), Names()
        self.reaches: dict[int, float | None] = {}
        """By composition: how far apart fingerprints of near-duplicates may be."""
        self.counts: list[dict[int, int]] = []
        """By composition: atoms of each element."""
        self._columns: dict[str, np.ndarray] = {}
        for name, (kind, shape) in _BASE.items():
            self.declare(name, kind, shape)

    def declare(self, name: str, kind: str = "f4", shape: tuple[int, ...] = ()) -> None:
        """Add a column; floats are NaN and integers 0 until set."""
        self._columns[name] = self._blank(kind, (1024, *shape))

    def add(self, structure: Structure, index: int | None = None) -> int | None:
        """Take the next structure; return its row, or None if it is thinned out.

        Args:
            structure: the structure.
            index: its place in the source, rising; by default the number of structures before it.
        """
        index = self.seen if index is None else index
        self.seen += 1
        if (index // BLOCK) % self.stride:
            return None
        if self.size == self.limit:
            self._thin()
            if (index // BLOCK) % self.stride:
                return None
        row = self.size
        self.size += 1
        if row == len(self._columns["index"]):
            self._grow()
        file, _, frame = structure.source.rpartition("#")
        known = frame.isdecimal() and file
        facts: dict[str, Any] = {
            "index": index,
            "energy": np.nan if structure.energy is None else structure.energy,
            "n_atoms": len(structure),
            "composition": self._composition(structure.numbers),
            "group": self.groups.number(structure.group),
            "file": self.files.number(file if known else structure.where),
            "frame": int(frame) if known else -1,
            "charge": np.nan if structure.total_charge is None else structure.total_charge,
            "multiplicity": np.nan if structure.spin_multiplicity is None else structure.spin_multiplicity,
            "periodic": int(structure.pbc.sum()),
        }
        for key, value in facts.items():
            self._columns[key][row] = value
        return row

    def put(self, row: int, name: str, value: Any) -> None:
        """Set a value."""
        self._columns[name][row] = value

    def __getitem__(self, name: str) -> np.ndarray:
        return self._columns[name][: self.size]

    def __len__(self) -> int:
        return self.size

    @property
    def complete(self) -> bool:
        """Are all structures that were seen kept?"""
        return self.size == self.seen

    def name(self, row: int) -> str:
        """Return what messages call the structure of a row."""
        file, frame = self._file_names[int(self["file"][row])], int(self["frame"][row])
        return file if frame < 0 else f"{file}#{frame}"

    def names(self, rows: np.ndarray | list[int], most: int = 50) -> tuple[str, ...]:
        """Return the names of the first ``most`` rows."""
        return tuple(self.name(int(row)) for row in rows[:most])

    def group_of(self, row: int) -> str:
        """Return the group of a row."""
        return list(self.groups)[int(self["group"][row])]

    def formula(self, composition: int) -> str:
        """Return the formula of a composition."""
        counts = self.counts[composition]
        numbers = [z for z, count in counts.items() for _ in range(count)] if sum(counts.values()) <= 500 else None
        if numbers is None:
            return " ".join(f"{Symbols([z])}{count}" for z, count in counts.items())
        return Formula(str(Symbols(np.array(numbers)))).format("hill")

    def element_counts(self) -> np.ndarray:
        """Return the atoms of each element by composition, (compositions, 119) int32."""
        table = np.zeros((len(self.counts), WIDTH), dtype=np.int32)
        for row, counts in enumerate(self.counts):
            table[row, list(counts)] = list(counts.values())
        return table

    def reduced(self) -> np.ndarray:
        """Return a number for each composition: the same for multiples of the same formula."""
        numbers = Names()
        result = []
        for counts in self.counts:
            divisor = int(np.gcd.reduce(list(counts.values())))
            result.append(numbers.number(repr([(z, c // divisor) for z, c in counts.items()])))
        return np.array(result, dtype=np.int64)

    @property
    def _file_names(self) -> list[str]:
        if getattr(self, "_files_listed", -1) != len(self.files):
            self._files_listed, self._file_list = len(self.files), list(self.files)
        return self._file_list

    def _composition(self, numbers: np.ndarray) -> int:
        elements, counts = np.unique(numbers, return_counts=True)
        number = self._compositions.number(elements.tobytes() + counts.tobytes())  # type: ignore[arg-type]
        if number == len(self.counts):
            self.counts.append(dict(zip(elements.tolist(), counts.tolist(), strict=True)))
        return number

    def _thin(self) -> None:
        self.stride *= 2
        keep = np.flatnonzero((self["index"] // BLOCK) % self.stride == 0)
        for column in self._columns.values():
            column[: len(keep)] = column[keep]
        self.size = len(keep)

    def _grow(self) -> None:
        for name, column in self._columns.items():
            bigger = self._blank(column.dtype.str, (2 * len(column), *column.shape[1:]))
            bigger[: len(column)] = column
            self._columns[name] = bigger

    @staticmethod
    def _blank(kind: str, shape: tuple[int, ...]) -> np.ndarray:
        dtype = np.dtype(kind)
        return np.full(shape, np.nan if dtype.kind == "f" else 0, dtype=dtype)


def grouped(values: np.ndarray) -> list[np.ndarray]:
    """Return the rows of each different value, in the order of the first rows."""
    if not len(values):
        return []
    order = np.argsort(values, kind="stable")
    cuts = np.flatnonzero(np.diff(values[order])) + 1
    return sorted(np.split(order, cuts), key=lambda rows: int(rows[0]))
