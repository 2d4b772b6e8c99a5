"""The message in Numba: its value, its adjoint, and what the adjoint's own gradient needs.

A kernel works on the centres ``first .. last``, 32 edges at a time; all it keeps of an edge lies in the
cache, and rows are owned by their centre, so nothing is scattered but the gradients of the senders. Lanes
run over the pairs (n, s) of radial function and sender channel where edges are summed, and over the edges
where there is a result for each edge.

Every loop over a short axis has a length known at compile time: kernels are made for each set of sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np

from lam.model.kernels.jit import jit
from lam.model.kernels.numba_geometry import (
    DY,
    LANES,
    MAX_RADIAL,
    RBAR,
    RDOT,
    ROWS,
    YBAR,
    R,
    Y,
    harmonics,
    load,
    pull,
    push,
    radial,
)


class Kernels(NamedTuple):
    """The compiled functions for one set of sizes; see :func:`kernels`."""

    value: Callable[..., None]
    adjoint: Callable[..., None]
    second: Callable[..., None]


@cache
def kernels(double: bool, l_max: int, n_radial: int, n_senders: int, n_tensors: int) -> Kernels:
    """Return the kernels for these sizes, compiled at their first call and then kept on disk.

    Shapes, with M = (l_max + 1)^2 components, n radial functions, S senders, C tensor channels: senders q
    (N, S), their tensors T (N, 8 S), passed tensors t (N, 8 C); density A (M, N, n S), passed P (8, N, n C).

    Args:
        double: float64 rather than float32.
        l_max: highest degree, 1 to 3.
        n_radial: n, at most ``numba_geometry.MAX_RADIAL``.
        n_senders: S.
        n_tensors: C; 0 for the first layer, where atoms have no tensors.
    """
    sizes = (np.float64 if double else np.float32, l_max, n_radial, n_senders, n_tensors)
    return Kernels(_value(*sizes), _adjoint(*sizes), _second(*sizes))


def _value(ft: type, L: int, NR: int, S: int, C: int) -> Callable[..., None]:
    M = (L + 1) ** 2
    EVEN = M + M % 2
    NR2 = NR + NR % 2
    K, C8 = S * NR, 8 * C

    @jit
    def value(first, last, rows, neighbors, vectors, radii, scale, cutoff, q, T, t, A, P):
        w = np.zeros(ROWS * LANES, dtype=ft)
        basis = np.zeros((LANES, NR2), dtype=ft)
        row = np.zeros(S, dtype=ft)
        QR = np.zeros((LANES, K), dtype=ft)
        density = np.zeros((EVEN, K), dtype=ft)
        passed = np.zeros((NR2, C8), dtype=ft)
        for i in range(first, last):
            density[:] = ft(0.0)
            passed[:] = ft(0.0)
            for begin in range(rows[i], rows[i + 1], LANES):
                end = min(begin + LANES, rows[i + 1])
                used = (end - begin + 3) // 4 * 4
                load(w, ft, begin, end, i, neighbors, vectors, radii, cutoff)
                radial(w, ft, NR, scale, cutoff)
                harmonics(w, ft, L)
                for e in range(used):
                    j = neighbors[min(begin + e, end - 1)]
                    for s in range(S):
                        row[s] = q[j, s]
                    if C > 0:
                        for a in range(8):
                            y = w[(Y + 1 + a) * LANES + e]
                            for s in range(S):
                                row[s] += y * T[j, a * S + s]
                    for n in range(NR):
                        basis[e, n] = w[(R + n) * LANES + e]
                    for n in range(NR):
                        for s in range(S):
                            QR[e, n * S + s] = row[s] * basis[e, n]
                for e in range(0, used, 4):
                    for m in range(0, EVEN, 2):
                        x0, x1 = w[(Y + m) * LANES + e], w[(Y + m) * LANES + e + 1]
                        x2, x3 = w[(Y + m) * LANES + e + 2], w[(Y + m) * LANES + e + 3]
                        y0, y1 = w[(Y + m + 1) * LANES + e], w[(Y + m + 1) * LANES + e + 1]
                        y2, y3 = w[(Y + m + 1) * LANES + e + 2], w[(Y + m + 1) * LANES + e + 3]
                        for k in range(K):
                            q0, q1, q2, q3 = QR[e, k], QR[e + 1, k], QR[e + 2, k], QR[e + 3, k]
                            density[m, k] += x0 * q0 + x1 * q1 + x2 * q2 + x3 * q3
                            density[m + 1, k] += y0 * q0 + y1 * q1 + y2 * q2 + y3 * q3
                    if C > 0:
                        j0, j1 = neighbors[min(begin + e, end - 1)], neighbors[min(begin + e + 1, end - 1)]
                        j2, j3 = neighbors[min(begin + e + 2, end - 1)], neighbors[min(begin + e + 3, end - 1)]
                        for n in range(0, NR2, 2):
                            x0, x1, x2, x3 = basis[e, n], basis[e + 1, n], basis[e + 2, n], basis[e + 3, n]
                            y0, y1 = basis[e, n + 1], basis[e + 1, n + 1]
                            y2, y3 = basis[e + 2, n + 1], basis[e + 3, n + 1]
                            for k in range(C8):
                                t0, t1, t2, t3 = t[j0, k], t[j1, k], t[j2, k], t[j3, k]
                                passed[n, k] += x0 * t0 + x1 * t1 + x2 * t2 + x3 * t3
                                passed[n + 1, k] += y0 * t0 + y1 * t1 + y2 * t2 + y3 * t3
            for m in range(M):
                for k in range(K):
                    A[m, i - first, k] = density[m, k]
            if C > 0:
                for a in range(8):
                    for n in range(NR):
                        for c in range(C):
                            P[a, i - first, n * C + c] = passed[n, a * C + c]

    return value


def _adjoint(ft: type, L: int, NR: int, S: int, C: int) -> Callable[..., None]:
    M = (L + 1) ** 2
    M4, NR4 = (M + 3) // 4 * 4, (NR + 3) // 4 * 4  # zero-padded, for unrolled loops
    C8 = 8 * C

    @jit
    def adjoint(
        first, last, rows, neighbors, vectors, radii, scale, cutoff, q, T, t, gA, gP,
        want_vectors, want_senders, g_vectors, g_q, g_T, g_t,
    ):
        w = np.zeros(ROWS * LANES, dtype=ft)
        sender = np.zeros((S, LANES), dtype=ft)
        g_sender = np.zeros((S, LANES), dtype=ft)
        back = np.zeros(LANES, dtype=ft)
        g = np.zeros(2 * LANES, dtype=ft)
        row = np.zeros(S, dtype=ft)
        QR = np.zeros((S * NR4, LANES), dtype=ft)
        D = np.zeros((M4, S * NR4), dtype=ft)
        passed = np.zeros((NR4, C8), dtype=ft)
        tensors = np.zeros(C8, dtype=ft)
        for i in range(first, last):
            if rows[i + 1] == rows[i]:
                continue
            for m in range(M):
                for k in range(NR * S):
                    D[m, k] = gA[m, i - first, k]
            if C > 0:
                for a in range(8):
                    for n in range(NR):
                        for c in range(C):
                            passed[n, a * C + c] = gP[a, i - first, n * C + c]
            for begin in range(rows[i], rows[i + 1], LANES):
                end = min(begin + LANES, rows[i + 1])
                load(w, ft, begin, end, i, neighbors, vectors, radii, cutoff)
                radial(w, ft, NR, scale, cutoff)
                harmonics(w, ft, L)
                for e in range(end - begin):
                    j = neighbors[begin + e]
                    for s in range(S):
                        row[s] = q[j, s]
                    if C > 0:
                        for a in range(8):
                            y = w[(Y + 1 + a) * LANES + e]
                            for s in range(S):
                                row[s] += y * T[j, a * S + s]
                    for s in range(S):
                        sender[s, e] = row[s]
                for k in range(MAX_RADIAL * LANES):
                    w[RBAR * LANES + k] = ft(0.0)
                for s in range(S):
                    for n in range(NR4):
                        for e in range(LANES):
                            QR[n * S + s, e] = sender[s, e] * w[(R + n) * LANES + e]
                    back[:] = ft(0.0)
                    for n in range(0, NR4, 2):
                        k, k2 = n * S + s, (n + 1) * S + s
                        for e in range(2 * LANES):
                            g[e] = ft(0.0)
                        for m in range(0, M4, 4):
                            x0, x1, x2, x3 = D[m, k], D[m + 1, k], D[m + 2, k], D[m + 3, k]
                            z0, z1, z2, z3 = D[m, k2], D[m + 1, k2], D[m + 2, k2], D[m + 3, k2]
                            for e in range(LANES):
                                y0, y1 = w[(Y + m) * LANES + e], w[(Y + m + 1) * LANES + e]
                                y2, y3 = w[(Y + m + 2) * LANES + e], w[(Y + m + 3) * LANES + e]
                                g[e] += x0 * y0 + x1 * y1 + x2 * y2 + x3 * y3
                                g[LANES + e] += z0 * y0 + z1 * y1 + z2 * y2 + z3 * y3
                        for e in range(LANES):
                            back[e] += g[e] * w[(R + n) * LANES + e] + g[LANES + e] * w[(R + n + 1) * LANES + e]
                            w[(RBAR + n) * LANES + e] += g[e] * sender[s, e]
                            w[(RBAR + n + 1) * LANES + e] += g[LANES + e] * sender[s, e]
                    for e in range(LANES):
                        g_sender[s, e] = back[e]
                if want_vectors:
                    for m in range(0, M4, 2):
                        for e in range(2 * LANES):
                            g[e] = ft(0.0)
                        for k in range(0, S * NR4, 4):
                            x0, x1, x2, x3 = D[m, k], D[m, k + 1], D[m, k + 2], D[m, k + 3]
                            z0, z1, z2, z3 = D[m + 1, k], D[m + 1, k + 1], D[m + 1, k + 2], D[m + 1, k + 3]
                            for e in range(LANES):
                                q0, q1, q2, q3 = QR[k, e], QR[k + 1, e], QR[k + 2, e], QR[k + 3, e]
                                g[e] += x0 * q0 + x1 * q1 + x2 * q2 + x3 * q3
                                g[LANES + e] += z0 * q0 + z1 * q1 + z2 * q2 + z3 * q3
                        for e in range(LANES):
                            w[(YBAR + m) * LANES + e] = g[e]
                            w[(YBAR + m + 1) * LANES + e] = g[LANES + e]
                if want_senders or C > 0:
                    for e in range(end - begin):
                        j = neighbors[begin + e]
                        for s in range(S):
                            row[s] = g_sender[s, e]
                        if want_senders:
                            for s in range(S):
                                g_q[j, s] += row[s]
                        if C > 0:
                            for a in range(8):
                                y = w[(Y + 1 + a) * LANES + e]
                                dot = ft(0.0)
                                for s in range(S):
                                    g_T[j, a * S + s] += y * row[s]
                                    dot += T[j, a * S + s] * row[s]
                                w[(YBAR + 1 + a) * LANES + e] += dot
                            for k in range(C8):
                                tensors[k] = t[j, k]
                            for n in range(NR):
                                dot = ft(0.0)
                                for k in range(C8):
                                    dot += passed[n, k] * tensors[k]
                                w[(RBAR + n) * LANES + e] += dot
                            for n in range(0, NR4, 4):
                                r0, r1 = w[(R + n) * LANES + e], w[(R + n + 1) * LANES + e]
                                r2, r3 = w[(R + n + 2) * LANES + e], w[(R + n + 3) * LANES + e]
                                for k in range(C8):
                                    g_t[j, k] += (
                                        r0 * passed[n, k] + r1 * passed[n + 1, k]
                                        + r2 * passed[n + 2, k] + r3 * passed[n + 3, k]
                                    )
                if want_vectors:
                    pull(w, ft, L, NR, g_vectors, begin, end)

    return adjoint


def _second(ft: type, L: int, NR: int, S: int, C: int) -> Callable[..., None]:
    M = (L + 1) ** 2
    EVEN = M + M % 2
    M4, NR4 = (M + 3) // 4 * 4, (NR + 3) // 4 * 4  # zero-padded, for unrolled loops
    K, C8 = S * NR, 8 * C

    @jit
    def second(
        first, last, rows, neighbors, vectors, radii, scale, cutoff, q, T, t, gA, gP,
        v, v_q, v_T, v_t, A, P, g_q, g_T, g_t,
    ):
        w = np.zeros(ROWS * LANES, dtype=ft)
        basis = np.zeros((LANES, NR4), dtype=ft)
        rate = np.zeros((LANES, NR4), dtype=ft)
        row = np.zeros(S, dtype=ft)
        d_row = np.zeros(S, dtype=ft)
        QR = np.zeros((LANES, K), dtype=ft)
        dQR = np.zeros((LANES, K), dtype=ft)
        back = np.zeros((S, LANES), dtype=ft)
        moved = np.zeros((S, LANES), dtype=ft)
        g = np.zeros(2 * LANES, dtype=ft)
        density = np.zeros((EVEN, K), dtype=ft)
        D = np.zeros((M4, K), dtype=ft)
        passed = np.zeros((NR4, C8), dtype=ft)
        gp = np.zeros((NR4, C8), dtype=ft)
        for i in range(first, last):
            density[:] = ft(0.0)
            passed[:] = ft(0.0)
            for m in range(M):
                for k in range(K):
                    D[m, k] = gA[m, i - first, k]
            if C > 0:
                for a in range(8):
                    for n in range(NR):
                        for c in range(C):
                            gp[n, a * C + c] = gP[a, i - first, n * C + c]
            for begin in range(rows[i], rows[i + 1], LANES):
                end = min(begin + LANES, rows[i + 1])
                used = (end - begin + 1) // 2 * 2
                load(w, ft, begin, end, i, neighbors, vectors, radii, cutoff)
                radial(w, ft, NR, scale, cutoff)
                harmonics(w, ft, L)
                push(w, ft, L, NR, v, begin, end)
                for e in range(used):
                    j = neighbors[min(begin + e, end - 1)]
                    for s in range(S):
                        row[s] = q[j, s]
                        d_row[s] = v_q[j, s]
                    if C > 0:
                        for a in range(8):
                            y, dy = w[(Y + 1 + a) * LANES + e], w[(DY + 1 + a) * LANES + e]
                            for s in range(S):
                                row[s] += y * T[j, a * S + s]
                                d_row[s] += y * v_T[j, a * S + s] + dy * T[j, a * S + s]
                    for n in range(NR):
                        basis[e, n] = w[(R + n) * LANES + e]
                        rate[e, n] = w[(RDOT + n) * LANES + e]
                    for n in range(NR):
                        for s in range(S):
                            QR[e, n * S + s] = row[s] * basis[e, n]
                            dQR[e, n * S + s] = row[s] * rate[e, n] + d_row[s] * basis[e, n]
                for e in range(0, used, 2):
                    for m in range(0, EVEN, 2):
                        x0, x1 = w[(Y + m) * LANES + e], w[(Y + m) * LANES + e + 1]
                        x2, x3 = w[(DY + m) * LANES + e], w[(DY + m) * LANES + e + 1]
                        y0, y1 = w[(Y + m + 1) * LANES + e], w[(Y + m + 1) * LANES + e + 1]
                        y2, y3 = w[(DY + m + 1) * LANES + e], w[(DY + m + 1) * LANES + e + 1]
                        for k in range(K):
                            q0, q1, q2, q3 = dQR[e, k], dQR[e + 1, k], QR[e, k], QR[e + 1, k]
                            density[m, k] += x0 * q0 + x1 * q1 + x2 * q2 + x3 * q3
                            density[m + 1, k] += y0 * q0 + y1 * q1 + y2 * q2 + y3 * q3
                for s in range(S):
                    for e in range(LANES):
                        back[s, e] = ft(0.0)
                        moved[s, e] = ft(0.0)
                    for n in range(NR):
                        k = n * S + s
                        for e in range(2 * LANES):
                            g[e] = ft(0.0)
                        for m in range(0, M4, 4):
                            x0, x1, x2, x3 = D[m, k], D[m + 1, k], D[m + 2, k], D[m + 3, k]
                            for e in range(LANES):
                                g[e] += (
                                    x0 * w[(Y + m) * LANES + e] + x1 * w[(Y + m + 1) * LANES + e]
                                    + x2 * w[(Y + m + 2) * LANES + e] + x3 * w[(Y + m + 3) * LANES + e]
                                )
                                g[LANES + e] += (
                                    x0 * w[(DY + m) * LANES + e] + x1 * w[(DY + m + 1) * LANES + e]
                                    + x2 * w[(DY + m + 2) * LANES + e] + x3 * w[(DY + m + 3) * LANES + e]
                                )
                        for e in range(LANES):
                            r, dr = w[(R + n) * LANES + e], w[(RDOT + n) * LANES + e]
                            back[s, e] += g[e] * r
                            moved[s, e] += g[e] * dr + g[LANES + e] * r
                for e in range(end - begin):
                    j = neighbors[begin + e]
                    for s in range(S):
                        row[s] = back[s, e]
                        d_row[s] = moved[s, e]
                    for s in range(S):
                        g_q[j, s] += d_row[s]
                    if C > 0:
                        for a in range(8):
                            y, dy = w[(Y + 1 + a) * LANES + e], w[(DY + 1 + a) * LANES + e]
                            for s in range(S):
                                g_T[j, a * S + s] += y * d_row[s] + dy * row[s]
                        for n in range(0, NR4, 2):
                            r0, d0, r1, d1 = basis[e, n], rate[e, n], basis[e, n + 1], rate[e, n + 1]
                            for k in range(C8):
                                passed[n, k] += r0 * v_t[j, k] + d0 * t[j, k]
                                passed[n + 1, k] += r1 * v_t[j, k] + d1 * t[j, k]
                        for n in range(0, NR4, 4):
                            r0, r1, r2, r3 = rate[e, n], rate[e, n + 1], rate[e, n + 2], rate[e, n + 3]
                            for k in range(C8):
                                g_t[j, k] += (
                                    r0 * gp[n, k] + r1 * gp[n + 1, k] + r2 * gp[n + 2, k] + r3 * gp[n + 3, k]
                                )
            for m in range(M):
                for k in range(K):
                    A[m, i - first, k] = density[m, k]
            if C > 0:
                for a in range(8):
                    for n in range(NR):
                        for c in range(C):
                            P[a, i - first, n * C + c] = passed[n, a * C + c]

    return second
