"""Dealing the structures of a step out to processes, so that none waits for another."""

from __future__ import annotations

import heapq

import numpy as np

ATOM_COST = 150.0
"""Time that an atom takes by itself, in units of what an edge takes (`python benchmarks/training.py cost`)."""
_GOOD_ENOUGH = 1.005
"""Largest over mean load at which exchanging structures stops: less than timings scatter by."""
_EXCHANGES = 64


def costs_of(n_atoms: np.ndarray, n_edges: np.ndarray, atom_cost: float = ATOM_COST) -> np.ndarray:
    """Return the relative time that structures take in training, (S,) float64.

    Args:
        n_atoms: atoms of each structure.
        n_edges: directed edges of each structure.
        atom_cost: time of an atom over that of an edge.
    """
    return n_edges + atom_cost * n_atoms.astype(np.float64)


def share(items: np.ndarray, costs: np.ndarray, ranks: int) -> list[list[int]]:
    """Deal items out so that the ranks' costs are close.

    The costliest first, each to the least loaded rank; then the most loaded exchanges items with others as long as
    that helps. Every rank gets at least one item if there are enough; each share keeps the order of ``items``.
    What remains uneven is a structure that alone costs more than the mean.

    Args:
        items: what is dealt out, (n,).
        costs: cost of each item, (n,), not negative.
        ranks: number of shares.
    """
    if ranks == 1:
        return [items.tolist()]
    costs = costs + 1.0  # an item without edges still costs something
    owner = np.empty(len(items), dtype=np.int64)
    heap = [(0.0, rank) for rank in range(ranks)]
    for place in np.argsort(-costs, kind="stable").tolist():
        load, rank = heap[0]
        owner[place] = rank
        heapq.heapreplace(heap, (load + float(costs[place]), rank))
    _exchange(owner, costs, ranks)
    return [items[owner == rank].tolist() for rank in range(ranks)]


def imbalance(loads: np.ndarray) -> float:
    """Return the work of the slowest rank over the mean: 1 is even, and what a step takes longer than it must."""
    return float(loads.max() / loads.mean())


def _exchange(owner: np.ndarray, costs: np.ndarray, ranks: int) -> None:
    """Lower the largest load by moving an item, or swapping two, between its rank and another."""
    loads = np.bincount(owner, weights=costs, minlength=ranks)
    for _ in range(_EXCHANGES):
        high = int(loads.argmax())
        if loads[high] <= _GOOD_ENOUGH * loads.mean():
            return
        mine = np.flatnonzero(owner == high)
        if len(mine) < 2:
            return  # one structure, which cannot be divided
        best = _best_exchange(mine, owner, costs, loads, high)
        if best is None:
            return
        given, taken, low = best
        owner[given] = low
        change = costs[given]
        if taken >= 0:
            owner[taken] = high
            change -= costs[taken]
        loads[high] -= change
        loads[low] += change


def _best_exchange(
    mine: np.ndarray, owner: np.ndarray, costs: np.ndarray, loads: np.ndarray, high: int
) -> tuple[int, int, int] | None:
    """Return (item to give, item to take or -1, rank), the exchange that lowers the larger of two loads most."""
    best, found = 0.0, None
    for low in np.argsort(loads, kind="stable")[:2].tolist():
        if low == high:
            continue
        theirs = np.flatnonzero(owner == low)
        gap = loads[high] - loads[low]
        # What high gives away net of what it takes; nothing may be taken (first column).
        net = costs[mine][:, None] - np.concatenate([[0.0], costs[theirs]])[None, :]
        gain = np.minimum(net, gap - net)
        if len(mine) == 1:
            gain[:, 0] = 0.0  # no rank is left without an item
        row, column = np.unravel_index(int(gain.argmax()), gain.shape)
        if gain[row, column] > best:
            best = float(gain[row, column])
            found = (int(mine[row]), -1 if column == 0 else int(theirs[column - 1]), low)
    return found
