"""The fused message on NVIDIA GPUs: PyTorch tensors in and out, Triton kernels between.

Nothing waits for the device. Senders' gradients are added atomically, so their last bits may differ between runs.
With ``TRITON_INTERPRET=1`` in the environment before this module is imported, tensors of the CPU are taken too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import triton
from torch import Tensor

from lam.model.kernels import triton_message as kernels

EDGES = 16
"""Edges of one centre that are worked on together. Blocks of 32 spill registers with more than a few channels."""


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
    job = _Job(vectors, q, T, t, starts, neighbors, radii, scale, cutoff, l_max)
    density, passed = job.empty_outputs()
    with _device_of(vectors):
        job.density(kernels.density_value, job.q, job.T, density, by_block=True)
        job.passed(kernels.passed_value, job.t, passed, by_block=True)
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
    """Return the gradients with respect to ``vectors, q, T, t``; what is not wanted is zero."""
    job = _Job(vectors, q, T, t, starts, neighbors, radii, scale, cutoff, l_max)
    pulled, g_q, g_T, g_t = (_zeros(tensor) for tensor in (vectors, q, T, t))
    wanted = {"WANT_VECTORS": want_vectors, "WANT_SENDERS": want_senders}
    with _device_of(vectors):
        job.density(kernels.density_adjoint, job.q, job.T, _plain(g_density), pulled, g_q, g_T, **wanted)
        job.passed(kernels.passed_adjoint, job.t, _plain(g_passed), pulled, g_t, **wanted)
    return pulled, g_q, g_T, g_t


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
    job = _Job(vectors, q, T, t, starts, neighbors, radii, scale, cutoff, l_max)
    density, passed = job.empty_outputs()
    g_q, g_T, g_t = (_zeros(tensor) for tensor in (q, T, t))
    v, v_q, v_T, v_t = (_plain(tensor) for tensor in (v, v_q, v_T, v_t))
    with _device_of(vectors):
        job.density(
            kernels.density_second, job.q, job.T, _plain(g_density), v, v_q, v_T, density, g_q, g_T, by_block=True
        )
        job.passed(kernels.passed_second, job.t, _plain(g_passed), v, v_t, passed, g_t, by_block=True)
    return density, passed, g_q, g_T, g_t


class _Job:
    """The arguments that all kernels share, and the launches."""

    def __init__(
        self, vectors: Tensor, q: Tensor, T: Tensor, t: Tensor, starts: Tensor, neighbors: Tensor, radii: Tensor,
        scale: Tensor, cutoff: float, l_max: int,
    ) -> None:  # fmt: skip
        self.q, self.T, self.t = _plain(q), _plain(T), _plain(t)
        self.n_atoms, self.n_radial = q.shape[0], scale.shape[0]
        self.senders, self.channels, self.l_max = q.shape[1], t.shape[1] // 8, l_max
        self.edges = tuple(_plain(tensor) for tensor in (starts, neighbors, vectors, radii, scale))
        self.double = vectors.dtype == torch.float64
        self.functions = triton.next_power_of_2(self.n_radial)
        # What programs are compiled for. The cutoff too: as an argument it would be passed in single precision.
        self.fixed = {
            "cutoff": float(cutoff), "n_radial": self.n_radial, "EDGES": EDGES, "TERMS": 12 if self.double else 8,
            "num_stages": 1, "enable_fp_fusion": True,
        }  # fmt: skip

    def empty_outputs(self) -> tuple[Tensor, Tensor]:
        """Return uninitialised density and passed tensors."""
        shape = (self.l_max + 1) ** 2, self.n_atoms, self.n_radial * self.senders
        return self.q.new_empty(shape), self.q.new_empty(8, self.n_atoms, self.n_radial * self.channels)

    def density(self, kernel: Any, *tensors: Tensor, by_block: bool = False, **wanted: bool) -> None:
        """Launch a kernel of the density, with a program for each centre, and for each block of senders if asked."""
        many = self.functions > 8
        width = 16 if many or self.double or self.senders <= 16 else 32
        self._launch(
            kernel[self.n_atoms, triton.cdiv(self.senders, width) if by_block else 1], tensors, WIDTH=width,
            N=self.functions, L=self.l_max, S=self.senders, TENSORS=self.T.shape[1] > 0, num_warps=8 if many else 4,
            **wanted,
        )  # fmt: skip

    def passed(self, kernel: Any, *tensors: Tensor, by_block: bool = False, **wanted: bool) -> None:
        """Launch a kernel of the passed tensors, if there are any."""
        components = 8 * self.channels
        if not components:
            return
        width = min(64 if self.double else 128, max(16, triton.next_power_of_2(components)))
        # Matrix products need an inner length of 16.
        self._launch(
            kernel[self.n_atoms, triton.cdiv(components, width) if by_block else 1], tensors, WIDTH=width,
            N=max(16, self.functions), C=self.channels, num_warps=4, **wanted,
        )  # fmt: skip

    def _launch(self, program: Callable[..., Any], tensors: tuple[Tensor, ...], **sizes: Any) -> None:
        if self.n_atoms:
            program(*self.edges, *tensors, self.n_atoms, **self.fixed, **sizes)


@contextmanager
def _device_of(tensor: Tensor) -> Iterator[None]:
    """Make a tensor's GPU the current one: that is where Triton launches."""
    if tensor.device.type == "cuda":
        with torch.cuda.device(tensor.device):
            yield
    else:
        yield


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous()


def _zeros(tensor: Tensor) -> Tensor:
    return torch.zeros_like(tensor, memory_format=torch.contiguous_format)
