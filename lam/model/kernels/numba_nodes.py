"""What atoms do with their messages, and its adjoint, in Numba: for inference, a block of atoms at a time.

These functions are :meth:`lam.model.layer.Layer.receive` written out, forward and backward. Features of a block of
B atoms are (M B, C): one row for each component and atom, components outermost, so that all components of a degree
are one matrix. A block is small enough that all of it stays in the cache from the messages to their adjoint.
The tuples ``weights`` are described in :mod:`lam.calculators.lowering`, ``kept`` in :mod:`lam.calculators.passes`.
"""

from __future__ import annotations

import math

import numpy as np

from lam.model.kernels.jit import jit as _jit
from lam.model.kernels.numba_gemm import multiply, multiply_add

# One loop for each result: with several in one loop the compiler cannot tell that they do not overlap.


@_jit
def _set_product(x, y, out):
    for c in range(len(out)):
        out[c] = x[c] * y[c]


@_jit
def _set_products(x, y, u, v, out):
    for c in range(len(out)):
        out[c] = x[c] * y[c] + u[c] * v[c]


@_jit
def _add_product(x, y, out):
    for c in range(len(out)):
        out[c] += x[c] * y[c]


@_jit
def normalize(x, factor):
    """Divide by ``sqrt(1 + mean square)`` of each atom, in place; keep the factors.

    The formula of ``norm`` in :mod:`lam.model.kernels.numba_elementwise`, for the layout of a block and in place;
    the next function is that of ``norm_adjoint``.
    """
    atoms = len(factor)
    one = x.dtype.type(1)
    components = x.shape[0] // atoms
    per_atom = one / x.dtype.type(max(1, components * x.shape[1]))
    for i in range(atoms):
        total = x.dtype.type(0)
        for m in range(components):
            for c in range(x.shape[1]):
                total += x[m * atoms + i, c] * x[m * atoms + i, c]
        factor[i] = one / math.sqrt(one + total * per_atom)
    for m in range(components):
        for i in range(atoms):
            f = factor[i]
            for c in range(x.shape[1]):
                x[m * atoms + i, c] *= f


@_jit
def normalize_back(g, y, factor):
    """Turn the cotangent of the normalised features ``y`` into that of what was normalised, in place."""
    atoms = len(factor)
    components = y.shape[0] // atoms
    per_atom = y.dtype.type(1) / y.dtype.type(max(1, components * y.shape[1]))
    for i in range(atoms):
        total = y.dtype.type(0)
        for m in range(components):
            for c in range(y.shape[1]):
                total += g[m * atoms + i, c] * y[m * atoms + i, c]
        along, f = total * per_atom, factor[i]
        for m in range(components):
            for c in range(y.shape[1]):
                g[m * atoms + i, c] = f * (g[m * atoms + i, c] - along * y[m * atoms + i, c])


@_jit
def update(scalars, numbers, context, context_rows, weights, kept, new_scalars):
    """Fill the new scalars, (B, S), from density, partner and product; also what is kept of it."""
    atoms = len(numbers)
    degrees, fourth = len(weights.partner), len(weights.second) > 0
    for degree in range(len(weights.second)):
        first, last = degree * degree * atoms, (degree + 1) * (degree + 1) * atoms
        multiply(kept.product[first:last], weights.second[degree], kept.second[first:last])
    channels = kept.density.shape[1]
    wide = atoms * channels
    a, b = kept.density.reshape(-1, wide), kept.partner.reshape(-1, wide)
    p, s = kept.product.reshape(-1, wide), kept.second.reshape(-1, wide)
    groups = len(weights.invariant) - 1
    invariants = np.zeros((groups, wide), a.dtype)
    for degree in range(degrees):
        for m in range(degree * degree, (degree + 1) * (degree + 1)):
            _add_product(a[m], b[m], invariants[degree])
            _add_product(p[m], b[m], invariants[degrees + degree])
            if fourth:
                _add_product(p[m], s[m], invariants[2 * degrees + degree])
    hidden = kept.hidden
    multiply(kept.density[:atoms], weights.invariant[0], hidden)
    for group in range(groups):
        multiply_add(invariants[group].reshape(atoms, channels), weights.invariant[1 + group], hidden)
    residual = np.empty_like(hidden)
    multiply(scalars, weights.residual, residual)
    active = np.empty_like(hidden)
    one = hidden.dtype.type(1)
    for i in range(atoms):
        for c in range(hidden.shape[1]):
            x = (hidden[i, c] + weights.invariant_bias[c]) * weights.gain[numbers[i], c]
            x += residual[i, c] + context[context_rows[i], c]
            hidden[i, c] = x
            active[i, c] = x / (one + math.exp(-x))
    multiply(active, weights.update, new_scalars)
    for i in range(atoms):
        for c in range(hidden.shape[1]):
            new_scalars[i, c] += scalars[i, c] + weights.update_bias[c]
    if weights.tensors.shape[3] > 0:
        _make_tensors(active, weights, kept)


