"""Geometry of one chunk of edges in Numba: radial functions and harmonics, their derivatives and adjoints.

The state of a chunk is one flat scratch array ``w`` of ``ROWS`` rows of ``LANES`` edges each (structure of
arrays), with fixed rows. The functions work on its first ``GROUP`` edges, and on others if given the rest of ``w``:
loops of constant length over provably distinct rows, which LLVM turns into wide SIMD code. The formulas are those
of :mod:`lam.model.radial` and of e3nn's harmonics, which the plain PyTorch path uses; tests/kernels compares the two.
"""

from __future__ import annotations

import math

from lam.model.kernels.jit import jit
from lam.model.kernels.sizes import MAX_RADIAL

LANES = 32
"""Edges of one centre that are worked on together."""
GROUP = 16
"""Edges of a chunk whose geometry is computed together; divides ``LANES``."""

DX, REACH, U, INVERSE = 0, 3, 4, 7
Y = 8
DY = Y + 16
YBAR = DY + 16
R = YBAR + 16
DR = R + MAX_RADIAL
RDOT = DR + MAX_RADIAL
RBAR = RDOT + MAX_RADIAL
ROWS = RBAR + MAX_RADIAL

SMALLEST = 1e-4
"""Distances are ``sqrt(r^2 + SMALLEST^2)``: overlapping atoms give finite numbers."""
INNER_START, INNER_END = 0.35, 0.6

_S3, _S5, _S7, _S15 = math.sqrt(3.0), math.sqrt(5.0), math.sqrt(7.0), math.sqrt(15.0)
_A2 = _S15
_A3 = math.sqrt(42.0) / 6.0 * _S15
_C3 = _S7 * _S15
_D3 = math.sqrt(168.0) / 8.0
_E3 = _S7 / 2.0
_F3 = math.sqrt(105.0) / 2.0
_COS = tuple((-1.0) ** k / math.factorial(2 * k) for k in range(12))
_SIN = tuple((-1.0) ** k / math.factorial(2 * k + 1) for k in range(12))
_BETA = 1320.0  # 11! / (7! 3!), of the envelope's derivative


@jit(inline="always")
def load(w, ft, begin, end, i, neighbors, vectors, radii, cutoff):
    """Read the edges there are; the others become edges at the cutoff, where everything vanishes."""
    count = min(end - begin, GROUP)
    for e in range(count):
        w[DX * LANES + e] = vectors[begin + e, 0]
        w[(DX + 1) * LANES + e] = vectors[begin + e, 1]
        w[(DX + 2) * LANES + e] = vectors[begin + e, 2]
        w[REACH * LANES + e] = radii[i] + radii[neighbors[begin + e]]
    for e in range(count, GROUP):
        w[DX * LANES + e] = cutoff
        w[(DX + 1) * LANES + e] = ft(0.0)
        w[(DX + 2) * LANES + e] = ft(0.0)
        w[REACH * LANES + e] = ft(1.0)


