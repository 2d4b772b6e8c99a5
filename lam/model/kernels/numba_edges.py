"""Edges in Numba: their vectors from positions, the repulsion along them, and forces from their gradients.

All functions work on the centres ``first .. last`` of edges sorted by centre, so that threads can share the work.
"""

from __future__ import annotations

import math
from functools import partial

from lam.model.kernels.jit import jit

_jit = partial(jit, fastmath=False)
_COEFFICIENTS = (0.18175, 0.50986, 0.28022, 0.02817)
_EXPONENTS = (3.19980, 0.94229, 0.40290, 0.20162)


@_jit
def largest_move(positions, before):
    """Return the square of the largest distance between two sets of positions; NaN if a position is NaN."""
    largest = 0.0
    for i in range(len(positions)):
        x, y, z = positions[i, 0] - before[i, 0], positions[i, 1] - before[i, 1], positions[i, 2] - before[i, 2]
        move = x * x + y * y + z * z
        if not move <= largest:  # max would lose a NaN
            largest = move
            if math.isnan(move):
                break
    return largest


@_jit
def pack(pairs, shifts, starts, others, moves):
    """Copy sorted pairs (E, 2) and shifts (E, 3) to smaller types; fill the first pair of each centre."""
    n_pairs = len(pairs)
    k = 0
    for i in range(len(starts)):
        while k < n_pairs and pairs[k, 0] < i:
            k += 1
        starts[i] = k
    for k in range(n_pairs):
        others[k] = pairs[k, 1]
        moves[k, 0], moves[k, 1], moves[k, 2] = shifts[k, 0], shifts[k, 1], shifts[k, 2]


@_jit
def count_within(first, last, starts, others, moves, positions, cell, cutoff, radii, overlap, counts):
    """Count the pairs of each centre within the cutoff; return how many are closer than ``overlap`` x their radii."""
    overlapping = 0
    for i in range(first, last):
        near = 0
        for k in range(starts[i], starts[i + 1]):
            j = others[k]
            a, b, c = float(moves[k, 0]), float(moves[k, 1]), float(moves[k, 2])
            x = positions[j, 0] - positions[i, 0] + a * cell[0, 0] + b * cell[1, 0] + c * cell[2, 0]
            y = positions[j, 1] - positions[i, 1] + a * cell[0, 1] + b * cell[1, 1] + c * cell[2, 1]
            z = positions[j, 2] - positions[i, 2] + a * cell[0, 2] + b * cell[1, 2] + c * cell[2, 2]
            square = x * x + y * y + z * z
            if square < cutoff * cutoff:
                near += 1
                reach = overlap * (radii[i] + radii[j])
                if square < reach * reach:
                    overlapping += 1
        counts[i] = near
    return overlapping


@_jit
def write_within(first, last, starts, others, moves, positions, cell, cutoff, rows, neighbors, vectors):
    """Write neighbours and vectors (computed in float64) of the pairs within the cutoff, from ``rows`` on."""
    for i in range(first, last):
        e = rows[i]
        for k in range(starts[i], starts[i + 1]):
            j = others[k]
            a, b, c = float(moves[k, 0]), float(moves[k, 1]), float(moves[k, 2])
            x = positions[j, 0] - positions[i, 0] + a * cell[0, 0] + b * cell[1, 0] + c * cell[2, 0]
            y = positions[j, 1] - positions[i, 1] + a * cell[0, 1] + b * cell[1, 1] + c * cell[2, 1]
            z = positions[j, 2] - positions[i, 2] + a * cell[0, 2] + b * cell[1, 2] + c * cell[2, 2]
            if x * x + y * y + z * z < cutoff * cutoff:
                neighbors[e] = j
                vectors[e, 0], vectors[e, 1], vectors[e, 2] = x, y, z
                e += 1


