"""Geometry of a block of edges in Triton: radial functions, harmonics, and their derivatives.

Functions of one edge are vectors over the edges of a block; what the message multiplies are tiles with the radial
functions or the 16 components (zero beyond (l_max + 1)^2) as second axis. The formulas are those of
:mod:`lam.model.radial` and of e3nn's harmonics, which the plain PyTorch path uses; tests/kernels compares the two.
Lengths of axes are powers of two, and no function of a library is called, so that rounding is the same everywhere.
"""

from __future__ import annotations

import math

import triton
import triton.language as tl

# ruff: noqa: ANN001, ANN201 - types are those of Triton's language

COMPONENTS = tl.constexpr(16)
"""Components of a tile of harmonics."""

_SMALLEST2 = tl.constexpr(1e-8)
_INNER_START, _INNER_WIDTH = tl.constexpr(0.35), tl.constexpr(0.6 - 0.35)
_PI = tl.constexpr(math.pi)
_S3 = tl.constexpr(math.sqrt(3.0))
_S5 = tl.constexpr(math.sqrt(5.0))
_A2 = tl.constexpr(math.sqrt(15.0))
_A3 = tl.constexpr(math.sqrt(42.0) / 6.0 * math.sqrt(15.0))
_C3 = tl.constexpr(math.sqrt(105.0))
_D3 = tl.constexpr(math.sqrt(168.0) / 8.0)
_E3 = tl.constexpr(math.sqrt(7.0) / 2.0)
_F3 = tl.constexpr(math.sqrt(105.0) / 2.0)
_BETA = tl.constexpr(1320.0)  # 11! / (7! 3!), of the envelope's derivative


@triton.jit
def unit(vectors, edges, inside, cutoff):
    """Return distances, their inverses and the unit vectors; edges outside the block lie at the cutoff."""
    # Read as a tile as large as the program has threads, most of it masked: reads of less the compiler takes for free
    # and repeats, with all the geometry that follows, in each thread rather than exchange results (a factor of 3).
    axis = tl.arange(0, 16)[None, :]
    tile = tl.load(vectors + 3 * edges[:, None] + axis, mask=inside[:, None] & (axis < 3), other=0.0)
    x = tl.sum(tl.where(axis == 0, tile, 0.0), axis=1)
    y = tl.sum(tl.where(axis == 1, tile, 0.0), axis=1)
    z = tl.sum(tl.where(axis == 2, tile, 0.0), axis=1)
    x = tl.where(inside, x, cutoff)
    r = tl.sqrt(x * x + y * y + z * z + _SMALLEST2)
    inverse = 1.0 / r
    return r, inverse, x * inverse, y * inverse, z * inverse


@triton.jit
def window(r, reach, cutoff):
    """Return what all radial functions share: angle over pi, window, its slope, and the angle's slope times the window.

    Comparisons rather than minima and maxima, which would lose a NaN.
    """
    # The soft inner limit s(r) and its slope.
    width, start = reach * _INNER_WIDTH, reach * _INNER_START
    t = (r - start) / width
    t = tl.where(t < 0.0, 0.0, t)
    t = tl.where(t > 1.0, 1.0, t)
    t3 = t * t * t
    inner = width * (t3 * t * (2.5 + t * (t - 3.0)) + 0.5) + start
    s = tl.where(t < 1.0, inner, r)
    slope = t3 * (10.0 + t * (6.0 * t - 15.0))
    # The envelope f(q) over s and its derivative, f' = -1320 q^7 (1 - q)^3 / cutoff, q = s / cutoff.
    q = s / cutoff
    q = tl.where(q > 1.0, 1.0, q)
    rest = 1.0 - q
    rest3 = rest * rest * rest
    total = ((((((120.0 * q + 84.0) * q + 56.0) * q + 35.0) * q + 20.0) * q + 10.0) * q + 4.0) * q + 1.0
    q2 = q * q
    value = rest3 * rest * total / s
    change = -(q2 * q2 * q2 * q * rest3 * (_BETA / cutoff) + value) / s
    return q, value, change * slope, value * slope * (_PI / cutoff)


@triton.jit
def radial(q, value, change, turn, scale, n_radial: tl.constexpr, N: tl.constexpr, TERMS: tl.constexpr):
    """Return the radial functions and their derivatives by the distance as tiles (edges, N), zero beyond n_radial.

    ``sin(n pi q)`` and ``cos(n pi q)`` by their series after taking off the nearest multiple of pi.
    """
    index = tl.arange(0, N)
    size = tl.load(scale + index, mask=index < n_radial, other=0.0)[None, :]
    order = (index + 1).to(q.dtype)[None, :]
    turns = order * q[:, None]
    nearest = tl.floor(turns + 0.5)
    angle = (turns - nearest) * _PI
    odd = nearest - 2.0 * tl.floor(nearest * 0.5)
    square = angle * angle
    sine = tl.full(square.shape, 1.0, square.dtype)
    cosine = tl.full(square.shape, 1.0, square.dtype)
    for step in tl.static_range(TERMS):
        sine = 1.0 - sine * square * (1.0 / (2 * (TERMS - step) * (2 * (TERMS - step) + 1)))
        cosine = 1.0 - cosine * square * (1.0 / (2 * (TERMS - step) * (2 * (TERMS - step) - 1)))
    sign = size * (1.0 - 2.0 * odd)
    sine = sine * angle * sign
    cosine = cosine * sign
    return sine * value[:, None], sine * change[:, None] + order * cosine * turn[:, None]


