"""A few threads for kernels that release the interpreter lock."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

_WORTH_A_THREAD = 2000
"""Edges below which another thread costs more than it saves."""
_EDGES_OF_AN_ATOM = 20
"""What an atom costs besides its edges, in edges."""
_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


def shares(starts: np.ndarray, threads: int | None = None) -> list[tuple[int, int]]:
    """Split the centres into contiguous ranges of about equal work, one for each thread worth using.

    Args:
        starts: first edge of each centre and the number of edges, (N + 1,).
        threads: most ranges; as many as PyTorch uses threads by default.
    """
    count = len(starts) - 1
    threads = threads or torch.get_num_threads()
    threads = max(1, min(threads, int(starts[-1]) // _WORTH_A_THREAD, count))
    if threads == 1:
        return [(0, count)]
    work = starts + _EDGES_OF_AN_ATOM * np.arange(count + 1)
    cuts = np.searchsorted(work, work[-1] * np.arange(1, threads) / threads)
    ends = [0, *cuts.tolist(), count]
    return [(a, b) for a, b in itertools.pairwise(ends) if b > a]


def run(action: Callable[[int, int, int], None], ranges: list[tuple[int, int]]) -> None:
    """Call ``action(number, first, last)`` for each range, each in a thread of its own.

    The calling thread takes the first range; exceptions are raised here.
    """
    if len(ranges) == 1:
        action(0, *ranges[0])
        return
    key = (os.getpid(), len(ranges) - 1)  # threads do not survive a fork
    if key not in _pools:
        _pools[key] = ThreadPoolExecutor(len(ranges) - 1, thread_name_prefix="lam-kernel")
    waiting = [_pools[key].submit(action, i, *part) for i, part in enumerate(ranges) if i]
    action(0, *ranges[0])
    for future in waiting:
        future.result()
