"""What is done at the atoms between matrix products, in Numba: each function reads and writes its arrays once.

Features are (M, N, C), components outermost. ``adjoint`` functions give gradients, ``polar`` and ``second``
functions what the gradients of these need; :mod:`lam.model.kernels.node_ops` strings them together.
"""

from __future__ import annotations

import numpy as np

from lam.model.kernels.jit import jit

_COLUMNS = 64

# ruff: noqa: ANN001 - the types are Numba's; shapes are in the docstrings


@jit
def pair(first, last, weights, a, b, p, c, out):
    """Write ``out[0 .. 2]`` = weights[l] sum_m of ``a b``, ``p b``, ``p c``; a .. c (M, X), out (3, L, X)."""
    total = np.zeros((3, _COLUMNS), dtype=a.dtype)
    for begin in range(first, last, _COLUMNS):
        count = min(_COLUMNS, last - begin)
        for degree in range(len(weights)):
            total[:] = a.dtype.type(0.0)
            for m in range(degree * degree, (degree + 1) * (degree + 1)):
                am, bm = a[m, begin : begin + count], b[m, begin : begin + count]
                pm, cm = p[m, begin : begin + count], c[m, begin : begin + count]
                for k in range(count):
                    total[0, k] += am[k] * bm[k]
                for k in range(count):
                    total[1, k] += pm[k] * bm[k]
                for k in range(count):
                    total[2, k] += pm[k] * cm[k]
            for kind in range(3):
                out[kind, degree, begin : begin + count] = weights[degree] * total[kind, :count]


@jit
def pair_polar(first, last, weights, a, b, p, c, va, vb, vp, vc, out):
    """Write the derivative of :func:`pair` along changes ``va .. vc`` of ``a .. c``."""
    total = np.zeros((3, _COLUMNS), dtype=a.dtype)
    for begin in range(first, last, _COLUMNS):
        count = min(_COLUMNS, last - begin)
        end = begin + count
        for degree in range(len(weights)):
            total[:] = a.dtype.type(0.0)
            for m in range(degree * degree, (degree + 1) * (degree + 1)):
                am, bm, pm, cm = a[m, begin:end], b[m, begin:end], p[m, begin:end], c[m, begin:end]
                xa, xb, xp, xc = va[m, begin:end], vb[m, begin:end], vp[m, begin:end], vc[m, begin:end]
                for k in range(count):
                    total[0, k] += am[k] * xb[k] + xa[k] * bm[k]
                for k in range(count):
                    total[1, k] += pm[k] * xb[k] + xp[k] * bm[k]
                for k in range(count):
                    total[2, k] += pm[k] * xc[k] + xp[k] * cm[k]
            for kind in range(3):
                out[kind, degree, begin:end] = weights[degree] * total[kind, :count]


@jit
def pair_adjoint(first, last, weights, s, a, b, p, c, ga, gb, gp, gc):
    """Write the gradients of ``<s, pair(a, b, p, c)>`` with respect to ``a .. c``; s (3, L, X)."""
    scaled = np.zeros((3, _COLUMNS), dtype=a.dtype)
    for begin in range(first, last, _COLUMNS):
        count = min(_COLUMNS, last - begin)
        end = begin + count
        for degree in range(len(weights)):
            for kind in range(3):
                scaled[kind, :count] = weights[degree] * s[kind, degree, begin:end]
            s0, s1, s2 = scaled[0], scaled[1], scaled[2]
            for m in range(degree * degree, (degree + 1) * (degree + 1)):
                am, bm, pm, cm = a[m, begin:end], b[m, begin:end], p[m, begin:end], c[m, begin:end]
                xa, xb, xp, xc = ga[m, begin:end], gb[m, begin:end], gp[m, begin:end], gc[m, begin:end]
                for k in range(count):
                    xa[k] = s0[k] * bm[k]
                for k in range(count):
                    xb[k] = s0[k] * am[k] + s1[k] * pm[k]
                for k in range(count):
                    xp[k] = s1[k] * bm[k] + s2[k] * cm[k]
                for k in range(count):
                    xc[k] = s2[k] * pm[k]


@jit
def norm(first, last, x, out):
    """Write ``x / sqrt(1 + mean square)`` of each atom; x and out (M, N, C)."""
    n_rows, _, width = x.shape
    one = x.dtype.type(1.0)
    share = one / x.dtype.type(n_rows * width)
    for i in range(first, last):
        total = x.dtype.type(0.0)
        for m in range(n_rows):
            row = x[m, i]
            for k in range(width):
                total += row[k] * row[k]
        factor = one / np.sqrt(one + total * share)
        for m in range(n_rows):
            row, result = x[m, i], out[m, i]
            for k in range(width):
                result[k] = factor * row[k]


@jit
def norm_adjoint(first, last, x, g, out):
    """Write the gradient of ``<g, norm(x)>``: ``f g - f^3 x <x, g> / (M C)`` with f the factor of the norm."""
    n_rows, _, width = x.shape
    one = x.dtype.type(1.0)
    share = one / x.dtype.type(n_rows * width)
    for i in range(first, last):
        square, along = x.dtype.type(0.0), x.dtype.type(0.0)
        for m in range(n_rows):
            row, pull = x[m, i], g[m, i]
            for k in range(width):
                square += row[k] * row[k]
            for k in range(width):
                along += row[k] * pull[k]
        factor = one / np.sqrt(one + square * share)
        back = factor * factor * factor * along * share
        for m in range(n_rows):
            row, pull, result = x[m, i], g[m, i], out[m, i]
            for k in range(width):
                result[k] = factor * pull[k] - back * row[k]


@jit
def norm_second(first, last, x, g, v, out):
    """Write the gradient of ``<v, norm_adjoint(x, g)>`` with respect to x."""
    n_rows, _, width = x.shape
    one, three = x.dtype.type(1.0), x.dtype.type(3.0)
    share = one / x.dtype.type(n_rows * width)
    for i in range(first, last):
        square, xg = x.dtype.type(0.0), x.dtype.type(0.0)
        xv, vg = x.dtype.type(0.0), x.dtype.type(0.0)
        for m in range(n_rows):
            row, pull, push = x[m, i], g[m, i], v[m, i]
            for k in range(width):
                square += row[k] * row[k]
            for k in range(width):
                xg += row[k] * pull[k]
            for k in range(width):
                xv += row[k] * push[k]
            for k in range(width):
                vg += push[k] * pull[k]
        factor = one / np.sqrt(one + square * share)
        cube = factor * factor * factor * share
        on_x = three * cube * factor * factor * share * xg * xv - cube * vg
        on_v, on_g = -cube * xg, -cube * xv
        for m in range(n_rows):
            row, pull, push, result = x[m, i], g[m, i], v[m, i], out[m, i]
            for k in range(width):
                result[k] = on_x * row[k] + on_v * push[k] + on_g * pull[k]