@jit(inline="always")
def radial(w, ft, n_radial, scale, cutoff):
    """Fill unit vectors, inverse distances, radial functions R and their derivatives DR = dR/dr."""
    one, half, pi = ft(1.0), ft(0.5), ft(math.pi)
    inverse_cutoff = one / cutoff
    for e in range(GROUP):
        x, y, z = w[DX * LANES + e], w[(DX + 1) * LANES + e], w[(DX + 2) * LANES + e]
        r = math.sqrt(x * x + y * y + z * z + ft(SMALLEST * SMALLEST))
        inverse = one / r
        w[INVERSE * LANES + e] = inverse
        w[U * LANES + e] = x * inverse
        w[(U + 1) * LANES + e] = y * inverse
        w[(U + 2) * LANES + e] = z * inverse
        # The soft inner limit s(r) and its slope.
        reach = w[REACH * LANES + e]
        width = ft(INNER_END - INNER_START) * reach
        start = ft(INNER_START) * reach
        t = min(max((r - start) / width, ft(0.0)), one)
        inside = width * (t * t * t * t * (ft(2.5) + t * (t - ft(3.0))) + half) + start
        s = inside if t < one else r
        slope = t * t * t * (ft(10.0) + t * (ft(6.0) * t - ft(15.0)))
        # The envelope f(q) and its derivative -1320 q^7 (1 - q)^3, q = s / cutoff.
        q = min(s * inverse_cutoff, one)
        rest = one - q
        rest3 = rest * rest * rest
        total = ft(120.0)
        total = total * q + ft(84.0)
        total = total * q + ft(56.0)
        total = total * q + ft(35.0)
        total = total * q + ft(20.0)
        total = total * q + ft(10.0)
        total = total * q + ft(4.0)
        total = total * q + one
        q2 = q * q
        q4 = q2 * q2
        window = rest3 * rest * total / s
        d_window = -(ft(_BETA) * q4 * q2 * q * rest3 * inverse_cutoff + window) / s
        # sin(pi q) = cos(pi (q - 1/2)) and cos(pi q) = -sin(pi (q - 1/2)), by their series.
        a = pi * (q - half)
        b = a * a
        c = ft(_COS[11])
        d = ft(_SIN[11])
        c = c * b + ft(_COS[10])
        d = d * b + ft(_SIN[10])
        c = c * b + ft(_COS[9])
        d = d * b + ft(_SIN[9])
        c = c * b + ft(_COS[8])
        d = d * b + ft(_SIN[8])
        c = c * b + ft(_COS[7])
        d = d * b + ft(_SIN[7])
        c = c * b + ft(_COS[6])
        d = d * b + ft(_SIN[6])
        c = c * b + ft(_COS[5])
        d = d * b + ft(_SIN[5])
        c = c * b + ft(_COS[4])
        d = d * b + ft(_SIN[4])
        c = c * b + ft(_COS[3])
        d = d * b + ft(_SIN[3])
        c = c * b + ft(_COS[2])
        d = d * b + ft(_SIN[2])
        c = c * b + ft(_COS[1])
        d = d * b + ft(_SIN[1])
        c = c * b + ft(_COS[0])
        d = (d * b + ft(_SIN[0])) * a
        # Kept for the recurrence below: sin, cos, window, its slope, in rows that are free until then.
        w[YBAR * LANES + e] = c
        w[(YBAR + 1) * LANES + e] = -d
        w[(YBAR + 2) * LANES + e] = window
        w[(YBAR + 3) * LANES + e] = d_window * slope
        w[(YBAR + 4) * LANES + e] = window * slope * pi * inverse_cutoff
        w[(YBAR + 5) * LANES + e] = c
        w[(YBAR + 6) * LANES + e] = -d
    for n in range(n_radial):
        order = ft(n + 1)
        size = scale[n]
        row, d_row = (R + n) * LANES, (DR + n) * LANES
        for e in range(GROUP):
            sine, cosine = w[(YBAR + 5) * LANES + e], w[(YBAR + 6) * LANES + e]
            w[row + e] = size * sine * w[(YBAR + 2) * LANES + e]
            w[d_row + e] = size * (sine * w[(YBAR + 3) * LANES + e] + order * cosine * w[(YBAR + 4) * LANES + e])
            # The angle grows by pi q: stable, unlike the Chebyshev recurrence close to 0 and pi.
            s1, c1 = w[YBAR * LANES + e], w[(YBAR + 1) * LANES + e]
            w[(YBAR + 5) * LANES + e] = sine * c1 + cosine * s1
            w[(YBAR + 6) * LANES + e] = cosine * c1 - sine * s1


@jit(inline="always")
def harmonics(w, ft, l_max):
    """Fill the harmonics Y: real, "component" normalised, e3nn's order, polynomials of the unit vector."""
    for e in range(GROUP):
        x, y, z = w[U * LANES + e], w[(U + 1) * LANES + e], w[(U + 2) * LANES + e]
        w[Y * LANES + e] = ft(1.0)
        w[(Y + 1) * LANES + e] = ft(_S3) * x
        w[(Y + 2) * LANES + e] = ft(_S3) * y
        w[(Y + 3) * LANES + e] = ft(_S3) * z
    if l_max >= 2:
        for e in range(GROUP):
            x, y, z = w[U * LANES + e], w[(U + 1) * LANES + e], w[(U + 2) * LANES + e]
            w[(Y + 4) * LANES + e] = ft(_A2) * x * z
            w[(Y + 5) * LANES + e] = ft(_A2) * x * y
            w[(Y + 6) * LANES + e] = ft(_S5) * (y * y - ft(0.5) * (x * x + z * z))
            w[(Y + 7) * LANES + e] = ft(_A2) * y * z
            w[(Y + 8) * LANES + e] = ft(_A2 / 2) * (z * z - x * x)
    if l_max >= 3:
        for e in range(GROUP):
            x, y, z = w[U * LANES + e], w[(U + 1) * LANES + e], w[(U + 2) * LANES + e]
            x2, y2, z2 = x * x, y * y, z * z
            w[(Y + 9) * LANES + e] = ft(_A3) * x * (ft(1.5) * z2 - ft(0.5) * x2)
            w[(Y + 10) * LANES + e] = ft(_C3) * x * y * z
            w[(Y + 11) * LANES + e] = ft(_D3) * x * (ft(4.0) * y2 - x2 - z2)
            w[(Y + 12) * LANES + e] = ft(_E3) * y * (ft(2.0) * y2 - ft(3.0) * (x2 + z2))
            w[(Y + 13) * LANES + e] = ft(_D3) * z * (ft(4.0) * y2 - x2 - z2)
            w[(Y + 14) * LANES + e] = ft(_F3) * y * (z2 - x2)
            w[(Y + 15) * LANES + e] = ft(_A3) * z * (ft(0.5) * z2 - ft(1.5) * x2)


