"""A few threads for kernels that release the interpreter lock."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

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

    The calling thread takes the first range. Nothing runs any more when this returns or raises (the first exception
    that there was; also Ctrl-C): whatever the threads write to can be used again.
    """
    if len(ranges) == 1:
        action(0, *ranges[0])
        return
    key = (os.getpid(), len(ranges) - 1)  # threads do not survive a fork
    if key not in _pools:
        _pools[key] = ThreadPoolExecutor(len(ranges) - 1, thread_name_prefix="lam-kernel")
    waiting: list[Future[None]] = []
    try:
        for number, part in enumerate(ranges[1:], start=1):
            waiting.append(_pools[key].submit(action, number, *part))
        action(0, *ranges[0])
    finally:
        _wait_for(waiting)
    for future in waiting:
        future.result()


def _wait_for(futures: list[Future[None]]) -> None:
    """Wait until all are done, also if Ctrl-C is pressed meanwhile; that is raised afterwards."""
    interrupted = None
    while not all(future.done() for future in futures):
        try:
            wait(futures)
        except KeyboardInterrupt as error:
            interrupted = error
    if interrupted is not None:
        raise interrupted
