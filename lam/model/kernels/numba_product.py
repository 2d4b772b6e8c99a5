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
_LINES = {1: 8, 2: 4}
"""Columns that are worked on together, in lines: what is read and written of them fits the first-level cache."""


@cache
def couple(l_max: int, double: bool, products: int = 1) -> Callable[..., None]:
    """Return ``couple(first, last, x, y, out)``: ``out[m] = sum_ab G[m, a, b] x[a] y[b]`` for those columns.

    The sum is written out as one straight line of code for all columns: pairs ``x_a y_b + x_b y_a`` are formed
    once, since the coefficients are symmetric, and the sums stay in registers.

    Args:
        l_max: highest degree.
        double: float64 rather than float32.
        products: 2 for the sum of two products, ``couple(first, last, x, y, u, v, out)``, as derivatives are.
    """
    name = f"couple_{l_max}_{64 if double else 32}" + ("" if products == 1 else f"_{products}")
    source = _couple_source(name, gaunt_coefficients(l_max), products)
    number = np.float64 if double else np.float32
    line, lines = _LINE // number().itemsize, _LINES[products]
    # Copied to tiles: rows of a large batch lie a power of two apart often enough to evict each other from the
    # cache. For the same reason a tile's rows are one line longer than they need be.
    scope = {"np": np, "ft": number, "COLUMNS": lines * line, "STRIDE": (lines + 1) * line, "__name__": __name__}
    exec(compile(source, __file__, "exec"), scope)  # under this file's name: Numba keeps the result on disk
    return jit(scope[name], text=source)  # the coefficients are in it


def _couple_source(name: str, coefficients: np.ndarray, products: int) -> str:
    """Return the source of the function ``name`` for coefficients (M, M, M)."""
    rows = len(coefficients)
    factors = "xyuv"[: 2 * products]
    result = len(factors) * rows
    # Explicit loops: Numba's slice assignments first find out whether the two sides overlap.
    lines = [
        f"def {name}(first, last, {', '.join(factors)}, out):",
        f"    w = np.zeros(({result + rows}, STRIDE), dtype=ft)",
        "    for begin in range(first, last, COLUMNS):",
        "        count = min(COLUMNS, last - begin)",
        f"        for m in range({rows}):",
    ]
    for place, factor in enumerate(factors):
        lines += [
            f"            w{factor}, {factor}m = w[{place * rows} + m], {factor}[m, begin : begin + count]",
            "            for c in range(count):",
            f"                w{factor}[c] = {factor}m[c]",
        ]
    lines.append("        for c in range(COLUMNS):")
    started: set[int] = set()
    for a in range(rows):
        for b in range(a, rows):
            pair = " + ".join(_pair(2 * k * rows, (2 * k + 1) * rows, a, b) for k in range(products))
            targets = np.flatnonzero(coefficients[:, a, b])
            if len(targets):
                lines.append(f"            pair = {pair}")
            for m in targets:
                term = f"ft({float(coefficients[m, a, b])!r}) * pair"
                lines.append(f"            p{m} {'+=' if m in started else '='} {term}")
                started.add(int(m))
    lines += [f"            w[{result + m}, c] = p{m}" for m in range(rows)]
    lines += [
        f"        for m in range({rows}):",
        f"            wo, om = w[{result} + m], out[m, begin : begin + count]",
        "            for c in range(count):",
        "                om[c] = wo[c]",
    ]
    return "\n".join(lines)


def _pair(x: int, y: int, a: int, b: int) -> str:
    """Return the symmetric product of two components, of factors that begin at rows x and y."""
    pair = f"w[{x + a}, c] * w[{y + b}, c]"
    return pair if a == b else f"{pair} + w[{x + b}, c] * w[{y + a}, c]"


@cache
def gaunt_coefficients(l_max: int) -> np.ndarray:
    """Return the mean over the sphere of ``Y_m Y_a Y_b``, (M, M, M): symmetric in all three, exact zeros."""
    table = coupling(*quadrature(l_max)).numpy()
    return np.where(np.abs(table) > 1e-12, table, 0.0)
