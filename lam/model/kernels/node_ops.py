"""Operators at the atoms for CPUs, differentiable as often as needed: gate, normalisation, product, invariants.

Features are (M, N, C) with M = (l_max + 1)^2. What they compute in plain PyTorch is in
:mod:`lam.model.product` and :func:`lam.model.layer.soft_normalize`; tests/kernels compares the two.
"""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lam.model.kernels.threads import run

_ATOMS_WORTH_A_THREAD = 64


def _split(count: int, least: int) -> list[tuple[int, int]]:
    threads = max(1, min(torch.get_num_threads(), count // least))
    return list(itertools.pairwise([count * k // threads for k in range(threads + 1)]))


def _array(tensor: Tensor) -> np.ndarray:
    """Return features (M, N, C) as (M, N C), and anything else as it is."""
    tensor = tensor.detach().contiguous()
    return (tensor.flatten(1) if tensor.dim() == 3 else tensor).numpy()


@cache
def _weights(l_max: int, double: bool) -> np.ndarray:
    return (2.0 * np.arange(l_max + 1) + 1.0).astype(np.float64 if double else np.float32) ** -0.5


def _l_max(features: Tensor) -> int:
    return round(len(features) ** 0.5) - 1


def _like(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, memory_format=torch.contiguous_format)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs)


# -- product on the sphere ---------------------------------------------------------------------------


@torch.library.custom_op("lam::couple", mutates_args=())
def couple(x: Tensor, y: Tensor) -> Tensor:
    """Return the product on the sphere of two features, projected on the degrees they have."""
    from lam.model.kernels.numba_product import couple as compiled

    out = _like(x)
    function = compiled(_l_max(x), x.dtype == torch.float64)
    arrays = _array(x), _array(y), _array(out)
    ranges = _split(arrays[0].shape[1], _ATOMS_WORTH_A_THREAD * x.shape[-1])
    run(lambda _, first, last: function(first, last, *arrays), ranges)
    return out


@couple.register_fake
def _(x, y):  # noqa: ANN001, ANN202
    return x.new_empty(x.shape)


def _backward_of_couple(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    # The coefficients are symmetric in all three indices.
    x, y = ctx.saved_tensors
    wanted = ctx.needs_input_grad
    return couple(y, g) if wanted[0] else None, couple(x, g) if wanted[1] else None


couple.register_autograd(_backward_of_couple, setup_context=_save)


# -- invariants: a_00, a.b, p.b, p.c -----------------------------------------------------------------


def _by_atom(name: str, like: Tensor, *tensors: Tensor | bool) -> None:
    """Call a function of :mod:`~lam.model.kernels.numba_elementwise` on features ``like`` and arrays by atom."""
    from lam.model.kernels import numba_elementwise

    function = getattr(numba_elementwise, name)
    weights = _weights(_l_max(like), like.dtype == torch.float64)
    arrays = [_array(tensor) if isinstance(tensor, Tensor) else tensor for tensor in tensors]
    run(lambda _, first, last: function(first, last, weights, *arrays), _split(like.shape[1], _ATOMS_WORTH_A_THREAD))


def _empty_invariants(like: Tensor, c: Tensor) -> Tensor:
    kinds = 3 if len(c) else 2
    return like.new_empty(like.shape[1], (kinds * (_l_max(like) + 1) + 1) * like.shape[2])


@torch.library.custom_op("lam::invariants", mutates_args=())
def invariants(a: Tensor, b: Tensor, p: Tensor, c: Tensor) -> Tensor:
    """Return ``a_00`` and, over the root of 2 l + 1, ``a.b, p.b, p.c`` of each degree: (N, (1 + 3 L) C).

    Without ``p.c``, (N, (1 + 2 L) C), if c is (0, N, C).
    """
    out = _empty_invariants(a, c)
    _by_atom("invariants", a, a, b, p, c, out)
    return out


@torch.library.custom_op("lam::invariants_adjoint", mutates_args=())
def invariants_adjoint(
    s: Tensor, a: Tensor, b: Tensor, p: Tensor, c: Tensor, linear: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of ``<s, invariants(a, b, p, c)>``, with or without that of its linear part ``a_00``."""
    grads = tuple(_like(tensor) for tensor in (a, b, p, c))
    _by_atom("invariants_adjoint", a, s, a, b, p, c, *grads, linear)
    return grads


@torch.library.custom_op("lam::invariants_polar", mutates_args=())
def invariants_polar(
    a: Tensor, b: Tensor, p: Tensor, c: Tensor, va: Tensor, vb: Tensor, vp: Tensor, vc: Tensor
) -> Tensor:
    """Return the derivative of ``invariants(a, b, p, c)`` along ``va .. vc``."""
    out = _empty_invariants(a, c)
    _by_atom("invariants_polar", a, a, b, p, c, va, vb, vp, vc, out)
    return out


@invariants.register_fake
def _(a, b, p, c):  # noqa: ANN001, ANN202
    return _empty_invariants(a, c)


@invariants_adjoint.register_fake
def _(s, a, b, p, c, linear):  # noqa: ANN001, ANN202
    return tuple(tensor.new_empty(tensor.shape) for tensor in (a, b, p, c))


@invariants_polar.register_fake
def _(a, b, p, c, *rest):  # noqa: ANN001, ANN002, ANN202
    return _empty_invariants(a, c)


def _no_linear_part(s: Tensor, width: int) -> Tensor:
    return torch.cat([torch.zeros_like(s[:, :width]), s[:, width:]], dim=1)


def _save_adjoint(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs[:5])
    ctx.linear = inputs[5]


def _backward_of_adjoint(ctx: Any, *v: Tensor) -> tuple[Tensor | None, ...]:
    s, *features = ctx.saved_tensors
    changed = invariants_polar(*features, *v)
    if not ctx.linear:
        changed = _no_linear_part(changed, v[0].shape[2])
    return changed, *invariants_adjoint(s, *v, False), None


def _backward_of_polar(ctx: Any, s: Tensor) -> tuple[Tensor, ...]:
    saved = ctx.saved_tensors
    features, changes = saved[:4], saved[4:]
    return *invariants_adjoint(s, *changes, False), *invariants_adjoint(s, *features, True)


invariants.register_autograd(lambda ctx, s: invariants_adjoint(s, *ctx.saved_tensors, True), setup_context=_save)
invariants_adjoint.register_autograd(_backward_of_adjoint, setup_context=_save_adjoint)
invariants_polar.register_autograd(_backward_of_polar, setup_context=_save)


def pair(a: Tensor, b: Tensor, p: Tensor, c: Tensor) -> Tensor:
    """Return the invariants without ``a_00``, degrees outermost: (3, L, N, C)."""
    found = invariants(a, b, p, c).view(a.shape[1], -1, a.shape[2])[:, 1:]
    return found.transpose(0, 1).unflatten(0, (3, -1))


# -- gate --------------------------------------------------------------------------------------------


def _gate(name: str, *tensors: Tensor) -> None:
    from lam.model.kernels import numba_elementwise

    function = getattr(numba_elementwise, name)
    arrays = [tensor.detach().contiguous().flatten(-2).numpy() for tensor in tensors]
    ranges = _split(arrays[0].shape[1], _ATOMS_WORTH_A_THREAD * tensors[0].shape[2])
    run(lambda _, first, last: function(first, last, *arrays), ranges)


@torch.library.custom_op("lam::gate", mutates_args=())
def gate(x: Tensor, opening: Tensor) -> Tensor:
    """Return ``x (1 + opening)`` for features x (M, N, C) and an opening (N, C)."""
    out = _like(x)
    _gate("gate", x, opening, out)
    return out


@torch.library.custom_op("lam::gate_adjoint", mutates_args=())
def gate_adjoint(x: Tensor, opening: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of ``<g, gate(x, opening)>``."""
    grads = _like(x), _like(opening)
    _gate("gate_adjoint", x, opening, g, *grads)
    return grads


gate.register_fake(lambda x, opening: x.new_empty(x.shape))
gate_adjoint.register_fake(lambda x, opening, g: (x.new_empty(x.shape), opening.new_empty(opening.shape)))


def _save_gate(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs)
    ctx.set_materialize_grads(False)  # the gradient of the opening is a parameter's: seldom asked for again


def _backward_of_gate_adjoint(ctx: Any, v: Tensor | None, v_opening: Tensor | None) -> tuple[Tensor | None, ...]:
    x, opening, g = ctx.saved_tensors
    on_x = on_opening = on_g = None
    if v is not None:
        on_g, on_opening = gate_adjoint(g, opening, v)
    if v_opening is not None:
        on_x, more = v_opening * g, v_opening * x
        on_g = more if on_g is None else on_g + more
    return on_x, on_opening, on_g


gate.register_autograd(
    lambda ctx, g: (None, None) if g is None else gate_adjoint(*ctx.saved_tensors, g), setup_context=_save_gate
)
gate_adjoint.register_autograd(_backward_of_gate_adjoint, setup_context=_save_gate)


# -- soft normalisation ------------------------------------------------------------------------------


def _normalized(name: str, *tensors: Tensor) -> None:
    from lam.model.kernels import numba_elementwise

    function = getattr(numba_elementwise, name)
    _, n_atoms, width = tensors[0].shape
    arrays = [_array(tensor) for tensor in tensors]
    run(lambda _, first, last: function(first, last, width, *arrays), _split(n_atoms, _ATOMS_WORTH_A_THREAD))


@torch.library.custom_op("lam::norm", mutates_args=())
def norm(x: Tensor) -> Tensor:
    """Divide the features of each atom by ``sqrt(1 + mean square)``."""
    out = _like(x)
    _normalized("norm", x, out)
    return out


@torch.library.custom_op("lam::norm_adjoint", mutates_args=())
def norm_adjoint(x: Tensor, g: Tensor) -> Tensor:
    """Return the gradient of ``<g, norm(x)>``."""
    out = _like(x)
    _normalized("norm_adjoint", x, g, out)
    return out


@torch.library.custom_op("lam::norm_second", mutates_args=())
def norm_second(x: Tensor, g: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of ``<v, norm_adjoint(x, g)>`` with respect to x and g."""
    grads = _like(x), _like(x)
    _normalized("norm_second", x, g, v, *grads)
    return grads


norm.register_fake(lambda x: x.new_empty(x.shape))
norm_adjoint.register_fake(lambda x, g: x.new_empty(x.shape))
norm_second.register_fake(lambda x, g, v: (x.new_empty(x.shape), x.new_empty(x.shape)))
norm.register_autograd(lambda ctx, g: norm_adjoint(*ctx.saved_tensors, g), setup_context=_save)
norm_adjoint.register_autograd(lambda ctx, v: norm_second(*ctx.saved_tensors, v), setup_context=_save)
