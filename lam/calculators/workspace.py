"""Memory that is used again from one evaluation to the next."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Hashable

import numpy as np

_MOST_VIEWS = 4000
"""How many shapes are remembered; they cost little, but a long screening asks for ever new ones."""
_LINE = 64
"""Bytes of a line of the cache; arrays start on one."""


class Workspace:
    """Arrays that are used again by the next call. What one call keeps under a name, it must not ask for twice.

    Each name has one piece of memory, as large as the largest that was ever asked for; names must therefore come
    from a set that does not grow with the number of calls. Threads may ask at the same time, for names of their own.

    Args:
        number: type of the numbers.
    """

    def __init__(self, number: type) -> None:
        self._number = number
        self._memory: dict[Hashable, np.ndarray] = {}
        self._views: dict[tuple[Hashable, tuple[tuple[int, ...], ...]], tuple[np.ndarray, ...]] = {}
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Bytes of all memory that is held."""
        return sum(memory.nbytes for memory in self._memory.values())

    def get(self, name: Hashable, *shape: int) -> np.ndarray:
        """Return an uninitialised array of this shape."""
        return self.arrays(name, (shape,))[0]

    def arrays(self, name: Hashable, shapes: tuple[tuple[int, ...], ...]) -> tuple[np.ndarray, ...]:
        """Return uninitialised arrays of these shapes, side by side in the memory of one name."""
        views = self._views.get((name, shapes))
        return self._make(name, shapes) if views is None else views

    def _make(self, name: Hashable, shapes: tuple[tuple[int, ...], ...]) -> tuple[np.ndarray, ...]:
        line = _LINE // self._number().itemsize
        sizes = [math.prod(shape) for shape in shapes]
        starts = [0, *itertools.accumulate(-(-size // line) * line for size in sizes)]
        with self._lock:  # what is there is read without it
            memory = self._memory.get(name)
            if memory is None or len(memory) < starts[-1]:
                memory = self._memory[name] = self._allocate(starts[-1], line)
                self._views = {key: views for key, views in self._views.items() if key[0] != name}
            views = tuple(
                memory[start : start + size].reshape(shape)
                for start, size, shape in zip(starts[:-1], sizes, shapes, strict=True)
            )
            if len(self._views) >= _MOST_VIEWS:
                self._views.clear()
            self._views[name, shapes] = views
        return views

    def _allocate(self, size: int, line: int) -> np.ndarray:
        memory = np.empty(size + line, self._number)
        skip = -memory.ctypes.data % _LINE // memory.itemsize
        return memory[skip : skip + size]
