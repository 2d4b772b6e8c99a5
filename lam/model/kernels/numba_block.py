"""A layer's work at the atoms in Numba, for training: values and first derivatives of a block of B atoms.

The equations are those of :meth:`lam.model.layer.Layer.receive`. Features are (M B, C): one row for each component and
atom, components outermost, so that all components of a degree are one matrix. Unlike :mod:`numba_nodes`, which does
the same for inference, everything that second derivatives need is kept, in :class:`Sums` and :class:`States`: values
(``x``), their first-order cotangents (``g``), and their tangents (``d``, in :mod:`numba_block_second`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from lam.model.kernels.jit import jit
from lam.model.kernels.numba_gemm import multiply, multiply_add
from lam.model.kernels.numba_nodes import normalize, normalize_back


class Mixing(NamedTuple):
    """Weights between the sums over neighbours and the product, L + 1 degrees; ``_back``: transposed."""

    gate: np.ndarray
    """1 + gate of each element of the batch, (U, K), K = n Q."""
    mix: np.ndarray
    """Scaled map of the sums over neighbours, (L + 1, K, C)."""
    combined: np.ndarray
    """Gate and map in one for each kind of atom, (Z, L + 1, K, C), used instead of both; none of Z = 0."""
    passing: np.ndarray
    """Scaled map of the passed tensors of l = 1, 2, (2, n C_t, C); (0, 0, 0) in the first layer."""
    partner: np.ndarray
    """(L + 1, C, C)."""
    mix_back: np.ndarray
    combined_back: np.ndarray
    passing_back: np.ndarray
    partner_back: np.ndarray


class Updating(NamedTuple):
    """Weights between the product and the new scalars and tensors."""

    second: np.ndarray
    """The product's partner, (L + 1, C, C); (0, 0, 0) without invariants of four densities."""
    invariant: np.ndarray
    """Map of the invariants, by group, (1 + 2 or 3 times (L + 1), C, S); their norms are in it."""
    invariant_bias: np.ndarray
    gain: np.ndarray
    """1 + gain of each element of the batch, (U, S)."""
    residual: np.ndarray
    """(S, S)."""
    update: np.ndarray
    """(S, S)."""
    update_bias: np.ndarray
    tensors: np.ndarray
    """Map of density and product to tensors of l = 1, 2, (2, 2, C, C_t); (0, 0, 0, 0) in the last layer."""
    tensor_gate: np.ndarray
    """(S, C_t)."""
    tensor_bias: np.ndarray
    second_back: np.ndarray
    invariant_back: np.ndarray
    residual_back: np.ndarray
    update_back: np.ndarray
    tensors_back: np.ndarray
    tensor_gate_back: np.ndarray


class Sending(NamedTuple):
    """Weights by which the next layer makes senders; widths 0 in the last layer."""

    sender: np.ndarray
    """(S, Q)."""
    seen: np.ndarray
    """(2, C_t, Q)."""
    sender_back: np.ndarray
    seen_back: np.ndarray


# Gradients come in the same order, without those of transposed matrices. A function is given what it needs and no more:
# each array among its arguments costs it time at every call, and much more when it is compiled.


class MixingGradients(NamedTuple):
    """Gradients of :class:`Mixing`."""

    gate: np.ndarray
    mix: np.ndarray
    combined: np.ndarray
    passing: np.ndarray
    partner: np.ndarray


class UpdatingGradients(NamedTuple):
    """Gradients of :class:`Updating`."""

    second: np.ndarray
    invariant: np.ndarray
    invariant_bias: np.ndarray
    gain: np.ndarray
    residual: np.ndarray
    update: np.ndarray
    update_bias: np.ndarray
    tensors: np.ndarray
    tensor_gate: np.ndarray
    tensor_bias: np.ndarray


class SendingGradients(NamedTuple):
    """Gradients of :class:`Sending`."""

    sender: np.ndarray
    seen: np.ndarray


class Sums(NamedTuple):
    """What a block has between the sums over neighbours and the product: values, cotangents or tangents."""

    sums: np.ndarray
    """Sums over neighbours, (M, B, K); cotangents are of the gated sums."""
    passed: np.ndarray
    """(8, B, n C_t)."""
    density: np.ndarray
    """Normalised, (M B, C)."""
    factor: np.ndarray
    """Of the normalisation, (B,); of tangents minus its logarithm's tangent."""
    partner: np.ndarray