@_jit
def collect(first, last, rows, neighbors, vectors, pulls, structure, forces, virials):
    """Add what ``pulls``, dE/d(edge vector), mean for forces (N, 3) and virials (G, 3, 3), in float64."""
    for i in range(first, last):
        fx = fy = fz = 0.0
        xx = xy = xz = yy = yz = zz = 0.0
        for e in range(rows[i], rows[i + 1]):
            j = neighbors[e]
            px, py, pz = float(pulls[e, 0]), float(pulls[e, 1]), float(pulls[e, 2])
            x, y, z = vectors[e, 0], vectors[e, 1], vectors[e, 2]
            fx += px
            fy += py
            fz += pz
            forces[j, 0] -= px
            forces[j, 1] -= py
            forces[j, 2] -= pz
            xx += x * px
            yy += y * py
            zz += z * pz
            xy += 0.5 * (x * py + y * px)
            xz += 0.5 * (x * pz + z * px)
            yz += 0.5 * (y * pz + z * py)
        forces[i, 0] += fx
        forces[i, 1] += fy
        forces[i, 2] += fz
        virial = virials[structure[i]]
        virial[0, 0] += xx
        virial[1, 1] += yy
        virial[2, 2] += zz
        virial[0, 1] += xy
        virial[1, 0] += xy
        virial[0, 2] += xz
        virial[2, 0] += xz
        virial[1, 2] += yz
        virial[2, 1] += yz


@_jit
def measure(first, last, rows, neighbors, positions, shifts, cells, structure, vectors):
    """Set the vectors of the edges, (E, 3): ``positions[j] + shift @ cell - positions[i]``, Angstrom."""
    for i in range(first, last):
        cell = cells[structure[i]]
        for e in range(rows[i], rows[i + 1]):
            j = neighbors[e]
            for a in range(3):
                moved = shifts[e, 0] * cell[0, a] + shifts[e, 1] * cell[1, a] + shifts[e, 2] * cell[2, a]
                vectors[e, a] = positions[j, a] - positions[i, a] + moved


@_jit
def spread(first, last, rows, neighbors, vectors, structure, g_forces, g_virials, out):
    """Set the gradient by the pulls of :func:`collect`, (E, 3), from those by forces and virials (symmetric)."""
    for i in range(first, last):
        g = g_virials[structure[i]]
        for e in range(rows[i], rows[i + 1]):
            j = neighbors[e]
            for a in range(3):
                along = vectors[e, 0] * g[0, a] + vectors[e, 1] * g[1, a] + vectors[e, 2] * g[2, a]
                out[e, a] = g_forces[i, a] - g_forces[j, a] + along


@_jit
def repel(
    first,
    last,
    rows,
    neighbors,
    vectors,
    radii,
    numbers,
    cutoff,
    reach_of_radii,
    coulomb,
    length,
    smallest,
    structure,
    energies,
    forces,
    virials,
):
    """Add the screened nuclear repulsion (:class:`lam.model.repulsion.Repulsion`) to energies, forces and virials."""
    for i in range(first, last):
        for e in range(rows[i], rows[i + 1]):
            j = neighbors[e]
            reach = min(reach_of_radii * (float(radii[i]) + float(radii[j])), cutoff)
            x, y, z = float(vectors[e, 0]), float(vectors[e, 1]), float(vectors[e, 2])
            square = x * x + y * y + z * z
            if square >= reach * reach:
                continue
            distance = math.sqrt(square + smallest * smallest)
            z_i, z_j = float(numbers[i]), float(numbers[j])
            stretch = (z_i**0.23 + z_j**0.23) / (0.8854 * length)
            screening = slope = 0.0
            for k in range(4):
                term = _COEFFICIENTS[k] * math.exp(-_EXPONENTS[k] * stretch * distance)
                screening += term
                slope -= _EXPONENTS[k] * stretch * term
            # The envelope of lam.model.radial and its derivative.
            q = min(distance / reach, 1.0)
            rest3 = (1.0 - q) ** 3
            total = ((((((120.0 * q + 84.0) * q + 56.0) * q + 35.0) * q + 20.0) * q + 10.0) * q + 4.0) * q + 1.0
            window = rest3 * (1.0 - q) * total
            d_window = -1320.0 * q**7 * rest3 / reach
            size = 0.5 * coulomb * z_i * z_j / distance
            energies[i] += size * screening * window
            pull = size * (slope * window + screening * (d_window - window / distance)) / distance
            force = (pull * x, pull * y, pull * z)
            edge = (x, y, z)
            virial = virials[structure[i]]
            for a in range(3):
                forces[i, a] += force[a]
                forces[j, a] -= force[a]
                for b in range(3):
                    virial[a, b] += edge[a] * force[b]
