"""A few threads for kernels that release the interpreter lock."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


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
