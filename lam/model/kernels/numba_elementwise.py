"""What is done at the atoms between matrix products, in Numba: each function reads and writes its arrays once.

Features are (M, X) with one row for each component and the C channels of all N atoms side by side. They are worked
on a few atoms at a time, so that what is read twice, and sums over components, are in the first-level cache.
``adjoint`` functions give gradients, ``polar`` and ``second`` functions what the gradients of these need;
:mod:`lam.model.kernels.node_ops` strings them together.
"""

from __future__ import annotations

import numpy as np

from lam.model.kernels.jit import jit

_COLUMNS = 512

# Explicit loops throughout: Numba's slice assignments first find out whether the two sides overlap. One loop for
# each result: with several, LLVM gives up proving that they do not overlap and does not vectorise.


_inlined = jit(forceinline=True)  # a call would count references to each row that it is given


@_inlined
def _multiply(x, y, total, start):
    """Add the product of two rows to a third, or start with it."""
    if start:
        for k in range(len(x)):
            total[k] = x[k] * y[k]
    else:
        for k in range(len(x)):
            total[k] += x[k] * y[k]


@_inlined
def _put(total, atom, count, width, begin, weight, out):
    """Write ``weight`` times the sums of ``count`` atoms to columns from ``begin`` on of their rows of ``out``."""
    for i in range(count):
        row, target = total[i * width : (i + 1) * width], out[atom + i, begin : begin + width]
        for k in range(width):
            target[k] = weight * row[k]


@_inlined
def _take(s, atom, count, width, begin, weight, scaled):
    """Read what :func:`_put` writes."""
    for i in range(count):
        row, target = s[atom + i, begin : begin + width], scaled[i * width : (i + 1) * width]
        for k in range(width):
            target[k] = weight * row[k]