@triton.jit
def harmonics(x, y, z, L: tl.constexpr):
    """Return the 15 harmonics beyond the constant: real, "component" normalised, e3nn's order."""
    o = tl.zeros_like(x)
    y1, y2, y3 = x * _S3, y * _S3, z * _S3
    y4, y5, y6, y7, y8, y9, y10, y11, y12, y13, y14, y15 = o, o, o, o, o, o, o, o, o, o, o, o
    if L >= 2:
        xx, yy, zz = x * x, y * y, z * z
        y4 = x * z * _A2
        y5 = x * y * _A2
        y6 = (yy - 0.5 * (xx + zz)) * _S5
        y7 = y * z * _A2
        y8 = (zz - xx) * (0.5 * _A2)
        if L >= 3:
            ring = 4.0 * yy - xx - zz
            y9 = x * (1.5 * zz - 0.5 * xx) * _A3
            y10 = x * y * z * _C3
            y11 = x * ring * _D3
            y12 = y * (2.0 * yy - 3.0 * (xx + zz)) * _E3
            y13 = z * ring * _D3
            y14 = y * (zz - xx) * _F3
            y15 = z * (0.5 * zz - 1.5 * xx) * _A3
    return y1, y2, y3, y4, y5, y6, y7, y8, y9, y10, y11, y12, y13, y14, y15


@triton.jit
def push(x, y, z, a, b, c, L: tl.constexpr):
    """Return the changes of the 15 harmonics along the change (a, b, c) of the unit vector."""
    o = tl.zeros_like(x)
    d1, d2, d3 = a * _S3, b * _S3, c * _S3
    d4, d5, d6, d7, d8, d9, d10, d11, d12, d13, d14, d15 = o, o, o, o, o, o, o, o, o, o, o, o
    if L >= 2:
        d4 = (z * a + x * c) * _A2
        d5 = (y * a + x * b) * _A2
        d6 = (2.0 * y * b - x * a - z * c) * _S5
        d7 = (z * b + y * c) * _A2
        d8 = (z * c - x * a) * _A2
        if L >= 3:
            xx, yy, zz = x * x, y * y, z * z
            zx = 1.5 * (zz - xx)
            d9 = (zx * a + 3.0 * x * z * c) * _A3
            d10 = (y * z * a + x * z * b + x * y * c) * _C3
            d11 = ((4.0 * yy - 3.0 * xx - zz) * a + 8.0 * x * y * b - 2.0 * x * z * c) * _D3
            d12 = ((6.0 * yy - 3.0 * (xx + zz)) * b - 6.0 * y * (x * a + z * c)) * _E3
            d13 = ((4.0 * yy - xx - 3.0 * zz) * c + 8.0 * y * z * b - 2.0 * x * z * a) * _D3
            d14 = (2.0 * y * (z * c - x * a) + (zz - xx) * b) * _F3
            d15 = (zx * c - 3.0 * x * z * a) * _A3
    return d1, d2, d3, d4, d5, d6, d7, d8, d9, d10, d11, d12, d13, d14, d15


@triton.jit
def pull(x, y, z, g1, g2, g3, g4, g5, g6, g7, g8, g9, g10, g11, g12, g13, g14, g15, L: tl.constexpr):
    """Return what the adjoints of the 15 harmonics mean for the unit vector: the transpose of :func:`push`."""
    a, b, c = g1 * _S3, g2 * _S3, g3 * _S3
    if L >= 2:
        a += (z * g4 + y * g5 - x * g8) * _A2 - x * g6 * _S5
        b += (x * g5 + z * g7) * _A2 + y * g6 * (2.0 * _S5)
        c += (x * g4 + y * g7 + z * g8) * _A2 - z * g6 * _S5
        if L >= 3:
            xx, yy, zz = x * x, y * y, z * z
            xy, xz, yz = x * y, x * z, y * z
            zx = 1.5 * (zz - xx)
            h9, h10, h11, h12 = g9 * _A3, g10 * _C3, g11 * _D3, g12 * _E3
            h13, h14, h15 = g13 * _D3, g14 * _F3, g15 * _A3
            a += zx * h9 + yz * h10 + (4.0 * yy - 3.0 * xx - zz) * h11 - 6.0 * xy * h12
            a -= 2.0 * (xz * h13 + xy * h14) + 3.0 * xz * h15
            b += xz * h10 + 8.0 * (xy * h11 + yz * h13) + (6.0 * yy - 3.0 * (xx + zz)) * h12 + (zz - xx) * h14
            c += 3.0 * xz * h9 + xy * h10 - 2.0 * xz * h11 - 6.0 * yz * h12
            c += (4.0 * yy - xx - 3.0 * zz) * h13 + 2.0 * yz * h14 + zx * h15
    return a, b, c


