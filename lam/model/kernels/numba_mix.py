"""From sums over neighbours to the normalised density and its partner, and the adjoint, in Numba: for inference.

Layouts are those of :mod:`lam.model.kernels.numba_nodes`.
"""

from __future__ import annotations

import numpy as np

from lam.model.kernels.jit import jit as _jit
from lam.model.kernels.numba_gemm import multiply, multiply_add
from lam.model.kernels.numba_nodes import normalize, normalize_back


@_jit
def mix(sums, passed, numbers, weights, kept):
    """Fill the normalised density and its partner from the sums over neighbours, (M, B, K) and (8, B, n C_t).

    ``sums`` are overwritten.
    """
    components, atoms, pairs = sums.shape
    for m in range(components):
        for i in range(atoms):
            for k in range(pairs):
                sums[m, i, k] *= weights.gate[numbers[i], k]
    flat = sums.reshape(components * atoms, pairs)
    for degree in range(len(weights.mix)):
        first, last = degree * degree * atoms, (degree + 1) * (degree + 1) * atoms
        multiply(flat[first:last], weights.mix[degree], kept.density[first:last])
    if weights.passing.shape[1] > 0:
        other = passed.reshape(8 * atoms, passed.shape[2])
        multiply_add(other[: 3 * atoms], weights.passing[0], kept.density[atoms : 4 * atoms])
        multiply_add(other[3 * atoms :], weights.passing[1], kept.density[4 * atoms : 9 * atoms])
    _pair_up(atoms, weights, kept)


@_jit
def mix_elements(sums, kinds, combined, weights, kept):
    """The same where senders are the elements themselves, Q of them: ``combined`` (Q, L + 1, n Q, C) knows the rest."""
    _, atoms, pairs = sums.shape
    rows = np.empty(((2 * combined.shape[1] - 1) * atoms, pairs), sums.dtype)
    mixed = np.empty((len(rows), combined.shape[3]), sums.dtype)
    for kind in range(len(combined)):
        members = _members(kinds, kind)
        count = len(members)
        if count == 0:
            continue
        for degree in range(combined.shape[1]):
            low, components = degree * degree, 2 * degree + 1
            for m in range(components):
                for k in range(count):
                    x, y = sums[low + m, members[k]], rows[m * count + k]
                    for c in range(pairs):
                        y[c] = x[c]
            multiply(rows[: components * count], combined[kind, degree], mixed[: components * count])
            for m in range(components):
                for k in range(count):
                    x, y = mixed[m * count + k], kept.density[(low + m) * atoms + members[k]]
                    for c in range(len(x)):
                        y[c] = x[c]
    _pair_up(atoms, weights, kept)


@_jit
def _members(kinds, kind):
    """Return which atoms are of this kind."""
    found = np.empty(len(kinds), np.int64)
    count = 0
    for i in range(len(kinds)):
        if kinds[i] == kind:
            found[count] = i
            count += 1
    return found[:count]


@_jit
def _pair_up(atoms, weights, kept):
    normalize(kept.density, kept.factor)
    for degree in range(len(weights.partner)):
        first, last = degree * degree * atoms, (degree + 1) * (degree + 1) * atoms
        multiply(kept.density[first:last], weights.partner[degree], kept.partner[first:last])


@_jit
def mix_back(numbers, weights, kept, g_density, g_partner, from_density, from_partner, g_sums, g_passed):
    """Fill the cotangents of the sums over neighbours; the coupling's are ``from_density`` and ``from_partner``."""
    atoms = len(numbers)
    components, _, pairs = g_sums.shape
    _unpair(atoms, weights, kept, g_density, g_partner, from_density, from_partner)
    flat = g_sums.reshape(components * atoms, pairs)
    for degree in range(len(weights.mix)):
        first, last = degree * degree * atoms, (degree + 1) * (degree + 1) * atoms
        multiply(g_density[first:last], weights.mix_back[degree], flat[first:last])
    for m in range(components):
        for i in range(atoms):
            for k in range(pairs):
                g_sums[m, i, k] *= weights.gate[numbers[i], k]
    if weights.passing.shape[1] > 0:
        other = g_passed.reshape(8 * atoms, g_passed.shape[2])
        multiply(g_density[atoms : 4 * atoms], weights.passing_back[0], other[: 3 * atoms])
        multiply(g_density[4 * atoms : 9 * atoms], weights.passing_back[1], other[3 * atoms :])


@_jit
def mix_elements_back(kinds, combined_back, weights, kept, g_density, g_partner, from_density, from_partner, g_sums):
    """The same where senders are the elements; ``combined_back`` is (Q, L + 1, C, n Q)."""
    _, atoms, pairs = g_sums.shape
    _unpair(atoms, weights, kept, g_density, g_partner, from_density, from_partner)
    mixed = np.empty(((2 * combined_back.shape[1] - 1) * atoms, combined_back.shape[2]), g_sums.dtype)
    rows = np.empty((len(mixed), pairs), g_sums.dtype)
    for kind in range(len(combined_back)):
        members = _members(kinds, kind)
        count = len(members)
        if count == 0:
            continue
        for degree in range(combined_back.shape[1]):
            low, components = degree * degree, 2 * degree + 1
            for m in range(components):
                for k in range(count):
                    x, y = g_density[(low + m) * atoms + members[k]], mixed[m * count + k]
                    for c in range(len(y)):
                        y[c] = x[c]
            multiply(mixed[: components * count], combined_back[kind, degree], rows[: components * count])
            for m in range(components):
                for k in range(count):
                    x, y = rows[m * count + k], g_sums[low + m, members[k]]
                    for c in range(pairs):
                        y[c] = x[c]


@_jit
def _unpair(atoms, weights, kept, g_density, g_partner, from_density, from_partner):
    for row in range(len(g_density)):
        for c in range(g_density.shape[1]):
            g_density[row, c] += from_density[row, c]
            g_partner[row, c] += from_partner[row, c]
    for degree in range(len(weights.partner)):
        first, last = degree * degree * atoms, (degree + 1) * (degree + 1) * atoms
        multiply_add(g_partner[first:last], weights.partner_back[degree], g_density[first:last])
    normalize_back(g_density, kept.density, kept.factor)
