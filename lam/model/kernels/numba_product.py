"""Products of features at the atoms in Numba: coupling by Gaunt coefficients.

Features are (M, X) with one row for each component and all atoms and channels side by side. The coupling
visits only the coefficients that are not zero (about 8 % of them for l <= 3), a tile of columns at a time, so
that each column is read and written once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from lam.model.angular import coupling, quadrature
from lam.model.kernels.jit import jit

_LINE = 64
"""Bytes of a line of the cache."""
_LINES = 8
"""Columns that are worked on together, in lines: what is read and written of them fits the first-level cache."""


@cache
def couple(l_max: int, double: bool) -> Callable[..., None]:
    """Return ``couple(first, last, x, y, out)``: ``out[m] = sum_ab G[m, a, b] x[a] y[b]`` for those columns.

    The sum is written out as one straight line of code for all columns: pairs ``x_a y_b + x_b y_a`` are formed
    once, since the coefficients are symmetric, and the sums stay in registers.
    """
    name = f"couple_{l_max}_{64 if double else 32}"
    source = _couple_source(name, gaunt_coefficients(l_max))
    number = np.float64 if double else np.float32
    line = _LINE // number().itemsize
    # Copied to tiles: rows of a large batch lie a power of two apart often enough to evict each other from the
    # cache. For the same reason a tile's rows are one line longer than they need be.
    scope = {"np": np, "ft": number, "COLUMNS": _LINES * line, "STRIDE": (_LINES + 1) * line, "__name__": __name__}
    exec(compile(source, __file__, "exec"), scope)  # under this file's name: Numba keeps the result on disk
    return jit(scope[name], text=source)  # the coefficients are in it


def _couple_source(name: str, coefficients: np.ndarray) -> str:
    """Return the source of the function ``name`` for coefficients (M, M, M)."""
    rows = len(coefficients)
    # Explicit loops: Numba's slice assignments first find out whether the two sides overlap.
    lines = [
        f"def {name}(first, last, x, y, out):",
        f"    w = np.zeros(({3 * rows}, STRIDE), dtype=ft)",
        "    for begin in range(first, last, COLUMNS):",
        "        count = min(COLUMNS, last - begin)",
        f"        for m in range({rows}):",
        f"            wx, wy = w[m], w[{rows} + m]",
        "            xm, ym = x[m, begin : begin + count], y[m, begin : begin + count]",
        "            for c in range(count):",
        "                wx[c] = xm[c]",
        "            for c in range(count):",
        "                wy[c] = ym[c]",
        "        for c in range(COLUMNS):",
    ]
    started: set[int] = set()
    for a in range(rows):
        for b in range(a, rows):
            pair = f"w[{a}, c] * w[{rows + b}, c]"
            if a != b:
                pair += f" + w[{b}, c] * w[{rows + a}, c]"
            targets = np.flatnonzero(coefficients[:, a, b])
            if len(targets):
                lines.append(f"            pair = {pair}")
            for m in targets:
                term = f"ft({float(coefficients[m, a, b])!r}) * pair"
                lines.append(f"            p{m} {'+=' if m in started else '='} {term}")
                started.add(int(m))
    lines += [f"            w[{2 * rows + m}, c] = p{m}" for m in range(rows)]
    lines += [
        f"        for m in range({rows}):",
        f"            wo, om = w[{2 * rows} + m], out[m, begin : begin + count]",
        "            for c in range(count):",
        "                om[c] = wo[c]",
    ]
    return "\n".join(lines)


@cache
def gaunt_coefficients(l_max: int) -> np.ndarray:
    """Return the mean over the sphere of ``Y_m Y_a Y_b``, (M, M, M): symmetric in all three, exact zeros."""
    table = coupling(*quadrature(l_max)).numpy()
    return np.where(np.abs(table) > 1e-12, table, 0.0)