@triton.jit
def bonds(
    first, end, own, neighbors, vectors, radii, scale, cutoff, n_radial: tl.constexpr, N: tl.constexpr,
    EDGES: tl.constexpr, TERMS: tl.constexpr,
):  # fmt: skip
    """Read a block of edges of a centre with radius ``own``, those from ``first`` on that come before ``end``.

    Returns edges, which of them are there, neighbours, inverse distances, unit vectors x, y, z, radial functions and
    their derivatives, (edges, N).
    """
    edges = first + tl.arange(0, EDGES)
    inside = edges < end
    j = tl.load(neighbors + edges, mask=inside, other=0).to(tl.int64)
    r, inverse, x, y, z = unit(vectors, edges, inside, cutoff)
    angle, value, change, turn = window(r, own + tl.load(radii + j), cutoff)
    R, dR = radial(angle, value, change, turn, scale, n_radial, N, TERMS)
    return edges, inside, j, inverse, x, y, z, R, dR


@triton.jit
def changes(v, edges, inside):
    """Return the changes a, b, c of the vectors of a block of edges."""
    a = tl.load(v + 3 * edges, mask=inside, other=0.0)
    b = tl.load(v + 3 * edges + 1, mask=inside, other=0.0)
    c = tl.load(v + 3 * edges + 2, mask=inside, other=0.0)
    return a, b, c


@triton.jit
def sphere(x, y, z, L: tl.constexpr):
    """Return the harmonics of a block of edges as tiles: all of them, (edges, 16), and l = 1, 2 alone, (edges, 8)."""
    y1, y2, y3, y4, y5, y6, y7, y8, y9, y10, y11, y12, y13, y14, y15 = harmonics(x, y, z, L)
    one = tl.full(x.shape, 1.0, x.dtype)
    every = stack16(one, y1, y2, y3, y4, y5, y6, y7, y8, y9, y10, y11, y12, y13, y14, y15)
    return every, stack8(y1, y2, y3, y4, y5, y6, y7, y8)


@triton.jit
def sphere_change(x, y, z, a, b, c, L: tl.constexpr):
    """Return the changes of the two tiles of :func:`sphere` along the change (a, b, c) of the unit vector."""
    d1, d2, d3, d4, d5, d6, d7, d8, d9, d10, d11, d12, d13, d14, d15 = push(x, y, z, a, b, c, L)
    every = stack16(tl.zeros_like(x), d1, d2, d3, d4, d5, d6, d7, d8, d9, d10, d11, d12, d13, d14, d15)
    return every, stack8(d1, d2, d3, d4, d5, d6, d7, d8)


@triton.jit
def stack8(a0, a1, a2, a3, a4, a5, a6, a7):
    """Return a tile (edges, 8). ``join`` appends the axis that runs fastest, so the highest bit comes first."""
    even = tl.join(tl.join(a0, a4), tl.join(a2, a6))
    odd = tl.join(tl.join(a1, a5), tl.join(a3, a7))
    return tl.reshape(tl.join(even, odd), (a0.shape[0], 8))


@triton.jit
def stack16(a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15):
    """Return a tile (edges, 16)."""
    e0 = tl.join(tl.join(a0, a8), tl.join(a4, a12))
    e1 = tl.join(tl.join(a2, a10), tl.join(a6, a14))
    o0 = tl.join(tl.join(a1, a9), tl.join(a5, a13))
    o1 = tl.join(tl.join(a3, a11), tl.join(a7, a15))
    return tl.reshape(tl.join(tl.join(e0, e1), tl.join(o0, o1)), (a0.shape[0], 16))


@triton.jit
def unstack8(tile):
    """Return the 8 columns of a tile (edges, 8)."""
    even, odd = tl.split(tl.reshape(tile, (tile.shape[0], 2, 2, 2)))
    e0, e1 = tl.split(even)
    o0, o1 = tl.split(odd)
    a0, a4 = tl.split(e0)
    a2, a6 = tl.split(e1)
    a1, a5 = tl.split(o0)
    a3, a7 = tl.split(o1)
    return a0, a1, a2, a3, a4, a5, a6, a7


@triton.jit
def unstack16(tile):
    """Return the 16 columns of a tile (edges, 16)."""
    even, odd = tl.split(tl.reshape(tile, (tile.shape[0], 8, 2)))
    a0, a2, a4, a6, a8, a10, a12, a14 = unstack8(even)
    a1, a3, a5, a7, a9, a11, a13, a15 = unstack8(odd)
    return a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15


@triton.jit
def project(x, y, z, inverse, a, b, c):
    """Return the part of (a, b, c) across the bond, over the distance: the derivative of the unit vector."""
    along = a * x + b * y + c * z
    return (a - along * x) * inverse, (b - along * y) * inverse, (c - along * z) * inverse
