"""The message as a PyTorch operator that can be differentiated twice, whatever computes it.

``lam::message`` sums over the neighbours j of every centre i, with e the edge, n radial functions R, M = (l_max
+ 1)^2 harmonics Y, S sender channels q with their l = 1, 2 tensors T, and C passed tensor channels t::

    q_e[s]           = q[j, s] + sum_a Y_{1+a}(e) T[j, a, s]        a = 0 .. 7 are the components of l = 1, 2
    density[m, i, :] = sum_j Y_m(e) R_n(e) q_e[s]                   at n * S + s
    passed[a, i, :]  = sum_j R_n(e) t[j, a, c]                      at n * C + c

``lam::message_adjoint`` is its gradient and ``lam::message_second`` the gradient of that with respect to
everything but the vectors, which is what training on forces needs. The second derivative with respect to the
vectors (Hessians) goes through the plain path.

Arguments, in this order: ``vectors`` (E, 3) centre to neighbour, Angstrom, edges sorted by centre; ``q`` (N, S);
``T`` (N, 8 S) and ``t`` (N, 8 C), or (N, 0) where atoms have no tensors; ``starts`` (N + 1,) first edge of each
centre; ``neighbors`` (E,); ``radii`` (N,) covalent, Angstrom; ``scale`` (n,) of the radial functions; ``cutoff``,
Angstrom; ``l_max``.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from lam.errors import LamError
from lam.model.kernels import plain
from lam.model.kernels.sizes import MAX_RADIAL

_demand = threading.local()


@contextmanager
def gradients_of(*, vectors: bool, fixed_senders: bool) -> Iterator[None]:
    """Skip gradients that the caller knows are not asked for, in this thread.

    Autograd asks an operator for the gradients of all inputs that require one, also where
    ``torch.autograd.grad(..., inputs)`` or ``backward(inputs=...)`` needs only some. On GPUs autograd works in
    another thread, where nothing is skipped: never wrong, only slower.

    Args:
        vectors: are gradients of the edge vectors needed?
        fixed_senders: are gradients of senders needed that do not depend on the vectors (a first layer's)?
    """
    before = getattr(_demand, "value", (True, True))
    _demand.value = (vectors, fixed_senders)
    try:
        yield
    finally:
        _demand.value = before


def _wanted() -> tuple[bool, bool]:
    return getattr(_demand, "value", (True, True))


def _implementation(tensor: Tensor) -> ModuleType:
    """Return the module with the kernels for a tensor's device."""
    if tensor.device.type == "cuda":
        from lam.model.kernels import gpu

        return gpu
    from lam.model.kernels import cpu

    return cpu


def _check(
    vectors: Tensor, q: Tensor, T: Tensor, t: Tensor, starts: Tensor, neighbors: Tensor, radii: Tensor,
    scale: Tensor, cutoff: float, l_max: int,
) -> None:  # fmt: skip
    """Refuse what does not belong together: kernels would read and write beyond the arrays.

    Raises:
        LamError: names the shapes.
    """
    n_atoms, senders, channels = len(q), q.shape[1], t.shape[1] // 8
    senders_fit = len(T) == len(t) == n_atoms and t.shape[1] == 8 * channels
    if not senders_fit or T.shape[1] != (8 * senders if channels else 0) or (channels and l_max < 2):
        raise LamError(
            f"Senders of shapes q {tuple(q.shape)}, T {tuple(T.shape)}, t {tuple(t.shape)} do not belong together "
            f"with l_max {l_max}: T must be (N, 8 S) and t (N, 8 C) where l_max is 2 or 3, or both (N, 0)."
        )
    if starts.shape != (n_atoms + 1,) or radii.shape != (n_atoms,) or vectors.shape != (len(neighbors), 3):
        raise LamError(
            f"Edges of shapes vectors {tuple(vectors.shape)}, neighbors {tuple(neighbors.shape)}, starts "
            f"{tuple(starts.shape)}, radii {tuple(radii.shape)} do not belong to {n_atoms} atoms: they must be (E, 3), "
            "(E,), (N + 1,) and (N,)."
        )
    if not 1 <= len(scale) <= MAX_RADIAL or not 1 <= l_max <= 3:
        raise LamError(
            f"Fused kernels have 1 to {MAX_RADIAL} radial functions and l_max 1 to 3, not {len(scale)} and {l_max}; "
            "the plain path has no such limit: lam.model.kernels.use('torch')."
        )


def _check_like(what: str, tensors: tuple[Tensor, ...], shapes: tuple[tuple[int, ...], ...]) -> None:
    """Refuse gradients in other shapes than those of what they belong to.

    Raises:
        LamError: names the shapes.
    """
    got = tuple(tuple(tensor.shape) for tensor in tensors)
    if got != shapes:
        raise LamError(f"{what} have the shapes {got}; they must be {shapes}.")


def _shapes(q: Tensor, t: Tensor, scale: Tensor, l_max: int) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of the density and of the passed tensors."""
    n_atoms, n_radial = q.shape[0], scale.shape[0]
    return ((l_max + 1) ** 2, n_atoms, n_radial * q.shape[1]), (8, n_atoms, n_radial * (t.shape[1] // 8))


@torch.library.custom_op("lam::message", mutates_args=())
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
    """Return the density (M, N, n S) and the passed tensors (8, N, n C)."""
    _check(vectors, q, T, t, starts, neighbors, radii, scale, cutoff, l_max)
    return _implementation(vectors).message(vectors, q, T, t, starts, neighbors, radii, scale, cutoff, l_max)


@torch.library.custom_op("lam::message_adjoint", mutates_args=())
def message_adjoint(
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
    _check(vectors, q, T, t, starts, neighbors, radii, scale, cutoff, l_max)
    _check_like("Gradients of density and passed tensors", (g_density, g_passed), _shapes(q, t, scale, l_max))
    return _implementation(vectors).adjoint(
        g_density, g_passed, vectors, q, T, t, starts, neighbors, radii, scale, cutoff, l_max, want_vectors,
        want_senders,
    )  # fmt: skip


@torch.library.custom_op("lam::message_second", mutates_args=())
def message_second(
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
    _check(vectors, q, T, t, starts, neighbors, radii, scale, cutoff, l_max)
    _check_like("Gradients of density and passed tensors", (g_density, g_passed), _shapes(q, t, scale, l_max))
    of = tuple(tuple(tensor.shape) for tensor in (vectors, q, T, t))
    _check_like("Changes of vectors and senders", (v, v_q, v_T, v_t), of)
    return _implementation(vectors).second(
        v, v_q, v_T, v_t, g_density, g_passed, vectors, q, T, t, starts, neighbors, radii, scale, cutoff, l_max
    )


@message.register_fake
def _(vectors, q, T, t, starts, neighbors, radii, scale, cutoff, l_max):  # noqa: ANN001, ANN202
    density, passed = _shapes(q, t, scale, l_max)
    return q.new_empty(density), q.new_empty(passed)


@message_adjoint.register_fake
def _(g_density, g_passed, vectors, q, T, t, *rest):  # noqa: ANN001, ANN002, ANN202
    return vectors.new_empty(vectors.shape), q.new_empty(q.shape), T.new_empty(T.shape), t.new_empty(t.shape)


@message_second.register_fake
def _(v, v_q, v_T, v_t, g_density, g_passed, vectors, q, T, t, *rest):  # noqa: ANN001, ANN002, ANN202
    like = (g_density, g_passed, q, T, t)
    return tuple(tensor.new_empty(tensor.shape) for tensor in like)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    # The tensors, and the numbers after them: cutoff, l_max (and what is wanted, which no gradient needs).
    ctx.save_for_backward(*(value for value in inputs if isinstance(value, Tensor)))
    ctx.numbers = tuple(value for value in inputs if not isinstance(value, Tensor))[:2]


def _backward(ctx: Any, g_density: Tensor, g_passed: Tensor) -> tuple[Tensor | None, ...]:
    want_vectors, want_fixed = _wanted()
    saved = ctx.saved_tensors  # once: where layers are calculated twice, looking again is an error
    has_tensors = saved[3].shape[1] > 0
    vectors, *senders = message_adjoint(
        g_density, g_passed, *saved, *ctx.numbers,
        want_vectors and ctx.needs_input_grad[0], (want_fixed or has_tensors) and any(ctx.needs_input_grad[1:4]),
    )  # fmt: skip
    if not (want_fixed or has_tensors):
        senders = [None, None, None]
    return vectors if want_vectors else None, *senders, *[None] * 6


def _backward_of_adjoint(ctx: Any, *v: Tensor) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors
    g_density, g_passed, *senders = message_second(*v, *saved, *ctx.numbers)
    vectors = None
    if _wanted()[0] and ctx.needs_input_grad[2]:
        vectors = plain.curvature(v, *saved, *ctx.numbers)
        if torch.is_grad_enabled():
            vectors = _Last.apply(vectors, *v, *saved)
    return g_density, g_passed, vectors, *senders, *[None] * 8


def _refuse(ctx: Any, *v: Tensor) -> tuple[Tensor | None, ...]:
    raise LamError(
        "Fused kernels have no third derivatives of the messages (a loss on Hessians needs them): put the whole "
        "computation inside lam.model.kernels.use('torch'), or set LAM_KERNELS=torch."
    )


class _Last(torch.autograd.Function):
    """Returns its first argument; a derivative by the others, on which it depends, is refused and not zero."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, *others: Tensor) -> Tensor:
        return value.clone()

    backward = staticmethod(_refuse)


message.register_autograd(_backward, setup_context=_save)
message_adjoint.register_autograd(_backward_of_adjoint, setup_context=_save)
message_second.register_autograd(_refuse)
