"""The message in plain PyTorch: the reference that every kernel is tested against, and the path for any device.

Sorting edges by centre and padding each centre's edges to whole blocks turns the sum over neighbours into
batched matrix products, without storing anything that has all channels for every edge and without atomics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lam.model.angular import harmonics
from lam.model.radial import SMALLEST, radial_functions, soft_inner_limit

_BLOCK_SIZES = (4, 8, 16, 24, 32, 48, 64, 96, 128)
_ROW_COST = 16  # writing one row's sum costs about as much as this many edges
_LATER_DEGREES = ((1, slice(0, 3)), (2, slice(3, 8)))


@dataclass(frozen=True)
class Blocks:
    """Where each edge goes when every centre's edges are padded to ``R`` rows of ``size`` slots.

    Attributes:
        slots: slot of each edge, (E,).
        rows: centre of each row, (R,).
        size: slots of a row.
    """

    slots: Tensor
    rows: Tensor
    size: int

    @classmethod
    def of(cls, starts: Tensor) -> Blocks:
        """Choose the blocks for edges sorted by centre, from the first edge of each centre (N + 1,)."""
        counts = starts.diff()
        size = _choose_size(counts)
        rows_per_atom = torch.clamp((counts + size - 1) // size, min=1)
        atoms = torch.arange(len(counts), device=starts.device)
        first_slot = (torch.cumsum(rows_per_atom, 0) - rows_per_atom) * size
        moved = torch.repeat_interleave(first_slot - starts[:-1], counts)
        slots = torch.arange(len(moved), device=starts.device) + moved
        return cls(slots, torch.repeat_interleave(atoms, rows_per_atom), size)

    def pad(self, values: Tensor, padding: Tensor) -> Tensor:
        """Move values of the edges, (E, ...), to their slots; the other slots keep ``padding`` (S, ...)."""
        return padding.index_copy(0, self.slots, values)

    def sum(self, left: Tensor, right: Tensor, n_atoms: int) -> Tensor:
        """Return ``sum_j left_ij (outer) right_ij`` for every centre, (N, A, B), from (S, A) and (S, B)."""
        left = left.view(-1, self.size, left.shape[-1])
        right = right.view(-1, self.size, right.shape[-1])
        partial = torch.bmm(left.transpose(1, 2), right)
        if len(self.rows) == n_atoms:  # one row for every atom: the row is the sum
            return partial
        return partial.new_zeros(n_atoms, *partial.shape[1:]).index_add(0, self.rows, partial)


class PlainMessages:
    """The messages of one batch; the geometry is computed once for all layers.

    Args:
        vectors, starts, neighbors, radii, scale, cutoff, l_max: as in :mod:`lam.model.kernels.ops`.
    """

    def __init__(
        self,
        vectors: Tensor,
        starts: Tensor,
        neighbors: Tensor,
        radii: Tensor,
        scale: Tensor,
        cutoff: float,
        l_max: int,
    ) -> None:
        self.blocks = Blocks.of(starts)
        centers = torch.repeat_interleave(self.blocks.rows, self.blocks.size)
        padding = vectors.new_zeros(len(centers), 3)
        padding[:, 0] = cutoff  # there every radial function and its derivatives vanish
        vectors = self.blocks.pad(vectors, padding)
        self.neighbors = self.blocks.pad(neighbors, centers)
        distances = torch.sqrt(vectors.square().sum(-1) + SMALLEST**2)
        reach = radii[centers] + radii[self.neighbors]
        self.radial = radial_functions(soft_inner_limit(distances, reach), scale, cutoff)
        self.angular = harmonics(vectors / distances[:, None], l_max)
        self.both = (self.radial[:, :, None] * self.angular[:, None, :]).flatten(1)  # (S, n * M)

    def __call__(self, q: Tensor, T: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return the density (M, N, n S) and the passed tensors (8, N, n C)."""
        n_atoms, n_radial, n_components = q.shape[0], self.radial.shape[1], self.angular.shape[1]
        senders = q[self.neighbors]
        if T.shape[1]:
            tensors = T[self.neighbors].view(len(self.neighbors), 8, -1)
            senders = senders + (tensors * self.angular[:, 1:9, None]).sum(1)
        density = self.blocks.sum(self.both, senders, n_atoms).view(n_atoms, n_radial, n_components, -1)
        density = density.permute(2, 0, 1, 3).flatten(2)
        passed = self.blocks.sum(self.radial, t[self.neighbors], n_atoms) if t.shape[1] else t.new_zeros(n_atoms, 0, 8)
        return density, passed.reshape(n_atoms, n_radial, 8, -1).permute(2, 0, 1, 3).flatten(2)


def curvature(v: Sequence[Tensor], g_density: Tensor, g_passed: Tensor, vectors: Tensor, *rest: Tensor) -> Tensor:
    """Return the gradient of ``<v, adjoint>`` with respect to the vectors, (E, 3), by automatic differentiation.

    Args:
        v: cotangents of the adjoint's results.
        g_density, g_passed, vectors, rest: the adjoint's arguments up to ``l_max``.
    """
    q, T, t, starts, neighbors, radii, scale, cutoff, l_max = rest
    with torch.enable_grad():
        leaves = [tensor.detach().requires_grad_() for tensor in (vectors, q, T, t)]
        messages = PlainMessages(leaves[0], starts, neighbors, radii, scale, cutoff, l_max)
        density, passed = messages(*leaves[1:])
        total = (density * g_density.detach()).sum() + (passed * g_passed.detach()).sum()
        first = torch.autograd.grad(total, leaves, create_graph=True, materialize_grads=True)
        along = sum((a * b.detach()).sum() for a, b in zip(first, v, strict=True))
        return torch.autograd.grad(along, leaves[0])[0]


def _choose_size(counts: Tensor) -> int:
    """Pick the block size that wastes least on padding and on rows."""
    sizes = torch.tensor(_BLOCK_SIZES, device=counts.device)
    rows = torch.clamp((counts[:, None] + sizes - 1) // sizes, min=1).sum(0)
    return _BLOCK_SIZES[int(torch.argmin(rows * (sizes + _ROW_COST)))]
