"""The message in Triton: its value, its adjoint, and what the adjoint's own gradient needs.

A program owns one centre and goes through its edges a block at a time. It computes their geometry itself, and
the sums over them are matrix products; nothing of an edge is written but the gradient of its vector, and what
senders get is added atomically. Density and passed tensors have kernels of their own, since they share nothing but
the radial functions; ``S`` senders, or the ``8 C`` components of the passed tensors, are worked on in blocks of
``WIDTH``: each block by a program of its own where it has results of its own, in turn where it has not.

Pairs of component m and radial function n are one axis, ``m * N + n``, with n padded to a power of two, ``N``.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lam.model.kernels.triton_geometry import (
    COMPONENTS,
    bonds,
    changes,
    project,
    pull,
    sphere,
    sphere_change,
    unstack8,
    unstack16,
)

# ruff: noqa: ANN001, ANN201, ANN202 - types are those of Triton's language


@triton.jit
def _dot(left, right):
    """Multiply matrices in the precision of their elements."""
    return tl.dot(left, right, input_precision="ieee", out_dtype=left.dtype)


@triton.jit
def _pairs(components, functions):
    """Return all products of the two tiles for each edge, (edges, 16 N)."""
    N: tl.constexpr = functions.shape[1]
    pairs = components[:, :, None] * functions[:, None, :]
    return tl.reshape(pairs, (components.shape[0], COMPONENTS * N))


@triton.jit
def _density_tile(i, n_atoms, block, L: tl.constexpr, n_radial: tl.constexpr, N: tl.constexpr, S: tl.constexpr,
                  WIDTH: tl.constexpr):  # fmt: skip
    """Return where a centre's densities (16 N, WIDTH) lie, and which of them exist."""
    pair = tl.arange(0, COMPONENTS * N)[:, None]
    s = block * WIDTH + tl.arange(0, WIDTH)[None, :]
    m, n = pair // N, pair % N
    places = (m.to(tl.int64) * n_atoms + i) * (n_radial * S) + n * S + s
    return places, (m < (L + 1) * (L + 1)) & (n < n_radial) & (s < S)


@triton.jit
def _passed_tile(i, n_atoms, block, n_radial: tl.constexpr, N: tl.constexpr, C: tl.constexpr, WIDTH: tl.constexpr):
    """Return where a centre's passed tensors (N, WIDTH) lie, and which of them exist."""
    n = tl.arange(0, N)[:, None]
    k = block * WIDTH + tl.arange(0, WIDTH)[None, :]
    a, c = k // C, k % C
    places = (a.to(tl.int64) * n_atoms + i) * (n_radial * C) + n * C + c
    return places, (n < n_radial) & (k < 8 * C)


@triton.jit
def _tensor_tile(j, inside, s, S: tl.constexpr):
    """Return where the senders' tensors (edges, 8, WIDTH) lie, and which of them exist."""
    a = tl.arange(0, 8)[None, :, None]
    places = j[:, None, None] * (8 * S) + a * S + s[None, None, :]
    return places, inside[:, None, None] & (s < S)[None, None, :]


@triton.jit(do_not_specialize=["n_atoms"])
def density_value(
    rows, neighbors, vectors, radii, scale, q, T, density, n_atoms,
    cutoff: tl.constexpr, L: tl.constexpr, n_radial: tl.constexpr, N: tl.constexpr, S: tl.constexpr,
    TENSORS: tl.constexpr, EDGES: tl.constexpr, WIDTH: tl.constexpr, TERMS: tl.constexpr,
):  # fmt: skip
    """Sum Y R (q + Y T) over the neighbours of a centre, for a block of senders."""
    i, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    own = tl.load(radii + i)
    s = block * WIDTH + tl.arange(0, WIDTH)
    total = tl.zeros((COMPONENTS * N, WIDTH), dtype=density.dtype.element_ty)
    end = tl.load(rows + i + 1)
    for first in range(tl.load(rows + i), end, EDGES):
        _, inside, j, _, x, y, z, R, _ = bonds(
            first, end, own, neighbors, vectors, radii, scale, cutoff, n_radial, N, EDGES, TERMS
        )
        Y, low = sphere(x, y, z, L)
        senders = tl.load(q + j[:, None] * S + s[None, :], mask=inside[:, None] & (s < S)[None, :], other=0.0)
        if TENSORS:
            places, exist = _tensor_tile(j, inside, s, S)
            senders += tl.sum(tl.load(T + places, mask=exist, other=0.0) * low[:, :, None], axis=1)
        total += _dot(tl.trans(_pairs(Y, R)), senders)
    places, exist = _density_tile(i, n_atoms, block, L, n_radial, N, S, WIDTH)
    tl.store(density + places, total, mask=exist)