class States(NamedTuple):
    """What a block has between the product and its new scalars and tensors."""

    density: np.ndarray
    """That of :class:`Sums`, as is the partner."""
    partner: np.ndarray
    product: np.ndarray
    second: np.ndarray
    groups: np.ndarray
    """The invariants of two and more densities, (2 or 3 times (L + 1), B, C)."""
    mixed: np.ndarray
    """Invariants mixed, with bias, (B, S)."""
    hidden: np.ndarray
    """Before the activation, (B, S)."""
    active: np.ndarray
    """After it."""
    ungated: np.ndarray
    """Tensors before their gate, (8 B, C_t)."""
    tensors: np.ndarray
    """Normalised, (8 B, C_t)."""
    opening: np.ndarray
    """Of the tensors' gate, (B, C_t)."""
    tensor_factor: np.ndarray
    """Of the tensors' normalisation, (B,)."""


def shapes(
    l_max: int, atoms: int, pairs: int, passed: int, channels: int, width: int, tensors: int, kinds: int
) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of the arrays of :class:`Sums`, then of those that only :class:`States` has.

    Args:
        l_max: highest degree.
        atoms: B.
        pairs: K.
        passed: n C_t of what was sent; 0 in the first layer.
        channels: C.
        width: S.
        tensors: C_t of what will be sent; 0 in the last layer.
        kinds: kinds of invariants besides ``a_00``: 2, or 3 with those of four densities.
    """
    m = (l_max + 1) ** 2
    rows, scalars, sent = (m * atoms, channels), (atoms, width), (8 * atoms, tensors)
    second = rows if kinds == 3 else (0, channels)
    return (
        (m, atoms, pairs), (8, atoms, passed), rows, (atoms,), rows,
        rows, second, (kinds * (l_max + 1), atoms, channels), scalars, scalars, scalars,
        sent, sent, (atoms, tensors), (atoms,),
    )  # fmt: skip


# -- rows of one kind of atom ----------------------------------------------------------------------


@jit
def members(kinds, start, found):
    """Fill ``found`` with the atoms from ``start`` on that are of its kind; return their number, 0 if that was done."""
    kind, count = kinds[start], 0
    for i in range(start):
        if kinds[i] == kind:
            return 0
    for i in range(start, len(kinds)):
        if kinds[i] == kind:
            found[count] = i
            count += 1
    return count


@jit
def take_rows(x, atoms, degree, found, rows):
    """Copy a degree's rows of some atoms of x (M B, C) side by side."""
    count, low = len(found), degree * degree
    for m in range(2 * degree + 1):
        for k in range(count):
            source, target = x[(low + m) * atoms + found[k]], rows[m * count + k]
            for c in range(len(source)):
                target[c] = source[c]


@jit
def put_rows(rows, atoms, degree, found, x):
    """Copy back what :func:`take_rows` takes."""
    count, low = len(found), degree * degree
    for m in range(2 * degree + 1):
        for k in range(count):
            source, target = rows[m * count + k], x[(low + m) * atoms + found[k]]
            for c in range(len(source)):
                target[c] = source[c]


@jit
def map_kinds(x, kinds, maps, out):
    """Set ``out = x maps[kind, degree]`` for rows x (M B, K) and out (M B, C)."""
    atoms, degrees = len(kinds), maps.shape[1]
    most = (2 * degrees - 1) * atoms
    before, after = np.empty((most, x.shape[1]), x.dtype), np.empty((most, out.shape[1]), x.dtype)
    found = np.empty(atoms, np.int64)
    for start in range(atoms):
        count = members(kinds, start, found)
        if count == 0:
            continue
        for degree in range(degrees):
            n = (2 * degree + 1) * count
            take_rows(x, atoms, degree, found[:count], before)
            multiply(before[:n], maps[kinds[start], degree], after[:n])
            put_rows(after, atoms, degree, found[:count], out)


@jit
def map_degrees(x, maps, out, add):
    """Set, or add to, ``out = x maps[degree]`` for rows (M B, ...)."""
    degrees = len(maps)
    atoms = len(x) // (degrees * degrees)
    for degree in range(degrees):
        first, last = degree * degree * atoms, (degree + 1) * (degree + 1) * atoms
        if add:
            multiply_add(x[first:last], maps[degree], out[first:last])
        else:
            multiply(x[first:last], maps[degree], out[first:last])