@jit(inline="always")
def push(w, ft, l_max, n_radial, tangents, begin, end):
    """Fill the derivatives DY and RDOT along the given changes of the edge vectors."""
    count = min(end - begin, GROUP)
    for e in range(count):
        w[YBAR * LANES + e] = tangents[begin + e, 0]
        w[(YBAR + 1) * LANES + e] = tangents[begin + e, 1]
        w[(YBAR + 2) * LANES + e] = tangents[begin + e, 2]
    for e in range(count, GROUP):
        w[YBAR * LANES + e] = ft(0.0)
        w[(YBAR + 1) * LANES + e] = ft(0.0)
        w[(YBAR + 2) * LANES + e] = ft(0.0)
    for e in range(GROUP):
        x, y, z = w[U * LANES + e], w[(U + 1) * LANES + e], w[(U + 2) * LANES + e]
        a, b, c = w[YBAR * LANES + e], w[(YBAR + 1) * LANES + e], w[(YBAR + 2) * LANES + e]
        along = a * x + b * y + c * z
        inverse = w[INVERSE * LANES + e]
        w[(YBAR + 3) * LANES + e] = along
        dx, dy, dz = (a - along * x) * inverse, (b - along * y) * inverse, (c - along * z) * inverse
        w[YBAR * LANES + e], w[(YBAR + 1) * LANES + e], w[(YBAR + 2) * LANES + e] = dx, dy, dz
        w[DY * LANES + e] = ft(0.0)
        w[(DY + 1) * LANES + e] = ft(_S3) * dx
        w[(DY + 2) * LANES + e] = ft(_S3) * dy
        w[(DY + 3) * LANES + e] = ft(_S3) * dz
    for n in range(n_radial):
        for e in range(GROUP):
            w[(RDOT + n) * LANES + e] = w[(DR + n) * LANES + e] * w[(YBAR + 3) * LANES + e]
    if l_max >= 2:
        for e in range(GROUP):
            x, y, z = w[U * LANES + e], w[(U + 1) * LANES + e], w[(U + 2) * LANES + e]
            a, b, c = w[YBAR * LANES + e], w[(YBAR + 1) * LANES + e], w[(YBAR + 2) * LANES + e]
            w[(DY + 4) * LANES + e] = ft(_A2) * (z * a + x * c)
            w[(DY + 5) * LANES + e] = ft(_A2) * (y * a + x * b)
            w[(DY + 6) * LANES + e] = ft(_S5) * (ft(2.0) * y * b - x * a - z * c)
            w[(DY + 7) * LANES + e] = ft(_A2) * (z * b + y * c)
            w[(DY + 8) * LANES + e] = ft(_A2) * (z * c - x * a)
    if l_max >= 3:
        for e in range(GROUP):
            x, y, z = w[U * LANES + e], w[(U + 1) * LANES + e], w[(U + 2) * LANES + e]
            a, b, c = w[YBAR * LANES + e], w[(YBAR + 1) * LANES + e], w[(YBAR + 2) * LANES + e]
            x2, y2, z2 = x * x, y * y, z * z
            zx = ft(1.5) * (z2 - x2)
            w[(DY + 9) * LANES + e] = ft(_A3) * (zx * a + ft(3.0) * x * z * c)
            w[(DY + 10) * LANES + e] = ft(_C3) * (y * z * a + x * z * b + x * y * c)
            w[(DY + 11) * LANES + e] = ft(_D3) * (
                (ft(4.0) * y2 - ft(3.0) * x2 - z2) * a + ft(8.0) * x * y * b - ft(2.0) * x * z * c
            )
            w[(DY + 12) * LANES + e] = ft(_E3) * (
                (ft(6.0) * y2 - ft(3.0) * (x2 + z2)) * b - ft(6.0) * y * (x * a + z * c)
            )
            w[(DY + 13) * LANES + e] = ft(_D3) * (
                (ft(4.0) * y2 - x2 - ft(3.0) * z2) * c + ft(8.0) * y * z * b - ft(2.0) * x * z * a
            )
            w[(DY + 14) * LANES + e] = ft(_F3) * (ft(2.0) * y * (z * c - x * a) + (z2 - x2) * b)
            w[(DY + 15) * LANES + e] = ft(_A3) * (zx * c - ft(3.0) * x * z * a)


