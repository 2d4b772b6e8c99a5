"""One structure after the other, each the best next to those before it: lazily, for pools of millions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

BLOCK = 512
"""Structures that are looked at together at first, when all are."""
FEWEST, MOST = 64, 4096
"""Structures that are looked at again at a time: few, then ever more while the best is not certain."""


class Criterion(Protocol):
    """What a structure is worth, given those that were taken. It may only shrink while more are taken."""

    def gains(self, rows: np.ndarray) -> np.ndarray:
        """Return what each of ``rows`` (rising) is worth now, (R,) float64."""

    def take(self, row: int) -> None:
        """Take a structure."""


def choose(
    criterion: Criterion,
    keys: np.ndarray,
    budget: int,
    *,
    candidates: np.ndarray | None = None,
    progress: Callable[[int], None] | None = None,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Take the structure that is worth most, ``budget`` times.

    What a structure was worth when it was last looked at is an upper bound of what it is worth now, so only those whose
    bounds are the highest are looked at again: the result is that of looking at all of them (Minoux 1978,
    10.1007/BFb0006528), for a small part of the work.

    Args:
        criterion: what a structure is worth.
        keys: (N,) numbers that decide between equals, the smallest first; made from the structures, not from their
            order, so that this does not matter.
        budget: how many, at most as there are candidates.
        candidates: rows that may be taken, rising; all by default.
        progress: called with the number taken.

    Returns:
        The rows in the order in which they were taken, (budget,) int64; what each was worth then, (budget,) float64;
        and what the best of the others is worth, 0 if there are none.
    """
    rows = np.arange(len(keys)) if candidates is None else candidates
    bounds = np.full(len(keys), -np.inf)
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        bounds[block] = criterion.gains(block)
    looked_at = np.zeros(len(keys), dtype=np.int32)  # after how many were taken
    order, worth = np.empty(budget, dtype=np.int64), np.empty(budget)
    for taken in range(budget + 1):
        if taken == len(rows):
            return order, worth, 0.0
        row = _best(criterion, bounds, looked_at, taken, keys)
        if taken == budget:
            return order, worth, float(bounds[row])
        order[taken], worth[taken] = row, bounds[row]
        criterion.take(row)
        bounds[row] = -np.inf
        if progress is not None:
            progress(taken + 1)
    raise AssertionError("unreachable")


def _best(criterion: Criterion, bounds: np.ndarray, looked_at: np.ndarray, taken: int, keys: np.ndarray) -> int:
    """Return the row that is worth most; its bound, and those that could have been above, are up to date then."""
    size = FEWEST
    while True:
        top = np.flatnonzero(bounds == bounds.max())
        old = top[looked_at[top] < taken]
        if not len(old):
            return int(top[np.argmin(keys[top])])
        highest = np.argpartition(bounds, -size)[-size:] if len(bounds) > size else np.arange(len(bounds))
        rows = np.union1d(highest, old[:size])
        rows = rows[(looked_at[rows] < taken) & (bounds[rows] > -np.inf)]
        bounds[rows] = criterion.gains(rows)
        looked_at[rows] = taken
        size = min(2 * size, MOST)