@_jit
def _make_tensors(active, weights, kept):
    atoms, channels = kept.opening.shape
    one = active.dtype.type(1)
    for part in range(2):
        first, last = (part + 1) * (part + 1) * atoms, (part + 2) * (part + 2) * atoms
        out = kept.ungated[first - atoms : last - atoms]
        multiply(kept.density[first:last], weights.tensors[part, 0], out)
        multiply_add(kept.product[first:last], weights.tensors[part, 1], out)
    multiply(active, weights.tensor_gate, kept.opening)
    for i in range(atoms):
        for c in range(channels):
            kept.opening[i, c] = one / (one + math.exp(-(kept.opening[i, c] + weights.tensor_bias[c])))
    for m in range(8):
        for i in range(atoms):
            for c in range(channels):
                kept.tensors[m * atoms + i, c] = kept.ungated[m * atoms + i, c] * kept.opening[i, c]
    normalize(kept.tensors, kept.tensor_factor)


@_jit
def send(scalars, weights, kept, q, T, t):
    """Fill what the atoms send in the next layer: q (B, Q), T (B, 8 Q), t (B, 8 C_t)."""
    atoms, channels = kept.opening.shape
    multiply(scalars, weights.sender, q)
    wide = q.shape[1]
    seen = np.empty((8 * atoms, wide), q.dtype)
    multiply(kept.tensors[: 3 * atoms], weights.seen[0], seen[: 3 * atoms])
    multiply(kept.tensors[3 * atoms :], weights.seen[1], seen[3 * atoms :])
    for i in range(atoms):
        for m in range(8):
            for c in range(wide):
                T[i, m * wide + c] = seen[m * atoms + i, c]
            for c in range(channels):
                t[i, m * channels + c] = kept.tensors[m * atoms + i, c]


@_jit
def send_back(g_q, g_T, g_t, weights, kept, g_scalars, g_tensors):
    """Add to the cotangent of the scalars and fill that of the tensors, (8 B, C_t), from those of what was sent.

    The cotangents have one slab for each thread in front, (threads, B, ...).
    """
    atoms, channels = kept.opening.shape
    wide = g_q.shape[2]
    total = np.empty((atoms, wide), g_scalars.dtype)
    seen = np.empty((8 * atoms, wide), g_scalars.dtype)
    for i in range(atoms):
        for c in range(wide):
            x = g_q[0, i, c]
            for slab in range(1, len(g_q)):
                x += g_q[slab, i, c]
            total[i, c] = x
        for m in range(8):
            for c in range(wide):
                x = g_T[0, i, m * wide + c]
                for slab in range(1, len(g_q)):
                    x += g_T[slab, i, m * wide + c]
                seen[m * atoms + i, c] = x
            for c in range(channels):
                x = g_t[0, i, m * channels + c]
                for slab in range(1, len(g_q)):
                    x += g_t[slab, i, m * channels + c]
                g_tensors[m * atoms + i, c] = x
    multiply_add(total, weights.sender_back, g_scalars)
    multiply_add(seen[: 3 * atoms], weights.seen_back[0], g_tensors[: 3 * atoms])
    multiply_add(seen[3 * atoms :], weights.seen_back[1], g_tensors[3 * atoms :])


@_jit
def read_out(scalars, tasks, weights, energies, g_scalars):
    """Fill the energies of the atoms, without references, and their gradients with respect to the scalars."""
    atoms, width = scalars.shape
    wide = weights.hidden.shape[1]
    one = scalars.dtype.type(1)
    seen = np.empty_like(scalars)
    for i in range(atoms):
        for c in range(width):
            seen[i, c] = scalars[i, c] * (one + weights.gain[tasks[i], c]) + weights.bias[tasks[i], c]
    hidden = np.empty((atoms, wide), scalars.dtype)
    multiply(seen, weights.hidden, hidden)
    for i in range(atoms):
        task = tasks[i]
        scale = weights.scale[task]
        energy = weights.offset[task]
        for c in range(width):
            energy += seen[i, c] * weights.weight[task, wide + c]
        for c in range(wide):
            gain = one + weights.hidden_gain[task, c]
            x = (hidden[i, c] + weights.hidden_bias[c]) * gain + weights.hidden_shift[task, c]
            open_ = one / (one + math.exp(-x))
            energy += x * open_ * weights.weight[task, c]
            hidden[i, c] = scale * weights.weight[task, c] * gain * open_ * (one + x * (one - open_))
        energies[i] = energy * scale
    multiply(hidden, weights.hidden_back, g_scalars)
    for i in range(atoms):
        task = tasks[i]
        for c in range(width):
            g = g_scalars[i, c] + weights.scale[task] * weights.weight[task, wide + c]
            g_scalars[i, c] = g * (one + weights.gain[task, c])


