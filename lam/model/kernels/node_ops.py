"""Operators at the atoms for CPUs, differentiable as often as needed: product, pairings, normalisation.

Features are (M, N, C) with M = (l_max + 1)^2. What they compute in plain PyTorch is in
:mod:`lam.model.product` and :func:`lam.model.layer.soft_normalize`; tests/kernels compares the two.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
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


def _columns(function: Callable[..., None], *tensors: Tensor) -> None:
    """Call ``function(first, last, *arrays)`` on the flattened last axes of features (..., N, C)."""
    width = tensors[0].shape[-1]
    arrays = [tensor.detach().flatten(-2).numpy() for tensor in tensors]
    ranges = _split(arrays[0].shape[-1], _ATOMS_WORTH_A_THREAD * width)
    run(lambda _, first, last: function(first, last, *arrays), ranges)


@cache
def _weights(l_max: int, double: bool) -> np.ndarray:
    return (2.0 * np.arange(l_max + 1) + 1.0).astype(np.float64 if double else np.float32) ** -0.5


def _l_max(features: Tensor) -> int:
    return round(len(features) ** 0.5) - 1


def _paired(function: Callable[..., None], like: Tensor, *tensors: Tensor) -> None:
    weights = _weights(_l_max(like), like.dtype == torch.float64)
    _columns(lambda first, last, *arrays: function(first, last, weights, *arrays), *tensors)


# -- product on the sphere ---------------------------------------------------------------------------


@torch.library.custom_op("lam::couple", mutates_args=())
def couple(x: Tensor, y: Tensor) -> Tensor:
    """Return the product on the sphere of two features, projected on the degrees they have."""
    from lam.model.kernels.numba_product import couple as compiled

    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    _columns(compiled(_l_max(x), x.dtype == torch.float64), x.contiguous(), y.contiguous(), out)
    return out


@couple.register_fake
def _(x, y):  # noqa: ANN001, ANN202
    return x.new_empty(x.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs)


def _backward_of_couple(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    # The coefficients are symmetric in all three indices.
    x, y = ctx.saved_tensors
    wanted = ctx.needs_input_grad
    return couple(y, g) if wanted[0] else None, couple(x, g) if wanted[1] else None


couple.register_autograd(_backward_of_couple, setup_context=_save)


# -- invariants: a.b, p.b, p.c -----------------------------------------------------------------------


@torch.library.custom_op("lam::pair", mutates_args=())
def pair(a: Tensor, b: Tensor, p: Tensor, c: Tensor) -> Tensor:
    """Return ``a.b, p.b, p.c`` of each degree over the root of 2 l + 1, (3, L, N, C)."""
    from lam.model.kernels import numba_elementwise

    out = a.new_empty(3, _l_max(a) + 1, *a.shape[1:])
    _paired(numba_elementwise.pair, a, *(tensor.contiguous() for tensor in (a, b, p, c)), out)
    return out


@torch.library.custom_op("lam::pair_adjoint", mutates_args=())
def pair_adjoint(s: Tensor, a: Tensor, b: Tensor, p: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of ``<s, pair(a, b, p, c)>``."""
    from lam.model.kernels import numba_elementwise

    grads = tuple(torch.empty_like(a, memory_format=torch.contiguous_format) for _ in range(4))
    _paired(numba_elementwise.pair_adjoint, a, *(tensor.contiguous() for tensor in (s, a, b, p, c)), *grads)
    return grads


@torch.library.custom_op("lam::pair_polar", mutates_args=())
def pair_polar(
    a: Tensor, b: Tensor, p: Tensor, c: Tensor, va: Tensor, vb: Tensor, vp: Tensor, vc: Tensor
) -> Tensor:
    """Return the derivative of ``pair(a, b, p, c)`` along ``va .. vc``: symmetric and bilinear in both."""
    from lam.model.kernels import numba_elementwise

    out = a.new_empty(3, _l_max(a) + 1, *a.shape[1:])
    _paired(numba_elementwise.pair_polar, a, *(t.contiguous() for t in (a, b, p, c, va, vb, vp, vc)), out)
    return out


@pair.register_fake
def _(a, b, p, c):  # noqa: ANN001, ANN202
    return a.new_empty(3, _l_max(a) + 1, *a.shape[1:])


@pair_adjoint.register_fake
def _(s, a, b, p, c):  # noqa: ANN001, ANN202
    return tuple(a.new_empty(a.shape) for _ in range(4))


@pair_polar.register_fake
def _(a, *rest):  # noqa: ANN001, ANN002, ANN202
    return a.new_empty(3, _l_max(a) + 1, *a.shape[1:])


pair.register_autograd(lambda ctx, s: pair_adjoint(s, *ctx.saved_tensors), setup_context=_save)
pair_adjoint.register_autograd(
    lambda ctx, *v: (pair_polar(*ctx.saved_tensors[1:], *v), *pair_adjoint(ctx.saved_tensors[0], *v)),
    setup_context=_save,
)
pair_polar.register_autograd(
    lambda ctx, s: (*pair_adjoint(s, *ctx.saved_tensors[4:]), *pair_adjoint(s, *ctx.saved_tensors[:4])),
    setup_context=_save,
)


# -- soft normalisation ------------------------------------------------------------------------------


def _normalized(name: str, *tensors: Tensor) -> Tensor:
    from lam.model.kernels import numba_elementwise

    function = getattr(numba_elementwise, name)
    out = torch.empty_like(tensors[0], memory_format=torch.contiguous_format)
    arrays = [tensor.detach().contiguous().numpy() for tensor in tensors] + [out.numpy()]
    run(lambda _, first, last: function(first, last, *arrays), _split(out.shape[1], _ATOMS_WORTH_A_THREAD))
    return out


@torch.library.custom_op("lam::norm", mutates_args=())
def norm(x: Tensor) -> Tensor:
    """Divide the features of each atom by ``sqrt(1 + mean square)``."""
    return _normalized("norm", x)


@torch.library.custom_op("lam::norm_adjoint", mutates_args=())
def norm_adjoint(x: Tensor, g: Tensor) -> Tensor:
    """Return the gradient of ``<g, norm(x)>``."""
    return _normalized("norm_adjoint", x, g)


@torch.library.custom_op("lam::norm_second", mutates_args=())
def norm_second(x: Tensor, g: Tensor, v: Tensor) -> Tensor:
    """Return the gradient of ``<v, norm_adjoint(x, g)>`` with respect to x."""
    return _normalized("norm_second", x, g, v)


for _operator in (norm, norm_adjoint, norm_second):
    _operator.register_fake(lambda x, *rest: x.new_empty(x.shape))
norm.register_autograd(lambda ctx, g: norm_adjoint(*ctx.saved_tensors, g), setup_context=_save)
norm_adjoint.register_autograd(
    # The Jacobian of the normalisation is symmetric.
    lambda ctx, v: (norm_second(*ctx.saved_tensors, v), norm_adjoint(ctx.saved_tensors[0], v)),
    setup_context=_save,
)