@jit
def invariants(first, last, weights, a, b, p, c, out):
    """Write ``a_00`` and weights[l] sum_m of ``a b``, ``p b``, ``p c``, side by side for each atom.

    a .. c are (M, N C), out is (N, (1 + 3 L) C); or c is (0, N C), and out (N, (1 + 2 L) C).
    """
    degrees, kinds = len(weights), 3 if len(c) > 0 else 2
    width = out.shape[1] // (kinds * degrees + 1)
    step = max(1, _COLUMNS // width)
    total = np.empty((3, step * width), dtype=a.dtype)
    for atom in range(first, last, step):
        count = min(step, last - atom)
        begin, end = atom * width, (atom + count) * width
        _put(a[0, begin:end], atom, count, width, 0, a.dtype.type(1.0), out)
        for degree in range(degrees):
            for m in range(degree * degree, (degree + 1) * (degree + 1)):
                start = m == degree * degree
                _multiply(a[m, begin:end], b[m, begin:end], total[0], start)
                _multiply(p[m, begin:end], b[m, begin:end], total[1], start)
                if kinds == 3:
                    _multiply(p[m, begin:end], c[m, begin:end], total[2], start)
            for kind in range(kinds):
                _put(total[kind], atom, count, width, (1 + kind * degrees + degree) * width, weights[degree], out)


@jit
def invariants_polar(first, last, weights, a, b, p, c, va, vb, vp, vc, out):
    """Write the derivative of :func:`invariants` along changes ``va .. vc`` of ``a .. c``."""
    degrees, kinds = len(weights), 3 if len(c) > 0 else 2
    width = out.shape[1] // (kinds * degrees + 1)
    step = max(1, _COLUMNS // width)
    total = np.empty((3, step * width), dtype=a.dtype)
    for atom in range(first, last, step):
        count = min(step, last - atom)
        begin, end = atom * width, (atom + count) * width
        _put(va[0, begin:end], atom, count, width, 0, a.dtype.type(1.0), out)
        for degree in range(degrees):
            for m in range(degree * degree, (degree + 1) * (degree + 1)):
                start = m == degree * degree
                _multiply(a[m, begin:end], vb[m, begin:end], total[0], start)
                _multiply(va[m, begin:end], b[m, begin:end], total[0], False)
                _multiply(p[m, begin:end], vb[m, begin:end], total[1], start)
                _multiply(vp[m, begin:end], b[m, begin:end], total[1], False)
                if kinds == 3:
                    _multiply(p[m, begin:end], vc[m, begin:end], total[2], start)
                    _multiply(vp[m, begin:end], c[m, begin:end], total[2], False)
            for kind in range(kinds):
                _put(total[kind], atom, count, width, (1 + kind * degrees + degree) * width, weights[degree], out)


@jit
def invariants_adjoint(first, last, weights, s, a, b, p, c, ga, gb, gp, gc, linear):
    """Write the gradients of ``<s, invariants(a, b, p, c)>`` by ``a .. c``; ``linear``: with the part of ``a_00``."""
    degrees, kinds = len(weights), 3 if len(c) > 0 else 2
    width = s.shape[1] // (kinds * degrees + 1)
    step = max(1, _COLUMNS // width)
    scaled = np.empty((3, step * width), dtype=a.dtype)
    s0, s1, s2 = scaled[0], scaled[1], scaled[2]
    for atom in range(first, last, step):
        count = min(step, last - atom)
        begin, end = atom * width, (atom + count) * width
        for degree in range(degrees):
            for kind in range(kinds):
                _take(s, atom, count, width, (1 + kind * degrees + degree) * width, weights[degree], scaled[kind])
            for m in range(degree * degree, (degree + 1) * (degree + 1)):
                am, bm, pm = a[m, begin:end], b[m, begin:end], p[m, begin:end]
                xa, xb, xp = ga[m, begin:end], gb[m, begin:end], gp[m, begin:end]
                for k in range(end - begin):
                    xa[k] = s0[k] * bm[k]
                for k in range(end - begin):
                    xb[k] = s0[k] * am[k] + s1[k] * pm[k]
                for k in range(end - begin):
                    xp[k] = s1[k] * bm[k]
                if kinds == 3:
                    cm, xc = c[m, begin:end], gc[m, begin:end]
                    for k in range(end - begin):
                        xp[k] += s2[k] * cm[k]
                    for k in range(end - begin):
                        xc[k] = s2[k] * pm[k]
        if linear:
            _take(s, atom, count, width, 0, a.dtype.type(1.0), s0)
            xa = ga[0, begin:end]
            for k in range(end - begin):
                xa[k] += s0[k]


@jit
def gate(first, last, x, opening, out):
    """Write ``x (1 + opening)``; x (M, X), opening (X,)."""
    one = x.dtype.type(1.0)
    for begin in range(first, last, _COLUMNS):
        end = min(begin + _COLUMNS, last)
        by = opening[begin:end]
        for m in range(len(x)):
            row, target = x[m, begin:end], out[m, begin:end]
            for k in range(end - begin):
                target[k] = row[k] * (one + by[k])


@jit
def gate_adjoint(first, last, x, opening, g, gx, g_opening):
    """Write the gradients of ``<g, gate(x, opening)>`` with respect to x and the opening."""
    one = x.dtype.type(1.0)
    for begin in range(first, last, _COLUMNS):
        end = min(begin + _COLUMNS, last)
        by, total = opening[begin:end], g_opening[begin:end]
        for m in range(len(x)):
            row, pull, target = x[m, begin:end], g[m, begin:end], gx[m, begin:end]
            for k in range(end - begin):
                target[k] = pull[k] * (one + by[k])
            _multiply(row, pull, total, m == 0)


@_inlined
def _of_atom(total, i, width):
    """Return the sum of an atom's columns."""
    row = total[i * width : (i + 1) * width]
    found = total.dtype.type(0.0)
    for k in range(width):
        found += row[k]
    return found


@_inlined
def _fill(value, i, width, row):
    target = row[i * width : (i + 1) * width]
    for k in range(width):
        target[k] = value


@jit
def norm(first, last, width, x, out):
    """Write ``x / sqrt(1 + mean square)`` of each atom; x and out (M, N C), C is ``width``."""
    n_rows = len(x)
    one = x.dtype.type(1.0)
    share = one / x.dtype.type(n_rows * width)
    step = max(1, _COLUMNS // width)
    total = np.empty(step * width, dtype=x.dtype)
    for atom in range(first, last, step):
        count = min(step, last - atom)
        begin, end = atom * width, (atom + count) * width
        for m in range(n_rows):
            _multiply(x[m, begin:end], x[m, begin:end], total, m == 0)
        for i in range(count):
            _fill(one / np.sqrt(one + _of_atom(total, i, width) * share), i, width, total)
        for m in range(n_rows):
            _multiply(x[m, begin:end], total, out[m, begin:end], True)


@jit
def norm_adjoint(first, last, width, x, g, out):
    """Write the gradient of ``<g, norm(x)>``: ``f g - f^3 x <x, g> / (M C)`` with f the factor of the norm."""
    n_rows = len(x)
    one = x.dtype.type(1.0)
    share = one / x.dtype.type(n_rows * width)
    step = max(1, _COLUMNS // width)
    total = np.empty((2, step * width), dtype=x.dtype)
    by, along = total[0], total[1]
    for atom in range(first, last, step):
        count = min(step, last - atom)
        begin, end = atom * width, (atom + count) * width
        for m in range(n_rows):
            _multiply(x[m, begin:end], x[m, begin:end], by, m == 0)
            _multiply(x[m, begin:end], g[m, begin:end], along, m == 0)
        for i in range(count):
            factor = one / np.sqrt(one + _of_atom(by, i, width) * share)
            _fill(-factor * factor * factor * share * _of_atom(along, i, width), i, width, along)
            _fill(factor, i, width, by)
        for m in range(n_rows):
            row, pull, target = x[m, begin:end], g[m, begin:end], out[m, begin:end]
            for k in range(end - begin):
                target[k] = by[k] * pull[k] + along[k] * row[k]


@jit
def norm_second(first, last, width, x, g, v, hx, hg):
    """Write the gradients of ``<v, norm_adjoint(x, g)>`` with respect to x and g."""
    n_rows = len(x)
    one, three = x.dtype.type(1.0), x.dtype.type(3.0)
    share = one / x.dtype.type(n_rows * width)
    step = max(1, _COLUMNS // width)
    total = np.empty((4, step * width), dtype=x.dtype)
    t0, t1, t2, t3 = total[0], total[1], total[2], total[3]
    for atom in range(first, last, step):
        count = min(step, last - atom)
        begin, end = atom * width, (atom + count) * width
        for m in range(n_rows):
            row, pull, push = x[m, begin:end], g[m, begin:end], v[m, begin:end]
            _multiply(row, row, t0, m == 0)
            _multiply(row, pull, t1, m == 0)
            _multiply(row, push, t2, m == 0)
            _multiply(push, pull, t3, m == 0)
        for i in range(count):
            factor = one / np.sqrt(one + _of_atom(t0, i, width) * share)
            xg, xv, vg = _of_atom(t1, i, width), _of_atom(t2, i, width), _of_atom(t3, i, width)
            cube = factor * factor * factor * share
            _fill(factor, i, width, t0)
            _fill(-cube * xg, i, width, t1)
            _fill(-cube * xv, i, width, t2)
            _fill(three * cube * factor * factor * share * xg * xv - cube * vg, i, width, t3)
        for m in range(n_rows):
            row, pull, push = x[m, begin:end], g[m, begin:end], v[m, begin:end]
            on_x, on_g = hx[m, begin:end], hg[m, begin:end]
            for k in range(end - begin):
                on_x[k] = t3[k] * row[k] + t1[k] * push[k] + t2[k] * pull[k]
            for k in range(end - begin):
                on_g[k] = t0[k] * push[k] + t2[k] * row[k]
