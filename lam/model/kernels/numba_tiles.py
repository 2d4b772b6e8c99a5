"""The loops that the message kernels share: rows of senders, sums over the edges of a chunk, and their adjoints.

What is kept of a chunk is edge by row: ``Q[e, s]`` is what the sender of edge e sends. Sums over edges and
over components run over tiles (:mod:`lam.model.kernels.numba_simd`), with senders, pairs (n, s) or passed
channels in the lanes; only adjoints of the geometry have edges in the lanes. Arrays are flat, in the order of
the indices given; ``width`` is the number of lanes, ``count`` the number of edges of the chunk.
"""

from __future__ import annotations

from lam.model.kernels import numba_simd as simd
from lam.model.kernels.jit import jit
from lam.model.kernels.numba_geometry import DY, LANES, RBAR, RDOT, YBAR, R, Y

# -- rows of a centre ---------------------------------------------------------------------------


@jit(inline="always")
def read_density(D, gA, i, M, NR, S, width):
    """Copy a centre's row of the density's gradient, (M, N, n S), to ``D[n, m, s]``."""
    for m in range(M):
        for n in range(NR):
            for s in range(0, S, width):
                simd.store(D, (n * M + m) * S + s, simd.load(gA, (m, i, n * S + s), width))


@jit(inline="always")
def write_density(A, density, i, M, K, width):
    """Copy ``density[m, k]`` to a centre's row of the result, (M, N, K)."""
    for m in range(M):
        for k in range(0, K, width):
            simd.store(A, (m, i, k), simd.load(density, m * K + k, width))


@jit(inline="always")
def read_passed(passed, gP, i, NR, C, width):
    """Copy a centre's row of the passed tensors' gradient, (8, N, n C), to ``passed[n, a, c]``."""
    for a in range(8):
        for n in range(NR):
            for c in range(0, C, width):
                simd.store(passed, (n * 8 + a) * C + c, simd.load(gP, (a, i, n * C + c), width))


@jit(inline="always")
def write_passed(P, passed, i, NR, C, width):
    """Copy ``passed[n, a, c]`` to a centre's row of the result, (8, N, n C)."""
    for a in range(8):
        for n in range(NR):
            for c in range(0, C, width):
                simd.store(P, (a, i, n * C + c), simd.load(passed, (n * 8 + a) * C + c, width))


# -- what edges bring ---------------------------------------------------------------------------


@jit(inline="always")
def gather(w, Q, q, T, neighbors, begin, count, S, C, width):
    """Fill ``Q``: the senders q and, where atoms have tensors, these seen along the bond."""
    for e in range(count):
        j = neighbors[begin + e]
        for s in range(0, S, width):
            row = simd.load(q, j * S + s, width)
            if C > 0:
                for a in range(8):
                    y = simd.spread(w, (Y + 1 + a) * LANES + e, width)
                    row = simd.times_plus(y, simd.load(T, (j * 8 + a) * S + s, width), row)
            simd.store(Q, e * S + s, row)


@jit(inline="always")
def gather_change(w, dQ, T, v_q, v_T, neighbors, begin, count, S, C, width):
    """Fill ``dQ``: the change of ``Q`` with changes of senders, tensors and vectors."""
    for e in range(count):
        j = neighbors[begin + e]
        for s in range(0, S, width):
            row = simd.load(v_q, j * S + s, width)
            if C > 0:
                for a in range(8):
                    y = simd.spread(w, (Y + 1 + a) * LANES + e, width)
                    row = simd.times_plus(y, simd.load(v_T, (j * 8 + a) * S + s, width), row)
                    dy = simd.spread(w, (DY + 1 + a) * LANES + e, width)
                    row = simd.times_plus(dy, simd.load(T, (j * 8 + a) * S + s, width), row)
            simd.store(dQ, e * S + s, row)


