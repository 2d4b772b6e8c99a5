"""Neighbour lists of what moves a little at a time: with a skin, in reused memory, in float64 until the end."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import vesin
from ase.data import covalent_radii

from lam.data.neighbors import OVERLAP, _forget_pointer_types, close_gaps, complete_cell, warn_if_overlapping, wrap
from lam.errors import LamError
from lam.model.kernels import numba_edges
from lam.model.kernels.shares import shares
from lam.model.kernels.threads import run

if TYPE_CHECKING:
    from lam.data.structure import Structure

SKIN = 0.6
"""How much farther than the cutoff pairs are kept, Angstrom."""


class Neighbors(NamedTuple):
    """Edges within the cutoff, sorted by centre."""

    starts: np.ndarray
    """First edge of each centre, and their number, (N + 1,) int64."""
    neighbors: np.ndarray
    """(E,) int64."""
    vectors: np.ndarray
    """Centre to neighbour, Angstrom, (E, 3)."""


class VerletList:
    """Neighbours of one structure at a time, exact at every call.

    Pairs within the cutoff and a skin are kept, and searched again only when an atom moved by more than half of
    the skin, or when the cell, the periodicity or the number of atoms changed. Atoms that were
    moved by lattice vectors (put back to the cell) did not move. What a call returns, the next one overwrites.

    Args:
        cutoff: Angstrom.
        dtype: precision of the vectors; they are computed in float64.
        skin: Angstrom.

    Attributes:
        rebuilds: how often pairs were searched.
    """

    def __init__(self, cutoff: float, dtype: type, *, skin: float = SKIN) -> None:
        self.cutoff, self.skin, self.rebuilds = float(cutoff), float(skin), 0
        self._dtype = dtype
        self._positions = np.empty((0, 3))
        self._offset: np.ndarray | None = None
        self._cell, self._pbc = np.zeros((3, 3)), np.zeros(3, dtype=bool)
        self._starts = np.zeros(1, dtype=np.int64)
        self._others = np.empty(0, dtype=np.int32)
        self._moves = np.empty((0, 3), dtype=np.int16)
        self._neighbors, self._vectors = np.empty(0, dtype=np.int64), np.empty((0, 3), dtype)

    def __call__(self, structure: Structure) -> Neighbors:
        """Return the edges of a structure; warns where atoms overlap."""
        if not structure.positions.flags.writeable:  # the kernels are compiled for ordinary arrays
            given, structure = structure.positions, copy.copy(structure)  # without checking all of it again
            object.__setattr__(structure, "positions", given.copy())
        positions = self._follow(structure)
        if positions is None:
            positions = self._search(structure)
        return self._within(structure, positions)

    def _follow(self, structure: Structure) -> np.ndarray | None:
        """Return the positions for the pairs that there are, or nothing if these may be incomplete."""
        if (
            len(structure) != len(self._positions)
            or not np.array_equal(structure.cell, self._cell)
            or not np.array_equal(structure.pbc, self._pbc)
        ):
            return None
        allowed = (0.5 * self.skin) ** 2
        positions = structure.positions
        move = numba_edges.largest_move(positions, self._positions)
        if not move <= allowed:
            if not self._pbc.any() or not np.isfinite(move):
                return None
            inverse = np.linalg.inv(complete_cell(self._cell, self._pbc))
            whole = np.round((positions - self._positions) @ inverse) * self._pbc
            positions = positions - whole @ self._cell
            if numba_edges.largest_move(positions, self._positions) > allowed:
                return None
        return positions if self._offset is None else positions + self._offset

    def _search(self, structure: Structure) -> np.ndarray:
        self.rebuilds += 1
        self._positions = np.empty((0, 3))  # nothing to follow, should what comes next fail
        if not np.isfinite(structure.positions).all():
            raise LamError(f"{structure.where}: a position is NaN or infinite. Check what moved the atoms.")
        wrapped = wrap(structure.positions, structure.cell, structure.pbc)
        count = len(wrapped)
        finder = vesin.NeighborList(cutoff=self.cutoff + self.skin, full_list=True, sorted=True, n_threads=1)
        cell = complete_cell(structure.cell, structure.pbc)
        # Views of the finder's memory: a million atoms have gigabytes of pairs.
        close = close_gaps(wrapped, cell, structure.pbc, self.cutoff + self.skin)
        pairs, shifts = finder.compute(close, cell, structure.pbc, "PS", copy=False)
        self._starts = np.empty(count + 1, dtype=np.int64)
        if len(pairs) > len(self._others):
            self._others = np.empty(len(pairs), dtype=np.int32)
            self._moves = np.empty((len(pairs), 3), dtype=np.int16)
        numba_edges.pack(pairs.view(np.int64), shifts, self._starts, self._others, self._moves)
        del pairs, shifts, finder
        _forget_pointer_types()
        self._positions = structure.positions.copy()
        self._offset = None if wrapped is structure.positions else wrapped - structure.positions
        self._cell, self._pbc = structure.cell.copy(), structure.pbc.copy()
        return wrapped

    def _within(self, structure: Structure, positions: np.ndarray) -> Neighbors:
        """Select the pairs within the cutoff."""
        count = len(positions)
        starts = np.zeros(count + 1, dtype=np.int64)
        radii = covalent_radii[structure.numbers]
        kept = (self._starts, self._others, self._moves, positions, self._cell, self.cutoff)
        ranges = shares(self._starts) if len(self._others) > 100_000 else [(0, count)]
        overlapping = [0] * len(ranges)

        def measure(number: int, first: int, last: int) -> None:
            overlapping[number] = numba_edges.count_within(first, last, *kept, radii, OVERLAP, starts[1:])

        def write(_: int, first: int, last: int) -> None:
            numba_edges.write_within(first, last, *kept, starts, self._neighbors, self._vectors)

        run(measure, ranges)
        np.cumsum(starts, out=starts)
        edges = int(starts[-1])
        if edges > len(self._neighbors):
            size = edges + edges // 20 if self.skin else edges
            self._neighbors, self._vectors = np.empty(size, dtype=np.int64), np.empty((size, 3), self._dtype)
        run(write, ranges)
        found = Neighbors(starts, self._neighbors[:edges], self._vectors[:edges])
        if any(overlapping):
            distances = np.linalg.norm(found.vectors.astype(np.float64), axis=1)
            pairs = np.stack([np.repeat(np.arange(count), np.diff(starts)), found.neighbors], axis=1)
            warn_if_overlapping(structure.numbers, pairs, distances, structure.where)
        return found
