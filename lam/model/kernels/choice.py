"""Which implementation computes the messages."""

from __future__ import annotations

import importlib.util
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

import torch
from torch import Tensor

from lam.errors import LamError, LamWarning, unknown_name
from lam.model.kernels import ops
from lam.model.kernels.plain import PlainMessages
from lam.model.kernels.sizes import MAX_RADIAL

_LOG = logging.getLogger("lam.kernels")

BACKENDS = {
    "auto": "the fastest that can be used for the device and the sizes",
    "numba": "fused kernels for CPUs, compiled at first use and kept on disk",
    "triton": "fused kernels for NVIDIA GPUs",
    "torch": "plain PyTorch, for any device",
}
"""Names that :func:`use` and the environment variable ``LAM_KERNELS`` take."""

Messages = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
_forced: ContextVar[str | None] = ContextVar("lam_kernels", default=None)


@contextmanager
def use(name: str) -> Iterator[None]:
    """Compute the messages with the named backend inside a ``with`` block, in this thread.

    Raises:
        LamError: if there is no such backend. Where it cannot work, using it raises.
    """
    if name not in BACKENDS:
        raise unknown_name("kernel backend", name, BACKENDS)
    before = _forced.set(name)
    try:
        yield
    finally:
        _forced.reset(before)


def backend_for(device: torch.device, dtype: torch.dtype, n_radial: int) -> str:
    """Return the name of the backend that is used for these: forced, or the fastest that works.

    Warns, once, where it is the number of radial functions that keeps fused kernels from being used.

    Raises:
        LamError: if a backend was forced that cannot be used for them; says why.
    """
    name = _forced.get() or os.environ.get("LAM_KERNELS") or "auto"
    if name not in BACKENDS:
        raise unknown_name("kernel backend (environment variable LAM_KERNELS)", name, BACKENDS)
    if name == "torch":
        return name
    candidates = ("numba", "triton") if name == "auto" else (name,)
    reasons = []
    for candidate in candidates:
        reason = _hindrance(candidate, device.type, dtype, n_radial)
        if reason is None:
            _tell(candidate, device.type, "")
            return candidate
        reasons.append(f"{candidate}: {reason}")
    if name != "auto":
        raise LamError(f"The kernels '{name}' cannot be used here: {reasons[0]}. Use 'auto' or 'torch'.")
    _tell("torch", device.type, "; ".join(reasons))
    if n_radial > MAX_RADIAL and device.type in ("cpu", "cuda"):
        _warn_of_many(n_radial)
    return "torch"


def messages(
    vectors: Tensor, starts: Tensor, neighbors: Tensor, radii: Tensor, scale: Tensor, cutoff: float, l_max: int
) -> Messages:
    """Return the function ``(q, T, t) -> (density, passed)`` of a batch; see :mod:`lam.model.kernels.ops`."""
    if backend_for(vectors.device, vectors.dtype, scale.shape[0]) == "torch":
        return PlainMessages(vectors, starts, neighbors, radii, scale, cutoff, l_max)

    def fused(q: Tensor, T: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return ops.message(vectors, q, T, t, starts, neighbors, radii, scale, cutoff, l_max)

    return fused


def fuses_nodes(features: Tensor) -> bool:
    """Are the operators of :mod:`lam.model.kernels.node_ops` to be used for these features?"""
    return features.device.type == "cpu" and backend_for(features.device, features.dtype, 1) == "numba"


def _hindrance(name: str, device: str, dtype: torch.dtype, n_radial: int) -> str | None:
    """Say why a backend cannot be used, or nothing."""
    wanted = {"numba": "cpu", "triton": "cuda"}[name]
    if device != wanted:
        return f"it needs a {wanted} device, not {device}"
    if dtype not in (torch.float32, torch.float64):
        return f"it computes in float32 or float64, not {dtype}"
    if n_radial > MAX_RADIAL:
        return f"it has room for {MAX_RADIAL} radial functions, not {n_radial}"
    if not _installed(name):
        return f"the package {name} is not installed"
    return None


@cache
def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


@cache
def _tell(name: str, device: str, why: str) -> None:
    _LOG.info("messages on %s: %s (%s)%s", device, name, BACKENDS[name], f"; {why}" if why else "")


@cache
def _warn_of_many(n_radial: int) -> None:
    warnings.warn(
        f"The model has {n_radial} radial functions; the fast kernels have room for {MAX_RADIAL}, so plain PyTorch "
        f"computes its messages, which is slower. Train with radial_functions={MAX_RADIAL} or fewer.",
        LamWarning,
        stacklevel=3,
    )
