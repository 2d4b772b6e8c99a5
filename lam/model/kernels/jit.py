"""Numba's compiler with the settings of all kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

FASTMATH = {"contract", "arcp", "nsz", "reassoc"}
"""Not ``nnan`` and ``ninf``: a NaN must come out as one."""


def jit(function: Callable[..., Any] | None = None, **options: Any) -> Callable[..., Any]:
    """Compile ``function`` at its first call and keep the result on disk, where there is a place that can be written.

    Kernels release the interpreter lock, and division by zero gives an infinity as it does in NumPy: raising
    would cost a branch in every loop.
    """
    settings = {"fastmath": FASTMATH, "nogil": True, "error_model": "numpy"} | options

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            return numba.njit(cache=True, **settings)(function)
        except RuntimeError:  # neither the package's folder nor the user's cache can be written
            return numba.njit(**settings)(function)

    return decorate if function is None else decorate(function)
