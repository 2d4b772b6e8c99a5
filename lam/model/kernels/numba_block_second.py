"""A layer's work at the atoms in Numba, for training: tangents, and cotangents of second order with weight gradients.

For forces F = -dE/dx and their cotangents -v, the gradient of <v, dE/dx> by the weights is that of the derivative of E
along v. So tangents ``d`` are taken along v, forward; and then cotangents of values *and* tangents backward. Those of
the tangents are the first-order cotangents ``g`` of :mod:`numba_block`, and only those
of the values (here in ``bar``) are new. For every linear map y = x W that makes one product each for tangents and
cotangents, and two for the gradient of W: ``x^T bar_y + d_x^T g_y``.
"""

from __future__ import annotations

import math

import numpy as np

from lam.model.kernels.jit import jit
from lam.model.kernels.numba_block import (
    add_passed,
    add_rows,
    add_tensors_back,
    before_norm,
    gate_rows,
    map_degrees,
    map_kinds,
    map_tensors,
    members,
    rows_of_sent,
    sums_back,
    take_rows,
)
from lam.model.kernels.numba_gemm import add_gradient, multiply, multiply_add

# -- tangents --------------------------------------------------------------------------------------


@jit
def _along(x, y, i, atoms):
    """Return the inner product of an atom's rows of x and y, (M B, C)."""
    total = x.dtype.type(0)
    for m in range(len(x) // atoms):
        row, other = x[m * atoms + i], y[m * atoms + i]
        for c in range(len(row)):
            total += row[c] * other[c]
    return total


@jit
def normalize_tangent(d, y, factor, falls):
    """Turn the tangent of what is normalised to ``y`` into that of ``y``, in place; ``falls``: of -log(factor)."""
    atoms = len(factor)
    share = y.dtype.type(1) / y.dtype.type(max(1, len(y) // atoms * y.shape[1]))
    for i in range(atoms):
        f = factor[i]
        along = _along(y, d, i, atoms) * share
        falls[i] = f * along
        for m in range(len(y) // atoms):
            row, other = d[m * atoms + i], y[m * atoms + i]
            for c in range(len(row)):
                row[c] = f * (row[c] - along * other[c])


@jit
def normalize_second(bar, y, factor, d, falls, g):
    """Turn the cotangent of ``y`` into that of what is normalised, in place, with the tangents' part."""
    atoms = len(factor)
    share = y.dtype.type(1) / y.dtype.type(max(1, len(y) // atoms * y.shape[1]))
    for i in range(atoms):
        f, fall = factor[i], falls[i]
        by_bar, by_g = _along(y, bar, i, atoms) * share, _along(y, g, i, atoms) * share
        by_change = _along(d, g, i, atoms) * share
        on_y = fall * by_g - by_bar - by_change
        for m in range(len(y) // atoms):
            target, value, change, pull = bar[m * atoms + i], y[m * atoms + i], d[m * atoms + i], g[m * atoms + i]
            for c in range(len(target)):
                target[c] = f * (target[c] - fall * pull[c] - by_g * change[c] + on_y * value[c])


@jit
def mix_tangent(x, d, kinds, w):
    """From the tangents of the sums over neighbours to those of the normalised density and its partner."""
    components, atoms, pairs = x.sums.shape
    if len(w.combined) > 0:
        map_kinds(d.sums.reshape(components * atoms, pairs), kinds, w.combined, d.density)
    else:
        gated = np.empty_like(d.sums)
        gate_rows(d.sums, kinds, w.gate, gated)
        map_degrees(gated.reshape(components * atoms, pairs), w.mix, d.density, False)
    if len(w.passing) > 0:
        add_passed(d.passed, w.passing, d.density)
    normalize_tangent(d.density, x.density, x.factor, d.factor)
    map_degrees(d.density, w.partner, d.partner, False)


@jit
def _invariants_tangent(a, b, p, s, da, db, dp, ds, out):
    """Set the tangents of the invariants; all (M, X), out (kinds (L + 1), X)."""
    degrees = round(math.sqrt(len(a)))
    for degree in range(degrees):
        two, three = out[degree], out[degrees + degree]
        two[:] = out.dtype.type(0)
        three[:] = out.dtype.type(0)
        for m in range(degree * degree, (degree + 1) * (degree + 1)):
            am, bm, pm, dam, dbm, dpm = a[m], b[m], p[m], da[m], db[m], dp[m]
            for c in range(len(two)):
                two[c] += am[c] * dbm[c] + dam[c] * bm[c]
            for c in range(len(two)):
                three[c] += pm[c] * dbm[c] + dpm[c] * bm[c]
        if len(s) > 0:
            four = out[2 * degrees + degree]
            four[:] = out.dtype.type(0)
            for m in range(degree * degree, (degree + 1) * (degree + 1)):
                pm, sm, dpm, dsm = p[m], s[m], dp[m], ds[m]
                for c in range(len(four)):
                    four[c] += pm[c] * dsm[c] + dpm[c] * sm[c]


@jit
def update_tangent(x, d, kinds, d_scalars, w, d_new_scalars):
    """From the tangents of density, partner and product to those of the new scalars, (B, S), and the tensors."""
    atoms, width = x.hidden.shape
    wide = atoms * x.density.shape[1]
    if len(w.second) > 0:
        map_degrees(d.product, w.second, d.second, False)
    _invariants_tangent(
        x.density.reshape(-1, wide), x.partner.reshape(-1, wide), x.product.reshape(-1, wide),
        x.second.reshape(-1, wide), d.density.reshape(-1, wide), d.partner.reshape(-1, wide),
        d.product.reshape(-1, wide), d.second.reshape(-1, wide), d.groups.reshape(-1, wide),
    )  # fmt: skip
    multiply(d.density[:atoms], w.invariant[0], d.mixed)
    for group in range(len(d.groups)):
        multiply_add(d.groups[group], w.invariant[1 + group], d.mixed)
    multiply(d_scalars, w.residual, d.hidden)
    one = x.hidden.dtype.type(1)
    for i in range(atoms):
        for c in range(width):
            h = x.hidden[i, c]
            open_ = one / (one + math.exp(-h))
            change = d.hidden[i, c] + d.mixed[i, c] * w.gain[kinds[i], c]
            d.hidden[i, c] = change
            d.active[i, c] = change * open_ * (one + h * (one - open_))
            d_new_scalars[i, c] = d_scalars[i, c]
    multiply_add(d.active, w.update, d_new_scalars)
    if w.tensors.shape[3] > 0:
        map_tensors(d.density, d.product, w.tensors, d.ungated)
        multiply(d.active, w.tensor_gate, d.opening)
        for i in range(atoms):
            for c in range(d.opening.shape[1]):
                d.opening[i, c] *= x.opening[i, c] * (one - x.opening[i, c])
        for m in range(8):
            for i in range(atoms):
                r = m * atoms + i
                for c in range(d.opening.shape[1]):
                    d.tensors[r, c] = d.ungated[r, c] * x.opening[i, c] + x.ungated[r, c] * d.opening[i, c]
        normalize_tangent(d.tensors, x.tensors, x.tensor_factor, d.tensor_factor)


# -- cotangents of second order ----------------------------------------------------------------------


@jit
def send_second(bar, g, x_tensors, d_tensors, scalars, d_scalars, w, grads, bar_scalars, bar_tensors):
    """Add to the cotangent of the scalars and set that of the tensors, (8 B, C_t), from those of what was sent.

    ``bar`` and ``g`` are the cotangents of q (B, Q), T (B, 8 Q) and t (B, 8 C_t), of second and of first order.
    """
    atoms, wide = bar[0].shape
    multiply_add(bar[0], w.sender_back, bar_scalars)
    add_gradient(scalars, bar[0], grads.sender)
    add_gradient(d_scalars, g[0], grads.sender)
    seen, g_seen = np.empty((8 * atoms, wide), bar_scalars.dtype), np.empty((8 * atoms, wide), bar_scalars.dtype)
    rows_of_sent(g[1], g[2], g_seen, bar_tensors)  # only the first of the two results is used
    rows_of_sent(bar[1], bar[2], seen, bar_tensors)
    for part in range(2):
        first, last = 3 * atoms * part, (3 + 5 * part) * atoms
        multiply_add(seen[first:last], w.seen_back[part], bar_tensors[first:last])
        add_gradient(x_tensors[first:last], seen[first:last], grads.seen[part])
        add_gradient(d_tensors[first:last], g_seen[first:last], grads.seen[part])


@jit
def _add_sum(x, total):
    """Add the sum of the rows of x to ``total``."""
    for i in range(len(x)):
        for c in range(len(total)):
            total[c] += x[i, c]


@jit
def _tensors_second(x, g, d, w, grads, bar_tensors, bar_active, bar_ungated):
    """From the cotangent of the tensors to those of the activation (added) and of the ungated tensors (set)."""
    atoms, channels = x.opening.shape
    one = bar_active.dtype.type(1)
    normalize_second(bar_tensors, x.tensors, x.tensor_factor, d.tensors, d.tensor_factor, g.tensors)
    g_gated = before_norm(g.tensors, x.tensors, x.tensor_factor)
    bar_slope, g_slope = np.zeros_like(x.opening), np.empty_like(x.opening)
    for m in range(8):
        for i in range(atoms):
            r = m * atoms + i
            for c in range(channels):
                bar_ungated[r, c] = bar_tensors[r, c] * x.opening[i, c] + d.opening[i, c] * g_gated[r, c]
            for c in range(channels):
                bar_slope[i, c] += bar_tensors[r, c] * x.ungated[r, c] + d.ungated[r, c] * g_gated[r, c]
    for i in range(atoms):
        for c in range(channels):
            open_ = x.opening[i, c]
            slope = open_ * (one - open_)
            bar_slope[i, c] = slope * bar_slope[i, c] + (one - open_ - open_) * d.opening[i, c] * g.opening[i, c]
            g_slope[i, c] = slope * g.opening[i, c]
    add_gradient(x.active, bar_slope, grads.tensor_gate)
    add_gradient(d.active, g_slope, grads.tensor_gate)
    _add_sum(bar_slope, grads.tensor_bias)
    multiply_add(bar_slope, w.tensor_gate_back, bar_active)
    for part in range(2):
        first, last = (part + 1) * (part + 1) * atoms, (part + 2) * (part + 2) * atoms
        rows, g_rows = bar_ungated[first - atoms : last - atoms], g.ungated[first - atoms : last - atoms]
        add_gradient(x.density[first:last], rows, grads.tensors[part, 0])
        add_gradient(d.density[first:last], g_rows, grads.tensors[part, 0])
        add_gradient(x.product[first:last], rows, grads.tensors[part, 1])
        add_gradient(d.product[first:last], g_rows, grads.tensors[part, 1])


@jit
def _scalars_second(x, g, d, kinds, w, grads, bar_active, bar_hidden, bar_mixed):
    """From the cotangent of the activation to those of what stands before it and of the mixed invariants."""
    atoms, width = x.hidden.shape
    one, two = bar_active.dtype.type(1), bar_active.dtype.type(2)
    for i in range(atoms):
        for c in range(width):
            h = x.hidden[i, c]
            open_ = one / (one + math.exp(-h))
            fall = one - open_
            slope = open_ * (one + h * fall)
            curve = open_ * fall * (two + h * (one - two * open_))
            bar_hidden[i, c] = bar_active[i, c] * slope + curve * d.hidden[i, c] * g.active[i, c]
        for c in range(width):
            bar_mixed[i, c] = bar_hidden[i, c] * w.gain[kinds[i], c]
        total = grads.gain[kinds[i]]
        for c in range(width):
            total[c] += x.mixed[i, c] * bar_hidden[i, c] + d.mixed[i, c] * g.hidden[i, c]
    _add_sum(bar_mixed, grads.invariant_bias)
    add_gradient(x.density[:atoms], bar_mixed, grads.invariant[0])
    add_gradient(d.density[:atoms], g.mixed, grads.invariant[0])
    for group in range(len(x.groups)):
        add_gradient(x.groups[group], bar_mixed, grads.invariant[1 + group])
        add_gradient(d.groups[group], g.mixed, grads.invariant[1 + group])


@jit
def _invariants_second(x, g, d, bar_mixed, w, bar_density, bar_partner, bar_product, bar_second):
    """From the cotangent of the mixed invariants to those of density, partner, product and the product's partner."""
    atoms = len(x.hidden)
    wide = atoms * x.density.shape[1]
    a, b, p, s = x.density.reshape(-1, wide), x.partner.reshape(-1, wide), x.product.reshape(-1, wide), x.second
    s = s.reshape(-1, wide)
    da, db, dp = d.density.reshape(-1, wide), d.partner.reshape(-1, wide), d.product.reshape(-1, wide)
    ds, by = d.second.reshape(-1, wide), g.groups.reshape(-1, wide)
    ya, yb, yp = bar_density.reshape(-1, wide), bar_partner.reshape(-1, wide), bar_product.reshape(-1, wide)
    ys = bar_second.reshape(-1, wide)
    degrees = round(math.sqrt(len(a)))
    new = np.empty((3, atoms, x.density.shape[1]), a.dtype)
    n2, n3, n4 = new[0].reshape(wide), new[1].reshape(wide), new[2].reshape(wide)
    for degree in range(degrees):
        multiply(bar_mixed, w.invariant_back[1 + degree], new[0])
        multiply(bar_mixed, w.invariant_back[1 + degrees + degree], new[1])
        g2, g3 = by[degree], by[degrees + degree]
        if len(s) > 0:
            multiply(bar_mixed, w.invariant_back[1 + 2 * degrees + degree], new[2])
        for m in range(degree * degree, (degree + 1) * (degree + 1)):
            am, bm, pm, dam, dbm, dpm = a[m], b[m], p[m], da[m], db[m], dp[m]
            yam, ybm, ypm = ya[m], yb[m], yp[m]
            for c in range(wide):
                yam[c] = n2[c] * bm[c] + g2[c] * dbm[c]
            for c in range(wide):
                ybm[c] = n2[c] * am[c] + g2[c] * dam[c] + n3[c] * pm[c] + g3[c] * dpm[c]
            for c in range(wide):
                ypm[c] = n3[c] * bm[c] + g3[c] * dbm[c]
            if len(s) > 0:
                g4, sm, dsm, ysm = by[2 * degrees + degree], s[m], ds[m], ys[m]
                for c in range(wide):
                    ypm[c] += n4[c] * sm[c] + g4[c] * dsm[c]
                for c in range(wide):
                    ysm[c] = n4[c] * pm[c] + g4[c] * dpm[c]
    multiply_add(bar_mixed, w.invariant_back[0], bar_density[:atoms])


@jit
def update_second(
    x, g, d, kinds, scalars, d_scalars, w, grads, g_new_scalars, bar_tensors,
    bar_scalars, bar_context, bar_density, bar_partner, bar_product,
):  # fmt: skip
    """Set the cotangents of density, partner and product, without those through the coupling; add weight gradients.

    ``bar_scalars``, of the new scalars, becomes that of the old ones; ``bar_tensors`` is overwritten; ``g_new_scalars``
    is the first-order cotangent of the new scalars.
    """
    bar_active, bar_mixed = np.empty_like(x.active), np.empty_like(x.active)
    bar_ungated, bar_second = np.empty_like(x.ungated), np.empty_like(x.second)
    multiply(bar_scalars, w.update_back, bar_active)
    add_gradient(x.active, bar_scalars, grads.update)
    add_gradient(d.active, g_new_scalars, grads.update)
    _add_sum(bar_scalars, grads.update_bias)
    if w.tensors.shape[3] > 0:
        _tensors_second(x, g, d, w, grads, bar_tensors, bar_active, bar_ungated)
    _scalars_second(x, g, d, kinds, w, grads, bar_active, bar_context, bar_mixed)
    add_gradient(scalars, bar_context, grads.residual)
    add_gradient(d_scalars, g.hidden, grads.residual)
    multiply_add(bar_context, w.residual_back, bar_scalars)
    _invariants_second(x, g, d, bar_mixed, w, bar_density, bar_partner, bar_product, bar_second)
    if len(w.second) > 0:
        map_degrees(bar_second, w.second_back, bar_product, True)
        _degree_gradients(x.product, bar_second, grads.second)
        _degree_gradients(d.product, g.second, grads.second)
    if w.tensors.shape[3] > 0:
        add_tensors_back(bar_ungated, w.tensors_back, bar_density, bar_product)


@jit
def _degree_gradients(x, y, grads):
    degrees = len(grads)
    atoms = len(x) // (degrees * degrees)
    for degree in range(degrees):
        first, last = degree * degree * atoms, (degree + 1) * (degree + 1) * atoms
        add_gradient(x[first:last], y[first:last], grads[degree])


@jit
def _kind_gradients(x, y, kinds, grads):
    """Add the gradients of the maps of :func:`map_kinds`."""
    atoms, degrees = len(kinds), grads.shape[1]
    most = (2 * degrees - 1) * atoms
    before, after = np.empty((most, x.shape[1]), x.dtype), np.empty((most, y.shape[1]), x.dtype)
    found = np.empty(atoms, np.int64)
    for start in range(atoms):
        count = members(kinds, start, found)
        if count == 0:
            continue
        for degree in range(degrees):
            n = (2 * degree + 1) * count
            take_rows(x, atoms, degree, found[:count], before)
            take_rows(y, atoms, degree, found[:count], after)
            add_gradient(before[:n], after[:n], grads[kinds[start], degree])


@jit
def _gate_gradient(x, y, kinds, grads):
    """Add the sums over components of ``x y``, (M, B, K) both, to the rows of the atoms' elements."""
    for m in range(len(x)):
        for i in range(x.shape[1]):
            total, row, other = grads[kinds[i]], x[m, i], y[m, i]
            for k in range(len(total)):
                total[k] += row[k] * other[k]


@jit
def _mix_gradients(x, raw, kinds, w, grads):
    """Add the gradients of the maps of sums (of values or of tangents ``x``) with the cotangents ``raw``."""
    components, atoms, pairs = x.sums.shape
    if len(w.combined) > 0:
        _kind_gradients(x.sums.reshape(components * atoms, pairs), raw, kinds, grads.combined)
    else:
        gated = np.empty_like(x.sums)
        gate_rows(x.sums, kinds, w.gate, gated)
        _degree_gradients(gated.reshape(components * atoms, pairs), raw, grads.mix)
    if len(w.passing) > 0:
        rows = x.passed.reshape(8 * atoms, x.passed.shape[2])
        add_gradient(rows[: 3 * atoms], raw[atoms : 4 * atoms], grads.passing[0])
        add_gradient(rows[3 * atoms :], raw[4 * atoms : 9 * atoms], grads.passing[1])


@jit
def mix_second(x, g, d, kinds, w, grads, bar_density, bar_partner, from_density, from_partner, bar_passed, bar_sums):
    """Finish the cotangents of density and partner with those of the coupling; set those of the sums over neighbours.

    Where senders are elements those of the sums are not needed, and not set. ``bar_density`` is overwritten.
    """
    add_rows(bar_partner, from_partner)
    add_rows(bar_density, from_density)
    map_degrees(bar_partner, w.partner_back, bar_density, True)
    _degree_gradients(x.density, bar_partner, grads.partner)
    _degree_gradients(d.density, g.partner, grads.partner)
    normalize_second(bar_density, x.density, x.factor, d.density, d.factor, g.density)
    raw = before_norm(g.density, x.density, x.factor)
    _mix_gradients(x, bar_density, kinds, w, grads)
    _mix_gradients(d, raw, kinds, w, grads)
    if len(w.combined) > 0:
        return
    gated = np.empty_like(x.sums)
    sums_back(bar_density, kinds, w, gated, bar_passed, bar_sums)
    _gate_gradient(x.sums, gated, kinds, grads.gate)
    _gate_gradient(d.sums, g.sums, kinds, grads.gate)