@_jit
def update_back(numbers, weights, kept, g_scalars, g_tensors, g_density, g_partner, g_product):
    """Fill the cotangents of density, partner and product (of those parts that do not go through the coupling).

    ``g_scalars``, of the new scalars, becomes that of the old ones; ``g_tensors`` is overwritten.
    """
    atoms, width = kept.hidden.shape
    degrees, fourth = len(weights.partner), len(weights.second) > 0
    channels = kept.density.shape[1]
    one = g_scalars.dtype.type(1)
    g_active = np.empty_like(kept.hidden)
    multiply(g_scalars, weights.update_back, g_active)
    with_tensors = weights.tensors.shape[3] > 0
    if with_tensors:
        normalize_back(g_tensors, kept.tensors, kept.tensor_factor)
        g_opening = np.zeros_like(kept.opening)
        for m in range(8):
            for i in range(atoms):
                for c in range(kept.opening.shape[1]):
                    g = g_tensors[m * atoms + i, c]
                    g_opening[i, c] += g * kept.ungated[m * atoms + i, c]
                    g_tensors[m * atoms + i, c] = g * kept.opening[i, c]
        for i in range(atoms):
            for c in range(kept.opening.shape[1]):
                g_opening[i, c] *= kept.opening[i, c] * (one - kept.opening[i, c])
        multiply_add(g_opening, weights.tensor_gate_back, g_active)
    g_invariant = np.empty_like(kept.hidden)
    for i in range(atoms):
        for c in range(width):
            x = kept.hidden[i, c]
            open_ = one / (one + math.exp(-x))
            g = g_active[i, c] * open_ * (one + x * (one - open_))
            g_active[i, c] = g
            g_invariant[i, c] = g * weights.gain[numbers[i], c]
    multiply_add(g_active, weights.residual_back, g_scalars)
    groups = np.empty((len(weights.invariant), atoms, channels), g_scalars.dtype)
    for group in range(len(groups)):
        multiply(g_invariant, weights.invariant_back[group], groups[group])
    wide = atoms * channels
    g_inv = groups.reshape(len(groups), wide)
    a, b = kept.density.reshape(-1, wide), kept.partner.reshape(-1, wide)
    p, s = kept.product.reshape(-1, wide), kept.second.reshape(-1, wide)
    g_a, g_b, g_p = g_density.reshape(-1, wide), g_partner.reshape(-1, wide), g_product.reshape(-1, wide)
    g_s = np.empty((2 * degrees - 1) * wide, g_scalars.dtype)
    for degree in range(degrees):
        rows = 2 * degree + 1
        for m in range(degree * degree, (degree + 1) * (degree + 1)):
            begin = (m - degree * degree) * wide
            g2, g3 = g_inv[1 + degree], g_inv[1 + degrees + degree]
            _set_product(g2, b[m], g_a[m])
            _set_products(g2, a[m], g3, p[m], g_b[m])
            if fourth:
                g4 = g_inv[1 + 2 * degrees + degree]
                _set_products(g3, b[m], g4, s[m], g_p[m])
                _set_product(g4, p[m], g_s[begin : begin + wide])
            else:
                _set_product(g3, b[m], g_p[m])
        if fourth:
            first, last = degree * degree * atoms, (degree + 1) * (degree + 1) * atoms
            multiply_add(g_s[: rows * wide].reshape(rows * atoms, channels), weights.second_back[degree],
                         g_product[first:last])  # fmt: skip
    for c in range(wide):
        g_a[0, c] += g_inv[0, c]
    if with_tensors:
        for part in range(2):
            first, last = (part + 1) * (part + 1) * atoms, (part + 2) * (part + 2) * atoms
            g = g_tensors[first - atoms : last - atoms]
            multiply_add(g, weights.tensors_back[part, 0], g_density[first:last])
            multiply_add(g, weights.tensors_back[part, 1], g_product[first:last])