@triton.jit(do_not_specialize=["n_atoms"])
def density_adjoint(
    rows, neighbors, vectors, radii, scale, q, T, g_density, g_vectors, g_q, g_T, n_atoms,
    cutoff: tl.constexpr, L: tl.constexpr, n_radial: tl.constexpr, N: tl.constexpr, S: tl.constexpr,
    TENSORS: tl.constexpr, WANT_VECTORS: tl.constexpr, WANT_SENDERS: tl.constexpr,
    EDGES: tl.constexpr, WIDTH: tl.constexpr, TERMS: tl.constexpr,
):  # fmt: skip
    """Pull the gradient of a centre's densities back to its edges and their senders."""
    i = tl.program_id(0).to(tl.int64)
    own = tl.load(radii + i)
    end = tl.load(rows + i + 1)
    for first in range(tl.load(rows + i), end, EDGES):
        edges, inside, j, inverse, x, y, z, R, dR = bonds(
            first, end, own, neighbors, vectors, radii, scale, cutoff, n_radial, N, EDGES, TERMS
        )
        Y, low = sphere(x, y, z, L)
        g_Y = tl.zeros_like(Y)
        g_low = tl.zeros_like(low)
        g_r = tl.zeros_like(x)
        for block in range((S + WIDTH - 1) // WIDTH):
            s = block * WIDTH + tl.arange(0, WIDTH)
            there, some = _density_tile(i, n_atoms, block, L, n_radial, N, S, WIDTH)
            D = tl.load(g_density + there, mask=some, other=0.0)
            atoms, own_q = j[:, None] * S + s[None, :], inside[:, None] & (s < S)[None, :]
            places, exist = _tensor_tile(j, inside, s, S)
            if WANT_VECTORS:
                senders = tl.load(q + atoms, mask=own_q, other=0.0)
                if TENSORS:
                    senders += tl.sum(tl.load(T + places, mask=exist, other=0.0) * low[:, :, None], axis=1)
                g_pairs = tl.reshape(_dot(senders, tl.trans(D)), (EDGES, COMPONENTS, N))
                g_Y += tl.sum(g_pairs * R[:, None, :], axis=2)
                g_r += tl.sum(tl.sum(g_pairs * dR[:, None, :], axis=2) * Y, axis=1)
            if WANT_SENDERS or (TENSORS and WANT_VECTORS):
                back = _dot(_pairs(Y, R), D)
                if WANT_SENDERS:
                    tl.atomic_add(g_q + atoms, back, mask=own_q, sem="relaxed")
                if TENSORS:
                    if WANT_SENDERS:
                        tl.atomic_add(g_T + places, low[:, :, None] * back[:, None, :], mask=exist, sem="relaxed")
                    if WANT_VECTORS:
                        seen = tl.load(T + places, mask=exist, other=0.0)
                        g_low += tl.sum(seen * back[:, None, :], axis=2)
        if WANT_VECTORS:
            _, g1, g2, g3, g4, g5, g6, g7, g8, g9, g10, g11, g12, g13, g14, g15 = unstack16(g_Y)
            if TENSORS:
                h1, h2, h3, h4, h5, h6, h7, h8 = unstack8(g_low)
                g1, g2, g3, g4, g5, g6, g7, g8 = g1 + h1, g2 + h2, g3 + h3, g4 + h4, g5 + h5, g6 + h6, g7 + h7, g8 + h8
            a, b, c = pull(x, y, z, g1, g2, g3, g4, g5, g6, g7, g8, g9, g10, g11, g12, g13, g14, g15, L)
            a, b, c = project(x, y, z, inverse, a, b, c)
            tl.store(g_vectors + 3 * edges, a + g_r * x, mask=inside)
            tl.store(g_vectors + 3 * edges + 1, b + g_r * y, mask=inside)
            tl.store(g_vectors + 3 * edges + 2, c + g_r * z, mask=inside)


@triton.jit(do_not_specialize=["n_atoms"])
def density_second(
    rows, neighbors, vectors, radii, scale, q, T, g_density, v, v_q, v_T, density, g_q, g_T, n_atoms,
    cutoff: tl.constexpr, L: tl.constexpr, n_radial: tl.constexpr, N: tl.constexpr, S: tl.constexpr,
    TENSORS: tl.constexpr, EDGES: tl.constexpr, WIDTH: tl.constexpr, TERMS: tl.constexpr,
):  # fmt: skip
    """Change density and senders' gradients along changes of vectors (v) and senders (v_q, v_T)."""
    i, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    own = tl.load(radii + i)
    s = block * WIDTH + tl.arange(0, WIDTH)
    total = tl.zeros((COMPONENTS * N, WIDTH), dtype=density.dtype.element_ty)
    there, some = _density_tile(i, n_atoms, block, L, n_radial, N, S, WIDTH)
    end = tl.load(rows + i + 1)
    for first in range(tl.load(rows + i), end, EDGES):
        edges, inside, j, inverse, x, y, z, R, dR = bonds(
            first, end, own, neighbors, vectors, radii, scale, cutoff, n_radial, N, EDGES, TERMS
        )
        a, b, c = changes(v, edges, inside)
        dR *= (a * x + b * y + c * z)[:, None]
        a, b, c = project(x, y, z, inverse, a, b, c)
        Y, low = sphere(x, y, z, L)
        dY, d_low = sphere_change(x, y, z, a, b, c, L)
        atoms, own_q = j[:, None] * S + s[None, :], inside[:, None] & (s < S)[None, :]
        senders = tl.load(q + atoms, mask=own_q, other=0.0)
        d_senders = tl.load(v_q + atoms, mask=own_q, other=0.0)
        places, exist = _tensor_tile(j, inside, s, S)
        low, d_low = low[:, :, None], d_low[:, :, None]
        if TENSORS:
            tensors = tl.load(T + places, mask=exist, other=0.0)
            d_tensors = tl.load(v_T + places, mask=exist, other=0.0)
            senders += tl.sum(tensors * low, axis=1)
            d_senders += tl.sum(d_tensors * low + tensors * d_low, axis=1)
        pairs = _pairs(Y, R)
        d_pairs = _pairs(dY, R) + _pairs(Y, dR)
        total += _dot(tl.trans(pairs), d_senders)
        total += _dot(tl.trans(d_pairs), senders)
        D = tl.load(g_density + there, mask=some, other=0.0)
        moved = _dot(d_pairs, D)
        tl.atomic_add(g_q + atoms, moved, mask=own_q, sem="relaxed")
        if TENSORS:
            back = _dot(pairs, D)
            tl.atomic_add(g_T + places, low * moved[:, None, :] + d_low * back[:, None, :], mask=exist, sem="relaxed")
    tl.store(density + there, total, mask=some)


@triton.jit(do_not_specialize=["n_atoms"])
def passed_value(
    rows, neighbors, vectors, radii, scale, t, passed, n_atoms,
    cutoff: tl.constexpr, n_radial: tl.constexpr, N: tl.constexpr, C: tl.constexpr,
    EDGES: tl.constexpr, WIDTH: tl.constexpr, TERMS: tl.constexpr,
):  # fmt: skip
    """Sum R t over the neighbours of a centre, for a block of components."""
    i, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    own = tl.load(radii + i)
    k = block * WIDTH + tl.arange(0, WIDTH)
    total = tl.zeros((N, WIDTH), dtype=passed.dtype.element_ty)
    end = tl.load(rows + i + 1)
    for first in range(tl.load(rows + i), end, EDGES):
        _, inside, j, _, _, _, _, R, _ = bonds(
            first, end, own, neighbors, vectors, radii, scale, cutoff, n_radial, N, EDGES, TERMS
        )
        exist = inside[:, None] & (k < 8 * C)[None, :]
        total += _dot(tl.trans(R), tl.load(t + j[:, None] * (8 * C) + k[None, :], mask=exist, other=0.0))
    places, exist = _passed_tile(i, n_atoms, block, n_radial, N, C, WIDTH)
    tl.store(passed + places, total, mask=exist)


@triton.jit(do_not_specialize=["n_atoms"])
def passed_adjoint(
    rows, neighbors, vectors, radii, scale, t, g_passed, g_vectors, g_t, n_atoms,
    cutoff: tl.constexpr, n_radial: tl.constexpr, N: tl.constexpr, C: tl.constexpr,
    WANT_VECTORS: tl.constexpr, WANT_SENDERS: tl.constexpr,
    EDGES: tl.constexpr, WIDTH: tl.constexpr, TERMS: tl.constexpr,
):  # fmt: skip
    """Pull the gradient of a centre's passed tensors back; adds to the vectors' gradient, after the density's."""
    i = tl.program_id(0).to(tl.int64)
    own = tl.load(radii + i)
    end = tl.load(rows + i + 1)
    for first in range(tl.load(rows + i), end, EDGES):
        edges, inside, j, _, x, y, z, R, dR = bonds(
            first, end, own, neighbors, vectors, radii, scale, cutoff, n_radial, N, EDGES, TERMS
        )
        g_r = tl.zeros_like(x)
        for block in range((8 * C + WIDTH - 1) // WIDTH):
            k = block * WIDTH + tl.arange(0, WIDTH)
            there, some = _passed_tile(i, n_atoms, block, n_radial, N, C, WIDTH)
            g = tl.load(g_passed + there, mask=some, other=0.0)
            atoms, exist = j[:, None] * (8 * C) + k[None, :], inside[:, None] & (k < 8 * C)[None, :]
            if WANT_SENDERS:
                tl.atomic_add(g_t + atoms, _dot(R, g), mask=exist, sem="relaxed")
            if WANT_VECTORS:
                g_r += tl.sum(_dot(dR, g) * tl.load(t + atoms, mask=exist, other=0.0), axis=1)
        if WANT_VECTORS:
            for axis in tl.static_range(3):
                along = x if axis == 0 else (y if axis == 1 else z)
                before = tl.load(g_vectors + 3 * edges + axis, mask=inside, other=0.0)
                tl.store(g_vectors + 3 * edges + axis, before + g_r * along, mask=inside)


@triton.jit(do_not_specialize=["n_atoms"])
def passed_second(
    rows, neighbors, vectors, radii, scale, t, g_passed, v, v_t, passed, g_t, n_atoms,
    cutoff: tl.constexpr, n_radial: tl.constexpr, N: tl.constexpr, C: tl.constexpr,
    EDGES: tl.constexpr, WIDTH: tl.constexpr, TERMS: tl.constexpr,
):  # fmt: skip
    """Change passed tensors and their gradient along changes of vectors (v) and senders (v_t)."""
    i, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    own = tl.load(radii + i)
    k = block * WIDTH + tl.arange(0, WIDTH)
    total = tl.zeros((N, WIDTH), dtype=passed.dtype.element_ty)
    there, some = _passed_tile(i, n_atoms, block, n_radial, N, C, WIDTH)
    end = tl.load(rows + i + 1)
    for first in range(tl.load(rows + i), end, EDGES):
        edges, inside, j, _, x, y, z, R, dR = bonds(
            first, end, own, neighbors, vectors, radii, scale, cutoff, n_radial, N, EDGES, TERMS
        )
        a, b, c = changes(v, edges, inside)
        dR *= (a * x + b * y + c * z)[:, None]
        atoms, exist = j[:, None] * (8 * C) + k[None, :], inside[:, None] & (k < 8 * C)[None, :]
        total += _dot(tl.trans(R), tl.load(v_t + atoms, mask=exist, other=0.0))
        total += _dot(tl.trans(dR), tl.load(t + atoms, mask=exist, other=0.0))
        g = tl.load(g_passed + there, mask=some, other=0.0)
        tl.atomic_add(g_t + atoms, _dot(dR, g), mask=exist, sem="relaxed")
    tl.store(passed + there, total, mask=some)
