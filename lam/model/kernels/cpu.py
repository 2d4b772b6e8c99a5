"""The fused message on CPUs: PyTorch tensors in and out, Numba kernels between, on PyTorch's number of threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lam.model.kernels.numba_message import Kernels, kernels
from lam.model.kernels.shares import shares
from lam.model.kernels.threads import run


def message(
    vectors: Tensor,
    q: Tensor,
    T: Tensor,
    t: Tensor,
    starts: Tensor,
    neighbors: Tensor,
    radii: Tensor,
    scale: Tensor,
    cutoff: float,
    l_max: int,
) -> tuple[Tensor, Tensor]:
    """Return density and passed tensors; see :mod:`lam.model.kernels.ops` for all arguments."""
    compiled, fixed, ranges = _prepare(vectors, q, T, t, starts, neighbors, radii, scale, cutoff, l_max)
    density, passed = _empty_outputs(q, t, scale, l_max)
    a, p = density.numpy(), passed.numpy()
    run(lambda _, first, last: compiled.value(first, last, *fixed, a[:, first:last], p[:, first:last]), ranges)
    return density, passed


def adjoint(
    g_density: Tensor,
    g_passed: Tensor,
    vectors: Tensor,
    q: Tensor,
    T: Tensor,
    t: Tensor,
    starts: Tensor,
    neighbors: Tensor,
    radii: Tensor,
    scale: Tensor,
    cutoff: float,
    l_max: int,
    want_vectors: bool,
    want_senders: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients with respect to ``vectors, q, T, t``; what is not wanted may be zero."""
    compiled, fixed, ranges = _prepare(vectors, q, T, t, starts, neighbors, radii, scale, cutoff, l_max)
    a, p = _array(g_density), _array(g_passed)
    pulled = torch.zeros_like(vectors, memory_format=torch.contiguous_format)
    sums = _Sums((q, T, t), len(ranges))

    def work(number: int, first: int, last: int) -> None:
        compiled.adjoint(
            first, last, *fixed, a[:, first:last], p[:, first:last],
            want_vectors, want_senders, pulled.numpy(), *sums.parts(number),
        )  # fmt: skip

    run(work, ranges)
    return pulled, *sums.totals()


def second(
    v: Tensor,
    v_q: Tensor,
    v_T: Tensor,
    v_t: Tensor,
    g_density: Tensor,
    g_passed: Tensor,
    vectors: Tensor,
    q: Tensor,
    T: Tensor,
    t: Tensor,
    starts: Tensor,
    neighbors: Tensor,
    radii: Tensor,
    scale: Tensor,
    cutoff: float,
    l_max: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of ``<v, adjoint>`` with respect to ``g_density, g_passed, q, T, t``."""
    compiled, fixed, ranges = _prepare(vectors, q, T, t, starts, neighbors, radii, scale, cutoff, l_max)
    density, passed = _empty_outputs(q, t, scale, l_max)
    a, p, changed_a, changed_p = _array(g_density), _array(g_passed), density.numpy(), passed.numpy()
    changes = [_array(tensor) for tensor in (v, v_q, v_T, v_t)]
    sums = _Sums((q, T, t), len(ranges))

    def work(number: int, first: int, last: int) -> None:
        part = slice(first, last)
        compiled.second(
            first, last, *fixed, a[:, part], p[:, part], *changes,
            changed_a[:, part], changed_p[:, part], *sums.parts(number),
        )  # fmt: skip

    run(work, ranges)
    return density, passed, *sums.totals()


class _Sums:
    """Gradients that several threads add to: one copy each, added up at the end."""

    def __init__(self, like: tuple[Tensor, ...], copies: int) -> None:
        self._sums = [torch.zeros(copies, *tensor.shape, dtype=tensor.dtype) for tensor in like]

    def parts(self, number: int) -> list[np.ndarray]:
        return [total[number].numpy() for total in self._sums]

    def totals(self) -> list[Tensor]:
        return [total[0] if len(total) == 1 else total.sum(0) for total in self._sums]


def _prepare(
    vectors: Tensor,
    q: Tensor,
    T: Tensor,
    t: Tensor,
    starts: Tensor,
    neighbors: Tensor,
    radii: Tensor,
    scale: Tensor,
    cutoff: float,
    l_max: int,
) -> tuple[Kernels, tuple[Any, ...], list[tuple[int, int]]]:
    """Return the kernels, their arguments in order, and the ranges of centres."""
    double = vectors.dtype == torch.float64
    compiled = kernels(double, l_max, scale.shape[0], q.shape[1], t.shape[1] // 8)
    number = np.float64 if double else np.float32
    rows = _array(starts)
    fixed = (
        rows, _array(neighbors), _array(vectors), _array(radii), _array(scale), number(cutoff),
        _array(q), _array(T), _array(t),
    )  # fmt: skip
    return compiled, fixed, shares(rows)


def _empty_outputs(q: Tensor, t: Tensor, scale: Tensor, l_max: int) -> tuple[Tensor, Tensor]:
    n_atoms, n_radial = q.shape[0], scale.shape[0]
    density = torch.empty((l_max + 1) ** 2, n_atoms, n_radial * q.shape[1], dtype=q.dtype)
    return density, torch.empty(8, n_atoms, n_radial * (t.shape[1] // 8), dtype=q.dtype)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()