@jit
def gate_rows(x, kinds, gate, out):
    """Multiply x (M, B, K) with the rows of its atoms."""
    for m in range(x.shape[0]):
        for i in range(x.shape[1]):
            source, by, target = x[m, i], gate[kinds[i]], out[m, i]
            for k in range(len(source)):
                target[k] = source[k] * by[k]


@jit
def add_passed(passed, maps, density):
    """Add the passed tensors to the density, (M B, C)."""
    atoms = passed.shape[1]
    rows = passed.reshape(8 * atoms, passed.shape[2])
    multiply_add(rows[: 3 * atoms], maps[0], density[atoms : 4 * atoms])
    multiply_add(rows[3 * atoms :], maps[1], density[4 * atoms : 9 * atoms])


@jit
def pass_back(g, maps_back, g_passed):
    """Set the cotangent of the passed tensors from that of the density."""
    atoms = g_passed.shape[1]
    rows = g_passed.reshape(8 * atoms, g_passed.shape[2])
    multiply(g[atoms : 4 * atoms], maps_back[0], rows[: 3 * atoms])
    multiply(g[4 * atoms : 9 * atoms], maps_back[1], rows[3 * atoms :])


# -- values --------------------------------------------------------------------------------------


@jit
def mix(x, kinds, w):
    """From the sums over neighbours to the normalised density and its partner."""
    components, atoms, pairs = x.sums.shape
    if len(w.combined) > 0:
        map_kinds(x.sums.reshape(components * atoms, pairs), kinds, w.combined, x.density)
    else:
        gated = np.empty_like(x.sums)
        gate_rows(x.sums, kinds, w.gate, gated)
        map_degrees(gated.reshape(components * atoms, pairs), w.mix, x.density, False)
    if len(w.passing) > 0:
        add_passed(x.passed, w.passing, x.density)
    normalize(x.density, x.factor)
    map_degrees(x.density, w.partner, x.partner, False)


@jit
def invariants(a, b, p, s, out):
    """Set the sums over m of ``a b``, ``p b`` and (if there is an s) ``p s``; all (M, X), out (kinds (L + 1), X)."""
    degrees = round(math.sqrt(len(a)))
    for degree in range(degrees):
        for m in range(degree * degree, (degree + 1) * (degree + 1)):
            _products(a[m], b[m], out[degree], m == degree * degree)
            _products(p[m], b[m], out[degrees + degree], m == degree * degree)
            if len(s) > 0:
                _products(p[m], s[m], out[2 * degrees + degree], m == degree * degree)


@jit(forceinline=True)
def _products(x, y, out, start):
    if start:
        for c in range(len(out)):
            out[c] = x[c] * y[c]
    else:
        for c in range(len(out)):
            out[c] += x[c] * y[c]


@jit
def update(x, kinds, scalars, context, w, new_scalars):
    """From density, partner and product to the new scalars, (B, S), and the tensors."""
    atoms, width = x.hidden.shape
    wide = atoms * x.density.shape[1]
    if len(w.second) > 0:
        map_degrees(x.product, w.second, x.second, False)
    invariants(
        x.density.reshape(-1, wide), x.partner.reshape(-1, wide), x.product.reshape(-1, wide),
        x.second.reshape(-1, wide), x.groups.reshape(-1, wide),
    )  # fmt: skip
    multiply(x.density[:atoms], w.invariant[0], x.mixed)
    for group in range(len(x.groups)):
        multiply_add(x.groups[group], w.invariant[1 + group], x.mixed)
    multiply(scalars, w.residual, x.hidden)
    one = x.hidden.dtype.type(1)
    for i in range(atoms):
        for c in range(width):
            x.mixed[i, c] += w.invariant_bias[c]
        for c in range(width):
            h = x.hidden[i, c] + x.mixed[i, c] * w.gain[kinds[i], c] + context[i, c]
            x.hidden[i, c] = h
            x.active[i, c] = h / (one + math.exp(-h))
        for c in range(width):
            new_scalars[i, c] = scalars[i, c] + w.update_bias[c]
    multiply_add(x.active, w.update, new_scalars)
    if w.tensors.shape[3] > 0:
        map_tensors(x.density, x.product, w.tensors, x.ungated)
        multiply(x.active, w.tensor_gate, x.opening)
        for i in range(atoms):
            for c in range(x.opening.shape[1]):
                x.opening[i, c] = one / (one + math.exp(-(x.opening[i, c] + w.tensor_bias[c])))
        gate_tensors(x.ungated, x.opening, x.tensors)
        normalize(x.tensors, x.tensor_factor)