@jit(inline="always")
def sum_density(density, w, Q, count, M, NR, S, K, tile, width):
    """Add the edges to ``density[m, n, s]``, ``tile`` components at a time."""
    for n in range(NR):
        for s in range(0, S, width):
            for m in range(0, M, tile):
                total = simd.load_tile(density, m * K + n * S + s, K, tile, width)
                for e in range(count):
                    x = simd.times(simd.load(Q, e * S + s, width), simd.spread(w, (R + n) * LANES + e, width))
                    total = simd.plus_outer(total, x, w, (Y + m) * LANES + e, LANES)
                simd.store_tile(density, m * K + n * S + s, K, total)


@jit(inline="always")
def sum_density_of_few(density, w, Q, QR, count, M, NR, S, K, tile, width):
    """Do the same where senders do not fill a register: lanes run over pairs (n, s), formed in ``QR[e, n, s]``."""
    for e in range(count):
        for n in range(NR):
            for s in range(S):
                QR[e * K + n * S + s] = Q[e * S + s] * w[(R + n) * LANES + e]
    for k in range(0, K, width):
        for m in range(0, M, tile):
            total = simd.load_tile(density, m * K + k, K, tile, width)
            for e in range(count):
                total = simd.plus_outer(total, simd.load(QR, e * K + k, width), w, (Y + m) * LANES + e, LANES)
            simd.store_tile(density, m * K + k, K, total)


@jit(inline="always")
def sum_tangent(density, w, Q, QR, QdR, count, M, NR, S, K, tile, width):
    """Add the change of the density with the edges where senders do not change: lanes run over pairs (n, s)."""
    for e in range(count):
        for n in range(NR):
            for s in range(S):
                QR[e * K + n * S + s] = Q[e * S + s] * w[(R + n) * LANES + e]
                QdR[e * K + n * S + s] = Q[e * S + s] * w[(RDOT + n) * LANES + e]
    for k in range(0, K, width):
        for m in range(0, M, tile):
            total = simd.load_tile(density, m * K + k, K, tile, width)
            for e in range(count):
                total = simd.plus_outer(total, simd.load(QdR, e * K + k, width), w, (Y + m) * LANES + e, LANES)
                total = simd.plus_outer(total, simd.load(QR, e * K + k, width), w, (DY + m) * LANES + e, LANES)
            simd.store_tile(density, m * K + k, K, total)


@jit(inline="always")
def sum_density_change(density, w, Q, dQ, count, M, NR, S, K, tile, width):
    """Add the change of what :func:`sum_density` adds."""
    for n in range(NR):
        for s in range(0, S, width):
            for m in range(0, M, tile):
                total = simd.load_tile(density, m * K + n * S + s, K, tile, width)
                for e in range(count):
                    q, r = simd.load(Q, e * S + s, width), simd.spread(w, (R + n) * LANES + e, width)
                    dx = simd.times(q, simd.spread(w, (RDOT + n) * LANES + e, width))
                    dx = simd.times_plus(simd.load(dQ, e * S + s, width), r, dx)
                    total = simd.plus_outer(total, dx, w, (Y + m) * LANES + e, LANES)
                    total = simd.plus_outer(total, simd.times(q, r), w, (DY + m) * LANES + e, LANES)
                simd.store_tile(density, m * K + n * S + s, K, total)


@jit(inline="always")
def sum_passed(passed, w, row, t, neighbors, begin, count, NR, C8, tile, width):
    """Add the edges' tensors times the functions in ``row`` to ``passed[n, k]``."""
    for k in range(0, C8, width):
        for n in range(0, NR, tile):
            total = simd.load_tile(passed, n * C8 + k, C8, tile, width)
            for e in range(count):
                x = simd.load(t, neighbors[begin + e] * C8 + k, width)
                total = simd.plus_outer(total, x, w, (row + n) * LANES + e, LANES)
            simd.store_tile(passed, n * C8 + k, C8, total)


# -- what senders are given ---------------------------------------------------------------------


@jit(inline="always")
def back(w, rows, D, count, M, NR, S, edges, width):
    """Fill ``rows[e, s]``: the sum over m and n of ``Y_m R_n D[n, m, s]``."""
    for e in range(0, count, edges):
        for s in range(0, S, width):
            total = simd.zeros(w, edges, width)
            for n in range(NR):
                part = simd.zeros(w, edges, width)
                for m in range(M):
                    d = simd.load(D, (n * M + m) * S + s, width)
                    part = simd.plus_outer(part, d, w, (Y + m) * LANES + e, 1)
                total = simd.plus_scaled(total, part, w, (R + n) * LANES + e, 1)
            simd.store_tile(rows, e * S + s, S, total)


