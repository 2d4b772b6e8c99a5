"""The message in Numba: its value, its adjoint, and what the adjoint's own gradient needs.

A kernel works on the centres ``first .. last``, 32 edges at a time; all it keeps of an edge lies in the
cache, and rows are owned by their centre, so nothing is scattered but the gradients of the senders. The loops
that take the time are in :mod:`lam.model.kernels.numba_tiles`.

Every loop over a short axis has a length known at compile time: kernels are made for each set of sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np

from lam.model.kernels import numba_simd as simd
from lam.model.kernels import numba_tiles as tiles
from lam.model.kernels.jit import jit
from lam.model.kernels.numba_geometry import (
    GROUP,
    LANES,
    RBAR,
    RDOT,
    ROWS,
    R,
    harmonics,
    load,
    pull,
    push,
    radial,
)
from lam.model.kernels.sizes import MAX_RADIAL


class Kernels(NamedTuple):
    """The compiled functions for one set of sizes; see :func:`kernels`."""

    value: Callable[..., None]
    adjoint: Callable[..., None]
    second: Callable[..., None]
    tangent: Callable[..., None]
    """The density's part of ``second`` where senders are fixed and have no tensors."""


@cache
def kernels(double: bool, l_max: int, n_radial: int, n_senders: int, n_tensors: int) -> Kernels:
    """Return the kernels for these sizes, compiled at their first call and then kept on disk.

    Shapes, with M = (l_max + 1)^2 components, n radial functions, S senders, C tensor channels: senders q
    (N, S), their tensors T (N, 8 S), passed tensors t (N, 8 C); density A (M, N, n S), passed P (8, N, n C).

    Args:
        double: float64 rather than float32.
        l_max: highest degree, 1 to 3.
        n_radial: n, at most ``sizes.MAX_RADIAL``.
        n_senders: S.
        n_tensors: C; 0 for the first layer, where atoms have no tensors.
    """
    sizes = (np.float64 if double else np.float32, l_max, n_radial, n_senders, n_tensors)
    return Kernels(_value(*sizes), _adjoint(*sizes), _second(*sizes), _tangent(*sizes[:-1]))


@jit(inline="always")
def _geometry(w, ft, begin, end, i, neighbors, vectors, radii, scale, cutoff, L, NR):
    """Fill radial functions, harmonics and what their derivatives need for the edges of a chunk."""
    for o in range(0, end - begin, GROUP):
        group = w[o:]
        load(group, ft, begin + o, end, i, neighbors, vectors, radii, cutoff)
        radial(group, ft, NR, scale, cutoff)
        harmonics(group, ft, L)


def _value(ft: type, L: int, NR: int, S: int, C: int) -> Callable[..., None]:
    M, K, C8 = (L + 1) ** 2, S * NR, 8 * C
    SIZE = np.dtype(ft).itemsize
    WS, WK = simd.lanes(S, SIZE), simd.lanes(K, SIZE)
    WC, WC8 = simd.lanes(C, SIZE), simd.lanes(C8, SIZE)
    FILLS = WS * SIZE == simd.REGISTER
    MT, NT = simd.part(M, simd.TILE), simd.part(NR, simd.TILE)

    @jit
    def value(first, last, rows, neighbors, vectors, radii, scale, cutoff, q, T, t, A, P):
        w = np.zeros(ROWS * LANES, dtype=ft)
        Q = np.zeros(LANES * S, dtype=ft)
        QR = np.zeros(LANES * K, dtype=ft)
        density = np.zeros(M * K, dtype=ft)
        passed = np.zeros(NR * C8, dtype=ft)
        for i in range(first, last):
            density[:] = ft(0.0)
            passed[:] = ft(0.0)
            for begin in range(rows[i], rows[i + 1], LANES):
                end = min(begin + LANES, rows[i + 1])
                count = end - begin
                _geometry(w, ft, begin, end, i, neighbors, vectors, radii, scale, cutoff, L, NR)
                tiles.gather(w, Q, q, T, neighbors, begin, count, S, C, WS)
                if FILLS:
                    tiles.sum_density(density, w, Q, count, M, NR, S, K, MT, WS)
                else:
                    tiles.sum_density_of_few(density, w, Q, QR, count, M, NR, S, K, MT, WK)
                if C > 0:
                    tiles.sum_passed(passed, w, R, t, neighbors, begin, count, NR, C8, NT, WC8)
            tiles.write_density(A, density, i - first, M, K, WK)
            if C > 0:
                tiles.write_passed(P, passed, i - first, NR, C, WC)

    return value