@jit
def map_tensors(density, product, maps, out):
    """Set the ungated tensors, (8 B, C_t)."""
    atoms = len(out) // 8
    for part in range(2):
        first, last = (part + 1) * (part + 1) * atoms, (part + 2) * (part + 2) * atoms
        multiply(density[first:last], maps[part, 0], out[first - atoms : last - atoms])
        multiply_add(product[first:last], maps[part, 1], out[first - atoms : last - atoms])


@jit
def gate_tensors(tensors, opening, out):
    """Multiply tensors (8 B, C_t) with the opening of their atom, (B, C_t)."""
    atoms = len(opening)
    for m in range(8):
        for i in range(atoms):
            for c in range(opening.shape[1]):
                out[m * atoms + i, c] = tensors[m * atoms + i, c] * opening[i, c]


@jit
def send(scalars, tensors, w, q, T, t):
    """Set what the atoms send in the next layer, q (B, Q), T (B, 8 Q), t (B, 8 C_t); linear, so of tangents too."""
    atoms, wide = q.shape
    channels = tensors.shape[1]
    multiply(scalars, w.sender, q)
    seen = np.empty((8 * atoms, wide), q.dtype)
    multiply(tensors[: 3 * atoms], w.seen[0], seen[: 3 * atoms])
    multiply(tensors[3 * atoms :], w.seen[1], seen[3 * atoms :])
    for i in range(atoms):
        for m in range(8):
            for c in range(wide):
                T[i, m * wide + c] = seen[m * atoms + i, c]
            for c in range(channels):
                t[i, m * channels + c] = tensors[m * atoms + i, c]


# -- first-order cotangents ------------------------------------------------------------------------


@jit
def rows_of_sent(T, t, seen, tensors):
    """Bring what was sent, (B, 8 Q) and (B, 8 C_t), to rows (8 B, ...)."""
    atoms, wide, channels = len(T), T.shape[1] // 8, t.shape[1] // 8
    for i in range(atoms):
        for m in range(8):
            for c in range(wide):
                seen[m * atoms + i, c] = T[i, m * wide + c]
            for c in range(channels):
                tensors[m * atoms + i, c] = t[i, m * channels + c]


@jit
def send_back(g_q, g_T, g_t, w, g_scalars, g_tensors):
    """Add to the cotangent of the scalars and set that of the tensors, (8 B, C_t), from those of what was sent."""
    atoms, wide = g_q.shape
    multiply_add(g_q, w.sender_back, g_scalars)
    seen = np.empty((8 * atoms, wide), g_q.dtype)
    rows_of_sent(g_T, g_t, seen, g_tensors)
    multiply_add(seen[: 3 * atoms], w.seen_back[0], g_tensors[: 3 * atoms])
    multiply_add(seen[3 * atoms :], w.seen_back[1], g_tensors[3 * atoms :])


@jit
def before_norm(g, y, factor):
    """Return the cotangent of what was normalised to y, (M B, C), from that of y."""
    out = g.copy()
    normalize_back(out, y, factor)
    return out