@jit(inline="always")
def back_and_change(w, rows, d_rows, D, count, M, NR, S, edges, width):
    """Fill ``rows`` as :func:`back` does, and ``d_rows`` with the change along the edges' changes."""
    for e in range(0, count, edges):
        for s in range(0, S, width):
            total, change = simd.zeros(w, edges, width), simd.zeros(w, edges, width)
            for n in range(NR):
                part, d_part = simd.zeros(w, edges, width), simd.zeros(w, edges, width)
                for m in range(M):
                    d = simd.load(D, (n * M + m) * S + s, width)
                    part = simd.plus_outer(part, d, w, (Y + m) * LANES + e, 1)
                    d_part = simd.plus_outer(d_part, d, w, (DY + m) * LANES + e, 1)
                total = simd.plus_scaled(total, part, w, (R + n) * LANES + e, 1)
                change = simd.plus_scaled(change, part, w, (RDOT + n) * LANES + e, 1)
                change = simd.plus_scaled(change, d_part, w, (R + n) * LANES + e, 1)
            simd.store_tile(rows, e * S + s, S, total)
            simd.store_tile(d_rows, e * S + s, S, change)


@jit(inline="always")
def give_senders(rows, g_q, neighbors, begin, count, S, width):
    """Add ``rows[e, s]`` to the gradients of the senders."""
    for e in range(count):
        j = neighbors[begin + e]
        for s in range(0, S, width):
            simd.store(g_q, j * S + s, simd.plus(simd.load(g_q, j * S + s, width), simd.load(rows, e * S + s, width)))


@jit(inline="always")
def give_tensors(w, g_Q, g_T, neighbors, begin, count, S, width):
    """Add to the gradients of the senders' tensors."""
    for e in range(count):
        j = neighbors[begin + e]
        for s in range(0, S, width):
            g = simd.load(g_Q, e * S + s, width)
            total = simd.load_tile(g_T, j * 8 * S + s, S, 8, width)
            total = simd.plus_outer(total, g, w, (Y + 1) * LANES + e, LANES)
            simd.store_tile(g_T, j * 8 * S + s, S, total)


@jit(inline="always")
def give_tensors_change(w, g_Q, g_dQ, g_T, neighbors, begin, count, S, width):
    """Add the change of what :func:`give_tensors` adds."""
    for e in range(count):
        j = neighbors[begin + e]
        for s in range(0, S, width):
            total = simd.load_tile(g_T, j * 8 * S + s, S, 8, width)
            total = simd.plus_outer(total, simd.load(g_dQ, e * S + s, width), w, (Y + 1) * LANES + e, LANES)
            total = simd.plus_outer(total, simd.load(g_Q, e * S + s, width), w, (DY + 1) * LANES + e, LANES)
            simd.store_tile(g_T, j * 8 * S + s, S, total)


@jit(inline="always")
def give_passed(w, row, passed, g_t, neighbors, begin, count, NR, C8, tile, width):
    """Add to the gradients of the passed tensors: ``passed[n, k]`` times the functions in ``row``."""
    for e in range(count):
        j = neighbors[begin + e]
        for k in range(0, C8, tile * width):
            total = simd.load_tile(g_t, j * C8 + k, width, tile, width)
            for n in range(NR):
                r = simd.spread(w, (row + n) * LANES + e, width)
                total = simd.plus_product(total, r, passed, n * C8 + k, width)
            simd.store_tile(g_t, j * C8 + k, width, total)


# -- what edges are given ------------------------------------------------------------------------


@jit(inline="always")
def across(Qt, Q, count, S, width, wide):
    """Fill ``Qt[s, e]``, the transpose of ``Q``, whole vectors of ``wide`` edges."""
    for o in range(0, count, wide):
        if width == wide:
            for s in range(0, S, wide):
                simd.store_tile(Qt, s * LANES + o, LANES, simd.transposed(simd.load_tile(Q, o * S + s, S, wide, wide)))
        else:
            for s in range(S):
                for e in range(o, o + wide):
                    Qt[s * LANES + e] = Q[e * S + s]


