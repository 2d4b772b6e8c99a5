"""What must be known of many structures before a training, read from a shard or from a folder of shards.

Statistics of a data set need no more than some hundred thousand structures; of 1e8, a choice is read that has all
of the elements.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from lam.data.shard_folder import Shards
from lam.data.shards import Shard
from lam.data.structure import ISOLATED_ATOM

RUN = 256
"""Neighbouring rows that are chosen together: they are read at once."""
OF_RARE_ELEMENTS = 1000
"""So many rows are added for each element that the choice would miss."""


@dataclass(frozen=True)
class Columns:
    """Columns of some rows of a data set; see :class:`~lam.data.shards.Shard` for their meaning."""

    compositions: np.ndarray
    """(R, 119) int32."""
    masks: np.ndarray
    """(R,) uint8."""
    energies: np.ndarray
    """(R,) float64, eV."""
    groups: np.ndarray
    """(R,) object."""
    periodic: np.ndarray
    """(R,) bool."""
    total_charges: np.ndarray
    """(R,) float64, e."""
    spin_multiplicities: np.ndarray
    """(R,) float64."""
    forces: np.ndarray
    """Of the atoms of rows that have them, (atoms, 3) float64, eV/Angstrom."""


def read_columns(shard: Shard | Shards, rows: np.ndarray) -> Columns:
    """Read columns of some rows.

    Args:
        shard: the data set.
        rows: rising.
    """
    rows = np.asarray(rows, dtype=np.int64)
    parts = [_columns(piece, own) for piece, own in shard.by_piece(rows)]
    if not parts:
        parts = [_columns(piece, rows) for piece, _ in shard.by_piece(np.zeros(1, dtype=np.int64))]
    return Columns(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Columns)))


def _columns(piece: Shard, rows: np.ndarray) -> Columns:
    return Columns(
        piece.compositions()[rows],
        piece.masks[rows],
        piece.energies[rows],
        piece.groups[rows],
        piece.periodic[rows],
        piece.total_charges[rows],
        piece.spin_multiplicities[rows],
        piece.read_forces(rows),
    )


def representative(shard: Shard | Shards, rows: np.ndarray, limit: int) -> np.ndarray:
    """Return about ``limit`` of ``rows``: runs of rows, evenly spaced, with isolated atoms and with every element.

    Args:
        shard: the data set.
        rows: to choose from, rising.
        limit: all rows are returned if there are no more.
    """
    rows = np.asarray(rows)
    if len(rows) <= limit or isinstance(shard, Shard):
        return rows
    runs = np.linspace(0, len(rows) - RUN, max(limit // RUN, 1)).astype(np.int64)
    chosen = np.unique((runs[:, None] + np.arange(RUN)).ravel())
    taken = np.zeros(len(rows), dtype=bool)
    taken[chosen[chosen < len(rows)]] = True
    codes = shard.group_codes[rows]
    taken |= (shard.group_names == ISOLATED_ATOM)[codes]
    table = shard.group_elements()
    present = shard.elements_of(rows[taken])
    for element in np.unique(table.element[np.bincount(codes, minlength=len(shard.group_names))[table.group] > 0]):
        if present[element]:
            continue
        # A group may hold the element in some of its structures only: take the first rows of all such groups.
        has = np.zeros(len(shard.group_names), dtype=bool)
        has[table.group[table.element == element]] = True
        more = np.flatnonzero(has[codes])[:OF_RARE_ELEMENTS]
        taken[more] = True
        present |= shard.elements_of(rows[more])
    return rows[taken]