def _adjoint(ft: type, L: int, NR: int, S: int, C: int) -> Callable[..., None]:
    M, C8 = (L + 1) ** 2, 8 * C
    SIZE = np.dtype(ft).itemsize
    WS, WC, WC8, WIDE = simd.lanes(S, SIZE), simd.lanes(C, SIZE), simd.lanes(C8, SIZE), simd.REGISTER // SIZE
    COLUMNS, MT, EDGES = simd.part(S, simd.TILE), simd.part(M, 4), simd.TILE // 2
    FUNCTIONS = 8 if NR <= 8 else 16
    CT = simd.part(C8 // WC8, 8)

    @jit
    def adjoint(
        first,
        last,
        rows,
        neighbors,
        vectors,
        radii,
        scale,
        cutoff,
        q,
        T,
        t,
        gA,
        gP,
        want_vectors,
        want_senders,
        g_vectors,
        g_q,
        g_T,
        g_t,
    ):
        w = np.zeros(ROWS * LANES, dtype=ft)
        Q = np.zeros(LANES * S, dtype=ft)
        Qt = np.zeros(LANES * S, dtype=ft)
        g_Q = np.zeros(LANES * S, dtype=ft)
        dots = np.zeros(LANES * FUNCTIONS, dtype=ft)
        D = np.zeros(NR * M * S, dtype=ft)
        passed = np.zeros(NR * C8, dtype=ft)
        by_channel = np.zeros(C8 * FUNCTIONS, dtype=ft)
        for i in range(first, last):
            if rows[i + 1] == rows[i]:
                continue
            tiles.read_density(D, gA, i - first, M, NR, S, WS)
            if C > 0:
                tiles.read_passed(passed, gP, i - first, NR, C, WC)
                tiles.by_columns(by_channel, passed, NR, C8, FUNCTIONS)
            for begin in range(rows[i], rows[i + 1], LANES):
                end = min(begin + LANES, rows[i + 1])
                count = end - begin
                _geometry(w, ft, begin, end, i, neighbors, vectors, radii, scale, cutoff, L, NR)
                if want_senders or C > 0:
                    tiles.back(w, g_Q, D, count, M, NR, S, EDGES, WS)
                if want_vectors:
                    for k in range(MAX_RADIAL * LANES):
                        w[RBAR * LANES + k] = ft(0.0)
                    tiles.gather(w, Q, q, T, neighbors, begin, count, S, C, WS)
                    tiles.across(Qt, Q, count, S, WS, WIDE)
                    tiles.pull_density(w, Qt, D, count, M, NR, S, COLUMNS, MT, WIDE)
                    if C > 0:
                        tiles.pull_tensors(w, dots, g_Q, T, neighbors, begin, count, S, WS)
                        tiles.pull_passed(w, dots, by_channel, t, neighbors, begin, count, C8, FUNCTIONS)
                    for o in range(0, count, GROUP):
                        pull(w[o:], ft, L, NR, g_vectors, begin + o, end)
                if want_senders:
                    tiles.give_senders(g_Q, g_q, neighbors, begin, count, S, WS)
                if C > 0:
                    tiles.give_tensors(w, g_Q, g_T, neighbors, begin, count, S, WS)
                    tiles.give_passed(w, R, passed, g_t, neighbors, begin, count, NR, C8, CT, WC8)

    return adjoint


def _second(ft: type, L: int, NR: int, S: int, C: int) -> Callable[..., None]:
    M, K, C8 = (L + 1) ** 2, S * NR, 8 * C
    SIZE = np.dtype(ft).itemsize
    WS, WK = simd.lanes(S, SIZE), simd.lanes(K, SIZE)
    WC, WC8 = simd.lanes(C, SIZE), simd.lanes(C8, SIZE)
    MT, NT, EDGES = simd.part(M, simd.TILE), simd.part(NR, simd.TILE), simd.TILE // 4
    CT = simd.part(C8 // WC8, 8)

    @jit
    def second(
        first,
        last,
        rows,
        neighbors,
        vectors,
        radii,
        scale,
        cutoff,
        q,
        T,
        t,
        gA,
        gP,
        v,
        v_q,
        v_T,
        v_t,
        A,
        P,
        g_q,
        g_T,
        g_t,
    ):
        w = np.zeros(ROWS * LANES, dtype=ft)
        Q, dQ = np.zeros(LANES * S, dtype=ft), np.zeros(LANES * S, dtype=ft)
        g_Q, g_dQ = np.zeros(LANES * S, dtype=ft), np.zeros(LANES * S, dtype=ft)
        D = np.zeros(NR * M * S, dtype=ft)
        density = np.zeros(M * K, dtype=ft)
        passed, g_passed = np.zeros(NR * C8, dtype=ft), np.zeros(NR * C8, dtype=ft)
        for i in range(first, last):
            density[:] = ft(0.0)
            passed[:] = ft(0.0)
            tiles.read_density(D, gA, i - first, M, NR, S, WS)
            if C > 0:
                tiles.read_passed(g_passed, gP, i - first, NR, C, WC)
            for begin in range(rows[i], rows[i + 1], LANES):
                end = min(begin + LANES, rows[i + 1])
                count = end - begin
                _geometry(w, ft, begin, end, i, neighbors, vectors, radii, scale, cutoff, L, NR)
                for o in range(0, count, GROUP):
                    push(w[o:], ft, L, NR, v, begin + o, end)
                tiles.gather(w, Q, q, T, neighbors, begin, count, S, C, WS)
                tiles.gather_change(w, dQ, T, v_q, v_T, neighbors, begin, count, S, C, WS)
                tiles.sum_density_change(density, w, Q, dQ, count, M, NR, S, K, MT, WS)
                tiles.back_and_change(w, g_Q, g_dQ, D, count, M, NR, S, EDGES, WS)
                tiles.give_senders(g_dQ, g_q, neighbors, begin, count, S, WS)
                if C > 0:
                    tiles.give_tensors_change(w, g_Q, g_dQ, g_T, neighbors, begin, count, S, WS)
                    tiles.give_passed(w, RDOT, g_passed, g_t, neighbors, begin, count, NR, C8, CT, WC8)
                    tiles.sum_passed(passed, w, R, v_t, neighbors, begin, count, NR, C8, NT, WC8)
                    tiles.sum_passed(passed, w, RDOT, t, neighbors, begin, count, NR, C8, NT, WC8)
            tiles.write_density(A, density, i - first, M, K, WK)
            if C > 0:
                tiles.write_passed(P, passed, i - first, NR, C, WC)

    return second


def _tangent(ft: type, L: int, NR: int, S: int) -> Callable[..., None]:
    M, K = (L + 1) ** 2, S * NR
    SIZE = np.dtype(ft).itemsize
    WS, WK = simd.lanes(S, SIZE), simd.lanes(K, SIZE)
    MT = simd.part(M, simd.TILE)

    @jit
    def tangent(first, last, rows, neighbors, vectors, radii, scale, cutoff, q, v, A):
        w = np.zeros(ROWS * LANES, dtype=ft)
        Q = np.zeros(LANES * S, dtype=ft)
        QR, QdR = np.zeros(LANES * K, dtype=ft), np.zeros(LANES * K, dtype=ft)
        density = np.zeros(M * K, dtype=ft)
        for i in range(first, last):
            density[:] = ft(0.0)
            for begin in range(rows[i], rows[i + 1], LANES):
                end = min(begin + LANES, rows[i + 1])
                count = end - begin
                _geometry(w, ft, begin, end, i, neighbors, vectors, radii, scale, cutoff, L, NR)
                for o in range(0, count, GROUP):
                    push(w[o:], ft, L, NR, v, begin + o, end)
                tiles.gather(w, Q, q, q, neighbors, begin, count, S, 0, WS)
                tiles.sum_tangent(density, w, Q, QR, QdR, count, M, NR, S, K, MT, WK)
            tiles.write_density(A, density, i - first, M, K, WK)

    return tangent