@jit(inline="always")
def pull_density(w, Qt, D, count, M, NR, S, columns, rows, wide):
    """Fill YBAR and add to RBAR: the adjoints of harmonics and radial functions, ``wide`` edges at a time."""
    for o in range(0, count, wide):
        for s in range(0, S, columns):
            senders = simd.load_tile(Qt, s * LANES + o, LANES, columns, wide)
            for m in range(0, M, rows):
                if s == 0:
                    ybar = simd.zeros(w, rows, wide)
                else:
                    ybar = simd.load_tile(w, (YBAR + m) * LANES + o, LANES, rows, wide)
                for n in range(NR):
                    g = simd.combined(senders, D, (n * M + m) * S + s, S, rows)
                    ybar = simd.plus_tile(ybar, g, simd.load(w, (R + n) * LANES + o, wide))
                    rbar = simd.load(w, (RBAR + n) * LANES + o, wide)
                    rbar = simd.plus_inner(rbar, g, w, (Y + m) * LANES + o, LANES)
                    simd.store(w, (RBAR + n) * LANES + o, rbar)
                simd.store_tile(w, (YBAR + m) * LANES + o, LANES, ybar)


@jit(inline="always")
def pull_tensors(w, dots, g_Q, T, neighbors, begin, count, S, width):
    """Add to YBAR what the tensors seen along the bonds make of ``g_Q``, with ``dots[e, a]`` between."""
    for e in range(count):
        j = neighbors[begin + e]
        inner = simd.dots(simd.load(g_Q, e * S, width), T, j * 8 * S, S, 8)
        for s in range(width, S, width):
            inner = simd.plus(inner, simd.dots(simd.load(g_Q, e * S + s, width), T, j * 8 * S + s, S, 8))
        simd.store(dots, e * 8, inner)
    _add_across(w, YBAR + 1, dots, count, 8)


@jit(inline="always")
def pull_passed(w, dots, by_channel, t, neighbors, begin, count, C8, functions):
    """Add to RBAR the products of ``by_channel[k, n]`` and the passed tensors, with ``dots[e, n]`` between."""
    last = begin + count - 1
    for e in range(0, count, 4):
        j0, j1 = neighbors[begin + e], neighbors[min(begin + e + 1, last)]
        j2, j3 = neighbors[min(begin + e + 2, last)], neighbors[min(begin + e + 3, last)]
        places = (j0 * C8, j1 * C8, j2 * C8, j3 * C8)
        even, odd = simd.zeros(w, 4, functions), simd.zeros(w, 4, functions)
        for k in range(0, C8, 2):
            x = simd.load(by_channel, k * functions, functions)
            even = simd.plus_outer_at(even, x, t, places, k)
            x = simd.load(by_channel, (k + 1) * functions, functions)
            odd = simd.plus_outer_at(odd, x, t, places, k + 1)
        simd.store_tile(dots, e * functions, functions, simd.sum_of(even, odd))
    _add_across(w, RBAR, dots, count, functions)


@jit(inline="always")
def _add_across(w, row, dots, count, size):
    """Add ``dots[e, k]`` to the rows ``row + k``, blocks of ``size`` edges transposed."""
    for o in range(0, count, size):
        block = simd.transposed(simd.load_tile(dots, o * size, size, size, size))
        block = simd.sum_of(simd.load_tile(w, row * LANES + o, LANES, size, size), block)
        simd.store_tile(w, row * LANES + o, LANES, block)


@jit(inline="always")
def by_columns(out, passed, NR, C8, size):
    """Fill ``out[k, n]``, the transpose of ``passed[n, k]``, with rows of ``size``."""
    if size == NR and C8 % size == 0:
        for k in range(0, C8, size):
            block = simd.transposed(simd.load_tile(passed, k, C8, size, size))
            simd.store_tile(out, k * size, size, block)
    else:
        for k in range(C8):
            for n in range(NR):
                out[k * size + n] = passed[n * C8 + k]