@jit
def update_back(x, g, kinds, w, g_scalars):
    """Set the cotangents of density, partner and product, without those that come through the coupling.

    ``g.tensors`` is there; ``g_scalars``, of the new scalars, becomes that of the old ones.
    """
    atoms, width = x.hidden.shape
    channels, one = x.density.shape[1], g_scalars.dtype.type(1)
    wide = atoms * channels
    with_tensors = w.tensors.shape[3] > 0
    multiply(g_scalars, w.update_back, g.active)
    if with_tensors:
        gated = before_norm(g.tensors, x.tensors, x.tensor_factor)
        gate_tensors(gated, x.opening, g.ungated)
        slope = np.empty_like(x.opening)
        for i in range(atoms):
            for c in range(slope.shape[1]):
                total = x.opening.dtype.type(0)
                for m in range(8):
                    total += gated[m * atoms + i, c] * x.ungated[m * atoms + i, c]
                g.opening[i, c] = total
                slope[i, c] = total * x.opening[i, c] * (one - x.opening[i, c])
        multiply_add(slope, w.tensor_gate_back, g.active)
    for i in range(atoms):
        for c in range(width):
            h = x.hidden[i, c]
            open_ = one / (one + math.exp(-h))
            g.hidden[i, c] = g.active[i, c] * open_ * (one + h * (one - open_))
        for c in range(width):
            g.mixed[i, c] = g.hidden[i, c] * w.gain[kinds[i], c]
    multiply_add(g.hidden, w.residual_back, g_scalars)
    for group in range(len(g.groups)):
        multiply(g.mixed, w.invariant_back[1 + group], g.groups[group])
    a, b, p, s = x.density.reshape(-1, wide), x.partner.reshape(-1, wide), x.product.reshape(-1, wide), x.second
    s = s.reshape(-1, wide)
    ga, gb, gp = g.density.reshape(-1, wide), g.partner.reshape(-1, wide), g.product.reshape(-1, wide)
    gs, by = g.second.reshape(-1, wide), g.groups.reshape(-1, wide)
    degrees = round(math.sqrt(len(a)))
    for degree in range(degrees):
        g2, g3 = by[degree], by[degrees + degree]
        for m in range(degree * degree, (degree + 1) * (degree + 1)):
            for c in range(wide):
                ga[m, c] = g2[c] * b[m, c]
            for c in range(wide):
                gb[m, c] = g2[c] * a[m, c] + g3[c] * p[m, c]
            for c in range(wide):
                gp[m, c] = g3[c] * b[m, c]
            if len(s) > 0:
                g4 = by[2 * degrees + degree]
                for c in range(wide):
                    gp[m, c] += g4[c] * s[m, c]
                for c in range(wide):
                    gs[m, c] = g4[c] * p[m, c]
    multiply_add(g.mixed, w.invariant_back[0], g.density[:atoms])
    if len(s) > 0:
        map_degrees(g.second, w.second_back, g.product, True)
    if with_tensors:
        add_tensors_back(g.ungated, w.tensors_back, g.density, g.product)


@jit
def add_tensors_back(g_ungated, maps_back, g_density, g_product):
    """Add what the cotangent of the ungated tensors means for density and product."""
    atoms = len(g_ungated) // 8
    for part in range(2):
        first, last = (part + 1) * (part + 1) * atoms, (part + 2) * (part + 2) * atoms
        rows = g_ungated[first - atoms : last - atoms]
        multiply_add(rows, maps_back[part, 0], g_density[first:last])
        multiply_add(rows, maps_back[part, 1], g_product[first:last])


@jit
def add_rows(x, y):
    """Add y to x, (R, C) both."""
    for r in range(len(x)):
        target, source = x[r], y[r]
        for c in range(len(target)):
            target[c] += source[c]


@jit
def mix_back(x, g, kinds, w, from_density, from_partner, g_sums):
    """Finish the cotangents of density and partner with those of the coupling; set those of the sums over neighbours.

    ``g_sums`` (M, B, K) are of the sums as they were before the gate.
    """
    add_rows(g.partner, from_partner)
    add_rows(g.density, from_density)
    map_degrees(g.partner, w.partner_back, g.density, True)
    raw = before_norm(g.density, x.density, x.factor)
    sums_back(raw, kinds, w, g.sums, g.passed, g_sums)


@jit
def sums_back(raw, kinds, w, gated, g_passed, g_sums):
    """From the cotangent of the density before normalisation to those of the gated and ungated sums over neighbours."""
    components, atoms, pairs = g_sums.shape
    if len(w.combined) > 0:
        map_kinds(raw, kinds, w.combined_back, g_sums.reshape(components * atoms, pairs))
    else:
        map_degrees(raw, w.mix_back, gated.reshape(components * atoms, pairs), False)
        gate_rows(gated, kinds, w.gate, g_sums)
    if len(w.passing) > 0:
        pass_back(raw, w.passing_back, g_passed)
