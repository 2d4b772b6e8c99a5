"""How the centres of sorted edges are shared out among threads."""

from __future__ import annotations

import itertools

import numpy as np
import torch


def shares(
    starts: np.ndarray, threads: int | None = None, *, edges_of_an_atom: int = 20, worth_a_thread: int = 2700
) -> list[tuple[int, int]]:
    """Split the centres into contiguous ranges of about equal work, one for each thread worth using.

    Args:
        starts: first edge of each centre and the number of edges, (N + 1,).
        threads: most ranges; as many as PyTorch uses threads by default.
        edges_of_an_atom: what an atom costs besides its edges, in edges.
        worth_a_thread: edges, those for the atoms included, below which another thread costs more than it saves.

    Returns:
        First centre and the one behind the last of each range; none is empty unless there are no centres at all.
    """
    count = len(starts) - 1
    work = starts + edges_of_an_atom * np.arange(count + 1)
    threads = max(1, min(threads or torch.get_num_threads(), int(work[-1]) // worth_a_thread, count))
    if threads == 1:
        return [(0, count)]
    cuts = np.searchsorted(work, work[-1] * np.arange(1, threads) / threads)
    ends = [0, *cuts.tolist(), count]
    return [(first, last) for first, last in itertools.pairwise(ends) if last > first]