@jit(inline="always")
def pull(w, ft, l_max, n_radial, out, begin, end):
    """Write to ``out`` what the adjoints YBAR and RBAR of harmonics and radial functions mean for the vectors."""
    for e in range(GROUP):
        w[DY * LANES + e] = ft(_S3) * w[(YBAR + 1) * LANES + e]
        w[(DY + 1) * LANES + e] = ft(_S3) * w[(YBAR + 2) * LANES + e]
        w[(DY + 2) * LANES + e] = ft(_S3) * w[(YBAR + 3) * LANES + e]
        w[(DY + 3) * LANES + e] = ft(0.0)
    if l_max >= 2:
        for e in range(GROUP):
            x, y, z = w[U * LANES + e], w[(U + 1) * LANES + e], w[(U + 2) * LANES + e]
            g4, g5, g6 = w[(YBAR + 4) * LANES + e], w[(YBAR + 5) * LANES + e], w[(YBAR + 6) * LANES + e]
            g7, g8 = w[(YBAR + 7) * LANES + e], w[(YBAR + 8) * LANES + e]
            w[DY * LANES + e] += ft(_A2) * (z * g4 + y * g5 - x * g8) - ft(_S5) * x * g6
            w[(DY + 1) * LANES + e] += ft(_A2) * (x * g5 + z * g7) + ft(2 * _S5) * y * g6
            w[(DY + 2) * LANES + e] += ft(_A2) * (x * g4 + y * g7 + z * g8) - ft(_S5) * z * g6
    if l_max >= 3:
        for e in range(GROUP):
            x, y, z = w[U * LANES + e], w[(U + 1) * LANES + e], w[(U + 2) * LANES + e]
            x2, y2, z2 = x * x, y * y, z * z
            zx = ft(1.5) * (z2 - x2)
            g9, g15 = ft(_A3) * w[(YBAR + 9) * LANES + e], ft(_A3) * w[(YBAR + 15) * LANES + e]
            g10, g12 = ft(_C3) * w[(YBAR + 10) * LANES + e], ft(_E3) * w[(YBAR + 12) * LANES + e]
            g11, g13 = ft(_D3) * w[(YBAR + 11) * LANES + e], ft(_D3) * w[(YBAR + 13) * LANES + e]
            g14 = ft(_F3) * w[(YBAR + 14) * LANES + e]
            w[DY * LANES + e] += (
                zx * g9
                + y * z * g10
                + (ft(4.0) * y2 - ft(3.0) * x2 - z2) * g11
                - ft(6.0) * x * y * g12
                - ft(2.0) * x * z * g13
                - ft(2.0) * x * y * g14
                - ft(3.0) * x * z * g15
            )
            w[(DY + 1) * LANES + e] += (
                x * z * g10
                + ft(8.0) * y * (x * g11 + z * g13)
                + (ft(6.0) * y2 - ft(3.0) * (x2 + z2)) * g12
                + (z2 - x2) * g14
            )
            w[(DY + 2) * LANES + e] += (
                ft(3.0) * x * z * g9
                + x * y * g10
                - ft(2.0) * x * z * g11
                - ft(6.0) * y * z * g12
                + (ft(4.0) * y2 - x2 - ft(3.0) * z2) * g13
                + ft(2.0) * y * z * g14
                + zx * g15
            )
    for n in range(n_radial):
        for e in range(GROUP):
            w[(DY + 3) * LANES + e] += w[(RBAR + n) * LANES + e] * w[(DR + n) * LANES + e]
    for e in range(GROUP):
        x, y, z = w[U * LANES + e], w[(U + 1) * LANES + e], w[(U + 2) * LANES + e]
        a, b, c = w[DY * LANES + e], w[(DY + 1) * LANES + e], w[(DY + 2) * LANES + e]
        inverse = w[INVERSE * LANES + e]
        along = (a * x + b * y + c * z) * inverse
        radial_pull = w[(DY + 3) * LANES + e] - along
        w[DY * LANES + e] = a * inverse + radial_pull * x
        w[(DY + 1) * LANES + e] = b * inverse + radial_pull * y
        w[(DY + 2) * LANES + e] = c * inverse + radial_pull * z
    for e in range(min(end - begin, GROUP)):
        out[begin + e, 0] = w[DY * LANES + e]
        out[begin + e, 1] = w[(DY + 1) * LANES + e]
        out[begin + e, 2] = w[(DY + 2) * LANES + e]
